/* Sealed memory files, in which bodies travel between processes: see ipc.h. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ipc/ipc.h"

int ipc_memfd_new(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd >= 0 ? fd : -errno;
}

#define WANTED_SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

int ipc_memfd_seal(int fd)
{
    return fcntl(fd, F_ADD_SEALS, WANTED_SEALS | F_SEAL_SEAL) == 0 ? 0 : -errno;
}

int64_t ipc_memfd_size(int fd)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & WANTED_SEALS) != WANTED_SEALS)
        return ERR_DENIED;
    /* The system call itself: the library's fstat is newfstatat, which takes paths and so is denied to confined roles. */
    return syscall(SYS_fstat, fd, &st) == 0 ? st.st_size : -errno;
}

int ipc_memfd_check(int fd, uint64_t expect_size)
{
    int64_t size = ipc_memfd_size(fd);
    if (size < 0)
        return (int)size;
    return (uint64_t)size == expect_size ? 0 : ERR_SYNTAX;
}
