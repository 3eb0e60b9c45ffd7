/* What every role's process does before and around its own work: see role_main.h. */
#include "role/role_main.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/loop.h"
#include "role/probe.h"
#include "sandbox/sandbox.h"
#include "trail/event.h"

#define CONTROL_FD 3
#define CONFIG_MAX (4 * 1024 * 1024)

static const struct role_program *const programs[] = {
    &role_program_tlsd,  &role_program_smtpd,  &role_program_login,   &role_program_imapd,  &role_program_authd,
    &role_program_keyd,  &role_program_stored, &role_program_filterd, &role_program_auditd,
};

/* The rest of the process's one context (role_context() has the part that its program sees). */
static struct {
    const struct role_program *program;
    struct conf *conf;
    uint64_t uid;
    bool as_root, hello, probing;
    bool prepared; /* the program's on_peer may be called */
    char name[64], run_dir[4096];
    char listener_names[ROLE_LISTENERS_MAX][64];
} self;

/* ---- configuration ---- */

static void report_problem(void *arg, bool is_error, const char *sentence)
{
    (void)arg;
    if (is_error)
        log_error("config.problem", L_STR("text", sentence));
}

static int read_config(int fd, struct conf **ret, struct err *err)
{
    int64_t size = fd >= 0 ? ipc_memfd_size(fd) : -EBADF;
    if (size < 0 || size > CONFIG_MAX)
        return err_set(err, ERR_CONFIG, "the supervisor sent no sealed configuration");
    char *text = malloc((size_t)size + 1);
    if (text == NULL)
        return -ENOMEM;
    ssize_t n = pread(fd, text, (size_t)size, 0);
    int rc = n != size ? err_errno(err, "cannot read the configuration")
                             : conf_parse(slice_of(text, (size_t)n), "configuration", report_problem, NULL, ret);
    free(text);
    return rc;
}

static void apply_log_settings(const struct conf *c)
{
    static const char *const levels[] = {"debug", "info", "warning", "error", "alert"};
    enum log_level level = LOG_INFO;
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if (strcmp(levels[i], c->log_level) == 0)
            level = (enum log_level)i;
    log_set_level(level, strcmp(c->log_format, "json") == 0);
}

/* ---- the control channel ---- */

static int on_hello(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    struct m_hello *q = request;
    (void)rq;
    if (self.hello)
        return err_set(err, ERR_DENIED, "hello twice");
    int rc = read_config(q->config, &self.conf, err);
    if (rc != 0)
        return rc;
    apply_log_settings(self.conf);
    self.uid = q->uid;
    self.as_root = q->as_root != 0;
    ipc_set_instances(ROLE_IMAPD, q->imapds);
    (void)snprintf(self.run_dir, sizeof(self.run_dir), "%.*s", SLICE_ARG(q->run_dir));
    role_context()->conf = self.conf;
    role_context()->state_dir = q->state;
    q->state = -1;
    role_context()->state_path = self.run_dir;
    self.hello = true;
    ((struct m_hello_reply *)reply)->build = SLICE(KAKITOME_VERSION);
    return 0;
}

static int on_peer_note(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    struct m_peer *q = request;
    (void)rq;
    (void)reply;
    if (q->socket < 0 || !role_may_talk(role_context()->role, (enum role)q->role))
        return err_set(err, ERR_DENIED, "not a peer of this role");
    int fd = q->socket;
    q->socket = -1;
    ipc_set_instances((enum role)q->role, q->instances);
    return ipc_peer_add((enum role)q->role, q->instance, q->generation, fd, NULL);
}

