/* The key file: see keys.h; the format is in docs/STORE.md section 7. */
#include "store/keys.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/secret.h"
#include "io/worker.h"
#include "store/crc32c.h"
#include "store/disk.h"
#include "store/index.h"
#include "store/seal.h"

#define KEYS_FILE "keys.kk"
#define KEYS_NEW "keys.new"
#define MAGIC "KKKEYS\0"
#define VERSION 1
#define HEADER 512
#define ENTRY 80
#define FILE_MAX (HEADER + (size_t)ENTRY * 100000000) /* accounts of a store */
#define CONTEXT_MAX 64

struct key_item {
    struct store_account account;
    uint8_t key[KEYS_SIZE];
};

struct keys {
    const struct store_disk *disk;
    int dir, fd; /* fd: the current file */
    struct id128 store, kek_id;
    struct store_key_ops ops;
    struct worker_pool *io;
    struct seal *seal;
    uint8_t kek[KEYS_SIZE], journal[KEYS_SIZE];
    uint8_t header[HEADER]; /* as it is in the file */
    struct map items;       /* account key -> struct key_item */
    uint64_t size;          /* bytes of the file that count */
    bool must_rewrite;      /* an append failed: what is behind `size` is unknown */
    bool busy;              /* one change at a time */
    struct fiber_queue free_again;
};

int keys_new(const struct store_disk *disk, int dir, struct id128 store, const struct store_key_ops *ops, struct worker_pool *io,
             struct keys **ret)
{
    struct keys *k = calloc(1, sizeof(*k));
    if (k == NULL)
        return -ENOMEM;
    *k = (struct keys){.disk = disk, .dir = dir, .fd = -1, .store = store, .ops = *ops, .io = io};
    map_init(&k->items);
    fiber_queue_init(&k->free_again);
    int rc = seal_new(&k->seal);
    if (rc != 0) {
        keys_free(k);
        return rc;
    }
    *ret = k;
    return 0;
}

static void drop_item(struct key_item *item)
{
    if (item != NULL)
        secret_wipe(item, sizeof(*item));
    free(item);
}

static void drop_items(struct map *m)
{
    size_t pos = 0;
    struct slice key;
    void *item;
    while (map_next(m, &pos, &key, &item))
        drop_item(item);
    map_done(m);
}

void keys_free(struct keys *k)
{
    if (k == NULL)
        return;
    drop_items(&k->items);
    if (k->fd >= 0)
        (void)close(k->fd);
    seal_free(k->seal);
    secret_wipe(k, sizeof(*k));
    free(k);
}

const uint8_t *keys_journal(const struct keys *k)
{
    return k->journal;
}

const uint8_t *keys_account(const struct keys *k, struct store_account a)
{
    struct ikey key = ikey_account(a);
    struct key_item *item = map_get(&k->items, slice_of(key.b, key.n));
    return item != NULL ? item->key : NULL;
}

size_t keys_count(const struct keys *k)
{
    return k->items.count;
}

static int put_item(struct map *m, struct store_account a, const uint8_t key[KEYS_SIZE])
{
    struct ikey name = ikey_account(a);
    struct key_item *item = malloc(sizeof(*item));
    void *old = NULL;
    if (item == NULL)
        return -ENOMEM;
    item->account = a;
    memcpy(item->key, key, KEYS_SIZE);
    int rc = map_put(m, slice_of(name.b, name.n), item, &old);
    drop_item(rc == 0 ? old : item);
    return rc;
}

/* ---- the file's parts ----
 * header: magic 8 | u32 version | u32 features | KEK id 16 | store id 16 | u32 n | wrapped KEK, n of 256 | wrapped journal key 60 |
 *         zeros | u32 crc32c of what is before it
 * entry:  u32 tenant | u32 zero | u64 account | wrapped key 60 | u32 crc32c */

#define AT_WRAPPED (8 + 4 + 4 + 16 + 16)
#define AT_JOURNAL (AT_WRAPPED + 4 + KEYS_WRAPPED_MAX)

