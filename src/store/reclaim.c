/* Reclaiming space: mark and sweep of segments that are mostly garbage. See store.h and docs/STORE.md section 8.
 *
 * A body in an old segment can only lose placements, never gain one: copies within an account share a placement, and new mail has new
 * bodies. So a body that the scan of all placements does not meet is dead for good, whatever happens beside the scan; one that dies
 * after the scan met it is moved for nothing and goes the next time. */
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/store_priv.h"

#define SEGMENTS_AT_ONCE 32
#define BODIES_AT_ONCE 1000000 /* 40 bytes of memory each */
#define SCAN_ROWS 20000        /* placements of one index transaction */
#define MOVES_AT_ONCE 64
#define MOVE_BYTES (16u << 20)

struct body_at {
    struct id128 id;
    uint64_t segment, offset;
    uint64_t size : 63, live : 1;
};

struct reclaim {
    struct store *s;
    uint64_t segments[SEGMENTS_AT_ONCE];
    size_t n_segments;
    struct body_at *bodies; /* sorted by id */
    size_t n, cap;
    unsigned min_percent;
    struct ikey scan_from;  /* where the scan of placements goes on */
    bool scan_done;
    uint64_t moved, freed;
    int rc;
};

/* ---- which segments, which bodies (task thread) ---- */

static int choose_segment(void *arg, const uint8_t *key, size_t key_n, struct slice value)
{
    struct reclaim *r = arg;
    struct index_segment g;
    if (key_n != 8 || value.n < sizeof(g))
        return ERR_CORRUPT;
    memcpy(&g, value.p, sizeof(g));
    if (r->n_segments < SEGMENTS_AT_ONCE && g.dead_bytes * 100 >= g.body_bytes * r->min_percent)
        r->segments[r->n_segments++] = ikey_get_u64(key);
    return 0;
}

static int add_body(struct reclaim *r, const struct journal_header *h, uint64_t segment, uint64_t offset)
{
    if (r->n == r->cap) {
        size_t cap = r->cap != 0 ? r->cap * 2 : 4096;
        struct body_at *p = realloc(r->bodies, cap * sizeof(*p));
        if (p == NULL)
            return -ENOMEM;
        r->bodies = p;
        r->cap = cap;
    }
    r->bodies[r->n++] = (struct body_at){.id = h->body, .segment = segment, .offset = offset, .size = h->body_n};
    return 0;
}

/* Bodies whose location is this segment. */
static int list_bodies(struct reclaim *r, uint64_t segment)
{
    struct store *s = r->s;
    struct journal_segment g;
    struct journal_header h;
    struct journal_position at;
    MDB_txn *t;
    int fd, rc = segment_open(s, segment, &fd, &g);
    if (rc != 0)
        return rc;
    struct journal_cursor c = {.fd = fd, .offset = JOURNAL_SEGMENT_HEADER, .end = g.size};
    rc = index_read_begin(s->x, &t);
    while (rc == 0 && (rc = journal_next(&c, false, &h, &at)) == 0) {
        struct ikey k = ikey_id(h.body);
        struct index_body b;
        if (h.body_n == 0)
            continue;
        rc = index_row(s->x, t, INDEX_BODIES, &k, &b, sizeof(b), NULL);
        if (rc == 0 && b.segment == segment && b.offset == at.body_offset)
            rc = add_body(r, &h, segment, at.body_offset);
        else if (rc == -ENOENT)
            rc = 0;
    }
    if (rc == ERR_CLOSED || rc == 0)
        rc = 0;
    index_read_end(s->x, t);
    (void)close(fd);
    return rc;
}

static int by_id(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct id128));
}

static void choose(void *arg)
{
    struct reclaim *r = arg;
    struct ikey none = {0};
    struct apply a;
    MDB_txn *t;
    r->rc = index_read_begin(r->s->x, &t);
    if (r->rc != 0)
        return;
    r->rc = apply_begin(&a, r->s->x, t);
    if (r->rc == 0)
        r->rc = index_walk(r->s->x, t, INDEX_SEGMENTS, &none, &none, choose_segment, r);
    index_read_end(r->s->x, t);
    /* The one that is being written to, and those that are not wholly applied, stay. */
    while (r->n_segments > 0 && r->segments[r->n_segments - 1] >= a.mark.segment)
        r->n_segments--;
    for (size_t i = 0; i < r->n_segments && r->rc == 0; i++) {
        if (r->n >= BODIES_AT_ONCE)
            r->n_segments = i; /* the next time */
        else
            r->rc = list_bodies(r, r->segments[i]);
    }
    if (r->n > 0)
        qsort(r->bodies, r->n, sizeof(*r->bodies), by_id);
}

