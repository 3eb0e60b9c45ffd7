/* read.c: mailboxes under a mailbox grant: opening, locking, listing, where messages are, expunge, flags. The grant is looked up
 * before anything is touched, and again before an answer that took a wait is given: a revoked session gets nothing more. */
#include "base/clock.h"
#include "role/stored/stored.h"

/* Which request this is and under what. */
struct reading {
    struct ipc_request *rq;
    const char *name;
    uint64_t grant;
    unsigned rights;
    struct store_account account;
    uint32_t mailbox;
};

static int MAY_YIELD begin(struct reading *r, uint64_t mailbox, struct err *err)
{
    int rc = stored_wait(r->rq, err);
    if (rc < 0)
        return rc;
    const struct grant *g = stored_mailbox_grant(r->rq, r->grant, r->rights, r->name, err);
    if (g == NULL)
        return ERR_DENIED;
    if (mailbox > UINT32_MAX)
        return err_set(err, -ENOENT, "no such mailbox");
    r->account = STORE_ACCOUNT(g->account);
    r->mailbox = (uint32_t)mailbox;
    return 0;
}

/* After a wait. rc: how it went. */
static int end(const struct reading *r, int rc, struct err *err)
{
    if (rc == 0 && stored_mailbox_grant(r->rq, r->grant, r->rights, r->name, err) == NULL)
        return ERR_DENIED;
    return rc < 0 && (err == NULL || err->code != rc) ? err_set(err, rc, "%s: %s", r->name, err_name(rc)) : rc;
}

int stored_mailbox_open(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_mailbox_open *q = request;
    struct m_mailbox_open_reply *r = reply;
    struct reading c = {.rq = rq, .name = "mailbox_open", .grant = q->grant, .rights = GRANT_READ};
    struct store_mailbox m;
    int rc = begin(&c, 0, err);
    if (rc == 0)
        rc = end(&c, store_mailbox_find(stored()->store, c.account, q->name, &m), err);
    if (rc == 0)
        *r = (struct m_mailbox_open_reply){.mailbox = m.id, .uidvalidity = m.uidvalidity, .uidnext = m.uidnext, .messages = m.messages,
                                           .modseq = m.modseq, .bytes = m.bytes};
    return rc;
}

int stored_mailbox_lock(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_mailbox_lock *q = request;
    struct grant *g = stored_mailbox_grant(rq, q->grant, GRANT_READ, "mailbox_lock", err);
    (void)reply;
    if (g == NULL)
        return ERR_DENIED;
    int rc = grants_lock(g, q->mailbox);
    return rc < 0 ? err_set(err, rc, rc == -EBUSY ? "another session has the maildrop" : "it cannot be locked") : 0;
}

int stored_mailbox_list(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_mailbox_list *q = request;
    struct m_mailbox_list_reply *r = reply;
    struct reading c = {.rq = rq, .name = "mailbox_list", .grant = q->grant, .rights = GRANT_READ};
    uint32_t after = q->after < UINT32_MAX ? (uint32_t)q->after : UINT32_MAX;
    int rc = begin(&c, q->mailbox, err);
    if (rc == 0)
        rc = end(&c, store_entries_memfd(stored()->store, c.account, c.mailbox, after, q->max, &r->entries, &r->count), err);
    return rc;
}

/* ---- messages ---- */

/* The list as the store wants it. NULL: no memory. A number that is no uid becomes 0, which no message has. */
static uint32_t *uids_of(const struct record_list *l, struct arena *a)
{
    uint32_t *uids = arena_array(a, l->n, sizeof(*uids));
    for (size_t i = 0; uids != NULL && i < l->n; i++) {
        uint64_t uid = RECORD_ITEM(*l, m_message_uid, i)->uid;
        uids[i] = uid <= UINT32_MAX ? (uint32_t)uid : 0;
    }
    return uids;
}

/* As many places as fit into an answer, at least one: the caller asks again for the rest. The key slices point at the places, which
 * live in the request's arena and are wiped with it. */
