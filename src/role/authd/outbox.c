/* Committed events on their way to auditd, which asks for what follows the last one that it has made durable. */
#include "base/clock.h"
#include "role/authd/authd.h"

#define FETCH_BYTES 98304 /* of events in one answer: well within IPC_FRAME_MAX */
#define ANSWER_MS 500     /* the answer must be on its way before the caller's deadline */

struct fetch {
    uint64_t done, max, epoch;
    struct arena *arena;
    struct record_list items;
};

static int fetch(struct account_db *db, void *args, struct err *err)
{
    struct fetch *f = args;
    return account_db_outbox(db, f->done, f->max, FETCH_BYTES, f->arena, &f->items, &f->epoch, err);
}

int authd_outbox_fetch(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_outbox_fetch *q = request;
    struct m_outbox_fetch_reply *r = reply;
    int64_t until = clock_deadline((int64_t)q->wait_ms), latest = rq->deadline - ANSWER_MS;
    struct fetch f = {.done = q->done, .max = q->max, .arena = rq->arena};
    int rc = authd_wait_ready(rq, err);
    if (rc != 0)
        return rc;
    while ((rc = authd_db(fetch, &f, err)) == 0 && f.items.n == 0) {
        if (authd()->closing || fiber_wait(&authd()->outbox_more, until < latest ? until : latest) != 0)
            break;
    }
    if (rc != 0)
        return rc;
    r->epoch = f.epoch;
    r->items = f.items;
    return 0;
}
