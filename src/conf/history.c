/* history.c: kept versions of the configuration: <state>/config/<number>.conf and `index`, a JSON line a version.
 * A version is whole once the index names it: the text is written and synced first, then a new index beside the old one is synced
 * and renamed over it, then the directory. Writers hold a lock on the directory. */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "conf/conf.h"

#define TEXT_MAX (4u * 1024 * 1024)
#define INDEX_MAX (64u * 1024 * 1024)

static int open_dir(int state_dir, bool create, struct err *err)
{
    if (create && mkdirat(state_dir, "config", 0700) != 0 && errno != EEXIST)
        return err_errno(err, "cannot make the directory config in the state directory");
    int fd = openat(state_dir, "config", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 ? fd : err_errno(err, "the directory config in the state directory");
}

static int read_file(int dir, const char *name, struct buf *out)
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    ssize_t n = 1;
    int rc = 0;
    while (n > 0 && (rc = buf_reserve(out, 4096)) == 0) {
        n = read(fd, out->p + out->n, 4096);
        if (n > 0)
            out->n += (size_t)n;
    }
    if (n < 0)
        rc = -errno;
    (void)close(fd);
    return rc;
}

/* Under a temporary name, synced, then renamed. */
static int write_file(int dir, const char *name, struct slice text)
{
    char temporary[64];
    (void)snprintf(temporary, sizeof(temporary), "%s.new", name);
    (void)unlinkat(dir, temporary, 0);
    int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    int rc = 0;
    while (text.n > 0 && rc == 0) {
        ssize_t n = write(fd, text.p, text.n);
        if (n < 0 && errno != EINTR)
            rc = -errno;
        if (n > 0)
            text = slice_from(text, (size_t)n);
    }
    if (rc == 0 && fsync(fd) != 0)
        rc = -errno;
    if (close(fd) != 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && renameat(dir, temporary, dir, name) != 0)
        rc = -errno;
    if (rc == 0 && fsync(dir) != 0)
        rc = -errno;
    if (rc != 0)
        (void)unlinkat(dir, temporary, 0);
    return rc;
}

static const char *member_text(const json_t *o, const char *name, struct arena *a)
{
    const char *s = json_string_value(json_object_get(o, name));
    return arena_strdup(a, slice_str(s != NULL ? s : ""));
}

static int parse_line(struct slice line, struct arena *a, struct conf_version *ret)
{
    json_t *o = json_loadb(line.p, line.n, 0, NULL);
    json_int_t number = json_integer_value(json_object_get(o, "version"));
    if (number <= 0) {
        json_decref(o);
        return ERR_CORRUPT;
    }
    *ret = (struct conf_version){.number = (uint64_t)number, .time_ms = json_integer_value(json_object_get(o, "time_ms")),
                                 .who = member_text(o, "who", a), .why = member_text(o, "why", a)};
    json_decref(o);
    return ret->who != NULL && ret->why != NULL ? 0 : -ENOMEM;
}

static int parse_index(struct slice text, struct arena *a, struct conf_version **ret, size_t *ret_n)
{
    size_t n = 0, lines = 0;
    for (size_t i = 0; i < text.n; i++)
        lines += text.p[i] == '\n';
    struct conf_version *all = arena_array(a, lines + 1, sizeof(*all));
    if (all == NULL)
        return -ENOMEM;
    while (text.n > 0) {
        struct slice line = slice_cut(&text, '\n');
        int rc = line.n == 0 ? 0 : parse_line(line, a, &all[n]);
        if (rc != 0)
            return rc;
        n += line.n != 0;
    }
    *ret = all;
    *ret_n = n;
    return 0;
}

static int read_index(int dir, struct buf *text, struct arena *a, struct conf_version **ret, size_t *ret_n, struct err *err)
{
    int rc = read_file(dir, "index", text);
    *ret = NULL;
    *ret_n = 0;
    if (rc == -ENOENT)
        return 0;
    if (rc == 0)
        rc = parse_index(buf_slice(text), a, ret, ret_n);
    return rc == 0 ? 0 : err_set(err, rc, "the index of the configuration's versions: %s", err_name(rc));
}

