/* Reading pages out of the account database: listings and the outbox. See db.h. */
#include "account/db_priv.h"

static bool take_text(struct account_db *db, enum db_statement s, int column, struct arena *arena, struct slice *ret)
{
    *ret = arena_copy(arena, db_text(db, s, column));
    return ret->p != NULL;
}

int account_db_actor(struct account_db *db, uint64_t id, struct arena *arena, struct slice *ret_actor, struct err *err)
{
    db_bind(db, DB_account_get, "u", id);
    int rc = db_step(db, DB_account_get, err);
    if (rc != 1)
        return rc < 0 ? rc : err_set(err, -ENOENT, "no account %llu", (unsigned long long)id);
    bool ok = take_text(db, DB_account_get, 2, arena, ret_actor);
    db_reset(db, DB_account_get);
    return ok ? 0 : -ENOMEM;
}

static bool account_row(struct account_db *db, struct arena *arena, void *item)
{
    struct m_ctl_account *a = item;
    a->account = db_u64(db, DB_account_list, 0);
    a->state = slice_str(account_state_name((enum account_state)db_u64(db, DB_account_list, 1)));
    a->quota = db_u64(db, DB_account_list, 3);
    a->created_ms = db_u64(db, DB_account_list, 4);
    a->last_login_ms = db_u64(db, DB_account_list, 5);
    return take_text(db, DB_account_list, 2, arena, &a->address);
}

static bool alias_row(struct account_db *db, struct arena *arena, void *item)
{
    struct m_ctl_alias *a = item;
    return take_text(db, DB_alias_list, 0, arena, &a->alias) && take_text(db, DB_alias_list, 1, arena, &a->target);
}

static bool domain_row(struct account_db *db, struct arena *arena, void *item)
{
    struct m_ctl_domain *d = item;
    d->accounts = db_u64(db, DB_domain_list, 2);
    return take_text(db, DB_domain_list, 0, arena, &d->domain) && take_text(db, DB_domain_list, 1, arena, &d->catch_all);
}

typedef bool row_fn(struct account_db *db, struct arena *arena, void *item);

/* All rows of the bound statement, which limits itself to max. */
static int read_rows(struct account_db *db, enum db_statement s, row_fn *row, size_t item_size, size_t max, struct arena *arena,
                     struct record_list *ret, struct err *err)
{
    int rc;
    *ret = (struct record_list){0};
    while ((rc = db_step(db, s, err)) == 1) {
        void *item = db_list_add(ret, max, item_size, arena);
        if (item == NULL || !row(db, arena, item)) {
            db_reset(db, s);
            return err_set(err, -ENOMEM, "out of memory");
        }
    }
    return rc;
}

int account_db_list_accounts(struct account_db *db, struct slice after, size_t max, struct arena *arena, struct record_list *ret,
                             struct err *err)
{
    db_bind(db, DB_account_list, "tu", after, (uint64_t)max);
    return read_rows(db, DB_account_list, account_row, sizeof(struct m_ctl_account), max, arena, ret, err);
}

int account_db_list_aliases(struct account_db *db, struct slice after, struct slice after_target, size_t max, struct arena *arena,
                            struct record_list *ret, struct err *err)
{
    db_bind(db, DB_alias_list, "ttu", after, after_target, (uint64_t)max);
    return read_rows(db, DB_alias_list, alias_row, sizeof(struct m_ctl_alias), max, arena, ret, err);
}

int account_db_list_domains(struct account_db *db, struct slice after, size_t max, struct arena *arena, struct record_list *ret,
                            struct err *err)
{
    db_bind(db, DB_domain_list, "tu", after, (uint64_t)max);
    return read_rows(db, DB_domain_list, domain_row, sizeof(struct m_ctl_domain), max, arena, ret, err);
}

static int forget_events(struct account_db *db, uint64_t done, struct err *err)
{
    if (done == 0 || atomic_load(&db->outbox_count) == 0)
        return 0;
    int rc = db_step(db, DB_outbox_last, err);
    if (rc < 0)
        return rc;
    bool ours = rc == 1 && done <= db_u64(db, DB_outbox_last, 0); /* a number past our last is of another epoch */
    db_reset(db, DB_outbox_last);
    rc = ours ? db_begin(db, err) : 0;
    if (rc != 0 || !ours)
        return rc;
    db_bind(db, DB_outbox_done, "u", done);
    rc = db_run(db, DB_outbox_done, err);
    uint64_t gone = db_changes(db);
    rc = db_end(db, rc, SLICE_EMPTY, err);
    if (rc == 0)
        atomic_fetch_sub(&db->outbox_count, gone);
    return rc;
}

int account_db_outbox(struct account_db *db, uint64_t done, size_t max, size_t max_bytes, struct arena *arena, struct record_list *ret,
                      uint64_t *ret_epoch, struct err *err)
{
    int rc = forget_events(db, done, err);
    size_t bytes = 0;
    *ret = (struct record_list){0};
    *ret_epoch = db->epoch;
    if (rc != 0 || max == 0)
        return rc;
    db_bind(db, DB_outbox_get, "uu", done, (uint64_t)max);
    while ((rc = db_step(db, DB_outbox_get, err)) == 1) {
        bytes += db_text(db, DB_outbox_get, 1).n;
        if (bytes > max_bytes && ret->n > 0) {
            db_reset(db, DB_outbox_get);
            return 0;
        }
        struct m_outbox_item *item = db_list_add(ret, max, sizeof(*item), arena);
        if (item == NULL || !take_text(db, DB_outbox_get, 1, arena, &item->event)) {
            db_reset(db, DB_outbox_get);
            return err_set(err, -ENOMEM, "out of memory");
        }
        item->sequence = db_u64(db, DB_outbox_get, 0);
    }
    return rc;
}

uint64_t account_db_outbox_count(const struct account_db *db)
{
    return atomic_load(&db->outbox_count);
}
