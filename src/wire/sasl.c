/* Base64 and the messages of PLAIN and LOGIN: see sasl.h. */
#include "wire/sasl.h"

#include "base/err.h"
#include "base/utf8.h"

static int base64_value(unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* One group of four; pad: how many '=' it ends with. */
static int decode_group(const char *p, unsigned pad, struct buf *out)
{
    uint32_t bits = 0;
    for (unsigned i = 0; i < 4; i++) {
        int v = i < 4 - pad ? base64_value((unsigned char)p[i]) : 0;
        if (v < 0)
            return ERR_SYNTAX;
        bits = bits << 6 | (uint32_t)v;
    }
    /* RFC 4648 3.5: bits that do not make a byte must be zero, or one message would have many spellings. */
    if ((pad == 1 && (bits & 0xff) != 0) || (pad == 2 && (bits & 0xffff) != 0))
        return ERR_SYNTAX;
    const char bytes[3] = {(char)(bits >> 16), (char)(bits >> 8), (char)bits};
    buf_put(out, bytes, 3 - pad);
    return 0;
}

int sasl_base64_decode(struct slice text, struct buf *out)
{
    if (text.n % 4 != 0)
        return ERR_SYNTAX;
    /* In one piece: growing would leave copies of a password in freed memory. */
    if (out->n + text.n / 4 * 3 > out->max)
        return ERR_LIMIT;
    int rc = buf_reserve(out, text.n / 4 * 3);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < text.n; i += 4) {
        unsigned pad = 0;
        if (i + 4 == text.n)
            pad = text.p[i + 3] != '=' ? 0 : text.p[i + 2] != '=' ? 1 : 2;
        rc = decode_group(text.p + i, pad, out);
        if (rc != 0)
            return rc;
    }
    return buf_ok(out) ? 0 : -ENOMEM;
}

int sasl_plain_parse(struct slice message, struct sasl_plain *ret)
{
    struct sasl_plain r;
    if (slice_find(message, '\0') == message.n)
        return ERR_SYNTAX;
    r.authzid = slice_cut(&message, '\0');
    if (slice_find(message, '\0') == message.n)
        return ERR_SYNTAX;
    r.authcid = slice_cut(&message, '\0');
    r.password = message;
    if (r.authzid.n > SASL_NAME_MAX)
        return ERR_LIMIT;
    if (!utf8_valid(r.authzid))
        return ERR_SYNTAX;
    int rc = sasl_login_check(r.authcid, SASL_NAME_MAX);
    if (rc == 0)
        rc = sasl_login_check(r.password, SASL_PASSWORD_MAX);
    if (rc == 0)
        *ret = r;
    return rc;
}

int sasl_login_check(struct slice answer, size_t max)
{
    if (answer.n > max)
        return ERR_LIMIT;
    if (answer.n == 0 || slice_find(answer, '\0') != answer.n || !utf8_valid(answer))
        return ERR_SYNTAX;
    return 0;
}
