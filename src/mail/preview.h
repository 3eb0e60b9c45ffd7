/* preview.h: the first words of a message, for listings (RFC 8970): UTF-8, at most 256 characters, white space folded.
 *
 * Run by: filterd (trust of input: none). Taken from the first text/plain or text/html part that holds text and is neither an attachment
 * nor inside an attached message; HTML loses its tags, style, scripts and head, entities are decoded. No control characters. */
#ifndef KK_MAIL_PREVIEW_H
#define KK_MAIL_PREVIEW_H

#include "mail/mime.h"

#define MAIL_PREVIEW_CHARS 256 /* RFC 8970 3.1 */
#define MAIL_PREVIEW_MAX (MAIL_PREVIEW_CHARS * 4)
#define MAIL_PREVIEW_LOOK 65536 /* decoded bytes of a part that are looked at */
#define MAIL_PREVIEW_TRIES 8    /* text parts that are looked at */

/* Appends the preview; nothing when there is no text. */
void mail_preview(const struct mime_message *m, struct buf *out);
/* The same for text that is at hand, UTF-8. true: out has as many characters as it may. */
bool mail_preview_text(struct slice text, bool html, struct buf *out);

#endif
