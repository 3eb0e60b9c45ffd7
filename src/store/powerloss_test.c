/* Power loss. A workload runs against a store while every write, sync, allocation, rename and unlink of this process is recorded: those
 * of the store and those of LMDB, because the functions below stand in front of libc's for the whole executable. Then, many times:
 * the disk as it may be after power was lost at a random moment is built in a fresh directory (what was synced is there; of what
 * was not, any subset of 512-byte sectors, any subset of directory changes), the store is opened on it, and what had been
 * acknowledged before that moment must be there, whole.
 *
 * Assumptions, which docs/STORE.md names: a sector is written or not; fsync and fdatasync tell the truth; a directory change is
 * durable when its directory has been synced. The seed is printed; KK_SEED repeats a run, KK_POWERLOSS_SECONDS makes it longer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "store/store_testing.h"

#define FILES_MAX 64
#define SECTOR 512
#define PUBLIC __attribute__((visibility("default")))

/* ---- the record ---- */

enum kind { WRITE, SYNC_BEGIN, SYNC_END, ALLOCATE, CREATE, RENAME, UNLINK, TRUNCATE, MARK };

struct event {
    enum kind kind;
    int file, other;     /* index into names: the file or directory; `other`: what a rename replaces the name of, what a sync began with */
    uint64_t offset, n;  /* MARK: number and phase */
    char *bytes;
};

static struct {
    bool on;
    pthread_mutex_t lock;
    char root[64];       /* what is recorded lies below it */
    struct { char path[64]; } names[FILES_MAX];
    int n_names;
    struct event *events;
    size_t n, cap;
} rec = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int name_index(const char *path)
{
    for (int i = 0; i < rec.n_names; i++)
        if (strcmp(rec.names[i].path, path) == 0)
            return i;
    if (rec.n_names == FILES_MAX)
        abort();
    (void)snprintf(rec.names[rec.n_names].path, sizeof(rec.names[0].path), "%s", path);
    return rec.n_names++;
}

/* The path below the root; NULL for what does not belong to the store. */
static const char *path_of(int fd, char *buffer, size_t size)
{
    char link[64];
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, buffer, size - 1);
    size_t root = strlen(rec.root);
    if (n < (ssize_t)root)
        return NULL;
    buffer[n] = '\0';
    /* A file that lost its name is not there after a power loss, whatever is in it. */
    if (strncmp(buffer, rec.root, root) != 0 || strstr(buffer, "(deleted)") != NULL || strstr(buffer, "-lock") != NULL)
        return NULL;
    return buffer[root] == '/' ? buffer + root + 1 : ".";
}

static void add(struct event e)
{
    if (rec.n == rec.cap) {
        rec.cap = rec.cap != 0 ? rec.cap * 2 : 4096;
        rec.events = realloc(rec.events, rec.cap * sizeof(e));
        if (rec.events == NULL)
            abort();
    }
    rec.events[rec.n++] = e;
}

static void record(enum kind kind, int fd, uint64_t offset, const void *p, uint64_t n, int other)
{
    char buffer[256];
    if (!rec.on)
        return;
    int saved = errno;
    (void)pthread_mutex_lock(&rec.lock);
    const char *path = path_of(fd, buffer, sizeof(buffer));
    if (path != NULL) {
        struct event e = {.kind = kind, .file = name_index(path), .other = other, .offset = offset, .n = n};
        if (kind == WRITE) {
            e.bytes = malloc(n + 1);
            memcpy(e.bytes, p, n);
        }
        add(e);
    }
    (void)pthread_mutex_unlock(&rec.lock);
    errno = saved;
}

static int begin_sync(int fd)
{
    record(SYNC_BEGIN, fd, 0, NULL, 0, 0);
    return (int)rec.n;
}

static void record_name(enum kind kind, int dir, const char *name, const char *to)
{
    char buffer[256], path[300];
    if (!rec.on)
        return;
    int saved = errno;
    (void)pthread_mutex_lock(&rec.lock);
    const char *base = path_of(dir, buffer, sizeof(buffer));
    if (base != NULL) {
        bool top = strcmp(base, ".") == 0;
        (void)snprintf(path, sizeof(path), "%s%s%s", top ? "" : base, top ? "" : "/", name);
        struct event e = {.kind = kind, .file = name_index(path), .other = -1};
        if (to != NULL)
            e.other = name_index(to);
        add(e);
    }
    (void)pthread_mutex_unlock(&rec.lock);
    errno = saved;
}

