/* decode.h: content transfer encodings (RFC 2045 6, and uuencode, which is older than MIME and still about).
 *
 * Run by: filterd, imapd (trust of input: none). Streaming: feed pieces of any size, then finish. Tolerant, as mail is: characters
 * that are not base64 are skipped, padding in the middle ends a quantum and not the text, broken "=XY" stays as it is.
 * Output goes to a buffer; a full buffer (its max) sets its `failed`, as always. Linear, constant state. */
#ifndef KK_MAIL_DECODE_H
#define KK_MAIL_DECODE_H

#include "base/buf.h"

enum mail_encoding {
    MAIL_ENC_7BIT, /* also where no field says otherwise */
    MAIL_ENC_8BIT,
    MAIL_ENC_BINARY,
    MAIL_ENC_QP,
    MAIL_ENC_BASE64,
    MAIL_ENC_UUENCODE,
    MAIL_ENC_UNKNOWN, /* cannot be decoded: the bytes as they are (RFC 2045 6.4) */
    MAIL_ENC_COUNT,
};

/* The value of a Content-Transfer-Encoding field; comments, case and blanks do not matter. */
enum mail_encoding mail_encoding_parse(struct slice raw);
const char *mail_encoding_name(enum mail_encoding e); /* "quoted-printable" */

#define MAIL_UU_LINE_MAX 128

struct mail_decoder {
    enum mail_encoding encoding;
    uint32_t bits;    /* base64: what has come of the quantum */
    unsigned n;       /* base64: characters of it; quoted-printable: bytes held */
    char held[64];    /* quoted-printable: "=", "=X" or blanks that may stand before a line end */
    enum { UU_BEFORE, UU_DATA, UU_AFTER } uu;
    size_t line_n;
    char line[MAIL_UU_LINE_MAX]; /* uuencode: the line so far */
};

void mail_decoder_init(struct mail_decoder *d, enum mail_encoding encoding);
void mail_decoder_feed(struct mail_decoder *d, struct slice in, struct buf *out);
void mail_decoder_finish(struct mail_decoder *d, struct buf *out);
/* All at once. */
void mail_decode(enum mail_encoding encoding, struct slice in, struct buf *out);

#endif
