/* Preparing threads: compress, encrypt, lay out the record. All that costs processor time happens here, outside of the commit.
 * See store_priv.h. */
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secret.h"
#include "base/utf8.h"
#include "store/crc32c.h"
#include "store/store_priv.h"

int preparer_init(struct preparer *p, int zstd_level)
{
    *p = (struct preparer){0};
    int rc = seal_new(&p->seal);
    if (rc == 0)
        rc = body_writer_new(zstd_level, &p->writer);
    if (rc == 0 && (p->chunk = malloc(BODY_FRAME_MAX)) == NULL)
        rc = -ENOMEM;
    if (rc != 0)
        preparer_done(p);
    return rc;
}

void preparer_done(struct preparer *p)
{
    seal_free(p->seal);
    body_writer_free(p->writer);
    if (p->chunk != NULL)
        secret_wipe(p->chunk, BODY_FRAME_MAX);
    free(p->chunk);
}

/* ---- the record's buffers ----
 * Small: one buffer {header, body, sealed, padding, trailer}. Large bodies: header | a buffer a frame | the rest. */

static void *add_buffer(struct job *j, size_t n)
{
    void *p = malloc(n);
    if (p != NULL)
        j->iov[j->n_iov++] = (struct iovec){p, n};
    return p;
}

void record_free(struct job *j)
{
    for (int i = 0; i < j->n_iov; i++)
        free(j->iov[i].iov_base);
    free(j->iov);
    j->iov = NULL;
    j->n_iov = 0;
}

/* sealed section, padding and room for the trailer, at `to`; returns the bytes. */
static size_t tail_size(const struct job *j, uint64_t body_n)
{
    struct journal_header h = j->h;
    h.body_n = body_n;
    return (size_t)(journal_record_size(&h) - JOURNAL_HEADER - body_n);
}

static int put_tail(struct job *j, struct preparer *p, uint8_t *to)
{
    size_t n = tail_size(j, j->h.body_n);
    memset(to, 0, n);
    return journal_seal(p->seal, j->s->journal_key, &j->h, buf_slice(&j->effects), to);
}

static int small_record(struct job *j, struct preparer *p, struct slice plain, const uint8_t *body_key)
{
    size_t bound = BODY_FRAME_BOUND(plain.n), n = 0;
    /* The tail's padding depends on the body's size: room for the longest. */
    uint8_t *rec = add_buffer(j, JOURNAL_HEADER + bound + tail_size(j, 0) + JOURNAL_ALIGN);
    if (rec == NULL)
        return -ENOMEM;
    int rc = body_write_frame(p->writer, p->seal, body_key, 0, true, plain, rec + JOURNAL_HEADER, &n);
    j->h.body_n = n;
    if (rc == 0)
        rc = put_tail(j, p, rec + JOURNAL_HEADER + n);
    j->size = journal_record_size(&j->h);
    j->iov[0].iov_len = (size_t)j->size;
    j->crc = crc32c(0, rec + JOURNAL_HEADER, (size_t)j->size - JOURNAL_HEADER - JOURNAL_TRAILER);
    return rc;
}

/* Reads up to a frame of the body into p->chunk, or points into the inline body. */
static int body_piece(const struct store_accept *a, struct preparer *p, uint64_t at, size_t n, struct slice *ret)
{
    if (a->body_fd < 0) {
        *ret = slice_of(a->body.p + at, n);
        return 0;
    }
    *ret = slice_of(p->chunk, n);
    int rc = disk_read(a->body_fd, p->chunk, n, at);
    return rc == -ENODATA ? ERR_SYNTAX : rc; /* shorter than it was said to be */
}

