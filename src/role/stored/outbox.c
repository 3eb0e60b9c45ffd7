/* outbox.c: committed events on their way to auditd, which asks for what follows the last one that it has made durable. The newest
 * STORED_OUTBOX_KEEP are kept in memory; what is older, or from before a restart, is read from the store. Nothing is lost when
 * anything here is dropped: the store keeps each event until it is acknowledged. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "role/stored/stored.h"

struct kept {
    uint64_t sequence;
    char *p;
    size_t n;
};

struct outbox {
    struct fiber_queue more; /* woken when events were added */
    /* a ring without gaps: first, first + 1, ... */
    uint64_t first;
    size_t n;
    struct kept ring[STORED_OUTBOX_KEEP];
};

int outbox_new(struct outbox **ret)
{
    struct outbox *o = calloc(1, sizeof(*o));
    if (o == NULL)
        return -ENOMEM;
    fiber_queue_init(&o->more);
    *ret = o;
    return 0;
}

static struct kept *slot(struct outbox *o, uint64_t sequence)
{
    return &o->ring[sequence % STORED_OUTBOX_KEEP];
}

static void drop_until(struct outbox *o, uint64_t sequence)
{
    for (; o->n > 0 && o->first <= sequence; o->first++, o->n--)
        free(slot(o, o->first)->p);
}

void outbox_free(struct outbox *o)
{
    if (o == NULL)
        return;
    drop_until(o, UINT64_MAX);
    free(o);
}

void outbox_add(struct outbox *o, uint64_t sequence, struct slice event)
{
    char *copy = malloc(event.n);
    if (o->n == STORED_OUTBOX_KEEP || (o->n > 0 && sequence != o->first + o->n))
        drop_until(o, o->n == STORED_OUTBOX_KEEP ? o->first : UINT64_MAX);
    if (copy != NULL) {
        memcpy(copy, event.p, event.n);
        if (o->n == 0)
            o->first = sequence;
        *slot(o, sequence) = (struct kept){sequence, copy, event.n};
        o->n++;
    } else
        drop_until(o, UINT64_MAX); /* a gap: all of it is read from the store */
    fiber_wake_all(&o->more);
}

bool outbox_is_full(void)
{
    uint64_t acked, last;
    store_outbox_marks(stored()->store, &acked, &last);
    return last - acked >= stored()->outbox_limit;
}

/* ---- the call ---- */

static int from_memory(struct outbox *o, uint64_t after, size_t max, struct arena *a, struct record_list *ret)
{
    uint64_t end = o->first + o->n;
    size_t bytes = 0, n = 0;
    while (n < max && after + 1 + n < end) {
        bytes += slot(o, after + 1 + n)->n + 12;
        if (bytes > STORED_OUTBOX_BYTES && n > 0)
            break;
        n++;
    }
    struct m_outbox_item *items = arena_array(a, n, sizeof(*items));
    if (items == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        const struct kept *k = slot(o, after + 1 + i);
        items[i] = (struct m_outbox_item){k->sequence, arena_copy(a, slice_of(k->p, k->n))};
        if (items[i].event.p == NULL)
            return -ENOMEM;
    }
    *ret = (struct record_list){n, items};
    return 0;
}

static int MAY_YIELD from_store(uint64_t after, size_t max, struct arena *a, struct record_list *ret, struct err *err)
{
    struct store_outbox_item *found;
    size_t n;
    int rc = store_outbox_read(stored()->store, after, max, STORED_OUTBOX_BYTES, a, &found, &n);
    if (rc < 0)
        return err_set(err, rc, "the outbox cannot be read: %s", err_name(rc));
    struct m_outbox_item *items = arena_array(a, n, sizeof(*items));
    if (items == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        items[i] = (struct m_outbox_item){found[i].sequence, found[i].event};
    *ret = (struct record_list){n, items};
    return 0;
}

/* Where auditd stands. A number past our last event is of another epoch: nothing of this one is confirmed by it. */
static uint64_t confirmed(uint64_t done)
{
    uint64_t acked, last;
    store_outbox_marks(stored()->store, &acked, &last);
    if (done > last || done <= acked)
        return acked;
    store_outbox_ack(stored()->store, done);
    drop_until(stored()->outbox, done);
    return done;
}

static bool nothing_after(uint64_t after)
{
    uint64_t acked, last;
    store_outbox_marks(stored()->store, &acked, &last);
    return last <= after;
}

int stored_outbox_fetch(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_outbox_fetch *q = request;
    struct m_outbox_fetch_reply *r = reply;
    int64_t until = clock_deadline((int64_t)q->wait_ms);
    int rc = stored_wait(rq, err);
    if (rc < 0)
        return rc;
    r->epoch = store_epoch(stored()->store);
    uint64_t after = confirmed(q->done);
    while (nothing_after(after) && rc == 0)
        rc = fiber_wait(&stored()->outbox->more, until < rq->deadline ? until : rq->deadline);
    if (rc == -ECANCELED || stored()->store == NULL)
        return err_set(err, -EAGAIN, "stored is stopping");
    if (nothing_after(after))
        return 0;
    struct outbox *o = stored()->outbox;
    size_t max = q->max != 0 ? q->max : 1;
    if (o->n > 0 && o->first <= after + 1)
        return from_memory(o, after, max, rq->arena, &r->items);
    return from_store(after, max, rq->arena, &r->items, err);
}