static void mark(uint64_t number, bool acknowledged)
{
    if (!rec.on)
        return;
    (void)pthread_mutex_lock(&rec.lock);
    add((struct event){.kind = MARK, .offset = number, .n = acknowledged});
    (void)pthread_mutex_unlock(&rec.lock);
}

/* ---- in front of libc ---- */

#define NEXT(type, name)                                        \
    static type real;                                           \
    if (real == NULL)                                           \
        real = (type)(uintptr_t)dlsym(RTLD_NEXT, name)

typedef ssize_t pwrite_fn(int, const void *, size_t, off_t);
typedef ssize_t pwritev_fn(int, const struct iovec *, int, off_t);
typedef ssize_t writev_fn(int, const struct iovec *, int);
typedef int fd_fn(int);
typedef int openat_fn(int, const char *, int, ...);
typedef int renameat_fn(int, const char *, int, const char *);
typedef int unlinkat_fn(int, const char *, int);
typedef int fallocate_fn(int, off_t, off_t);

static ssize_t do_pwrite(pwrite_fn *real, int fd, const void *p, size_t n, off_t at)
{
    ssize_t done = real(fd, p, n, at);
    if (done > 0)
        record(WRITE, fd, (uint64_t)at, p, (uint64_t)done, 0);
    return done;
}

static ssize_t do_pwritev(pwritev_fn *real, int fd, const struct iovec *v, int n, off_t at)
{
    ssize_t done = real(fd, v, n, at), left = done;
    for (int i = 0; i < n && left > 0; i++) {
        ssize_t k = (ssize_t)v[i].iov_len < left ? (ssize_t)v[i].iov_len : left;
        record(WRITE, fd, (uint64_t)at, v[i].iov_base, (uint64_t)k, 0);
        at += k;
        left -= k;
    }
    return done;
}

static int do_sync(fd_fn *real, int fd)
{
    int begun = begin_sync(fd);
    int rc = real(fd);
    if (rc == 0)
        record(SYNC_END, fd, 0, NULL, 0, begun);
    return rc;
}

