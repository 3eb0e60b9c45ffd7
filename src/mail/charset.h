/* charset.h: text of any character set that mail uses, to UTF-8.
 *
 * Run by: filterd, imapd (trust of input: none). Which character sets are known is one table in charset.c. glibc's iconv loads a
 * module the first time it meets a character set, with open(): so mail_charset_init() opens a converter of every one and keeps
 * it, before the sandbox is entered, and nothing else here opens one. Labels mean what mail programs and browsers take them to
 * mean (WHATWG Encoding): iso-8859-1 is windows-1252, shift_jis is CP932, gb2312 is GB18030, and so on; ISO-2022-JP takes the extra
 * characters that Japanese programs send in it (NEC row 13, half-width kana, JIS X 0212). Not thread safe. */
#ifndef KK_MAIL_CHARSET_H
#define KK_MAIL_CHARSET_H

#include "base/buf.h"
#include "base/err.h"

/* Opens and holds every converter. A character set that this system's iconv lacks is left out; -ENOSYS when it has none at all.
 * May be called again (does nothing). */
int mail_charset_init(struct err *err);
void mail_charset_done(void);

/* Whether this label names a character set that can be converted. */
bool mail_charset_known(struct slice label);

/* Appends `in` as UTF-8. Never fails: what cannot be decoded becomes U+FFFD, one for each byte; bytes of an unknown
 * character set, and those without one (label empty or us-ascii), are taken for UTF-8 where they are valid UTF-8 as a whole, for
 * ISO-2022-JP where they hold its escapes. Output is cut at out->max, between characters. Linear. */
void mail_charset_to_utf8(struct buf *out, struct slice label, struct slice in);

/* Appends n bytes of valid UTF-8, cut at out->max between characters; false when it was cut. */
bool mail_utf8_put(struct buf *out, const char *p, size_t n);
/* Appends bytes that should be UTF-8: invalid ones become U+FFFD. */
void mail_utf8_put_lossy(struct buf *out, struct slice in);

#endif
