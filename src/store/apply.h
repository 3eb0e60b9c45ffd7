/* apply.h: the effects of journal records on the index. Deterministic: the same records in the same order give the same index, so that
 * recovery is nothing but going on. Runs on the applying thread, and in recovery. */
#ifndef KK_STORE_APPLY_H
#define KK_STORE_APPLY_H

#include "store/index.h"
#include "store/journal.h"

struct apply_place {
    struct store_account account;
    uint32_t mailbox, uid, uidvalidity;
    uint64_t message, modseq; /* message 0: the account was gone */
};

/* What the one who asked may want to know. Zeroed before; freed by apply_result_done. */
struct apply_result {
    int status;                   /* 0, or why the effect came to nothing (-EEXIST, -ENOENT, ERR_GONE, ERR_LIMIT) */
    uint64_t count;               /* entries changed, rows purged */
    uint64_t modseq;
    uint32_t mailbox;             /* made */
    struct apply_place *places;   /* of an accept, one each */
    size_t n_places;
    struct store_uid_pair *pairs; /* of a copy */
    size_t n_pairs;
};
void apply_result_done(struct apply_result *r);

struct apply {
    struct index *x;
    MDB_txn *t;
    struct index_mark mark;
};
/* Reads the mark. */
int apply_begin(struct apply *a, struct index *x, MDB_txn *t);
/* Applies one record, which must be the next: ERR_CORRUPT otherwise. at: where it stands in `segment`. */
int apply_record(struct apply *a, uint64_t segment, const struct journal_position *at, const struct journal_header *h,
                 const union journal_effect *e, struct apply_result *r);
/* Writes the mark into the transaction. */
int apply_end(struct apply *a);

#endif
