/* Tests of the store's parts: checksums, sealing, bodies, journal records, the key file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "store/body_write.h"
#include "store/crc32c.h"
#include "store/disk.h"
#include "store/journal.h"
#include "store/store_testing.h"

static void test_crc32c(void **state)
{
    (void)state;
    /* RFC 3720 B.4 */
    uint8_t b[32] = {0};
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, b, 32), 0x8a9136aa);
    memset(b, 0xff, 32);
    assert_int_equal(crc32c(0, b, 32), 0x62a8ab43);
    assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

static void test_seal(void **state)
{
    struct seal *s;
    uint8_t key[32] = {1}, other[32] = {2}, wrapped[SEAL_WRAPPED], back[32], tag[16], text[5];
    (void)state;
    assert_int_equal(seal_new(&s), 0);
    assert_int_equal(seal_wrap(s, key, SLICE("a"), other, wrapped), 0);
    assert_int_equal(seal_unwrap(s, key, SLICE("a"), wrapped, back), 0);
    assert_memory_equal(back, other, 32);
    assert_int_equal(seal_unwrap(s, key, SLICE("b"), wrapped, back), ERR_CORRUPT);
    wrapped[20] ^= 1;
    assert_int_equal(seal_unwrap(s, key, SLICE("a"), wrapped, back), ERR_CORRUPT);
    assert_int_equal(seal_encrypt(s, key, SEAL_BODY, 1, SLICE_EMPTY, "hello", 5, text, tag), 0);
    assert_int_equal(seal_decrypt(s, key, SEAL_BODY, 2, SLICE_EMPTY, text, 5, text, tag), ERR_CORRUPT);
    seal_free(s);
}

/* ---- bodies ---- */

struct body_file {
    int fd;
    uint64_t stored, size;
    uint8_t key[32];
};

static void fill(char *p, size_t n, bool noise)
{
    for (size_t i = 0; i < n; i++)
        p[i] = noise ? (char)(rand_u64() & 0xff) : (char)('a' + i / 7 % 26);
}

static struct body_file make_body(size_t size, bool noise, char **ret_plain)
{
    struct body_file f = {.fd = memfd_create("body", MFD_CLOEXEC), .size = size, .key = {9}};
    struct body_writer *w;
    struct seal *s;
    char *plain = malloc(size + 1), *out = malloc(BODY_FRAME_BOUND(BODY_FRAME_MAX));
    uint64_t frames = body_frames(size);
    fill(plain, size, noise);
    assert_int_equal(body_writer_new(1, &w), 0);
    assert_int_equal(seal_new(&s), 0);
    for (uint64_t i = 0; i < frames; i++) {
        size_t at = (size_t)i * BODY_FRAME_MAX, n = size - at < BODY_FRAME_MAX ? size - at : BODY_FRAME_MAX, stored;
        assert_int_equal(body_write_frame(w, s, f.key, i, i + 1 == frames, slice_of(plain + at, n), out, &stored), 0);
        assert_int_equal(disk_write(&disk_real, f.fd, out, stored, 100 + f.stored), 0);
        f.stored += stored;
    }
    body_writer_free(w);
    seal_free(s);
    free(out);
    *ret_plain = plain;
    return f;
}

static int read_body(const struct body_file *f, uint64_t stored, uint64_t size, struct buf *out)
{
    struct body_reader *r;
    struct slice piece;
    int rc = body_reader_new(f->fd, 100, stored, size, BODY_FRAMED, f->key, &r);
    if (rc != 0)
        return rc;
    while ((rc = body_reader_next(r, &piece)) == 0 && piece.n > 0)
        buf_put_slice(out, piece);
    body_reader_free(r);
    return rc;
}

