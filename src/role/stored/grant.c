/* grant.c: see grant.h. Every grant is found by its id and stands in three lists: its account's (revoke, reservations, locks), its
 * holder's (death of the process) and its kind's in order of expiry. */
#include "role/stored/grant.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/secret.h"

struct account_grants {
    uint64_t account;
    struct list grants, locks;
    uint64_t reserved;
};

struct holder_grants {
    struct grant_holder who;
    struct list grants;
    size_t n;
};

struct grant_lock {
    uint64_t mailbox;
    struct grant *grant;
    struct list of_account, of_grant;
};

/* The key under which a holder's newest socket is found. */
struct holder_key {
    uint64_t role, instance;
};

static struct holder_key holder_key(enum role role, uint64_t instance)
{
    return (struct holder_key){role, instance};
}

const char *grant_reason_text(enum grant_reason r)
{
    static const char *const texts[] = {
        [GRANT_OBEYED] = "",           [GRANT_UNKNOWN] = "unknown",           [GRANT_EXPIRED] = "expired",
        [GRANT_FOREIGN] = "foreign",   [GRANT_WRONG_KIND] = "wrong kind",     [GRANT_WRONG_RIGHTS] = "wrong rights",
        [GRANT_WRONG_ACCOUNT] = "wrong account", [GRANT_IN_USE] = "in use",
    };
    return (size_t)r < sizeof(texts) / sizeof(*texts) ? texts[r] : "unknown";
}

#define LISTS (GRANT_KINDS + 1)
#define UNUSED GRANT_KINDS /* the list of those */

void grants_init(struct grants *g)
{
    map_init(&g->by_id);
    map_init(&g->accounts);
    map_init(&g->holders);
    for (size_t i = 0; i < LISTS; i++)
        list_init(&g->by_expiry[i]);
}

/* ---- accounts and holders ---- */

static struct account_grants *account_get(const struct grants *g, uint64_t account)
{
    return map_get(&g->accounts, MAP_KEY(account));
}

static struct account_grants *account_make(struct grants *g, uint64_t account)
{
    struct account_grants *a = account_get(g, account);
    if (a != NULL)
        return a;
    a = calloc(1, sizeof(*a));
    if (a == NULL)
        return NULL;
    a->account = account;
    list_init(&a->grants);
    list_init(&a->locks);
    if (map_put(&g->accounts, MAP_KEY(account), a, NULL) < 0) {
        free(a);
        return NULL;
    }
    return a;
}

static void account_release(struct grants *g, struct account_grants *a)
{
    if (!list_empty(&a->grants))
        return;
    (void)map_del(&g->accounts, MAP_KEY(a->account));
    free(a);
}

static struct holder_grants *holder_get(const struct grants *g, enum role role, uint64_t instance)
{
    struct holder_key key = holder_key(role, instance);
    return map_get(&g->holders, MAP_KEY(key));
}

/* Everything but the account's own record, which the caller releases. */
static void grant_unlink(struct grants *g, struct grant *grant)
{
    struct list *l;
    while ((l = list_pop(&grant->locks)) != NULL) {
        struct grant_lock *lock = list_item(l, struct grant_lock, of_grant);
        list_del(&lock->of_account);
        free(lock);
    }
    grants_reserve(grant, 0);
    (void)map_del(&g->by_id, MAP_KEY(grant->id));
    list_del(&grant->of_account);
    list_del(&grant->of_holder);
    list_del(&grant->of_kind);
    grant->in_holder->n--;
    free(grant);
}

void grants_end(struct grants *g, struct grant *grant)
{
    struct account_grants *a = grant->in_account;
    grant_unlink(g, grant);
    account_release(g, a);
}

static void holder_void(struct grants *g, struct holder_grants *hg)
{
    while (!list_empty(&hg->grants))
        grants_end(g, list_item(hg->grants.next, struct grant, of_holder));
}

int grants_holder_up(struct grants *g, const struct grant_holder *h)
{
    struct holder_grants *hg = holder_get(g, h->role, h->instance);
    if (hg == NULL) {
        struct holder_key key = holder_key(h->role, h->instance);
        hg = calloc(1, sizeof(*hg));
        if (hg == NULL)
            return -ENOMEM;
        list_init(&hg->grants);
        if (map_put(&g->holders, MAP_KEY(key), hg, NULL) < 0) {
            free(hg);
            return -ENOMEM;
        }
    }
    holder_void(g, hg); /* a new socket never inherits */
    hg->who = *h;
    return 0;
}

