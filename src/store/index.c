/* The index's environment, keys and rows: see index.h. */
#include "store/index.h"

#include <stdlib.h>
#include <unistd.h>

static const char *const table_names[INDEX_TABLES] = {
    [INDEX_META] = "meta",           [INDEX_ACCOUNTS] = "accounts",     [INDEX_MAILBOXES] = "mailboxes",
    [INDEX_ENTRIES] = "entries",     [INDEX_KEYWORDS] = "keywords",     [INDEX_PLACEMENTS] = "placements",
    [INDEX_BODIES] = "bodies",       [INDEX_TOMBSTONES] = "tombstones", [INDEX_RECENT] = "recent",
    [INDEX_SEGMENTS] = "segments",
};

/* ---- keys ---- */

struct ikey ikey_u32(struct ikey k, uint32_t v)
{
    for (int i = 3; i >= 0; i--)
        k.b[k.n++] = (uint8_t)(v >> (8 * i));
    return k;
}

struct ikey ikey_u64(struct ikey k, uint64_t v)
{
    return ikey_u32(ikey_u32(k, (uint32_t)(v >> 32)), (uint32_t)v);
}

struct ikey ikey_account(struct store_account a)
{
    return ikey_u64(ikey_u32((struct ikey){0}, a.tenant), a.id);
}

struct ikey ikey_id(struct id128 id)
{
    struct ikey k = {.n = sizeof(id.b)};
    memcpy(k.b, id.b, sizeof(id.b));
    return k;
}

struct ikey ikey_name(const char *name)
{
    struct ikey k = {.n = (uint32_t)strlen(name)};
    memcpy(k.b, name, k.n);
    return k;
}

uint32_t ikey_get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

uint64_t ikey_get_u64(const uint8_t *p)
{
    return (uint64_t)ikey_get_u32(p) << 32 | ikey_get_u32(p + 4);
}

struct store_account ikey_get_account(const uint8_t *p)
{
    return (struct store_account){ikey_get_u32(p), ikey_get_u64(p + 4)};
}

/* ---- environment ---- */

int index_error(int code)
{
    switch (code) {
    case 0: return 0;
    case MDB_NOTFOUND: return -ENOENT;
    case MDB_MAP_FULL: return INDEX_MAP_FULL;
    case MDB_VERSION_MISMATCH: return ERR_VERSION;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID: return ERR_CORRUPT;
    default: return code > 0 ? -code : -EIO;
    }
}

static int check_format(struct index *x, MDB_txn *t, struct id128 store, bool readonly, struct err *err)
{
    struct ikey k = ikey_name("format");
    struct index_format f;
    int rc = index_row(x, t, INDEX_META, &k, &f, sizeof(f), NULL);
    if (rc == -ENOENT && !readonly) {
        f = (struct index_format){.magic = "KKINDEX", .version = INDEX_VERSION, .store = store};
        return index_put(x, t, INDEX_META, &k, &f, sizeof(f), SLICE_EMPTY);
    }
    if (rc != 0)
        return err_set(err, ERR_CORRUPT, "the index has no format row");
    if (memcmp(f.magic, "KKINDEX", 8) != 0)
        return err_set(err, ERR_CORRUPT, "index.mdb is not an index of this program");
    if (f.version > INDEX_VERSION || f.features != 0)
        return err_set(err, ERR_VERSION, "the index has format %u (features %x); this program knows formats to %u: use a newer one",
                       f.version, f.features, INDEX_VERSION);
    if (!id_eq(f.store, store))
        return err_set(err, ERR_CORRUPT, "the index belongs to another store");
    return 0;
}

static int open_tables(struct index *x, struct id128 store, bool readonly, struct err *err)
{
    MDB_txn *t;
    int rc = index_error(mdb_txn_begin(x->env, NULL, readonly ? MDB_RDONLY : 0, &t));
    if (rc != 0)
        return err_set(err, rc, "index: cannot begin");
    for (int i = 0; i < INDEX_TABLES && rc == 0; i++)
        rc = index_error(mdb_dbi_open(t, table_names[i], readonly ? 0 : MDB_CREATE, &x->dbi[i]));
    if (rc != 0)
        (void)err_set(err, rc, "index: cannot open its tables (%s)", err_name(rc));
    else
        rc = check_format(x, t, store, readonly, err);
    if (rc != 0) {
        mdb_txn_abort(t);
        return rc;
    }
    rc = index_error(mdb_txn_commit(t));
    return rc == 0 ? 0 : err_set(err, rc, "index: cannot write");
}

int index_open(int dir, uint64_t map_size, struct id128 store, bool readonly, struct index **ret, struct err *err)
{
    char path[64];
    struct index *x = calloc(1, sizeof(*x));
    if (x == NULL)
        return -ENOMEM;
    x->map_size = (size_t)map_size & ~(size_t)65535;
    (void)pthread_rwlock_init(&x->map_lock, NULL);
    /* LMDB wants a path; the descriptor's own name is free of races. */
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/index.mdb", dir);
    unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | MDB_NOMETASYNC | (readonly ? MDB_RDONLY | MDB_NOLOCK : 0);
    int rc = mdb_env_create(&x->env);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(x->env, INDEX_TABLES);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(x->env, INDEX_READERS_MAX);
    if (rc == 0)
        rc = mdb_env_set_mapsize(x->env, x->map_size);
    if (rc == 0)
        rc = mdb_env_open(x->env, path, flags, 0600);
    rc = rc != 0 ? err_set(err, index_error(rc), "index.mdb: %s", mdb_strerror(rc)) : open_tables(x, store, readonly, err);
    if (rc != 0) {
        index_close(x);
        return rc;
    }
    *ret = x;
    return 0;
}

