/* sasl.h: the client's side of SASL exchanges as bytes: base64 and the PLAIN message. Pure functions.
 *
 * Input comes from strangers; output may be a password, so callers wipe what these functions wrote (secret_wipe). */
#ifndef KK_WIRE_SASL_H
#define KK_WIRE_SASL_H

#include "base/buf.h"
#include "base/slice.h"

/* RFC 4954 section 4 and RFC 5034 section 4: the longest base64 line of an exchange, with its end. */
#define SASL_LINE_MAX 12288
/* The longest name and password taken from a client: what authd takes. */
#define SASL_NAME_MAX 1280
#define SASL_PASSWORD_MAX 1024

/* Strict base64 (RFC 4648 section 4: padded, no white space, no bits left over). Appends to out. 0, ERR_SYNTAX, ERR_LIMIT
 * (past out->max) or -ENOMEM; on failure out may hold a part, which the caller wipes. */
int sasl_base64_decode(struct slice text, struct buf *out);

/* RFC 4616: [authzid] NUL authcid NUL passwd, all UTF-8, authcid and passwd not empty. The slices point into message.
 * ERR_SYNTAX or ERR_LIMIT. */
struct sasl_plain {
    struct slice authzid, authcid, password;
};
int sasl_plain_parse(struct slice message, struct sasl_plain *ret);

/* One answer of the LOGIN mechanism (draft-murchison-sasl-login): a name or a password: UTF-8 without NUL, not empty,
 * at most max bytes. */
int sasl_login_check(struct slice answer, size_t max);

#endif