static void kek_context(const struct keys *k, char out[CONTEXT_MAX])
{
    char id[ID_TEXT_SIZE];
    id_print(k->kek_id, id);
    (void)snprintf(out, CONTEXT_MAX, "store-kek:%s", id);
}

#define AAD_SIZE (16 + 12)
static struct slice entry_aad(const struct keys *k, struct store_account a, uint8_t out[AAD_SIZE])
{
    struct ikey key = ikey_account(a);
    memcpy(out, k->kek_id.b, 16);
    memcpy(out + 16, key.b, 12);
    return slice_of(out, AAD_SIZE);
}

static struct slice journal_aad(const struct keys *k, uint8_t out[AAD_SIZE])
{
    return entry_aad(k, (struct store_account){0, 0}, out); /* account 0 is never issued */
}

static void put_crc(struct buf *b, size_t from)
{
    buf_put_u32(b, crc32c(0, b->p + from, b->n - from));
}

static int put_header(struct keys *k, const uint8_t *wrapped, size_t n, struct buf *out)
{
    uint8_t journal[SEAL_WRAPPED], aad[AAD_SIZE];
    static const uint8_t zeros[HEADER];
    int rc = seal_wrap(k->seal, k->kek, journal_aad(k, aad), k->journal, journal);
    buf_put(out, MAGIC, 8);
    buf_put_u32(out, VERSION);
    buf_put_u32(out, 0);
    buf_put(out, k->kek_id.b, 16);
    buf_put(out, k->store.b, 16);
    buf_put_u32(out, (uint32_t)n);
    buf_put(out, wrapped, n);
    buf_put(out, zeros, KEYS_WRAPPED_MAX - n);
    buf_put(out, journal, sizeof(journal));
    buf_put(out, zeros, HEADER - 4 - out->n);
    put_crc(out, 0);
    return rc == 0 && buf_ok(out) ? 0 : -ENOMEM;
}

static int put_entry(struct keys *k, struct store_account a, const uint8_t key[KEYS_SIZE], struct buf *out)
{
    uint8_t wrapped[SEAL_WRAPPED], aad[AAD_SIZE];
    size_t from = out->n;
    int rc = seal_wrap(k->seal, k->kek, entry_aad(k, a, aad), key, wrapped);
    buf_put_u32(out, a.tenant);
    buf_put_u32(out, 0);
    buf_put_u64(out, a.id);
    buf_put(out, wrapped, sizeof(wrapped));
    if (buf_ok(out))
        put_crc(out, from);
    return rc == 0 && buf_ok(out) ? 0 : -ENOMEM;
}

/* ---- writing, on a worker ---- */

struct write_job {
    struct keys *k;
    struct slice content;
    int rc, new_fd;
};

static void write_new(void *arg)
{
    struct write_job *j = arg;
    const struct store_disk *d = j->k->disk;
    int fd = -1, rc = d->open(j->k->dir, KEYS_NEW, O_RDWR | O_CREAT | O_TRUNC, 0600, &fd);
    if (rc == 0)
        rc = disk_write(d, fd, j->content.p, j->content.n, 0);
    if (rc == 0)
        rc = d->sync(fd);
    if (rc == 0)
        rc = d->rename(j->k->dir, KEYS_NEW, KEYS_FILE);
    if (rc == 0)
        rc = d->sync(j->k->dir);
    if (rc != 0 && fd >= 0)
        (void)close(fd);
    else
        j->new_fd = fd;
    j->rc = rc;
}

/* The old file has no name any more; its blocks still have the keys. Best effort: on flash and copy-on-write file systems blocks may
 * live on, which is why the KEK was replaced too. */
static void overwrite_old(void *arg)
{
    struct write_job *j = arg;
    static const uint8_t zeros[65536];
    struct stat st;
    uint64_t size = fstat(j->k->fd, &st) == 0 ? (uint64_t)st.st_size : j->k->size;
    for (uint64_t at = 0; at < size; at += sizeof(zeros)) {
        size_t n = size - at < sizeof(zeros) ? (size_t)(size - at) : sizeof(zeros);
        if (disk_write(j->k->disk, j->k->fd, zeros, n, at) != 0)
            return;
    }
    (void)j->k->disk->datasync(j->k->fd);
}

