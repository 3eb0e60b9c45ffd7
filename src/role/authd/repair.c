/* Completes accounts whose making or deleting was interrupted, when authd starts and whenever the store comes back. */
#include "base/clock.h"
#include "base/log.h"
#include "role/authd/authd.h"

/* One that is unfinished; false: none. */
static bool find_unfinished(uint64_t above, uint64_t *ret_id)
{
    const struct account *a;
    bool found = false;
    for (size_t pos = 0; (a = directory_next_account(authd()->directory, &pos)) != NULL;) {
        bool unfinished = a->state == ACCOUNT_CREATING || a->state == ACCOUNT_DELETING;
        if (unfinished && a->id > above && (!found || a->id < *ret_id)) {
            *ret_id = a->id;
            found = true;
        }
    }
    return found;
}

static int MAY_YIELD repair_one(uint64_t id, struct err *err)
{
    struct arena arena;
    int rc = authd_lock(clock_deadline(AUTHD_STORED_MS), err);
    if (rc != 0)
        return rc;
    arena_init(&arena, 1 << 20);
    const struct account *a = directory_account(authd()->directory, id);
    if (a != NULL && a->state == ACCOUNT_CREATING)
        rc = authd_activate(id, &arena, err);
    else if (a != NULL && a->state == ACCOUNT_DELETING) {
        const char *address = arena_strdup(&arena, slice_str(a->address));
        rc = address != NULL ? authd_finish_delete(id, address, &arena, err) : -ENOMEM;
    }
    authd_unlock();
    arena_done(&arena);
    return rc;
}

static void repair_fiber(void *arg)
{
    struct err err = {0};
    uint64_t id = 0;
    (void)arg;
    while (!authd()->closing && ipc_peer_find(ROLE_STORED, 0) != NULL && find_unfinished(id, &id)) {
        int rc = repair_one(id, &err);
        if (rc == 0)
            log_info("account.completed", L_INT("account", id));
        else
            log_warning("account.unfinished", L_INT("account", id), L_STR("text", err.text));
    }
    authd()->repairing = false;
}

void authd_repair(void)
{
    if (!authd()->repairing && fiber_start("repair", repair_fiber, NULL, NULL) == 0)
        authd()->repairing = true;
}
