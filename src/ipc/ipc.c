/* Calls between processes: see ipc.h. Runs in every role; what comes in is from another role, which may have been taken over
 * by an attacker: every frame is checked for form, direction and limits before a handler sees it. */
#include "ipc/ipc.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/utf8.h"
#include "io/loop.h"

#define HEADER_SIZE 32
#define FRAMES_A_TURN 64 /* of one peer, before others get their turn */
#define REQUEST_ARENA_MAX (8 * 1024 * 1024)
#define BUCKETS 1024
#define DEADLINE_MAX_MS (24 * 3600 * 1000)
#define NOTE_WAITS_MS 120000 /* for a role that is still starting: as long as the supervisor waits for it */
#define SOCKET_BUFFER (2 * 1024 * 1024)

enum frame_kind { FRAME_REQUEST, FRAME_REPLY, FRAME_NOTE };

struct frame {
    uint16_t number;
    uint8_t kind;
    uint32_t call, status; /* status: deadline in requests, negated code in replies */
    struct id128 trace;
    struct slice payload;
    int fds[RECORD_FDS_MAX];
    size_t n_fds;
};

/* A call that waits for its reply; lies on the calling fiber's stack. */
struct pending {
    struct list node; /* in its peer's bucket */
    struct ipc_peer *peer;
    uint32_t call;
    const struct ipc_message *message;
    struct arena *arena;
    void *reply;
    struct err *err;
    int result;
    bool done;
    struct fiber_queue queue;
};

/* A frame that the socket did not take at once. */
struct queued {
    struct list node;
    size_t n, n_fds;
    int fds[RECORD_FDS_MAX];
    char data[];
};

struct ipc_peer {
    struct list node; /* among the peers of its role */
    enum role role;
    uint64_t instance, generation, serial;
    int fd;
    struct watch watch;
    struct deferred more; /* frames left over for the next turn */
    struct list out;
    size_t out_bytes;
    struct list buckets[BUCKETS];
    size_t n_pending;
    struct list served; /* requests of this peer that are being served */
    size_t n_served;
    uint64_t client_uid;
    char client_user[IPC_NAME_MAX + 1];
    bool handed_over; /* closed when the last request has been answered */
};

struct served {
    struct list node;
    struct ipc_request rq;
    struct arena arena;
    const struct ipc_message *message;
    const struct ipc_handler *handler;
    uint32_t call;
    void *request;
    int fds[RECORD_FDS_MAX];
    size_t n_fds, payload_n;
    char payload[];
};

static struct {
    enum role self;
    uint64_t instance;
    const struct ipc_handler *handlers;
    ipc_peer_event_fn *on_peer;
    ipc_violation_fn *on_violation;
    struct list peers[ROLE_COUNT];
    uint64_t instances[ROLE_COUNT];
    size_t round_robin[ROLE_COUNT];
    uint64_t serial;
    uint32_t call;
    size_t serving;
    bool closed; /* not serving others than the supervisor yet */
    struct fiber_queue opened;
} ipc;

/* Frames are read here first; what must live longer is copied out. */
static char receive_buffer[IPC_FRAME_MAX + 1];

int ipc_init(enum role self, uint64_t self_instance, const struct ipc_handler *handlers, ipc_peer_event_fn *on_peer)
{
    static const struct ipc_handler none[] = {{0, NULL}};
    ipc.self = self;
    ipc.instance = self_instance;
    ipc.handlers = handlers != NULL ? handlers : none;
    ipc.on_peer = on_peer;
    for (int i = 0; i < ROLE_COUNT; i++)
        list_init(&ipc.peers[i]);
    return 0;
}

void ipc_set_open(bool open)
{
    ipc.closed = !open;
    if (open)
        fiber_wake_all(&ipc.opened);
}

void ipc_each_peer(ipc_peer_event_fn *fn)
{
    for (int role = 0; role < ROLE_COUNT; role++) {
        for (struct list *n = ipc.peers[role].next; n != &ipc.peers[role]; n = n->next) {
            const struct ipc_peer *p = list_item(n, struct ipc_peer, node);
            fn(p->role, p->instance, p->serial, true);
        }
    }
}