static void append_entry(void *arg)
{
    struct write_job *j = arg;
    j->rc = disk_write(j->k->disk, j->k->fd, j->content.p, j->content.n, j->k->size);
    if (j->rc == 0)
        j->rc = j->k->disk->datasync(j->k->fd);
}

static int MAY_YIELD on_worker(struct keys *k, void (*fn)(void *), struct write_job *j)
{
    if (k->io == NULL)
        fn(j);
    else
        j->rc = worker_run(k->io, fn, j) != 0 ? -EBUSY : j->rc;
    return j->rc;
}

static int MAY_YIELD lock_keys(struct keys *k)
{
    while (k->busy) {
        int rc = fiber_wait(&k->free_again, CLOCK_NEVER);
        if (rc != 0)
            return rc;
    }
    k->busy = true;
    return 0;
}

static void unlock_keys(struct keys *k)
{
    k->busy = false;
    (void)fiber_wake_one(&k->free_again);
}

/* The whole file from `items` under the KEK of k, which `wrapped` is. */
static int MAY_YIELD write_file(struct keys *k, const struct map *items, const uint8_t *wrapped, size_t n, bool destroy_old)
{
    struct buf b;
    size_t pos = 0;
    struct slice name;
    void *v;
    buf_init(&b, FILE_MAX);
    int rc = put_header(k, wrapped, n, &b);
    while (rc == 0 && map_next(items, &pos, &name, &v)) {
        struct key_item *item = v;
        rc = put_entry(k, item->account, item->key, &b);
    }
    struct write_job j = {.k = k, .content = buf_slice(&b), .new_fd = -1};
    if (rc == 0)
        rc = on_worker(k, write_new, &j);
    if (rc == 0) {
        if (k->fd >= 0 && destroy_old)
            (void)on_worker(k, overwrite_old, &j);
        if (k->fd >= 0)
            (void)close(k->fd);
        k->fd = j.new_fd;
        k->size = b.n;
        memcpy(k->header, b.p, HEADER);
    }
    /* The name may or may not point at the new file now: the next write makes it certain. */
    k->must_rewrite = rc != 0;
    buf_done(&b);
    return rc;
}

static int MAY_YIELD new_kek(struct keys *k, uint8_t wrapped[KEYS_WRAPPED_MAX], size_t *ret_n, struct err *err)
{
    char context[CONTEXT_MAX];
    rand_bytes(k->kek, KEYS_SIZE);
    k->kek_id = id_new();
    kek_context(k, context);
    int rc = k->ops.wrap(k->ops.arg, context, k->kek, wrapped, ret_n, err);
    return rc == 0 && *ret_n > KEYS_WRAPPED_MAX ? -EINVAL : rc;
}

/* ---- loading ---- */

static int MAY_YIELD create_file(struct keys *k, struct err *err)
{
    uint8_t wrapped[KEYS_WRAPPED_MAX];
    size_t n = 0;
    rand_bytes(k->journal, KEYS_SIZE);
    int rc = new_kek(k, wrapped, &n, err);
    if (rc != 0)
        return rc;
    rc = write_file(k, &k->items, wrapped, n, false);
    return rc == 0 ? 0 : err_set(err, rc, "cannot write %s: %s", KEYS_FILE, err_name(rc));
}

