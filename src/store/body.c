/* Reading bodies: see body.h. */
#include "store/body.h"

#include <stdlib.h>
#include <zstd.h>

#include "base/buf.h"
#include "base/secret.h"
#include "store/body_frame.h"
#include "store/disk.h"
#include "store/seal.h"

#define FRAME_LAST 1

struct body_reader {
    int fd;
    int failed; /* the code that every call gives */
    uint64_t start, stored_size, body_size;
    uint64_t at, plain_at; /* of what was read so far */
    uint64_t frame;
    bool ended;
    struct seal *seal;
    ZSTD_DCtx *zstd;
    char *stored, *plain;
    size_t stored_cap, plain_cap;
    size_t stored_used, plain_used; /* how far there is something to wipe */
    uint8_t key[SEAL_KEY];
};

void body_frame_encode(const struct body_frame *f, uint8_t out[BODY_FRAME_HEADER])
{
    memset(out, 0, BODY_FRAME_HEADER);
    out[0] = f->codec;
    out[1] = f->last ? FRAME_LAST : 0;
    for (int i = 0; i < 4; i++) {
        out[4 + i] = (uint8_t)(f->plain_n >> (8 * i));
        out[8 + i] = (uint8_t)(f->stored_n >> (8 * i));
    }
}

int body_frame_decode(const uint8_t in[BODY_FRAME_HEADER], struct body_frame *ret)
{
    struct slice s = slice_of(in, BODY_FRAME_HEADER);
    struct body_frame f;
    uint8_t flags;
    uint16_t zero;
    (void)slice_get_u8(&s, &f.codec);
    (void)slice_get_u8(&s, &flags);
    (void)slice_get_u16(&s, &zero);
    (void)slice_get_u32(&s, &f.plain_n);
    (void)slice_get_u32(&s, &f.stored_n);
    f.last = flags == FRAME_LAST;
    if (flags > FRAME_LAST || zero != 0 || f.plain_n > BODY_FRAME_MAX || f.stored_n > f.plain_n)
        return ERR_CORRUPT;
    if (f.codec > BODY_ZSTD)
        return ERR_VERSION;
    if (f.codec == BODY_STORED && f.stored_n != f.plain_n)
        return ERR_CORRUPT;
    *ret = f;
    return 0;
}

int body_reader_reuse(struct body_reader *r, int fd, uint64_t offset, uint64_t stored_size, uint64_t body_size, uint8_t codec,
                      const uint8_t key[32])
{
    if (codec != BODY_FRAMED)
        return ERR_VERSION;
    if (stored_size < BODY_FRAME_HEADER + BODY_TAG || offset > INT64_MAX || stored_size > INT64_MAX - offset)
        return ERR_CORRUPT;
    body_reader_rewind(r);
    r->fd = fd;
    r->start = offset;
    r->stored_size = stored_size;
    r->body_size = body_size;
    memcpy(r->key, key, SEAL_KEY);
    return 0;
}

int body_reader_new(int fd, uint64_t offset, uint64_t stored_size, uint64_t body_size, uint8_t codec, const uint8_t key[32],
                    struct body_reader **ret)
{
    struct body_reader *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return -ENOMEM;
    int rc = body_reader_reuse(r, fd, offset, stored_size, body_size, codec, key);
    if (rc == 0 && ((r->zstd = ZSTD_createDCtx()) == NULL || seal_new(&r->seal) != 0))
        rc = -ENOMEM;
    if (rc != 0)
        body_reader_free(r);
    else
        *ret = r;
    return rc;
}

void body_reader_wipe(struct body_reader *r)
{
    if (r->stored != NULL)
        secret_wipe(r->stored, r->stored_used);
    if (r->plain != NULL)
        secret_wipe(r->plain, r->plain_used);
    r->stored_used = r->plain_used = 0;
    secret_wipe(r->key, sizeof(r->key));
    r->failed = -EBADF;
}

void body_reader_free(struct body_reader *r)
{
    if (r == NULL)
        return;
    seal_free(r->seal);
    (void)ZSTD_freeDCtx(r->zstd);
    body_reader_wipe(r);
    free(r->stored);
    free(r->plain);
    free(r);
}

void body_reader_rewind(struct body_reader *r)
{
    r->at = r->plain_at = r->frame = 0;
    r->ended = false;
    r->failed = 0;
}

