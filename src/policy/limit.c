/* Limits by client address: see limit.h. A set-associative table: the hash picks a set of WAYS entries and one shared entry. */
#include "policy/limit.h"

#include <errno.h>

#include "base/clock.h"
#include "base/map.h"
#include "base/secret.h"

#define WAYS 8
#define MINUTE 60000

struct bucket {
    uint64_t used; /* tokens taken, in parts of 1/MINUTE */
    int64_t at;    /* when `used` was right */
    uint32_t per_minute;
};
struct limit_entry {
    uint8_t key[16];
    uint32_t connections;
    bool in_use;
    uint64_t held;
    struct bucket rates[LIMIT_RATES];
};
struct set {
    struct limit_entry ways[WAYS];
    struct limit_entry shared;
};
struct limit_table {
    uint64_t seed[2];
    size_t mask;
    struct set *sets; /* pages are touched as they are used */
};

int limit_table_new(size_t clients, struct limit_table **ret)
{
    size_t sets = 1;
    while (sets * WAYS < clients)
        sets *= 2;
    struct limit_table *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return -ENOMEM;
    t->sets = calloc(sets, sizeof(*t->sets));
    if (t->sets == NULL) {
        free(t);
        return -ENOMEM;
    }
    t->mask = sets - 1;
    rand_bytes(t->seed, sizeof(t->seed));
    *ret = t;
    return 0;
}

void limit_table_free(struct limit_table *t)
{
    if (t == NULL)
        return;
    free(t->sets);
    free(t);
}

/* per_minute tokens flow back in a minute: per_minute parts a millisecond. */
static void bucket_refill(struct bucket *b, int64_t now)
{
    uint64_t passed = now > b->at ? (uint64_t)(now - b->at) : 0, back;
    if (__builtin_mul_overflow(passed, (uint64_t)b->per_minute, &back) || back >= b->used)
        b->used = 0;
    else
        b->used -= back;
    b->at = now;
}

static bool entry_idle(struct limit_entry *e, int64_t now)
{
    if (e->connections != 0 || e->held != 0)
        return false;
    for (unsigned i = 0; i < LIMIT_RATES; i++) {
        bucket_refill(&e->rates[i], now);
        if (e->rates[i].used != 0)
            return false;
    }
    return true;
}

static struct set *set_of(const struct limit_table *t, const struct netaddr *key)
{
    return &t->sets[map_siphash13(t->seed, slice_of(key->ip, sizeof(key->ip))) & t->mask];
}

static struct limit_entry *entry_known(struct set *s, const struct netaddr *key)
{
    for (unsigned i = 0; i < WAYS; i++)
        if (s->ways[i].in_use && memcmp(s->ways[i].key, key->ip, sizeof(key->ip)) == 0)
            return &s->ways[i];
    return NULL;
}

static struct limit_entry *entry_get(struct limit_table *t, const struct netaddr *client)
{
    struct netaddr key = netaddr_limit_key(client);
    struct set *s = set_of(t, &key);
    struct limit_entry *e = entry_known(s, &key);
    int64_t now = clock_mono_ms();
    if (e != NULL)
        return e;
    for (unsigned i = 0; i < WAYS; i++) {
        e = &s->ways[i];
        if (e->in_use && !entry_idle(e, now))
            continue;
        *e = (struct limit_entry){.in_use = true};
        memcpy(e->key, key.ip, sizeof(e->key));
        return e;
    }
    return &s->shared;
}

/* Who entered through the shared entry may have an entry of his own by the time he leaves: entries with connections are never
 * forgotten, so one that is known and has none has not been entered. */
void limit_leave(struct limit_table *t, const struct netaddr *client)
{
    struct netaddr key = netaddr_limit_key(client);
    struct set *s = set_of(t, &key);
    struct limit_entry *e = entry_known(s, &key);
    if (e == NULL || e->connections == 0)
        e = &s->shared;
    if (e->connections > 0)
        e->connections--;
}

bool limit_enter(struct limit_table *t, const struct netaddr *client, uint64_t most)
{
    struct limit_entry *e = entry_get(t, client);
    if (e->connections >= most || e->connections == UINT32_MAX)
        return false;
    e->connections++;
    return true;
}

bool limit_take(struct limit_table *t, const struct netaddr *client, unsigned which, uint64_t per_minute)
{
    struct bucket *b = &entry_get(t, client)->rates[which];
    if (per_minute > UINT32_MAX)
        per_minute = UINT32_MAX;
    bucket_refill(b, clock_mono_ms());
    b->per_minute = (uint32_t)per_minute;
    if (b->used + MINUTE > per_minute * MINUTE)
        return false;
    b->used += MINUTE;
    return true;
}

bool limit_hold(struct limit_table *t, const struct netaddr *client, uint64_t n, uint64_t most, struct limit_entry **hold)
{
    struct limit_entry *e = *hold != NULL ? *hold : entry_get(t, client);
    if (n > most || e->held > most - n)
        return false;
    e->held += n;
    *hold = e;
    return true;
}

void limit_release(struct limit_entry *hold, uint64_t n)
{
    hold->held -= n;
}

uint64_t limit_connections(const struct limit_table *t, const struct netaddr *client)
{
    struct netaddr key = netaddr_limit_key(client);
    const struct limit_entry *e = entry_known(set_of(t, &key), &key);
    return e != NULL ? e->connections : 0;
}
