/* directory_priv.h: the directory's structures, for directory.c and resolve.c. */
#ifndef KK_ACCOUNT_DIRECTORY_PRIV_H
#define KK_ACCOUNT_DIRECTORY_PRIV_H

#include "account/directory.h"
#include "base/map.h"

struct directory_entry {
    struct account *account; /* or an alias: */
    char **targets;
    size_t n_targets;
    uint64_t mark; /* the last expansion that met this entry */
};

struct directory_domain {
    char *catch_all;   /* NULL: none */
    uint64_t fallback; /* the first active account: who gets mail for postmaster and abuse; 0 none */
};

struct directory {
    struct map domains;   /* name -> directory_domain */
    struct map addresses; /* address -> directory_entry */
    struct map accounts;  /* id -> account */
    bool fallbacks_stale;
    uint64_t round; /* numbers expansions */
};

#endif
