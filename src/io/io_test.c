/* Loop, fibers, streams and workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/loop.h"
#include "io/stream.h"
#include "io/worker.h"

/* ---- fibers ---- */

static char trace[64];

static void note(char c)
{
    size_t n = strlen(trace);
    if (n + 1 < sizeof(trace))
        trace[n] = c;
}

static void yields(void *arg)
{
    for (int i = 0; i < 3; i++) {
        note(*(char *)arg);
        assert_int_equal(fiber_yield(), 0);
    }
}

static void fibers_take_turns(void **state)
{
    (void)state;
    char a = 'a', b = 'b';
    memset(trace, 0, sizeof(trace));
    assert_int_equal(fiber_start("a", yields, &a, NULL), 0);
    assert_int_equal(fiber_start("b", yields, &b, NULL), 0);
    assert_true(fiber_run_all(1000));
    assert_string_equal(trace, "ababab");
}

struct wait_result {
    struct fiber_queue queue;
    int64_t deadline;
    int first, second;
};

static void waits(void *arg)
{
    struct wait_result *w = arg;
    w->first = fiber_wait(&w->queue, w->deadline);
    w->second = fiber_sleep_until(clock_deadline(1));
}

static void a_wait_ends_by_wake_deadline_or_cancel(void **state)
{
    (void)state;
    struct wait_result woken = {.deadline = clock_deadline(5000)}, late = {.deadline = clock_deadline(20)},
                       cancelled = {.deadline = CLOCK_NEVER};
    struct fiber *f;
    assert_int_equal(fiber_start("woken", waits, &woken, NULL), 0);
    assert_int_equal(fiber_start("late", waits, &late, NULL), 0);
    assert_int_equal(fiber_start("cancelled", waits, &cancelled, &f), 0);
    loop_turn(0);
    assert_true(fiber_wake_one(&woken.queue));
    fiber_cancel(f);
    assert_true(fiber_run_all(2000));
    assert_int_equal(woken.first, 0);
    assert_int_equal(woken.second, 0);
    assert_int_equal(late.first, -ETIMEDOUT);
    assert_int_equal(cancelled.first, -ECANCELED);
    assert_int_equal(cancelled.second, -ECANCELED); /* and stays so at every later wait */
    assert_false(fiber_wake_one(&late.queue));
}

static void never_runs_twice(void *arg)
{
    ++*(int *)arg;
}

static void a_cancelled_fiber_still_starts(void **state)
{
    (void)state;
    int runs = 0;
    struct fiber *f;
    assert_int_equal(fiber_start("c", never_runs_twice, &runs, &f), 0);
    fiber_cancel(f);
    assert_true(fiber_run_all(1000));
    assert_int_equal(runs, 1);
}

static void sleeps_briefly(void *arg)
{
    volatile char deep[4096];
    memset((char *)(uintptr_t)deep, (int)(uintptr_t)arg, sizeof(deep));
    assert_int_equal(fiber_sleep_until(clock_deadline((int64_t)((uintptr_t)arg % 7))), 0);
    for (size_t i = 0; i < sizeof(deep); i++)
        if (deep[i] != (char)(uintptr_t)arg)
            abort();
}

static void ten_thousand_fibers_keep_their_stacks(void **state)
{
    (void)state;
    const uintptr_t count = sizeof(void *) == 8 && FIBER_STACK <= 65536 ? 10000 : 1000;
    for (uintptr_t i = 0; i < count; i++)
        assert_int_equal(fiber_start("sleep", sleeps_briefly, (void *)i, NULL), 0);
    assert_int_equal(fiber_count(), count);
    assert_true(fiber_run_all(20000));
}

static int recurse(int n)
{
    volatile char frame[1024];
    frame[0] = (char)n;
    return n <= 0 ? 0 : recurse(n - 1) + frame[0];
}

__attribute__((unused)) static void overflows(void *arg)
{
    *(int *)arg = recurse(1 << 20);
}

