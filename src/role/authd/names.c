/* Domains and aliases from the command line, and the domains of the configuration. */
#include "base/clock.h"
#include "role/authd/authd.h"

struct name_args {
    struct slice a, b, event; /* alias and target; domain and catch-all */
    int64_t now_ms;
    size_t max;
    struct arena *arena;
    struct record_list list;
};

static int db_alias_add(struct account_db *db, void *args, struct err *err)
{
    const struct name_args *n = args;
    return account_db_add_alias(db, n->a, n->b, n->event, err);
}

static int db_alias_del(struct account_db *db, void *args, struct err *err)
{
    const struct name_args *n = args;
    return account_db_del_alias(db, n->a, n->b, n->event, err);
}

static int db_alias_list(struct account_db *db, void *args, struct err *err)
{
    struct name_args *n = args;
    return account_db_list_aliases(db, n->a, n->b, n->max, n->arena, &n->list, err);
}

static int db_domain_set(struct account_db *db, void *args, struct err *err)
{
    const struct name_args *n = args;
    return account_db_set_domain(db, n->a, n->b, n->now_ms, n->event, err);
}

static int db_domain_del(struct account_db *db, void *args, struct err *err)
{
    const struct name_args *n = args;
    return account_db_del_domain(db, n->a, n->event, err);
}

static int db_domain_list(struct account_db *db, void *args, struct err *err)
{
    struct name_args *n = args;
    return account_db_list_domains(db, n->a, n->max, n->arena, &n->list, err);
}

/* ---- aliases ---- */

/* A target is an address here that exists, perhaps with a sub-address: what we accept for an alias must have somewhere to go. */
static int check_target(struct slice text, struct address *ret, struct err *err)
{
    struct arena arena;
    struct directory_answer ans = {0};
    if (address_canon(text, ret) != 0 || address_domain(ret).n == 0)
        return err_set(err, ERR_SYNTAX, "\"%.*s\" is no address", SLICE_ARG(text));
    arena_init(&arena, 1 << 20);
    int rc = directory_resolve(authd()->directory, &authd()->rules, address_text(ret), &arena, &ans);
    arena_done(&arena);
    if (rc == 0 && (ans.verdict == RCPT_NOT_OURS || ans.verdict == RCPT_UNKNOWN || ans.verdict == RCPT_BAD_ADDRESS))
        rc = err_set(err, -ENOENT, "%s is not an address here", ret->text);
    return rc;
}

static int alias_event(const struct ipc_request *rq, struct name_args *n, const char *what, struct err *err)
{
    struct ev_alias_changed e = {.actor = authd_actor(rq), .alias = n->a, .target = n->b, .what = slice_str(what)};
    n->now_ms = clock_real_ms();
    return authd_event(EV_alias_changed, &e, rq->arena, &n->event, err);
}

int authd_alias_add(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_alias_add *q = request;
    struct address alias, target;
    struct name_args n = {0};
    (void)reply;
    int rc = authd_may_change(rq, err);
    if (rc == 0 && address_canon(q->alias, &alias) != 0)
        rc = err_set(err, ERR_SYNTAX, "\"%.*s\" is no address", SLICE_ARG(q->alias));
    if (rc == 0)
        rc = address_check_own(&alias, authd()->rules.delimiter, err);
    if (rc == 0)
        rc = authd_lock(rq->deadline, err);
    if (rc != 0)
        return rc;
    rc = check_target(q->target, &target, err);
    if (rc == 0 && slice_eq(address_text(&alias), address_text(&target)))
        rc = err_set(err, ERR_SYNTAX, "an alias cannot lead to itself");
    n.a = address_text(&alias);
    n.b = address_text(&target);
    if (rc == 0)
        rc = alias_event(rq, &n, "added", err);
    if (rc == 0)
        rc = authd_db(db_alias_add, &n, err);
    if (rc == 0 && directory_add_alias(authd()->directory, n.a, n.b) != 0)
        rc = err_set(err, -ENOMEM, "committed, but out of memory: restart authd");
    authd_unlock();
    fiber_wake_all(&authd()->outbox_more);
    return rc;
}

int authd_alias_delete(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_alias_delete *q = request;
    struct address alias, target;
    struct name_args n = {0};
    (void)reply;
    int rc = authd_may_change(rq, err);
    if (rc == 0 && (address_canon(q->alias, &alias) != 0 || address_canon(q->target, &target) != 0))
        rc = err_set(err, ERR_SYNTAX, "that is no address");
    if (rc == 0)
        rc = authd_lock(rq->deadline, err);
    if (rc != 0)
        return rc;
    n.a = address_text(&alias);
    n.b = address_text(&target);
    rc = alias_event(rq, &n, "deleted", err);
    if (rc == 0)
        rc = authd_db(db_alias_del, &n, err);
    if (rc == 0)
        directory_del_alias(authd()->directory, n.a, n.b);
    authd_unlock();
    fiber_wake_all(&authd()->outbox_more);
    return rc;
}

