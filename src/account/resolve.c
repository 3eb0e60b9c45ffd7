/* Who gets mail for an address: see directory_resolve. The hot path of RCPT TO in authd; a stranger chose the address.
 *
 * Only exactly our domains are ours. An address literal, a percent hack, a bang path or a quoted "user@elsewhere" never leads anywhere
 * else: the part before the last "@" is looked up as it stands and found or not (RFC 5321 3.6.1, 4.1.3). */
#include "account/directory_priv.h"

struct expansion {
    struct directory *d;
    const struct directory_rules *rules;
    struct arena *arena;
    struct directory_answer *answer;
    size_t cap;
    bool disabled, creating; /* what stood in the way of some target */
    size_t visits;
    struct { /* addresses still to look at */
        struct slice *items;
        size_t n, cap;
    } todo;
};

static int add_target(struct expansion *x, struct account *a, struct slice detail)
{
    struct directory_answer *ans = x->answer;
    if (a->mark == x->d->round)
        return 0;
    a->mark = x->d->round;
    if (a->state != ACCOUNT_ACTIVE) {
        x->creating |= a->state == ACCOUNT_CREATING;
        x->disabled |= a->state == ACCOUNT_SUSPENDED;
        return 0;
    }
    if (ans->n_targets >= IPC_RCPT_MAX)
        return ERR_LIMIT;
    if (ans->n_targets == x->cap) {
        size_t cap = x->cap != 0 ? x->cap * 4 : 2;
        struct directory_target *more = arena_array(x->arena, cap, sizeof(*more));
        if (more == NULL)
            return -ENOMEM;
        if (ans->n_targets != 0)
            memcpy(more, ans->targets, ans->n_targets * sizeof(*more));
        ans->targets = more;
        x->cap = cap;
    }
    struct directory_target t = {.account = a->id, .address = arena_copy(x->arena, slice_str(a->address))};
    t.detail = arena_copy(x->arena, slice_head(detail, IPC_NAME_MAX));
    if (t.address.p == NULL || t.detail.p == NULL)
        return -ENOMEM;
    ans->targets[ans->n_targets++] = t;
    return 0;
}

static int push_targets(struct expansion *x, const struct directory_entry *e)
{
    if (x->todo.n + e->n_targets > x->todo.cap) {
        size_t cap = (x->todo.n + e->n_targets) * 2;
        struct slice *more = arena_array(x->arena, cap, sizeof(*more));
        if (more == NULL)
            return -ENOMEM;
        if (x->todo.n != 0)
            memcpy(more, x->todo.items, x->todo.n * sizeof(*more));
        x->todo.items = more;
        x->todo.cap = cap;
    }
    for (size_t i = 0; i < e->n_targets; i++)
        x->todo.items[x->todo.n++] = slice_str(e->targets[i]);
    return 0;
}

/* One address: an account, an alias, or a sub-address of either. *ret_found: there is such an address. */
static int visit(struct expansion *x, const struct address *a, bool *ret_found)
{
    struct address base;
    struct slice detail = SLICE_EMPTY;
    struct directory_entry *e = map_get(&x->d->addresses, address_text(a));
    if (e == NULL && address_split_detail(a, x->rules->delimiter, &base, &detail))
        e = map_get(&x->d->addresses, address_text(&base));
    *ret_found = e != NULL;
    if (e == NULL)
        return 0;
    if (++x->visits > DIRECTORY_VISITS_MAX)
        return ERR_LIMIT;
    if (e->account != NULL)
        return add_target(x, e->account, detail);
    if (e->mark == x->d->round) /* met before: a loop, or two ways to the same list */
        return 0;
    e->mark = x->d->round;
    return push_targets(x, e);
}

static int expand(struct expansion *x, const struct address *first, bool *ret_found)
{
    bool ignored;
    int rc = visit(x, first, ret_found);
    while (rc == 0 && x->todo.n > 0) {
        struct address next;
        rc = address_canon(x->todo.items[--x->todo.n], &next);
        if (rc == 0)
            rc = visit(x, &next, &ignored);
    }
    return rc;
}

