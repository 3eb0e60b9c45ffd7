/* The shapes that keyd signs: see tbs.h. The input comes from tlsd, which strangers reach: trust nothing. */
#include "tls/tbs.h"

#include <openssl/bn.h>

#include "base/buf.h"

#define CONTEXT_13 "TLS 1.3, server CertificateVerify"
#define RANDOMS 64
#define EC_NAMED_CURVE 3 /* RFC 8422 5.4 */
#define DH_PRIME_MIN 256 /* bytes: 2048 bits */
#define DH_PRIME_MAX 1024

static bool all_spaces(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != ' ')
            return false;
    return true;
}

static bool is_tls13(struct slice s)
{
    static const char context[] = CONTEXT_13; /* with its NUL, which stands in the input too */
    if (s.n < RANDOMS || !all_spaces(slice_head(s, RANDOMS)))
        return false;
    s = slice_from(s, RANDOMS);
    if (!slice_starts(s, slice_of(context, sizeof(context))))
        return false;
    size_t hash = s.n - sizeof(context);
    return hash == 32 || hash == 48;
}

/* Big-endian length in front, as TLS vectors have it. */
static bool get_vector(struct slice *s, size_t length_bytes, struct slice *ret)
{
    uint8_t b;
    size_t n = 0;
    while (length_bytes-- > 0) {
        if (!slice_get_u8(s, &b))
            return false;
        n = n << 8 | b;
    }
    return slice_get_bytes(s, n, ret);
}

static bool is_ecdhe(struct slice s)
{
    static const struct {
        uint16_t group;
        uint8_t point;
        bool uncompressed; /* starts with 4 */
    } groups[] = {{23, 65, true}, {24, 97, true}, {25, 133, true}, {29, 32, false}, {30, 56, false}};
    uint8_t type, high, low;
    struct slice point;
    if (!slice_get_u8(&s, &type) || type != EC_NAMED_CURVE || !slice_get_u8(&s, &high) || !slice_get_u8(&s, &low) ||
        !get_vector(&s, 1, &point) || s.n != 0)
        return false;
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
        if (groups[i].group == (high << 8 | low))
            return point.n == groups[i].point && (!groups[i].uncompressed || point.p[0] == 4);
    return false;
}

static bool is_known_prime(const BIGNUM *p)
{
    static const struct {
        int bits;
        BIGNUM *(*get)(BIGNUM *);
    } rfc3526[] = {{2048, BN_get_rfc3526_prime_2048}, {3072, BN_get_rfc3526_prime_3072}, {4096, BN_get_rfc3526_prime_4096},
                   {6144, BN_get_rfc3526_prime_6144}, {8192, BN_get_rfc3526_prime_8192}};
    for (size_t i = 0; i < sizeof(rfc3526) / sizeof(rfc3526[0]); i++) {
        if (BN_num_bits(p) != rfc3526[i].bits)
            continue;
        BIGNUM *known = rfc3526[i].get(NULL);
        bool same = known != NULL && BN_cmp(p, known) == 0;
        BN_free(known);
        if (same)
            return true;
    }
    return false;
}

/* The primes of RFC 7919 begin with 64 one bits, the first digits of e, and end with 64 one bits, as those of RFC 3526 do with pi:
 * told by their ends, as OpenSSL offers no such list to applications. */
static bool is_rfc7919_like(struct slice p)
{
    static const unsigned char head[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                           0xad, 0xf8, 0x54, 0x58, 0xa2, 0xbb, 0x4a, 0x9a};
    static const unsigned char tail[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    static const size_t sizes[] = {256, 384, 512, 768, 1024};
    bool size_ok = false;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        size_ok = size_ok || p.n == sizes[i];
    return size_ok && memcmp(p.p, head, sizeof(head)) == 0 && memcmp(p.p + p.n - sizeof(tail), tail, sizeof(tail)) == 0;
}

static bool is_dhe(struct slice s)
{
    struct slice p, g, y;
    if (!get_vector(&s, 2, &p) || !get_vector(&s, 2, &g) || !get_vector(&s, 2, &y) || s.n != 0)
        return false;
    if (p.n < DH_PRIME_MIN || p.n > DH_PRIME_MAX || g.n != 1 || g.p[0] != 2 || y.n == 0 || y.n > p.n)
        return false;
    BIGNUM *prime = BN_bin2bn((const unsigned char *)p.p, (int)p.n, NULL);
    BIGNUM *public_value = BN_bin2bn((const unsigned char *)y.p, (int)y.n, NULL);
    bool ok = prime != NULL && public_value != NULL && BN_cmp(public_value, prime) < 0 && !BN_is_zero(public_value) &&
              !BN_is_one(public_value) && (is_rfc7919_like(p) || is_known_prime(prime));
    BN_free(prime);
    BN_free(public_value);
    return ok;
}

enum tbs_kind tls_tbs_check(struct slice tbs)
{
    if (is_tls13(tbs))
        return TBS_TLS13;
    /* 64 spaces are nobody's randoms: what begins like TLS 1.3 is nothing else. */
    if (tbs.n <= RANDOMS || all_spaces(slice_head(tbs, RANDOMS)))
        return TBS_REFUSED;
    if (is_ecdhe(slice_from(tbs, RANDOMS)))
        return TBS_TLS12_ECDHE;
    return is_dhe(slice_from(tbs, RANDOMS)) ? TBS_TLS12_DHE : TBS_REFUSED;
}

const char *tls_tbs_kind_name(enum tbs_kind kind)
{
    static const char *const names[] = {[TBS_REFUSED] = "refused",
                                        [TBS_TLS13] = "tls13",
                                        [TBS_TLS12_ECDHE] = "tls12-ecdhe",
                                        [TBS_TLS12_DHE] = "tls12-dhe"};
    return names[kind];
}
