/* The real disk operations: see disk.h. */
#include "store/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int real_open(int dir, const char *name, int flags, mode_t mode, int *ret_fd)
{
    int fd = openat(dir, name, flags | O_CLOEXEC, mode);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

static int real_mkdir(int dir, const char *name, mode_t mode)
{
    return mkdirat(dir, name, mode) == 0 ? 0 : -errno;
}

static int real_write(int fd, struct iovec *iov, int n, uint64_t offset)
{
    while (n > 0) {
        if (iov->iov_len == 0) {
            iov++;
            n--;
            continue;
        }
        ssize_t done = pwritev(fd, iov, n, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -errno;
        if (done == 0)
            return -EIO;
        offset += (uint64_t)done;
        while (n > 0 && (size_t)done >= iov->iov_len) {
            done -= (ssize_t)iov->iov_len;
            iov++;
            n--;
        }
        if (n > 0) {
            iov->iov_base = (char *)iov->iov_base + done;
            iov->iov_len -= (size_t)done;
        }
    }
    return 0;
}

static int real_datasync(int fd)
{
    return fdatasync(fd) == 0 ? 0 : -errno;
}

static int real_sync(int fd)
{
    return fsync(fd) == 0 ? 0 : -errno;
}

static int real_allocate(int fd, uint64_t size)
{
    int rc;
    do
        rc = posix_fallocate(fd, 0, (off_t)size);
    while (rc == EINTR);
    return -rc;
}

static int real_rename(int dir, const char *from, const char *to)
{
    return renameat(dir, from, dir, to) == 0 ? 0 : -errno;
}

static int real_unlink(int dir, const char *name)
{
    return unlinkat(dir, name, 0) == 0 ? 0 : -errno;
}

static int real_free_bytes(int dir, uint64_t *ret)
{
    struct statvfs v;
    if (fstatvfs(dir, &v) != 0)
        return -errno;
    *ret = (uint64_t)v.f_bavail * v.f_frsize;
    return 0;
}

const struct store_disk disk_real = {
    .open = real_open,
    .mkdir = real_mkdir,
    .write = real_write,
    .datasync = real_datasync,
    .sync = real_sync,
    .allocate = real_allocate,
    .rename = real_rename,
    .unlink = real_unlink,
    .free_bytes = real_free_bytes,
};

int disk_write(const struct store_disk *d, int fd, const void *p, size_t n, uint64_t offset)
{
    struct iovec iov = {(void *)(uintptr_t)p, n};
    return d->write(fd, &iov, 1, offset);
}

int disk_read(int fd, void *p, size_t n, uint64_t offset)
{
    char *to = p;
    while (n > 0) {
        ssize_t got = pread(fd, to, n, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return -ENODATA;
        to += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return 0;
}

int disk_read_cached(int fd, void *p, size_t n, uint64_t offset)
{
    struct iovec iov = {p, n};
    ssize_t got = preadv2(fd, &iov, 1, (off_t)offset, RWF_NOWAIT);
    if (got == (ssize_t)n)
        return 0;
    if (got < 0 && errno == EOPNOTSUPP)
        return disk_read(fd, p, n, offset); /* a file system in memory */
    if (got < 0 && errno != EAGAIN && errno != EINTR)
        return -errno;
    return -EAGAIN; /* a part of it: the rest is not there, or not yet */
}
