/* disk.h: every operation by which the store (except LMDB) changes the disk, as a table that tests replace to make the Nth one fail
 * or to record all of them. All return 0 or -errno. */
#ifndef KK_STORE_DISK_H
#define KK_STORE_DISK_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct store_disk {
    int (*open)(int dir, const char *name, int flags, mode_t mode, int *ret_fd);
    int (*mkdir)(int dir, const char *name, mode_t mode);
    /* All of it, or an error. The iovecs may be changed. */
    int (*write)(int fd, struct iovec *iov, int n, uint64_t offset);
    int (*datasync)(int fd);          /* content and size */
    int (*sync)(int fd);              /* also for directories */
    int (*allocate)(int fd, uint64_t size);
    int (*rename)(int dir, const char *from, const char *to);
    int (*unlink)(int dir, const char *name);
    int (*free_bytes)(int dir, uint64_t *ret);
};
extern const struct store_disk disk_real;

/* One buffer. */
int disk_write(const struct store_disk *d, int fd, const void *p, size_t n, uint64_t offset);
/* Reads exactly n bytes: 0, -ENODATA at the end of the file, -errno. */
int disk_read(int fd, void *p, size_t n, uint64_t offset);
/* The same from the page cache alone: -EAGAIN when it would have to wait for the disk. */
int disk_read_cached(int fd, void *p, size_t n, uint64_t offset);

#endif
