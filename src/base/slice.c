#include "base/slice.h"

bool slice_ieq(struct slice a, struct slice b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
            return false;
    return true;
}

bool slice_starts(struct slice s, struct slice prefix)
{
    return s.n >= prefix.n && slice_eq(slice_head(s, prefix.n), prefix);
}

bool slice_istarts(struct slice s, struct slice prefix)
{
    return s.n >= prefix.n && slice_ieq(slice_head(s, prefix.n), prefix);
}

struct slice slice_from(struct slice s, size_t from)
{
    return from >= s.n ? SLICE_EMPTY : slice_of(s.p + from, s.n - from);
}

struct slice slice_head(struct slice s, size_t n)
{
    return slice_of(s.p, n < s.n ? n : s.n);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice slice_trim(struct slice s)
{
    while (s.n > 0 && is_space(s.p[0]))
        s = slice_of(s.p + 1, s.n - 1);
    while (s.n > 0 && is_space(s.p[s.n - 1]))
        s.n--;
    return s;
}

size_t slice_find(struct slice s, char c)
{
    const char *at = s.n != 0 ? memchr(s.p, c, s.n) : NULL;
    return at != NULL ? (size_t)(at - s.p) : s.n;
}

struct slice slice_cut(struct slice *s, char c)
{
    size_t at = slice_find(*s, c);
    struct slice head = slice_head(*s, at);
    *s = slice_from(*s, at + 1);
    return head;
}

bool slice_to_u64(struct slice s, uint64_t *ret_value)
{
    uint64_t v = 0;
    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (!ascii_is_digit(s.p[i]))
            return false;
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
            return false;
    }
    *ret_value = v;
    return true;
}
