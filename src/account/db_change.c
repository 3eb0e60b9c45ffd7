/* The changes of the account database: see db.h. Each public function here is one transaction. */
#include "account/db_priv.h"

/* What an address is now. 0 with *ret_account 0 for an alias; -ENOENT. */
static int find_address(struct account_db *db, struct slice address, uint64_t *ret_account, enum account_state *ret_state, struct err *err)
{
    db_bind(db, DB_address_get, "t", address);
    int rc = db_step(db, DB_address_get, err);
    if (rc == 0)
        return -ENOENT;
    if (rc == 1) {
        *ret_account = db_u64(db, DB_address_get, 0);
        *ret_state = (enum account_state)db_u64(db, DB_address_get, 1);
        db_reset(db, DB_address_get);
        rc = 0;
    }
    return rc;
}

static int need_domain(struct account_db *db, struct slice domain, struct err *err)
{
    db_bind(db, DB_domain_get, "t", domain);
    int rc = db_step(db, DB_domain_get, err);
    db_reset(db, DB_domain_get);
    if (rc < 0)
        return rc;
    return rc == 1 ? 0 : err_set(err, -ENOENT, "no domain %.*s here: kakitome domain add", SLICE_ARG(domain));
}

static struct slice domain_of(struct slice address)
{
    (void)slice_cut(&address, '@'); /* own local parts hold no "@" */
    return address;
}

static int set_credential(struct account_db *db, uint64_t id, const char *encoded, uint64_t version, int64_t now_ms, struct err *err)
{
    db_bind(db, DB_credential_set, "usui", id, encoded, version, now_ms);
    return db_run(db, DB_credential_set, err);
}

/* Ids go up for ever: past what this file gave out and past what the register knows (the file may be an old copy). */
static int insert_account(struct account_db *db, const struct account_new *a, uint64_t *ret_id, struct err *err)
{
    db_bind(db, DB_account_next, "u", id_register_highest(db->ids));
    int rc = db_step(db, DB_account_next, err);
    if (rc != 1)
        return rc < 0 ? rc : ERR_CORRUPT;
    uint64_t id = db_u64(db, DB_account_next, 0);
    db_reset(db, DB_account_next);
    db_bind(db, DB_account_add, "utuit", id, a->address, a->quota, a->now_ms, a->actor);
    rc = db_run(db, DB_account_add, err);
    if (rc == 0) {
        db_bind(db, DB_address_add, "ttu", a->address, domain_of(a->address), id);
        rc = db_run(db, DB_address_add, err);
    }
    if (rc == 0)
        *ret_id = id;
    return rc;
}

static int reserve(struct account_db *db, const struct account_new *a, uint64_t *ret_id, struct err *err)
{
    enum account_state state = ACCOUNT_ACTIVE;
    uint64_t before = id_register_find(db->ids, a->address);
    int rc = need_domain(db, domain_of(a->address), err);
    if (rc != 0)
        return rc;
    rc = find_address(db, a->address, ret_id, &state, err);
    if (rc == 0 && *ret_id != 0 && state == ACCOUNT_CREATING) {
        db_bind(db, DB_account_again, "uuit", *ret_id, a->quota, a->now_ms, a->actor);
        rc = db_run(db, DB_account_again, err);
    } else if (rc == 0) {
        rc = err_set(err, -EEXIST, "%.*s exists already", SLICE_ARG(a->address));
    } else if (rc == -ENOENT && before != 0) {
        rc = err_set(err, ERR_GONE, "%.*s belonged to account %llu and is never given to another", SLICE_ARG(a->address),
                     (unsigned long long)before);
    } else if (rc == -ENOENT) {
        rc = insert_account(db, a, ret_id, err);
    }
    return rc == 0 ? set_credential(db, *ret_id, a->credential, 1, a->now_ms, err) : rc;
}

int account_db_reserve(struct account_db *db, const struct account_new *a, uint64_t *ret_id, struct err *err)
{
    uint64_t id = 0;
    int rc = db_begin(db, err);
    if (rc != 0)
        return rc;
    rc = db_end(db, reserve(db, a, &id, err), SLICE_EMPTY, err);
    /* The reservation comes first: a line in the register without it would bar the address for nothing. */
    if (rc == 0)
        rc = id_register_add(db->ids, id, a->address, a->now_ms, err);
    if (rc == 0)
        *ret_id = id;
    return rc;
}

