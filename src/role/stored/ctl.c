/* ctl.c: the store's care, asked for by the command line (kakitome store ...). The supervisor has checked who asks. */
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "role/stored/stored.h"

/* ---- verify ---- */

/* The report goes into a file that the client made (a memfd), so that writing it never waits for the client. */
static int check_report_file(int fd, struct err *err)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(err, ERR_SYNTAX, "the report must go into a file");
    return 0;
}

struct report {
    int fd;
    pthread_mutex_t lock; /* lines come from the store's threads */
    bool failed;
};

static void report_line(void *arg, const char *line)
{
    struct report *r = arg;
    char text[1024];
    int n = snprintf(text, sizeof(text), "%.1000s\n", line);
    (void)pthread_mutex_lock(&r->lock);
    if (!r->failed && n > 0 && write(r->fd, text, (size_t)n) != n)
        r->failed = true; /* the count of problems is told all the same */
    (void)pthread_mutex_unlock(&r->lock);
}

int stored_ctl_verify(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_store_verify *q = request;
    struct m_ctl_store_verify_reply *r = reply;
    struct report report = {.fd = q->out, .lock = PTHREAD_MUTEX_INITIALIZER};
    struct store_check check = {0};
    int rc = stored_wait(rq, err);
    if (rc == 0)
        rc = check_report_file(q->out, err);
    if (rc == 0)
        rc = store_verify(stored()->store, q->bodies != 0, report_line, &report, &check, err);
    if (rc < 0)
        return rc;
    if (report.failed)
        return err_set(err, -EIO, "the report could not be written (%llu problems found)", (unsigned long long)check.problems);
    log_info("store.verified", L_INT("problems", check.problems), L_INT("messages", check.messages), L_INT("bodies", check.bodies));
    *r = (struct m_ctl_store_verify_reply){.problems = check.problems, .accounts = check.accounts, .messages = check.messages,
                                           .bytes = check.bytes};
    return 0;
}

/* ---- export and import ---- */

/* Whoever takes an account's mail out, or puts mail in, is in the trail before it happens. ev_store_exported and ev_store_imported have
 * the same fields. */
static int MAY_YIELD record_access(const struct ipc_request *rq, enum event_number number, uint64_t account, struct err *err)
{
    struct event_head head = {.number = number, .role = ROLE_STORED, .time_ms = clock_real_ms(), .conn = rq->trace};
    struct ev_store_exported e = {.actor = slice_str(rq->client_user), .account = account};
    int rc = event_send_awaited(&head, &e, clock_deadline(STORED_TRAIL_MS), err);
    return rc < 0 ? err_set(err, -EAGAIN, "the audit trail cannot be written now, so this is not done: %s", err_name(rc)) : 0;
}

static int MAY_YIELD may_move(const struct ipc_request *rq, enum event_number number, uint64_t account, int fd, struct err *err)
{
    struct store_account_info info;
    int rc = stored_wait(rq, err);
    if (rc == 0 && fd < 0)
        rc = err_set(err, ERR_SYNTAX, "no file to write to or read from");
    if (rc == 0 && (rc = store_account_get(stored()->store, STORE_ACCOUNT(account), &info)) < 0)
        (void)err_set(err, rc, "the store has no account %llu", (unsigned long long)account);
    return rc == 0 ? record_access(rq, number, account, err) : rc;
}

int stored_ctl_export(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_store_export *q = request;
    struct m_ctl_store_export_reply *r = reply;
    int rc = may_move(rq, EV_store_exported, q->account, q->out, err);
    return rc == 0 ? store_export(stored()->store, STORE_ACCOUNT(q->account), q->out, &r->messages, err) : rc;
}

int stored_ctl_import(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_store_import *q = request;
    struct m_ctl_store_import_reply *r = reply;
    int rc = may_move(rq, EV_store_imported, q->account, q->in, err);
    return rc == 0 ? store_import(stored()->store, STORE_ACCOUNT(q->account), q->in, &r->messages, err) : rc;
}

/* ---- numbers and space ---- */

int stored_ctl_status(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    struct m_ctl_store_status_reply *r = reply;
    struct store_status s;
    (void)request;
    int rc = stored_wait(rq, err);
    if (rc < 0)
        return rc;
    store_status(stored()->store, &s);
    *r = (struct m_ctl_store_status_reply){.accounts = s.accounts, .messages = s.messages, .segments = s.segments,
                                           .segment_bytes = s.segment_bytes, .live_bytes = s.live_bytes,
                                           .index_bytes = s.index_bytes, .commits = s.commits, .syncs = s.syncs,
                                           .readonly = s.readonly};
    return 0;
}

int stored_ctl_reclaim(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    struct m_ctl_store_reclaim_reply *r = reply;
    (void)request;
    int rc = stored_wait(rq, err);
    return rc < 0 ? rc : store_reclaim(stored()->store, STORED_RECLAIM_ASKED_PERCENT, &r->freed, &r->moved, err);
}
