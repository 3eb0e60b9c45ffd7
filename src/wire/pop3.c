/* POP3's lines, numbers, byte stuffing and TOP: see pop3.h. */
#include "wire/pop3.h"

#include "base/utf8.h"

static bool has_control(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return true;
    return false;
}

int pop3_parse_line(struct slice line, struct pop3_line *ret)
{
    if (line.n > 0 && line.p[line.n - 1] == '\n')
        line.n--;
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    /* RFC 6856 section 2.1: what is not ASCII must be UTF-8. */
    if (has_control(line) || !utf8_valid(line))
        return ERR_SYNTAX;
    size_t space = slice_find(line, ' ');
    ret->keyword = slice_head(line, space);
    ret->has_rest = space < line.n;
    ret->rest = slice_from(line, space + 1);
    return 0;
}

bool pop3_next_arg(struct slice *rest, struct slice *ret_arg)
{
    struct slice s = *rest;
    while (s.n > 0 && s.p[0] == ' ')
        s = slice_from(s, 1);
    if (s.n == 0)
        return false;
    *ret_arg = slice_cut(&s, ' ');
    *rest = s;
    return true;
}

bool pop3_parse_number(struct slice arg, uint64_t max, uint64_t *ret)
{
    uint64_t v;
    if (!slice_to_u64(arg, &v) || v == 0 || v > max)
        return false;
    *ret = v;
    return true;
}

void pop3_stuff_init(struct pop3_stuffer *st, struct stream *out)
{
    *st = (struct pop3_stuffer){.out = out, .last = {'\r', '\n'}};
}

static void remember_end(struct pop3_stuffer *st, struct slice text)
{
    if (text.n >= 2) {
        st->last[0] = text.p[text.n - 2];
        st->last[1] = text.p[text.n - 1];
    } else if (text.n == 1) {
        st->last[0] = st->last[1];
        st->last[1] = text.p[0];
    }
}

/* Dots are what is looked for, not line ends: attachments in base64 have none, and go through memchr in one sweep. */
int pop3_stuff_write(struct pop3_stuffer *st, struct slice text)
{
    size_t sent = 0, from = 0;
    char before = st->last[1];
    int rc = 0;
    while (from < text.n && rc == 0) {
        const char *dot = memchr(text.p + from, '.', text.n - from);
        if (dot == NULL)
            break;
        size_t at = (size_t)(dot - text.p);
        if ((at > 0 ? text.p[at - 1] : before) == '\n') {
            /* Up to the dot and with it; the doubled dot opens the next piece. */
            rc = stream_write(st->out, text.p + sent, at + 1 - sent);
            sent = at;
        }
        from = at + 1;
    }
    if (rc == 0 && sent < text.n)
        rc = stream_write(st->out, text.p + sent, text.n - sent);
    remember_end(st, text);
    return rc;
}

int pop3_stuff_end(struct pop3_stuffer *st)
{
    if (st->last[0] == '\r' && st->last[1] == '\n')
        return stream_write(st->out, ".\r\n", 3);
    return stream_write(st->out, "\r\n.\r\n", 5);
}

void pop3_top_init(struct pop3_top *t, uint64_t lines)
{
    *t = (struct pop3_top){.lines = lines};
}

bool pop3_top_done(const struct pop3_top *t)
{
    return t->in_body && t->lines == 0;
}

static void end_line(struct pop3_top *t, bool blank)
{
    t->at_line = 0;
    if (t->in_body)
        t->lines--;
    else if (blank)
        t->in_body = true;
}

size_t pop3_top_take(struct pop3_top *t, struct slice piece)
{
    size_t at = 0;
    while (at < piece.n && !pop3_top_done(t)) {
        const char *lf = memchr(piece.p + at, '\n', piece.n - at);
        size_t end = lf != NULL ? (size_t)(lf - piece.p) : piece.n;
        size_t n = end - at;
        /* A blank line is LF or CR LF alone, however the pieces fall. */
        if (n == 1 && t->at_line == 0)
            t->at_line = piece.p[at] == '\r' ? 1 : 2;
        else if (n > 0)
            t->at_line = 2;
        if (lf == NULL)
            return piece.n;
        end_line(t, t->at_line < 2);
        at = end + 1;
    }
    return at;
}
