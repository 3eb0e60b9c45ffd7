/* Login by password: the same answer in the same time whether the name exists or not; guessing throttled by account together with
 * network; what was proved is remembered for a while. The password is in the request's memory, wiped by the caller, and in struct
 * attempt, wiped here. */
#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "role/authd/authd.h"

#define GRANT_MS (24 * 60 * 60 * 1000) /* a session's mailbox grant; it ends with the session */

#define WRONG "wrong password"

struct attempt {
    struct password password;
    struct address user;       /* canonical; the name as given, cut, when it is no address */
    char encoded[PASSWORD_ENCODED_SIZE];
    bool known, usable;        /* there is such an account; it has a password */
    uint64_t account, version;
    bool rehash;
    struct password_params params;
    char renewed[PASSWORD_ENCODED_SIZE];
    int rc;
};

/* What stays in the log and the trail; the client is told none of it. */
static void tell(const struct m_auth_password *q, const struct attempt *t, const char *reason)
{
    struct ev_login_refused e = {.service = q->service, .peer = q->peer_ip, .user = address_text(&t->user), .account = t->account,
                                 .reason = slice_str(reason)};
    struct event_head h = {.number = EV_login_refused, .role = ROLE_AUTHD, .time_ms = clock_real_ms(), .conn = q->conn};
    log_info("login.refused", L_ID("conn", q->conn), L_SLICE("peer", q->peer_ip), L_SLICE("user", e.user), L_STR("reason", reason));
    if (strcmp(reason, WRONG) != 0) /* login records that one itself */
        event_send(&h, &e);
}

/* On a hash thread. */
static void check_password(void *arg)
{
    struct attempt *t = arg;
    t->rc = password_verify(&t->password, t->encoded);
    if (t->rc == 0 && t->rehash && password_hash(&t->password, &t->params, t->renewed) != 0)
        t->rehash = false;
}

/* A name without "@" is one of the first domain. */
static void take_user(struct attempt *t, struct slice user)
{
    struct authd *a = authd();
    if (address_canon(user, &t->user) != 0) {
        t->user.local_n = t->user.n = user.n < ADDRESS_LOCAL_MAX ? user.n : ADDRESS_LOCAL_MAX;
        while (t->user.n > 0 && t->user.n < user.n && ((unsigned char)user.p[t->user.n] & 0xc0) == 0x80)
            t->user.n--; /* between characters */
        memcpy(t->user.text, user.p, t->user.n);
        return;
    }
    size_t n = strlen(a->first_domain);
    if (t->user.n == t->user.local_n && n != 0) {
        t->user.text[t->user.n++] = '@';
        memcpy(t->user.text + t->user.n, a->first_domain, n + 1);
        t->user.n += n;
    }
}

static void take_account(struct attempt *t)
{
    struct authd *a = authd();
    const struct account *acc = directory_account_by_address(a->directory, address_text(&t->user));
    t->known = acc != NULL;
    t->usable = acc != NULL && acc->credential != NULL && strlen(acc->credential) < sizeof(t->encoded);
    (void)snprintf(t->encoded, sizeof(t->encoded), "%s", t->usable ? acc->credential : a->dummy);
    if (!t->usable)
        return;
    t->account = acc->id;
    t->version = acc->credential_version;
    t->params = a->params;
    t->rehash = password_outdated(acc->credential, &a->params);
}

struct rehash_args {
    uint64_t account, version;
    const char *encoded;
};

static int save_rehash(struct account_db *db, void *args, struct err *err)
{
    const struct rehash_args *r = args;
    return account_db_rehash(db, r->account, r->encoded, r->version, err);
}

/* The password was right and its hash is of old parameters: keep the new one. Not worth failing a login. */
static void MAY_YIELD renew_hash(const struct attempt *t)
{
    struct rehash_args r = {t->account, t->version, t->renewed};
    struct account *acc;
    if (authd_lock(clock_deadline(1000), NULL) != 0)
        return;
    if (authd_db(save_rehash, &r, NULL) == 0 && (acc = directory_account(authd()->directory, t->account)) != NULL &&
        acc->credential_version == t->version) {
        struct account changed = *acc;
        changed.credential = t->renewed;
        (void)authd_put_account(&changed, NULL);
    }
    authd_unlock();
}

/* Is the password right? Argon2, unless it was proved lately. THROTTLE_UNKNOWN: could not be told. */
static enum throttle_result MAY_YIELD prove(struct attempt *t)
{
    struct authd *a = authd();
    struct slice password = slice_of(t->password.text, t->password.n);
    if (t->usable && auth_cache_check(a->cache, t->account, t->version, password, clock_mono_ms()))
        return THROTTLE_RIGHT;
    if (a->closing || worker_run(a->hash_threads, check_password, t) != 0)
        return THROTTLE_UNKNOWN;
    if (t->rc != 0 && t->rc != ERR_DENIED) {
        log_error("auth.not_checked", L_INT("account", t->account), L_STR("reason", err_name(t->rc)));
        return THROTTLE_UNKNOWN;
    }
    if (t->rc != 0 || !t->usable)
        return THROTTLE_WRONG;
    auth_cache_add(a->cache, t->account, t->version, password, clock_mono_ms(), role_context()->conf->auth_cache);
    if (t->rehash)
        renew_hash(t);
    return THROTTLE_RIGHT;
}

