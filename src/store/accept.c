/* Accepting mail: see store.h. Admission (accounts, mailboxes, quota, duplicates) is decided here, in the loop; the rest is a job. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "store/store_priv.h"

static int check_limits(const struct store_accept *a, struct err *err)
{
    if (a->n_rcpts == 0 || a->n_rcpts > STORE_RCPT_MAX)
        return err_set(err, ERR_LIMIT, "wrong number of recipients");
    if (a->common.n > STORE_COMMON_MAX || a->meta.n > STORE_META_MAX || a->event.n > STORE_EVENT_MAX || a->sender.n > STORE_SENDER_MAX ||
        (a->body_fd >= 0 ? a->body_size : a->body.n) > STORE_BODY_MAX)
        return err_set(err, ERR_LIMIT, "a part of the message is too large to store");
    if (!utf8_valid(a->sender))
        return err_set(err, ERR_SYNTAX, "the sender is not UTF-8");
    for (size_t i = 0; i < a->n_rcpts; i++) {
        const struct store_rcpt *r = &a->rcpts[i];
        if (r->prefix.n > STORE_PREFIX_MAX || r->n_keywords > STORE_KEYWORDS_MAX)
            return err_set(err, ERR_LIMIT, "a recipient's lines are too long to store");
        for (size_t k = 0; k < r->n_keywords; k++)
            if (r->keywords[k].n > STORE_KEYWORD_MAX || !utf8_valid(r->keywords[k]))
                return err_set(err, ERR_LIMIT, "a keyword is too long");
    }
    return 0;
}

/* The same id again: what was said the first time. -ENOENT: it is new. ERR_SYNTAX: it was another number of recipients. */
static int find_recent(struct store *s, struct id128 message, int *statuses, size_t n)
{
    struct ikey k = ikey_id(message);
    MDB_txn *t;
    struct slice v;
    uint64_t sequence;
    uint32_t status;
    int rc = index_read_begin(s->x, &t);
    if (rc != 0)
        return rc;
    rc = index_get(s->x, t, INDEX_RECENT, &k, &v);
    if (rc == 0 && (!slice_get_u64(&v, &sequence) || v.n != 4 * n))
        rc = ERR_SYNTAX;
    for (size_t i = 0; rc == 0 && i < n && slice_get_u32(&v, &status); i++)
        statuses[i] = -(int)status;
    index_read_end(s->x, t);
    return rc;
}

static int answer_again(struct store *s, struct store_accept *a)
{
    int *statuses = calloc(a->n_rcpts, sizeof(*statuses));
    int rc = statuses != NULL ? find_recent(s, a->message, statuses, a->n_rcpts) : -ENOMEM;
    for (size_t i = 0; rc == 0 && i < a->n_rcpts; i++)
        a->rcpts[i].status = statuses[i];
    free(statuses);
    return rc;
}

static int admit_rcpt(struct store *s, MDB_txn *t, const struct store_accept *a, struct store_rcpt *r, struct prepare_rcpt *out)
{
    struct index_account row;
    uint64_t size = r->prefix.n + a->common.n + (a->body_fd >= 0 ? a->body_size : a->body.n);
    const struct pending *p = pending_find(s, r->account);
    int rc = store_account_row(s, t, r->account, &row);
    if (rc != 0)
        return rc;
    uint64_t used = row.used + (p != NULL ? p->bytes : 0);
    bool fits = used <= row.quota && size <= row.quota - used;
    if (row.quota != 0 && !fits && !(r->may_exceed && used < row.quota))
        return ERR_QUOTA;
    const uint8_t *key = keys_account(s->keys, r->account);
    if (key == NULL)
        return ERR_CORRUPT;
    *out = (struct prepare_rcpt){.rcpt = r, .mailbox = r->mailbox != 0 ? r->mailbox : STORE_INBOX};
    if (r->mailbox == 0 && r->name.n > 0)
        rc = store_mailbox_by_name(s, t, r->account, r->name, &out->mailbox);
    memcpy(out->key, key, KEYS_SIZE);
    out->save_ms = r->save_ms != 0 ? r->save_ms : clock_real_ms();
    return rc;
}

