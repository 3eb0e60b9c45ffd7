/* store.h: the message store: accounts, mailboxes, messages; durable before acknowledged. On-disk formats, commit protocol and
 * recovery: docs/STORE.md.
 *
 * One process (stored) owns a store; a second one that opens the directory gets -EBUSY. All functions belong to the loop's thread;
 * those with MAY_YIELD must be called from a fiber. The store has threads of its own for what blocks: preparing (compress,
 * encrypt), commit (write, sync), apply (index), and one for long tasks (verify, export).
 *
 * The interface is account-scoped and narrow (DESIGN section 7): nothing in it needs a transaction across accounts, or anything
 * that a distributed engine could not serve.
 *
 * Changes. A change is one record of the journal. When the function returns 0 the change is durable: a crash at any moment later
 * keeps it, whole. When it returns a negative code the change may or may not survive a crash that comes at once (the sender was
 * told "temporary failure"), but is never half there. Effects on the index follow the commit by a moment; reading functions
 * wait until everything committed for that account is visible (read-your-writes), so that callers never see the lag.
 * Each change of an account gets the next value of the account-wide modseq; all entries that it touches carry it.
 *
 * Codes of all changing functions: ERR_READONLY (a write or sync failed: nothing is accepted until the process starts anew),
 * -ENOSPC (free disk below `reserve`; temporary), -EBUSY (queues full; temporary), -EIO (this change hit the failing write),
 * -ENOENT (no such account or mailbox), ERR_GONE (the account was deleted), ERR_QUOTA, ERR_LIMIT, -ENOMEM. */
#ifndef KK_STORE_STORE_H
#define KK_STORE_STORE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/id.h"
#include "io/fiber.h"
#include "store/entry.h"
#include "store/keys.h"

#define STORE_MAILBOX_NAME_MAX 255          /* bytes of UTF-8; hierarchy separator is '/' */
#define STORE_MAILBOXES_MAX 10000           /* of an account */
#define STORE_KEYWORD_MAX 128               /* bytes of one keyword */
#define STORE_KEYWORDS_MAX 1024             /* different keywords of one mailbox */
#define STORE_RCPT_MAX 1000                 /* recipients of one accept */
#define STORE_PREFIX_MAX 2048               /* header lines of one recipient */
#define STORE_COMMON_MAX 16384              /* header lines for all recipients */
#define STORE_META_MAX 24576
#define STORE_EVENT_MAX 16384
#define STORE_SENDER_MAX 1280
#define STORE_BODY_MAX 2147483647u          /* octets of one body */
#define STORE_UIDS_MAX 100000               /* messages that one change names; the caller makes several of more */
#define STORE_LOCATE_MAX 64
#define STORE_SEGMENT_MIN (1024 * 1024)
#define STORE_JOBS_MAX 20000                /* changes under way; more answer -EBUSY */
#define STORE_PREPARED_MAX (256 * 1024 * 1024) /* bytes of prepared records that wait for the commit, but always one record */
#define STORE_LAG_MAX 50000                 /* records that the index may be behind the journal: bounds recovery */
#define STORE_RECENT_MAX 65536              /* accepts remembered for duplicate suppression by message id */
#define STORE_TOMBSTONES_MAX 100000         /* expunges remembered for each account */

#define STORE_INBOX 1 /* mailbox id of INBOX in every account */

struct store;
struct store_disk; /* store/disk.h */

struct store_account {
    uint32_t tenant; /* 0 now */
    uint64_t id;     /* never 0, never issued again */
};
#define STORE_ACCOUNT(n) ((struct store_account){0, (n)})

