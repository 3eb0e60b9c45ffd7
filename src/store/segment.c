/* Segment files: names, creation, the list of them, the ballast. See store_priv.h and docs/STORE.md section 3. */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/store_priv.h"

#define BALLAST_FILE "ballast.kk"

void segment_name(uint64_t id, char out[SEGMENT_NAME_SIZE])
{
    (void)snprintf(out, SEGMENT_NAME_SIZE, "%016llx.kks", (unsigned long long)id);
}

bool segment_parse_name(const char *name, uint64_t *ret_id)
{
    uint64_t id = 0;
    for (int i = 0; i < 16; i++) {
        char c = name[i];
        if (!ascii_is_digit(c) && !(c >= 'a' && c <= 'f'))
            return false;
        id = id << 4 | (uint64_t)(ascii_is_digit(c) ? c - '0' : c - 'a' + 10);
    }
    *ret_id = id;
    return strcmp(name + 16, ".kks") == 0 && id != 0;
}

static int fill_new(struct store *s, int fd, uint64_t id, uint64_t size)
{
    uint8_t raw[JOURNAL_SEGMENT_HEADER];
    struct journal_segment g = {
        .id = id,
        .size = size,
        .first_sequence = s->sequence + 1,
        .first_event = s->event + 1,
        .created_ms = clock_real_ms(),
        .store = s->id,
    };
    journal_segment_encode(&g, raw);
    int rc = s->disk->allocate(fd, size);
    if (rc == 0)
        rc = disk_write(s->disk, fd, raw, sizeof(raw), 0);
    if (rc == 0)
        rc = s->disk->sync(fd);
    if (rc == 0)
        rc = s->disk->sync(s->seg_dir);
    __atomic_add_fetch(&s->syncs, 2, __ATOMIC_RELAXED);
    return rc;
}

static int create_sized(struct store *s, uint64_t id, uint64_t size, int *ret_fd)
{
    char name[SEGMENT_NAME_SIZE];
    int fd;
    segment_name(id, name);
    int rc = s->disk->open(s->seg_dir, name, O_RDWR | O_CREAT | O_EXCL, 0600, &fd);
    if (rc != 0)
        return rc;
    rc = fill_new(s, fd, id, size);
    if (rc == 0) {
        *ret_fd = fd;
        return 0;
    }
    (void)close(fd);
    int gone = s->disk->unlink(s->seg_dir, name);
    return gone == 0 || rc != -ENOSPC ? rc : gone;
}

/* With the lock held. */
static int make_room(struct store *s)
{
    if (s->n_segments < s->cap_segments)
        return 0;
    size_t cap = s->cap_segments != 0 ? s->cap_segments * 2 : 64;
    struct segment_info *p = realloc(s->segments, cap * sizeof(*p));
    if (p == NULL)
        return -ENOMEM;
    s->segments = p;
    s->cap_segments = cap;
    return 0;
}

static int segments_reserve(struct store *s)
{
    (void)pthread_mutex_lock(&s->lock);
    int rc = make_room(s);
    (void)pthread_mutex_unlock(&s->lock);
    return rc;
}

int segment_create(struct store *s, uint64_t id, uint64_t need, bool small, int *ret_fd, uint64_t *ret_size)
{
    uint64_t least = need + JOURNAL_SEGMENT_HEADER + JOURNAL_HEADER + JOURNAL_TRAILER;
    uint64_t size = least > s->o.segment_size ? least : s->o.segment_size;
    int rc = segments_reserve(s); /* before the file, so that running out of memory leaves no file behind */
    if (rc != 0)
        return rc;
    for (;;) {
        rc = create_sized(s, id, size, ret_fd);
        if (rc == 0) {
            struct segment_info g = {id, size, s->sequence + 1, s->event + 1};
            *ret_size = size;
            return segments_add(s, &g); /* listed only when it can be read */
        }
        if (rc != -ENOSPC && rc != -EDQUOT)
            return rc;
        /* A smaller one may fit; for changes that free space, the ballast is there. */
        if (size > least && size > STORE_SEGMENT_MIN)
            size = size / 2 > least ? size / 2 : least;
        else if (!small || !ballast_drop(s))
            return -ENOSPC;
    }
}

