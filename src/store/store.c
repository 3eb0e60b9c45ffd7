/* A store's life: open, start, stop, status. See store.h. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secret.h"
#include "store/crc32c.h"
#include "store/store_priv.h"

#define FORMAT_FILE "store.kk"
#define FORMAT_NEW "store.new"
#define FORMAT_SIZE 64
#define FORMAT_MAGIC "KKSTORE"
#define TASK_QUEUE_MAX 64
#define AUX_QUEUE_MAX 1024

/* ---- the format file: magic 8 | u32 version | u32 features | store id 16 | zeros | u32 crc32c ---- */

static void encode_format(struct id128 id, uint8_t out[FORMAT_SIZE])
{
    struct buf b;
    uint32_t crc;
    static const char zeros[FORMAT_SIZE];
    buf_init(&b, FORMAT_SIZE);
    buf_put(&b, FORMAT_MAGIC, 8);
    buf_put_u32(&b, STORE_FORMAT_VERSION);
    buf_put_u32(&b, 0);
    buf_put(&b, id.b, 16);
    buf_put(&b, zeros, FORMAT_SIZE - 4 - b.n);
    crc = crc32c(0, b.p, b.n);
    buf_put_u32(&b, crc);
    memcpy(out, b.p, FORMAT_SIZE);
    buf_done(&b);
}

static int decode_format(const uint8_t in[FORMAT_SIZE], struct id128 *ret, struct err *err)
{
    struct slice s = slice_of(in + 8, FORMAT_SIZE - 8), id, crc_at = slice_of(in + FORMAT_SIZE - 4, 4);
    uint32_t version, features, crc;
    (void)slice_get_u32(&s, &version);
    (void)slice_get_u32(&s, &features);
    (void)slice_get_bytes(&s, 16, &id);
    (void)slice_get_u32(&crc_at, &crc);
    if (memcmp(in, FORMAT_MAGIC, 8) != 0 || crc != crc32c(0, in, FORMAT_SIZE - 4))
        return err_set(err, ERR_CORRUPT, "%s is damaged", FORMAT_FILE);
    if (version > STORE_FORMAT_VERSION || features != 0)
        return err_set(err, ERR_VERSION, "the store has format %u (features %x); this program knows formats to %d: use a newer one", version,
                       features, STORE_FORMAT_VERSION);
    memcpy(ret->b, id.p, 16);
    return 0;
}

static int create_format(struct store *s, struct err *err)
{
    uint8_t raw[FORMAT_SIZE];
    int fd = -1;
    s->id = id_new();
    encode_format(s->id, raw);
    int rc = s->disk->open(s->dir, FORMAT_NEW, O_RDWR | O_CREAT | O_TRUNC, 0600, &fd);
    if (rc == 0)
        rc = disk_write(s->disk, fd, raw, sizeof(raw), 0);
    if (rc == 0)
        rc = s->disk->sync(fd);
    if (rc == 0)
        rc = s->disk->rename(s->dir, FORMAT_NEW, FORMAT_FILE);
    if (rc == 0)
        rc = s->disk->sync(s->dir);
    if (fd >= 0)
        (void)close(fd);
    return rc == 0 ? 0 : err_set(err, rc, "cannot create %s: %s", FORMAT_FILE, err_name(rc));
}

