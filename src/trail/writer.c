/* The writer of the trail: see writer.h. Everything here runs on the loop's thread, except write_batch and cut_back, which block. */
#include "trail/writer.h"

#include <assert.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/worker.h"
#include "trail/event.h"

#define RECOVER_FIRST_MS 1000
#define RECOVER_MOST_MS 30000
#define STEP_MS 1000 /* a clock that goes back by less is no event */

/* What is true after a batch, if the batch is. */
struct state {
    uint64_t next_seq;
    struct trail_sources sources;
    struct trail_file file; /* number 0: none yet */
    uint64_t size;          /* of that file */
};

struct waiter {
    struct list node;
    uint64_t ticket;
    int rc;
    bool done;
    struct fiber_queue wake;
};

struct trail_writer {
    int dir, fd; /* fd of the durable state's file, or -1 */
    struct trail_options options;
    struct worker_pool *thread;
    struct state durable, next;  /* next: with all that was added */
    struct buf pending, writing;
    bool pending_new_file;       /* the pending batch begins a file */
    bool must_begin;             /* the next batch begins a file, whatever the size */
    bool failed, busy;           /* nothing accepted; a batch is being written */
    uint64_t tickets, durable_tickets; /* events added so far, in this process, and those of them that are durable */
    uint64_t direct;             /* of what is not durable: came without an outbox, so that nobody has it still */
    uint64_t lost;               /* could not be added: told in the trail when there is room */
    int64_t highest_ms;          /* wall clock */
    struct list waiters;         /* in the order of their tickets */
    struct fiber_queue more, idle;
};

/* ---- opening ---- */

