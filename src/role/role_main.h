/* role_main.h: what every role's process has in common, so that a role's main.c shows its rights and its work and nothing else.
 *
 * Order of a role's life (role_main.c), which a reader can rely on: receive identity, configuration and sockets from the supervisor;
 * drop privileges; prepare (opens what may be open); enter the sandbox, start threads in it; start (serves). */
#ifndef KK_ROLE_ROLE_MAIN_H
#define KK_ROLE_ROLE_MAIN_H

#include "conf/conf.h"
#include "ipc/ipc.h"

struct role_listener {
    enum listener_protocol protocol;
    bool tls; /* TLS from the first byte */
    const char *name; /* "smtp 127.0.0.1:2525" */
    int fd;
};
#define ROLE_LISTENERS_MAX 64

struct role_context {
    enum role role;
    uint64_t instance;
    const struct conf *conf; /* replaced at reload, after the program's reload function agreed */
    int state_dir;           /* the role's own directory (tlsd, smtpd, login, imapd, filterd: -1) */
    const char *state_path;
    struct role_listener listeners[ROLE_LISTENERS_MAX];
    size_t n_listeners;
    bool stopping;           /* take nothing new */
};

struct role_program {
    enum role role;
    const struct ipc_handler *handlers;
    ipc_peer_event_fn *on_peer; /* may be NULL */
    /* Before the sandbox, outside of fibers: open files, load tables. Untrusted bytes are not read yet. No threads: Landlock would not
     * hold for them. */
    int (*prepare)(struct role_context *ctx, struct err *err);
    /* Between Landlock and seccomp, outside of fibers: start threads; files of the own directory may be opened. NULL allowed. */
    int (*threads)(struct role_context *ctx, struct err *err);
    /* In the sandbox, in a fiber: begin to serve and return. NULL allowed. */
    int MAY_YIELD (*start)(struct role_context *ctx, struct err *err);
    /* A new configuration: take over what can change; keep what is running. ctx->conf is still the old one. NULL allowed. */
    int MAY_YIELD (*reload)(struct role_context *ctx, const struct conf *conf, struct err *err);
    /* Finish what is under way until the deadline; return when idle. ctx->stopping is set. NULL: at once. */
    void MAY_YIELD (*stop)(struct role_context *ctx, int64_t deadline);
};

extern const struct role_program role_program_tlsd, role_program_smtpd, role_program_login, role_program_imapd, role_program_authd,
    role_program_keyd, role_program_stored, role_program_filterd, role_program_auditd;

/* The process's context. */
struct role_context *role_context(void);
/* The entry point of the re-executed binary, `kakitome --role smtpd.0` with the control socket as descriptor 3; argv begins with the
 * name ("smtpd.0"). */
int role_main(int argc, char **argv);
/* Tells the supervisor (and so the administrator) at once; also logs. Rate-limited by name. */
void role_alert(const char *name, const char *text);

/* Accepts on every listener of these protocols; each connection goes to fn in a fiber of its own. Keeps going through EMFILE (pauses,
 * alerts once, never spins). fn owns fd. Stops accepting when ctx->stopping. */
typedef void MAY_YIELD role_connection_fn(int fd, const struct role_listener *l, const struct netaddr *peer, const struct netaddr *local);
int role_accept(struct role_context *ctx, role_connection_fn *fn);
/* Connections under way, counted by role_accept. */
size_t role_connections(void);

#endif
