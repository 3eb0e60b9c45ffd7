/* index.h: the index: an LMDB environment with fixed tables. docs/STORE.md section 6 has keys and values.
 *
 * Keys are big-endian so that they sort; values are the structs below, little-endian as the machine has them (a big-endian machine does
 * not compile this file), with variable parts behind. One writer (the applying thread, and recovery before it starts); readers on any
 * thread, each transaction short and never across a yield: a reader that stays makes the file grow for good. */
#ifndef KK_STORE_INDEX_H
#define KK_STORE_INDEX_H

#include <lmdb.h>
#include <pthread.h>

#include "base/err.h"
#include "base/id.h"
#include "store/entry.h"
#include "store/seal.h"
#include "store/store.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values of the index are little-endian");

#define INDEX_VERSION 1
#define INDEX_MAP_FULL (-2001) /* internal: grow and do the transaction again */
#define INDEX_READERS_MAX 64

enum index_table {
    INDEX_META,       /* name of a row -> see below */
    INDEX_ACCOUNTS,   /* tenant u32, account u64 -> index_account */
    INDEX_MAILBOXES,  /* account key, mailbox u32 -> index_mailbox, name */
    INDEX_ENTRIES,    /* account key, mailbox u32, uid u32 -> index_entry, bitmap of keywords from number 24 on */
    INDEX_KEYWORDS,   /* account key, mailbox u32, number u32 -> name */
    INDEX_PLACEMENTS, /* account key, message u64 -> index_placement, sealed prefix */
    INDEX_BODIES,     /* body id -> index_body, sealed common lines and meta */
    INDEX_TOMBSTONES, /* account key, modseq u64, mailbox u32, uid u32 -> message u64 */
    INDEX_RECENT,     /* message id -> sequence u64, statuses u32 each */
    INDEX_SEGMENTS,   /* segment u64 -> index_segment */
    INDEX_TABLES
};

/* INDEX_META rows. */
struct index_format { /* "format" */
    char magic[8];    /* "KKINDEX" */
    uint32_t version, features;
    struct id128 store;
};
struct index_mark {   /* "mark": everything before has been applied */
    uint64_t segment, offset;
    uint64_t sequence, event; /* the last ones applied */
    int64_t highest_ms;       /* the highest time in any record */
    uint64_t accounts, messages; /* totals */
    uint64_t recent;          /* rows of INDEX_RECENT */
};
/* "outbox": acknowledged event sequence, u64. */

enum index_account_state { ACCOUNT_LIVE = 1, ACCOUNT_DELETED = 2, ACCOUNT_PURGED = 3 };
struct index_account {
    uint64_t quota, used, messages, modseq;
    uint64_t message_next;                  /* the next message object id */
    uint64_t tombstones, tombstone_floor;   /* rows; expunges at or below this modseq may be forgotten */
    int64_t created_ms;
    uint32_t uidvalidity_next, mailbox_next, mailboxes, state;
};
struct index_mailbox {
    uint32_t uidvalidity, uidnext, flags, keywords;
    uint64_t messages, unseen, deleted, recent, bytes, modseq;
};
struct index_entry {
    struct store_entry e;
    struct id128 body;
};
struct index_placement {
    struct id128 body;
    uint32_t entries; /* that show this message: copies within the account share it */
    uint32_t lane;
    uint8_t key[SEAL_WRAPPED];
    uint32_t zero;
};
struct index_body {
    uint64_t segment, offset, stored_size, body_size; /* offset of the body section in the file */
    uint32_t codec, common_size;
};
struct index_segment {
    uint64_t first_sequence, last_sequence, last_event;
    uint64_t body_bytes;  /* of all body sections written to it */
    uint64_t dead_bytes;  /* estimate of what expunges have left behind */
};
_Static_assert(sizeof(struct index_account) == 80 && sizeof(struct index_mailbox) == 64 && sizeof(struct index_entry) == 80 &&
                   sizeof(struct index_placement) == 88 && sizeof(struct index_body) == 40 && sizeof(struct index_segment) == 40 &&
                   sizeof(struct index_mark) == 64,
               "no padding");

