/* directory.h: domains, accounts, aliases and password hashes in memory: what authd answers from. Filled from the database at start
 * and changed after each commit (account/db.h), so that no answer waits for a disk. Nothing here waits or does I/O.
 *
 * All addresses are canonical (account/address.h). The directory copies what it is given. Pointers to accounts are valid until the
 * directory is changed: not across a wait. */
#ifndef KK_ACCOUNT_DIRECTORY_H
#define KK_ACCOUNT_DIRECTORY_H

#include "account/address.h"
#include "base/arena.h"

#define DIRECTORY_ALIAS_TARGETS_MAX IPC_RCPT_MAX /* targets of one alias */
#define DIRECTORY_VISITS_MAX 4096                /* addresses looked at for one recipient: aliases of aliases */

enum account_state {
    ACCOUNT_CREATING, /* reserved, the store may not have it yet; takes no mail and no login */
    ACCOUNT_ACTIVE,
    ACCOUNT_SUSPENDED,
    ACCOUNT_DELETING, /* the store may have it still; in the directory no more */
    ACCOUNT_DELETED,  /* a tombstone */
    ACCOUNT_STATES
};
const char *account_state_name(enum account_state s);

struct account {
    uint64_t id; /* never 0 */
    enum account_state state;
    const char *address;
    uint64_t quota;
    int64_t created_ms, last_login_ms;
    const char *credential;      /* Argon2id, encoded; NULL: no login by password */
    uint64_t credential_version; /* another for each password that was ever set */
    bool login_unsaved;          /* last_login_ms is newer than what the database has */
    uint64_t mark;               /* private: the last expansion that met this account */
};

struct directory;

int directory_new(struct directory **ret);
void directory_free(struct directory *d);

/* All return 0 or -ENOMEM (unchanged then). */
int directory_set_domain(struct directory *d, struct slice name, struct slice catch_all); /* catch_all: an address here, or empty */
void directory_del_domain(struct directory *d, struct slice name);
bool directory_has_domain(const struct directory *d, struct slice name);
/* The first in the order of bytes; empty: none. Valid until the directory is changed. */
struct slice directory_first_domain(const struct directory *d);
/* Adds or replaces, by id. The address never changes. */
int directory_set_account(struct directory *d, const struct account *a);
void directory_del_account(struct directory *d, uint64_t id);
int directory_add_alias(struct directory *d, struct slice alias, struct slice target);
void directory_del_alias(struct directory *d, struct slice alias, struct slice target); /* with the last target the alias goes */
/* Removes this target from all aliases. */
void directory_del_target(struct directory *d, struct slice target);

struct account *directory_account(const struct directory *d, uint64_t id);                      /* NULL: none */
struct account *directory_account_by_address(const struct directory *d, struct slice address); /* not by alias; NULL: none */
size_t directory_accounts(const struct directory *d);
/* Walks all accounts: start with *pos = 0; NULL at the end. */
struct account *directory_next_account(const struct directory *d, size_t *pos);

struct directory_rules {
    const char *delimiter;    /* "" or one character */
    const char *first_domain; /* what RCPT TO:<postmaster> means (RFC 5321 4.5.1); "" none */
};
struct directory_target {
    uint64_t account;
    struct slice address; /* of the account */
    struct slice detail;  /* of the sub-address, or empty */
};
struct directory_answer {
    enum rcpt_verdict verdict;
    struct slice canonical; /* empty for bad addresses and literals */
    struct directory_target *targets;
    size_t n_targets; /* with RCPT_OK at least one; each account once */
};
/* Who gets mail for this address. Relaying is not decided here: only an existing recipient of one of our domains is RCPT_OK. Takes a few
 * hundred nanoseconds for a plain address. 0 or -ENOMEM; slices live in the arena. */
int directory_resolve(struct directory *d, const struct directory_rules *rules, struct slice address, struct arena *arena,
                      struct directory_answer *ret);

#endif
