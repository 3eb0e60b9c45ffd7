/* keyfile.h: a private key with its certificate chain, as keyd holds it. PEM; the key and the certificates may stand in any order in
 * one file; the first certificate whose key matches is the leaf.
 *
 * Accepted: EC on P-256, P-384 or P-521; RSA of 2048 to 8192 bits; Ed25519 (RFC 9325 4.5). */
#ifndef KK_TLS_KEYFILE_H
#define KK_TLS_KEYFILE_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "base/buf.h"
#include "base/err.h"
#include "tls/provider.h"
#include "tls/scheme.h"

#define KEYFILE_MAX 131072         /* bytes of a file */
#define KEYFILE_CHAIN_MAX 10       /* certificates */
#define KEYFILE_CHAIN_PEM_MAX 24576
#define KEYFILE_NAMES_MAX 4096

struct tls_key {
    enum tls_key_type type;
    EVP_PKEY *key;
    uint8_t id[TLS_KEY_ID_SIZE];
    struct buf chain_pem;  /* leaf first */
    struct buf names;      /* DNS names of the subjectAltName, lower case, separated by spaces */
    int64_t not_before_ms, not_after_ms; /* of the leaf */
};

/* Parses and checks. ERR_CONFIG with the sentence (it begins with `name`). The text is not wiped. */
int tls_key_parse(struct slice pem, const char *name, struct tls_key **ret, struct err *err);
void tls_key_free(struct tls_key *k);
/* Reads the file at path (relative to dir; AT_FDCWD) and parses it; the text is wiped. A file that everybody may read is refused. */
int tls_key_load(int dir, const char *path, struct tls_key **ret, struct err *err);
/* ERR_DENIED when tbs has not the shape of a TLS handshake signature or the scheme does not fit key and shape; *ret_why then names
 * the reason. */
int tls_key_sign(const struct tls_key *k, unsigned scheme, struct slice tbs, uint8_t *sig, size_t cap, size_t *ret_n,
                 const char **ret_why);
/* The time of a certificate's field in ms, 0 when it cannot be told. */
int64_t tls_asn1_time_ms(const ASN1_TIME *t);

#endif
