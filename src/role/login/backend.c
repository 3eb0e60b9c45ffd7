/* What a login session needs of other processes: TLS from tlsd, the verdict from authd, the new home from imapd, and the trail.
 * See login.h. The order matters: authd's answer comes after stored has the grant; the trail has the login before imapd has the
 * stream; imapd has locked the maildrop before it answers the client. */
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "role/login/login.h"
#include "trail/event.h"

#define AUTH_WAIT_MS 30000
#define SESSION_WAIT_MS 20000
#define TLS_MARGIN_MS 2000 /* tlsd has the handshake's deadline; this one only catches a tlsd that does not answer */
#define REPLY_MAX 8192

static const char service[] = "pop3";

/* ---- the trail ---- */

static struct event_head head_of(const struct login_conn *c, enum event_number number)
{
    return (struct event_head){.number = number, .role = ROLE_LOGIN, .time_ms = clock_real_ms(), .conn = c->id};
}

int login_event_ok(const struct login_conn *c, const char *name, struct slice user)
{
    struct event_head h = head_of(c, EV_login_ok);
    struct ev_login_ok e = {.service = slice_str(name), .peer = slice_str(c->peer), .user = user, .account = c->account,
                            .tls = slice_str(c->tls_text)};
    struct err err = {0};
    int rc = event_send_awaited(&h, &e, clock_deadline(role_context()->conf->trail_login_wait), &err);
    if (rc != 0 && rc != -ECANCELED)
        role_alert("login.not_recorded", "a login was refused because the trail could not record it");
    return rc;
}

void login_event_failed(const struct login_conn *c, const char *name, struct slice user, const char *reason)
{
    struct event_head h = head_of(c, EV_login_failed);
    struct ev_login_failed e = {.service = slice_str(name), .peer = slice_str(c->peer), .user = user, .reason = slice_str(reason)};
    event_send(&h, &e);
}

void login_event_tls_failed(const struct login_conn *c, const char *name, const char *reason)
{
    struct event_head h = head_of(c, EV_tls_failed);
    struct ev_tls_failed e = {.peer = slice_str(c->peer), .service = slice_str(name), .reason = slice_head(slice_str(reason), 255)};
    event_send(&h, &e);
}

/* ---- TLS ---- */

static uint64_t next_tlsd(void)
{
    static uint64_t turn;
    uint64_t n = ipc_instances(ROLE_TLSD);
    return n != 0 ? turn++ % n : 0;
}

/* One call; an instance that is just being restarted is passed over. */
static int call_tlsd(struct login_conn *c, const struct m_tls_accept *rq, struct arena *a, struct m_tls_accept_reply *reply, struct err *err)
{
    struct ipc_call call = {.trace = c->id, .deadline = clock_deadline(role_context()->conf->tls_handshake_timeout + TLS_MARGIN_MS),
                            .arena = a};
    int rc = -ENOTCONN;
    uint64_t tries = ipc_instances(ROLE_TLSD);
    for (uint64_t i = 0; rc == -ENOTCONN && i <= tries; i++) {
        c->tls_instance = next_tlsd();
        rc = ipc_call(ROLE_TLSD, c->tls_instance, IPC_tls_accept, &call, rq, reply, err);
    }
    return rc;
}

int login_tls(struct login_conn *c, int fd, int *ret_fd)
{
    struct m_tls_accept rq = {.conn = c->id, .raw = fd, .proto = SLICE("pop3"), .peer_ip = slice_str(c->peer)};
    struct m_tls_accept_reply reply = {.plain = -1};
    struct err err = {0};
    struct arena a;
    arena_init(&a, REPLY_MAX);
    int rc = call_tlsd(c, &rq, &a, &reply, &err);
    (void)close(fd);
    if (rc == 0) {
        (void)snprintf(c->tls_text, sizeof(c->tls_text), "%.*s %.*s", SLICE_ARG(reply.version), SLICE_ARG(reply.cipher));
        c->tls = true;
        *ret_fd = reply.plain;
    } else {
        const char *reason = err.text[0] != '\0' ? err.text : err_name(rc);
        log_info("login.tls_failed", L_ID("conn", c->id), L_STR("peer", c->peer), L_STR("reason", reason));
        login_event_tls_failed(c, service, reason);
    }
    arena_done(&a);
    return rc;
}

static int pop3_starttls(void *ctx, struct stream **s)
{
    struct login_conn *c = ctx;
    int fd = stream_take_fd(*s);
    stream_free(*s);
    *s = NULL;
    int rc = login_tls(c, fd, &fd);
    return rc != 0 ? rc : stream_new_fd(fd, s);
}

static void pop3_injection(void *ctx)
{
    const struct login_conn *c = ctx;
    log_warning("login.starttls_injection", L_ID("conn", c->id), L_STR("peer", c->peer));
    login_event_tls_failed(c, service, "commands in the clear behind STLS");
}

/* ---- who is this ---- */

