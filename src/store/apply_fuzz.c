/* Effects that decode, but that no store of ours would have written: applied to an index, they are refused as damaged or come to
 * something, and never crash. Input: {u8 type, u16 length, effects}... after a living account 1 with one message. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "store/apply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct index *x;

static void make_index(void)
{
    char path[] = "/tmp/kk-apply-fuzz-XXXXXX";
    struct err err;
    if (mkdtemp(path) == NULL)
        abort();
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct id128 id = {{1}};
    if (dir < 0 || index_open(dir, 64 << 20, id, false, &x, &err) != 0)
        abort();
    (void)unlinkat(dir, "index.mdb", 0);
    (void)unlinkat(dir, "index.mdb-lock", 0);
    (void)close(dir);
    (void)rmdir(path);
}

static int apply_effects(struct apply *a, unsigned type, struct slice effects)
{
    struct journal_header h = {.type = (uint16_t)type, .sequence = a->mark.sequence + 1, .time_ms = 1000, .body = {{7}}, .body_n = 50};
    struct journal_position at = {.offset = 128, .body_offset = 224, .sealed_offset = 274, .next = 400};
    union journal_effect e;
    struct apply_result r = {0};
    struct arena arena;
    arena_init(&arena, 1 << 22);
    int rc = journal_decode(&h, effects, &arena, &e);
    if (rc == 0)
        rc = apply_record(a, 1, &at, &h, &e, &r);
    apply_result_done(&r);
    arena_done(&arena);
    return rc;
}

static void begin_account(struct apply *a)
{
    struct j_account c = {.account = 1, .event = SLICE_EMPTY};
    uint8_t key[SEAL_WRAPPED] = {0};
    struct j_place p = {.account = 1, .mailbox = 1, .size = 10, .key = slice_of(key, sizeof(key)), .prefix = SLICE("0123456789abcdef")};
    struct j_accept m = {.message = {{3}}, .sender = SLICE_EMPTY, .meta = SLICE("0123456789abcdef"), .places = {1, &p},
                         .statuses = SLICE("\0\0\0\0"), .event = SLICE_EMPTY};
    struct buf b;
    buf_init(&b, 4096);
    (void)record_encode(&record_j_account, &c, &b, NULL, NULL);
    if (apply_effects(a, JOURNAL_ACCOUNT_CREATE, buf_slice(&b)) != 0)
        abort();
    buf_reset(&b);
    (void)record_encode(&record_j_accept, &m, &b, NULL, NULL);
    if (apply_effects(a, JOURNAL_ACCEPT, buf_slice(&b)) != 0)
        abort();
    buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice s = slice_of(data, size), effects;
    struct apply a;
    MDB_txn *t;
    uint8_t type;
    uint16_t n;
    if (x == NULL)
        make_index();
    if (index_write_begin(x, &t) != 0 || apply_begin(&a, x, t) != 0)
        abort();
    begin_account(&a);
    int rc = 0;
    while (rc == 0 && slice_get_u8(&s, &type) && slice_get_u16(&s, &n) && slice_get_bytes(&s, n < s.n ? n : s.n, &effects))
        rc = apply_effects(&a, type, effects);
    index_write_abort(x, t); /* nothing is kept: every input begins alike */
    return 0;
}
