/* grant.h: the register of grants: the only thing that stored obeys.
 *
 * A grant names its holder (role, instance and the serial of the holder's socket connection), the connection it works for, the
 * account, the rights and when it ends. Ids are random 64-bit numbers, so that they cannot be guessed; what decides is that the
 * request came over the holder's own socket. A grant is void when it has expired, was dropped by its holder or revoked by its
 * issuer, or when the holder's socket is gone; with it go its quota reservation and its mailbox locks.
 *
 * One thread; nothing here waits. A struct grant may vanish at every wait of the caller: keep its id and look it up again. */
#ifndef KK_ROLE_STORED_GRANT_H
#define KK_ROLE_STORED_GRANT_H

#include "base/err.h"
#include "base/id.h"
#include "base/list.h"
#include "base/map.h"
#include "ipc/messages.h"

#define GRANTS_PER_HOLDER_MAX 100000
#define GRANT_LOCKS_MAX 16                      /* mailboxes that one grant may hold locked */
#define GRANT_RESERVE_MAX ((uint64_t)1 << 32)   /* bytes that one grant may reserve: sums cannot overflow */
#define GRANT_LIFETIME_MAX (24 * 3600 * 1000LL) /* longer ones are cut to this */
#define GRANT_UNUSED_MS (2 * 60 * 1000)         /* a mailbox grant that nobody uses: its login did not become a session */

enum grant_kind { GRANT_DELIVER, GRANT_MAILBOX };
#define GRANT_KINDS 2

/* Why a request was refused; grant_reason_text gives the word that the event carries ("" when it was not refused). */
enum grant_reason {
    GRANT_OBEYED,
    GRANT_UNKNOWN, /* forged, dropped, revoked, used up, or from before a restart: nothing is known under this id */
    GRANT_EXPIRED,
    GRANT_FOREIGN, /* somebody else's */
    GRANT_WRONG_KIND,
    GRANT_WRONG_RIGHTS,
    GRANT_WRONG_ACCOUNT,
    GRANT_IN_USE, /* a deliver grant is being used for another message */
};
const char *grant_reason_text(enum grant_reason r);

/* Who is at the other end of a socket. */
struct grant_holder {
    enum role role;
    uint64_t instance;
    uint64_t serial; /* ipc_request.peer_serial */
};

struct grant {
    uint64_t id;
    enum grant_kind kind;
    struct grant_holder holder;
    struct id128 conn;
    uint64_t account;
    unsigned rights;       /* enum grant_right; mailbox grants only */
    uint64_t reserved;     /* bytes of the account's quota kept free for this grant */
    int64_t expires;       /* clock_mono_ms */
    int64_t until;         /* when it expires once it has been used */
    struct id128 message;  /* deliver grants: the message being committed with it; zero: none */
    uint64_t use;          /* deliver grants: the number of the request that uses it */
    /* owned by grant.c */
    struct account_grants *in_account;
    struct holder_grants *in_holder;
    struct list of_account, of_holder, of_kind;
    struct list locks;
    size_t n_locks;
};

struct grants {
    struct map by_id, accounts, holders;
    struct list by_expiry[GRANT_KINDS + 1]; /* by kind; the last: mailbox grants not used yet */
};

void grants_init(struct grants *g);
void grants_done(struct grants *g);

/* A holder's socket came. Grants for (role, instance) are bound to the newest one. 0 or -ENOMEM. */
int grants_holder_up(struct grants *g, const struct grant_holder *h);
/* It went: everything that was bound to this serial is void. */
void grants_holder_down(struct grants *g, const struct grant_holder *h);

struct grant_request {
    enum grant_kind kind;
    enum role holder_role;
    uint64_t holder_instance;
    struct id128 conn;
    uint64_t account;
    unsigned rights;
    uint64_t reserve;
    uint64_t lifetime_ms;
};
/* 0; -ENOTCONN when that holder has no socket now; -EBUSY past a limit; -ENOMEM; ERR_LIMIT for a senseless reservation. */
int grants_issue(struct grants *g, const struct grant_request *q, int64_t now, uint64_t *ret_id, struct err *err);

/* Uses the grant: it now lives its whole lifetime. The grant under `id` if this holder may use it for that kind and all of those rights; otherwise NULL and the reason.
 * ret_account: the account of a grant that exists, or 0, also when refused (for the event). */
struct grant *grants_find(struct grants *g, uint64_t id, const struct grant_holder *h, enum grant_kind kind, unsigned rights,
                          int64_t now, enum grant_reason *ret_reason, uint64_t *ret_account);
/* The grant under an id that was found before a wait; NULL when it is void since. */
struct grant *grants_get(const struct grants *g, uint64_t id);
/* The holder gives it back; harmless when it is gone already, refused (reason) when it is another's. */
enum grant_reason grants_drop(struct grants *g, uint64_t id, const struct grant_holder *h);
void grants_end(struct grants *g, struct grant *grant);

/* Ends all mailbox grants of the account, and deliver grants too when `deliver`; told (NULL allowed) is called for each before it
 * goes. Returns how many. */
typedef void grants_told_fn(void *arg, const struct grant *grant);
size_t grants_revoke(struct grants *g, uint64_t account, bool deliver, grants_told_fn *told, void *arg);
/* Ends what has expired. Returns when to call it again (CLOCK_NEVER: nothing waits to expire). */
int64_t grants_sweep(struct grants *g, int64_t now);

/* Bytes of the account that are reserved. */
uint64_t grants_reserved(const struct grants *g, uint64_t account);
/* Changes what the grant keeps free. */
void grants_reserve(struct grant *grant, uint64_t bytes);

/* The exclusive lock of one mailbox (RFC 1939 section 3): 0, also when this grant holds it already; -EBUSY when another grant does;
 * ERR_LIMIT; -ENOMEM. */
int grants_lock(struct grant *grant, uint64_t mailbox);
size_t grants_count(const struct grants *g);

#endif
