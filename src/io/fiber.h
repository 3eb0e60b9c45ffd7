/* fiber.h: sequential code on one thread: stackful coroutines with guarded stacks of FIBER_STACK bytes.
 *
 * A fiber runs until it waits; then the loop runs others. Functions that may wait carry MAY_YIELD: across such a call hold
 * no lock and no pointer to shared state that is not checked again. Every wait has a deadline (clock_mono_ms) and can be
 * cancelled: it then returns -ECANCELED, at once and at every later wait, and the fiber returns normally, so that its
 * clean-ups run. Exceptions to the deadline are spelled CLOCK_NEVER.
 *
 * Starts with makecontext, switches with sigsetjmp(..., 0)/siglongjmp (73-99 ns, no system call). */
#ifndef KK_IO_FIBER_H
#define KK_IO_FIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

#define MAY_YIELD
#ifndef FIBER_STACK
#define FIBER_STACK (64 * 1024)
#endif
#ifndef FIBER_MAX
#define FIBER_MAX 100000 /* hard cap a process */
#endif

struct fiber;
typedef void fiber_fn(void *arg);

/* Starts a fiber: it runs in this turn of the loop, not before fiber_start returns. name is static.
 * 0, -ENOMEM, or -EAGAIN past FIBER_MAX. ret_fiber may be NULL; the pointer is valid until the fiber ends. */
int fiber_start(const char *name, fiber_fn *fn, void *arg, struct fiber **ret_fiber);
/* Marks as cancelled and wakes. */
void fiber_cancel(struct fiber *f);
struct fiber *fiber_self(void); /* NULL outside of fibers */
bool fiber_cancelled(void);
size_t fiber_count(void);

/* Gives way to whatever is ready. 0 or -ECANCELED. */
int MAY_YIELD fiber_yield(void);
/* fiber_yield, if this fiber has run for more than a few milliseconds since it was resumed. Call it in long loops. */
int MAY_YIELD fiber_breathe(void);
int MAY_YIELD fiber_sleep_until(int64_t at); /* 0 or -ECANCELED */

/* A place to wait at. Zeroed or fiber_queue_init'ed. Wake-ups are not kept: check the condition in a loop. */
struct fiber_queue {
    struct list waiters;
};
void fiber_queue_init(struct fiber_queue *q);
/* 0 when woken, -ETIMEDOUT, or -ECANCELED. */
int MAY_YIELD fiber_wait(struct fiber_queue *q, int64_t deadline);
/* Waits without deadline and through cancellation until *done: only for an event that is bound to come soon (a worker thread that
 * holds a pointer into this stack). A cancellation meanwhile shows at the next ordinary wait. */
void MAY_YIELD fiber_wait_uncancelled(struct fiber_queue *q, const bool *done);
bool fiber_wake_one(struct fiber_queue *q);
void fiber_wake_all(struct fiber_queue *q);

/* One descriptor's readiness, for fibers. Edge-triggered: wait only after EAGAIN. One reader and one writer at a time. */
struct fiber_fd;
int fiber_fd_new(int fd, struct fiber_fd **ret);    /* does not own fd; 0 or -errno */
void fiber_fd_free(struct fiber_fd *f);             /* nobody may be waiting; NULL allowed */
int MAY_YIELD fiber_fd_wait_in(struct fiber_fd *f, int64_t deadline);  /* 0, -ETIMEDOUT, -ECANCELED */
int MAY_YIELD fiber_fd_wait_out(struct fiber_fd *f, int64_t deadline);

/* Tests and mains: runs the loop until every fiber has ended, at most max_ms; false if some still live. */
bool fiber_run_all(int64_t max_ms);
/* Debug builds: deepest use of any stack so far, in bytes; 0 in release builds. */
size_t fiber_stack_peak(void);

#endif
