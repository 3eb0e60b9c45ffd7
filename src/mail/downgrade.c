/* Downgrading of internationalized headers (RFC 6857): see downgrade.h.
 *
 * What happens to a field is by its name: words and comments become encoded-words (RFC 2047), parameters RFC 2231 values, an
 * address that is not ASCII becomes an empty group that shows it ("Internationalized address ... Removed:;"), ids move to a field
 * Downgraded-<name>, a Received field loses its FOR clause. Folding of the original is given up in the fields that change. */
#include "mail/downgrade.h"

#include "base/err.h"
#include "base/utf8.h"

/* RFC 2047 section 2: an encoded-word has at most 75 characters: 75 - strlen("=?UTF-8?B??=") = 63, in fours 60, so 45 bytes. */
#define WORD_BYTES 45

enum kind { KIND_TEXT, KIND_ADDRESSES, KIND_ID, KIND_MIME, KIND_RECEIVED };

static const struct {
    const char *name;
    enum kind kind;
} fields[] = {
    {"From", KIND_ADDRESSES}, {"Sender", KIND_ADDRESSES}, {"To", KIND_ADDRESSES}, {"Cc", KIND_ADDRESSES}, {"Bcc", KIND_ADDRESSES},
    {"Reply-To", KIND_ADDRESSES}, {"Resent-From", KIND_ADDRESSES}, {"Resent-Sender", KIND_ADDRESSES},
    {"Resent-To", KIND_ADDRESSES}, {"Resent-Cc", KIND_ADDRESSES}, {"Resent-Bcc", KIND_ADDRESSES},
    {"Resent-Reply-To", KIND_ADDRESSES}, {"Return-Path", KIND_ADDRESSES}, {"Delivered-To", KIND_ADDRESSES},
    {"Disposition-Notification-To", KIND_ADDRESSES}, {"Message-ID", KIND_ID}, {"Resent-Message-ID", KIND_ID},
    {"In-Reply-To", KIND_ID}, {"References", KIND_ID}, {"Original-Recipient", KIND_ID}, {"Final-Recipient", KIND_ID},
    {"Content-Type", KIND_MIME}, {"Content-Disposition", KIND_MIME}, {"Received", KIND_RECEIVED},
};

bool downgrade_wanted(struct slice s)
{
    return !utf8_is_ascii(s);
}

static void put_base64(struct buf *out, struct slice s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < s.n; i += 3) {
        uint32_t v = (uint32_t)(unsigned char)s.p[i] << 16;
        v |= i + 1 < s.n ? (uint32_t)(unsigned char)s.p[i + 1] << 8 : 0;
        v |= i + 2 < s.n ? (unsigned char)s.p[i + 2] : 0;
        const char four[4] = {digits[v >> 18], digits[v >> 12 & 63], i + 1 < s.n ? digits[v >> 6 & 63] : '=',
                              i + 2 < s.n ? digits[v & 63] : '='};
        buf_put(out, four, 4);
    }
}

/* Text as encoded-words, one a line when there are more: characters are not split between words (RFC 2047 section 5). */
static void put_encoded(struct buf *out, struct slice text)
{
    bool first = true;
    while (text.n > 0) {
        size_t n = 0;
        while (n < text.n) {
            size_t len = utf8_next(slice_from(text, n), NULL);
            if (len == 0)
                len = 1;
            if (n + len > WORD_BYTES)
                break;
            n += len;
        }
        buf_put_str(out, first ? "=?UTF-8?B?" : "\r\n =?UTF-8?B?");
        put_base64(out, slice_head(text, n));
        buf_put_str(out, "?=");
        text = slice_from(text, n);
        first = false;
    }
}

/* A field's value on one line: folds become the white space they stand for. */
static void put_unfolded(struct buf *out, struct slice value)
{
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] != '\r' && value.p[i] != '\n')
            buf_put_char(out, value.p[i]);
}

/* The end of what begins at s: a quoted string, a comment (they nest) or a <...>; backslash escapes. */
static size_t span(struct slice s, char open, char close)
{
    size_t depth = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\\' && i + 1 < s.n)
            i++;
        else if (s.p[i] == close && (open == close ? i > 0 : depth == 1))
            return i + 1;
        else if (s.p[i] == open)
            depth++;
        else if (s.p[i] == close && depth > 0)
            depth--;
    }
    return s.n;
}

