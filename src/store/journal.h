/* journal.h: what a segment file holds: its header, records, and the effects sealed in them. docs/STORE.md sections 3 and 5.
 *
 * A record is: header (JOURNAL_HEADER bytes) | body section | sealed section and its tag | zeros to a multiple of 8 | trailer
 * (JOURNAL_TRAILER bytes). The sealed section is one of the j_ records below, encoded by ipc/record.h, encrypted under a key of the
 * record's own (seal_derive of the journal key and the header's salt). All integers are little-endian.
 *
 * The effects are commands to a deterministic machine: applied in order of sequence, they make the same index each time. So no
 * clock, randomness or quota enters when they are applied; what needs those is in the record. */
#ifndef KK_STORE_JOURNAL_H
#define KK_STORE_JOURNAL_H

#include "ipc/record.h"
#include "store/body_write.h"
#include "store/seal.h"
#include "store/store.h"

#define JOURNAL_VERSION 1
#define JOURNAL_SEGMENT_HEADER 128
#define JOURNAL_HEADER 96
#define JOURNAL_TRAILER 16
#define JOURNAL_ALIGN 8
#define JOURNAL_SEALED_MAX (8 * 1024 * 1024)

enum journal_type {
    JOURNAL_END = 1,      /* nothing follows in this segment; no sections */
    JOURNAL_ACCEPT = 2,   /* j_accept, with a body */
    JOURNAL_EXPUNGE = 3,  /* j_change */
    JOURNAL_FLAGS = 4,    /* j_change */
    JOURNAL_COPY = 5,     /* j_change */
    JOURNAL_MOVE = 6,     /* j_change: like copy, and expunges the originals */
    JOURNAL_ACCOUNT_CREATE = 7,  /* j_account */
    JOURNAL_ACCOUNT_DELETE = 8,  /* j_account */
    JOURNAL_ACCOUNT_QUOTA = 9,   /* j_account */
    JOURNAL_ACCOUNT_PURGE = 10,  /* j_account: removes up to `amount` rows of a deleted account */
    JOURNAL_MAILBOX_CREATE = 11, /* j_mailbox */
    JOURNAL_MAILBOX_RENAME = 12, /* j_mailbox */
    JOURNAL_MAILBOX_FLAGS = 13,  /* j_mailbox */
    JOURNAL_MAILBOX_DELETE = 14, /* j_mailbox */
    JOURNAL_BODY_MOVE = 15,      /* j_body_move, with the body's stored bytes as they were */
    JOURNAL_SWEEP = 16,          /* j_sweep */
    JOURNAL_TYPES
};

#define RECORD_j_keyword(F, S) F(S, STR, name, STORE_KEYWORD_MAX)
/* One recipient: lane numbers the prefix's nonce; key is the body's key wrapped under the account's. */
#define RECORD_j_place(F, S)                                                                                      \
    F(S, U64, tenant, UINT32_MAX) F(S, U64, account, 0) F(S, U64, mailbox, UINT32_MAX) F(S, U64, flags, UINT32_MAX)  \
    F(S, U64, size, 0) F(S, U64, internal_ms, 0) F(S, U64, save_ms, 0) F(S, U64, lane, UINT32_MAX)                   \
    F(S, BYTES, key, SEAL_WRAPPED) F(S, BYTES, prefix, STORE_PREFIX_MAX + SEAL_TAG)                                \
    F(S, LIST, keywords, STORE_KEYWORDS_MAX, j_keyword)
/* statuses: u32 a recipient as it was asked for (0 or a negated code), for duplicates. meta: common lines and meta, sealed. */
#define RECORD_j_accept(F, S)                                                                                     \
    F(S, ID, message, 0) F(S, U64, received_ms, 0) F(S, STR, sender, STORE_SENDER_MAX) F(S, U64, body_size, STORE_BODY_MAX) \
    F(S, U64, common_size, STORE_COMMON_MAX) F(S, BYTES, meta, STORE_COMMON_MAX + STORE_META_MAX + SEAL_TAG)       \
    F(S, LIST, places, STORE_RCPT_MAX, j_place) F(S, BYTES, statuses, 4 * STORE_RCPT_MAX) F(S, BYTES, event, STORE_EVENT_MAX)
/* runs: pairs of u32 (first uid, count) in the order of the request. */
#define RECORD_j_change(F, S)                                                                                     \
    F(S, U64, tenant, UINT32_MAX) F(S, U64, account, 0) F(S, U64, mailbox, UINT32_MAX) F(S, BYTES, runs, 8 * STORE_UIDS_MAX) \
    F(S, U64, add, UINT32_MAX) F(S, U64, remove, UINT32_MAX) F(S, LIST, add_keywords, STORE_KEYWORDS_MAX, j_keyword) \
    F(S, LIST, remove_keywords, STORE_KEYWORDS_MAX, j_keyword) F(S, U64, unchanged_since, 0) F(S, U64, to, UINT32_MAX) \
    F(S, U64, save_ms, 0) F(S, BYTES, event, STORE_EVENT_MAX)
#define RECORD_j_account(F, S)                                                                                    \
    F(S, U64, tenant, UINT32_MAX) F(S, U64, account, 0) F(S, U64, amount, 0) F(S, BYTES, event, STORE_EVENT_MAX)
#define RECORD_j_mailbox(F, S)                                                                                    \
    F(S, U64, tenant, UINT32_MAX) F(S, U64, account, 0) F(S, U64, mailbox, UINT32_MAX) F(S, STR, name, STORE_MAILBOX_NAME_MAX) \
    F(S, U64, flags, UINT32_MAX) F(S, BYTES, event, STORE_EVENT_MAX)
