/* session.h: an SMTP or LMTP server session, from the greeting to the last answer (RFC 5321, 2033).
 *
 * Run by smtpd in a fiber of its own for each connection; it reads from top to bottom like the RFC. Input is from strangers. What it
 * needs from elsewhere it asks through the backend. A session that waits for a command holds no message, no buffers and no arena. */
#ifndef KK_PROTO_SMTP_SESSION_H
#define KK_PROTO_SMTP_SESSION_H

#include "proto/smtp/backend.h"
#include "proto/smtp/settings.h"

struct smtp_session;

struct smtp_session_params {
    bool lmtp;
    bool tls;               /* TLS from the first octet */
    struct netaddr peer;    /* the other end of the socket; PROXY and XCLIENT may name another client */
    struct netaddr local;
    const char *listener;   /* its name, for the trail */
    const struct smtp_backend *backend;
    void *arg;              /* for the backend */
    struct smtp_settings **settings; /* where the newest are found; outlives the session */
};

/* Takes the stream over (also on failure). 0 or -ENOMEM. */
int smtp_session_new(const struct smtp_session_params *p, struct stream *stream, struct smtp_session **ret);
/* The whole session. The caller frees it afterwards. */
void MAY_YIELD smtp_session_run(struct smtp_session *s);
/* Asks the session to end: at once with 421 when it waits for a command, after the command under way otherwise. */
void smtp_session_stop(struct smtp_session *s);
void smtp_session_free(struct smtp_session *s); /* NULL allowed */

#endif
