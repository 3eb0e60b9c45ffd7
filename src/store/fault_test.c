/* Faults of the disk: each operation that changes it fails once, in turn, until the whole scenario passes without meeting the fault.
 * Every time: the sender got success or a temporary failure; opening again shows exactly what was acknowledged (what was refused
 * may be there or not, but whole), and the check of the whole store finds nothing. Also a full disk, and threads killed anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "store/body.h"
#include "store/disk.h"
#include "store/store_testing.h"

#define MESSAGES 14
#define BIG 150000 /* octets that do not compress: a few fill a segment */
#define A1 STORE_ACCOUNT(1)
#define A2 STORE_ACCOUNT(2)

/* ---- a disk whose Nth operation fails ---- */

static struct {
    long left;    /* operations until the fault; negative: none */
    int code;
    bool full;    /* every allocation and nothing else fails; free_bytes says 0 */
    bool met;
} fault = {.left = -1};

static bool fails(void)
{
    long left = __atomic_load_n(&fault.left, __ATOMIC_SEQ_CST);
    if (left < 0 || __atomic_sub_fetch(&fault.left, 1, __ATOMIC_SEQ_CST) != 0)
        return false;
    fault.met = true;
    return true;
}

static int f_open(int dir, const char *name, int flags, mode_t mode, int *ret_fd)
{
    return fails() ? fault.code : disk_real.open(dir, name, flags, mode, ret_fd);
}
static int f_mkdir(int dir, const char *name, mode_t mode)
{
    return fails() ? fault.code : disk_real.mkdir(dir, name, mode);
}
/* Half of it is written. */
static int f_write(int fd, struct iovec *iov, int n, uint64_t offset)
{
    if (!fails())
        return disk_real.write(fd, iov, n, offset);
    iov[0].iov_len /= 2;
    (void)disk_real.write(fd, iov, 1, offset);
    return fault.code;
}
static int f_datasync(int fd)
{
    return fails() ? fault.code : disk_real.datasync(fd);
}
static int f_sync(int fd)
{
    return fails() ? fault.code : disk_real.sync(fd);
}
static int f_allocate(int fd, uint64_t size)
{
    return fault.full ? -ENOSPC : fails() ? fault.code : disk_real.allocate(fd, size);
}
static int f_rename(int dir, const char *from, const char *to)
{
    return fails() ? fault.code : disk_real.rename(dir, from, to);
}
static int f_unlink(int dir, const char *name)
{
    return fails() ? fault.code : disk_real.unlink(dir, name);
}
static int f_free_bytes(int dir, uint64_t *ret)
{
    if (!fault.full)
        return disk_real.free_bytes(dir, ret);
    *ret = 0;
    return 0;
}
static const struct store_disk faulty = {f_open, f_mkdir, f_write, f_datasync, f_sync, f_allocate, f_rename, f_unlink, f_free_bytes};

/* ---- the scenario ---- */

enum outcome { NOT_TRIED, UNKNOWN, DONE };

static struct {
    char path[64];
    int dir;
    struct store *s;
    char *text;
    enum outcome created[3], delivered[MESSAGES], expunged[MESSAGES], deleted;
    uint32_t uid[MESSAGES + 1];
    char failure[256];
    bool opened;
} t;

