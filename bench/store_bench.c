/* store_bench: how many messages a second the store accepts, durably, and what opening a large mailbox costs.
 *
 *   store-bench DIR [messages [fibers [size [accounts]]]]
 *
 * DIR is made, used and left (remove it). Bodies are text of words, so that compression has the work that mail gives it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "store/store_testing.h"

static struct {
    struct store *s;
    uint64_t messages, done, fibers, live, size, accounts;
    char *body;
    int failed;
} b;

static void fill_body(void)
{
    static const char *const words[] = {"the ", "registered ", "mail ", "of ", "kakitome ", "is ", "durable ", "before ", "250 ", "\r\n", "=E3=81=82", "and "};
    b.body = malloc(b.size + 32);
    uint64_t x = 88172645463325252u;
    for (size_t n = 0; n < b.size;) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        if (x % 5 == 0)
            n += (size_t)snprintf(b.body + n, 20, "%06llx", (unsigned long long)(x & 0xffffff));
        else
            n += (size_t)snprintf(b.body + n, 20, "%s", words[x % 12]);
    }
}

static void sender(void *arg)
{
    (void)arg;
    while (b.done < b.messages && b.failed == 0) {
        uint64_t n = b.done++;
        struct store_rcpt r = {.account = STORE_ACCOUNT(1 + n % b.accounts), .prefix = SLICE("Return-Path: <a@b>\r\n"), .flags = STORE_RECENT};
        struct store_accept a = {
            .message = id_new(),
            .received_ms = clock_real_ms(),
            .sender = SLICE("a@example.org"),
            .common = SLICE("Received: from x by y; Sun, 22 Nov 2026 02:44:36 +0000\r\n"),
            .meta = slice_of(b.body, 400 < b.size ? 400 : b.size),
            .event = SLICE("an event of some length that is kept in the same commit as the message and goes to the trail"),
            .body = slice_of(b.body, b.size),
            .body_fd = -1,
            .rcpts = &r,
            .n_rcpts = 1,
        };
        struct err err = {0};
        int rc = store_accept(b.s, &a, &err);
        if (rc != 0 || r.status != 0) {
            printf("failed: %d %d %s\n", rc, r.status, err.text);
            b.failed = 1;
        }
    }
    if (--b.live == 0)
        loop_stop();
}

static void start(void *arg)
{
    struct err err = {0};
    (void)arg;
    int rc = store_start(b.s, &err);
    for (uint64_t i = 1; rc == 0 && i <= b.accounts; i++)
        rc = store_account_create(b.s, STORE_ACCOUNT(i), 0, SLICE_EMPTY, &err);
    if (rc != 0)
        printf("start: %s\n", err.text);
    b.failed = rc;
}

static void read_all(void *arg)
{
    int fd = -1;
    uint64_t n;
    (void)arg;
    int64_t t = clock_mono_ms();
    int rc = store_entries_memfd(b.s, STORE_ACCOUNT(1), STORE_INBOX, 0, 0, &fd, &n);
    printf("listing account 1: %d, %llu entries in %lld ms\n", rc, (unsigned long long)n, (long long)(clock_mono_ms() - t));
    store_stop(b.s);
}

static double cpu_seconds(void)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static uint64_t number(char **argv, int argc, int i, uint64_t otherwise)
{
    uint64_t v;
    return i < argc && slice_to_u64(slice_str(argv[i]), &v) ? v : otherwise;
}

int main(int argc, char **argv)
{
    struct err err = {0};
    if (argc < 2 || (mkdir(argv[1], 0700) != 0 && errno != EEXIST) || loop_init(&err) != 0)
        return 64;
    int dir = open(argv[1], O_RDONLY | O_DIRECTORY);
    struct store_options o = testing_options(dir);
    o.segment_size = 256 << 20;
    o.index_map = 64ull << 30;
    b.messages = number(argv, argc, 2, 50000);
    b.fibers = number(argv, argc, 3, 100);
    b.size = number(argv, argc, 4, 4096);
    b.accounts = number(argv, argc, 5, 10);
    fill_body();
    int64_t t = clock_mono_ms();
    if (store_open(&o, &b.s, &err) != 0) {
        printf("open: %s\n", err.text);
        return 1;
    }
    if (!testing_run(start, NULL) || b.failed != 0)
        return 1;
    printf("open and start: %lld ms\n", (long long)(clock_mono_ms() - t));
    struct store_status before, after;
    store_status(b.s, &before);
    double cpu = cpu_seconds();
    t = clock_mono_ms();
    b.live = b.fibers;
    for (uint64_t i = 0; i < b.fibers; i++)
        (void)fiber_start("sender", sender, NULL, NULL);
    loop_run();
    double s = (double)(clock_mono_ms() - t) / 1000;
    cpu = cpu_seconds() - cpu;
    store_status(b.s, &after);
    double n = (double)b.messages;
    printf("%llu messages of %llu octets, %llu at a time: %.0f/s, %.1f us CPU a message, %.4f syncs a message, groups of %.1f\n",
           (unsigned long long)b.messages, (unsigned long long)b.size, (unsigned long long)b.fibers, n / s, cpu * 1e6 / n,
           (double)(after.syncs - before.syncs) / n, n / (double)(after.groups - before.groups + 1));
    (void)testing_run(read_all, NULL);
    store_status(b.s, &after);
    printf("segments %llu (%llu bytes), index %llu bytes\n", (unsigned long long)after.segments, (unsigned long long)after.segment_bytes,
           (unsigned long long)after.index_bytes);
    store_free(b.s);
    loop_done();
    free(b.body);
    return b.failed;
}
