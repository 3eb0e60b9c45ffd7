/* Accounts from the command line: add, list, set, delete; and what completes a change that a crash or an absent store left half done.
 * Each change is a transaction of the database with its event; the store is told before what it must have, after what it must lose. */
#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "role/authd/authd.h"

/* What the database thread is told; one shape for all changes of accounts. */
struct account_args {
    uint64_t id, number;
    struct account_new new;
    const char *encoded;
    enum account_state state;
    struct slice event, actor;
    struct arena *arena;
    int64_t now_ms;
};

static int db_reserve(struct account_db *db, void *args, struct err *err)
{
    struct account_args *a = args;
    return account_db_reserve(db, &a->new, &a->id, err);
}

static int db_activate(struct account_db *db, void *args, struct err *err)
{
    const struct account_args *a = args;
    return account_db_activate(db, a->id, a->event, err);
}

static int db_actor(struct account_db *db, void *args, struct err *err)
{
    struct account_args *a = args;
    return account_db_actor(db, a->id, a->arena, &a->actor, err);
}

static int db_credential(struct account_db *db, void *args, struct err *err)
{
    const struct account_args *a = args;
    return account_db_set_credential(db, a->id, a->encoded, a->number, a->now_ms, a->event, err);
}

static int db_quota(struct account_db *db, void *args, struct err *err)
{
    const struct account_args *a = args;
    return account_db_set_quota(db, a->id, a->number, a->event, err);
}

static int db_state(struct account_db *db, void *args, struct err *err)
{
    const struct account_args *a = args;
    return account_db_set_state(db, a->id, a->state, a->event, err);
}

static int db_delete_begin(struct account_db *db, void *args, struct err *err)
{
    const struct account_args *a = args;
    return account_db_delete_begin(db, a->id, a->actor, err);
}

static int db_delete_finish(struct account_db *db, void *args, struct err *err)
{
    const struct account_args *a = args;
    return account_db_delete_finish(db, a->id, a->event, err);
}

/* ---- passwords ---- */

struct hash_job {
    struct password password;
    struct password_params params;
    char encoded[PASSWORD_ENCODED_SIZE];
    int rc;
};

static void run_hash(void *arg)
{
    struct hash_job *j = arg;
    j->rc = password_hash(&j->password, &j->params, j->encoded);
}

/* The encoded hash of a password that is good enough; in the arena. */
static int MAY_YIELD hash_password(struct slice given, struct slice address, struct arena *arena, const char **ret, struct err *err)
{
    struct hash_job *j = calloc(1, sizeof(*j));
    if (j == NULL)
        return err_set(err, -ENOMEM, "out of memory");
    j->params = authd()->params;
    int rc = password_prepare(given, &j->password);
    if (rc != 0)
        rc = err_set(err, rc, given.n == 0 ? "the password is empty" : "the password is too long or holds a NUL");
    else
        rc = password_check(&j->password, address, err);
    if (rc == 0) {
        rc = worker_run(authd()->hash_threads, run_hash, j);
        rc = rc == 0 ? j->rc : rc;
        if (rc != 0)
            (void)err_set(err, rc, "the password cannot be hashed now: %s", err_name(rc));
    }
    if (rc == 0) {
        *ret = arena_strdup(arena, slice_str(j->encoded));
        rc = *ret != NULL ? 0 : err_set(err, -ENOMEM, "out of memory");
    }
    secret_wipe(j, sizeof(*j));
    free(j);
    return rc;
}

static int parse_address(struct slice text, struct address *ret, struct err *err)
{
    int rc = address_canon(text, ret);
    if (rc != 0 || address_domain(ret).n == 0)
        return err_set(err, ERR_SYNTAX, "\"%.*s\" is no address", SLICE_ARG(text));
    return 0;
}

/* ---- add ---- */

