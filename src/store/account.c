/* Accounts and mailboxes: see store.h. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "store/store_priv.h"

int store_account_row(struct store *s, MDB_txn *t, struct store_account a, struct index_account *ret)
{
    struct ikey k = ikey_account(a);
    struct index_account row;
    int rc = index_row(s->x, t, INDEX_ACCOUNTS, &k, &row, sizeof(row), NULL);
    if (rc == 0 && row.state != ACCOUNT_LIVE)
        rc = ERR_GONE;
    if (rc == 0)
        *ret = row;
    return rc;
}

int store_account_get(struct store *s, struct store_account a, struct store_account_info *ret)
{
    MDB_txn *t;
    struct index_account row;
    const struct pending *p = pending_find(s, a);
    int rc = index_read_begin(s->x, &t);
    if (rc != 0)
        return rc;
    rc = store_account_row(s, t, a, &row);
    index_read_end(s->x, t);
    if (rc == 0)
        *ret = (struct store_account_info){
            .quota = row.quota,
            .used = row.used + (p != NULL ? p->bytes : 0),
            .messages = row.messages,
            .modseq = row.modseq,
            .mailboxes = row.mailboxes,
            .created_ms = row.created_ms,
        };
    return rc;
}

struct account_list {
    struct store_account *out;
    size_t max, n;
};

static int list_account(void *arg, const uint8_t *key, size_t key_n, struct slice value)
{
    struct account_list *l = arg;
    struct index_account row;
    if (key_n != 12 || value.n < sizeof(row))
        return ERR_CORRUPT;
    memcpy(&row, value.p, sizeof(row));
    if (l->n == l->max)
        return 1;
    if (row.state == ACCOUNT_LIVE)
        l->out[l->n++] = ikey_get_account(key);
    return 0;
}

int store_account_list(struct store *s, struct store_account after, struct store_account *out, size_t max, size_t *ret_n)
{
    struct account_list l = {out, max, 0};
    struct ikey none = {0}, from;
    MDB_txn *t;
    after.id++;
    from = ikey_account(after);
    int rc = index_read_begin(s->x, &t);
    if (rc != 0)
        return rc;
    rc = index_walk(s->x, t, INDEX_ACCOUNTS, &none, &from, list_account, &l);
    index_read_end(s->x, t);
    *ret_n = l.n;
    return rc;
}

/* One journal record about an account or mailbox, applied on return. */
static int MAY_YIELD run_account(struct store *s, unsigned type, struct store_account a, uint64_t amount, struct slice event,
                                 struct apply_result *ret, struct err *err)
{
    struct job *j;
    int rc = job_admit(s, true, err);
    if (rc == 0)
        rc = job_new(s, type, &j);
    if (rc != 0)
        return rc;
    j->effect.account = (struct j_account){.tenant = a.tenant, .account = a.id, .amount = amount, .event = event};
    j->event = event;
    j->may_fill = j->want_applied = true;
    rc = event.n <= STORE_EVENT_MAX ? job_touch(j, a, 0) : ERR_LIMIT;
    if (rc == 0)
        rc = job_run(j, err);
    if (rc == 0)
        *ret = j->result;
    job_done(j);
    return rc;
}

static int read_state(struct store *s, struct store_account a)
{
    struct store_account_info info;
    return store_account_get(s, a, &info);
}

int MAY_YIELD store_account_create(struct store *s, struct store_account a, uint64_t quota, struct slice event, struct err *err)
{
    struct apply_result r;
    if (a.id == 0)
        return err_set(err, -EINVAL, "account 0 cannot be");
    int rc = store_visible(s, a);
    if (rc != 0)
        return err_set(err, rc, "the store is not serving");
    rc = read_state(s, a);
    if (rc != -ENOENT)
        return rc == 0 ? 0 : err_set(err, rc, "account %llu was deleted", (unsigned long long)a.id);
    /* The key first: an account without key could take no mail; a key without account goes at the next start. */
    rc = job_admit(s, true, err);
    if (rc == 0)
        rc = keys_add(s->keys, a, err);
    if (rc == 0)
        rc = run_account(s, JOURNAL_ACCOUNT_CREATE, a, quota, event, &r, err);
    return rc == 0 && r.status != 0 ? err_set(err, r.status, "account %llu was deleted", (unsigned long long)a.id) : rc;
}