static int on_listener_note(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    struct m_listener *q = request;
    (void)rq;
    (void)reply;
    size_t i = role_context()->n_listeners;
    if (i >= ROLE_LISTENERS_MAX || q->protocol >= LISTEN_PROTOCOLS)
        return err_set(err, ERR_LIMIT, "too many listeners");
    (void)snprintf(self.listener_names[i], sizeof(self.listener_names[i]), "%.*s", SLICE_ARG(q->name));
    role_context()->listeners[i] = (struct role_listener){.protocol = (enum listener_protocol)q->protocol, .tls = q->tls != 0,
                                                   .name = self.listener_names[i], .fd = q->socket};
    role_context()->n_listeners++;
    q->socket = -1;
    return 0;
}

static int confine_files(int *ret_abi, struct err *err)
{
    const char *readable[66] = {NULL};
    struct sandbox_paths paths = {.own_dir = role_context()->state_dir, .readable = readable};
    if (role_context()->role == ROLE_KEYD)
        for (size_t i = 0; i < self.conf->tls_certificates.n && i < 64; i++)
            readable[i] = self.conf->tls_certificates.items[i];
    return sandbox_confine_files(role_context()->role, &paths, self.conf->server_require_landlock, ret_abi, err);
}

/* Privileges, prepare, sandbox (with the role's threads inside), serve: in this order, whatever the role. */
static int on_start(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    int abi = 0;
    (void)rq;
    (void)request;
    if (!self.hello)
        return err_set(err, ERR_DENIED, "start before hello");
    int rc = sandbox_drop_privileges(self.uid, self.as_root, err);
    if (rc == 0 && self.program->prepare != NULL)
        rc = self.program->prepare(role_context(), err);
    if (rc == 0)
        rc = confine_files(&abi, err);
    if (rc == 0 && self.program->threads != NULL)
        rc = self.program->threads(role_context(), err);
    if (rc == 0)
        rc = sandbox_confine_calls(role_context()->role, err);
    if (rc == 0 && self.program->on_peer != NULL) {
        ipc_each_peer(self.program->on_peer); /* those that came before there was anything to tell */
        self.prepared = true;
    }
    if (rc == 0 && self.program->start != NULL)
        rc = self.program->start(role_context(), err);
    if (rc != 0)
        return rc;
    ipc_set_open(true);
    ((struct m_start_reply *)reply)->landlock_abi = (uint64_t)abi;
    log_info("role.serving", L_INT("landlock", abi));
    return 0;
}

static int on_reload(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    struct conf *conf = NULL;
    struct m_reload *q = request;
    (void)rq;
    (void)reply;
    int rc = read_config(q->config, &conf, err);
    if (rc == 0 && self.program->reload != NULL)
        rc = self.program->reload(role_context(), conf, err);
    if (rc != 0) {
        conf_free(conf);
        return rc;
    }
    apply_log_settings(conf);
    /* The old one stays: sessions under way hold pointers into it. A reload costs a few kilobytes. */
    self.conf = conf;
    role_context()->conf = conf;
    log_info("role.reloaded");
    return 0;
}

static int on_stop(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_stop *q = request;
    (void)rq;
    (void)reply;
    (void)err;
    role_context()->stopping = true;
    if (self.program->stop != NULL)
        self.program->stop(role_context(), clock_deadline((int64_t)q->grace_ms));
    loop_stop();
    return 0;
}

static int on_client(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    struct m_client *q = request;
    struct ipc_peer *p;
    char user[IPC_NAME_MAX + 1];
    static uint64_t instance;
    (void)rq;
    (void)reply;
    if (q->socket < 0)
        return err_set(err, ERR_SYNTAX, "no socket");
    int fd = q->socket;
    q->socket = -1;
    int rc = ipc_peer_add(ROLE_CTL, ++instance, 0, fd, &p);
    if (rc != 0)
        return rc;
    (void)snprintf(user, sizeof(user), "%.*s", SLICE_ARG(q->user));
    ipc_peer_set_client(p, q->uid, user);
    return 0;
}

static int on_probe(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    if (!self.probing)
        return err_set(err, ERR_DENIED, "this service was not started for probing");
    return role_probe(role_context()->role, rq, request, reply, err);
}

