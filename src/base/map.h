/* map.h: a hash map from byte strings to pointers. Keys are copied; values are the caller's.
 * SipHash-1-3 under a random key, so that peers cannot choose collisions. Growth doubles; -ENOMEM leaves it unchanged. */
#ifndef KK_BASE_MAP_H
#define KK_BASE_MAP_H

#include "base/slice.h"

struct map {
    struct map_slot *slots;
    size_t cap;   /* 0 or a power of two */
    size_t count; /* live entries */
    size_t filled; /* live and deleted */
    uint64_t seed[2];
};

void map_init(struct map *m);
void map_done(struct map *m);
void *map_get(const struct map *m, struct slice key); /* NULL when absent */
/* 0 or -ENOMEM; replaces and returns the old value through ret_old (NULL allowed; NULL when there was none). */
int map_put(struct map *m, struct slice key, void *value, void **ret_old);
void *map_del(struct map *m, struct slice key); /* the value, or NULL */
/* Walks all entries: start with *pos = 0; false at the end. Deleting the current entry while walking is allowed. */
bool map_next(const struct map *m, size_t *pos, struct slice *ret_key, void **ret_value);

#define MAP_KEY(v) slice_of(&(v), sizeof(v)) /* a fixed-size value as key; no padding in it */

uint64_t map_siphash13(const uint64_t key[2], struct slice s);

#endif
