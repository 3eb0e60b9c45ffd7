/* From the last octet of a message to the answer: inspection by filterd, one durable commit by stored, the answers (RFC 5321 4.1.1.4; in
 * LMTP one for each recipient, RFC 2033 4.2). 250 is said only after the commit. */
#include "base/clock.h"
#include "ipc/ipc.h"
#include "proto/smtp/session_priv.h"

#define REGRANT_TRIES 2 /* stored has begun anew and knows no grants: ask for new ones */
#define INLINE_FRAME_MAX (150 * 1024) /* body, recipients and the rest of an accept in one frame; IPC_FRAME_MAX is more */

int smtp_answer_all(struct smtp_session *s, const struct smtp_answer *a)
{
    int rc = 0;
    size_t n = s->lmtp ? s->tx->n_rcpts : 1;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = smtp_reply_answer(s, a);
    return rc;
}

static int refuse(struct smtp_session *s, const struct smtp_answer *a)
{
    smtp_trail_message_refused(s, a);
    return smtp_answer_all(s, a);
}

/* --- inspection --- */

/* 0, or *a says why not. */
static int inspect(struct smtp_session *s, struct m_inspect_reply *seen, struct smtp_answer *a)
{
    struct smtp_tx *tx = s->tx;
    struct m_inspect rq = {.message = tx->message, .peer_ip = slice_str(s->client_ip), .sender = tx->sender.address, .size = tx->body.size,
                           .helo = event_text(&tx->arena, slice_str(s->helo), 1024), .body = buf_slice(&tx->body.head),
                           .body_fd = tx->body.fd};
    int rc = s->backend->inspect(s->arg, &tx->arena, &rq, seen);
    if (rc != 0 || seen->verdict == INSPECT_DEFER) {
        smtp_answer_set(a, 451, "4.3.0", "The message cannot be inspected at the moment; try again later");
        return ERR_DENIED;
    }
    if (seen->verdict == INSPECT_REJECT) {
        bool stated = seen->code >= 400 && seen->code <= 599 && seen->text.n > 0;
        smtp_answer_set(a, stated ? (unsigned)seen->code : 554, "", "%.*s", SLICE_ARG(stated ? seen->text : SLICE("Refused")));
        (void)snprintf(a->enhanced, sizeof(a->enhanced), "%.*s", SLICE_ARG(stated ? seen->enhanced : SLICE("5.7.1")));
        return ERR_DENIED;
    }
    if (seen->received_count > s->set->max_received) {
        smtp_answer_set(a, 554, "5.4.6", "The message goes in a circle: it has %llu Received fields",
                        (unsigned long long)seen->received_count);
        return ERR_DENIED;
    }
    return 0;
}

/* --- the commit --- */

static struct record_list accept_rcpts(struct smtp_tx *tx)
{
    size_t n = 0;
    struct m_accept_rcpt *list = arena_array(&tx->arena, tx->n_targets, sizeof(*list));
    for (size_t i = 0; list != NULL && i < tx->n_targets; i++)
        if (!tx->targets[i].out)
            list[n++] = (struct m_accept_rcpt){.account = tx->targets[i].account, .grant = tx->targets[i].grant, .mailbox = SLICE("INBOX"),
                                               .prefix = tx->targets[i].prefix};
    return (struct record_list){n, list};
}

static size_t count_status(const struct smtp_tx *tx, enum accept_status status)
{
    size_t n = 0;
    for (size_t i = 0; i < tx->n_targets; i++)
        n += !tx->targets[i].out && tx->targets[i].status == status;
    return n;
}

static int accept_once(struct smtp_session *s, struct m_accept *rq)
{
    struct smtp_tx *tx = s->tx;
    struct m_accept_reply reply = {{0}};
    size_t n = 0;
    rq->rcpts = accept_rcpts(tx);
    if (rq->rcpts.items == NULL)
        return -ENOMEM;
    int rc = s->backend->accept(s->arg, &tx->arena, rq, &reply);
    if (rc == 0 && reply.results.n != rq->rcpts.n)
        rc = ERR_SYNTAX;
    for (size_t i = 0; rc == 0 && i < tx->n_targets; i++)
        if (!tx->targets[i].out)
            tx->targets[i].status = RECORD_ITEM(reply.results, m_accept_result, n++)->status;
    return rc;
}

