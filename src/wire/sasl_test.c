/* Tests of sasl.c: strict base64, PLAIN and LOGIN messages, as tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "wire/sasl.h"

static void test_base64(void **state)
{
    (void)state;
    static const struct {
        struct slice text, want;
        int rc;
    } rows[] = {
        {SLICE(""), SLICE(""), 0},
        {SLICE("Zg=="), SLICE("f"), 0},
        {SLICE("Zm8="), SLICE("fo"), 0},
        {SLICE("Zm9v"), SLICE("foo"), 0},
        {SLICE("Zm9vYmFy"), SLICE("foobar"), 0},
        {SLICE("AAD/"), SLICE("\0\0\xff"), 0},
        {SLICE("Zg"), SLICE(""), ERR_SYNTAX},       /* no padding */
        {SLICE("Zg="), SLICE(""), ERR_SYNTAX},
        {SLICE("Zh=="), SLICE(""), ERR_SYNTAX},     /* bits left over */
        {SLICE("Zm9="), SLICE(""), ERR_SYNTAX},
        {SLICE("Zg==Zg=="), SLICE(""), ERR_SYNTAX}, /* padding in the middle */
        {SLICE("Z==="), SLICE(""), ERR_SYNTAX},
        {SLICE("===="), SLICE(""), ERR_SYNTAX},
        {SLICE("Zm 9"), SLICE(""), ERR_SYNTAX},
        {SLICE("Zm-_"), SLICE(""), ERR_SYNTAX},     /* the other alphabet */
        {SLICE("Zm9\xff"), SLICE(""), ERR_SYNTAX},
        {SLICE("Zm9vYmFyZm9vYmFy"), SLICE(""), ERR_LIMIT},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf b;
        buf_init(&b, 9);
        assert_int_equal(sasl_base64_decode(rows[i].text, &b), rows[i].rc);
        if (rows[i].rc == 0)
            assert_true(slice_eq(buf_slice(&b), rows[i].want));
        buf_done_secret(&b);
    }
}

static void test_plain(void **state)
{
    (void)state;
    static const struct {
        struct slice message;
        int rc;
        const char *authzid, *authcid, *password;
    } rows[] = {
        {SLICE("\0tim\0tanstaaftanstaaf"), 0, "", "tim", "tanstaaftanstaaf"}, /* RFC 4616 section 4 */
        {SLICE("Ursel\0Kurt\0xipj3plmq"), 0, "Ursel", "Kurt", "xipj3plmq"},
        {SLICE("\0花子\0ひみつ"), 0, "", "花子", "ひみつ"},
        {SLICE(""), ERR_SYNTAX, NULL, NULL, NULL},
        {SLICE("tim"), ERR_SYNTAX, NULL, NULL, NULL},
        {SLICE("\0tim"), ERR_SYNTAX, NULL, NULL, NULL},
        {SLICE("\0\0pass"), ERR_SYNTAX, NULL, NULL, NULL},
        {SLICE("\0tim\0"), ERR_SYNTAX, NULL, NULL, NULL},
        {SLICE("\0tim\0a\0b"), ERR_SYNTAX, NULL, NULL, NULL},
        {SLICE("\0t\xff\0pass"), ERR_SYNTAX, NULL, NULL, NULL},
        {SLICE("\xff\0tim\0pass"), ERR_SYNTAX, NULL, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sasl_plain p;
        assert_int_equal(sasl_plain_parse(rows[i].message, &p), rows[i].rc);
        if (rows[i].rc != 0)
            continue;
        assert_true(slice_eq(p.authzid, slice_str(rows[i].authzid)));
        assert_true(slice_eq(p.authcid, slice_str(rows[i].authcid)));
        assert_true(slice_eq(p.password, slice_str(rows[i].password)));
    }
}

static void test_limits(void **state)
{
    (void)state;
    static char message[3 * SASL_NAME_MAX];
    struct sasl_plain p;
    memset(message, 'a', sizeof(message));
    message[0] = '\0';
    message[SASL_NAME_MAX + 1] = '\0';
    assert_int_equal(sasl_plain_parse(slice_of(message, SASL_NAME_MAX + 2 + SASL_PASSWORD_MAX), &p), 0);
    assert_int_equal(sasl_plain_parse(slice_of(message, SASL_NAME_MAX + 3 + SASL_PASSWORD_MAX), &p), ERR_LIMIT);
    message[SASL_NAME_MAX + 1] = 'a';
    message[SASL_NAME_MAX + 2] = '\0';
    assert_int_equal(sasl_plain_parse(slice_of(message, SASL_NAME_MAX + 10), &p), ERR_LIMIT);
    assert_int_equal(sasl_login_check(SLICE("x"), 1), 0);
    assert_int_equal(sasl_login_check(SLICE("xy"), 1), ERR_LIMIT);
    assert_int_equal(sasl_login_check(SLICE(""), 1), ERR_SYNTAX);
    assert_int_equal(sasl_login_check(SLICE("a\0b"), 10), ERR_SYNTAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_base64), cmocka_unit_test(test_plain), cmocka_unit_test(test_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
