/* Text of header fields, with encoded-words (RFC 2047): see mail_header_decode in header.h. */
#include "mail/charset.h"
#include "mail/decode.h"
#include "mail/header.h"

struct word {
    struct slice charset;
    bool base64;
    struct slice text; /* still encoded */
    size_t length;     /* all of it, from "=?" to "?=" */
};

/* What is decoded and waits for its character set: adjacent words of one set are converted together. */
struct pending {
    bool any;
    struct slice charset;
    struct buf bytes;
};

/* Where the next "?=" at or behind `from` is; n when there is none. *cache makes all searches of one text together linear. */
static size_t end_find(struct slice all, size_t from, size_t *cache)
{
    if (*cache < from || *cache == 0) {
        const char *end = from < all.n ? memmem(all.p + from, all.n - from, "?=", 2) : NULL;
        *cache = end != NULL ? (size_t)(end - all.p) : all.n;
    }
    return *cache;
}

/* The encoded-word at all[at]: "=?" charset ["*" language (RFC 2231 5)] "?" B or Q "?" text "?=". Blanks and "?" in the text are
 * wrong, but sent. */
static bool word_parse(struct slice all, size_t at, size_t *cache, struct word *ret)
{
    struct slice s = slice_from(all, at + 2);
    struct slice charset = slice_head(s, 64);
    charset = slice_head(charset, slice_find(charset, '?'));
    struct slice rest = slice_from(s, charset.n);
    if (rest.n < 3 || rest.p[0] != '?' || rest.p[2] != '?')
        return false;
    char how = ascii_lower(rest.p[1]);
    size_t text = at + 2 + charset.n + 3, end = end_find(all, text, cache);
    if ((how != 'b' && how != 'q') || end == all.n || end - at > MAIL_WORD_MAX)
        return false;
    *ret = (struct word){slice_head(charset, slice_find(charset, '*')), how == 'b', slice_of(all.p + text, end - text), end + 2 - at};
    return true;
}

static int hex_digit(char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 2047 4.2. */
static void decode_q(struct slice in, struct buf *out)
{
    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i];
        if (c == '=' && i + 2 < in.n && hex_digit(in.p[i + 1]) >= 0 && hex_digit(in.p[i + 2]) >= 0) {
            c = (char)(hex_digit(in.p[i + 1]) << 4 | hex_digit(in.p[i + 2]));
            i += 2;
        } else if (c == '_') {
            c = ' ';
        } else if (c == '\r' || c == '\n') {
            continue;
        }
        buf_put_char(out, c);
    }
}

/* Control characters in decoded text are blanks: a line end there must not become one of a header or a listing. */
static void put_text(struct buf *out, size_t from)
{
    for (size_t i = from; i < out->n; i++)
        if ((unsigned char)out->p[i] < ' ' || out->p[i] == 127)
            out->p[i] = ' ';
}

static void pending_flush(struct pending *w, struct buf *out)
{
    if (!w->any)
        return;
    mail_charset_to_utf8(out, w->charset, buf_slice(&w->bytes));
    buf_reset(&w->bytes);
    w->any = false;
}

static void pending_add(struct pending *w, const struct word *word, struct buf *out)
{
    if (w->any && !slice_ieq(w->charset, word->charset))
        pending_flush(w, out);
    w->any = true;
    w->charset = word->charset;
    if (word->base64)
        mail_decode(MAIL_ENC_BASE64, word->text, &w->bytes);
    else
        decode_q(word->text, &w->bytes);
}

/* Text between words: as it is, without line ends. */
static void put_plain(struct buf *out, struct slice s, struct slice hint)
{
    bool ascii = true, folded = false;
    for (size_t i = 0; i < s.n; i++) {
        ascii = ascii && (unsigned char)s.p[i] < 0x80 && s.p[i] != 0x1b;
        folded = folded || s.p[i] == '\r' || s.p[i] == '\n';
    }
    struct buf flat;
    buf_init(&flat, s.n);
    if (folded) {
        for (size_t i = 0; i < s.n; i++)
            if (s.p[i] != '\r' && s.p[i] != '\n')
                buf_put_char(&flat, s.p[i]);
        s = buf_slice(&flat);
    }
    size_t at = out->n;
    if (ascii)
        (void)mail_utf8_put(out, s.p, s.n);
    else
        mail_charset_to_utf8(out, SLICE("us-ascii"), s);
    /* Neither UTF-8 nor ISO-2022-JP: perhaps what the body is in. */
    if (!ascii && hint.n != 0 && out->n > at && memmem(out->p + at, out->n - at, "\xef\xbf\xbd", 3) != NULL) {
        out->n = at;
        mail_charset_to_utf8(out, hint, s);
    }
    buf_done(&flat);
}

static bool is_blank_run(struct slice s)
{
    return slice_trim(s).n == 0;
}

void mail_header_decode(struct buf *out, struct slice value, struct slice hint)
{
    struct slice rest = slice_trim(slice_head(value, MAIL_VALUE_MAX));
    struct pending w = {0};
    size_t from = out->n, plain = 0, cache = 0;
    buf_init(&w.bytes, rest.n + 1);
    for (size_t i = 0; i < rest.n;) {
        const char *at = memmem(rest.p + i, rest.n - i, "=?", 2);
        struct word word;
        i = at != NULL ? (size_t)(at - rest.p) : rest.n;
        if (at == NULL || !word_parse(rest, i, &cache, &word)) {
            i += at != NULL ? 2 : 0;
            continue;
        }
        struct slice between = slice_of(rest.p + plain, i - plain);
        /* RFC 2047 6.2: blanks between two encoded-words are not part of the text. */
        if (!w.any || !is_blank_run(between)) {
            pending_flush(&w, out);
            put_plain(out, between, hint);
        }
        pending_add(&w, &word, out);
        i += word.length;
        plain = i;
    }
    pending_flush(&w, out);
    put_plain(out, slice_from(rest, plain), hint);
    put_text(out, from);
    buf_done(&w.bytes);
}
