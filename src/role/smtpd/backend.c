/* What a session asks of the world, answered by calls to the other processes: see proto/smtp/backend.h.
 *
 * A process that dies under a call is started anew by the supervisor within about a second, so a call that can be repeated is repeated for
 * a while: reading calls always, `accept` under the same message id (stored does it once and remembers). */
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "proto/smtp/settings.h"
#include "role/role_main.h"
#include "role/smtpd/smtpd.h"

#define RCPT_WAIT 30000
#define INSPECT_WAIT 120000
#define INSPECT_ABSENT_WAIT 5000 /* for a filterd to be there */
#define ACCEPT_WAIT 120000    /* for the whole of a commit with its repetitions; RFC 5321 4.5.3.2.6: the sender waits ten minutes */
#define ACCEPT_ONE_WAIT 40000 /* for one answer, before the question is repeated */
#define RETRY_FIRST 50
#define RETRY_MOST 500
#define TLS_REPLY_MAX 8192
#define TLS_MARGIN 2000 /* tlsd has the handshake's deadline; this one catches a tlsd that does not answer */

#define CLIENT_PART 4 /* of the memory for messages that come in, for one client */

enum rate { RATE_CONNECTIONS, RATE_MESSAGES };

/* This process's clients and budget. */
static struct limit_table *clients;
static uint64_t in_flight;

int smtpd_backend_init(void)
{
    return limit_table_new(LIMIT_CLIENTS, &clients);
}

/* --- calls --- */

struct question {
    enum role role;
    enum ipc_number number;
    struct id128 trace;
    struct arena *arena;
    int64_t until;    /* no repetition after it */
    int64_t each;     /* for one answer */
    bool unknown_too; /* an answer that did not come in time is asked for again */
};

static bool worth_repeating(const struct question *q, int rc)
{
    return rc == -ECONNRESET || rc == -ENOTCONN || (q->unknown_too && rc == -ETIMEDOUT);
}

static int ask(const struct question *q, const void *request, void *reply)
{
    struct err err = {0};
    int64_t pause = RETRY_FIRST;
    for (;;) {
        int64_t deadline = clock_deadline(q->each);
        struct ipc_call call = {.trace = q->trace, .deadline = deadline < q->until ? deadline : q->until, .arena = q->arena};
        int rc = ipc_call(q->role, IPC_ANY, q->number, &call, request, reply, &err);
        if (rc == 0)
            return 0;
        if (!worth_repeating(q, rc) || clock_mono_ms() + pause >= q->until) {
            log_warning("smtpd.call_failed", L_STR("role", role_name(q->role)), L_INT("call", q->number), L_ID("for", q->trace),
                        L_STR("code", err_name(rc)), L_STR("reason", err.text));
            return rc;
        }
        if (fiber_sleep_until(clock_deadline(pause)) != 0)
            return -ECANCELED;
        pause = pause * 2 < RETRY_MOST ? pause * 2 : RETRY_MOST;
    }
}

static int rcpt_check(void *arg, struct arena *a, const struct m_rcpt_check *rq, struct m_rcpt_check_reply *reply)
{
    (void)arg;
    struct question q = {.role = ROLE_AUTHD, .number = IPC_rcpt_check, .trace = rq->message, .arena = a,
                         .until = clock_deadline(RCPT_WAIT), .each = RCPT_WAIT};
    return ask(&q, rq, reply);
}

/* A message that makes a filterd fall over is shown to one more, and not to all of them. */
static int inspect(void *arg, struct arena *a, const struct m_inspect *rq, struct m_inspect_reply *reply)
{
    (void)arg;
    int64_t until = clock_deadline(INSPECT_WAIT), absent_until = clock_deadline(INSPECT_ABSENT_WAIT);
    struct ipc_call call = {.trace = rq->message, .deadline = until, .arena = a};
    for (int deaths = 0;;) {
        struct err err = {0};
        int rc = ipc_call(ROLE_FILTERD, IPC_ANY, IPC_inspect, &call, rq, reply, &err);
        deaths += rc == -ECONNRESET;
        bool again = (rc == -ECONNRESET && deaths < 2) || (rc == -ENOTCONN && clock_mono_ms() < absent_until);
        if (rc != 0 && !again)
            log_warning("smtpd.inspect_failed", L_ID("message", rq->message), L_STR("code", err_name(rc)), L_STR("reason", err.text));
        if (!again)
            return rc;
        if (fiber_sleep_until(clock_deadline(RETRY_FIRST)) != 0)
            return -ECANCELED;
    }
}

static int accept_message(void *arg, struct arena *a, const struct m_accept *rq, struct m_accept_reply *reply)
{
    (void)arg;
    struct question q = {.role = ROLE_STORED, .number = IPC_accept, .trace = rq->message, .arena = a, .until = clock_deadline(ACCEPT_WAIT),
                         .each = ACCEPT_ONE_WAIT, .unknown_too = true};
    return ask(&q, rq, reply);
}