struct store_options {
    int dir;                /* the store's directory; duplicated. Layout: docs/STORE.md section 1 */
    uint64_t segment_size;  /* conf store.segment_size; at least STORE_SEGMENT_MIN */
    int zstd_level;         /* 1 to 19 */
    uint64_t index_map;     /* address space of the index; grows by doubling when it is full */
    uint64_t reserve;       /* free disk below which accepts are put off */
    unsigned threads;       /* preparing threads; 0: by the number of processors */
    unsigned apply_delay_ms; /* how long the index may follow behind the journal when nobody waits for it; 0: 20 */
    struct store_key_ops keys; /* store/keys.h: wrap and unwrap by keyd; tests give a local one */
    const struct store_disk *disk; /* NULL: the real one */

    /* Called on the loop's thread; must not yield (start a fiber for that). Any may be NULL. */
    void *arg;
    /* An event became durable; in order of sequence, without gaps. Keep it in a bounded queue or drop it: store_outbox_read gives
     * it again until it is acknowledged. event is valid during the call. Those not acknowledged before a start are not called
     * for again: read them. */
    void (*on_event)(void *arg, uint64_t sequence, struct slice event);
    /* Something that the administrator must see now: "store.readonly", "store.full", "store.corrupt", "store.key". */
    void (*on_alert)(void *arg, const char *name, const char *text);
    /* The clock stands before the highest time that the store has ever seen. Once for each step. */
    void (*on_clock_step)(void *arg, int64_t highest_ms, int64_t now_ms);
    /* The mailbox has changed up to modseq and the change can be read ("dirty up to modseq", pulled by need). */
    void (*on_change)(void *arg, struct store_account account, uint32_t mailbox, uint64_t modseq);
};

/* ---- life ---- */

/* Opens or creates the files and starts the threads. Blocking: for prepare(), before the sandbox. ERR_VERSION for a newer format,
 * ERR_CORRUPT, -EBUSY when another process has it open. */
int store_open(const struct store_options *options, struct store **ret, struct err *err);
/* Fetches the keys (keyd), replays what the index has not seen, cuts the torn tail. Then the store serves. Reads disk in this
 * thread: for start(), before requests are served. ERR_CORRUPT: an acknowledged record is damaged; nothing has been cut. */
int MAY_YIELD store_start(struct store *s, struct err *err);
/* Finishes the changes under way and brings the index up to date. New changes are refused with ERR_CLOSED. */
void MAY_YIELD store_stop(struct store *s);
/* Ends the threads and closes. No fiber may be in a function of this store. What is under way ends like in a crash, without loss of
 * what was acknowledged. NULL allowed. */
void store_free(struct store *s);
bool store_is_readonly(const struct store *s);

/* ---- accounts ---- */

struct store_account_info {
    uint64_t quota;      /* 0: none */
    uint64_t used;       /* octets charged, with what is admitted and not yet visible */
    uint64_t messages;
    uint64_t modseq;
    uint32_t mailboxes;
    int64_t created_ms;
};
/* Creates the account with its INBOX. Idempotent. ERR_GONE when the id was deleted once. event: an encoded trail event that becomes
 * durable in the same commit, or empty (here and below). */
int MAY_YIELD store_account_create(struct store *s, struct store_account a, uint64_t quota, struct slice event, struct err *err);
/* Crypto-erasure: the account's key is destroyed in the key file, its rows go in the background. Idempotent. */
int MAY_YIELD store_account_delete(struct store *s, struct store_account a, struct slice event, struct err *err);
int MAY_YIELD store_account_quota(struct store *s, struct store_account a, uint64_t quota, struct slice event, struct err *err);
/* Never yields: `used` counts what is under way, `messages` may lag by a moment. -ENOENT, ERR_GONE. */
int store_account_get(struct store *s, struct store_account a, struct store_account_info *ret);
/* Accounts with (tenant, id) after the given one, in order; *ret_n is at most max. Start with {0, 0}. */
int store_account_list(struct store *s, struct store_account after, struct store_account *out, size_t max, size_t *ret_n);

/* ---- mailboxes ---- */

