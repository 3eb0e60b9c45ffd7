/* Segment headers, record headers, sealed sections, reading: see journal.h. */
#include "store/journal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/secret.h"
#include "store/crc32c.h"
#include "store/disk.h"

RECORD_DEFINE(j_keyword);
RECORD_DEFINE(j_place);
RECORD_DEFINE(j_accept);
RECORD_DEFINE(j_change);
RECORD_DEFINE(j_account);
RECORD_DEFINE(j_mailbox);
RECORD_DEFINE(j_body_move);
RECORD_DEFINE(j_sweep);

#define MAGIC_SEGMENT "KKSEGMT"   /* with its NUL: 8 bytes */
#define MAGIC_HEADER 0x31524b4bu  /* "KKR1" */
#define MAGIC_TRAILER 0x45524b4bu /* "KKRE" */
#define SCAN_STEP (1024 * 1024)

const struct record_desc *journal_desc(unsigned type)
{
    static const struct record_desc *const descs[JOURNAL_TYPES] = {
        [JOURNAL_ACCEPT] = &record_j_accept,
        [JOURNAL_EXPUNGE] = &record_j_change,
        [JOURNAL_FLAGS] = &record_j_change,
        [JOURNAL_COPY] = &record_j_change,
        [JOURNAL_MOVE] = &record_j_change,
        [JOURNAL_ACCOUNT_CREATE] = &record_j_account,
        [JOURNAL_ACCOUNT_DELETE] = &record_j_account,
        [JOURNAL_ACCOUNT_QUOTA] = &record_j_account,
        [JOURNAL_ACCOUNT_PURGE] = &record_j_account,
        [JOURNAL_MAILBOX_CREATE] = &record_j_mailbox,
        [JOURNAL_MAILBOX_RENAME] = &record_j_mailbox,
        [JOURNAL_MAILBOX_FLAGS] = &record_j_mailbox,
        [JOURNAL_MAILBOX_DELETE] = &record_j_mailbox,
        [JOURNAL_BODY_MOVE] = &record_j_body_move,
        [JOURNAL_SWEEP] = &record_j_sweep,
    };
    return type < JOURNAL_TYPES ? descs[type] : NULL;
}

/* ---- little-endian fields of fixed-size headers ---- */

static void put(uint8_t **p, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        *(*p)++ = (uint8_t)(v >> (8 * i));
}

static uint64_t get(const uint8_t **p, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)*(*p)++ << (8 * i);
    return v;
}

void journal_segment_encode(const struct journal_segment *g, uint8_t out[JOURNAL_SEGMENT_HEADER])
{
    uint8_t *p = out;
    memset(out, 0, JOURNAL_SEGMENT_HEADER);
    memcpy(p, MAGIC_SEGMENT, 8);
    p += 8;
    put(&p, JOURNAL_VERSION, 4);
    put(&p, 0, 4);
    put(&p, g->id, 8);
    put(&p, g->size, 8);
    put(&p, g->first_sequence, 8);
    put(&p, g->first_event, 8);
    put(&p, (uint64_t)g->created_ms, 8);
    memcpy(p, g->store.b, sizeof(g->store.b));
    p = out + JOURNAL_SEGMENT_HEADER - 4;
    put(&p, crc32c(0, out, JOURNAL_SEGMENT_HEADER - 4), 4);
}

int journal_segment_decode(const uint8_t in[JOURNAL_SEGMENT_HEADER], struct journal_segment *ret)
{
    const uint8_t *p = in + JOURNAL_SEGMENT_HEADER - 4;
    struct journal_segment g = {0};
    if (memcmp(in, MAGIC_SEGMENT, 8) != 0 || get(&p, 4) != crc32c(0, in, JOURNAL_SEGMENT_HEADER - 4))
        return ERR_CORRUPT;
    p = in + 8;
    uint64_t version = get(&p, 4), features = get(&p, 4);
    if (version > JOURNAL_VERSION || features != 0)
        return ERR_VERSION;
    g.id = get(&p, 8);
    g.size = get(&p, 8);
    g.first_sequence = get(&p, 8);
    g.first_event = get(&p, 8);
    g.created_ms = (int64_t)get(&p, 8);
    memcpy(g.store.b, p, sizeof(g.store.b));
    if (g.size > INT64_MAX)
        return ERR_CORRUPT;
    *ret = g;
    return 0;
}

