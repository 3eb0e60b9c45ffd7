/* The relay: see relay.h. Readiness is edge-triggered: a flag says that a direction may be tried; EAGAIN clears it. */
#include "tls/relay.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/loop.h"
#include "tls/bio.h"
#include "tls/server.h"

#define TURN_CHUNKS 16 /* read from each side before others have their turn */

/* What could not be sent at once. */
struct pending {
    char *p; /* NULL: nothing */
    size_t at, n;
};

struct side {
    struct watch watch;
    bool can_read, can_write;
    bool hung_up;        /* an end of input is on its way: read until it comes, whatever a short read says */
    bool input_over;
    struct pending out;  /* for this side */
};

enum phase { RELAYING, LINGERING };

struct tls_relay {
    struct side net, plain;
    SSL *ssl;             /* NULL when lingering */
    struct deferred again;
    struct timer timer;
    int64_t progress_at;  /* the peer last took bytes */
    enum phase phase;
    bool net_broken;      /* no more TLS on it: not even an alert */
    bool plain_gone;      /* the owner closed: nothing can be given to it */
    bool plain_shut;      /* our half-close of the plain end is done */
    bool notify_sent;     /* our close_notify is out */
    bool read_wants_write, told;
    const struct tls_relay_events *events;
    void *arg;
    struct tls_relay_end end;
};

static char scratch[TLS_RELAY_CHUNK]; /* of the process: in use only within one call of pump */

static void pump(struct tls_relay *r);

static bool waiting(const struct pending *p)
{
    return p->p != NULL;
}

static void drop(struct pending *p)
{
    free(p->p);
    *p = (struct pending){NULL, 0, 0};
}

static bool keep(struct pending *p, const char *bytes, size_t n)
{
    p->p = malloc(n);
    if (p->p == NULL)
        return false;
    memcpy(p->p, bytes, n);
    p->at = 0;
    p->n = n;
    return true;
}

static void tell(struct tls_relay *r, enum tls_end reason)
{
    if (r->told)
        return;
    r->told = true;
    r->end.reason = reason;
    r->end.alert = reason == TLS_END_ALERT && r->ssl != NULL ? tls_ssl_alert(r->ssl) : 0;
    r->events->ended(r->arg, &r->end);
}

static void free_ssl(struct tls_relay *r)
{
    if (r->ssl == NULL)
        return;
    ERR_clear_error();
    SSL_free(r->ssl);
    r->ssl = NULL;
}

static void close_side(struct side *s)
{
    int fd = s->watch.fd;
    drop(&s->out);
    if (s->watch.fn == NULL)
        return;
    watch_del(&s->watch);
    (void)close(fd);
}

static void destroy(struct tls_relay *r)
{
    tell(r, TLS_END_LOCAL);
    loop_defer_cancel(&r->again);
    timer_cancel(&r->timer);
    free_ssl(r);
    close_side(&r->net);
    close_side(&r->plain);
    r->events->gone(r->arg);
    free(r);
}

void tls_relay_cut(struct tls_relay *r)
{
    destroy(r);
}

/* ---- timers ---- */

static int64_t patience(const struct tls_relay *r)
{
    if (r->phase == LINGERING)
        return TLS_LINGER_MS;
    return r->plain_gone ? TLS_CLOSE_MS : TLS_STALL_MS;
}

static void on_timer(struct timer *t)
{
    struct tls_relay *r = t->arg;
    int64_t at = r->progress_at + patience(r);
    bool needed = r->phase == LINGERING || r->plain_gone || waiting(&r->net.out);
    if (!needed)
        return;
    if (at > clock_mono_ms()) {
        timer_set(&r->timer, at, on_timer, r);
        return;
    }
    tell(r, TLS_END_TIMEOUT);
    destroy(r);
}

static void need_timer(struct tls_relay *r)
{
    int64_t at = r->progress_at + patience(r);
    if (r->timer.heap_index == 0 || r->timer.at > at)
        timer_set(&r->timer, at, on_timer, r);
}

/* ---- from the plain end to the peer ---- */

static void net_failed(struct tls_relay *r)
{
    /* A fatal alert, received or sent, is told as one; anything else is a connection that broke. */
    r->net_broken = true;
    r->net.input_over = true;
    drop(&r->net.out);
    tell(r, tls_ssl_alert(r->ssl) != 0 ? TLS_END_ALERT : TLS_END_TRUNCATED);
    ERR_clear_error();
}

