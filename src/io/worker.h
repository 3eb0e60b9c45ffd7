/* worker.h: threads for calls that must block (Argon2, the commit), fed by a bounded queue. */
#ifndef KK_IO_WORKER_H
#define KK_IO_WORKER_H

#include <stddef.h>

#include "io/fiber.h"

struct worker_pool;
int worker_pool_new(const char *name, unsigned threads, size_t queue_max, struct worker_pool **ret);
void worker_pool_free(struct worker_pool *p); /* waits for running jobs */
/* Runs fn(arg) on a thread and waits for its end; not cancellable once running (arg is on the caller's stack), so fn must be
 * bounded. 0, or -EBUSY when the queue is full. */
int MAY_YIELD worker_run(struct worker_pool *p, void (*fn)(void *arg), void *arg);

#endif
