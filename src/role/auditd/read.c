/* Reading the trail for `kakitome trail`: pages of lines that meet a query; following waits for new ones. */
#include <unistd.h>

#include "base/clock.h"
#include "role/auditd/auditd.h"
#include "trail/reader.h"

struct read_job {
    struct trail_page page;
    struct err err;
    int rc;
};

static void run_read(void *arg)
{
    struct read_job *j = arg;
    j->rc = trail_read_page(&j->page, &j->err);
}

/* Pages until there are lines, or the end is reached and nothing more comes in time. */
static int MAY_YIELD read_on(struct read_job *j, int64_t until, int64_t latest, struct err *err)
{
    for (;;) {
        if (!trail_writer_end(auditd()->trail, &j->page.end, &j->page.end_size)) {
            j->page.at_end = true; /* no file yet */
        } else {
            if (worker_run(auditd()->readers, run_read, j) != 0)
                return err_set(err, -EBUSY, "too many are reading the trail");
            if (j->rc != 0)
                return err_set(err, j->rc, "%s", j->err.text);
        }
        if (j->page.lines->n > 0 || clock_mono_ms() >= latest)
            return 0;
        if (j->page.at_end && (clock_mono_ms() >= until || trail_writer_wait(auditd()->trail, until < latest ? until : latest) != 0))
            return 0;
    }
}

static int MAY_YIELD read_page(const struct ipc_request *rq, const struct m_ctl_trail_read *q, const struct trail_query *query,
                               struct m_ctl_trail_read_reply *r, struct err *err)
{
    struct buf lines;
    buf_init(&lines, q->max_bytes + TRAIL_LINE_MAX + 2);
    struct read_job j = {.page = {.dir = auditd()->dir, .query = query, .cursor = q->cursor, .max_bytes = q->max_bytes, .lines = &lines}};
    int rc = read_on(&j, clock_deadline((int64_t)q->wait_ms), rq->deadline - 500, err);
    if (rc == 0) {
        r->cursor = j.page.cursor;
        r->at_end = j.page.at_end;
        r->lines = arena_copy(rq->arena, buf_slice(&lines));
        rc = r->lines.p != NULL ? 0 : err_set(err, -ENOMEM, "out of memory");
    }
    buf_done(&lines);
    return rc;
}

int auditd_trail_read(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_trail_read *q = request;
    struct trail_query *query = NULL;
    if (rq->from != ROLE_CTL || (rq->client_uid != 0 && rq->client_uid != getuid()))
        return err_set(err, ERR_DENIED, "only the administrator may read the trail");
    int rc = auditd_wait_ready(rq, err);
    if (rc == 0)
        rc = trail_query_parse(q->filter, clock_real_ms(), &query, err);
    if (rc == 0)
        rc = read_page(rq, q, query, reply, err);
    trail_query_free(query);
    return rc;
}
