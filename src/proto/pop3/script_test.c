/* Runs the transcripts of tests/script/pop3 against the POP3 sessions, on fake streams with fake backends.
 *
 * A transcript is lines:
 *   C: text       the client sends text and CR LF      C- text   without CR LF
 *   T:            from here on the client speaks through TLS
 *   S: text       the server's next line
 *   B: text       what the session asks of its backend next (fake.h)
 *   E: text       how the session ends
 *   @word ...     set-up, see `setups`; @message ... @end holds a message, one line a line
 * S, B and E lines are compared in their own order; how they lie between C lines is for the reader. Each transcript runs with input in one
 * piece, in single bytes and in sevens, and must give the same; then once with a failure at each byte of input and of output, where it
 * must only end in good order and delete nothing without QUIT. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>

#include "base/arena.h"
#include "base/clock.h"
#include "proto/pop3/fake.h"

#define SCRIPT_MAX 65536

struct script {
    struct buf client[2]; /* outside and under TLS */
    struct buf server, backend, end;
    bool session, tls, plaintext, no_tls;
    bool timeout_at_end;
    bool utf8;
    enum pop3_lang lang;
    struct fake_login login;
    struct fake_maildrop maildrop;
    struct arena arena;
    int failing; /* code to fail reading with */
};

/* ---- reading a transcript ---- */

static void set_account(struct script *s, struct slice args)
{
    static const struct {
        const char *name;
        enum pop3_auth verdict;
    } verdicts[] = {{"ok", POP3_AUTH_OK}, {"slow", POP3_AUTH_SLOW}, {"disabled", POP3_AUTH_DISABLED}, {"temporary", POP3_AUTH_TEMPORARY}};
    struct fake_account *a = &s->login.accounts[s->login.n_accounts++];
    struct slice verdict = slice_cut(&args, ' ');
    for (size_t i = 0; i < sizeof(verdicts) / sizeof(verdicts[0]); i++)
        if (slice_eq(verdict, slice_str(verdicts[i].name)))
            a->verdict = verdicts[i].verdict;
    a->user = arena_copy(&s->arena, slice_cut(&args, ' '));
    a->password = arena_copy(&s->arena, args);
}

static uint64_t number(struct slice args)
{
    uint64_t n = 0;
    assert_true(slice_to_u64(args, &n));
    return n;
}

static void set_session(struct script *s, struct slice args) { (void)args; s->session = true; }
static void set_tls(struct script *s, struct slice args) { (void)args; s->tls = true; }
static void set_plaintext(struct script *s, struct slice args) { (void)args; s->plaintext = true; }
static void set_no_tls(struct script *s, struct slice args) { (void)args; s->no_tls = true; }
static void set_utf8(struct script *s, struct slice args) { (void)args; s->utf8 = true; }
static void set_lang(struct script *s, struct slice args) { assert_true(pop3_lang_find(args, &s->lang)); }
static void set_stls_fails(struct script *s, struct slice args) { (void)args; s->login.starttls = -EPROTO; }
static void set_in_use(struct script *s, struct slice args) { (void)args; s->login.hand_over = POP3_IN_USE; }
static void set_refused(struct script *s, struct slice args) { (void)args; s->login.hand_over = POP3_REFUSED; }
static void set_unknown(struct script *s, struct slice args) { (void)args; s->login.hand_over = POP3_UNKNOWN_END; }
static void set_timeout(struct script *s, struct slice args) { (void)args; s->timeout_at_end = true; }
static void set_cancelled(struct script *s, struct slice args)
{
    s->failing = -ECANCELED;
    s->maildrop.why = slice_eq(args, SLICE("revoked")) ? POP3_T_REVOKED : slice_eq(args, SLICE("store")) ? POP3_T_STORE_GONE : POP3_T_SHUTDOWN;
}
static void set_gone(struct script *s, struct slice args) { s->maildrop.messages[number(args) - 1].open_code = ERR_GONE; }
static void set_corrupt(struct script *s, struct slice args) { s->maildrop.messages[number(args) - 1].open_code = ERR_CORRUPT; }
static void set_unreadable(struct script *s, struct slice args) { s->maildrop.messages[number(args) - 1].open_code = -ENOTCONN; }
static void set_breaks(struct script *s, struct slice args)
{
    struct fake_message *m = &s->maildrop.messages[number(slice_cut(&args, ' ')) - 1];
    m->fail_at = number(args);
    m->read_code = ERR_CORRUPT;
}
static void set_piece(struct script *s, struct slice args) { s->maildrop.piece = number(args); }
static void set_expunge_fails(struct script *s, struct slice args) { (void)args; s->maildrop.expunge_code = -ENOTCONN; }
static void set_record_fails(struct script *s, struct slice args) { (void)args; s->maildrop.record_code = -ENOTCONN; }

