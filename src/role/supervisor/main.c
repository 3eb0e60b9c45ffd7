/* The supervisor: see supervisor.h. Rights: binds ports, forks, opens the state directory; reads no byte of any stranger. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/loop.h"
#include "role/supervisor/supervisor_priv.h"
#include "trail/event.h"

#define GRACE_MS 10000 /* for sessions under way at a stop */

struct supervisor sv = {.config_fd = -1, .state_dir = -1};

static struct {
    int fd;
    struct watch watch;
    unsigned stops;
    int exit_code;
} signals;

static void finish(int exit_code)
{
    signals.exit_code = exit_code;
    loop_stop();
}

static void send_event(enum event_number number, const void *record)
{
    struct event_head h = {.number = number, .role = ROLE_SUPERVISOR, .time_ms = clock_real_ms()};
    struct err lost = {0};
    if (ipc_peer_find(ROLE_AUDITD, 0) != NULL && event_send_awaited(&h, record, clock_deadline(3000), &lost) != 0)
        log_warning("supervisor.not_recorded", L_STR("text", lost.text));
}

static void stop_all(void *arg)
{
    int *exit_code = arg;
    if (sv.booted) {
        struct ev_service_stopped e = {.version = SLICE(KAKITOME_VERSION), .reason = SLICE("asked to stop")};
        send_event(EV_service_stopped, &e);
    }
    control_close();
    processes_stop(GRACE_MS);
    log_info("supervisor.stopped");
    finish(*exit_code);
}

static void begin_stop(int exit_code)
{
    static int code;
    if (sv.stopping)
        return;
    sv.stopping = true;
    code = exit_code;
    if (fiber_start("stop", stop_all, &code, NULL) != 0)
        finish(exit_code);
}

static void reload_fiber(void *arg)
{
    struct err err = {0};
    (void)arg;
    (void)supervisor_reload("signal", "SIGHUP", &err);
}

static void on_signal(struct watch *w, uint32_t events)
{
    struct signalfd_siginfo info;
    (void)w;
    (void)events;
    while (read(signals.fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        switch (info.ssi_signo) {
        case SIGCHLD: processes_reap(); break;
        case SIGHUP:
            if (sv.booted && fiber_start("reload", reload_fiber, NULL, NULL) != 0)
                log_error("config.not_reloaded", L_STR("text", "out of memory"));
            break;
        default:
            if (signals.stops++ > 0) {
                for (size_t i = 0; i < sv.n_processes; i++)
                    if (sv.processes[i].pid > 0)
                        (void)kill(sv.processes[i].pid, SIGKILL);
                finish(EX_OK);
            }
            begin_stop(EX_OK);
            break;
        }
    }
}

static int take_signals(struct err *err)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals.fd < 0)
        return err_errno(err, "signalfd");
    return watch_add(&signals.watch, signals.fd, on_signal, NULL);
}

static void boot(void *arg)
{
    struct err err = {0};
    (void)arg;
    int rc = processes_boot(&err);
    if (sv.stopping)
        return;
    if (rc != 0) {
        (void)fprintf(stderr, "kakitome: the service cannot start: %s\n", err.text);
        begin_stop(rc == ERR_CONFIG ? EX_CONFIG : EX_UNAVAILABLE);
        return;
    }
    struct ev_service_started e = {.version = SLICE(KAKITOME_VERSION), .reason = SLICE("started")};
    send_event(EV_service_started, &e);
    log_info("supervisor.ready", L_INT("processes", sv.n_processes), L_INT("landlock", sv.landlock_abi),
             L_INT("ms", clock_real_ms() - sv.started_ms));
    if (sv.options.ready_fd >= 0) {
        if (write(sv.options.ready_fd, "R", 1) != 1)
            log_warning("supervisor.ready_unheard");
        (void)close(sv.options.ready_fd);
    }
}

static int set_up(struct err *err)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    int rc = loop_init(err);
    if (rc == 0)
        rc = config_load(err, &sv.conf, &sv.config_fd);
    if (rc == 0)
        rc = state_open(err);
    if (rc == 0)
        rc = config_keep("service", "found at the start", err);
    if (rc == 0)
        rc = listeners_bind(err);
    if (rc == 0)
        rc = control_open(err);
    if (rc == 0)
        rc = take_signals(err);
    return rc;
}

static int exit_code_of(int rc)
{
    return rc == ERR_CONFIG ? EX_CONFIG : rc == -EACCES || rc == -EPERM ? EX_NOPERM : rc == -ENOENT ? EX_NOINPUT : EX_OSERR;
}

int supervisor_main(const struct supervisor_options *options)
{
    struct err err = {0};
    sv.options = *options;
    if (options->ready_fd >= 0)
        (void)fcntl(options->ready_fd, F_SETFD, FD_CLOEXEC);
    sv.as_root = geteuid() == 0;
    sv.started_ms = clock_real_ms();
    fiber_queue_init(&sv.changed);
    log_init("supervisor", LOG_INFO, false);
    int rc = set_up(&err);
    if (rc == 0)
        rc = ipc_init(ROLE_SUPERVISOR, 0, supervisor_handlers, NULL);
    if (rc != 0) {
        (void)fprintf(stderr, "kakitome: %s\n", err.text);
        return exit_code_of(rc);
    }
    log_set_level(strcmp(sv.conf->log_level, "debug") == 0 ? LOG_DEBUG : LOG_INFO, strcmp(sv.conf->log_format, "json") == 0);
    processes_plan();
    if (fiber_start("boot", boot, NULL, NULL) != 0)
        return EX_OSERR;
    loop_run();
    return signals.exit_code;
}
