/* Limits by client: counting, refill, /64, and a table that is flooded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "policy/limit.h"

static struct netaddr addr(const char *text)
{
    struct netaddr a;
    assert_true(netaddr_parse_ip(slice_str(text), &a));
    return a;
}

static struct netaddr nth(uint32_t n)
{
    struct netaddr a = addr("2001:db8::1");
    memcpy(a.ip + 4, &n, sizeof(n));
    return a;
}

static void connections_are_counted(void **state)
{
    (void)state;
    struct limit_table *t;
    struct netaddr a = addr("192.0.2.1"), b = addr("192.0.2.2"), c = addr("2001:db8::1"), same = addr("2001:db8::ffff:1"), other = addr("2001:db8:0:1::1");
    assert_int_equal(limit_table_new(64, &t), 0);
    assert_true(limit_enter(t, &a, 2));
    assert_true(limit_enter(t, &a, 2));
    assert_false(limit_enter(t, &a, 2));
    assert_true(limit_enter(t, &b, 2));
    limit_leave(t, &a);
    assert_int_equal(limit_connections(t, &a), 1);
    assert_true(limit_enter(t, &a, 2));
    assert_true(limit_enter(t, &c, 1));
    assert_false(limit_enter(t, &same, 1)); /* one /64 is one client */
    assert_true(limit_enter(t, &other, 1));
    limit_table_free(t);
    limit_table_free(NULL);
}

static void buckets_refill(void **state)
{
    (void)state;
    struct limit_table *t;
    struct netaddr a = addr("192.0.2.1");
    clock_fake_set(1000, 0);
    assert_int_equal(limit_table_new(64, &t), 0);
    for (int i = 0; i < 60; i++)
        assert_true(limit_take(t, &a, 0, 60));
    assert_false(limit_take(t, &a, 0, 60));
    assert_true(limit_take(t, &a, 1, 60)); /* another bucket */
    clock_fake_set(1999, 0);
    assert_false(limit_take(t, &a, 0, 60));
    clock_fake_set(2000, 0);
    assert_true(limit_take(t, &a, 0, 60));
    assert_false(limit_take(t, &a, 0, 60));
    clock_fake_set(2000 + 60000, 0);
    for (int i = 0; i < 60; i++)
        assert_true(limit_take(t, &a, 0, 60));
    assert_false(limit_take(t, &a, 0, 60));
    /* A reload that lowers the limit. */
    assert_false(limit_take(t, &a, 0, 30));
    limit_table_free(t);
    clock_fake_set(-1, 0);
}

/* Who is at his limit stays there, however many other addresses come. */
static void a_flood_resets_nobody(void **state)
{
    (void)state;
    struct limit_table *t;
    struct netaddr a = addr("192.0.2.1");
    clock_fake_set(1000, 0);
    assert_int_equal(limit_table_new(1024, &t), 0);
    while (limit_take(t, &a, 0, 10)) {}
    assert_true(limit_enter(t, &a, 1));
    for (uint32_t i = 0; i < 20000; i++) {
        struct netaddr x = nth(i);
        (void)limit_take(t, &x, 0, 10);
    }
    assert_false(limit_take(t, &a, 0, 10));
    assert_false(limit_enter(t, &a, 1));
    /* With time the flood is forgotten and strangers are served again. */
    clock_fake_set(1000 + 120000, 0);
    unsigned refused = 0;
    for (uint32_t i = 100000; i < 100500; i++) {
        struct netaddr x = nth(i);
        refused += !limit_take(t, &x, 0, 10);
    }
    assert_int_equal(refused, 0);
    assert_false(limit_enter(t, &a, 1)); /* still connected */
    limit_table_free(t);
    clock_fake_set(-1, 0);
}

/* Entries and leavings balance, also through shared entries. */
static void flooded_connections_balance(void **state)
{
    (void)state;
    struct limit_table *t;
    static bool in[4000];
    assert_int_equal(limit_table_new(64, &t), 0);
    for (int round = 0; round < 3; round++) {
        unsigned entered = 0;
        for (uint32_t i = 0; i < 4000; i++) {
            struct netaddr x = nth(i);
            in[i] = limit_enter(t, &x, 50);
            entered += in[i];
        }
        assert_true(entered > 64);
        for (uint32_t i = 0; i < 4000; i++) {
            struct netaddr x = nth(i);
            if (in[i])
                limit_leave(t, &x);
        }
        for (uint32_t i = 0; i < 4000; i++) {
            struct netaddr x = nth(i);
            assert_int_equal(limit_connections(t, &x), 0);
        }
    }
    limit_table_free(t);
}

static void what_is_held_is_counted_and_kept_in_mind(void **state)
{
    (void)state;
    struct limit_table *t;
    struct limit_entry *first = NULL, *second = NULL, *other = NULL, *none = NULL;
    struct netaddr a = addr("192.0.2.1"), b = addr("192.0.2.2");
    assert_int_equal(limit_table_new(8, &t), 0);
    assert_true(limit_hold(t, &a, 60, 100, &first));
    assert_false(limit_hold(t, &a, 41, 100, &second));
    assert_null(second);
    assert_true(limit_hold(t, &a, 40, 100, &second));
    assert_false(limit_hold(t, &b, 101, 100, &none));
    assert_true(limit_hold(t, &b, 100, 100, &other));
    for (uint32_t i = 0; i < 1000; i++) { /* strangers do not make it forget */
        struct netaddr x = nth(i);
        (void)limit_enter(t, &x, 1);
    }
    assert_false(limit_hold(t, &a, 1, 100, &none));
    limit_release(first, 60);
    assert_true(limit_hold(t, &a, 60, 100, &second));
    assert_false(limit_hold(t, &a, UINT64_MAX, 100, &second));
    limit_table_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(connections_are_counted), cmocka_unit_test(buckets_refill),
                                       cmocka_unit_test(a_flood_resets_nobody), cmocka_unit_test(flooded_connections_balance),
                                       cmocka_unit_test(what_is_held_is_counted_and_kept_in_mind)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
