/* Changes of messages that are there: expunge, flags, copy. See store.h. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "store/store_priv.h"

/* Pairs (first, count) in the order of the request. */
static int make_runs(const uint32_t *uids, size_t n, struct buf *out)
{
    buf_init(out, 8 * STORE_UIDS_MAX);
    for (size_t i = 0; i < n;) {
        size_t k = i + 1;
        while (k < n && uids[k] == uids[i] + (uint32_t)(k - i))
            k++;
        buf_put_u32(out, uids[i]);
        buf_put_u32(out, (uint32_t)(k - i));
        i = k;
    }
    return buf_ok(out) ? 0 : -ENOMEM;
}

static int make_keywords(const struct slice *names, size_t n, struct record_list *ret)
{
    struct j_keyword *words = calloc(n + 1, sizeof(*words));
    if (words == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        words[i].name = names[i];
    *ret = (struct record_list){n, words};
    return 0;
}

static int check_keywords(const struct slice *names, size_t n, struct err *err)
{
    if (n > STORE_KEYWORDS_MAX)
        return err_set(err, ERR_LIMIT, "too many keywords");
    for (size_t i = 0; i < n; i++)
        if (names[i].n == 0 || names[i].n > STORE_KEYWORD_MAX || !utf8_valid(names[i]))
            return err_set(err, ERR_LIMIT, "a keyword is empty, too long or not UTF-8");
    return 0;
}

/* c: what is special to the change. The job is handed out on success, for its results: job_done it. */
static int MAY_YIELD run_change(struct store *s, unsigned type, struct store_account a, uint32_t mailbox, const uint32_t *uids, size_t n,
                                const struct j_change *c, uint64_t charge, struct job **ret, struct err *err)
{
    struct buf runs;
    struct job *j = NULL;
    if (n > STORE_UIDS_MAX)
        return err_set(err, ERR_LIMIT, "a change names at most %d messages", STORE_UIDS_MAX);
    int rc = job_admit(s, true, err);
    if (rc != 0)
        return rc;
    rc = make_runs(uids, n, &runs);
    if (rc == 0)
        rc = job_new(s, type, &j);
    if (rc == 0) {
        j->effect.change = *c;
        j->effect.change.tenant = a.tenant;
        j->effect.change.account = a.id;
        j->effect.change.mailbox = mailbox;
        j->effect.change.runs = buf_slice(&runs);
        j->event = c->event;
        j->may_fill = j->want_applied = true;
        rc = job_touch(j, a, charge);
    }
    if (rc == 0)
        rc = job_run(j, err);
    buf_done(&runs);
    if (rc == 0 && j->result.status != 0)
        rc = err_set(err, j->result.status, "no such mailbox");
    if (rc == 0)
        *ret = j;
    else
        job_done(j);
    return rc;
}

static int MAY_YIELD check_mailbox(struct store *s, struct store_account a, uint32_t mailbox, struct store_mailbox *ret, struct err *err)
{
    int rc = store_mailbox_get(s, a, mailbox, ret);
    return rc == 0 ? 0 : err_set(err, rc, "no such mailbox");
}

int MAY_YIELD store_expunge(struct store *s, struct store_account a, uint32_t mailbox, const uint32_t *uids, size_t n, struct slice event,
                            uint64_t *ret_expunged, uint64_t *ret_modseq, struct err *err)
{
    struct j_change c = {.event = event};
    struct store_mailbox m;
    struct job *j;
    if (event.n > STORE_EVENT_MAX)
        return err_set(err, ERR_LIMIT, "the event is too large");
    int rc = check_mailbox(s, a, mailbox, &m, err);
    if (rc == 0)
        rc = run_change(s, JOURNAL_EXPUNGE, a, mailbox, uids, n, &c, 0, &j, err);
    if (rc != 0)
        return rc;
    *ret_expunged = j->result.count;
    *ret_modseq = j->result.modseq;
    job_done(j);
    return 0;
}

int MAY_YIELD store_flags(struct store *s, struct store_account a, uint32_t mailbox, const uint32_t *uids, size_t n,
                          const struct store_flags *f, uint64_t *ret_changed, uint64_t *ret_modseq, struct err *err)
{
    struct j_change c = {.add = f->add & STORE_FLAGS_ALL, .remove = f->remove & STORE_FLAGS_ALL, .unchanged_since = f->unchanged_since};
    struct store_mailbox m;
    struct job *j;
    int rc = check_keywords(f->add_keywords, f->n_add, err);
    if (rc == 0)
        rc = check_keywords(f->remove_keywords, f->n_remove, err);
    if (rc == 0)
        rc = check_mailbox(s, a, mailbox, &m, err);
    if (rc == 0)
        rc = make_keywords(f->add_keywords, f->n_add, &c.add_keywords);
    if (rc == 0)
        rc = make_keywords(f->remove_keywords, f->n_remove, &c.remove_keywords);
    if (rc == 0)
        rc = run_change(s, JOURNAL_FLAGS, a, mailbox, uids, n, &c, 0, &j, err);
    free(c.add_keywords.items);
    free(c.remove_keywords.items);
    if (rc != 0)
        return rc;
    *ret_changed = j->result.count;
    *ret_modseq = j->result.modseq;
    job_done(j);
    return 0;
}

/* The octets that a copy charges, and whether they fit. */
static int check_copy_quota(struct store *s, struct store_account a, uint32_t mailbox, const uint32_t *uids, size_t n, bool move,
                            uint64_t *ret_charge, struct err *err)
{
    struct index_account row;
    const struct pending *p = pending_find(s, a);
    uint64_t charge = 0, pending = p != NULL ? p->bytes : 0;
    MDB_txn *t;
    int rc = index_read_begin(s->x, &t);
    if (rc != 0)
        return rc;
    rc = store_account_row(s, t, a, &row);
    for (size_t i = 0; i < n && rc == 0; i++) {
        struct ikey k = ikey_entry(a, mailbox, uids[i]);
        struct index_entry e;
        rc = index_row(s->x, t, INDEX_ENTRIES, &k, &e, sizeof(e), NULL);
        if (rc == 0)
            charge += e.e.size;
        else if (rc == -ENOENT)
            rc = 0;
    }
    index_read_end(s->x, t);
    if (rc == 0 && !move && row.quota != 0 && (row.used + pending > row.quota || charge > row.quota - row.used - pending))
        return err_set(err, ERR_QUOTA, "the copies do not fit into the account's quota");
    *ret_charge = move ? 0 : charge;
    return rc;
}

static void take_pairs(const struct job *j, size_t n, struct store_uid_pair *ret)
{
    for (size_t i = 0; i < n; i++)
        ret[i] = i < j->result.n_pairs ? j->result.pairs[i] : (struct store_uid_pair){0, 0};
}

int MAY_YIELD store_copy(struct store *s, struct store_account a, uint32_t mailbox, const uint32_t *uids, size_t n, uint32_t to, bool move,
                         struct store_uid_pair *ret_pairs, uint64_t *ret_modseq, struct err *err)
{
    struct j_change c = {.to = to, .save_ms = (uint64_t)clock_real_ms()};
    struct store_mailbox m;
    struct job *j;
    uint64_t charge = 0;
    if (n > STORE_UIDS_MAX)
        return err_set(err, ERR_LIMIT, "a change names at most %d messages", STORE_UIDS_MAX);
    int rc = check_mailbox(s, a, mailbox, &m, err);
    if (rc == 0)
        rc = check_mailbox(s, a, to, &m, err);
    if (rc == 0 && m.uidnext > UINT32_MAX - 2 * STORE_UIDS_MAX)
        rc = err_set(err, ERR_LIMIT, "the mailbox has no more unique ids");
    if (rc == 0)
        rc = check_copy_quota(s, a, mailbox, uids, n, move, &charge, err);
    if (rc == 0)
        rc = run_change(s, move ? JOURNAL_MOVE : JOURNAL_COPY, a, mailbox, uids, n, &c, charge, &j, err);
    if (rc != 0)
        return rc;
    if (ret_pairs != NULL)
        take_pairs(j, n, ret_pairs);
    *ret_modseq = j->result.modseq;
    job_done(j);
    return 0;
}
