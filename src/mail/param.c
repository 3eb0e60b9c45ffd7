/* Content-Type, Content-Disposition, parameters: see param.h. */
#include "mail/param.h"

#include "mail/charset.h"
#include "mail/header.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* RFC 2045 5.1: tspecials end a token; here '/', '=' and what programs put unquoted into values are looked at by the caller. */
static bool is_token(char c)
{
    return (unsigned char)c > ' ' && c != 127 && strchr("()<>@,;:\\\"/[]?=", c) == NULL;
}

/* Skips blanks and comments. A comment that is not closed ends the field. */
static struct slice skip_blanks(struct slice s)
{
    int depth = 0;
    size_t i = 0;
    for (; i < s.n; i++) {
        if (s.p[i] == '\\' && depth > 0)
            i++;
        else if (s.p[i] == '(')
            depth++;
        else if (s.p[i] == ')' && depth > 0)
            depth--;
        else if (depth == 0 && !is_blank(s.p[i]))
            break;
    }
    return slice_from(s, i);
}

static struct slice take_token(struct slice *s)
{
    size_t n = 0;
    while (n < s->n && is_token(s->p[n]))
        n++;
    struct slice t = slice_head(*s, n);
    *s = slice_from(*s, n);
    return slice_head(t, MAIL_TOKEN_MAX);
}

/* The inside of a quoted string, without folding and backslashes; copied only if it has some. `n`: its length as written. */
static bool unquote(struct arena *a, struct slice in, struct slice *ret)
{
    if (in.n == 0 || (memchr(in.p, '\\', in.n) == NULL && memchr(in.p, '\n', in.n) == NULL)) {
        *ret = in.n != 0 ? in : SLICE_EMPTY;
        return true;
    }
    char *to = arena_alloc(a, in.n);
    size_t n = 0;
    if (to == NULL)
        return false;
    for (size_t i = 0; i < in.n; i++) {
        if (in.p[i] == '\\' && i + 1 < in.n)
            i++;
        if (in.p[i] != '\r' && in.p[i] != '\n')
            to[n++] = in.p[i];
    }
    *ret = slice_of(to, n);
    return true;
}

/* s begins behind the opening quote. Where the closing one is; a missing one is taken to stand at the end. */
static size_t quoted_length(struct slice s)
{
    size_t i = 0;
    for (; i < s.n && s.p[i] != '"'; i++)
        if (s.p[i] == '\\')
            i++;
    return i < s.n ? i : s.n;
}

/* Does `s`, behind a blank, begin another parameter? Then a semicolon was forgotten. */
static bool begins_param(struct slice s)
{
    size_t n = 0;
    while (n < s.n && n < MAIL_TOKEN_MAX && is_token(s.p[n]))
        n++;
    return n > 0 && n < s.n && s.p[n] == '=';
}

/* An unquoted value: to the next ';'. Blanks inside it belong to it ("name=My File.doc", wrong but common) unless a comment
 * or another parameter follows. */
static size_t bare_length(struct slice s)
{
    size_t i = 0;
    for (; i < s.n && s.p[i] != ';'; i++) {
        if (!is_blank(s.p[i]) || i + 1 >= s.n || is_blank(s.p[i + 1]))
            continue;
        if (s.p[i + 1] == '(' || begins_param(slice_from(s, i + 1)))
            break;
    }
    return i;
}

static bool take_value(struct arena *a, struct slice *s, struct slice *ret)
{
    if (s->n > 0 && s->p[0] == '"') {
        size_t n = quoted_length(slice_from(*s, 1));
        struct slice in = slice_of(s->p + 1, n);
        *s = slice_from(*s, n + 2);
        return unquote(a, in, ret);
    }
    size_t n = bare_length(*s);
    *ret = mail_header_unfold(a, slice_head(*s, n));
    *s = slice_from(*s, n);
    return ret->p != NULL;
}

/* To the start of the next parameter: behind the ';', or where one was forgotten. */
static struct slice to_next_param(struct slice s)
{
    s = skip_blanks(s);
    if (s.n == 0 || s.p[0] == ';' || begins_param(s))
        return s;
    return slice_from(s, slice_find(s, ';'));
}

/* Into `found`, at most MAIL_PARAMS_MAX. */
static bool take_params(struct arena *a, struct slice s, struct mail_param *found, size_t *ret_n)
{
    size_t n = 0;
    while (n < MAIL_PARAMS_MAX) {
        s = skip_blanks(s);
        while (s.n > 0 && s.p[0] == ';')
            s = skip_blanks(slice_from(s, 1));
        if (s.n == 0)
            break;
        struct slice name = take_token(&s), value = SLICE_EMPTY;
        s = skip_blanks(s);
        bool has_value = s.n > 0 && s.p[0] == '=';
        if (has_value) {
            s = skip_blanks(slice_from(s, 1));
            if (!take_value(a, &s, &value))
                return false;
        }
        if (name.n != 0 && has_value)
            found[n++] = (struct mail_param){name, value};
        s = to_next_param(s);
    }
    *ret_n = n;
    return true;
}

static bool params_parse(struct arena *a, struct slice s, struct mail_params *ret)
{
    struct mail_param found[MAIL_PARAMS_MAX];
    size_t n = 0;
    if (!take_params(a, s, found, &n))
        return false;
    struct mail_param *items = n != 0 ? arena_array(a, n, sizeof(*items)) : NULL;
    if (n != 0 && items == NULL)
        return false;
    if (n != 0)
        memcpy(items, found, n * sizeof(*items));
    *ret = (struct mail_params){items, n};
    return true;
}