static int large_record(struct job *j, struct preparer *p, const struct store_accept *a, uint64_t size, const uint8_t *body_key)
{
    uint64_t frames = body_frames(size);
    uint32_t crc = 0;
    if (add_buffer(j, JOURNAL_HEADER) == NULL)
        return -ENOMEM;
    j->h.body_n = 0;
    for (uint64_t i = 0; i < frames; i++) {
        uint64_t at = i * BODY_FRAME_MAX;
        size_t n = size - at < BODY_FRAME_MAX ? (size_t)(size - at) : BODY_FRAME_MAX, stored;
        struct slice plain;
        int rc = body_piece(a, p, at, n, &plain);
        if (rc != 0)
            return rc;
        uint8_t *out = add_buffer(j, BODY_FRAME_BOUND(n));
        if (out == NULL)
            return -ENOMEM;
        rc = body_write_frame(p->writer, p->seal, body_key, i, i + 1 == frames, plain, out, &stored);
        if (rc != 0)
            return rc;
        struct iovec *v = &j->iov[j->n_iov - 1];
        void *less = realloc(out, stored);
        *v = (struct iovec){less != NULL ? less : out, stored};
        crc = crc32c(crc, v->iov_base, stored);
        j->h.body_n += stored;
    }
    size_t n = tail_size(j, j->h.body_n);
    uint8_t *tail = add_buffer(j, n);
    int rc = tail != NULL ? put_tail(j, p, tail) : -ENOMEM;
    if (rc == 0)
        j->crc = crc32c(crc, tail, n - JOURNAL_TRAILER);
    j->size = journal_record_size(&j->h);
    return rc;
}

/* ---- an accepted message's effects ---- */

static int seal_meta(const struct store_accept *a, struct preparer *p, const uint8_t *body_key, struct buf *out)
{
    buf_put_slice(out, a->common);
    buf_put_slice(out, a->meta);
    size_t n = out->n;
    int rc = buf_reserve(out, SEAL_TAG);
    if (rc != 0)
        return rc;
    rc = seal_encrypt(p->seal, body_key, SEAL_META, 0, SLICE_EMPTY, out->p, n, out->p, (uint8_t *)out->p + n);
    out->n = n + SEAL_TAG;
    return rc;
}

#define HEADER_LOOK 65536

/* Whether the header has bytes above 127, as far as its first HEADER_LOOK octets tell. */
static bool has_utf8_header(const struct store_accept *a, struct preparer *p)
{
    uint64_t size = a->body_fd >= 0 ? a->body_size : a->body.n;
    struct slice head;
    if (body_piece(a, p, 0, size < HEADER_LOOK ? (size_t)size : HEADER_LOOK, &head) != 0)
        return false; /* it is read again, and refused then */
    const char *end = memmem(head.p, head.n, "\r\n\r\n", 4);
    if (end != NULL)
        head.n = (size_t)(end - head.p);
    return !utf8_is_ascii(head) || !utf8_is_ascii(a->common);
}

static struct slice account_aad(const struct store_account *a, struct id128 body, uint8_t out[12 + 16])
{
    struct ikey k = ikey_account(*a);
    memcpy(out, k.b, 12);
    memcpy(out + 12, body.b, 16);
    return slice_of(out, 12 + 16);
}

static int make_place(struct job *j, struct preparer *p, struct prepare_rcpt *pr, const uint8_t *body_key, struct arena *arena,
                      struct j_place *ret)
{
    const struct store_rcpt *r = pr->rcpt;
    uint8_t aad[28];
    uint8_t *key = arena_alloc(arena, SEAL_WRAPPED), *prefix = arena_alloc(arena, r->prefix.n + SEAL_TAG);
    struct j_keyword *words = arena_array(arena, r->n_keywords, sizeof(*words));
    if (key == NULL || prefix == NULL || words == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < r->n_keywords; i++)
        words[i].name = r->keywords[i];
    int rc = seal_wrap(p->seal, pr->key, account_aad(&r->account, j->h.body, aad), body_key, key);
    if (rc == 0)
        rc = seal_encrypt(p->seal, body_key, SEAL_PREFIX, pr->lane, SLICE_EMPTY, r->prefix.p, r->prefix.n, prefix, prefix + r->prefix.n);
    uint64_t body_size = j->accept->body_fd >= 0 ? j->accept->body_size : j->accept->body.n;
    *ret = (struct j_place){
        .tenant = r->account.tenant,
        .account = r->account.id,
        .mailbox = pr->mailbox,
        .flags = (r->flags & STORE_FLAGS_ALL) | (j->utf8_header || !utf8_is_ascii(r->prefix) ? STORE_UTF8_HEADER : 0),
        .size = r->prefix.n + j->accept->common.n + body_size,
        .internal_ms = (uint64_t)(r->internal_ms != 0 ? r->internal_ms : j->accept->received_ms),
        .save_ms = (uint64_t)pr->save_ms,
        .lane = pr->lane,
        .key = slice_of(key, SEAL_WRAPPED),
        .prefix = slice_of(prefix, r->prefix.n + SEAL_TAG),
        .keywords = {r->n_keywords, words},
    };
    return rc;
}