#define CHECK(what)                                                                                    \
    do {                                                                                               \
        if (!(what) && t.failure[0] == '\0')                                                           \
            (void)snprintf(t.failure, sizeof(t.failure), "%s:%d: %s", __func__, __LINE__, #what);      \
    } while (0)

static void outcome_of(enum outcome *o, int rc)
{
    *o = rc == 0 ? DONE : UNKNOWN;
    /* Nothing that tells a sender to give up. */
    CHECK(rc == 0 || rc == -EIO || rc == -ENOSPC || rc == ERR_READONLY || rc == ERR_CLOSED || rc == -ENOENT || rc == ERR_GONE ||
          rc == -ENOMEM || rc == -EBUSY);
}

static size_t size_of(int i)
{
    return (i % 3 == 0 ? BIG : 100) + (size_t)i;
}

static int deliver(int i)
{
    struct store_rcpt r[2] = {{.account = A1, .flags = STORE_RECENT}, {.account = A2}};
    struct store_accept m = {.message = id_new(), .received_ms = 1, .body = slice_of(t.text, size_of(i)), .body_fd = -1, .rcpts = r,
                             .n_rcpts = i % 4 == 1 ? 2 : 1, .want_uids = true, .event = SLICE("event"), .sender = SLICE_EMPTY,
                             .common = SLICE_EMPTY, .meta = SLICE("m")};
    int rc = store_accept(t.s, &m, NULL);
    if (rc == 0)
        rc = r[0].status;
    t.uid[i] = r[0].uid;
    return rc;
}

static void change(void)
{
    uint64_t n, modseq, moved;
    for (int i = 0; i < 3; i++)
        outcome_of(&t.created[i], store_account_create(t.s, STORE_ACCOUNT((uint64_t)i + 1), 0, SLICE("e"), NULL));
    for (int i = 0; i < MESSAGES; i++) {
        outcome_of(&t.delivered[i], deliver(i));
        if (i < 4 || t.delivered[i - 4] != DONE || i % 2 != 0)
            continue;
        int rc = store_expunge(t.s, A1, STORE_INBOX, &t.uid[i - 4], 1, SLICE("e"), &n, &modseq, NULL);
        outcome_of(&t.expunged[i - 4], rc);
        CHECK(rc != 0 || n == 1);
    }
    if (t.created[2] == DONE)
        outcome_of(&t.deleted, store_account_delete(t.s, STORE_ACCOUNT(3), SLICE("e"), NULL));
    uint64_t acked, last;
    store_outbox_marks(t.s, &acked, &last);
    store_outbox_ack(t.s, last);
    (void)store_reclaim(t.s, 1, &n, &moved, NULL);
}

static void act(void *arg)
{
    struct store_options o = testing_options(t.dir);
    struct err err = {0};
    (void)arg;
    o.disk = &faulty;
    o.segment_size = STORE_SEGMENT_MIN;
    o.index_map = 64 << 20;
    t.opened = store_open(&o, &t.s, &err) == 0 && store_start(t.s, &err) == 0;
    if (t.opened)
        change();
}

/* ---- what is there afterwards ---- */

static int count_of(struct store_account a, size_t size, uint32_t *ret_uid)
{
    struct store_entry e[2 * MESSAGES];
    size_t n = 0;
    int found = 0;
    int rc = store_entries(t.s, a, STORE_INBOX, 0, e, 2 * MESSAGES, &n);
    CHECK(rc == 0 || rc == -ENOENT || rc == ERR_GONE);
    for (size_t i = 0; i < n; i++)
        if (e[i].size == size) {
            found++;
            *ret_uid = e[i].uid;
        }
    return found;
}

static void look(void *arg)
{
    struct store_options o = testing_options(t.dir);
    struct err err = {0};
    struct store_check check = {0};
    struct store_account_info info;
    (void)arg;
    o.segment_size = STORE_SEGMENT_MIN;
    o.index_map = 64 << 20;
    int rc = store_open(&o, &t.s, &err);
    if (rc == 0)
        rc = store_start(t.s, &err);
    if (rc != 0) {
        (void)snprintf(t.failure, sizeof(t.failure), "cannot open again: %.200s", err.text);
        return;
    }
    for (int i = 0; i < 2; i++)
        CHECK(t.created[i] != DONE || store_account_get(t.s, STORE_ACCOUNT((uint64_t)i + 1), &info) == 0);
    CHECK(t.deleted != DONE || store_account_get(t.s, STORE_ACCOUNT(3), &info) == ERR_GONE);
    for (int i = 0; i < MESSAGES; i++) {
        uint32_t uid = 0, uid2 = 0;
        int found = count_of(A1, size_of(i), &uid);
        CHECK(found <= 1);
        CHECK(t.delivered[i] != DONE || t.expunged[i] != NOT_TRIED || (found == 1 && uid == t.uid[i]));
        CHECK(t.expunged[i] != DONE || found == 0);
        CHECK(t.delivered[i] != NOT_TRIED || found == 0);
        int second = count_of(A2, size_of(i), &uid2);
        bool both = t.created[0] == DONE && t.created[1] == DONE && i % 4 == 1;
        CHECK(both ? second == found || t.expunged[i] != NOT_TRIED : i % 4 == 1 || second == 0);
    }
    CHECK(store_verify(t.s, true, NULL, NULL, &check, &err) == 0 && check.problems == 0);
    /* And it serves. */
    if (t.created[0] == DONE)
        CHECK(deliver(MESSAGES) == 0);
    store_stop(t.s);
}

static void run_once(fiber_fn *first)
{
    struct err err;
    memset(&t.created, 0, sizeof(t.created));
    memset(&t.delivered, 0, sizeof(t.delivered));
    memset(&t.expunged, 0, sizeof(t.expunged));
    t.deleted = NOT_TRIED;
    t.failure[0] = '\0';
    t.s = NULL;
    t.dir = testing_dir(t.path);
    assert_int_equal(loop_init(&err), 0);
    bool ended = testing_run(first, NULL);
    store_free(t.s);
    t.s = NULL;
    fault.left = -1;
    fault.full = false;
    ended = ended && testing_run(look, NULL);
    store_free(t.s);
    loop_done();
    close(t.dir);
    testing_remove(t.path);
    if (!ended)
        fail_msg("hung");
}

static void nth(int code)
{
    t.text = malloc(BIG + MESSAGES + 1);
    rand_bytes(t.text, BIG + MESSAGES + 1);
    long n = 1;
    for (fault.met = true; fault.met; n++) {
        fault.left = n;
        fault.code = code;
        fault.met = false;
        run_once(act);
        if (t.failure[0] != '\0')
            fail_msg("operation %ld failing with %s: %s", n, err_name(code), t.failure);
        assert_true(n < 2000);
    }
    print_message("%ld operations\n", n - 1);
    free(t.text);
}

static void test_eio(void **state)
{
    (void)state;
    nth(-EIO);
}

static void test_enospc(void **state)
{
    (void)state;
    nth(-ENOSPC);
}

/* ---- a full disk: mail is put off, expunge works, mail again when there is room ---- */

static void act_full(void *arg)
{
    struct store_options o = testing_options(t.dir);
    struct err err = {0};
    uint64_t n, modseq;
    (void)arg;
    o.disk = &faulty;
    o.segment_size = STORE_SEGMENT_MIN;
    o.reserve = 1 << 20;
    CHECK(store_open(&o, &t.s, &err) == 0 && store_start(t.s, &err) == 0);
    outcome_of(&t.created[0], store_account_create(t.s, A1, 0, SLICE("e"), NULL));
    outcome_of(&t.created[1], store_account_create(t.s, A2, 0, SLICE("e"), NULL));
    for (int i = 0; i < 5; i++)
        outcome_of(&t.delivered[i], deliver(i));
    fault.full = true;
    int rc = deliver(5);
    for (int tries = 0; rc == 0 && tries < 3; tries++)
        rc = deliver(6 + tries); /* the first may be taken before the commit thread has looked */
    CHECK(rc == -ENOSPC);
    for (int i = 5; i < 9; i++)
        t.delivered[i] = UNKNOWN;
    for (int i = 0; i < 3; i++) {
        outcome_of(&t.expunged[i], store_expunge(t.s, A1, STORE_INBOX, &t.uid[i], 1, SLICE("e"), &n, &modseq, &err));
        CHECK(t.expunged[i] == DONE && n == 1);
    }
    CHECK(!store_is_readonly(t.s));
    fault.full = false;
    outcome_of(&t.delivered[10], deliver(10));
    CHECK(t.delivered[10] == DONE);
}

static void test_full(void **state)
{
    (void)state;
    t.text = malloc(BIG + MESSAGES + 1);
    rand_bytes(t.text, BIG + MESSAGES + 1);
    run_once(act_full);
    free(t.text);
    if (t.failure[0] != '\0')
        fail_msg("%s", t.failure);
}

/* ---- killed ---- */

#define KILL_FIBERS 20
#define KILL_ROUNDS 12

static struct killed {
    uint64_t next, acked_n;
    uint32_t acked[200000]; /* message numbers */
} *shared;

static void send_forever(void *arg)
{
    (void)arg;
    for (;;) {
        uint64_t i = shared->next++;
        char body[64];
        int n = snprintf(body, sizeof(body), "message %llu", (unsigned long long)i);
        struct store_rcpt r = {.account = i % 2 == 0 ? A1 : A2};
        /* The number is in the date: listing is enough to find it again. */
        struct store_accept m = {.message = id_new(), .received_ms = (int64_t)i + 1, .body = slice_of(body, (size_t)n), .body_fd = -1,
                                 .rcpts = &r, .n_rcpts = 1, .event = SLICE("e"), .sender = SLICE_EMPTY, .common = SLICE_EMPTY, .meta = SLICE_EMPTY};
        if (store_accept(t.s, &m, NULL) != 0 || r.status != 0)
            _exit(1);
        if (shared->acked_n < sizeof(shared->acked) / sizeof(shared->acked[0])) {
            shared->acked[shared->acked_n] = (uint32_t)i;
            __atomic_add_fetch(&shared->acked_n, 1, __ATOMIC_SEQ_CST);
        }
    }
}

static void open_for_kill(void *arg)
{
    struct store_options o = testing_options(t.dir);
    struct err err = {0};
    (void)arg;
    o.segment_size = 2 << 20;
    CHECK(store_open(&o, &t.s, &err) == 0 && store_start(t.s, &err) == 0);
    CHECK(store_account_create(t.s, A1, 0, SLICE("e"), &err) == 0 && store_account_create(t.s, A2, 0, SLICE("e"), &err) == 0);
    if (t.failure[0] != '\0')
        print_error("%s %s\n", t.failure, err.text);
}

static void child_main(void)
{
    struct err err;
    if (loop_init(&err) != 0 || !testing_run(open_for_kill, NULL) || t.failure[0] != '\0')
        _exit(2);
    for (int i = 0; i < KILL_FIBERS; i++)
        (void)fiber_start("sender", send_forever, NULL, NULL);
    loop_run();
}

static void count_account(struct store_account a, uint8_t *seen, size_t n_seen)
{
    struct store_entry *e = malloc(STORE_ENTRIES_MAX * sizeof(*e));
    uint32_t after = 0;
    size_t n = 1;
    while (n > 0 && store_entries(t.s, a, STORE_INBOX, after, e, STORE_ENTRIES_MAX, &n) == 0)
        for (size_t i = 0; i < n; i++) {
            CHECK(e[i].uid == after + 1);
            after = e[i].uid;
            CHECK((uint64_t)e[i].internal_ms - 1 < n_seen);
            if ((uint64_t)e[i].internal_ms - 1 < n_seen)
                seen[e[i].internal_ms - 1]++;
        }
    free(e);
}

static void look_after_kill(void *arg)
{
    size_t n = shared->next + 1;
    uint8_t *seen = calloc(n, 1);
    struct store_check check;
    struct err err = {0};
    open_for_kill(arg);
    if (t.failure[0] == '\0') {
        count_account(A1, seen, n);
        count_account(A2, seen, n);
        for (size_t i = 0; i < n; i++)
            CHECK(seen[i] <= 1);
        for (uint64_t i = 0; i < shared->acked_n; i++)
            CHECK(seen[shared->acked[i]] == 1);
        CHECK(store_verify(t.s, true, NULL, NULL, &check, &err) == 0 && check.problems == 0);
        store_stop(t.s);
    }
    free(seen);
}

static void test_killed(void **state)
{
    struct err err;
    (void)state;
    t.failure[0] = '\0';
    t.dir = testing_dir(t.path);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int round = 0; round < KILL_ROUNDS && t.failure[0] == '\0'; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            child_main();
            _exit(3);
        }
        struct timespec ts = {0, (long)(50 + rand_u64() % 250) * 1000000};
        (void)nanosleep(&ts, NULL);
        int status = 0;
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        if (round % 3 != 2)
            continue;
        assert_int_equal(loop_init(&err), 0);
        bool ended = testing_run(look_after_kill, NULL);
        store_free(t.s);
        t.s = NULL;
        loop_done();
        assert_true(ended);
    }
    print_message("%llu messages acknowledged in %d lives\n", (unsigned long long)shared->acked_n, KILL_ROUNDS);
    (void)munmap(shared, sizeof(*shared));
    close(t.dir);
    testing_remove(t.path);
    if (t.failure[0] != '\0')
        fail_msg("%s", t.failure);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_eio),
        cmocka_unit_test(test_enospc),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