void grants_holder_down(struct grants *g, const struct grant_holder *h)
{
    struct holder_grants *hg = holder_get(g, h->role, h->instance);
    if (hg == NULL || hg->who.serial != h->serial)
        return; /* an older socket: its grants went when the newer one came */
    struct holder_key key = holder_key(h->role, h->instance);
    holder_void(g, hg);
    (void)map_del(&g->holders, MAP_KEY(key));
    free(hg);
}

void grants_done(struct grants *g)
{
    struct slice key;
    size_t pos = 0;
    void *hg;
    while (map_next(&g->holders, &pos, &key, &hg)) {
        holder_void(g, hg);
        free(hg);
    }
    map_done(&g->holders);
    map_done(&g->accounts);
    map_done(&g->by_id);
}

/* ---- a grant's life ---- */

/* Grants of one kind mostly live equally long, so the search from the end is short. */
static void expiry_insert(struct list *list, struct grant *grant)
{
    struct list *at = list->prev;
    while (at != list && list_item(at, struct grant, of_kind)->expires > grant->expires)
        at = at->prev;
    list_add_head(at, &grant->of_kind);
}

/* The number of a mailbox grant goes to login first, and a login may end before it is a session: then nobody gives the grant back. */
static void expiry_begin(struct grants *g, struct grant *grant, int64_t now)
{
    bool wait = grant->kind == GRANT_MAILBOX && grant->until - now > GRANT_UNUSED_MS;
    grant->expires = wait ? now + GRANT_UNUSED_MS : grant->until;
    expiry_insert(&g->by_expiry[wait ? UNUSED : (int)grant->kind], grant);
}

static void expiry_used(struct grants *g, struct grant *grant)
{
    if (grant->expires == grant->until)
        return;
    list_del(&grant->of_kind);
    grant->expires = grant->until;
    expiry_insert(&g->by_expiry[grant->kind], grant);
}

static uint64_t id_draw(const struct grants *g)
{
    uint64_t id;
    do
        id = rand_u64();
    while (id == 0 || map_get(&g->by_id, MAP_KEY(id)) != NULL);
    return id;
}

static struct grant *grant_new(const struct grants *g, const struct grant_request *q, const struct grant_holder *h, int64_t now)
{
    struct grant *n = calloc(1, sizeof(*n));
    if (n == NULL)
        return NULL;
    uint64_t life = q->lifetime_ms < GRANT_LIFETIME_MAX ? q->lifetime_ms : GRANT_LIFETIME_MAX;
    n->id = id_draw(g);
    n->kind = q->kind;
    n->holder = *h;
    n->conn = q->conn;
    n->account = q->account;
    n->rights = q->rights;
    n->until = now + (int64_t)life;
    list_init(&n->locks);
    return n;
}

int grants_issue(struct grants *g, const struct grant_request *q, int64_t now, uint64_t *ret_id, struct err *err)
{
    if (q->reserve > GRANT_RESERVE_MAX)
        return err_set(err, ERR_LIMIT, "a reservation of %llu bytes", (unsigned long long)q->reserve);
    struct holder_grants *hg = holder_get(g, q->holder_role, q->holder_instance);
    if (hg == NULL)
        return err_set(err, -ENOTCONN, "%s.%llu is not connected", role_name(q->holder_role), (unsigned long long)q->holder_instance);
    if (hg->n >= GRANTS_PER_HOLDER_MAX)
        return err_set(err, -EBUSY, "%s.%llu holds too many grants", role_name(q->holder_role), (unsigned long long)q->holder_instance);
    struct account_grants *a = account_make(g, q->account);
    if (a == NULL)
        return err_set(err, -ENOMEM, "out of memory for a grant");
    struct grant *n = grant_new(g, q, &hg->who, now);
    if (n == NULL || map_put(&g->by_id, MAP_KEY(n->id), n, NULL) < 0) {
        free(n);
        account_release(g, a);
        return err_set(err, -ENOMEM, "out of memory for a grant");
    }
    n->in_account = a;
    n->in_holder = hg;
    list_add_tail(&a->grants, &n->of_account);
    list_add_tail(&hg->grants, &n->of_holder);
    hg->n++;
    expiry_begin(g, n, now);
    grants_reserve(n, q->reserve);
    *ret_id = n->id;
    return 0;
}

