/* Compressing and encrypting frames: see body_write.h. */
#include "store/body_write.h"

#include <stdlib.h>
#include <zstd.h>

#include "store/body_frame.h"

struct body_writer {
    ZSTD_CCtx *ctx;
};

int body_writer_new(int zstd_level, struct body_writer **ret)
{
    struct body_writer *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return -ENOMEM;
    w->ctx = ZSTD_createCCtx();
    if (w->ctx == NULL || ZSTD_isError(ZSTD_CCtx_setParameter(w->ctx, ZSTD_c_compressionLevel, zstd_level)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(w->ctx, ZSTD_c_contentSizeFlag, 0))) {
        body_writer_free(w);
        return -ENOMEM;
    }
    *ret = w;
    return 0;
}

void body_writer_free(struct body_writer *w)
{
    if (w == NULL)
        return;
    (void)ZSTD_freeCCtx(w->ctx);
    free(w);
}

int body_write_frame(struct body_writer *w, struct seal *s, const uint8_t key[SEAL_KEY], uint64_t frame, bool last, struct slice plain,
                     void *out, size_t *ret_n)
{
    uint8_t *header = out, *content = header + BODY_FRAME_HEADER;
    struct body_frame f = {.codec = BODY_ZSTD, .last = last, .plain_n = (uint32_t)plain.n};
    const void *from = content;
    /* Room for less than the plain octets: what does not shrink is stored as it is. */
    size_t n = plain.n > 0 ? ZSTD_compress2(w->ctx, content, plain.n - 1, plain.p, plain.n) : 0;
    if (plain.n == 0 || ZSTD_isError(n)) {
        f.codec = BODY_STORED;
        n = plain.n;
        from = plain.p;
    }
    f.stored_n = (uint32_t)n;
    body_frame_encode(&f, header);
    *ret_n = BODY_FRAME_BOUND(n);
    return seal_encrypt(s, key, SEAL_BODY, frame, slice_of(header, BODY_FRAME_HEADER), from, n, content, content + n);
}