static void a_stack_overflow_hits_the_guard(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* the sanitizer reports it itself */
#else
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        int out = 0;
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)signal(SIGSEGV, SIG_DFL);
        if (fiber_start("overflow", overflows, &out, NULL) == 0)
            (void)fiber_run_all(1000);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
#endif
}

/* ---- loop ---- */

static int timer_order[4], timers_fired;

static void on_timer(struct timer *t)
{
    timer_order[timers_fired++] = (int)(intptr_t)t->arg;
}

static void timers_fire_in_order_and_can_be_moved(void **state)
{
    (void)state;
    struct timer t[4] = {{0}};
    int64_t now = clock_mono_ms();
    timers_fired = 0;
    for (intptr_t i = 0; i < 4; i++)
        timer_set(&t[i], now + 10 * (4 - i), on_timer, (void *)i);
    timer_cancel(&t[1]);
    timer_set(&t[0], now + 5, on_timer, (void *)0);
    while (clock_mono_ms() < now + 60)
        loop_turn(5);
    assert_int_equal(timers_fired, 3);
    assert_int_equal(timer_order[0], 0);
    assert_int_equal(timer_order[1], 3);
    assert_int_equal(timer_order[2], 2);
}

static struct watch pair_watch[2];
static int watch_calls;

static void deletes_the_other(struct watch *w, uint32_t events)
{
    (void)events;
    watch_calls++;
    watch_del(&pair_watch[w == &pair_watch[0] ? 1 : 0]);
}

static void a_watch_deleted_in_the_same_turn_is_not_called(void **state)
{
    (void)state;
    int a[2], b[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, b), 0);
    watch_calls = 0;
    assert_int_equal(watch_add(&pair_watch[0], a[0], deletes_the_other, NULL), 0);
    assert_int_equal(watch_add(&pair_watch[1], b[0], deletes_the_other, NULL), 0);
    loop_turn(100); /* both are writable */
    assert_int_equal(watch_calls, 1);
    watch_del(&pair_watch[0]);
    watch_del(&pair_watch[1]);
    for (int i = 0; i < 2; i++) {
        (void)close(a[i]);
        (void)close(b[i]);
    }
}

/* ---- workers ---- */

static void doubles(void *arg)
{
    usleep(1000);
    *(int *)arg *= 2;
}

static struct worker_pool *pool;

static void asks_worker(void *arg)
{
    int rc = worker_run(pool, doubles, arg);
    assert_int_equal(rc, 0);
}

static void workers_return_to_their_fiber(void **state)
{
    (void)state;
    int values[20];
    assert_int_equal(worker_pool_new("test", 3, 100, &pool), 0);
    for (int i = 0; i < 20; i++) {
        values[i] = i;
        assert_int_equal(fiber_start("w", asks_worker, &values[i], NULL), 0);
    }
    assert_true(fiber_run_all(5000));
    for (int i = 0; i < 20; i++)
        assert_int_equal(values[i], 2 * i);
    worker_pool_free(pool);
}

static int busy;

static void asks_full_pool(void *arg)
{
    busy += worker_run(pool, doubles, arg) == -EBUSY;
}

