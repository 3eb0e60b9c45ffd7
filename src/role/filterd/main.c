/* The role filterd: looks into a message and says whether it may come in.
 *
 * Rights: answers smtpd. No files, no sockets, no memory files of its own: bodies come inline or as a sealed memory file that is
 * mapped for reading. Everything is done between two waits, so one working memory serves all messages. */
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "role/filterd/inspect.h"
#include "role/role_main.h"

static struct arena work;

/* The body where it lies; *ret_map: what to unmap (NULL: nothing). The descriptor must be sealed: a sender that could still write
 * or cut the file could make a parser read two different messages, or die. */
static int body_open(const struct m_inspect *rq, void **ret_map, struct slice *ret, struct err *err)
{
    *ret_map = NULL;
    if (rq->body_fd < 0) {
        if (rq->body.n != rq->size)
            return err_set(err, ERR_SYNTAX, "the message is %zu bytes, not %llu", rq->body.n, (unsigned long long)rq->size);
        *ret = rq->body;
        return 0;
    }
    int rc = rq->body.n == 0 ? ipc_memfd_check(rq->body_fd, rq->size) : ERR_SYNTAX;
    if (rc != 0)
        return err_set(err, rc, "the message's memory file is not sealed, or not %llu bytes", (unsigned long long)rq->size);
    *ret = SLICE_EMPTY;
    if (rq->size == 0)
        return 0;
    void *p = mmap(NULL, rq->size, PROT_READ, MAP_SHARED, rq->body_fd, 0);
    if (p == MAP_FAILED)
        return err_errno(err, "mapping a message of %llu bytes", (unsigned long long)rq->size);
    *ret_map = p;
    *ret = slice_of(p, rq->size);
    return 0;
}

static int on_inspect(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_inspect *message = request;
    struct m_inspect_reply *answer = reply;
    struct slice body;
    void *map;
    int rc = body_open(message, &map, &body, err);
    if (rc != 0)
        return rc;
    work.max = MIME_ARENA_MAX(body.n);
    rc = inspect_message(role_context()->conf, message, body, &work, rq->arena, answer, err);
    arena_reset(&work);
    if (map != NULL)
        (void)munmap(map, message->size);
    if (rc == 0)
        log_debug("filterd.inspected", L_ID("message", message->message), L_INT("size", message->size),
                  L_INT("verdict", answer->verdict), L_INT("received", answer->received_count), L_INT("meta", answer->meta.n));
    return rc;
}

static int prepare(struct role_context *ctx, struct err *err)
{
    (void)ctx;
    arena_init(&work, MIME_ARENA_MAX(0));
    return inspect_prepare(err);
}

static const struct ipc_handler handlers[] = {
    {IPC_inspect, on_inspect},
    {0, NULL},
};

const struct role_program role_program_filterd = {
    .role = ROLE_FILTERD,
    .handlers = handlers,
    .prepare = prepare,
};
