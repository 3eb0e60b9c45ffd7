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

int body_reader_new(int fd, uint64_t offset, uint64_t stored_size, uint64_t body_size, uint8_t codec, const uint8_t key[32],
                    struct body_reader **ret)
{
    if (codec != BODY_FRAMED)
        return ERR_VERSION;
    if (stored_size < BODY_FRAME_HEADER + BODY_TAG || offset > INT64_MAX || stored_size > INT64_MAX - offset)
        return ERR_CORRUPT;
    struct body_reader *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return -ENOMEM;
    r->fd = fd;
    r->start = offset;
    r->stored_size = stored_size;
    r->body_size = body_size;
    memcpy(r->key, key, SEAL_KEY);
    r->zstd = ZSTD_createDCtx();
    if (r->zstd == NULL || seal_new(&r->seal) != 0) {
        body_reader_free(r);
        return -ENOMEM;
    }
    *ret = r;
    return 0;
}

void body_reader_free(struct body_reader *r)
{
    if (r == NULL)
        return;
    seal_free(r->seal);
    (void)ZSTD_freeDCtx(r->zstd);
    if (r->stored != NULL)
        secret_wipe(r->stored, r->stored_cap);
    if (r->plain != NULL)
        secret_wipe(r->plain, r->plain_cap);
    free(r->stored);
    free(r->plain);
    secret_wipe(r->key, sizeof(r->key));
    free(r);
}

void body_reader_rewind(struct body_reader *r)
{
    r->at = r->plain_at = r->frame = 0;
    r->ended = false;
    r->failed = 0;
}

static int grow(char **p, size_t *cap, size_t n)
{
    if (n <= *cap)
        return 0;
    char *bigger = realloc(*p, n);
    if (bigger == NULL)
        return -ENOMEM;
    *p = bigger;
    *cap = n;
    return 0;
}

/* The frame's stored octets and tag are in r->stored. */
static int unpack(struct body_reader *r, const struct body_frame *f, const uint8_t *header, struct slice *ret)
{
    char *in = r->stored;
    int rc = seal_decrypt(r->seal, r->key, SEAL_BODY, r->frame, slice_of(header, BODY_FRAME_HEADER), in, f->stored_n, in,
                          (const uint8_t *)in + f->stored_n);
    if (rc != 0)
        return rc;
    if (f->codec == BODY_STORED) {
        *ret = slice_of(in, f->stored_n);
        return 0;
    }
    rc = grow(&r->plain, &r->plain_cap, f->plain_n != 0 ? f->plain_n : 1);
    if (rc != 0)
        return rc;
    size_t n = ZSTD_decompressDCtx(r->zstd, r->plain, f->plain_n, in, f->stored_n);
    if (ZSTD_isError(n) || n != f->plain_n)
        return ERR_CORRUPT;
    *ret = slice_of(r->plain, n);
    return 0;
}

static int read_frame(struct body_reader *r, struct slice *ret)
{
    uint8_t header[BODY_FRAME_HEADER];
    struct body_frame f;
    if (r->stored_size - r->at < sizeof(header) + BODY_TAG)
        return ERR_CORRUPT;
    int rc = disk_read(r->fd, header, sizeof(header), r->start + r->at);
    if (rc == 0)
        rc = body_frame_decode(header, &f);
    if (rc != 0)
        return rc == -ENODATA ? ERR_CORRUPT : rc;
    size_t n = (size_t)f.stored_n + BODY_TAG;
    if (r->stored_size - r->at - sizeof(header) < n)
        return ERR_CORRUPT;
    rc = grow(&r->stored, &r->stored_cap, n);
    if (rc == 0)
        rc = disk_read(r->fd, r->stored, n, r->start + r->at + sizeof(header));
    if (rc == 0)
        rc = unpack(r, &f, header, ret);
    if (rc != 0)
        return rc == -ENODATA ? ERR_CORRUPT : rc;
    r->at += sizeof(header) + n;
    r->plain_at += f.plain_n;
    r->frame++;
    r->ended = f.last;
    /* The end of the frames, of the stored bytes and of the body must be one. An empty frame that is not the end would be a
     * loop without progress. */
    if (f.last ? r->at != r->stored_size || r->plain_at != r->body_size : f.plain_n == 0 || r->plain_at >= r->body_size)
        return ERR_CORRUPT;
    return 0;
}

int body_reader_next(struct body_reader *r, struct slice *ret)
{
    struct slice piece = SLICE_EMPTY;
    if (r->failed == 0 && !r->ended)
        r->failed = read_frame(r, &piece);
    if (r->failed == 0)
        *ret = piece;
    return r->failed;
}
