/* tlsd: all TLS. Takes a raw connection, makes the handshake in a fiber, gives back a plain stream and the facts, then relays between the
 * two without a fiber (tls/relay.h).
 *
 * Peers: smtpd and login hand in connections, imapd is told how the streams that moved on to it end, keyd has the private keys, authd gets
 * the facts that decide something. It opens nothing. Everything that a client sends is read by OpenSSL here and nowhere else. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/secret.h"
#include "role/role_main.h"
#include "role/tlsd/tlsd.h"
#include "tls/handshake.h"
#include "tls/relay.h"

#define HANDSHAKES_MAX 4000   /* fibers: about 16 KiB each while they last */
#define CONNECTIONS_MAX 50000

struct conn {
    struct id128 id;
    enum role owner;
    uint64_t owner_instance;
    struct tls_relay *relay;
};

static struct {
    struct map conns; /* by id */
    size_t n_handshakes, n_conns;
} tlsd;

/* ---- the relay's events ---- */

static void on_ended(void *arg, const struct tls_relay_end *end)
{
    const struct conn *c = arg;
    struct m_tls_ended note = {c->id, end->reason, end->alert, end->bytes_in, end->bytes_out};
    (void)ipc_note(c->owner, c->owner_instance, IPC_tls_ended, c->id, &note);
    log_debug("tlsd.ended", L_ID("conn", c->id), L_INT("reason", end->reason), L_INT("alert", end->alert), L_INT("in", end->bytes_in),
              L_INT("out", end->bytes_out));
}

static void on_gone(void *arg)
{
    struct conn *c = arg;
    if (map_get(&tlsd.conns, MAP_KEY(c->id)) == c)
        (void)map_del(&tlsd.conns, MAP_KEY(c->id));
    tlsd.n_conns--;
    free(c);
}

static const struct tls_relay_events relay_events = {on_ended, on_gone};

/* ---- accepting ---- */

static void tell_authd(struct id128 id, const struct tls_facts *f)
{
    struct m_tls_facts note = {.conn = id, .version = slice_str(f->version)};
    if (!f->has_exporter)
        return;
    note.exporter = slice_of(f->exporter, sizeof(f->exporter));
    (void)ipc_note(ROLE_AUTHD, IPC_ANY, IPC_tls_facts, id, &note);
}

static int fill_reply(struct m_tls_accept_reply *r, const struct tls_facts *f, struct arena *arena)
{
    r->version = slice_str(f->version);
    r->cipher = slice_str(f->cipher);
    r->group = slice_str(f->group);
    r->sni = arena_copy(arena, slice_str(f->sni));
    r->alpn = arena_copy(arena, slice_str(f->alpn));
    r->bits = f->bits;
    r->resumed = f->resumed;
    return r->sni.p != NULL && r->alpn.p != NULL ? 0 : -ENOMEM;
}