int authd_alias_list(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_alias_list *q = request;
    struct name_args n = {.a = q->after, .b = q->after_target, .max = q->max, .arena = rq->arena};
    int rc = authd_may_administer(rq, err);
    if (rc == 0)
        rc = authd_db(db_alias_list, &n, err);
    ((struct m_ctl_alias_list_reply *)reply)->aliases = n.list;
    return rc;
}

/* ---- domains ---- */

/* Locked, or before there is anybody else. */
static int MAY_YIELD put_domain(struct slice actor, struct name_args *n, struct err *err)
{
    struct ev_domain_changed e = {.actor = actor, .domain = n->a};
    e.what = !directory_has_domain(authd()->directory, n->a) ? SLICE("added") : n->b.n != 0 ? SLICE("catch-all") : SLICE("no catch-all");
    n->now_ms = clock_real_ms();
    int rc = authd_event(EV_domain_changed, &e, n->arena, &n->event, err);
    if (rc == 0)
        rc = authd_db(db_domain_set, n, err);
    if (rc == 0 && directory_set_domain(authd()->directory, n->a, n->b) != 0)
        rc = err_set(err, -ENOMEM, "committed, but out of memory: restart authd");
    authd_choose_first_domain(role_context()->conf);
    fiber_wake_all(&authd()->outbox_more);
    return rc;
}

static int canon_domain(struct slice name, char out[ADDRESS_DOMAIN_MAX + 1], struct slice *ret, struct err *err)
{
    size_t n;
    if (address_canon_domain(name, out, &n) != 0)
        return err_set(err, ERR_SYNTAX, "\"%.*s\" is no domain name", SLICE_ARG(name));
    *ret = slice_of(out, n);
    return 0;
}

int authd_ensure_domains(const struct conf *conf, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < conf->server_domains.n; i++) {
        char name[ADDRESS_DOMAIN_MAX + 1];
        struct arena arena;
        arena_init(&arena, 65536);
        struct name_args n = {.arena = &arena};
        rc = canon_domain(slice_str(conf->server_domains.items[i]), name, &n.a, err);
        if (rc == 0 && !directory_has_domain(authd()->directory, n.a))
            rc = put_domain(SLICE("configuration"), &n, err);
        arena_done(&arena);
    }
    return rc;
}

int authd_domain_add(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_domain_add *q = request;
    struct name_args n = {.arena = rq->arena};
    char name[ADDRESS_DOMAIN_MAX + 1];
    struct address catch_all = {.n = 0};
    (void)reply;
    int rc = authd_may_change(rq, err);
    if (rc == 0)
        rc = canon_domain(q->domain, name, &n.a, err);
    if (rc == 0)
        rc = authd_lock(rq->deadline, err);
    if (rc != 0)
        return rc;
    if (q->catch_all.n != 0)
        rc = check_target(q->catch_all, &catch_all, err);
    n.b = address_text(&catch_all);
    if (rc == 0)
        rc = put_domain(authd_actor(rq), &n, err);
    authd_unlock();
    return rc;
}

static bool is_configured(struct slice name)
{
    const struct conf_list *l = &role_context()->conf->server_domains;
    for (size_t i = 0; i < l->n; i++) {
        char canon[ADDRESS_DOMAIN_MAX + 1];
        struct slice c = SLICE_EMPTY;
        if (canon_domain(slice_str(l->items[i]), canon, &c, NULL) == 0 && slice_eq(c, name))
            return true;
    }
    return false;
}

int authd_domain_delete(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_domain_delete *q = request;
    struct name_args n = {.arena = rq->arena};
    char name[ADDRESS_DOMAIN_MAX + 1];
    (void)reply;
    int rc = authd_may_change(rq, err);
    if (rc == 0)
        rc = canon_domain(q->domain, name, &n.a, err);
    if (rc == 0 && is_configured(n.a))
        rc = err_set(err, -EBUSY, "%s is in the configuration: take it out of server { domains } first", name);
    if (rc == 0)
        rc = authd_lock(rq->deadline, err);
    if (rc != 0)
        return rc;
    struct ev_domain_changed e = {.actor = authd_actor(rq), .domain = n.a, .what = SLICE("deleted")};
    rc = authd_event(EV_domain_changed, &e, rq->arena, &n.event, err);
    if (rc == 0)
        rc = authd_db(db_domain_del, &n, err);
    if (rc == 0)
        directory_del_domain(authd()->directory, n.a);
    authd_choose_first_domain(role_context()->conf);
    authd_unlock();
    fiber_wake_all(&authd()->outbox_more);
    return rc;
}

int authd_domain_list(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_domain_list *q = request;
    struct name_args n = {.a = q->after, .max = q->max, .arena = rq->arena};
    int rc = authd_may_administer(rq, err);
    if (rc == 0)
        rc = authd_db(db_domain_list, &n, err);
    ((struct m_ctl_domain_list_reply *)reply)->domains = n.list;
    return rc;
}
