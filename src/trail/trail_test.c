/* The trail's files: what recovery makes of crashes; the writer: group commit, exactly once, failures; the reader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/loop.h"
#include "trail/event.h"
#include "trail/reader.h"
#include "trail/writer.h"

struct fixture {
    char path[64];
    int dir;
    struct trail_writer *w;
};

static unsigned alerts;

static void on_alert(const char *name, const char *text)
{
    (void)name;
    (void)text;
    alerts++;
}

static void open_writer_sized(struct fixture *f, uint64_t file_size)
{
    struct err err = {0};
    struct trail_options o = {.file_size = file_size, .alert = on_alert};
    if (trail_writer_open(f->dir, &o, &f->w, &err) != 0 || trail_writer_start(f->w, &err) != 0)
        fail_msg("%s", err.text);
}

static void open_writer(struct fixture *f)
{
    open_writer_sized(f, 1 << 20);
}

static void close_writer(struct fixture *f)
{
    trail_writer_free(f->w);
    f->w = NULL;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err;
    (void)snprintf(f->path, sizeof(f->path), "/tmp/kk-trail-test-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    f->dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(loop_init(&err), 0);
    alerts = 0;
    open_writer(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    DIR *d = opendir(f->path);
    struct dirent *e;
    close_writer(f);
    loop_done();
    while ((e = readdir(d)) != NULL)
        (void)unlinkat(f->dir, e->d_name, 0);
    (void)closedir(d);
    (void)close(f->dir);
    (void)rmdir(f->path);
    free(f);
    return 0;
}

/* ---- what tests do in a fiber ---- */

struct act {
    struct fixture *f;
    unsigned n;            /* events */
    const char *source;    /* NULL: direct */
    uint64_t epoch, first; /* sequence of the first */
    const char *user;
    int add, sync; /* codes */
};

static void act_fiber(void *arg)
{
    struct act *a = arg;
    for (unsigned i = 0; i < a->n && a->add == 0; i++) {
        struct ev_login_failed e = {.service = SLICE("pop3"), .user = slice_str(a->user != NULL ? a->user : "taro@example.test")};
        struct event_head h = {.number = EV_login_failed, .role = ROLE_LOGIN, .time_ms = clock_real_ms()};
        struct trail_origin o = {.epoch = a->epoch, .sequence = a->first + i};
        struct buf b;
        buf_init(&b, IPC_EVENT_MAX);
        assert_int_equal(event_encode(&h, &e, &b), 0);
        if (a->source != NULL)
            (void)snprintf(o.source, sizeof(o.source), "%s", a->source);
        a->add = trail_writer_add(a->f->w, buf_slice(&b), a->source != NULL ? &o : NULL);
        buf_done(&b);
    }
    a->sync = trail_writer_sync(a->f->w, clock_deadline(5000));
}

/* Adds and waits until it is durable; the code of either. */
static int add(struct fixture *f, unsigned n, const char *source, uint64_t epoch, uint64_t first)
{
    struct act a = {.f = f, .n = n, .source = source, .epoch = epoch, .first = first};
    assert_int_equal(fiber_start("act", act_fiber, &a, NULL), 0);
    for (int i = 0; i < 1000 && fiber_count() > 0; i++) {
        loop_turn(5);
        if (a.add != 0)
            break;
        if (alerts > 0 && a.sync != 0)
            break; /* the committer sleeps until it tries again */
    }
    return a.add != 0 ? a.add : a.sync;
}

