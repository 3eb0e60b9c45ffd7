/* client.c: see client.h. Trust: the service is the peer; its frames are still decoded strictly. */
#include "ctl/client.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "ipc/ipc.h"

#define HEADER_SIZE 32
enum { FRAME_REQUEST, FRAME_REPLY };

struct ctl_client {
    int fd;
    uint32_t call;
    struct id128 trace;
    char frame[IPC_FRAME_MAX]; /* the last one received */
};

struct reply_frame {
    uint16_t number;
    uint32_t call, status;
    struct slice payload;
    int fds[RECORD_FDS_MAX];
    size_t n_fds;
};

/* A socket's address has room for 107 bytes of path: a longer one is reached through a descriptor of its directory. */
static int connect_path(int fd, const char *state_dir)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int dir = -1, n = snprintf(un.sun_path, sizeof(un.sun_path), "%s/%s", state_dir, CTL_SOCKET_NAME);
    if (n < 0 || (size_t)n >= sizeof(un.sun_path)) {
        dir = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        (void)snprintf(un.sun_path, sizeof(un.sun_path), "/proc/self/fd/%d/%s", dir, CTL_SOCKET_NAME);
    }
    int rc = connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0 ? 0 : -errno;
    if (dir >= 0)
        (void)close(dir);
    return rc;
}

static int connect_socket(const char *state_dir, int *ret_fd, struct err *err)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(err, "socket");
    int rc = connect_path(fd, state_dir);
    if (rc == 0) {
        *ret_fd = fd;
        return 0;
    }
    int saved = -rc;
    (void)close(fd);
    if (saved == ENOENT || saved == ECONNREFUSED || saved == ENOTDIR)
        return err_set(err, -ENOTCONN, "the service is not running on %s (start it with: kakitome serve)", state_dir);
    errno = saved;
    return err_errno(err, "%s/%s", state_dir, CTL_SOCKET_NAME);
}

static int send_request(struct ctl_client *cl, const struct ipc_message *m, const void *request, int timeout_ms, struct err *err)
{
    int fds[RECORD_FDS_MAX];
    size_t n_fds = 0;
    struct buf body, frame;
    buf_init(&body, IPC_FRAME_MAX - HEADER_SIZE);
    buf_init(&frame, IPC_FRAME_MAX);
    int rc = record_encode(m->request, request, &body, fds, &n_fds);
    buf_put_u16(&frame, (uint16_t)m->number);
    buf_put_u16(&frame, FRAME_REQUEST);
    buf_put_u32(&frame, cl->call);
    buf_put_u32(&frame, (uint32_t)timeout_ms);
    buf_put_u32(&frame, (uint32_t)body.n);
    buf_put(&frame, cl->trace.b, sizeof(cl->trace.b));
    buf_put_slice(&frame, buf_slice(&body));
    if (rc == 0 && !buf_ok(&frame))
        rc = -ENOMEM;
    if (rc != 0) {
        rc = err_set(err, rc, rc == -ENOMEM ? "out of memory" : "the request is too long, or not UTF-8");
    } else {
        char control[CMSG_SPACE(sizeof(fds))] = {0};
        struct iovec iov = {frame.p, frame.n};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        if (n_fds > 0) {
            msg.msg_control = control;
            msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
            struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);
            *cm = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(n_fds * sizeof(int))};
            memcpy(CMSG_DATA(cm), fds, n_fds * sizeof(int));
        }
        if (sendmsg(cl->fd, &msg, MSG_NOSIGNAL) < 0)
            rc = err_errno(err, "the service has closed the connection");
    }
    buf_done_secret(&body);
    buf_done_secret(&frame);
    return rc;
}

static int wait_readable(struct ctl_client *cl, int64_t deadline, struct err *err)
{
    for (;;) {
        int64_t left = deadline - clock_mono_ms();
        struct pollfd p = {.fd = cl->fd, .events = POLLIN};
        int n = poll(&p, 1, left < 0 ? 0 : left > 1000000 ? 1000000 : (int)left);
        if (n > 0)
            return 0;
        if (n == 0)
            return err_set(err, -ETIMEDOUT, "the service has not answered in time; what it did is not known");
        if (errno != EINTR)
            return err_errno(err, "poll");
    }
}

static bool parse_frame(struct slice in, struct reply_frame *f)
{
    uint8_t kind, zero;
    uint32_t n;
    struct slice trace;
    if (!slice_get_u16(&in, &f->number) || !slice_get_u8(&in, &kind) || !slice_get_u8(&in, &zero) || !slice_get_u32(&in, &f->call) ||
        !slice_get_u32(&in, &f->status) || !slice_get_u32(&in, &n) || !slice_get_bytes(&in, 16, &trace))
        return false;
    f->payload = in;
    return kind == FRAME_REPLY && zero == 0 && n == in.n;
}

