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

#endif
