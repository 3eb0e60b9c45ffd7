/* throttle.h: slows the guessing of passwords, counted by account *together with* network, so that nobody can lock another out by
 * failing in his name from elsewhere. [T2.2.1.1] [R4.1]
 *
 * After `max_failures` wrong passwords in a quarter of an hour the pair is refused, for THROTTLE_FIRST_MS, then, failure by failure,
 * twice as long, to THROTTLE_LONGEST_MS. Attempts under way count, so that a thousand at once gain nothing: the surplus waits.
 *
 * The table has a fixed size. Pairs fall into small sets by a hash under a random key; a new pair replaces the most harmless of its
 * set, so that a pair with many failures can only be driven out by as many real failures in the same set, which nobody can choose.
 * Names that do not exist are counted alike. Belongs to the loop's thread. */
#ifndef KK_ACCOUNT_THROTTLE_H
#define KK_ACCOUNT_THROTTLE_H

#include "base/netaddr.h"
#include "io/fiber.h"

#define THROTTLE_WINDOW_MS (15 * 60 * 1000)
#define THROTTLE_FIRST_MS (60 * 1000)
#define THROTTLE_LONGEST_MS (60 * 60 * 1000)
#define THROTTLE_FORGET_MS (24 * 60 * 60 * 1000) /* since the last failure: the growth starts anew */
#define THROTTLE_SETS 32768
#define THROTTLE_WAYS 4

struct throttle;
struct throttle_pair; /* one attempt's hold on its pair */

int throttle_new(struct throttle **ret); /* 0 or -ENOMEM */
void throttle_free(struct throttle *t);
/* Before the password is checked. May wait for other attempts of the same pair. 0: check it, and call throttle_end in any case;
 * -EAGAIN: refused; -EBUSY: the set is full of attempts under way; -ETIMEDOUT, -ECANCELED from waiting. */
int MAY_YIELD throttle_begin(struct throttle *t, struct slice account, const struct netaddr *network, unsigned max_failures, int64_t deadline,
                             struct throttle_pair **ret);
enum throttle_result { THROTTLE_RIGHT, THROTTLE_WRONG, THROTTLE_UNKNOWN /* could not be checked */ };
/* Returns for how many milliseconds the pair is refused from now on, 0 when it is not. */
int64_t throttle_end(struct throttle *t, struct throttle_pair *p, enum throttle_result result, unsigned max_failures);

#endif
