#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "account/address.h"

static const struct {
    const char *name, *in;
    int rc;
    const char *want;
} rows[] = {
    {"plain", "user@example.test", 0, "user@example.test"},
    {"mixed case", "UsEr@EXAMPLE.Test", 0, "user@example.test"},
    {"no domain", "Postmaster", 0, "postmaster"},
    {"trailing dot", "user@example.test.", ERR_SYNTAX, NULL},
    {"ideographic trailing dot", "user@example.test\xe3\x80\x82", ERR_SYNTAX, NULL},
    {"empty label", "user@example..test", ERR_SYNTAX, NULL},
    {"empty domain", "user@", ERR_SYNTAX, NULL},
    {"empty local", "@example.test", ERR_SYNTAX, NULL},
    {"nothing", "", ERR_SYNTAX, NULL},
    {"literal", "user@[192.0.2.1]", ERR_SYNTAX, NULL},
    {"space in domain", "user@exa mple.test", ERR_SYNTAX, NULL},
    {"percent hack stays a local part", "a%b@example.test", 0, "a%b@example.test"},
    {"bang path stays a local part", "host!a@example.test", 0, "host!a@example.test"},
    {"two ats: the last divides", "a@b.test@example.test", 0, "a@b.test@example.test"},
    {"control character", "a\x01@example.test", ERR_SYNTAX, NULL},
    {"invalid UTF-8", "a\xff@example.test", ERR_SYNTAX, NULL},
    {"invalid UTF-8 in the domain", "a@ex\xff.test", ERR_SYNTAX, NULL},
    {"U-label", "a@\xe4\xbe\x8b\xe3\x81\x88.test", 0, "a@\xe4\xbe\x8b\xe3\x81\x88.test"},
    {"A-label is the same domain", "a@xn--r8jz45g.test", 0, "a@\xe4\xbe\x8b\xe3\x81\x88.test"},
    {"A-label in capitals", "a@XN--R8JZ45G.TEST", 0, "a@\xe4\xbe\x8b\xe3\x81\x88.test"},
    {"A-label that no U-label gives", "a@xn--rug.test.est", ERR_SYNTAX, NULL},
    {"broken A-label", "a@xn--\xc3\xa9.test", ERR_SYNTAX, NULL},
    {"decomposed local part is composed", "u\xcc\x88@example.test", 0, "\xc3\xbc@example.test"},
    {"other letters keep their case", "\xc3\x9c@example.test", 0, "\xc3\x9c@example.test"},
    {"kana local part", "\xe3\x81\x8b\xe3\x81\x8d@example.test", 0, "\xe3\x81\x8b\xe3\x81\x8d@example.test"},
};

static void test_canon(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct address a;
        int rc = address_canon(slice_str(rows[i].in), &a);
        if (rc != rows[i].rc || (rc == 0 && strcmp(a.text, rows[i].want) != 0))
            fail_msg("%s: %d %s", rows[i].name, rc, rc == 0 ? a.text : "");
        if (rc == 0)
            assert_int_equal(strlen(a.text), a.n);
    }
}

static void test_limits(void **state)
{
    char text[2000];
    struct address a;
    (void)state;
    memset(text, 'a', sizeof(text));
    assert_int_equal(address_canon(slice_of(text, ADDRESS_LOCAL_MAX), &a), 0);
    assert_int_equal(address_canon(slice_of(text, ADDRESS_LOCAL_MAX + 1), &a), ERR_LIMIT);
    memcpy(text, "a@", 2);
    assert_int_equal(address_canon(slice_of(text, 2 + 63), &a), 0);
    assert_int_equal(address_canon(slice_of(text, 2 + 64), &a), ERR_LIMIT);
    for (size_t i = 60; i < sizeof(text); i += 60)
        text[i] = '.';
    assert_int_equal(address_canon(slice_of(text, 2 + 255), &a), 0);
    assert_int_equal(address_canon(slice_of(text, 2 + 256), &a), ERR_LIMIT);
}

static void test_literal(void **state)
{
    (void)state;
    assert_true(address_is_literal(SLICE("a@[127.0.0.1]")));
    assert_true(address_is_literal(SLICE("a@b@[IPv6:::1]")));
    assert_false(address_is_literal(SLICE("a[b@example.test")));
    assert_false(address_is_literal(SLICE("[a]")));
    assert_false(address_is_literal(SLICE("a@")));
}

static void test_own(void **state)
{
    static const struct {
        const char *in;
        int rc;
    } own[] = {
        {"user@example.test", 0},           {"first.last@example.test", 0},  {"\xe3\x81\x8b@example.test", 0},
        {"user", ERR_SYNTAX},               {"a+b@example.test", ERR_SYNTAX}, {".a@example.test", ERR_SYNTAX},
        {"a.@example.test", ERR_SYNTAX},    {"a..b@example.test", ERR_SYNTAX}, {"a b@example.test", ERR_SYNTAX},
        {"a@b@example.test", ERR_SYNTAX},   {"a\"b@example.test", ERR_SYNTAX},
        {"a\xe2\x80\x8b@example.test", ERR_SYNTAX}, /* zero-width space */
        {"a\xe3\x80\x80@example.test", ERR_SYNTAX}, /* ideographic space */
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@example.test", ERR_LIMIT},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        struct address a;
        struct err err;
        assert_int_equal(address_canon(slice_str(own[i].in), &a), 0);
        if (address_check_own(&a, "+", &err) != own[i].rc)
            fail_msg("%s", own[i].in);
    }
}

static void test_detail(void **state)
{
    struct address a, base;
    struct slice detail;
    (void)state;
    assert_int_equal(address_canon(SLICE("user+Box+x@example.test"), &a), 0);
    assert_true(address_split_detail(&a, "+", &base, &detail));
    assert_string_equal(base.text, "user@example.test");
    assert_int_equal(base.n, strlen(base.text));
    assert_true(slice_eq(detail, SLICE("box+x")));
    assert_false(address_split_detail(&a, "", &base, &detail));
    assert_false(address_split_detail(&a, "-", &base, &detail));
    assert_int_equal(address_canon(SLICE("+x@example.test"), &a), 0);
    assert_false(address_split_detail(&a, "+", &base, &detail));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canon), cmocka_unit_test(test_limits), cmocka_unit_test(test_literal),
        cmocka_unit_test(test_own),   cmocka_unit_test(test_detail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
