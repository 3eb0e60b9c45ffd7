/* The BIO: see bio.h. */
#include "tls/bio.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/secret.h"

struct state {
    int fd, error;
    bool eof_seen, eof_told, drained;
    char *own;       /* parked bytes; NULL: none */
    size_t at, end;  /* what is left, in `own` or in the process's buffer */
    bool shared;     /* the bytes are in the process's buffer */
};

/* One for the process: it holds ciphertext only, of the one connection that is being worked on. */
static struct {
    BIO_METHOD *method;
    struct state *user;
    char bytes[TLS_BIO_READ];
} shared;

static size_t left(const struct state *s)
{
    return s->end - s->at;
}

static const char *bytes(const struct state *s)
{
    return (s->shared ? shared.bytes : s->own) + s->at;
}

static void drop_own(struct state *s)
{
    free(s->own);
    s->own = NULL;
}

static bool may_retry(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR || error == ENOBUFS;
}

/* Takes the process's buffer: what its last user left in it moves to that one's own memory. */
static int take_shared(struct state *s)
{
    struct state *last = shared.user;
    if (last == s || last == NULL) {
        shared.user = s;
        return 0;
    }
    size_t n = left(last);
    if (n != 0) {
        last->own = malloc(n);
        if (last->own == NULL)
            return -ENOMEM;
        memcpy(last->own, bytes(last), n);
    }
    last->shared = false;
    last->at = 0;
    last->end = n;
    shared.user = s;
    return 0;
}

/* Reads into the process's buffer. > 0, 0 at the end, < 0 with s->error set. */
static ssize_t fill(struct state *s)
{
    drop_own(s);
    s->at = s->end = 0;
    if (take_shared(s) != 0) {
        s->error = ENOMEM;
        return -1;
    }
    s->shared = true;
    ssize_t n = recv(s->fd, shared.bytes, sizeof(shared.bytes), MSG_DONTWAIT);
    if (n < 0) {
        s->error = errno;
        s->drained = may_retry(errno);
        return n;
    }
    s->drained = (size_t)n < sizeof(shared.bytes);
    s->eof_seen = n == 0;
    s->end = (size_t)n;
    return n;
}

static int on_read(BIO *b, char *out, size_t max, size_t *ret_n)
{
    struct state *s = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    s->error = 0;
    if (left(s) == 0 && !s->eof_seen && fill(s) < 0) {
        if (may_retry(s->error))
            BIO_set_retry_read(b);
        return 0;
    }
    if (left(s) == 0) {
        s->eof_told = true;
        BIO_set_flags(b, BIO_FLAGS_IN_EOF);
        return 0;
    }
    size_t n = left(s) < max ? left(s) : max;
    memcpy(out, bytes(s), n);
    s->at += n;
    *ret_n = n;
    return 1;
}

static int on_write(BIO *b, const char *p, size_t n, size_t *ret_n)
{
    struct state *s = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    ssize_t sent = send(s->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
        s->error = errno;
        if (may_retry(errno))
            BIO_set_retry_write(b);
        return 0;
    }
    s->error = 0;
    *ret_n = (size_t)sent;
    return 1;
}

static long on_ctrl(BIO *b, int what, long number, void *p)
{
    const struct state *s = BIO_get_data(b);
    (void)number;
    (void)p;
    switch (what) {
    case BIO_CTRL_EOF: return s->eof_told;
    case BIO_CTRL_PENDING: return (long)left(s);
    case BIO_CTRL_FLUSH:
    case BIO_CTRL_DUP: return 1;
    default: return 0;
    }
}

static int on_destroy(BIO *b)
{
    struct state *s = BIO_get_data(b);
    if (s != NULL && shared.user == s)
        shared.user = NULL;
    if (s != NULL)
        drop_own(s);
    free(s);
    BIO_set_data(b, NULL);
    return 1;
}

int tls_bio_init(void)
{
    if (shared.method != NULL)
        return 0;
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "kakitome socket");
    if (m == NULL || BIO_meth_set_read_ex(m, on_read) != 1 || BIO_meth_set_write_ex(m, on_write) != 1 ||
        BIO_meth_set_ctrl(m, on_ctrl) != 1 || BIO_meth_set_destroy(m, on_destroy) != 1) {
        BIO_meth_free(m);
        return -ENOMEM;
    }
    shared.method = m;
    return 0;
}

void tls_bio_done(void)
{
    BIO_meth_free(shared.method);
    shared.method = NULL;
}

BIO *tls_bio_new(int fd)
{
    struct state *s = calloc(1, sizeof(*s));
    BIO *b = s != NULL ? BIO_new(shared.method) : NULL;
    if (b == NULL) {
        free(s);
        return NULL;
    }
    s->fd = fd;
    BIO_set_data(b, s);
    BIO_set_init(b, 1);
    return b;
}

static const struct state *state_of(const BIO *b)
{
    return BIO_get_data((BIO *)(uintptr_t)b);
}

bool tls_bio_eof(const BIO *b)
{
    return state_of(b)->eof_told;
}

bool tls_bio_drained(const BIO *b)
{
    return state_of(b)->drained;
}

void tls_bio_edge(BIO *b)
{
    struct state *s = BIO_get_data(b);
    s->drained = false;
}

int tls_bio_errno(const BIO *b)
{
    return state_of(b)->error;
}

size_t tls_bio_pending(const BIO *b)
{
    return left(state_of(b));
}
