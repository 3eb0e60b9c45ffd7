/* login_test.c: the role login as clients, authd, imapd, tlsd and auditd see it: a real listener, real frames, a stream that really moves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "role/login/login.h"
#include "role/stored/fake_peer.h"
#include "trail/event.h"

static struct fake_peer supervisor, tlsd, authd, imapd, auditd;
static struct fake_frame frame;
static struct arena arena;
static struct conf conf;
static struct sockaddr_in address;

static struct {
    int tls_code;
    int event_code;
    bool event_silent;         /* auditd does not answer */
    bool imapd_dies;           /* at session_start */
    uint64_t verdict, delay;   /* of authd */
    uint64_t session;          /* of imapd */
    struct buf trail, asked;
    int moved;                 /* the stream that imapd got */
    int plain;                 /* tlsd's side of the plain end */
} fake;

/* ---- the fakes ---- */

static void keep_event(struct slice event)
{
    assert_int_equal(event_print_json(event, 0, &fake.trail), 0);
    buf_put_char(&fake.trail, '\n');
}

static int serve_tls(struct m_tls_accept_reply *r)
{
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
    fake.plain = sv[1];
    *r = (struct m_tls_accept_reply){.plain = sv[0], .version = SLICE("TLSv1.3"), .cipher = SLICE("TLS_AES_256_GCM_SHA384")};
    return fake.tls_code;
}

static void serve_session(struct m_session_start *q, struct m_session_start_reply *r)
{
    buf_printf(&fake.asked, "session account=%d grant=%d %.*s utf8=%d lang=%.*s tls=%d unread=%.*s\n", (int)q->account, (int)q->grant,
               SLICE_ARG(q->address), (int)q->utf8, SLICE_ARG(q->lang), (int)q->tls, SLICE_ARG(q->unread));
    if (fake.session == SESSION_TAKEN)
        fake.moved = q->stream;
    else
        (void)close(q->stream);
    r->verdict = fake.session;
}

static void serve_one(struct fake_peer *p, struct fake_frame *f)
{
    const struct ipc_message *m = ipc_message_find(f->number);
    void *q = arena_alloc(&arena, m->request->size), *r = arena_alloc(&arena, m->reply != NULL ? m->reply->size : 1);
    int rc = 0;
    assert_int_equal(record_decode(m->request, f->payload, f->fds, f->n_fds, &arena, q), 0);
    switch (m->number) {
    case IPC_tls_accept:
        (void)close(((struct m_tls_accept *)q)->raw);
        rc = serve_tls(r);
        break;
    case IPC_tls_owner:
        buf_printf(&fake.asked, "owner %d\n", (int)((struct m_tls_owner *)q)->instance);
        return;
    case IPC_auth_password:
        buf_printf(&fake.asked, "auth %.*s %.*s tls=%d\n", SLICE_ARG(((struct m_auth_password *)q)->user),
                   SLICE_ARG(((struct m_auth_password *)q)->password), (int)((struct m_auth_password *)q)->tls);
        *(struct m_auth_password_reply *)r = (struct m_auth_password_reply){
            .verdict = fake.verdict, .delay_ms = fake.delay, .account = 3, .grant = 9, .address = SLICE("hanako@example.test")};
        break;
    case IPC_session_start:
        if (fake.imapd_dies) {
            record_close_fds(m->request, q);
            fake_peer_down(&imapd);
            return;
        }
        serve_session(q, r);
        break;
    case IPC_event:
        keep_event(((struct m_event *)q)->event);
        rc = fake.event_code;
        if (fake.event_silent)
            return;
        break;
    case IPC_event_note:
        keep_event(((struct m_event_note *)q)->event);
        return;
    case IPC_alert:
        return;
    default:
        fail_msg("login asked for %s", m->name);
    }
    fake_send(p, f->number, 1, f->call, (uint32_t)-rc, rc == 0 ? m->reply : NULL, r);
    if (m->number == IPC_tls_accept && ((struct m_tls_accept_reply *)r)->plain >= 0)
        (void)close(((struct m_tls_accept_reply *)r)->plain);
}

static void serve(void)
{
    struct fake_peer *all[] = {&supervisor, &tlsd, &authd, &imapd, &auditd};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        while (all[i]->fd >= 0 && fake_take(all[i], &frame))
            serve_one(all[i], &frame);
    loop_turn(1);
}

/* ---- set-up ---- */

static void add_listener(bool tls)
{
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 10), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    role_context()->listeners[0] = (struct role_listener){LISTEN_POP3, tls, "pop3", fd};
    role_context()->n_listeners = 1;
}

static void start_fiber(void *arg)
{
    *(int *)arg = role_program_login.start(role_context(), NULL);
}

