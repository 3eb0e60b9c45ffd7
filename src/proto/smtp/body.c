/* The message being received: see body.h. */
#include "proto/smtp/body.h"

#include <unistd.h>

#include "ipc/ipc.h"
#include "proto/smtp/settings.h"

#define WRITE_CHUNK 65536       /* gathered before a write into the memfd */
#define RESERVE_STEP (1 << 20)  /* the budget is taken in steps, as octets come */

static int reserve(struct smtp_body *b, uint64_t need)
{
    if (need <= b->reserved)
        return 0;
    if (!b->backend->memory_take(b->arg, &b->memory, need - b->reserved, b->set))
        return -ENOBUFS;
    b->reserved = need;
    return 0;
}

int smtp_body_init(struct smtp_body *b, const struct smtp_backend *backend, void *arg, const struct smtp_settings *set,
                   const struct netaddr *client, uint64_t expected)
{
    *b = (struct smtp_body){.backend = backend, .arg = arg, .set = set, .fd = -1, .memory = {.client = client}};
    buf_init(&b->head, IPC_INLINE_MAX + WRITE_CHUNK);
    if (expected > set->max_message_size)
        expected = set->max_message_size;
    int rc = reserve(b, expected > IPC_INLINE_MAX ? expected : IPC_INLINE_MAX);
    /* It would fit now. What is only announced is not kept free, or announcing would be enough to keep everybody else out. */
    if (rc == 0 && b->reserved > RESERVE_STEP) {
        backend->memory_give(arg, &b->memory, b->reserved - RESERVE_STEP);
        b->reserved = RESERVE_STEP;
    }
    return rc;
}

static void fail(struct smtp_body *b, int rc)
{
    if (b->failed == 0)
        b->failed = rc;
    buf_done(&b->head);
    buf_init(&b->head, IPC_INLINE_MAX + WRITE_CHUNK);
}

static int write_all(int fd, struct slice s)
{
    while (s.n > 0) {
        ssize_t n = write(fd, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 ? -EIO : -errno;
        s = slice_from(s, (size_t)n);
    }
    return 0;
}

static int spill(struct smtp_body *b)
{
    if (b->fd < 0) {
        b->fd = ipc_memfd_new("message");
        if (b->fd < 0)
            return b->fd;
    }
    int rc = write_all(b->fd, buf_slice(&b->head));
    buf_reset(&b->head);
    return rc;
}

/* Never more than the largest message: what is larger is refused anyway. */
static uint64_t next_step(const struct smtp_body *b)
{
    uint64_t need = b->size + RESERVE_STEP, most = b->set->max_message_size;
    return need <= most || b->size > most ? need : most;
}

/* Small pieces gather; a large piece of a large message goes straight from the stream's buffer into the memfd. */
static int put(struct smtp_body *b, struct slice s)
{
    int rc = b->size > b->reserved ? reserve(b, next_step(b)) : 0;
    if (rc != 0)
        return rc;
    bool small = b->fd < 0 && b->size <= IPC_INLINE_MAX;
    if (!small && (b->head.n + s.n > WRITE_CHUNK || b->fd < 0)) {
        rc = spill(b);
        if (rc == 0 && s.n >= WRITE_CHUNK / 8)
            return write_all(b->fd, s);
    }
    if (rc == 0) {
        buf_put_slice(&b->head, s);
        rc = buf_ok(&b->head) ? 0 : -ENOMEM;
    }
    return rc;
}

void smtp_body_put(struct smtp_body *b, struct slice s)
{
    b->size += s.n;
    if (b->failed != 0)
        return;
    int rc = put(b, s);
    if (rc != 0)
        fail(b, rc);
}

int smtp_body_finish(struct smtp_body *b, bool must_fd)
{
    int rc = b->failed;
    if (rc == 0 && (b->fd >= 0 || must_fd)) {
        rc = spill(b);
        if (rc == 0)
            rc = ipc_memfd_seal(b->fd);
        buf_done(&b->head);
        buf_init(&b->head, IPC_INLINE_MAX + WRITE_CHUNK);
    }
    if (rc != 0)
        fail(b, rc);
    return rc;
}

void smtp_body_done(struct smtp_body *b)
{
    if (b->backend == NULL)
        return;
    if (b->fd >= 0)
        (void)close(b->fd);
    buf_done(&b->head);
    if (b->reserved != 0)
        b->backend->memory_give(b->arg, &b->memory, b->reserved);
    *b = (struct smtp_body){.fd = -1};
}