static struct slice make_statuses(const struct store_accept *a, struct arena *arena)
{
    uint8_t *p = arena_alloc(arena, 4 * a->n_rcpts);
    for (size_t i = 0; i < a->n_rcpts && p != NULL; i++) {
        uint32_t v = (uint32_t)-a->rcpts[i].status;
        for (int k = 0; k < 4; k++)
            p[4 * i + (size_t)k] = (uint8_t)(v >> (8 * k));
    }
    return p != NULL ? slice_of(p, 4 * a->n_rcpts) : slice_of(NULL, 0);
}

static int accept_effects(struct job *j, struct preparer *p, const uint8_t *body_key, struct arena *arena)
{
    const struct store_accept *a = j->accept;
    struct buf meta;
    struct j_place *places = arena_array(arena, j->n_rcpts, sizeof(*places));
    struct j_accept *e = &j->effect.accept;
    *e = (struct j_accept){
        .message = a->message,
        .received_ms = (uint64_t)a->received_ms,
        .sender = a->sender,
        .body_size = a->body_fd >= 0 ? a->body_size : a->body.n,
        .common_size = a->common.n,
        .places = {j->n_rcpts, places},
        .statuses = make_statuses(a, arena),
        .event = a->event,
    };
    if (places == NULL || e->statuses.p == NULL)
        return -ENOMEM;
    buf_init(&meta, STORE_COMMON_MAX + STORE_META_MAX + SEAL_TAG);
    j->utf8_header = has_utf8_header(a, p);
    int rc = seal_meta(a, p, body_key, &meta);
    e->meta = buf_slice(&meta);
    for (size_t i = 0; i < j->n_rcpts && rc == 0; i++)
        rc = make_place(j, p, &j->rcpts[i], body_key, arena, &places[i]);
    if (rc == 0)
        rc = record_encode(&record_j_accept, e, &j->effects, NULL, NULL);
    buf_done(&meta);
    return rc;
}

static int prepare_accept(struct job *j, struct preparer *p)
{
    const struct store_accept *a = j->accept;
    uint64_t size = a->body_fd >= 0 ? a->body_size : a->body.n;
    uint8_t body_key[SEAL_KEY];
    struct arena arena;
    struct slice plain = SLICE_EMPTY;
    arena_init(&arena, JOURNAL_SEALED_MAX);
    rand_bytes(body_key, sizeof(body_key));
    /* The message's own id, so that its trail can be followed to the reader. */
    j->h.body = id_is_zero(a->message) || j->own_body_id ? id_new() : a->message;
    int rc = accept_effects(j, p, body_key, &arena);
    j->h.sealed_n = (uint32_t)j->effects.n;
    if (rc == 0 && (j->iov = calloc(body_frames(size) + 2, sizeof(*j->iov))) == NULL)
        rc = -ENOMEM;
    if (rc == 0 && size <= BODY_FRAME_MAX) {
        rc = body_piece(a, p, 0, (size_t)size, &plain);
        if (rc == 0)
            rc = small_record(j, p, plain, body_key);
    } else if (rc == 0) {
        rc = large_record(j, p, a, size, body_key);
    }
    secret_wipe(body_key, sizeof(body_key));
    arena_done(&arena);
    return rc;
}

