/* authd.h: the parts of the role that answers "who is this, may they": shared by its files only.
 *
 * Answers come from the directory in memory, on the loop's thread. Changes go through the one database thread, one at a time
 * (authd_lock), and reach the directory when they are committed. */
#ifndef KK_ROLE_AUTHD_AUTHD_H
#define KK_ROLE_AUTHD_AUTHD_H

#include "account/auth_cache.h"
#include "account/db.h"
#include "account/directory.h"
#include "account/password.h"
#include "account/throttle.h"
#include "io/loop.h"
#include "io/worker.h"
#include "role/role_main.h"
#include "trail/event.h"

#define AUTHD_STORED_MS 15000 /* wait for an answer of stored */

struct authd {
    struct account_db *db;
    struct directory *directory;
    struct worker_pool *db_thread;    /* exactly one: it alone touches db after start */
    struct worker_pool *hash_threads;
    struct throttle *throttle;
    struct auth_cache *cache;
    struct directory_rules rules;
    char first_domain[ADDRESS_DOMAIN_MAX + 1], delimiter[2];
    struct password_params params;
    char dummy[PASSWORD_ENCODED_SIZE]; /* of nobody, under the same parameters */
    struct fiber_queue outbox_more, unlocked;
    bool locked, repairing;
    struct fiber_queue ready;
    bool serving; /* prepared: peers may ask before that */
    bool closing; /* the database is about to be closed: nothing new */
    struct timer tick;
};
struct authd *authd(void);

/* Peers are connected before this role is prepared: every handler waits for it first. 0, or when it takes too long -ETIMEDOUT. */
int MAY_YIELD authd_wait_ready(const struct ipc_request *rq, struct err *err);

/* Runs fn on the database thread. -EBUSY when too many wait. */
typedef int authd_db_fn(struct account_db *db, void *args, struct err *err);
int MAY_YIELD authd_db(authd_db_fn *fn, void *args, struct err *err);
/* One change at a time, from reading what it depends on to the directory. 0 or -ETIMEDOUT, -ECANCELED. */
int MAY_YIELD authd_lock(int64_t deadline, struct err *err);
void authd_unlock(void);
/* The encoding of an event that happens now, in the arena. */
int authd_event(enum event_number number, const void *record, struct arena *arena, struct slice *ret, struct err *err);
/* A call to stored, with the code and sentence for a person when it does not answer. */
int MAY_YIELD authd_ask_stored(enum ipc_number number, struct id128 trace, int64_t deadline, const void *request, void *reply,
                               struct arena *arena, struct err *err);
/* A copy of the account with one thing changed goes into the directory. */
int authd_put_account(const struct account *a, struct err *err);

/* Completes what a crash or an absent store left half done: accounts being made or deleted. Starts a fiber; at most one runs. */
void authd_repair(void);
int MAY_YIELD authd_activate(uint64_t id, struct arena *arena, struct err *err); /* locked; state creating */
int MAY_YIELD authd_finish_delete(uint64_t id, const char *address, struct arena *arena, struct err *err); /* locked; state deleting */

/* Adds the domains of the configuration that are not there. Works before there are threads (then outside of fibers), too. */
int MAY_YIELD authd_ensure_domains(const struct conf *conf, struct err *err);

/* The domain that a bare "postmaster" or user name means: the configuration's first, or else the directory's. */
void authd_choose_first_domain(const struct conf *conf);

/* Settings that a reload may change. */
int authd_take_settings(struct authd *a, const struct conf *conf, struct err *err);

ipc_handler_fn authd_rcpt_check, authd_auth_password, authd_outbox_fetch;
ipc_handler_fn authd_account_add, authd_account_list, authd_account_set, authd_account_delete;
ipc_handler_fn authd_alias_add, authd_alias_list, authd_alias_delete;
ipc_handler_fn authd_domain_add, authd_domain_list, authd_domain_delete;

/* For the handlers of command-line requests: may this client do that, and who is it in the trail. */
int MAY_YIELD authd_may_administer(const struct ipc_request *rq, struct err *err);
struct slice authd_actor(const struct ipc_request *rq);
/* The outbox is the bound on changes: without a trail there is no unrecorded change. ERR_READONLY. */
int MAY_YIELD authd_may_change(const struct ipc_request *rq, struct err *err);

#endif
