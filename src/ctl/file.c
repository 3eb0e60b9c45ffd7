#include "ctl/file.h"

#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int file_read(const char *path, struct buf *ret, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "%s", path);
    ssize_t n = 1;
    int rc = 0;
    while (n > 0 && rc == 0) {
        /* Up to the maximum; a full buffer with more to read is past it. */
        size_t room = ret->max - ret->n;
        rc = buf_reserve(ret, room == 0 ? 1 : room < 65536 ? room : 65536);
        if (rc != 0)
            break;
        n = read(fd, ret->p + ret->n, ret->cap - ret->n);
        if (n > 0)
            ret->n += (size_t)n;
    }
    if (rc != 0)
        rc = err_set(err, rc, "%s: %s", path, err_name(rc));
    else if (n < 0)
        rc = err_errno(err, "%s", path);
    (void)close(fd);
    return rc;
}

static int write_and_sync(int fd, struct slice text)
{
    while (text.n > 0) {
        ssize_t n = write(fd, text.p, text.n);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            text = slice_from(text, (size_t)n);
    }
    return fsync(fd) == 0 ? 0 : -errno;
}

static int sync_parent(const char *path)
{
    char copy[4096];
    if ((size_t)snprintf(copy, sizeof(copy), "%s", path) >= sizeof(copy))
        return -ENAMETOOLONG;
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fsync(fd) == 0 ? 0 : -errno;
    (void)close(fd);
    return rc;
}

int file_replace(const char *path, struct slice text, mode_t mode, struct err *err)
{
    char temporary[4096];
    if ((size_t)snprintf(temporary, sizeof(temporary), "%s.new%ld", path, (long)getpid()) >= sizeof(temporary))
        return err_set(err, -ENAMETOOLONG, "%s: this path is too long", path);
    int rc = file_create(temporary, text, mode, err);
    if (rc != 0)
        return rc;
    if (rename(temporary, path) != 0) {
        rc = err_errno(err, "%s", path);
        (void)unlink(temporary);
        return rc;
    }
    rc = sync_parent(path);
    return rc == 0 ? 0 : err_set(err, rc, "%s: cannot sync its directory: %s", path, err_name(rc));
}

int file_create(const char *path, struct slice text, mode_t mode, struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return err_errno(err, "%s", path);
    int rc = write_and_sync(fd, text);
    if (close(fd) != 0 && rc == 0)
        rc = -errno;
    if (rc == 0)
        rc = sync_parent(path);
    if (rc == 0)
        return 0;
    (void)unlink(path);
    return err_set(err, rc, "%s: %s", path, err_name(rc));
}
