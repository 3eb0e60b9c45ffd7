/* Events that roles send themselves. Each may tell what its role can know, in its own name; what was committed with an act comes only
 * through the outbox of the role that committed it. */
#include "base/clock.h"
#include "base/log.h"
#include "role/auditd/auditd.h"
#include "trail/event.h"

#define SENDS_SMTP ROLE_BIT(ROLE_SMTPD)
#define SENDS_LOGIN (ROLE_BIT(ROLE_LOGIN) | ROLE_BIT(ROLE_IMAPD) | ROLE_BIT(ROLE_AUTHD))
#define SENDS_SERVICE ROLE_BIT(ROLE_SUPERVISOR)

/* By the first part of the event's name. */
static const struct {
    const char *prefix;
    unsigned roles;
} senders[] = {
    {"smtp.", SENDS_SMTP},
    {"login.", SENDS_LOGIN},
    {"session.", SENDS_LOGIN},
    {"mail.", ROLE_BIT(ROLE_IMAPD)},
    {"tls.", SENDS_SMTP | SENDS_LOGIN},
    {"grant.", ROLE_BIT(ROLE_STORED) | ROLE_BIT(ROLE_AUTHD)},
    {"ipc.", ROLE_ANY},
    {"service.", SENDS_SERVICE},
    {"process.", SENDS_SERVICE},
    {"config.", SENDS_SERVICE},
    {"clock.", ROLE_BIT(ROLE_STORED)},
    {"events.", ROLE_ANY},
};

static bool may_send(enum role from, const struct event_desc *d)
{
    if (d->cls == EVENT_COMMIT)
        return false;
    for (size_t i = 0; i < sizeof(senders) / sizeof(senders[0]); i++)
        if (slice_starts(slice_str(d->name), slice_str(senders[i].prefix)))
            return (senders[i].roles & ROLE_BIT(from)) != 0;
    return false;
}

/* The encoding's head says number and role (event.h). */
static int check_sender(const struct ipc_request *rq, struct slice event, struct err *err)
{
    struct slice s = event;
    uint16_t number;
    uint8_t format, role;
    const struct event_desc *d;
    if (!slice_get_u16(&s, &number) || !slice_get_u8(&s, &format) || !slice_get_u8(&s, &role) || (d = event_find(number)) == NULL)
        return err_set(err, ERR_SYNTAX, "no event");
    if (role == rq->from && may_send(rq->from, d))
        return 0;
    log_warning("event.forbidden", L_STR("event", d->name), L_STR("from", role_name(rq->from)), L_INT("instance", rq->from_instance));
    return err_set(err, ERR_DENIED, "%s may not tell %s", role_name(rq->from), d->name);
}

static int MAY_YIELD take(const struct ipc_request *rq, struct slice event, struct err *err)
{
    int rc = auditd_wait_ready(rq, err);
    if (rc == 0)
        rc = check_sender(rq, event, err);
    if (rc != 0)
        return rc;
    rc = trail_writer_add(auditd()->trail, event, NULL);
    return rc == 0 ? 0 : err_set(err, rc, "the trail: %s", err_name(rc));
}

int auditd_event_note(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_event_note *q = request;
    (void)reply;
    return take(rq, q->event, err);
}

int auditd_event(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_event *q = request;
    (void)reply;
    int rc = take(rq, q->event, err);
    if (rc == 0 && (rc = trail_writer_sync(auditd()->trail, rq->deadline)) != 0)
        rc = err_set(err, rc, "the event is not known to be in the trail: %s", err_name(rc));
    return rc;
}
