#include "role/probe.h"

#include <stdlib.h>

#include "base/log.h"
#include "sandbox/sandbox.h"

/* argument: "<path of another role's file> <pid of another role>". value: attempts that succeeded; text names them. */
static int break_out(enum role role, struct ipc_request *rq, const struct m_probe *q, struct m_probe_reply *reply, struct err *err)
{
    struct slice rest = q->argument, path = slice_cut(&rest, ' ');
    uint64_t pid;
    unsigned tried = 0;
    char *text = arena_alloc(rq->arena, IPC_TEXT_MAX), *victim = arena_strdup(rq->arena, path);
    if (text == NULL || victim == NULL || !slice_to_u64(rest, &pid) || pid == 0 || pid > INT32_MAX)
        return err_set(err, -EINVAL, "break-out wants a path and a process id");
    reply->value = sandbox_try_to_break_out(role, victim, (int)pid, text, IPC_TEXT_MAX, &tried);
    if (text[0] == '\0')
        (void)snprintf(text, IPC_TEXT_MAX, "%u attempts, none succeeded; %u were stopped by seccomp", tried, sandbox_denied_count());
    reply->text = slice_str(text);
    return 0;
}

static int crash(enum role role, struct ipc_request *rq, const struct m_probe *q, struct m_probe_reply *reply, struct err *err)
{
    (void)role;
    (void)rq;
    (void)q;
    (void)reply;
    (void)err;
    abort();
}

static int stack_peak(enum role role, struct ipc_request *rq, const struct m_probe *q, struct m_probe_reply *reply, struct err *err)
{
    (void)role;
    (void)rq;
    (void)q;
    (void)err;
    reply->value = fiber_stack_peak();
    return 0;
}

static const struct {
    struct slice what;
    int (*fn)(enum role role, struct ipc_request *rq, const struct m_probe *q, struct m_probe_reply *reply, struct err *err);
} probes[] = {
    {{"break-out", 9}, break_out},
    {{"crash", 5}, crash},
    {{"stack-peak", 10}, stack_peak},
};

int role_probe(enum role role, struct ipc_request *rq, const struct m_probe *request, struct m_probe_reply *reply, struct err *err)
{
    for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++)
        if (slice_eq(request->what, probes[i].what))
            return probes[i].fn(role, rq, request, reply, err);
    return err_set(err, -ENOENT, "no such probe");
}
