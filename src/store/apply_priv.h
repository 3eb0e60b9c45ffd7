/* apply_priv.h: what the files that apply effects share. */
#ifndef KK_STORE_APPLY_PRIV_H
#define KK_STORE_APPLY_PRIV_H

#include "store/apply.h"

#define ENTRY_EXTRA_MAX ((STORE_KEYWORDS_MAX - STORE_KEYWORDS_IN_FLAGS + 7) / 8)

/* An account that a record names, while it is applied. */
struct apply_account {
    struct store_account id;
    struct index_account row;
};
/* -ENOENT, ERR_GONE. */
int apply_account_get(struct apply *a, uint64_t tenant, uint64_t account, struct apply_account *ret);
int apply_account_put(struct apply *a, const struct apply_account *acc);

struct apply_mailbox {
    uint32_t id;
    struct index_mailbox row;
    char name[STORE_MAILBOX_NAME_MAX];
    size_t name_n;
};
int apply_mailbox_get(struct apply *a, struct store_account account, uint32_t mailbox, struct apply_mailbox *ret);
int apply_mailbox_put(struct apply *a, struct store_account account, const struct apply_mailbox *m);

struct apply_entry {
    struct index_entry row;
    uint8_t extra[ENTRY_EXTRA_MAX]; /* keywords from STORE_KEYWORDS_IN_FLAGS on; unused bytes zero */
    size_t extra_n;
};
int apply_entry_get(struct apply *a, struct store_account account, uint32_t mailbox, uint32_t uid, struct apply_entry *ret);
int apply_entry_put(struct apply *a, struct store_account account, uint32_t mailbox, const struct apply_entry *e);
/* Counts an entry in (sign 1) or out (-1) of its mailbox and account. */
void apply_count(struct apply *a, struct apply_account *acc, struct apply_mailbox *m, const struct store_entry *e, int sign);
/* The number of a keyword in the mailbox, made if need be; UINT32_MAX when the mailbox has STORE_KEYWORDS_MAX (it is then left out).
 * create false: UINT32_MAX when it does not exist. */
int apply_keyword(struct apply *a, struct store_account account, struct apply_mailbox *m, struct slice name, bool create, uint32_t *ret);
void apply_set_keyword(struct apply_entry *e, uint32_t number, bool on);
/* One entry fewer shows the message: the placement goes with the last, and its body's bytes are counted as dead. */
int apply_release(struct apply *a, struct store_account account, uint64_t message);
/* Removes the entry with a tombstone at acc->row.modseq. */
int apply_expunge_one(struct apply *a, struct apply_account *acc, struct apply_mailbox *m, const struct apply_entry *e);
int apply_dead(struct apply *a, uint64_t segment, uint64_t bytes);

int apply_change(struct apply *a, const struct journal_header *h, const struct j_change *c, struct apply_result *r);
int apply_account(struct apply *a, const struct journal_header *h, const struct j_account *c, struct apply_result *r);
int apply_mailbox(struct apply *a, const struct journal_header *h, const struct j_mailbox *c, struct apply_result *r);
int apply_accept(struct apply *a, uint64_t segment, const struct journal_position *at, const struct journal_header *h,
                 const struct j_accept *c, struct apply_result *r);

#endif
