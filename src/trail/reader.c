#include "trail/reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

#define OFFSET_BITS 36 /* 64 GiB a file: more than trail { file_size } allows */
#define CHUNK (256 * 1024)
_Static_assert(CHUNK > TRAIL_LINE_MAX, "a line fits");

static uint64_t make_cursor(uint64_t file, uint64_t offset)
{
    return file << OFFSET_BITS | offset;
}

/* Whole lines of one chunk. Returns the bytes used; *ret_full: the page has enough. */
static size_t take_lines(struct trail_page *p, struct slice chunk, bool *ret_full)
{
    size_t used = 0;
    const char *end;
    while (!*ret_full && (end = memchr(chunk.p + used, '\n', chunk.n - used)) != NULL) {
        struct slice line = slice_of(chunk.p + used, (size_t)(end - chunk.p) - used);
        if (p->query == NULL || trail_query_match(p->query, line)) {
            *ret_full = p->lines->n != 0 && p->lines->n + line.n + 1 > p->max_bytes;
            if (*ret_full)
                break;
            buf_put_slice(p->lines, line);
            buf_put_char(p->lines, '\n');
        }
        used += line.n + 1;
    }
    return used;
}

/* Reads from *offset to size, or until the page is full or enough was looked at. */
static int read_file(struct trail_page *p, int fd, uint64_t size, uint64_t *offset, uint64_t *scanned, bool *ret_full)
{
    char *chunk = malloc(CHUNK);
    int rc = 0;
    if (chunk == NULL)
        return -ENOMEM;
    while (rc == 0 && *offset < size && !*ret_full) {
        size_t want = size - *offset < CHUNK ? (size_t)(size - *offset) : CHUNK;
        ssize_t n = pread(fd, chunk, want, (off_t)*offset);
        if (n <= 0) {
            rc = n < 0 ? -errno : -EIO;
            break;
        }
        size_t used = take_lines(p, slice_of(chunk, (size_t)n), ret_full);
        if (used == 0 && !*ret_full)
            used = (size_t)n; /* no line at all: damage; not an endless loop */
        *offset += used;
        *scanned += used;
        *ret_full |= *scanned >= TRAIL_PAGE_SCAN;
    }
    free(chunk);
    return rc;
}

static int read_named(struct trail_page *p, const struct trail_file *f, uint64_t *offset, uint64_t *scanned, bool *ret_full)
{
    char name[TRAIL_NAME_SIZE];
    struct stat st;
    trail_file_name(f, name);
    int fd = openat(p->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno; /* removed meanwhile */
    int rc = fstat(fd, &st) == 0 ? 0 : -errno;
    uint64_t size = f->number == p->end.number ? p->end_size : (uint64_t)st.st_size;
    if (rc == 0)
        rc = read_file(p, fd, size, offset, scanned, ret_full);
    (void)close(fd);
    return rc;
}

/* All of a file is before `since` when the next one began a day before it (clocks differ a little). */
static bool is_before(const struct trail_page *p, const struct trail_file *next)
{
    int64_t since = p->query != NULL ? trail_query_since(p->query) : INT64_MIN, begun;
    char day[16];
    (void)snprintf(day, sizeof(day), "%04u-%02u-%02u", next->day / 10000, next->day / 100 % 100, next->day % 100);
    return since != INT64_MIN && trail_time_parse(slice_str(day), &begun) && begun + 2 * (int64_t)86400000 < since;
}

int trail_read_page(struct trail_page *p, struct err *err)
{
    struct arena arena;
    struct trail_file *files;
    size_t n;
    uint64_t scanned = 0;
    bool full = false;
    if (p->cursor == TRAIL_CURSOR_END)
        p->cursor = make_cursor(p->end.number, p->end_size);
    uint64_t number = p->cursor >> OFFSET_BITS, offset = p->cursor & ((1ULL << OFFSET_BITS) - 1);
    arena_init(&arena, (size_t)TRAIL_FILES_MAX * 32);
    int rc = trail_files_list(p->dir, &arena, &files, &n, err);
    for (size_t i = 0; rc == 0 && i < n && !full; i++) {
        if (files[i].number < number || files[i].number > p->end.number)
            continue;
        if (files[i].number > number)
            offset = 0;
        number = files[i].number;
        if (i + 1 < n && files[i + 1].number <= p->end.number && is_before(p, &files[i + 1]))
            continue;
        rc = read_named(p, &files[i], &offset, &scanned, &full);
        if (rc != 0)
            rc = err_set(err, rc, "the trail cannot be read: %s", err_name(rc));
    }
    arena_done(&arena);
    if (rc != 0)
        return rc;
    if (!buf_ok(p->lines))
        return err_set(err, -ENOMEM, "out of memory");
    p->at_end = !full;
    p->cursor = make_cursor(number, offset);
    return 0;
}
