/* The cache of segment descriptors: see segments.h. */
#include "role/imapd/segments.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/loop.h"

#define CALL_MS 20000

struct segment {
    struct list node; /* in `idle` while nobody reads from it; oldest first */
    uint64_t number;
    int fd;
    unsigned readers;
    bool forgotten;   /* not in the table any more */
    int64_t since;    /* idle since */
};

static struct {
    struct segment **all; /* readers or not; few enough for a walk */
    size_t n, cap;
    struct list idle;
    size_t n_idle;
    struct timer sweep;
} cache = {.idle = LIST_INIT(cache.idle)};

static struct segment *find(uint64_t number)
{
    for (size_t i = 0; i < cache.n; i++)
        if (cache.all[i]->number == number)
            return cache.all[i];
    return NULL;
}

static void take_out(struct segment *s)
{
    for (size_t i = 0; i < cache.n; i++) {
        if (cache.all[i] == s) {
            cache.all[i] = cache.all[--cache.n];
            break;
        }
    }
    s->forgotten = true;
}

static void close_segment(struct segment *s)
{
    if (list_is_linked(&s->node)) {
        list_del(&s->node);
        cache.n_idle--;
    }
    if (!s->forgotten)
        take_out(s);
    (void)close(s->fd);
    free(s);
}

static void on_sweep(struct timer *t)
{
    int64_t now = clock_mono_ms();
    while (!list_empty(&cache.idle)) {
        struct segment *s = list_item(cache.idle.next, struct segment, node);
        if (now - s->since < SEGMENTS_KEEP_MS) {
            timer_set(t, s->since + SEGMENTS_KEEP_MS, on_sweep, NULL);
            return;
        }
        close_segment(s);
    }
}

static int add(uint64_t number, int fd, struct segment **ret)
{
    if (cache.n == cache.cap) {
        size_t cap = cache.cap != 0 ? cache.cap * 2 : 32;
        struct segment **all = realloc(cache.all, cap * sizeof(struct segment *));
        if (all == NULL)
            return -ENOMEM;
        cache.all = all;
        cache.cap = cap;
    }
    struct segment *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    *s = (struct segment){.number = number, .fd = fd};
    list_init(&s->node);
    cache.all[cache.n++] = s;
    *ret = s;
    return 0;
}

static int ask_stored(uint64_t number, uint64_t grant, struct id128 trace, int *ret_fd, struct err *err)
{
    struct arena a;
    struct m_segment_open rq = {.grant = grant, .segment = number};
    struct m_segment_open_reply reply = {.file = -1};
    arena_init(&a, 1024);
    struct ipc_call call = {.trace = trace, .deadline = clock_deadline(CALL_MS), .arena = &a};
    int rc = ipc_call(ROLE_STORED, 0, IPC_segment_open, &call, &rq, &reply, err);
    arena_done(&a);
    if (rc == 0 && reply.file < 0)
        rc = err_set(err, ERR_GONE, "no descriptor of segment %llu", (unsigned long long)number);
    if (rc == 0)
        *ret_fd = reply.file;
    return rc;
}

int segment_get(uint64_t number, uint64_t grant, struct id128 trace, struct segment **ret, struct err *err)
{
    struct segment *s = find(number);
    if (s == NULL) {
        int fd;
        int rc = ask_stored(number, grant, trace, &fd, err);
        if (rc != 0)
            return rc;
        s = find(number); /* another session may have been quicker */
        if (s != NULL) {
            (void)close(fd);
        } else if (add(number, fd, &s) != 0) {
            (void)close(fd);
            return err_set(err, -ENOMEM, "no memory for a segment");
        }
    }
    if (list_is_linked(&s->node)) {
        list_del(&s->node);
        cache.n_idle--;
    }
    s->readers++;
    *ret = s;
    return 0;
}

int segment_fd(const struct segment *s)
{
    return s->fd;
}

void segment_put(struct segment *s)
{
    if (s == NULL || --s->readers != 0)
        return;
    if (s->forgotten) {
        close_segment(s);
        return;
    }
    s->since = clock_mono_ms();
    list_add_tail(&cache.idle, &s->node);
    if (++cache.n_idle > SEGMENTS_CACHED)
        close_segment(list_item(cache.idle.next, struct segment, node));
    if (cache.sweep.heap_index == 0)
        timer_set(&cache.sweep, s->since + SEGMENTS_KEEP_MS, on_sweep, NULL);
}

void segments_forget(void)
{
    while (!list_empty(&cache.idle))
        close_segment(list_item(cache.idle.next, struct segment, node));
    while (cache.n > 0)
        take_out(cache.all[0]);
}