void ipc_set_violation_fn(ipc_violation_fn *fn)
{
    ipc.on_violation = fn;
}

enum role ipc_self(void)
{
    return ipc.self;
}

uint64_t ipc_self_instance(void)
{
    return ipc.instance;
}

size_t ipc_serving(void)
{
    return ipc.serving;
}

uint64_t ipc_instances(enum role role)
{
    return ipc.instances[role];
}

void ipc_set_instances(enum role role, uint64_t n)
{
    ipc.instances[role] = n;
}

/* ---- sending ---- */

static ssize_t send_frame(int fd, const char *data, size_t n, const int *fds, size_t n_fds)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = n};
    union {
        char buf[CMSG_SPACE(RECORD_FDS_MAX * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > 0) {
        memset(&control, 0, sizeof(control));
        msg.msg_control = control.buf;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    ssize_t rc;
    do {
        rc = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (rc < 0 && errno == EINTR);
    return rc;
}

static void queued_free(struct queued *q)
{
    for (size_t i = 0; i < q->n_fds; i++)
        (void)close(q->fds[i]);
    secret_wipe(q->data, q->n);
    free(q);
}

static int enqueue(struct ipc_peer *p, struct slice data, const int *fds, size_t n_fds)
{
    if (p->out_bytes + data.n > IPC_OUT_MAX)
        return -EBUSY;
    struct queued *q = malloc(sizeof(*q) + data.n);
    if (q == NULL)
        return -ENOMEM;
    q->n = data.n;
    q->n_fds = 0;
    memcpy(q->data, data.p, data.n);
    for (size_t i = 0; i < n_fds; i++) {
        int copy = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        if (copy < 0) {
            int rc = -errno;
            queued_free(q);
            return rc;
        }
        q->fds[q->n_fds++] = copy;
    }
    list_add_tail(&p->out, &q->node);
    p->out_bytes += q->n;
    return 0;
}

static int post(struct ipc_peer *p, struct slice data, const int *fds, size_t n_fds)
{
    if (list_empty(&p->out)) {
        if (send_frame(p->fd, data.p, data.n, fds, n_fds) >= 0)
            return 0;
        /* ETOOMANYREFS: descriptors in flight of this user; it passes, like a full socket. */
        if (errno != EAGAIN && errno != ETOOMANYREFS && errno != ENOBUFS)
            return -errno;
    }
    return enqueue(p, data, fds, n_fds);
}

static void flush_out(struct ipc_peer *p)
{
    while (!list_empty(&p->out)) {
        struct queued *q = list_item(p->out.next, struct queued, node);
        if (send_frame(p->fd, q->data, q->n, q->fds, q->n_fds) < 0)
            return; /* EAGAIN waits for the next edge; a broken pair shows as EPOLLHUP */
        list_del(&q->node);
        p->out_bytes -= q->n;
        queued_free(q);
    }
}

static void put_header(struct buf *b, const struct frame *f, size_t payload)
{
    buf_put_u16(b, f->number);
    buf_put_char(b, (char)f->kind);
    buf_put_char(b, 0);
    buf_put_u32(b, f->call);
    buf_put_u32(b, f->status);
    buf_put_u32(b, (uint32_t)payload);
    buf_put(b, f->trace.b, sizeof(f->trace.b));
}

/* Encodes and sends. The record's descriptors stay the caller's. */
static int send_record(struct ipc_peer *p, const struct frame *head, const struct record_desc *d, const void *record)
{
    int fds[RECORD_FDS_MAX];
    size_t n_fds = 0;
    struct buf b;
    buf_init(&b, IPC_FRAME_MAX);
    put_header(&b, head, 0);
    int rc = record_encode(d, record, &b, fds, &n_fds);
    if (rc == 0) {
        uint32_t n = (uint32_t)(b.n - HEADER_SIZE);
        for (int i = 0; i < 4; i++)
            b.p[12 + i] = (char)(n >> (8 * i));
        rc = post(p, buf_slice(&b), fds, n_fds);
    }
    buf_done_secret(&b);
    return rc;
}

static int send_failure(struct ipc_peer *p, const struct frame *head, const char *sentence)
{
    struct buf b;
    size_t n = strlen(sentence);
    buf_init(&b, IPC_FRAME_MAX);
    put_header(&b, head, n);
    buf_put(&b, sentence, n);
    int rc = buf_ok(&b) ? post(p, buf_slice(&b), NULL, 0) : -ENOMEM;
    buf_done(&b);
    return rc;
}

/* ---- receiving ---- */

static bool parse_header(struct slice in, struct frame *ret)
{
    uint8_t zero;
    uint32_t n;
    struct slice trace;
    if (!slice_get_u16(&in, &ret->number) || !slice_get_u8(&in, &ret->kind) || !slice_get_u8(&in, &zero) ||
        !slice_get_u32(&in, &ret->call) || !slice_get_u32(&in, &ret->status) || !slice_get_u32(&in, &n) ||
        !slice_get_bytes(&in, 16, &trace))
        return false;
    if (zero != 0 || ret->kind > FRAME_NOTE || n != in.n)
        return false;
    memcpy(ret->trace.b, trace.p, 16);
    ret->payload = in;
    return true;
}

static void close_frame_fds(struct frame *f)
{
    for (size_t i = 0; i < f->n_fds; i++)
        (void)close(f->fds[i]);
    f->n_fds = 0;
}

static struct list *bucket(struct ipc_peer *p, uint32_t call)
{
    return &p->buckets[call % BUCKETS];
}

static struct pending *find_pending(struct ipc_peer *p, uint32_t call)
{
    struct list *b = bucket(p, call);
    for (struct list *n = b->next; n != b; n = n->next) {
        struct pending *w = list_item(n, struct pending, node);
        if (w->call == call)
            return w;
    }
    return NULL;
}

static void finish(struct pending *w, int result)
{
    list_del(&w->node);
    if (w->peer != NULL)
        w->peer->n_pending--;
    w->peer = NULL;
    w->result = result;
    w->done = true;
    fiber_wake_all(&w->queue);
}

/* A reply. NULL, or why the peer has broken the rules. */
static const char *take_reply(struct ipc_peer *p, struct frame *f)
{
    struct pending *w = find_pending(p, f->call);
    if (w == NULL)
        return NULL; /* came after its deadline */
    if ((uint16_t)w->message->number != f->number)
        return "reply of another kind than the call";
    if (f->status != 0) {
        int code = -(int)(f->status & 0xffff);
        if (f->n_fds != 0 || !utf8_valid(f->payload))
            return "malformed failure";
        (void)err_set(w->err, code, "%.*s", SLICE_ARG(slice_head(f->payload, 390)));
        finish(w, code);
        return NULL;
    }
    struct slice copy = arena_copy(w->arena, f->payload);
    int rc = copy.p == NULL ? -ENOMEM : record_decode(w->message->reply, copy, f->fds, f->n_fds, w->arena, w->reply);
    if (rc == 0)
        f->n_fds = 0; /* the caller's now */
    if (rc == -ENOMEM)
        (void)err_set(w->err, rc, "out of memory for the reply to %s", w->message->name);
    finish(w, rc == 0 || rc == -ENOMEM ? rc : ERR_SYNTAX);
    return rc == 0 || rc == -ENOMEM ? NULL : "malformed reply";
}

static void served_free(struct served *s)
{
    if (s->request != NULL) {
        record_close_fds(s->message->request, s->request);
        record_wipe(s->message->request, s->request);
    }
    for (size_t i = 0; i < s->n_fds; i++)
        (void)close(s->fds[i]);
    if (s->rq.peer != NULL)
        s->rq.peer->n_served--;
    list_del(&s->node);
    arena_done(&s->arena);
    struct ipc_peer *leaving = s->rq.peer != NULL && s->rq.peer->handed_over && s->rq.peer->n_served == 0 ? s->rq.peer : NULL;
    secret_wipe(s->payload, s->payload_n);
    free(s);
    if (leaving != NULL)
        ipc_peer_close(leaving);
}

static void answer(struct served *s, int rc, void *reply, const struct err *err)
{
    struct frame head = {.number = (uint16_t)s->message->number, .kind = FRAME_REPLY, .call = s->call, .trace = s->rq.trace};
    if (s->rq.peer == NULL || s->message->reply == NULL)
        return;
    if (rc == 0) {
        rc = send_record(s->rq.peer, &head, s->message->reply, reply);
        if (rc == 0)
            return;
        log_error("ipc.reply_failed", L_STR("message", s->message->name), L_STR("reason", err_name(rc)));
    }
    head.status = (uint32_t)-rc;
    (void)send_failure(s->rq.peer, &head, err->code == rc && err->text[0] != '\0' ? err->text : err_name(rc));
}

static int wait_until_open(const struct served *s)
{
    int64_t deadline = s->message->reply != NULL ? s->rq.deadline : clock_deadline(NOTE_WAITS_MS);
    int rc = 0;
    while (rc == 0 && ipc.closed && s->rq.from != ROLE_SUPERVISOR)
        rc = fiber_wait(&ipc.opened, deadline);
    return rc;
}

static void serve(void *arg)
{
    struct served *s = arg;
    struct err err = {0};
    void *reply = NULL;
    int rc = wait_until_open(s);
    if (rc == 0 && s->message->reply != NULL) {
        reply = arena_alloc(&s->arena, s->message->reply->size);
        if (reply != NULL)
            record_clear(s->message->reply, reply);
        else
            rc = -ENOMEM;
    }
    if (rc == 0)
        rc = s->handler->fn(&s->rq, s->request, reply, &err);
    answer(s, rc, reply, &err);
    if (reply != NULL) {
        record_close_fds(s->message->reply, reply);
        record_wipe(s->message->reply, reply);
    }
    served_free(s);
    ipc.serving--;
}

static const struct ipc_handler *find_handler(enum ipc_number number)
{
    for (const struct ipc_handler *h = ipc.handlers; h->fn != NULL; h++)
        if (h->number == number)
            return h;
    return NULL;
}

static struct served *served_new(struct ipc_peer *p, const struct ipc_message *m, struct frame *f)
{
    struct served *s = malloc(sizeof(*s) + f->payload.n);
    if (s == NULL)
        return NULL;
    uint32_t ms = f->status < DEADLINE_MAX_MS ? f->status : DEADLINE_MAX_MS;
    *s = (struct served){.message = m, .handler = find_handler(m->number), .call = f->call, .payload_n = f->payload.n};
    arena_init(&s->arena, REQUEST_ARENA_MAX);
    s->rq = (struct ipc_request){.peer = p, .from = p->role, .from_instance = p->instance, .peer_serial = p->serial,
                                 .trace = f->trace, .deadline = clock_deadline(ms), .arena = &s->arena,
                                 .client_uid = p->client_uid, .client_user = p->client_user};
    memcpy(s->payload, f->payload.p, f->payload.n);
    list_add_tail(&p->served, &s->node);
    p->n_served++;
    return s;
}

static void refuse(struct ipc_peer *p, const struct frame *f, int code)
{
    struct frame head = {.number = f->number, .kind = FRAME_REPLY, .call = f->call, .status = (uint32_t)-code, .trace = f->trace};
    if (f->kind == FRAME_REQUEST)
        (void)send_failure(p, &head, err_name(code));
    else
        log_warning("ipc.note_dropped", L_STR("from", role_name(p->role)), L_STR("reason", err_name(code)));
}

/* Form and direction, without a handler. */
static int check_request(enum role self, enum role from, const struct frame *f, const struct ipc_message **ret)
{
    const struct ipc_message *m = ipc_message_find(f->number);
    if (m == NULL)
        return ERR_SYNTAX;
    if ((m->from & ROLE_BIT(from)) == 0 || (m->to != ROLE_COUNT && m->to != self))
        return ERR_DENIED;
    if ((m->reply == NULL) != (f->kind == FRAME_NOTE))
        return ERR_SYNTAX;
    *ret = m;
    return 0;
}

static const char *take_request(struct ipc_peer *p, struct frame *f)
{
    const struct ipc_message *m = NULL;
    int rc = check_request(ipc.self, p->role, f, &m);
    if (rc != 0)
        return rc == ERR_DENIED ? "message that this role may not send" : "unknown message";
    if (find_handler(m->number) == NULL || p->n_served >= IPC_SERVED_MAX) {
        refuse(p, f, find_handler(m->number) == NULL ? -ENOSYS : -EBUSY);
        return NULL;
    }
    struct served *s = served_new(p, m, f);
    void *request = s != NULL ? arena_alloc(&s->arena, m->request->size) : NULL;
    rc = request != NULL ? record_decode(m->request, slice_of(s->payload, s->payload_n), f->fds, f->n_fds, &s->arena, request)
                         : -ENOMEM;
    if (rc == 0) {
        f->n_fds = 0; /* the record's now */
        s->request = request;
        rc = fiber_start(m->name, serve, s, NULL);
        if (rc == 0) {
            ipc.serving++;
            return NULL;
        }
    }
    if (s != NULL)
        served_free(s);
    if (rc == ERR_SYNTAX || rc == ERR_LIMIT)
        return rc == ERR_LIMIT ? "request past its limits" : "malformed request";
    refuse(p, f, rc);
    return NULL;
}

static int collect_fds(struct msghdr *msg, struct frame *f)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (f->n_fds < RECORD_FDS_MAX)
                f->fds[f->n_fds++] = fd;
            else
                (void)close(fd);
        }
    }
    return (msg->msg_flags & (MSG_CTRUNC | MSG_TRUNC)) != 0 ? ERR_SYNTAX : 0;
}

