/* auth_cache.h: remembers for some minutes which password an account has proved, so that a mail program that connects every minute does not
 * cost an Argon2 each time. Kept is only HMAC-SHA256 under a random key of this process, never the password; bound to the version of
 * the credential; wiped when it expires. A wrong password is never remembered, and never found. */
#ifndef KK_ACCOUNT_AUTH_CACHE_H
#define KK_ACCOUNT_AUTH_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define AUTH_CACHE_MAX 100000 /* accounts remembered; past it, nothing new until some expire */

struct auth_cache;

int auth_cache_new(struct auth_cache **ret); /* 0 or -ENOMEM */
void auth_cache_free(struct auth_cache *c);
bool auth_cache_check(struct auth_cache *c, uint64_t account, uint64_t version, struct slice password, int64_t now);
/* Until now + lifetime; 0: not at all. */
void auth_cache_add(struct auth_cache *c, uint64_t account, uint64_t version, struct slice password, int64_t now, int64_t lifetime);
void auth_cache_drop(struct auth_cache *c, uint64_t account);
/* Wipes what has expired. Call now and then. */
void auth_cache_sweep(struct auth_cache *c, int64_t now);

#endif
