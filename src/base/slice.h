/* slice.h: bytes that somebody else owns, as {pointer, length}.
 *
 * Every byte string that comes from outside is a slice: it may hold NUL and is never
 * NUL-terminated. A slice owns nothing; it is valid while the memory behind it is. */
#ifndef KK_BASE_SLICE_H
#define KK_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *p;
    size_t n;
};

#define SLICE(literal) ((struct slice){(literal), sizeof(literal) - 1})
#define SLICE_EMPTY ((struct slice){"", 0})
/* For printf's "%.*s". */
#define SLICE_ARG(s) (int)(s).n, (s).n != 0 ? (s).p : ""

static inline struct slice slice_of(const void *p, size_t n)
{
    return (struct slice){p, n};
}

static inline struct slice slice_str(const char *s)
{
    return (struct slice){s, strlen(s)};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* ASCII case folding only: what protocol keywords and domains want. */
bool slice_ieq(struct slice a, struct slice b);
bool slice_starts(struct slice s, struct slice prefix);
bool slice_istarts(struct slice s, struct slice prefix);
/* The bytes from `from` on; empty when from is past the end. */
struct slice slice_from(struct slice s, size_t from);
/* The first `n` bytes, fewer when there are fewer. */
struct slice slice_head(struct slice s, size_t n);
/* Without leading and trailing spaces, tabs, CR and LF. */
struct slice slice_trim(struct slice s);
/* Index of the first `c`, or s.n when there is none. */
size_t slice_find(struct slice s, char c);
/* Cuts what stands before the first `c` off `*s` and returns it; the whole rest when there is no `c`. */
struct slice slice_cut(struct slice *s, char c);
/* Strict decimal without sign, space or leading "+"; false on overflow, emptiness or other bytes. */
bool slice_to_u64(struct slice s, uint64_t *ret_value);

/* ASCII, whatever the locale says. */
static inline char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}
static inline bool ascii_is_digit(char c)
{
    return c >= '0' && c <= '9';
}
static inline bool ascii_is_alpha(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}
static inline bool ascii_is_alnum(char c)
{
    return ascii_is_digit(c) || ascii_is_alpha(c);
}

#endif
