/* query.h: which lines of the trail somebody wants to see. A query is words separated by spaces; a line must meet all of them:
 *
 *     event=smtp.received  event=smtp.*     the field has this value; "*" at the end: begins so. Without case.
 *     user!=taro@example.test               it has another, or there is none
 *     peer~192.0.2                          the field contains this
 *     since=2026-11-22T02:00 until=-1h      the time (UTC; "-30m", "-2h", "-3d": that long ago)
 *     word  "two words"                     the line contains this
 *
 * A field is found at the top of the event and in its lists (recipients). "user" also finds "address", "alias" and "target", so that it finds all
 * that concerns a person. Values with spaces stand in quotation marks: user="a b@example.test".
 *
 * The text is typed by the administrator; lines are our own, but may have been altered. */
#ifndef KK_TRAIL_QUERY_H
#define KK_TRAIL_QUERY_H

#include "base/err.h"
#include "base/slice.h"

#define TRAIL_QUERY_MAX 2048
#define TRAIL_QUERY_CONDITIONS 32

struct trail_query;

/* now_ms: what relative times are counted from. ERR_SYNTAX, ERR_LIMIT with a sentence. The text may be freed. */
int trail_query_parse(struct slice text, int64_t now_ms, struct trail_query **ret, struct err *err);
void trail_query_free(struct trail_query *q);
/* Does the line (without its end) meet it? */
bool trail_query_match(const struct trail_query *q, struct slice line);
int64_t trail_query_since(const struct trail_query *q); /* INT64_MIN when it does not say */

#endif
