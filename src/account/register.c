#include "account/register.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/address.h"
#include "base/clock.h"
#include "base/map.h"

#define FILE_MAX ((off_t)4 << 30)

struct id_register {
    int fd;
    bool failed;
    struct map ids; /* address -> the last id, kept in the pointer */
    uint64_t highest;
};

static int remember(struct id_register *r, uint64_t id, struct slice address)
{
    if (id > r->highest)
        r->highest = id;
    return map_put(&r->ids, address, (void *)(uintptr_t)id, NULL);
}

static int read_line(struct id_register *r, struct slice line)
{
    uint64_t id;
    struct slice number = slice_cut(&line, ' '), address = slice_cut(&line, ' ');
    if (!slice_to_u64(number, &id) || id == 0 || address.n == 0 || slice_find(address, '@') == address.n)
        return ERR_CORRUPT;
    uint64_t before = id_register_find(r, address);
    return id > before ? remember(r, id, address) : 0;
}

static int read_all(struct id_register *r, struct slice text, struct err *err)
{
    size_t line = 0;
    while (text.n > 0) {
        int rc = read_line(r, slice_cut(&text, '\n'));
        line++;
        if (rc != 0)
            return err_set(err, rc, "%s line %zu: %s", REGISTER_FILE, line, err_name(rc));
    }
    return 0;
}

/* The whole lines of the file; what a crash left of the last one is cut off. */
static int load(struct id_register *r, struct err *err)
{
    struct stat st;
    if (fstat(r->fd, &st) != 0)
        return err_errno(err, "%s", REGISTER_FILE);
    if (st.st_size > FILE_MAX)
        return err_set(err, ERR_LIMIT, "%s is larger than can be", REGISTER_FILE);
    size_t size = (size_t)st.st_size, got = 0;
    char *text = malloc(size + 1);
    if (text == NULL)
        return err_set(err, -ENOMEM, "%s: out of memory", REGISTER_FILE);
    while (got < size) {
        ssize_t n = pread(r->fd, text + got, size - got, (off_t)got);
        if (n <= 0) {
            free(text);
            return n < 0 ? err_errno(err, "%s", REGISTER_FILE) : err_set(err, -EIO, "%s became shorter", REGISTER_FILE);
        }
        got += (size_t)n;
    }
    size_t whole = got;
    while (whole > 0 && text[whole - 1] != '\n')
        whole--;
    int rc = 0;
    if (whole < got && (ftruncate(r->fd, (off_t)whole) != 0 || fdatasync(r->fd) != 0))
        rc = err_errno(err, "%s: cannot cut a torn line", REGISTER_FILE);
    if (rc == 0)
        rc = read_all(r, slice_of(text, whole), err);
    free(text);
    return rc;
}

int id_register_open(int dir, struct id_register **ret, struct err *err)
{
    struct id_register *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return err_set(err, -ENOMEM, "out of memory");
    map_init(&r->ids);
    r->fd = openat(dir, REGISTER_FILE, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    int rc = r->fd >= 0 ? load(r, err) : err_errno(err, "%s", REGISTER_FILE);
    if (rc == 0 && fsync(dir) != 0)
        rc = err_errno(err, "%s: directory", REGISTER_FILE);
    if (rc != 0) {
        id_register_close(r);
        return rc;
    }
    *ret = r;
    return 0;
}

void id_register_close(struct id_register *r)
{
    if (r == NULL)
        return;
    if (r->fd >= 0)
        (void)close(r->fd);
    map_done(&r->ids);
    free(r);
}

uint64_t id_register_find(const struct id_register *r, struct slice address)
{
    return (uint64_t)(uintptr_t)map_get(&r->ids, address);
}

uint64_t id_register_highest(const struct id_register *r)
{
    return r->highest;
}

int id_register_add(struct id_register *r, uint64_t id, struct slice address, int64_t now_ms, struct err *err)
{
    char line[IPC_ADDRESS_MAX + 64], iso[CLOCK_ISO_SIZE];
    if (r->failed)
        return err_set(err, ERR_READONLY, "%s could not be written: restart after repair", REGISTER_FILE);
    if (id_register_find(r, address) == id)
        return 0;
    clock_print_iso(now_ms, iso);
    int n = snprintf(line, sizeof(line), "%llu %.*s %s\n", (unsigned long long)id, SLICE_ARG(address), iso);
    if (n <= 0 || (size_t)n >= sizeof(line))
        return err_set(err, ERR_LIMIT, "the address is too long");
    if (write(r->fd, line, (size_t)n) != n || fdatasync(r->fd) != 0) {
        r->failed = true;
        return err_errno(err, "%s", REGISTER_FILE);
    }
    return remember(r, id, address);
}
