/* session.h: a POP3 session behind authentication: TRANSACTION and UPDATE (RFC 1939 sections 5 and 6), run by the role imapd.
 *
 * The mailbox is seen through struct pop3_maildrop_ops, so that the same code runs under tests and fuzzers with a fake one. What is
 * shown is fixed at the start (RFC 1939 section 5): new mail is for the next session, and what has vanished meanwhile is "-ERR".
 * Messages are deleted by QUIT alone. */
#ifndef KK_PROTO_POP3_SESSION_H
#define KK_PROTO_POP3_SESSION_H

#include "proto/pop3/command.h"
#include "proto/pop3/text.h"
#include "store/entry.h"

#define POP3_ERRORS_MAX 50       /* wrong commands before the connection is closed */
#define POP3_EXPUNGE_BATCH 4096  /* messages deleted in one commit */

/* Codes: 0; ERR_GONE the message is not there any more; ERR_CORRUPT it is damaged; anything else: not now. */
struct pop3_maildrop_ops {
    /* Opens message `index` of the view for reading; one at a time. prefix: header lines in front of the stored bytes, valid until
     * close. After a failure there is nothing to close. */
    int MAY_YIELD (*open)(void *ctx, size_t index, struct slice *ret_prefix);
    /* The next bytes, valid until the next read or close; empty at the end. */
    int MAY_YIELD (*read)(void *ctx, struct slice *ret_piece);
    void (*close)(void *ctx);
    /* Deletes for ever (at most POP3_EXPUNGE_BATCH), written down in the same commit. */
    int MAY_YIELD (*expunge)(void *ctx, const uint32_t *uids, size_t n, uint64_t *ret_expunged);
    /* The open message counts as fetched from now on. NULL allowed. */
    void (*fetched)(void *ctx, size_t index);
    /* Writes down how much was fetched; returns when that is durable. */
    int MAY_YIELD (*record_retrieved)(void *ctx, uint64_t messages, uint64_t bytes);
    /* Why the session was cancelled: what to tell the client. */
    enum pop3_text (*why)(void *ctx);
};

struct pop3_view {
    const struct store_entry *entries; /* in the order of message numbers */
    size_t n;
    uint64_t uidvalidity;
};

enum pop3_end { POP3_ENDED_QUIT, POP3_ENDED_CLOSED, POP3_ENDED_TIMEOUT, POP3_ENDED_ERRORS, POP3_ENDED_CANCELLED, POP3_ENDED_BROKEN };
const char *pop3_end_name(enum pop3_end end);

struct pop3_session {
    struct stream *stream;
    const struct pop3_maildrop_ops *ops;
    void *ctx;
    struct pop3_view view;
    bool utf8;               /* RFC 6856 */
    enum pop3_lang lang;
    int64_t idle_ms;         /* RFC 1939 section 3: at least ten minutes */

    /* What has come of it; for the caller to record. */
    uint64_t retrieved;      /* distinct messages whose body was sent, or begun */
    uint64_t retrieved_bytes;
    bool retrieved_recorded; /* ops->record_retrieved has succeeded */
    uint64_t expunged;
    bool idle;               /* waits for a command and nothing is marked for deletion: may be ended without loss */

    /* The session's own. */
    uint8_t *marks;          /* enum pop3_mark of each message; NULL until the first */
    uint64_t left, left_bytes; /* not marked for deletion */
    uint64_t n_deleted;
    unsigned errors;
};
enum pop3_mark { POP3_MARK_DELETED = 1, POP3_MARK_RETRIEVED = 2 };

/* Tells "+OK" and runs to the end. The caller frees the stream, and calls pop3_session_done when it has looked at the marks. */
enum pop3_end MAY_YIELD pop3_session_run(struct pop3_session *s);
void pop3_session_done(struct pop3_session *s);

#define POP3_UID_SIZE 40
/* RFC 1939 section 7: UIDVALIDITY and UID: never used again for another message in this mailbox, whatever becomes of it. */
size_t pop3_print_uid(const struct pop3_view *v, size_t index, char out[POP3_UID_SIZE]);

#endif
