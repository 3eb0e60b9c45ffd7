/* Reading: entries, places of bodies, keywords, tombstones. See store.h. Every index transaction begins and ends between two yields. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secret.h"
#include "ipc/ipc.h"
#include "store/store_priv.h"

/* Begins reading an account that must live. */
static int MAY_YIELD begin(struct store *s, struct store_account a, MDB_txn **ret)
{
    struct index_account row;
    int rc = store_visible(s, a);
    if (rc == 0)
        rc = index_read_begin(s->x, ret);
    if (rc != 0)
        return rc;
    rc = store_account_row(s, *ret, a, &row);
    if (rc != 0)
        index_read_end(s->x, *ret);
    return rc;
}

/* ---- entries ---- */

struct entry_list {
    struct store_entry *out;
    size_t max, n;
};

static int take_entry(void *arg, const uint8_t *key, size_t key_n, struct slice value)
{
    struct entry_list *l = arg;
    (void)key;
    if (key_n != 20 || value.n < sizeof(struct index_entry))
        return ERR_CORRUPT;
    if (l->n == l->max)
        return 1;
    memcpy(&l->out[l->n++], value.p, sizeof(struct store_entry));
    return l->n == l->max;
}

int MAY_YIELD store_entries(struct store *s, struct store_account a, uint32_t mailbox, uint32_t after, struct store_entry *out, size_t max,
                            size_t *ret_n)
{
    struct entry_list l = {out, max < STORE_ENTRIES_MAX ? max : STORE_ENTRIES_MAX, 0};
    struct ikey prefix = ikey_mailbox(a, mailbox), from = ikey_u32(prefix, after + 1);
    MDB_txn *t;
    *ret_n = 0;
    if (after == UINT32_MAX || max == 0)
        return 0;
    int rc = begin(s, a, &t);
    if (rc != 0)
        return rc;
    rc = index_walk(s->x, t, INDEX_ENTRIES, &prefix, &from, take_entry, &l);
    index_read_end(s->x, t);
    *ret_n = l.n;
    return rc;
}

/* Appends chunk after chunk to the file. */
static int MAY_YIELD fill_memfd(struct store *s, struct store_account a, uint32_t mailbox, uint32_t after, uint64_t max, int fd,
                                uint64_t *ret_n)
{
    struct store_entry *chunk = malloc(STORE_ENTRIES_MAX * sizeof(*chunk));
    uint64_t total = 0;
    size_t n = STORE_ENTRIES_MAX;
    int rc = chunk != NULL ? 0 : -ENOMEM;
    while (rc == 0 && n == STORE_ENTRIES_MAX && (max == 0 || total < max)) {
        size_t want = max != 0 && max - total < STORE_ENTRIES_MAX ? (size_t)(max - total) : STORE_ENTRIES_MAX;
        rc = store_entries(s, a, mailbox, after, chunk, want, &n);
        struct iovec iov = {chunk, n * sizeof(*chunk)};
        if (rc == 0 && n > 0)
            rc = disk_real.write(fd, &iov, 1, total * sizeof(*chunk));
        if (rc == 0 && n > 0) {
            after = chunk[n - 1].uid;
            total += n;
            rc = fiber_breathe();
        }
    }
    free(chunk);
    *ret_n = total;
    return rc;
}