static const struct {
    const char *word;
    void (*set)(struct script *s, struct slice args);
} setups[] = {
    {"session", set_session}, {"tls", set_tls}, {"plaintext", set_plaintext}, {"no-tls", set_no_tls}, {"utf8", set_utf8},
    {"lang", set_lang}, {"account", set_account}, {"stls-fails", set_stls_fails}, {"in-use", set_in_use}, {"refused", set_refused},
    {"unknown", set_unknown}, {"timeout", set_timeout}, {"cancelled", set_cancelled}, {"gone", set_gone}, {"corrupt", set_corrupt},
    {"unreadable", set_unreadable}, {"breaks", set_breaks}, {"piece", set_piece}, {"expunge-fails", set_expunge_fails},
    {"record-fails", set_record_fails},
};

/* "@message", then its lines; those above an "@body" belong to the prefix. */
static void read_message(struct script *s, struct slice *rest)
{
    struct buf prefix, body, *to = &body;
    buf_init(&prefix, SCRIPT_MAX);
    buf_init(&body, SCRIPT_MAX);
    while (rest->n > 0) {
        struct slice line = slice_cut(rest, '\n');
        if (slice_eq(line, SLICE("@end")))
            break;
        if (slice_eq(line, SLICE("@body"))) {
            prefix = body;
            buf_init(&body, SCRIPT_MAX);
            continue;
        }
        buf_put_slice(to, line);
        buf_put_str(to, "\r\n");
    }
    assert_non_null(fake_maildrop_add(&s->maildrop, arena_copy(&s->arena, buf_slice(&prefix)), arena_copy(&s->arena, buf_slice(&body))));
    buf_done(&prefix);
    buf_done(&body);
}

static void read_setup(struct script *s, struct slice line, struct slice *rest)
{
    struct slice word = slice_cut(&line, ' ');
    if (slice_eq(word, SLICE("message"))) {
        read_message(s, rest);
        return;
    }
    for (size_t i = 0; i < sizeof(setups) / sizeof(setups[0]); i++) {
        if (slice_eq(word, slice_str(setups[i].word))) {
            setups[i].set(s, line);
            return;
        }
    }
    fail_msg("no set-up @%.*s", SLICE_ARG(word));
}

static void read_script(struct script *s, struct slice text)
{
    struct buf *client = &s->client[0];
    memset(s, 0, sizeof(*s));
    struct buf *all[] = {&s->client[0], &s->client[1], &s->server, &s->backend, &s->end, &s->login.trace, &s->maildrop.trace};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        buf_init(all[i], SCRIPT_MAX * 2);
    arena_init(&s->arena, SCRIPT_MAX * 4);
    while (text.n > 0) {
        struct slice line = slice_cut(&text, '\n');
        struct slice rest = slice_from(line, 3);
        char kind = line.n > 0 ? line.p[0] : '#';
        if (kind == '@')
            read_setup(s, slice_from(line, 1), &text);
        else if (kind == 'T')
            client = &s->client[1];
        else if (kind == 'C')
            buf_put_slice(client, rest);
        else if (kind != '#')
            buf_put_slice(kind == 'S' ? &s->server : kind == 'B' ? &s->backend : &s->end, rest);
        if (kind == 'C' && line.p[1] == ':')
            buf_put_str(client, "\r\n");
        if (kind == 'S')
            buf_put_str(&s->server, "\r\n");
        if (kind == 'B')
            buf_put_char(&s->backend, '\n');
    }
}

static void free_script(struct script *s)
{
    struct buf *all[] = {&s->client[0], &s->client[1], &s->server, &s->backend, &s->end, &s->login.trace, &s->maildrop.trace};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        buf_done(all[i]);
    arena_done(&s->arena);
}

/* ---- running it ---- */

struct result {
    struct buf output;
    struct slice trace;
    const char *end;
    uint64_t expunged;
};

static void run_login(struct script *s, struct stream_fake *outer, struct stream_fake *inner, struct result *r)
{
    struct pop3_login l = {.backend = s->no_tls ? &fake_login_backend_no_tls : &fake_login_backend, .ctx = &s->login, .tls = s->tls,
                           .plaintext_ok = s->plaintext, .deadline = CLOCK_NEVER};
    s->login.inner = inner;
    buf_init(&inner->output, SIZE_MAX / 4);
    assert_int_equal(stream_new_fake(outer, &l.stream), 0);
    r->end = pop3_login_end_name(pop3_login_run(&l));
    stream_free(l.stream);
    r->trace = buf_slice(&s->login.trace);
}