static int MAY_YIELD open_header(struct keys *k, struct err *err)
{
    struct slice s = slice_of(k->header, HEADER), magic, id, store, wrapped, journal;
    uint32_t version, features, n, crc;
    uint8_t aad[AAD_SIZE];
    char context[CONTEXT_MAX];
    struct slice tail = slice_of(k->header + HEADER - 4, 4);
    (void)slice_get_u32(&tail, &crc);
    if (memcmp(k->header, MAGIC, 8) != 0 || crc != crc32c(0, k->header, HEADER - 4))
        return err_set(err, ERR_CORRUPT, "%s: damaged header", KEYS_FILE);
    (void)slice_get_bytes(&s, 8, &magic);
    (void)slice_get_u32(&s, &version);
    (void)slice_get_u32(&s, &features);
    (void)slice_get_bytes(&s, 16, &id);
    (void)slice_get_bytes(&s, 16, &store);
    (void)slice_get_u32(&s, &n);
    (void)slice_get_bytes(&s, KEYS_WRAPPED_MAX, &wrapped);
    (void)slice_get_bytes(&s, SEAL_WRAPPED, &journal);
    if (version > VERSION || features != 0)
        return err_set(err, ERR_VERSION, "%s has format %u; this program knows formats to %d: use a newer one", KEYS_FILE, version, VERSION);
    if (n > KEYS_WRAPPED_MAX || memcmp(store.p, k->store.b, 16) != 0)
        return err_set(err, ERR_CORRUPT, "%s belongs to another store", KEYS_FILE);
    memcpy(k->kek_id.b, id.p, 16);
    kek_context(k, context);
    int rc = k->ops.unwrap(k->ops.arg, context, slice_head(wrapped, n), k->kek, err);
    if (rc != 0)
        return rc;
    rc = seal_unwrap(k->seal, k->kek, journal_aad(k, aad), (const uint8_t *)journal.p, k->journal);
    return rc == 0 ? 0 : err_set(err, ERR_CORRUPT, "%s: the journal key does not unwrap", KEYS_FILE);
}

static int load_entry(struct keys *k, const uint8_t *p)
{
    struct slice s = slice_of(p, ENTRY), wrapped;
    struct store_account a;
    uint32_t zero, crc;
    uint8_t key[KEYS_SIZE], aad[AAD_SIZE];
    (void)slice_get_u32(&s, &a.tenant);
    (void)slice_get_u32(&s, &zero);
    (void)slice_get_u64(&s, &a.id);
    (void)slice_get_bytes(&s, SEAL_WRAPPED, &wrapped);
    (void)slice_get_u32(&s, &crc);
    if (crc != crc32c(0, p, ENTRY - 4))
        return ERR_CORRUPT;
    int rc = seal_unwrap(k->seal, k->kek, entry_aad(k, a, aad), (const uint8_t *)wrapped.p, key);
    if (rc == 0)
        rc = put_item(&k->items, a, key);
    secret_wipe(key, sizeof(key));
    return rc;
}

static int load_entries(struct keys *k, uint64_t size, struct err *err)
{
    uint8_t raw[ENTRY];
    k->size = HEADER;
    while (k->size < size) {
        int rc = size - k->size >= ENTRY ? disk_read(k->fd, raw, ENTRY, k->size) : ERR_CORRUPT;
        if (rc == 0)
            rc = load_entry(k, raw);
        if (rc == ERR_CORRUPT && size - k->size <= ENTRY) {
            k->must_rewrite = true; /* the last append was torn: it was not acknowledged */
            return 0;
        }
        if (rc != 0)
            return err_set(err, rc, "%s: damaged entry at %llu", KEYS_FILE, (unsigned long long)k->size);
        k->size += ENTRY;
    }
    return 0;
}

int MAY_YIELD keys_load(struct keys *k, bool create, struct err *err)
{
    struct stat st;
    int fd;
    /* After a failure (keyd was not there yet) it may be called again. */
    drop_items(&k->items);
    if (k->fd >= 0)
        (void)close(k->fd);
    k->fd = -1;
    int rc = k->disk->open(k->dir, KEYS_FILE, O_RDWR, 0, &fd);
    if (rc == -ENOENT && create)
        return create_file(k, err);
    if (rc != 0)
        return err_set(err, rc, "cannot open %s", KEYS_FILE);
    k->fd = fd;
    if (fstat(fd, &st) != 0 || st.st_size > (off_t)FILE_MAX)
        return err_set(err, ERR_CORRUPT, "%s: wrong size", KEYS_FILE);
    rc = disk_read(fd, k->header, HEADER, 0);
    if (rc != 0)
        return err_set(err, rc == -ENODATA ? ERR_CORRUPT : rc, "%s: too short", KEYS_FILE);
    rc = open_header(k, err);
    return rc == 0 ? load_entries(k, (uint64_t)st.st_size, err) : rc;
}

