#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/secret.h"

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_done(struct buf *b)
{
    free(b->p);
    *b = (struct buf){.max = b->max};
}

void buf_done_secret(struct buf *b)
{
    if (b->p != NULL)
        secret_wipe(b->p, b->cap);
    buf_done(b);
}

void buf_reset(struct buf *b)
{
    b->n = 0;
    b->failed = b->no_memory = false;
}

int buf_error(const struct buf *b)
{
    return !b->failed ? 0 : b->no_memory ? -ENOMEM : ERR_LIMIT;
}

int buf_reserve(struct buf *b, size_t more)
{
    size_t want;
    if (b->failed)
        return buf_error(b);
    if (__builtin_add_overflow(b->n, more, &want) || want > b->max) {
        b->failed = true;
        return ERR_LIMIT;
    }
    if (want <= b->cap)
        return 0;
    size_t cap = b->cap != 0 ? b->cap : 256;
    while (cap < want)
        cap = cap > SIZE_MAX / 2 ? want : cap * 2;
    if (cap > b->max)
        cap = b->max;
    char *p = realloc(b->p, cap);
    if (p == NULL) {
        b->failed = b->no_memory = true;
        return -ENOMEM;
    }
    b->p = p;
    b->cap = cap;
    return 0;
}

void buf_put(struct buf *b, const void *p, size_t n)
{
    if (n == 0 || buf_reserve(b, n) != 0)
        return;
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

void buf_put_slice(struct buf *b, struct slice s)
{
    buf_put(b, s.p, s.n);
}

void buf_put_str(struct buf *b, const char *s)
{
    buf_put(b, s, strlen(s));
}

void buf_put_char(struct buf *b, char c)
{
    buf_put(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    /* vsnprintf writes a NUL behind the text, so one byte more than is kept must fit. */
    if (n >= 0 && buf_reserve(b, (size_t)n) == 0) {
        if (b->n + (size_t)n < b->cap) {
            (void)vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
        } else {
            char *tmp = malloc((size_t)n + 1);
            if (tmp == NULL) {
                b->failed = true;
                n = 0;
            } else {
                (void)vsnprintf(tmp, (size_t)n + 1, fmt, again);
                memcpy(b->p + b->n, tmp, (size_t)n);
                free(tmp);
            }
        }
        b->n += (size_t)n;
    }
    va_end(again);
}

void buf_consume(struct buf *b, size_t n)
{
    if (n >= b->n) {
        b->n = 0;
        return;
    }
    memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
}

void buf_put_u16(struct buf *b, uint16_t v)
{
    unsigned char x[2] = {(unsigned char)v, (unsigned char)(v >> 8)};
    buf_put(b, x, sizeof(x));
}

void buf_put_u32(struct buf *b, uint32_t v)
{
    unsigned char x[4];
    for (int i = 0; i < 4; i++)
        x[i] = (unsigned char)(v >> (8 * i));
    buf_put(b, x, sizeof(x));
}

void buf_put_u64(struct buf *b, uint64_t v)
{
    unsigned char x[8];
    for (int i = 0; i < 8; i++)
        x[i] = (unsigned char)(v >> (8 * i));
    buf_put(b, x, sizeof(x));
}

static bool get_le(struct slice *s, size_t width, uint64_t *ret)
{
    uint64_t v = 0;
    if (s->n < width)
        return false;
    for (size_t i = 0; i < width; i++)
        v |= (uint64_t)(unsigned char)s->p[i] << (8 * i);
    *s = slice_of(s->p + width, s->n - width);
    *ret = v;
    return true;
}

bool slice_get_u8(struct slice *s, uint8_t *ret)
{
    uint64_t v;
    if (!get_le(s, 1, &v))
        return false;
    *ret = (uint8_t)v;
    return true;
}

bool slice_get_u16(struct slice *s, uint16_t *ret)
{
    uint64_t v;
    if (!get_le(s, 2, &v))
        return false;
    *ret = (uint16_t)v;
    return true;
}

bool slice_get_u32(struct slice *s, uint32_t *ret)
{
    uint64_t v;
    if (!get_le(s, 4, &v))
        return false;
    *ret = (uint32_t)v;
    return true;
}

bool slice_get_u64(struct slice *s, uint64_t *ret)
{
    return get_le(s, 8, ret);
}

bool slice_get_bytes(struct slice *s, size_t n, struct slice *ret)
{
    if (s->n < n)
        return false;
    *ret = slice_of(s->p, n);
    *s = slice_of(s->p + n, s->n - n);
    return true;
}