/* The names that libc has for them, with and without large-file suffix. */
PUBLIC ssize_t k_pwrite(int fd, const void *p, size_t n, off_t at) __asm__("pwrite");
PUBLIC ssize_t k_pwrite(int fd, const void *p, size_t n, off_t at)
{
    NEXT(pwrite_fn *, "pwrite");
    return do_pwrite(real, fd, p, n, at);
}
PUBLIC ssize_t k_pwrite64(int fd, const void *p, size_t n, off_t at) __asm__("pwrite64");
PUBLIC ssize_t k_pwrite64(int fd, const void *p, size_t n, off_t at)
{
    NEXT(pwrite_fn *, "pwrite64");
    return do_pwrite(real, fd, p, n, at);
}
PUBLIC ssize_t k_pwritev(int fd, const struct iovec *v, int n, off_t at) __asm__("pwritev");
PUBLIC ssize_t k_pwritev(int fd, const struct iovec *v, int n, off_t at)
{
    NEXT(pwritev_fn *, "pwritev");
    return do_pwritev(real, fd, v, n, at);
}
PUBLIC ssize_t k_pwritev64(int fd, const struct iovec *v, int n, off_t at) __asm__("pwritev64");
PUBLIC ssize_t k_pwritev64(int fd, const struct iovec *v, int n, off_t at)
{
    NEXT(pwritev_fn *, "pwritev64");
    return do_pwritev(real, fd, v, n, at);
}
PUBLIC ssize_t k_writev(int fd, const struct iovec *v, int n) __asm__("writev");
PUBLIC ssize_t k_writev(int fd, const struct iovec *v, int n)
{
    NEXT(writev_fn *, "writev");
    off_t at = rec.on ? lseek(fd, 0, SEEK_CUR) : -1; /* LMDB seeks, then writes */
    ssize_t done = real(fd, v, n), left = done;
    for (int i = 0; i < n && left > 0 && at >= 0; i++) {
        ssize_t k = (ssize_t)v[i].iov_len < left ? (ssize_t)v[i].iov_len : left;
        record(WRITE, fd, (uint64_t)at, v[i].iov_base, (uint64_t)k, 0);
        at += k;
        left -= k;
    }
    return done;
}
PUBLIC int k_fdatasync(int fd) __asm__("fdatasync");
PUBLIC int k_fdatasync(int fd)
{
    NEXT(fd_fn *, "fdatasync");
    return do_sync(real, fd);
}
PUBLIC int k_fsync(int fd) __asm__("fsync");
PUBLIC int k_fsync(int fd)
{
    NEXT(fd_fn *, "fsync");
    return do_sync(real, fd);
}
PUBLIC int k_renameat(int d, const char *from, int d2, const char *to) __asm__("renameat");
PUBLIC int k_renameat(int d, const char *from, int d2, const char *to)
{
    NEXT(renameat_fn *, "renameat");
    int rc = real(d, from, d2, to);
    if (rc == 0)
        record_name(RENAME, d, from, to);
    return rc;
}
PUBLIC int k_unlinkat(int d, const char *name, int flags) __asm__("unlinkat");
PUBLIC int k_unlinkat(int d, const char *name, int flags)
{
    NEXT(unlinkat_fn *, "unlinkat");
    int rc = real(d, name, flags);
    if (rc == 0)
        record_name(UNLINK, d, name, NULL);
    return rc;
}
static int do_openat(openat_fn *real, int d, const char *name, int flags, mode_t mode)
{
    struct stat st;
    bool new = rec.on && (flags & O_CREAT) != 0 && fstatat(d, name, &st, 0) != 0;
    int fd = real(d, name, flags, mode);
    if (fd >= 0 && new)
        record_name(CREATE, d, name, NULL);
    else if (fd >= 0 && (flags & O_TRUNC) != 0)
        record(TRUNCATE, fd, 0, NULL, 0, 0);
    return fd;
}
PUBLIC int k_openat(int d, const char *name, int flags, ...) __asm__("openat");
PUBLIC int k_openat(int d, const char *name, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = va_arg(ap, mode_t);
    va_end(ap);
    NEXT(openat_fn *, "openat");
    return do_openat(real, d, name, flags, mode);
}
PUBLIC int k_openat64(int d, const char *name, int flags, ...) __asm__("openat64");
PUBLIC int k_openat64(int d, const char *name, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = va_arg(ap, mode_t);
    va_end(ap);
    NEXT(openat_fn *, "openat64");
    return do_openat(real, d, name, flags, mode);
}
PUBLIC int k_fallocate64(int fd, off_t at, off_t n) __asm__("posix_fallocate64");
PUBLIC int k_fallocate64(int fd, off_t at, off_t n)
{
    NEXT(fallocate_fn *, "posix_fallocate64");
    int rc = real(fd, at, n);
    if (rc == 0)
        record(ALLOCATE, fd, 0, NULL, (uint64_t)(at + n), 0);
    return rc;
}
PUBLIC int k_fallocate(int fd, off_t at, off_t n) __asm__("posix_fallocate");
PUBLIC int k_fallocate(int fd, off_t at, off_t n)
{
    NEXT(fallocate_fn *, "posix_fallocate");
    int rc = real(fd, at, n);
    if (rc == 0)
        record(ALLOCATE, fd, 0, NULL, (uint64_t)(at + n), 0);
    return rc;
}

/* ---- the workload ---- */

#define ACCOUNTS 3
#define SENDERS 4
#define SENT 30     /* by each */
#define EXTRA 40    /* accounts made and deleted; other marks */

/* What an operation with mark i means. */
struct op {
    enum { NOTHING, DELIVER, FLAG, EXPUNGE, MAKE, DELETE } what;
    uint64_t account; /* DELIVER: 0 is all accounts */
    uint32_t uid[ACCOUNTS];
    size_t size;
    int of;           /* FLAG, EXPUNGE, DELETE: the mark of what it is about */
};

