/* The role imapd: rights, the table of sessions, start and end. See imapd.h.
 *
 * Rights: none but memory and the sockets it was given. It talks to stored (mail, under grants), auditd, tlsd (why a stream
 * ended), and takes sessions from login. */
#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "role/imapd/imapd.h"
#include "role/imapd/segments.h"

#define ENDING_POLL_MS 20
#define LAST_WORDS_MS 1000 /* of the grace: for sessions that are cut off to write down what was fetched */

static struct list sessions = LIST_INIT(sessions);
static struct map by_conn;
static size_t count;

void imapd_sessions_add(struct imapd_session *s)
{
    list_add_tail(&sessions, &s->node);
    count++;
    /* Without its row a session lives on, but a revocation must walk the list for it. */
    if (map_put(&by_conn, MAP_KEY(s->conn), s, NULL) != 0)
        log_warning("imapd.no_memory", L_ID("conn", s->conn));
}

void imapd_sessions_del(struct imapd_session *s)
{
    if (map_get(&by_conn, MAP_KEY(s->conn)) == s)
        (void)map_del(&by_conn, MAP_KEY(s->conn));
    list_del(&s->node);
    count--;
}

struct imapd_session *imapd_sessions_find(struct id128 conn)
{
    struct imapd_session *s = map_get(&by_conn, MAP_KEY(conn));
    for (struct list *n = sessions.next; s == NULL && count != by_conn.count && n != &sessions; n = n->next)
        if (id_eq(list_item(n, struct imapd_session, node)->conn, conn))
            s = list_item(n, struct imapd_session, node);
    return s;
}

size_t imapd_sessions_count(void)
{
    return count;
}

void imapd_cancel(struct imapd_session *s, enum pop3_text why)
{
    if (s->fiber == NULL)
        return; /* already at its end */
    s->why = why;
    fiber_cancel(s->fiber);
}

void imapd_cancel_all(enum pop3_text why, bool only_idle)
{
    for (struct list *n = sessions.next; n != &sessions; n = n->next) {
        struct imapd_session *s = list_item(n, struct imapd_session, node);
        if (!only_idle || s->pop3.idle)
            imapd_cancel(s, why);
    }
}

/* ---- messages ---- */

static int on_session_start(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    struct m_session_start *q = request;
    struct m_session_start_reply *r = reply;
    if (!slice_eq(q->service, SLICE("pop3")) || q->stream < 0)
        return err_set(err, ERR_SYNTAX, "no service, or no stream");
    r->verdict = role_context()->stopping ? SESSION_TEMPORARY : imapd_pop3_start(q, rq->deadline, err);
    return 0;
}

/* An administrator has suspended the account, or its password has changed: at once, in the middle of whatever it is. */
static int on_grant_revoked(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_grant_revoked *note = request;
    struct imapd_session *s = imapd_sessions_find(note->conn);
    (void)rq;
    (void)reply;
    (void)err;
    if (s != NULL && s->grant == note->grant)
        imapd_cancel(s, POP3_T_REVOKED);
    return 0;
}

static int on_tls_ended(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_tls_ended *note = request;
    struct imapd_session *s = imapd_sessions_find(note->conn);
    (void)rq;
    (void)reply;
    (void)err;
    if (s != NULL)
        s->tls_end = note->reason;
    return 0;
}

static void on_peer(enum role role, uint64_t instance, uint64_t serial, bool up)
{
    (void)instance;
    (void)serial;
    if (role != ROLE_STORED || up)
        return;
    /* Grants die with stored: these sessions cannot go on. Their clients come again in a second. */
    for (struct list *n = sessions.next; n != &sessions; n = n->next)
        list_item(n, struct imapd_session, node)->store_gone = true;
    imapd_cancel_all(POP3_T_STORE_GONE, false);
    segments_forget();
}

/* ---- the process ---- */

static int prepare(struct role_context *ctx, struct err *err)
{
    (void)ctx;
    (void)err;
    map_init(&by_conn);
    return 0;
}

static int threads(struct role_context *ctx, struct err *err)
{
    (void)ctx;
    int rc = maildrop_threads();
    return rc != 0 ? err_set(err, rc, "cannot start reading threads") : 0;
}

/* Sessions that wait for a command and have nothing marked for deletion lose nothing; the others get the grace. */
static void stop(struct role_context *ctx, int64_t deadline)
{
    (void)ctx;
    while (count != 0 && clock_mono_ms() < deadline - LAST_WORDS_MS) {
        imapd_cancel_all(POP3_T_SHUTDOWN, true);
        if (fiber_sleep_until(clock_deadline(ENDING_POLL_MS)) != 0)
            break;
    }
    imapd_cancel_all(POP3_T_SHUTDOWN, false);
    while (count != 0 && clock_mono_ms() < deadline && fiber_sleep_until(clock_deadline(ENDING_POLL_MS)) == 0)
        ;
}

static const struct ipc_handler handlers[] = {
    {IPC_session_start, on_session_start}, {IPC_grant_revoked, on_grant_revoked}, {IPC_tls_ended, on_tls_ended}, {0, NULL},
};

const struct role_program role_program_imapd = {
    .role = ROLE_IMAPD, .handlers = handlers, .on_peer = on_peer, .prepare = prepare, .threads = threads, .stop = stop,
};