enum store_mailbox_flag { STORE_MAILBOX_SUBSCRIBED = 1 };
struct store_mailbox {
    uint32_t id;           /* never used again in this account; also its object id (RFC 8474 MAILBOXID) */
    uint32_t uidvalidity;  /* never repeats in this account */
    uint32_t uidnext;
    uint32_t flags;        /* enum store_mailbox_flag */
    uint64_t messages, unseen, deleted, recent, bytes;
    uint64_t modseq;       /* highest of its entries, tombstones and of its own changes */
    char name[STORE_MAILBOX_NAME_MAX + 1];
};
/* "INBOX" in any case is INBOX. -ENOENT. */
int MAY_YIELD store_mailbox_find(struct store *s, struct store_account a, struct slice name, struct store_mailbox *ret);
int MAY_YIELD store_mailbox_get(struct store *s, struct store_account a, uint32_t mailbox, struct store_mailbox *ret);
/* Mailboxes with id > after, by id. */
int MAY_YIELD store_mailbox_list(struct store *s, struct store_account a, uint32_t after, struct store_mailbox *out, size_t max,
                                 size_t *ret_n);
/* -EEXIST; ERR_SYNTAX for a name that is empty, not UTF-8, has control characters or an empty level. */
int MAY_YIELD store_mailbox_create(struct store *s, struct store_account a, struct slice name, uint32_t *ret_mailbox, struct err *err);
/* The mailbox alone, not those below it (the protocol decides what a rename means for them). INBOX cannot be renamed. */
int MAY_YIELD store_mailbox_rename(struct store *s, struct store_account a, uint32_t mailbox, struct slice name, struct err *err);
int MAY_YIELD store_mailbox_set_flags(struct store *s, struct store_account a, uint32_t mailbox, uint32_t flags, struct err *err);
/* With its messages (at most STORE_UIDS_MAX: expunge more before; ERR_LIMIT). INBOX cannot be deleted. */
int MAY_YIELD store_mailbox_delete(struct store *s, struct store_account a, uint32_t mailbox, struct slice event, struct err *err);
/* Keyword number (bit STORE_KEYWORD_FIRST + number of flags while number < STORE_KEYWORDS_IN_FLAGS) by its index; -ENOENT at the end. */
int MAY_YIELD store_keyword_get(struct store *s, struct store_account a, uint32_t mailbox, uint32_t number,
                                char ret_name[STORE_KEYWORD_MAX + 1]);

/* ---- accepting mail ---- */

struct store_rcpt {
    struct store_account account;
    uint32_t mailbox;    /* 0: by name */
    struct slice name;   /* mailbox name; empty is INBOX */
    struct slice prefix; /* this recipient's own header lines, before the common ones; at most STORE_PREFIX_MAX */
    uint32_t flags;      /* STORE_RECENT for new mail */
    const struct slice *keywords;
    size_t n_keywords;
    int64_t internal_ms; /* internal date; 0: the accept's received_ms */
    int64_t save_ms;     /* 0: now. Kept by imports */
    /* results */
    bool may_exceed;     /* taken whole if there is any room at all: the quota may be exceeded by this one message */
    int status;          /* 0, -ENOENT, ERR_GONE, ERR_QUOTA, ERR_CORRUPT (no key) */
    uint32_t uid, uidvalidity; /* 0 unless want_uids */
    uint64_t message;
};

struct store_accept {
    struct id128 message;  /* idempotency: the same id again gives the same statuses without a second delivery, as long as it
                              is among the last STORE_RECENT_MAX. Zero: none */
    int64_t received_ms;
    struct slice sender;   /* envelope sender, UTF-8; kept sealed */
    struct slice common;   /* header lines for all, between the recipient's own and the body */
    struct slice meta;     /* kept encrypted, once; handed out with locate */
    struct slice event;    /* durable in the same commit; dropped when no recipient could take the message */
    struct slice body;     /* when body_fd < 0 */
    int body_fd;           /* -1, or a sealed memfd (checked by the caller); not taken over */
    uint64_t body_size;    /* of body_fd */
    struct store_rcpt *rcpts;
    size_t n_rcpts;
    bool want_uids;        /* wait until applied, for uid, uidvalidity and message */
};
/* One durable commit for all recipients that can take it. 0 when the commit is durable or no recipient could take the message: each
 * status tells. Otherwise no recipient has it and the code is for all. Not cancellable once begun. The body is kept once. */