/* New grants for the same accounts: a recipient that is not what it was keeps its old, dead grant. */
static int regrant(struct smtp_session *s)
{
    struct smtp_tx *tx = s->tx;
    for (size_t i = 0; i < tx->n_rcpts; i++) {
        struct m_rcpt_check rq = {.conn = s->conn, .message = tx->message, .address = tx->rcpts[i].given, .size = tx->body.size};
        struct m_rcpt_check_reply reply = {.canonical = SLICE_EMPTY};
        int rc = s->backend->rcpt_check(s->arg, &tx->arena, &rq, &reply);
        if (rc != 0)
            return rc;
        for (size_t j = 0; j < reply.targets.n; j++) {
            const struct m_rcpt_target *t = RECORD_ITEM(reply.targets, m_rcpt_target, j);
            size_t k = 0;
            while (k < tx->n_targets && tx->targets[k].account != t->account)
                k++;
            if (reply.verdict == RCPT_OK && k < tx->n_targets && tx->targets[k].status == ACCEPT_NO_GRANT) {
                tx->targets[k].grant = t->grant;
                tx->targets[k].status = ACCEPT_TEMPORARY; /* a second recipient may mean the same account */
            } else {
                s->backend->grant_drop(s->arg, t->grant);
            }
        }
        if (reply.verdict != RCPT_OK)
            return ERR_DENIED;
    }
    return 0;
}

/* The same message id each time: stored does it once. */
static int commit(struct smtp_session *s, struct m_accept *rq)
{
    int rc = accept_once(s, rq);
    for (int i = 0; i < REGRANT_TRIES && rc == 0 && count_status(s->tx, ACCEPT_OK) == 0 && count_status(s->tx, ACCEPT_NO_GRANT) > 0; i++) {
        rc = regrant(s);
        if (rc == 0)
            rc = accept_once(s, rq);
    }
    return rc;
}

/* LMTP can tell each recipient its own: who cannot take the message is left out. false: nobody is left, or everybody has it. */
static bool leave_out(struct smtp_session *s)
{
    struct smtp_tx *tx = s->tx;
    size_t left = 0, now_out = 0;
    for (size_t i = 0; i < tx->n_targets; i++) {
        struct smtp_target *t = &tx->targets[i];
        bool cannot = t->status == ACCEPT_FULL || t->status == ACCEPT_NO_GRANT;
        now_out += cannot && !t->out;
        t->out = t->out || cannot;
        left += !t->out;
    }
    return s->lmtp && now_out > 0 && left > 0;
}

/* Event and commit for all who are not out. What is committed is committed for all of them or for none. */
static int keep_for(struct smtp_session *s, const struct m_inspect_reply *seen, int64_t now, struct slice prefix)
{
    struct smtp_tx *tx = s->tx;
    struct buf event;
    buf_init(&event, IPC_EVENT_MAX);
    int rc = smtp_trail_received(s, seen, now, &event);
    if (rc == 0 && !buf_ok(&event))
        rc = -ENOMEM;
    if (rc == 0) {
        struct m_accept rq = {.message = tx->message, .received_ms = (uint64_t)now, .sender = tx->sender.address, .prefix = prefix,
                              .meta = seen->meta, .event = buf_slice(&event), .size = tx->body.size, .body = buf_slice(&tx->body.head),
                              .body_fd = tx->body.fd, .all = 1};
        rc = commit(s, &rq);
    }
    buf_done(&event);
    return rc;
}