static struct {
    struct store *s;
    int dir;
    char base[64], path[64];
    struct op ops[SENDERS * SENT * 3 + EXTRA * 2];
    int n_ops;
    uint32_t validity[ACCOUNTS];
    char *noise;
    char failure[400];
    /* of a trial */
    uint8_t *started, *acked;
    uint64_t seed;
} t;

#define CHECK(what)                                                                                    \
    do {                                                                                               \
        if (!(what) && t.failure[0] == '\0')                                                           \
            (void)snprintf(t.failure, sizeof(t.failure), "%s:%d: %s", __func__, __LINE__, #what);      \
    } while (0)

static struct store_options options(void)
{
    struct store_options o = testing_options(t.dir);
    o.segment_size = STORE_SEGMENT_MIN;
    o.index_map = 64 << 20;
    o.apply_delay_ms = 1 + (unsigned)(t.seed % 20);
    return o;
}

static void open_store(void)
{
    struct store_options o = options();
    struct err err = {0};
    t.s = NULL;
    int rc = store_open(&o, &t.s, &err);
    if (rc == 0)
        rc = store_start(t.s, &err);
    if (rc != 0 && t.failure[0] == '\0')
        (void)snprintf(t.failure, sizeof(t.failure), "cannot open: %.300s", err.text);
}

static int begin_op(int what, uint64_t account, int of)
{
    int i = t.n_ops++;
    t.ops[i].what = what;
    t.ops[i].account = account;
    t.ops[i].of = of;
    t.ops[i].size = 1000 + (size_t)i * 7 + (what == DELIVER && i % 5 == 0 ? 60000 : 0);
    mark((uint64_t)i, false);
    return i;
}

static int deliver(uint64_t account)
{
    int i = begin_op(DELIVER, account, -1);
    struct store_rcpt r[ACCOUNTS];
    size_t n = 0;
    for (uint64_t a = 1; a <= ACCOUNTS; a++)
        if (account == 0 || account == a)
            r[n++] = (struct store_rcpt){.account = STORE_ACCOUNT(a), .flags = STORE_RECENT};
    struct store_accept m = {.message = id_new(), .received_ms = 1, .body = slice_of(t.noise, t.ops[i].size), .body_fd = -1, .rcpts = r,
                             .n_rcpts = n, .event = SLICE("event"), .sender = SLICE_EMPTY, .common = SLICE_EMPTY, .meta = SLICE("m"),
                             .want_uids = i % 2 == 0};
    CHECK(store_accept(t.s, &m, NULL) == 0);
    for (size_t k = 0; k < n; k++) {
        CHECK(r[k].status == 0);
        t.ops[i].uid[r[k].account.id - 1] = r[k].uid;
    }
    mark((uint64_t)i, true);
    return i;
}

static void sender(void *arg)
{
    uint64_t me = (uint64_t)(uintptr_t)arg;
    uint64_t n, modseq;
    int last = -1;
    for (int k = 0; k < SENT && t.failure[0] == '\0'; k++) {
        uint64_t account = k % 4 == 3 ? 0 : 1 + (me + (uint64_t)k) % ACCOUNTS;
        int i = deliver(account);
        if (account == 0 || t.ops[i].uid[account - 1] == 0)
            continue;
        struct store_flags f = {.add = STORE_FLAGGED};
        if (k % 3 == 0) {
            int j = begin_op(FLAG, account, i);
            CHECK(store_flags(t.s, STORE_ACCOUNT(account), STORE_INBOX, &t.ops[i].uid[account - 1], 1, &f, &n, &modseq, NULL) == 0);
            mark((uint64_t)j, true);
        } else if (last >= 0) {
            uint64_t of = t.ops[last].account;
            int j = begin_op(EXPUNGE, of, last);
            CHECK(store_expunge(t.s, STORE_ACCOUNT(of), STORE_INBOX, &t.ops[last].uid[of - 1], 1, SLICE("e"), &n, &modseq, NULL) == 0);
            mark((uint64_t)j, true);
            last = -1;
        }
        if (k % 3 != 0)
            last = i;
    }
}

static void accounts(void *arg)
{
    (void)arg;
    for (uint64_t k = 0; k < EXTRA / 2 && t.failure[0] == '\0'; k++) {
        int i = begin_op(MAKE, 100 + k, -1);
        CHECK(store_account_create(t.s, STORE_ACCOUNT(100 + k), 0, SLICE("made"), NULL) == 0);
        mark((uint64_t)i, true);
        if (k % 3 != 0)
            continue;
        int j = begin_op(DELETE, 100 + k, i);
        CHECK(store_account_delete(t.s, STORE_ACCOUNT(100 + k), SLICE("deleted"), NULL) == 0);
        mark((uint64_t)j, true);
    }
    for (int k = 0; k < 4 && t.failure[0] == '\0'; k++) {
        uint64_t freed, moved, acked, last;
        store_outbox_marks(t.s, &acked, &last);
        store_outbox_ack(t.s, last);
        CHECK(store_reclaim(t.s, 5, &freed, &moved, NULL) == 0);
        (void)fiber_sleep_until(clock_deadline(50));
    }
}

static void prepare(void *arg)
{
    struct store_mailbox m;
    (void)arg;
    open_store();
    for (uint64_t a = 1; a <= ACCOUNTS && t.failure[0] == '\0'; a++) {
        CHECK(store_account_create(t.s, STORE_ACCOUNT(a), 0, SLICE("e"), NULL) == 0);
        CHECK(store_mailbox_get(t.s, STORE_ACCOUNT(a), STORE_INBOX, &m) == 0);
        t.validity[a - 1] = m.uidvalidity;
    }
    if (t.failure[0] == '\0')
        store_stop(t.s);
}

static void start(void *arg)
{
    (void)arg;
    open_store();
    for (uintptr_t i = 0; i < SENDERS && t.failure[0] == '\0'; i++)
        (void)fiber_start("sender", sender, (void *)i, NULL);
    if (t.failure[0] == '\0')
        (void)fiber_start("accounts", accounts, NULL, NULL);
}

/* ---- the disk after the loss ---- */

static uint64_t next_random(void)
{
    t.seed ^= t.seed << 13;
    t.seed ^= t.seed >> 7;
    t.seed ^= t.seed << 17;
    return t.seed;
}

struct image_file {
    char *bytes;
    uint64_t size, cap;
    bool exists;
};

static void resize(struct image_file *f, uint64_t size)
{
    if (size > f->cap) {
        uint64_t cap = size > 2 * f->cap ? size : 2 * f->cap;
        f->bytes = realloc(f->bytes, cap);
        if (f->bytes == NULL)
            abort();
        memset(f->bytes + f->cap, 0, cap - f->cap);
        f->cap = cap;
    }
    if (size > f->size)
        f->size = size;
}

static void load_base(const char *name, struct image_file *f)
{
    char path[160];
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s/%s", t.base, name);
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        if (fd >= 0)
            close(fd);
        return;
    }
    f->exists = true;
    resize(f, (uint64_t)st.st_size);
    if (pread(fd, f->bytes, (size_t)st.st_size, 0) != st.st_size)
        abort();
    close(fd);
}