static void grant_drop(void *arg, uint64_t grant)
{
    (void)arg;
    struct m_grant_drop note = {.grant = grant};
    (void)ipc_note(ROLE_STORED, 0, IPC_grant_drop, (struct id128){{0}}, &note); /* a stored that is gone has no grants */
}

static void event(void *arg, const struct event_head *head, const void *record)
{
    (void)arg;
    event_send(head, record);
}

/* --- TLS --- */

static void text_take(char *out, size_t size, struct slice s)
{
    s = slice_head(s, size - 1);
    memcpy(out, s.p, s.n);
    out[s.n] = '\0';
}

static void tls_failed(struct id128 conn, const char *peer_ip, const char *reason)
{
    struct event_head head = {.number = EV_tls_failed, .role = ROLE_SMTPD, .time_ms = clock_real_ms(), .conn = conn};
    struct ev_tls_failed e = {.peer = slice_str(peer_ip), .service = SLICE("smtp"), .reason = slice_head(slice_str(reason), 255)};
    log_info("smtpd.tls_failed", L_ID("conn", conn), L_STR("peer", peer_ip), L_STR("reason", reason));
    event_send(&head, &e);
}

static int starttls(void *arg, struct stream *raw, struct id128 conn, const char *peer_ip, struct smtp_tls *ret_tls, struct stream **ret_plain)
{
    (void)arg;
    struct arena a;
    struct err err = {0};
    struct m_tls_accept rq = {.conn = conn, .raw = stream_take_fd(raw), .proto = SLICE("smtp"), .peer_ip = slice_str(peer_ip)};
    struct m_tls_accept_reply reply = {.plain = -1};
    stream_free(raw);
    arena_init(&a, TLS_REPLY_MAX);
    struct ipc_call call = {.trace = conn, .arena = &a,
                            .deadline = clock_deadline(role_context()->conf->tls_handshake_timeout + TLS_MARGIN)};
    int rc = -ENOTCONN;
    for (uint64_t i = 0; rc == -ENOTCONN && i <= ipc_instances(ROLE_TLSD); i++)
        rc = ipc_call(ROLE_TLSD, IPC_ANY, IPC_tls_accept, &call, &rq, &reply, &err);
    (void)close(rq.raw);
    if (rc == 0)
        rc = stream_new_fd(reply.plain, ret_plain);
    if (rc == 0) {
        text_take(ret_tls->version, sizeof(ret_tls->version), reply.version);
        text_take(ret_tls->cipher, sizeof(ret_tls->cipher), reply.cipher);
        text_take(ret_tls->group, sizeof(ret_tls->group), reply.group);
        ret_tls->bits = (unsigned)reply.bits;
    } else {
        tls_failed(conn, peer_ip, err.text[0] != '\0' ? err.text : err_name(rc));
    }
    arena_done(&a);
    return rc;
}

/* --- limits --- */

static const char *client_enter(void *arg, const struct netaddr *client, const struct smtp_settings *set)
{
    (void)arg;
    if (!limit_take(clients, client, RATE_CONNECTIONS, set->max_rate_per_client))
        return "max_rate_per_client";
    return limit_enter(clients, client, set->max_connections_per_client) ? NULL : "max_connections_per_client";
}

static void client_leave(void *arg, const struct netaddr *client)
{
    (void)arg;
    limit_leave(clients, client);
}

static bool message_take(void *arg, const struct netaddr *client, const struct smtp_settings *set)
{
    (void)arg;
    return limit_take(clients, client, RATE_MESSAGES, set->max_message_rate_per_client);
}

/* The option speaks of the whole service; there are as many smtpd as tlsd, and each takes its share, in which the largest message always
 * has room: however many processes there are, it must be able to come. One client gets a quarter of it, or room for one such message. */
static bool memory_take(void *arg, struct smtp_memory *m, uint64_t octets, const struct smtp_settings *set)
{
    (void)arg;
    uint64_t processes = ipc_instances(ROLE_TLSD), share = set->max_in_flight / (processes != 0 ? processes : 1);
    share = share > set->max_message_size ? share : set->max_message_size;
    uint64_t part = share / CLIENT_PART > set->max_message_size ? share / CLIENT_PART : set->max_message_size;
    if (octets > share || in_flight > share - octets || (m->client != NULL && !limit_hold(clients, m->client, octets, part, &m->hold)))
        return false;
    in_flight += octets;
    return true;
}

static void memory_give(void *arg, struct smtp_memory *m, uint64_t octets)
{
    (void)arg;
    in_flight -= octets;
    if (m->hold != NULL)
        limit_release(m->hold, octets);
}

static int sleep_for(void *arg, int64_t ms)
{
    (void)arg;
    return fiber_sleep_until(clock_deadline(ms));
}

const struct smtp_backend smtpd_backend = {
    .rcpt_check = rcpt_check,
    .inspect = inspect,
    .accept = accept_message,
    .starttls = starttls,
    .grant_drop = grant_drop,
    .event = event,
    .client_enter = client_enter,
    .client_leave = client_leave,
    .message_take = message_take,
    .memory_take = memory_take,
    .memory_give = memory_give,
    .sleep = sleep_for,
};
