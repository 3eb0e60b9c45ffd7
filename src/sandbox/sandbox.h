/* sandbox.h: what each role may do once it reads untrusted bytes. One table, a row a role; everything not in the row is denied
 * by seccomp (all system calls) and Landlock (files, TCP, signals, abstract sockets).
 *
 * A denied call does not fail silently: it raises SIGSYS, whose handler writes a "sandbox.violation" line with the call's number and
 * ends the process; the supervisor records the death and starts a fresh one. A few calls that libraries make late and can do
 * without fail with EPERM or EACCES instead (see sandbox.c).
 *
 * Debian 12's kernel has Landlock ABI 2 (no truncate, no network rules): seccomp alone must hold there, and does. */
#ifndef KK_SANDBOX_SANDBOX_H
#define KK_SANDBOX_SANDBOX_H

#include "base/err.h"
#include "ipc/role.h"

enum sandbox_right {
    RIGHT_ACCEPT = 1,   /* accept on listening sockets that it was handed */
    RIGHT_MEMFD = 2,    /* make memory files and seal them */
    RIGHT_STREAMS = 4,  /* make stream socket pairs (tlsd's plain ends) */
    RIGHT_FILES = 8,    /* open, make, rename, remove and sync files below its own directory */
    RIGHT_READ = 16,    /* read files in the folders of those given as `readable` */
};

/* The rights of a role: the table. */
unsigned sandbox_rights(enum role role);

/* Gives up what the role does not need of its parent: no new privileges, no core dumps, not dumpable, death with the parent, and, when started
 * as root, the user id (and group id) of its own. Before prepare(). */
int sandbox_drop_privileges(uint64_t uid, bool as_root, struct err *err);

struct sandbox_paths {
    int own_dir;               /* -1: none */
    const char *const *readable; /* paths, NULL-terminated; may be NULL */
};
/* The sandbox is entered in two steps, for good, because Landlock confines the calling thread and those that it starts later, but none
 * that runs already: first the files, then a role starts its threads, then the system calls (of all threads at once).
 * ret_abi: the Landlock ABI in force, 0 when the kernel has none (refused when require_landlock). */
int sandbox_confine_files(enum role role, const struct sandbox_paths *paths, bool require_landlock, int *ret_abi, struct err *err);
int sandbox_confine_calls(enum role role, struct err *err);

/* Tests only, before the sandbox is entered: denied calls fail with EPERM and are counted instead of ending the process. */
void sandbox_set_probing(void);
unsigned sandbox_denied_count(void);
/* Tries everything that the role must not be able to do, from inside. Returns the number of attempts that succeeded (0: the sandbox
 * holds), and names them in text. victim: a path and a pid of other roles to try. Only in probing mode. */
unsigned sandbox_try_to_break_out(enum role role, const char *victim_path, int victim_pid, char *text, size_t text_size, unsigned *ret_tried);

#endif
