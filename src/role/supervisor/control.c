/* The command line's door: <state>/ctl.sock. Only root and the service's own user may come in; the kernel says who it is. */
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/loop.h"
#include "role/supervisor/supervisor_priv.h"
#include "trail/event.h"

#define CLIENTS_MAX 64

static struct {
    int fd;
    struct watch watch;
} door = {.fd = -1};

static void client_name(uid_t uid, char *out, size_t size)
{
    struct passwd pw, *found = NULL;
    char buf[4096];
    if (getpwuid_r(uid, &pw, buf, sizeof(buf), &found) == 0 && found != NULL)
        (void)snprintf(out, size, "%s", pw.pw_name);
    else
        (void)snprintf(out, size, "uid %lu", (unsigned long)uid);
}

static void take_client(int fd)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);
    struct ipc_peer *p;
    char name[IPC_NAME_MAX + 1];
    static uint64_t instance;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0 || (cred.uid != 0 && cred.uid != geteuid())) {
        log_warning("control.refused", L_INT("uid", cred.uid), L_INT("pid", cred.pid));
        (void)close(fd);
        return;
    }
    if (ipc_peer_add(ROLE_CTL, ++instance, 0, fd, &p) != 0)
        return;
    client_name(cred.uid, name, sizeof(name));
    ipc_peer_set_client(p, cred.uid, name);
}