static int admit(struct store *s, struct store_accept *a, struct job *j)
{
    MDB_txn *t;
    int rc = index_read_begin(s->x, &t);
    if (rc != 0)
        return rc;
    struct slice old_body;
    struct ikey body = ikey_id(a->message);
    j->own_body_id = index_get(s->x, t, INDEX_BODIES, &body, &old_body) == 0;
    for (size_t i = 0; i < a->n_rcpts && rc == 0; i++) {
        struct store_rcpt *r = &a->rcpts[i];
        struct prepare_rcpt *p = &j->rcpts[j->n_rcpts];
        r->status = admit_rcpt(s, t, a, r, p);
        r->uid = r->uidvalidity = 0;
        r->message = 0;
        if (r->status != 0)
            continue;
        p->lane = (uint32_t)i;
        j->n_rcpts++;
        rc = job_touch(j, r->account, r->prefix.n + a->common.n + (a->body_fd >= 0 ? a->body_size : a->body.n));
    }
    index_read_end(s->x, t);
    return rc;
}

static void take_uids(struct job *j)
{
    for (size_t i = 0; i < j->n_rcpts && i < j->result.n_places; i++) {
        struct store_rcpt *r = j->rcpts[i].rcpt;
        const struct apply_place *p = &j->result.places[i];
        r->uid = p->uid;
        r->uidvalidity = p->uidvalidity;
        r->message = p->message;
    }
}

/* Another call with this id is under way: its answer is ours. */
static int MAY_YIELD wait_twin(struct store *s, struct id128 message)
{
    while (map_get(&s->in_flight, MAP_KEY(message)) != NULL) {
        store_kick(s);
        int rc = fiber_wait(&s->applied_queue, clock_deadline(60000));
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int MAY_YIELD accept_new(struct store *s, struct store_accept *a, struct err *err)
{
    struct job *j;
    int rc = job_new(s, JOURNAL_ACCEPT, &j);
    if (rc != 0)
        return rc;
    j->accept = a;
    j->event = a->event;
    j->want_applied = a->want_uids;
    j->rcpts = calloc(a->n_rcpts, sizeof(*j->rcpts));
    rc = j->rcpts != NULL ? admit(s, a, j) : -ENOMEM;
    if (rc == 0 && j->n_rcpts > 0 && !id_is_zero(a->message)) {
        rc = map_put(&s->in_flight, MAP_KEY(a->message), j, NULL);
        if (rc == 0)
            j->message = a->message;
    }
    if (rc == 0 && j->n_rcpts > 0) {
        rc = job_run(j, err);
        if (rc == 0 && a->want_uids)
            take_uids(j);
    } else if (rc != 0) {
        (void)err_set(err, rc, "the message cannot be stored now: %s", err_name(rc));
    }
    job_done(j);
    return rc;
}

int MAY_YIELD store_accept(struct store *s, struct store_accept *a, struct err *err)
{
    int rc = check_limits(a, err);
    if (rc == 0)
        rc = job_admit(s, false, err);
    /* Mailboxes that are given by name must be visible. */
    for (size_t i = 0; i < a->n_rcpts && rc == 0; i++)
        if (a->rcpts[i].name.n > 0)
            rc = store_visible(s, a->rcpts[i].account);
    if (rc == 0 && !id_is_zero(a->message))
        rc = wait_twin(s, a->message);
    if (rc != 0)
        return err_set(err, rc, "the message cannot be stored now: %s", err_name(rc));
    /* From here to the in_flight entry nothing yields. */
    if (!id_is_zero(a->message)) {
        rc = answer_again(s, a);
        if (rc != -ENOENT)
            return rc == 0 ? 0 : err_set(err, rc, "the message id was used for another message");
    }
    return accept_new(s, a, err);
}

bool MAY_YIELD store_accept_recall(struct store *s, struct id128 message, int *ret_statuses, size_t n)
{
    return s->started && !id_is_zero(message) && wait_twin(s, message) == 0 && find_recent(s, message, ret_statuses, n) == 0;
}