static const struct ipc_handler control[] = {
    {IPC_hello, on_hello}, {IPC_peer, on_peer_note}, {IPC_listener, on_listener_note}, {IPC_start, on_start},
    {IPC_reload, on_reload}, {IPC_stop, on_stop}, {IPC_client, on_client}, {IPC_probe, on_probe},
};
#define N_CONTROL (sizeof(control) / sizeof(control[0]))
#define HANDLERS_MAX 64
static struct ipc_handler handlers[HANDLERS_MAX];

static void collect_handlers(void)
{
    size_t n = 0;
    for (; n < N_CONTROL; n++)
        handlers[n] = control[n];
    for (const struct ipc_handler *h = self.program->handlers; h != NULL && h->fn != NULL && n + 1 < HANDLERS_MAX; h++)
        handlers[n++] = *h;
}

static void on_peer(enum role role, uint64_t instance, uint64_t serial, bool up)
{
    /* Without its supervisor a role would be an orphan that nobody can stop. */
    if (role == ROLE_SUPERVISOR && !up) {
        log_warning("role.supervisor_gone");
        loop_stop();
    }
    if (self.prepared)
        self.program->on_peer(role, instance, serial, up);
}

static void on_violation(enum role role, uint64_t instance, const char *reason)
{
    char peer[64];
    (void)snprintf(peer, sizeof(peer), "%s.%llu", role_name(role), (unsigned long long)instance);
    struct ev_ipc_violation e = {.peer = slice_str(peer), .reason = slice_str(reason)};
    struct event_head h = {.number = EV_ipc_violation, .role = role_context()->role, .time_ms = clock_real_ms()};
    if (ROLE_BIT(role_context()->role) & IPC_EVENT_SENDERS)
        event_send(&h, &e);
    role_alert("ipc.violation", reason);
}

/* ---- start ---- */

static const struct role_program *find_program(enum role role)
{
    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
        if (programs[i]->role == role)
            return programs[i];
    return NULL;
}

static int parse_name(const char *name)
{
    struct slice rest = slice_str(name), role = slice_cut(&rest, '.');
    if (!role_parse(role, &role_context()->role) || !slice_to_u64(rest, &role_context()->instance) ||
        role_context()->instance >= ROLE_INSTANCES_MAX)
        return -EINVAL;
    self.program = find_program(role_context()->role);
    (void)snprintf(self.name, sizeof(self.name), "%s", name);
    return self.program != NULL ? 0 : -EINVAL;
}

int role_main(int argc, char **argv)
{
    struct err err = {0};
    struct stat st;
    if (argc != 1 || parse_name(argv[0]) != 0 || fstat(CONTROL_FD, &st) != 0 || !S_ISSOCK(st.st_mode)) {
        fputs("kakitome: --role is for the supervisor's use: start the service with `kakitome serve`\n", stderr);
        return 64;
    }
    (void)prctl(PR_SET_NAME, self.name);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN); /* Ctrl-C goes to the whole terminal group; the supervisor says when to stop */
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    log_init(self.name, LOG_INFO, false);
    role_context()->state_dir = -1;
    self.probing = getenv("KAKITOME_TEST_PROBING") != NULL;
    if (self.probing)
        sandbox_set_probing();
    collect_handlers();
    if (loop_init(&err) != 0 || ipc_init(role_context()->role, role_context()->instance, handlers, on_peer) != 0) {
        log_error("role.failed", L_STR("text", err.text));
        return 71;
    }
    ipc_set_violation_fn(on_violation);
    ipc_set_open(false);
    (void)fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC);
    if (ipc_peer_add(ROLE_SUPERVISOR, 0, 0, CONTROL_FD, NULL) != 0)
        return 71;
    loop_run();
    /* Answers that were queued in the last turn (the one to stop among them) have been sent by then. */
    loop_turn(0);
    return 0;
}