int store_read_format(int dir, struct id128 *ret, struct err *err)
{
    uint8_t raw[FORMAT_SIZE];
    int fd = openat(dir, FORMAT_FILE, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = disk_read(fd, raw, sizeof(raw), 0);
    (void)close(fd);
    if (rc != 0)
        return err_set(err, rc == -ENODATA ? ERR_CORRUPT : rc, "cannot read %s", FORMAT_FILE);
    return decode_format(raw, ret, err);
}

/* A directory without format file but with segments is not a new store: something was lost. */
static int open_format(struct store *s, struct err *err)
{
    struct segment_info g;
    int rc = store_read_format(s->dir, &s->id, err);
    if (rc == -ENOENT) {
        struct stat st;
        if (fstatat(s->dir, "index.mdb", &st, 0) == 0 || segments_next(s, 0, &g))
            return err_set(err, ERR_CORRUPT, "%s is missing, but there is mail", FORMAT_FILE);
        return create_format(s, err);
    }
    if (rc != 0 && (err == NULL || err->code != rc))
        return err_set(err, rc, "cannot open %s", FORMAT_FILE);
    return rc;
}

/* ---- opening ---- */

static int open_dirs(struct store *s, int dir, struct err *err)
{
    /* A descriptor of our own: the lock belongs to it. */
    s->dir = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir < 0)
        return err_errno(err, "cannot open the store's directory");
    if (flock(s->dir, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? err_set(err, -EBUSY, "the store is open in another process") : err_errno(err, "cannot lock the store");
    int rc = s->disk->mkdir(s->dir, "seg", 0700);
    if (rc == 0)
        rc = s->disk->sync(s->dir);
    if (rc != 0 && rc != -EEXIST)
        return err_set(err, rc, "cannot create the segment directory: %s", err_name(rc));
    s->seg_dir = openat(s->dir, "seg", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return s->seg_dir < 0 ? err_errno(err, "cannot open the segment directory") : 0;
}

static int start_thread(struct store *s, void *(*fn)(void *), const char *name)
{
    sigset_t all, old;
    /* Signals are the loop's business. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&s->threads[s->n_threads], NULL, fn, s);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return -rc;
    (void)pthread_setname_np(s->threads[s->n_threads++], name);
    return 0;
}

static int start_threads(struct store *s)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = s->o.threads != 0 ? s->o.threads : cpus > 2 ? (unsigned)cpus : 2, most = sizeof(s->threads) / sizeof(s->threads[0]) - 2;
    int rc = worker_pool_new("store-task", 1, TASK_QUEUE_MAX, &s->task);
    if (rc == 0)
        rc = worker_pool_new("store-aux", 1, AUX_QUEUE_MAX, &s->aux);
    if (rc == 0)
        rc = start_thread(s, commit_main, "store-commit");
    if (rc == 0)
        rc = start_thread(s, apply_main, "store-apply");
    for (unsigned i = 0; i < n && i < most && rc == 0; i++)
        rc = start_thread(s, prepare_main, "store-prepare");
    return rc;
}

static void init_waiting(struct store *s)
{
    pthread_condattr_t attr;
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_t *conds[] = {&s->prepare_more, &s->commit_more, &s->apply_more, &s->room};
    for (size_t i = 0; i < sizeof(conds) / sizeof(conds[0]); i++)
        (void)pthread_cond_init(conds[i], &attr);
    (void)pthread_condattr_destroy(&attr);
    struct list *lists[] = {&s->prepare, &s->commit, &s->apply, &s->done_committed, &s->done_applied};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        list_init(lists[i]);
    fiber_queue_init(&s->idle);
    fiber_queue_init(&s->applied_queue);
    map_init(&s->pending);
    map_init(&s->in_flight);
}

static int open_parts(struct store *s, int dir, struct err *err)
{
    int rc = open_dirs(s, dir, err);
    if (rc == 0)
        rc = open_format(s, err);
    if (rc == 0)
        rc = segments_load(s, false, err);
    if (rc == 0)
        rc = index_open(s->dir, s->o.index_map, s->id, false, &s->x, err);
    if (rc != 0)
        return rc;
    rc = seal_new(&s->seal);
    if (rc == 0)
        rc = start_threads(s);
    if (rc == 0)
        rc = keys_new(s->disk, s->dir, s->id, &s->o.keys, s->aux, &s->keys);
    return rc == 0 ? 0 : err_set(err, rc, "cannot start the store's threads");
}

int store_open(const struct store_options *options, struct store **ret, struct err *err)
{
    struct store *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    s->o = *options;
    s->disk = options->disk != NULL ? options->disk : &disk_real;
    if (s->o.segment_size < STORE_SEGMENT_MIN)
        s->o.segment_size = STORE_SEGMENT_MIN;
    if (s->o.apply_delay_ms == 0)
        s->o.apply_delay_ms = 20;
    s->dir = s->seg_dir = s->seg.fd = -1;
    init_waiting(s);
    int rc = open_parts(s, options->dir, err);
    if (rc != 0) {
        store_free(s);
        return rc;
    }
    *ret = s;
    return 0;
}

/* ---- starting ---- */

static bool is_live(void *arg, struct store_account a)
{
    struct store_account_info info;
    return store_account_get(arg, a, &info) == 0;
}

int MAY_YIELD store_start(struct store *s, struct err *err)
{
    MDB_txn *t;
    struct ikey mark = ikey_name("mark");
    struct slice v;
    int rc = index_read_begin(s->x, &t);
    if (rc != 0)
        return err_set(err, rc, "cannot read the index");
    bool is_new = s->n_segments == 0 && index_get(s->x, t, INDEX_META, &mark, &v) == -ENOENT;
    index_read_end(s->x, t);
    rc = keys_load(s->keys, is_new, err);
    if (rc != 0)
        return rc;
    memcpy(s->journal_key, keys_journal(s->keys), KEYS_SIZE);
    rc = recover(s, err);
    if (rc == 0)
        rc = keys_retain(s->keys, is_live, s, err);
    if (rc != 0)
        return rc;
    uint64_t freed;
    (void)store_unlink_swept(s, &freed);
    ballast_make(s);
    s->started = true;
    store_start_purge(s);
    return 0;
}

/* ---- stopping ---- */

void MAY_YIELD store_stop(struct store *s)
{
    bool done;
    s->stopping = true;
    while (s->jobs_n > 0 || s->purging) {
        store_kick(s);
        if (fiber_wait(&s->idle, clock_deadline(1000)) == -ECANCELED)
            return;
    }
    /* What is acknowledged of the outbox goes into the index. */
    for (int i = 0; i < 20; i++) {
        store_kick(s);
        (void)pthread_mutex_lock(&s->lock);
        done = s->outbox_ack == s->outbox_kept || s->apply_stopped;
        (void)pthread_mutex_unlock(&s->lock);
        if (done || fiber_sleep_until(clock_deadline(10)) != 0)
            break;
    }
    (void)index_sync(s->x);
}

static void end_threads(struct store *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->quit = true;
    pthread_cond_t *conds[] = {&s->prepare_more, &s->commit_more, &s->apply_more, &s->room};
    for (size_t i = 0; i < sizeof(conds) / sizeof(conds[0]); i++)
        (void)pthread_cond_broadcast(conds[i]);
    (void)pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < s->n_threads; i++)
        (void)pthread_join(s->threads[i], NULL);
    worker_pool_free(s->task);
    worker_pool_free(s->aux);
}

void store_free(struct store *s)
{
    if (s == NULL)
        return;
    end_threads(s);
    loop_post_cancel(&s->done_post);
    jobs_drop(s);
    map_done(&s->pending);
    map_done(&s->in_flight);
    keys_free(s->keys);
    index_close(s->x);
    seal_free(s->seal);
    free(s->segments);
    int fds[] = {s->seg.fd, s->seg_dir, s->dir};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
    pthread_cond_t *conds[] = {&s->prepare_more, &s->commit_more, &s->apply_more, &s->room};
    for (size_t i = 0; i < sizeof(conds) / sizeof(conds[0]); i++)
        (void)pthread_cond_destroy(conds[i]);
    (void)pthread_mutex_destroy(&s->lock);
    secret_wipe(s, sizeof(*s));
    free(s);
}

/* ---- status ---- */

static int sum_segment(void *arg, const uint8_t *key, size_t key_n, struct slice value)
{
    struct store_status *st = arg;
    struct index_segment g;
    (void)key;
    if (key_n != 8 || value.n < sizeof(g))
        return ERR_CORRUPT;
    memcpy(&g, value.p, sizeof(g));
    st->live_bytes += g.body_bytes > g.dead_bytes ? g.body_bytes - g.dead_bytes : 0;
    return 0;
}

void store_status(struct store *s, struct store_status *ret)
{
    struct ikey none = {0};
    struct stat file;
    struct apply a;
    MDB_txn *t;
    *ret = (struct store_status){
        .commits = __atomic_load_n(&s->commits, __ATOMIC_RELAXED),
        .groups = __atomic_load_n(&s->groups, __ATOMIC_RELAXED),
        .syncs = __atomic_load_n(&s->syncs, __ATOMIC_RELAXED) + __atomic_load_n(&s->x->syncs, __ATOMIC_RELAXED),
        .applied = __atomic_load_n(&s->applied, __ATOMIC_RELAXED),
        .readonly = store_is_readonly(s),
    };
    (void)pthread_mutex_lock(&s->lock);
    ret->segments = s->n_segments;
    for (size_t i = 0; i < s->n_segments; i++)
        ret->segment_bytes += s->segments[i].size;
    (void)pthread_mutex_unlock(&s->lock);
    if (fstatat(s->dir, "index.mdb", &file, 0) == 0)
        ret->index_bytes = (uint64_t)file.st_size;
    if (index_read_begin(s->x, &t) != 0)
        return;
    if (apply_begin(&a, s->x, t) == 0) {
        ret->accounts = a.mark.accounts;
        ret->messages = a.mark.messages;
        ret->sequence = a.mark.sequence;
    }
    (void)index_walk(s->x, t, INDEX_SEGMENTS, &none, &none, sum_segment, ret);
    index_read_end(s->x, t);
}