static void on_door(struct watch *w, uint32_t events)
{
    int fd;
    (void)w;
    (void)events;
    while ((fd = accept4(door.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
        take_client(fd);
}

int control_open(struct err *err)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int n = snprintf(un.sun_path, sizeof(un.sun_path), "%s/ctl.sock", sv.state_path);
    if (n < 0 || (size_t)n >= sizeof(un.sun_path)) /* an address has room for 107 bytes: longer paths go through the descriptor */
        (void)snprintf(un.sun_path, sizeof(un.sun_path), "/proc/self/fd/%d/ctl.sock", sv.state_dir);
    (void)unlink(un.sun_path);
    door.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t old = umask(0177);
    bool bound = door.fd >= 0 && bind(door.fd, (struct sockaddr *)&un, sizeof(un)) == 0 && listen(door.fd, CLIENTS_MAX) == 0;
    (void)umask(old);
    if (!bound)
        return err_errno(err, "%s", un.sun_path);
    return watch_add(&door.watch, door.fd, on_door, NULL);
}

void control_close(void)
{
    if (door.fd < 0)
        return;
    watch_del(&door.watch);
    (void)close(door.fd);
    door.fd = -1;
    (void)unlinkat(sv.state_dir, "ctl.sock", 0);
}

/* The client's socket moves on to the role that it wants to talk to. */
static int on_connect(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_connect *q = request;
    enum role role;
    (void)reply;
    if (rq->peer == NULL || !role_parse(q->role, &role) || role == ROLE_SUPERVISOR || role == ROLE_CTL)
        return err_set(err, -ENOENT, "there is no role \"%.*s\"", SLICE_ARG(q->role));
    struct m_client note = {.socket = ipc_peer_socket(rq->peer), .uid = rq->client_uid, .user = slice_str(rq->client_user)};
    int rc = ipc_note(role, 0, IPC_client, rq->trace, &note);
    if (rc != 0)
        return err_set(err, rc, "%s is not there now", role_name(role));
    ipc_peer_hand_over(rq->peer);
    return 0;
}

static int on_status(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    struct m_ctl_status_reply *r = reply;
    (void)request;
    (void)err;
    struct m_ctl_process *rows = arena_array(rq->arena, sv.n_processes, sizeof(*rows));
    if (rows == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < sv.n_processes; i++) {
        const struct process *p = &sv.processes[i];
        rows[i] = (struct m_ctl_process){.role = slice_str(role_name(p->role)), .instance = p->instance, .pid = (uint64_t)p->pid,
                                         .generation = p->generation, .since_ms = (uint64_t)p->since_ms,
                                         .state = slice_str(process_state_name(p->state)), .uid = p->uid};
    }
    r->version = SLICE(KAKITOME_VERSION);
    r->started_ms = (uint64_t)sv.started_ms;
    r->landlock_abi = sv.landlock_abi;
    r->processes = (struct record_list){sv.n_processes, rows};
    return 0;
}

static bool same_list(const struct conf_list *a, const struct conf_list *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    return true;
}

/* What cannot change while running is refused as a whole, so that the file and the service never differ in silence. */
static int check_unchangeable(const struct conf *now, const struct conf *next, struct err *err)
{
    if (!same_list(&now->listen_smtp, &next->listen_smtp) || !same_list(&now->listen_lmtp, &next->listen_lmtp) ||
        !same_list(&now->listen_pop3, &next->listen_pop3) || !same_list(&now->listen_pop3s, &next->listen_pop3s) ||
        now->server_ipv6 != next->server_ipv6)
        return err_set(err, ERR_CONFIG, "listeners have changed: that needs a restart of the service");
    if (now->server_processes != next->server_processes || strcmp(now->server_state, next->server_state) != 0)
        return err_set(err, ERR_CONFIG, "server { processes, state } have changed: that needs a restart of the service");
    return 0;
}

int supervisor_reload(const char *who, const char *reason, struct err *err)
{
    struct conf *conf = NULL;
    int fd = -1;
    int rc = config_load(err, &conf, &fd);
    if (rc == 0)
        rc = check_unchangeable(sv.conf, conf, err);
    if (rc != 0) {
        conf_free(conf);
        if (fd >= 0)
            (void)close(fd);
        log_error("config.not_reloaded", L_STR("text", err->text));
        return rc;
    }
    (void)close(sv.config_fd);
    conf_free(sv.conf);
    sv.config_fd = fd;
    sv.conf = conf;
    struct err unkept = {0};
    if (config_keep(who, reason, &unkept) != 0)
        log_error("config.version_not_kept", L_STR("text", unkept.text));
    rc = processes_reload(err);
    log_info("config.reloaded", L_STR("who", who), L_STR("result", rc == 0 ? "ok" : err->text));
    struct ev_config_changed e = {.actor = slice_str(who), .version = conf->version, .reason = slice_str(reason)};
    struct event_head h = {.number = EV_config_changed, .role = ROLE_SUPERVISOR, .time_ms = clock_real_ms()};
    struct err lost = {0};
    if (event_send_awaited(&h, &e, clock_deadline(5000), &lost) != 0)
        log_error("config.change_not_recorded", L_STR("text", lost.text));
    return rc;
}

static int on_reload(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_ctl_reload *q = request;
    char *reason = arena_strdup(rq->arena, q->reason);
    if (reason == NULL)
        return -ENOMEM;
    int rc = supervisor_reload(rq->client_user, reason, err);
    ((struct m_ctl_reload_reply *)reply)->version = sv.conf->version;
    return rc;
}

static int on_ctl_stop(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    (void)rq;
    (void)request;
    (void)reply;
    (void)err;
    log_info("supervisor.stop_asked", L_STR("who", rq->client_user));
    return raise(SIGTERM) == 0 ? 0 : -errno;
}

/* Alerts of the roles are on standard error already; here they reach whoever watches the service as a whole. */
static int on_alert(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_alert *q = request;
    (void)reply;
    (void)err;
    log_alert("alert", L_STR("role", role_name(rq->from)), L_SLICE("name", q->name), L_SLICE("text", q->text));
    return 0;
}

const struct ipc_handler supervisor_handlers[] = {
    {IPC_ctl_connect, on_connect}, {IPC_ctl_status, on_status}, {IPC_ctl_reload, on_reload},
    {IPC_ctl_stop, on_ctl_stop},   {IPC_alert, on_alert},       {0, NULL},
};
