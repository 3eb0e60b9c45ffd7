/* maildrop.h: one account's INBOX as a POP3 session reads it: the list of messages, fixed when it is opened, and their text, from
 * stored's segments under the session's grant.
 *
 * stored tells where a batch of messages lies and gives each one's key; this process reads and decrypts the segment itself. Keys are
 * wiped with the batch. */
#ifndef KK_ROLE_IMAPD_MAILDROP_H
#define KK_ROLE_IMAPD_MAILDROP_H

#include "io/fiber.h"
#include "ipc/ipc.h"
#include "store/entry.h"

/* Messages whose place is asked for at once, when a client reads them in order. */
#define MAILDROP_LOCATE_MAX 64

struct maildrop;

/* Opens and locks INBOX. -EBUSY: another session has it. Other codes: not now. */
int MAY_YIELD maildrop_open(uint64_t grant, struct id128 conn, int64_t deadline, struct maildrop **ret, struct err *err);
/* Forgets keys and descriptors; the lock goes with the grant. NULL allowed. */
void maildrop_free(struct maildrop *m);

const struct store_entry *maildrop_entries(const struct maildrop *m, size_t *ret_n);
uint64_t maildrop_uidvalidity(const struct maildrop *m);

/* Reading one message: as struct pop3_maildrop_ops says. */
int MAY_YIELD maildrop_message_open(struct maildrop *m, size_t index, struct slice *ret_prefix);
/* The id of an open message, as in its trail. Zero when it is not open. */
struct id128 maildrop_message_id(const struct maildrop *m, size_t index);
int MAY_YIELD maildrop_message_read(struct maildrop *m, struct slice *ret_piece);
void maildrop_message_close(struct maildrop *m);

int MAY_YIELD maildrop_expunge(struct maildrop *m, const uint32_t *uids, size_t n, struct slice event, uint64_t *ret_expunged);
int MAY_YIELD maildrop_add_flags(struct maildrop *m, const uint32_t *uids, size_t n, uint32_t add, uint32_t remove);

/* The threads that read what is not in memory; once a process, before the sandbox is closed. */
int maildrop_threads(void);

#endif
