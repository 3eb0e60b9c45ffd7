/* POP3 up to authentication: see login_session.h. RFC 1939, 2449, 2595, 3206, 5034, 6856. */
#include "proto/pop3/login_session.h"

#include "base/secret.h"
#include "wire/sasl.h"

/* What a handler says of the session: go on, or how it ended. */
enum step { STEP_ON = -1 };

static bool may_log_in(const struct pop3_login *l)
{
    return l->tls || l->plaintext_ok;
}

static bool may_stls(const struct pop3_login *l)
{
    return !l->tls && l->backend->starttls != NULL;
}

static void say(struct pop3_login *l, enum pop3_text text)
{
    /* A failure sticks to the stream and ends the session at its next read. */
    (void)pop3_reply(l->stream, l->lang, text);
}

static int error(struct pop3_login *l, enum pop3_text text)
{
    if (++l->errors >= POP3_LOGIN_ERRORS_MAX) {
        say(l, POP3_T_TOO_MANY_ERRORS);
        return POP3_END_ERRORS;
    }
    say(l, text);
    return STEP_ON;
}

static int failure(struct pop3_login *l, enum pop3_text text)
{
    say(l, text);
    return ++l->failures >= POP3_LOGIN_FAILURES_MAX ? POP3_END_FAILURES : STEP_ON;
}

static void forget_user(struct pop3_login *l)
{
    buf_done_secret(&l->user);
}

/* The stream's failure as an end. */
static int stream_end(struct pop3_login *l, int code)
{
    if (code == -ETIMEDOUT)
        return POP3_END_TIMEOUT; /* RFC 1939 section 3: no answer */
    if (code == -ECANCELED) {
        say(l, POP3_T_SHUTDOWN);
        return POP3_END_STOPPED;
    }
    return POP3_END_CLOSED;
}

/* RFC 1939 section 4: the maildrop is opened and locked before the client hears "+OK"; imapd says it then. */
static int hand_over(struct pop3_login *l)
{
    if (stream_flush(l->stream) != 0)
        return POP3_END_CLOSED;
    switch (l->backend->hand_over(l->ctx, l->stream, l->utf8, l->lang)) {
    case POP3_HANDED_OVER:
        return POP3_END_HANDED_OVER;
    case POP3_IN_USE:
        return failure(l, POP3_T_IN_USE); /* RFC 2449 8.1.2 */
    case POP3_REFUSED:
        return failure(l, POP3_T_AUTH_TEMPORARY);
    case POP3_UNKNOWN_END:
        break;
    }
    return POP3_END_CLOSED;
}

static int authenticate(struct pop3_login *l, struct slice user, struct slice password, const char *mechanism)
{
    switch (l->backend->auth(l->ctx, user, password, mechanism)) {
    case POP3_AUTH_OK:
        return hand_over(l);
    case POP3_AUTH_BAD:
        return failure(l, POP3_T_BAD_LOGIN); /* RFC 3206 section 5 */
    case POP3_AUTH_SLOW:
        return failure(l, POP3_T_SLOW_DOWN);
    case POP3_AUTH_DISABLED:
        return failure(l, POP3_T_DISABLED);
    case POP3_AUTH_TEMPORARY:
        break;
    }
    return failure(l, POP3_T_AUTH_TEMPORARY); /* RFC 3206 section 4: not the user's fault */
}

static int cmd_capa(struct pop3_login *l, const struct pop3_request *rq)
{
    (void)rq;
    say(l, POP3_T_CAPA_FOLLOWS);
    (void)pop3_print_capabilities(l->stream, POP3_AUTHORIZATION, may_log_in(l), may_stls(l));
    (void)stream_write(l->stream, ".\r\n", 3);
    return STEP_ON;
}

static int cmd_user(struct pop3_login *l, const struct pop3_request *rq)
{
    if (!may_log_in(l))
        return error(l, POP3_T_NO_TLS_LOGIN);
    forget_user(l);
    buf_init(&l->user, SASL_NAME_MAX);
    buf_put_slice(&l->user, rq->args[0]);
    if (!buf_ok(&l->user)) {
        forget_user(l);
        return error(l, POP3_T_BAD_ARGS);
    }
    say(l, POP3_T_SEND_PASS); /* whether the user exists or not */
    return STEP_ON;
}

static int cmd_pass(struct pop3_login *l, const struct pop3_request *rq)
{
    if (!may_log_in(l))
        return error(l, POP3_T_NO_TLS_LOGIN);
    if (l->user.n == 0)
        return error(l, POP3_T_NEED_USER);
    if (rq->args[0].n > SASL_PASSWORD_MAX)
        return error(l, POP3_T_BAD_ARGS);
    /* The line is in the stream's buffer, which the wait for the answer may move: the password needs a place of its own. */
    char password[SASL_PASSWORD_MAX];
    size_t n = rq->args[0].n;
    memcpy(password, rq->args[0].p, n);
    int step = authenticate(l, buf_slice(&l->user), slice_of(password, n), "USER");
    secret_wipe(password, sizeof(password));
    forget_user(l);
    return step;
}

