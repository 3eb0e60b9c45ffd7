/* The table of signature schemes: see scheme.h. */
#include "tls/scheme.h"

#include <strings.h>

#include "base/slice.h"

static const struct tls_scheme schemes[] = {
    {0x0403, TLS_KEY_EC, "SHA256", false, true, "prime256v1"},
    {0x0503, TLS_KEY_EC, "SHA384", false, true, "secp384r1"},
    {0x0603, TLS_KEY_EC, "SHA512", false, true, "secp521r1"},
    {0x0807, TLS_KEY_ED25519, NULL, false, true, NULL},
    {0x0804, TLS_KEY_RSA, "SHA256", true, true, NULL},
    {0x0805, TLS_KEY_RSA, "SHA384", true, true, NULL},
    {0x0806, TLS_KEY_RSA, "SHA512", true, true, NULL},
    {0x0401, TLS_KEY_RSA, "SHA256", false, false, NULL},
    {0x0501, TLS_KEY_RSA, "SHA384", false, false, NULL},
    {0x0601, TLS_KEY_RSA, "SHA512", false, false, NULL},
};
#define N_SCHEMES (sizeof(schemes) / sizeof(schemes[0]))

const struct tls_scheme *tls_scheme_find(unsigned number)
{
    for (size_t i = 0; i < N_SCHEMES; i++)
        if (schemes[i].number == number)
            return &schemes[i];
    return NULL;
}

/* OpenSSL says "SHA256" or "SHA2-256". */
static bool digest_eq(const char *ours, const char *given)
{
    if (ours == NULL || given == NULL)
        return ours == NULL && (given == NULL || given[0] == '\0');
    if (strncasecmp(given, "SHA2-", 5) == 0)
        return strcasecmp(given + 5, ours + 3) == 0;
    return strcasecmp(given, ours) == 0;
}

const struct tls_scheme *tls_scheme_match(enum tls_key_type key, const char *digest, bool pss)
{
    for (size_t i = 0; i < N_SCHEMES; i++)
        if (schemes[i].key == key && schemes[i].pss == pss && digest_eq(schemes[i].digest, digest))
            return &schemes[i];
    return NULL;
}