/* All lines that meet the query, one after another. */
static void read_lines(struct fixture *f, const char *query, struct buf *out)
{
    struct trail_query *q;
    struct trail_page p = {.dir = f->dir, .max_bytes = 300, .lines = out};
    struct err err;
    assert_int_equal(trail_query_parse(slice_str(query), clock_real_ms(), &q, &err), 0);
    p.query = q;
    buf_init(out, 16 << 20);
    while (trail_writer_end(f->w, &p.end, &p.end_size) && !p.at_end) {
        struct buf page;
        buf_init(&page, 1 << 20);
        p.lines = &page;
        assert_int_equal(trail_read_page(&p, &err), 0);
        assert_true(page.n <= 300 || memchr(page.p, '\n', page.n) == page.p + page.n - 1);
        buf_put_slice(out, buf_slice(&page));
        buf_done(&page);
    }
    trail_query_free(q);
}

/* The lines' numbers must follow each other from 1, whatever the files. Returns how many lines meet the query. */
static unsigned count(struct fixture *f, const char *query)
{
    struct buf all;
    uint64_t want = 1;
    unsigned n = 0;
    read_lines(f, "", &all);
    for (struct slice rest = buf_slice(&all); rest.n > 0;) {
        struct trail_line l;
        assert_true(trail_line_parse(slice_cut(&rest, '\n'), &l));
        assert_int_equal(l.seq, want++);
    }
    buf_done(&all);
    read_lines(f, query, &all);
    for (struct slice rest = buf_slice(&all); rest.n > 0; n++)
        (void)slice_cut(&rest, '\n');
    buf_done(&all);
    return n;
}

static int file_flags(struct fixture *f, uint64_t number, int flags)
{
    DIR *d = opendir(f->path);
    struct dirent *e;
    int fd = -1;
    while (fd < 0 && (e = readdir(d)) != NULL) {
        struct trail_file t;
        if (trail_file_parse(slice_str(e->d_name), &t) && t.number == number)
            fd = openat(f->dir, e->d_name, flags | O_CLOEXEC);
    }
    (void)closedir(d);
    return fd;
}

/* ---- tests ---- */

/* [R4.2(1)] [T2.2.1.4(1)(a)] events are durable lines in one sequence, also over a restart. */
static void test_write_and_read(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(add(f, 3, NULL, 0, 0), 0);
    assert_int_equal(count(f, "event=login.failed"), 3);
    close_writer(f);
    open_writer(f);
    assert_int_equal(add(f, 2, NULL, 0, 0), 0);
    assert_int_equal(count(f, "event=login.failed"), 5);
    assert_int_equal(count(f, "event=trail.begun"), 1);
    assert_int_equal(count(f, "user=taro@example.test since=-1h"), 5);
    assert_int_equal(count(f, "user=jiro@example.test"), 0);
}

static void test_exactly_once(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(add(f, 5, "stored", UINT64_MAX - 1, 1), 0);
    assert_int_equal(add(f, 5, "authd", 7, 1), 0);
    assert_int_equal(add(f, 5, "stored", UINT64_MAX - 1, 3), 0); /* two of them new */
    assert_int_equal(count(f, "event=login.failed"), 12);
    assert_int_equal(trail_writer_confirmed(f->w, "stored", UINT64_MAX - 1), 7);
    assert_int_equal(trail_writer_confirmed(f->w, "stored", 1), 0);
    close_writer(f);
    open_writer(f);
    assert_int_equal(trail_writer_confirmed(f->w, "stored", UINT64_MAX - 1), 7);
    assert_int_equal(add(f, 7, "stored", UINT64_MAX - 1, 1), 0);
    assert_int_equal(count(f, "event=login.failed"), 12);
    assert_int_equal(add(f, 2, "stored", 99, 1), 0); /* another outbox begins anew */
    assert_int_equal(count(f, "event=login.failed"), 14);
}

/* Files end by size; the next one repeats what recovery must know. */
static void test_files(void **state)
{
    struct fixture *f = *state;
    close_writer(f);
    open_writer_sized(f, 1000);
    assert_int_equal(add(f, 3, "authd", 7, 1), 0);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(add(f, 4, "stored", 5, 1 + 4 * i), 0);
    assert_true(count(f, "event=trail.begun") >= 8);
    assert_int_equal(count(f, "event=login.failed"), 83);
    close_writer(f);
    open_writer_sized(f, 1000);
    assert_int_equal(trail_writer_confirmed(f->w, "authd", 7), 3);
    assert_int_equal(trail_writer_confirmed(f->w, "stored", 5), 80);
    assert_int_equal(add(f, 3, "authd", 7, 1), 0);
    assert_int_equal(count(f, "event=login.failed"), 83);
}

