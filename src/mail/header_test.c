#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/charset.h"
#include "mail/date.h"
#include "mail/header.h"
#include "mail/param.h"

static void test_fields(void **state)
{
    static const struct {
        const char *in, *want, *rest;
    } rows[] = {
        {"", "", ""},
        {"\r\nbody", "", "body"},
        {"A: b\r\n\r\nbody", "A= b;", "body"},
        {"A: b\nC:\n\nbody", "A= b;C=;", "body"},
        {"A: b\r\n c\r\n\td\r\nE: f\r\n", "A= b\r\n c\r\n\td;E= f;", ""},
        {"A : b\r\n", "A= b;", ""},
        {"From nobody Mon Jan  1 00:00:00 2001\r\nA: b\r\n\r\n", "A= b;", ""},
        {"A\r\n : b\r\n", "A= b;", ""},
        {"A\r\n b: c\r\n", "", ""},
        {">From x\r\nA: b\r\n", "A= b;", ""},
        {" folded first\r\nA: b\r\n", "A= b;", ""},
        {"no colon\r\n more: of it\r\nA: b\r\n\r\nx", "A= b;", "x"},
        {"A: b\r\n \r\nC: d\r\n", "A= b\r\n ;C= d;", ""},
        {"A:b", "A=b;", ""},
        {":b\r\nA:c", "A=c;", ""},
        {"\x80:b\r\nA:c", "A=c;", ""},
        {"A: b\r\r\n\r\nx", "A= b\r;", "x"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slice rest = slice_str(rows[i].in);
        struct mail_field f;
        struct buf got;
        buf_init(&got, 1000);
        while (mail_header_next(&rest, &f))
            buf_printf(&got, "%.*s=%.*s;", SLICE_ARG(f.name), SLICE_ARG(f.value));
        assert_true(slice_eq(buf_slice(&got), slice_str(rows[i].want)));
        assert_true(slice_eq(rest, slice_str(rows[i].rest)));
        buf_done(&got);
    }
}

static void test_unfold(void **state)
{
    struct arena a;
    (void)state;
    arena_init(&a, 10000);
    assert_true(slice_eq(mail_header_unfold(&a, SLICE(" a\r\n b ")), SLICE("a b")));
    assert_true(slice_eq(mail_header_unfold(&a, SLICE(" a\n\tb")), SLICE("a\tb")));
    assert_true(slice_eq(mail_header_unfold(&a, SLICE(" \r\n ")), SLICE("")));
    arena_done(&a);
}

static void test_decode(void **state)
{
    static const struct {
        const char *in, *hint, *want;
    } rows[] = {
        {"plain", "", "plain"},
        {"=?ISO-8859-1?Q?a?=", "", "a"},
        {"=?ISO-8859-1?Q?a?= b", "", "a b"},
        {"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "", "ab"},
        {"=?ISO-8859-1?Q?a?=\r\n   =?ISO-8859-1?Q?b?=", "", "ab"},
        {"=?ISO-8859-1?Q?a_b?=", "", "a b"},
        {"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "", "a b"},
        {"=?US-ASCII*EN?Q?Keith_Moore?=", "", "Keith Moore"},
        {"=?utf-8?B?5pel5pys6Kqe?=", "", "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"},
        {"=?UTF-8?b?5pel5pys6A==?= =?utf-8?b?qp4=?=", "", "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"}, /* a character in two words */
        {"=?iso-2022-jp?B?GyRCRnxLXDhsGyhC?=", "", "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"},
        {"=?shift_jis?Q?=93=FA=96{=8C=EA?=", "", "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"},
        {"\x1b$BF|K\\8l\x1b(B raw", "", "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e raw"},
        {"\x93\xfa\x96{", "shift_jis", "\xe6\x97\xa5\xe6\x9c\xac"},
        {"\xe9t\xe9", "", "\xef\xbf\xbdt\xef\xbf\xbd"},
        {"\xc3\xa9t\xc3\xa9", "iso-8859-1", "\xc3\xa9t\xc3\xa9"},
        {"\"=?utf-8?q?J=C3=B6rg?=\"", "", "\"J\xc3\xb6rg\""},
        {"a=?utf-8?q?b?=c", "", "abc"},
        {"=?utf-8?q?hello world?=", "", "hello world"},
        {"=?utf-8?x?abc?=", "", "=?utf-8?x?abc?="},
        {"=?utf-8?q?abc", "", "=?utf-8?q?abc"},
        {"=?" "?q?abc?=", "", "abc"},
        {"=?no-such-set?q?ab=E9?=", "", "ab\xef\xbf\xbd"},
        {"=?utf-8?q?a=0D=0ABcc:_x?=", "", "a  Bcc: x"},
        {"=?utf-8?q?=41=4?=", "", "A=4"},
        {"=?utf-8?b?" "?=", "", ""},
        {"a\r\n b", "", "a b"},
        {"=?=?utf-8?q?a?=", "", "=?a"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf got;
        buf_init(&got, 1000);
        mail_header_decode(&got, slice_str(rows[i].in), slice_str(rows[i].hint));
        buf_put_char(&got, '\0');
        assert_string_equal(got.p, rows[i].want);
        buf_done(&got);
    }
}

/* Words without an end, many of them; and output that is cut between characters. */
static void test_decode_bounds(void **state)
{
    struct buf in, out;
    (void)state;
    buf_init(&in, MAIL_VALUE_MAX);
    while (in.n + 10 < MAIL_VALUE_MAX)
        buf_put_str(&in, "=?a?q?");
    buf_init(&out, 4 * MAIL_VALUE_MAX);
    mail_header_decode(&out, buf_slice(&in), SLICE_EMPTY);
    assert_true(buf_ok(&out));
    buf_done(&out);
    buf_init(&out, 7);
    mail_header_decode(&out, SLICE("=?utf-8?B?5pel5pys6Kqe?="), SLICE_EMPTY);
    assert_true(slice_eq(buf_slice(&out), SLICE("\xe6\x97\xa5\xe6\x9c\xac")));
    buf_done(&out);
    buf_done(&in);
}

static void test_type(void **state)
{
    static const struct {
        const char *in, *want;
    } rows[] = {
        {"text/plain", "text/plain"},
        {" TEXT / Plain ; charset=us-ascii", "TEXT/Plain;charset=us-ascii"},
        {"text/plain; charset=us-ascii (Plain text)", "text/plain;charset=us-ascii"},
        {"text/plain; charset=\"us-ascii\"", "text/plain;charset=us-ascii"},
        {"text/plain; name=\"a\\\"b\\\\c\"", "text/plain;name=a\"b\\c"},
        {"text/plain; name=My File.doc; charset=x", "text/plain;name=My File.doc;charset=x"},
        {"text/plain; boundary=abc charset=utf-8", "text/plain;boundary=abc;charset=utf-8"},
        {"multipart/mixed; boundary=\"a b;c\"", "multipart/mixed;boundary=a b;c"},
        {"multipart/mixed;boundary=a=b/c?d", "multipart/mixed;boundary=a=b/c?d"},
        {"multipart/mixed boundary=x", "multipart/mixed;boundary=x"},
        {"multipart/mixed;\r\n\tboundary=\"x\r\n y\"", "multipart/mixed;boundary=x y"},
        {"text/plain;;; ;charset = utf-8 ;", "text/plain;charset=utf-8"},
        {"text/plain; charset=", "text/plain;charset="},
        {"text/plain; foo; charset=x", "text/plain;charset=x"},
        {"text/plain; name=\"open", "text/plain;name=open"},
        {"text", "/"},
        {"", "/"},
        {"/plain", "/"},
        {"text; charset=x", "/;charset=x"},
        {"text/plain; =x; a=b", "text/plain;a=b"},
        {"text/plain (a; b=c); d=e", "text/plain;d=e"},
        {"text/plain; a=b)c; d=e", "text/plain;a=b)c;d=e"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena a;
        struct mail_type t;
        struct buf got;
        arena_init(&a, 100000);
        buf_init(&got, 1000);
        assert_true(mail_type_parse(&a, slice_str(rows[i].in), &t));
        buf_printf(&got, "%.*s/%.*s", SLICE_ARG(t.type), SLICE_ARG(t.subtype));
        for (size_t k = 0; k < t.params.n; k++)
            buf_printf(&got, ";%.*s=%.*s", SLICE_ARG(t.params.items[k].name), SLICE_ARG(t.params.items[k].value));
        buf_put_char(&got, '\0');
        assert_string_equal(got.p, rows[i].want);
        buf_done(&got);
        arena_done(&a);
    }
}

static void test_filename(void **state)
{
    static const struct {
        const char *in, *word, *want; /* want NULL: absent */
    } rows[] = {
        {"attachment; filename=a.txt", "attachment", "a.txt"},
        {"attachment", "attachment", NULL},
        {"filename=x", "", "x"},
        {"attachment; filename*=utf-8''%e6%97%a5.txt", "attachment", "\xe6\x97\xa5.txt"},
        {"attachment; filename*0=\"a b\"; filename*1=\"c.txt\"", "attachment", "a bc.txt"},
        {"attachment; filename*1=\"c.txt\"; filename*0=\"a b\"", "attachment", "a bc.txt"},
        {"attachment; filename*0*=us-ascii'en'This%20is; filename*1*=%2Afun%2A; filename*2=\" it%20\"", "attachment", "This is*fun* it%20"},
        {"attachment; filename*0*=utf-8''%e6%97; filename*1*=%a5", "attachment", "\xe6\x97\xa5"},
        {"attachment; filename=plain; filename*=utf-8''star", "attachment", "star"},
        {"attachment; filename*0=a; filename*2=c", "attachment", "a"},
        {"attachment; filename*1=a", "attachment", NULL},
        {"attachment; filename*=noquotes%41", "attachment", "noquotesA"},
        {"attachment; filename*=iso-2022-jp''%1B$BF|K%5C8l%1B(B", "attachment", "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"},
        {"attachment; filename*99999999999999999999=a", "attachment", NULL},
        {"attachment; filename*64=a; filename*0=b", "attachment", "b"},
        {"attachment; filename=\"=?utf-8?B?5pelLnR4dA==?=\"", "attachment", "\xe6\x97\xa5.txt"},
        {"attachment; filename*=utf-8''a%0Ab", "attachment", "a b"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena a;
        struct mail_disposition d;
        struct buf got;
        arena_init(&a, 100000);
        buf_init(&got, 1000);
        assert_true(mail_disposition_parse(&a, slice_str(rows[i].in), &d));
        assert_true(slice_eq(d.word, slice_str(rows[i].word)));
        assert_int_equal(mail_param_get(&d.params, SLICE("filename"), &got), rows[i].want != NULL);
        assert_true(slice_eq(buf_slice(&got), slice_str(rows[i].want != NULL ? rows[i].want : "")));
        buf_done(&got);
        arena_done(&a);
    }
}

static void test_param_bounds(void **state)
{
    static const char *const pieces[] = {";a=b", ";f*0*=x", "(", "\"", " a=", ";a=(", ";a=b (x)", "\\"};
    (void)state;
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        struct arena a;
        struct mail_type t;
        struct buf b;
        buf_init(&b, MAIL_VALUE_MAX);
        buf_put_str(&b, "a/b");
        while (b.n + 10 < MAIL_VALUE_MAX)
            buf_put_str(&b, pieces[i]);
        arena_init(&a, 1 << 20);
        assert_true(mail_type_parse(&a, buf_slice(&b), &t));
        assert_true(t.params.n <= MAIL_PARAMS_MAX);
        buf_done(&b);
        arena_done(&a);
    }
}

static void test_date(void **state)
{
    static const struct {
        const char *in;
        bool ok;
        int64_t s;
        int zone;
        bool known;
    } rows[] = {
        {"Thu, 1 Jan 1970 00:00:00 +0000", true, 0, 0, true},
        {"Fri, 21 Nov 1997 09:55:06 -0600", true, 880127706, -360, true},
        {"Thu,\r\n      13\r\n        Feb\r\n          1969\r\n      23:32\r\n               -0330 (Newfoundland Time)", true, -27723480, -210, true},
        {"21 Nov 97 09:55:06 GMT", true, 880106106, 0, true},
        {"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", false, 0, 0, false},
        {"1 Jan 2000 12:00 JST", true, 946695600, 540, true},
        {"Sun Nov 22 02:44:36 2026", true, 1795315476, 0, false},
        {"Sun Nov 22 02:44:36 EST 2026", true, 1795333476, -300, true},
        {"22-Nov-26 02:44:36 PST", true, 1795344276, -480, true},
        {"2026-11-22T02:44:36.123Z", true, 1795315476, 0, true},
        {"2026-11-22 02:44:36 +09:00", true, 1795283076, 540, true},
        {"22 Nov 126 02:44:36 -0000", true, 1795315476, 0, false},
        {"22 Nov 2026 2:44:36 PM +0000", true, 1795358676, 0, true},
        {"22 Nov 2026 12:00:00 AM +0000", true, 1795305600, 0, true},
        {"Sun, 22 Nov 2026 02.44.36 +0000", true, 1795315476, 0, true},
        {"Sun, 22 Nov 2026 02:44:36 X", true, 1795315476, 0, false},
        {"Sun, 22 Nov 2026 02:44:36 +9999", true, 1795315476, 0, false},
        {"29 Feb 2024 23:59:60 +0000", true, 1709251200, 0, true},
        {"", false, 0, 0, false},
        {"yesterday", false, 0, 0, false},
        {"32 Jan 2000 00:00 +0000", false, 0, 0, false},
        {"1 Foo 2000 00:00 +0000", false, 0, 0, false},
        {"1 Jan 2000", false, 0, 0, false},
        {"1 Jan 99999 00:00:00 +0000", false, 0, 0, false},
        {"(((((", false, 0, 0, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct mail_date d;
        assert_int_equal(mail_date_parse(slice_str(rows[i].in), &d), rows[i].ok);
        if (!rows[i].ok)
            continue;
        assert_int_equal(d.ms, rows[i].s * 1000);
        assert_int_equal(d.zone_minutes, rows[i].zone);
        assert_int_equal(d.zone_known, rows[i].known);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields), cmocka_unit_test(test_unfold),   cmocka_unit_test(test_decode),
        cmocka_unit_test(test_decode_bounds), cmocka_unit_test(test_type), cmocka_unit_test(test_filename),
        cmocka_unit_test(test_param_bounds),  cmocka_unit_test(test_date),
    };
    if (mail_charset_init(NULL) != 0)
        return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    mail_charset_done();
    return rc;
}
