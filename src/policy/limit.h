/* limit.h: how much one client may have and do: connections at a time, and events a minute by token buckets. A client is an IPv4 address
 * or an IPv6 /64 (netaddr_limit_key).
 *
 * The table is bounded. A client is forgotten only when forgetting changes nothing: no connection, all buckets full again. Where a
 * set of the table has no such client, newcomers to that set share one entry: so nobody can empty his own bucket's memory by flooding the
 * table from many addresses, and a flood costs strangers at most a share of one client's rate. Single-threaded; time: clock_mono_ms. */
#ifndef KK_POLICY_LIMIT_H
#define KK_POLICY_LIMIT_H

#include "base/netaddr.h"

#define LIMIT_CLIENTS 65536 /* remembered by one table; 4 MiB when all are in use */
#define LIMIT_RATES 2

struct limit_table;
struct limit_entry;

int limit_table_new(size_t clients, struct limit_table **ret); /* rounded up to a power of two; 0 or -ENOMEM */
void limit_table_free(struct limit_table *t);

/* One more connection: false when `most` are there already. Each success is paired with limit_leave. */
bool limit_enter(struct limit_table *t, const struct netaddr *client, uint64_t most);
void limit_leave(struct limit_table *t, const struct netaddr *client);
/* Takes one token from bucket `which` (below LIMIT_RATES) that holds per_minute tokens and refills in a minute; false when it is empty. */
bool limit_take(struct limit_table *t, const struct netaddr *client, unsigned which, uint64_t per_minute);
/* Counts n more octets that this client holds: false when they would be more than `most`. *hold: NULL before the first; where they are
 * counted, for limit_release. Who holds something is not forgotten. */
bool limit_hold(struct limit_table *t, const struct netaddr *client, uint64_t n, uint64_t most, struct limit_entry **hold);
void limit_release(struct limit_entry *hold, uint64_t n);
/* For tests and status: connections of this client. */
uint64_t limit_connections(const struct limit_table *t, const struct netaddr *client);

#endif
