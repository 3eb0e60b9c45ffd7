/* keyd.h: the parts of keyd: the keys that it serves, the ticket keys that it rotates. Single-threaded; nothing here waits. */
#ifndef KK_ROLE_KEYD_KEYD_H
#define KK_ROLE_KEYD_KEYD_H

#include "conf/conf.h"
#include "tls/keyfile.h"
#include "tls/ticket.h"

#define KEYD_KEYS_MAX 64
#define KEYD_TICKETS_MAX 3

/* In the order of the configuration; the first is the default. */
struct keyd_keys {
    size_t n;
    struct tls_key *keys[KEYD_KEYS_MAX];
};

/* The configured files (a directory stands for every *.pem in it), or the self-signed certificate when there is none. On failure *ret is
 * empty. ERR_CONFIG also for two certificates with one key and other names, or the same file twice. */
int keyd_keys_load(struct keyd_keys *ret, int state_dir, const struct conf *conf, struct err *err);
void keyd_keys_free(struct keyd_keys *k);
const struct tls_key *keyd_keys_find(const struct keyd_keys *k, struct slice id); /* NULL when there is none */

/* Current, previous and next, in this order: the first encrypts. The next one is given out early, so that a tlsd that has not heard of a
 * rotation yet can still open tickets of one that has. */
struct keyd_tickets {
    size_t n;
    int64_t rotates_ms; /* real time of the next rotation */
    struct ticket_key keys[KEYD_TICKETS_MAX];
};

/* Makes next current, current previous; the previous one is wiped. On empty keys: makes the first ones. */
void keyd_tickets_rotate(struct keyd_tickets *t, int64_t now_ms, int64_t period_ms);

#endif
