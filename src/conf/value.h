/* value.h: the written forms of sizes and times: "25M", "5m", as in the configuration and on the command line. */
#ifndef KK_CONF_VALUE_H
#define KK_CONF_VALUE_H

#include "base/buf.h"

/* Decimal number, then K, M, G or T (powers of 1024; "KiB" and "KB" mean the same). false on anything else, or overflow. */
bool conf_value_size(struct slice text, int64_t *ret_bytes);
/* Decimal number, then ms, s, m, h or d; 0 needs no unit, any other number does. */
bool conf_value_time(struct slice text, int64_t *ret_ms);
/* Decimal number with an optional leading minus. */
bool conf_value_int(struct slice text, int64_t *ret);
/* true, yes, on; false, no, off. */
bool conf_value_bool(struct slice text, bool *ret);
/* The shortest exact form: 52428800 is "50M", 1500 ms is "1500ms". */
void conf_print_size(struct buf *b, int64_t bytes);
void conf_print_time(struct buf *b, int64_t ms);

#endif
