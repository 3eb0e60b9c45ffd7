/* writer.h: writes the audit trail: events become durable JSON lines, in one sequence without gaps.
 *
 * Group commit: what was added while a batch was being written goes into the next one: one write and one fdatasync on a thread of its own,
 * then everybody who waits for it goes on. Events of outboxes are written exactly once: a repeat (source, epoch, sequence not
 * after the last one written) is dropped, also after a crash.
 *
 * A failed write or sync is not retried, for the kernel may have dropped the pages: all that was not confirmed fails, nothing is accepted,
 * the alert function is called; then, now and then, what was not confirmed is cut off the file and a new file is begun. The
 * outboxes still have their events. */
#ifndef KK_TRAIL_WRITER_H
#define KK_TRAIL_WRITER_H

#include "base/err.h"
#include "io/fiber.h"
#include "trail/files.h"

struct trail_writer;

struct trail_options {
    uint64_t file_size; /* a file that has reached it is followed by a new one; a new calendar month begins one, too */
    void (*alert)(const char *name, const char *text);
};

/* dir: stays the caller's. Recovers the last file; blocks. No threads yet. */
int trail_writer_open(int dir, const struct trail_options *o, struct trail_writer **ret, struct err *err);
int trail_writer_start(struct trail_writer *w, struct err *err); /* starts the thread; before any event */
/* Nobody may be waiting. */
void trail_writer_free(struct trail_writer *w);
void trail_writer_set_file_size(struct trail_writer *w, uint64_t bytes);

/* Takes an encoded event over for the next batch. Never waits. origin NULL: it came directly. 0 (also for a repeat); -EBUSY when a batch is full;
 * ERR_READONLY while nothing is accepted; ERR_SYNTAX, ERR_VERSION, ERR_LIMIT for what is no event. */
int trail_writer_add(struct trail_writer *w, struct slice encoded, const struct trail_origin *origin);
/* Waits until all that was added before is durable. 0; ERR_READONLY when it failed; -ETIMEDOUT, -ECANCELED: it may become durable yet. */
int MAY_YIELD trail_writer_sync(struct trail_writer *w, int64_t deadline);
/* The last event of a source that is durable; sequence 0 when there is none of this epoch. */
uint64_t trail_writer_confirmed(const struct trail_writer *w, const char *source, uint64_t epoch);

/* What may be read: files up to this one, and of it this many bytes. False: no file yet. */
bool trail_writer_end(const struct trail_writer *w, struct trail_file *ret_file, uint64_t *ret_size);
/* Waits for more to read, or for nothing longer than the deadline. */
int MAY_YIELD trail_writer_wait(struct trail_writer *w, int64_t deadline);
/* Waits until all that was added is durable or failed and no job is under way; for a graceful stop. */
void MAY_YIELD trail_writer_drain(struct trail_writer *w, int64_t deadline);

#endif