static int setup_with(bool tls)
{
    int rc = -1;
    memset(&fake, 0, sizeof(fake));
    fake.moved = fake.plain = -1;
    buf_init(&fake.trail, 1 << 20);
    buf_init(&fake.asked, 1 << 20);
    arena_init(&arena, 1 << 26);
    conf = (struct conf){.pop3_max_connections = 10, .pop3_max_connections_per_client = 2, .pop3_login_timeout = 60000,
                         .tls_handshake_timeout = 5000, .trail_login_wait = 100};
    role_context()->conf = &conf;
    role_context()->role = ROLE_LOGIN;
    role_context()->stopping = false;
    assert_int_equal(ipc_init(ROLE_LOGIN, 0, role_program_login.handlers, role_program_login.on_peer), 0);
    ipc_set_instances(ROLE_TLSD, 1);
    fake_peer_up(&supervisor, ROLE_SUPERVISOR, 0);
    fake_peer_up(&tlsd, ROLE_TLSD, 0);
    fake_peer_up(&authd, ROLE_AUTHD, 0);
    fake_peer_up(&imapd, ROLE_IMAPD, 0);
    fake_peer_up(&auditd, ROLE_AUDITD, 0);
    add_listener(tls);
    assert_int_equal(fiber_start("start", start_fiber, &rc, NULL), 0);
    serve();
    serve();
    return rc;
}

static int setup(void **state)
{
    (void)state;
    return setup_with(false);
}

static int setup_tls(void **state)
{
    (void)state;
    return setup_with(true);
}

static int teardown(void **state)
{
    struct fake_peer *all[] = {&supervisor, &tlsd, &authd, &imapd, &auditd};
    (void)state;
    while (role_connections() != 0)
        serve();
    /* The accepting fiber looks at `stopping` when it wakes. */
    role_context()->stopping = true;
    int wake = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)connect(wake, (struct sockaddr *)&address, sizeof(address));
    (void)close(wake);
    for (int i = 0; i < 1500 && fiber_count() != 0; i++)
        serve();
    (void)close(role_context()->listeners[0].fd);
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        fake_peer_down(all[i]);
    assert_int_equal(fiber_count(), 0);
    int fds[] = {fake.moved, fake.plain};
    for (size_t i = 0; i < 2; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
    buf_done(&fake.trail);
    buf_done(&fake.asked);
    arena_done(&arena);
    return 0;
}

/* ---- the client ---- */