static bool holder_is(const struct grant_holder *a, const struct grant_holder *b)
{
    return a->role == b->role && a->instance == b->instance && a->serial == b->serial;
}

static enum grant_reason judge(const struct grant *grant, const struct grant_holder *h, enum grant_kind kind, unsigned rights, int64_t now)
{
    if (grant == NULL)
        return GRANT_UNKNOWN;
    if (!holder_is(&grant->holder, h))
        return GRANT_FOREIGN;
    if (grant->expires <= now)
        return GRANT_EXPIRED;
    if (grant->kind != kind)
        return GRANT_WRONG_KIND;
    return (grant->rights & rights) == rights ? GRANT_OBEYED : GRANT_WRONG_RIGHTS;
}

struct grant *grants_find(struct grants *g, uint64_t id, const struct grant_holder *h, enum grant_kind kind, unsigned rights,
                          int64_t now, enum grant_reason *ret_reason, uint64_t *ret_account)
{
    struct grant *grant = map_get(&g->by_id, MAP_KEY(id));
    *ret_reason = judge(grant, h, kind, rights, now);
    *ret_account = grant != NULL ? grant->account : 0;
    if (*ret_reason != GRANT_OBEYED)
        return NULL;
    expiry_used(g, grant);
    return grant;
}

struct grant *grants_get(const struct grants *g, uint64_t id)
{
    return map_get(&g->by_id, MAP_KEY(id));
}

enum grant_reason grants_drop(struct grants *g, uint64_t id, const struct grant_holder *h)
{
    struct grant *grant = map_get(&g->by_id, MAP_KEY(id));
    if (grant == NULL)
        return GRANT_OBEYED;
    if (!holder_is(&grant->holder, h))
        return GRANT_FOREIGN;
    grants_end(g, grant);
    return GRANT_OBEYED;
}

size_t grants_revoke(struct grants *g, uint64_t account, bool deliver, grants_told_fn *told, void *arg)
{
    struct account_grants *a = account_get(g, account);
    size_t n = 0;
    if (a == NULL)
        return 0;
    for (struct list *l = a->grants.next, *next; l != &a->grants; l = next) {
        struct grant *grant = list_item(l, struct grant, of_account);
        next = l->next;
        if (grant->kind == GRANT_DELIVER && !deliver)
            continue;
        if (told != NULL)
            told(arg, grant);
        grant_unlink(g, grant);
        n++;
    }
    account_release(g, a);
    return n;
}

int64_t grants_sweep(struct grants *g, int64_t now)
{
    int64_t next = CLOCK_NEVER;
    for (size_t i = 0; i < LISTS; i++) {
        struct list *head = &g->by_expiry[i];
        while (!list_empty(head) && list_item(head->next, struct grant, of_kind)->expires <= now)
            grants_end(g, list_item(head->next, struct grant, of_kind));
        if (!list_empty(head)) {
            int64_t first = list_item(head->next, struct grant, of_kind)->expires;
            next = first < next ? first : next;
        }
    }
    return next;
}

/* ---- quota and locks ---- */

uint64_t grants_reserved(const struct grants *g, uint64_t account)
{
    const struct account_grants *a = account_get(g, account);
    return a != NULL ? a->reserved : 0;
}

void grants_reserve(struct grant *grant, uint64_t bytes)
{
    grant->in_account->reserved += bytes - grant->reserved;
    grant->reserved = bytes;
}

int grants_lock(struct grant *grant, uint64_t mailbox)
{
    struct account_grants *a = grant->in_account;
    for (struct list *l = a->locks.next; l != &a->locks; l = l->next) {
        const struct grant_lock *lock = list_item(l, struct grant_lock, of_account);
        if (lock->mailbox == mailbox)
            return lock->grant == grant ? 0 : -EBUSY;
    }
    if (grant->n_locks >= GRANT_LOCKS_MAX)
        return ERR_LIMIT;
    struct grant_lock *lock = calloc(1, sizeof(*lock));
    if (lock == NULL)
        return -ENOMEM;
    lock->mailbox = mailbox;
    lock->grant = grant;
    list_add_tail(&a->locks, &lock->of_account);
    list_add_tail(&grant->locks, &lock->of_grant);
    grant->n_locks++;
    return 0;
}

size_t grants_count(const struct grants *g)
{
    return g->by_id.count;
}
