/* id.h: 128-bit ids of messages, connections, bodies.
 * 48 bits of milliseconds, then 80 random bits: unique without coordination, sorted by time, not guessable.
 * The text form is 26 characters of Crockford base 32, lower case ("01jd7z..."); it sorts like the id. */
#ifndef KK_BASE_ID_H
#define KK_BASE_ID_H

#include "base/slice.h"

struct id128 {
    uint8_t b[16];
};

#define ID_TEXT_SIZE 27 /* with NUL */

struct id128 id_new(void);
bool id_eq(struct id128 a, struct id128 b);
bool id_is_zero(struct id128 a);
void id_print(struct id128 id, char out[ID_TEXT_SIZE]);
bool id_parse(struct slice text, struct id128 *ret_id);

#endif