/* What was there is not kept: realloc would leave a copy behind. */
static int grow(char **p, size_t *cap, size_t *used, size_t n)
{
    if (n > *cap) {
        char *bigger = malloc(n);
        if (bigger == NULL)
            return -ENOMEM;
        if (*p != NULL)
            secret_wipe(*p, *used);
        free(*p);
        *p = bigger;
        *cap = n;
        *used = 0;
    }
    if (n > *used)
        *used = n;
    return 0;
}

/* in: the frame's stored octets with the tag behind them, to be decrypted in place. */
static int unpack(struct body_reader *r, const struct body_frame *f, const char *header, char *in, struct slice *ret)
{
    int rc = seal_decrypt(r->seal, r->key, SEAL_BODY, r->frame, slice_of(header, BODY_FRAME_HEADER), in, f->stored_n, in,
                          (const uint8_t *)in + f->stored_n);
    if (rc != 0)
        return rc;
    if (f->codec == BODY_STORED) {
        *ret = slice_of(in, f->stored_n);
        return 0;
    }
    rc = grow(&r->plain, &r->plain_cap, &r->plain_used, f->plain_n != 0 ? f->plain_n : 1);
    if (rc != 0)
        return rc;
    size_t n = ZSTD_decompressDCtx(r->zstd, r->plain, f->plain_n, in, f->stored_n);
    if (ZSTD_isError(n) || n != f->plain_n)
        return ERR_CORRUPT;
    *ret = slice_of(r->plain, n);
    return 0;
}

typedef int read_fn(int fd, void *p, size_t n, uint64_t offset);

/* The next frame with its header into r->stored. What is left of the body is read at once when it cannot be more than a frame. */
static int fetch_frame(struct body_reader *r, read_fn *read, struct body_frame *ret)
{
    uint64_t left = r->stored_size - r->at;
    size_t n = left <= BODY_FRAME_HEADER + BODY_FRAME_MAX + BODY_TAG ? (size_t)left : BODY_FRAME_HEADER;
    struct body_frame f;
    if (left < BODY_FRAME_HEADER + BODY_TAG)
        return ERR_CORRUPT;
    int rc = grow(&r->stored, &r->stored_cap, &r->stored_used, n == left ? n : BODY_FRAME_HEADER + BODY_FRAME_MAX + BODY_TAG);
    if (rc == 0)
        rc = read(r->fd, r->stored, n, r->start + r->at);
    if (rc == 0)
        rc = body_frame_decode((const uint8_t *)r->stored, &f);
    if (rc != 0)
        return rc;
    size_t whole = BODY_FRAME_HEADER + (size_t)f.stored_n + BODY_TAG;
    if (left < whole)
        return ERR_CORRUPT;
    if (n < whole)
        rc = read(r->fd, r->stored + n, whole - n, r->start + r->at + n);
    if (rc == 0)
        *ret = f;
    return rc;
}

static int read_frame(struct body_reader *r, read_fn *read, struct slice *ret)
{
    struct body_frame f;
    int rc = fetch_frame(r, read, &f);
    if (rc == 0)
        rc = unpack(r, &f, r->stored, r->stored + BODY_FRAME_HEADER, ret);
    if (rc != 0)
        return rc == -ENODATA ? ERR_CORRUPT : rc;
    r->at += BODY_FRAME_HEADER + (uint64_t)f.stored_n + BODY_TAG;
    r->plain_at += f.plain_n;
    r->frame++;
    r->ended = f.last;
    /* The end of the frames, of the stored bytes and of the body must be one. An empty frame that is not the end would be a
     * loop without progress. */
    if (f.last ? r->at != r->stored_size || r->plain_at != r->body_size : f.plain_n == 0 || r->plain_at >= r->body_size)
        return ERR_CORRUPT;
    return 0;
}

static int next_piece(struct body_reader *r, read_fn *read, struct slice *ret)
{
    struct slice piece = SLICE_EMPTY;
    int rc = r->failed;
    if (rc == 0 && !r->ended)
        rc = read_frame(r, read, &piece);
    if (rc == 0)
        *ret = piece;
    else if (rc != -EAGAIN)
        r->failed = rc;
    return rc;
}

int body_reader_next(struct body_reader *r, struct slice *ret)
{
    return next_piece(r, disk_read, ret);
}

int body_reader_try(struct body_reader *r, struct slice *ret)
{
    return next_piece(r, disk_read_cached, ret);
}
