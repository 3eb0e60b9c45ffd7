/* A session whose stream or memory fails at each point, and properties that no transcript can show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/socket.h>

#include "io/loop.h"
#include "proto/smtp/fake_world.h"

static const char dialogue[] =
    "EHLO client.example\r\nMAIL FROM:<s@client.example> SIZE=20\r\nRCPT TO:<alice@example.test>\r\nRCPT TO:<nobody@example.test>\r\n"
    "RCPT TO:<group@example.test>\r\nDATA\r\nSubject: x\r\n\r\n..text\r\n.\r\n"
    "MAIL FROM:<s@client.example>\r\nRCPT TO:<bob@example.test>\r\nBDAT 7\r\none\r\nabBDAT 6 LAST\r\nc\r\nd\r\nVRFY x\r\nQUIT\r\n";

struct run {
    struct world world;
    struct stream_fake fake;
    struct smtp_settings *settings;
};

static void run_init(struct run *r, struct slice input)
{
    struct conf conf = world_conf();
    *r = (struct run){.fake = {.input = input, .fail_read_at = SIZE_MAX, .fail_write_at = SIZE_MAX}};
    world_init(&r->world);
    assert_int_equal(smtp_settings_new(&conf, &r->settings, NULL), 0);
}

static void run(struct run *r)
{
    struct stream *stream;
    struct smtp_session *s;
    struct smtp_session_params p = {.listener = "test", .backend = &world_backend, .arg = &r->world, .settings = &r->settings};
    assert_true(netaddr_parse_ip(SLICE("2001:db8::7"), &p.peer));
    assert_int_equal(stream_new_fake(&r->fake, &stream), 0);
    assert_int_equal(smtp_session_new(&p, stream, &s), 0);
    smtp_session_run(s);
    smtp_session_free(s);
    assert_int_equal(r->world.memory, 0);
    assert_int_equal(r->world.entered, 0);
    /* Every grant is used up or given back. */
    assert_int_equal(r->world.grants, r->world.used + r->world.dropped);
}

static void run_done(struct run *r)
{
    buf_done(&r->fake.output);
    smtp_settings_unref(r->settings);
    arena_done(&r->world.arena);
    clock_fake_set(-1, 0);
}

static void the_dialogue_works(void **state)
{
    (void)state;
    static struct run r;
    run_init(&r, SLICE(dialogue));
    run(&r);
    assert_int_equal(r.world.n_kept, 2);
    assert_true(slice_eq(r.world.kept[1].body, SLICE("one\r\nabc\r\nd\r\n")));
    run_done(&r);
}

/* The connection breaks at each octet: what was acknowledged is kept, and nothing leaks. */
static void reads_fail_everywhere(void **state)
{
    (void)state;
    static struct run r;
    static const int codes[] = {-ECONNRESET, -ETIMEDOUT, -ECANCELED, ERR_CLOSED};
    for (size_t at = 0; at < sizeof(dialogue); at++) {
        run_init(&r, SLICE(dialogue));
        r.fake.fail_read_at = at;
        r.fake.fail_code = codes[at % 4];
        r.fake.chunk = at % 5;
        run(&r);
        run_done(&r);
    }
}

static void writes_fail_everywhere(void **state)
{
    (void)state;
    static struct run r;
    for (size_t at = 0; at < 900; at++) {
        run_init(&r, SLICE(dialogue));
        r.fake.fail_write_at = at;
        r.fake.fail_code = at % 2 ? -EPIPE : -ETIMEDOUT;
        run(&r);
        run_done(&r);
    }
}

/* A sender that keeps just below the lowest rate is cut off, by the clock. */
struct trickle {
    struct world *world;
    size_t sent;
};

static int trickle_next(struct stream_fake *f)
{
    static const char head[] = "HELO x.example\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n";
    struct trickle *t = f->arg;
    if (t->sent > 0)
        world_tick(t->world, 1000);
    /* The fake cannot wait: it says what a real stream would, when the deadline that the session must have set has passed. */
    if (t->sent > 62 * 99)
        return -ETIMEDOUT;
    f->input = t->sent == 0 ? SLICE(head) : SLICE("123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789");
    t->sent += t->sent == 0 ? 1 : 99;
    return 0;
}

static void slow_senders_are_cut_off(void **state)
{
    (void)state;
    static struct run r;
    run_init(&r, SLICE_EMPTY);
    struct trickle t = {.world = &r.world};
    r.fake.next = trickle_next;
    r.fake.arg = &t;
    run(&r);
    assert_non_null(memmem(r.fake.output.p, r.fake.output.n, "421 4.4.2 The message comes too slowly", 38));
    assert_int_equal(r.world.n_kept, 0);
    run_done(&r);
}

