/* Importing an export into an account: see store.h and export_format.h. The input is first copied into a file without name and checked
 * as a whole; only then is anything added. What is there already (same mailbox, dates and octets) is not added again, so that an
 * import that was broken off can be repeated. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secret.h"
#include "ipc/ipc.h"
#include "store/export_format.h"
#include "store/store_priv.h"

#define READ_WAIT_MS 60000
#define SPOOL_CHUNK 65536
#define INLINE_MAX BODY_FRAME_MAX /* larger bodies go by memfd */

/* A message that the account has, by what is known without reading it. */
struct known {
    uint32_t mailbox, uid;
    int64_t internal_ms, save_ms;
    uint64_t size;
    bool used; /* an imported message was found to be this one */
};

struct import {
    struct store *s;
    struct store_account account;
    int in, spool;
    struct export_reader reader;
    struct arena arena;        /* of the item under way */
    uint32_t *mailboxes;       /* pairs: exported id, id here */
    size_t n_mailboxes;
    struct known *known;       /* sorted */
    size_t n_known, cap_known;
    uint64_t messages, added;
    /* of the message under way */
    struct x_message m;
    struct buf body;
    int body_fd;
    const struct store_place *place; /* one to compare with */
    bool same;
    int rc;
};

/* ---- reading the input (task thread) ---- */

