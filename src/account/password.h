/* password.h: passwords: preparing, hashing (Argon2id), checking. Hashing takes tens of milliseconds and the memory that the parameters
 * say: on worker threads only. Nothing here is kept. */
#ifndef KK_ACCOUNT_PASSWORD_H
#define KK_ACCOUNT_PASSWORD_H

#include <stdbool.h>

#include "base/err.h"
#include "base/slice.h"

#define PASSWORD_MAX 1024
#define PASSWORD_LEAST 8
#define PASSWORD_ENCODED_SIZE 256

struct password {
    char text[PASSWORD_MAX * 3]; /* NFC may make it longer */
    size_t n;
};

struct password_params {
    uint32_t memory_kib, passes;
};

/* RFC 8265 4.2 (OpaqueString): NFC, and other spaces become U+0020, so that the same keys give the same bytes on every system. Bytes that are
 * no UTF-8 stay as they are. ERR_SYNTAX when empty or with NUL, ERR_LIMIT. Wipe ret when done (also after a failure). */
int password_prepare(struct slice in, struct password *ret);
/* Is it good enough to be set: at least PASSWORD_LEAST characters, and neither the address nor its local part (without case). */
int password_check(const struct password *p, struct slice address, struct err *err);

/* Blocks. 0 or -ENOMEM. */
int password_hash(const struct password *p, const struct password_params *params, char ret[PASSWORD_ENCODED_SIZE]);
/* Blocks. 0, ERR_DENIED (another password), or what kept it from being checked: -ENOMEM, ERR_CORRUPT. Compares in constant time. */
int password_verify(const struct password *p, const char *encoded);
/* Was the hash made under other parameters than these? */
bool password_outdated(const char *encoded, const struct password_params *params);

#endif
