/* supervisor.h: the process that starts, watches, restarts, reloads and stops all others. It binds the ports, makes the socket
 * pairs of ipc/role.h's table and holds nothing else: no mail, no passwords, no keys. */
#ifndef KK_ROLE_SUPERVISOR_SUPERVISOR_H
#define KK_ROLE_SUPERVISOR_SUPERVISOR_H

#include "conf/conf.h"

struct supervisor_options {
    const char *config_path; /* file; read again at reload */
    const char *state;       /* overrides server { state }; NULL: the file's */
    bool probing;            /* tests only: roles answer probes */
    int ready_fd;            /* a byte is written here when everything serves; -1: none */
};

/* Runs in the foreground until SIGINT or SIGTERM (a second one stops at once). SIGHUP reloads. Returns an exit code of sysexits;
 * what went wrong is on standard error. */
int supervisor_main(const struct supervisor_options *options);

#endif
