#include "trail/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void trail_file_name(const struct trail_file *f, char ret[TRAIL_NAME_SIZE])
{
    (void)snprintf(ret, TRAIL_NAME_SIZE, "%08u-%llu.jsonl", f->day, (unsigned long long)f->number);
}

bool trail_file_parse(struct slice name, struct trail_file *ret)
{
    uint64_t day, number;
    struct slice rest = name, d = slice_cut(&rest, '-'), n = slice_cut(&rest, '.');
    if (d.n != 8 || !slice_to_u64(d, &day) || !slice_to_u64(n, &number) || number == 0 || !slice_eq(rest, SLICE("jsonl")))
        return false;
    ret->day = (uint32_t)day;
    ret->number = number;
    return true;
}

static int by_number(const void *a, const void *b)
{
    const struct trail_file *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

int trail_files_list(int dir, struct arena *arena, struct trail_file **ret, size_t *ret_n, struct err *err)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct trail_file *files = NULL;
    size_t n = 0, cap = 0;
    int rc = 0;
    if (d == NULL) {
        rc = err_errno(err, "the directory of the trail");
        if (fd >= 0)
            (void)close(fd);
        return rc;
    }
    for (const struct dirent *e; rc == 0 && (e = readdir(d)) != NULL;) {
        struct trail_file f;
        if (!trail_file_parse(slice_str(e->d_name), &f))
            continue;
        if (n == cap) {
            cap = cap != 0 ? cap * 2 : 64;
            struct trail_file *more = cap <= TRAIL_FILES_MAX ? reallocarray(files, cap, sizeof(*files)) : NULL;
            if (more == NULL) {
                rc = err_set(err, -ENOMEM, "too many files in the trail");
                break;
            }
            files = more;
        }
        files[n++] = f;
    }
    (void)closedir(d);
    if (rc == 0) {
        if (n > 1)
            qsort(files, n, sizeof(*files), by_number);
        *ret = arena_array(arena, n, sizeof(**ret));
        if (*ret == NULL)
            rc = err_set(err, -ENOMEM, "out of memory");
        else if (n > 0)
            memcpy(*ret, files, n * sizeof(*files));
        *ret_n = n;
    }
    free(files);
    return rc;
}

struct trail_origin *trail_sources_find(struct trail_sources *s, struct slice source)
{
    for (size_t i = 0; i < s->n; i++)
        if (slice_eq(slice_str(s->last[i].source), source))
            return &s->last[i];
    return NULL;
}

bool trail_sources_put(struct trail_sources *s, const struct trail_origin *o)
{
    struct trail_origin *at = trail_sources_find(s, slice_str(o->source));
    if (at == NULL && s->n == TRAIL_SOURCES_MAX)
        return false;
    if (at == NULL)
        at = &s->last[s->n++];
    *at = *o;
    return true;
}

/* The value behind "name": in an item of the list, up to its comma or brace, without quotation marks. */
static struct slice item_value(struct slice *s)
{
    (void)slice_cut(s, ':');
    struct slice v = slice_head(*s, slice_find(*s, '}'));
    v = slice_head(v, slice_find(v, ','));
    *s = slice_from(*s, v.n + 1);
    return v.n >= 2 && v.p[0] == '"' ? slice_of(v.p + 1, v.n - 2) : v;
}

/* The list in a trail.begun line: "sources":[{"source":"stored","epoch":"...","sequence":4},...]; what cannot be read is passed over. */
static void read_begun(struct slice line, struct trail_sources *sources)
{
    static const struct slice mark = {"{\"source\":", 10};
    for (size_t i = 0; i + mark.n <= line.n; i++) {
        if (memcmp(line.p + i, mark.p, mark.n) != 0)
            continue;
        struct trail_origin o = {.source = ""};
        struct slice s = slice_from(line, i), name = item_value(&s), epoch = item_value(&s), sequence = item_value(&s);
        if (name.n == 0 || name.n >= sizeof(o.source) || !trail_epoch_parse(epoch, &o.epoch) || !slice_to_u64(sequence, &o.sequence))
            continue;
        memcpy(o.source, name.p, name.n);
        (void)trail_sources_put(sources, &o);
    }
}

static void take_line(struct trail_scan *scan, const struct trail_line *l)
{
    if (l->origin.source[0] != '\0')
        (void)trail_sources_put(&scan->sources, &l->origin);
    scan->lines++;
    scan->last_seq = l->seq;
    if (l->time_ms > scan->highest_ms)
        scan->highest_ms = l->time_ms;
}

/* Behind a damaged place: what later lines say still counts, so that no number and no event is written twice. */
static void scan_behind_damage(struct slice rest, struct trail_scan *scan)
{
    while (rest.n > 0) {
        struct trail_line l;
        if (trail_line_parse(slice_cut(&rest, '\n'), &l) && l.seq > scan->last_seq)
            take_line(scan, &l);
    }
}

void trail_scan_text(struct slice text, struct trail_scan *ret)
{
    struct slice rest = text;
    *ret = (struct trail_scan){0};
    while (rest.n > 0) {
        const char *end = memchr(rest.p, '\n', rest.n);
        struct slice line = slice_of(rest.p, end != NULL ? (size_t)(end - rest.p) : rest.n);
        struct trail_line l;
        if (end == NULL || !trail_line_parse(line, &l) || (ret->lines > 0 && l.seq != ret->last_seq + 1))
            break;
        if (ret->lines == 0 && slice_eq(l.event, SLICE("trail.begun")))
            read_begun(line, &ret->sources);
        take_line(ret, &l);
        rest = slice_from(rest, line.n + 1);
    }
    ret->good = text.n - rest.n;
    ret->damaged = rest.n > TRAIL_BATCH_MAX + TRAIL_LINE_MAX;
    if (ret->damaged)
        scan_behind_damage(rest, ret);
}

/* Keeps what is cut: it was never confirmed to anybody, but nothing of a trail is thrown away unseen. */
static int keep_cut(int dir, const struct trail_file *f, struct slice tail, struct err *err)
{
    char name[TRAIL_NAME_SIZE], cut[TRAIL_NAME_SIZE + 8];
    if (memchr(tail.p, '\n', tail.n) == NULL)
        return 0;
    trail_file_name(f, name);
    (void)snprintf(cut, sizeof(cut), "%s.cut", name);
    int fd = openat(dir, cut, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600), rc = 0;
    if (fd < 0 || write(fd, tail.p, tail.n) != (ssize_t)tail.n || fdatasync(fd) != 0)
        rc = err_errno(err, "%s", cut);
    if (fd >= 0)
        (void)close(fd);
    return rc;
}

int trail_file_recover(int dir, int fd, const struct trail_file *f, struct trail_scan *ret, struct err *err)
{
    struct stat st;
    *ret = (struct trail_scan){0};
    if (fstat(fd, &st) != 0)
        return err_errno(err, "trail file %llu", (unsigned long long)f->number);
    if (st.st_size == 0)
        return 0;
    size_t size = (size_t)st.st_size;
    void *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return err_errno(err, "trail file %llu", (unsigned long long)f->number);
    struct slice text = slice_of(map, size);
    trail_scan_text(text, ret);
    int rc = 0;
    if (ret->good < size && !ret->damaged) {
        rc = keep_cut(dir, f, slice_from(text, (size_t)ret->good), err);
        if (rc == 0 && (ftruncate(fd, (off_t)ret->good) != 0 || fsync(fd) != 0))
            rc = err_errno(err, "cannot cut the torn end of trail file %llu", (unsigned long long)f->number);
    }
    (void)munmap(map, size);
    return rc;
}
