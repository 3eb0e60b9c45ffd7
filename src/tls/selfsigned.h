/* selfsigned.h: the certificate of a service that was given none: keyd makes an authority for this one purpose, signs one certificate
 * with it and forgets the authority's key, so that `selfsigned.crt` can be trusted without trusting anything but that certificate.
 *
 * In keyd's directory: selfsigned.pem (0600: key, certificate, authority) and selfsigned.crt (0644: the authority's certificate, what a
 * mail program is told to trust). ECDSA P-256, two years; made again when less than 30 days are left or a name is missing. */
#ifndef KK_TLS_SELFSIGNED_H
#define KK_TLS_SELFSIGNED_H

#include "tls/keyfile.h"

#define SELFSIGNED_PEM "selfsigned.pem"
#define SELFSIGNED_CRT "selfsigned.crt"
#define SELFSIGNED_NAMES_MAX 100

/* names: DNS names (A-labels); "localhost" and the loopback addresses are added, as such a certificate is for trying out.
 * Loads the files, or makes them. */
int selfsigned_load(int dir, const char *const *names, size_t n_names, struct tls_key **ret, bool *ret_made, struct err *err);

#endif
