/* What authd's handlers share: the database thread, the lock of changes, events, calls to stored. See authd.h. */
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "role/authd/authd.h"

int authd_wait_ready(const struct ipc_request *rq, struct err *err)
{
    while (!authd()->serving) {
        int rc = fiber_wait(&authd()->ready, rq->deadline);
        if (rc != 0)
            return err_set(err, rc, "authd is starting");
    }
    return authd()->closing ? err_set(err, -EAGAIN, "authd is stopping") : 0;
}

struct db_job {
    authd_db_fn *fn;
    struct account_db *db;
    void *args;
    struct err *err;
    int rc;
};

static void run_job(void *arg)
{
    struct db_job *j = arg;
    j->rc = j->fn(j->db, j->args, j->err);
}

int authd_db(authd_db_fn *fn, void *args, struct err *err)
{
    struct err own = {0};
    struct db_job j = {.fn = fn, .db = authd()->db, .args = args, .err = err != NULL ? err : &own};
    if (authd()->closing)
        return err_set(err, ERR_CLOSED, "the service is stopping");
    if (authd()->db_thread == NULL)
        run_job(&j); /* before the threads start */
    else if (worker_run(authd()->db_thread, run_job, &j) != 0)
        return err_set(err, -EBUSY, "too many changes at once");
    if (j.rc == -EIO || j.rc == ERR_CORRUPT || j.rc == ERR_READONLY)
        role_alert("authd.database", j.err->text);
    else if (j.rc == -ENOSPC)
        role_alert("authd.disk_full", j.err->text);
    return j.rc;
}

int authd_lock(int64_t deadline, struct err *err)
{
    while (authd()->locked) {
        int rc = fiber_wait(&authd()->unlocked, deadline);
        if (rc != 0)
            return err_set(err, rc, "another change is under way");
    }
    authd()->locked = true;
    return 0;
}

void authd_unlock(void)
{
    authd()->locked = false;
    (void)fiber_wake_one(&authd()->unlocked);
}

int authd_event(enum event_number number, const void *record, struct arena *arena, struct slice *ret, struct err *err)
{
    struct event_head head = {.number = number, .role = ROLE_AUTHD, .time_ms = clock_real_ms()};
    struct buf b;
    buf_init(&b, IPC_EVENT_MAX);
    int rc = event_encode(&head, record, &b);
    if (rc == 0 && !buf_ok(&b))
        rc = -ENOMEM;
    if (rc == 0) {
        *ret = arena_copy(arena, buf_slice(&b));
        rc = ret->p != NULL ? 0 : -ENOMEM;
    }
    buf_done(&b);
    return rc == 0 ? 0 : err_set(err, rc, "an event cannot be written: %s", err_name(rc));
}

int authd_ask_stored(enum ipc_number number, struct id128 trace, int64_t deadline, const void *request, void *reply, struct arena *arena,
                     struct err *err)
{
    struct err own = {0};
    int64_t most = clock_deadline(AUTHD_STORED_MS);
    struct ipc_call c = {.trace = trace, .deadline = deadline < most ? deadline : most, .arena = arena};
    int rc = ipc_call(ROLE_STORED, 0, number, &c, request, reply, &own);
    if (rc == 0)
        return 0;
    return err_set(err, rc, "the store: %s", own.text[0] != '\0' ? own.text : err_name(rc));
}

int authd_put_account(const struct account *a, struct err *err)
{
    int rc = directory_set_account(authd()->directory, a);
    /* The commit stands; only a restart brings memory and disk together again. */
    if (rc != 0)
        role_alert("authd.no_memory", "a change was committed but could not be taken into memory: restart authd");
    return rc == 0 ? 0 : err_set(err, rc, "committed, but out of memory");
}

int authd_may_administer(const struct ipc_request *rq, struct err *err)
{
    int rc = authd_wait_ready(rq, err);
    if (rc != 0)
        return rc;
    if (rq->from == ROLE_CTL && (rq->client_uid == 0 || rq->client_uid == getuid()))
        return 0;
    return err_set(err, ERR_DENIED, "only the administrator may do that");
}

int authd_may_change(const struct ipc_request *rq, struct err *err)
{
    int rc = authd_may_administer(rq, err);
    if (rc == 0 && account_db_outbox_count(authd()->db) >= (uint64_t)role_context()->conf->trail_outbox_limit)
        rc = err_set(err, ERR_READONLY, "no changes while the audit trail cannot be written");
    return rc;
}

struct slice authd_actor(const struct ipc_request *rq)
{
    const char *user = rq->client_user;
    return user != NULL && user[0] != '\0' ? slice_head(slice_str(user), IPC_NAME_MAX) : SLICE("administrator");
}