/* One base64 line of the client's. STEP_ON with the bytes in out, or what the session does next: *ret_done is set. */
static int read_sasl(struct pop3_login *l, struct buf *out, bool *ret_done)
{
    struct slice line;
    *ret_done = true;
    int rc = stream_read_line(l->stream, SASL_LINE_MAX, &line);
    if (rc == ERR_LIMIT) {
        rc = stream_skip_line(l->stream, POP3_SKIP_MAX);
        return rc == 0 ? error(l, POP3_T_LINE_TOO_LONG) : stream_end(l, rc);
    }
    if (rc != 0)
        return stream_end(l, rc);
    line = slice_head(line, line.n - 1);
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    if (slice_eq(line, SLICE("*"))) /* RFC 5034 section 4 */
        return error(l, POP3_T_CANCELLED);
    if (sasl_base64_decode(line, out) != 0)
        return error(l, POP3_T_BAD_SASL);
    *ret_done = false;
    return STEP_ON;
}

/* The initial response, if there is one ("=" is an empty one), else the answer to the challenge. */
static int first_response(struct pop3_login *l, const char *challenge, const struct slice *initial, struct buf *out, bool *ret_done)
{
    if (initial == NULL) {
        *ret_done = true;
        if (stream_printf(l->stream, "+ %s\r\n", challenge) != 0)
            return POP3_END_CLOSED;
        return read_sasl(l, out, ret_done);
    }
    *ret_done = !slice_eq(*initial, SLICE("=")) && sasl_base64_decode(*initial, out) != 0;
    return *ret_done ? error(l, POP3_T_BAD_SASL) : STEP_ON;
}

static int sasl_plain(struct pop3_login *l, const struct slice *initial)
{
    struct buf message;
    struct sasl_plain p;
    bool done;
    buf_init(&message, SASL_LINE_MAX);
    int step = first_response(l, "", initial, &message, &done);
    if (!done) {
        if (sasl_plain_parse(buf_slice(&message), &p) != 0)
            step = error(l, POP3_T_BAD_SASL);
        else if (p.authzid.n != 0 && !slice_eq(p.authzid, p.authcid))
            step = failure(l, POP3_T_BAD_LOGIN); /* nobody may act for somebody else here */
        else
            step = authenticate(l, p.authcid, p.password, "PLAIN");
    }
    buf_done_secret(&message);
    return step;
}

static int sasl_login(struct pop3_login *l, const struct slice *initial)
{
    struct buf user, password;
    bool done;
    buf_init(&user, SASL_LINE_MAX);
    buf_init(&password, SASL_LINE_MAX);
    int step = first_response(l, "VXNlcm5hbWU6", initial, &user, &done); /* "Username:" */
    if (!done)
        step = first_response(l, "UGFzc3dvcmQ6", NULL, &password, &done); /* "Password:" */
    if (!done) {
        if (sasl_login_check(buf_slice(&user), SASL_NAME_MAX) != 0 || sasl_login_check(buf_slice(&password), SASL_PASSWORD_MAX) != 0)
            step = error(l, POP3_T_BAD_SASL);
        else
            step = authenticate(l, buf_slice(&user), buf_slice(&password), "LOGIN");
    }
    buf_done_secret(&user);
    buf_done_secret(&password);
    return step;
}

static int cmd_auth(struct pop3_login *l, const struct pop3_request *rq)
{
    static const struct {
        const char *name;
        int (*run)(struct pop3_login *l, const struct slice *initial);
    } mechanisms[] = {{"PLAIN", sasl_plain}, {"LOGIN", sasl_login}};
    const size_t n = sizeof(mechanisms) / sizeof(mechanisms[0]);
    if (!may_log_in(l))
        return error(l, POP3_T_NO_TLS_LOGIN);
    if (rq->n_args == 0) { /* not in RFC 5034, but older clients ask so */
        say(l, POP3_T_SASL_FOLLOWS);
        for (size_t i = 0; i < n; i++)
            (void)stream_printf(l->stream, "%s\r\n", mechanisms[i].name);
        (void)stream_write(l->stream, ".\r\n", 3);
        return STEP_ON;
    }
    forget_user(l);
    for (size_t i = 0; i < n; i++)
        if (slice_ieq(rq->args[0], slice_str(mechanisms[i].name)))
            return mechanisms[i].run(l, rq->n_args == 2 ? &rq->args[1] : NULL);
    return error(l, POP3_T_BAD_MECHANISM);
}

