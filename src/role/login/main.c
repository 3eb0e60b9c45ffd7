/* The role login: rights, start and end, and the life of a connection. See login.h.
 *
 * Rights: accepts on its listeners; talks to tlsd, authd, imapd and auditd. No files, no other sockets. */
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "policy/limit.h"
#include "role/login/login.h"

#define ENDING_POLL_MS 20

static struct list connections = LIST_INIT(connections);
static struct limit_table *clients;

/* ---- one connection ---- */

static void say_busy(int fd, const struct role_listener *l)
{
    static const char busy[] = "-ERR [SYS/TEMP] Too many connections\r\n";
    if (!l->tls && send(fd, busy, sizeof(busy) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        log_debug("login.busy_unsaid", L_INT("errno", errno));
}

static bool enter(const struct conf *conf, const struct netaddr *peer)
{
    return role_connections() <= (size_t)conf->pop3_max_connections &&
           limit_enter(clients, peer, (uint64_t)conf->pop3_max_connections_per_client);
}

static void run_pop3(struct login_conn *c, int fd, bool plaintext_ok, int64_t deadline)
{
    struct pop3_login l = {.backend = &login_pop3_backend, .ctx = c, .tls = c->tls, .plaintext_ok = plaintext_ok, .deadline = deadline};
    if (stream_new_fd(fd, &l.stream) != 0)
        return;
    enum pop3_login_end end = pop3_login_run(&l);
    log_debug("login.end", L_ID("conn", c->id), L_STR("peer", c->peer), L_STR("end", pop3_login_end_name(end)));
    if (end != POP3_END_HANDED_OVER && l.stream != NULL)
        (void)stream_shutdown(l.stream);
    stream_free(l.stream);
}

static void connection(int fd, const struct role_listener *l, const struct netaddr *peer, const struct netaddr *local)
{
    const struct conf *conf = role_context()->conf; /* may be replaced at the first wait */
    int64_t deadline = clock_deadline(conf->pop3_login_timeout);
    bool plaintext_ok = conf->pop3_plaintext_login;
    struct login_conn c = {.fiber = fiber_self(), .id = id_new(), .started = clock_real_ms()};
    (void)local;
    if (!enter(conf, peer)) {
        say_busy(fd, l);
        (void)close(fd);
        return;
    }
    netaddr_print_ip(peer, c.peer);
    list_add_tail(&connections, &c.node);
    if (!l->tls || login_tls(&c, fd, &fd) == 0)
        run_pop3(&c, fd, plaintext_ok, deadline);
    list_del(&c.node);
    limit_leave(clients, peer);
}

/* ---- the process ---- */

/* A TLS stream that this role still has, or had, ended: the session sees it at its next read. */
static int on_tls_ended(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_tls_ended *note = request;
    (void)rq;
    (void)reply;
    (void)err;
    log_debug("login.tls_ended", L_ID("conn", note->conn), L_INT("reason", note->reason), L_INT("alert", note->alert));
    return 0;
}

static int prepare(struct role_context *ctx, struct err *err)
{
    (void)ctx;
    int rc = limit_table_new(LIMIT_CLIENTS, &clients);
    return rc != 0 ? err_set(err, rc, "no memory for the table of clients") : 0;
}

static void warn_plaintext(const struct conf *conf)
{
    if (conf->pop3_plaintext_login)
        role_alert("pop3.plaintext_login", "pop3 { plaintext_login } is on: passwords can be read on the way");
}

static int start(struct role_context *ctx, struct err *err)
{
    warn_plaintext(ctx->conf);
    int rc = role_accept(ctx, connection);
    return rc != 0 ? err_set(err, rc, "cannot accept connections") : 0;
}

static int reload(struct role_context *ctx, const struct conf *conf, struct err *err)
{
    (void)ctx;
    (void)err;
    warn_plaintext(conf);
    return 0;
}

static void cancel(bool moving_too)
{
    for (struct list *n = connections.next; n != &connections; n = n->next) {
        struct login_conn *c = list_item(n, struct login_conn, node);
        if (moving_too || !c->moving)
            fiber_cancel(c->fiber);
    }
}

/* Who has not logged in has nothing to lose; who is just being let in is let in. */
static void stop(struct role_context *ctx, int64_t deadline)
{
    (void)ctx;
    while (role_connections() != 0 && clock_mono_ms() < deadline) {
        cancel(false);
        if (fiber_sleep_until(clock_deadline(ENDING_POLL_MS)) != 0)
            return;
    }
    cancel(true);
}

static const struct ipc_handler handlers[] = {{IPC_tls_ended, on_tls_ended}, {0, NULL}};

const struct role_program role_program_login = {
    .role = ROLE_LOGIN, .handlers = handlers, .prepare = prepare, .start = start, .reload = reload, .stop = stop,
};
