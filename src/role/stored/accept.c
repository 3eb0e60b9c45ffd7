/* accept.c: one durable commit for all recipients of a message, each under a deliver grant that is used up by it.
 *
 * A deliver grant serves one message: from the moment an accept uses it, it is tied to that message's id, so that the same request
 * again (the sender of the first did not see the answer in time) is the same commit, and any other message is refused. What fails for all
 * recipients (read-only store, full disk, full outbox, no memory) leaves the grants as they were. */
#include "base/clock.h"
#include "base/log.h"
#include "role/role_main.h"
#include "role/stored/stored.h"

/* A recipient whose grant is good: its place in the request, its grant and what that had reserved. again: the same message is being
 * committed under this grant already. */
struct taken {
    size_t which;
    uint64_t grant, reserved;
    bool again;
};

struct accepting {
    struct ipc_request *rq;
    const struct m_accept *q;
    uint64_t number; /* of this request: a grant serves one recipient of it */
    struct m_accept_result *results; /* one a recipient of the request */
    struct store_rcpt *rcpts;        /* those whose grants are good, */
    struct taken *taken;             /* in the same order */
    size_t n;
};

/* What can only come from a smtpd that does not keep to the rules. */
static int check_form(const struct accepting *a, struct err *err)
{
    const struct m_accept *q = a->q;
    if (id_is_zero(q->message) || q->rcpts.n == 0)
        return err_set(err, ERR_SYNTAX, "an accept without message id or recipients");
    if (q->body_fd < 0 && q->size != q->body.n)
        return err_set(err, ERR_SYNTAX, "an inline body of another size than told");
    if (q->body_fd >= 0 && q->body.n != 0)
        return err_set(err, ERR_SYNTAX, "two bodies");
    if (q->body_fd >= 0) {
        int rc = ipc_memfd_check(q->body_fd, q->size);
        if (rc < 0)
            return err_set(err, rc, "the body is not a sealed memfd of the size told");
    }
    if (q->event.n == 0)
        return err_set(err, ERR_SYNTAX, "an accept without its event");
    return stored_event_check(a->rq, q->event, EV_smtp_received, err);
}

/* Whether new mail can be taken at all. */
static int check_state(struct err *err)
{
    if (store_is_readonly(stored()->store)) {
        role_alert("stored.readonly", "the store takes no mail: a write or sync has failed");
        return err_set(err, ERR_READONLY, "the store takes no mail now");
    }
    if (outbox_is_full()) {
        role_alert("stored.outbox_full", "mail is put off: too many events wait for the audit trail");
        return err_set(err, -EBUSY, "the audit trail is behind");
    }
    return 0;
}

static uint64_t status_of(int code)
{
    return code == 0 ? ACCEPT_OK : code == ERR_QUOTA ? ACCEPT_FULL : ACCEPT_TEMPORARY;
}

static int make_room(struct accepting *a, struct m_accept_reply *r)
{
    size_t n = a->q->rcpts.n;
    a->results = arena_array(a->rq->arena, n, sizeof(*a->results));
    a->rcpts = arena_array(a->rq->arena, n, sizeof(*a->rcpts));
    a->taken = arena_array(a->rq->arena, n, sizeof(*a->taken));
    if (a->results == NULL || a->rcpts == NULL || a->taken == NULL)
        return -ENOMEM;
    r->results = (struct record_list){n, a->results};
    return 0;
}

/* ---- grants ---- */

static struct grant *good_grant(const struct accepting *a, const struct m_accept_rcpt *rcpt)
{
    struct grant_holder h = stored_holder(a->rq);
    enum grant_reason reason;
    uint64_t account;
    struct grant *g = grants_find(&stored()->grants, rcpt->grant, &h, GRANT_DELIVER, 0, clock_mono_ms(), &reason, &account);
    if (g != NULL && g->account != rcpt->account)
        reason = GRANT_WRONG_ACCOUNT;
    else if (g != NULL && (g->use == a->number || (!id_is_zero(g->message) && !id_eq(g->message, a->q->message))))
        reason = GRANT_IN_USE;
    if (reason == GRANT_OBEYED)
        return g;
    (void)stored_denied(a->rq, account, "accept", reason, NULL);
    return NULL;
}

/* A sender that told no size was promised room at RCPT: its message is taken whole as long as the account is not full. (Else one small
 * mailbox would hold the message up for all recipients, again and again.) */
static bool size_was_told(const struct grant *g)
{
    return g->reserved != 0;
}

/* What the copies of this request that were taken so far need of the account: not a promise but a fact. */
static uint64_t needed(const struct accepting *a, uint64_t account)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < a->n; i++)
        if (a->rcpts[i].account.id == account)
            sum += grants_get(&stored()->grants, a->taken[i].grant)->reserved;
    return sum;
}

/* Whether the message fits beside what is kept and what others have reserved. */
static enum accept_status capacity(const struct accepting *a, const struct grant *g, uint64_t size)
{
    struct store_account_info info;
    if (store_account_get(stored()->store, STORE_ACCOUNT(g->account), &info) < 0)
        return ACCEPT_TEMPORARY;
    uint64_t ours = needed(a, g->account), others = grants_reserved(&stored()->grants, g->account) - g->reserved - ours;
    uint64_t room = stored_room(info.quota, info.used + ours, others);
    return size <= room || (!size_was_told(g) && room > 0) ? ACCEPT_OK : ACCEPT_FULL;
}