int MAY_YIELD store_accept(struct store *s, struct store_accept *a, struct err *err);
/* What store_accept answered for this message id: true when it is remembered with exactly n recipients, and their statuses. Waits while the
 * message is under way; changes nothing. For a sender that asks again after its grants were used up, or after a restart. */
bool MAY_YIELD store_accept_recall(struct store *s, struct id128 message, int *ret_statuses, size_t n);

/* ---- reading ---- */

/* Entries with uid > after in order. Several of them are not one snapshot: what is expunged between calls is missing, what is new
 * comes at the end. *ret_n < max: no more. At most STORE_ENTRIES_MAX a call. */
#define STORE_ENTRIES_MAX 8192
int MAY_YIELD store_entries(struct store *s, struct store_account a, uint32_t mailbox, uint32_t after, struct store_entry *out, size_t max,
                            size_t *ret_n);
/* All of them (at most max, 0: no limit) as a packed array in a sealed memfd; breathes between chunks. */
int MAY_YIELD store_entries_memfd(struct store *s, struct store_account a, uint32_t mailbox, uint32_t after, uint64_t max, int *ret_fd,
                                  uint64_t *ret_n);
/* Expunged since modseq: (uid) of the mailbox, in order of (modseq, uid), after the pair given; *ret_floor: expunges at or below this
 * modseq may have been forgotten. */
struct store_vanished {
    uint64_t modseq;
    uint32_t uid;
};
int MAY_YIELD store_vanished(struct store *s, struct store_account a, uint32_t mailbox, struct store_vanished after,
                             struct store_vanished *out, size_t max, size_t *ret_n, uint64_t *ret_floor);
/* Names of all keywords of a message, whether in `flags` or not. */
int MAY_YIELD store_message_keywords(struct store *s, struct store_account a, uint32_t mailbox, uint32_t uid, struct arena *arena,
                                     struct slice **ret, size_t *ret_n);

/* Where a message's bytes are. RETR gives prefix, then the decrypted body (store/body.h). */
struct store_place {
    uint32_t uid;
    int status;            /* 0, ERR_GONE, ERR_CORRUPT */
    struct id128 body;
    uint64_t segment, offset, stored_size, body_size;
    uint8_t codec;         /* enum body_codec of store/body.h */
    uint8_t key[32];       /* wipe it after use */
    struct slice prefix;   /* own and common lines */
    size_t own_n;          /* how much of it is the recipient's own */
    struct slice meta;
};
/* Fills places[i] for uids[i]. The slices live in the arena. n at most STORE_LOCATE_MAX. */
int MAY_YIELD store_locate(struct store *s, struct store_account a, uint32_t mailbox, const uint32_t *uids, size_t n, bool want_meta,
                           struct arena *arena, struct store_place *places);
/* A read-only descriptor of a segment, the caller's. ERR_GONE after reclaim: locate again. It stays readable when the segment is
 * reclaimed later. */
int store_segment_open(struct store *s, uint64_t segment, int *ret_fd);

/* ---- changing ---- */

/* Removes; uids that are gone already are not errors. */
int MAY_YIELD store_expunge(struct store *s, struct store_account a, uint32_t mailbox, const uint32_t *uids, size_t n, struct slice event,
                            uint64_t *ret_expunged, uint64_t *ret_modseq, struct err *err);
