#include "base/utf8.h"

size_t utf8_next(struct slice s, uint32_t *ret_cp)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (s.n == 0)
        return 0;
    unsigned char c = (unsigned char)s.p[0];
    size_t len = c < 0x80 ? 1 : (c & 0xe0) == 0xc0 ? 2 : (c & 0xf0) == 0xe0 ? 3 : (c & 0xf8) == 0xf0 ? 4 : 0;
    if (len == 0 || len > s.n)
        return 0;
    uint32_t cp = len == 1 ? c : c & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        unsigned char t = (unsigned char)s.p[i];
        if ((t & 0xc0) != 0x80)
            return 0;
        cp = cp << 6 | (t & 0x3f);
    }
    if (cp < least[len] || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
        return 0;
    if (ret_cp != NULL)
        *ret_cp = cp;
    return len;
}

bool utf8_valid(struct slice s)
{
    while (s.n > 0) {
        size_t len = utf8_next(s, NULL);
        if (len == 0)
            return false;
        s = slice_from(s, len);
    }
    return true;
}

bool utf8_is_ascii(struct slice s)
{
    uint64_t word, high = 0;
    while (s.n >= sizeof(word)) {
        memcpy(&word, s.p, sizeof(word));
        high |= word;
        s = slice_of(s.p + sizeof(word), s.n - sizeof(word));
    }
    for (size_t i = 0; i < s.n; i++)
        high |= (uint64_t)(unsigned char)s.p[i] << 56;
    return (high & UINT64_C(0x8080808080808080)) == 0;
}

void utf8_put_cp(struct buf *b, uint32_t cp)
{
    if (cp < 0x80) {
        buf_put_char(b, (char)cp);
    } else if (cp < 0x800) {
        buf_put_char(b, (char)(0xc0 | cp >> 6));
        buf_put_char(b, (char)(0x80 | (cp & 0x3f)));
    } else if (cp < 0x10000) {
        buf_put_char(b, (char)(0xe0 | cp >> 12));
        buf_put_char(b, (char)(0x80 | (cp >> 6 & 0x3f)));
        buf_put_char(b, (char)(0x80 | (cp & 0x3f)));
    } else {
        buf_put_char(b, (char)(0xf0 | cp >> 18));
        buf_put_char(b, (char)(0x80 | (cp >> 12 & 0x3f)));
        buf_put_char(b, (char)(0x80 | (cp >> 6 & 0x3f)));
        buf_put_char(b, (char)(0x80 | (cp & 0x3f)));
    }
}

void utf8_put_json(struct buf *b, struct slice s)
{
    while (s.n > 0) {
        uint32_t cp = 0;
        size_t len = utf8_next(s, &cp);
        if (len == 0)
            buf_put_str(b, "\xef\xbf\xbd");
        else if (cp == '"' || cp == '\\')
            buf_printf(b, "\\%c", (char)cp);
        else if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
            buf_printf(b, "\\u%04x", (unsigned)cp);
        else
            buf_put(b, s.p, len);
        s = slice_from(s, len != 0 ? len : 1);
    }
}