void index_close(struct index *x)
{
    if (x == NULL)
        return;
    if (x->env != NULL)
        mdb_env_close(x->env);
    (void)pthread_rwlock_destroy(&x->map_lock);
    free(x);
}

static int begin(struct index *x, unsigned flags, MDB_txn **ret)
{
    (void)pthread_rwlock_rdlock(&x->map_lock);
    int rc = index_error(mdb_txn_begin(x->env, NULL, flags, ret));
    if (rc != 0)
        (void)pthread_rwlock_unlock(&x->map_lock);
    return rc;
}

int index_read_begin(struct index *x, MDB_txn **ret)
{
    return begin(x, MDB_RDONLY, ret);
}

void index_read_end(struct index *x, MDB_txn *t)
{
    mdb_txn_abort(t);
    (void)pthread_rwlock_unlock(&x->map_lock);
}

int index_write_begin(struct index *x, MDB_txn **ret)
{
    return begin(x, 0, ret);
}

void index_write_abort(struct index *x, MDB_txn *t)
{
    index_read_end(x, t);
}

int index_write_commit(struct index *x, MDB_txn *t)
{
    int rc = index_error(mdb_txn_commit(t));
    (void)pthread_rwlock_unlock(&x->map_lock);
    __atomic_add_fetch(&x->syncs, 1, __ATOMIC_RELAXED);
    return rc;
}

int index_grow(struct index *x)
{
    (void)pthread_rwlock_wrlock(&x->map_lock);
    int rc = index_error(mdb_env_set_mapsize(x->env, x->map_size * 2));
    if (rc == 0)
        x->map_size *= 2;
    (void)pthread_rwlock_unlock(&x->map_lock);
    return rc;
}

int index_sync(struct index *x)
{
    __atomic_add_fetch(&x->syncs, 1, __ATOMIC_RELAXED);
    return index_error(mdb_env_sync(x->env, 1));
}

/* ---- rows ---- */

static MDB_val key_val(const struct ikey *k)
{
    return (MDB_val){k->n, (void *)(uintptr_t)k->b};
}

int index_get(struct index *x, MDB_txn *t, enum index_table table, const struct ikey *k, struct slice *ret)
{
    MDB_val key = key_val(k), v;
    int rc = mdb_get(t, x->dbi[table], &key, &v);
    if (rc != 0)
        return index_error(rc);
    *ret = slice_of(v.mv_data, v.mv_size);
    return 0;
}

int index_row(struct index *x, MDB_txn *t, enum index_table table, const struct ikey *k, void *row, size_t n, struct slice *ret_rest)
{
    struct slice v;
    int rc = index_get(x, t, table, k, &v);
    if (rc != 0)
        return rc;
    if (v.n < n)
        return ERR_CORRUPT;
    memcpy(row, v.p, n);
    if (ret_rest != NULL)
        *ret_rest = slice_from(v, n);
    return 0;
}

int index_put(struct index *x, MDB_txn *t, enum index_table table, const struct ikey *k, const void *row, size_t n, struct slice rest)
{
    MDB_val key = key_val(k), v = {n + rest.n, NULL};
    if (rest.n == 0) {
        v.mv_data = (void *)(uintptr_t)row;
        return index_error(mdb_put(t, x->dbi[table], &key, &v, 0));
    }
    int rc = mdb_put(t, x->dbi[table], &key, &v, MDB_RESERVE);
    if (rc == 0) {
        memcpy(v.mv_data, row, n);
        memcpy((char *)v.mv_data + n, rest.p, rest.n);
    }
    return index_error(rc);
}

int index_del(struct index *x, MDB_txn *t, enum index_table table, const struct ikey *k)
{
    MDB_val key = key_val(k);
    return index_error(mdb_del(t, x->dbi[table], &key, NULL));
}

static bool has_prefix(const MDB_val *k, const struct ikey *prefix)
{
    return k->mv_size >= prefix->n && (prefix->n == 0 || memcmp(k->mv_data, prefix->b, prefix->n) == 0);
}

int index_walk(struct index *x, MDB_txn *t, enum index_table table, const struct ikey *prefix, const struct ikey *from, index_walk_fn *fn,
               void *arg)
{
    MDB_cursor *c;
    MDB_val k = key_val(from), v;
    int rc = mdb_cursor_open(t, x->dbi[table], &c);
    if (rc != 0)
        return index_error(rc);
    /* An empty key cannot be sought. */
    rc = mdb_cursor_get(c, &k, &v, from->n != 0 ? MDB_SET_RANGE : MDB_FIRST);
    while (rc == 0 && has_prefix(&k, prefix)) {
        rc = fn(arg, k.mv_data, k.mv_size, slice_of(v.mv_data, v.mv_size));
        if (rc != 0) {
            mdb_cursor_close(c);
            return rc > 0 ? 0 : rc;
        }
        rc = mdb_cursor_get(c, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(c);
    return rc == MDB_NOTFOUND ? 0 : index_error(rc);
}

struct first {
    bool found;
    struct ikey key;
    struct slice value;
};

static int take_first(void *arg, const uint8_t *key, size_t key_n, struct slice value)
{
    struct first *f = arg;
    if (key_n > sizeof(f->key.b))
        return ERR_CORRUPT;
    memcpy(f->key.b, key, key_n);
    f->key.n = (uint32_t)key_n;
    f->value = value;
    f->found = true;
    return 1;
}

int index_first(struct index *x, MDB_txn *t, enum index_table table, const struct ikey *prefix, const struct ikey *from,
                struct ikey *ret_key, struct slice *ret_value)
{
    struct first f = {0};
    int rc = index_walk(x, t, table, prefix, from, take_first, &f);
    if (rc != 0)
        return rc;
    if (!f.found)
        return -ENOENT;
    *ret_key = f.key;
    *ret_value = f.value;
    return 0;
}