static bool is_not_deleted(void *arg, struct store_account a)
{
    /* An account that the index does not know yet is being created. */
    return read_state(arg, a) != ERR_GONE;
}

int MAY_YIELD store_account_delete(struct store *s, struct store_account a, struct slice event, struct err *err)
{
    struct apply_result r = {0};
    int rc = store_visible(s, a);
    if (rc != 0)
        return err_set(err, rc, "the store is not serving");
    rc = read_state(s, a);
    if (rc == 0)
        rc = run_account(s, JOURNAL_ACCOUNT_DELETE, a, 0, event, &r, err);
    else if (rc == -ENOENT)
        return err_set(err, rc, "no account %llu", (unsigned long long)a.id);
    if (rc != 0 && rc != ERR_GONE)
        return rc;
    rc = keys_retain(s->keys, is_not_deleted, s, err);
    store_start_purge(s);
    return rc;
}

int MAY_YIELD store_account_quota(struct store *s, struct store_account a, uint64_t quota, struct slice event, struct err *err)
{
    struct apply_result r;
    int rc = store_visible(s, a);
    if (rc == 0)
        rc = read_state(s, a);
    if (rc != 0)
        return err_set(err, rc, "no account %llu", (unsigned long long)a.id);
    rc = run_account(s, JOURNAL_ACCOUNT_QUOTA, a, quota, event, &r, err);
    return rc == 0 ? r.status : rc;
}

/* ---- purging ---- */

static int find_deleted(void *arg, const uint8_t *key, size_t key_n, struct slice value)
{
    struct store_account *found = arg;
    struct index_account row;
    if (key_n != 12 || value.n < sizeof(row))
        return ERR_CORRUPT;
    memcpy(&row, value.p, sizeof(row));
    if (row.state != ACCOUNT_DELETED)
        return 0;
    *found = ikey_get_account(key);
    return 1;
}

static void purge_next(struct job *done);

static int post_purge(struct store *s, struct store_account a)
{
    struct job *j;
    int rc = job_admit(s, true, NULL);
    if (rc == 0)
        rc = job_new(s, JOURNAL_ACCOUNT_PURGE, &j);
    if (rc != 0)
        return rc;
    j->effect.account = (struct j_account){.tenant = a.tenant, .account = a.id, .amount = STORE_PURGE_ROWS, .event = SLICE_EMPTY};
    j->may_fill = j->want_applied = j->abandoned = true;
    j->after = purge_next;
    job_post(j);
    return 0;
}

/* No fiber: the chain of jobs ends with the store, however that ends. */
void store_start_purge(struct store *s)
{
    struct store_account a = {0, 0};
    struct ikey none = {0};
    MDB_txn *t;
    if (s->purging || s->stopping || index_read_begin(s->x, &t) != 0)
        return;
    int rc = index_walk(s->x, t, INDEX_ACCOUNTS, &none, &none, find_deleted, &a);
    index_read_end(s->x, t);
    if (rc == 0 && a.id != 0)
        rc = post_purge(s, a);
    s->purging = rc == 0 && a.id != 0;
    if (rc != 0)
        log_debug("store.purge_put_off", L_STR("reason", err_name(rc)));
}

static void purge_next(struct job *done)
{
    done->s->purging = false;
    if (!done->failed)
        store_start_purge(done->s);
}

/* ---- mailboxes: reading ---- */

struct mailbox_list {
    struct store_mailbox *out;
    size_t max, n;
    struct slice name; /* only this one; empty: all */
};

static int take_mailbox(void *arg, const uint8_t *key, size_t key_n, struct slice value)
{
    struct mailbox_list *l = arg;
    struct index_mailbox row;
    if (key_n != 16 || value.n < sizeof(row) || value.n - sizeof(row) > STORE_MAILBOX_NAME_MAX)
        return ERR_CORRUPT;
    memcpy(&row, value.p, sizeof(row));
    struct slice name = slice_from(value, sizeof(row));
    if (l->n == l->max)
        return 1;
    if (l->name.n > 0 && !slice_eq(name, l->name))
        return 0;
    struct store_mailbox *m = &l->out[l->n++];
    *m = (struct store_mailbox){
        .id = ikey_get_u32(key + 12),
        .uidvalidity = row.uidvalidity,
        .uidnext = row.uidnext,
        .flags = row.flags,
        .messages = row.messages,
        .unseen = row.unseen,
        .deleted = row.deleted,
        .recent = row.recent,
        .bytes = row.bytes,
        .modseq = row.modseq,
    };
    memcpy(m->name, name.p, name.n);
    return 0;
}

