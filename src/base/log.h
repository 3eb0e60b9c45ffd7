/* log.h: what a process tells the administrator, on standard error, one line an entry.
 *
 * An entry is a name ("smtpd.listening") and typed fields, never prose built by hand, and never message content, header
 * values or secrets. Two renderings: for people ("02:44:36.120 smtpd info  smtpd.listening addr=127.0.0.1:2525") and JSON
 * lines. The log is for running the service; what must be kept goes into the trail (trail/event.h).
 * The one writable global of this file is the process's log settings. */
#ifndef KK_BASE_LOG_H
#define KK_BASE_LOG_H

#include "base/id.h"
#include "base/netaddr.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR, LOG_ALERT };

struct log_field {
    const char *name;
    enum { LOG_F_END, LOG_F_STR, LOG_F_SLICE, LOG_F_INT, LOG_F_ID, LOG_F_ADDR } type;
    union {
        const char *str;
        struct slice slice; /* control bytes and non-UTF-8 are escaped; cut at 300 bytes */
        int64_t i;
        struct id128 id;
        const struct netaddr *addr;
    } u;
};

#define L_STR(n, v) ((struct log_field){(n), LOG_F_STR, {.str = (v)}})
#define L_SLICE(n, v) ((struct log_field){(n), LOG_F_SLICE, {.slice = (v)}})
#define L_INT(n, v) ((struct log_field){(n), LOG_F_INT, {.i = (int64_t)(v)}})
#define L_ID(n, v) ((struct log_field){(n), LOG_F_ID, {.id = (v)}})
#define L_ADDR(n, v) ((struct log_field){(n), LOG_F_ADDR, {.addr = (v)}})

void log_init(const char *process, enum log_level least, bool json);
void log_set_level(enum log_level least, bool json);
bool log_on(enum log_level level);
void log_write(enum log_level level, const char *name, const struct log_field *fields, size_t n);

#define LOG_AT(level, name, ...)                                                                    \
    do {                                                                                            \
        if (log_on(level)) {                                                                        \
            const struct log_field log_fields_[] = {{0}, ##__VA_ARGS__};                            \
            log_write((level), (name), log_fields_ + 1, sizeof(log_fields_) / sizeof(*log_fields_) - 1); \
        }                                                                                           \
    } while (0)
#define log_debug(name, ...) LOG_AT(LOG_DEBUG, name, ##__VA_ARGS__)
#define log_info(name, ...) LOG_AT(LOG_INFO, name, ##__VA_ARGS__)
#define log_warning(name, ...) LOG_AT(LOG_WARNING, name, ##__VA_ARGS__)
#define log_error(name, ...) LOG_AT(LOG_ERROR, name, ##__VA_ARGS__)
#define log_alert(name, ...) LOG_AT(LOG_ALERT, name, ##__VA_ARGS__)

#endif
