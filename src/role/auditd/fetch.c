/* Fetching the outboxes: each event of stored and authd becomes durable here before its owner forgets it, and exactly once. */
#include "base/clock.h"
#include "base/log.h"
#include "role/auditd/auditd.h"
#include "trail/event.h"

#define FETCH_MAX 1000
#define FETCH_WAIT_MS 30000 /* long poll */
#define FETCH_EXTRA_MS 10000
#define SYNC_MS 60000
#define PAUSE_FIRST_MS 50
#define PAUSE_MOST_MS 5000

struct source {
    enum role role;
    uint64_t epoch;
    uint64_t done;  /* durable up to here, in this epoch */
    bool known;     /* epoch and done are of the outbox that is there now */
};

/* An event that cannot be written as a line must not hold up those behind it. */
static int add_unreadable(const struct trail_origin *o, int why)
{
    struct ev_events_lost e = {.count = 1, .process = slice_str(o->source)};
    struct event_head h = {.number = EV_events_lost, .role = ROLE_AUDITD, .time_ms = clock_real_ms()};
    struct buf b;
    log_error("event.unreadable", L_STR("source", o->source), L_INT("sequence", o->sequence), L_STR("reason", err_name(why)));
    buf_init(&b, IPC_EVENT_MAX);
    int rc = event_encode(&h, &e, &b);
    if (rc == 0)
        rc = trail_writer_add(auditd()->trail, buf_slice(&b), o);
    buf_done(&b);
    return rc;
}

static int add_item(const struct source *s, const struct m_outbox_item *item)
{
    struct trail_origin o = {.epoch = s->epoch, .sequence = item->sequence};
    (void)snprintf(o.source, sizeof(o.source), "%s", role_name(s->role));
    int rc = trail_writer_add(auditd()->trail, item->event, &o);
    return rc == ERR_SYNTAX || rc == ERR_LIMIT || rc == ERR_VERSION ? add_unreadable(&o, rc) : rc;
}

/* What came goes into the trail; when it is durable the owner may forget it. A full batch empties itself. */
static int MAY_YIELD keep(struct source *s, const struct record_list *items)
{
    for (size_t i = 0; i < items->n; i++) {
        int rc;
        while ((rc = add_item(s, RECORD_ITEM(*items, m_outbox_item, i))) == -EBUSY)
            if ((rc = trail_writer_sync(auditd()->trail, clock_deadline(SYNC_MS))) != 0)
                return rc;
        if (rc != 0)
            return rc;
    }
    int rc = trail_writer_sync(auditd()->trail, clock_deadline(SYNC_MS));
    if (rc == 0)
        s->done = RECORD_ITEM(*items, m_outbox_item, items->n - 1)->sequence;
    return rc;
}

static int MAY_YIELD fetch(const struct source *s, uint64_t done, uint64_t max, uint64_t wait_ms, struct arena *arena,
                           struct m_outbox_fetch_reply *r)
{
    struct m_outbox_fetch q = {.done = done, .max = max, .wait_ms = wait_ms};
    struct ipc_call c = {.deadline = clock_deadline((int64_t)wait_ms + FETCH_EXTRA_MS), .arena = arena};
    return ipc_call(s->role, 0, IPC_outbox_fetch, &c, &q, r, NULL);
}

/* Which outbox is it? Confirming a number to another one than it is of would make that one forget what nobody has. */
static int MAY_YIELD get_acquainted(struct source *s, struct arena *arena)
{
    struct m_outbox_fetch_reply r = {0};
    int rc = fetch(s, 0, 1, 0, arena, &r);
    if (rc != 0)
        return rc;
    if (!s->known || s->epoch != r.epoch) {
        s->epoch = r.epoch;
        s->done = trail_writer_confirmed(auditd()->trail, role_name(s->role), r.epoch);
    }
    s->known = true;
    return 0;
}

static int MAY_YIELD turn(struct source *s)
{
    struct m_outbox_fetch_reply r = {0};
    struct arena arena;
    arena_init(&arena, 8 << 20);
    int rc = s->known ? 0 : get_acquainted(s, &arena);
    if (rc == 0)
        rc = fetch(s, s->done, FETCH_MAX, FETCH_WAIT_MS, &arena, &r);
    if (rc == 0 && r.epoch != s->epoch)
        rc = -ECONNRESET; /* another outbox: look again */
    if (rc == 0 && r.items.n > 0)
        rc = keep(s, &r.items);
    arena_done(&arena);
    if (rc != 0)
        s->known = false;
    return rc;
}

static void fetch_fiber(void *arg)
{
    struct source *s = arg;
    int64_t pause = PAUSE_FIRST_MS;
    for (int rc = 0; rc != -ECANCELED;) {
        rc = turn(s);
        if (rc == 0) {
            pause = PAUSE_FIRST_MS;
            continue;
        }
        log_debug("outbox.waiting", L_STR("source", role_name(s->role)), L_STR("reason", err_name(rc)));
        rc = fiber_sleep_until(clock_deadline(pause));
        pause = pause * 2 < PAUSE_MOST_MS ? pause * 2 : PAUSE_MOST_MS;
    }
    free(s);
}

int auditd_fetch_from(enum role role)
{
    struct source *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    s->role = role;
    int rc = fiber_start("fetch", fetch_fiber, s, NULL);
    if (rc != 0)
        free(s);
    return rc;
}