static int cmd_stls(struct pop3_login *l, const struct pop3_request *rq)
{
    (void)rq;
    if (l->tls)
        return error(l, POP3_T_TLS_ACTIVE);
    if (l->utf8)
        return error(l, POP3_T_STLS_AFTER_UTF8); /* RFC 6856 section 2.1 */
    if (l->backend->starttls == NULL)
        return error(l, POP3_T_UNKNOWN);
    /* What came in the clear behind STLS would be read as if it had come under TLS: that is how commands are injected. */
    if (stream_buffered(l->stream).n != 0) {
        l->backend->injection(l->ctx);
        return POP3_END_INJECTION;
    }
    say(l, POP3_T_BEGIN_TLS);
    if (stream_flush(l->stream) != 0)
        return POP3_END_CLOSED;
    if (l->backend->starttls(l->ctx, &l->stream) != 0)
        return POP3_END_TLS; /* "+OK" has been said: there is no way back to plain text */
    l->tls = true;
    /* RFC 2595 section 4: the state starts anew. */
    forget_user(l);
    l->lang = POP3_EN;
    stream_set_deadline(l->stream, l->deadline);
    return STEP_ON;
}

static int cmd_utf8(struct pop3_login *l, const struct pop3_request *rq)
{
    (void)rq;
    l->utf8 = true;
    say(l, POP3_T_UTF8_ON);
    return STEP_ON;
}

static int cmd_lang(struct pop3_login *l, const struct pop3_request *rq)
{
    (void)pop3_answer_lang(l->stream, rq->n_args > 0 ? &rq->args[0] : NULL, &l->lang);
    return STEP_ON;
}

static int cmd_quit(struct pop3_login *l, const struct pop3_request *rq)
{
    (void)rq;
    say(l, POP3_T_BYE);
    return POP3_END_QUIT;
}

typedef int handler_fn(struct pop3_login *l, const struct pop3_request *rq);
/* Commands of the other state have no row: the table has refused them before. */
static handler_fn *const handlers[POP3_N_COMMANDS] = {
    [POP3_CAPA] = cmd_capa, [POP3_USER] = cmd_user, [POP3_PASS] = cmd_pass, [POP3_AUTH] = cmd_auth,
    [POP3_STLS] = cmd_stls, [POP3_UTF8] = cmd_utf8, [POP3_LANG] = cmd_lang, [POP3_QUIT] = cmd_quit,
};

static int run_line(struct pop3_login *l, struct slice line)
{
    struct pop3_request rq;
    switch (pop3_parse_request(line, POP3_AUTHORIZATION, &rq)) {
    case POP3_PARSED:
        return handlers[rq.id](l, &rq);
    case POP3_BAD_LINE:
        return error(l, POP3_T_BAD_LINE);
    case POP3_UNKNOWN:
        return error(l, POP3_T_UNKNOWN);
    case POP3_WRONG_STATE:
        return error(l, POP3_T_WRONG_STATE);
    case POP3_BAD_ARGS:
        break;
    }
    return error(l, POP3_T_BAD_ARGS);
}

enum pop3_login_end pop3_login_run(struct pop3_login *l)
{
    int step = STEP_ON;
    struct slice line;
    stream_set_deadline(l->stream, l->deadline);
    buf_init(&l->user, SASL_NAME_MAX);
    say(l, POP3_T_GREETING); /* no timestamp: no APOP, which would need passwords kept in the clear (RFC 1939 section 7) */
    while (step == STEP_ON) {
        int rc = stream_read_line(l->stream, POP3_LINE_MAX, &line);
        if (rc == ERR_LIMIT) {
            rc = stream_skip_line(l->stream, POP3_SKIP_MAX);
            step = rc == 0 ? error(l, POP3_T_LINE_TOO_LONG) : stream_end(l, rc);
        } else if (rc != 0) {
            step = stream_end(l, rc);
        } else {
            step = run_line(l, line);
        }
    }
    forget_user(l);
    return (enum pop3_login_end)step;
}

const char *pop3_login_end_name(enum pop3_login_end end)
{
    static const char *const names[] = {
        [POP3_END_HANDED_OVER] = "handed over", [POP3_END_QUIT] = "quit",         [POP3_END_CLOSED] = "closed",
        [POP3_END_TIMEOUT] = "timeout",         [POP3_END_ERRORS] = "errors",     [POP3_END_FAILURES] = "failures",
        [POP3_END_INJECTION] = "injection",     [POP3_END_TLS] = "tls",           [POP3_END_STOPPED] = "stopped",
    };
    return names[end];
}
