/* Passwords, the cache of proved ones, and the throttle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "account/auth_cache.h"
#include "account/password.h"
#include "account/throttle.h"
#include "base/clock.h"
#include "io/loop.h"

static const struct password_params quick = {.memory_kib = 64, .passes = 1};

static struct password prepared(const char *text)
{
    struct password p;
    assert_int_equal(password_prepare(slice_str(text), &p), 0);
    return p;
}

static void test_password(void **state)
{
    char encoded[PASSWORD_ENCODED_SIZE], again[PASSWORD_ENCODED_SIZE];
    (void)state;
    struct password right = prepared("correct horse"), wrong = prepared("correct hors");
    assert_int_equal(password_hash(&right, &quick, encoded), 0);
    assert_int_equal(password_hash(&right, &quick, again), 0);
    assert_string_not_equal(encoded, again); /* salted */
    assert_int_equal(password_verify(&right, encoded), 0);
    assert_int_equal(password_verify(&wrong, encoded), ERR_DENIED);
    assert_int_equal(password_verify(&right, "nonsense"), ERR_CORRUPT);
    assert_false(password_outdated(encoded, &quick));
    assert_true(password_outdated(encoded, &(struct password_params){.memory_kib = 64, .passes = 2}));
    assert_true(password_outdated("$argon2i$v=19$m=64,t=1,p=1$", &quick));
}

static void test_prepare(void **state)
{
    struct password p;
    char big[PASSWORD_MAX + 1];
    (void)state;
    p = prepared("u\xcc\x88\xe3\x80\x80" "a"); /* decomposed letter, ideographic space */
    assert_true(slice_eq(slice_of(p.text, p.n), SLICE("\xc3\xbc a")));
    p = prepared("caf\xe9"); /* Latin-1 stays */
    assert_int_equal(p.n, 4);
    assert_int_equal(password_prepare(SLICE_EMPTY, &p), ERR_SYNTAX);
    assert_int_equal(password_prepare(SLICE("a\0b"), &p), ERR_SYNTAX);
    memset(big, 'a', sizeof(big));
    assert_int_equal(password_prepare(slice_of(big, sizeof(big)), &p), ERR_LIMIT);
    assert_int_equal(password_prepare(slice_of(big, PASSWORD_MAX), &p), 0);
}

static void test_check(void **state)
{
    static const struct {
        const char *password;
        int rc;
    } rows[] = {
        {"12345678", 0},          {"1234567", ERR_SYNTAX},      {"\xe3\x81\x82\xe3\x81\x84\xe3\x81\x86", ERR_SYNTAX},
        {"Hanako.Y", ERR_SYNTAX}, {"hanako.y@EXAMPLE.test", ERR_SYNTAX}, {"hanako.y1", 0},
    };
    struct err err;
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct password p = prepared(rows[i].password);
        if (password_check(&p, SLICE("hanako.y@example.test"), &err) != rows[i].rc)
            fail_msg("%s", rows[i].password);
    }
}

static void test_cache(void **state)
{
    struct auth_cache *c;
    (void)state;
    assert_int_equal(auth_cache_new(&c), 0);
    auth_cache_add(c, 1, 10, SLICE("secret"), 1000, 500);
    auth_cache_add(c, 2, 10, SLICE("secret"), 1000, 0);
    assert_true(auth_cache_check(c, 1, 10, SLICE("secret"), 1499));
    assert_false(auth_cache_check(c, 1, 10, SLICE("secret"), 1500)); /* expired */
    assert_false(auth_cache_check(c, 1, 11, SLICE("secret"), 1000)); /* another credential */
    assert_false(auth_cache_check(c, 1, 10, SLICE("Secret"), 1000));
    assert_false(auth_cache_check(c, 2, 10, SLICE("secret"), 1000));
    auth_cache_sweep(c, 1499);
    assert_true(auth_cache_check(c, 1, 10, SLICE("secret"), 1499));
    auth_cache_drop(c, 1);
    assert_false(auth_cache_check(c, 1, 10, SLICE("secret"), 1499));
    auth_cache_add(c, 3, 1, SLICE("x"), 0, 5);
    auth_cache_sweep(c, 5);
    auth_cache_free(c);
}

/* ---- throttle ---- */

#define MAX_FAILURES 3
static struct throttle *t;
static struct netaddr office, home, same_64;

static int attempt(const char *user, const struct netaddr *from, enum throttle_result result)
{
    struct throttle_pair *p;
    int rc = throttle_begin(t, slice_str(user), from, MAX_FAILURES, clock_mono_ms() + 1000, &p);
    if (rc == 0)
        (void)throttle_end(t, p, result, MAX_FAILURES);
    return rc;
}

