/* Starting, connecting, restarting and stopping the roles' processes. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/loop.h"
#include "role/supervisor/supervisor_priv.h"
#include "trail/event.h"

#define HELLO_MS 20000
#define START_MS 120000   /* recovery of a large journal tail */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 10000
#define HEALTHY_MS 60000  /* after so long a role's failures are forgotten */
#define CONTROL_FD 3
#define DEATHS_MAX 64

/* Order of start: who is needed comes first. Network roles last, so that nothing is accepted that cannot be served. */
static const struct {
    enum role role;
    bool scaled; /* as many as server { processes } says */
} plan[] = {
    {ROLE_AUDITD, false}, {ROLE_KEYD, false},  {ROLE_STORED, false}, {ROLE_AUTHD, false}, {ROLE_FILTERD, true},
    {ROLE_TLSD, true},    {ROLE_IMAPD, true},  {ROLE_LOGIN, true},   {ROLE_SMTPD, true},
};

const char *process_state_name(enum process_state s)
{
    static const char *const names[] = {"down", "starting", "connected", "serving", "stopping"};
    return names[s];
}

static uint64_t default_processes(void)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    return cpus > 3 ? (uint64_t)(cpus / 2 > 8 ? 8 : cpus / 2) : 1;
}

static uint64_t instances_of(size_t row)
{
    if (!plan[row].scaled)
        return 1;
    return sv.conf->server_processes > 0 ? (uint64_t)sv.conf->server_processes : default_processes();
}

uint64_t processes_of(enum role role)
{
    for (size_t i = 0; i < sizeof(plan) / sizeof(plan[0]); i++)
        if (plan[i].role == role)
            return instances_of(i);
    return 0;
}

void processes_plan(void)
{
    for (size_t i = 0; i < sizeof(plan) / sizeof(plan[0]); i++) {
        ipc_set_instances(plan[i].role, instances_of(i));
        for (uint64_t k = 0; k < instances_of(i) && sv.n_processes < PROCESSES_MAX; k++)
            sv.processes[sv.n_processes++] = (struct process){.role = plan[i].role, .instance = k, .uid = role_uid(plan[i].role)};
    }
}

struct process *process_find(enum role role, uint64_t instance)
{
    for (size_t i = 0; i < sv.n_processes; i++)
        if (sv.processes[i].role == role && sv.processes[i].instance == instance)
            return &sv.processes[i];
    return NULL;
}

/* ---- one process ---- */

static void exec_role(const struct process *p, int control)
{
    char name[64];
    static char probing[] = "KAKITOME_TEST_PROBING=1";
    char *abi = getenv("KAKITOME_TEST_LANDLOCK_ABI");
    char abi_env[64] = "";
    if (abi != NULL)
        (void)snprintf(abi_env, sizeof(abi_env), "KAKITOME_TEST_LANDLOCK_ABI=%s", abi);
    static char path[] = "PATH=/nonexistent", zone[] = "TZ=UTC", lang[] = "LC_ALL=C.UTF-8";
    char *env[7] = {path, zone, lang};
    size_t n = 3;
    char *asan = getenv("ASAN_OPTIONS");
    char asan_env[512] = "";
    if (asan != NULL) {
        (void)snprintf(asan_env, sizeof(asan_env), "ASAN_OPTIONS=%s", asan);
        env[n++] = asan_env;
    }
    if (sv.options.probing)
        env[n++] = probing;
    if (abi != NULL)
        env[n++] = abi_env;
    (void)snprintf(name, sizeof(name), "%s.%llu", role_name(p->role), (unsigned long long)p->instance);
    char *argv[] = {(char *)(uintptr_t) "kakitome", (char *)(uintptr_t) "--role", name, NULL};
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (control == CONTROL_FD)
        (void)fcntl(control, F_SETFD, 0);
    else if (dup2(control, CONTROL_FD) < 0)
        _exit(71);
    (void)execve("/proc/self/exe", argv, env);
    _exit(71);
}

static int spawn(struct process *p, struct err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return err_errno(err, "socketpair");
    pid_t pid = fork();
    if (pid == 0)
        exec_role(p, pair[1]);
    (void)close(pair[1]);
    if (pid < 0) {
        int rc = err_errno(err, "fork");
        (void)close(pair[0]);
        return rc;
    }
    p->pid = pid;
    p->state = PROCESS_STARTING;
    p->generation = ++sv.generation;
    p->since_ms = clock_real_ms();
    p->started_at = clock_mono_ms();
    return ipc_peer_add(p->role, p->instance, p->generation, pair[0], NULL);
}

static int call(const struct process *p, enum ipc_number number, const void *request, void *reply, int64_t ms, struct err *err)
{
    struct arena a;
    arena_init(&a, 65536);
    struct ipc_call c = {.deadline = clock_deadline(ms), .arena = &a};
    int rc = ipc_call(p->role, p->instance, number, &c, request, reply, err);
    arena_done(&a);
    return rc;
}

