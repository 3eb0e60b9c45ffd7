/* The event loop: see loop.h. */
#include "io/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

#define EVENTS_A_TURN 256

static struct {
    int epoll, wake;
    bool stop;
    struct watch wake_watch;
    struct epoll_event events[EVENTS_A_TURN];
    int n_events, at_event; /* those of the turn under way */
    struct timer **heap;    /* from index 1; a binary min-heap by `at` */
    size_t heap_n, heap_cap;
    struct list deferred;
    pthread_mutex_t posted_lock;
    struct list posted;
} loop = {.epoll = -1, .wake = -1, .posted_lock = PTHREAD_MUTEX_INITIALIZER};

static void take_posted(struct watch *w, uint32_t events)
{
    uint64_t count;
    (void)w;
    (void)events;
    if (read(loop.wake, &count, sizeof(count)) < 0) {
        /* EAGAIN: already drained. */
    }
    (void)pthread_mutex_lock(&loop.posted_lock);
    while (!list_empty(&loop.posted)) {
        struct list *n = list_pop(&loop.posted);
        list_add_tail(&loop.deferred, n);
    }
    (void)pthread_mutex_unlock(&loop.posted_lock);
}

int loop_init(struct err *err)
{
    list_init(&loop.deferred);
    list_init(&loop.posted);
    loop.stop = false;
    loop.epoll = epoll_create1(EPOLL_CLOEXEC);
    loop.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop.epoll < 0 || loop.wake < 0) {
        int code = err_errno(err, "event loop");
        loop_done();
        return code;
    }
    int rc = watch_add(&loop.wake_watch, loop.wake, take_posted, NULL);
    if (rc != 0)
        loop_done();
    return rc;
}

void loop_done(void)
{
    if (loop.epoll >= 0)
        (void)close(loop.epoll);
    if (loop.wake >= 0)
        (void)close(loop.wake);
    loop.epoll = loop.wake = -1;
    free(loop.heap);
    loop.heap = NULL;
    loop.heap_n = loop.heap_cap = 0;
}

int watch_add(struct watch *w, int fd, watch_fn *fn, void *arg)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = w};
    *w = (struct watch){.fd = fd, .fn = fn, .arg = arg};
    if (epoll_ctl(loop.epoll, EPOLL_CTL_ADD, fd, &ev) != 0) {
        w->fd = -1;
        return -errno;
    }
    return 0;
}

void watch_del(struct watch *w)
{
    if (w->fn == NULL)
        return;
    (void)epoll_ctl(loop.epoll, EPOLL_CTL_DEL, w->fd, NULL);
    for (int i = loop.at_event; i < loop.n_events; i++)
        if (loop.events[i].data.ptr == w)
            loop.events[i].data.ptr = NULL;
    w->fn = NULL;
    w->fd = -1;
}

static void heap_place(size_t i, struct timer *t)
{
    loop.heap[i] = t;
    t->heap_index = i;
}

static void heap_up(size_t i)
{
    struct timer *t = loop.heap[i];
    while (i > 1 && loop.heap[i / 2]->at > t->at) {
        heap_place(i, loop.heap[i / 2]);
        i /= 2;
    }
    heap_place(i, t);
}

static void heap_down(size_t i)
{
    struct timer *t = loop.heap[i];
    for (;;) {
        size_t child = 2 * i;
        if (child > loop.heap_n)
            break;
        if (child < loop.heap_n && loop.heap[child + 1]->at < loop.heap[child]->at)
            child++;
        if (loop.heap[child]->at >= t->at)
            break;
        heap_place(i, loop.heap[child]);
        i = child;
    }
    heap_place(i, t);
}

void timer_cancel(struct timer *t)
{
    size_t i = t->heap_index;
    if (i == 0)
        return;
    t->heap_index = 0;
    struct timer *last = loop.heap[loop.heap_n--];
    if (last == t)
        return;
    heap_place(i, last);
    heap_up(i);
    heap_down(last->heap_index);
}

void timer_set(struct timer *t, int64_t at, timer_fn *fn, void *arg)
{
    t->fn = fn;
    t->arg = arg;
    if (at == CLOCK_NEVER) {
        timer_cancel(t);
        return;
    }
    t->at = at;
    if (t->heap_index != 0) {
        heap_up(t->heap_index);
        heap_down(t->heap_index);
        return;
    }
    if (loop.heap_n + 2 > loop.heap_cap) {
        size_t cap = loop.heap_cap != 0 ? loop.heap_cap * 2 : 256;
        struct timer **heap = realloc(loop.heap, cap * sizeof(*heap));
        if (heap == NULL)
            abort(); /* a wait without its deadline would be worse than a restart by the supervisor */
        loop.heap = heap;
        loop.heap_cap = cap;
    }
    loop.heap[++loop.heap_n] = t;
    heap_up(loop.heap_n);
}

static void run_timers(void)
{
    int64_t now = clock_mono_ms();
    while (loop.heap_n > 0 && loop.heap[1]->at <= now) {
        struct timer *t = loop.heap[1];
        timer_cancel(t);
        t->fn(t);
    }
}

void loop_defer(struct deferred *d, void (*fn)(struct deferred *d))
{
    d->fn = fn;
    if (!list_is_linked(&d->node))
        list_add_tail(&loop.deferred, &d->node);
}

void loop_defer_cancel(struct deferred *d)
{
    list_del(&d->node);
}

void loop_post(struct deferred *d, void (*fn)(struct deferred *d))
{
    static const uint64_t one = 1;
    d->fn = fn;
    (void)pthread_mutex_lock(&loop.posted_lock);
    bool first = list_empty(&loop.posted);
    list_add_tail(&loop.posted, &d->node);
    (void)pthread_mutex_unlock(&loop.posted_lock);
    if (first && write(loop.wake, &one, sizeof(one)) < 0) {
        /* EAGAIN: the counter is full, so the loop is being woken anyway. */
    }
}

void loop_post_cancel(struct deferred *d)
{
    (void)pthread_mutex_lock(&loop.posted_lock);
    list_del(&d->node);
    (void)pthread_mutex_unlock(&loop.posted_lock);
}

static void run_deferred(void)
{
    /* Only what was there: work deferred meanwhile runs in the next turn, after fresh events. */
    struct list now = LIST_INIT(now);
    while (!list_empty(&loop.deferred)) {
        struct list *n = list_pop(&loop.deferred);
        list_add_tail(&now, n);
    }
    while (!list_empty(&now)) {
        struct deferred *d = list_item(list_pop(&now), struct deferred, node);
        d->fn(d);
    }
}

static int wait_time(int64_t max_ms)
{
    if (!list_empty(&loop.deferred))
        return 0;
    int64_t ms = max_ms;
    if (loop.heap_n > 0) {
        int64_t left = loop.heap[1]->at - clock_mono_ms();
        if (left < 0)
            left = 0;
        if (ms < 0 || left < ms)
            ms = left;
    }
    return ms > 60000 || ms < 0 ? 60000 : (int)ms;
}

void loop_turn(int64_t max_ms)
{
    loop.n_events = epoll_wait(loop.epoll, loop.events, EVENTS_A_TURN, wait_time(max_ms));
    for (loop.at_event = 0; loop.at_event < loop.n_events; loop.at_event++) {
        struct watch *w = loop.events[loop.at_event].data.ptr;
        if (w != NULL && w->fn != NULL)
            w->fn(w, loop.events[loop.at_event].events);
    }
    loop.n_events = 0;
    run_timers();
    run_deferred();
}

void loop_run(void)
{
    while (!loop.stop)
        loop_turn(-1);
}

void loop_stop(void)
{
    loop.stop = true;
}
