/* register.h: the register of ids ever issued: which account each address was given to, for ever.
 *
 * A file of its own beside the database, append-only, so that an older copy of the database cannot make an id or an address be given to
 * somebody else (restoring merges the lines of both files: their union is right, in any order). One line each:
 *
 *     <account id> <canonical address> <RFC 3339 time> LF
 *
 * A line is durable before the store or the directory learns of the account. A torn last line is cut on opening. [R7.1(6)] */
#ifndef KK_ACCOUNT_REGISTER_H
#define KK_ACCOUNT_REGISTER_H

#include "base/err.h"
#include "base/slice.h"

#define REGISTER_FILE "ids-issued.txt"

struct id_register;

/* dir: a directory's descriptor. Reads the whole file. ERR_CORRUPT for lines that cannot be. */
int id_register_open(int dir, struct id_register **ret, struct err *err);
void id_register_close(struct id_register *r);
uint64_t id_register_find(const struct id_register *r, struct slice address); /* 0: never issued */
uint64_t id_register_highest(const struct id_register *r);
/* Appends and syncs (blocks). A line that is there already is not written again. After a failure every later call fails: what is on
 * disk is not known. ERR_READONLY. */
int id_register_add(struct id_register *r, uint64_t id, struct slice address, int64_t now_ms, struct err *err);

#endif
