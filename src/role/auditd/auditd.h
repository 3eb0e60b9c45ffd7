/* auditd.h: the parts of the role that keeps the audit trail: shared by its files only. */
#ifndef KK_ROLE_AUDITD_AUDITD_H
#define KK_ROLE_AUDITD_AUDITD_H

#include "io/worker.h"
#include "role/role_main.h"
#include "trail/writer.h"

struct auditd {
    struct trail_writer *trail;
    struct worker_pool *readers; /* for `kakitome trail`: reading files blocks */
    struct fiber_queue ready;
    bool serving;                /* prepared: peers may send before that */
    int dir;                     /* of the trail's files */
};
struct auditd *auditd(void);

/* Begins to fetch from the outbox of this role (stored, authd), for ever. */
int auditd_fetch_from(enum role role);

/* Every handler waits for it first. */
int MAY_YIELD auditd_wait_ready(const struct ipc_request *rq, struct err *err);

ipc_handler_fn auditd_event, auditd_event_note, auditd_trail_read;

#endif
