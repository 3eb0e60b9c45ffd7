/* backend.h: everything that an SMTP session asks of the world, as functions: so the whole session runs under the fake stream in unit
 * tests, transcripts and fuzzers, and the role (role/smtpd/backend.c) answers with calls to the other processes.
 *
 * Replies and what they point at live in the arena. Codes are those of ipc_call: a negative code means that the answer is not known. */
#ifndef KK_PROTO_SMTP_BACKEND_H
#define KK_PROTO_SMTP_BACKEND_H

#include "base/netaddr.h"
#include "io/stream.h"
#include "trail/event.h"

struct smtp_settings;

/* What is known of a connection's TLS; version is "" without it. Texts as OpenSSL names things. */
struct smtp_tls {
    char version[17], cipher[65], group[33];
    unsigned bits;
};

/* Whose memory a message being received is. */
struct limit_entry;
struct smtp_memory {
    const struct netaddr *client; /* NULL: without a limit of its own */
    struct limit_entry *hold;     /* the backend's */
};

struct smtp_backend {
    /* authd: may this recipient have mail, and which accounts are meant. */
    int MAY_YIELD (*rcpt_check)(void *arg, struct arena *a, const struct m_rcpt_check *rq, struct m_rcpt_check_reply *reply);
    /* filterd: the verdict on a message. */
    int MAY_YIELD (*inspect)(void *arg, struct arena *a, const struct m_inspect *rq, struct m_inspect_reply *reply);
    /* stored: the durable commit. Repeats itself under the same message id until the answer is known or it gives up. */
    int MAY_YIELD (*accept)(void *arg, struct arena *a, const struct m_accept *rq, struct m_accept_reply *reply);
    /* tlsd: takes the raw stream over, whatever happens; gives the plain stream and the facts of the handshake. */
    int MAY_YIELD (*starttls)(void *arg, struct stream *raw, struct id128 conn, const char *peer_ip, struct smtp_tls *ret_tls,
                              struct stream **ret_plain);
    /* stored: a deliver grant will not be used. */
    void (*grant_drop)(void *arg, uint64_t grant);
    /* auditd, best effort. */
    void (*event)(void *arg, const struct event_head *head, const void *record);

    /* Limits by client. enter: NULL, or the name of the limit that is reached; each NULL is paired with leave. */
    const char *(*client_enter)(void *arg, const struct netaddr *client, const struct smtp_settings *set);
    void (*client_leave)(void *arg, const struct netaddr *client);
    bool (*message_take)(void *arg, const struct netaddr *client, const struct smtp_settings *set);
    /* The budget for messages being received, all connections of the process together, of which one client gets a part. */
    bool (*memory_take)(void *arg, struct smtp_memory *m, uint64_t octets, const struct smtp_settings *set);
    void (*memory_give)(void *arg, struct smtp_memory *m, uint64_t octets);

    /* 0 or -ECANCELED. */
    int MAY_YIELD (*sleep)(void *arg, int64_t ms);
};

#endif
