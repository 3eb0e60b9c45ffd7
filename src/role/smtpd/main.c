/* The role smtpd: rights, start and end, and the life of a connection. Sessions: proto/smtp; the world as they see it: backend.c.
 *
 * Rights: accepts on its listeners (SMTP and LMTP); talks to tlsd, authd, filterd, stored and auditd. No files, no other sockets. Holds
 * messages only while they pass. */
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "proto/smtp/session.h"
#include "role/role_main.h"
#include "role/smtpd/smtpd.h"

#define STOP_POLL 20

/* A connection under way; lives on its fiber's stack. */
struct connection {
    struct list node;
    struct fiber *fiber;
    struct smtp_session *session;
};

static struct list connections = LIST_INIT(connections);
static struct smtp_settings *settings; /* of the newest configuration */

static void say_busy(int fd, const struct role_listener *l)
{
    static const char busy[] = "421 4.3.2 Too many connections at the moment; try again later\r\n";
    if (!l->tls && send(fd, busy, sizeof(busy) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        log_debug("smtpd.busy_unsaid", L_INT("errno", errno));
}

static void connection(int fd, const struct role_listener *l, const struct netaddr *peer, const struct netaddr *local)
{
    struct connection c = {.fiber = fiber_self()};
    struct stream *stream;
    struct smtp_session_params p = {.lmtp = l->protocol == LISTEN_LMTP, .tls = l->tls, .peer = *peer, .local = *local, .listener = l->name,
                                    .backend = &smtpd_backend, .settings = &settings};
    if (role_connections() > settings->max_connections) {
        role_alert("smtpd.max_connections", "connections are refused: smtp.max_connections is reached");
        say_busy(fd, l);
        (void)close(fd);
        return;
    }
    if (stream_new_fd(fd, &stream) != 0 || smtp_session_new(&p, stream, &c.session) != 0)
        return;
    list_add_tail(&connections, &c.node);
    if (role_context()->stopping)
        smtp_session_stop(c.session);
    smtp_session_run(c.session);
    list_del(&c.node);
    smtp_session_free(c.session);
}

/* --- the process --- */

/* The session sees the end at its next read; how it came is for the administrator. */
static int on_tls_ended(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_tls_ended *note = request;
    (void)rq;
    (void)reply;
    (void)err;
    log_debug("smtpd.tls_ended", L_ID("conn", note->conn), L_INT("reason", note->reason), L_INT("alert", note->alert));
    return 0;
}

static int prepare(struct role_context *ctx, struct err *err)
{
    int rc = smtpd_backend_init();
    if (rc != 0)
        return err_set(err, rc, "no memory for the table of clients");
    return smtp_settings_new(ctx->conf, &settings, err);
}

static int start(struct role_context *ctx, struct err *err)
{
    int rc = role_accept(ctx, connection);
    return rc != 0 ? err_set(err, rc, "cannot accept connections") : 0;
}

/* Sessions look at the new settings with their next message. */
static int reload(struct role_context *ctx, const struct conf *conf, struct err *err)
{
    (void)ctx;
    struct smtp_settings *old = settings, *new;
    int rc = smtp_settings_new(conf, &new, err);
    if (rc != 0)
        return rc;
    settings = new;
    smtp_settings_unref(old);
    return 0;
}

/* Idle sessions end with 421, others after the command under way; what is left at the deadline is cut. */
static void stop(struct role_context *ctx, int64_t deadline)
{
    (void)ctx;
    for (struct list *n = connections.next; n != &connections; n = n->next)
        smtp_session_stop(list_item(n, struct connection, node)->session);
    while (role_connections() != 0 && clock_mono_ms() < deadline)
        if (fiber_sleep_until(clock_deadline(STOP_POLL)) != 0)
            return;
    for (struct list *n = connections.next; n != &connections; n = n->next)
        fiber_cancel(list_item(n, struct connection, node)->fiber);
}

static const struct ipc_handler handlers[] = {{IPC_tls_ended, on_tls_ended}, {0, NULL}};

const struct role_program role_program_smtpd = {
    .role = ROLE_SMTPD, .handlers = handlers, .prepare = prepare, .start = start, .reload = reload, .stop = stop,
};
