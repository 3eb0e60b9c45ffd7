/* The first words of a message: see preview.h. */
#include "mail/preview.h"

#include "base/utf8.h"
#include "mail/charset.h"

/* Where characters go: folds white space, counts. */
struct sink {
    struct buf *out;
    size_t chars;
    bool blank; /* white space since the last character */
};

static bool is_full(const struct sink *k)
{
    return k->chars >= MAIL_PREVIEW_CHARS;
}

static bool is_white(uint32_t cp)
{
    return cp <= ' ' || cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

/* Invisible: controls, and what newsletters fill their previews with. */
static bool is_invisible(uint32_t cp)
{
    return (cp >= 0x7f && cp <= 0x9f) || cp == 0xad || cp == 0x34f || cp == 0x61c || (cp >= 0x200b && cp <= 0x200f) ||
           (cp >= 0x202a && cp <= 0x202e) || (cp >= 0x2060 && cp <= 0x2069) || cp == 0xfeff;
}

static void put(struct sink *k, uint32_t cp)
{
    if (is_white(cp)) {
        k->blank = true;
        return;
    }
    if (is_invisible(cp) || is_full(k))
        return;
    if (k->blank && k->chars > 0) {
        buf_put_char(k->out, ' ');
        k->chars++;
    }
    k->blank = false;
    if (is_full(k))
        return;
    if (cp < 0x80)
        buf_put_char(k->out, (char)cp);
    else
        utf8_put_cp(k->out, cp);
    k->chars++;
}

/* One character of the text; returns its length. */
static size_t put_next(struct sink *k, struct slice s)
{
    uint32_t cp = (unsigned char)s.p[0];
    size_t n = cp < 0x80 ? 1 : utf8_next(s, &cp);
    put(k, n != 0 ? cp : 0xfffd);
    return n != 0 ? n : 1;
}

/* --- HTML --- */

static const struct {
    const char *name;
    uint32_t cp;
} entities[] = {
    {"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}, {"nbsp", ' '}, {"copy", 0xa9}, {"reg", 0xae},
    {"trade", 0x2122}, {"hellip", 0x2026}, {"mdash", 0x2014}, {"ndash", 0x2013}, {"lsquo", 0x2018}, {"rsquo", 0x2019},
    {"ldquo", 0x201c}, {"rdquo", 0x201d}, {"laquo", 0xab}, {"raquo", 0xbb}, {"bull", 0x2022}, {"middot", 0xb7}, {"euro", 0x20ac},
    {"pound", 0xa3}, {"yen", 0xa5}, {"cent", 0xa2}, {"sect", 0xa7}, {"deg", 0xb0}, {"times", 0xd7}, {"zwnj", 0x200c},
    {"zwj", 0x200d}, {"shy", 0xad}, {"auml", 0xe4}, {"ouml", 0xf6}, {"uuml", 0xfc}, {"Auml", 0xc4}, {"Ouml", 0xd6}, {"Uuml", 0xdc},
    {"szlig", 0xdf}, {"eacute", 0xe9}, {"egrave", 0xe8}, {"agrave", 0xe0}, {"ccedil", 0xe7}, {"iexcl", 0xa1}, {"iquest", 0xbf},
    {"ntilde", 0xf1}, {"aacute", 0xe1}, {"iacute", 0xed}, {"oacute", 0xf3}, {"uacute", 0xfa}, {"ensp", ' '}, {"emsp", ' '}, {"thinsp", ' '},
};

static bool entity_number(struct slice s, uint32_t *ret)
{
    bool hex = s.n > 1 && ascii_lower(s.p[0]) == 'x';
    uint32_t v = 0;
    s = slice_from(s, hex);
    if (s.n == 0 || s.n > 7)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = ascii_lower(s.p[i]);
        bool letter = hex && c >= 'a' && c <= 'f';
        if (!ascii_is_digit(c) && !letter)
            return false;
        v = v * (hex ? 16 : 10) + (uint32_t)(letter ? c - 'a' + 10 : c - '0');
    }
    *ret = v == 0 || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff) ? 0xfffd : v;
    return true;
}

/* At '&'. Returns the length of the entity, or of the '&' alone. */
static size_t put_entity(struct sink *k, struct slice s)
{
    struct slice name = slice_head(slice_from(s, 1), 12);
    size_t n = slice_find(name, ';');
    uint32_t cp = 0;
    bool found = n < name.n && name.p[0] == '#' && entity_number(slice_from(slice_head(name, n), 1), &cp);
    for (size_t i = 0; !found && n < name.n && i < sizeof(entities) / sizeof(entities[0]); i++)
        if (slice_eq(slice_head(name, n), slice_str(entities[i].name))) {
            cp = entities[i].cp;
            found = true;
        }
    put(k, found ? cp : '&');
    return found ? n + 2 : 1;
}

static bool in_words(struct slice name, const char *words)
{
    for (struct slice rest = slice_str(words); rest.n > 0;)
        if (slice_ieq(name, slice_cut(&rest, ' ')))
            return true;
    return false;
}

/* Where the next `what` is, case ignored; s.n when there is none. */
static size_t find_text(struct slice s, struct slice what)
{
    for (size_t i = 0; i + what.n <= s.n; i++) {
        const char *p = memchr(s.p + i, what.p[0], s.n - i);
        if (p == NULL)
            return s.n;
        i = (size_t)(p - s.p);
        if (slice_istarts(slice_of(p, s.n - i), what))
            return i;
    }
    return s.n;
}

