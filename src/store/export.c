/* Exporting an account: see store.h and export_format.h. The fiber finds out what comes next; reading bodies and writing the file block,
 * and are done on the task thread. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secret.h"
#include "store/export_format.h"
#include "store/store_priv.h"

#define WRITE_WAIT_MS 60000
#define MAILBOXES_AT_ONCE 32

struct export {
    struct store *s;
    struct store_account account;
    int fd;
    EVP_MD_CTX *digest;
    struct buf out;        /* items on their way */
    uint64_t messages;
    /* of the message under way */
    const struct store_place *place;
    int segment_fd;
    uint64_t segment;
    int rc;
};

/* ---- writing ---- */

static int write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);
        if (done >= 0) {
            p += done;
            n -= (size_t)done;
        } else if (errno == EAGAIN) {
            struct pollfd w = {.fd = fd, .events = POLLOUT};
            int ready = poll(&w, 1, WRITE_WAIT_MS);
            if (ready <= 0)
                return ready == 0 ? -ETIMEDOUT : -errno;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

static int flush(struct export *x)
{
    int rc = buf_ok(&x->out) ? 0 : -ENOMEM;
    if (rc == 0 && EVP_DigestUpdate(x->digest, x->out.p, x->out.n) != 1)
        rc = -ENOMEM;
    if (rc == 0 && x->out.n > 0)
        rc = write_all(x->fd, x->out.p, x->out.n);
    buf_reset(&x->out);
    return rc;
}

static void put_item(struct export *x, enum export_type type, struct slice content)
{
    buf_put_char(&x->out, (char)type);
    buf_put_u32(&x->out, (uint32_t)content.n);
    buf_put_slice(&x->out, content);
}

static int put_record(struct export *x, enum export_type type, const struct record_desc *d, const void *record)
{
    struct buf b;
    buf_init(&b, EXPORT_ITEM_MAX);
    int rc = record_encode(d, record, &b, NULL, NULL);
    if (rc == 0)
        put_item(x, type, buf_slice(&b));
    buf_done_secret(&b);
    return rc;
}

static int open_segment(struct export *x, uint64_t segment)
{
    if (x->segment_fd >= 0 && x->segment == segment)
        return 0;
    if (x->segment_fd >= 0)
        (void)close(x->segment_fd);
    x->segment_fd = -1;
    x->segment = segment;
    return store_segment_open(x->s, segment, &x->segment_fd);
}

static int put_body(struct export *x)
{
    const struct store_place *p = x->place;
    struct body_reader *r;
    struct slice piece;
    int rc = open_segment(x, p->segment);
    if (rc == 0)
        rc = body_reader_new(x->segment_fd, p->offset, p->stored_size, p->body_size, p->codec, p->key, &r);
    if (rc != 0)
        return rc;
    do {
        rc = body_reader_next(r, &piece);
        if (rc == 0 && piece.n > 0)
            put_item(x, EXPORT_DATA, piece);
        if (rc == 0)
            rc = flush(x);
    } while (rc == 0 && piece.n > 0);
    body_reader_free(r);
    return rc;
}

/* On the task thread: what is in `out`, and the body of the message under way. */
static void write_out(void *arg)
{
    struct export *x = arg;
    x->rc = flush(x);
    if (x->rc == 0 && x->place != NULL)
        x->rc = put_body(x);
}

static int MAY_YIELD write_now(struct export *x)
{
    int rc = worker_run(x->s->task, write_out, x);
    return rc != 0 ? rc : x->rc;
}

/* ---- what comes next ---- */

static int put_message(struct export *x, uint32_t mailbox, const struct store_entry *e, const struct store_place *p,
                       const struct slice *keywords, size_t n_keywords)
{
    struct j_keyword *words = calloc(n_keywords + 1, sizeof(*words));
    if (words == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n_keywords; i++)
        words[i].name = keywords[i];
    struct x_message m = {
        .mailbox = mailbox,
        .uid = e->uid,
        .flags = e->flags & STORE_FLAGS_ALL,
        .internal_ms = (uint64_t)e->internal_ms,
        .save_ms = (uint64_t)e->save_ms,
        .body_size = p->body_size,
        .keywords = {n_keywords, words},
        .own = slice_head(p->prefix, p->own_n),
        .common = slice_from(p->prefix, p->own_n),
        .meta = p->meta,
    };
    int rc = put_record(x, EXPORT_MESSAGE, &record_x_message, &m);
    free(words);
    return rc;
}

static int MAY_YIELD export_message(struct export *x, uint32_t mailbox, const struct store_entry *e, struct arena *arena)
{
    struct store_place p = {0};
    struct slice *keywords;
    size_t n;
    int rc = store_locate(x->s, x->account, mailbox, &e->uid, 1, true, arena, &p);
    if (rc == 0)
        rc = p.status;
    if (rc == 0)
        rc = store_message_keywords(x->s, x->account, mailbox, e->uid, arena, &keywords, &n);
    if (rc == ERR_GONE || rc == -ENOENT)
        return 0; /* expunged meanwhile */
    if (rc == 0)
        rc = put_message(x, mailbox, e, &p, keywords, n);
    if (rc == 0) {
        x->place = &p;
        rc = write_now(x);
        x->place = NULL;
        x->messages++;
    }
    secret_wipe(p.key, sizeof(p.key));
    return rc;
}

static int MAY_YIELD export_mailbox(struct export *x, const struct store_mailbox *m)
{
    struct x_mailbox b = {.id = m->id, .name = slice_str(m->name), .flags = m->flags, .uidvalidity = m->uidvalidity, .uidnext = m->uidnext};
    struct store_entry *entries = malloc(STORE_ENTRIES_MAX * sizeof(*entries));
    struct arena arena;
    uint32_t after = 0;
    size_t n = 1;
    int rc = entries != NULL ? put_record(x, EXPORT_MAILBOX, &record_x_mailbox, &b) : -ENOMEM;
    arena_init(&arena, 1 << 20);
    while (rc == 0 && n > 0) {
        rc = store_entries(x->s, x->account, m->id, after, entries, STORE_ENTRIES_MAX, &n);
        for (size_t i = 0; i < n && rc == 0; i++) {
            rc = export_message(x, m->id, &entries[i], &arena);
            arena_reset(&arena);
            after = entries[i].uid;
        }
    }
    arena_done(&arena);
    free(entries);
    return rc;
}

static int MAY_YIELD export_mailboxes(struct export *x)
{
    struct store_mailbox *m = calloc(MAILBOXES_AT_ONCE, sizeof(*m));
    uint32_t after = 0;
    size_t n = 1;
    int rc = m != NULL ? 0 : -ENOMEM;
    while (rc == 0 && n > 0) {
        rc = store_mailbox_list(x->s, x->account, after, m, MAILBOXES_AT_ONCE, &n);
        for (size_t i = 0; i < n && rc == 0; i++) {
            rc = export_mailbox(x, &m[i]);
            after = m[i].id;
        }
    }
    free(m);
    return rc;
}

static int MAY_YIELD export_all(struct export *x, const struct store_account_info *info)
{
    struct x_account a = {.quota = info->quota, .created_ms = (uint64_t)info->created_ms, .exported_ms = (uint64_t)clock_real_ms()};
    uint8_t digest[EXPORT_DIGEST];
    buf_put(&x->out, "KKEXPRT", 8);
    buf_put_u32(&x->out, EXPORT_VERSION);
    buf_put_u32(&x->out, 0);
    int rc = put_record(x, EXPORT_ACCOUNT, &record_x_account, &a);
    if (rc == 0)
        rc = export_mailboxes(x);
    if (rc == 0)
        rc = write_now(x);
    if (rc == 0 && EVP_DigestFinal_ex(x->digest, digest, NULL) != 1)
        rc = -ENOMEM;
    if (rc == 0 && EVP_DigestInit_ex(x->digest, EVP_sha256(), NULL) == 1) {
        put_item(x, EXPORT_END, slice_of(digest, sizeof(digest)));
        rc = write_now(x);
    }
    return rc;
}

int MAY_YIELD store_export(struct store *s, struct store_account a, int fd, uint64_t *ret_messages, struct err *err)
{
    struct export x = {.s = s, .account = a, .fd = fd, .segment_fd = -1};
    struct store_account_info info;
    int rc = store_visible(s, a);
    if (rc == 0)
        rc = store_account_get(s, a, &info);
    if (rc != 0)
        return err_set(err, rc, "no account %llu", (unsigned long long)a.id);
    buf_init(&x.out, 4 * EXPORT_ITEM_MAX);
    x.digest = EVP_MD_CTX_new();
    rc = x.digest != NULL && EVP_DigestInit_ex(x.digest, EVP_sha256(), NULL) == 1 ? export_all(&x, &info) : -ENOMEM;
    EVP_MD_CTX_free(x.digest);
    buf_done_secret(&x.out);
    if (x.segment_fd >= 0)
        (void)close(x.segment_fd);
    *ret_messages = x.messages;
    return rc == 0 ? 0 : err_set(err, rc, "the export was broken off: %s", err_name(rc));
}