/* ---- changing ---- */

static struct slice current_wrapped(const struct keys *k)
{
    struct slice s = slice_of(k->header + AT_WRAPPED, 4 + KEYS_WRAPPED_MAX);
    uint32_t n;
    (void)slice_get_u32(&s, &n);
    return slice_head(s, n);
}

static int MAY_YIELD add_locked(struct keys *k, struct store_account a)
{
    uint8_t key[KEYS_SIZE], wrapped[KEYS_WRAPPED_MAX];
    struct ikey name = ikey_account(a);
    struct buf b;
    rand_bytes(key, sizeof(key));
    buf_init(&b, ENTRY);
    int rc = put_entry(k, a, key, &b);
    if (rc == 0)
        rc = put_item(&k->items, a, key);
    secret_wipe(key, sizeof(key));
    if (rc == 0 && k->must_rewrite) {
        struct slice w = current_wrapped(k);
        memcpy(wrapped, w.p, w.n);
        rc = write_file(k, &k->items, wrapped, w.n, false);
    } else if (rc == 0) {
        struct write_job j = {.k = k, .content = buf_slice(&b)};
        rc = on_worker(k, append_entry, &j);
        k->must_rewrite = rc != 0;
        k->size += rc == 0 ? ENTRY : 0;
    }
    if (rc != 0)
        drop_item(map_del(&k->items, slice_of(name.b, name.n)));
    buf_done(&b);
    return rc;
}

int MAY_YIELD keys_add(struct keys *k, struct store_account a, struct err *err)
{
    int rc = lock_keys(k);
    if (rc != 0)
        return rc;
    if (keys_account(k, a) == NULL)
        rc = add_locked(k, a);
    unlock_keys(k);
    return rc == 0 ? 0 : err_set(err, rc, "cannot write the account's key: %s", err_name(rc));
}

static int MAY_YIELD replace_kek(struct keys *k, struct map *living, struct err *err)
{
    uint8_t old_kek[KEYS_SIZE], wrapped[KEYS_WRAPPED_MAX];
    struct id128 old_id = k->kek_id;
    size_t n = 0;
    memcpy(old_kek, k->kek, KEYS_SIZE);
    int rc = new_kek(k, wrapped, &n, err);
    if (rc == 0) {
        rc = write_file(k, living, wrapped, n, true);
        if (rc != 0)
            (void)err_set(err, rc, "cannot write the key file: %s", err_name(rc));
    }
    if (rc != 0) {
        memcpy(k->kek, old_kek, KEYS_SIZE);
        k->kek_id = old_id;
    }
    secret_wipe(old_kek, sizeof(old_kek));
    return rc;
}

static int split_living(struct keys *k, keys_living_fn *fn, void *arg, struct map *living)
{
    size_t pos = 0;
    struct slice name;
    void *v;
    while (map_next(&k->items, &pos, &name, &v)) {
        struct key_item *item = v;
        int rc = fn(arg, item->account) ? put_item(living, item->account, item->key) : 0;
        if (rc != 0)
            return rc;
    }
    return 0;
}

int MAY_YIELD keys_retain(struct keys *k, keys_living_fn *living, void *arg, struct err *err)
{
    struct map keep;
    int rc = lock_keys(k);
    if (rc != 0)
        return rc;
    map_init(&keep);
    rc = split_living(k, living, arg, &keep);
    if (rc == 0 && keep.count < k->items.count) {
        rc = replace_kek(k, &keep, err);
        if (rc == 0) {
            struct map old = k->items;
            k->items = keep;
            keep = old;
        }
    }
    drop_items(&keep);
    unlock_keys(k);
    return rc;
}