/* ---- mark (task thread, a transaction a call) ---- */

struct scan {
    struct reclaim *r;
    size_t rows;
};

static int mark_placement(void *arg, const uint8_t *key, size_t key_n, struct slice value)
{
    struct scan *scan = arg;
    struct reclaim *r = scan->r;
    if (key_n > sizeof(r->scan_from.b) || value.n < sizeof(struct index_placement))
        return ERR_CORRUPT;
    memcpy(r->scan_from.b, key, key_n);
    r->scan_from.n = (uint32_t)key_n;
    if (scan->rows++ == SCAN_ROWS)
        return 1; /* this row comes first the next time */
    struct body_at *b = bsearch(value.p, r->bodies, r->n, sizeof(*r->bodies), by_id);
    if (b != NULL)
        b->live = 1;
    return 0;
}

static void mark_some(void *arg)
{
    struct reclaim *r = arg;
    struct scan scan = {r, 0};
    struct ikey none = {0};
    MDB_txn *t;
    r->rc = index_read_begin(r->s->x, &t);
    if (r->rc != 0)
        return;
    r->rc = index_walk(r->s->x, t, INDEX_PLACEMENTS, &none, &r->scan_from, mark_placement, &scan);
    r->scan_done = scan.rows <= SCAN_ROWS;
    index_read_end(r->s->x, t);
}

/* ---- sweep ---- */

struct move_read {
    struct reclaim *r;
    const struct body_at *b;
    void *p;
    int rc;
};

static void read_body(void *arg)
{
    struct move_read *m = arg;
    struct journal_segment g;
    int fd;
    m->p = malloc(m->b->size);
    m->rc = m->p != NULL ? segment_open(m->r->s, m->b->segment, &fd, &g) : -ENOMEM;
    if (m->rc != 0)
        return;
    m->rc = disk_read(fd, m->p, m->b->size, m->b->offset);
    (void)close(fd);
}

struct move {
    struct job *job;
    void *bytes;
};

static int MAY_YIELD begin_move(struct reclaim *r, const struct body_at *b, struct move *m)
{
    struct move_read read = {.r = r, .b = b};
    int rc = worker_run(r->s->task, read_body, &read);
    if (rc == 0)
        rc = read.rc;
    if (rc == 0)
        rc = job_admit(r->s, false, NULL);
    if (rc == 0)
        rc = job_new(r->s, JOURNAL_BODY_MOVE, &m->job);
    if (rc != 0) {
        free(read.p);
        return rc;
    }
    m->bytes = read.p;
    m->job->h.body = b->id;
    m->job->raw_body = (struct iovec){read.p, b->size};
    m->job->effect.body_move = (struct j_body_move){b->segment, b->offset};
    m->job->want_applied = true;
    job_post(m->job);
    return 0;
}

static int MAY_YIELD end_moves(struct move *moves, size_t n)
{
    int rc = 0;
    for (size_t i = 0; i < n; i++) {
        struct job *j = moves[i].job;
        fiber_wait_uncancelled(&j->wait, &j->ready);
        if (j->failed && rc == 0)
            rc = j->rc != 0 ? j->rc : ERR_READONLY;
        job_done(j);
        free(moves[i].bytes);
    }
    return rc;
}

static int MAY_YIELD move_live(struct reclaim *r, uint64_t segment)
{
    struct move moves[MOVES_AT_ONCE];
    uint64_t bytes = 0;
    size_t n = 0;
    int rc = 0;
    for (size_t i = 0; i < r->n && rc == 0; i++) {
        const struct body_at *b = &r->bodies[i];
        if (b->segment != segment || !b->live)
            continue;
        rc = begin_move(r, b, &moves[n]);
        if (rc != 0)
            break;
        bytes += b->size;
        if (++n < MOVES_AT_ONCE && bytes < MOVE_BYTES)
            continue;
        rc = end_moves(moves, n);
        r->moved += n;
        n = 0;
        bytes = 0;
    }
    int last = end_moves(moves, n);
    r->moved += n;
    return rc != 0 ? rc : last;
}

static int MAY_YIELD run_sweep(struct reclaim *r, uint64_t segment, const struct buf *ids, bool last)
{
    struct job *j;
    int rc = job_admit(r->s, true, NULL);
    if (rc == 0)
        rc = job_new(r->s, JOURNAL_SWEEP, &j);
    if (rc != 0)
        return rc;
    j->effect.sweep = (struct j_sweep){.segment = segment, .bodies = buf_slice(ids), .last = last};
    j->may_fill = j->want_applied = true;
    rc = job_run(j, NULL);
    job_done(j);
    return rc;
}