static struct slice canonical_name(struct slice name)
{
    return slice_ieq(name, SLICE("INBOX")) ? SLICE("INBOX") : name;
}

int store_mailbox_by_name(struct store *s, MDB_txn *t, struct store_account a, struct slice name, uint32_t *ret)
{
    struct store_mailbox m;
    struct mailbox_list l = {&m, 1, 0, canonical_name(name)};
    struct ikey k = ikey_account(a);
    int rc = index_walk(s->x, t, INDEX_MAILBOXES, &k, &k, take_mailbox, &l);
    if (rc == 0 && l.n == 0)
        rc = -ENOENT;
    if (rc == 0)
        *ret = m.id;
    return rc;
}

/* Rows from `from` on with the prefix, of a living account. */
static int MAY_YIELD read_mailboxes(struct store *s, struct store_account a, struct ikey prefix, struct ikey from, struct mailbox_list *l)
{
    struct index_account row;
    MDB_txn *t;
    int rc = store_visible(s, a);
    if (rc == 0)
        rc = index_read_begin(s->x, &t);
    if (rc != 0)
        return rc;
    rc = store_account_row(s, t, a, &row);
    if (rc == 0)
        rc = index_walk(s->x, t, INDEX_MAILBOXES, &prefix, &from, take_mailbox, l);
    index_read_end(s->x, t);
    return rc;
}

int MAY_YIELD store_mailbox_find(struct store *s, struct store_account a, struct slice name, struct store_mailbox *ret)
{
    struct mailbox_list l = {ret, 1, 0, canonical_name(name)};
    if (name.n == 0)
        return -ENOENT;
    int rc = read_mailboxes(s, a, ikey_account(a), ikey_account(a), &l);
    return rc == 0 && l.n == 0 ? -ENOENT : rc;
}

int MAY_YIELD store_mailbox_get(struct store *s, struct store_account a, uint32_t mailbox, struct store_mailbox *ret)
{
    struct mailbox_list l = {ret, 1, 0, SLICE_EMPTY};
    int rc = read_mailboxes(s, a, ikey_mailbox(a, mailbox), ikey_mailbox(a, mailbox), &l);
    return rc == 0 && l.n == 0 ? -ENOENT : rc;
}

int MAY_YIELD store_mailbox_list(struct store *s, struct store_account a, uint32_t after, struct store_mailbox *out, size_t max,
                                 size_t *ret_n)
{
    struct mailbox_list l = {out, max, 0, SLICE_EMPTY};
    int rc = after != UINT32_MAX ? read_mailboxes(s, a, ikey_account(a), ikey_mailbox(a, after + 1), &l) : 0;
    *ret_n = l.n;
    return rc;
}

int MAY_YIELD store_keyword_get(struct store *s, struct store_account a, uint32_t mailbox, uint32_t number,
                                char ret_name[STORE_KEYWORD_MAX + 1])
{
    struct ikey k = ikey_u32(ikey_mailbox(a, mailbox), number);
    struct slice v;
    MDB_txn *t;
    int rc = store_visible(s, a);
    if (rc == 0)
        rc = index_read_begin(s->x, &t);
    if (rc != 0)
        return rc;
    rc = index_get(s->x, t, INDEX_KEYWORDS, &k, &v);
    if (rc == 0 && v.n > STORE_KEYWORD_MAX)
        rc = ERR_CORRUPT;
    if (rc == 0) {
        memcpy(ret_name, v.p, v.n);
        ret_name[v.n] = '\0';
    }
    index_read_end(s->x, t);
    return rc;
}

/* ---- mailboxes: changing ---- */