static int open_file(const struct trail_writer *w, const struct trail_file *f, int flags)
{
    char name[TRAIL_NAME_SIZE];
    trail_file_name(f, name);
    int fd = openat(w->dir, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd >= 0 ? fd : -errno;
}

static uint32_t day_of(int64_t ms)
{
    char iso[CLOCK_ISO_SIZE];
    uint64_t y = 0, m = 0, d = 0;
    clock_print_iso(ms, iso);
    (void)(slice_to_u64(slice_of(iso, 4), &y) && slice_to_u64(slice_of(iso + 5, 2), &m) && slice_to_u64(slice_of(iso + 8, 2), &d));
    return (uint32_t)(y * 10000 + m * 100 + d);
}

/* One file, taken as the last. *ret_empty: it held nothing whole, and was removed. */
static int recover_file(struct trail_writer *w, const struct trail_file *f, bool *ret_empty, struct err *err)
{
    char name[TRAIL_NAME_SIZE];
    struct trail_scan scan;
    int fd = open_file(w, f, O_RDWR | O_APPEND);
    trail_file_name(f, name);
    if (fd < 0)
        return err_set(err, fd, "%s: %s", name, err_name(fd));
    int rc = trail_file_recover(w->dir, fd, f, &scan, err);
    *ret_empty = rc == 0 && scan.lines == 0;
    if (*ret_empty && (unlinkat(w->dir, name, 0) != 0 || fsync(w->dir) != 0))
        rc = err_errno(err, "%s", name);
    if (rc != 0 || *ret_empty) {
        (void)close(fd);
        return rc;
    }
    w->fd = fd;
    w->durable = (struct state){.next_seq = scan.last_seq + 1, .sources = scan.sources, .file = *f, .size = scan.good};
    w->highest_ms = scan.highest_ms;
    w->must_begin = scan.damaged;
    if (scan.damaged)
        w->options.alert("trail.damaged", name);
    return 0;
}

static int recover(struct trail_writer *w, struct err *err)
{
    struct arena arena;
    struct trail_file *files;
    size_t n;
    bool empty = true;
    arena_init(&arena, (size_t)TRAIL_FILES_MAX * 32);
    int rc = trail_files_list(w->dir, &arena, &files, &n, err);
    while (rc == 0 && empty && n > 0)
        rc = recover_file(w, &files[--n], &empty, err);
    arena_done(&arena);
    return rc;
}

int trail_writer_open(int dir, const struct trail_options *o, struct trail_writer **ret, struct err *err)
{
    struct trail_writer *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return err_set(err, -ENOMEM, "out of memory");
    w->dir = dir;
    w->fd = -1;
    w->options = *o;
    w->durable.next_seq = 1;
    list_init(&w->waiters);
    fiber_queue_init(&w->more);
    fiber_queue_init(&w->idle);
    buf_init(&w->pending, TRAIL_BATCH_MAX);
    buf_init(&w->writing, TRAIL_BATCH_MAX);
    int rc = recover(w, err);
    if (rc != 0) {
        trail_writer_free(w);
        return rc;
    }
    w->next = w->durable;
    *ret = w;
    return 0;
}

int trail_writer_start(struct trail_writer *w, struct err *err)
{
    int rc = worker_pool_new("trail", 1, 16, &w->thread);
    return rc == 0 ? 0 : err_set(err, rc, "cannot start the thread of the trail");
}

void trail_writer_free(struct trail_writer *w)
{
    if (w == NULL)
        return;
    worker_pool_free(w->thread);
    if (w->fd >= 0)
        (void)close(w->fd);
    buf_done(&w->pending);
    buf_done(&w->writing);
    free(w);
}

void trail_writer_set_file_size(struct trail_writer *w, uint64_t bytes)
{
    w->options.file_size = bytes;
}

/* ---- the blocking part ---- */

struct batch {
    int dir, fd; /* fd -1: begins this file */
    const struct trail_writer *w;
    struct trail_file file;
    struct slice bytes;
    uint64_t offset;
    int rc;
};

static int write_all(int fd, struct slice s)
{
    while (s.n > 0) {
        ssize_t n = write(fd, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        s = slice_from(s, (size_t)n);
    }
    return 0;
}

static void write_batch(void *arg)
{
    struct batch *b = arg;
    bool begins = b->fd < 0;
    if (begins)
        b->fd = open_file(b->w, &b->file, O_RDWR | O_APPEND | O_CREAT | O_EXCL);
    b->rc = b->fd < 0 ? b->fd : write_all(b->fd, b->bytes);
    if (b->rc == 0 && fdatasync(b->fd) != 0)
        b->rc = -errno;
    if (b->rc == 0 && begins && fsync(b->dir) != 0)
        b->rc = -errno;
}

/* What a failed batch may have left on disk goes, before anything else is written. */
struct cut {
    const struct trail_writer *w;
    int fd;
    uint64_t size;
    struct trail_file begun; /* number 0: the batch began no file */
    int rc;
};

static void cut_back(void *arg)
{
    struct cut *c = arg;
    char name[TRAIL_NAME_SIZE];
    c->rc = 0;
    if (c->begun.number != 0) {
        trail_file_name(&c->begun, name);
        if (unlinkat(c->w->dir, name, 0) != 0 && errno != ENOENT)
            c->rc = -errno;
    } else if (c->fd >= 0 && (ftruncate(c->fd, (off_t)c->size) != 0 || fdatasync(c->fd) != 0)) {
        c->rc = -errno;
    }
    if (c->rc == 0 && fsync(c->w->dir) != 0)
        c->rc = -errno;
}

/* ---- committing ---- */

static void answer(struct trail_writer *w, uint64_t up_to, int rc)
{
    while (!list_empty(&w->waiters)) {
        struct waiter *x = list_item(w->waiters.next, struct waiter, node);
        if (x->ticket > up_to)
            break;
        list_del(&x->node);
        x->rc = rc;
        x->done = true;
        fiber_wake_all(&x->wake);
    }
}

/* Begins anew behind the last good byte, when the disk lets us. */
static void MAY_YIELD recover_after_failure(struct trail_writer *w, struct trail_file begun)
{
    int64_t pause = RECOVER_FIRST_MS;
    while (fiber_sleep_until(clock_deadline(pause)) == 0) {
        struct cut c = {.w = w, .fd = w->fd, .size = w->durable.size, .begun = begun, .rc = -EBUSY};
        if (worker_run(w->thread, cut_back, &c) == 0 && c.rc == 0) {
            w->must_begin = true;
            w->failed = false;
            log_info("trail.recovered");
            return;
        }
        pause = pause * 2 < RECOVER_MOST_MS ? pause * 2 : RECOVER_MOST_MS;
    }
}

static void fail_all(struct trail_writer *w, int rc)
{
    char text[200];
    (void)snprintf(text, sizeof(text), "the audit trail cannot be written: %s", err_name(rc));
    w->failed = true;
    w->lost += w->direct;
    w->direct = 0;
    w->next = w->durable;
    w->pending_new_file = false;
    buf_reset(&w->pending);
    answer(w, UINT64_MAX, ERR_READONLY);
    fiber_wake_all(&w->more);
    w->options.alert("trail.failed", text);
}

/* One batch. 0, or the code of the failure. */
static int MAY_YIELD commit_batch(struct trail_writer *w, struct trail_file *ret_begun)
{
    struct buf swap = w->writing;
    w->writing = w->pending;
    w->pending = swap;
    bool begins = w->pending_new_file;
    w->pending_new_file = false;
    struct state after = w->next;
    uint64_t tickets = w->tickets, direct = w->direct;
    struct batch b = {.dir = w->dir, .fd = begins ? -1 : w->fd, .w = w, .file = after.file, .bytes = buf_slice(&w->writing)};
    *ret_begun = begins ? after.file : (struct trail_file){0};
    int rc = worker_run(w->thread, write_batch, &b);
    rc = rc == 0 ? b.rc : rc;
    buf_reset(&w->writing);
    if (rc != 0) {
        if (begins && b.fd >= 0)
            (void)close(b.fd);
        return rc;
    }
    if (begins) {
        if (w->fd >= 0)
            (void)close(w->fd);
        w->fd = b.fd;
    }
    w->durable = after;
    w->durable_tickets = tickets;
    w->direct -= direct;
    answer(w, tickets, 0);
    fiber_wake_all(&w->more);
    return 0;
}

static void committer(void *arg)
{
    struct trail_writer *w = arg;
    struct trail_file begun;
    /* What others add in this turn of the loop goes along. */
    while (fiber_yield() == 0 && w->pending.n > 0) {
        int rc = commit_batch(w, &begun);
        if (rc != 0) {
            fail_all(w, rc);
            recover_after_failure(w, begun);
        }
    }
    w->busy = false;
    fiber_wake_all(&w->idle);
}

/* ---- adding ---- */

/* Appends one line with the next number. Nothing is changed when it fails. */
static int put_line(struct trail_writer *w, struct slice encoded, const struct trail_origin *origin)
{
    struct buf line;
    buf_init(&line, TRAIL_LINE_MAX);
    int rc = event_print_json(encoded, w->next.next_seq, &line);
    if (rc == 0 && origin != NULL)
        trail_line_add_origin(&line, origin);
    buf_put_char(&line, '\n');
    if (rc == 0 && !buf_ok(&line))
        rc = ERR_LIMIT;
    if (rc == 0 && w->pending.n + line.n > w->pending.max)
        rc = -EBUSY;
    if (rc == 0)
        rc = buf_reserve(&w->pending, line.n);
    if (rc == 0) {
        buf_put_slice(&w->pending, buf_slice(&line));
        w->next.next_seq++;
        w->next.size += line.n;
        w->tickets++;
    }
    buf_done(&line);
    return rc;
}

/* An event of the trail's own. */
static int put_own(struct trail_writer *w, enum event_number number, const void *record)
{
    struct event_head h = {.number = number, .role = ROLE_AUDITD, .time_ms = clock_real_ms()};
    struct buf b;
    buf_init(&b, IPC_EVENT_MAX);
    int rc = event_encode(&h, record, &b);
    if (rc == 0)
        rc = put_line(w, buf_slice(&b), NULL);
    buf_done(&b);
    return rc;
}

/* A file begins only with a batch: what is in a batch goes into one file. */
static int begin_file_if_due(struct trail_writer *w, int64_t now)
{
    const struct trail_file *f = &w->next.file;
    if (w->pending.n != 0 || (f->number != 0 && !w->must_begin && w->next.size < w->options.file_size && f->day / 100 == day_of(now) / 100))
        return 0;
    struct ev_trail_source sources[TRAIL_SOURCES_MAX];
    char epochs[TRAIL_SOURCES_MAX][TRAIL_EPOCH_SIZE];
    struct ev_trail_begun e = {.file = f->number + 1, .previous = f->number, .sources = {w->next.sources.n, sources}};
    for (size_t i = 0; i < w->next.sources.n; i++) {
        const struct trail_origin *o = &w->next.sources.last[i];
        trail_epoch_print(o->epoch, epochs[i]);
        sources[i] = (struct ev_trail_source){slice_str(o->source), slice_str(epochs[i]), o->sequence};
    }
    struct state before = w->next;
    w->next.file = (struct trail_file){.number = f->number + 1, .day = day_of(now)};
    w->next.size = 0;
    int rc = put_own(w, EV_trail_begun, &e);
    if (rc != 0) {
        w->next = before;
        return rc;
    }
    w->pending_new_file = true;
    w->must_begin = false;
    return 0;
}

/* What the trail has to say about itself, before the next event. */
static void put_notices(struct trail_writer *w, int64_t now)
{
    if (now < w->highest_ms - STEP_MS) {
        struct ev_clock_stepped e = {.highest_ms = (uint64_t)w->highest_ms, .now_ms = (uint64_t)(now > 0 ? now : 0)};
        if (put_own(w, EV_clock_stepped, &e) == 0)
            w->highest_ms = now;
    } else if (now > w->highest_ms) {
        w->highest_ms = now;
    }
    if (w->lost != 0) {
        struct ev_events_lost e = {.count = w->lost, .process = SLICE("auditd")};
        if (put_own(w, EV_events_lost, &e) == 0)
            w->lost = 0;
    }
}

static bool is_repeat(struct trail_writer *w, const struct trail_origin *o)
{
    const struct trail_origin *last = trail_sources_find(&w->next.sources, slice_str(o->source));
    return last != NULL && last->epoch == o->epoch && o->sequence <= last->sequence;
}

static void wake_committer(struct trail_writer *w)
{
    if (w->busy || w->pending.n == 0)
        return;
    w->busy = fiber_start("trail", committer, w, NULL) == 0; /* or else with the next event */
}

int trail_writer_add(struct trail_writer *w, struct slice encoded, const struct trail_origin *origin)
{
    int64_t now = clock_real_ms();
    if (w->failed) {
        w->lost += origin == NULL;
        return ERR_READONLY;
    }
    if (origin != NULL && is_repeat(w, origin))
        return 0;
    int rc = begin_file_if_due(w, now);
    if (rc == 0) {
        put_notices(w, now);
        rc = put_line(w, encoded, origin);
    }
    if (rc == 0 && origin != NULL && !trail_sources_put(&w->next.sources, origin))
        log_error("trail.sources_full", L_STR("source", origin->source)); /* only what it can repeat is at stake */
    if (rc == 0)
        w->direct += origin == NULL;
    else
        w->lost += origin == NULL;
    wake_committer(w);
    return rc;
}

/* Apart, because the compiler cannot see that a waiter leaves the list before its frame ends. */
static __attribute__((noinline)) void enqueue(struct trail_writer *w, struct waiter *x)
{
    fiber_queue_init(&x->wake);
    list_add_tail(&w->waiters, &x->node);
}

int trail_writer_sync(struct trail_writer *w, int64_t deadline)
{
    struct waiter x = {.ticket = w->tickets};
    if (w->failed)
        return ERR_READONLY;
    if (x.ticket <= w->durable_tickets)
        return 0;
    enqueue(w, &x);
    int rc = 0;
    while (!x.done && rc == 0)
        rc = fiber_wait(&x.wake, deadline);
    list_del(&x.node);
    return x.done ? x.rc : rc;
}

uint64_t trail_writer_confirmed(const struct trail_writer *w, const char *source, uint64_t epoch)
{
    struct trail_sources copy = w->durable.sources;
    const struct trail_origin *o = trail_sources_find(&copy, slice_str(source));
    return o != NULL && o->epoch == epoch ? o->sequence : 0;
}

bool trail_writer_end(const struct trail_writer *w, struct trail_file *ret_file, uint64_t *ret_size)
{
    if (w->durable.file.number == 0)
        return false;
    *ret_file = w->durable.file;
    *ret_size = w->durable.size;
    return true;
}

int trail_writer_wait(struct trail_writer *w, int64_t deadline)
{
    return fiber_wait(&w->more, deadline);
}

void trail_writer_drain(struct trail_writer *w, int64_t deadline)
{
    while (w->busy && !w->failed && fiber_wait(&w->idle, deadline) == 0)
        continue;
}