/* A new configuration counts from the next message on, not within one. */
struct reload {
    struct run *run;
    int step;
};

static int reload_next(struct stream_fake *f)
{
    static const char *const steps[] = {"HELO x.example\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\n", "RCPT TO:<bob@example.test>\r\nRSET\r\n",
                                        "MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nRCPT TO:<bob@example.test>\r\nQUIT\r\n"};
    struct reload *r = f->arg;
    if (r->step == 1) {
        struct conf conf = world_conf();
        struct smtp_settings *old = r->run->settings;
        conf.smtp_max_recipients = 1;
        assert_int_equal(smtp_settings_new(&conf, &r->run->settings, NULL), 0);
        smtp_settings_unref(old);
    }
    if (r->step == 3)
        return ERR_CLOSED;
    f->input = slice_str(steps[r->step++]);
    return 0;
}

static void reload_counts_from_the_next_message(void **state)
{
    (void)state;
    static struct run r;
    run_init(&r, SLICE_EMPTY);
    struct reload arg = {.run = &r};
    r.fake.next = reload_next;
    r.fake.arg = &arg;
    run(&r);
    buf_put_char(&r.fake.output, '\0');
    assert_non_null(strstr(r.fake.output.p, "250 2.1.5 alice@example.test taken\r\n250 2.1.5 bob@example.test taken\r\n250 2.0.0 Forgotten\r\n"));
    assert_non_null(strstr(r.fake.output.p, "250 2.1.5 alice@example.test taken\r\n452 4.5.3"));
    run_done(&r);
}

/* A stop: who waits for a command hears 421 at once. */
struct stopped {
    struct run run;
    struct smtp_session *session;
    int fds[2];
};

static void stopped_run(void *arg)
{
    struct stopped *t = arg;
    smtp_session_run(t->session);
    smtp_session_free(t->session);
}

static void idle_sessions_stop_at_once(void **state)
{
    (void)state;
    static struct stopped t;
    char got[512];
    struct stream *stream;
    assert_int_equal(loop_init(NULL), 0);
    run_init(&t.run, SLICE_EMPTY);
    clock_fake_set(-1, 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, t.fds), 0);
    assert_int_equal(stream_new_fd(t.fds[0], &stream), 0);
    struct smtp_session_params p = {.listener = "test", .backend = &world_backend, .arg = &t.run.world, .settings = &t.run.settings};
    assert_true(netaddr_parse_ip(SLICE("192.0.2.7"), &p.peer));
    assert_int_equal(smtp_session_new(&p, stream, &t.session), 0);
    assert_int_equal(write(t.fds[1], "HELO x.example\r\n", 16), 16);
    assert_int_equal(fiber_start("test", stopped_run, &t, NULL), 0);
    for (int i = 0; i < 10; i++)
        loop_turn(1);
    smtp_session_stop(t.session);
    assert_true(fiber_run_all(1000));
    ssize_t n = read(t.fds[1], got, sizeof(got) - 1);
    assert_true(n > 0);
    got[n] = '\0';
    assert_non_null(strstr(got, "250 mx.example.test\r\n421 4.3.2 "));
    assert_int_equal(read(t.fds[1], got, sizeof(got)), 0);
    (void)close(t.fds[1]);
    run_done(&t.run);
    loop_done();
}

static void settings_are_checked(void **state)
{
    (void)state;
    struct conf conf = world_conf();
    struct smtp_settings *s;
    struct err err;
    const char *bad[] = {"192.0.2.1/24"};
    conf.listen_proxy_from = (struct conf_list){1, bad};
    assert_int_equal(smtp_settings_new(&conf, &s, &err), ERR_CONFIG);
    assert_non_null(strstr(err.text, "listen.proxy_from"));
    conf = world_conf();
    conf.smtp_helo_check = "sometimes";
    assert_int_equal(smtp_settings_new(&conf, &s, &err), ERR_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_dialogue_works),       cmocka_unit_test(reads_fail_everywhere),
        cmocka_unit_test(writes_fail_everywhere),   cmocka_unit_test(slow_senders_are_cut_off),
        cmocka_unit_test(reload_counts_from_the_next_message), cmocka_unit_test(settings_are_checked),
        cmocka_unit_test(idle_sessions_stop_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
