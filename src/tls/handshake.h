/* handshake.h: a server's handshake in a fiber, and the facts of it. */
#ifndef KK_TLS_HANDSHAKE_H
#define KK_TLS_HANDSHAKE_H

#include <openssl/ssl.h>

#include "base/err.h"
#include "base/id.h"
#include "io/fiber.h"

#define TLS_EXPORTER_SIZE 32 /* RFC 9266 */

struct tls_facts {
    const char *version;     /* "TLSv1.3" */
    const char *cipher;      /* "TLS_AES_128_GCM_SHA256" (IANA's name) */
    const char *group;       /* "x25519"; "" when none */
    char sni[256];           /* as A-labels in lower case; "" when none or no host name */
    char alpn[16];
    unsigned bits;
    bool resumed;
    bool has_exporter;       /* TLS 1.3, or TLS 1.2 with the extended master secret (RFC 9266 4.2) */
    uint8_t exporter[TLS_EXPORTER_SIZE];
};

/* For the signing callback, which OpenSSL calls without a word of the connection: who is being worked for. Valid when it begins. */
struct tls_work {
    struct id128 conn;
    int64_t deadline;
};
const struct tls_work *tls_handshake_work(void);

/* Makes the handshake on fd (the descriptor of ssl's BIO). 0; -ETIMEDOUT, -ECANCELED, ERR_CLOSED (the client went away), ERR_DENIED with
 * the reason and the alert in err. */
int MAY_YIELD tls_handshake(SSL *ssl, int fd, struct id128 conn, int64_t deadline, struct err *err);
/* After it. The strings are OpenSSL's, static or of the SSL object. */
void tls_handshake_facts(SSL *ssl, struct tls_facts *ret);

#endif