int segment_open(struct store *s, uint64_t id, int *ret_fd, struct journal_segment *ret)
{
    char name[SEGMENT_NAME_SIZE];
    uint8_t raw[JOURNAL_SEGMENT_HEADER];
    struct journal_segment g;
    segment_name(id, name);
    int fd = openat(s->seg_dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = disk_read(fd, raw, sizeof(raw), 0);
    if (rc == 0)
        rc = journal_segment_decode(raw, &g);
    if (rc == 0 && (g.id != id || !id_eq(g.store, s->id)))
        rc = ERR_CORRUPT;
    if (rc != 0) {
        (void)close(fd);
        return rc == -ENODATA ? ERR_CORRUPT : rc;
    }
    *ret_fd = fd;
    *ret = g;
    return 0;
}

int segment_write_end(struct store *s, int fd, uint64_t offset, uint64_t sequence)
{
    uint8_t raw[JOURNAL_HEADER + JOURNAL_TRAILER];
    struct journal_header h = {.type = JOURNAL_END, .sequence = sequence, .durable = sequence - 1, .time_ms = clock_real_ms()};
    journal_header_encode(&h, raw);
    journal_trailer_encode(sequence, 0, raw + JOURNAL_HEADER);
    int rc = disk_write(s->disk, fd, raw, sizeof(raw), offset);
    if (rc == 0)
        rc = s->disk->datasync(fd);
    __atomic_add_fetch(&s->syncs, 1, __ATOMIC_RELAXED);
    return rc;
}

/* ---- the list ---- */

int segments_add(struct store *s, const struct segment_info *g)
{
    (void)pthread_mutex_lock(&s->lock);
    int rc = make_room(s);
    if (rc == 0)
        s->segments[s->n_segments++] = *g;
    (void)pthread_mutex_unlock(&s->lock);
    return rc;
}

void segments_remove(struct store *s, uint64_t id)
{
    (void)pthread_mutex_lock(&s->lock);
    size_t n = 0;
    for (size_t i = 0; i < s->n_segments; i++)
        if (s->segments[i].id != id)
            s->segments[n++] = s->segments[i];
    s->n_segments = n;
    (void)pthread_mutex_unlock(&s->lock);
}

bool segments_next(struct store *s, uint64_t after, struct segment_info *ret)
{
    bool found = false;
    (void)pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->n_segments && !found; i++)
        if (s->segments[i].id > after) {
            *ret = s->segments[i];
            found = true;
        }
    (void)pthread_mutex_unlock(&s->lock);
    return found;
}

bool segments_get(struct store *s, uint64_t id, struct segment_info *ret)
{
    return id != 0 && segments_next(s, id - 1, ret) && ret->id == id;
}

static int by_id(const void *a, const void *b)
{
    const struct segment_info *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* A header that is not whole, and no record behind it: the file was never used (its header is synced before the first use). */
static bool is_unfinished(struct store *s, const char *name)
{
    struct stat st;
    int fd = openat(s->seg_dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    struct journal_cursor c = {.fd = fd, .offset = 0, .end = fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0};
    int tail = journal_scan_tail(&c, 0);
    (void)close(fd);
    return tail == JOURNAL_TAIL_CLEAN || tail == JOURNAL_TAIL_TORN;
}

static int load_one(struct store *s, uint64_t id, bool last, bool readonly, struct err *err)
{
    struct journal_segment g;
    char name[SEGMENT_NAME_SIZE];
    int fd, rc = segment_open(s, id, &fd, &g);
    segment_name(id, name);
    if (rc == ERR_CORRUPT && last && is_unfinished(s, name))
        return readonly ? 0 : s->disk->unlink(s->seg_dir, name);
    if (rc == ERR_VERSION)
        return err_set(err, rc, "segment %s has a newer format than this program knows: use a newer one", name);
    if (rc != 0)
        return err_set(err, rc, "segment %s: damaged header (%s)", name, err_name(rc));
    (void)close(fd);
    struct segment_info info = {id, g.size, g.first_sequence, g.first_event};
    return segments_add(s, &info);
}

int segments_load(struct store *s, bool readonly, struct err *err)
{
    uint64_t id;
    int fd = openat(s->seg_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL) {
        rc = err_errno(err, "cannot read the segment directory");
        if (fd >= 0)
            (void)close(fd);
        return rc;
    }
    for (struct dirent *e; rc == 0 && (e = readdir(d)) != NULL;) {
        struct segment_info g = {0};
        if (segment_parse_name(e->d_name, &id)) {
            g.id = id;
            rc = segments_add(s, &g);
        }
    }
    (void)closedir(d);
    if (s->n_segments > 0)
        qsort(s->segments, s->n_segments, sizeof(*s->segments), by_id);
    /* Once more, now in order, with what the headers say. */
    struct segment_info *names = s->segments;
    size_t n = s->n_segments;
    s->segments = NULL;
    s->n_segments = s->cap_segments = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = load_one(s, names[i].id, i + 1 == n, readonly, err);
    free(names);
    return rc;
}

/* ---- ballast ---- */

void ballast_make(struct store *s)
{
    uint64_t left;
    int fd;
    if (s->disk->free_bytes(s->dir, &left) != 0 || left < s->o.reserve + STORE_BALLAST)
        return;
    int rc = s->disk->open(s->dir, BALLAST_FILE, O_RDWR | O_CREAT, 0600, &fd);
    if (rc != 0)
        return;
    bool made = s->disk->allocate(fd, STORE_BALLAST) == 0;
    (void)close(fd);
    if (!made)
        (void)s->disk->unlink(s->dir, BALLAST_FILE);
    __atomic_store_n(&s->ballast, made, __ATOMIC_SEQ_CST);
}

bool ballast_drop(struct store *s)
{
    if (!__atomic_exchange_n(&s->ballast, false, __ATOMIC_SEQ_CST))
        return false;
    return s->disk->unlink(s->dir, BALLAST_FILE) == 0;
}