static void refresh_fallbacks(struct directory *d)
{
    struct slice key;
    void *value;
    for (size_t pos = 0; map_next(&d->domains, &pos, &key, &value);)
        ((struct directory_domain *)value)->fallback = 0;
    for (size_t pos = 0; map_next(&d->accounts, &pos, &key, &value);) {
        const struct account *a = value;
        struct slice domain = slice_str(a->address);
        (void)slice_cut(&domain, '@'); /* own local parts hold no "@" */
        struct directory_domain *dom = map_get(&d->domains, domain);
        if (dom != NULL && a->state == ACCOUNT_ACTIVE && (dom->fallback == 0 || a->id < dom->fallback))
            dom->fallback = a->id;
    }
    d->fallbacks_stale = false;
}

/* RFC 5321 4.5.1, RFC 2142 4: these must be accepted in every domain. */
static bool is_required(const struct address *a, const char *delimiter)
{
    struct address base;
    struct slice detail, local = address_local(a);
    if (address_split_detail(a, delimiter, &base, &detail))
        local = address_local(&base);
    return slice_eq(local, SLICE("postmaster")) || slice_eq(local, SLICE("abuse"));
}

static int try_fallback(struct expansion *x, const struct directory_domain *dom)
{
    if (x->d->fallbacks_stale)
        refresh_fallbacks(x->d);
    struct account *a = directory_account(x->d, dom->fallback);
    x->d->round++; /* whoever it is, also if it was met before */
    if (a == NULL)
        x->creating = true; /* nobody yet: let the sender try again */
    return a != NULL ? add_target(x, a, SLICE_EMPTY) : 0;
}

static int find_targets(struct expansion *x, const struct address *a, const struct directory_domain *dom)
{
    bool found;
    int rc = expand(x, a, &found);
    if (rc == 0 && x->answer->n_targets == 0 && !x->creating && is_required(a, x->rules->delimiter))
        return try_fallback(x, dom);
    if (rc == 0 && !found && dom->catch_all != NULL) {
        struct address all;
        rc = address_canon(slice_str(dom->catch_all), &all);
        if (rc == 0)
            rc = expand(x, &all, &found);
    }
    return rc;
}

static enum rcpt_verdict verdict_of(const struct expansion *x, int rc)
{
    if (rc == ERR_LIMIT || x->creating)
        return RCPT_TEMPORARY; /* a list that is too long is our mistake, not the sender's */
    if (x->answer->n_targets != 0)
        return RCPT_OK;
    return x->disabled ? RCPT_DISABLED : RCPT_UNKNOWN;
}

/* The canonical address and its domain. RCPT_OK: go on. */
static enum rcpt_verdict parse(struct directory *d, const struct directory_rules *rules, struct slice in, struct address *a,
                               const struct directory_domain **ret_domain)
{
    if (address_is_literal(in))
        return RCPT_NOT_OURS;
    if (address_canon(in, a) != 0)
        return RCPT_BAD_ADDRESS;
    if (a->local_n == a->n) {
        size_t n = strlen(rules->first_domain);
        if (!slice_eq(address_text(a), SLICE("postmaster")) || n == 0 || n > ADDRESS_DOMAIN_MAX)
            return RCPT_BAD_ADDRESS;
        a->text[a->n++] = '@';
        memcpy(a->text + a->n, rules->first_domain, n + 1);
        a->n += n;
    }
    *ret_domain = map_get(&d->domains, address_domain(a));
    return *ret_domain != NULL ? RCPT_OK : RCPT_NOT_OURS;
}

int directory_resolve(struct directory *d, const struct directory_rules *rules, struct slice address, struct arena *arena,
                      struct directory_answer *ret)
{
    struct address a;
    const struct directory_domain *dom = NULL;
    struct expansion x = {.d = d, .rules = rules, .arena = arena, .answer = ret};
    *ret = (struct directory_answer){.canonical = SLICE_EMPTY};
    ret->verdict = parse(d, rules, address, &a, &dom);
    if (ret->verdict == RCPT_BAD_ADDRESS || address_is_literal(address))
        return 0;
    ret->canonical = arena_copy(arena, address_text(&a));
    if (ret->canonical.p == NULL)
        return -ENOMEM;
    if (ret->verdict != RCPT_OK)
        return 0;
    d->round++;
    int rc = find_targets(&x, &a, dom);
    if (rc == -ENOMEM)
        return rc;
    ret->verdict = verdict_of(&x, rc);
    if (ret->verdict != RCPT_OK)
        ret->n_targets = 0;
    return 0;
}