int authd_activate(uint64_t id, struct arena *arena, struct err *err)
{
    struct account *acc = directory_account(authd()->directory, id);
    struct account_args a = {.id = id, .arena = arena};
    struct m_account_create_reply reply;
    int rc = authd_db(db_actor, &a, err);
    if (rc != 0)
        return rc;
    struct m_account_create request = {.account = id, .quota = acc->quota, .event = SLICE_EMPTY};
    struct ev_account_created e = {.actor = a.actor, .account = id, .address = arena_copy(arena, slice_str(acc->address))};
    rc = authd_ask_stored(IPC_account_create, (struct id128){{0}}, CLOCK_NEVER, &request, &reply, arena, err);
    if (rc == 0)
        rc = authd_event(EV_account_created, &e, arena, &a.event, err);
    if (rc == 0)
        rc = authd_db(db_activate, &a, err);
    if (rc != 0)
        return rc;
    fiber_wake_all(&authd()->outbox_more);
    acc = directory_account(authd()->directory, id); /* the lock is held: it is there */
    acc->state = ACCOUNT_ACTIVE;
    return authd_put_account(acc, err);
}

static int MAY_YIELD add_account(const struct ipc_request *rq, const struct m_ctl_account_add *q, const struct address *address,
                                 uint64_t *ret_id, struct err *err)
{
    int64_t now = clock_real_ms();
    struct account_args a = {.new = {.address = address_text(address), .actor = authd_actor(rq), .now_ms = now}};
    a.new.quota = q->quota != 0 ? q->quota : (uint64_t)role_context()->conf->store_default_quota;
    int rc = hash_password(q->password, a.new.address, rq->arena, &a.new.credential, err);
    if (rc == 0)
        rc = authd_lock(rq->deadline, err);
    if (rc != 0)
        return rc;
    rc = authd_db(db_reserve, &a, err);
    if (rc == 0) {
        struct account new = {.id = a.id, .state = ACCOUNT_CREATING, .address = address->text, .quota = a.new.quota,
                              .created_ms = now, .credential = a.new.credential, .credential_version = 1};
        rc = authd_put_account(&new, err);
    }
    if (rc == 0 && (rc = authd_activate(a.id, rq->arena, err)) != 0)
        rc = err_context(err, "the account is reserved and will be completed by itself");
    authd_unlock();
    *ret_id = a.id;
    return rc;
}

int authd_account_add(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_account_add *q = request;
    struct address address;
    int rc = authd_may_change(rq, err);
    if (rc == 0)
        rc = parse_address(q->address, &address, err);
    if (rc == 0)
        rc = address_check_own(&address, authd()->rules.delimiter, err);
    return rc == 0 ? add_account(rq, q, &address, &((struct m_ctl_account_add_reply *)reply)->account, err) : rc;
}

/* ---- list ---- */

struct list_args {
    struct slice after;
    size_t max;
    struct arena *arena;
    struct record_list list;
};

static int db_list(struct account_db *db, void *args, struct err *err)
{
    struct list_args *l = args;
    return account_db_list_accounts(db, l->after, l->max, l->arena, &l->list, err);
}

/* What only stored and memory know: how full it is, when it was last used. A store that does not answer leaves zeros. */
static void MAY_YIELD complete(const struct ipc_request *rq, struct m_ctl_account *item)
{
    struct m_account_quota request = {.account = item->account};
    struct m_account_quota_reply reply = {0};
    const struct account *acc = directory_account(authd()->directory, item->account);
    if (acc != NULL && acc->last_login_ms > (int64_t)item->last_login_ms)
        item->last_login_ms = (uint64_t)acc->last_login_ms;
    if (authd_ask_stored(IPC_account_quota, rq->trace, rq->deadline, &request, &reply, rq->arena, NULL) != 0)
        return;
    item->quota = reply.quota;
    item->used = reply.used;
    item->messages = reply.messages;
}

int authd_account_list(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_account_list *q = request;
    struct m_ctl_account_list_reply *r = reply;
    struct list_args l = {.after = q->after, .max = q->max, .arena = rq->arena};
    int rc = authd_may_administer(rq, err);
    if (rc == 0)
        rc = authd_db(db_list, &l, err);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < l.list.n; i++)
        complete(rq, RECORD_ITEM(l.list, m_ctl_account, i));
    r->accounts = l.list;
    return 0;
}

/* ---- set ---- */

