/* login.h: the role login: connections of POP3 up to authentication. Inner header of this directory.
 *
 * The process holds no mail, no hashes, no keys: a password passes through it, and the connection moves on to tlsd and imapd. */
#ifndef KK_ROLE_LOGIN_LOGIN_H
#define KK_ROLE_LOGIN_LOGIN_H

#include "proto/pop3/login_session.h"
#include "role/role_main.h"

/* One connection. Lives on its fiber's stack. */
struct login_conn {
    struct list node;          /* of all connections */
    struct fiber *fiber;
    bool moving;               /* asks authd or hands over: a graceful stop waits for it */
    struct id128 id;
    char peer[NETADDR_TEXT_SIZE];
    int64_t started;           /* clock_real_ms */
    bool tls;
    uint64_t tls_instance;     /* of tlsd */
    char tls_text[128];        /* "TLSv1.3 TLS_AES_256_GCM_SHA384" */

    /* What authd said of who logged in. */
    uint64_t account, grant, instance;
    char address[IPC_ADDRESS_MAX + 1];
};

/* Makes TLS on fd (taken over in any case). 0 with the plain end in *ret_fd; -ENOTCONN: no tlsd now; else it failed. */
int MAY_YIELD login_tls(struct login_conn *c, int fd, int *ret_fd);
/* The functions that a POP3 session works through; its context is a struct login_conn. */
extern const struct pop3_login_backend login_pop3_backend;

/* Events of one connection (trail/event.h). ok: awaited, 0 when it is in the trail. */
int MAY_YIELD login_event_ok(const struct login_conn *c, const char *service, struct slice user);
void login_event_failed(const struct login_conn *c, const char *service, struct slice user, const char *reason);
void login_event_tls_failed(const struct login_conn *c, const char *service, const char *reason);

#endif
