/* A segment file from outside: reading records, looking for the tail, opening what is sealed. Nothing may crash or hang, whatever the
 * bytes are. Twice: the bytes as they are; and with checksums and seals made right, so that what they guard is reached. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store/crc32c.h"
#include "store/disk.h"
#include "store/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t key[SEAL_KEY] = {1};

static void put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

/* The record at p: magic, checksums and seal as they should be. Its size, or 0 when it cannot be one. */
static size_t mend_record(uint8_t *p, size_t n, uint64_t sequence, struct seal *s)
{
    struct journal_header h;
    if (n < JOURNAL_HEADER + JOURNAL_TRAILER)
        return 0;
    memcpy(p, "KKR1", 4);
    p[4] %= JOURNAL_TYPES;
    memset(p + 5, 0, 3);
    memcpy(p + 8, &sequence, 8);
    put_u32(p + JOURNAL_HEADER - 4, crc32c(0, p, JOURNAL_HEADER - 4));
    if (journal_header_decode(p, &h) != 0 || journal_record_size(&h) > n)
        return 0;
    size_t size = (size_t)journal_record_size(&h);
    uint8_t *sealed = p + JOURNAL_HEADER + h.body_n;
    if (h.sealed_n != 0 && journal_seal(s, key, &h, slice_of(sealed, h.sealed_n), sealed) != 0)
        abort();
    journal_trailer_encode(h.sequence, crc32c(0, p + JOURNAL_HEADER, size - JOURNAL_HEADER - JOURNAL_TRAILER),
                           p + size - JOURNAL_TRAILER);
    return size;
}

static void mend(uint8_t *p, size_t size)
{
    struct seal *s;
    size_t n;
    uint64_t sequence = 1;
    if (seal_new(&s) != 0)
        abort();
    for (size_t at = JOURNAL_SEGMENT_HEADER; at < size && (n = mend_record(p + at, size - at, sequence, s)) != 0; at += n)
        sequence++;
    seal_free(s);
}

static void read_all(int fd, size_t size, bool check)
{
    struct journal_cursor c = {.fd = fd, .offset = JOURNAL_SEGMENT_HEADER, .end = size, .expect = check ? 1 : 0};
    struct journal_header h;
    struct journal_position at;
    struct seal *s;
    struct buf scratch;
    struct arena arena;
    if (seal_new(&s) != 0)
        return;
    buf_init(&scratch, JOURNAL_SEALED_MAX + SEAL_TAG);
    arena_init(&arena, 1 << 20);
    while (journal_next(&c, check, &h, &at) == 0) {
        union journal_effect e;
        if (at.next > size)
            abort();
        (void)journal_read(fd, &h, &at, s, key, &scratch, &arena, &e);
        arena_reset(&arena);
    }
    if (journal_scan_tail(&c, 1) < 0)
        abort();
    arena_done(&arena);
    buf_done(&scratch);
    seal_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct journal_segment g;
    uint8_t header[JOURNAL_SEGMENT_HEADER] = {0};
    int fd = memfd_create("segment", MFD_CLOEXEC);
    if (fd < 0 || disk_write(&disk_real, fd, data, size, 0) != 0)
        abort();
    memcpy(header, data, size < sizeof(header) ? size : sizeof(header));
    (void)journal_segment_decode(header, &g);
    read_all(fd, size, true);
    read_all(fd, size, false);
    uint8_t *copy = malloc(size + 1);
    if (copy == NULL)
        abort();
    memcpy(copy, data, size);
    mend(copy, size);
    if (disk_write(&disk_real, fd, copy, size, 0) != 0)
        abort();
    free(copy);
    read_all(fd, size, true);
    (void)close(fd);
    return 0;
}
