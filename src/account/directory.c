/* The directory's tables: see directory.h. Looking up recipients is in resolve.c. */
#include "account/directory_priv.h"

#include "base/secret.h"

static const char *const state_names[ACCOUNT_STATES] = {"creating", "active", "suspended", "deleting", "deleted"};

const char *account_state_name(enum account_state s)
{
    return (unsigned)s < ACCOUNT_STATES ? state_names[s] : "?";
}

int directory_new(struct directory **ret)
{
    struct directory *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return -ENOMEM;
    map_init(&d->domains);
    map_init(&d->addresses);
    map_init(&d->accounts);
    *ret = d;
    return 0;
}

static void free_account(struct account *a)
{
    if (a == NULL)
        return;
    if (a->credential != NULL)
        secret_wipe((char *)(uintptr_t)a->credential, strlen(a->credential));
    free((char *)(uintptr_t)a->credential);
    free((char *)(uintptr_t)a->address);
    free(a);
}

static void free_entry(struct directory_entry *e)
{
    for (size_t i = 0; i < e->n_targets; i++)
        free(e->targets[i]);
    free(e->targets);
    free(e);
}

static void free_domain(struct directory_domain *dom)
{
    if (dom == NULL)
        return;
    free(dom->catch_all);
    free(dom);
}

void directory_free(struct directory *d)
{
    struct slice key;
    void *value;
    if (d == NULL)
        return;
    for (size_t pos = 0; map_next(&d->domains, &pos, &key, &value);)
        free_domain(value);
    for (size_t pos = 0; map_next(&d->addresses, &pos, &key, &value);)
        free_entry(value);
    for (size_t pos = 0; map_next(&d->accounts, &pos, &key, &value);)
        free_account(value);
    map_done(&d->domains);
    map_done(&d->addresses);
    map_done(&d->accounts);
    free(d);
}

int directory_set_domain(struct directory *d, struct slice name, struct slice catch_all)
{
    struct directory_domain *dom = calloc(1, sizeof(*dom));
    void *old = NULL;
    if (dom != NULL && catch_all.n != 0)
        dom->catch_all = strndup(catch_all.p, catch_all.n);
    if (dom == NULL || (catch_all.n != 0 && dom->catch_all == NULL) || map_put(&d->domains, name, dom, &old) != 0) {
        free_domain(dom);
        return -ENOMEM;
    }
    free_domain(old);
    d->fallbacks_stale = true;
    return 0;
}

void directory_del_domain(struct directory *d, struct slice name)
{
    free_domain(map_del(&d->domains, name));
}

bool directory_has_domain(const struct directory *d, struct slice name)
{
    return map_get(&d->domains, name) != NULL;
}

struct slice directory_first_domain(const struct directory *d)
{
    struct slice key, first = SLICE_EMPTY;
    void *value;
    for (size_t pos = 0; map_next(&d->domains, &pos, &key, &value);) {
        size_t n = key.n < first.n ? key.n : first.n;
        int order = memcmp(key.p, first.p, n);
        if (first.n == 0 || order < 0 || (order == 0 && key.n < first.n))
            first = key;
    }
    return first;
}

struct account *directory_account(const struct directory *d, uint64_t id)
{
    return map_get(&d->accounts, MAP_KEY(id));
}

struct account *directory_account_by_address(const struct directory *d, struct slice address)
{
    const struct directory_entry *e = map_get(&d->addresses, address);
    return e != NULL ? e->account : NULL;
}

size_t directory_accounts(const struct directory *d)
{
    return d->accounts.count;
}

struct account *directory_next_account(const struct directory *d, size_t *pos)
{
    struct slice key;
    void *value;
    return map_next(&d->accounts, pos, &key, &value) ? value : NULL;
}

static struct account *copy_account(const struct account *a)
{
    struct account *copy = malloc(sizeof(*copy));
    if (copy == NULL)
        return NULL;
    *copy = *a;
    copy->address = strdup(a->address);
    copy->credential = a->credential != NULL ? strdup(a->credential) : NULL;
    if (copy->address == NULL || (a->credential != NULL && copy->credential == NULL)) {
        free_account(copy);
        return NULL;
    }
    return copy;
}

/* The entry of an address, made when it is missing. */
static struct directory_entry *need_entry(struct directory *d, struct slice address)
{
    struct directory_entry *e = map_get(&d->addresses, address);
    if (e != NULL)
        return e;
    e = calloc(1, sizeof(*e));
    if (e != NULL && map_put(&d->addresses, address, e, NULL) != 0) {
        free(e);
        return NULL;
    }
    return e;
}

static void drop_entry_if_unused(struct directory *d, struct slice address)
{
    struct directory_entry *e = map_get(&d->addresses, address);
    if (e != NULL && e->account == NULL && e->n_targets == 0)
        free_entry(map_del(&d->addresses, address));
}

int directory_set_account(struct directory *d, const struct account *a)
{
    struct account *copy = copy_account(a);
    struct slice address = slice_str(a->address);
    void *old = NULL;
    if (copy == NULL)
        return -ENOMEM;
    struct directory_entry *e = need_entry(d, address);
    if (e == NULL || map_put(&d->accounts, MAP_KEY(copy->id), copy, &old) != 0) {
        drop_entry_if_unused(d, address);
        free_account(copy);
        return -ENOMEM;
    }
    e->account = copy;
    free_account(old);
    d->fallbacks_stale = true;
    return 0;
}

void directory_del_account(struct directory *d, uint64_t id)
{
    struct account *a = map_del(&d->accounts, MAP_KEY(id));
    if (a == NULL)
        return;
    struct directory_entry *e = map_get(&d->addresses, slice_str(a->address));
    if (e != NULL && e->account == a) {
        e->account = NULL;
        drop_entry_if_unused(d, slice_str(a->address));
    }
    free_account(a);
    d->fallbacks_stale = true;
}

static size_t find_target(const struct directory_entry *e, struct slice target)
{
    size_t i = 0;
    while (i < e->n_targets && !slice_eq(slice_str(e->targets[i]), target))
        i++;
    return i;
}

int directory_add_alias(struct directory *d, struct slice alias, struct slice target)
{
    struct directory_entry *e = need_entry(d, alias);
    if (e == NULL)
        return -ENOMEM;
    if (find_target(e, target) < e->n_targets)
        return 0;
    char **more = reallocarray(e->targets, e->n_targets + 1, sizeof(*more));
    if (more != NULL)
        e->targets = more;
    char *copy = more != NULL ? strndup(target.p, target.n) : NULL;
    if (copy == NULL) {
        drop_entry_if_unused(d, alias);
        return -ENOMEM;
    }
    e->targets[e->n_targets++] = copy;
    return 0;
}

static void entry_del_target(struct directory_entry *e, struct slice target)
{
    size_t i = find_target(e, target);
    if (i == e->n_targets)
        return;
    free(e->targets[i]);
    memmove(&e->targets[i], &e->targets[i + 1], (e->n_targets - i - 1) * sizeof(e->targets[0]));
    e->n_targets--;
}

void directory_del_alias(struct directory *d, struct slice alias, struct slice target)
{
    struct directory_entry *e = map_get(&d->addresses, alias);
    if (e != NULL)
        entry_del_target(e, target);
    drop_entry_if_unused(d, alias);
}

void directory_del_target(struct directory *d, struct slice target)
{
    struct slice key;
    void *value;
    for (size_t pos = 0; map_next(&d->addresses, &pos, &key, &value);) {
        struct directory_entry *e = value;
        entry_del_target(e, target);
        if (e->account == NULL && e->n_targets == 0)
            free_entry(map_del(&d->addresses, key));
    }
}
