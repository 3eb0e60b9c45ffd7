/* meta.h: what the store keeps beside a message, so that listings and IMAP need not parse it again: envelope, structure, preview.
 *
 * Written by filterd (parsed from outside bytes), kept by stored without looking into it, read by imapd (trust: it went through
 * other processes and the disk: decoded strictly). Format: u16 version, then the record mail_meta (ipc/record.h). It never exceeds
 * the maximum given (IPC_META_MAX): then parts are left out from the end, then addresses and long texts are cut, and flags say so:
 * who needs what was cut parses the message again (mime.h). Offsets count from the start of the body as the store keeps it
 * (behind the trace header lines that are put in front).
 * Texts are raw: unfolded, encoded-words not decoded (mail_header_decode, mail_param_get do that). */
#ifndef KK_MAIL_META_H
#define KK_MAIL_META_H

#include "ipc/record.h"
#include "mail/mime.h"
#include "mail/preview.h"

#define MAIL_META_VERSION 1

enum mail_meta_flag {
    MAIL_META_8BIT = MIME_HAS_8BIT,
    MAIL_META_NUL = MIME_HAS_NUL,
    MAIL_META_ATTACHMENT = MIME_HAS_ATTACHMENT,
    MAIL_META_DATE = 256,         /* date_ms and zone are the Date field's */
    MAIL_META_ZONE_KNOWN = 512,
    MAIL_META_PARTS_CUT = 1024,   /* not all parts, or not all of their fields: parse again */
    MAIL_META_ENVELOPE_CUT = 2048, /* not all addresses, or not all of a text: parse again */
};

/* Fields that were there, be they empty (bits of `present`): IMAP tells NIL from "". */
enum mail_meta_envelope_field { MAIL_ENV_DATE = 1, MAIL_ENV_SUBJECT = 2, MAIL_ENV_IN_REPLY_TO = 4, MAIL_ENV_MESSAGE_ID = 8 };
enum mail_meta_part_field {
    MAIL_PART_TYPED = 1, MAIL_PART_ENCODING = 2, MAIL_PART_DISPOSITION = 4, MAIL_PART_ID = 8, MAIL_PART_DESCRIPTION = 16,
    MAIL_PART_MD5 = 32, MAIL_PART_LANGUAGE = 64, MAIL_PART_LOCATION = 128,
};

#define RECORD_mail_meta_param(F, S) F(S, BYTES, name, MAIL_TOKEN_MAX) F(S, BYTES, value, MAIL_PARAM_MAX)
RECORD_DECLARE(mail_meta_param);
/* kind: enum mail_address_kind */
#define RECORD_mail_meta_address(F, S)                                                                                    \
    F(S, U64, kind, 2) F(S, BYTES, name, 4096) F(S, BYTES, route, 4096) F(S, BYTES, local, 4096) F(S, BYTES, domain, 4096)
RECORD_DECLARE(mail_meta_address);
#define RECORD_mail_meta_envelope(F, S)                                                                                   \
    F(S, U64, present, 15) F(S, BYTES, date, 4096) F(S, BYTES, subject, 4096) F(S, BYTES, in_reply_to, 4096)               \
    F(S, BYTES, message_id, 4096) F(S, LIST, from, MAIL_ADDRESSES_MAX, mail_meta_address)                                  \
    F(S, LIST, sender, MAIL_ADDRESSES_MAX, mail_meta_address) F(S, LIST, reply_to, MAIL_ADDRESSES_MAX, mail_meta_address)   \
    F(S, LIST, to, MAIL_ADDRESSES_MAX, mail_meta_address) F(S, LIST, cc, MAIL_ADDRESSES_MAX, mail_meta_address)             \
    F(S, LIST, bcc, MAIL_ADDRESSES_MAX, mail_meta_address)
RECORD_DECLARE(mail_meta_envelope);
/* parent, envelope: index plus one, 0: none. kind: enum mime_kind; encoding: enum mail_encoding. */
#define RECORD_mail_meta_part(F, S)                                                                                       \
    F(S, U64, parent, MIME_PARTS_MAX) F(S, U64, depth, MIME_DEPTH_MAX) F(S, U64, number, MIME_PARTS_MAX) F(S, U64, kind, 2) \
    F(S, U64, envelope, MIME_PARTS_MAX) F(S, U64, encoding, MAIL_ENC_UNKNOWN) F(S, U64, header_at, 0) F(S, U64, body_at, 0) \
    F(S, U64, body_size, 0) F(S, U64, lines, 0) F(S, U64, present, 255)                                                    \
    F(S, BYTES, type, MAIL_TOKEN_MAX) F(S, BYTES, subtype, MAIL_TOKEN_MAX) F(S, BYTES, encoding_text, 4096)                 \
    F(S, BYTES, disposition, MAIL_TOKEN_MAX) F(S, BYTES, id, 4096) F(S, BYTES, description, 4096) F(S, BYTES, md5, 4096)    \
    F(S, BYTES, language, 4096) F(S, BYTES, location, 4096) F(S, LIST, params, MAIL_PARAMS_MAX, mail_meta_param)            \
    F(S, LIST, disposition_params, MAIL_PARAMS_MAX, mail_meta_param)
RECORD_DECLARE(mail_meta_part);
/* date_ms: two's complement; zone: minutes east of UTC plus 10000. limits: enum mime_limit. n_parts: also of those left out.
 * envelopes[0] is the message's own. */
#define RECORD_mail_meta(F, S)                                                                                            \
    F(S, U64, flags, 65535) F(S, U64, limits, 255) F(S, U64, size, 0) F(S, U64, received_count, 0) F(S, U64, date_ms, 0)    \
    F(S, U64, zone, 20000) F(S, U64, n_parts, MIME_PARTS_MAX) F(S, STR, preview, MAIL_PREVIEW_MAX)                         \
    F(S, LIST, envelopes, MIME_PARTS_MAX, mail_meta_envelope) F(S, LIST, parts, MIME_PARTS_MAX, mail_meta_part)
RECORD_DECLARE(mail_meta);

/* Puts the encoding into out (emptied first), at most `max` bytes. The arena is for work. 0, -ENOMEM, ERR_LIMIT (max is tiny). */
int mail_meta_encode(const struct mime_message *m, struct slice preview, size_t max, struct arena *a, struct buf *out);
/* Slices point into `encoded`, lists are in the arena. References between parts and envelopes are checked. 0, ERR_SYNTAX,
 * ERR_LIMIT, ERR_VERSION, -ENOMEM. */
int mail_meta_decode(struct slice encoded, struct arena *a, struct mail_meta *ret);

#endif
