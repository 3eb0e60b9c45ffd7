/* Buffered two-way streams over sockets, and their fake twin: see stream.h. */
#include "io/stream.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secret.h"

#define READ_CHUNK 16384

struct stream {
    int fd;
    struct fiber_fd *ready;
    struct stream_fake *fake;
    size_t fake_read, fake_written;
    size_t fake_before; /* bytes of the inputs before the present one */
    char *in; /* NULL when nothing is buffered */
    size_t in_from, in_to, in_cap;
    size_t in_high; /* no octet of the buffer was used from here on */
    bool eager;     /* the last read filled what it was given: more is coming than fits */
    struct buf out;
    size_t out_from; /* already sent */
    int64_t deadline;
    int failed; /* first failure; sticks for writing */
    int read_failed;
};

static struct stream *stream_alloc(void)
{
    struct stream *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return NULL;
    s->fd = -1;
    s->deadline = CLOCK_NEVER;
    buf_init(&s->out, SIZE_MAX / 4);
    return s;
}

int stream_new_fd(int fd, struct stream **ret)
{
    struct stream *s = stream_alloc();
    int rc = s == NULL ? -ENOMEM : fiber_fd_new(fd, &s->ready);
    if (rc != 0) {
        (void)close(fd);
        free(s);
        return rc;
    }
    s->fd = fd;
    *ret = s;
    return 0;
}

int stream_new_fake(struct stream_fake *fake, struct stream **ret)
{
    struct stream *s = stream_alloc();
    if (s == NULL)
        return -ENOMEM;
    buf_init(&fake->output, SIZE_MAX / 4);
    s->fake = fake;
    *ret = s;
    return 0;
}

/* Input may be a password: wiped, not just freed. */
static void drop_input(struct stream *s)
{
    if (s->in != NULL) {
        secret_wipe(s->in, s->in_high);
        free(s->in);
    }
    s->in = NULL;
    s->in_from = s->in_to = s->in_cap = s->in_high = 0;
}