static void put_index_line(struct buf *b, const struct conf_version *v)
{
    char iso[CLOCK_ISO_SIZE];
    clock_print_iso(v->time_ms, iso);
    buf_printf(b, "{\"version\":%llu,\"time_ms\":%lld,\"time\":\"%s\",\"who\":\"", (unsigned long long)v->number, (long long)v->time_ms,
               iso);
    utf8_put_json(b, slice_str(v->who));
    buf_put_str(b, "\",\"why\":\"");
    utf8_put_json(b, slice_str(v->why));
    buf_put_str(b, "\"}\n");
}

static void file_name(uint64_t number, char out[32])
{
    (void)snprintf(out, 32, "%06llu.conf", (unsigned long long)number);
}

static bool equals_version(int dir, uint64_t number, struct slice text)
{
    char name[32];
    struct buf old;
    file_name(number, name);
    buf_init(&old, TEXT_MAX);
    bool same = read_file(dir, name, &old) == 0 && slice_eq(buf_slice(&old), text);
    buf_done(&old);
    return same;
}

static int add_locked(int dir, struct slice text, const char *who, const char *why, struct buf *index, struct arena *a,
                      uint64_t *ret_number, struct err *err)
{
    struct conf_version *all;
    size_t n;
    char name[32];
    int rc = read_index(dir, index, a, &all, &n, err);
    if (rc != 0)
        return rc;
    uint64_t last = n > 0 ? all[n - 1].number : 0;
    *ret_number = last;
    if (last > 0 && equals_version(dir, last, text))
        return 0;
    struct conf_version v = {.number = last + 1, .time_ms = clock_real_ms(), .who = who, .why = why};
    file_name(v.number, name);
    rc = write_file(dir, name, text);
    put_index_line(index, &v);
    if (rc == 0)
        rc = buf_ok(index) ? write_file(dir, "index", buf_slice(index)) : -ENOMEM;
    if (rc != 0)
        return err_set(err, rc, "cannot keep this version of the configuration: %s", err_name(rc));
    *ret_number = v.number;
    return 0;
}

int conf_history_add(int state_dir, struct slice text, const char *who, const char *why, uint64_t *ret_number, struct err *err)
{
    struct buf index;
    struct arena a;
    int dir = open_dir(state_dir, true, err);
    if (dir < 0)
        return dir;
    buf_init(&index, INDEX_MAX);
    arena_init(&a, INDEX_MAX);
    int rc = flock(dir, LOCK_EX) != 0 ? err_errno(err, "lock on the configuration's versions")
                                      : add_locked(dir, text, who, why, &index, &a, ret_number, err);
    arena_done(&a);
    buf_done(&index);
    (void)close(dir); /* and the lock */
    return rc;
}

int conf_history_list(int state_dir, struct arena *a, struct conf_version **ret, size_t *ret_n, struct err *err)
{
    struct buf index;
    int dir = open_dir(state_dir, false, err);
    *ret = NULL;
    *ret_n = 0;
    if (dir == -ENOENT)
        return 0;
    if (dir < 0)
        return dir;
    buf_init(&index, INDEX_MAX);
    int rc = read_index(dir, &index, a, ret, ret_n, err);
    buf_done(&index);
    (void)close(dir);
    return rc;
}

int conf_history_read(int state_dir, uint64_t number, struct buf *ret_text, struct err *err)
{
    char name[32];
    int dir = open_dir(state_dir, false, err);
    if (dir < 0)
        return dir;
    file_name(number, name);
    int rc = read_file(dir, name, ret_text);
    (void)close(dir);
    if (rc == -ENOENT)
        return err_set(err, rc, "there is no version %llu", (unsigned long long)number);
    return rc == 0 ? 0 : err_set(err, rc, "version %llu: %s", (unsigned long long)number, err_name(rc));
}
