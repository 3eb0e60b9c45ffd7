/* keys.c: the store's keys are wrapped by the top key, which only keyd has: each operation is a call to keyd. When keyd is being
 * restarted it is asked again: both operations change nothing there. */
#include <string.h>

#include "base/clock.h"
#include "base/secret.h"
#include "role/stored/stored.h"

static bool worth_another_try(int rc)
{
    return rc == -ENOTCONN || rc == -ECONNRESET || rc == -EBUSY || rc == -EAGAIN;
}

static int MAY_YIELD ask_keyd(enum ipc_number number, struct arena *arena, const void *request, void *reply, struct err *err)
{
    struct ipc_call c = {.trace = id_new(), .deadline = clock_deadline(STORED_KEYD_MS), .arena = arena};
    int rc;
    while ((rc = ipc_call(ROLE_KEYD, 0, number, &c, request, reply, err)) < 0 && worth_another_try(rc)) {
        int64_t again = clock_deadline(200);
        if (again >= c.deadline || fiber_sleep_until(again) < 0)
            break;
    }
    return rc;
}

static int MAY_YIELD wrap(void *arg, const char *context, const uint8_t key[KEYS_SIZE], uint8_t ret[KEYS_WRAPPED_MAX], size_t *ret_n,
                          struct err *err)
{
    struct arena arena;
    struct m_rest_wrap q = {.context = slice_str(context), .key = slice_of(key, KEYS_SIZE)};
    struct m_rest_wrap_reply r;
    (void)arg;
    arena_init(&arena, 65536);
    int rc = ask_keyd(IPC_rest_wrap, &arena, &q, &r, err);
    if (rc == 0 && (r.wrapped.n == 0 || r.wrapped.n > KEYS_WRAPPED_MAX))
        rc = err_set(err, ERR_SYNTAX, "keyd gave a wrapped key of %zu bytes", r.wrapped.n);
    if (rc == 0) {
        memcpy(ret, r.wrapped.p, r.wrapped.n);
        *ret_n = r.wrapped.n;
    }
    arena_done(&arena);
    return rc;
}

static int MAY_YIELD unwrap(void *arg, const char *context, struct slice wrapped, uint8_t ret_key[KEYS_SIZE], struct err *err)
{
    struct arena arena;
    struct m_rest_unwrap q = {.context = slice_str(context), .wrapped = wrapped};
    struct m_rest_unwrap_reply r = {0};
    (void)arg;
    arena_init(&arena, 65536);
    int rc = ask_keyd(IPC_rest_unwrap, &arena, &q, &r, err);
    if (rc == 0 && r.key.n != KEYS_SIZE)
        rc = err_set(err, ERR_SYNTAX, "keyd gave a key of %zu bytes", r.key.n);
    if (rc == 0)
        memcpy(ret_key, r.key.p, KEYS_SIZE);
    if (r.key.n != 0)
        record_wipe(&record_m_rest_unwrap_reply, &r);
    arena_done(&arena);
    return rc;
}

struct store_key_ops stored_key_ops(void)
{
    return (struct store_key_ops){.wrap = wrap, .unwrap = unwrap};
}
