/* body.h: reading a stored body, given a descriptor of the segment, where it is and its key: what imapd does with message_locate.
 * Pure: pread, decrypt, decompress; no store. Every piece is authenticated before it is given out; a truncated, reordered or
 * changed body is ERR_CORRUPT, at the latest when the last piece is asked for.
 *
 * A body is a sequence of frames of at most BODY_FRAME_MAX octets of plain text (docs/STORE.md section 4): header of 12 bytes
 * {u8 codec, u8 flags (1: last), u16 zero, u32 plain length, u32 stored length}, the stored octets encrypted with AES-256-GCM
 * (nonce: u32 1, u64 frame number; additional data: the header), 16 bytes tag. */
#ifndef KK_STORE_BODY_H
#define KK_STORE_BODY_H

#include "base/err.h"
#include "base/slice.h"

#define BODY_FRAME_MAX (256 * 1024)
#define BODY_FRAME_HEADER 12
#define BODY_TAG 16

/* store_place.codec: the layout of the body as a whole. */
enum body_codec { BODY_FRAMED = 1 };
/* The codec of a frame. */
enum body_frame_codec { BODY_STORED = 0, BODY_ZSTD = 1 };

struct body_reader;

/* Does not own fd; copies the key. ERR_VERSION: a codec of a newer program. ERR_CORRUPT: sizes that cannot be. */
int body_reader_new(int fd, uint64_t offset, uint64_t stored_size, uint64_t body_size, uint8_t codec, const uint8_t key[32],
                    struct body_reader **ret);
/* Uses a reader again for another body, with the memory it has: making one costs more than reading a small body. */
int body_reader_reuse(struct body_reader *r, int fd, uint64_t offset, uint64_t stored_size, uint64_t body_size, uint8_t codec,
                      const uint8_t key[32]);
/* Wipes the key and what was read; only reuse and free are allowed then. */
void body_reader_wipe(struct body_reader *r);
/* Wipes and frees. NULL allowed. */
void body_reader_free(struct body_reader *r);
/* The next piece (up to BODY_FRAME_MAX octets), valid until the next call. Empty: the end, and everything was there. Blocks for the
 * disk. After a failure every call fails alike. ERR_CORRUPT, -errno. */
int body_reader_next(struct body_reader *r, struct slice *ret);
/* The same without waiting for the disk: -EAGAIN when a part is not in memory; nothing has happened then. */
int body_reader_try(struct body_reader *r, struct slice *ret);
/* Starts again from the first octet. */
void body_reader_rewind(struct body_reader *r);

#endif
