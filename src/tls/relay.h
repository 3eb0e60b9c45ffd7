/* relay.h: after the handshake: bytes between the TLS connection and the plain end, without a fiber.
 *
 * Callbacks of the loop; one buffer for the process; a connection has memory of its own only for what could not be sent at once, at
 * most one record each way, and while that is there nothing more is read from the other side: the peers' own windows push back.
 *
 * Ends are carried over: close_notify or a cut becomes a half-close of the plain end (the owner is told which: truncation is not an
 * end of data), a half-close of the plain end becomes close_notify. When the owner closes the plain end, what it wrote is still sent,
 * within TLS_CLOSE_MS. A peer that takes nothing for TLS_STALL_MS while data waits is cut off; how long an idle peer may stay is
 * the owner's affair. */
#ifndef KK_TLS_RELAY_H
#define KK_TLS_RELAY_H

#include <openssl/ssl.h>

#include "base/err.h"
#include "ipc/messages.h"

#define TLS_STALL_MS 300000
#define TLS_CLOSE_MS 30000
#define TLS_LINGER_MS 5000 /* for the peer's own close, so that our last bytes are not lost to a reset */
#define TLS_RELAY_CHUNK 16384

struct tls_relay;

struct tls_relay_end {
    enum tls_end reason;
    unsigned alert; /* for TLS_END_ALERT: its number, received or sent */
    uint64_t bytes_in, bytes_out; /* plain bytes from and to the peer until now */
};

struct tls_relay_events {
    /* Once: the peer's direction has ended, or the owner closed first (TLS_END_LOCAL), or the peer was cut off. */
    void (*ended)(void *arg, const struct tls_relay_end *end);
    /* Last: both descriptors are closed and the relay is freed when this returns. */
    void (*gone)(void *arg);
};

/* Takes over ssl (handshake done), raw (its descriptor) and plain (our end of the pair), also on failure. Works from the next turn of
 * the loop on. 0 or a negative code. */
int tls_relay_start(SSL *ssl, int raw, int plain, const struct tls_relay_events *events, void *arg, struct tls_relay **ret);
/* Cuts at once, with ended(TLS_END_LOCAL) if nothing was told yet, and gone. */
void tls_relay_cut(struct tls_relay *r);

#endif
