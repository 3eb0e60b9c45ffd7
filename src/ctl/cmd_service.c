/* cmd_service.c: serve, status, reload, stop. */
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "ctl/client.h"
#include "ctl/ctl.h"
#include "ctl/output.h"
#include "role/supervisor/supervisor.h"

#define RELOAD_MS 60000
#define STOP_WAIT_MS 30000

static int run_serve(struct ctl *c)
{
    struct err err = {0};
    const char *state = ctl_state_dir(c, &err);
    if (state == NULL)
        return ctl_fail(c, &err);
    if (access(c->config_path, R_OK) != 0)
        return ctl_fail_text(c, EX_NOINPUT, "there is no configuration %s (kakitome setup writes one)", c->config_path);
    struct supervisor_options options = {.config_path = c->config_path, .state = state, .probing = ctl_flag(c, "probing"),
                                         .ready_fd = (int)ctl_get_int(c, "ready-fd", -1)};
    return supervisor_main(&options);
}

static int print_processes(struct ctl *c, const struct m_ctl_status_reply *r)
{
    static const struct ctl_column columns[] = {{"role", CTL_TEXT},       {"instance", CTL_COUNT}, {"pid", CTL_COUNT},
                                                {"state", CTL_TEXT},      {"uid", CTL_COUNT},      {"generation", CTL_COUNT},
                                                {"since", CTL_TIME},      {0}};
    struct ctl_list l;
    ctl_list_init(&l, c, "processes", columns);
    for (size_t i = 0; i < r->processes.n; i++) {
        const struct m_ctl_process *p = RECORD_ITEM(r->processes, m_ctl_process, i);
        ctl_list_text(&l, p->role);
        ctl_list_number(&l, p->instance);
        ctl_list_number(&l, p->pid);
        ctl_list_text(&l, p->state);
        ctl_list_number(&l, p->uid);
        ctl_list_number(&l, p->generation);
        ctl_list_number(&l, p->since_ms);
    }
    return ctl_list_print(&l);
}

static int run_status(struct ctl *c)
{
    struct err err = {0};
    struct m_ctl_status q = {0};
    struct m_ctl_status_reply r;
    if (ctl_call_once(c, ROLE_SUPERVISOR, IPC_ctl_status, &q, &r, &err) != 0)
        return ctl_fail(c, &err);
    if (!c->json) {
        char started[CLOCK_ISO_SIZE];
        clock_print_iso((int64_t)r.started_ms, started);
        printf("kakitome %.*s, running since %s, Landlock ABI %llu\n\n", SLICE_ARG(r.version), started,
               (unsigned long long)r.landlock_abi);
    }
    return print_processes(c, &r);
}

static int run_reload(struct ctl *c)
{
    struct err err = {0};
    const char *reason = ctl_get(c, "reason");
    struct m_ctl_reload q = {.reason = slice_str(reason != NULL ? reason : "")};
    struct m_ctl_reload_reply r;
    struct ctl_client *cl = NULL;
    int rc = ctl_client_open(c, ROLE_SUPERVISOR, &cl, &err);
    if (rc == 0)
        rc = ctl_client_call(cl, IPC_ctl_reload, &q, &c->arena, &r, RELOAD_MS, &err);
    ctl_client_close(cl);
    if (rc != 0)
        return ctl_fail(c, &err);
    if (c->json)
        printf("{\"version\":%llu}\n", (unsigned long long)r.version);
    else
        printf("reloaded; version %llu is in force\n", (unsigned long long)r.version);
    return EX_OK;
}

/* The door closes when the service is down. */
static int wait_until_gone(struct ctl *c, const char *state)
{
    int64_t deadline = clock_deadline(STOP_WAIT_MS);
    struct err err = {0};
    struct ctl_client *cl = NULL;
    while (ctl_client_open_at(state, ROLE_SUPERVISOR, &cl, &err) == 0) {
        ctl_client_close(cl);
        if (clock_mono_ms() > deadline)
            return ctl_fail_text(c, EX_TEMPFAIL, "the service is still stopping");
        (void)usleep(50000);
    }
    return EX_OK;
}

static int run_stop(struct ctl *c)
{
    struct err err = {0};
    struct m_ctl_stop q = {0};
    struct m_ctl_stop_reply r;
    const char *state = ctl_state_dir(c, &err);
    if (state == NULL || ctl_call_once(c, ROLE_SUPERVISOR, IPC_ctl_stop, &q, &r, &err) != 0)
        return ctl_fail(c, &err);
    return wait_until_gone(c, state);
}

static const struct ctl_option serve_options[] = {
    {"ready-fd", CTL_NUMBER, "FD", "write a byte to this descriptor when everything serves"},
    {"probing", CTL_FLAG, NULL, "for tests only: processes answer attempts to break out"},
    {0},
};
static const struct ctl_option reload_options[] = {
    {"reason", CTL_STRING, "TEXT", "why, for the record"},
    {0},
};

const struct ctl_command ctl_service_commands[] = {
    {"serve", "", 0, 0, "Run the service in the foreground", run_serve, serve_options, 0},
    {"status", "", 0, 0, "Show the service's processes", run_status, NULL, 0},
    {"reload", "", 0, 0, "Let the running service take over the configuration file", run_reload, reload_options, 0},
    {"stop", "", 0, 0, "Stop the service and wait until it is down", run_stop, NULL, 0},
    {0},
};
