#include "base/id.h"

#include "base/clock.h"
#include "base/secret.h"

static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";

struct id128 id_new(void)
{
    struct id128 id;
    uint64_t ms = (uint64_t)clock_real_ms();
    rand_bytes(id.b + 6, 10);
    for (int i = 0; i < 6; i++)
        id.b[i] = (uint8_t)(ms >> (40 - 8 * i));
    return id;
}

bool id_eq(struct id128 a, struct id128 b)
{
    return memcmp(a.b, b.b, sizeof(a.b)) == 0;
}

bool id_is_zero(struct id128 a)
{
    static const struct id128 zero;
    return id_eq(a, zero);
}

/* 26 * 5 = 130 bits: the first character carries the top 3 bits. */
void id_print(struct id128 id, char out[ID_TEXT_SIZE])
{
    unsigned __int128 v = 0;
    for (int i = 0; i < 16; i++)
        v = v << 8 | id.b[i];
    for (int i = 25; i >= 0; i--) {
        out[i] = alphabet[(unsigned)(v & 31)];
        v >>= 5;
    }
    out[26] = '\0';
}

bool id_parse(struct slice text, struct id128 *ret_id)
{
    unsigned __int128 v = 0;
    if (text.n != 26 || text.p[0] > '7')
        return false;
    for (size_t i = 0; i < 26; i++) {
        char c = ascii_lower(text.p[i]);
        const char *at = c != '\0' ? strchr(alphabet, c) : NULL;
        if (at == NULL)
            return false;
        v = v << 5 | (unsigned)(at - alphabet);
    }
    for (int i = 15; i >= 0; i--) {
        ret_id->b[i] = (uint8_t)v;
        v >>= 8;
    }
    return true;
}
