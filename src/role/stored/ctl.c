/* ctl.c: the store's care, asked for by the command line (kakitome store ...). The supervisor has checked who asks. */
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

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

int stored_ctl_export(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_store_export *q = request;
    struct m_ctl_store_export_reply *r = reply;
    int rc = stored_wait(rq, err);
    if (rc == 0 && (q->out < 0 || q->account == 0))
        rc = err_set(err, ERR_SYNTAX, "an export needs an account and where to write to");
    if (rc == 0)
        rc = store_export(stored()->store, STORE_ACCOUNT(q->account), q->out, &r->messages, err);
    log_info("store.export", L_INT("account", q->account), L_INT("messages", r->messages), L_STR("user", rq->client_user),
             L_STR("result", err_name(rc)));
    return rc;
}

int stored_ctl_import(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_store_import *q = request;
    struct m_ctl_store_import_reply *r = reply;
    int rc = stored_wait(rq, err);
    if (rc == 0 && (q->in < 0 || q->account == 0))
        rc = err_set(err, ERR_SYNTAX, "an import needs an account and what to read");
    if (rc == 0)
        rc = store_import(stored()->store, STORE_ACCOUNT(q->account), q->in, &r->messages, err);
    log_info("store.import", L_INT("account", q->account), L_INT("messages", r->messages), L_STR("user", rq->client_user),
             L_STR("result", err_name(rc)));
    return rc;
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
