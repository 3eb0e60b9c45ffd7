/* auditd: the audit trail. Takes events from the roles (notes and awaited calls), fetches the outboxes of stored and authd, writes
 * durable JSON lines, and lets the administrator read them. Never sees mail bodies or keys.
 *
 * Rights: files below its own directory. Peers: smtpd, login and imapd are reached by strangers; their events are decoded strictly and each
 * may only tell what its role can know (the table in events.c). stored and authd pass on what was committed with an act. */
#include "role/auditd/auditd.h"

#include <fcntl.h>
#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define TRAIL_DIR "trail"
#define START_MS 30000
#define READERS 2
#define READERS_QUEUE 64

static struct auditd self = {.dir = -1}; /* the process's state: a permitted global of a role */

struct auditd *auditd(void)
{
    return &self;
}

static const struct ipc_handler handlers[] = {
    {IPC_event, auditd_event},
    {IPC_event_note, auditd_event_note},
    {IPC_ctl_trail_read, auditd_trail_read},
    {0, NULL},
};

int auditd_wait_ready(const struct ipc_request *rq, struct err *err)
{
    int64_t until = clock_deadline(START_MS);
    while (!self.serving) {
        int rc = fiber_wait(&self.ready, rq->deadline < until ? until : rq->deadline); /* notes have no deadline of their own */
        if (rc != 0)
            return err_set(err, rc, "auditd is starting");
    }
    return 0;
}

static int open_dir(int state_dir, struct err *err)
{
    if (mkdirat(state_dir, TRAIL_DIR, 0700) != 0 && errno != EEXIST)
        return err_errno(err, "cannot make the directory of the trail");
    self.dir = openat(state_dir, TRAIL_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (self.dir < 0 || fsync(state_dir) != 0)
        return err_errno(err, "the directory of the trail");
    return 0;
}

static int prepare(struct role_context *ctx, struct err *err)
{
    struct trail_options o = {.file_size = (uint64_t)ctx->conf->trail_file_size, .alert = role_alert};
    json_object_seed(0); /* opens the kernel's generator, which the sandbox forbids later */
    int rc = open_dir(ctx->state_dir, err);
    return rc == 0 ? trail_writer_open(self.dir, &o, &self.trail, err) : rc;
}

static int threads(struct role_context *ctx, struct err *err)
{
    (void)ctx;
    int rc = trail_writer_start(self.trail, err);
    if (rc == 0 && worker_pool_new("trail-read", READERS, READERS_QUEUE, &self.readers) != 0)
        rc = err_set(err, -EAGAIN, "cannot start threads");
    return rc;
}

static int start(struct role_context *ctx, struct err *err)
{
    (void)ctx;
    if (auditd_fetch_from(ROLE_STORED) != 0 || auditd_fetch_from(ROLE_AUTHD) != 0)
        return err_set(err, -ENOMEM, "out of memory");
    self.serving = true;
    fiber_wake_all(&self.ready);
    return 0;
}

static int reload(struct role_context *ctx, const struct conf *conf, struct err *err)
{
    (void)ctx;
    (void)err;
    trail_writer_set_file_size(self.trail, (uint64_t)conf->trail_file_size);
    return 0;
}

static void MAY_YIELD stop(struct role_context *ctx, int64_t deadline)
{
    (void)ctx;
    if (self.serving)
        trail_writer_drain(self.trail, deadline);
}

const struct role_program role_program_auditd = {
    .role = ROLE_AUDITD,
    .handlers = handlers,
    .prepare = prepare,
    .threads = threads,
    .start = start,
    .reload = reload,
    .stop = stop,
};