static int say_hello(const struct process *p, struct err *err)
{
    struct m_hello_reply reply;
    int state = state_dir_for(p, err);
    if (state < -1)
        return state;
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s", sv.state_path, role_name(p->role));
    struct m_hello q = {.instance = p->instance, .config = sv.config_fd, .state = state, .uid = p->uid,
                        .run_dir = slice_str(path), .as_root = sv.as_root, .imapds = ipc_instances(ROLE_IMAPD)};
    int rc = call(p, IPC_hello, &q, &reply, HELLO_MS, err);
    if (state >= 0)
        (void)close(state);
    return rc;
}

static int tell_peer(const struct process *to, const struct process *about, int socket)
{
    struct m_peer note = {.role = about->role, .instance = about->instance, .generation = about->generation,
                          .instances = ipc_instances(about->role), .socket = socket};
    return ipc_note(to->role, to->instance, IPC_peer, (struct id128){{0}}, &note);
}

/* The supervisor keeps no copy of either end. */
static int connect_pair(const struct process *a, const struct process *b, struct err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return err_errno(err, "socketpair");
    int rc = tell_peer(a, b, pair[0]);
    if (rc == 0)
        rc = tell_peer(b, a, pair[1]);
    (void)close(pair[0]);
    (void)close(pair[1]);
    return rc == 0 ? 0 : err_set(err, rc, "cannot connect %s and %s", role_name(a->role), role_name(b->role));
}

static int connect_to_all(struct process *p, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sv.n_processes; i++) {
        const struct process *other = &sv.processes[i];
        if (other != p && (other->state == PROCESS_CONNECTED || other->state == PROCESS_SERVING) &&
            role_may_talk(p->role, other->role))
            rc = connect_pair(p, other, err);
    }
    if (rc == 0)
        p->state = PROCESS_CONNECTED;
    return rc;
}

static int give_listeners(const struct process *p, struct err *err)
{
    for (size_t i = 0; i < sv.n_listeners; i++) {
        const struct bound_listener *l = &sv.listeners[i];
        if (l->role != p->role || l->instance != p->instance)
            continue;
        struct m_listener note = {.protocol = l->protocol, .tls = l->tls, .name = slice_str(l->name), .socket = l->fd};
        int rc = ipc_note(p->role, p->instance, IPC_listener, (struct id128){{0}}, &note);
        if (rc != 0)
            return err_set(err, rc, "cannot hand a listener over");
    }
    return 0;
}

static int start_serving(struct process *p, struct err *err)
{
    struct m_start q = {0};
    struct m_start_reply reply = {0};
    int rc = call(p, IPC_start, &q, &reply, START_MS, err);
    if (rc != 0)
        return rc;
    p->state = PROCESS_SERVING;
    sv.landlock_abi = reply.landlock_abi;
    return 0;
}

static int bring_up(struct process *p, struct err *err)
{
    int rc = spawn(p, err);
    if (rc == 0)
        rc = say_hello(p, err);
    if (rc == 0)
        rc = connect_to_all(p, err);
    if (rc == 0)
        rc = give_listeners(p, err);
    if (rc == 0)
        rc = start_serving(p, err);
    if (rc != 0)
        (void)err_context(err, "%s.%llu", role_name(p->role), (unsigned long long)p->instance);
    return rc;
}

int processes_boot(struct err *err)
{
    for (size_t i = 0; i < sv.n_processes; i++) {
        int rc = bring_up(&sv.processes[i], err);
        if (rc != 0)
            return rc;
    }
    sv.booted = true;
    return 0;
}

/* ---- restart ---- */

/* Deaths are recorded by auditd, which may be what died: they wait here until it serves. */
static struct {
    struct ev_process_died event;
    char name[64];
    int64_t time_ms;
} deaths[DEATHS_MAX];
static size_t n_deaths;

static void record_deaths(void)
{
    const struct process *auditd = process_find(ROLE_AUDITD, 0);
    if (auditd == NULL || auditd->state != PROCESS_SERVING)
        return;
    for (size_t i = 0; i < n_deaths; i++) {
        struct event_head h = {.number = EV_process_died, .role = ROLE_SUPERVISOR, .time_ms = deaths[i].time_ms};
        event_send(&h, &deaths[i].event);
    }
    n_deaths = 0;
}

static void add_death(const char *name, int status, uint64_t restarts)
{
    /* Past the maximum the last place is used again: the log has them all. */
    size_t i = n_deaths < DEATHS_MAX ? n_deaths++ : DEATHS_MAX - 1;
    (void)snprintf(deaths[i].name, sizeof(deaths[i].name), "%s", name);
    deaths[i].time_ms = clock_real_ms();
    deaths[i].event = (struct ev_process_died){.process = slice_str(deaths[i].name), .status = (uint64_t)(unsigned)status,
                                               .restarts = restarts};
    record_deaths();
}

static int64_t backoff(const struct process *p)
{
    int64_t ms = BACKOFF_FIRST_MS;
    if (p->failures <= 1)
        return 0; /* the first time at once: back in a moment */
    for (unsigned i = 2; i < p->failures && ms < BACKOFF_MAX_MS; i++)
        ms *= 2;
    return ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS;
}