/* Keys. */
struct ikey {
    uint8_t b[32];
    uint32_t n;
};
struct ikey ikey_account(struct store_account a);
struct ikey ikey_u32(struct ikey k, uint32_t v); /* appends */
struct ikey ikey_u64(struct ikey k, uint64_t v);
struct ikey ikey_id(struct id128 id);
struct ikey ikey_name(const char *name);
static inline struct ikey ikey_mailbox(struct store_account a, uint32_t mailbox)
{
    return ikey_u32(ikey_account(a), mailbox);
}
static inline struct ikey ikey_entry(struct store_account a, uint32_t mailbox, uint32_t uid)
{
    return ikey_u32(ikey_mailbox(a, mailbox), uid);
}
static inline struct ikey ikey_placement(struct store_account a, uint64_t message)
{
    return ikey_u64(ikey_account(a), message);
}
static inline struct ikey ikey_segment(uint64_t segment)
{
    return ikey_u64((struct ikey){0}, segment);
}
/* Big-endian integers out of a key. */
uint32_t ikey_get_u32(const uint8_t *p);
uint64_t ikey_get_u64(const uint8_t *p);
struct store_account ikey_get_account(const uint8_t *p);

struct index {
    MDB_env *env;
    MDB_dbi dbi[INDEX_TABLES];
    pthread_rwlock_t map_lock; /* readers and the writer share it; growing the map excludes all */
    size_t map_size;
    uint64_t syncs;            /* the writer's */
};

/* Opens or creates index.mdb in dir for this store. readonly: changes nothing, not even by creating (for offline verification).
 * ERR_VERSION, ERR_CORRUPT, -errno. */
int index_open(int dir, uint64_t map_size, struct id128 store, bool readonly, struct index **ret, struct err *err);
void index_close(struct index *x);

int index_read_begin(struct index *x, MDB_txn **ret);
void index_read_end(struct index *x, MDB_txn *t);
int index_write_begin(struct index *x, MDB_txn **ret);
void index_write_abort(struct index *x, MDB_txn *t);
/* INDEX_MAP_FULL: nothing was committed. Any other failure: the index must not be written any more. */
int index_write_commit(struct index *x, MDB_txn *t);
int index_grow(struct index *x);
/* Makes the last commit durable (commits alone may lose the last one in a power failure: MDB_NOMETASYNC). */
int index_sync(struct index *x);

/* 0, -ENOENT, INDEX_MAP_FULL, ERR_CORRUPT, -errno. Values are valid until the transaction changes or ends. */
int index_error(int mdb_code);
int index_get(struct index *x, MDB_txn *t, enum index_table table, const struct ikey *k, struct slice *ret);
/* Copies the fixed part; the rest through ret_rest (may be NULL). ERR_CORRUPT when the value is shorter. */
int index_row(struct index *x, MDB_txn *t, enum index_table table, const struct ikey *k, void *row, size_t n, struct slice *ret_rest);
int index_put(struct index *x, MDB_txn *t, enum index_table table, const struct ikey *k, const void *row, size_t n, struct slice rest);
int index_del(struct index *x, MDB_txn *t, enum index_table table, const struct ikey *k);
/* Walks rows whose key starts with prefix, from `from` on. fn: 0 goes on, 1 stops, negative fails. Rows must not be changed. */
typedef int index_walk_fn(void *arg, const uint8_t *key, size_t key_n, struct slice value);
int index_walk(struct index *x, MDB_txn *t, enum index_table table, const struct ikey *prefix, const struct ikey *from, index_walk_fn *fn,
               void *arg);
/* The first row with this prefix at or after from: 0 or -ENOENT. */
int index_first(struct index *x, MDB_txn *t, enum index_table table, const struct ikey *prefix, const struct ikey *from,
                struct ikey *ret_key, struct slice *ret_value);

#endif
