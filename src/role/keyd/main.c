/* keyd: holds every private key and uses them for others; none ever leaves.
 *
 * Peers: tlsd (certificate chains, handshake signatures, ticket keys), stored (wraps and unwraps the keys at rest). What tlsd asks to be
 * signed is checked for the shape of a TLS handshake (tls/tbs.h): strangers reach tlsd, so a taken tlsd must not be able to have anything else
 * signed. Unwraps are counted and limited (UNWRAP_BURST, UNWRAP_PER_SECOND), so that a taken stored cannot open everything at once
 * unnoticed.
 *
 * Files: its own directory (master.key, selfsigned.*) and the configured certificates, read at start and at reload. */
#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "io/loop.h"
#include "role/keyd/keyd.h"
#include "role/role_main.h"
#include "tls/provider.h"
#include "tls/rest.h"

#define UNWRAP_BURST 20000
#define UNWRAP_PER_SECOND 200
#define RETIRED_MS 5000 /* beyond the longest handshake */
#define REPORT_EVERY_MS 60000
#define KEY_LIST_BYTES (96 * 1024) /* of one reply; IPC_FRAME_MAX is twice that */

static struct {
    struct keyd_keys keys;
    struct keyd_keys retired; /* replaced by a reload: handshakes that began before it still end with them */
    struct keyd_tickets tickets;
    struct rest_master *master;
    struct timer rotation, report, retirement;
    int64_t unwrap_tokens, unwrap_at; /* a token bucket */
    uint64_t unwraps, signatures, refusals; /* since the last report */
    bool serving; /* requests that come before are asked to come again */
} keyd;

static int ready(struct err *err)
{
    return keyd.serving ? 0 : err_set(err, -EBUSY, "keyd is starting");
}

static void tell_tlsd(void)
{
    static const struct m_keys_changed note = {0};
    for (uint64_t i = 0; i < ipc_instances(ROLE_TLSD); i++)
        (void)ipc_note(ROLE_TLSD, i, IPC_keys_changed, (struct id128){{0}}, &note);
}

/* ---- TLS ---- */

static int on_key_list(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_key_list *q = request;
    struct m_key_list_reply *r = reply;
    const struct keyd_keys *k = &keyd.keys;
    size_t bytes = 0, n = 0;
    struct m_key_item *items = arena_array(rq->arena, KEYD_KEYS_MAX, sizeof(*items));
    if (ready(err) != 0)
        return -EBUSY;
    if (items == NULL)
        return err_set(err, -ENOMEM, "out of memory");
    for (size_t i = (size_t)q->first; i < k->n; i++) {
        const struct tls_key *key = k->keys[i];
        bytes += key->chain_pem.n + key->names.n + 64;
        if (n > 0 && bytes > KEY_LIST_BYTES)
            break;
        items[n++] = (struct m_key_item){slice_of(key->id, sizeof(key->id)), i == 0, buf_slice(&key->names), buf_slice(&key->chain_pem)};
    }
    r->keys = (struct record_list){n, items};
    r->total = k->n;
    return 0;
}

static void record_refusal(const struct ipc_request *rq, const char *why)
{
    keyd.refusals++;
    log_warning("keyd.sign_refused", L_INT("instance", rq->from_instance), L_ID("conn", rq->trace), L_STR("reason", why));
    role_alert("keyd.sign_refused", why);
}

static int on_key_sign(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_key_sign *q = request;
    struct m_key_sign_reply *r = reply;
    const char *why = NULL;
    size_t n = 0;
    if (ready(err) != 0)
        return -EBUSY;
    const struct tls_key *key = keyd_keys_find(&keyd.keys, q->key_id);
    if (key == NULL)
        key = keyd_keys_find(&keyd.retired, q->key_id);
    if (key == NULL)
        return err_set(err, ERR_GONE, "no such key (replaced?)");
    uint8_t *sig = arena_alloc(rq->arena, TLS_SIGNATURE_MAX);
    if (sig == NULL)
        return err_set(err, -ENOMEM, "out of memory");
    int rc = tls_key_sign(key, (unsigned)q->scheme, q->tbs, sig, TLS_SIGNATURE_MAX, &n, &why);
    if (rc != 0) {
        record_refusal(rq, why);
        return err_set(err, rc, "%s", why);
    }
    keyd.signatures++;
    r->signature = slice_of(sig, n);
    return 0;
}