/* One reader for all bodies, from memory; after a failure and a wipe, too. */
static void test_reader_again(void **state)
{
    static const size_t sizes[] = {3 * BODY_FRAME_MAX, 10, BODY_FRAME_MAX + 5, 0, 4000};
    struct body_reader *r = NULL;
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char *plain;
        struct buf out;
        struct slice piece;
        int rc;
        struct body_file f = make_body(sizes[i], i % 2 == 1, &plain);
        uint8_t wrong[32] = {1};
        buf_init(&out, 1 << 22);
        if (r == NULL)
            assert_int_equal(body_reader_new(f.fd, 100, f.stored, f.size, BODY_FRAMED, wrong, &r), 0);
        else
            assert_int_equal(body_reader_reuse(r, f.fd, 100, f.stored, f.size, BODY_FRAMED, wrong), 0);
        assert_int_equal(body_reader_try(r, &piece), ERR_CORRUPT);
        body_reader_wipe(r);
        assert_true(body_reader_try(r, &piece) < 0);
        assert_int_equal(body_reader_reuse(r, f.fd, 100, f.stored, f.size, BODY_FRAMED, f.key), 0);
        while ((rc = body_reader_try(r, &piece)) == 0 && piece.n > 0)
            buf_put_slice(&out, piece);
        assert_int_equal(rc, 0);
        assert_true(slice_eq(buf_slice(&out), slice_of(plain, f.size)));
        assert_int_equal(body_reader_reuse(r, f.fd, 100, 1, f.size, BODY_FRAMED, f.key), ERR_CORRUPT);
        assert_int_equal(body_reader_reuse(r, f.fd, 100, f.stored, f.size, BODY_FRAMED + 1, f.key), ERR_VERSION);
        buf_done(&out);
        free(plain);
        close(f.fd);
    }
    body_reader_free(r);
}

static void test_body(void **state)
{
    static const size_t sizes[] = {0, 1, 100, 65536, BODY_FRAME_MAX - 1, BODY_FRAME_MAX, BODY_FRAME_MAX + 1, 3 * BODY_FRAME_MAX + 17};
    (void)state;
    for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
        char *plain;
        struct buf out;
        struct body_file f = make_body(sizes[i / 2], i % 2 == 1, &plain);
        buf_init(&out, 1 << 22);
        assert_int_equal(read_body(&f, f.stored, f.size, &out), 0);
        assert_int_equal(out.n, f.size);
        assert_true(slice_eq(buf_slice(&out), slice_of(plain, f.size)));
        /* Wrong sizes, a cut, a changed byte. */
        assert_int_equal(read_body(&f, f.stored, f.size + 1, &out), ERR_CORRUPT);
        assert_int_equal(read_body(&f, f.stored - 1, f.size, &out), ERR_CORRUPT);
        assert_int_equal(read_body(&f, f.stored + 1, f.size, &out), ERR_CORRUPT);
        uint8_t byte;
        uint64_t at = 100 + rand_u64() % f.stored;
        assert_int_equal(disk_read(f.fd, &byte, 1, at), 0);
        byte ^= 0x10;
        assert_int_equal(disk_write(&disk_real, f.fd, &byte, 1, at), 0);
        int rc = read_body(&f, f.stored, f.size, &out);
        assert_true(rc == ERR_CORRUPT || rc == ERR_VERSION);
        buf_done(&out);
        free(plain);
        close(f.fd);
    }
}

/* ---- journal ---- */

static void test_segment_header(void **state)
{
    struct journal_segment g = {.id = 7, .size = 1 << 20, .first_sequence = 3, .first_event = 2, .created_ms = 5, .store = id_new()}, back;
    uint8_t raw[JOURNAL_SEGMENT_HEADER];
    (void)state;
    journal_segment_encode(&g, raw);
    assert_int_equal(journal_segment_decode(raw, &back), 0);
    assert_memory_equal(&g, &back, sizeof(g));
    raw[8] = 2; /* version, with its checksum */
    uint32_t crc = crc32c(0, raw, sizeof(raw) - 4);
    memcpy(raw + sizeof(raw) - 4, &crc, 4);
    assert_int_equal(journal_segment_decode(raw, &back), ERR_VERSION);
    raw[20] ^= 1;
    assert_int_equal(journal_segment_decode(raw, &back), ERR_CORRUPT);
}