/* The end of the token at s: a quoted string, comment, angle address, or plain text up to one of these or a stop character. */
static size_t token(struct slice s, const char *stops)
{
    static const struct {
        char open, close;
    } pairs[] = {{'"', '"'}, {'(', ')'}, {'<', '>'}, {'[', ']'}};
    for (size_t k = 0; k < sizeof(pairs) / sizeof(pairs[0]); k++)
        if (s.p[0] == pairs[k].open)
            return span(s, pairs[k].open, pairs[k].close);
    size_t i = 0;
    while (i < s.n && strchr("\"(<[", s.p[i]) == NULL && strchr(stops, s.p[i]) == NULL)
        i++;
    return i > 0 ? i : 1;
}

/* Without the marks at both ends; the closing one may be missing. */
static struct slice inside(struct slice s)
{
    s = slice_from(s, 1);
    if (s.n > 0 && memchr("\")>]", s.p[s.n - 1], 4) != NULL)
        s.n--;
    return s;
}

/* The text of a quoted string, without its backslashes. */
static void put_unquoted(struct buf *out, struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\\' && i + 1 < s.n)
            i++;
        buf_put_char(out, s.p[i]);
    }
}

static void put_encoded_quoted(struct buf *out, struct slice quoted)
{
    struct buf plain;
    buf_init(&plain, DOWNGRADE_HEADER_MAX);
    put_unquoted(&plain, inside(quoted));
    put_encoded(out, buf_slice(&plain));
    if (!buf_ok(&plain))
        out->failed = true;
    buf_done(&plain);
}

/* White space around s stays, what is inside is encoded. */
static void put_encoded_trimmed(struct buf *out, struct slice s)
{
    struct slice t = slice_trim(s);
    size_t lead = (size_t)(t.p - s.p);
    buf_put_slice(out, slice_head(s, lead));
    put_encoded(out, t);
    buf_put_slice(out, slice_from(s, lead + t.n));
}

/* A token that may be encoded in place: quoted string, comment, words. */
static void put_word(struct buf *out, struct slice t)
{
    if (!downgrade_wanted(t)) {
        buf_put_slice(out, t);
    } else if (t.p[0] == '"') {
        put_encoded_quoted(out, t);
    } else if (t.p[0] == '(') {
        buf_put_char(out, '(');
        put_encoded(out, inside(t));
        buf_put_char(out, ')');
    } else {
        put_encoded_trimmed(out, t);
    }
}

/* RFC 6857 3.1: an address that cannot be written becomes a group without members that shows it; groups do not nest, so that
 * within one it is shown in a comment. */
static void put_removed(struct buf *out, struct slice address, bool in_group)
{
    buf_put_str(out, in_group ? "(Internationalized address " : "Internationalized address ");
    put_encoded(out, address);
    buf_put_str(out, in_group ? " Removed)" : " Removed:;");
}

/* One member of an address list, without the comma. */
static void put_mailbox(struct buf *out, struct slice m, bool in_group)
{
    bool angle = false, high = false;
    struct slice rest = m, address = slice_trim(m);
    while (rest.n > 0) {
        size_t n = token(rest, "");
        if (rest.p[0] == '<') {
            angle = true;
            address = slice_head(rest, n);
        } else if (rest.p[0] != '(') {
            high = high || downgrade_wanted(slice_head(rest, n));
        }
        rest = slice_from(rest, n);
    }
    bool bad = angle ? downgrade_wanted(address) : high && slice_find(address, '@') < address.n;
    if (!angle && bad) {
        buf_put_char(out, ' ');
        put_removed(out, address, in_group);
        return;
    }
    for (rest = m; rest.n > 0;) {
        size_t n = token(rest, "");
        struct slice t = slice_head(rest, n);
        if (t.p[0] == '<' && bad)
            put_removed(out, inside(t), in_group);
        else
            put_word(out, t);
        rest = slice_from(rest, n);
    }
}

static void put_addresses(struct buf *out, struct slice value)
{
    bool in_group = false;
    while (value.n > 0) {
        size_t end = 0;
        while (end < value.n && strchr(",:;", value.p[end]) == NULL)
            end += token(slice_from(value, end), ",:;");
        struct slice member = slice_head(value, end);
        char mark = end < value.n ? value.p[end] : ',';
        if (mark == ':' || !downgrade_wanted(member))
            put_word(out, member);
        else
            put_mailbox(out, member, in_group);
        in_group = mark == ':' || (in_group && mark != ';');
        if (end < value.n)
            buf_put_char(out, mark);
        value = slice_from(value, end + 1);
        if (downgrade_wanted(member) && slice_trim(value).n > 0)
            buf_put_str(out, "\r\n ");
    }
}