/* Bytes taken by the peer's side: > 0, 0 when it must wait, < 0 when it is broken. */
static int write_net(struct tls_relay *r, const char *p, size_t n)
{
    ERR_clear_error();
    int took = SSL_write(r->ssl, p, (int)n);
    if (took > 0) {
        r->end.bytes_out += (uint64_t)took;
        r->progress_at = clock_mono_ms();
        return took;
    }
    switch (SSL_get_error(r->ssl, took)) {
    case SSL_ERROR_WANT_WRITE: r->net.can_write = false; return 0;
    case SSL_ERROR_WANT_READ: r->net.can_read = false; return 0;
    default: net_failed(r); return -1;
    }
}

static void send_net(struct tls_relay *r, const char *p, size_t n)
{
    size_t at = 0;
    while (at < n) {
        int took = write_net(r, p + at, n - at);
        if (took < 0)
            return;
        if (took == 0)
            break;
        at += (size_t)took;
    }
    if (at == n)
        return;
    if (!keep(&r->net.out, p + at, n - at)) {
        net_failed(r);
        return;
    }
    r->progress_at = clock_mono_ms();
    need_timer(r);
}

static bool flush_net(struct tls_relay *r)
{
    struct pending *o = &r->net.out;
    if (!waiting(o) || !r->net.can_write)
        return false;
    int took = write_net(r, o->p + o->at, o->n - o->at);
    if (took <= 0)
        return false;
    o->at += (size_t)took;
    if (o->at == o->n)
        drop(o);
    return true;
}

static void plain_went(struct tls_relay *r)
{
    r->plain_gone = true;
    drop(&r->plain.out);
    need_timer(r);
}

static bool read_plain(struct tls_relay *r)
{
    struct side *s = &r->plain;
    if (!s->can_read || s->input_over || waiting(&r->net.out))
        return false;
    ssize_t n = recv(s->watch.fd, scratch, sizeof(scratch), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        s->can_read = errno == EINTR;
        return errno == EINTR;
    }
    if (n <= 0) {
        s->input_over = true;
        return true;
    }
    /* A short read means that nothing is left (epoll(7)), unless the end itself is still to be read. */
    s->can_read = (size_t)n == sizeof(scratch) || s->hung_up;
    if (!r->net_broken)
        send_net(r, scratch, (size_t)n);
    return true;
}

/* ---- from the peer to the plain end ---- */

