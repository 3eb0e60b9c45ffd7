/* What tlsd knows of keyd: certificates, ticket keys, and how to have something signed. */
#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "io/loop.h"
#include "ipc/ipc.h"
#include "role/tlsd/tlsd.h"
#include "tls/bio.h"
#include "tls/handshake.h"
#include "tls/provider.h"

#define ASK_MS 10000
#define RETRY_MS 500
#define SIGN_RETRY_MS 50
#define ASK_ARENA (8 * 1024 * 1024)

static struct {
    const struct tls_policy *policy;
    int64_t session_ms;
    struct tls_server *server; /* NULL until keyd has answered */
    struct ticket_keys tickets;
    struct fiber_queue ready;  /* waits for the first server */
    struct timer refresh;
    bool refreshing, again;
} tlsd;

/* ---- signatures ---- */

static bool passes(int rc)
{
    /* keyd is being restarted or has too much to do. A signature has no effect, so asking again is harmless. */
    return rc == -ENOTCONN || rc == -ECONNRESET || rc == -EBUSY;
}

static int MAY_YIELD sign(const uint8_t key_id[TLS_KEY_ID_SIZE], unsigned scheme, struct slice tbs, uint8_t *sig, size_t cap, size_t *ret_n)
{
    struct tls_work work = *tls_handshake_work();
    struct arena arena;
    struct m_key_sign q = {.key_id = slice_of(key_id, TLS_KEY_ID_SIZE), .scheme = scheme, .tbs = tbs};
    struct m_key_sign_reply r;
    int rc;
    arena_init(&arena, 16384);
    struct ipc_call c = {.trace = work.conn, .deadline = work.deadline, .arena = &arena};
    while (passes(rc = ipc_call(ROLE_KEYD, IPC_ANY, IPC_key_sign, &c, &q, &r, NULL)) && clock_mono_ms() < work.deadline)
        if (fiber_sleep_until(clock_deadline(SIGN_RETRY_MS)) != 0)
            break;
    if (rc == 0 && r.signature.n > cap)
        rc = ERR_LIMIT;
    if (rc == 0) {
        memcpy(sig, r.signature.p, r.signature.n);
        *ret_n = r.signature.n;
    } else {
        log_warning("tlsd.not_signed", L_ID("conn", work.conn), L_STR("reason", err_name(rc)));
    }
    arena_done(&arena);
    return rc;
}

/* ---- asking keyd ---- */

