/* scheme.h: the TLS signature schemes that this server signs with (RFC 8446 4.2.3), as one table that tlsd (which maps OpenSSL's
 * request to a number) and keyd (which maps the number back and signs) share. SHA-1 and the like are not in it. */
#ifndef KK_TLS_SCHEME_H
#define KK_TLS_SCHEME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tls_key_type { TLS_KEY_EC = 1, TLS_KEY_RSA, TLS_KEY_ED25519 };

struct tls_scheme {
    uint16_t number;
    enum tls_key_type key;
    const char *digest; /* OpenSSL's name; NULL: the algorithm has its own (Ed25519) */
    bool pss;
    bool tls13;         /* may sign a TLS 1.3 CertificateVerify (PKCS #1 v1.5 may not) */
    const char *curve;  /* the only curve allowed with it in TLS 1.3; NULL: no curve */
};

const struct tls_scheme *tls_scheme_find(unsigned number); /* NULL: not one that we sign with */
/* digest may be NULL; compared without case, "SHA256" or "SHA2-256". */
const struct tls_scheme *tls_scheme_match(enum tls_key_type key, const char *digest, bool pss);

#endif
