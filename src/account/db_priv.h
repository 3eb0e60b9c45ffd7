/* db_priv.h: small helpers around SQLite, for the files of the account database.
 *
 * Statements are prepared once and held. A use is: db_bind..., db_step, db_reset. */
#ifndef KK_ACCOUNT_DB_PRIV_H
#define KK_ACCOUNT_DB_PRIV_H

#include <sqlite3.h>
#include <stdatomic.h>

#include "account/db.h"
#include "account/register.h"

#define DB_STATEMENTS(S)                                                                                                        \
    S(begin, "BEGIN IMMEDIATE")                                                                                                 \
    S(commit, "COMMIT")                                                                                                         \
    S(rollback, "ROLLBACK")                                                                                                     \
    S(outbox_add, "INSERT INTO outbox(event) VALUES(?1)")                                                                       \
    S(outbox_done, "DELETE FROM outbox WHERE seq<=?1")                                                                          \
    S(outbox_get, "SELECT seq,event FROM outbox WHERE seq>?1 ORDER BY seq LIMIT ?2")                                            \
    S(outbox_last, "SELECT ifnull(max(seq),0) FROM sqlite_sequence WHERE name='outbox'")                                        \
    S(load_domains, "SELECT name,catch_all FROM domain")                                                                        \
    S(load_accounts, "SELECT a.id,a.state,a.address,a.quota,a.created_ms,a.last_login_ms,c.encoded,c.version FROM account a"    \
                     " LEFT JOIN credential c ON c.account=a.id WHERE a.state<4")                                               \
    S(load_aliases, "SELECT alias,target FROM alias_target ORDER BY alias,target")                                              \
    S(domain_get, "SELECT 1 FROM domain WHERE name=?1")                                                                         \
    S(domain_set, "INSERT INTO domain(name,catch_all,created_ms) VALUES(?1,?2,?3)"                                              \
                  " ON CONFLICT(name) DO UPDATE SET catch_all=excluded.catch_all")                                              \
    S(domain_del, "DELETE FROM domain WHERE name=?1")                                                                           \
    S(domain_used, "SELECT EXISTS(SELECT 1 FROM address WHERE domain=?1)")                                                      \
    S(domain_list, "SELECT d.name,d.catch_all,(SELECT count(*) FROM address x WHERE x.domain=d.name AND x.account IS NOT NULL)" \
                   " FROM domain d WHERE d.name>?1 ORDER BY d.name LIMIT ?2")                                                   \
    S(address_get, "SELECT x.account,a.state FROM address x LEFT JOIN account a ON a.id=x.account WHERE x.address=?1")          \
    S(address_add, "INSERT INTO address(address,domain,account) VALUES(?1,?2,?3)")                                              \
    S(address_del, "DELETE FROM address WHERE address=?1")                                                                      \
    S(account_add, "INSERT INTO account(id,state,address,quota,created_ms,actor) VALUES(?1,0,?2,?3,?4,?5)")                     \
    S(account_next, "SELECT max(ifnull((SELECT seq FROM sqlite_sequence WHERE name='account'),0),?1)+1")                        \
    S(account_again, "UPDATE account SET quota=?2,created_ms=?3,actor=?4 WHERE id=?1 AND state=0")                              \
    S(account_state, "UPDATE account SET state=?2 WHERE id=?1")                                                                 \
    S(account_quota, "UPDATE account SET quota=?2 WHERE id=?1")                                                                 \
    S(account_actor, "UPDATE account SET actor=?2 WHERE id=?1")                                                                 \
    S(account_get, "SELECT address,state,actor FROM account WHERE id=?1")                                                       \
    S(account_login, "UPDATE account SET last_login_ms=?2 WHERE id=?1 AND last_login_ms<?2")                                    \
    S(account_list, "SELECT a.id,a.state,a.address,a.quota,a.created_ms,a.last_login_ms FROM address x"                         \
                    " JOIN account a ON a.id=x.account WHERE x.address>?1 ORDER BY x.address LIMIT ?2")                         \
    S(credential_set, "INSERT INTO credential(account,encoded,version,set_ms) VALUES(?1,?2,?3,?4)"                              \
                      " ON CONFLICT(account) DO UPDATE SET encoded=excluded.encoded,version=excluded.version,set_ms=excluded.set_ms") \
    S(credential_rehash, "UPDATE credential SET encoded=?2 WHERE account=?1 AND version=?3")                                    \
    S(credential_del, "DELETE FROM credential WHERE account=?1")                                                                \
    S(alias_add, "INSERT INTO alias_target(alias,target) VALUES(?1,?2)")                                                        \
    S(alias_del, "DELETE FROM alias_target WHERE alias=?1 AND target=?2")                                                       \
    S(alias_count, "SELECT count(*) FROM alias_target WHERE alias=?1")                                                          \
    S(alias_drop_target, "DELETE FROM alias_target WHERE target=?1")                                                            \
    S(alias_drop_empty, "DELETE FROM address WHERE account IS NULL"                                                             \
                        " AND NOT EXISTS(SELECT 1 FROM alias_target t WHERE t.alias=address.address)")                          \
    S(catch_all_drop, "UPDATE domain SET catch_all='' WHERE catch_all=?1")                                                      \
    S(alias_list, "SELECT alias,target FROM alias_target WHERE (alias,target)>(?1,?2) ORDER BY alias,target LIMIT ?3")

enum db_statement {
#define DB_ENUM_(name, sql) DB_##name,
    DB_STATEMENTS(DB_ENUM_) DB_STATEMENT_COUNT
};

struct account_db {
    sqlite3 *sql;
    sqlite3_stmt *statements[DB_STATEMENT_COUNT];
    struct id_register *ids;
    uint64_t epoch;
    _Atomic uint64_t outbox_count;
};

/* Binds in order by letters: t slice as text, b slice as blob, s C string, u uint64_t, i int64_t. Asserts on our own mistakes only. */
void db_bind(struct account_db *db, enum db_statement s, const char *kinds, ...);
/* 1: a row; 0: done (the statement is reset); or a negative code with a sentence (reset too). */
int db_step(struct account_db *db, enum db_statement s, struct err *err);
/* For a statement that gives no rows. ret_changes may be NULL. */
int db_run(struct account_db *db, enum db_statement s, struct err *err);
uint64_t db_changes(const struct account_db *db);
void db_reset(struct account_db *db, enum db_statement s);
uint64_t db_u64(struct account_db *db, enum db_statement s, int column);
struct slice db_text(struct account_db *db, enum db_statement s, int column); /* valid until the next step or reset */

int db_begin(struct account_db *db, struct err *err);
/* rc != 0 rolls back and returns rc; otherwise appends the event (if it is not empty) and commits. */
int db_end(struct account_db *db, int rc, struct slice event, struct err *err);

/* An item array of a page, grown in the arena one by one up to max. */
void *db_list_add(struct record_list *l, size_t max, size_t item_size, struct arena *arena);

#endif
