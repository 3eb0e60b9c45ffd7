/* provider.h: an OpenSSL provider, "kakitome-keyd", whose private keys are names of keys that another process holds.
 *
 * Used by tlsd. libssl signs with such a key as with any other; the provider hands the whole input of the signature (a TLS 1.3
 * CertificateVerify, or the randoms and parameters of a TLS 1.2 ServerKeyExchange) to a callback, which may wait in its fiber for
 * keyd. It is not a key method that would ask for a raw private-key operation: keyd sees what it signs. The public half is
 * known here, from the certificate.
 *
 * The provider lives in a library context of its own, where implicit fetches avoid it ("?provider!=kakitome-keyd"): only a key
 * that was made by tls_provider_key leads to it. Nothing here opens a file. */
#ifndef KK_TLS_PROVIDER_H
#define KK_TLS_PROVIDER_H

#include <openssl/evp.h>

#include "base/err.h"
#include "base/slice.h"
#include "io/fiber.h"

#define TLS_KEY_ID_SIZE 32 /* SHA-256 of the SubjectPublicKeyInfo */
#define TLS_TBS_MAX 4096
#define TLS_SIGNATURE_MAX 1024

/* Signs tbs with the key of that id under a scheme of scheme.h; writes at most cap bytes. 0 or a negative code. */
typedef int MAY_YIELD tls_sign_fn(const uint8_t key_id[TLS_KEY_ID_SIZE], unsigned scheme, struct slice tbs, uint8_t *sig, size_t cap,
                                  size_t *ret_n);

/* Once a process, before its sandbox: initialises OpenSSL without its configuration file and makes the library context. */
int tls_provider_init(tls_sign_fn *sign, struct err *err);
/* For tests and clean shutdown: after every key and SSL_CTX is freed. */
void tls_provider_done(void);
/* The library context with the default provider and ours; NULL before tls_provider_init. */
OSSL_LIB_CTX *tls_libctx(void);

/* SHA-256 of the SubjectPublicKeyInfo. */
int tls_key_id(EVP_PKEY *key, uint8_t ret_id[TLS_KEY_ID_SIZE]);
/* A private key in name: `pub` is the public half (EC, RSA, Ed25519; of the context of tls_libctx). The caller frees it. */
int tls_provider_key(EVP_PKEY *pub, EVP_PKEY **ret, struct err *err);

#endif
