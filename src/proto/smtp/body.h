/* body.h: the message being received: in memory up to IPC_INLINE_MAX octets, in a sealed memfd beyond, within the budget of the process. */
#ifndef KK_PROTO_SMTP_BODY_H
#define KK_PROTO_SMTP_BODY_H

#include "proto/smtp/backend.h"

struct smtp_body {
    const struct smtp_backend *backend;
    void *arg;
    const struct smtp_settings *set;
    struct buf head;   /* all of it while fd < 0; else what is not written yet */
    int fd;            /* -1 */
    uint64_t size;
    uint64_t reserved; /* of the budget */
    struct smtp_memory memory;
    int failed;        /* the first failure: -ENOBUFS (budget), -ENOMEM, -errno of a write; later octets are only counted */
};

/* client: whose part of the budget it is, NULL for none; it outlives the body. expected: what the sender said, 0 for unknown; -ENOBUFS when the budget does not have so much now. It is taken as octets come. */
int smtp_body_init(struct smtp_body *b, const struct smtp_backend *backend, void *arg, const struct smtp_settings *set,
                   const struct netaddr *client, uint64_t expected);
void smtp_body_put(struct smtp_body *b, struct slice s);
/* No more will come: writes the rest and seals; with must_fd even a small body goes into a memfd. 0 or `failed`. */
int smtp_body_finish(struct smtp_body *b, bool must_fd);
/* Frees and gives the budget back. Harmless on a zeroed or finished one. */
void smtp_body_done(struct smtp_body *b);

#endif
