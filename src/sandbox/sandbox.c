/* seccomp and Landlock for every role: see sandbox.h. */
#include "sandbox/sandbox.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>


/* ---- the table ---- */

static const struct {
    enum role role;
    unsigned rights;
} rows[] = {
    {ROLE_TLSD, RIGHT_STREAMS},
    {ROLE_SMTPD, RIGHT_ACCEPT | RIGHT_MEMFD},
    {ROLE_LOGIN, RIGHT_ACCEPT},
    {ROLE_IMAPD, 0},
    {ROLE_AUTHD, RIGHT_FILES},
    {ROLE_KEYD, RIGHT_FILES | RIGHT_READ},
    {ROLE_STORED, RIGHT_FILES | RIGHT_MEMFD},
    {ROLE_FILTERD, 0},
    {ROLE_AUDITD, RIGHT_FILES},
};

unsigned sandbox_rights(enum role role)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].role == role)
            return rows[i].rights;
    return 0;
}

/* What every role needs: its sockets, memory, time, randomness, its own end. */
static const int everybody[] = {
    SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(pread64), SCMP_SYS(preadv), SCMP_SYS(preadv2), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(close),
    SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2), SCMP_SYS(epoll_ctl),
    SCMP_SYS(sendmsg), SCMP_SYS(recvmsg), SCMP_SYS(sendto), SCMP_SYS(recvfrom), SCMP_SYS(sendmmsg), SCMP_SYS(recvmmsg),
    SCMP_SYS(shutdown), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(getsockname), SCMP_SYS(getpeername),
    SCMP_SYS(fstat), SCMP_SYS(lseek), SCMP_SYS(dup),
    SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk), SCMP_SYS(futex), SCMP_SYS(sched_yield),
    SCMP_SYS(getrandom), SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep), SCMP_SYS(restart_syscall), SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(getpid),
    SCMP_SYS(gettid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(sysinfo), SCMP_SYS(sched_getaffinity), SCMP_SYS(getcpu),
    SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(rseq), SCMP_SYS(set_robust_list), SCMP_SYS(membarrier),
};

static const int files[] = {
    SCMP_SYS(openat), SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(access), SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2), SCMP_SYS(open), SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(sync_file_range), SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate), SCMP_SYS(pwrite64), SCMP_SYS(pwritev), SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2),
    SCMP_SYS(unlink), SCMP_SYS(unlinkat), SCMP_SYS(mkdir), SCMP_SYS(mkdirat), SCMP_SYS(getdents64), SCMP_SYS(fstatfs), SCMP_SYS(flock),
    SCMP_SYS(fadvise64), SCMP_SYS(readahead), SCMP_SYS(getcwd), SCMP_SYS(msync), SCMP_SYS(link), SCMP_SYS(linkat), SCMP_SYS(copy_file_range),
    SCMP_SYS(umask), SCMP_SYS(utimensat), SCMP_SYS(readlink), SCMP_SYS(fchmod),
};

/* Libraries try these late and do without: a refusal, not an alarm. */
static const struct {
    int call, error;
} soft[] = {
    {SCMP_SYS(open), EACCES}, {SCMP_SYS(openat), EACCES}, {SCMP_SYS(ioctl), ENOTTY}, {SCMP_SYS(readlink), EACCES},
    {SCMP_SYS(stat), EACCES}, {SCMP_SYS(newfstatat), EACCES}, {SCMP_SYS(access), EACCES}, {SCMP_SYS(uname), EPERM},
    {SCMP_SYS(getcwd), EPERM}, {SCMP_SYS(statx), EACCES}, {SCMP_SYS(fchown), EPERM}, {SCMP_SYS(chown), EPERM},
};

static volatile sig_atomic_t probing;
static volatile unsigned denied;

void sandbox_set_probing(void)
{
    probing = 1;
}

unsigned sandbox_denied_count(void)
{
    return denied;
}

/* In a signal handler: the call may have come from inside malloc, so the line is made by hand, not by the log. */
static void tell_violation(unsigned call)
{
    static const char head[] = "alert   sandbox.violation syscall=";
    char line[sizeof(head) + 12];
    size_t n = sizeof(head) - 1, digits = 0;
    char reversed[10];
    memcpy(line, head, n);
    do {
        reversed[digits++] = (char)('0' + call % 10);
        call /= 10;
    } while (call != 0);
    while (digits > 0)
        line[n++] = reversed[--digits];
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0) {
        /* Nobody hears it; the supervisor sees how the process ended. */
    }
}

