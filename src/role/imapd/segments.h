/* segments.h: descriptors of stored's segments, read-only, shared by the sessions of this process: recent mail of all accounts lies in
 * few segments. What is in them is ciphertext to whoever has no key. Bounded; unused ones are closed after a while, so that a
 * segment that was reclaimed gives its space back. */
#ifndef KK_ROLE_IMAPD_SEGMENTS_H
#define KK_ROLE_IMAPD_SEGMENTS_H

#include "ipc/ipc.h"

#define SEGMENTS_CACHED 128        /* open without being read from */
#define SEGMENTS_KEEP_MS 30000

struct segment;

/* The segment's descriptor, from the cache or from stored under this grant. Give it back with segment_put. */
int MAY_YIELD segment_get(uint64_t number, uint64_t grant, struct id128 trace, struct segment **ret, struct err *err);
int segment_fd(const struct segment *s);
void segment_put(struct segment *s); /* NULL allowed */
/* stored has gone: what it numbers from now on is asked for anew. */
void segments_forget(void);

#endif