void journal_header_encode(const struct journal_header *h, uint8_t out[JOURNAL_HEADER])
{
    uint8_t *p = out;
    memset(out, 0, JOURNAL_HEADER);
    put(&p, MAGIC_HEADER, 4);
    put(&p, h->type, 2);
    put(&p, 0, 2);
    put(&p, h->sequence, 8);
    put(&p, h->durable, 8);
    put(&p, h->event, 8);
    put(&p, (uint64_t)h->time_ms, 8);
    put(&p, h->body_n, 8);
    put(&p, h->sealed_n, 4);
    memcpy(p, h->salt, SEAL_SALT);
    memcpy(p + SEAL_SALT, h->body.b, sizeof(h->body.b));
    p = out + JOURNAL_HEADER - 4;
    put(&p, crc32c(0, out, JOURNAL_HEADER - 4), 4);
}

int journal_header_decode(const uint8_t in[JOURNAL_HEADER], struct journal_header *ret)
{
    const uint8_t *p = in, *crc = in + JOURNAL_HEADER - 4;
    struct journal_header h = {0};
    if (get(&p, 4) != MAGIC_HEADER || get(&crc, 4) != crc32c(0, in, JOURNAL_HEADER - 4))
        return ERR_CORRUPT;
    h.type = (uint16_t)get(&p, 2);
    uint64_t flags = get(&p, 2);
    h.sequence = get(&p, 8);
    h.durable = get(&p, 8);
    h.event = get(&p, 8);
    h.time_ms = (int64_t)get(&p, 8);
    h.body_n = get(&p, 8);
    h.sealed_n = (uint32_t)get(&p, 4);
    memcpy(h.salt, p, SEAL_SALT);
    memcpy(h.body.b, p + SEAL_SALT, sizeof(h.body.b));
    if (h.type >= JOURNAL_TYPES || flags != 0)
        return ERR_VERSION;
    if (h.type == 0 || h.sealed_n > JOURNAL_SEALED_MAX || h.body_n > UINT32_MAX || h.sequence == 0 || h.sequence > INT64_MAX ||
        (h.body_n != 0) == id_is_zero(h.body))
        return ERR_CORRUPT;
    *ret = h;
    return 0;
}

static uint64_t payload_size(const struct journal_header *h)
{
    uint64_t n = h->body_n + (h->sealed_n != 0 ? (uint64_t)h->sealed_n + SEAL_TAG : 0);
    return (n + JOURNAL_ALIGN - 1) & ~(uint64_t)(JOURNAL_ALIGN - 1);
}

uint64_t journal_record_size(const struct journal_header *h)
{
    return JOURNAL_HEADER + payload_size(h) + JOURNAL_TRAILER;
}

void journal_trailer_encode(uint64_t sequence, uint32_t crc, uint8_t out[JOURNAL_TRAILER])
{
    put(&out, MAGIC_TRAILER, 4);
    put(&out, crc, 4);
    put(&out, sequence, 8);
}

bool journal_trailer_check(const uint8_t in[JOURNAL_TRAILER], uint64_t sequence, uint32_t crc)
{
    const uint8_t *p = in;
    return get(&p, 4) == MAGIC_TRAILER && get(&p, 4) == crc && get(&p, 8) == sequence;
}

/* ---- effects ---- */

#define AAD_SIZE (2 + 16 + 8)

static struct slice make_aad(const struct journal_header *h, uint8_t aad[AAD_SIZE])
{
    uint8_t *p = aad;
    put(&p, h->type, 2);
    memcpy(p, h->body.b, 16);
    p += 16;
    put(&p, h->body_n, 8);
    return slice_of(aad, AAD_SIZE);
}

