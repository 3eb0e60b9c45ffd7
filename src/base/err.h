/* err.h: one way to fail.
 *
 * Functions return 0 or a negative code: a negated errno value, or one of the codes below. The code is what a
 * program decides by; the sentence in `struct err`, for a person, is filled by whoever knows the context.
 * Passing a NULL err is always allowed. */
#ifndef KK_BASE_ERR_H
#define KK_BASE_ERR_H

#include <errno.h>
#include <stddef.h>

enum err_code {
    ERR_SYNTAX = -1001,   /* outside input breaks its grammar */
    ERR_LIMIT = -1002,    /* outside input exceeds a named limit */
    ERR_DENIED = -1003,   /* the caller has no right or grant for this */
    ERR_QUOTA = -1004,    /* the account is full */
    ERR_GONE = -1005,     /* the object existed and does not any more */
    ERR_CORRUPT = -1006,  /* stored data fails its own checks */
    ERR_VERSION = -1007,  /* stored data is of a newer format than this program */
    ERR_READONLY = -1008, /* the store has stopped accepting after a failed write or sync */
    ERR_CLOSED = -1009,   /* the other end has closed in good order */
    ERR_CONFIG = -1010,   /* the configuration is wrong */
};

struct err {
    int code;
    char text[400];
};

/* Fills err (if not NULL) and returns code, so that `return err_set(err, -ENOENT, "no %s", name);` reads well. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Like err_set with errno: appends ": <strerror>" and returns -errno. */
int err_errno(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Puts "context: " in front of the sentence that is there; returns its code. */
int err_context(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A short name for a code, for logs. Never NULL; static. */
const char *err_name(int code);

#endif