static void a_full_queue_says_so(void **state)
{
    (void)state;
    int values[10] = {0};
    busy = 0;
    assert_int_equal(worker_pool_new("test", 1, 2, &pool), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(fiber_start("w", asks_full_pool, &values[i], NULL), 0);
    assert_true(fiber_run_all(5000));
    assert_true(busy > 0 && busy < 10);
    worker_pool_free(pool);
}

/* ---- streams ---- */

static void lines_come_whole_in_any_chunks(void **state)
{
    (void)state;
    for (size_t chunk = 0; chunk < 5; chunk++) {
        struct stream_fake fake = {.input = SLICE("EHLO a\r\n\nlast"), .chunk = chunk, .fail_read_at = SIZE_MAX,
                                   .fail_write_at = SIZE_MAX};
        struct stream *s;
        struct slice line;
        assert_int_equal(stream_new_fake(&fake, &s), 0);
        assert_int_equal(stream_read_line(s, 100, &line), 0);
        assert_true(slice_eq(line, SLICE("EHLO a\r\n")));
        assert_int_equal(stream_read_line(s, 100, &line), 0);
        assert_true(slice_eq(line, SLICE("\n")));
        assert_int_equal(stream_read_line(s, 100, &line), ERR_CLOSED);
        assert_true(slice_eq(stream_buffered(s), SLICE("last")));
        stream_free(s);
        buf_done(&fake.output);
    }
}

static void a_long_line_is_refused_and_can_be_skipped(void **state)
{
    (void)state;
    for (size_t chunk = 0; chunk < 4; chunk++) {
        struct stream_fake fake = {.input = SLICE("0123456789\r\nnext\r\n"), .chunk = chunk, .fail_read_at = SIZE_MAX,
                                   .fail_write_at = SIZE_MAX};
        struct stream *s;
        struct slice line;
        assert_int_equal(stream_new_fake(&fake, &s), 0);
        assert_int_equal(stream_read_line(s, 11, &line), ERR_LIMIT);
        assert_int_equal(stream_skip_line(s, 100), 0);
        assert_int_equal(stream_read_line(s, 6, &line), 0);
        assert_true(slice_eq(line, SLICE("next\r\n")));
        stream_free(s);
        buf_done(&fake.output);
    }
}

static void failures_at_every_byte_are_reported(void **state)
{
    (void)state;
    for (size_t at = 0; at < 8; at++) {
        struct stream_fake fake = {.input = SLICE("abcdefg\n"), .fail_read_at = at, .fail_write_at = at, .fail_code = -EIO};
        struct stream *s;
        struct slice line;
        assert_int_equal(stream_new_fake(&fake, &s), 0);
        assert_int_equal(stream_read_line(s, 100, &line), -EIO);
        assert_int_equal(stream_write(s, "12345678", 8), 0);
        assert_int_equal(stream_flush(s), -EIO);
        assert_int_equal(stream_write(s, "x", 1), -EIO);
        assert_int_equal(fake.output.n, at);
        stream_free(s);
        buf_done(&fake.output);
    }
}

struct echo {
    int fd;
    size_t lines;
    int rc;
};

static void echoes(void *arg)
{
    struct echo *e = arg;
    struct stream *s;
    struct slice line;
    assert_int_equal(stream_new_fd(e->fd, &s), 0);
    stream_set_deadline(s, clock_deadline(5000));
    while ((e->rc = stream_read_line(s, 60000, &line)) == 0) {
        e->lines++;
        if (stream_write_slice(s, line) != 0)
            break;
    }
    stream_free(s);
}

static void floods(void *arg)
{
    struct stream *s;
    static char line[50000];
    struct slice back;
    memset(line, 'x', sizeof(line));
    line[sizeof(line) - 1] = '\n';
    assert_int_equal(stream_new_fd(*(int *)arg, &s), 0);
    stream_set_deadline(s, clock_deadline(5000));
    for (int i = 0; i < 40; i++) {
        assert_int_equal(stream_write(s, line, sizeof(line)), 0);
        assert_int_equal(stream_read_line(s, 60000, &back), 0);
        assert_int_equal(back.n, sizeof(line));
    }
    assert_int_equal(stream_shutdown(s), 0);
    assert_int_equal(stream_fill(s), ERR_CLOSED);
    stream_free(s);
}

static void streams_over_sockets_wait_and_half_close(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct echo e = {.fd = fds[0]};
    assert_int_equal(fiber_start("echo", echoes, &e, NULL), 0);
    assert_int_equal(fiber_start("flood", floods, &fds[1], NULL), 0);
    assert_true(fiber_run_all(5000));
    assert_int_equal(e.lines, 40);
    assert_int_equal(e.rc, ERR_CLOSED);
}

static void reads_until_deadline(void *arg)
{
    struct echo *e = arg;
    struct stream *s;
    struct slice line;
    assert_int_equal(stream_new_fd(e->fd, &s), 0);
    stream_set_deadline(s, clock_deadline(20));
    assert_int_equal(stream_write(s, "220 hello\r\n", 11), 0);
    e->rc = stream_read_line(s, 100, &line); /* flushes the greeting first */
    stream_free(s);
}

static void waiting_for_input_flushes_and_times_out(void **state)
{
    (void)state;
    int fds[2];
    char got[32];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct echo e = {.fd = fds[0]};
    assert_int_equal(fiber_start("r", reads_until_deadline, &e, NULL), 0);
    assert_true(fiber_run_all(2000));
    assert_int_equal(e.rc, -ETIMEDOUT);
    assert_int_equal(read(fds[1], got, sizeof(got)), 11);
    (void)close(fds[1]);
}

static void unread_bytes_come_first(void **state)
{
    (void)state;
    struct stream_fake fake = {.input = SLICE("CD\r\n"), .fail_read_at = SIZE_MAX, .fail_write_at = SIZE_MAX};
    static char much[STREAM_IN_MAX + 1];
    struct stream *s;
    struct slice line;
    assert_int_equal(stream_new_fake(&fake, &s), 0);
    assert_int_equal(stream_unread(s, SLICE("")), 0);
    assert_int_equal(stream_unread(s, SLICE("B")), 0);
    assert_int_equal(stream_unread(s, SLICE("one\r\nA")), 0);
    assert_int_equal(stream_unread(s, slice_of(much, sizeof(much))), ERR_LIMIT);
    assert_int_equal(stream_read_line(s, 100, &line), 0);
    assert_true(slice_eq(line, SLICE("one\r\n")));
    assert_int_equal(stream_read_line(s, 100, &line), 0);
    assert_true(slice_eq(line, SLICE("ABCD\r\n")));
    stream_free(s);
    buf_done(&fake.output);
}

static void large_pieces_keep_their_place(void **state)
{
    (void)state;
    struct stream_fake fake = {.input = SLICE(""), .fail_read_at = SIZE_MAX, .fail_write_at = 2 * STREAM_OUT_HIGH + 10, .fail_code = -EPIPE};
    static char much[2 * STREAM_OUT_HIGH];
    struct stream *s;
    memset(much, 'x', sizeof(much));
    assert_int_equal(stream_new_fake(&fake, &s), 0);
    assert_int_equal(stream_write(s, "before", 6), 0);
    assert_int_equal(stream_write(s, much, sizeof(much)), 0);
    assert_int_equal(stream_write(s, "after", 5), 0);
    assert_int_equal(stream_flush(s), -EPIPE);
    assert_int_equal(stream_write(s, much, sizeof(much)), -EPIPE);
    assert_int_equal(fake.output.n, sizeof(much) + 10);
    assert_memory_equal(fake.output.p, "beforexx", 8);
    assert_memory_equal(fake.output.p + sizeof(much) + 4, "xxafte", 6);
    stream_free(s);
    buf_done(&fake.output);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fibers_take_turns), cmocka_unit_test(a_wait_ends_by_wake_deadline_or_cancel),
        cmocka_unit_test(a_cancelled_fiber_still_starts), cmocka_unit_test(ten_thousand_fibers_keep_their_stacks),
        cmocka_unit_test(a_stack_overflow_hits_the_guard), cmocka_unit_test(timers_fire_in_order_and_can_be_moved),
        cmocka_unit_test(a_watch_deleted_in_the_same_turn_is_not_called), cmocka_unit_test(workers_return_to_their_fiber),
        cmocka_unit_test(a_full_queue_says_so), cmocka_unit_test(lines_come_whole_in_any_chunks),
        cmocka_unit_test(a_long_line_is_refused_and_can_be_skipped), cmocka_unit_test(failures_at_every_byte_are_reported),
        cmocka_unit_test(streams_over_sockets_wait_and_half_close), cmocka_unit_test(waiting_for_input_flushes_and_times_out),
        cmocka_unit_test(unread_bytes_come_first), cmocka_unit_test(large_pieces_keep_their_place),
    };
    if (loop_init(NULL) != 0)
        return 1;
    return cmocka_run_group_tests_name("io", tests, NULL, NULL);
}