/* The account as it is now, after waiting; NULL with the reason when it may not log in. */
static struct account *admitted(const struct attempt *t, const char **ret_reason)
{
    struct account *acc = directory_account(authd()->directory, t->account);
    if (acc == NULL || acc->credential_version != t->version) {
        *ret_reason = "changed meanwhile";
        return NULL;
    }
    if (acc->state != ACCOUNT_ACTIVE) {
        *ret_reason = account_state_name(acc->state);
        return NULL;
    }
    return acc;
}

/* The mailbox grant for the imapd that serves this account, always the same one. */
static int MAY_YIELD open_mailbox(const struct ipc_request *rq, const struct m_auth_password *q, struct m_auth_password_reply *r)
{
    uint64_t instances = ipc_instances(ROLE_IMAPD);
    r->instance = instances > 0 ? r->account % instances : 0;
    struct m_grant_mailbox request = {.account = r->account, .rights = GRANT_ALL, .holder_role = ROLE_IMAPD,
                                      .holder_instance = r->instance, .conn = q->conn, .lifetime_ms = GRANT_MS};
    struct m_grant_mailbox_reply reply = {0};
    struct err err = {0};
    int rc = authd_ask_stored(IPC_grant_mailbox, rq->trace, rq->deadline, &request, &reply, rq->arena, &err);
    if (rc != 0)
        log_warning("login.no_grant", L_ID("conn", q->conn), L_INT("account", r->account), L_STR("text", err.text));
    r->grant = reply.grant;
    return rc;
}

static enum auth_verdict MAY_YIELD admit(const struct ipc_request *rq, const struct m_auth_password *q, const struct attempt *t,
                                         struct m_auth_password_reply *r)
{
    const char *reason;
    struct account *acc = admitted(t, &reason);
    if (acc == NULL) {
        tell(q, t, reason);
        return AUTH_BAD;
    }
    r->account = acc->id;
    r->address = arena_copy(rq->arena, slice_str(acc->address));
    if (r->address.p == NULL || open_mailbox(rq, q, r) != 0) {
        *r = (struct m_auth_password_reply){.address = SLICE_EMPTY};
        return AUTH_TEMPORARY;
    }
    acc = admitted(t, &reason); /* suspended while the store was asked: the grant was or will be revoked */
    if (acc == NULL) {
        *r = (struct m_auth_password_reply){.address = SLICE_EMPTY};
        tell(q, t, reason);
        return AUTH_BAD;
    }
    acc->last_login_ms = clock_real_ms();
    acc->login_unsaved = true;
    return AUTH_OK;
}

static enum auth_verdict MAY_YIELD judge(const struct ipc_request *rq, const struct m_auth_password *q, struct attempt *t,
                                         struct m_auth_password_reply *r)
{
    unsigned most = (unsigned)role_context()->conf->auth_max_failures;
    struct throttle_pair *pair;
    struct netaddr network = {0};
    (void)netaddr_parse_ip(q->peer_ip, &network);
    int rc = throttle_begin(authd()->throttle, address_text(&t->user), &network, most, rq->deadline, &pair);
    if (rc != 0)
        return rc == -EAGAIN ? AUTH_SLOW : AUTH_TEMPORARY;
    take_account(t);
    enum throttle_result result = prove(t);
    int64_t refused_ms = throttle_end(authd()->throttle, pair, result, most);
    if (result == THROTTLE_RIGHT)
        return admit(rq, q, t, r);
    if (result == THROTTLE_UNKNOWN)
        return AUTH_TEMPORARY;
    tell(q, t, refused_ms > 0 ? "throttled from now on" : !t->known ? "unknown user" : !t->usable ? "no password" : WRONG);
    return AUTH_BAD;
}

int authd_auth_password(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_auth_password *q = request;
    struct m_auth_password_reply *r = reply;
    int rc = authd_wait_ready(rq, err);
    if (rc != 0)
        return rc;
    struct attempt *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return err_set(err, -ENOMEM, "out of memory");
    take_user(t, q->user);
    if (password_prepare(q->password, &t->password) != 0)
        t->password.n = 0; /* wrong for everybody, and checked like any other */
    r->verdict = judge(rq, q, t, r);
    /* Also when there were too many attempts at once: who may try again at once keeps the queue full for everybody. */
    if (r->verdict != AUTH_OK)
        r->delay_ms = (uint64_t)role_context()->conf->auth_failure_delay;
    secret_wipe(t, sizeof(*t));
    free(t);
    return 0;
}
