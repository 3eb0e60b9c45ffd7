/* keys.h: the keys at rest: the key file, account keys, the store's journal key.
 *
 * keys.kk holds one key-encryption key (KEK), wrapped by the top key that only keyd has, and under the KEK the journal key and a key
 * for each account. It is apart from segments and index, so that it can have shorter-lived backups: an account is erased by making a
 * new KEK, rewrapping the living keys under it, and overwriting the old file (docs/STORE.md section 7).
 * Keys in memory are wiped when dropped. Owned by the loop's thread; file writes block, so callers run them on a worker. */
#ifndef KK_STORE_KEYS_H
#define KK_STORE_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"
#include "base/slice.h"
#include "io/fiber.h"

#define KEYS_SIZE 32         /* bytes of every key (AES-256) */
#define KEYS_WRAPPED_MAX 256 /* of a key wrapped by the top key */

/* The top key, held elsewhere. context is authenticated with the key: unwrapping under another context fails. */
struct store_key_ops {
    int MAY_YIELD (*wrap)(void *arg, const char *context, const uint8_t key[KEYS_SIZE], uint8_t ret[KEYS_WRAPPED_MAX], size_t *ret_n,
                          struct err *err);
    int MAY_YIELD (*unwrap)(void *arg, const char *context, struct slice wrapped, uint8_t ret_key[KEYS_SIZE], struct err *err);
    void *arg;
};

struct keys;
struct store_disk;
struct store_account;
struct worker_pool;

/* Nothing is read yet. dir and io (where file writes block; NULL: in the caller) stay the caller's. */
int keys_new(const struct store_disk *disk, int dir, struct id128 store, const struct store_key_ops *ops, struct worker_pool *io,
             struct keys **ret);
void keys_free(struct keys *k);
/* Reads the file and unwraps the KEK. create: when there is no file, one is made with a new KEK and journal key; else -ENOENT.
 * ERR_CORRUPT, ERR_VERSION, or what unwrap gave. A torn last entry (an account that was never acknowledged) is dropped. */
int MAY_YIELD keys_load(struct keys *k, bool create, struct err *err);
/* Valid after keys_load, until keys_free. */
const uint8_t *keys_journal(const struct keys *k);
/* NULL when the account has none. Valid until the next call that changes keys or waits. */
const uint8_t *keys_account(const struct keys *k, struct store_account a);
size_t keys_count(const struct keys *k);
/* A key for a new account, durable on return. Nothing happens when it has one. */
int MAY_YIELD keys_add(struct keys *k, struct store_account a, struct err *err);
/* Destroys the keys of all accounts for which living() says false: a new KEK, the living keys rewrapped, the old file overwritten.
 * Nothing is written when all live. */
typedef bool keys_living_fn(void *arg, struct store_account a);
int MAY_YIELD keys_retain(struct keys *k, keys_living_fn *living, void *arg, struct err *err);

#endif
