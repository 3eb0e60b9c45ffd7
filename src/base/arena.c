#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/secret.h"

#define ARENA_BLOCK 4000 /* usual block; leaves room for malloc's header in a page */

struct arena_block {
    struct arena_block *next;
    size_t used, cap;
    max_align_t data[];
};

void arena_init(struct arena *a, size_t max)
{
    *a = (struct arena){.max = max};
}

static void block_wipe(const struct arena *a, struct arena_block *b)
{
    if (a->secret)
        secret_wipe(b->data, b->cap);
}

void arena_done(struct arena *a)
{
    while (a->blocks != NULL) {
        struct arena_block *b = a->blocks;
        a->blocks = b->next;
        block_wipe(a, b);
        free(b);
    }
    a->used = 0;
    a->secret = false;
}

void arena_reset(struct arena *a)
{
    struct arena_block *keep = a->blocks;
    if (keep == NULL || keep->cap != ARENA_BLOCK) {
        arena_done(a);
        return;
    }
    a->blocks = keep->next;
    block_wipe(a, keep);
    arena_done(a);
    keep->next = NULL;
    keep->used = 0;
    a->blocks = keep;
}

static struct arena_block *block_new(struct arena *a, size_t cap)
{
    struct arena_block *b = malloc(sizeof(*b) + cap);
    if (b == NULL)
        return NULL;
    *b = (struct arena_block){.next = a->blocks, .cap = cap};
    a->blocks = b;
    return b;
}

void *arena_alloc(struct arena *a, size_t size)
{
    const size_t align = _Alignof(max_align_t);
    size_t need;
    if (size > a->max || __builtin_add_overflow(size, align - 1, &need))
        return NULL;
    need &= ~(align - 1);
    if (need == 0)
        need = align;
    if (need > a->max - (a->used < a->max ? a->used : a->max))
        return NULL;
#ifdef KK_ARENA_MALLOC
    struct arena_block *b = block_new(a, size);
    if (b == NULL)
        return NULL;
    a->used += need;
    memset(b->data, 0, size);
    return b->data;
#else
    struct arena_block *b = a->blocks;
    if (b == NULL || b->cap - b->used < need)
        b = block_new(a, need > ARENA_BLOCK ? need : ARENA_BLOCK);
    if (b == NULL)
        return NULL;
    void *p = (char *)b->data + b->used;
    b->used += need;
    a->used += need;
    memset(p, 0, size);
    return p;
#endif
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    return arena_alloc(a, total);
}

struct slice arena_copy(struct arena *a, struct slice s)
{
    char *p = s.n < SIZE_MAX ? arena_alloc(a, s.n + 1) : NULL;
    if (p == NULL)
        return (struct slice){NULL, 0};
    if (s.n != 0)
        memcpy(p, s.p, s.n);
    return slice_of(p, s.n);
}

char *arena_strdup(struct arena *a, struct slice s)
{
    if (slice_find(s, '\0') != s.n)
        return NULL;
    return (char *)(uintptr_t)arena_copy(a, s).p;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n >= 0 ? arena_alloc(a, (size_t)n + 1) : NULL;
    if (p != NULL)
        (void)vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}