struct store_flags {
    uint32_t add, remove;          /* bits of enum store_flag */
    const struct slice *add_keywords, *remove_keywords;
    size_t n_add, n_remove;
    uint64_t unchanged_since;      /* 0: always; else only entries with modseq <= this (RFC 7162) */
};
/* ret_changed: how many uids exist and passed unchanged_since. An entry that has the flags already keeps its modseq. */
int MAY_YIELD store_flags(struct store *s, struct store_account a, uint32_t mailbox, const uint32_t *uids, size_t n,
                          const struct store_flags *f, uint64_t *ret_changed, uint64_t *ret_modseq, struct err *err);
/* All or nothing, in the order of uids; flags, keywords, dates and message object ids are kept; quota is charged again. With `move`
 * the originals are expunged in the same change. ret_pairs (n of them, may be NULL): source and new uid; uid 0 where the source was
 * gone. ERR_QUOTA. */
struct store_uid_pair {
    uint32_t from, to;
};
int MAY_YIELD store_copy(struct store *s, struct store_account a, uint32_t mailbox, const uint32_t *uids, size_t n, uint32_t to, bool move,
                         struct store_uid_pair *ret_pairs, uint64_t *ret_modseq, struct err *err);

/* ---- outbox ---- */

struct store_outbox_item {
    uint64_t sequence;
    struct slice event;
};
/* Committed events with sequence > after, oldest first, into the arena; at most max items and about max_bytes. Reads segments. */
int MAY_YIELD store_outbox_read(struct store *s, uint64_t after, size_t max, size_t max_bytes, struct arena *arena,
                                struct store_outbox_item **ret, size_t *ret_n);
/* Everything up to sequence is durable in the trail. Kept lazily: after a crash events may come again with the same sequence. */
void store_outbox_ack(struct store *s, uint64_t sequence);
/* The last acknowledged and the last committed sequence. */
void store_outbox_marks(const struct store *s, uint64_t *ret_acked, uint64_t *ret_last);
/* Random, made with the store: sequences of another epoch are other events. */
uint64_t store_epoch(const struct store *s);

/* ---- care ---- */

struct store_status {
    uint64_t accounts, messages, segments, segment_bytes, live_bytes, index_bytes;
    uint64_t commits;   /* records */
    uint64_t groups;    /* group commits */
    uint64_t syncs;     /* of segments and of the index */
    uint64_t sequence, applied;
    bool readonly;
};
void store_status(struct store *s, struct store_status *ret);

struct store_check {
    uint64_t problems, accounts, messages, bodies, bytes;
};
/* A line for each problem, without end of line; "store: ..." names what and where, never content. Called on any thread. */
typedef void store_report_fn(void *arg, const char *line);
/* Checks every record, the index against the segments both ways, counters and quotas; with bodies, decrypts every body. Runs on the
 * task thread beside normal work. 0 when it could be done, whatever it found. */
int MAY_YIELD store_verify(struct store *s, bool bodies, store_report_fn *report, void *arg, struct store_check *ret, struct err *err);
/* The same on a directory that no process uses; changes nothing. Without key operations (keys->unwrap NULL) only checksums. Blocking. */
int store_verify_offline(int dir, const struct store_key_ops *keys, bool bodies, store_report_fn *report, void *arg,
                         struct store_check *ret, struct err *err);
/* Copies the live bodies out of segments that are mostly garbage (at least min_percent of them dead) and unlinks them. */
int MAY_YIELD store_reclaim(struct store *s, unsigned min_percent, uint64_t *ret_freed, uint64_t *ret_moved, struct err *err);
/* The whole account in the logical, architecture-neutral format of docs/STORE.md section 9, written to fd (waits at most a minute for
 * each write to make progress). */
int MAY_YIELD store_export(struct store *s, struct store_account a, int fd, uint64_t *ret_messages, struct err *err);
/* Reads an export and adds its mailboxes and messages to the account, with dates, flags and keywords. All of the input is read and its
 * checksum verified before anything is applied. Repeating an import that was broken off adds only what is missing. */
int MAY_YIELD store_import(struct store *s, struct store_account a, int fd, uint64_t *ret_messages, struct err *err);

#endif