static void restart(void *arg)
{
    struct process *p = arg;
    struct err err = {0};
    if (fiber_sleep_until(clock_deadline(backoff(p))) != 0 || sv.stopping || p->state != PROCESS_DOWN)
        return;
    p->restarts++;
    int rc = bring_up(p, &err);
    if (rc == 0) {
        log_warning("process.restarted", L_STR("role", role_name(p->role)), L_INT("instance", p->instance), L_INT("pid", p->pid),
                    L_INT("ms", clock_mono_ms() - p->started_at));
        record_deaths();
        fiber_wake_all(&sv.changed);
        return;
    }
    log_error("process.restart_failed", L_STR("role", role_name(p->role)), L_STR("text", err.text));
    if (p->pid > 0)
        (void)kill(p->pid, SIGKILL); /* its death brings us back here, with back-off */
}

static void died(struct process *p, int status)
{
    struct ipc_peer *peer = ipc_peer_find(p->role, p->instance);
    char name[64];
    bool expected = sv.stopping || p->state == PROCESS_STOPPING;
    (void)snprintf(name, sizeof(name), "%s.%llu", role_name(p->role), (unsigned long long)p->instance);
    p->pid = 0;
    p->state = PROCESS_DOWN;
    if (peer != NULL)
        ipc_peer_close(peer);
    fiber_wake_all(&sv.changed);
    if (expected)
        return;
    if (clock_mono_ms() - p->started_at >= HEALTHY_MS)
        p->failures = 0;
    p->failures++;
    log_alert("process.died", L_STR("process", name), L_INT("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0),
              L_INT("exit", WIFEXITED(status) ? WEXITSTATUS(status) : 0), L_INT("failures", p->failures));
    add_death(name, status, p->restarts);
    if (sv.booted && fiber_start("restart", restart, p, NULL) != 0)
        log_error("process.restart_failed", L_STR("process", name));
}

void processes_reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (size_t i = 0; i < sv.n_processes; i++)
            if (sv.processes[i].pid == pid)
                died(&sv.processes[i], status);
}

/* ---- stop and reload ---- */

struct stopping {
    struct process *p;
    int64_t grace_ms;
};

static void stop_one(struct process *p, int64_t grace_ms)
{
    struct m_stop q = {.grace_ms = (uint64_t)grace_ms};
    struct m_stop_reply reply;
    if (p->pid <= 0)
        return;
    p->state = PROCESS_STOPPING;
    (void)call(p, IPC_stop, &q, &reply, grace_ms + 1000, NULL);
    int64_t deadline = clock_deadline(1000);
    while (p->pid > 0 && fiber_wait(&sv.changed, deadline) == 0)
        continue;
    if (p->pid > 0) {
        log_warning("process.killed", L_STR("role", role_name(p->role)), L_INT("pid", p->pid));
        (void)kill(p->pid, SIGKILL);
        deadline = clock_deadline(5000);
        while (p->pid > 0 && fiber_wait(&sv.changed, deadline) == 0)
            continue;
    }
}

static void stop_fiber(void *arg)
{
    struct stopping *s = arg;
    stop_one(s->p, s->grace_ms);
    free(s);
    fiber_wake_all(&sv.changed);
}

/* All instances of a role at once; the roles in the opposite order of their start, so that what is under way can finish. */
void processes_stop(int64_t grace_ms)
{
    for (size_t i = sizeof(plan) / sizeof(plan[0]); i-- > 0;) {
        for (size_t k = 0; k < sv.n_processes; k++) {
            struct stopping *s = sv.processes[k].role == plan[i].role ? malloc(sizeof(*s)) : NULL;
            if (s == NULL)
                continue;
            *s = (struct stopping){&sv.processes[k], grace_ms};
            if (fiber_start("stop", stop_fiber, s, NULL) != 0)
                free(s);
        }
        int64_t deadline = clock_deadline(grace_ms + 8000);
        for (bool alive = true; alive;) {
            alive = false;
            for (size_t k = 0; k < sv.n_processes; k++)
                alive |= sv.processes[k].role == plan[i].role && sv.processes[k].pid > 0;
            if (alive && fiber_wait(&sv.changed, deadline) != 0)
                break;
        }
    }
}

int processes_reload(struct err *err)
{
    int failed = 0;
    for (size_t i = 0; i < sv.n_processes; i++) {
        struct process *p = &sv.processes[i];
        struct m_reload q = {.config = sv.config_fd};
        struct m_reload_reply reply;
        struct err one = {0};
        if (p->state != PROCESS_SERVING)
            continue; /* it will get the new configuration with its hello */
        int rc = call(p, IPC_reload, &q, &reply, HELLO_MS, &one);
        if (rc != 0 && failed == 0)
            failed = err_set(err, rc, "%s.%llu: %s", role_name(p->role), (unsigned long long)p->instance, one.text);
    }
    return failed;
}
