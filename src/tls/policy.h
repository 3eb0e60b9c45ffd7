/* policy.h: named cipher policies. A policy is a row of a table: versions, cipher suites, groups, signature algorithms. docs/TLS.md shows
 * the same table with reasons; there are no single cipher options, so that a policy can be judged as a whole.
 *
 * All: TLS 1.2 or 1.3, forward secrecy only (no RSA key exchange, no static or anonymous (EC)DH), no compression, no renegotiation,
 * no early data, keys and signatures of 112 bits of security or more. RFC 9325. */
#ifndef KK_TLS_POLICY_H
#define KK_TLS_POLICY_H

#include <openssl/ssl.h>

#include "base/err.h"
#include "base/slice.h"

struct tls_policy {
    const char *name;
    int least_version;        /* TLS1_2_VERSION or TLS1_3_VERSION */
    const char *suites13;     /* OpenSSL's names, in order of preference */
    const char *suites12;     /* empty: none */
    const char *groups;
    const char *signatures;
    bool dhe;                 /* finite-field Diffie-Hellman, groups of RFC 7919/3526 by the strength of the certificate */
};

/* NULL when there is none of that name. "cryptrec" is the default. */
const struct tls_policy *tls_policy_find(struct slice name);
int tls_policy_apply(const struct tls_policy *p, SSL_CTX *ctx, struct err *err);

#endif
