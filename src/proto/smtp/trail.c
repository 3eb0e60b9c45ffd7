/* What a session writes into the audit trail. Texts from outside are made valid first (event_text); the events are small, so one arena for
 * each is cheap. */
#include "base/clock.h"
#include "proto/smtp/session_priv.h"

#define TRAIL_ARENA_MAX 65536
#define HELO_MAX 1024

static struct event_head head_of(const struct smtp_session *s, enum event_number number)
{
    return (struct event_head){.number = number, .role = ROLE_SMTPD, .time_ms = clock_real_ms(), .conn = s->conn,
                               .message = s->tx != NULL ? s->tx->message : (struct id128){{0}}};
}

static void record_send(struct smtp_session *s, enum event_number number, const void *record)
{
    struct event_head head = head_of(s, number);
    s->backend->event(s->arg, &head, record);
}

static struct slice helo_of(const struct smtp_session *s, struct arena *a)
{
    return event_text(a, s->helo != NULL ? slice_str(s->helo) : SLICE_EMPTY, HELO_MAX);
}

static struct slice sender_of(const struct smtp_session *s, struct arena *a)
{
    return event_text(a, s->tx != NULL ? s->tx->sender.address : SLICE_EMPTY, IPC_ADDRESS_MAX);
}

static struct slice tls_of(const struct smtp_session *s, struct arena *a)
{
    const char *text = s->tls_on ? arena_printf(a, "%s %s", s->tls.version, s->tls.cipher) : NULL;
    return text != NULL ? event_text(a, slice_str(text), 128) : SLICE_EMPTY;
}

static struct slice answer_of(const struct smtp_answer *answer, struct arena *a)
{
    const char *text = arena_printf(a, "%u %s %s", answer->code, answer->enhanced, answer->text);
    return text != NULL ? event_text(a, slice_str(text), IPC_TEXT_MAX) : SLICE_EMPTY;
}

void smtp_trail_rcpt(struct smtp_session *s, bool relay, struct slice recipient, const struct smtp_answer *answer)
{
    struct arena a;
    arena_init(&a, TRAIL_ARENA_MAX);
    struct ev_smtp_relay_denied e = {.peer = slice_str(s->client_ip), .helo = helo_of(s, &a), .sender = sender_of(s, &a),
                                     .recipient = event_text(&a, recipient, IPC_ADDRESS_MAX), .reply = answer_of(answer, &a)};
    struct ev_smtp_rcpt_refused r = {.peer = e.peer, .helo = e.helo, .sender = e.sender, .recipient = e.recipient, .reply = e.reply};
    if (relay)
        record_send(s, EV_smtp_relay_denied, &e);
    else
        record_send(s, EV_smtp_rcpt_refused, &r);
    arena_done(&a);
}

void smtp_trail_message_refused(struct smtp_session *s, const struct smtp_answer *answer)
{
    struct arena a;
    arena_init(&a, TRAIL_ARENA_MAX);
    struct ev_smtp_message_refused e = {.peer = slice_str(s->client_ip), .helo = helo_of(s, &a), .sender = sender_of(s, &a),
                                        .recipients = s->tx->n_rcpts, .size = s->tx->body.size > 0 ? s->tx->body.size : s->tx->params.size, .reply = answer_of(answer, &a)};
    record_send(s, EV_smtp_message_refused, &e);
    arena_done(&a);
}

void smtp_trail_connection(struct smtp_session *s)
{
    struct arena a;
    arena_init(&a, TRAIL_ARENA_MAX);
    struct ev_smtp_connection e = {.peer = slice_str(s->client_ip), .listener = event_text(&a, slice_str(s->listener), 64),
                                   .tls = tls_of(s, &a), .messages = s->messages, .errors = s->errors, .bytes_in = s->octets,
                                   .ms = (uint64_t)(clock_mono_ms() - s->started), .end = slice_str(s->end)};
    record_send(s, EV_smtp_connection, &e);
    arena_done(&a);
}

void smtp_trail_abuse(struct smtp_session *s, const char *limit, uint64_t value)
{
    struct ev_smtp_abuse e = {.peer = slice_str(s->client_ip), .limit = slice_str(limit), .value = value};
    record_send(s, EV_smtp_abuse, &e);
}

/* --- the acceptance --- */

size_t smtp_trail_rcpt_size(struct slice address)
{
    return 4 + address.n + 8 + 4 + 2; /* address, account, "ok" */
}

int smtp_trail_received(struct smtp_session *s, const struct m_inspect_reply *seen, int64_t now_ms, struct buf *out)
{
    const struct smtp_tx *tx = s->tx;
    struct arena a;
    arena_init(&a, TRAIL_ARENA_MAX);
    struct ev_rcpt *rcpts = arena_array(&a, tx->n_targets, sizeof(*rcpts));
    size_t n = 0;
    for (size_t i = 0; rcpts != NULL && i < tx->n_targets; i++)
        if (!tx->targets[i].out)
            rcpts[n++] = (struct ev_rcpt){.address = tx->targets[i].address, .account = tx->targets[i].account, .result = SLICE("ok")};
    struct ev_smtp_received e = {.peer = slice_str(s->client_ip), .helo = helo_of(s, &a), .protocol = slice_str(smtp_trace_protocol(s)),
                                 .tls = tls_of(s, &a), .sender = sender_of(s, &a), .recipients = {n, rcpts},
                                 .size = tx->body.size, .message_id = event_text(&a, seen->message_id, 998),
                                 .from = event_text(&a, seen->from, IPC_ADDRESS_MAX)};
    struct event_head head = head_of(s, EV_smtp_received);
    head.time_ms = now_ms;
    int rc = rcpts != NULL ? event_encode(&head, &e, out) : -ENOMEM;
    arena_done(&a);
    return rc;
}