/* n records of a mailbox change in a memfd; returns where each begins. */
static int make_journal(size_t n, uint64_t *at, const uint8_t *key)
{
    int fd = memfd_create("journal", MFD_CLOEXEC);
    struct seal *s;
    uint64_t offset = JOURNAL_SEGMENT_HEADER;
    assert_int_equal(ftruncate(fd, 1 << 16), 0);
    assert_int_equal(seal_new(&s), 0);
    for (size_t i = 0; i < n; i++) {
        struct j_account e = {.account = i + 1, .event = SLICE("happened")};
        struct journal_header h = {.type = JOURNAL_ACCOUNT_QUOTA, .sequence = i + 1, .durable = i, .event = i + 1};
        struct buf b;
        uint8_t rec[512] = {0};
        buf_init(&b, 400);
        assert_int_equal(record_encode(&record_j_account, &e, &b, NULL, NULL), 0);
        h.sealed_n = (uint32_t)b.n;
        rand_bytes(h.salt, sizeof(h.salt));
        assert_int_equal(journal_seal(s, key, &h, buf_slice(&b), rec + JOURNAL_HEADER), 0);
        size_t size = (size_t)journal_record_size(&h);
        journal_header_encode(&h, rec);
        journal_trailer_encode(h.sequence, crc32c(0, rec + JOURNAL_HEADER, size - JOURNAL_HEADER - JOURNAL_TRAILER),
                               rec + size - JOURNAL_TRAILER);
        assert_int_equal(disk_write(&disk_real, fd, rec, size, offset), 0);
        at[i] = offset;
        offset += size;
        buf_done(&b);
    }
    at[n] = offset;
    seal_free(s);
    return fd;
}

static size_t count_records(int fd, const uint8_t *key, int *ret_rc, struct journal_cursor *ret)
{
    struct journal_cursor c = {.fd = fd, .offset = JOURNAL_SEGMENT_HEADER, .end = 1 << 16, .expect = 1};
    struct journal_header h;
    struct journal_position at;
    struct seal *s;
    struct buf scratch;
    struct arena arena;
    size_t n = 0;
    assert_int_equal(seal_new(&s), 0);
    buf_init(&scratch, 4096);
    arena_init(&arena, 4096);
    while ((*ret_rc = journal_next(&c, true, &h, &at)) == 0) {
        union journal_effect e;
        assert_int_equal(journal_read(fd, &h, &at, s, key, &scratch, &arena, &e), 0);
        assert_int_equal(e.account.account, ++n);
        assert_true(slice_eq(journal_event(&h, &e), SLICE("happened")));
        arena_reset(&arena);
    }
    arena_done(&arena);
    buf_done(&scratch);
    seal_free(s);
    *ret = c;
    return n;
}

static void test_journal(void **state)
{
    uint8_t key[32] = {3}, byte;
    uint64_t at[9];
    struct journal_cursor c;
    int rc, fd = make_journal(8, at, key);
    (void)state;
    assert_int_equal(count_records(fd, key, &rc, &c), 8);
    assert_int_equal(rc, ERR_CLOSED);
    assert_int_equal(journal_scan_tail(&c, 9), JOURNAL_TAIL_CLEAN);
    /* Any byte of the last record changed: it is torn, and nothing proves that it was durable. */
    for (uint64_t p = at[7]; p < at[8]; p++) {
        assert_int_equal(disk_read(fd, &byte, 1, p), 0);
        byte ^= 0x40;
        assert_int_equal(disk_write(&disk_real, fd, &byte, 1, p), 0);
        assert_int_equal(count_records(fd, key, &rc, &c), 7);
        assert_true(rc == ERR_CORRUPT || rc == ERR_VERSION);
        assert_int_equal(journal_scan_tail(&c, 8), JOURNAL_TAIL_TORN);
        byte ^= 0x40;
        assert_int_equal(disk_write(&disk_real, fd, &byte, 1, p), 0);
    }
    /* The sixth: the seventh says that it was durable. */
    byte = 0xff;
    assert_int_equal(disk_write(&disk_real, fd, &byte, 1, at[5] + JOURNAL_HEADER + 3), 0);
    assert_int_equal(count_records(fd, key, &rc, &c), 5);
    assert_int_equal(rc, ERR_CORRUPT);
    assert_int_equal(journal_scan_tail(&c, 6), JOURNAL_TAIL_DAMAGED);
    close(fd);
}