static void take_fds(struct msghdr *msg, struct reply_frame *f)
{
    for (struct cmsghdr *cm = CMSG_FIRSTHDR(msg); cm != NULL; cm = CMSG_NXTHDR(msg, cm)) {
        if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        if (n > RECORD_FDS_MAX - f->n_fds)
            n = RECORD_FDS_MAX - f->n_fds;
        memcpy(f->fds + f->n_fds, CMSG_DATA(cm), n * sizeof(int));
        f->n_fds += n;
    }
}

static int receive_reply(struct ctl_client *cl, int64_t deadline, struct reply_frame *f, struct err *err)
{
    char control[CMSG_SPACE(RECORD_FDS_MAX * sizeof(int))];
    struct iovec iov = {cl->frame, sizeof(cl->frame)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    int rc = wait_readable(cl, deadline, err);
    if (rc != 0)
        return rc;
    ssize_t n = recvmsg(cl->fd, &msg, MSG_CMSG_CLOEXEC);
    if (n <= 0)
        return err_set(err, -ECONNRESET, "the service has closed the connection; what it did is not known");
    take_fds(&msg, f);
    if ((msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || !parse_frame(slice_of(cl->frame, (size_t)n), f))
        return err_set(err, ERR_SYNTAX, "the service's answer cannot be understood");
    return 0;
}

static void close_fds(struct reply_frame *f)
{
    for (size_t i = 0; i < f->n_fds; i++)
        (void)close(f->fds[i]);
}

static int decode_reply(const struct ipc_message *m, struct reply_frame *f, struct arena *arena, void *reply, struct err *err)
{
    if (f->status != 0) {
        close_fds(f);
        int code = -(int)(f->status & 0xffff);
        return err_set(err, code, "%.*s", SLICE_ARG(f->payload.n != 0 ? f->payload : slice_str(err_name(code))));
    }
    struct slice kept = arena_copy(arena, f->payload); /* the frame's memory is reused by the next call */
    int rc = kept.p == NULL ? -ENOMEM : record_decode(m->reply, kept, f->fds, f->n_fds, arena, reply);
    if (rc == 0)
        return 0;
    close_fds(f);
    return err_set(err, rc, "the service's answer cannot be understood");
}

int ctl_client_call(struct ctl_client *cl, enum ipc_number number, const void *request, struct arena *arena, void *reply,
                    int timeout_ms, struct err *err)
{
    const struct ipc_message *m = ipc_message_find(number);
    struct reply_frame f = {0};
    int64_t deadline = clock_deadline(timeout_ms);
    cl->call++;
    int rc = send_request(cl, m, request, timeout_ms, err);
    if (rc == 0)
        rc = receive_reply(cl, deadline, &f, err);
    if (rc == 0 && (f.number != number || f.call != cl->call))
        rc = err_set(err, ERR_SYNTAX, "the service's answer belongs to another question");
    if (rc != 0) {
        close_fds(&f);
        return rc;
    }
    return decode_reply(m, &f, arena, reply, err);
}

/* The supervisor answers at the door; a connection to any other role is passed on by it. */
static int ask_for_role(struct ctl_client *cl, enum role role, struct err *err)
{
    struct m_ctl_connect q = {.role = slice_str(role_name(role))};
    struct m_ctl_connect_reply r;
    struct arena a;
    if (role == ROLE_SUPERVISOR)
        return 0;
    arena_init(&a, 4096);
    int rc = ctl_client_call(cl, IPC_ctl_connect, &q, &a, &r, CTL_CALL_MS, err);
    arena_done(&a);
    return rc;
}

int ctl_client_open_at(const char *state_dir, enum role role, struct ctl_client **ret, struct err *err)
{
    struct ctl_client *cl = calloc(1, sizeof(*cl));
    if (cl == NULL)
        return err_set(err, -ENOMEM, "out of memory");
    cl->fd = -1;
    cl->trace = id_new();
    int rc = connect_socket(state_dir, &cl->fd, err);
    if (rc == 0)
        rc = ask_for_role(cl, role, err);
    if (rc != 0) {
        ctl_client_close(cl);
        return rc;
    }
    *ret = cl;
    return 0;
}

int ctl_client_open(struct ctl *c, enum role role, struct ctl_client **ret, struct err *err)
{
    const char *state = ctl_state_dir(c, err);
    return state != NULL ? ctl_client_open_at(state, role, ret, err) : err->code;
}

void ctl_client_close(struct ctl_client *cl)
{
    if (cl == NULL)
        return;
    if (cl->fd >= 0)
        (void)close(cl->fd);
    free(cl);
}

int ctl_call_once(struct ctl *c, enum role role, enum ipc_number number, const void *request, void *reply, struct err *err)
{
    struct ctl_client *cl = NULL;
    int rc = ctl_client_open(c, role, &cl, err);
    if (rc == 0)
        rc = ctl_client_call(cl, number, request, &c->arena, reply, CTL_CALL_MS, err);
    ctl_client_close(cl);
    return rc;
}
