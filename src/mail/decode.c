/* Content transfer encodings: see decode.h. */
#include "mail/decode.h"

static const struct {
    const char *name;
    enum mail_encoding encoding;
} encodings[] = {
    {"7bit", MAIL_ENC_7BIT}, {"8bit", MAIL_ENC_8BIT}, {"quoted-printable", MAIL_ENC_QP}, {"base64", MAIL_ENC_BASE64},
    {"binary", MAIL_ENC_BINARY}, {"x-uuencode", MAIL_ENC_UUENCODE}, {"uuencode", MAIL_ENC_UUENCODE},
    {"x-uue", MAIL_ENC_UUENCODE}, {"uue", MAIL_ENC_UUENCODE}, {"7-bit", MAIL_ENC_7BIT}, {"8-bit", MAIL_ENC_8BIT},
    {"quoted_printable", MAIL_ENC_QP}, {"quotedprintable", MAIL_ENC_QP},
};

enum mail_encoding mail_encoding_parse(struct slice raw)
{
    raw = slice_trim(raw);
    size_t n = 0;
    while (n < raw.n && (ascii_is_alnum(raw.p[n]) || raw.p[n] == '-' || raw.p[n] == '_'))
        n++;
    for (size_t i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++)
        if (slice_ieq(slice_head(raw, n), slice_str(encodings[i].name)))
            return encodings[i].encoding;
    return raw.n == 0 ? MAIL_ENC_7BIT : MAIL_ENC_UNKNOWN;
}

const char *mail_encoding_name(enum mail_encoding e)
{
    static const char *const names[MAIL_ENC_COUNT] = {"7bit", "8bit", "binary", "quoted-printable", "base64", "x-uuencode", "unknown"};
    return (unsigned)e < MAIL_ENC_COUNT ? names[e] : "unknown";
}

void mail_decoder_init(struct mail_decoder *d, enum mail_encoding encoding)
{
    d->encoding = encoding;
    d->bits = 0;
    d->n = 0;
    d->uu = UU_BEFORE;
    d->line_n = 0;
}

/* --- base64: RFC 2045 6.8 --- */

/* 1 to 64: the value and one; 0: not of the alphabet; 65: '='. */
static unsigned base64_value(char c)
{
    static const unsigned char table[256] = {
        ['A'] = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26,
        ['a'] = 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52,
        ['0'] = 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, ['+'] = 63, ['/'] = 64, ['='] = 65,
    };
    return table[(unsigned char)c];
}

/* What an unfinished quantum still holds: 2 characters are a byte, 3 are two. */
static void base64_flush(struct mail_decoder *d, struct buf *out)
{
    if (d->n >= 2)
        buf_put_char(out, (char)(d->bits >> (d->n == 2 ? 4 : 10)));
    if (d->n == 3)
        buf_put_char(out, (char)(d->bits >> 2));
    d->n = 0;
    d->bits = 0;
}

static void base64_feed(struct mail_decoder *d, struct slice in, struct buf *out)
{
    char chunk[768];
    size_t n = 0;
    for (size_t i = 0; i < in.n; i++) {
        unsigned v = base64_value(in.p[i]);
        if (v >= 1 && v <= 64) {
            d->bits = d->bits << 6 | (v - 1);
            if (++d->n < 4)
                continue;
            chunk[n] = (char)(d->bits >> 16);
            chunk[n + 1] = (char)(d->bits >> 8);
            chunk[n + 2] = (char)d->bits;
            n += 3;
            d->n = 0;
            d->bits = 0;
        } else if (v == 65 && d->n != 0) {
            buf_put(out, chunk, n);
            n = 0;
            base64_flush(d, out);
        }
        if (n == sizeof(chunk)) {
            buf_put(out, chunk, n);
            n = 0;
        }
    }
    buf_put(out, chunk, n);
}

/* --- quoted-printable: RFC 2045 6.7 --- */

