/* issue.c: what authd asks for: grants issued and revoked, accounts made, deleted and limited. Only authd may send these messages
 * (ipc/messages.h). */
#include "base/clock.h"
#include "base/log.h"
#include "role/stored/stored.h"

static int account_of(uint64_t id, struct store_account *ret, struct err *err)
{
    if (id == 0)
        return err_set(err, -ENOENT, "account 0");
    *ret = STORE_ACCOUNT(id);
    return 0;
}

/* ---- grants ---- */

/* Whether `size` octets more fit, beside what is kept and what other grants may keep free. Without a size, one octet must fit. */
static enum rcpt_verdict quota_verdict(const struct store_account_info *info, uint64_t reserved, uint64_t size)
{
    uint64_t want = size != 0 ? size : 1;
    if (want > GRANT_RESERVE_MAX || (info->quota != 0 && want > info->quota))
        return RCPT_TOO_BIG;
    return want <= stored_room(info->quota, info->used, reserved) ? RCPT_OK : RCPT_FULL;
}

int stored_grant_deliver(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_grant_deliver *q = request;
    struct m_grant_deliver_reply *r = reply;
    struct store_account_info info;
    struct store_account account;
    int rc = stored_wait(rq, err);
    if (rc == 0 && q->holder_role != ROLE_SMTPD)
        rc = err_set(err, ERR_DENIED, "a deliver grant for a role that delivers nothing");
    if (rc == 0)
        rc = account_of(q->account, &account, err);
    if (rc < 0)
        return rc;
    r->verdict = RCPT_TEMPORARY;
    if (store_is_readonly(stored()->store) || store_account_get(stored()->store, account, &info) < 0)
        return 0; /* authd knows an account that is not here (yet), or nothing can be kept now */
    r->verdict = quota_verdict(&info, grants_reserved(&stored()->grants, q->account), q->size);
    if (r->verdict != RCPT_OK)
        return 0;
    struct grant_request g = {.kind = GRANT_DELIVER, .holder_role = (enum role)q->holder_role, .holder_instance = q->holder_instance,
                              .conn = q->conn, .account = q->account, .reserve = q->size, .lifetime_ms = q->lifetime_ms};
    rc = grants_issue(&stored()->grants, &g, clock_mono_ms(), &r->grant, err);
    stored_sweep_later();
    return rc;
}

int stored_grant_mailbox(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_grant_mailbox *q = request;
    struct m_grant_mailbox_reply *r = reply;
    struct store_account_info info;
    struct store_account account;
    int rc = stored_wait(rq, err);
    if (rc == 0 && (q->holder_role != ROLE_IMAPD || q->rights == 0))
        rc = err_set(err, ERR_DENIED, "a mailbox grant for a role that reads none, or without rights");
    if (rc == 0)
        rc = account_of(q->account, &account, err);
    if (rc < 0)
        return rc;
    rc = store_account_get(stored()->store, account, &info);
    if (rc < 0)
        return err_set(err, rc, "the store has no account %llu", (unsigned long long)q->account);
    struct grant_request g = {.kind = GRANT_MAILBOX, .holder_role = (enum role)q->holder_role, .holder_instance = q->holder_instance,
                              .conn = q->conn, .account = q->account, .rights = (unsigned)q->rights, .lifetime_ms = q->lifetime_ms};
    rc = grants_issue(&stored()->grants, &g, clock_mono_ms(), &r->grant, err);
    stored_sweep_later();
    return rc;
}

/* The holder learns at once that its session has ended; its next request is refused whether it has read this or not. */
static void tell_holder(void *arg, const struct grant *g)
{
    struct m_grant_revoked note = {.grant = g->id, .conn = g->conn};
    (void)arg;
    if (g->holder.role == ROLE_IMAPD && ipc_note(ROLE_IMAPD, g->holder.instance, IPC_grant_revoked, g->conn, &note) < 0)
        log_warning("grant.revoked_untold", L_INT("instance", g->holder.instance), L_ID("conn", g->conn));
}

int stored_grant_revoke(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_grant_revoke *q = request;
    struct m_grant_revoke_reply *r = reply;
    (void)rq;
    (void)err;
    r->revoked = grants_revoke(&stored()->grants, q->account, q->deliver != 0, tell_holder, NULL);
    return 0;
}

/* ---- accounts ---- */

int stored_account_create(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_account_create *q = request;
    struct store_account account;
    (void)reply;
    int rc = stored_wait(rq, err);
    if (rc == 0)
        rc = account_of(q->account, &account, err);
    if (rc == 0 && q->tenant > UINT32_MAX)
        rc = err_set(err, ERR_LIMIT, "tenant %llu", (unsigned long long)q->tenant);
    if (rc == 0)
        rc = stored_event_check(rq, q->event, EV_account_created, err);
    if (rc < 0)
        return rc;
    account.tenant = (uint32_t)q->tenant;
    return store_account_create(stored()->store, account, q->quota, q->event, err);
}

int stored_account_delete(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_account_delete *q = request;
    struct store_account account;
    (void)reply;
    int rc = stored_wait(rq, err);
    if (rc == 0)
        rc = account_of(q->account, &account, err);
    if (rc == 0)
        rc = stored_event_check(rq, q->event, EV_account_deleted, err);
    if (rc < 0)
        return rc;
    (void)grants_revoke(&stored()->grants, q->account, true, tell_holder, NULL);
    return store_account_delete(stored()->store, account, q->event, err);
}

int stored_account_quota(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_account_quota *q = request;
    struct m_account_quota_reply *r = reply;
    struct store_account_info info;
    struct store_account account;
    int rc = stored_wait(rq, err);
    if (rc == 0)
        rc = account_of(q->account, &account, err);
    if (rc == 0 && q->set)
        rc = store_account_quota(stored()->store, account, q->quota, SLICE_EMPTY, err);
    if (rc < 0)
        return rc;
    rc = store_account_get(stored()->store, account, &info);
    if (rc < 0)
        return err_set(err, rc, "the store has no account %llu", (unsigned long long)q->account);
    *r = (struct m_account_quota_reply){.quota = info.quota, .used = info.used, .messages = info.messages};
    return 0;
}