bool mail_type_parse(struct arena *a, struct slice raw, struct mail_type *ret)
{
    struct slice s = skip_blanks(slice_head(raw, MAIL_VALUE_MAX));
    *ret = (struct mail_type){SLICE_EMPTY, SLICE_EMPTY, {NULL, 0}};
    struct slice type = take_token(&s), subtype = SLICE_EMPTY;
    s = skip_blanks(s);
    if (s.n > 0 && s.p[0] == '/') {
        s = skip_blanks(slice_from(s, 1));
        subtype = take_token(&s);
    }
    if (type.n != 0 && subtype.n != 0) {
        ret->type = type;
        ret->subtype = subtype;
    }
    return params_parse(a, to_next_param(s), &ret->params);
}

bool mail_disposition_parse(struct arena *a, struct slice raw, struct mail_disposition *ret)
{
    struct slice s = skip_blanks(slice_head(raw, MAIL_VALUE_MAX));
    *ret = (struct mail_disposition){SLICE_EMPTY, {NULL, 0}};
    /* "filename=x" alone: no word was given. */
    if (!begins_param(s))
        ret->word = take_token(&s);
    return params_parse(a, to_next_param(s), &ret->params);
}

bool mail_param_raw(const struct mail_params *p, struct slice name, struct slice *ret)
{
    for (size_t i = 0; i < p->n; i++)
        if (slice_ieq(p->items[i].name, name)) {
            *ret = p->items[i].value;
            return true;
        }
    return false;
}

/* --- RFC 2231 --- */

struct section {
    bool here, extended; /* extended: percent-encoded, the first with character set and language */
    struct slice value;
};

/* "name", "name*", "name*3", "name*3*" for the name wanted. */
static bool section_parse(const struct mail_param *p, struct slice name, unsigned *ret_number, bool *ret_extended)
{
    if (p->name.n <= name.n || !slice_istarts(p->name, name) || p->name.p[name.n] != '*')
        return false;
    struct slice rest = slice_from(p->name, name.n + 1);
    uint64_t number = 0;
    *ret_extended = rest.n == 0 || rest.p[rest.n - 1] == '*';
    if (rest.n != 0 && *ret_extended)
        rest.n--;
    if (rest.n != 0 && (!slice_to_u64(rest, &number) || number >= MAIL_PARAMS_MAX))
        return false;
    *ret_number = (unsigned)number;
    return true;
}

static int hex_digit(char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void put_percent(struct buf *out, struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%' && i + 2 < s.n && hex_digit(s.p[i + 1]) >= 0 && hex_digit(s.p[i + 2]) >= 0) {
            c = (char)(hex_digit(s.p[i + 1]) << 4 | hex_digit(s.p[i + 2]));
            i += 2;
        }
        buf_put_char(out, c);
    }
}

/* charset "'" language "'" text; without both quotes it is text only. */
static struct slice take_charset(struct slice *value)
{
    struct slice rest = *value, charset = slice_cut(&rest, '\'');
    size_t second = slice_find(rest, '\'');
    if (second == rest.n)
        return SLICE_EMPTY;
    *value = slice_from(rest, second + 1);
    return charset;
}

static bool sections_find(const struct mail_params *p, struct slice name, struct section sections[MAIL_PARAMS_MAX])
{
    unsigned number;
    bool extended;
    memset(sections, 0, MAIL_PARAMS_MAX * sizeof(*sections));
    for (size_t i = 0; i < p->n; i++)
        if (section_parse(&p->items[i], name, &number, &extended) && !sections[number].here)
            sections[number] = (struct section){true, extended, p->items[i].value};
    return sections[0].here;
}

static void put_cut(struct buf *out, struct slice charset, struct slice bytes)
{
    struct buf text;
    buf_init(&text, MAIL_PARAM_MAX);
    mail_charset_to_utf8(&text, charset, bytes);
    for (size_t i = 0; i < text.n; i++)
        if ((unsigned char)text.p[i] < ' ' || text.p[i] == 127)
            text.p[i] = ' ';
    buf_put_slice(out, buf_slice(&text));
    buf_done(&text);
}

bool mail_param_get(const struct mail_params *p, struct slice name, struct buf *out)
{
    struct section sections[MAIL_PARAMS_MAX];
    struct slice plain;
    struct buf text;
    bool starred = false;
    for (size_t i = 0; i < p->n && !starred; i++)
        starred = p->items[i].name.n > name.n && p->items[i].name.p[name.n] == '*';
    if (starred && sections_find(p, name, sections)) {
        struct slice charset = SLICE_EMPTY;
        buf_init(&text, MAIL_VALUE_MAX);
        if (sections[0].extended)
            charset = take_charset(&sections[0].value);
        for (size_t i = 0; i < MAIL_PARAMS_MAX && sections[i].here; i++)
            if (sections[i].extended)
                put_percent(&text, sections[i].value);
            else
                buf_put_slice(&text, sections[i].value);
        put_cut(out, charset, buf_slice(&text));
        buf_done(&text);
        return true;
    }
    if (!mail_param_raw(p, name, &plain))
        return false;
    buf_init(&text, MAIL_PARAM_MAX);
    mail_header_decode(&text, plain, SLICE_EMPTY);
    buf_put_slice(out, buf_slice(&text));
    buf_done(&text);
    return true;
}