/* The sessions and deliveries of an account end now. A store that is not there holds no grants. */
static int MAY_YIELD revoke(uint64_t id, struct arena *arena, struct err *err)
{
    struct m_grant_revoke request = {.account = id, .deliver = 1};
    struct m_grant_revoke_reply reply;
    int rc = -EIO;
    for (int i = 0; i < 3 && rc != 0 && rc != -ENOTCONN; i++)
        rc = authd_ask_stored(IPC_grant_revoke, (struct id128){{0}}, CLOCK_NEVER, &request, &reply, arena, err);
    return rc == -ENOTCONN ? 0 : rc;
}

struct setting {
    const struct m_ctl_account_set *q;
    struct account_args args;
    struct account changed; /* what goes into the directory */
    struct arena *arena;
    struct ipc_request *rq;
};

static int MAY_YIELD set_password(struct setting *s, struct err *err)
{
    int rc = hash_password(s->q->password, slice_str(s->changed.address), s->arena, &s->args.encoded, err);
    s->args.number = s->changed.credential_version = rand_u64() >> 1;
    s->changed.credential = s->args.encoded;
    if (rc == 0)
        rc = authd_db(db_credential, &s->args, err);
    if (rc == 0)
        auth_cache_drop(authd()->cache, s->changed.id);
    return rc;
}

/* The store first: what it enforces is never looser than what the database says. */
static int MAY_YIELD set_quota(struct setting *s, struct err *err)
{
    struct m_account_quota request = {.account = s->changed.id, .set = 1, .quota = s->q->quota};
    struct m_account_quota_reply reply;
    int rc = authd_ask_stored(IPC_account_quota, s->rq->trace, s->rq->deadline, &request, &reply, s->arena, err);
    s->args.number = s->changed.quota = s->q->quota;
    return rc == 0 ? authd_db(db_quota, &s->args, err) : rc;
}

static int MAY_YIELD set_state(struct setting *s, enum account_state state, struct err *err)
{
    s->args.state = s->changed.state = state;
    return authd_db(db_state, &s->args, err);
}

static int MAY_YIELD suspend(struct setting *s, struct err *err)
{
    return set_state(s, ACCOUNT_SUSPENDED, err);
}

static int MAY_YIELD resume(struct setting *s, struct err *err)
{
    return set_state(s, ACCOUNT_ACTIVE, err);
}

static const struct {
    const char *what, *event;
    int MAY_YIELD (*fn)(struct setting *s, struct err *err);
} settings[] = {
    {"password", "password", set_password}, {"quota", "quota", set_quota}, {"suspend", "suspended", suspend}, {"resume", "resumed", resume}};

/* Locked. */
static int MAY_YIELD apply_setting(struct setting *s, size_t which, struct err *err)
{
    struct ev_account_changed e = {.actor = authd_actor(s->rq), .account = s->changed.id, .address = slice_str(s->changed.address),
                                   .what = slice_str(settings[which].event)};
    int rc = authd_event(EV_account_changed, &e, s->arena, &s->args.event, err);
    if (rc == 0)
        rc = settings[which].fn(s, err);
    if (rc != 0)
        return rc;
    fiber_wake_all(&authd()->outbox_more);
    /* A login meanwhile is not undone by what was read before. */
    const struct account *now = directory_account(authd()->directory, s->changed.id);
    s->changed.last_login_ms = now->last_login_ms;
    s->changed.login_unsaved = now->login_unsaved;
    rc = authd_put_account(&s->changed, err);
    if (s->changed.state == ACCOUNT_SUSPENDED) {
        auth_cache_drop(authd()->cache, s->changed.id);
        int revoked = revoke(s->changed.id, s->arena, err);
        if (revoked != 0)
            return err_context(err, "suspended, but sessions that are open may still go on: repeat the command");
    }
    return rc;
}