static int on_ticket_keys(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    struct m_ticket_keys_reply *r = reply;
    struct m_ticket_key *items = arena_array(rq->arena, KEYD_TICKETS_MAX, sizeof(*items));
    struct keyd_tickets *t = arena_alloc(rq->arena, sizeof(*t)); /* a copy: the reply's secrets are wiped when it is sent */
    (void)request;
    if (ready(err) != 0)
        return -EBUSY;
    if (items == NULL || t == NULL)
        return err_set(err, -ENOMEM, "out of memory");
    *t = keyd.tickets;
    for (size_t i = 0; i < t->n; i++)
        items[i] = (struct m_ticket_key){slice_of(t->keys[i].name, sizeof(t->keys[i].name)), slice_of(t->keys[i].aes, 32),
                                         slice_of(t->keys[i].hmac, 32), (uint64_t)t->keys[i].expires_ms};
    r->keys = (struct record_list){t->n, items};
    r->rotates_ms = (uint64_t)t->rotates_ms;
    return 0;
}

static void on_rotation(struct timer *t)
{
    int64_t period = role_context()->conf->tls_ticket_rotation;
    keyd_tickets_rotate(&keyd.tickets, clock_real_ms(), period);
    timer_set(t, clock_deadline(period), on_rotation, NULL);
    tell_tlsd();
}

/* ---- keys at rest ---- */

static int on_rest_wrap(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_rest_wrap *q = request;
    struct m_rest_wrap_reply *r = reply;
    size_t n = 0;
    if (ready(err) != 0)
        return -EBUSY;
    uint8_t *out = arena_alloc(rq->arena, REST_WRAPPED_MAX);
    int rc = out != NULL ? rest_wrap(keyd.master, q->context, q->key, out, &n) : -ENOMEM;
    if (rc != 0)
        return err_set(err, rc, "the key cannot be wrapped: %s", err_name(rc));
    r->wrapped = slice_of(out, n);
    return 0;
}

/* Counts one unwrap; false when the allowance is used up. */
static bool may_unwrap(void)
{
    int64_t now = clock_mono_ms();
    int64_t earned = (now - keyd.unwrap_at) * UNWRAP_PER_SECOND / 1000;
    if (earned > 0) {
        keyd.unwrap_tokens = keyd.unwrap_tokens + earned > UNWRAP_BURST ? UNWRAP_BURST : keyd.unwrap_tokens + earned;
        keyd.unwrap_at = now;
    }
    if (keyd.unwrap_tokens <= 0)
        return false;
    keyd.unwrap_tokens--;
    keyd.unwraps++;
    return true;
}

static int on_rest_unwrap(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_rest_unwrap *q = request;
    struct m_rest_unwrap_reply *r = reply;
    size_t n = 0;
    if (ready(err) != 0)
        return -EBUSY;
    if (!may_unwrap()) {
        role_alert("keyd.unwrap_limit", "more keys at rest are asked for than the allowance: answered with a delay");
        return err_set(err, -EBUSY, "too many unwraps");
    }
    uint8_t *out = arena_alloc(rq->arena, REST_KEY_MAX);
    int rc = out != NULL ? rest_unwrap(keyd.master, q->context, q->wrapped, out, &n) : -ENOMEM;
    if (rc != 0) {
        log_error("keyd.unwrap_failed", L_SLICE("context", q->context), L_STR("code", err_name(rc)));
        return err_set(err, rc, "the key cannot be unwrapped: %s", err_name(rc));
    }
    r->key = slice_of(out, n);
    return 0;
}