/* Begins, runs the bound statement, checks that it met a row, ends with the event. */
static int change_one(struct account_db *db, enum db_statement s, uint64_t id, struct slice event, struct err *err)
{
    int rc = db_run(db, s, err);
    if (rc == 0 && db_changes(db) == 0)
        rc = err_set(err, -ENOENT, "no account %llu", (unsigned long long)id);
    return db_end(db, rc, event, err);
}

int account_db_set_state(struct account_db *db, uint64_t id, enum account_state state, struct slice event, struct err *err)
{
    int rc = db_begin(db, err);
    if (rc != 0)
        return rc;
    db_bind(db, DB_account_state, "uu", id, (uint64_t)state);
    return change_one(db, DB_account_state, id, event, err);
}

/* An account that a crash left without its line in the register gets it before it lives. */
int account_db_activate(struct account_db *db, uint64_t id, struct slice event, struct err *err)
{
    char address[IPC_ADDRESS_MAX];
    db_bind(db, DB_account_get, "u", id);
    int rc = db_step(db, DB_account_get, err);
    if (rc != 1)
        return rc < 0 ? rc : err_set(err, -ENOENT, "no account %llu", (unsigned long long)id);
    struct slice a = slice_head(db_text(db, DB_account_get, 0), sizeof(address));
    memcpy(address, a.p, a.n);
    db_reset(db, DB_account_get);
    rc = id_register_add(db->ids, id, slice_of(address, a.n), 0, err);
    return rc == 0 ? account_db_set_state(db, id, ACCOUNT_ACTIVE, event, err) : rc;
}

int account_db_set_credential(struct account_db *db, uint64_t id, const char *encoded, uint64_t version, int64_t now_ms,
                              struct slice event, struct err *err)
{
    int rc = db_begin(db, err);
    return rc == 0 ? db_end(db, set_credential(db, id, encoded, version, now_ms, err), event, err) : rc;
}

int account_db_rehash(struct account_db *db, uint64_t id, const char *encoded, uint64_t version, struct err *err)
{
    int rc = db_begin(db, err);
    if (rc != 0)
        return rc;
    db_bind(db, DB_credential_rehash, "usu", id, encoded, version);
    return change_one(db, DB_credential_rehash, id, SLICE_EMPTY, err);
}

int account_db_set_quota(struct account_db *db, uint64_t id, uint64_t quota, struct slice event, struct err *err)
{
    int rc = db_begin(db, err);
    if (rc != 0)
        return rc;
    db_bind(db, DB_account_quota, "uu", id, quota);
    return change_one(db, DB_account_quota, id, event, err);
}

int account_db_delete_begin(struct account_db *db, uint64_t id, struct slice actor, struct err *err)
{
    int rc = db_begin(db, err);
    if (rc != 0)
        return rc;
    db_bind(db, DB_account_actor, "ut", id, actor);
    rc = db_run(db, DB_account_actor, err);
    if (rc != 0)
        return db_end(db, rc, SLICE_EMPTY, err);
    db_bind(db, DB_account_state, "uu", id, (uint64_t)ACCOUNT_DELETING);
    return change_one(db, DB_account_state, id, SLICE_EMPTY, err);
}