/* Sector by sector: all, none or some. style: 0 none, 1 all, 2 each by itself. */
static void apply_write(struct image_file *f, const struct event *e, unsigned style)
{
    uint64_t at = e->offset, end = e->offset + e->n;
    while (at < end) {
        uint64_t next = (at / SECTOR + 1) * SECTOR;
        if (next > end)
            next = end;
        if (style == 1 || (style == 2 && next_random() % 2 == 0)) {
            resize(f, next);
            memcpy(f->bytes + at, e->bytes + (at - e->offset), next - at);
        }
        at = next;
    }
}

/* Had the sync that covers event i of this file ended before the cut? */
static bool is_synced(size_t i, int file, size_t cut)
{
    for (size_t k = i + 1; k < cut; k++)
        if (rec.events[k].kind == SYNC_END && rec.events[k].file == file && (size_t)rec.events[k].other > i)
            return true;
    return false;
}

static int dir_of(int file)
{
    return name_index(strchr(rec.names[file].path, '/') != NULL ? "seg" : ".");
}

static void build(size_t cut)
{
    static struct image_file files[FILES_MAX];
    unsigned style = (unsigned)(next_random() % 3);
    for (int i = 0; i < rec.n_names; i++) {
        files[i].exists = false;
        files[i].size = 0;
        if (files[i].cap > 0)
            memset(files[i].bytes, 0, files[i].cap);
        load_base(rec.names[i].path, &files[i]);
    }
    for (size_t i = 0; i < cut; i++) {
        const struct event *e = &rec.events[i];
        struct image_file *f = &files[e->file];
        bool names = e->kind == CREATE || e->kind == RENAME || e->kind == UNLINK;
        bool sure = e->kind != MARK && is_synced(i, names ? dir_of(e->file) : e->file, cut);
        unsigned how = sure ? 1 : style == 2 && names ? (unsigned)(next_random() % 2) : style;
        switch (e->kind) {
        case WRITE: apply_write(f, e, how); break;
        case ALLOCATE:
            if (how != 0)
                resize(f, e->n);
            break;
        case TRUNCATE: /* only of files that are not in use yet (*.new) */
            f->size = 0;
            memset(f->bytes, 0, f->cap);
            break;
        case CREATE: f->exists |= how == 1; break;
        case UNLINK:
            if (how == 1)
                f->exists = false;
            break;
        case RENAME:
            if (how == 1) {
                struct image_file old = files[e->other];
                files[e->other] = *f;
                files[e->other].exists = true;
                *f = old;
                f->exists = false;
            } else { /* the name still stands for the old file; the new one has the old name, which does not matter */
            }
            break;
        default: break;
        }
    }
    t.dir = testing_dir(t.path);
    if (mkdirat(t.dir, "seg", 0700) != 0)
        abort();
    for (int i = 0; i < rec.n_names; i++) {
        if (!files[i].exists || strcmp(rec.names[i].path, ".") == 0 || strcmp(rec.names[i].path, "seg") == 0)
            continue;
        int fd = openat(t.dir, rec.names[i].path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (fd < 0 || write(fd, files[i].bytes, files[i].size) != (ssize_t)files[i].size)
            abort();
        close(fd);
    }
}

/* ---- what must be there ---- */

static bool op_about(int of, int what, const uint8_t *set)
{
    for (int i = 0; i < t.n_ops; i++)
        if ((int)t.ops[i].what == what && t.ops[i].of == of && set[i])
            return true;
    return false;
}

static void check_deliver(int i, struct store_entry e[ACCOUNTS][SENDERS * SENT], const size_t *n)
{
    const struct op *o = &t.ops[i];
    size_t there = 0, wanted = 0;
    for (size_t a = 0; a < ACCOUNTS; a++) {
        size_t found = 0;
        for (size_t k = 0; k < n[a]; k++)
            if (e[a][k].size == o->size) {
                found++;
                CHECK(!t.acked[i] || o->uid[a] == 0 || e[a][k].uid == o->uid[a]);
                CHECK(!op_about(i, FLAG, t.acked) || (e[a][k].flags & STORE_FLAGGED) != 0);
            }
        bool meant = o->account == 0 || o->account == a + 1;
        wanted += meant;
        there += found;
        CHECK(found <= 1 && (meant || found == 0));
    }
    if (op_about(i, EXPUNGE, t.acked))
        CHECK(there == 0);
    else if (t.acked[i] && !op_about(i, EXPUNGE, t.started))
        CHECK(there == wanted);
    else if (!op_about(i, EXPUNGE, t.started))
        CHECK(there == 0 || (t.started[i] && there == wanted));
}

static void print_problem(void *arg, const char *line)
{
    (void)arg;
    print_error("%s\n", line);
}

static void look(void *arg)
{
    static struct store_entry e[ACCOUNTS][SENDERS * SENT];
    size_t n[ACCOUNTS] = {0};
    struct store_mailbox m;
    struct store_account_info info;
    struct store_check check = {0};
    (void)arg;
    open_store();
    if (t.failure[0] != '\0')
        return;
    for (size_t a = 0; a < ACCOUNTS; a++) {
        CHECK(store_entries(t.s, STORE_ACCOUNT(a + 1), STORE_INBOX, 0, e[a], SENDERS * SENT, &n[a]) == 0);
        CHECK(store_mailbox_get(t.s, STORE_ACCOUNT(a + 1), STORE_INBOX, &m) == 0 && m.uidvalidity == t.validity[a]);
        for (int i = 0; i < t.n_ops; i++)
            CHECK(!t.acked[i] || t.ops[i].uid[a] < m.uidnext);
    }
    for (int i = 0; i < t.n_ops; i++) {
        const struct op *o = &t.ops[i];
        struct store_account x = STORE_ACCOUNT(o->account);
        if (o->what == DELIVER)
            check_deliver(i, e, n);
        else if (o->what == MAKE && t.acked[i] && !op_about(i, DELETE, t.started))
            CHECK(store_account_get(t.s, x, &info) == 0);
        else if (o->what == DELETE && t.acked[i])
            CHECK(store_account_get(t.s, x, &info) == ERR_GONE);
    }
    struct err err = {0};
    CHECK(store_verify(t.s, true, print_problem, NULL, &check, &err) == 0);
    CHECK(check.problems == 0);
    store_stop(t.s);
}

static void trial(size_t cut)
{
    struct err err;
    memset(t.started, 0, (size_t)t.n_ops);
    memset(t.acked, 0, (size_t)t.n_ops);
    for (size_t i = 0; i < cut; i++)
        if (rec.events[i].kind == MARK)
            (rec.events[i].n != 0 ? t.acked : t.started)[rec.events[i].offset] = 1;
    build(cut);
    assert_int_equal(loop_init(&err), 0);
    bool ended = testing_run(look, NULL);
    store_free(t.s);
    loop_done();
    close(t.dir);
    if (t.failure[0] == '\0')
        testing_remove(t.path);
    CHECK(ended);
}

static void run_phase(fiber_fn *fn)
{
    struct err err;
    assert_int_equal(loop_init(&err), 0);
    assert_true(testing_run(fn, NULL));
    rec.on = false;
    store_free(t.s);
    loop_done();
    if (t.failure[0] != '\0')
        fail_msg("%s", t.failure);
}

static uint64_t env_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t v;
    return text != NULL && slice_to_u64(slice_str(text), &v) && v != 0 ? v : otherwise;
}