static void on_sigsys(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)sig;
    if (probing) {
        denied++;
#if defined(__x86_64__)
        uc->uc_mcontext.gregs[REG_RAX] = -EPERM;
#elif defined(__aarch64__)
        uc->uc_mcontext.regs[0] = (unsigned long long)-EPERM;
#endif
        return;
    }
    tell_violation((unsigned)info->si_syscall);
    _exit(128 + SIGSYS);
}

/* ---- privileges ---- */

static int set_limit(int what, rlim_t value, struct err *err)
{
    struct rlimit r = {value, value};
    return setrlimit(what, &r) == 0 ? 0 : err_errno(err, "setrlimit");
}

static int raise_nofile(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return -errno;
    r.rlim_cur = r.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &r) == 0 ? 0 : -errno;
}

int sandbox_drop_privileges(uint64_t uid, bool as_root, struct err *err)
{
    (void)raise_nofile();
    (void)umask(077); /* whatever a role makes is its own */
    int rc = set_limit(RLIMIT_CORE, 0, err);
    if (rc != 0)
        return rc;
    if (as_root) {
        if (setgroups(0, NULL) != 0 || setresgid((gid_t)uid, (gid_t)uid, (gid_t)uid) != 0 ||
            setresuid((uid_t)uid, (uid_t)uid, (uid_t)uid) != 0)
            return err_errno(err, "cannot become user %llu", (unsigned long long)uid);
        if (setuid(0) == 0)
            return err_set(err, -EPERM, "root could be taken back");
    }
    /* After setuid, which resets both. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 ||
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return err_errno(err, "prctl");
    return 0;
}

/* ---- Landlock ---- */

#define LL_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define LL_ABI1                                                                                                       \
    (LL_READ | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |            \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |                     \
     LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |                       \
     LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)
#define LL_OWN                                                                                                        \
    (LL_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |        \
     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LL_REFER | LL_TRUNCATE)
/* Not in Debian 12's headers. Numbers: linux/landlock.h. */
#define LL_REFER (1ULL << 13)
#define LL_TRUNCATE (1ULL << 14)
#define LL_IOCTL_DEV (1ULL << 15)
#define LL_NET_BIND (1ULL << 0)
#define LL_NET_CONNECT (1ULL << 1)
#define LL_SCOPE_ABSTRACT_UNIX (1ULL << 0)
#define LL_SCOPE_SIGNAL (1ULL << 1)

struct ll_ruleset {
    uint64_t fs, net, scoped;
};

static int landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    const char *cap = getenv("KAKITOME_TEST_LANDLOCK_ABI"); /* lets tests see an old kernel's behaviour */
    uint64_t most;
    if (abi > 0 && cap != NULL && slice_to_u64(slice_str(cap), &most) && (long)most < abi)
        abi = (long)most;
    return abi > 0 ? (int)abi : 0;
}

static int allow_below(int ruleset, int dir, uint64_t access)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = dir};
    return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0 ? 0 : -errno;
}

/* The folders that hold the named files, not the files: a renewed certificate is a new file of the same name. */
static int open_folder(const char *path)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    int n = slash == NULL ? snprintf(folder, sizeof(folder), ".")
                          : snprintf(folder, sizeof(folder), "%.*s", slash == path ? 1 : (int)(slash - path), path);
    if (n < 0 || (size_t)n >= sizeof(folder))
        return -ENAMETOOLONG;
    int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 ? fd : -errno;
}