/* [R4.2(2)a] a new calendar month begins a new file. */
static void test_month(void **state)
{
    struct fixture *f = *state;
    struct trail_file file;
    uint64_t size;
    int64_t nov, dec;
    assert_true(trail_time_parse(SLICE("2026-11-30T23:59:59Z"), &nov));
    assert_true(trail_time_parse(SLICE("2026-12-01T00:00:01Z"), &dec));
    for (int i = 0; i < 2; i++) {
        struct act a = {.f = f, .n = 1};
        clock_fake_set(1000, i == 0 ? nov : dec);
        assert_int_equal(fiber_start("act", act_fiber, &a, NULL), 0);
        for (int k = 0; k < 1000 && fiber_count() > 0; k++)
            loop_turn(5);
        assert_int_equal(a.sync, 0);
        assert_true(trail_writer_end(f->w, &file, &size));
        assert_int_equal(file.day, i == 0 ? 20261130 : 20261201);
    }
    assert_int_equal(file.number, 2);
    /* [T2.2.1.4(1)] a clock that goes back is told, once. */
    clock_fake_set(1000, nov);
    assert_int_equal(add(f, 1, NULL, 0, 0), 0);
    assert_int_equal(add(f, 1, NULL, 0, 0), 0);
    clock_fake_set(-1, -1);
    assert_int_equal(count(f, "event=clock.stepped"), 1);
}

/* Whatever a crash leaves of the last batch: at each length of the file, what is whole stays and the rest is written again. */
static void test_torn(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    assert_int_equal(add(f, 4, "stored", 5, 1), 0);
    close_writer(f);
    int fd = file_flags(f, 1, O_RDWR);
    assert_int_equal(fstat(fd, &st), 0);
    for (off_t cut = st.st_size - 1; cut >= 0; cut -= 7) {
        assert_int_equal(ftruncate(fd, cut), 0);
        open_writer(f);
        assert_int_equal(add(f, 4, "stored", 5, 1), 0);
        assert_int_equal(count(f, "event=login.failed"), 4);
        close_writer(f);
        if (cut % 3 == 0) /* pages may have come to the disk in any order: zeros where a line was */
            assert_int_equal(pwrite(fd, "\0\0\0\0\0\0\0\0", 8, cut / 2), 8);
        (void)close(fd);
        fd = file_flags(f, 1, O_RDWR);
        if (fd < 0) /* nothing of it was whole: the file is gone, the next one has its number */
            break;
    }
    if (fd >= 0)
        (void)close(fd);
}