static int hex_value(char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static void qp_flush(struct mail_decoder *d, struct buf *out)
{
    buf_put(out, d->held, d->n);
    d->n = 0;
}

/* Holds one more byte. Blanks beyond what the state can hold go out: they are then kept, even before a line end. */
static void qp_hold(struct mail_decoder *d, char c, struct buf *out)
{
    if (d->n == sizeof(d->held))
        qp_flush(d, out);
    d->held[d->n++] = c;
}

/* A byte that comes when held begins with '='. */
static void qp_after_equals(struct mail_decoder *d, char c, struct buf *out)
{
    if (c == '\n') { /* soft line break, blanks or CR before the LF allowed */
        d->n = 0;
        return;
    }
    if (d->n == 2 && hex_value(d->held[1]) >= 0 && hex_value(c) >= 0) {
        buf_put_char(out, (char)(hex_value(d->held[1]) << 4 | hex_value(c)));
        d->n = 0;
        return;
    }
    bool blanks = d->n == 1 || is_blank(d->held[1]) || d->held[1] == '\r';
    if ((blanks && (is_blank(c) || c == '\r')) || (d->n == 1 && hex_value(c) >= 0)) {
        qp_hold(d, c, out);
        return;
    }
    /* Not quoted-printable: as it stands. The byte itself may begin something new. */
    qp_flush(d, out);
    if (c == '=' || is_blank(c) || c == '\r')
        qp_hold(d, c, out);
    else
        buf_put_char(out, c);
}

static void qp_byte(struct mail_decoder *d, char c, struct buf *out)
{
    if (d->n > 0 && d->held[0] == '=') {
        qp_after_equals(d, c, out);
        return;
    }
    if (is_blank(c)) {
        if (d->n > 0 && d->held[d->n - 1] == '\r')
            qp_flush(d, out);
        qp_hold(d, c, out);
    } else if (c == '\r') {
        if (d->n > 0 && d->held[d->n - 1] == '\r')
            qp_flush(d, out);
        qp_hold(d, c, out);
    } else if (c == '\n') { /* RFC 2045 6.7 (3): blanks at the end of a line were added on the way */
        if (d->n > 0 && d->held[d->n - 1] == '\r')
            buf_put_char(out, '\r');
        d->n = 0;
        buf_put_char(out, '\n');
    } else {
        qp_flush(d, out);
        if (c == '=')
            qp_hold(d, c, out);
        else
            buf_put_char(out, c);
    }
}

static void qp_feed(struct mail_decoder *d, struct slice in, struct buf *out)
{
    while (in.n > 0) {
        /* The plain stretch, in one piece. */
        size_t n = 0;
        if (d->n == 0)
            while (n < in.n && in.p[n] != '=' && !is_blank(in.p[n]) && in.p[n] != '\r' && in.p[n] != '\n')
                n++;
        buf_put(out, in.p, n);
        in = slice_from(in, n);
        if (in.n == 0)
            return;
        qp_byte(d, in.p[0], out);
        in = slice_from(in, 1);
    }
}

static void qp_finish(struct mail_decoder *d, struct buf *out)
{
    /* A soft line break at the very end is none; blanks there end a line. */
    bool soft = d->n > 0 && d->held[0] == '=' && (d->n == 1 || is_blank(d->held[1]) || d->held[1] == '\r');
    if (d->n > 0 && d->held[0] == '=' && !soft)
        qp_flush(d, out);
    if (d->n > 0 && !soft && d->held[d->n - 1] == '\r')
        buf_put_char(out, '\r');
    d->n = 0;
}

/* --- uuencode (POSIX) --- */

static unsigned uu_value(char c)
{
    return ((unsigned)(unsigned char)c - 32) & 63;
}

static void uu_data_line(struct slice line, struct buf *out)
{
    size_t want = line.n != 0 ? uu_value(line.p[0]) : 0;
    for (size_t i = 1; want > 0; i += 4) {
        unsigned v[4];
        for (size_t k = 0; k < 4; k++) /* blanks at the end may have been cut off */
            v[k] = i + k < line.n ? uu_value(line.p[i + k]) : 0;
        char bytes[3] = {(char)(v[0] << 2 | v[1] >> 4), (char)(v[1] << 4 | v[2] >> 2), (char)(v[2] << 6 | v[3])};
        size_t n = want < 3 ? want : 3;
        buf_put(out, bytes, n);
        want -= n;
    }
}

static void uu_line(struct mail_decoder *d, struct buf *out)
{
    struct slice line = slice_of(d->line, d->line_n);
    while (line.n > 0 && (line.p[line.n - 1] == '\r' || line.p[line.n - 1] == '\n'))
        line.n--;
    d->line_n = 0;
    if (d->uu == UU_BEFORE && slice_starts(line, SLICE("begin ")))
        d->uu = UU_DATA;
    else if (d->uu == UU_DATA && slice_eq(slice_trim(line), SLICE("end")))
        d->uu = UU_AFTER;
    else if (d->uu == UU_DATA)
        uu_data_line(line, out);
}

static void uu_feed(struct mail_decoder *d, struct slice in, struct buf *out)
{
    for (size_t i = 0; i < in.n; i++) {
        if (d->line_n < sizeof(d->line))
            d->line[d->line_n++] = in.p[i];
        if (in.p[i] == '\n')
            uu_line(d, out);
    }
}

void mail_decoder_feed(struct mail_decoder *d, struct slice in, struct buf *out)
{
    switch (d->encoding) {
    case MAIL_ENC_BASE64: base64_feed(d, in, out); break;
    case MAIL_ENC_QP: qp_feed(d, in, out); break;
    case MAIL_ENC_UUENCODE: uu_feed(d, in, out); break;
    case MAIL_ENC_7BIT:
    case MAIL_ENC_8BIT:
    case MAIL_ENC_BINARY:
    case MAIL_ENC_UNKNOWN:
    case MAIL_ENC_COUNT: buf_put_slice(out, in); break;
    }
}

void mail_decoder_finish(struct mail_decoder *d, struct buf *out)
{
    if (d->encoding == MAIL_ENC_BASE64)
        base64_flush(d, out);
    else if (d->encoding == MAIL_ENC_QP)
        qp_finish(d, out);
    else if (d->encoding == MAIL_ENC_UUENCODE && d->line_n != 0)
        uu_line(d, out);
}

void mail_decode(enum mail_encoding encoding, struct slice in, struct buf *out)
{
    struct mail_decoder d;
    mail_decoder_init(&d, encoding);
    mail_decoder_feed(&d, in, out);
    mail_decoder_finish(&d, out);
}