/* One frame. 0; -EAGAIN: none there; ERR_CLOSED: the other end is gone; else a violation (reason set). */
static int receive_one(struct ipc_peer *p, const char **ret_reason)
{
    struct frame f = {0};
    struct iovec iov = {.iov_base = receive_buffer, .iov_len = sizeof(receive_buffer)};
    union {
        char buf[CMSG_SPACE(RECORD_FDS_MAX * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof(control.buf)};
    ssize_t n = recvmsg(p->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? -EAGAIN : ERR_CLOSED;
    int rc = collect_fds(&msg, &f);
    if (n == 0 && rc == 0 && f.n_fds == 0)
        return ERR_CLOSED;
    const char *reason = NULL;
    if (rc != 0 || (size_t)n > IPC_FRAME_MAX || !parse_header(slice_of(receive_buffer, (size_t)n), &f))
        reason = "malformed frame";
    else
        reason = f.kind == FRAME_REPLY ? take_reply(p, &f) : take_request(p, &f);
    close_frame_fds(&f);
    *ret_reason = reason;
    return reason != NULL ? ERR_DENIED : 0;
}

static void violation(struct ipc_peer *p, const char *reason)
{
    log_alert("ipc.violation", L_STR("peer", role_name(p->role)), L_INT("instance", p->instance), L_STR("reason", reason));
    if (ipc.on_violation != NULL && p->role != ROLE_AUDITD)
        ipc.on_violation(p->role, p->instance, reason);
}

static void receive_more(struct deferred *d);

static void receive(struct ipc_peer *p)
{
    for (int i = 0; i < FRAMES_A_TURN; i++) {
        const char *reason = NULL;
        if (p->handed_over)
            return;
        int rc = receive_one(p, &reason);
        if (rc == -EAGAIN)
            return;
        if (rc == 0)
            continue;
        if (reason != NULL)
            violation(p, reason);
        ipc_peer_close(p);
        return;
    }
    /* Edge-triggered: what is left must be asked for again. */
    loop_defer(&p->more, receive_more);
}

static void receive_more(struct deferred *d)
{
    receive(list_item(d, struct ipc_peer, more));
}

static void on_events(struct watch *w, uint32_t events)
{
    struct ipc_peer *p = w->arg;
    if (events & EPOLLOUT)
        flush_out(p);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP))
        receive(p);
}

/* ---- peers ---- */

int ipc_peer_add(enum role role, uint64_t instance, uint64_t generation, int socket, struct ipc_peer **ret)
{
    static const int size = SOCKET_BUFFER;
    struct ipc_peer *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        (void)close(socket);
        return -ENOMEM;
    }
    struct ipc_peer *old = role != ROLE_CTL ? ipc_peer_find(role, instance) : NULL;
    if (old != NULL)
        ipc_peer_close(old);
    /* As much as the system allows; the default of 208 KiB works too. */
    (void)setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    p->role = role;
    p->instance = instance;
    p->generation = generation;
    p->serial = ++ipc.serial;
    p->fd = socket;
    list_init(&p->out);
    list_init(&p->served);
    for (size_t i = 0; i < BUCKETS; i++)
        list_init(&p->buckets[i]);
    int rc = watch_add(&p->watch, socket, on_events, p);
    if (rc != 0) {
        (void)close(socket);
        free(p);
        return rc;
    }
    list_add_tail(&ipc.peers[role], &p->node);
    if (ret != NULL)
        *ret = p;
    if (ipc.on_peer != NULL)
        ipc.on_peer(role, instance, p->serial, true);
    return 0;
}