/* RFC 2231 section 4: name*=UTF-8''percent-encoded */
static void put_parameter(struct buf *out, struct slice p)
{
    struct slice name = slice_cut(&p, '=');
    struct slice value = slice_trim(p);
    struct buf plain;
    if (slice_trim(name).n == 0 || value.n == 0) {
        put_encoded_trimmed(out, name);
        return;
    }
    buf_init(&plain, DOWNGRADE_HEADER_MAX);
    if (value.p[0] == '"')
        put_unquoted(&plain, inside(value));
    else
        buf_put_slice(&plain, value);
    buf_put_slice(out, name);
    buf_put_str(out, "*=UTF-8''");
    for (size_t i = 0; i < plain.n; i++) {
        if (ascii_is_alnum(plain.p[i]) || strchr("-._~", plain.p[i]) != NULL)
            buf_put_char(out, plain.p[i]);
        else
            buf_printf(out, "%%%02X", (unsigned char)plain.p[i]);
    }
    buf_done(&plain);
}

static void put_mime(struct buf *out, struct slice value)
{
    while (value.n > 0) {
        size_t end = 0;
        while (end < value.n && value.p[end] != ';')
            end += token(slice_from(value, end), ";");
        struct slice part = slice_head(value, end);
        if (!downgrade_wanted(part))
            buf_put_slice(out, part);
        else if (slice_find(part, '=') < part.n)
            put_parameter(out, part);
        else
            put_word(out, part);
        if (end < value.n)
            buf_put_char(out, ';');
        value = slice_from(value, end + 1);
    }
}

/* How much a FOR clause with an address that is not ASCII takes at the start of s; 0: there is none. */
static size_t for_clause(struct slice s)
{
    size_t at = 3;
    if (!slice_istarts(s, SLICE("for")) || s.n == 3 || (s.p[3] != ' ' && s.p[3] != '\t'))
        return 0;
    while (at < s.n && (s.p[at] == ' ' || s.p[at] == '\t'))
        at++;
    struct slice address = slice_from(s, at);
    size_t n = address.n > 0 ? token(address, " \t;") : 0;
    return downgrade_wanted(slice_head(address, n)) ? at + n : 0;
}

static void put_received(struct buf *out, struct slice value)
{
    while (value.n > 0) {
        size_t n = for_clause(value);
        if (n == 0) {
            n = token(value, " \t;");
            put_word(out, slice_head(value, n));
        }
        value = slice_from(value, n);
    }
}

static enum kind kind_of(struct slice name)
{
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (slice_ieq(name, slice_str(fields[i].name)))
            return fields[i].kind;
    return KIND_TEXT;
}

static void put_field(struct buf *out, struct slice name, struct slice value)
{
    static void (*const put[])(struct buf *, struct slice) = {
        [KIND_TEXT] = put_encoded_trimmed, [KIND_ADDRESSES] = put_addresses, [KIND_ID] = put_encoded_trimmed,
        [KIND_MIME] = put_mime,            [KIND_RECEIVED] = put_received,
    };
    enum kind kind = kind_of(name);
    if (kind == KIND_ID)
        buf_put_str(out, "Downgraded-");
    buf_put_slice(out, name);
    buf_put_char(out, ':');
    put[kind](out, value);
    buf_put_str(out, "\r\n");
}

/* The length of the first field with its folded lines. */
static size_t field_length(struct slice s)
{
    size_t at = 0;
    do {
        size_t lf = slice_find(slice_from(s, at), '\n');
        at = at + lf < s.n ? at + lf + 1 : s.n;
    } while (at < s.n && (s.p[at] == ' ' || s.p[at] == '\t'));
    return at;
}

int downgrade_header(struct slice header, struct buf *out)
{
    if (header.n > DOWNGRADE_HEADER_MAX)
        return ERR_LIMIT;
    while (header.n > 0) {
        struct slice field = slice_head(header, field_length(header));
        header = slice_from(header, field.n);
        size_t colon = slice_find(field, ':');
        if (!downgrade_wanted(field) || !utf8_valid(field) || colon == field.n || downgrade_wanted(slice_head(field, colon))) {
            buf_put_slice(out, field);
            continue;
        }
        struct buf value;
        buf_init(&value, DOWNGRADE_HEADER_MAX);
        put_unfolded(&value, slice_from(field, colon + 1));
        put_field(out, slice_head(field, colon), buf_slice(&value));
        if (!buf_ok(&value))
            out->failed = true;
        buf_done(&value);
    }
    return buf_ok(out) ? 0 : -ENOMEM;
}
