/* Tries to break out of the sandbox from inside, as code would that an attacker runs in a role. Used by tests only, through the
 * probe message, which roles answer only when started with probing on. */
#include "sandbox/sandbox.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

struct attempt_env {
    enum role role;
    const char *path; /* a file of another role */
    int pid;          /* another role's process */
};

/* Each returns true when the attempt succeeded. */

static bool opens_foreign_file(const struct attempt_env *e)
{
    int fd = open(e->path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)close(fd);
    return fd >= 0;
}

static bool writes_foreign_file(const struct attempt_env *e)
{
    int fd = open(e->path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)close(fd);
    return fd >= 0;
}

static bool opens_system_file(const struct attempt_env *e)
{
    (void)e;
    int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)close(fd);
    return fd >= 0;
}

static bool opens_other_memory(const struct attempt_env *e)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/mem", e->pid);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        (void)close(fd);
    return fd >= 0;
}

static bool truncates_foreign_file(const struct attempt_env *e)
{
    return truncate(e->path, 0) == 0;
}

static bool removes_foreign_file(const struct attempt_env *e)
{
    return unlink(e->path) == 0;
}

static bool changes_mode(const struct attempt_env *e)
{
    return chmod(e->path, 0777) == 0;
}

static bool makes_socket(const struct attempt_env *e)
{
    (void)e;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        (void)close(fd);
    return fd >= 0;
}

static bool makes_unix_socket(const struct attempt_env *e)
{
    (void)e;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        (void)close(fd);
    return fd >= 0;
}

static bool connects(const struct attempt_env *e)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
    (void)e;
    /* Any descriptor will do: the call itself must be refused, before the descriptor is looked at. */
    return connect(0, (struct sockaddr *)&un, sizeof(un)) == 0 || (errno != EPERM && errno != EACCES);
}

static bool signals_other(const struct attempt_env *e)
{
    return kill(e->pid, 0) == 0;
}

static bool traces_other(const struct attempt_env *e)
{
    return ptrace(PTRACE_ATTACH, e->pid, NULL, NULL) == 0;
}

static bool reads_other_memory(const struct attempt_env *e)
{
    char byte;
    struct iovec local = {&byte, 1}, remote = {(void *)(uintptr_t)&sandbox_rights, 1};
    return process_vm_readv(e->pid, &local, 1, &remote, 1, 0) == 1;
}

static bool takes_others_descriptor(const struct attempt_env *e)
{
    long pidfd = syscall(SYS_pidfd_open, e->pid, 0);
    if (pidfd < 0)
        return false;
    long fd = syscall(SYS_pidfd_getfd, pidfd, 3, 0);
    (void)close((int)pidfd);
    return fd >= 0;
}

static bool runs_a_program(const struct attempt_env *e)
{
    (void)e;
    char *argv[] = {(char *)(uintptr_t) "/bin/true", NULL};
    (void)execve("/bin/true", argv, NULL);
    return errno != EPERM && errno != EACCES;
}

static bool forks(const struct attempt_env *e)
{
    (void)e;
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    return pid > 0;
}

static bool maps_executable(const struct attempt_env *e)
{
    (void)e;
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED)
        (void)munmap(p, 4096);
    return p != MAP_FAILED;
}

static bool makes_executable(const struct attempt_env *e)
{
    (void)e;
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return false;
    bool done = mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0;
    (void)munmap(p, 4096);
    return done;
}

static bool becomes_root(const struct attempt_env *e)
{
    (void)e;
    return syscall(SYS_setuid, 0) == 0;
}

static bool enters_namespace(const struct attempt_env *e)
{
    (void)e;
    return syscall(SYS_unshare, 0x10000000 /* CLONE_NEWUSER */) == 0;
}

static bool uses_io_uring(const struct attempt_env *e)
{
    char params[120] = {0};
    (void)e;
    long fd = syscall(SYS_io_uring_setup, 1, params);
    if (fd >= 0)
        (void)close((int)fd);
    return fd >= 0;
}

static bool takes_foreign_bpf(const struct attempt_env *e)
{
    (void)e;
    return syscall(SYS_bpf, 0, NULL, 0) >= 0;
}

static bool makes_memfd(const struct attempt_env *e)
{
    int fd;
    if (sandbox_rights(e->role) & RIGHT_MEMFD)
        return false;
    fd = memfd_create("x", MFD_CLOEXEC);
    if (fd >= 0)
        (void)close(fd);
    return fd >= 0;
}

static bool mounts(const struct attempt_env *e)
{
    (void)e;
    return syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL) == 0;
}

static const struct {
    const char *name;
    bool (*try)(const struct attempt_env *e);
} attempts[] = {
    {"opens a file of another role", opens_foreign_file},
    {"writes a file of another role", writes_foreign_file},
    {"opens a system file", opens_system_file},
    {"opens another process's memory", opens_other_memory},
    {"truncates a file of another role", truncates_foreign_file},
    {"removes a file of another role", removes_foreign_file},
    {"changes the mode of a file", changes_mode},
    {"makes a TCP socket", makes_socket},
    {"makes a local socket", makes_unix_socket},
    {"connects", connects},
    {"signals another process", signals_other},
    {"traces another process", traces_other},
    {"reads another process's memory", reads_other_memory},
    {"takes another process's descriptor", takes_others_descriptor},
    {"runs a program", runs_a_program},
    {"forks", forks},
    {"maps writable and executable memory", maps_executable},
    {"makes memory executable", makes_executable},
    {"becomes root", becomes_root},
    {"enters a user namespace", enters_namespace},
    {"uses io_uring", uses_io_uring},
    {"uses bpf", takes_foreign_bpf},
    {"makes a memory file without the right", makes_memfd},
    {"mounts", mounts},
};

unsigned sandbox_try_to_break_out(enum role role, const char *victim_path, int victim_pid, char *text, size_t text_size,
                                  unsigned *ret_tried)
{
    struct attempt_env e = {.role = role, .path = victim_path, .pid = victim_pid};
    unsigned succeeded = 0;
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        errno = 0;
        if (!attempts[i].try(&e))
            continue;
        succeeded++;
        int n = snprintf(text + at, text_size - at, "%s%s", at != 0 ? "; " : "", attempts[i].name);
        if (n > 0 && (size_t)n < text_size - at)
            at += (size_t)n;
    }
    *ret_tried = sizeof(attempts) / sizeof(attempts[0]);
    return succeeded;
}