/* Damage far from the end is no torn batch: nothing is cut, a new file goes on with the next number. */
static void test_damage(void **state)
{
    struct fixture *f = *state;
    struct stat before, after;
    close_writer(f);
    open_writer_sized(f, 1ULL << 30);
    for (unsigned i = 0; i < 15; i++)
        assert_int_equal(add(f, 5000, "stored", 5, 1 + 5000 * i), 0);
    close_writer(f);
    int fd = file_flags(f, 1, O_RDWR);
    assert_int_equal(fstat(fd, &before), 0);
    assert_true(before.st_size > TRAIL_BATCH_MAX + 2 * TRAIL_LINE_MAX);
    assert_int_equal(pwrite(fd, "X", 1, 100000), 1);
    open_writer_sized(f, 1ULL << 30);
    assert_int_equal(alerts, 1);
    alerts = 0;
    assert_int_equal(trail_writer_confirmed(f->w, "stored", 5), 75000);
    assert_int_equal(add(f, 1, "stored", 5, 75001), 0);
    assert_int_equal(fstat(fd, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    struct trail_file file;
    uint64_t size;
    assert_true(trail_writer_end(f->w, &file, &size));
    assert_int_equal(file.number, 2);
    (void)close(fd);
}

static void limit_files(rlim_t bytes)
{
    struct rlimit r;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &r), 0);
    r.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

/* A write that fails: whoever waits is told, nothing is accepted, then a new file goes on with the same number. */
static void test_write_fails(void **state)
{
    struct fixture *f = *state;
    struct trail_file file;
    uint64_t size;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(add(f, 3, "stored", 5, 1), 0);
    assert_true(trail_writer_end(f->w, &file, &size));
    limit_files(size + 50); /* the next batch is written in part */
    assert_int_equal(add(f, 3, "stored", 5, 4), ERR_READONLY);
    assert_int_equal(alerts, 1);
    assert_int_equal(add(f, 3, "stored", 5, 4), ERR_READONLY);
    assert_int_equal(trail_writer_confirmed(f->w, "stored", 5), 3);
    limit_files(RLIM_INFINITY);
    for (int i = 0; i < 600 && fiber_count() > 0; i++)
        loop_turn(10); /* recovers after a second */
    assert_int_equal(fiber_count(), 0);
    alerts = 0;
    assert_int_equal(add(f, 3, "stored", 5, 4), 0);
    assert_int_equal(count(f, "event=login.failed"), 6);
    assert_true(trail_writer_end(f->w, &file, &size));
    assert_int_equal(file.number, 2);
    close_writer(f);
    open_writer(f);
    assert_int_equal(count(f, "event=login.failed"), 6);
}

static void test_follow_cursor(void **state)
{
    struct fixture *f = *state;
    struct buf out;
    struct err err;
    assert_int_equal(add(f, 3, NULL, 0, 0), 0);
    struct trail_page p = {.dir = f->dir, .max_bytes = 10000, .cursor = TRAIL_CURSOR_END, .lines = &out};
    buf_init(&out, 1 << 20);
    assert_true(trail_writer_end(f->w, &p.end, &p.end_size));
    assert_int_equal(trail_read_page(&p, &err), 0);
    assert_true(p.at_end && out.n == 0);
    assert_int_equal(add(f, 1, NULL, 0, 0), 0);
    assert_true(trail_writer_end(f->w, &p.end, &p.end_size));
    assert_int_equal(trail_read_page(&p, &err), 0);
    assert_true(out.n > 0 && memchr(out.p, '\n', out.n) == out.p + out.n - 1);
    buf_done(&out);
}

static void test_not_events(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(trail_writer_add(f->w, SLICE("nonsense"), NULL), ERR_SYNTAX);
    assert_int_equal(add(f, 1, NULL, 0, 0), 0);
    /* [T2.2.1.4(1)] what is lost is told, with the number. */
    assert_int_equal(count(f, "event=events.lost count=1"), 1);
}

/* A value cannot imitate the origin, whatever it holds. */
static void test_origin_forged(void **state)
{
    struct fixture *f = *state;
    struct act a = {.f = f, .n = 1, .user = "x\",\"source\":\"stored\",\"source_epoch\":\"0000000000000005\",\"source_seq\":999}"};
    assert_int_equal(fiber_start("act", act_fiber, &a, NULL), 0);
    for (int i = 0; i < 1000 && fiber_count() > 0; i++)
        loop_turn(5);
    close_writer(f);
    open_writer(f);
    assert_int_equal(trail_writer_confirmed(f->w, "stored", 5), 0);
    assert_int_equal(count(f, "user~source_epoch"), 1);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_write_and_read), T(test_exactly_once), T(test_files),         T(test_month),      T(test_torn),
        T(test_damage),         T(test_write_fails),  T(test_follow_cursor), T(test_not_events), T(test_origin_forged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