int journal_seal(struct seal *s, const uint8_t journal_key[SEAL_KEY], const struct journal_header *h, struct slice effects, void *out)
{
    uint8_t key[SEAL_KEY], aad[AAD_SIZE];
    int rc = seal_derive(s, journal_key, h->salt, key);
    if (rc == 0)
        rc = seal_encrypt(s, key, SEAL_RECORD, 0, make_aad(h, aad), effects.p, effects.n, out, (uint8_t *)out + effects.n);
    secret_wipe(key, sizeof(key));
    return rc;
}

int journal_decode(const struct journal_header *h, struct slice effects, struct arena *arena, union journal_effect *ret)
{
    const struct record_desc *d = journal_desc(h->type);
    if (d == NULL)
        return ERR_CORRUPT;
    int rc = record_decode(d, effects, NULL, 0, arena, ret);
    return rc == 0 || rc == -ENOMEM ? rc : ERR_CORRUPT;
}

int journal_open(struct seal *s, const uint8_t journal_key[SEAL_KEY], const struct journal_header *h, void *sealed, struct arena *arena,
                 union journal_effect *ret)
{
    uint8_t key[SEAL_KEY], aad[AAD_SIZE];
    int rc = seal_derive(s, journal_key, h->salt, key);
    if (rc == 0)
        rc = seal_decrypt(s, key, SEAL_RECORD, 0, make_aad(h, aad), sealed, h->sealed_n, sealed, (uint8_t *)sealed + h->sealed_n);
    secret_wipe(key, sizeof(key));
    return rc == 0 ? journal_decode(h, slice_of(sealed, h->sealed_n), arena, ret) : rc;
}

struct slice journal_event(const struct journal_header *h, const union journal_effect *e)
{
    switch (h->type) {
    case JOURNAL_ACCEPT: return e->accept.event;
    case JOURNAL_EXPUNGE:
    case JOURNAL_FLAGS:
    case JOURNAL_COPY:
    case JOURNAL_MOVE: return e->change.event;
    case JOURNAL_ACCOUNT_CREATE:
    case JOURNAL_ACCOUNT_DELETE:
    case JOURNAL_ACCOUNT_QUOTA: return e->account.event;
    case JOURNAL_MAILBOX_CREATE:
    case JOURNAL_MAILBOX_RENAME:
    case JOURNAL_MAILBOX_FLAGS:
    case JOURNAL_MAILBOX_DELETE: return e->mailbox.event;
    default: return SLICE_EMPTY;
    }
}

/* ---- reading ---- */

static bool all_zero(const uint8_t *p, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= p[i];
    return any == 0;
}

static int payload_crc(int fd, uint64_t offset, uint64_t n, uint32_t *ret)
{
    size_t step = n < SCAN_STEP ? (size_t)n : SCAN_STEP;
    uint32_t crc = 0;
    int rc = 0;
    uint8_t *p = malloc(step + 1);
    if (p == NULL)
        return -ENOMEM;
    for (uint64_t at = 0; at < n && rc == 0; at += step) {
        if (step > n - at)
            step = (size_t)(n - at);
        rc = disk_read(fd, p, step, offset + at);
        if (rc == 0)
            crc = crc32c(crc, p, step);
    }
    free(p);
    *ret = crc;
    return rc;
}

static int check_record(int fd, const struct journal_header *h, uint64_t offset)
{
    uint8_t trailer[JOURNAL_TRAILER];
    uint32_t crc = 0;
    uint64_t n = payload_size(h);
    int rc = payload_crc(fd, offset + JOURNAL_HEADER, n, &crc);
    if (rc == 0)
        rc = disk_read(fd, trailer, sizeof(trailer), offset + JOURNAL_HEADER + n);
    if (rc == 0 && !journal_trailer_check(trailer, h->sequence, crc))
        rc = ERR_CORRUPT;
    return rc;
}