static int connect_client(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void expect(int fd, const char *want)
{
    static char got[65536];
    size_t n = 0, most = strlen(want);
    int64_t until = clock_mono_ms() + FAKE_PATIENCE_MS;
    while (n < most) {
        ssize_t k = recv(fd, got + n, most - n, MSG_DONTWAIT);
        assert_true(k != 0);
        if (k > 0)
            n += (size_t)k;
        else
            serve();
        assert_true(clock_mono_ms() < until);
    }
    got[n] = '\0';
    assert_string_equal(got, want);
}

static void expect_end(int fd)
{
    char byte;
    ssize_t k;
    int64_t until = clock_mono_ms() + FAKE_PATIENCE_MS;
    while ((k = recv(fd, &byte, 1, MSG_DONTWAIT)) != 0 && !(k < 0 && errno == ECONNRESET)) {
        assert_true(k < 0 && errno == EAGAIN);
        serve();
        assert_true(clock_mono_ms() < until);
    }
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static bool in_trail(const char *what)
{
    for (int i = 0; i < 5; i++)
        serve(); /* what has just been sent */
    return memmem(fake.trail.p != NULL ? fake.trail.p : "", fake.trail.n, what, strlen(what)) != NULL;
}

static void await_asked(const char *want)
{
    int64_t until = clock_mono_ms() + FAKE_PATIENCE_MS;
    while (fake.asked.n < strlen(want) && clock_mono_ms() < until)
        serve();
    buf_put_char(&fake.asked, '\0');
    assert_string_equal(fake.asked.p, want);
    fake.asked.n--;
}

static const char greeting[] = "+OK Kakitome POP3 ready\r\n";

/* ---- tests ---- */

static void test_moves_over_tls(void **state)
{
    (void)state;
    int fd = connect_client();
    while (fake.plain < 0)
        serve();
    expect(fake.plain, greeting);
    say(fake.plain, "LANG ja\r\nUSER hanako\r\nPASS himitsu\r\nSTAT\r\nLI");
    await_asked("auth hanako himitsu tls=1\nsession account=3 grant=9 hanako@example.test utf8=0 lang=ja tls=1 unread=STAT\r\nLI\nowner 0\n");
    assert_true(in_trail("\"event\":\"login.ok\""));
    assert_true(in_trail("\"user\":\"hanako@example.test\",\"account\":3,\"tls\":\"TLSv1.3 TLS_AES_256_GCM_SHA384\""));
    while (role_connections() != 0)
        serve();
    /* login has let go of it: what imapd has is the connection. */
    say(fake.moved, "+OK from imapd\r\n");
    expect(fake.plain, "+OK ja 完了しました\r\n+OK PASS を送ってください\r\n+OK from imapd\r\n");
    (void)close(fd);
}

static void test_starttls(void **state)
{
    (void)state;
    int fd = connect_client();
    expect(fd, greeting);
    say(fd, "USER hanako\r\n");
    expect(fd, "-ERR Start TLS first: passwords are not taken over an open line\r\n");
    say(fd, "STLS\r\n");
    expect(fd, "+OK Begin TLS negotiation\r\n");
    while (fake.plain < 0)
        serve();
    say(fake.plain, "AUTH PLAIN AGhhbmFrbwB4\r\n");
    await_asked("auth hanako x tls=1\nsession account=3 grant=9 hanako@example.test utf8=0 lang=en tls=1 unread=\nowner 0\n");
    (void)close(fd);
}

static void test_injection(void **state)
{
    (void)state;
    int fd = connect_client();
    expect(fd, greeting);
    say(fd, "STLS\r\nUSER mallory\r\n");
    expect_end(fd);
    await_asked("");
    assert_true(in_trail("\"event\":\"tls.failed\""));
    assert_true(in_trail("commands in the clear behind STLS"));
    (void)close(fd);
}

static void test_handshake_fails(void **state)
{
    (void)state;
    fake.tls_code = -EPROTO;
    int fd = connect_client();
    expect_end(fd);
    assert_true(in_trail("\"event\":\"tls.failed\""));
    (void)close(fd);
}

static void test_wrong_password(void **state)
{
    (void)state;
    conf.pop3_plaintext_login = true;
    fake.verdict = AUTH_BAD;
    fake.delay = 50;
    int fd = connect_client();
    expect(fd, greeting);
    int64_t before = clock_mono_ms();
    say(fd, "USER a\r\nPASS b\r\nQUIT\r\n");
    expect(fd, "+OK Send PASS\r\n-ERR [AUTH] Wrong user name or password\r\n+OK Bye\r\n");
    assert_true(clock_mono_ms() - before >= 49);
    expect_end(fd);
    assert_true(in_trail("\"event\":\"login.failed\""));
    assert_true(in_trail("\"user\":\"a\",\"reason\":\"credentials\""));
    assert_false(in_trail("login.ok"));
    (void)close(fd);
}

static void test_unrecorded(void **state)
{
    (void)state;
    conf.pop3_plaintext_login = true;
    fake.event_silent = true;
    int fd = connect_client();
    expect(fd, greeting);
    say(fd, "USER a\r\nPASS b\r\n");
    expect(fd, "+OK Send PASS\r\n-ERR [SYS/TEMP] Login is not possible at the moment\r\n");
    await_asked("auth a b tls=0\n");
    (void)close(fd);
}

static void test_in_use(void **state)
{
    (void)state;
    conf.pop3_plaintext_login = true;
    fake.session = SESSION_IN_USE;
    int fd = connect_client();
    expect(fd, greeting);
    say(fd, "USER a\r\nPASS b\r\nCAPA x\r\n");
    expect(fd, "+OK Send PASS\r\n-ERR [IN-USE] Maildrop is open in another session\r\n-ERR Wrong arguments\r\n");
    (void)close(fd);
}

static void test_imapd_dies(void **state)
{
    (void)state;
    conf.pop3_plaintext_login = true;
    fake.imapd_dies = true;
    int fd = connect_client();
    expect(fd, greeting);
    say(fd, "USER a\r\nPASS b\r\n");
    expect(fd, "+OK Send PASS\r\n");
    expect_end(fd); /* without a word: imapd may have been writing */
    (void)close(fd);
}

static void test_no_authd(void **state)
{
    (void)state;
    conf.pop3_plaintext_login = true;
    fake_peer_down(&authd);
    int fd = connect_client();
    expect(fd, greeting);
    say(fd, "USER a\r\nPASS b\r\n");
    expect(fd, "+OK Send PASS\r\n-ERR [SYS/TEMP] Login is not possible at the moment\r\n");
    (void)close(fd);
}

static void test_limits(void **state)
{
    (void)state;
    int a = connect_client(), b = connect_client();
    expect(a, greeting);
    expect(b, greeting);
    int c = connect_client();
    expect(c, "-ERR [SYS/TEMP] Too many connections\r\n");
    expect_end(c);
    say(a, "QUIT\r\n");
    expect(a, "+OK Bye\r\n");
    expect_end(a);
    int d = connect_client();
    expect(d, greeting);
    int all[] = {a, b, c, d};
    for (size_t i = 0; i < 4; i++)
        (void)close(all[i]);
}

static void stop_fiber(void *arg)
{
    role_program_login.stop(role_context(), clock_deadline(1000));
    *(bool *)arg = true;
}

static void test_stop(void **state)
{
    bool stopped = false;
    (void)state;
    int fd = connect_client();
    expect(fd, greeting);
    assert_int_equal(fiber_start("stop", stop_fiber, &stopped, NULL), 0);
    expect(fd, "-ERR [SYS/TEMP] Service is stopping, please reconnect\r\n");
    expect_end(fd);
    while (!stopped)
        serve();
    (void)close(fd);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_moves_over_tls, setup_tls, teardown),
        cmocka_unit_test_setup_teardown(test_handshake_fails, setup_tls, teardown),
        TEST(test_starttls), TEST(test_injection), TEST(test_wrong_password), TEST(test_unrecorded), TEST(test_in_use),
        TEST(test_imapd_dies), TEST(test_no_authd), TEST(test_limits), TEST(test_stop),
    };
    if (loop_init(NULL) != 0 || role_program_login.prepare(role_context(), NULL) != 0)
        return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    loop_done();
    return rc;
}
