/* What a role's own code may call of the common part: its context, alerts, accepting connections. See role_main.h. */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "role/role_main.h"

#define ACCEPT_PAUSE_MS 200 /* after EMFILE: existing connections must end first */
#define ALERT_EVERY_MS 60000
#define ALERT_NAMES 32

/* The one context of the process. */
static struct role_context context = {.state_dir = -1};
static size_t connections;

struct role_context *role_context(void)
{
    return &context;
}

void role_alert(const char *name, const char *text)
{
    static struct {
        const char *name;
        int64_t last;
    } seen[ALERT_NAMES];
    int64_t now = clock_mono_ms();
    for (size_t i = 0; i < ALERT_NAMES; i++) {
        if (seen[i].name != NULL && strcmp(seen[i].name, name) != 0)
            continue;
        if (seen[i].name != NULL && now - seen[i].last < ALERT_EVERY_MS)
            return;
        seen[i].name = name;
        seen[i].last = now;
        break;
    }
    log_alert(name, L_STR("text", text));
    struct m_alert note = {.name = slice_str(name), .text = slice_head(slice_str(text), IPC_TEXT_MAX)};
    (void)ipc_note(ROLE_SUPERVISOR, 0, IPC_alert, (struct id128){{0}}, &note);
}

/* ---- accepting ---- */

struct acceptor {
    const struct role_listener *listener;
    role_connection_fn *fn;
    struct fiber_fd *ready;
};

struct connection {
    int fd;
    struct netaddr peer, local;
    const struct acceptor *acceptor;
};

static void run_connection(void *arg)
{
    struct connection *c = arg;
    c->acceptor->fn(c->fd, c->acceptor->listener, &c->peer, &c->local);
    free(c);
    connections--;
}

size_t role_connections(void)
{
    return connections;
}

static bool begin_connection(const struct acceptor *a, int fd, const struct sockaddr_storage *from, socklen_t from_len)
{
    struct sockaddr_storage local;
    socklen_t local_len = sizeof(local);
    struct connection *c = calloc(1, sizeof(*c));
    if (c != NULL && netaddr_from_sockaddr((const struct sockaddr *)from, from_len, &c->peer) &&
        getsockname(fd, (struct sockaddr *)&local, &local_len) == 0 &&
        netaddr_from_sockaddr((struct sockaddr *)&local, local_len, &c->local)) {
        c->fd = fd;
        c->acceptor = a;
        if (fiber_start("connection", run_connection, c, NULL) == 0) {
            connections++;
            return true;
        }
    }
    free(c);
    (void)close(fd);
    return false;
}

/* A file table that is full must not make the loop spin: pause, and say so. */
static void accept_loop(void *arg)
{
    struct acceptor *a = arg;
    while (!context.stopping) {
        struct sockaddr_storage from;
        socklen_t len = sizeof(from);
        int fd = accept4(a->listener->fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            if (!begin_connection(a, fd, &from, len))
                role_alert("accept.no_memory", "a connection was dropped for want of memory");
            if (fiber_breathe() != 0)
                break;
            continue;
        }
        int why = errno; /* others run while this fiber waits */
        int rc = why == EAGAIN ? fiber_fd_wait_in(a->ready, clock_deadline(1000)) : 0;
        if (why == EMFILE || why == ENFILE || why == ENOBUFS || why == ENOMEM) {
            role_alert("accept.exhausted", "no more connections can be accepted: descriptors or memory are used up");
            rc = fiber_sleep_until(clock_deadline(ACCEPT_PAUSE_MS));
        }
        if (rc == -ECANCELED)
            break;
    }
    fiber_fd_free(a->ready);
    free(a);
}

int role_accept(struct role_context *ctx, role_connection_fn *fn)
{
    for (size_t i = 0; i < ctx->n_listeners; i++) {
        struct acceptor *a = calloc(1, sizeof(*a));
        if (a == NULL)
            return -ENOMEM;
        a->listener = &ctx->listeners[i];
        a->fn = fn;
        int rc = fiber_fd_new(a->listener->fd, &a->ready);
        if (rc == 0)
            rc = fiber_start("accept", accept_loop, a, NULL);
        if (rc != 0)
            return rc;
    }
    return 0;
}