void ipc_peer_set_client(struct ipc_peer *p, uint64_t uid, const char *user)
{
    p->client_uid = uid;
    (void)snprintf(p->client_user, sizeof(p->client_user), "%s", user);
}

void ipc_peer_close(struct ipc_peer *p)
{
    watch_del(&p->watch);
    loop_defer_cancel(&p->more);
    list_del(&p->node);
    (void)close(p->fd);
    for (size_t i = 0; i < BUCKETS; i++) {
        while (!list_empty(&p->buckets[i])) {
            struct pending *w = list_item(p->buckets[i].next, struct pending, node);
            (void)err_set(w->err, -ECONNRESET, "%s went away during %s", role_name(p->role), w->message->name);
            finish(w, -ECONNRESET);
        }
    }
    while (!list_empty(&p->served)) {
        struct served *s = list_item(p->served.next, struct served, node);
        list_del(&s->node);
        s->rq.peer = NULL;
    }
    while (!list_empty(&p->out))
        queued_free(list_item(list_pop(&p->out), struct queued, node));
    if (ipc.on_peer != NULL)
        ipc.on_peer(p->role, p->instance, p->serial, false);
    free(p);
}

int ipc_peer_socket(const struct ipc_peer *p)
{
    return p->fd;
}

void ipc_peer_hand_over(struct ipc_peer *p)
{
    watch_del(&p->watch);
    loop_defer_cancel(&p->more);
    p->handed_over = true;
}

