/* utf8.h: strict UTF-8 (RFC 3629: no surrogates, no overlong forms, no more than U+10FFFF) and JSON strings. */
#ifndef KK_BASE_UTF8_H
#define KK_BASE_UTF8_H

#include "base/buf.h"

/* Length of the valid sequence at the start of s (1 to 4), 0 when there is none; the code point through ret (may be NULL). */
size_t utf8_next(struct slice s, uint32_t *ret_cp);
bool utf8_valid(struct slice s);
bool utf8_is_ascii(struct slice s);
void utf8_put_cp(struct buf *b, uint32_t cp);
/* The inside of a JSON string: quotes, backslashes and control characters (DEL, C1 too) escaped, invalid bytes as U+FFFD. */
void utf8_put_json(struct buf *b, struct slice s);

#endif
