/* ticket.h: session tickets (RFC 5077, RFC 8446 4.6.1) under keys that keyd makes, rotates and gives to every tlsd, so that a session
 * is resumed at whichever process the client reaches, and no process keeps session state. A ticket's key is forgotten, wiped, within two
 * rotations: that bounds how long a stolen key opens recorded TLS 1.2 sessions that were resumed. */
#ifndef KK_TLS_TICKET_H
#define KK_TLS_TICKET_H

#include <openssl/ssl.h>

#include "base/slice.h"

#define TICKET_KEYS_MAX 8
#define TICKET_NAME_SIZE 16

struct ticket_key {
    uint8_t name[TICKET_NAME_SIZE];
    uint8_t aes[32], hmac[32];
    int64_t expires_ms; /* real time: accepted before it */
};

/* The first encrypts; all of them decrypt until they expire. */
struct ticket_keys {
    size_t n;
    struct ticket_key keys[TICKET_KEYS_MAX];
};

/* Replaces (wipes the old ones first). */
void ticket_keys_set(struct ticket_keys *t, const struct ticket_key *keys, size_t n);
void ticket_keys_wipe(struct ticket_keys *t);
/* Makes the context use them; `t` must outlive the context. */
int ticket_keys_attach(struct ticket_keys *t, SSL_CTX *ctx);

#endif
