/* client.h: the command line's end of a connection to the running service: the blocking twin of ipc_call.
 *
 * <state>/ctl.sock is a SOCK_SEQPACKET socket of the supervisor's. The first frame (ctl_connect) names the role to talk to; the
 * supervisor passes the connection on, with who is calling, and the role answers the frames that follow. One call at a time. */
#ifndef KK_CTL_CLIENT_H
#define KK_CTL_CLIENT_H

#include "ctl/ctl.h"
#include "ipc/messages.h"

#define CTL_SOCKET_NAME "ctl.sock"
#define CTL_CALL_MS 30000 /* a usual timeout */

struct ctl_client;

/* Connects to the service whose state directory is the configured one. -ENOTCONN with a sentence when it does not run. */
int ctl_client_open(struct ctl *c, enum role role, struct ctl_client **ret, struct err *err);
int ctl_client_open_at(const char *state_dir, enum role role, struct ctl_client **ret, struct err *err);
void ctl_client_close(struct ctl_client *cl); /* NULL allowed */
/* Sends the request, waits for the reply. Slices and lists of the reply live in arena; its descriptors are the caller's. The request's
 * descriptors stay the caller's. Codes: the handler's, -ETIMEDOUT, -ECONNRESET (the outcome is unknown). */
int ctl_client_call(struct ctl_client *cl, enum ipc_number number, const void *request, struct arena *arena, void *reply,
                    int timeout_ms, struct err *err);
/* Opens, calls once, closes. */
int ctl_call_once(struct ctl *c, enum role role, enum ipc_number number, const void *request, void *reply, struct err *err);

#endif