#define RECORD_j_body_move(F, S) F(S, U64, from_segment, 0) F(S, U64, from_offset, 0)
/* These bodies (16 bytes each), if they are still in the segment, are dead; with last = 1 the segment is empty and may go. */
#define JOURNAL_SWEEP_MAX 65536
#define RECORD_j_sweep(F, S) F(S, U64, segment, 0) F(S, BYTES, bodies, 16 * JOURNAL_SWEEP_MAX) F(S, U64, last, 1)

RECORD_DECLARE(j_keyword);
RECORD_DECLARE(j_place);
RECORD_DECLARE(j_accept);
RECORD_DECLARE(j_change);
RECORD_DECLARE(j_account);
RECORD_DECLARE(j_mailbox);
RECORD_DECLARE(j_body_move);
RECORD_DECLARE(j_sweep);

union journal_effect {
    struct j_accept accept;
    struct j_change change;
    struct j_account account;
    struct j_mailbox mailbox;
    struct j_body_move body_move;
    struct j_sweep sweep;
};
/* The record in the sealed section of this type; NULL for JOURNAL_END and unknown types. */
const struct record_desc *journal_desc(unsigned type);

struct journal_segment {
    uint64_t id, size;          /* size: preallocated bytes of the file */
    uint64_t first_sequence;    /* of the first record */
    uint64_t first_event;       /* the first event in it has this sequence or a higher one */
    int64_t created_ms;
    struct id128 store;
};
void journal_segment_encode(const struct journal_segment *g, uint8_t out[JOURNAL_SEGMENT_HEADER]);
/* ERR_CORRUPT, ERR_VERSION. */
int journal_segment_decode(const uint8_t in[JOURNAL_SEGMENT_HEADER], struct journal_segment *ret);

struct journal_header {
    uint16_t type;
    uint64_t sequence;
    uint64_t durable;   /* all records to this sequence were synced before this one was written */
    uint64_t event;     /* sequence of the event in it; 0: none */
    int64_t time_ms;
    uint64_t body_n;    /* bytes of the body section */
    uint32_t sealed_n;  /* bytes of the sealed section without its tag */
    uint8_t salt[SEAL_SALT];
    struct id128 body;  /* zero: none */
};
void journal_header_encode(const struct journal_header *h, uint8_t out[JOURNAL_HEADER]);
/* ERR_CORRUPT when it is no header; ERR_VERSION for types of a newer program. */
int journal_header_decode(const uint8_t in[JOURNAL_HEADER], struct journal_header *ret);
/* The whole record's bytes on disk; a multiple of JOURNAL_ALIGN. */
uint64_t journal_record_size(const struct journal_header *h);
/* The trailer: magic, crc of everything between header and trailer, sequence. */
void journal_trailer_encode(uint64_t sequence, uint32_t crc, uint8_t out[JOURNAL_TRAILER]);
bool journal_trailer_check(const uint8_t in[JOURNAL_TRAILER], uint64_t sequence, uint32_t crc);

/* Seals the effects: out has n + SEAL_TAG bytes. The header's type, body and body_n are authenticated. */
int journal_seal(struct seal *s, const uint8_t journal_key[SEAL_KEY], const struct journal_header *h, struct slice effects, void *out);
/* Opens the sealed section (with tag) in place and decodes it. ERR_CORRUPT. */
int journal_open(struct seal *s, const uint8_t journal_key[SEAL_KEY], const struct journal_header *h, void *sealed, struct arena *arena,
                 union journal_effect *ret);
int journal_decode(const struct journal_header *h, struct slice effects, struct arena *arena, union journal_effect *ret);
/* The event in the effects; empty when there is none. */
struct slice journal_event(const struct journal_header *h, const union journal_effect *e);

/* Reading records of a segment file. */
struct journal_cursor {
    int fd;
    uint64_t offset;  /* of the next record */
    uint64_t end;     /* bytes of the file that count */
    uint64_t expect;  /* sequence of the next record; 0: any */
};
/* Where a record stands after journal_next. */
struct journal_position {
    uint64_t offset, body_offset, sealed_offset, next;
};
/* Reads and checks the next header; with check, the whole record's checksum. 0; ERR_CLOSED: END record or nothing but zeros where a
 * header should be (a clean end); ERR_CORRUPT: torn or damaged here; ERR_VERSION; -errno. The cursor moves only on 0. */
int journal_next(struct journal_cursor *c, bool check, struct journal_header *ret, struct journal_position *ret_at);
/* What stands behind the cursor where reading stopped, to the end of the file: JOURNAL_TAIL_CLEAN zeros only; _TORN anything else: bytes
 * that were never acknowledged; _DAMAGED: a later record says that record `sequence`, which is not readable, had been synced.
 * Or -errno. */
enum journal_tail { JOURNAL_TAIL_CLEAN, JOURNAL_TAIL_TORN, JOURNAL_TAIL_DAMAGED };
int journal_scan_tail(const struct journal_cursor *c, uint64_t sequence);
/* Reads, opens and decodes the effects of a record found by journal_next. scratch holds what they point at. */
int journal_read(int fd, const struct journal_header *h, const struct journal_position *at, struct seal *s,
                 const uint8_t journal_key[SEAL_KEY], struct buf *scratch, struct arena *arena, union journal_effect *ret);

#endif
