#include "base/map.h"

#include <errno.h>
#include <stdlib.h>

#include "base/secret.h"

struct map_slot {
    char *key; /* NULL: never used; &deleted_mark: deleted */
    size_t key_len;
    uint64_t hash;
    void *value;
};

static char deleted_mark;

static uint64_t rotl(uint64_t v, int by)
{
    return v << by | v >> (64 - by);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1]; v[1] = rotl(v[1], 13); v[1] ^= v[0]; v[0] = rotl(v[0], 32);
    v[2] += v[3]; v[3] = rotl(v[3], 16); v[3] ^= v[2];
    v[0] += v[3]; v[3] = rotl(v[3], 21); v[3] ^= v[0];
    v[2] += v[1]; v[1] = rotl(v[1], 17); v[1] ^= v[2]; v[2] = rotl(v[2], 32);
}

uint64_t map_siphash13(const uint64_t key[2], struct slice s)
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d, key[0] ^ 0x6c7967656e657261,
                     key[1] ^ 0x7465646279746573};
    uint64_t last = (uint64_t)s.n << 56;
    size_t i = 0;
    for (; i + 8 <= s.n; i += 8) {
        uint64_t m;
        memcpy(&m, s.p + i, 8);
        v[3] ^= m;
        sip_round(v);
        v[0] ^= m;
    }
    for (size_t k = 0; i + k < s.n; k++)
        last |= (uint64_t)(unsigned char)s.p[i + k] << (8 * k);
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int k = 0; k < 3; k++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void map_init(struct map *m)
{
    *m = (struct map){0};
    rand_bytes(m->seed, sizeof(m->seed));
}

static bool is_live(const struct map_slot *s)
{
    return s->key != NULL && s->key != &deleted_mark;
}

void map_done(struct map *m)
{
    for (size_t i = 0; i < m->cap; i++)
        if (is_live(&m->slots[i]))
            free(m->slots[i].key);
    free(m->slots);
    *m = (struct map){.seed = {m->seed[0], m->seed[1]}};
}

static struct map_slot *find(const struct map *m, struct slice key, uint64_t hash)
{
    if (m->cap == 0)
        return NULL;
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct map_slot *s = &m->slots[i];
        if (s->key == NULL)
            return NULL;
        if (is_live(s) && s->hash == hash && slice_eq(slice_of(s->key, s->key_len), key))
            return s;
    }
}

void *map_get(const struct map *m, struct slice key)
{
    struct map_slot *s = find(m, key, map_siphash13(m->seed, key));
    return s != NULL ? s->value : NULL;
}

static void place(struct map_slot *slots, size_t cap, struct map_slot e)
{
    size_t i = e.hash & (cap - 1);
    while (is_live(&slots[i]))
        i = (i + 1) & (cap - 1);
    slots[i] = e;
}

static int grow(struct map *m)
{
    if ((m->filled + 1) * 4 <= m->cap * 3)
        return 0;
    size_t cap = m->cap != 0 ? m->cap : 16;
    while ((m->count + 1) * 2 > cap)
        cap *= 2;
    struct map_slot *slots = calloc(cap, sizeof(*slots));
    if (slots == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < m->cap; i++)
        if (is_live(&m->slots[i]))
            place(slots, cap, m->slots[i]);
    free(m->slots);
    m->slots = slots;
    m->cap = cap;
    m->filled = m->count;
    return 0;
}

int map_put(struct map *m, struct slice key, void *value, void **ret_old)
{
    uint64_t hash = map_siphash13(m->seed, key);
    struct map_slot *s = find(m, key, hash);
    if (s != NULL) {
        if (ret_old != NULL)
            *ret_old = s->value;
        s->value = value;
        return 0;
    }
    char *copy = malloc(key.n + 1);
    if (copy == NULL || grow(m) != 0) {
        free(copy);
        return -ENOMEM;
    }
    if (key.n != 0)
        memcpy(copy, key.p, key.n);
    size_t i = hash & (m->cap - 1);
    while (is_live(&m->slots[i]))
        i = (i + 1) & (m->cap - 1);
    if (m->slots[i].key == NULL)
        m->filled++;
    m->slots[i] = (struct map_slot){copy, key.n, hash, value};
    m->count++;
    if (ret_old != NULL)
        *ret_old = NULL;
    return 0;
}

/* Marks of deleted entries keep a search going. Those at the end of a run are of no use; without this a map of few entries that
 * come and go would fill up with them. */
static void forget_marks(struct map *m, size_t i)
{
    size_t mask = m->cap - 1;
    if (m->slots[(i + 1) & mask].key != NULL)
        return;
    for (; m->slots[i].key == &deleted_mark; i = (i - 1) & mask) {
        m->slots[i].key = NULL;
        m->filled--;
    }
}

void *map_del(struct map *m, struct slice key)
{
    struct map_slot *s = find(m, key, map_siphash13(m->seed, key));
    if (s == NULL)
        return NULL;
    void *value = s->value;
    free(s->key);
    *s = (struct map_slot){.key = &deleted_mark};
    m->count--;
    forget_marks(m, (size_t)(s - m->slots));
    return value;
}

bool map_next(const struct map *m, size_t *pos, struct slice *ret_key, void **ret_value)
{
    while (*pos < m->cap) {
        const struct map_slot *s = &m->slots[(*pos)++];
        if (is_live(s)) {
            *ret_key = slice_of(s->key, s->key_len);
            *ret_value = s->value;
            return true;
        }
    }
    return false;
}