/* Trace fields, event, commit. 0: each target has its status. */
static int keep(struct smtp_session *s, const struct m_inspect_reply *seen)
{
    int64_t now = clock_real_ms();
    struct buf prefix;
    int rc;
    buf_init(&prefix, IPC_HEADERS_MAX);
    buf_put_slice(&prefix, seen->headers);
    smtp_trace_received(s, now, &prefix);
    do {
        rc = buf_ok(&prefix) ? keep_for(s, seen, now, buf_slice(&prefix)) : -ENOMEM;
    } while (rc == 0 && leave_out(s));
    buf_done(&prefix);
    return rc;
}

/* --- the answers --- */

static void status_answer(const struct smtp_session *s, uint64_t status, struct smtp_answer *a)
{
    char id[ID_TEXT_SIZE];
    id_print(s->tx->message, id);
    if (status == ACCEPT_OK)
        smtp_answer_set(a, 250, "2.0.0", "Written down and kept as %s", id);
    else if (status == ACCEPT_FULL)
        smtp_answer_set(a, 452, "4.2.2", "A mailbox is full; try again later");
    else
        smtp_answer_set(a, 451, "4.3.0", "The message cannot be kept at the moment; try again later");
}

/* The worst of a recipient's mailboxes. */
static uint64_t rcpt_status(const struct smtp_tx *tx, const struct smtp_rcpt *r)
{
    uint64_t worst = ACCEPT_OK;
    for (size_t i = 0; i < r->n_targets; i++)
        if (tx->targets[r->targets[i]].status > worst)
            worst = tx->targets[r->targets[i]].status;
    return worst;
}

static int answer_each(struct smtp_session *s)
{
    struct smtp_tx *tx = s->tx;
    struct smtp_answer a;
    int rc = 0;
    for (size_t i = 0; i < tx->n_rcpts && rc == 0; i++) {
        uint64_t status = rcpt_status(tx, &tx->rcpts[i]);
        status_answer(s, status, &a);
        if (status != ACCEPT_OK)
            smtp_trail_rcpt(s, false, tx->rcpts[i].given, &a);
        rc = smtp_reply_answer(s, &a);
    }
    return rc;
}

/* One answer for all (RFC 5321): stored keeps the message for all or for none. Where one mailbox filled up since RCPT the sender tries again
 * and hears it then at RCPT. */
static int answer_one(struct smtp_session *s)
{
    struct smtp_tx *tx = s->tx;
    struct smtp_answer a;
    bool full = false;
    for (size_t i = 0; i < tx->n_targets; i++)
        full = full || tx->targets[i].status == ACCEPT_FULL;
    if (count_status(tx, ACCEPT_OK) == tx->n_targets) {
        status_answer(s, ACCEPT_OK, &a);
        return smtp_reply_answer(s, &a);
    }
    status_answer(s, full ? ACCEPT_FULL : ACCEPT_TEMPORARY, &a);
    return refuse(s, &a);
}

static bool must_use_fd(const struct smtp_tx *tx)
{
    return tx->body.size > IPC_INLINE_MAX || tx->body.size + tx->rcpt_bytes + IPC_META_MAX + IPC_HEADERS_MAX + IPC_EVENT_MAX > INLINE_FRAME_MAX;
}

int smtp_deliver(struct smtp_session *s)
{
    struct smtp_tx *tx = s->tx;
    struct m_inspect_reply seen = {.headers = SLICE_EMPTY, .meta = SLICE_EMPTY, .message_id = SLICE_EMPTY, .from = SLICE_EMPTY,
                                   .text = SLICE_EMPTY, .enhanced = SLICE_EMPTY};
    struct smtp_answer a;
    if (smtp_body_finish(&tx->body, must_use_fd(tx)) != 0) {
        smtp_answer_set(&a, 451, "4.3.0", "No memory for the message; try again later");
        return refuse(s, &a);
    }
    if (inspect(s, &seen, &a) != 0)
        return refuse(s, &a);
    if (keep(s, &seen) != 0) {
        status_answer(s, ACCEPT_TEMPORARY, &a);
        return refuse(s, &a);
    }
    tx->accepted = count_status(tx, ACCEPT_OK) > 0;
    return s->lmtp ? answer_each(s) : answer_one(s);
}
