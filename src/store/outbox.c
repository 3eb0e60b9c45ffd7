/* Committed events, read again from the segments: see store.h. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/store_priv.h"

struct outbox_read {
    struct store *s;
    uint64_t after, last; /* last: what had been committed when it was asked */
    size_t max, max_bytes, bytes;
    struct arena *arena;
    struct store_outbox_item *items;
    size_t n;
    int rc;
};

static bool is_full(const struct outbox_read *r)
{
    return r->n == r->max || r->bytes >= r->max_bytes;
}

static int take_event(struct outbox_read *r, const struct journal_header *h, struct slice event)
{
    struct slice copy = arena_copy(r->arena, event);
    if (copy.p == NULL)
        return -ENOMEM;
    r->items[r->n++] = (struct store_outbox_item){h->event, copy};
    r->bytes += event.n;
    return 0;
}

static int read_event(struct outbox_read *r, int fd, const struct journal_header *h, const struct journal_position *at, struct seal *seal,
                      struct buf *scratch)
{
    union journal_effect e;
    struct arena arena;
    arena_init(&arena, 2 * JOURNAL_SEALED_MAX);
    int rc = journal_read(fd, h, at, seal, r->s->journal_key, scratch, &arena, &e);
    if (rc == 0)
        rc = take_event(r, h, journal_event(h, &e));
    arena_done(&arena);
    return rc;
}

/* Where the reading of a segment left off, so that going on does not begin at its start again. */
static uint64_t start_offset(struct store *s, uint64_t segment, uint64_t after)
{
    (void)pthread_mutex_lock(&s->lock);
    bool known = s->outbox_hint.segment == segment && s->outbox_hint.event <= after;
    uint64_t offset = known ? s->outbox_hint.offset : JOURNAL_SEGMENT_HEADER;
    (void)pthread_mutex_unlock(&s->lock);
    return offset;
}

static void keep_hint(struct store *s, uint64_t segment, uint64_t offset, uint64_t event)
{
    (void)pthread_mutex_lock(&s->lock);
    s->outbox_hint.segment = segment;
    s->outbox_hint.offset = offset;
    s->outbox_hint.event = event;
    (void)pthread_mutex_unlock(&s->lock);
}

static int read_segment(struct outbox_read *r, uint64_t id, struct seal *seal, struct buf *scratch)
{
    struct journal_segment g;
    struct journal_header h;
    struct journal_position at;
    int fd, rc = segment_open(r->s, id, &fd, &g);
    if (rc != 0)
        return rc;
    struct journal_cursor c = {.fd = fd, .offset = start_offset(r->s, id, r->after), .end = g.size};
    while (rc == 0 && !is_full(r) && (rc = journal_next(&c, false, &h, &at)) == 0) {
        if (h.event > r->last)
            break;
        if (h.event > r->after) {
            rc = read_event(r, fd, &h, &at, seal, scratch);
            keep_hint(r->s, id, c.offset, h.event);
        }
    }
    (void)close(fd);
    /* What is not whole was not committed when this was asked. */
    return rc == ERR_CLOSED || rc == ERR_CORRUPT ? 0 : rc;
}

static void read_all(void *arg)
{
    struct outbox_read *r = arg;
    struct segment_info g, next;
    struct seal *seal;
    struct buf scratch;
    uint64_t id = 0;
    r->rc = seal_new(&seal);
    if (r->rc != 0)
        return;
    buf_init(&scratch, JOURNAL_SEALED_MAX + SEAL_TAG);
    while (r->rc == 0 && !is_full(r) && segments_next(r->s, id, &g)) {
        id = g.id;
        /* All its events are acknowledged when the next segment begins at or below the one that is wanted. */
        if (segments_next(r->s, id, &next) && next.first_event <= r->after + 1)
            continue;
        r->rc = read_segment(r, id, seal, &scratch);
        if (r->rc == -ENOENT)
            r->rc = 0; /* reclaimed meanwhile: acknowledged */
    }
    buf_done(&scratch);
    seal_free(seal);
}

int MAY_YIELD store_outbox_read(struct store *s, uint64_t after, size_t max, size_t max_bytes, struct arena *arena,
                                struct store_outbox_item **ret, size_t *ret_n)
{
    struct outbox_read r = {.s = s, .after = after, .last = s->event_last, .max = max, .max_bytes = max_bytes, .arena = arena};
    r.items = arena_array(arena, max, sizeof(*r.items));
    if (r.items == NULL)
        return -ENOMEM;
    if (after < s->event_last) {
        int rc = worker_run(s->aux, read_all, &r);
        if (rc != 0)
            return rc;
    }
    *ret = r.items;
    *ret_n = r.n;
    return r.rc;
}

void store_outbox_ack(struct store *s, uint64_t sequence)
{
    (void)pthread_mutex_lock(&s->lock);
    if (sequence > s->outbox_ack && sequence <= s->event_last)
        s->outbox_ack = sequence;
    (void)pthread_mutex_unlock(&s->lock);
}

void store_outbox_marks(const struct store *s, uint64_t *ret_acked, uint64_t *ret_last)
{
    *ret_acked = s->outbox_ack;
    *ret_last = s->event_last;
}

uint64_t store_epoch(const struct store *s)
{
    uint64_t v;
    memcpy(&v, s->id.b + 8, sizeof(v));
    return v;
}