static void test_powerloss(void **state)
{
    char command[200];
    uint64_t seed = env_number("KK_SEED", rand_u64() >> 1), seconds = env_number("KK_POWERLOSS_SECONDS", 20);
    size_t trials = 0;
    (void)state;
    t.seed = seed;
    print_message("seed %llu\n", (unsigned long long)seed);
    t.noise = malloc(200000);
    rand_bytes(t.noise, 200000);
    t.dir = testing_dir(t.path);
    run_phase(prepare);
    (void)snprintf(t.base, sizeof(t.base), "%.50s.base", t.path);
    (void)snprintf(command, sizeof(command), "cp -r '%s' '%s'", t.path, t.base);
    assert_int_equal(system(command), 0);
    (void)snprintf(rec.root, sizeof(rec.root), "%s", t.path);
    (void)name_index(".");
    (void)name_index("seg");
    static const char *const in_base[] = {"store.kk", "keys.kk", "index.mdb", "ballast.kk", "seg/0000000000000001.kks"};
    for (size_t i = 0; i < sizeof(in_base) / sizeof(in_base[0]); i++)
        (void)name_index(in_base[i]);
    rec.on = true;
    run_phase(start);
    close(t.dir);
    testing_remove(t.path);
    print_message("%zu events, %d operations, %d files\n", rec.n, t.n_ops, rec.n_names);
    assert_true(rec.n > 500);
    t.started = calloc((size_t)t.n_ops, 1);
    t.acked = calloc((size_t)t.n_ops, 1);
    int64_t until = clock_deadline((int64_t)seconds * 1000);
    for (; clock_mono_ms() < until && t.failure[0] == '\0'; trials++) {
        size_t cut = trials == 0 ? rec.n : 1 + (size_t)(next_random() % rec.n);
        uint64_t before = t.seed;
        trial(cut);
        if (t.failure[0] != '\0')
            print_error("trial %zu (seed %llu) at event %zu of %zu, left in %s\n", trials, (unsigned long long)before, cut, rec.n, t.path);
    }
    print_message("%zu losses of power\n", trials);
    testing_remove(t.base);
    if (t.failure[0] != '\0')
        fail_msg("%s", t.failure);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_powerloss)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
