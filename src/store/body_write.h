/* body_write.h: making the stored form of a body (store/body.h has the layout). Runs on the store's preparing threads. */
#ifndef KK_STORE_BODY_WRITE_H
#define KK_STORE_BODY_WRITE_H

#include "store/body.h"
#include "store/seal.h"

struct body_writer; /* one thread's compressor */
int body_writer_new(int zstd_level, struct body_writer **ret);
void body_writer_free(struct body_writer *w);

/* The most bytes that a frame of n octets can take when stored. */
#define BODY_FRAME_BOUND(n) ((n) + BODY_FRAME_HEADER + BODY_TAG)
/* How many frames a body of n octets has: at least one. */
static inline uint64_t body_frames(uint64_t n)
{
    return n == 0 ? 1 : (n + BODY_FRAME_MAX - 1) / BODY_FRAME_MAX;
}

/* Writes frame number `frame` holding `plain` (at most BODY_FRAME_MAX octets) to out (BODY_FRAME_BOUND(plain.n) bytes). */
int body_write_frame(struct body_writer *w, struct seal *s, const uint8_t key[SEAL_KEY], uint64_t frame, bool last, struct slice plain,
                     void *out, size_t *ret_n);

#endif
