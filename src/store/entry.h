/* entry.h: the fixed-size entry of one message in one mailbox: what the index keeps and what mailbox_list hands out as a packed array
 * (little-endian, 64 bytes, no padding). See docs/STORE.md. */
#ifndef KK_STORE_ENTRY_H
#define KK_STORE_ENTRY_H

#include <stdint.h>

struct store_entry {
    uint32_t uid;
    uint32_t flags;        /* enum store_flag; keywords are bits from STORE_KEYWORD_FIRST by the mailbox's keyword table */
    uint64_t modseq;       /* account-wide */
    uint64_t size;         /* octets as RETR/RFC822 gives them: prefix and body, CRLF */
    int64_t internal_ms;   /* internal date */
    int64_t save_ms;       /* RFC 8514 SAVEDATE */
    uint64_t body;         /* low half of the body id: a short unique-id base; the whole id is in the placement */
    uint64_t message;      /* the account's message object id (never used again in this account) */
    uint64_t thread;       /* thread object id */
};
_Static_assert(sizeof(struct store_entry) == 64, "packed");

enum store_flag {
    STORE_SEEN = 1, STORE_ANSWERED = 2, STORE_FLAGGED = 4, STORE_DELETED = 8, STORE_DRAFT = 16,
    STORE_RECENT = 32, /* delivered and not yet seen by a session */
    STORE_RETRIEVED = 64, /* the body has been sent over POP3 at least once (RFC 1939 LAST's modern use: statistics) */
    STORE_UTF8_HEADER = 128, /* set by the store at acceptance: the header has bytes above 127 (RFC 6856: downgraded for old clients) */
};
#define STORE_FLAGS_ALL 0x7fu

/* The first 24 keywords of a mailbox are bits of `flags`; those after them are in store_message_keywords. */
#define STORE_KEYWORD_FIRST 8 /* bit number */
#define STORE_KEYWORDS_IN_FLAGS 24

#endif
