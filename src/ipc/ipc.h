/* ipc.h: calls between processes over SOCK_SEQPACKET pairs: one datagram a frame.
 *
 * A request carries its own id, the deadline and the trace id (connection or message) it works for. Calls are made from fibers and
 * wait for the reply; handlers run in a fiber each and may wait. When the peer dies, calls under way end as -ECONNRESET, which
 * means *unknown*: every effect is idempotent under an id in its request. A full queue answers -EBUSY; nothing grows without
 * bound. A malformed or forbidden frame closes that peer and is logged ("ipc.violation").
 *
 * Frame: u16 number, u8 kind (0 request, 1 reply, 2 note), u8 zero, u32 call id, u32 deadline (ms from now) or status (negated
 * code, in replies), u32 payload length, 16 bytes trace id, then the record. A reply with a status has the error's sentence
 * as payload instead of the record. */
#ifndef KK_IPC_IPC_H
#define KK_IPC_IPC_H

#include "io/fiber.h"
#include "ipc/messages.h"

#define IPC_FRAME_MAX (192 * 1024)
#define IPC_CALLS_MAX 20000  /* calls under way to one peer */
#define IPC_SERVED_MAX 20000 /* requests of one peer being served */
#define IPC_OUT_MAX (32 * 1024 * 1024) /* bytes waiting for one peer's socket */

struct ipc_peer;

/* What a handler is told about its request. */
struct ipc_request {
    struct ipc_peer *peer;    /* NULL once the peer is gone; look again after a wait */
    enum role from;
    uint64_t from_instance;
    uint64_t peer_serial;     /* unique for each peer connection in this process: what grants are bound to */
    struct id128 trace;
    int64_t deadline;
    struct arena *arena;      /* lives until the reply is sent: put what the reply points at here */
    uint64_t client_uid;      /* ROLE_CTL: who is at the other end */
    const char *client_user;
};

/* Serves one request. request: the decoded record (slices valid until return); its descriptors are the handler's (close or
 * TAKE them: set the field to -1; what is left open is closed). reply: zeroed, FDs -1; descriptors put there are sent and
 * closed. Return 0, or a negative code with the sentence in err. For notes reply is NULL. Runs in its own fiber. */
typedef int MAY_YIELD ipc_handler_fn(struct ipc_request *rq, void *request, void *reply, struct err *err);

struct ipc_handler {
    enum ipc_number number;
    ipc_handler_fn *fn;
};

/* Tells a role that a peer came or went (e.g. stored drops the grants of a dead holder). serial as in ipc_request. */
typedef void ipc_peer_event_fn(enum role role, uint64_t instance, uint64_t serial, bool up);

/* Once a process. handlers ends with {0, NULL}. */
int ipc_init(enum role self, uint64_t self_instance, const struct ipc_handler *handlers, ipc_peer_event_fn *on_peer);
/* Until then, requests of others than the supervisor wait (till their deadline): a role that is still opening its files serves
 * nobody, and loses nothing. ipc_init leaves it open; a role's start closes it first. */
void ipc_set_open(bool open);
/* Calls fn as the peer event of every peer that is there. */
void ipc_each_peer(ipc_peer_event_fn *fn);
/* Called when a peer broke the rules, before it is closed: the role records it. */
typedef void ipc_violation_fn(enum role role, uint64_t instance, const char *reason);
void ipc_set_violation_fn(ipc_violation_fn *fn);
/* Takes the socket over. An older peer of the same role and instance is closed first (not for ROLE_CTL). */
int ipc_peer_add(enum role role, uint64_t instance, uint64_t generation, int socket, struct ipc_peer **ret);
void ipc_peer_close(struct ipc_peer *p);
/* Its descriptor, to be passed on; stays the peer's. */
int ipc_peer_socket(const struct ipc_peer *p);
/* Stops reading at once and closes the peer when the request being served has been answered: what comes next is for the
 * process that the socket was passed on to. */
void ipc_peer_hand_over(struct ipc_peer *p);
/* For ROLE_CTL peers. */
void ipc_peer_set_client(struct ipc_peer *p, uint64_t uid, const char *user);
/* NULL when there is none now. Round robin over instances with instance == IPC_ANY. Valid until the next wait. */
#define IPC_ANY UINT64_MAX
struct ipc_peer *ipc_peer_find(enum role role, uint64_t instance);
/* How many instances the role has been announced with (m_peer.instances); 0 before any. */
uint64_t ipc_instances(enum role role);
void ipc_set_instances(enum role role, uint64_t n);

struct ipc_call {
    struct id128 trace;
    int64_t deadline;     /* required; CLOCK_NEVER is not allowed */
    struct arena *arena;  /* the reply's slices and lists live here */
};

/* Calls and waits. reply is filled on success; its descriptors are the caller's. Codes: what the handler returned;
 * -ENOTCONN no such peer now; -ECONNRESET peer died: unknown; -ETIMEDOUT: unknown; -ECANCELED: unknown; -EBUSY. */
int MAY_YIELD ipc_call(enum role role, uint64_t instance, enum ipc_number number, const struct ipc_call *c, const void *request,
                       void *reply, struct err *err);
int MAY_YIELD ipc_call_peer(struct ipc_peer *p, enum ipc_number number, const struct ipc_call *c, const void *request, void *reply,
                            struct err *err);
/* Sends a note; never waits. The request's descriptors stay the caller's (they are duplicated into the message by the kernel). */
int ipc_note(enum role role, uint64_t instance, enum ipc_number number, struct id128 trace, const void *request);
int ipc_note_peer(struct ipc_peer *p, enum ipc_number number, struct id128 trace, const void *request);

/* Requests being served now; for graceful stop. */
size_t ipc_serving(void);
enum role ipc_self(void);
uint64_t ipc_self_instance(void);

/* Seals and checks (fcntl F_SEAL_*): a received body must be sealed against writing and shrinking before it is mapped. */
int ipc_memfd_new(const char *name);                 /* sealable; -errno */
int ipc_memfd_seal(int fd);
int64_t ipc_memfd_size(int fd);                      /* of a sealed one; ERR_DENIED when it is not sealed; -errno */
int ipc_memfd_check(int fd, uint64_t expect_size);   /* 0, ERR_DENIED, ERR_SYNTAX (size differs) */

/* Decodes one frame as the receiver would, without a peer: for the fuzz target. 0 or a negative code. */
int ipc_frame_check(enum role self, enum role from, struct slice frame);

#endif
