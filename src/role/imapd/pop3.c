/* POP3 sessions of this process: from login's request to the last event. See imapd.h.
 *
 * The end of a session (what was fetched goes into the trail, flags, the grant) is done in a fiber of its own when the session's was
 * cancelled: in a cancelled fiber every wait fails at once. */
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "role/imapd/imapd.h"
#include "trail/event.h"

#define RECORD_WAIT_MS 10000
#define FLAG_BATCH 512

static const char service[] = "pop3";

/* ---- the trail ---- */

static struct event_head head_of(const struct imapd_session *s, enum event_number number)
{
    return (struct event_head){.number = number, .role = ROLE_IMAPD, .time_ms = clock_real_ms(), .conn = s->conn};
}

_Static_assert(sizeof(struct ev_message_id) == sizeof(struct id128), "the buffer of ids is the list's items");

static struct record_list taken_ids(const struct imapd_session *s)
{
    return (struct record_list){s->taken.n / sizeof(struct id128), s->taken.p};
}

/* A long session's ids go into the trail in portions, so that they take little memory; a lost portion is counted (event.h). */
static void op_fetched(void *ctx, size_t index)
{
    struct imapd_session *s = ctx;
    struct id128 id = maildrop_message_id(s->maildrop, index);
    if (taken_ids(s).n == EVENT_IDS_MAX) {
        struct event_head h = head_of(s, EV_mail_taken);
        struct ev_mail_taken e = {.service = slice_str(service), .user = slice_str(s->address), .account = s->account, .ids = taken_ids(s)};
        event_send(&h, &e);
        buf_reset(&s->taken);
    }
    if (!id_is_zero(id))
        buf_put(&s->taken, id.b, sizeof(id.b));
}

static int record_retrieved(const struct imapd_session *s, uint64_t messages, uint64_t bytes, bool complete)
{
    struct event_head h = head_of(s, EV_mail_retrieved);
    struct ev_mail_retrieved e = {.service = slice_str(service), .peer = slice_str(s->peer), .user = slice_str(s->address),
                                  .account = s->account, .messages = messages, .bytes = bytes, .complete = complete,
                                  .ids = taken_ids(s)};
    struct err err = {0};
    int rc = event_send_awaited(&h, &e, clock_deadline(RECORD_WAIT_MS), &err);
    if (rc != 0 && rc != -ECANCELED)
        role_alert("imapd.not_recorded", "what a session fetched could not be recorded in the trail");
    if (rc != 0 && !complete)
        event_send(&h, &e); /* nobody is left to refuse; perhaps the trail takes it later */
    return rc;
}

static const char *end_text(const struct imapd_session *s)
{
    static const char *const tls_ends[] = {
        [TLS_END_TRUNCATED] = "truncated", [TLS_END_ALERT] = "tls alert", [TLS_END_TIMEOUT] = "tls timeout",
    };
    if (s->end == POP3_ENDED_CANCELLED)
        return s->why == POP3_T_REVOKED ? "revoked" : s->why == POP3_T_STORE_GONE ? "store gone" : "stopped";
    if (s->end == POP3_ENDED_CLOSED && s->tls_end < sizeof(tls_ends) / sizeof(tls_ends[0]) && tls_ends[s->tls_end] != NULL)
        return tls_ends[s->tls_end];
    return pop3_end_name(s->end);
}

static void record_ended(const struct imapd_session *s)
{
    struct event_head h = head_of(s, EV_session_ended);
    struct ev_session_ended e = {.service = slice_str(service), .peer = slice_str(s->peer), .user = slice_str(s->address),
                                 .account = s->account, .retrieved = s->pop3.retrieved, .retrieved_bytes = s->pop3.retrieved_bytes,
                                 .expunged = s->pop3.expunged, .ms = (uint64_t)(clock_mono_ms() - s->started),
                                 .end = slice_str(end_text(s))};
    event_send(&h, &e);
}

/* ---- what the session works through ---- */

static int op_open(void *ctx, size_t index, struct slice *ret_prefix)
{
    struct imapd_session *s = ctx;
    return maildrop_message_open(s->maildrop, index, ret_prefix);
}

static int op_read(void *ctx, struct slice *ret_piece)
{
    struct imapd_session *s = ctx;
    return maildrop_message_read(s->maildrop, ret_piece);
}

static void op_close(void *ctx)
{
    struct imapd_session *s = ctx;
    maildrop_message_close(s->maildrop);
}

static int op_expunge(void *ctx, const uint32_t *uids, size_t n, uint64_t *ret_expunged)
{
    struct imapd_session *s = ctx;
    struct event_head h = head_of(s, EV_mail_expunged);
    struct ev_mail_expunged e = {.service = slice_str(service), .user = slice_str(s->address), .account = s->account, .messages = n};
    struct buf event;
    buf_init(&event, IPC_EVENT_MAX);
    int rc = event_encode(&h, &e, &event);
    if (rc == 0)
        rc = maildrop_expunge(s->maildrop, uids, n, buf_slice(&event), ret_expunged);
    buf_done(&event);
    return rc;
}

static int op_record_retrieved(void *ctx, uint64_t messages, uint64_t bytes)
{
    return record_retrieved(ctx, messages, bytes, true);
}

static enum pop3_text op_why(void *ctx)
{
    const struct imapd_session *s = ctx;
    return s->why;
}

static const struct pop3_maildrop_ops ops = {
    .open = op_open, .read = op_read, .close = op_close, .expunge = op_expunge, .fetched = op_fetched,
    .record_retrieved = op_record_retrieved, .why = op_why,
};

/* ---- the end ---- */

