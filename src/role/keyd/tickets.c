/* Ticket keys and their rotation: see keyd.h. They live in memory alone: after a restart clients make full handshakes. */
#include "base/secret.h"
#include "role/keyd/keyd.h"

enum { CURRENT, PREVIOUS, NEXT };

static void make(struct ticket_key *k, int64_t expires_ms)
{
    rand_bytes(k->name, sizeof(k->name));
    rand_bytes(k->aes, sizeof(k->aes));
    rand_bytes(k->hmac, sizeof(k->hmac));
    k->expires_ms = expires_ms;
}

void keyd_tickets_rotate(struct keyd_tickets *t, int64_t now_ms, int64_t period_ms)
{
    if (t->n == 0) {
        t->n = KEYD_TICKETS_MAX;
        make(&t->keys[CURRENT], 0);
        make(&t->keys[PREVIOUS], 0); /* nobody ever had a ticket of it */
    } else {
        struct ticket_key old = t->keys[CURRENT];
        t->keys[CURRENT] = t->keys[NEXT];
        secret_wipe(&t->keys[PREVIOUS], sizeof(t->keys[PREVIOUS]));
        t->keys[PREVIOUS] = old;
        secret_wipe(&old, sizeof(old));
    }
    make(&t->keys[NEXT], 0);
    /* Each serves one period as current and one as previous. */
    t->keys[CURRENT].expires_ms = now_ms + 2 * period_ms;
    t->keys[PREVIOUS].expires_ms = now_ms + period_ms;
    t->keys[NEXT].expires_ms = now_ms + 3 * period_ms;
    t->rotates_ms = now_ms + period_ms;
}
