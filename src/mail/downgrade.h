/* downgrade.h: a message header with UTF-8 (RFC 6532) as one that older programs can read (RFC 6857). Pure function.
 *
 * Only the message's own header is rewritten; headers of MIME parts stay as they are. A field that is not valid UTF-8 stays too:
 * it is no internationalized header but an old program's unlabelled charset, and nobody knows which. */
#ifndef KK_MAIL_DOWNGRADE_H
#define KK_MAIL_DOWNGRADE_H

#include "base/buf.h"

/* A header larger than this is not rewritten. */
#define DOWNGRADE_HEADER_MAX (256 * 1024)

/* Has bytes above 127. */
bool downgrade_wanted(struct slice s);
/* Appends the header (fields with CR LF, the blank line if there is one) rewritten. 0, ERR_LIMIT or -ENOMEM. */
int downgrade_header(struct slice header, struct buf *out);

#endif
