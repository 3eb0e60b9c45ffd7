/* Stored bodies from outside. Twice: the bytes as they are; and as frames {header 12, content} that are well encrypted, so that what
 * stands behind the authentication is reached too. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store/body_frame.h"
#include "store/disk.h"
#include "store/seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t key[SEAL_KEY] = {1};

static void read_all(int fd, uint64_t stored, uint64_t body_size)
{
    struct body_reader *r;
    struct slice piece;
    uint64_t total = 0;
    if (body_reader_new(fd, 0, stored, body_size, BODY_FRAMED, key, &r) != 0)
        return;
    int rc;
    while ((rc = body_reader_next(r, &piece)) == 0 && piece.n > 0)
        total += piece.n;
    if (rc == 0 && total != body_size)
        abort();
    body_reader_free(r);
}

static uint64_t encrypt_frames(int fd, struct slice in, uint64_t *ret_plain)
{
    struct seal *s;
    uint64_t at = 0, frame = 0;
    struct slice header, content;
    struct body_frame f;
    *ret_plain = 0;
    if (seal_new(&s) != 0)
        abort();
    while (in.n > BODY_FRAME_HEADER) {
        header = slice_head(in, BODY_FRAME_HEADER);
        in = slice_from(in, BODY_FRAME_HEADER);
        if (body_frame_decode((const uint8_t *)header.p, &f) != 0)
            break;
        content = slice_head(in, f.stored_n);
        in = slice_from(in, f.stored_n);
        char out[4096 + SEAL_TAG];
        if (content.n < f.stored_n || content.n > 4096)
            break;
        if (seal_encrypt(s, key, SEAL_BODY, frame++, header, content.p, content.n, out, (uint8_t *)out + content.n) != 0 ||
            disk_write(&disk_real, fd, header.p, header.n, at) != 0 ||
            disk_write(&disk_real, fd, out, content.n + SEAL_TAG, at + header.n) != 0)
            abort();
        at += header.n + content.n + SEAL_TAG;
        *ret_plain += f.plain_n;
    }
    seal_free(s);
    return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t plain;
    int fd = memfd_create("body", MFD_CLOEXEC);
    if (fd < 0 || disk_write(&disk_real, fd, data, size, 0) != 0)
        abort();
    read_all(fd, size, size);
    uint64_t stored = encrypt_frames(fd, slice_of(data, size), &plain);
    read_all(fd, stored, plain);
    (void)close(fd);
    return 0;
}