static int check_name(struct slice name, struct err *err)
{
    bool slash = true; /* a level begins */
    if (name.n > STORE_MAILBOX_NAME_MAX)
        return err_set(err, ERR_LIMIT, "the mailbox name is longer than %d bytes", STORE_MAILBOX_NAME_MAX);
    if (!utf8_valid(name))
        return err_set(err, ERR_SYNTAX, "the mailbox name is not UTF-8");
    for (size_t i = 0; i < name.n; i++) {
        unsigned char c = (unsigned char)name.p[i];
        if (c < 32 || c == 127 || (c == '/' && slash))
            return err_set(err, ERR_SYNTAX, "the mailbox name has a control character or an empty level");
        slash = c == '/';
    }
    return slash ? err_set(err, ERR_SYNTAX, "the mailbox name is empty or ends with a separator") : 0;
}

static int MAY_YIELD run_mailbox(struct store *s, unsigned type, struct store_account a, const struct j_mailbox *m, uint32_t *ret_mailbox,
                                 struct err *err)
{
    struct job *j;
    int rc = job_admit(s, true, err);
    if (rc == 0)
        rc = job_new(s, type, &j);
    if (rc != 0)
        return rc;
    j->effect.mailbox = *m;
    j->effect.mailbox.tenant = a.tenant;
    j->effect.mailbox.account = a.id;
    j->event = m->event;
    j->may_fill = j->want_applied = true;
    rc = job_touch(j, a, 0);
    if (rc == 0)
        rc = job_run(j, err);
    if (rc == 0 && j->result.status != 0)
        rc = err_set(err, j->result.status, j->result.status == -EEXIST ? "there is a mailbox of that name" : "no such mailbox");
    if (rc == 0 && ret_mailbox != NULL)
        *ret_mailbox = j->result.mailbox;
    job_done(j);
    return rc;
}

/* The account must live, and have room for one more when `more`. */
static int MAY_YIELD check_account(struct store *s, struct store_account a, bool more, struct err *err)
{
    struct store_account_info info;
    int rc = store_visible(s, a);
    if (rc == 0)
        rc = store_account_get(s, a, &info);
    if (rc != 0)
        return err_set(err, rc, "no account %llu", (unsigned long long)a.id);
    return more && info.mailboxes >= STORE_MAILBOXES_MAX ? err_set(err, ERR_LIMIT, "the account has %d mailboxes", STORE_MAILBOXES_MAX) : 0;
}

int MAY_YIELD store_mailbox_create(struct store *s, struct store_account a, struct slice name, uint32_t *ret_mailbox, struct err *err)
{
    struct j_mailbox m = {.name = canonical_name(name)};
    int rc = check_name(name, err);
    if (rc == 0)
        rc = check_account(s, a, true, err);
    return rc == 0 ? run_mailbox(s, JOURNAL_MAILBOX_CREATE, a, &m, ret_mailbox, err) : rc;
}

int MAY_YIELD store_mailbox_rename(struct store *s, struct store_account a, uint32_t mailbox, struct slice name, struct err *err)
{
    struct j_mailbox m = {.mailbox = mailbox, .name = canonical_name(name)};
    int rc = check_name(name, err);
    if (rc == 0 && mailbox == STORE_INBOX)
        rc = err_set(err, -EINVAL, "INBOX cannot be renamed");
    if (rc == 0)
        rc = check_account(s, a, false, err);
    return rc == 0 ? run_mailbox(s, JOURNAL_MAILBOX_RENAME, a, &m, NULL, err) : rc;
}

int MAY_YIELD store_mailbox_set_flags(struct store *s, struct store_account a, uint32_t mailbox, uint32_t flags, struct err *err)
{
    struct j_mailbox m = {.mailbox = mailbox, .flags = flags};
    int rc = check_account(s, a, false, err);
    return rc == 0 ? run_mailbox(s, JOURNAL_MAILBOX_FLAGS, a, &m, NULL, err) : rc;
}

int MAY_YIELD store_mailbox_delete(struct store *s, struct store_account a, uint32_t mailbox, struct slice event, struct err *err)
{
    struct j_mailbox m = {.mailbox = mailbox, .event = event};
    struct store_mailbox now;
    int rc = mailbox == STORE_INBOX ? err_set(err, -EINVAL, "INBOX cannot be deleted") : store_mailbox_get(s, a, mailbox, &now);
    if (rc == 0 && now.messages > STORE_UIDS_MAX)
        rc = err_set(err, ERR_LIMIT, "the mailbox has more than %d messages: expunge before", STORE_UIDS_MAX);
    return rc == 0 ? run_mailbox(s, JOURNAL_MAILBOX_DELETE, a, &m, NULL, err) : rc;
}