static void take_grants(struct accepting *a)
{
    const struct m_accept *q = a->q;
    for (size_t i = 0; i < q->rcpts.n; i++) {
        const struct m_accept_rcpt *rcpt = RECORD_ITEM(q->rcpts, m_accept_rcpt, i);
        struct grant *g = good_grant(a, rcpt);
        bool again = g != NULL && !id_is_zero(g->message);
        uint64_t size = rcpt->prefix.n + q->prefix.n + q->size;
        a->results[i].status = g == NULL ? ACCEPT_NO_GRANT : again ? ACCEPT_OK : capacity(a, g, size);
        if (a->results[i].status != ACCEPT_OK)
            continue;
        a->rcpts[a->n] = (struct store_rcpt){.account = STORE_ACCOUNT(rcpt->account), .name = rcpt->mailbox, .prefix = rcpt->prefix,
                                             .flags = STORE_RECENT, .may_exceed = again || !size_was_told(g)};
        a->taken[a->n++] = (struct taken){i, g->id, g->reserved, again};
        g->message = q->message;
        g->use = a->number;
        if (!again)
            grants_reserve(g, size); /* seen by the next recipient, which may be the same account */
    }
}

/* From here on the store counts the message as used, until it is known how the commit ended. */
static void pass_reservations(const struct accepting *a)
{
    for (size_t i = 0; i < a->n; i++)
        grants_reserve(grants_get(&stored()->grants, a->taken[i].grant), 0);
}

/* The grants may have vanished while the commit was under way (holder dead, revoked): then there is nothing left to do. */
static void leave_grants(const struct accepting *a, bool committed)
{
    for (size_t i = 0; i < a->n; i++) {
        struct grant *g = grants_get(&stored()->grants, a->taken[i].grant);
        if (g != NULL && committed) {
            grants_end(&stored()->grants, g);
        } else if (g != NULL && !a->taken[i].again) {
            g->message = (struct id128){{0}};
            grants_reserve(g, a->taken[i].reserved);
        }
    }
}

static bool has_void_grant(const struct accepting *a)
{
    for (size_t i = 0; i < a->q->rcpts.n; i++)
        if (grants_get(&stored()->grants, RECORD_ITEM(a->q->rcpts, m_accept_rcpt, i)->grant) == NULL)
            return true;
    return false;
}

/* The same message again, after its grants were used up or before a restart: its sender did not see the answer. It gets the same
 * one; nothing is delivered, so no grant is needed. */
static bool MAY_YIELD recall(struct accepting *a)
{
    size_t n = a->q->rcpts.n;
    if (!has_void_grant(a))
        return false;
    int *statuses = arena_array(a->rq->arena, n, sizeof(*statuses));
    if (statuses == NULL || !store_accept_recall(stored()->store, a->q->message, statuses, n))
        return false;
    for (size_t i = 0; i < n; i++)
        a->results[i].status = status_of(statuses[i]);
    return true;
}

/* Somebody cannot take it and the sender can be told only one thing: nobody gets it, and the other grants stay good. */
static void take_none(struct accepting *a)
{
    leave_grants(a, false);
    for (size_t i = 0; i < a->n; i++)
        a->results[a->taken[i].which].status = ACCEPT_TEMPORARY;
    a->n = 0;
}

/* ---- the commit ---- */

static int MAY_YIELD commit(struct accepting *a, struct err *err)
{
    const struct m_accept *q = a->q;
    struct store_accept s = {.message = q->message, .received_ms = (int64_t)q->received_ms, .sender = q->sender, .common = q->prefix,
                             .meta = q->meta, .event = q->event, .body = q->body, .body_fd = q->body_fd, .body_size = q->size,
                             .rcpts = a->rcpts, .n_rcpts = a->n};
    pass_reservations(a);
    int rc = store_accept(stored()->store, &s, err);
    for (size_t i = 0; i < a->n; i++)
        a->results[a->taken[i].which] = (struct m_accept_result){.status = status_of(a->rcpts[i].status), .uid = a->rcpts[i].uid};
    return rc;
}

int stored_accept(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    struct accepting a = {.rq = rq, .q = request, .number = ++stored()->accepts};
    int rc = stored_wait(rq, err);
    if (rc == 0)
        rc = check_form(&a, err);
    if (rc == 0)
        rc = make_room(&a, reply);
    if (rc < 0 || recall(&a))
        return rc;
    rc = check_state(err);
    if (rc < 0)
        return rc;
    take_grants(&a);
    if (a.q->all != 0 && a.n < a.q->rcpts.n)
        take_none(&a);
    if (a.n == 0)
        return 0;
    rc = commit(&a, err);
    leave_grants(&a, rc == 0);
    return rc;
}

int stored_grant_drop(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_grant_drop *q = request;
    struct grant_holder h = stored_holder(rq);
    (void)reply;
    enum grant_reason reason = grants_drop(&stored()->grants, q->grant, &h);
    return reason == GRANT_OBEYED ? 0 : stored_denied(rq, 0, "grant_drop", reason, err);
}
