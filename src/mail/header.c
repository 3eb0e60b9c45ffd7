/* Header blocks and fields: see header.h. Encoded-words are in word.c. */
#include "mail/header.h"

bool mail_line_next(struct slice *rest, struct slice *ret_line)
{
    if (rest->n == 0)
        return false;
    struct slice line = slice_cut(rest, '\n');
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    *ret_line = line;
    return true;
}

/* Length of the field at the start of s: its first line and all that begin with a blank. */
static size_t field_length(struct slice s)
{
    size_t n = 0;
    do {
        const char *lf = memchr(s.p + n, '\n', s.n - n);
        if (lf == NULL)
            return s.n;
        n = (size_t)(lf - s.p) + 1;
    } while (n < s.n && (s.p[n] == ' ' || s.p[n] == '\t'));
    return n;
}

/* RFC 5322 3.6.8: printable ASCII without the colon; blanks before the colon are obsolete (4.5.8), not wrong; a folded line there is wrong,
 * but who unfolds first sees the field, and phishers know it. 0: no field. */
static size_t name_length(struct slice whole, size_t *ret_colon)
{
    size_t n = 0;
    while (n < whole.n && whole.p[n] > ' ' && whole.p[n] < 127 && whole.p[n] != ':')
        n++;
    size_t colon = n;
    while (colon < whole.n && strchr(" \t\r\n", whole.p[colon]) != NULL && whole.p[colon] != '\0')
        colon++;
    *ret_colon = colon;
    return colon < whole.n && whole.p[colon] == ':' ? n : 0;
}

static bool is_empty_line(struct slice s)
{
    return s.p[0] == '\n' || (s.n >= 2 && s.p[0] == '\r' && s.p[1] == '\n');
}

bool mail_header_next(struct slice *rest, struct mail_field *ret)
{
    while (rest->n > 0) {
        if (is_empty_line(*rest)) {
            *rest = slice_from(*rest, rest->p[0] == '\n' ? 1 : 2);
            return false;
        }
        struct slice whole = slice_head(*rest, field_length(*rest));
        *rest = slice_of(rest->p + whole.n, rest->n - whole.n);
        size_t colon, name = name_length(whole, &colon);
        if (name == 0)
            continue;
        struct slice value = slice_from(whole, colon + 1);
        if (value.n > 0 && value.p[value.n - 1] == '\n')
            value.n--;
        if (value.n > 0 && value.p[value.n - 1] == '\r')
            value.n--;
        *ret = (struct mail_field){slice_head(whole, name), slice_head(value, MAIL_VALUE_MAX), whole};
        return true;
    }
    return false;
}

struct slice mail_header_unfold(struct arena *a, struct slice value)
{
    value = slice_trim(value);
    if (value.n == 0)
        return SLICE_EMPTY;
    if (memchr(value.p, '\n', value.n) == NULL && memchr(value.p, '\r', value.n) == NULL)
        return value;
    char *to = arena_alloc(a, value.n);
    if (to == NULL)
        return (struct slice){NULL, 0};
    size_t n = 0;
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] != '\r' && value.p[i] != '\n')
            to[n++] = value.p[i];
    return slice_of(to, n);
}