struct ipc_peer *ipc_peer_find(enum role role, uint64_t instance)
{
    struct list *l = &ipc.peers[role];
    size_t count = 0;
    for (struct list *n = l->next; n != l; n = n->next, count++) {
        struct ipc_peer *p = list_item(n, struct ipc_peer, node);
        if (instance != IPC_ANY && p->instance == instance)
            return p;
    }
    if (instance != IPC_ANY || count == 0)
        return NULL;
    struct list *n = l->next;
    for (size_t skip = ipc.round_robin[role]++ % count; skip > 0; skip--)
        n = n->next;
    return list_item(n, struct ipc_peer, node);
}

/* ---- calling ---- */

static uint32_t relative_deadline(int64_t deadline)
{
    int64_t ms = deadline - clock_mono_ms();
    return ms <= 0 ? 0 : ms > DEADLINE_MAX_MS ? DEADLINE_MAX_MS : (uint32_t)ms;
}

int ipc_call_peer(struct ipc_peer *p, enum ipc_number number, const struct ipc_call *c, const void *request, void *reply,
                  struct err *err)
{
    const struct ipc_message *m = ipc_message_find(number);
    if (m == NULL || m->reply == NULL || c->deadline == CLOCK_NEVER)
        return err_set(err, -EINVAL, "not a call, or without a deadline");
    if (p->n_pending >= IPC_CALLS_MAX)
        return err_set(err, -EBUSY, "too many calls to %s", role_name(p->role));
    struct pending w = {.peer = p, .call = ++ipc.call, .message = m, .arena = c->arena, .reply = reply, .err = err};
    struct frame head = {.number = (uint16_t)number, .kind = FRAME_REQUEST, .call = w.call,
                         .status = relative_deadline(c->deadline), .trace = c->trace};
    fiber_queue_init(&w.queue);
    int rc = send_record(p, &head, m->request, request);
    if (rc != 0)
        return err_set(err, rc == -EPIPE ? -ENOTCONN : rc, "cannot send %s to %s: %s", m->name, role_name(p->role), err_name(rc));
    list_add_tail(bucket(p, w.call), &w.node);
    p->n_pending++;
    while (!w.done) {
        rc = fiber_wait(&w.queue, c->deadline);
        if (rc != 0 && !w.done) {
            (void)err_set(err, rc, "%s did not answer %s in time", role_name(p->role), m->name);
            finish(&w, rc);
        }
    }
    return w.result;
}