static int add_keys(struct tls_server *s, const struct m_key_list_reply *r, struct err *err)
{
    for (size_t i = 0; i < r->keys.n; i++) {
        const struct m_key_item *k = RECORD_ITEM(r->keys, m_key_item, i);
        int rc = tls_server_add(s, k->names, k->chain_pem, k->is_default != 0, err);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int MAY_YIELD fetch_keys(struct tls_server *s, struct err *err)
{
    struct arena arena;
    uint64_t first = 0, total = 1;
    int rc = 0;
    arena_init(&arena, ASK_ARENA);
    while (rc == 0 && first < total) {
        struct ipc_call c = {.deadline = clock_deadline(ASK_MS), .arena = &arena};
        struct m_key_list q = {.first = first};
        struct m_key_list_reply r;
        rc = ipc_call(ROLE_KEYD, IPC_ANY, IPC_key_list, &c, &q, &r, err);
        if (rc == 0)
            rc = r.keys.n != 0 ? add_keys(s, &r, err) : err_set(err, ERR_GONE, "keyd has no more keys");
        if (rc == 0) {
            first += r.keys.n;
            total = r.total;
        }
    }
    arena_done(&arena);
    return rc;
}

static int MAY_YIELD refresh_keys(struct err *err)
{
    struct tls_server *s;
    int rc = tls_server_new(tlsd.policy, &tlsd.tickets, tlsd.session_ms, &s, err);
    if (rc != 0)
        return rc;
    rc = fetch_keys(s, err);
    if (rc != 0) {
        tls_server_unref(s);
        return rc;
    }
    tls_server_unref(tlsd.server);
    tlsd.server = s;
    log_info("tlsd.certificates", L_INT("count", tls_server_keys(s)), L_STR("policy", tlsd.policy->name));
    fiber_wake_all(&tlsd.ready);
    return 0;
}

static void take_tickets(const struct m_ticket_keys_reply *r)
{
    struct ticket_key keys[TICKET_KEYS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < r->keys.n && n < TICKET_KEYS_MAX; i++) {
        const struct m_ticket_key *k = RECORD_ITEM(r->keys, m_ticket_key, i);
        if (k->name.n != TICKET_NAME_SIZE || k->aes.n != 32 || k->hmac.n != 32)
            continue;
        memcpy(keys[n].name, k->name.p, TICKET_NAME_SIZE);
        memcpy(keys[n].aes, k->aes.p, 32);
        memcpy(keys[n].hmac, k->hmac.p, 32);
        keys[n++].expires_ms = (int64_t)k->expires_ms;
    }
    ticket_keys_set(&tlsd.tickets, keys, n);
    secret_wipe(keys, sizeof(keys));
}

static int MAY_YIELD refresh_tickets(int64_t *ret_next, struct err *err)
{
    struct arena arena;
    struct m_ticket_keys q = {0};
    struct m_ticket_keys_reply r;
    arena_init(&arena, 65536);
    struct ipc_call c = {.deadline = clock_deadline(ASK_MS), .arena = &arena};
    int rc = ipc_call(ROLE_KEYD, IPC_ANY, IPC_ticket_keys, &c, &q, &r, err);
    if (rc == 0) {
        take_tickets(&r);
        int64_t left = (int64_t)r.rotates_ms - clock_real_ms();
        *ret_next = clock_deadline(left < 1000 ? 1000 : left + 1000);
        record_wipe(&record_m_ticket_keys_reply, &r);
    }
    arena_done(&arena);
    return rc;
}

static void on_refresh(struct timer *t)
{
    (void)t;
    tlsd_keys_refresh();
}

static void refresh(void *arg)
{
    (void)arg;
    do {
        struct err err = {0};
        int64_t next = clock_deadline(RETRY_MS);
        tlsd.again = false;
        int rc = refresh_keys(&err);
        if (rc == 0)
            rc = refresh_tickets(&next, &err);
        if (rc != 0)
            log_warning("tlsd.keyd_unavailable", L_STR("text", err.text[0] != '\0' ? err.text : err_name(rc)));
        /* keyd tells of changes; the timer is for a note that was lost. */
        timer_set(&tlsd.refresh, next, on_refresh, NULL);
    } while (tlsd.again);
    tlsd.refreshing = false;
}

void tlsd_keys_refresh(void)
{
    if (tlsd.policy == NULL)
        return; /* peers come before prepare() */
    tlsd.again = true;
    if (tlsd.refreshing)
        return;
    tlsd.refreshing = fiber_start("tlsd keys", refresh, NULL, NULL) == 0;
    if (!tlsd.refreshing)
        timer_set(&tlsd.refresh, clock_deadline(RETRY_MS), on_refresh, NULL);
}

/* ---- for the connections ---- */

static int use(const struct conf *conf, struct err *err)
{
    const struct tls_policy *p = tls_policy_find(slice_str(conf->tls_policy));
    if (p == NULL)
        return err_set(err, ERR_CONFIG, "tls.policy: there is no policy \"%s\" (cryptrec, modern, compatible)", conf->tls_policy);
    tlsd.policy = p;
    tlsd.session_ms = conf->tls_ticket_rotation;
    return 0;
}

int tlsd_keys_init(const struct conf *conf, struct err *err)
{
    tzset(); /* the C library reads the time zone once: now, while it may */
    fiber_queue_init(&tlsd.ready);
    int rc = use(conf, err);
    if (rc == 0)
        rc = tls_provider_init(sign, err);
    return rc == 0 ? tls_bio_init() : rc;
}

int tlsd_keys_reload(const struct conf *conf, struct err *err)
{
    int rc = use(conf, err);
    if (rc == 0)
        tlsd_keys_refresh();
    return rc;
}

int MAY_YIELD tlsd_keys_get(int64_t deadline, struct tls_server **ret)
{
    while (tlsd.server == NULL) {
        int rc = fiber_wait(&tlsd.ready, deadline);
        if (rc != 0)
            return rc;
    }
    *ret = tls_server_ref(tlsd.server);
    return 0;
}
