/* stored.c: the state that the handlers share: whether the store is open, the grants, and what happens when one is refused. */
#include "role/stored/stored.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"

/* One process, one store: the handlers of ipc.h have no argument of their own. */
static struct stored self;

static void make(void)
{
    self = (struct stored){.phase = STORED_OPENING, .made = true};
    grants_init(&self.grants);
    fiber_queue_init(&self.opening);
}

struct stored *stored(void)
{
    if (!self.made)
        make();
    return &self;
}

void stored_done(void)
{
    timer_cancel(&self.sweep);
    grants_done(&self.grants);
    store_free(self.store);
    outbox_free(self.outbox);
    self = (struct stored){.made = false};
}

void stored_set_phase(enum stored_phase phase)
{
    self.phase = phase;
    fiber_wake_all(&self.opening);
}

void stored_on_peer(enum role role, uint64_t instance, uint64_t serial, bool up)
{
    struct grant_holder h = {role, instance, serial};
    if (!up)
        grants_holder_down(&stored()->grants, &h);
    else if (grants_holder_up(&stored()->grants, &h) < 0)
        log_error("stored.peer", L_STR("role", role_name(role)), L_STR("problem", "out of memory: it gets no grants"));
}

int stored_wait(const struct ipc_request *rq, struct err *err)
{
    int64_t deadline = clock_deadline(STORED_WAIT_MS);
    int rc = 0;
    (void)stored();
    if (rq->deadline < deadline)
        deadline = rq->deadline;
    if (self.phase == STORED_OPENING && self.n_opening >= STORED_WAITING_MAX)
        return err_set(err, -EAGAIN, "the store is being opened");
    self.n_opening++;
    while (self.phase == STORED_OPENING && rc == 0)
        rc = fiber_wait(&self.opening, deadline);
    self.n_opening--;
    if (self.phase == STORED_SERVING)
        return 0;
    return err_set(err, -EAGAIN, self.phase == STORED_OPENING ? "the store is being opened" : "the store could not be opened");
}

int stored_event_check(const struct ipc_request *rq, struct slice event, enum event_number number, struct err *err)
{
    struct event_head head;
    const struct event_desc *desc;
    struct arena a;
    void *record;
    if (event.n == 0)
        return 0;
    arena_init(&a, 2 * 1024 * 1024);
    int rc = event_decode(event, &a, &head, &desc, &record);
    arena_done(&a);
    if (rc == -ENOMEM)
        return err_set(err, rc, "out of memory for an event");
    if (rc == 0 && head.number == number && head.role == rq->from)
        return 0;
    log_alert("stored.forged_event", L_STR("from", role_name(rq->from)), L_INT("instance", rq->from_instance));
    return err_set(err, ERR_DENIED, "not a %s event of %s", event_find(number)->name, role_name(rq->from));
}

/* ---- grants ---- */

struct grant_holder stored_holder(const struct ipc_request *rq)
{
    return (struct grant_holder){rq->from, rq->from_instance, rq->peer_serial};
}

static void sweep_due(struct timer *t)
{
    (void)t;
    stored_sweep_later();
}

uint64_t stored_room(uint64_t quota, uint64_t used, uint64_t reserved)
{
    if (quota == 0)
        return UINT64_MAX;
    uint64_t left = used < quota ? quota - used : 0;
    return left - (reserved < left / 2 ? reserved : left / 2);
}

void stored_sweep_later(void)
{
    int64_t next = grants_sweep(&self.grants, clock_mono_ms());
    timer_set(&self.sweep, next, sweep_due, NULL);
}

static bool denied_may_be_sent(void)
{
    int64_t second = clock_mono_ms() / 1000;
    if (second != self.denied_second) {
        if (self.denied_n > STORED_DENIED_PER_SECOND)
            log_warning("grant.denied.untold", L_INT("count", self.denied_n - STORED_DENIED_PER_SECOND));
        self.denied_second = second;
        self.denied_n = 0;
    }
    return ++self.denied_n <= STORED_DENIED_PER_SECOND;
}

int stored_denied(const struct ipc_request *rq, uint64_t account, const char *request, enum grant_reason reason, struct err *err)
{
    char holder[64];
    (void)snprintf(holder, sizeof(holder), "%s.%llu", role_name(rq->from), (unsigned long long)rq->from_instance);
    if (denied_may_be_sent()) {
        struct event_head head = {.number = EV_grant_denied, .role = ROLE_STORED, .time_ms = clock_real_ms(), .conn = rq->trace};
        struct ev_grant_denied e = {.holder = slice_str(holder), .account = account, .request = slice_str(request),
                                    .reason = slice_str(grant_reason_text(reason))};
        log_warning("grant.denied", L_STR("holder", holder), L_STR("request", request), L_INT("account", account),
                    L_STR("reason", grant_reason_text(reason)));
        event_send(&head, &e);
    }
    return err_set(err, ERR_DENIED, "%s refused: grant %s", request, grant_reason_text(reason));
}

struct grant *stored_mailbox_grant(const struct ipc_request *rq, uint64_t id, unsigned rights, const char *request, struct err *err)
{
    struct grant_holder h = stored_holder(rq);
    enum grant_reason reason;
    uint64_t account;
    struct grant *grant = grants_find(&stored()->grants, id, &h, GRANT_MAILBOX, rights, clock_mono_ms(), &reason, &account);
    if (grant == NULL)
        (void)stored_denied(rq, account, request, reason, err);
    return grant;
}