/* Bytes taken; 0 when it must wait or is gone. */
static size_t write_plain(struct tls_relay *r, const char *p, size_t n)
{
    ssize_t took;
    do
        took = send(r->plain.watch.fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (took < 0 && errno == EINTR);
    if (took >= 0)
        return (size_t)took;
    r->plain.can_write = false;
    if (errno != EAGAIN && errno != ENOBUFS)
        plain_went(r);
    return 0;
}

static void send_plain(struct tls_relay *r, const char *p, size_t n)
{
    size_t at = 0;
    while (at < n) {
        size_t took = write_plain(r, p + at, n - at);
        if (took == 0)
            break;
        at += took;
    }
    /* Without memory for the rest the stream is broken; the owner sees it end. */
    if (at < n && !r->plain_gone && !keep(&r->plain.out, p + at, n - at))
        net_failed(r);
}

static bool flush_plain(struct tls_relay *r)
{
    struct pending *o = &r->plain.out;
    if (!waiting(o) || !r->plain.can_write)
        return false;
    size_t took = write_plain(r, o->p + o->at, o->n - o->at);
    if (took == 0)
        return false;
    o->at += took;
    if (o->at == o->n)
        drop(o);
    return true;
}

/* No data came: why. False: nothing more now. */
static bool net_gave_nothing(struct tls_relay *r, int result)
{
    switch (SSL_get_error(r->ssl, result)) {
    case SSL_ERROR_WANT_READ: r->net.can_read = false; return false;
    case SSL_ERROR_WANT_WRITE:
        r->net.can_write = false;
        r->read_wants_write = true;
        return false;
    case SSL_ERROR_ZERO_RETURN:
        r->net.input_over = true;
        tell(r, tls_bio_eof(SSL_get_rbio(r->ssl)) ? TLS_END_TRUNCATED : TLS_END_CLOSE_NOTIFY);
        return true;
    default: net_failed(r); return true;
    }
}

static bool read_net(struct tls_relay *r)
{
    struct side *s = &r->net;
    if (!s->can_read || s->input_over || waiting(&r->plain.out) || r->plain_gone || (r->read_wants_write && !s->can_write))
        return false;
    r->read_wants_write = false;
    ERR_clear_error();
    int n = SSL_read(r->ssl, scratch, sizeof(scratch));
    if (n <= 0)
        return net_gave_nothing(r, n);
    r->end.bytes_in += (uint64_t)n;
    BIO *b = SSL_get_rbio(r->ssl);
    s->can_read = !tls_bio_drained(b) || tls_bio_pending(b) != 0 || SSL_has_pending(r->ssl) || s->hung_up;
    send_plain(r, scratch, (size_t)n);
    return true;
}

/* ---- ends ---- */

static void linger_read(struct tls_relay *r)
{
    for (int i = 0; i < TURN_CHUNKS; i++) {
        ssize_t n = recv(r->net.watch.fd, scratch, sizeof(scratch), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            destroy(r);
            return;
        }
    }
    /* Who still sends so much does not wait for our last words. */
    destroy(r);
}

static void linger(struct tls_relay *r)
{
    tell(r, TLS_END_LOCAL);
    free_ssl(r);
    close_side(&r->plain);
    r->phase = LINGERING;
    r->progress_at = clock_mono_ms();
    (void)shutdown(r->net.watch.fd, SHUT_WR);
    need_timer(r);
    linger_read(r);
}

/* Sends close_notify. True when it is out, or never will be. */
static bool say_goodbye(struct tls_relay *r)
{
    if (r->notify_sent || r->net_broken)
        return true;
    ERR_clear_error();
    int rc = SSL_shutdown(r->ssl);
    if (rc < 0 && SSL_get_error(r->ssl, rc) == SSL_ERROR_WANT_WRITE) {
        r->net.can_write = false;
        need_timer(r);
        return false;
    }
    ERR_clear_error();
    r->notify_sent = true;
    return true;
}

/* True: the relay is gone or lingers, do not touch it. */
static bool carry_ends(struct tls_relay *r)
{
    if (r->net.input_over && !waiting(&r->plain.out) && !r->plain_shut && !r->plain_gone) {
        (void)shutdown(r->plain.watch.fd, SHUT_WR);
        r->plain_shut = true;
    }
    if (r->net_broken && !waiting(&r->plain.out)) {
        destroy(r);
        return true;
    }
    if (!r->plain.input_over || waiting(&r->net.out) || !say_goodbye(r))
        return false;
    if (r->net.input_over && (r->plain_shut || r->plain_gone)) {
        destroy(r);
        return true;
    }
    if (r->plain_gone) {
        linger(r);
        return true;
    }
    return false;
}

static bool step(struct tls_relay *r)
{
    bool some = flush_plain(r);
    some |= flush_net(r);
    some |= read_net(r);
    some |= read_plain(r);
    return some;
}

static void on_again(struct deferred *d)
{
    pump(list_item(&d->node, struct tls_relay, again.node));
}

static void pump(struct tls_relay *r)
{
    if (r->phase == LINGERING) {
        linger_read(r);
        return;
    }
    int turns = 0;
    while (turns < TURN_CHUNKS && step(r))
        turns++;
    if (carry_ends(r))
        return;
    if (turns == TURN_CHUNKS)
        loop_defer(&r->again, on_again);
}

static void note_events(struct side *s, uint32_t events)
{
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        s->can_read = true;
    if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0)
        s->can_write = true;
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        s->hung_up = true;
}

static void on_net(struct watch *w, uint32_t events)
{
    struct tls_relay *r = w->arg;
    note_events(&r->net, events);
    if (r->ssl != NULL)
        tls_bio_edge(SSL_get_rbio(r->ssl));
    pump(r);
}

static void on_plain(struct watch *w, uint32_t events)
{
    struct tls_relay *r = w->arg;
    note_events(&r->plain, events);
    /* Both directions of a local pair are over: its other end is closed. What it wrote is still there to be read. */
    if ((events & EPOLLHUP) != 0)
        plain_went(r);
    pump(r);
}

int tls_relay_start(SSL *ssl, int raw, int plain, const struct tls_relay_events *events, void *arg, struct tls_relay **ret)
{
    struct tls_relay *r = calloc(1, sizeof(*r));
    int rc = r != NULL ? watch_add(&r->net.watch, raw, on_net, r) : -ENOMEM;
    if (rc == 0 && (rc = watch_add(&r->plain.watch, plain, on_plain, r)) != 0)
        watch_del(&r->net.watch);
    if (rc != 0) {
        free(r);
        SSL_free(ssl);
        (void)close(raw);
        (void)close(plain);
        return rc;
    }
    r->ssl = ssl;
    r->events = events;
    r->arg = arg;
    r->net.can_read = r->net.can_write = r->plain.can_read = r->plain.can_write = true;
    r->progress_at = clock_mono_ms();
    loop_defer(&r->again, on_again);
    *ret = r;
    return 0;
}