static ssize_t raw_write(struct stream *s, const char *p, size_t n)
{
    if (s->fake == NULL)
        return send(s->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    struct stream_fake *f = s->fake;
    size_t room = f->fail_write_at - s->fake_written;
    if (room == 0) {
        errno = f->fail_code < 0 && f->fail_code > -1000 ? -f->fail_code : EPIPE;
        return -1;
    }
    if (n > room)
        n = room;
    buf_put(&f->output, p, n);
    s->fake_written += n;
    return (ssize_t)n;
}

static int wait_out(struct stream *s)
{
    return s->fake != NULL ? -ETIMEDOUT : fiber_fd_wait_out(s->ready, s->deadline);
}

void stream_free(struct stream *s)
{
    if (s == NULL)
        return;
    if (s->out.n > s->out_from && s->failed == 0 && (s->fd >= 0 || s->fake != NULL))
        (void)raw_write(s, s->out.p + s->out_from, s->out.n - s->out_from);
    drop_input(s);
    buf_done_secret(&s->out);
    fiber_fd_free(s->ready);
    if (s->fd >= 0)
        (void)close(s->fd);
    free(s);
}

void stream_set_deadline(struct stream *s, int64_t deadline)
{
    s->deadline = deadline;
}

struct slice stream_buffered(const struct stream *s)
{
    return s->in == NULL ? SLICE_EMPTY : slice_of(s->in + s->in_from, s->in_to - s->in_from);
}

void stream_consume(struct stream *s, size_t n)
{
    s->in_from += n <= s->in_to - s->in_from ? n : s->in_to - s->in_from;
}

static int fake_next(struct stream *s)
{
    struct stream_fake *f = s->fake;
    if (f->next == NULL)
        return f->timeout_at_end ? -ETIMEDOUT : ERR_CLOSED;
    (void)stream_flush(s);
    s->fake_before += f->input.n;
    f->input = SLICE_EMPTY;
    return f->next(f);
}

static int fake_read(struct stream *s, char *p, size_t n, size_t *ret_got)
{
    struct stream_fake *f = s->fake;
    if (s->fake_read >= f->fail_read_at)
        return f->fail_code != 0 ? f->fail_code : -ECONNRESET;
    if (s->fake_read - s->fake_before >= f->input.n) {
        int rc = fake_next(s);
        if (rc != 0)
            return rc;
    }
    struct slice left = slice_from(f->input, s->fake_read - s->fake_before);
    if (n > left.n)
        n = left.n;
    if (f->chunk != 0 && n > f->chunk)
        n = f->chunk;
    if (n > f->fail_read_at - s->fake_read)
        n = f->fail_read_at - s->fake_read;
    memcpy(p, left.p, n);
    s->fake_read += n;
    *ret_got = n;
    return n != 0 ? 0 : ERR_CLOSED;
}

int stream_unread(struct stream *s, struct slice b)
{
    struct slice have = stream_buffered(s);
    if (b.n == 0)
        return 0;
    if (b.n + have.n > STREAM_IN_MAX)
        return ERR_LIMIT;
    size_t cap = b.n + have.n + READ_CHUNK > STREAM_IN_MAX ? STREAM_IN_MAX : b.n + have.n + READ_CHUNK;
    char *p = malloc(cap);
    if (p == NULL)
        return -ENOMEM;
    memcpy(p, b.p, b.n);
    if (have.n != 0)
        memcpy(p + b.n, have.p, have.n);
    size_t n = b.n + have.n;
    drop_input(s);
    s->in = p;
    s->in_to = s->in_high = n;
    s->in_cap = cap;
    return 0;
}

/* 0, -EAGAIN, ERR_CLOSED or another failure. */
static int raw_read(struct stream *s, char *p, size_t n, size_t *ret_got)
{
    if (s->fake != NULL)
        return fake_read(s, p, n, ret_got);
    ssize_t got;
    do {
        got = recv(s->fd, p, n, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    if (got == 0)
        return ERR_CLOSED;
    *ret_got = (size_t)got;
    return 0;
}

/* Who sends much is read in large pieces. */
static int make_room(struct stream *s)
{
    size_t have = s->in_to - s->in_from, chunk = s->eager ? STREAM_IN_MAX : READ_CHUNK;
    if (have >= STREAM_IN_MAX)
        return ERR_LIMIT;
    size_t cap = have + chunk > STREAM_IN_MAX ? STREAM_IN_MAX : have + chunk;
    if (s->in != NULL && s->in_cap >= cap && s->in_from > 0) {
        memmove(s->in, s->in + s->in_from, have);
        s->in_from = 0;
        s->in_to = have;
        return 0;
    }
    if (s->in != NULL && s->in_cap - s->in_to >= 2048 && !s->eager)
        return 0;
    if (s->in != NULL && s->in_cap - s->in_to >= cap - have)
        return 0;
    char *p = malloc(cap);
    if (p == NULL)
        return -ENOMEM;
    if (have != 0)
        memcpy(p, s->in + s->in_from, have);
    drop_input(s);
    s->in = p;
    s->in_to = s->in_high = have;
    s->in_cap = cap;
    return 0;
}

static void took(struct stream *s, size_t got)
{
    s->eager = got == s->in_cap - s->in_to;
    s->in_to += got;
    if (s->in_to > s->in_high)
        s->in_high = s->in_to;
}

int stream_fill(struct stream *s)
{
    if (s->read_failed != 0)
        return s->read_failed;
    for (;;) {
        size_t got = 0;
        int rc = make_room(s);
        if (rc != 0)
            return rc;
        rc = raw_read(s, s->in + s->in_to, s->in_cap - s->in_to, &got);
        if (rc == 0) {
            took(s, got);
            return 0;
        }
        if (rc == -EAGAIN) {
            if (s->in_from == s->in_to)
                drop_input(s);
            rc = stream_flush(s);
            buf_done(&s->out); /* an idle session keeps no buffer */
            s->out_from = 0;
            if (rc == 0)
                rc = fiber_fd_wait_in(s->ready, s->deadline);
            if (rc == 0)
                continue;
            return rc; /* a deadline may be followed by another try */
        }
        if (rc == ERR_CLOSED || (rc > -1000 && rc != -ETIMEDOUT))
            s->read_failed = rc;
        (void)stream_flush(s); /* answers to what came before the end */
        return rc;
    }
}

int stream_read_line(struct stream *s, size_t max, struct slice *ret_line)
{
    size_t seen = 0;
    if (max > STREAM_IN_MAX)
        max = STREAM_IN_MAX;
    for (;;) {
        struct slice have = stream_buffered(s);
        size_t at = have.n > seen ? seen + slice_find(slice_from(have, seen), '\n') : have.n;
        if (at < have.n && at + 1 <= max) {
            *ret_line = slice_of(have.p, at + 1);
            stream_consume(s, at + 1);
            return 0;
        }
        if (have.n >= max)
            return ERR_LIMIT;
        seen = have.n;
        int rc = stream_fill(s);
        if (rc != 0)
            return rc;
    }
}

int stream_skip_line(struct stream *s, size_t most)
{
    size_t skipped = 0;
    for (;;) {
        struct slice have = stream_buffered(s);
        size_t at = slice_find(have, '\n');
        if (at < have.n) {
            stream_consume(s, at + 1);
            return 0;
        }
        skipped += have.n;
        stream_consume(s, have.n);
        if (skipped > most)
            return ERR_LIMIT;
        int rc = stream_fill(s);
        if (rc != 0)
            return rc;
    }
}

int stream_read_some(struct stream *s, size_t max, struct slice *ret)
{
    if (s->in_from == s->in_to) {
        int rc = stream_fill(s);
        if (rc != 0)
            return rc;
    }
    *ret = slice_head(stream_buffered(s), max);
    stream_consume(s, ret->n);
    return 0;
}

/* Sends all of it, waiting as needed; *from is how much of it is sent. */
static int write_all(struct stream *s, const char *p, size_t n, size_t *from)
{
    while (s->failed == 0 && *from < n) {
        ssize_t done = raw_write(s, p + *from, n - *from);
        if (done >= 0) {
            *from += (size_t)done;
        } else if (errno == EAGAIN) {
            int rc = wait_out(s);
            if (rc != 0)
                s->failed = rc;
        } else if (errno != EINTR) {
            s->failed = -errno;
        }
    }
    return s->failed;
}

int stream_flush(struct stream *s)
{
    (void)write_all(s, s->out.p, s->out.n, &s->out_from);
    /* Kept for what comes next, unless it is large; a session that goes idle gives it back (stream_fill). */
    if (s->out_from == s->out.n && s->out.p != NULL) {
        s->out_from = 0;
        if (s->out.cap > 4 * STREAM_OUT_HIGH)
            buf_done_secret(&s->out);
        else
            buf_reset(&s->out);
    }
    return s->failed;
}

static int after_put(struct stream *s)
{
    if (s->out.failed && s->failed == 0)
        s->failed = -ENOMEM;
    if (s->failed == 0 && s->out.n - s->out_from >= STREAM_OUT_HIGH)
        return stream_flush(s);
    return s->failed;
}

int stream_write(struct stream *s, const void *p, size_t n)
{
    size_t from = 0;
    /* Much at once goes out from where it lies. */
    if (n >= STREAM_OUT_HIGH)
        return stream_flush(s) == 0 ? write_all(s, p, n, &from) : s->failed;
    if (s->failed == 0)
        buf_put(&s->out, p, n);
    return after_put(s);
}

int stream_write_slice(struct stream *s, struct slice b)
{
    return stream_write(s, b.p, b.n);
}

int stream_printf(struct stream *s, const char *fmt, ...)
{
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof(line)) {
        if (s->failed == 0)
            s->failed = ERR_LIMIT;
        return s->failed;
    }
    return stream_write(s, line, (size_t)n);
}

int stream_shutdown(struct stream *s)
{
    int rc = stream_flush(s);
    if (rc == 0 && s->fd >= 0)
        (void)shutdown(s->fd, SHUT_WR);
    return rc;
}

int stream_take_fd(struct stream *s)
{
    int fd = s->fd;
    fiber_fd_free(s->ready);
    s->ready = NULL;
    s->fd = -1;
    s->failed = s->read_failed = -EBADF;
    return fd;
}

int stream_fd(const struct stream *s)
{
    return s->fd;
}
