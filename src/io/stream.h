/* stream.h: a two-way byte stream with buffered reading, for protocol sessions. The session code is the same over a socket
 * and over the fake twin that tests and fuzzers use.
 *
 * A stream owns its descriptor. Reading: the input buffer is allocated when bytes come and given back when it is empty, so
 * that an idle session costs little. Writing: bytes gather in an output buffer; stream_flush sends them; reading flushes
 * first when input must be waited for, so that pipelined commands are answered together (RFC 2920). */
#ifndef KK_IO_STREAM_H
#define KK_IO_STREAM_H

#include "base/buf.h"
#include "base/err.h"
#include "io/fiber.h"

#define STREAM_IN_MAX 65536
#define STREAM_OUT_HIGH 32768 /* writers past this many unsent bytes flush by themselves */

struct stream;

/* Takes the descriptor over (also on failure it is closed). A stream socket; non-blocking use is by MSG_DONTWAIT. */
int stream_new_fd(int fd, struct stream **ret);
/* Closes and frees; unsent output is tried once, without waiting. NULL allowed. */
void stream_free(struct stream *s);
/* The deadline of the waits that follow; set it before each command. */
void stream_set_deadline(struct stream *s, int64_t deadline);

/* What is buffered; never waits. Valid until the next call on this stream. */
struct slice stream_buffered(const struct stream *s);
void stream_consume(struct stream *s, size_t n);
/* Puts bytes in front of the input: what another process had read before the stream came here. 0, ERR_LIMIT or -ENOMEM. */
int stream_unread(struct stream *s, struct slice b);
/* Waits (after a flush) until more bytes are buffered than now. 0; ERR_CLOSED at end of file; ERR_LIMIT when the buffer
 * is full; -ETIMEDOUT, -ECANCELED, -errno. */
int MAY_YIELD stream_fill(struct stream *s);
/* One line ending with LF, at most max bytes with its end, as it stands in the stream: the caller checks for CR. The
 * line is consumed; the slice is valid until the next call on this stream. ERR_LIMIT: longer than max (nothing consumed). */
int MAY_YIELD stream_read_line(struct stream *s, size_t max, struct slice *ret_line);
/* Up to max bytes, at least one; ERR_CLOSED at end of file. The slice is valid until the next call. */
int MAY_YIELD stream_read_some(struct stream *s, size_t max, struct slice *ret);
/* After ERR_LIMIT of stream_read_line: throws away up to and including the next LF, however far (at most `most` bytes). */
int MAY_YIELD stream_skip_line(struct stream *s, size_t most);

/* Appends to the output; may wait when much is unsent. 0 or a negative code; after a failure all calls fail alike. */
int MAY_YIELD stream_write(struct stream *s, const void *p, size_t n);
int MAY_YIELD stream_write_slice(struct stream *s, struct slice b);
int MAY_YIELD stream_printf(struct stream *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int MAY_YIELD stream_flush(struct stream *s);
/* Flushes, then says that no more will be written (half-close). */
int MAY_YIELD stream_shutdown(struct stream *s);

/* Gives the descriptor away: the stream holds none afterwards and only stream_free is allowed. Unread input stays readable by
 * stream_buffered until then (a STARTTLS must refuse it; a hand-over to another process must pass it on). -1 for fakes. */
int stream_take_fd(struct stream *s);
int stream_fd(const struct stream *s); /* -1 for fakes */

/* The fake twin. Input is what the test gives, handed out in chunks of at most `chunk` bytes (0: all at once), then end of file;
 * with fail_at != SIZE_MAX reading or writing fails with fail_code at that byte. Output is collected. Never waits, so that it
 * works outside of fibers. */
struct stream_fake {
    struct slice input;
    size_t chunk;
    size_t fail_read_at, fail_write_at; /* SIZE_MAX: never */
    int fail_code;
    bool timeout_at_end; /* -ETIMEDOUT instead of ERR_CLOSED at the end of input */
    /* For dialogues, NULL allowed: called when the input is used up and all output so far has been collected. Returns 0 after it
     * has set the next input (not empty), or the code of the failure that the reader shall see. */
    int (*next)(struct stream_fake *fake);
    void *arg;           /* for next */
    struct buf output;   /* initialised by stream_new_fake; freed by the test */
};
int stream_new_fake(struct stream_fake *fake, struct stream **ret);

#endif