int journal_next(struct journal_cursor *c, bool check, struct journal_header *ret, struct journal_position *ret_at)
{
    uint8_t raw[JOURNAL_HEADER];
    struct journal_header h;
    if (c->offset > c->end || c->end - c->offset < JOURNAL_HEADER)
        return ERR_CLOSED;
    int rc = disk_read(c->fd, raw, sizeof(raw), c->offset);
    if (rc != 0)
        return rc == -ENODATA ? ERR_CLOSED : rc;
    if (all_zero(raw, sizeof(raw)))
        return ERR_CLOSED;
    rc = journal_header_decode(raw, &h);
    if (rc == 0 && (journal_record_size(&h) > c->end - c->offset || (c->expect != 0 && h.sequence != c->expect)))
        rc = ERR_CORRUPT;
    if (rc == 0 && check)
        rc = check_record(c->fd, &h, c->offset);
    if (rc != 0)
        return rc == -ENODATA ? ERR_CORRUPT : rc;
    if (h.type == JOURNAL_END)
        return ERR_CLOSED;
    *ret = h;
    *ret_at = (struct journal_position){
        .offset = c->offset,
        .body_offset = c->offset + JOURNAL_HEADER,
        .sealed_offset = c->offset + JOURNAL_HEADER + h.body_n,
        .next = c->offset + journal_record_size(&h),
    };
    c->offset = ret_at->next;
    if (c->expect != 0)
        c->expect++;
    return 0;
}

/* Is there a header in p (n bytes) that says `sequence` was durable? */
static bool proves_durable(const uint8_t *p, size_t n, uint64_t sequence)
{
    struct journal_header h;
    for (size_t at = 0; at + JOURNAL_HEADER <= n; at += JOURNAL_ALIGN) {
        const uint8_t *magic = p + at;
        if (get(&magic, 4) == MAGIC_HEADER && journal_header_decode(p + at, &h) == 0 && h.durable >= sequence && h.sequence > sequence)
            return true;
    }
    return false;
}

/* Where something but a hole begins, at or after `at`, aligned: preallocated space that was never written need not be read. */
static uint64_t next_data(int fd, uint64_t at)
{
    off_t data = lseek(fd, (off_t)at, SEEK_DATA);
    if (data < 0)
        return errno == ENXIO ? UINT64_MAX : at;
    return (uint64_t)data > at ? (uint64_t)data & ~(uint64_t)(JOURNAL_ALIGN - 1) : at;
}

int journal_scan_tail(const struct journal_cursor *c, uint64_t sequence)
{
    uint64_t left = c->offset < c->end ? c->end - c->offset : 0;
    uint8_t *p = malloc((left < SCAN_STEP ? (size_t)left : SCAN_STEP) + JOURNAL_HEADER);
    int rc = p != NULL ? 0 : -ENOMEM, found = JOURNAL_TAIL_CLEAN;
    for (uint64_t at = c->offset; rc == 0 && found != JOURNAL_TAIL_DAMAGED && (at = next_data(c->fd, at)) < c->end; at += SCAN_STEP) {
        uint64_t n = c->end - at;
        if (n > SCAN_STEP + JOURNAL_HEADER)
            n = SCAN_STEP + JOURNAL_HEADER;
        rc = disk_read(c->fd, p, (size_t)n, at);
        if (rc == 0 && !all_zero(p, (size_t)n))
            found = proves_durable(p, (size_t)n, sequence) ? JOURNAL_TAIL_DAMAGED : JOURNAL_TAIL_TORN;
    }
    free(p);
    return rc == 0 || rc == -ENODATA ? found : rc;
}

int journal_read(int fd, const struct journal_header *h, const struct journal_position *at, struct seal *s,
                 const uint8_t journal_key[SEAL_KEY], struct buf *scratch, struct arena *arena, union journal_effect *ret)
{
    size_t n = (size_t)h->sealed_n + SEAL_TAG;
    buf_reset(scratch);
    int rc = h->sealed_n != 0 ? buf_reserve(scratch, n) : ERR_CORRUPT;
    if (rc == 0)
        rc = disk_read(fd, scratch->p, n, at->sealed_offset);
    return rc == 0 ? journal_open(s, journal_key, h, scratch->p, arena, ret) : rc;
}