/* At '<' of a tag: its length with the '>'. A '>' inside quotes does not count, unless the quote is never closed (*broken). */
static size_t tag_length(struct slice s, bool *broken)
{
    char quote = 0;
    for (size_t i = 1; !*broken && i < s.n; i++) {
        char c = s.p[i];
        if (quote == 0 && c == '>')
            return i + 1;
        if (quote == 0 && (c == '"' || c == '\''))
            quote = c;
        else if (c == quote)
            quote = 0;
    }
    *broken = true;
    size_t n = slice_find(s, '>');
    return n < s.n ? n + 1 : s.n;
}

/* At '<'. Returns how much to skip. */
static size_t skip_tag(struct sink *k, struct slice s, bool *broken)
{
    char next = s.n > 1 ? s.p[1] : ' ';
    if (!ascii_is_alpha(next) && next != '/' && next != '!' && next != '?') {
        put(k, '<');
        return 1;
    }
    if (slice_starts(s, SLICE("<!--"))) {
        size_t n = find_text(s, SLICE("-->"));
        return n < s.n ? n + 3 : s.n;
    }
    struct slice name = slice_from(s, next == '/' ? 2 : 1);
    size_t n = 0;
    while (n < name.n && n < 16 && (ascii_is_alnum(name.p[n]) || name.p[n] == ':'))
        n++;
    name = slice_head(name, n);
    if (!in_words(name, "a b i u em strong span font small big sub sup code tt abbr s strike ins del mark label wbr o:p"))
        k->blank = true;
    size_t length = tag_length(s, broken);
    bool empty = length >= 2 && s.p[length - 2] == '/';
    if (next == '/' || empty || !in_words(name, "head style script title"))
        return length;
    char close[20];
    int close_n = snprintf(close, sizeof(close), "</%.*s", SLICE_ARG(name));
    return length + find_text(slice_from(s, length), slice_of(close, (size_t)close_n));
}

bool mail_preview_text(struct slice text, bool html, struct buf *out)
{
    struct sink k = {.out = out};
    bool broken = false;
    while (text.n > 0 && !is_full(&k)) {
        size_t n;
        if (html && text.p[0] == '<')
            n = skip_tag(&k, text, &broken);
        else if (html && text.p[0] == '&')
            n = put_entity(&k, text);
        else
            n = put_next(&k, text);
        text = slice_from(text, n);
    }
    return is_full(&k);
}

/* --- choosing and decoding a part --- */

static bool is_candidate(const struct mime_message *m, const struct mime_part *part)
{
    if (part->kind != MIME_LEAF || part->body_size == 0 || slice_ieq(part->disposition, SLICE("attachment")))
        return false;
    if (!mime_part_is(part, "text", "plain") && !mime_part_is(part, "text", "html"))
        return false;
    for (uint32_t up = part->parent; up != MIME_NONE; up = m->parts[up].parent)
        if (m->parts[up].kind == MIME_MESSAGE)
            return false;
    return true;
}

/* The first `limit` bytes (or a little more) of a body, decoded. *ret_cut: there is more. The buffer holds them if need be. */
static struct slice decode_head(enum mail_encoding encoding, struct slice body, size_t limit, struct buf *hold, bool *ret_cut)
{
    struct mail_decoder d;
    if (encoding != MAIL_ENC_BASE64 && encoding != MAIL_ENC_QP && encoding != MAIL_ENC_UUENCODE) {
        *ret_cut = body.n > limit;
        return slice_head(body, limit);
    }
    mail_decoder_init(&d, encoding);
    while (body.n > 0 && hold->n < limit) {
        mail_decoder_feed(&d, slice_head(body, 1024), hold);
        body = slice_from(body, 1024);
    }
    *ret_cut = body.n > 0;
    if (!*ret_cut)
        mail_decoder_finish(&d, hold);
    return buf_slice(hold);
}

/* true: there is no more to get out of this part. */
static bool preview_part(const struct mime_message *m, const struct mime_part *part, size_t limit, struct buf *out)
{
    struct buf bytes, text;
    bool cut;
    buf_init(&bytes, limit + 4096);
    buf_init(&text, 4 * limit + 4096);
    struct slice s = decode_head(part->encoding, mime_part_body(m, part), limit, &bytes, &cut);
    struct slice charset = mime_part_charset(part);
    bool plain = utf8_is_ascii(s) && memchr(s.p, 0x1b, s.n) == NULL &&
                 (charset.n == 0 || slice_ieq(charset, SLICE("us-ascii")) || slice_ieq(charset, SLICE("utf-8")));
    if (!plain) {
        mail_charset_to_utf8(&text, charset, s);
        s = buf_slice(&text);
        while (cut && s.n >= 3 && memcmp(s.p + s.n - 3, "\xef\xbf\xbd", 3) == 0)
            s.n -= 3; /* a character that the limit cut */
    }
    bool full = mail_preview_text(s, mime_part_is(part, "text", "html"), out);
    buf_done(&bytes);
    buf_done(&text);
    return full || !cut;
}

void mail_preview(const struct mime_message *m, struct buf *out)
{
    size_t at = out->n, tries = 0;
    for (size_t i = 0; i < m->n_parts && out->n == at && tries < MAIL_PREVIEW_TRIES; i++) {
        if (!is_candidate(m, &m->parts[i]))
            continue;
        tries++;
        /* The first 4 KiB are nearly always enough. */
        if (!preview_part(m, &m->parts[i], 4096, out)) {
            out->n = at;
            (void)preview_part(m, &m->parts[i], MAIL_PREVIEW_LOOK, out);
        }
    }
}
