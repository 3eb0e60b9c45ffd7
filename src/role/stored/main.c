/* stored: the process that owns the store. It opens nothing but its own directory, talks to smtpd and imapd (mail, under grants),
 * authd (grants and accounts), keyd (unwraps the store's keys), auditd (outbox) and the supervisor; see sandbox.c for its rights.
 *
 * First the store's files are opened and its threads started; then, in the sandbox, start fetches the keys, replays the journal and
 * serves. Requests that come before wait (stored_wait). */
#include "base/clock.h"
#include "base/log.h"
#include "role/role_main.h"
#include "role/stored/stored.h"

const struct ipc_handler stored_handlers[] = {
    /* smtpd: under deliver grants */
    {IPC_accept, stored_accept},
    {IPC_grant_drop, stored_grant_drop},
    /* authd */
    {IPC_grant_deliver, stored_grant_deliver},
    {IPC_grant_mailbox, stored_grant_mailbox},
    {IPC_grant_revoke, stored_grant_revoke},
    {IPC_account_create, stored_account_create},
    {IPC_account_delete, stored_account_delete},
    {IPC_account_quota, stored_account_quota},
    /* imapd: under mailbox grants */
    {IPC_mailbox_open, stored_mailbox_open},
    {IPC_mailbox_lock, stored_mailbox_lock},
    {IPC_mailbox_list, stored_mailbox_list},
    {IPC_message_locate, stored_message_locate},
    {IPC_segment_open, stored_segment_open},
    {IPC_mailbox_expunge, stored_mailbox_expunge},
    {IPC_mailbox_flags, stored_mailbox_flags},
    /* auditd */
    {IPC_outbox_fetch, stored_outbox_fetch},
    /* command line */
    {IPC_ctl_store_verify, stored_ctl_verify},
    {IPC_ctl_store_export, stored_ctl_export},
    {IPC_ctl_store_import, stored_ctl_import},
    {IPC_ctl_store_status, stored_ctl_status},
    {IPC_ctl_store_reclaim, stored_ctl_reclaim},
    {0, NULL},
};

/* ---- what the store tells ---- */

static void on_event(void *arg, uint64_t sequence, struct slice event)
{
    (void)arg;
    outbox_add(stored()->outbox, sequence, event);
}

static void on_alert(void *arg, const char *name, const char *text)
{
    (void)arg;
    role_alert(name, text);
}

static void on_clock_step(void *arg, int64_t highest_ms, int64_t now_ms)
{
    struct event_head head = {.number = EV_clock_stepped, .role = ROLE_STORED, .time_ms = now_ms};
    struct ev_clock_stepped e = {.highest_ms = (uint64_t)highest_ms, .now_ms = (uint64_t)now_ms};
    (void)arg;
    role_alert("clock.stepped", "the clock stands before the highest time that the store has seen");
    event_send(&head, &e);
}

/* ---- life ---- */

/* In Landlock already: the store opens its own directory only, and its threads must be confined like this one. */
static int open_store(struct role_context *ctx, struct err *err)
{
    const struct conf *c = ctx->conf;
    struct store_options o = {.dir = ctx->state_dir, .segment_size = (uint64_t)c->store_segment_size, .zstd_level = (int)c->store_zstd_level,
                              .index_map = (uint64_t)c->store_index_map, .reserve = (uint64_t)c->store_reserve,
                              .apply_delay_ms = STORED_APPLY_DELAY_MS, .keys = stored_key_ops(),
                              .on_event = on_event, .on_alert = on_alert, .on_clock_step = on_clock_step};
    stored()->outbox_limit = (uint64_t)c->trail_outbox_limit;
    if (outbox_new(&stored()->outbox) < 0)
        return err_set(err, -ENOMEM, "out of memory for the outbox");
    return store_open(&o, &stored()->store, err);
}

/* Empties segments that are mostly garbage, now and then, for as long as the process serves. */
static void reclaim_by_itself(void *arg)
{
    struct err err = {0};
    uint64_t freed, moved;
    (void)arg;
    while (fiber_sleep_until(clock_deadline(STORED_RECLAIM_EVERY_MS)) == 0 && !role_context()->stopping) {
        int rc = store_reclaim(stored()->store, STORED_RECLAIM_PERCENT, &freed, &moved, &err);
        if (rc < 0)
            log_warning("store.reclaim_failed", L_STR("text", err.text));
        else if (freed != 0)
            log_info("store.reclaimed", L_INT("freed", freed), L_INT("moved", moved));
    }
}

static int MAY_YIELD start(struct role_context *ctx, struct err *err)
{
    int64_t began = clock_mono_ms();
    (void)ctx;
    int rc = store_start(stored()->store, err);
    if (rc == 0)
        rc = fiber_start("reclaim", reclaim_by_itself, NULL, NULL);
    stored_set_phase(rc == 0 ? STORED_SERVING : STORED_FAILED);
    if (rc == 0)
        log_info("store.open", L_INT("ms", clock_mono_ms() - began));
    return rc;
}

/* What was given to store_open holds until the next start; whoever changes it is told. */
static bool needs_restart(const struct conf *a, const struct conf *b)
{
    return a->store_segment_size != b->store_segment_size || a->store_zstd_level != b->store_zstd_level ||
           a->store_index_map != b->store_index_map || a->store_reserve != b->store_reserve;
}

static int MAY_YIELD reload(struct role_context *ctx, const struct conf *conf, struct err *err)
{
    (void)err;
    stored()->outbox_limit = (uint64_t)conf->trail_outbox_limit;
    if (needs_restart(ctx->conf, conf))
        role_alert("store.restart_needed", "store.segment_size, zstd_level, index_map and reserve change with the next start of the service");
    return 0;
}

static bool outbox_is_empty(void)
{
    uint64_t acked, last;
    store_outbox_marks(stored()->store, &acked, &last);
    return acked == last;
}

/* Commits what is under way; then auditd gets a moment to fetch the last events (what it does not fetch now, it fetches after the
 * next start). */
static void MAY_YIELD stop(struct role_context *ctx, int64_t deadline)
{
    int64_t moment = clock_deadline(500);
    (void)ctx;
    if (stored()->phase != STORED_SERVING)
        return;
    store_stop(stored()->store);
    while (!outbox_is_empty() && clock_mono_ms() < (moment < deadline ? moment : deadline) && fiber_sleep_until(clock_deadline(10)) == 0)
        ;
    stored_set_phase(STORED_FAILED);
}

const struct role_program role_program_stored = {
    .role = ROLE_STORED,
    .handlers = stored_handlers,
    .on_peer = stored_on_peer,
    .threads = open_store,
    .start = start,
    .reload = reload,
    .stop = stop,
};
