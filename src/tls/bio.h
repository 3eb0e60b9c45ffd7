/* bio.h: the socket under a TLS connection, as OpenSSL sees it: never blocks whatever the descriptor's flags say (they are shared with
 * other processes), never raises SIGPIPE, and remembers that the peer closed, so that a close_notify and a cut can be told apart.
 *
 * Input is read in larger pieces than OpenSSL asks for (it asks for five bytes, then for the record): they stand in one buffer of
 * the process, of ciphertext only. When another connection needs that buffer, what is left of a record moves to memory of the
 * connection's own. So an idle connection keeps no read buffer, and a busy one is read with one system call, not three. */
#ifndef KK_TLS_BIO_H
#define KK_TLS_BIO_H

#include <openssl/bio.h>

#include "base/err.h"
#include "base/slice.h"

#define TLS_BIO_READ 17408 /* one whole record and a little more (RFC 8446 5.2: 16384 + 256 + 5) */

/* Once a process. */
int tls_bio_init(void);
void tls_bio_done(void);
/* The descriptor stays the caller's. NULL: out of memory. */
BIO *tls_bio_new(int fd);
bool tls_bio_eof(const BIO *b);    /* OpenSSL has been told that the peer closed the connection */
/* The last read since tls_bio_edge got EAGAIN, or less than it asked for: wait for the next edge. */
bool tls_bio_drained(const BIO *b);
void tls_bio_edge(BIO *b); /* the socket has become readable (again) */
int tls_bio_errno(const BIO *b);   /* of the last failed read or write; 0: none */
size_t tls_bio_pending(const BIO *b); /* bytes read from the socket that OpenSSL has not taken */

#endif