/* ---- keys ---- */

static bool lives_odd(void *arg, struct store_account a)
{
    (void)arg;
    return a.id % 2 == 1;
}

static int load_keys(int dir, struct id128 store, struct keys **ret)
{
    struct store_key_ops ops = {testing_wrap, testing_unwrap, NULL};
    struct err err = {0};
    assert_int_equal(keys_new(&disk_real, dir, store, &ops, NULL, ret), 0);
    return keys_load(*ret, true, &err);
}

static void test_keys(void **state)
{
    char path[64];
    struct id128 store = id_new();
    struct keys *k;
    struct err err;
    uint8_t key[100][32], journal[32];
    int dir = testing_dir(path);
    (void)state;
    assert_int_equal(load_keys(dir, store, &k), 0);
    memcpy(journal, keys_journal(k), 32);
    for (uint64_t i = 0; i < 100; i++) {
        assert_int_equal(keys_add(k, STORE_ACCOUNT(i + 1), &err), 0);
        assert_int_equal(keys_add(k, STORE_ACCOUNT(i + 1), &err), 0);
        memcpy(key[i], keys_account(k, STORE_ACCOUNT(i + 1)), 32);
    }
    keys_free(k);
    assert_int_equal(load_keys(dir, store, &k), 0);
    assert_int_equal(keys_count(k), 100);
    assert_memory_equal(journal, keys_journal(k), 32);
    /* The old file is overwritten: what was wrapped under the old KEK is nowhere. */
    char copy[128];
    (void)snprintf(copy, sizeof(copy), "/proc/self/fd/%d/keys.kk", dir);
    int old = open(copy, O_RDONLY);
    assert_int_equal(keys_retain(k, lives_odd, NULL, &err), 0);
    uint8_t raw[512];
    struct stat st;
    assert_int_equal(fstat(old, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    for (off_t at = 0; at + (off_t)sizeof(raw) <= st.st_size; at += (off_t)sizeof(raw)) {
        assert_int_equal(disk_read(old, raw, sizeof(raw), (uint64_t)at), 0);
        for (size_t i = 0; i < sizeof(raw); i++)
            assert_int_equal(raw[i], 0);
    }
    close(old);
    assert_int_equal(keys_add(k, STORE_ACCOUNT(1000), &err), 0);
    keys_free(k);
    assert_int_equal(load_keys(dir, store, &k), 0);
    assert_int_equal(keys_count(k), 51);
    for (uint64_t i = 0; i < 100; i++) {
        const uint8_t *is = keys_account(k, STORE_ACCOUNT(i + 1));
        if (i % 2 == 0)
            assert_memory_equal(is, key[i], 32);
        else
            assert_null(is);
    }
    keys_free(k);
    /* A torn last entry was never acknowledged; anything else is damage. */
    int fd = open(copy, O_RDWR);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(ftruncate(fd, st.st_size - 30), 0);
    assert_int_equal(load_keys(dir, store, &k), 0);
    assert_int_equal(keys_count(k), 50);
    assert_int_equal(keys_add(k, STORE_ACCOUNT(2000), &err), 0);
    keys_free(k);
    close(fd);
    assert_int_equal(load_keys(dir, store, &k), 0);
    assert_int_equal(keys_count(k), 51);
    keys_free(k);
    fd = open(copy, O_RDWR);
    assert_int_equal(pwrite(fd, "x", 1, 600), 1);
    close(fd);
    assert_int_equal(load_keys(dir, store, &k), ERR_CORRUPT);
    keys_free(k);
    assert_int_equal(load_keys(dir, id_new(), &k), ERR_CORRUPT);
    keys_free(k);
    close(dir);
    testing_remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c),  cmocka_unit_test(test_seal),    cmocka_unit_test(test_body), cmocka_unit_test(test_reader_again),
        cmocka_unit_test(test_segment_header), cmocka_unit_test(test_journal), cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
