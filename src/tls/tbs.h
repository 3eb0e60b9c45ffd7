/* tbs.h: is this really the input of a TLS server's handshake signature? keyd asks before it signs anything, so that a taken tlsd
 * cannot have certificates, mail or other protocols' messages signed with a TLS key.
 *
 * TLS 1.3 (RFC 8446 4.4.3): 64 spaces, "TLS 1.3, server CertificateVerify", a zero byte, the transcript's hash (SHA-256 or SHA-384: the
 * hash of the cipher suite, whichever the signature's is).
 * TLS 1.2 (RFC 5246 7.4.3, RFC 8422 5.4): client random, server random (32 bytes each), then ServerECDHParams of a named
 * curve with a point of its length, or ServerDHParams of a group of RFC 7919 or RFC 3526, and nothing behind it. */
#ifndef KK_TLS_TBS_H
#define KK_TLS_TBS_H

#include "base/slice.h"

enum tbs_kind { TBS_REFUSED, TBS_TLS13, TBS_TLS12_ECDHE, TBS_TLS12_DHE };

enum tbs_kind tls_tbs_check(struct slice tbs);
const char *tls_tbs_kind_name(enum tbs_kind kind);

#endif