/* Changes without a body, and bodies that are moved as they are. */
static int prepare_plain(struct job *j, struct preparer *p)
{
    int rc = record_encode(journal_desc(j->h.type), &j->effect, &j->effects, NULL, NULL);
    if (rc != 0)
        return rc;
    j->h.body_n = j->raw_body.iov_len;
    j->h.sealed_n = (uint32_t)j->effects.n;
    j->iov = calloc(1, sizeof(*j->iov));
    j->size = journal_record_size(&j->h);
    uint8_t *rec = j->iov != NULL ? add_buffer(j, (size_t)j->size) : NULL;
    if (rec == NULL)
        return -ENOMEM;
    if (j->h.body_n > 0)
        memcpy(rec + JOURNAL_HEADER, j->raw_body.iov_base, j->raw_body.iov_len);
    rc = put_tail(j, p, rec + JOURNAL_HEADER + j->h.body_n);
    j->crc = crc32c(0, rec + JOURNAL_HEADER, (size_t)j->size - JOURNAL_HEADER - JOURNAL_TRAILER);
    return rc;
}

int record_prepare(struct job *j, struct preparer *p)
{
    buf_init(&j->effects, JOURNAL_SEALED_MAX);
    rand_bytes(j->h.salt, SEAL_SALT);
    j->h.time_ms = clock_real_ms();
    int rc = j->accept != NULL ? prepare_accept(j, p) : prepare_plain(j, p);
    for (size_t i = 0; i < j->n_rcpts; i++)
        secret_wipe(j->rcpts[i].key, KEYS_SIZE);
    if (rc != 0)
        record_free(j);
    return rc;
}

void record_finish(struct job *j)
{
    struct iovec *last = &j->iov[j->n_iov - 1];
    journal_header_encode(&j->h, j->iov[0].iov_base);
    journal_trailer_encode(j->h.sequence, j->crc, (uint8_t *)last->iov_base + last->iov_len - JOURNAL_TRAILER);
}

/* ---- the thread ---- */

static uint64_t estimate(const struct job *j)
{
    if (j->accept == NULL)
        return j->raw_body.iov_len + JOURNAL_HEADER;
    return (j->accept->body_fd >= 0 ? j->accept->body_size : j->accept->body.n) + JOURNAL_HEADER;
}

/* With the lock held: the next job, once there is room for it. */
static struct job *take_job(struct store *s)
{
    for (;;) {
        if (s->quit)
            return NULL;
        if (list_empty(&s->prepare)) {
            (void)pthread_cond_wait(&s->prepare_more, &s->lock);
        } else if (s->prepared_bytes >= STORE_PREPARED_MAX) {
            (void)pthread_cond_wait(&s->room, &s->lock);
        } else {
            struct job *j = list_item(list_pop(&s->prepare), struct job, node);
            j->prepared = estimate(j);
            s->prepared_bytes += j->prepared;
            return j;
        }
    }
}

void *prepare_main(void *store)
{
    struct store *s = store;
    struct preparer p;
    struct job *j;
    int ready = preparer_init(&p, s->o.zstd_level);
    (void)pthread_mutex_lock(&s->lock);
    while ((j = take_job(s)) != NULL) {
        (void)pthread_mutex_unlock(&s->lock);
        int rc = ready == 0 ? record_prepare(j, &p) : ready;
        (void)pthread_mutex_lock(&s->lock);
        if (rc == 0) {
            list_add_tail(&s->commit, &j->node);
            if (s->commit_n++ == 0)
                (void)pthread_cond_signal(&s->commit_more);
        } else {
            s->prepared_bytes -= j->prepared;
            (void)pthread_cond_broadcast(&s->room);
            j->rc = rc;
            j->failed = true;
            list_add_tail(&s->done_committed, &j->committed_node);
            store_post_done(s);
        }
    }
    (void)pthread_mutex_unlock(&s->lock);
    if (ready == 0)
        preparer_done(&p);
    return NULL;
}