int ipc_call(enum role role, uint64_t instance, enum ipc_number number, const struct ipc_call *c, const void *request,
             void *reply, struct err *err)
{
    struct ipc_peer *p = ipc_peer_find(role, instance);
    if (p == NULL)
        return err_set(err, -ENOTCONN, "%s is not there now", role_name(role));
    return ipc_call_peer(p, number, c, request, reply, err);
}

int ipc_note_peer(struct ipc_peer *p, enum ipc_number number, struct id128 trace, const void *request)
{
    const struct ipc_message *m = ipc_message_find(number);
    struct frame head = {.number = (uint16_t)number, .kind = FRAME_NOTE, .trace = trace};
    if (m == NULL || m->reply != NULL)
        return -EINVAL;
    return send_record(p, &head, m->request, request);
}

int ipc_note(enum role role, uint64_t instance, enum ipc_number number, struct id128 trace, const void *request)
{
    struct ipc_peer *p = ipc_peer_find(role, instance);
    return p != NULL ? ipc_note_peer(p, number, trace, request) : -ENOTCONN;
}

/* ---- for the fuzz target ---- */

int ipc_frame_check(enum role self, enum role from, struct slice in)
{
    struct frame f = {0};
    const struct ipc_message *m = NULL;
    struct arena a;
    if (!parse_header(in, &f))
        return ERR_SYNTAX;
    if (f.kind == FRAME_REPLY) {
        m = ipc_message_find(f.number);
        if (m == NULL || m->reply == NULL)
            return ERR_SYNTAX;
    } else {
        int rc = check_request(self, from, &f, &m);
        if (rc != 0)
            return rc;
    }
    const struct record_desc *d = f.kind == FRAME_REPLY ? m->reply : m->request;
    arena_init(&a, REQUEST_ARENA_MAX);
    void *record = arena_alloc(&a, d->size);
    int rc = record != NULL ? record_decode(d, f.payload, NULL, 0, &a, record) : -ENOMEM;
    if (rc == 0) {
        /* What was decoded must encode to the same bytes: one meaning for each frame. */
        struct buf b;
        buf_init(&b, IPC_FRAME_MAX * 2);
        if (record_encode(d, record, &b, NULL, NULL) != 0 || !slice_eq(buf_slice(&b), f.payload))
            abort();
        buf_done(&b);
    }
    arena_done(&a);
    return rc;
}
