/* authd: who is this, may they. Holds the account database; never mail, never a private key.
 *
 * Rights: files below its own directory (the database and its log), nothing else; one database thread, a few for Argon2.
 * Peers and what of theirs is trusted: smtpd (asks about recipients) and login (passes names and passwords on) are reached by strangers:
 * their requests are bounded records and may say anything. tlsd tells facts of handshakes. stored obeys our grants. auditd fetches our
 * outbox. Command-line clients come from the supervisor with a user id that the kernel vouched for. */
#include "role/authd/authd.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "io/loop.h"

#define DB_QUEUE_MAX 1000
#define HASH_QUEUE_EACH 64 /* attempts that may wait for each thread: about two seconds of work */
#define TICK_MS 60000
#define LAST_EVENTS_MS 500

static struct authd self; /* the process's state: a permitted global of a role */

struct authd *authd(void)
{
    return &self;
}

/* tls_facts: bound to a connection for SASL mechanisms with channel binding; no mechanism here uses them yet, so they are not kept. */
static int take_tls_facts(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_tls_facts *q = request;
    (void)reply;
    (void)err;
    if (log_on(LOG_DEBUG))
        log_debug("tls.facts", L_ID("conn", q->conn), L_SLICE("version", q->version), L_INT("from", rq->from_instance));
    return 0;
}

static const struct ipc_handler handlers[] = {
    {IPC_rcpt_check, authd_rcpt_check},
    {IPC_auth_password, authd_auth_password},
    {IPC_tls_facts, take_tls_facts},
    {IPC_outbox_fetch, authd_outbox_fetch},
    {IPC_ctl_account_add, authd_account_add},
    {IPC_ctl_account_list, authd_account_list},
    {IPC_ctl_account_set, authd_account_set},
    {IPC_ctl_account_delete, authd_account_delete},
    {IPC_ctl_alias_add, authd_alias_add},
    {IPC_ctl_alias_list, authd_alias_list},
    {IPC_ctl_alias_delete, authd_alias_delete},
    {IPC_ctl_domain_add, authd_domain_add},
    {IPC_ctl_domain_list, authd_domain_list},
    {IPC_ctl_domain_delete, authd_domain_delete},
    {0, NULL},
};

/* ---- settings ---- */

static int make_dummy(struct authd *a, const struct password_params *params, struct err *err)
{
    struct password nobody = {.n = 32};
    rand_bytes(nobody.text, nobody.n);
    int rc = password_hash(&nobody, params, a->dummy);
    return rc == 0 ? 0 : err_set(err, rc, "no memory for a password hash (auth { argon2_memory })");
}

void authd_choose_first_domain(const struct conf *conf)
{
    struct slice first = directory_first_domain(self.directory);
    size_t n;
    if (conf->server_domains.n != 0 && address_canon_domain(slice_str(conf->server_domains.items[0]), self.first_domain, &n) == 0)
        return;
    (void)snprintf(self.first_domain, sizeof(self.first_domain), "%.*s", SLICE_ARG(first));
}

int authd_take_settings(struct authd *a, const struct conf *conf, struct err *err)
{
    struct password_params params = {.memory_kib = (uint32_t)(conf->auth_argon2_memory / 1024), .passes = (uint32_t)conf->auth_argon2_passes};
    int rc = 0;
    if (params.memory_kib != a->params.memory_kib || params.passes != a->params.passes)
        rc = make_dummy(a, &params, err);
    if (rc != 0)
        return rc;
    a->params = params;
    (void)snprintf(a->delimiter, sizeof(a->delimiter), "%s", conf->address_delimiter);
    a->rules = (struct directory_rules){.delimiter = a->delimiter, .first_domain = a->first_domain};
    return 0;
}

/* ---- life ---- */

static int prepare(struct role_context *ctx, struct err *err)
{
    (void)umask(077);
    int rc = directory_new(&self.directory);
    if (rc == 0)
        rc = throttle_new(&self.throttle);
    if (rc == 0)
        rc = auth_cache_new(&self.cache);
    if (rc != 0)
        return err_set(err, rc, "out of memory");
    rc = account_db_open(ctx->state_dir, &self.db, err);
    if (rc == 0)
        rc = account_db_load(self.db, self.directory, err);
    if (rc == 0)
        rc = authd_take_settings(&self, ctx->conf, err);
    if (rc == 0)
        rc = authd_ensure_domains(ctx->conf, err);
    if (rc == 0)
        authd_choose_first_domain(ctx->conf);
    return rc;
}

