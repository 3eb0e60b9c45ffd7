/* Shared between the supervisor's files only. */
#ifndef KK_ROLE_SUPERVISOR_PRIV_H
#define KK_ROLE_SUPERVISOR_PRIV_H

#include <sys/types.h>

#include "ipc/ipc.h"
#include "role/supervisor/supervisor.h"

#define PROCESSES_MAX 256
#define LISTENERS_MAX 1024

enum process_state { PROCESS_DOWN, PROCESS_STARTING, PROCESS_CONNECTED, PROCESS_SERVING, PROCESS_STOPPING };

struct process {
    enum role role;
    uint64_t instance, generation;
    pid_t pid;
    enum process_state state;
    int64_t since_ms;   /* real time of the last start */
    int64_t started_at; /* monotonic */
    unsigned failures;  /* in a row */
    uint64_t restarts;
    uint64_t uid;
};

struct bound_listener {
    enum role role;
    uint64_t instance;
    enum listener_protocol protocol;
    bool tls;
    char name[64];
    int fd;
};

/* The supervisor's one context. */
struct supervisor {
    struct supervisor_options options;
    struct conf *conf;
    int config_fd;    /* sealed memfd with the configuration in force */
    char *state_path;
    int state_dir;
    bool as_root, stopping, booted;
    struct process processes[PROCESSES_MAX];
    size_t n_processes;
    struct bound_listener listeners[LISTENERS_MAX];
    size_t n_listeners;
    uint64_t generation;
    uint64_t landlock_abi;
    int64_t started_ms;
    struct fiber_queue changed; /* a process died or came up */
};
extern struct supervisor sv;

/* process.c */
void processes_plan(void);
uint64_t processes_of(enum role role); /* how many of it there are to be */
/* Starts all in the order of dependence. On failure err tells which and why. */
int MAY_YIELD processes_boot(struct err *err);
void processes_reap(void); /* after SIGCHLD */
void MAY_YIELD processes_stop(int64_t grace_ms);
int MAY_YIELD processes_reload(struct err *err);
struct process *process_find(enum role role, uint64_t instance);
const char *process_state_name(enum process_state s);

/* files.c */
int config_load(struct err *err, struct conf **ret_conf, int *ret_fd);
int config_keep(const char *who, const char *why, struct err *err);
int state_open(struct err *err);
int state_dir_for(const struct process *p, struct err *err); /* a descriptor, or -1 for roles without a directory */
uint64_t role_uid(enum role role);

/* listeners.c */
int listeners_bind(struct err *err);

/* control.c */
int control_open(struct err *err);
void control_close(void);
extern const struct ipc_handler supervisor_handlers[];
int MAY_YIELD supervisor_reload(const char *who, const char *reason, struct err *err);

#endif