int MAY_YIELD store_entries_memfd(struct store *s, struct store_account a, uint32_t mailbox, uint32_t after, uint64_t max, int *ret_fd,
                                  uint64_t *ret_n)
{
    int fd = ipc_memfd_new("entries");
    if (fd < 0)
        return fd;
    int rc = fill_memfd(s, a, mailbox, after, max, fd, ret_n);
    if (rc == 0)
        rc = ipc_memfd_seal(fd);
    if (rc != 0) {
        (void)close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

/* ---- tombstones ---- */

struct vanished_list {
    uint32_t mailbox;
    struct store_vanished after, *out;
    size_t max, n;
};

static int take_vanished(void *arg, const uint8_t *key, size_t key_n, struct slice value)
{
    struct vanished_list *l = arg;
    (void)value;
    if (key_n != 28)
        return ERR_CORRUPT;
    struct store_vanished v = {ikey_get_u64(key + 12), ikey_get_u32(key + 24)};
    if (ikey_get_u32(key + 20) != l->mailbox || (v.modseq == l->after.modseq && v.uid <= l->after.uid))
        return 0;
    if (l->n == l->max)
        return 1;
    l->out[l->n++] = v;
    return 0;
}

int MAY_YIELD store_vanished(struct store *s, struct store_account a, uint32_t mailbox, struct store_vanished after,
                             struct store_vanished *out, size_t max, size_t *ret_n, uint64_t *ret_floor)
{
    struct vanished_list l = {mailbox, after, out, max, 0};
    struct ikey prefix = ikey_account(a), from = ikey_u64(prefix, after.modseq);
    struct index_account row;
    MDB_txn *t;
    int rc = begin(s, a, &t);
    if (rc != 0)
        return rc;
    rc = store_account_row(s, t, a, &row);
    if (rc == 0)
        rc = index_walk(s->x, t, INDEX_TOMBSTONES, &prefix, &from, take_vanished, &l);
    index_read_end(s->x, t);
    *ret_n = l.n;
    *ret_floor = row.tombstone_floor;
    return rc;
}

/* ---- keywords ---- */

struct keyword_list {
    uint32_t flags;
    struct slice extra;
    struct arena *arena;
    struct slice *out;
    size_t n;
};

static int take_keyword(void *arg, const uint8_t *key, size_t key_n, struct slice value)
{
    struct keyword_list *l = arg;
    if (key_n != 20 || l->n == STORE_KEYWORDS_MAX)
        return ERR_CORRUPT;
    uint32_t number = ikey_get_u32(key + 16), over = number - STORE_KEYWORDS_IN_FLAGS;
    bool on = number < STORE_KEYWORDS_IN_FLAGS ? (l->flags >> (STORE_KEYWORD_FIRST + number) & 1) != 0
                                               : over / 8 < l->extra.n && ((unsigned char)l->extra.p[over / 8] >> over % 8 & 1) != 0;
    if (!on)
        return 0;
    l->out[l->n] = arena_copy(l->arena, value);
    return l->out[l->n++].p != NULL ? 0 : -ENOMEM;
}

int MAY_YIELD store_message_keywords(struct store *s, struct store_account a, uint32_t mailbox, uint32_t uid, struct arena *arena,
                                     struct slice **ret, size_t *ret_n)
{
    struct keyword_list l = {.arena = arena, .out = arena_array(arena, STORE_KEYWORDS_MAX, sizeof(struct slice))};
    struct ikey k = ikey_entry(a, mailbox, uid), prefix = ikey_mailbox(a, mailbox);
    struct index_entry e;
    MDB_txn *t;
    if (l.out == NULL)
        return -ENOMEM;
    int rc = begin(s, a, &t);
    if (rc != 0)
        return rc;
    rc = index_row(s->x, t, INDEX_ENTRIES, &k, &e, sizeof(e), &l.extra);
    if (rc == 0) {
        l.flags = e.e.flags;
        rc = index_walk(s->x, t, INDEX_KEYWORDS, &prefix, &prefix, take_keyword, &l);
    }
    index_read_end(s->x, t);
    *ret = l.out;
    *ret_n = l.n;
    return rc;
}

/* ---- places ---- */

struct place_rows {
    struct index_placement placement;
    struct index_body body;
    struct slice prefix, meta; /* sealed; in the index */
};

static int find_rows(struct store *s, MDB_txn *t, struct store_account a, uint32_t mailbox, uint32_t uid, struct place_rows *ret)
{
    struct index_entry e;
    struct ikey k = ikey_entry(a, mailbox, uid);
    int rc = index_row(s->x, t, INDEX_ENTRIES, &k, &e, sizeof(e), NULL);
    if (rc != 0)
        return rc == -ENOENT ? ERR_GONE : rc;
    k = ikey_placement(a, e.e.message);
    rc = index_row(s->x, t, INDEX_PLACEMENTS, &k, &ret->placement, sizeof(ret->placement), &ret->prefix);
    k = ikey_id(e.body);
    if (rc == 0)
        rc = index_row(s->x, t, INDEX_BODIES, &k, &ret->body, sizeof(ret->body), &ret->meta);
    return rc == -ENOENT ? ERR_CORRUPT : rc;
}

/* Opens a sealed value (tag at its end) to `to`, which has room for it. */
static int open_value(struct seal *s, const uint8_t *key, enum seal_domain domain, uint64_t counter, struct slice sealed, void *to)
{
    size_t n = sealed.n - SEAL_TAG;
    return seal_decrypt(s, key, domain, counter, SLICE_EMPTY, sealed.p, n, to, (const uint8_t *)sealed.p + n);
}

static int open_place(struct store *s, struct store_account a, const struct place_rows *r, bool want_meta, struct arena *arena,
                      struct store_place *p)
{
    uint8_t aad[12 + 16];
    struct ikey k = ikey_account(a);
    const uint8_t *account_key = keys_account(s->keys, a);
    if (account_key == NULL || r->prefix.n < SEAL_TAG || r->meta.n < SEAL_TAG || r->body.common_size > r->meta.n - SEAL_TAG)
        return ERR_CORRUPT;
    memcpy(aad, k.b, 12);
    memcpy(aad + 12, r->placement.body.b, 16);
    int rc = seal_unwrap(s->seal, account_key, slice_of(aad, sizeof(aad)), r->placement.key, p->key);
    if (rc != 0)
        return rc;
    size_t own = r->prefix.n - SEAL_TAG, common = r->body.common_size, meta = r->meta.n - SEAL_TAG - common;
    char *text = arena_alloc(arena, own + common + meta);
    if (text == NULL)
        return -ENOMEM;
    rc = open_value(s->seal, p->key, SEAL_PREFIX, r->placement.lane, r->prefix, text);
    if (rc == 0)
        rc = open_value(s->seal, p->key, SEAL_META, 0, r->meta, text + own);
    p->prefix = slice_of(text, own + common);
    p->own_n = own;
    p->meta = want_meta ? slice_of(text + own + common, meta) : SLICE_EMPTY;
    p->body = r->placement.body;
    p->segment = r->body.segment;
    p->offset = r->body.offset;
    p->stored_size = r->body.stored_size;
    p->body_size = r->body.body_size;
    p->codec = (uint8_t)r->body.codec;
    return rc;
}

int MAY_YIELD store_locate(struct store *s, struct store_account a, uint32_t mailbox, const uint32_t *uids, size_t n, bool want_meta,
                           struct arena *arena, struct store_place *places)
{
    MDB_txn *t;
    if (n > STORE_LOCATE_MAX)
        return ERR_LIMIT;
    int rc = begin(s, a, &t);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < n && rc == 0; i++) {
        struct place_rows rows;
        places[i] = (struct store_place){.uid = uids[i]};
        int status = find_rows(s, t, a, mailbox, uids[i], &rows);
        if (status == 0)
            status = open_place(s, a, &rows, want_meta, arena, &places[i]);
        places[i].status = status;
        if (status != 0 && status != ERR_GONE && status != ERR_CORRUPT)
            rc = status;
    }
    index_read_end(s->x, t);
    return rc;
}

int store_segment_open(struct store *s, uint64_t segment, int *ret_fd)
{
    char name[SEGMENT_NAME_SIZE];
    if (segment == 0)
        return -EINVAL;
    segment_name(segment, name);
    int fd = openat(s->seg_dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? ERR_GONE : -errno;
    *ret_fd = fd;
    return 0;
}
