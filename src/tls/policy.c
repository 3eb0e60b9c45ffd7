/* The table of policies: see policy.h and docs/TLS.md. */
#include "tls/policy.h"

#include <openssl/err.h>

#define GCM13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"
#define GCM12                                                                                                  \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
#define CHACHA12 "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define CCM12 "ECDHE-ECDSA-AES128-CCM:ECDHE-ECDSA-AES256-CCM"
#define DHE12 "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384"
#define CBC12                                                                                                  \
    "ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384"
#define SIGNATURES13 "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ed25519:RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512"
#define SIGNATURES12 ":RSA+SHA256:RSA+SHA384:RSA+SHA512"

static const struct tls_policy policies[] = {
    {"cryptrec", TLS1_2_VERSION, GCM13 ":TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256", GCM12 ":" CHACHA12 ":" CCM12,
     "P-256:X25519:P-384:P-521", SIGNATURES13 SIGNATURES12, false},
    {"modern", TLS1_3_VERSION, GCM13 ":TLS_CHACHA20_POLY1305_SHA256", "", "X25519:P-256:P-384", SIGNATURES13, false},
    {"compatible", TLS1_2_VERSION, GCM13 ":TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256",
     GCM12 ":" CHACHA12 ":" CCM12 ":" DHE12 ":" CBC12, "P-256:X25519:P-384:P-521:X448:ffdhe2048:ffdhe3072",
     SIGNATURES13 SIGNATURES12, true},
};

const struct tls_policy *tls_policy_find(struct slice name)
{
    for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++)
        if (slice_eq(name, slice_str(policies[i].name)))
            return &policies[i];
    return NULL;
}

int tls_policy_apply(const struct tls_policy *p, SSL_CTX *ctx, struct err *err)
{
    static const uint64_t options = SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                    SSL_OP_PRIORITIZE_CHACHA | SSL_OP_SINGLE_ECDH_USE | SSL_OP_SINGLE_DH_USE |
                                    SSL_OP_IGNORE_UNEXPECTED_EOF; /* the relay tells truncation itself, see bio.h */
    ERR_clear_error();
    SSL_CTX_set_security_level(ctx, 2);
    (void)SSL_CTX_set_options(ctx, options);
    bool ok = SSL_CTX_set_min_proto_version(ctx, p->least_version) == 1 &&
              SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 && SSL_CTX_set_ciphersuites(ctx, p->suites13) == 1 &&
              (p->suites12[0] == '\0' || SSL_CTX_set_cipher_list(ctx, p->suites12) == 1) &&
              SSL_CTX_set1_groups_list(ctx, p->groups) == 1 && SSL_CTX_set1_sigalgs_list(ctx, p->signatures) == 1 &&
              (!p->dhe || SSL_CTX_set_dh_auto(ctx, 1) == 1);
    if (!ok)
        return err_set(err, ERR_CONFIG, "TLS policy %s: %s", p->name, ERR_reason_error_string(ERR_peek_last_error()));
    return 0;
}