static int threads(struct role_context *ctx, struct err *err)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = cpus > 0 && cpus < 64 ? (unsigned)cpus : 1;
    (void)ctx;
    int rc = worker_pool_new("authd-db", 1, DB_QUEUE_MAX, &self.db_thread);
    if (rc == 0)
        rc = worker_pool_new("authd-hash", n, (size_t)n * HASH_QUEUE_EACH, &self.hash_threads);
    return rc == 0 ? 0 : err_set(err, rc, "cannot start threads");
}

struct logins {
    struct account_login *items;
    size_t n;
};

static int save_logins(struct account_db *db, void *args, struct err *err)
{
    const struct logins *l = args;
    return account_db_save_logins(db, l->items, l->n, err);
}

/* Times of last logins are worth a write now and then, not one at each login. */
static void MAY_YIELD flush_logins(void)
{
    struct logins l = {.items = calloc(directory_accounts(self.directory) + 1, sizeof(*l.items))};
    struct account *a;
    struct err err = {0};
    if (l.items == NULL)
        return;
    for (size_t pos = 0; (a = directory_next_account(self.directory, &pos)) != NULL;) {
        if (a->login_unsaved)
            l.items[l.n++] = (struct account_login){a->id, a->last_login_ms};
        a->login_unsaved = false;
    }
    if (l.n > 0 && authd_db(save_logins, &l, &err) != 0)
        log_warning("authd.logins_unsaved", L_STR("text", err.text));
    free(l.items);
}

static void tick_fiber(void *arg)
{
    (void)arg;
    auth_cache_sweep(self.cache, clock_mono_ms());
    flush_logins();
    authd_repair();
}

static void on_tick(struct timer *t)
{
    (void)fiber_start("tick", tick_fiber, NULL, NULL);
    timer_set(t, clock_deadline(TICK_MS), on_tick, NULL);
}

static int start(struct role_context *ctx, struct err *err)
{
    (void)ctx;
    (void)err;
    log_info("authd.ready", L_INT("accounts", directory_accounts(self.directory)), L_INT("outbox", account_db_outbox_count(self.db)));
    timer_set(&self.tick, clock_deadline(TICK_MS), on_tick, NULL);
    self.serving = true;
    fiber_wake_all(&self.ready);
    authd_repair();
    return 0;
}

static void on_peer(enum role role, uint64_t instance, uint64_t serial, bool up)
{
    (void)instance;
    (void)serial;
    if (role == ROLE_STORED && up && self.serving && !self.closing)
        authd_repair();
}

static int MAY_YIELD reload(struct role_context *ctx, const struct conf *conf, struct err *err)
{
    (void)ctx;
    int rc = authd_ensure_domains(conf, err);
    if (rc == 0)
        rc = authd_take_settings(&self, conf, err);
    if (rc == 0)
        authd_choose_first_domain(conf);
    return rc;
}

/* What is under way ends, auditd gets a moment to fetch the last events (what it does not fetch now, it fetches after the next start),
 * then the database closes in good order: its log is folded in. */
static void MAY_YIELD stop(struct role_context *ctx, int64_t deadline)
{
    int64_t moment = clock_deadline(LAST_EVENTS_MS);
    (void)ctx;
    if (!self.serving)
        return;
    timer_cancel(&self.tick);
    flush_logins();
    while (account_db_outbox_count(self.db) > 0 && clock_mono_ms() < moment && fiber_sleep_until(clock_deadline(10)) == 0)
        ;
    self.closing = true;
    fiber_wake_all(&self.outbox_more);
    while (ipc_serving() > 1 && clock_mono_ms() < deadline && fiber_sleep_until(clock_deadline(10)) == 0)
        ;
    worker_pool_free(self.hash_threads);
    worker_pool_free(self.db_thread);
    self.hash_threads = self.db_thread = NULL;
    account_db_close(self.db);
    self.db = NULL;
}

const struct role_program role_program_authd = {
    .role = ROLE_AUTHD,
    .handlers = handlers,
    .on_peer = on_peer,
    .prepare = prepare,
    .threads = threads,
    .start = start,
    .reload = reload,
    .stop = stop,
};
