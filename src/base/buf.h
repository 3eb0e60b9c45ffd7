/* buf.h: a growing byte buffer with a hard maximum.
 *
 * Appending past the maximum, or failing to allocate, sets `failed` and leaves the content as it was; later appends do
 * nothing. So a printer may append many times and check once, with buf_ok(). The buffer owns its memory. */
#ifndef KK_BASE_BUF_H
#define KK_BASE_BUF_H

#include "base/slice.h"

struct buf {
    char *p;
    size_t n;   /* bytes used */
    size_t cap; /* bytes allocated */
    size_t max; /* hard maximum of n */
    bool failed;
    bool no_memory; /* why it failed */
};

void buf_init(struct buf *b, size_t max);
void buf_done(struct buf *b); /* frees; the buffer may be used again after buf_init */
/* Wipes the content before it frees: for anything that held a secret. */
void buf_done_secret(struct buf *b);
void buf_reset(struct buf *b); /* empties, keeps the memory, clears `failed` */
/* 0, -ENOMEM or ERR_LIMIT. Makes room for `more` bytes behind the content; they may be written at b->p + b->n. */
int buf_reserve(struct buf *b, size_t more);
void buf_put(struct buf *b, const void *p, size_t n);
void buf_put_slice(struct buf *b, struct slice s);
void buf_put_str(struct buf *b, const char *s);
void buf_put_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Removes the first n bytes (at most what is there). */
void buf_consume(struct buf *b, size_t n);
static inline bool buf_ok(const struct buf *b)
{
    return !b->failed;
}
/* 0, -ENOMEM or ERR_LIMIT (base/err.h): how the appending went. */
int buf_error(const struct buf *b);
static inline struct slice buf_slice(const struct buf *b)
{
    return slice_of(b->n != 0 ? b->p : "", b->n);
}
/* Little-endian integers, for on-disk and inter-process formats. */
void buf_put_u16(struct buf *b, uint16_t v);
void buf_put_u32(struct buf *b, uint32_t v);
void buf_put_u64(struct buf *b, uint64_t v);

/* Reads little-endian integers and byte strings off the front of a slice; false when too short (slice untouched). */
bool slice_get_u8(struct slice *s, uint8_t *ret);
bool slice_get_u16(struct slice *s, uint16_t *ret);
bool slice_get_u32(struct slice *s, uint32_t *ret);
bool slice_get_u64(struct slice *s, uint64_t *ret);
bool slice_get_bytes(struct slice *s, size_t n, struct slice *ret);

#endif
