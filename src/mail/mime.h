/* mime.h: the structure of a message (RFC 5322, 2045, 2046, 6532), found in one pass.
 *
 * Run by: filterd (all mail), imapd (what was too large to keep). Trust of input: none; every message has a structure, however broken.
 * Bounded: depth, parts, header block, fields, parameters, addresses; time is linear in the message (each line is compared with at
 * most MIME_DEPTH_MAX boundaries). What lies beyond a limit is content of the last part within it, and `limits` says so.
 *
 * Decisions where RFCs leave room or mail breaks them:
 * - a header block ends at the first empty line only (header.h), at a boundary of an open multipart, or at the boundary that it
 *   declares itself (the empty line was forgotten);
 * - a boundary line is "--" boundary ["--"] and blanks, nothing else; the innermost open multipart is asked first, an outer
 *   boundary ends everything inside; after its closing line a multipart knows its boundary no more; of several boundary lines
 *   in a row the last one counts;
 * - a multipart without a boundary parameter, and a message/rfc822 that is base64 or quoted-printable (RFC 2046 5.2.1 forbids
 *   it), are leaves;
 * - of a field that must stand once the first one counts; To, Cc and Bcc are put together (RFC 5322 4.5.3).
 *
 * Everything points into the message or into the arena. Offsets count from the start of the message. */
#ifndef KK_MAIL_MIME_H
#define KK_MAIL_MIME_H

#include "mail/address.h"
#include "mail/date.h"
#include "mail/decode.h"
#include "mail/param.h"

#define MIME_DEPTH_MAX 32
#define MIME_PARTS_MAX 1000
#define MIME_BOUNDARY_MAX 4096 /* RFC 2046 5.1.1 says 70, programs do not */
/* Of all envelopes together: an address takes many times the memory of the few bytes that make it. */
#define MIME_ADDRESSES_MAX 10000
#define MIME_ADDRESS_BYTES_MAX (1024 * 1024)
#define MIME_NONE UINT32_MAX
/* Enough for any message of that size within the limits above. */
#define MIME_ARENA_MAX(size) (32 * 1024 * 1024 + 2 * (size_t)(size))

enum mime_kind { MIME_LEAF, MIME_MULTIPART, MIME_MESSAGE };

enum mime_limit {
    MIME_LIMIT_DEPTH = 1,
    MIME_LIMIT_PARTS = 2,
    MIME_LIMIT_HEADER = 4,    /* a header block was longer than MAIL_HEADER_MAX or MAIL_FIELDS_MAX */
    MIME_LIMIT_ADDRESSES = 8,
};

enum mime_flag {
    MIME_HAS_8BIT = 1,
    MIME_HAS_NUL = 2,
    MIME_HAS_ATTACHMENT = 4, /* a leaf that is an attachment by its disposition, or by a name and a type other than text */
};

/* Header fields that IMAP's ENVELOPE and every listing show. Values: unfolded, not decoded. p == NULL: no such field. */
struct mail_envelope {
    struct slice date, subject, in_reply_to, message_id;
    struct mail_addresses from, sender, reply_to, to, cc, bcc;
};

struct mime_part {
    uint32_t parent;   /* index; MIME_NONE: the message itself */
    uint16_t depth;    /* 0: the message itself */
    uint16_t number;   /* among its parent's parts, from 1 */
    enum mime_kind kind;
    struct slice type, subtype;     /* as written; "text" and "plain" (in a digest "message" and "rfc822") by default */
    bool typed;                     /* a usable Content-Type field said so */
    struct mail_params params;
    enum mail_encoding encoding;
    struct slice encoding_text;     /* as written; p == NULL: no field; so below */
    struct slice disposition;
    struct mail_params disposition_params;
    struct slice id, description, md5, language, location;
    size_t header_at;               /* where its header block begins */
    size_t body_at, body_size;      /* without the line end that belongs to the boundary behind it (an empty body may begin behind it) */
    size_t lines;                   /* line ends in the body */
    uint32_t envelope;              /* of a MIME_MESSAGE: the envelope of the message inside; else MIME_NONE */
};

struct mime_message {
    struct slice source;
    struct mime_part *parts; /* in order of appearance, each parent before its parts; parts[0] is the message */
    size_t n_parts;
    struct mail_envelope *envelopes; /* envelopes[0] is the message's own */
    size_t n_envelopes;
    size_t received_count;   /* Received fields of the message itself */
    bool has_date;
    struct mail_date date;
    unsigned flags, limits;
};

/* 0, or -ENOMEM when the arena is full. */
int mime_parse(struct arena *a, struct slice message, struct mime_message *ret);

/* ASCII case does not matter. subtype NULL: any. */
bool mime_part_is(const struct mime_part *p, const char *type, const char *subtype);
struct slice mime_part_body(const struct mime_message *m, const struct mime_part *p);
/* Appends the file name: of the disposition, else of the type. false: none. */
bool mime_part_filename(const struct mime_part *p, struct buf *out);
/* The label of the part's character set; empty when there is none. */
struct slice mime_part_charset(const struct mime_part *p);

#endif
