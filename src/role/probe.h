/* probe.h: what tests may ask of a role from inside. Refused unless the service was started for it. */
#ifndef KK_ROLE_PROBE_H
#define KK_ROLE_PROBE_H

#include "ipc/ipc.h"

int role_probe(enum role role, struct ipc_request *rq, const struct m_probe *request, struct m_probe_reply *reply, struct err *err);

#endif