static void run_session(struct script *s, struct stream_fake *outer, struct result *r)
{
    struct pop3_session p = {.ops = &fake_maildrop_ops, .ctx = &s->maildrop, .view = {s->maildrop.entries, s->maildrop.n, 0x6a1b2c3d},
                             .utf8 = s->utf8, .lang = s->lang, .idle_ms = 600000};
    assert_int_equal(stream_new_fake(outer, &p.stream), 0);
    r->end = pop3_end_name(pop3_session_run(&p));
    stream_free(p.stream);
    r->expunged = p.expunged;
    r->trace = buf_slice(&s->maildrop.trace);
    assert_null(s->maildrop.open);
    pop3_session_done(&p);
}

/* Both streams' settings, and what came out of both together. */
static void run(struct script *s, size_t chunk, size_t fail_read_at, size_t fail_write_at, struct result *r)
{
    struct stream_fake f[2];
    for (unsigned i = 0; i < 2; i++)
        f[i] = (struct stream_fake){.input = buf_slice(&s->client[i]), .chunk = chunk, .fail_read_at = SIZE_MAX, .fail_write_at = SIZE_MAX,
                                    .timeout_at_end = s->timeout_at_end};
    f[0].fail_read_at = fail_read_at;
    f[0].fail_write_at = fail_write_at;
    f[0].fail_code = s->failing != 0 ? s->failing : -ECONNRESET;
    if (s->failing != 0 && fail_read_at == SIZE_MAX)
        f[0].fail_read_at = f[0].input.n;
    buf_reset(&s->login.trace);
    buf_reset(&s->maildrop.trace);
    s->maildrop.open = NULL;
    *r = (struct result){.trace = SLICE_EMPTY};
    if (s->session)
        run_session(s, &f[0], r);
    else
        run_login(s, &f[0], &f[1], r);
    r->output = f[0].output;
    if (!s->session) {
        buf_put_slice(&r->output, buf_slice(&f[1].output));
        buf_done(&f[1].output);
    }
}

static bool same(const char *name, const char *what, struct slice got, struct slice want)
{
    if (slice_eq(got, want))
        return true;
    print_message("%s: %s: got\n%.*s\nwant\n%.*s\n", name, what, SLICE_ARG(got), SLICE_ARG(want));
    return false;
}

static bool run_exact(struct script *s, const char *name)
{
    static const size_t chunks[] = {0, 1, 7};
    bool ok = true;
    for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]) && ok; i++) {
        struct result r;
        run(s, chunks[i], SIZE_MAX, SIZE_MAX, &r);
        ok = same(name, "server", buf_slice(&r.output), buf_slice(&s->server));
        /* How much is read ahead, and so handed over unread, depends on the chunks. */
        if (i == 0)
            ok = same(name, "backend", r.trace, buf_slice(&s->backend)) && ok;
        ok = same(name, "end", slice_str(r.end), buf_slice(&s->end)) && ok;
        buf_done(&r.output);
    }
    return ok;
}

static void run_failing(struct script *s)
{
    struct result r;
    size_t n = s->client[0].n, out = s->server.n;
    for (size_t at = 0; at < n; at++) {
        run(s, 0, at, SIZE_MAX, &r);
        bool quit = memmem(s->client[0].p, at, "QUIT\r\n", 6) != NULL;
        assert_true(quit || r.expunged == 0);
        buf_done(&r.output);
    }
    for (size_t at = 0; at < out; at++) {
        run(s, 0, SIZE_MAX, at, &r);
        buf_done(&r.output);
    }
}

static bool run_file(const char *dir, const char *name)
{
    static char text[SCRIPT_MAX], path[4096];
    static struct script s;
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof(text), f);
    (void)fclose(f);
    assert_true(n < sizeof(text));
    read_script(&s, slice_of(text, n));
    bool ok = run_exact(&s, name);
    if (ok && s.failing == 0)
        run_failing(&s);
    free_script(&s);
    return ok;
}

static void test_scripts(void **state)
{
    static const char dir[] = KK_SOURCE_ROOT "/tests/script/pop3";
    struct dirent **names;
    (void)state;
    int n = scandir(dir, &names, NULL, alphasort);
    unsigned failed = 0, ran = 0;
    assert_true(n > 0);
    for (int i = 0; i < n; i++) {
        size_t len = strlen(names[i]->d_name);
        if (len > 4 && strcmp(names[i]->d_name + len - 4, ".txt") == 0) {
            failed += !run_file(dir, names[i]->d_name);
            ran++;
        }
        free(names[i]);
    }
    free(names);
    print_message("%u transcripts\n", ran);
    assert_int_equal(failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scripts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