/* Each statement takes the address, except where it takes the id or nothing. */
static int forget_account(struct account_db *db, uint64_t id, struct slice address, struct err *err)
{
    static const struct {
        enum db_statement statement;
        const char *takes;
    } steps[] = {{DB_credential_del, "u"}, {DB_alias_drop_target, "t"}, {DB_address_del, "t"}, {DB_alias_drop_empty, ""},
                 {DB_catch_all_drop, "t"}};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        if (steps[i].takes[0] == 'u')
            db_bind(db, steps[i].statement, "u", id);
        else if (steps[i].takes[0] == 't')
            db_bind(db, steps[i].statement, "t", address);
        int rc = db_run(db, steps[i].statement, err);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int account_db_delete_finish(struct account_db *db, uint64_t id, struct slice event, struct err *err)
{
    char address[IPC_ADDRESS_MAX];
    int rc = db_begin(db, err);
    if (rc != 0)
        return rc;
    db_bind(db, DB_account_get, "u", id);
    rc = db_step(db, DB_account_get, err);
    if (rc != 1)
        return db_end(db, rc < 0 ? rc : -ENOENT, SLICE_EMPTY, err);
    struct slice a = slice_head(db_text(db, DB_account_get, 0), sizeof(address));
    memcpy(address, a.p, a.n);
    db_reset(db, DB_account_get);
    rc = forget_account(db, id, slice_of(address, a.n), err);
    if (rc != 0)
        return db_end(db, rc, SLICE_EMPTY, err);
    db_bind(db, DB_account_state, "uu", id, (uint64_t)ACCOUNT_DELETED);
    return change_one(db, DB_account_state, id, event, err);
}

int account_db_save_logins(struct account_db *db, const struct account_login *logins, size_t n, struct err *err)
{
    int rc = db_begin(db, err);
    if (rc != 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        db_bind(db, DB_account_login, "ui", logins[i].id, logins[i].at_ms);
        rc = db_run(db, DB_account_login, err);
    }
    return db_end(db, rc, SLICE_EMPTY, err);
}

static int count_targets(struct account_db *db, struct slice alias, uint64_t *ret, struct err *err)
{
    db_bind(db, DB_alias_count, "t", alias);
    int rc = db_step(db, DB_alias_count, err);
    if (rc != 1)
        return rc < 0 ? rc : ERR_CORRUPT;
    *ret = db_u64(db, DB_alias_count, 0);
    db_reset(db, DB_alias_count);
    return 0;
}

static int add_alias(struct account_db *db, struct slice alias, struct slice target, struct err *err)
{
    uint64_t account = 0, n = 0;
    enum account_state state;
    int rc = find_address(db, alias, &account, &state, err);
    if (rc == 0 && account != 0)
        return err_set(err, -EEXIST, "%.*s is an account", SLICE_ARG(alias));
    if (rc == -ENOENT) {
        rc = need_domain(db, domain_of(alias), err);
        if (rc == 0) {
            db_bind(db, DB_address_add, "tt", alias, domain_of(alias)); /* account stays NULL */
            rc = db_run(db, DB_address_add, err);
        }
    }
    if (rc == 0)
        rc = count_targets(db, alias, &n, err);
    if (rc == 0 && n >= DIRECTORY_ALIAS_TARGETS_MAX)
        rc = err_set(err, ERR_LIMIT, "an alias has at most %d targets", DIRECTORY_ALIAS_TARGETS_MAX);
    if (rc != 0)
        return rc;
    db_bind(db, DB_alias_add, "tt", alias, target);
    rc = db_run(db, DB_alias_add, err);
    return rc == -EEXIST ? err_set(err, rc, "%.*s has that target already", SLICE_ARG(alias)) : rc;
}

int account_db_add_alias(struct account_db *db, struct slice alias, struct slice target, struct slice event, struct err *err)
{
    int rc = db_begin(db, err);
    return rc == 0 ? db_end(db, add_alias(db, alias, target, err), event, err) : rc;
}

int account_db_del_alias(struct account_db *db, struct slice alias, struct slice target, struct slice event, struct err *err)
{
    int rc = db_begin(db, err);
    if (rc != 0)
        return rc;
    db_bind(db, DB_alias_del, "tt", alias, target);
    rc = db_run(db, DB_alias_del, err);
    if (rc == 0 && db_changes(db) == 0)
        rc = err_set(err, -ENOENT, "%.*s does not lead to %.*s", SLICE_ARG(alias), SLICE_ARG(target));
    if (rc == 0)
        rc = db_run(db, DB_alias_drop_empty, err);
    return db_end(db, rc, event, err);
}

int account_db_set_domain(struct account_db *db, struct slice name, struct slice catch_all, int64_t now_ms, struct slice event,
                          struct err *err)
{
    int rc = db_begin(db, err);
    if (rc != 0)
        return rc;
    db_bind(db, DB_domain_set, "tti", name, catch_all, now_ms);
    return db_end(db, db_run(db, DB_domain_set, err), event, err);
}

static int del_domain(struct account_db *db, struct slice name, struct err *err)
{
    db_bind(db, DB_domain_used, "t", name);
    int rc = db_step(db, DB_domain_used, err);
    if (rc != 1)
        return rc < 0 ? rc : ERR_CORRUPT;
    bool used = db_u64(db, DB_domain_used, 0) != 0;
    db_reset(db, DB_domain_used);
    if (used)
        return err_set(err, -ENOTEMPTY, "%.*s still has accounts or aliases", SLICE_ARG(name));
    db_bind(db, DB_domain_del, "t", name);
    rc = db_run(db, DB_domain_del, err);
    if (rc == 0 && db_changes(db) == 0)
        rc = err_set(err, -ENOENT, "no domain %.*s", SLICE_ARG(name));
    return rc;
}

int account_db_del_domain(struct account_db *db, struct slice name, struct slice event, struct err *err)
{
    int rc = db_begin(db, err);
    return rc == 0 ? db_end(db, del_domain(db, name, err), event, err) : rc;
}