static int answer_places(const struct store_place *places, size_t n, struct arena *a, struct record_list *ret)
{
    struct m_message_place *out = arena_array(a, n, sizeof(*out));
    size_t bytes = 0, i;
    if (out == NULL)
        return -ENOMEM;
    for (i = 0; i < n; i++) {
        const struct store_place *p = &places[i];
        out[i] = (struct m_message_place){.uid = p->uid};
        if (p->status == 0) {
            bytes += p->prefix.n + p->meta.n;
            if (bytes > STORED_LOCATE_BYTES && i > 0)
                break;
            out[i] = (struct m_message_place){.uid = p->uid, .segment = p->segment, .offset = p->offset, .stored_size = p->stored_size,
                                              .body_size = p->body_size, .message = p->body, .codec = p->codec, .key = slice_of(p->key, sizeof(p->key)),
                                              .prefix = p->prefix, .meta = p->meta};
        }
    }
    *ret = (struct record_list){i, out};
    return 0;
}

int stored_message_locate(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_message_locate *q = request;
    struct m_message_locate_reply *r = reply;
    struct reading c = {.rq = rq, .name = "message_locate", .grant = q->grant, .rights = GRANT_READ};
    int rc = begin(&c, q->mailbox, err);
    if (rc < 0)
        return rc;
    uint32_t *uids = uids_of(&q->uids, rq->arena);
    struct store_place *places = arena_array(rq->arena, q->uids.n, sizeof(*places));
    if (uids == NULL || places == NULL)
        return -ENOMEM;
    rq->arena->secret = true;
    rc = store_locate(stored()->store, c.account, c.mailbox, uids, q->uids.n, q->want_meta != 0, rq->arena, places);
    rc = end(&c, rc, err);
    return rc == 0 ? answer_places(places, q->uids.n, rq->arena, &r->places) : rc;
}

int stored_segment_open(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_segment_open *q = request;
    struct m_segment_open_reply *r = reply;
    struct reading c = {.rq = rq, .name = "segment_open", .grant = q->grant, .rights = GRANT_READ};
    int rc = begin(&c, 0, err);
    if (rc == 0)
        rc = end(&c, store_segment_open(stored()->store, q->segment, &r->file), err);
    return rc;
}

int stored_mailbox_expunge(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_mailbox_expunge *q = request;
    struct m_mailbox_expunge_reply *r = reply;
    struct reading c = {.rq = rq, .name = "mailbox_expunge", .grant = q->grant, .rights = GRANT_EXPUNGE};
    int rc = begin(&c, q->mailbox, err);
    if (rc == 0)
        rc = stored_event_check(rq, q->event, EV_mail_expunged, err);
    if (rc < 0)
        return rc;
    uint32_t *uids = uids_of(&q->uids, rq->arena);
    if (uids == NULL)
        return -ENOMEM;
    /* Done is done: a grant revoked meanwhile does not make the answer untrue. */
    return store_expunge(stored()->store, c.account, c.mailbox, uids, q->uids.n, q->event, &r->expunged, &r->modseq, err);
}

int stored_mailbox_flags(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_mailbox_flags *q = request;
    struct m_mailbox_flags_reply *r = reply;
    struct reading c = {.rq = rq, .name = "mailbox_flags", .grant = q->grant, .rights = GRANT_CHANGE};
    struct store_flags f = {.add = (uint32_t)(q->add & STORE_FLAGS_ALL), .remove = (uint32_t)(q->remove & STORE_FLAGS_ALL)};
    uint64_t changed;
    int rc = begin(&c, q->mailbox, err);
    if (rc == 0 && ((q->add | q->remove) & ~(uint64_t)STORE_FLAGS_ALL) != 0)
        rc = err_set(err, ERR_SYNTAX, "unknown flags");
    if (rc < 0)
        return rc;
    uint32_t *uids = uids_of(&q->uids, rq->arena);
    if (uids == NULL)
        return -ENOMEM;
    return store_flags(stored()->store, c.account, c.mailbox, uids, q->uids.n, &f, &changed, &r->modseq, err);
}
