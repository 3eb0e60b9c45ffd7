/* rest.h: the master key, under which the store's keys at rest are wrapped. Only keyd has it.
 *
 * File `master.key` in keyd's directory, 0600, made on first start, never overwritten: losing it loses all mail. 56 bytes:
 * "KKMASTER", u32 version (1), u32 flags (0), 32 bytes of key, the first 8 bytes of SHA-256 over what stands before.
 *
 * A wrapped key: u8 version (1), 8 bytes naming the master key, 12 bytes nonce, ciphertext, 16 bytes tag. AES-256-GCM; authenticated
 * with it: "kakitome rest 1" NUL, the name of the master key, the context. */
#ifndef KK_TLS_REST_H
#define KK_TLS_REST_H

#include "base/buf.h"
#include "base/err.h"

#define REST_KEY_MAX 64
#define REST_CONTEXT_MAX 128
#define REST_OVERHEAD 37 /* 1 + 8 + 12 + 16 */
#define REST_WRAPPED_MAX (REST_KEY_MAX + REST_OVERHEAD)

struct rest_master;

/* Opens master.key in the directory, or makes it (synced, with the directory) when there is none. *ret_made tells. ERR_CORRUPT,
 * ERR_VERSION, or -errno. */
int rest_master_open(int dir, struct rest_master **ret, bool *ret_made, struct err *err);
void rest_master_free(struct rest_master *m);
/* out: REST_WRAPPED_MAX bytes. ERR_LIMIT for an empty or too long key or context. */
int rest_wrap(const struct rest_master *m, struct slice context, struct slice key, uint8_t *out, size_t *ret_n);
/* out: REST_KEY_MAX bytes. ERR_CORRUPT: changed, of another context, or wrapped under another master key; ERR_VERSION. */
int rest_unwrap(const struct rest_master *m, struct slice context, struct slice wrapped, uint8_t *out, size_t *ret_n);

#endif
