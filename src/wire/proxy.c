/* PROXY protocol headers: see proxy.h. */
#include "wire/proxy.h"

static const char v2_signature[12] = "\r\n\r\n\0\r\nQUIT\n";
#define V2_FIXED 16

/* --- version 1 --- */

static bool port_parse(struct slice s, uint16_t *ret)
{
    uint64_t v;
    if (s.n > 5 || (s.n > 1 && s.p[0] == '0') || !slice_to_u64(s, &v) || v > 65535)
        return false;
    *ret = (uint16_t)v;
    return true;
}

static bool ip_parse(struct slice s, bool v4, struct netaddr *ret)
{
    if (s.n == 0 || s.p[0] == '[' || (slice_find(s, ':') < s.n) == v4)
        return false;
    return netaddr_parse_ip(s, ret);
}

static int v1_parse(struct slice in, struct proxy_header *ret, size_t *ret_used)
{
    size_t lf = slice_find(slice_head(in, PROXY_V1_MAX), '\n');
    if (lf >= in.n)
        return in.n < PROXY_V1_MAX ? -EAGAIN : ERR_LIMIT;
    if (lf >= PROXY_V1_MAX)
        return ERR_LIMIT;
    if (lf < 1 || in.p[lf - 1] != '\r')
        return ERR_SYNTAX;
    struct slice line = slice_of(in.p + 6, lf - 1 - 6); /* behind "PROXY " */
    struct proxy_header h = {0};
    struct slice family = slice_cut(&line, ' ');
    *ret_used = lf + 1;
    if (slice_eq(family, SLICE("UNKNOWN"))) {
        ret->local = true;
        return 0;
    }
    bool v4 = slice_eq(family, SLICE("TCP4"));
    if (!v4 && !slice_eq(family, SLICE("TCP6")))
        return ERR_SYNTAX;
    struct slice from = slice_cut(&line, ' '), to = slice_cut(&line, ' '), from_port = slice_cut(&line, ' ');
    if (!ip_parse(from, v4, &h.source) || !ip_parse(to, v4, &h.destination) || !port_parse(from_port, &h.source.port) ||
        !port_parse(line, &h.destination.port))
        return ERR_SYNTAX;
    *ret = h;
    return 0;
}

/* --- version 2 --- */

/* CRC-32C (RFC 4960 appendix B) with the four octets at `hole` taken as zero. */
static uint32_t crc32c(struct slice s, size_t hole)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < s.n; i++) {
        crc ^= i >= hole && i < hole + 4 ? 0 : (unsigned char)s.p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0x82f63b78U & (0U - (crc & 1)));
    }
    return ~crc;
}

static size_t u16_at(const char *p)
{
    return (size_t)((unsigned)(unsigned char)p[0] << 8 | (unsigned char)p[1]);
}

/* Extensions: type, two octets of length, value. Only the checksum is of use here. */
static int v2_extensions(struct slice header, size_t at)
{
    while (at < header.n) {
        if (header.n - at < 3)
            return ERR_SYNTAX;
        unsigned type = (unsigned char)header.p[at];
        size_t len = u16_at(header.p + at + 1);
        at += 3;
        if (len > header.n - at)
            return ERR_SYNTAX;
        if (type == 0x03) {
            if (len != 4)
                return ERR_SYNTAX;
            uint32_t want = (uint32_t)u16_at(header.p + at) << 16 | (uint32_t)u16_at(header.p + at + 2);
            if (crc32c(header, at) != want)
                return ERR_SYNTAX;
        }
        at += len;
    }
    return 0;
}

static void v4_take(const char *p, struct netaddr *ret)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    memcpy(ret->ip, mapped, sizeof(mapped));
    memcpy(ret->ip + 12, p, 4);
}

static int v2_addresses(struct slice header, unsigned family, struct proxy_header *ret, size_t *ret_len)
{
    const char *p = header.p + V2_FIXED;
    bool v4 = family == 0x11, v6 = family == 0x21; /* TCP over IPv4, IPv6 */
    *ret_len = v4 ? 12 : v6 ? 36 : 0;
    if (header.n - V2_FIXED < *ret_len)
        return ERR_SYNTAX;
    if (v4) {
        v4_take(p, &ret->source);
        v4_take(p + 4, &ret->destination);
    } else if (v6) {
        memcpy(ret->source.ip, p, 16);
        memcpy(ret->destination.ip, p + 16, 16);
    } else {
        ret->local = true;
        *ret_len = header.n - V2_FIXED; /* addresses that mean nothing to us: not looked into */
        return 0;
    }
    ret->source.port = (uint16_t)u16_at(p + *ret_len - 4);
    ret->destination.port = (uint16_t)u16_at(p + *ret_len - 2);
    return 0;
}

static int v2_parse(struct slice in, struct proxy_header *ret, size_t *ret_used)
{
    if (in.n < V2_FIXED)
        return -EAGAIN;
    unsigned version = (unsigned char)in.p[12], family = (unsigned char)in.p[13];
    size_t whole = V2_FIXED + u16_at(in.p + 14), addresses;
    if (version >> 4 != 2 || (version & 15) > 1)
        return ERR_SYNTAX;
    if (whole > PROXY_V2_MAX)
        return ERR_LIMIT;
    if (in.n < whole)
        return -EAGAIN;
    struct slice header = slice_head(in, whole);
    struct proxy_header h = {0};
    *ret_used = whole;
    if ((version & 15) == 0) { /* LOCAL */
        ret->local = true;
        return 0;
    }
    int rc = v2_addresses(header, family, &h, &addresses);
    if (rc == 0)
        rc = v2_extensions(header, V2_FIXED + addresses);
    if (rc == 0)
        *ret = h;
    return rc;
}

int proxy_parse(struct slice in, struct proxy_header *ret, size_t *ret_used)
{
    struct slice v2 = slice_of(v2_signature, sizeof(v2_signature)), v1 = SLICE("PROXY ");
    *ret = (struct proxy_header){0};
    if (in.n == 0)
        return -EAGAIN;
    if (memcmp(in.p, v1.p, in.n < v1.n ? in.n : v1.n) == 0)
        return in.n < v1.n ? -EAGAIN : v1_parse(in, ret, ret_used);
    if (memcmp(in.p, v2.p, in.n < v2.n ? in.n : v2.n) == 0)
        return in.n < v2.n ? -EAGAIN : v2_parse(in, ret, ret_used);
    return ERR_SYNTAX;
}