/* The connection from now on. Takes ssl and raw over. */
static int begin_relay(const struct ipc_request *rq, struct id128 id, SSL *ssl, int raw, int *ret_plain)
{
    int pair[2];
    struct conn *c = calloc(1, sizeof(*c));
    int rc = c != NULL ? 0 : -ENOMEM;
    if (rc == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        rc = -errno;
    if (rc != 0) {
        free(c);
        SSL_free(ssl);
        (void)close(raw);
        return rc;
    }
    *c = (struct conn){.id = id, .owner = rq->from, .owner_instance = rq->from_instance};
    rc = tls_relay_start(ssl, raw, pair[0], &relay_events, c, &c->relay);
    if (rc != 0) {
        free(c);
        (void)close(pair[1]);
        return rc;
    }
    tlsd.n_conns++;
    /* Without its entry a stream cannot move on, but it works. An id that is there already is a bug of the peer: the first keeps it. */
    if (map_get(&tlsd.conns, MAP_KEY(c->id)) == NULL)
        (void)map_put(&tlsd.conns, MAP_KEY(c->id), c, NULL);
    *ret_plain = pair[1];
    return 0;
}

static int MAY_YIELD handshake(const struct m_tls_accept *q, int raw, int64_t deadline, SSL **ret, struct err *err)
{
    struct tls_server *server = NULL;
    int rc = tlsd_keys_get(deadline, &server);
    if (rc != 0)
        return err_set(err, rc, "no certificates yet");
    SSL *ssl = tls_server_ssl(server, raw, q->proto);
    rc = ssl != NULL ? tls_handshake(ssl, raw, q->conn, deadline, err) : err_set(err, -EINVAL, "no such protocol, or no memory");
    tls_server_unref(server);
    if (rc != 0) {
        log_debug("tlsd.handshake_failed", L_ID("conn", q->conn), L_SLICE("peer", q->peer_ip), L_SLICE("proto", q->proto),
                 L_STR("reason", err != NULL ? err->text : ""));
        SSL_free(ssl);
        return rc;
    }
    *ret = ssl;
    return 0;
}

static int64_t handshake_deadline(const struct ipc_request *rq)
{
    int64_t ours = clock_deadline(role_context()->conf->tls_handshake_timeout);
    return rq->deadline < ours ? rq->deadline : ours;
}

static int MAY_YIELD on_accept(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    static const int one = 1;
    struct m_tls_accept *q = request;
    struct m_tls_accept_reply *r = reply;
    struct tls_facts facts;
    SSL *ssl = NULL;
    int raw = q->raw;
    if (raw < 0)
        return err_set(err, ERR_SYNTAX, "no descriptor");
    if (role_context()->stopping || tlsd.n_handshakes >= HANDSHAKES_MAX || tlsd.n_conns >= CONNECTIONS_MAX)
        return err_set(err, -EBUSY, "too many TLS connections");
    q->raw = -1;
    (void)setsockopt(raw, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    tlsd.n_handshakes++;
    int rc = handshake(q, raw, handshake_deadline(rq), &ssl, err);
    tlsd.n_handshakes--;
    if (rc != 0) {
        (void)close(raw);
        return rc;
    }
    tls_handshake_facts(ssl, &facts);
    tell_authd(q->conn, &facts);
    rc = fill_reply(r, &facts, rq->arena);
    secret_wipe(facts.exporter, sizeof(facts.exporter));
    if (rc == 0)
        return begin_relay(rq, q->conn, ssl, raw, &r->plain);
    SSL_free(ssl);
    (void)close(raw);
    return rc;
}

static int on_owner(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_tls_owner *q = request;
    struct conn *c = map_get(&tlsd.conns, MAP_KEY(q->conn));
    (void)reply;
    /* Gone meanwhile: the new owner sees the end of the stream. */
    if (c == NULL)
        return 0;
    if (c->owner != rq->from || c->owner_instance != rq->from_instance)
        return err_set(err, ERR_DENIED, "not the owner of that connection");
    c->owner = ROLE_IMAPD;
    c->owner_instance = q->instance;
    return 0;
}

static int on_keys_changed(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    (void)rq;
    (void)request;
    (void)reply;
    (void)err;
    tlsd_keys_refresh();
    return 0;
}

/* ---- life ---- */

static void on_peer(enum role role, uint64_t instance, uint64_t serial, bool up)
{
    (void)instance;
    (void)serial;
    if (role == ROLE_KEYD && up)
        tlsd_keys_refresh();
}

static int prepare(struct role_context *ctx, struct err *err)
{
    map_init(&tlsd.conns);
    return tlsd_keys_init(ctx->conf, err);
}

static int MAY_YIELD start(struct role_context *ctx, struct err *err)
{
    (void)ctx;
    (void)err;
    /* Does not wait: keyd may be starting too. Handshakes wait for it. */
    tlsd_keys_refresh();
    return 0;
}

static int reload(struct role_context *ctx, const struct conf *conf, struct err *err)
{
    (void)ctx;
    return tlsd_keys_reload(conf, err);
}

static void MAY_YIELD stop(struct role_context *ctx, int64_t deadline)
{
    (void)ctx;
    /* The owners end the sessions; their streams are carried to the end here. */
    while (tlsd.n_handshakes + tlsd.n_conns > 0 && clock_mono_ms() < deadline)
        if (fiber_sleep_until(clock_deadline(20)) != 0)
            return;
}

static const struct ipc_handler handlers[] = {
    {IPC_tls_accept, on_accept}, {IPC_tls_owner, on_owner}, {IPC_keys_changed, on_keys_changed}, {0, NULL}};

const struct role_program role_program_tlsd = {
    .role = ROLE_TLSD, .handlers = handlers, .on_peer = on_peer, .prepare = prepare, .start = start, .reload = reload, .stop = stop};
