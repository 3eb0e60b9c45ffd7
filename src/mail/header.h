/* header.h: header blocks and fields (RFC 5322 2.2, 3.6; RFC 6532): splitting, unfolding, decoding of text.
 *
 * Run by: filterd, imapd (trust of input: none). A header block ends at the first empty line and nowhere else, as SMTP, POP3 TOP, IMAP
 * and DKIM see it too: a line that is no field ("From nobody ...", ">From", text without a colon) is skipped, not taken
 * for the start of the body. Lines end with LF or CRLF. Everything is linear in its input. */
#ifndef KK_MAIL_HEADER_H
#define KK_MAIL_HEADER_H

#include "base/arena.h"
#include "base/buf.h"

#define MAIL_HEADER_MAX (256 * 1024) /* bytes of one header block that are looked at */
#define MAIL_FIELDS_MAX 2000         /* fields of one header block that are looked at */
#define MAIL_VALUE_MAX 65536         /* bytes of one field's value that are looked at */
#define MAIL_WORD_MAX 4096           /* bytes of one encoded-word; RFC 2047 2 says 75, programs say more */

struct mail_field {
    struct slice name;  /* as written, without the colon */
    struct slice value; /* behind the colon, folding kept, without the last line end; cut at MAIL_VALUE_MAX */
    struct slice whole; /* all of it, with the last line end */
};

/* Takes the next field off the front of *rest. false: no more; then *rest is what stands behind the empty line (empty if none). */
bool mail_header_next(struct slice *rest, struct mail_field *ret);

/* Takes one line off the front of *rest: without its LF or CRLF. false: *rest was empty. */
bool mail_line_next(struct slice *rest, struct slice *ret_line);

/* Without line ends and blanks at both ends (RFC 5322 2.2.3). Copies into the arena only when there is a line end inside. p == NULL
 * when out of memory. */
struct slice mail_header_unfold(struct arena *a, struct slice value);

/* Appends the text of an unstructured field or a phrase as UTF-8: unfolded, encoded-words decoded wherever they stand
 * (RFC 2047; also inside quotes and glued to other text, as programs send them), a character that two adjacent words share put
 * together again. Bytes that are not ASCII: UTF-8 (RFC 6532), else of the character set `hint` (empty: none), else U+FFFD.
 * NUL and other control characters become blanks. Cut at out->max. */
void mail_header_decode(struct buf *out, struct slice value, struct slice hint);

#endif
