/* seal.h: the store's cryptography: AES-256-GCM and the derivation of one key for each journal record.
 *
 * Nonces are {u32 domain, u64 counter}, little-endian. A key is used with each (domain, counter) once: body keys and record keys are
 * random or derived from a random salt, and counters number what one message or record holds. Keys that live long (KEK, account,
 * journal) never encrypt with counters: keys are wrapped under them with random nonces (few), records get a derived key each. */
#ifndef KK_STORE_SEAL_H
#define KK_STORE_SEAL_H

#include "base/err.h"
#include "base/slice.h"

#define SEAL_KEY 32
#define SEAL_TAG 16
#define SEAL_WRAPPED (12 + SEAL_KEY + SEAL_TAG) /* nonce, key, tag */
#define SEAL_SALT 16

enum seal_domain {
    SEAL_BODY = 1,    /* under the body's key; counter: frame */
    SEAL_META = 2,    /* under the body's key: common lines and meta */
    SEAL_PREFIX = 3,  /* under the body's key; counter: lane of the recipient in its accept */
    SEAL_RECORD = 4,  /* under a record's key */
};

struct seal; /* one thread's contexts */
int seal_new(struct seal **ret);
void seal_free(struct seal *s);

/* out: n bytes, may be in; the tag follows separately. 0 or -ENOMEM (the library failed). */
int seal_encrypt(struct seal *s, const uint8_t key[SEAL_KEY], enum seal_domain domain, uint64_t counter, struct slice aad, const void *in,
                 size_t n, void *out, uint8_t tag[SEAL_TAG]);
/* ERR_CORRUPT when it is not what was encrypted; out is then undefined. */
int seal_decrypt(struct seal *s, const uint8_t key[SEAL_KEY], enum seal_domain domain, uint64_t counter, struct slice aad, const void *in,
                 size_t n, void *out, const uint8_t tag[SEAL_TAG]);
int seal_wrap(struct seal *s, const uint8_t kek[SEAL_KEY], struct slice aad, const uint8_t key[SEAL_KEY], uint8_t out[SEAL_WRAPPED]);
int seal_unwrap(struct seal *s, const uint8_t kek[SEAL_KEY], struct slice aad, const uint8_t in[SEAL_WRAPPED], uint8_t key[SEAL_KEY]);
/* HMAC-SHA-256(key, "kakitome record 1" | salt). */
int seal_derive(struct seal *s, const uint8_t key[SEAL_KEY], const uint8_t salt[SEAL_SALT], uint8_t out[SEAL_KEY]);

#endif
