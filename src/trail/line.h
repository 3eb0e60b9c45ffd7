/* line.h: one line of the audit trail, as it stands in a file:
 *
 *     {"seq":17,"time":"2026-11-22T02:44:36.123Z","event":"smtp.received","role":"smtpd",...,"source":"stored","source_epoch":"00000000000000a9","source_seq":4}
 *
 * Epochs are random 64-bit numbers, written as 16 hexadecimal digits, because many JSON readers know no such integers.
 * The head is of fixed shape and the source, when there is one, stands at the very end, so that recovery reads both without a JSON parser. A
 * value cannot imitate either: quotation marks inside strings are escaped. Lines hold no control bytes. */
#ifndef KK_TRAIL_LINE_H
#define KK_TRAIL_LINE_H

#include "base/buf.h"

#define TRAIL_LINE_MAX 131072 /* an event of IPC_EVENT_MAX bytes, each of them escaped, and its head */
#define TRAIL_SOURCE_MAX 16

/* Where an event came from when it came through an outbox: what makes it written exactly once. */
struct trail_origin {
    char source[TRAIL_SOURCE_MAX]; /* "stored"; "" none */
    uint64_t epoch, sequence;
};

struct trail_line {
    uint64_t seq;
    int64_t time_ms;
    struct slice event; /* "smtp.received" */
    struct trail_origin origin;
};

/* line: without its end. False for what is no line of ours. */
bool trail_line_parse(struct slice line, struct trail_line *ret);
#define TRAIL_EPOCH_SIZE 17
void trail_epoch_print(uint64_t epoch, char out[TRAIL_EPOCH_SIZE]);
bool trail_epoch_parse(struct slice text, uint64_t *ret);
/* Puts the origin in front of the line's last "}". */
void trail_line_add_origin(struct buf *line, const struct trail_origin *o);

/* RFC 3339 in UTC, or its front part down to the day: "2026-11-22", "2026-11-22T02:44", "2026-11-22T02:44:36Z", with milliseconds. */
bool trail_time_parse(struct slice text, int64_t *ret_ms);

#endif