static const struct {
    enum pop3_auth answer;
    const char *reason;
} verdicts[] = {
    [AUTH_OK] = {POP3_AUTH_OK, ""},
    [AUTH_BAD] = {POP3_AUTH_BAD, "credentials"},
    [AUTH_SLOW] = {POP3_AUTH_SLOW, "throttled"},
    [AUTH_DISABLED] = {POP3_AUTH_DISABLED, "disabled"},
    [AUTH_TEMPORARY] = {POP3_AUTH_TEMPORARY, "temporary"},
    [AUTH_IN_USE] = {POP3_AUTH_TEMPORARY, "in use"},
};

static uint64_t ask_authd(struct login_conn *c, struct slice user, struct slice password, int64_t *ret_delay)
{
    struct m_auth_password rq = {.conn = c->id, .service = slice_str(service), .peer_ip = slice_str(c->peer), .tls = c->tls,
                                 .user = user, .password = password};
    struct m_auth_password_reply reply = {0};
    struct err err = {0};
    struct arena a;
    arena_init(&a, REPLY_MAX);
    struct ipc_call call = {.trace = c->id, .deadline = clock_deadline(AUTH_WAIT_MS), .arena = &a};
    int rc = ipc_call(ROLE_AUTHD, 0, IPC_auth_password, &call, &rq, &reply, &err);
    if (rc != 0)
        log_warning("login.auth_unanswered", L_ID("conn", c->id), L_STR("code", err_name(rc)), L_STR("reason", err.text));
    if (rc == 0) {
        c->account = reply.account;
        c->grant = reply.grant;
        c->instance = reply.instance;
        (void)snprintf(c->address, sizeof(c->address), "%.*s", SLICE_ARG(reply.address));
        *ret_delay = (int64_t)reply.delay_ms;
    }
    arena_done(&a);
    return rc == 0 && reply.verdict < sizeof(verdicts) / sizeof(verdicts[0]) ? reply.verdict : AUTH_TEMPORARY;
}

/* authd takes the same time for every wrong answer; the delay it orders is waited for here, where it blocks nobody else. */
static enum pop3_auth pop3_auth(void *ctx, struct slice user, struct slice password, const char *mechanism)
{
    struct login_conn *c = ctx;
    int64_t delay = 0;
    (void)mechanism;
    c->moving = true;
    uint64_t verdict = ask_authd(c, user, password, &delay);
    if (verdict != AUTH_OK)
        login_event_failed(c, service, user, verdicts[verdict].reason);
    else if (login_event_ok(c, service, slice_str(c->address)) != 0)
        verdict = AUTH_TEMPORARY;
    c->moving = verdict == AUTH_OK;
    if (delay > 0)
        (void)fiber_sleep_until(clock_deadline(delay)); /* cancelled: the session notices at its next read */
    return verdicts[verdict].answer;
}

/* ---- the stream moves on ---- */

static enum pop3_hand_over hand_over_result(const struct login_conn *c, int rc, uint64_t verdict, const struct err *err)
{
    if (rc == 0)
        return verdict == SESSION_TAKEN ? POP3_HANDED_OVER : verdict == SESSION_IN_USE ? POP3_IN_USE : POP3_REFUSED;
    log_warning("login.no_session", L_ID("conn", c->id), L_STR("code", err_name(rc)), L_STR("reason", err->text));
    /* imapd may have the stream: whoever writes now may write into its answers. */
    return rc == -ECONNRESET || rc == -ETIMEDOUT || rc == -ECANCELED ? POP3_UNKNOWN_END : POP3_REFUSED;
}

static enum pop3_hand_over pop3_hand_over(void *ctx, struct stream *s, bool utf8, enum pop3_lang lang)
{
    struct login_conn *c = ctx;
    struct m_session_start rq = {
        .conn = c->id, .service = slice_str(service), .stream = stream_fd(s), .account = c->account, .grant = c->grant,
        .address = slice_str(c->address), .peer_ip = slice_str(c->peer), .tls = c->tls, .tls_text = slice_str(c->tls_text),
        .unread = stream_buffered(s), .utf8 = utf8, .lang = slice_str(pop3_lang_tag(lang)), .login_ms = (uint64_t)clock_real_ms()};
    struct m_session_start_reply reply = {0};
    struct err err = {0};
    struct arena a;
    arena_init(&a, REPLY_MAX);
    struct ipc_call call = {.trace = c->id, .deadline = clock_deadline(SESSION_WAIT_MS), .arena = &a};
    int rc = ipc_call(ROLE_IMAPD, c->instance, IPC_session_start, &call, &rq, &reply, &err);
    arena_done(&a);
    enum pop3_hand_over result = hand_over_result(c, rc, reply.verdict, &err);
    c->moving = false;
    if (result == POP3_HANDED_OVER && c->tls) {
        struct m_tls_owner note = {.conn = c->id, .instance = c->instance};
        (void)ipc_note(ROLE_TLSD, c->tls_instance, IPC_tls_owner, c->id, &note);
    }
    return result;
}

const struct pop3_login_backend login_pop3_backend = {
    .auth = pop3_auth, .hand_over = pop3_hand_over, .starttls = pop3_starttls, .injection = pop3_injection,
};