/* ---- life ---- */

static void on_report(struct timer *t)
{
    if (keyd.signatures + keyd.unwraps + keyd.refusals != 0)
        log_info("keyd.used", L_INT("signatures", keyd.signatures), L_INT("unwraps", keyd.unwraps), L_INT("refused", keyd.refusals));
    keyd.signatures = keyd.unwraps = keyd.refusals = 0;
    timer_set(t, clock_deadline(REPORT_EVERY_MS), on_report, NULL);
}

static void log_keys(void)
{
    int64_t now = clock_real_ms();
    for (size_t i = 0; i < keyd.keys.n; i++) {
        const struct tls_key *k = keyd.keys.keys[i];
        log_info("keyd.key", L_SLICE("names", buf_slice(&k->names)), L_INT("days_left", (k->not_after_ms - now) / 86400000));
        if (k->not_after_ms <= now || k->not_before_ms > now)
            role_alert("keyd.certificate_expired", "a certificate is not valid now; clients will refuse it");
    }
}

static int prepare(struct role_context *ctx, struct err *err)
{
    bool made = false;
    OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
    tzset(); /* the C library reads the time zone once: now, while it may */
    int rc = rest_master_open(ctx->state_dir, &keyd.master, &made, err);
    if (rc != 0)
        return rc;
    if (made)
        log_info("keyd.master_key_made");
    rc = keyd_keys_load(&keyd.keys, ctx->state_dir, ctx->conf, err);
    if (rc == 0)
        log_keys();
    return rc;
}

static int start(struct role_context *ctx, struct err *err)
{
    (void)err;
    keyd.unwrap_tokens = UNWRAP_BURST;
    keyd.unwrap_at = clock_mono_ms();
    keyd.serving = true;
    int64_t period = ctx->conf->tls_ticket_rotation;
    keyd_tickets_rotate(&keyd.tickets, clock_real_ms(), period);
    timer_set(&keyd.rotation, clock_deadline(period), on_rotation, NULL);
    timer_set(&keyd.report, clock_deadline(REPORT_EVERY_MS), on_report, NULL);
    tell_tlsd();
    return 0;
}

static void on_retirement(struct timer *t)
{
    (void)t;
    keyd_keys_free(&keyd.retired);
}

/* New files, or the same files with new content. When one of them is wrong, all stays as it was. */
static int reload(struct role_context *ctx, const struct conf *conf, struct err *err)
{
    struct keyd_keys fresh = {0};
    int rc = keyd_keys_load(&fresh, ctx->state_dir, conf, err);
    if (rc != 0)
        return rc;
    keyd_keys_free(&keyd.retired);
    keyd.retired = keyd.keys;
    keyd.keys = fresh;
    timer_set(&keyd.retirement, clock_deadline(conf->tls_handshake_timeout + RETIRED_MS), on_retirement, NULL);
    log_keys();
    tell_tlsd();
    return 0;
}

static void stop(struct role_context *ctx, int64_t deadline)
{
    (void)ctx;
    (void)deadline; /* every request is answered without a wait */
    timer_cancel(&keyd.rotation);
    timer_cancel(&keyd.report);
    timer_cancel(&keyd.retirement);
    secret_wipe(&keyd.tickets, sizeof(keyd.tickets));
}

static const struct ipc_handler handlers[] = {
    {IPC_key_list, on_key_list},   {IPC_key_sign, on_key_sign},       {IPC_ticket_keys, on_ticket_keys},
    {IPC_rest_wrap, on_rest_wrap}, {IPC_rest_unwrap, on_rest_unwrap}, {0, NULL},
};

const struct role_program role_program_keyd = {
    .role = ROLE_KEYD, .handlers = handlers, .prepare = prepare, .start = start, .reload = reload, .stop = stop};