static int MAY_YIELD sweep_segment(struct reclaim *r, uint64_t segment)
{
    struct buf ids;
    buf_init(&ids, 16 * JOURNAL_SWEEP_MAX);
    int rc = move_live(r, segment);
    for (size_t i = 0; i < r->n && rc == 0; i++) {
        if (r->bodies[i].segment != segment || r->bodies[i].live)
            continue;
        buf_put(&ids, r->bodies[i].id.b, 16);
        if (ids.n == 16 * JOURNAL_SWEEP_MAX) {
            rc = run_sweep(r, segment, &ids, false);
            buf_reset(&ids);
        }
    }
    if (rc == 0)
        rc = buf_ok(&ids) ? run_sweep(r, segment, &ids, true) : -ENOMEM;
    buf_done(&ids);
    return rc;
}

/* ---- unlinking ---- */

/* Is the segment below the mark and without a row: swept? ret_last_event: the last event that may stand in it. */
static int is_swept(struct store *s, const struct segment_info *g, bool *ret, uint64_t *ret_last_event)
{
    struct ikey k = ikey_segment(g->id);
    struct segment_info next;
    struct apply a;
    struct slice v;
    MDB_txn *t;
    *ret = false;
    int rc = index_read_begin(s->x, &t);
    if (rc != 0)
        return rc;
    rc = apply_begin(&a, s->x, t);
    if (rc == 0 && g->id < a.mark.segment && segments_next(s, g->id, &next)) {
        int found = index_get(s->x, t, INDEX_SEGMENTS, &k, &v);
        *ret = found == -ENOENT;
        *ret_last_event = next.first_event - 1;
        rc = found == -ENOENT ? 0 : found;
    }
    index_read_end(s->x, t);
    return rc;
}

int store_unlink_swept(struct store *s, uint64_t *ret_freed)
{
    struct segment_info g = {0};
    char name[SEGMENT_NAME_SIZE];
    bool swept, synced = false;
    uint64_t last_event = 0;
    *ret_freed = 0;
    while (segments_next(s, g.id, &g)) {
        int rc = is_swept(s, &g, &swept, &last_event);
        if (rc != 0)
            return rc;
        (void)pthread_mutex_lock(&s->lock);
        bool told = last_event <= s->outbox_kept;
        (void)pthread_mutex_unlock(&s->lock);
        if (!swept || !told)
            continue;
        /* The sweep must not be undone by a power failure once the file is gone. */
        if (!synced && (rc = index_sync(s->x)) != 0)
            return rc;
        synced = true;
        segment_name(g.id, name);
        rc = s->disk->unlink(s->seg_dir, name);
        if (rc != 0 && rc != -ENOENT)
            return rc;
        segments_remove(s, g.id);
        *ret_freed += g.size;
    }
    return 0;
}

static void unlink_swept(void *arg)
{
    struct reclaim *r = arg;
    r->rc = store_unlink_swept(r->s, &r->freed);
}

static int MAY_YIELD on_task(struct reclaim *r, void (*fn)(void *))
{
    int rc = worker_run(r->s->task, fn, r);
    return rc != 0 ? rc : r->rc;
}

/* The acknowledged mark goes into the index first: what it has not seen pins its segment. */
static void MAY_YIELD keep_ack(struct store *s)
{
    for (int i = 0; i < 50; i++) {
        store_kick(s);
        (void)pthread_mutex_lock(&s->lock);
        bool kept = s->outbox_ack == s->outbox_kept;
        (void)pthread_mutex_unlock(&s->lock);
        if (kept || fiber_sleep_until(clock_deadline(10)) != 0)
            return;
    }
}

int MAY_YIELD store_reclaim(struct store *s, unsigned min_percent, uint64_t *ret_freed, uint64_t *ret_moved, struct err *err)
{
    struct reclaim r = {.s = s, .min_percent = min_percent};
    int rc = job_admit(s, true, err);
    if (rc != 0)
        return rc;
    if (s->reclaiming)
        return err_set(err, -EBUSY, "space is being reclaimed already");
    s->reclaiming = true;
    rc = on_task(&r, choose);
    while (rc == 0 && r.n > 0 && !r.scan_done)
        rc = on_task(&r, mark_some);
    for (size_t i = 0; rc == 0 && i < r.n_segments; i++)
        rc = sweep_segment(&r, r.segments[i]);
    if (rc == 0) {
        keep_ack(s);
        rc = on_task(&r, unlink_swept);
    }
    free(r.bodies);
    s->reclaiming = false;
    *ret_freed = r.freed;
    *ret_moved = r.moved;
    return rc == 0 ? 0 : err_set(err, rc, "reclaiming was broken off: %s", err_name(rc));
}
