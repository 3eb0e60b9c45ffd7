/* RCPT TO: is this recipient ours, and may it receive? The directory answers from memory; for each account that gets the message, stored is
 * asked for a deliver grant, which reserves room. No database is touched here. */
#include "base/clock.h"
#include "base/log.h"
#include "role/authd/authd.h"

/* One grant for the smtpd process that asks, for the life of its connection. */
static enum rcpt_verdict MAY_YIELD get_grant(const struct ipc_request *rq, const struct m_rcpt_check *q, uint64_t account, uint64_t *ret_grant)
{
    struct m_grant_deliver request = {
        .account = account,
        .holder_role = rq->from,
        .holder_instance = rq->from_instance,
        .conn = q->conn,
        .size = q->size,
        .lifetime_ms = (uint64_t)role_context()->conf->smtp_session_timeout,
    };
    struct m_grant_deliver_reply reply = {0};
    struct err err = {0};
    int rc = authd_ask_stored(IPC_grant_deliver, rq->trace, rq->deadline, &request, &reply, rq->arena, &err);
    if (rc != 0) {
        log_warning("rcpt.no_grant", L_ID("conn", q->conn), L_INT("account", account), L_STR("text", err.text));
        return RCPT_TEMPORARY;
    }
    *ret_grant = reply.grant;
    return (enum rcpt_verdict)reply.verdict;
}

/* A list is all or nothing: one member that cannot take the message now puts it off for all, for what was accepted for a list must not
 * be lost for one of them, and the sender has no way to repeat it for that one alone. */
static enum rcpt_verdict MAY_YIELD get_grants(const struct ipc_request *rq, const struct m_rcpt_check *q, const struct directory_answer *ans,
                                              struct m_rcpt_target *targets, size_t *ret_n)
{
    for (*ret_n = 0; *ret_n < ans->n_targets; ++*ret_n) {
        const struct directory_target *t = &ans->targets[*ret_n];
        struct m_rcpt_target *target = &targets[*ret_n];
        *target = (struct m_rcpt_target){.account = t->account, .address = t->address, .detail = t->detail};
        enum rcpt_verdict v = get_grant(rq, q, t->account, &target->grant);
        if (v != RCPT_OK)
            return v;
    }
    return RCPT_OK;
}

int authd_rcpt_check(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_rcpt_check *q = request;
    struct m_rcpt_check_reply *r = reply;
    struct directory_answer ans;
    int rc = authd_wait_ready(rq, err);
    if (rc != 0)
        return rc;
    rc = directory_resolve(authd()->directory, &authd()->rules, q->address, rq->arena, &ans);
    if (rc != 0)
        return err_set(err, rc, "out of memory");
    r->verdict = ans.verdict;
    r->canonical = ans.canonical;
    if (ans.verdict != RCPT_OK)
        return 0;
    struct m_rcpt_target *targets = arena_array(rq->arena, ans.n_targets, sizeof(*targets));
    if (targets == NULL)
        return err_set(err, -ENOMEM, "out of memory");
    /* The grants that were given before one was refused go along: only their holder, who asks, can give them back. */
    size_t n;
    r->verdict = get_grants(rq, q, &ans, targets, &n);
    r->targets = (struct record_list){n, targets};
    return 0;
}
