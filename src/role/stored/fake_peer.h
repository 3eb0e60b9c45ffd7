/* fake_peer.h: for tests: the other end of a socket to the role under test, in the same process. It speaks frames by hand (ipc.h),
 * because a process has one ipc state and here that is the role's. */
#ifndef KK_ROLE_STORED_FAKE_PEER_H
#define KK_ROLE_STORED_FAKE_PEER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/loop.h"
#include "ipc/ipc.h"

#define FAKE_HEAD 32
#define FAKE_PATIENCE_MS 20000

struct fake_peer {
    int fd;
    uint32_t last_call;
};

/* One frame received by the fake. */
struct fake_frame {
    unsigned number, kind;
    uint32_t call;
    int status;
    size_t n_fds;
    int fds[RECORD_FDS_MAX];
    struct slice payload; /* in buf */
    char buf[IPC_FRAME_MAX];
};

static inline void fake_peer_up(struct fake_peer *f, enum role role, uint64_t instance)
{
    int sv[2];
    struct ipc_peer *p;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
    assert_int_equal(ipc_peer_add(role, instance, 1, sv[0], &p), 0);
    *f = (struct fake_peer){.fd = sv[1]};
}

static inline void fake_peer_down(struct fake_peer *f)
{
    if (f->fd >= 0)
        (void)close(f->fd);
    f->fd = -1;
    for (int i = 0; i < 20; i++)
        loop_turn(0);
}

static inline void fake_send(const struct fake_peer *f, unsigned number, unsigned kind, uint32_t call, uint32_t word,
                             const struct record_desc *d, const void *record)
{
    int fds[RECORD_FDS_MAX];
    size_t n_fds = 0;
    struct buf b;
    union {
        struct cmsghdr h;
        char room[CMSG_SPACE(sizeof(int) * RECORD_FDS_MAX)];
    } control = {0};
    buf_init(&b, IPC_FRAME_MAX);
    buf_put_u16(&b, (uint16_t)number);
    buf_put_u16(&b, (uint16_t)kind);
    buf_put_u32(&b, call);
    buf_put_u32(&b, word);
    buf_put_u32(&b, 0);
    buf_put(&b, (char[16]){0}, 16);
    if (d != NULL)
        assert_int_equal(record_encode(d, record, &b, fds, &n_fds), 0);
    uint32_t n = (uint32_t)(b.n - FAKE_HEAD);
    memcpy(b.p + 12, &n, sizeof(n));
    struct iovec iov = {b.p, b.n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds != 0) {
        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int) * n_fds), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
    }
    assert_int_equal(sendmsg(f->fd, &m, MSG_NOSIGNAL), b.n);
    buf_done(&b);
}

/* Takes what is there; false when there is nothing. */
static inline bool fake_take(const struct fake_peer *f, struct fake_frame *ret)
{
    union {
        struct cmsghdr h;
        char room[CMSG_SPACE(sizeof(int) * RECORD_FDS_MAX)];
    } control = {0};
    struct iovec iov = {ret->buf, sizeof(ret->buf)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(f->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < FAKE_HEAD)
        return false;
    struct slice s = slice_of(ret->buf, (size_t)n);
    uint16_t number = 0, kind = 0;
    uint32_t status = 0, length = 0;
    assert_true(slice_get_u16(&s, &number) && slice_get_u16(&s, &kind) && slice_get_u32(&s, &ret->call) && slice_get_u32(&s, &status) &&
           slice_get_u32(&s, &length));
    ret->number = number;
    ret->kind = kind;
    ret->status = -(int)status;
    ret->payload = slice_from(s, 16);
    assert_int_equal(ret->payload.n, length);
    ret->n_fds = 0;
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (c != NULL && c->cmsg_type == SCM_RIGHTS) {
        ret->n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(ret->fds, CMSG_DATA(c), ret->n_fds * sizeof(int));
    }
    return true;
}

/* Runs the loop until a frame comes. */
static inline void fake_await(const struct fake_peer *f, struct fake_frame *ret)
{
    int64_t until = clock_mono_ms() + FAKE_PATIENCE_MS;
    while (!fake_take(f, ret)) {
        assert_true(clock_mono_ms() < until);
        loop_turn(1);
    }
}

static inline uint32_t fake_call_begin(struct fake_peer *f, enum ipc_number number, const void *request)
{
    fake_send(f, number, 0, ++f->last_call, FAKE_PATIENCE_MS, ipc_message_find(number)->request, request);
    return f->last_call;
}

/* Decodes a reply into `reply` (NULL allowed). Its code. */
static inline int fake_reply(const struct fake_frame *frame, void *reply, struct arena *a)
{
    assert_int_equal(frame->kind, 1);
    if (frame->status == 0 && reply != NULL)
        assert_int_equal(record_decode(ipc_message_find(frame->number)->reply, frame->payload, frame->fds, frame->n_fds, a, reply), 0);
    return frame->status;
}

/* A call of the fake to the role: sends, runs the loop, gives the reply. frame keeps what the reply points at. */
static inline int fake_call(struct fake_peer *f, enum ipc_number number, const void *request, void *reply, struct arena *a,
                            struct fake_frame *frame)
{
    uint32_t call = fake_call_begin(f, number, request);
    do
        fake_await(f, frame);
    while (frame->kind != 1 || frame->call != call);
    return fake_reply(frame, reply, a);
}

#endif
