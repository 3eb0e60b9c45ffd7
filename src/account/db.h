/* db.h: the database of authd: domains, accounts, aliases, credentials and the outbox of events, in one SQLite file (write-ahead log,
 * synchronous=FULL: a commit that returned is on disk). One process owns it, under an exclusive lock.
 *
 * All calls block: authd makes them on its one database thread, after start. Each change is one transaction together with the event that
 * tells of it, so that there is no act without its record. After a change the caller changes the directory (account/directory.h).
 *
 * Accounts are made in two steps, so that a crash between them loses nothing: reserve (row in state "creating", line in the register of
 * ids), then the store makes its part, then activate. Deleting likewise: begin ("deleting"; gone for the world), the store forgets,
 * finish (a tombstone stays). account_db_load gives back what is unfinished. */
#ifndef KK_ACCOUNT_DB_H
#define KK_ACCOUNT_DB_H

#include "account/directory.h"

#define ACCOUNT_DB_FILE "accounts.db"
#define ACCOUNT_DB_VERSION 1
#define ACCOUNT_DB_FEATURES 0 /* bits of features that a file may need of its reader; unknown bits are refused */

struct account_db;

/* dir: the directory; stays open as long as the database. ERR_VERSION with a sentence when the file is newer than this program. */
int account_db_open(int dir, struct account_db **ret, struct err *err);
void account_db_close(struct account_db *db);
/* Fills an empty directory, with accounts in all states except DELETED. */
int account_db_load(struct account_db *db, struct directory *d, struct err *err);

/* In all that follows: addresses canonical; event an encoded trail event, written in the same transaction; 0 or a negative code with a
 * sentence. -ENOENT: no such thing; -EEXIST: there already; ERR_GONE: the address once belonged to a deleted account. */

struct account_new {
    struct slice address;
    uint64_t quota;
    const char *credential;
    struct slice actor; /* kept until the account is active, for its event */
    int64_t now_ms;
};
/* Reserves an id. When an account with this address is still being created, takes that one up again with the new values. */
int account_db_reserve(struct account_db *db, const struct account_new *a, uint64_t *ret_id, struct err *err);
int account_db_activate(struct account_db *db, uint64_t id, struct slice event, struct err *err);
/* version: of the credential, changes with each. */
int account_db_set_credential(struct account_db *db, uint64_t id, const char *encoded, uint64_t version, int64_t now_ms,
                              struct slice event, struct err *err);
/* The same password under new parameters: only if the version is still this one. No event. */
int account_db_rehash(struct account_db *db, uint64_t id, const char *encoded, uint64_t version, struct err *err);
int account_db_set_quota(struct account_db *db, uint64_t id, uint64_t quota, struct slice event, struct err *err);
int account_db_set_state(struct account_db *db, uint64_t id, enum account_state state, struct slice event, struct err *err);
int account_db_delete_begin(struct account_db *db, uint64_t id, struct slice actor, struct err *err);
/* The tombstone. Also removes the credential, and the address from all aliases. */
int account_db_delete_finish(struct account_db *db, uint64_t id, struct slice event, struct err *err);
/* Who asked for what is unfinished; into the arena. */
int account_db_actor(struct account_db *db, uint64_t id, struct arena *arena, struct slice *ret_actor, struct err *err);

struct account_login {
    uint64_t id;
    int64_t at_ms;
};
int account_db_save_logins(struct account_db *db, const struct account_login *logins, size_t n, struct err *err);

int account_db_add_alias(struct account_db *db, struct slice alias, struct slice target, struct slice event, struct err *err);
int account_db_del_alias(struct account_db *db, struct slice alias, struct slice target, struct slice event, struct err *err);
/* Adds the domain or changes its catch-all. */
int account_db_set_domain(struct account_db *db, struct slice name, struct slice catch_all, int64_t now_ms, struct slice event,
                          struct err *err);
int account_db_del_domain(struct account_db *db, struct slice name, struct slice event, struct err *err); /* -ENOTEMPTY */

/* Pages, in order of address, alias and target, name; items go into the arena. */
int account_db_list_accounts(struct account_db *db, struct slice after, size_t max, struct arena *arena, struct record_list *ret,
                             struct err *err); /* struct m_ctl_account */
int account_db_list_aliases(struct account_db *db, struct slice after, struct slice after_target, size_t max, struct arena *arena,
                            struct record_list *ret, struct err *err); /* struct m_ctl_alias */
int account_db_list_domains(struct account_db *db, struct slice after, size_t max, struct arena *arena, struct record_list *ret,
                            struct err *err); /* struct m_ctl_domain */

/* Forgets events up to `done`, gives what follows: at most max items and max_bytes of events. epoch: numbers this outbox; with
 * another epoch, sequences start anew. */
int account_db_outbox(struct account_db *db, uint64_t done, size_t max, size_t max_bytes, struct arena *arena, struct record_list *ret,
                      uint64_t *ret_epoch, struct err *err); /* struct m_outbox_item */
uint64_t account_db_outbox_count(const struct account_db *db); /* any thread */

#endif