static void set_clock(int64_t ms)
{
    clock_fake_set(ms, ms);
}

static void throttle_setup(void)
{
    assert_int_equal(throttle_new(&t), 0);
    assert_true(netaddr_parse_ip(SLICE("192.0.2.1"), &office));
    assert_true(netaddr_parse_ip(SLICE("2001:db8::1"), &home));
    assert_true(netaddr_parse_ip(SLICE("2001:db8::2"), &same_64));
    set_clock(1000000);
}

/* [T2.2.1.1] nobody can lock another out: the owner comes in from his own network while a guesser is refused. */
static void test_throttle(void **state)
{
    (void)state;
    throttle_setup();
    for (int i = 0; i < MAX_FAILURES; i++)
        assert_int_equal(attempt("taro", &home, THROTTLE_WRONG), 0);
    assert_int_equal(attempt("taro", &home, THROTTLE_RIGHT), -EAGAIN);
    assert_int_equal(attempt("taro", &same_64, THROTTLE_RIGHT), -EAGAIN); /* one customer, one network */
    assert_int_equal(attempt("taro", &office, THROTTLE_RIGHT), 0);
    assert_int_equal(attempt("hanako", &home, THROTTLE_RIGHT), 0);
    set_clock(1000000 + THROTTLE_FIRST_MS);
    assert_int_equal(attempt("taro", &home, THROTTLE_WRONG), 0); /* one more: twice as long */
    set_clock(1000000 + 2 * THROTTLE_FIRST_MS);
    assert_int_equal(attempt("taro", &home, THROTTLE_RIGHT), -EAGAIN);
    set_clock(1000000 + 3 * THROTTLE_FIRST_MS);
    assert_int_equal(attempt("taro", &home, THROTTLE_RIGHT), 0); /* the right one clears it */
    for (int i = 0; i < MAX_FAILURES - 1; i++)
        assert_int_equal(attempt("taro", &home, THROTTLE_WRONG), 0);
    set_clock(1000000 + 4 * THROTTLE_FIRST_MS + THROTTLE_WINDOW_MS);
    for (int i = 0; i < MAX_FAILURES - 1; i++) /* the old ones are forgotten */
        assert_int_equal(attempt("taro", &home, THROTTLE_WRONG), 0);
    assert_int_equal(attempt("taro", &home, THROTTLE_UNKNOWN), 0); /* what was not checked does not count */
    assert_int_equal(attempt("taro", &home, THROTTLE_RIGHT), 0);
    throttle_free(t);
    clock_fake_set(-1, -1);
}

/* A flood of other names does not make the table forget a pair with failures. */
static void test_throttle_flood(void **state)
{
    (void)state;
    throttle_setup();
    for (int i = 0; i < MAX_FAILURES; i++)
        assert_int_equal(attempt("taro", &home, THROTTLE_WRONG), 0);
    for (int i = 0; i < 4 * THROTTLE_SETS * THROTTLE_WAYS; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "u%d", i);
        assert_int_equal(attempt(name, &home, THROTTLE_WRONG), 0);
    }
    assert_int_equal(attempt("taro", &home, THROTTLE_RIGHT), -EAGAIN);
    throttle_free(t);
    clock_fake_set(-1, -1);
}

static unsigned checked;

static void guess(void *arg)
{
    struct throttle_pair *p;
    (void)arg;
    if (throttle_begin(t, SLICE("taro"), &home, MAX_FAILURES, clock_mono_ms() + 1000, &p) != 0)
        return;
    checked++;
    (void)fiber_yield(); /* the hash */
    (void)throttle_end(t, p, THROTTLE_WRONG, MAX_FAILURES);
}

static void test_throttle_parallel(void **state)
{
    struct err err;
    (void)state;
    assert_int_equal(loop_init(&err), 0);
    throttle_setup();
    checked = 0;
    for (int i = 0; i < 100; i++)
        assert_int_equal(fiber_start("guess", guess, NULL, NULL), 0);
    clock_fake_set(-1, -1);
    assert_true(fiber_run_all(5000));
    assert_int_equal(checked, MAX_FAILURES);
    throttle_free(t);
    loop_done();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_password), cmocka_unit_test(test_prepare),        cmocka_unit_test(test_check),
        cmocka_unit_test(test_cache),    cmocka_unit_test(test_throttle),       cmocka_unit_test(test_throttle_flood),
        cmocka_unit_test(test_throttle_parallel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
