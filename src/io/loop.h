/* loop.h: the one event loop of a process: epoll, timers, deferred work. Single-threaded; not for use by worker threads,
 * except loop_post. There is one loop a process (a permitted global), made by loop_init.
 *
 * Watches are edge-triggered and registered once: an owner tries its read or write first and waits only after EAGAIN. */
#ifndef KK_IO_LOOP_H
#define KK_IO_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/err.h"
#include "base/list.h"

struct watch;
typedef void watch_fn(struct watch *w, uint32_t events);

/* Embedded by value in its owner. `events` are EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP | EPOLLERR, as epoll gives them. */
struct watch {
    int fd;
    watch_fn *fn;
    void *arg;
};

struct timer;
typedef void timer_fn(struct timer *t);
struct timer {
    int64_t at; /* clock_mono_ms */
    timer_fn *fn;
    void *arg;
    size_t heap_index; /* 0: not armed */
};

int loop_init(struct err *err);
void loop_done(void);
/* Runs until loop_stop. */
void loop_run(void);
/* One turn: waits at most max_ms for events, runs what is due. For tests and for loops of the caller's own. */
void loop_turn(int64_t max_ms);
void loop_stop(void);

/* Registers for input and output edges. 0 or -errno. The descriptor must be non-blocking or used with MSG_DONTWAIT. */
int watch_add(struct watch *w, int fd, watch_fn *fn, void *arg);
/* Unregisters; no call of fn comes after it, also not from the events already fetched. Does not close the descriptor. */
void watch_del(struct watch *w);

void timer_set(struct timer *t, int64_t at, timer_fn *fn, void *arg); /* arms or moves; CLOCK_NEVER disarms */
void timer_cancel(struct timer *t);

/* Work for the end of this turn, in order. The node must stay valid until run; loop_defer_cancel takes it back. */
struct deferred {
    struct list node;
    void (*fn)(struct deferred *d);
};
void loop_defer(struct deferred *d, void (*fn)(struct deferred *d));
void loop_defer_cancel(struct deferred *d);

/* From any thread: runs d->fn on the loop's thread soon. The node must stay valid until run. */
void loop_post(struct deferred *d, void (*fn)(struct deferred *d));
/* On the loop's thread: takes posted work back, whether it has reached the loop or not. Nobody may be posting it meanwhile. */
void loop_post_cancel(struct deferred *d);

#endif
