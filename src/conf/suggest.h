/* suggest.h: "did you mean ...?" for mistyped names. */
#ifndef KK_CONF_SUGGEST_H
#define KK_CONF_SUGGEST_H

#include "base/slice.h"

/* Collects candidates; the nearest within a third of the length wins. */
struct suggest {
    struct slice typed;
    const char *best; /* NULL: nothing near enough */
    size_t distance;
};

void suggest_init(struct suggest *s, struct slice typed);
void suggest_offer(struct suggest *s, const char *candidate);
/* Insertions, deletions, replacements and swaps of neighbours that lead from a to b; names over 64 bytes count as far apart. */
size_t suggest_distance(struct slice a, struct slice b);

#endif
