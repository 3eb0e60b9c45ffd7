/* diff.h: line differences of two texts, in the unified form with three lines around each change. */
#ifndef KK_CTL_DIFF_H
#define KK_CTL_DIFF_H

#include "base/buf.h"

/* Appends nothing when they are equal. 0, -ENOMEM, or ERR_LIMIT past 20,000 lines. */
int diff_print(struct buf *out, struct slice a, struct slice b, const char *name_a, const char *name_b);

#endif