/* The account to be changed, as a copy that stays whole across waits. Locked. */
static int find_account(struct slice text, struct arena *arena, struct account *ret, struct err *err)
{
    struct address address;
    int rc = parse_address(text, &address, err);
    if (rc != 0)
        return rc;
    const struct account *acc = directory_account_by_address(authd()->directory, address_text(&address));
    if (acc == NULL || acc->state == ACCOUNT_DELETING)
        return err_set(err, -ENOENT, "no account %s", address.text);
    *ret = *acc;
    ret->address = arena_strdup(arena, slice_str(acc->address));
    ret->credential = acc->credential != NULL ? arena_strdup(arena, slice_str(acc->credential)) : NULL;
    return ret->address != NULL ? 0 : err_set(err, -ENOMEM, "out of memory");
}

int authd_account_set(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_account_set *q = request;
    struct setting s = {.q = q, .arena = rq->arena, .rq = rq};
    size_t which = 0;
    (void)reply;
    int rc = authd_may_change(rq, err);
    while (which < sizeof(settings) / sizeof(settings[0]) && !slice_eq(q->what, slice_str(settings[which].what)))
        which++;
    if (rc == 0 && which == sizeof(settings) / sizeof(settings[0]))
        rc = err_set(err, ERR_SYNTAX, "nothing called \"%.*s\" can be set", SLICE_ARG(q->what));
    if (rc == 0)
        rc = authd_lock(rq->deadline, err);
    if (rc != 0)
        return rc;
    rc = find_account(q->address, rq->arena, &s.changed, err);
    if (rc == 0 && s.changed.state == ACCOUNT_CREATING)
        rc = err_set(err, -EBUSY, "%s is still being made: wait until the store is there", s.changed.address);
    s.args = (struct account_args){.id = s.changed.id, .now_ms = clock_real_ms(), .arena = rq->arena};
    if (rc == 0)
        rc = apply_setting(&s, which, err);
    authd_unlock();
    return rc;
}

/* ---- delete ---- */

int authd_finish_delete(uint64_t id, const char *address, struct arena *arena, struct err *err)
{
    struct account_args a = {.id = id, .arena = arena};
    struct m_account_delete request = {.account = id, .event = SLICE_EMPTY};
    struct m_account_delete_reply reply;
    int rc = authd_db(db_actor, &a, err);
    if (rc == 0)
        rc = authd_ask_stored(IPC_account_delete, (struct id128){{0}}, CLOCK_NEVER, &request, &reply, arena, err);
    if (rc == -ENOENT || rc == ERR_GONE)
        rc = 0; /* it never came to the store, or has left it before */
    struct ev_account_deleted e = {.actor = a.actor, .account = id, .address = arena_copy(arena, slice_str(address))};
    if (rc == 0)
        rc = authd_event(EV_account_deleted, &e, arena, &a.event, err);
    if (rc == 0)
        rc = authd_db(db_delete_finish, &a, err);
    if (rc != 0)
        return rc;
    directory_del_target(authd()->directory, e.address);
    directory_del_account(authd()->directory, id);
    fiber_wake_all(&authd()->outbox_more);
    return 0;
}

/* Locked. First the world is told that there is no such account, then its mail goes. */
static int MAY_YIELD delete_account(const struct ipc_request *rq, struct account *acc, struct err *err)
{
    struct account_args a = {.id = acc->id, .actor = authd_actor(rq)};
    int rc = authd_db(db_delete_begin, &a, err);
    if (rc != 0)
        return rc;
    acc->state = ACCOUNT_DELETING;
    rc = authd_put_account(acc, err);
    auth_cache_drop(authd()->cache, acc->id);
    if (rc == 0)
        rc = revoke(acc->id, rq->arena, err);
    if (rc == 0)
        rc = authd_finish_delete(acc->id, acc->address, rq->arena, err);
    return rc == 0 ? 0 : err_context(err, "the account is closed; its mail will be deleted when the store is there");
}

int authd_account_delete(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_account_delete *q = request;
    struct account acc = {0};
    int rc = authd_may_change(rq, err);
    if (rc == 0)
        rc = authd_lock(rq->deadline, err);
    if (rc != 0)
        return rc;
    rc = find_account(q->address, rq->arena, &acc, err);
    if (rc == 0)
        rc = delete_account(rq, &acc, err);
    authd_unlock();
    ((struct m_ctl_account_delete_reply *)reply)->account = acc.id;
    return rc;
}