static void free_session(struct imapd_session *s)
{
    pop3_session_done(&s->pop3);
    buf_done(&s->taken);
    maildrop_free(s->maildrop);
    stream_free(s->pop3.stream);
    free(s->address);
    free(s->peer);
    free(s);
}

static void drop_grant(uint64_t grant, struct id128 conn)
{
    struct m_grant_drop note = {.grant = grant};
    (void)ipc_note(ROLE_STORED, 0, IPC_grant_drop, conn, &note);
}

/* Whether this message was fetched and stays, and its flags do not say so yet. */
static bool wants_flags(const struct imapd_session *s, size_t i)
{
    uint8_t mark = s->pop3.marks[i];
    uint32_t flags = s->pop3.view.entries[i].flags;
    bool deleted = (mark & POP3_MARK_DELETED) != 0 && s->pop3.expunged != 0;
    return (mark & POP3_MARK_RETRIEVED) != 0 && !deleted &&
           ((flags & STORE_SEEN) == 0 || (flags & STORE_RETRIEVED) == 0 || (flags & STORE_RECENT) != 0);
}

static void set_flags(struct imapd_session *s)
{
    uint32_t uids[FLAG_BATCH];
    size_t n = 0;
    int rc = 0;
    for (size_t i = 0; s->pop3.marks != NULL && i < s->pop3.view.n && rc == 0; i++) {
        if (wants_flags(s, i))
            uids[n++] = s->pop3.view.entries[i].uid;
        if (n > 0 && (n == FLAG_BATCH || i + 1 == s->pop3.view.n)) {
            rc = maildrop_add_flags(s->maildrop, uids, n, STORE_SEEN | STORE_RETRIEVED, STORE_RECENT);
            n = 0;
        }
    }
}

static void finish(void *arg)
{
    struct imapd_session *s = arg;
    if (s->pop3.retrieved != 0 && !s->pop3.retrieved_recorded)
        (void)record_retrieved(s, s->pop3.retrieved, s->pop3.retrieved_bytes, false);
    if (!s->store_gone && s->why != POP3_T_REVOKED) {
        set_flags(s);
        drop_grant(s->grant, s->conn);
    }
    record_ended(s);
    imapd_sessions_del(s);
    free_session(s);
}

/* ---- the session ---- */

static void run(void *arg)
{
    struct imapd_session *s = arg;
    s->end = pop3_session_run(&s->pop3);
    /* The lock is on the client's mind, not its connection: it goes when all is done, the connection goes now. */
    if (s->end == POP3_ENDED_QUIT)
        (void)stream_shutdown(s->pop3.stream);
    stream_free(s->pop3.stream);
    s->pop3.stream = NULL;
    bool cancelled = fiber_cancelled();
    s->fiber = NULL;
    if (!cancelled || fiber_start("pop3 end", finish, s, NULL) != 0)
        finish(s);
}

static struct imapd_session *session_of(const struct m_session_start *rq)
{
    const struct conf *conf = role_context()->conf;
    struct imapd_session *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return NULL;
    *s = (struct imapd_session){.conn = rq->conn, .account = rq->account, .grant = rq->grant, .tls = rq->tls != 0,
                                .started = clock_mono_ms(), .why = POP3_T_SHUTDOWN};
    buf_init(&s->taken, EVENT_IDS_MAX * sizeof(struct id128));
    s->address = strndup(rq->address.p, rq->address.n);
    s->peer = strndup(rq->peer_ip.p, rq->peer_ip.n);
    s->pop3 = (struct pop3_session){.ops = &ops, .ctx = s, .utf8 = rq->utf8 != 0, .idle_ms = conf->pop3_idle_timeout};
    (void)pop3_lang_find(rq->lang, &s->pop3.lang);
    if (s->address == NULL || s->peer == NULL) {
        free_session(s);
        return NULL;
    }
    return s;
}

static int take_stream(struct imapd_session *s, struct m_session_start *rq)
{
    int fd = rq->stream;
    rq->stream = -1;
    int rc = stream_new_fd(fd, &s->pop3.stream);
    return rc != 0 ? rc : stream_unread(s->pop3.stream, rq->unread);
}

enum session_verdict imapd_pop3_start(struct m_session_start *rq, int64_t deadline, struct err *err)
{
    if (imapd_sessions_count() >= (size_t)role_context()->conf->pop3_max_connections) {
        role_alert("imapd.full", "a login was put off: pop3 { max_connections } sessions are open");
        drop_grant(rq->grant, rq->conn);
        return SESSION_TEMPORARY;
    }
    struct imapd_session *s = session_of(rq);
    if (s == NULL)
        return SESSION_TEMPORARY;
    int rc = maildrop_open(rq->grant, rq->conn, deadline, &s->maildrop, err);
    if (rc == 0) {
        s->pop3.view.entries = maildrop_entries(s->maildrop, &s->pop3.view.n);
        s->pop3.view.uidvalidity = maildrop_uidvalidity(s->maildrop);
        /* From here on a revocation finds the session. */
        imapd_sessions_add(s);
        rc = take_stream(s, rq);
        if (rc == 0)
            rc = fiber_start("pop3", run, s, &s->fiber);
        if (rc == 0)
            return SESSION_TAKEN;
        imapd_sessions_del(s);
    }
    log_info("imapd.no_session", L_ID("conn", rq->conn), L_STR("code", err_name(rc)), L_STR("reason", err->text));
    drop_grant(rq->grant, rq->conn);
    free_session(s);
    return rc == -EBUSY ? SESSION_IN_USE : SESSION_TEMPORARY;
}
