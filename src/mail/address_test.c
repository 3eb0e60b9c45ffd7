#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "mail/address.h"
#include "mail/header.h"

/* The list as text: "name <local@domain>", "[group:", "]", separated by " | ". */
static void print(const struct mail_addresses *l, struct buf *out)
{
    buf_init(out, 1 << 20);
    for (size_t i = 0; i < l->n; i++) {
        const struct mail_address *a = &l->items[i];
        buf_put_str(out, i != 0 ? " | " : "");
        if (a->kind == MAIL_ADDR_GROUP)
            buf_printf(out, "[%.*s:", SLICE_ARG(a->name));
        else if (a->kind == MAIL_ADDR_GROUP_END)
            buf_put_str(out, "]");
        else
            buf_printf(out, "%.*s<%.*s%s%.*s@%.*s>", SLICE_ARG(a->name), SLICE_ARG(a->route), a->route.n != 0 ? ":" : "", SLICE_ARG(a->local),
                       SLICE_ARG(a->domain));
    }
}

static void test_table(void **state)
{
    static const struct {
        const char *in, *want;
    } rows[] = {
        {"", ""},
        {"   \r\n ", ""},
        {"a@b", "<a@b>"},
        {"<a@b>", "<a@b>"},
        {"Joe <a@b>", "Joe<a@b>"},
        {"Joe Q. Public <john.q.public@example.com>", "Joe Q. Public<john.q.public@example.com>"},
        {"\"Joe, Jr.\" <a@b>, c@d", "Joe, Jr.<a@b> | <c@d>"},
        {"\"Giant; \\\"Big\\\" Box\" <sysservices@example.net>", "Giant; \"Big\" Box<sysservices@example.net>"},
        {"a@b (Joe)", "Joe<a@b>"},
        {"<a@b> (Joe)", "Joe<a@b>"},
        {"Jim <a@b> (Joe)", "Jim<a@b>"},
        {"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "Pete<pete@silly.test>"},
        {"A Group(Some people) :Chris Jones <c@(Chris's host.)public.example>, joe@example.org, John <jdoe@one.test> (my dear friend);",
         "[A Group: | Chris Jones<c@public.example> | <joe@example.org> | John<jdoe@one.test> | ]"},
        {"(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", "[Hidden recipients: | ]"},
        {"undisclosed-recipients:;", "[undisclosed-recipients: | ]"},
        {"undisclosed-recipients:; , x@y", "[undisclosed-recipients: | ] | <x@y>"},
        {"Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example", "Mary Smith<@node.test:mary@example.net> | <jdoe@test.example>"},
        {"<@a,@b:c@d>", "<@a,@b:c@d>"},
        {"john . doe @ example . com", "<john.doe@example.com>"},
        {"\"john smith\"@example.com", "<john smith@example.com>"},
        {"\"a@b\"@example.com", "<a@b@example.com>"},
        {"\"a@b\" <c@d>", "a@b<c@d>"},
        {"a@b <c@d>", "a@b<c@d>"},
        {"user@[192.0.2.1]", "<user@[192.0.2.1]>"},
        {"user@[IPv6:2001:db8::1], b@c", "<user@[IPv6:2001:db8::1]> | <b@c>"},
        {"root", "<root@>"},
        {"The Post Master", "<The Post Master@>"},
        {"Joe <a@b", "Joe<a@b>"},
        {"Joe <a@b, Jim <c@d>", "Joe<a@b> | Jim<c@d>"},
        {"\"Joe <a@b>", "\"Joe<a@b>"},
        {"Joe (x <a@b>", "Joe (x<a@b>"},
        {"Joe ((x) <a@b>", "Joe ((x)<a@b>"},
        {"<>", ""},
        {"Joe <>", "Joe<@>"},
        {",,;,", ""},
        {"a@b;c@d", "<a@b> | <c@d>"},
        {"Joe\r\n <a@b>,\r\n\tJim <c@d>", "Joe<a@b> | Jim<c@d>"},
        {"=?utf-8?q?J=C3=B6rg?= <a@b>", "=?utf-8?q?J=C3=B6rg?=<a@b>"},
        {"J\xc3\xb6rg <j\xc3\xb6rg@ex\xc3\xa4mple>", "J\xc3\xb6rg<j\xc3\xb6rg@ex\xc3\xa4mple>"},
        {"a@b@c", "<a@b@c>"},
        {"<a@b> <c@d>", "<a@b> | <c@d>"},
        {"Group: a@b, c@d", "[Group: | <a@b> | <c@d> | ]"},
        {"mailto:a@b", "[mailto: | <a@b> | ]"},
        {"\"\" <a@b>", "<a@b>"},
        {"\"\\", "<\"\\@>"},
        {"(", "<(@>"},
        {"<", ""},
        {"a@b>, c@d", "<a@b> | <c@d>"},
        {"a@b c@d", "<a@b> | <c@d>"},
        {"Big Bug bb@bug.com, x@y", "Big Bug<bb@bug.com> | <x@y>"},
        {"a@b via List <l@x>", "a@b via List<l@x>"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena a;
        struct mail_addresses l = {0};
        struct buf got;
        arena_init(&a, 1 << 20);
        assert_true(mail_address_parse(&a, slice_str(rows[i].in), &l));
        print(&l, &got);
        buf_put_char(&got, '\0');
        assert_string_equal(got.p, rows[i].want);
        buf_done(&got);
        arena_done(&a);
    }
}

/* Lists of several fields are put together; the number is bounded, and hostile text takes no more than linear time and memory. */
static void test_bounds(void **state)
{
    static const char *const pieces[] = {"a@b,", "((((", "\"", "<", "a:", ";", "\\\"", "(a", "@", "[", "<@a,", "(\\"};
    struct arena a;
    (void)state;
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        struct mail_addresses l = {0};
        struct buf b;
        buf_init(&b, MAIL_VALUE_MAX);
        while (b.n + 8 < MAIL_VALUE_MAX)
            buf_put_str(&b, pieces[i]);
        arena_init(&a, 1 << 20);
        assert_true(mail_address_parse(&a, buf_slice(&b), &l));
        assert_true(mail_address_parse(&a, SLICE("x@y"), &l));
        assert_true(l.n <= MAIL_ADDRESSES_MAX);
        assert_int_equal(l.cut, i == 0);
        buf_done(&b);
        arena_done(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table), cmocka_unit_test(test_bounds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
