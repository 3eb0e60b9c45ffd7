/* role.h: the roles, who may talk to whom, and what each may do. The one table that a reader audits first.
 * Source: DESIGN section 1. */
#ifndef KK_IPC_ROLE_H
#define KK_IPC_ROLE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

enum role {
    ROLE_SUPERVISOR,
    ROLE_TLSD,
    ROLE_SMTPD,
    ROLE_LOGIN,
    ROLE_IMAPD,
    ROLE_AUTHD,
    ROLE_KEYD,
    ROLE_STORED,
    ROLE_FILTERD,
    ROLE_AUDITD,
    ROLE_CTL, /* a command-line client: not a process of the service */
    ROLE_COUNT
};
#define ROLE_BIT(role) (1u << (role))
#define ROLE_INSTANCES_MAX 64

const char *role_name(enum role role);
bool role_parse(struct slice name, enum role *ret_role); /* "smtpd" */

struct role_pair {
    enum role a, b;
};
/* Every pair of roles that gets a socket pair; each instance of the one with each of the other. Ends with {0, 0}. */
extern const struct role_pair role_pairs[];
bool role_may_talk(enum role a, enum role b);

#endif
