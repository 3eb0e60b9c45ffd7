/* Out of memory: each allocation on the way of a message into the store fails once, in turn, whichever thread makes it, until a message
 * gets through without meeting the fault. The sender got success or a temporary failure each time, the store goes on serving, and in
 * the end exactly the acknowledged messages are there. Not under AddressSanitizer, whose allocator must not be replaced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store_testing.h"

#if defined(__SANITIZE_ADDRESS__)
#define REPLACED 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define REPLACED 0
#endif
#endif
#ifndef REPLACED
#define REPLACED 1
#endif

static long left = -1; /* allocations until the fault; negative: none */
static bool met;

#if REPLACED
#define PUBLIC __attribute__((visibility("default")))

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);

static bool fails(void)
{
    if (__atomic_load_n(&left, __ATOMIC_SEQ_CST) < 0 || __atomic_sub_fetch(&left, 1, __ATOMIC_SEQ_CST) != 0)
        return false;
    __atomic_store_n(&met, true, __ATOMIC_SEQ_CST);
    return true;
}

PUBLIC void *k_malloc(size_t n) __asm__("malloc");
PUBLIC void *k_malloc(size_t n)
{
    return fails() ? NULL : __libc_malloc(n);
}
PUBLIC void *k_calloc(size_t n, size_t size) __asm__("calloc");
PUBLIC void *k_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __libc_calloc(n, size);
}
PUBLIC void *k_realloc(void *p, size_t n) __asm__("realloc");
PUBLIC void *k_realloc(void *p, size_t n)
{
    return fails() ? NULL : __libc_realloc(p, n);
}
#endif

static struct {
    struct store *s;
    int dir;
    char *text;
    uint64_t acknowledged, attempts;
    char failure[200];
} t;

#define CHECK(what)                                                                                    \
    do {                                                                                               \
        if (!(what) && t.failure[0] == '\0')                                                           \
            (void)snprintf(t.failure, sizeof(t.failure), "%s:%d: %s", __func__, __LINE__, #what);      \
    } while (0)
#define A1 STORE_ACCOUNT(1)

static void open_store(void *arg)
{
    struct store_options o = testing_options(t.dir);
    struct err err = {0};
    (void)arg;
    o.segment_size = STORE_SEGMENT_MIN;
    CHECK(store_open(&o, &t.s, &err) == 0 && store_start(t.s, &err) == 0);
    CHECK(store_account_create(t.s, A1, 0, SLICE_EMPTY, NULL) == 0);
}

static int deliver(size_t size)
{
    struct store_rcpt r = {.account = A1, .prefix = SLICE("P: x\r\n")};
    struct store_accept m = {.message = id_new(), .received_ms = 1, .body = slice_of(t.text, size), .body_fd = -1, .rcpts = &r, .n_rcpts = 1,
                             .event = SLICE("e"), .sender = SLICE("s"), .common = SLICE("C: y\r\n"), .meta = SLICE("m"), .want_uids = true};
    int rc = store_accept(t.s, &m, NULL);
    return rc == 0 ? r.status : rc;
}

static void one(void *arg)
{
    size_t size = *(size_t *)arg;
    t.attempts++;
    int rc = deliver(size);
    __atomic_store_n(&left, -1, __ATOMIC_SEQ_CST);
    t.acknowledged += rc == 0;
    if (rc != 0 && rc != -ENOMEM)
        print_message("%s\n", err_name(rc));
    CHECK(rc == 0 || rc == -ENOMEM || rc == -EBUSY || rc == -EAGAIN);
    CHECK(!store_is_readonly(t.s));
}

static void look(void *arg)
{
    struct store_mailbox m;
    struct store_check check;
    struct err err = {0};
    (void)arg;
    CHECK(deliver(10) == 0);
    CHECK(store_mailbox_get(t.s, A1, STORE_INBOX, &m) == 0);
    CHECK(m.messages >= t.acknowledged + 1 && m.messages <= t.attempts + 1);
    CHECK(store_verify(t.s, true, NULL, NULL, &check, &err) == 0 && check.problems == 0);
    store_stop(t.s);
}

static void test_alloc(void **state)
{
    static size_t sizes[] = {500, 600000};
    char path[64];
    struct err err;
    (void)state;
    if (!REPLACED)
        skip();
    t.dir = testing_dir(path);
    t.text = malloc(600000);
    rand_bytes(t.text, 600000);
    assert_int_equal(loop_init(&err), 0);
    assert_true(testing_run(open_store, NULL));
    for (size_t i = 0; i < 2; i++) {
        long n = 1;
        for (met = true; met && t.failure[0] == '\0' && n < 3000; n++) {
            assert_int_equal(fiber_start("one", one, &sizes[i], NULL), 0);
            met = false;
            left = n;
            assert_true(fiber_run_all(20000));
        }
        print_message("%ld allocations for %zu octets\n", n - 1, sizes[i]);
    }
    assert_true(testing_run(look, NULL));
    store_free(t.s);
    loop_done();
    close(t.dir);
    testing_remove(path);
    free(t.text);
    if (t.failure[0] != '\0')
        fail_msg("%s", t.failure);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_alloc)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