static int read_some(int fd, char *p, size_t n, size_t *ret)
{
    for (;;) {
        ssize_t got = read(fd, p, n);
        if (got >= 0) {
            *ret = (size_t)got;
            return 0;
        }
        if (errno == EAGAIN) {
            struct pollfd w = {.fd = fd, .events = POLLIN};
            int ready = poll(&w, 1, READ_WAIT_MS);
            if (ready <= 0)
                return ready == 0 ? -ETIMEDOUT : -errno;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
}

static void spool_input(void *arg)
{
    struct import *x = arg;
    char *chunk = malloc(SPOOL_CHUNK);
    uint64_t at = 0;
    size_t n = 1;
    x->spool = openat(x->s->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    x->rc = chunk == NULL ? -ENOMEM : x->spool < 0 ? -errno : 0;
    while (x->rc == 0 && n > 0) {
        x->rc = read_some(x->in, chunk, SPOOL_CHUNK, &n);
        struct iovec iov = {chunk, n};
        if (x->rc == 0 && n > 0)
            x->rc = disk_real.write(x->spool, &iov, 1, at);
        at += n;
    }
    free(chunk);
    if (x->rc == 0)
        x->rc = export_check(x->spool, &x->messages);
}

static int take_data(struct import *x, uint64_t at)
{
    struct slice piece = buf_slice(&x->reader.content);
    if (x->body_fd < 0) {
        buf_put_slice(&x->body, piece);
        return buf_ok(&x->body) ? 0 : -ENOMEM;
    }
    struct iovec iov = {(void *)(uintptr_t)piece.p, piece.n};
    return disk_real.write(x->body_fd, &iov, 1, at);
}

/* The data items of x->m into x->body or x->body_fd. */
static void read_body(void *arg)
{
    struct import *x = arg;
    enum export_type type;
    x->body_fd = -1;
    buf_reset(&x->body);
    x->rc = 0;
    if (x->m.body_size > INLINE_MAX && (x->body_fd = ipc_memfd_new("import")) < 0)
        x->rc = x->body_fd;
    for (uint64_t at = 0; x->rc == 0 && at < x->m.body_size; at += x->reader.content.n) {
        x->rc = export_reader_next(&x->reader, &type);
        if (x->rc == 0 && type != EXPORT_DATA)
            x->rc = ERR_SYNTAX;
        if (x->rc == 0)
            x->rc = take_data(x, at);
    }
    if (x->rc == 0 && x->body_fd >= 0)
        x->rc = ipc_memfd_seal(x->body_fd);
}

/* ---- what is there already ---- */

static int compare_known(const void *a, const void *b)
{
    const struct known *x = a, *y = b;
    if (x->mailbox != y->mailbox)
        return x->mailbox < y->mailbox ? -1 : 1;
    if (x->internal_ms != y->internal_ms)
        return x->internal_ms < y->internal_ms ? -1 : 1;
    if (x->save_ms != y->save_ms)
        return x->save_ms < y->save_ms ? -1 : 1;
    return x->size < y->size ? -1 : x->size > y->size;
}

static int add_known(struct import *x, uint32_t mailbox, const struct store_entry *e)
{
    if (x->n_known == x->cap_known) {
        size_t cap = x->cap_known != 0 ? x->cap_known * 2 : 1024;
        struct known *p = realloc(x->known, cap * sizeof(*p));
        if (p == NULL)
            return -ENOMEM;
        x->known = p;
        x->cap_known = cap;
    }
    x->known[x->n_known++] = (struct known){mailbox, e->uid, e->internal_ms, e->save_ms, e->size, false};
    return 0;
}

static int MAY_YIELD list_known(struct import *x, uint32_t mailbox)
{
    struct store_entry *e = malloc(STORE_ENTRIES_MAX * sizeof(*e));
    uint32_t after = 0;
    size_t n = 1;
    int rc = e != NULL ? 0 : -ENOMEM;
    while (rc == 0 && n > 0) {
        rc = store_entries(x->s, x->account, mailbox, after, e, STORE_ENTRIES_MAX, &n);
        for (size_t i = 0; i < n && rc == 0; i++) {
            rc = add_known(x, mailbox, &e[i]);
            after = e[i].uid;
        }
        if (rc == 0)
            rc = fiber_breathe();
    }
    free(e);
    return rc;
}

static bool piece_is(const struct import *x, uint64_t at, struct slice piece, char *chunk)
{
    if (piece.n > x->m.body_size - at)
        return false;
    if (x->body_fd < 0)
        return memcmp(x->body.p + at, piece.p, piece.n) == 0;
    return disk_read(x->body_fd, chunk, piece.n, at) == 0 && memcmp(chunk, piece.p, piece.n) == 0;
}

/* On the task thread: has the stored body at x->place the octets of the one under way? */
static void compare_body(void *arg)
{
    struct import *x = arg;
    const struct store_place *p = x->place;
    struct body_reader *r = NULL;
    struct slice piece = SLICE_EMPTY;
    uint64_t at = 0;
    int fd = -1;
    char *chunk = malloc(BODY_FRAME_MAX);
    x->rc = chunk != NULL ? store_segment_open(x->s, p->segment, &fd) : -ENOMEM;
    if (x->rc == 0)
        x->rc = body_reader_new(fd, p->offset, p->stored_size, p->body_size, p->codec, p->key, &r);
    x->same = p->body_size == x->m.body_size;
    while (x->rc == 0 && x->same) {
        x->rc = body_reader_next(r, &piece);
        if (x->rc != 0 || piece.n == 0)
            break;
        x->same = piece_is(x, at, piece, chunk);
        at += piece.n;
    }
    body_reader_free(r);
    if (fd >= 0)
        (void)close(fd);
    free(chunk);
}

static int MAY_YIELD on_task(struct import *x, void (*fn)(void *))
{
    int rc = worker_run(x->s->task, fn, x);
    return rc != 0 ? rc : x->rc;
}

static int MAY_YIELD is_same(struct import *x, const struct known *k, bool *ret)
{
    struct store_place p = {0};
    struct arena arena;
    *ret = false;
    arena_init(&arena, 1 << 20);
    int rc = store_locate(x->s, x->account, k->mailbox, &k->uid, 1, false, &arena, &p);
    if (rc == 0 && p.status == 0 && slice_eq(slice_head(p.prefix, p.own_n), x->m.own) &&
        slice_eq(slice_from(p.prefix, p.own_n), x->m.common)) {
        x->place = &p;
        rc = on_task(x, compare_body);
        x->place = NULL;
        *ret = rc == 0 && x->same;
    }
    secret_wipe(p.key, sizeof(p.key));
    arena_done(&arena);
    return rc;
}

static int MAY_YIELD find_known(struct import *x, uint32_t mailbox, bool *ret)
{
    struct known want = {mailbox, 0, (int64_t)x->m.internal_ms, (int64_t)x->m.save_ms, x->m.own.n + x->m.common.n + x->m.body_size, false};
    size_t low = 0, high = x->n_known;
    int rc = 0;
    *ret = false;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (compare_known(&x->known[mid], &want) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    for (; rc == 0 && !*ret && low < x->n_known && compare_known(&x->known[low], &want) == 0; low++) {
        if (x->known[low].used)
            continue;
        rc = is_same(x, &x->known[low], ret);
        x->known[low].used = *ret;
    }
    return rc;
}

/* ---- adding ---- */

static int MAY_YIELD take_mailbox(struct import *x, struct err *err)
{
    struct x_mailbox b;
    struct store_mailbox m;
    uint32_t id = 0;
    int rc = record_decode(&record_x_mailbox, buf_slice(&x->reader.content), NULL, 0, &x->arena, &b);
    if (rc != 0)
        return rc;
    rc = store_mailbox_find(x->s, x->account, b.name, &m);
    if (rc == 0)
        id = m.id;
    else if (rc == -ENOENT)
        rc = store_mailbox_create(x->s, x->account, b.name, &id, err);
    if (rc == 0)
        rc = store_mailbox_set_flags(x->s, x->account, id, (uint32_t)b.flags, err);
    if (rc == 0)
        rc = list_known(x, id);
    if (rc != 0)
        return rc;
    if (x->n_known > 0)
        qsort(x->known, x->n_known, sizeof(*x->known), compare_known);
    uint32_t *p = realloc(x->mailboxes, (x->n_mailboxes + 1) * 2 * sizeof(*p));
    if (p == NULL)
        return -ENOMEM;
    x->mailboxes = p;
    p[2 * x->n_mailboxes] = (uint32_t)b.id;
    p[2 * x->n_mailboxes++ + 1] = id;
    return 0;
}

static uint32_t mailbox_here(const struct import *x, uint64_t exported)
{
    for (size_t i = 0; i < x->n_mailboxes; i++)
        if (x->mailboxes[2 * i] == exported)
            return x->mailboxes[2 * i + 1];
    return 0;
}

static int MAY_YIELD accept_message(struct import *x, uint32_t mailbox, struct err *err)
{
    const struct x_message *m = &x->m;
    struct slice *keywords = arena_array(&x->arena, m->keywords.n, sizeof(*keywords));
    if (keywords == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < m->keywords.n; i++)
        keywords[i] = RECORD_ITEM(m->keywords, j_keyword, i)->name;
    struct store_rcpt r = {
        .account = x->account,
        .mailbox = mailbox,
        .prefix = m->own,
        .flags = (uint32_t)m->flags,
        .keywords = keywords,
        .n_keywords = m->keywords.n,
        .internal_ms = (int64_t)m->internal_ms,
        .save_ms = (int64_t)m->save_ms,
    };
    struct store_accept a = {
        .received_ms = (int64_t)m->internal_ms,
        .common = m->common,
        .meta = m->meta,
        .sender = SLICE_EMPTY,
        .event = SLICE_EMPTY,
        .body = x->body_fd < 0 ? buf_slice(&x->body) : SLICE_EMPTY,
        .body_fd = x->body_fd,
        .body_size = m->body_size,
        .rcpts = &r,
        .n_rcpts = 1,
    };
    int rc = store_accept(x->s, &a, err);
    if (rc == 0 && r.status != 0)
        rc = err_set(err, r.status, "a message does not fit into the account (%s)", err_name(r.status));
    return rc;
}

static int MAY_YIELD take_message(struct import *x, struct err *err)
{
    struct buf item; /* the record's slices point into it; the reader goes on to the data */
    bool known = false;
    buf_init(&item, EXPORT_ITEM_MAX);
    buf_put_slice(&item, buf_slice(&x->reader.content));
    int rc = buf_ok(&item) ? record_decode(&record_x_message, buf_slice(&item), NULL, 0, &x->arena, &x->m) : -ENOMEM;
    uint32_t mailbox = rc == 0 ? mailbox_here(x, x->m.mailbox) : 0;
    if (rc == 0 && mailbox == 0)
        rc = err_set(err, ERR_SYNTAX, "a message of an unknown mailbox");
    x->body_fd = -1;
    if (rc == 0)
        rc = on_task(x, read_body);
    if (rc == 0)
        rc = find_known(x, mailbox, &known);
    if (rc == 0 && !known) {
        rc = accept_message(x, mailbox, err);
        x->added += rc == 0;
    }
    if (x->body_fd >= 0)
        (void)close(x->body_fd);
    buf_done_secret(&item);
    return rc;
}

static int MAY_YIELD take_items(struct import *x, struct err *err)
{
    enum export_type type = EXPORT_ACCOUNT;
    int rc = export_reader_init(&x->reader, x->spool);
    while (rc == 0 && type != EXPORT_END) {
        arena_reset(&x->arena);
        rc = export_reader_next(&x->reader, &type);
        if (rc == 0 && type == EXPORT_MAILBOX)
            rc = take_mailbox(x, err);
        else if (rc == 0 && type == EXPORT_MESSAGE)
            rc = take_message(x, err);
    }
    export_reader_done(&x->reader);
    return rc;
}

int MAY_YIELD store_import(struct store *s, struct store_account a, int fd, uint64_t *ret_messages, struct err *err)
{
    struct import x = {.s = s, .account = a, .in = fd, .spool = -1, .body_fd = -1};
    struct store_account_info info;
    int rc = store_visible(s, a);
    if (rc == 0)
        rc = store_account_get(s, a, &info);
    if (rc != 0)
        return err_set(err, rc, "no account %llu", (unsigned long long)a.id);
    arena_init(&x.arena, 4 * EXPORT_ITEM_MAX);
    buf_init(&x.body, INLINE_MAX);
    rc = on_task(&x, spool_input);
    if (rc != 0)
        (void)err_set(err, rc, rc == ERR_VERSION ? "the export is of a newer format"
                                                 : "the export is damaged or cannot be read; nothing was added (%s)", err_name(rc));
    else if ((rc = take_items(&x, err)) != 0 && (err == NULL || err->code != rc))
        (void)err_set(err, rc, "the import was broken off after %llu messages: %s", (unsigned long long)x.added, err_name(rc));
    if (x.spool >= 0)
        (void)close(x.spool);
    free(x.mailboxes);
    free(x.known);
    buf_done_secret(&x.body);
    arena_done(&x.arena);
    *ret_messages = x.added;
    return rc;
}
