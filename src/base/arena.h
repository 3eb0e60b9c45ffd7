/* arena.h: memory with one lifetime (a connection, a transaction, a command).
 *
 * Objects are never freed one by one. Each arena has a hard maximum; past it, or out of memory, allocation returns NULL.
 * With KK_ARENA_MALLOC (sanitizer builds) each object is a malloc of its own, so that AddressSanitizer sees its bounds.
 * Memory is zeroed. Not thread safe. */
#ifndef KK_BASE_ARENA_H
#define KK_BASE_ARENA_H

#include "base/slice.h"

struct arena {
    struct arena_block *blocks;
    size_t used; /* bytes handed out, all blocks */
    size_t max;
    bool secret; /* set it when a secret is put in: everything is wiped before it is freed or used again */
};

void arena_init(struct arena *a, size_t max);
void arena_done(struct arena *a);  /* frees everything; usable again */
void arena_reset(struct arena *a); /* like arena_done but keeps one block for the next use */
/* Aligned for any type. NULL past the maximum or out of memory. size 0 gives a valid pointer. */
void *arena_alloc(struct arena *a, size_t size);
void *arena_array(struct arena *a, size_t count, size_t size); /* checks the multiplication */
/* A copy of the bytes, NUL behind it (not counted). p == NULL when it failed. */
struct slice arena_copy(struct arena *a, struct slice s);
char *arena_strdup(struct arena *a, struct slice s); /* NUL-terminated; NULL when it failed or s holds NUL */
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