static int allow_readable(int ruleset, const char *const *paths)
{
    for (; paths != NULL && *paths != NULL; paths++) {
        int dir = open_folder(*paths);
        if (dir < 0)
            return dir;
        int rc = allow_below(ruleset, dir, LL_READ);
        (void)close(dir);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int enter_landlock(enum role role, const struct sandbox_paths *paths, int abi, struct err *err)
{
    struct ll_ruleset attr = {.fs = LL_ABI1};
    size_t size = sizeof(attr.fs);
    attr.fs |= abi >= 2 ? LL_REFER : 0;
    attr.fs |= abi >= 3 ? LL_TRUNCATE : 0;
    attr.fs |= abi >= 5 ? LL_IOCTL_DEV : 0;
    if (abi >= 4) {
        attr.net = LL_NET_BIND | LL_NET_CONNECT;
        size = offsetof(struct ll_ruleset, scoped);
    }
    if (abi >= 6) {
        attr.scoped = LL_SCOPE_ABSTRACT_UNIX | LL_SCOPE_SIGNAL;
        size = sizeof(attr);
    }
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (ruleset < 0)
        return err_errno(err, "landlock_create_ruleset");
    int rc = 0;
    if ((sandbox_rights(role) & RIGHT_FILES) && paths->own_dir >= 0)
        rc = allow_below(ruleset, paths->own_dir, LL_OWN & attr.fs);
    if (rc == 0 && (sandbox_rights(role) & RIGHT_READ))
        rc = allow_readable(ruleset, paths->readable);
    if (rc == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
        rc = -errno;
    (void)close(ruleset);
    return rc == 0 ? 0 : err_set(err, rc, "landlock: %s", err_name(rc));
}

/* ---- seccomp ---- */

static int allow_all(scmp_filter_ctx ctx, const int *calls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* Memory that can be written is never executable, and what was mapped does not become so. */
static int allow_memory(scmp_filter_ctx ctx)
{
    int rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    return rc != 0 ? rc
                   : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
}

static int allow_fcntl(scmp_filter_ctx ctx, unsigned rights)
{
    static const unsigned everybody_may[] = {F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, 1034 /* F_GET_SEALS */};
    static const unsigned files_may[] = {F_SETLK, F_SETLKW, F_GETLK, 37 /* F_OFD_SETLK */};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof(everybody_may) / sizeof(everybody_may[0]); i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, SCMP_A1(SCMP_CMP_EQ, everybody_may[i]));
    for (size_t i = 0; rc == 0 && (rights & RIGHT_FILES) && i < sizeof(files_may) / sizeof(files_may[0]); i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, SCMP_A1(SCMP_CMP_EQ, files_may[i]));
    if (rc == 0 && (rights & RIGHT_MEMFD))
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, SCMP_A1(SCMP_CMP_EQ, 1033 /* F_ADD_SEALS */));
    return rc;
}

/* abort() and raise() signal the process itself, nobody else. */
static int allow_own_signals(scmp_filter_ctx ctx)
{
    return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
}

static int allow_rights(scmp_filter_ctx ctx, unsigned rights)
{
    int rc = 0;
    if (rights & RIGHT_ACCEPT)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(accept4), 0);
    if (rc == 0 && (rights & RIGHT_MEMFD))
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(memfd_create), 0);
    if (rc == 0 && (rights & RIGHT_MEMFD) && !(rights & RIGHT_FILES))
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(pwrite64), 0);
    if (rc == 0 && (rights & RIGHT_STREAMS))
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
    if (rc == 0 && (rights & RIGHT_FILES))
        rc = allow_all(ctx, files, sizeof(files) / sizeof(files[0]));
    for (size_t i = 0; rc == 0 && i < sizeof(soft) / sizeof(soft[0]); i++) {
        bool allowed = false;
        for (size_t k = 0; (rights & RIGHT_FILES) && k < sizeof(files) / sizeof(files[0]); k++)
            allowed |= files[k] == soft[i].call;
        if (!allowed)
            rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO((uint16_t)soft[i].error), soft[i].call, 0);
    }
    return rc;
}

static int enter_seccomp(enum role role, struct err *err)
{
    unsigned rights = sandbox_rights(role);
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
    if (ctx == NULL)
        return err_set(err, -ENOMEM, "seccomp");
    int rc = allow_all(ctx, everybody, sizeof(everybody) / sizeof(everybody[0]));
    if (rc == 0)
        rc = allow_memory(ctx);
    if (rc == 0)
        rc = allow_fcntl(ctx, rights);
    if (rc == 0)
        rc = allow_own_signals(ctx);
    if (rc == 0)
        rc = allow_rights(ctx, rights);
    if (rc == 0)
        rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1); /* threads that were started before, too */
    if (rc == 0)
        rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree: some calls are made for every message */
    if (rc == 0)
        rc = seccomp_load(ctx);
    seccomp_release(ctx);
    return rc == 0 ? 0 : err_set(err, rc, "seccomp: %s", err_name(rc));
}

int sandbox_confine_files(enum role role, const struct sandbox_paths *paths, bool require_landlock, int *ret_abi, struct err *err)
{
    int abi = landlock_abi();
    *ret_abi = abi;
    if (abi > 0)
        return enter_landlock(role, paths, abi, err);
    if (!require_landlock)
        return 0;
    return err_set(err, -ENOSYS, "this kernel has no Landlock; set server { require_landlock = false } to run with seccomp alone");
}

int sandbox_confine_calls(enum role role, struct err *err)
{
    struct sigaction sa = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (sigaction(SIGSYS, &sa, NULL) != 0)
        return err_errno(err, "sigaction");
    return enter_seccomp(role, err);
}
