#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *err, int code, const char *fmt, ...)
{
    if (err != NULL) {
        va_list ap;
        va_start(ap, fmt);
        (void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
        err->code = code;
    }
    return code;
}

int err_errno(struct err *err, const char *fmt, ...)
{
    int saved = errno;
    if (err != NULL) {
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
        if (n >= 0 && (size_t)n < sizeof(err->text))
            (void)snprintf(err->text + n, sizeof(err->text) - (size_t)n, ": %s", err_name(-saved));
        err->code = -saved;
    }
    return -saved;
}

int err_context(struct err *err, const char *fmt, ...)
{
    if (err == NULL)
        return -EIO;
    char old[sizeof(err->text) / 2]; /* the context comes first: what is cut is the innermost detail */
    (void)snprintf(old, sizeof(old), "%.*s", (int)sizeof(old) - 1, err->text);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    size_t at = n >= 0 && (size_t)n < sizeof(err->text) ? (size_t)n : sizeof(err->text) - 1;
    size_t room = sizeof(err->text) - at;
    int put = snprintf(err->text + at, room, ": %s", old);
    if (put < 0)
        err->text[at] = '\0';
    return err->code;
}

const char *err_name(int code)
{
    switch (code) {
    case ERR_SYNTAX: return "syntax error";
    case ERR_LIMIT: return "limit exceeded";
    case ERR_DENIED: return "denied";
    case ERR_QUOTA: return "over quota";
    case ERR_GONE: return "gone";
    case ERR_CORRUPT: return "damaged";
    case ERR_VERSION: return "newer format";
    case ERR_READONLY: return "store is read-only";
    case ERR_CLOSED: return "closed";
    case ERR_CONFIG: return "configuration error";
    default: break;
    }
    if (code < 0 && code > -1000) {
        const char *d = strerrordesc_np(-code);
        return d != NULL ? d : "unknown error";
    }
    return code == 0 ? "ok" : "unknown error";
}
