/* Character sets, transfer encodings and previews. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/charset.h"
#include "mail/decode.h"
#include "mail/preview.h"

#define U_NIHONGO "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e" /* 日本語 */
#define U_BAD "\xef\xbf\xbd"

static void test_charset(void **state)
{
    static const struct {
        const char *label, *in, *want;
    } rows[] = {
        {"utf-8", U_NIHONGO, U_NIHONGO},
        {"UTF8", "a\xff" "b\xe6\x97", "a" U_BAD "b" U_BAD U_BAD},
        {"utf-8", "\xef\xbb\xbfx", "x"},
        {"us-ascii", "abc", "abc"},
        {"us-ascii", U_NIHONGO, U_NIHONGO},
        {"", "\xe9", U_BAD},
        {"no-such", "a\xe9", "a" U_BAD},
        {" ISO-2022-JP ", "\x1b$BF|K\\8l\x1b(B", U_NIHONGO},
        {"iso-2022-jp", "a\x1b$BF|K\\\nb", "a\xe6\x97\xa5\xe6\x9c\xac\nb"},             /* the return to ASCII forgotten */
        {"iso-2022-jp", "\x1b$B-!\x1b(B", "\xe2\x91\xa0"},                              /* NEC row 13: circled 1 */
        {"iso-2022-jp", "\x1b(I1\x1b(B", "\xef\xbd\xb1"},                                /* half-width kana */
        {"iso-2022-jp", "\x0e" "1\x0f" "1", "\xef\xbd\xb1" "1"},                          /* the same by SO and SI */
        {"iso-2022-jp-1", "\x1b$(D\x22\x37\x1b(B", "\xef\xbd\x9e"},                      /* JIS X 0212 */
        {"iso-2022-jp", "\x1b$B\x80!\x1b(B", U_BAD U_BAD},
        {"iso-2022-jp", "\x1b$B!", U_BAD},
        {"iso-2022-jp-2", "\x1b$A<:\x1b(B", "\xe5\xb7\xb1"},                              /* GB 2312 within */
        {"", "\x1b$BF|K\\8l\x1b(B", U_NIHONGO},
        {"Shift_JIS", "\x93\xfa\x96{\x8c\xea", U_NIHONGO},
        {"x-sjis", "\x87\x40", "\xe2\x91\xa0"},
        {"euc-jp", "\xc6\xfc\xcb\xdc\xb8\xec", U_NIHONGO},
        {"iso-8859-1", "\xe9\x80", "\xc3\xa9\xe2\x82\xac"}, /* as windows-1252 */
        {"iso-8859-15", "\xa4", "\xe2\x82\xac"},
        {"windows-1251", "\xcf", "\xd0\x9f"},
        {"koi8-r", "\xf0", "\xd0\x9f"},
        {"gb2312", "\xc8\xd5", "\xe6\x97\xa5"},
        {"big5", "\xa4\xe9", "\xe6\x97\xa5"},
        {"euc-kr", "\xb0\xa1", "\xea\xb0\x80"},
        {"iso-2022-kr", "\x1b$)C\x0e\x30\x21\x0f", "\xea\xb0\x80"},
        {"iso-2022-kr", "\x0e\x30\x21\x0f", "\xea\xb0\x80"},
        {"tis-620", "\xa1", "\xe0\xb8\x81"},
        {"utf-7", "+ZeVnLIqe-", U_NIHONGO},
        {"utf-16be", "\x65\xe5", "\xe6\x97\xa5"},
        {"utf-16", "\xff\xfe\xe5\x65", "\xe6\x97\xa5"},
        {"utf-16", "\x65\xe5", "\xe6\x97\xa5"},
        {"shift_jis", "\x93", U_BAD},
        {"shift_jis", "\xff" "a", U_BAD "a"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf out;
        buf_init(&out, 1000);
        mail_charset_to_utf8(&out, slice_str(rows[i].label), slice_str(rows[i].in));
        buf_put_char(&out, '\0');
        assert_string_equal(out.p, rows[i].want);
        buf_done(&out);
    }
    assert_true(mail_charset_known(SLICE("ISO-2022-JP")));
    assert_false(mail_charset_known(SLICE("x-mac-greek")));
    assert_false(mail_charset_known(SLICE("")));
}

/* Long text, cut at every length: always whole characters, never failed. */
static void test_charset_cut(void **state)
{
    static const char *const labels[] = {"iso-2022-jp", "shift_jis", "utf-8", "us-ascii", "no-such"};
    char in[3000];
    (void)state;
    for (size_t k = 0; k < sizeof(labels) / sizeof(labels[0]); k++) {
        for (size_t i = 0; i < sizeof(in); i++)
            in[i] = k == 2 ? U_NIHONGO[i % 9] : k == 0 ? "\x1b$BF|K\\8l"[i < 3 ? i : 3 + (i - 3) % 6] : "\x93\xfa\x96{\x8c\xea"[i % 6];
        for (size_t max = 0; max < 9000; max += 97) {
            struct buf out;
            buf_init(&out, max);
            mail_charset_to_utf8(&out, slice_str(labels[k]), slice_of(in, sizeof(in)));
            assert_true(buf_ok(&out) && out.n <= max && max - out.n < 3 + (max > 2000 ? 9000 : 0));
            assert_true(out.n == 0 || ((unsigned char)out.p[0] & 0xc0) != 0x80);
            buf_done(&out);
        }
    }
}

static void test_decode(void **state)
{
    static const struct {
        enum mail_encoding e;
        const char *in, *want;
    } rows[] = {
        {MAIL_ENC_7BIT, "a=41\r\n", "a=41\r\n"},
        {MAIL_ENC_BASE64, "QUJD", "ABC"},
        {MAIL_ENC_BASE64, "QU\r\n J D\r\n", "ABC"},
        {MAIL_ENC_BASE64, "QQ==", "A"},
        {MAIL_ENC_BASE64, "QUI=", "AB"},
        {MAIL_ENC_BASE64, "QUI", "AB"},
        {MAIL_ENC_BASE64, "QQ", "A"},
        {MAIL_ENC_BASE64, "Q", ""},
        {MAIL_ENC_BASE64, "QQ==QUI=", "AAB"},
        {MAIL_ENC_BASE64, "Q!U*J)D", "ABC"},
        {MAIL_ENC_BASE64, "====", ""},
        {MAIL_ENC_QP, "a=41b", "aAb"},
        {MAIL_ENC_QP, "=e3=81=82", "\xe3\x81\x82"},
        {MAIL_ENC_QP, "a=\r\nb", "ab"},
        {MAIL_ENC_QP, "a=\nb", "ab"},
        {MAIL_ENC_QP, "a=  \t\r\nb", "ab"},
        {MAIL_ENC_QP, "a  \t\r\nb", "a\r\nb"},
        {MAIL_ENC_QP, "a \nb", "a\nb"},
        {MAIL_ENC_QP, "a b", "a b"},
        {MAIL_ENC_QP, "a=4", "a=4"},
        {MAIL_ENC_QP, "a=XYb", "a=XYb"},
        {MAIL_ENC_QP, "a==41", "a=A"},
        {MAIL_ENC_QP, "a=4=41", "a=4A"},
        {MAIL_ENC_QP, "a=", "a"},
        {MAIL_ENC_QP, "a=\r\n", "a"},
        {MAIL_ENC_QP, "a= b", "a= b"},
        {MAIL_ENC_QP, "a\rb", "a\rb"},
        {MAIL_ENC_QP, "a\r\n\r\nb", "a\r\n\r\nb"},
        {MAIL_ENC_UUENCODE, "text\r\nbegin 644 a\r\n#0V%T\r\n`\r\nend\r\nmore", "Cat"},
        {MAIL_ENC_UUENCODE, "begin 644 a\n#0V%T", "Cat"},
        {MAIL_ENC_UNKNOWN, "=41", "=41"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t n = strlen(rows[i].in);
        for (size_t cut = 0; cut <= n; cut++) { /* every way to feed it in two pieces */
            struct mail_decoder d;
            struct buf out;
            buf_init(&out, 1000);
            mail_decoder_init(&d, rows[i].e);
            mail_decoder_feed(&d, slice_of(rows[i].in, cut), &out);
            mail_decoder_feed(&d, slice_of(rows[i].in + cut, n - cut), &out);
            mail_decoder_finish(&d, &out);
            buf_put_char(&out, '\0');
            assert_string_equal(out.p, rows[i].want);
            buf_done(&out);
        }
    }
}

static void test_encoding_names(void **state)
{
    (void)state;
    assert_int_equal(mail_encoding_parse(SLICE(" Quoted-Printable (yes)\r\n")), MAIL_ENC_QP);
    assert_int_equal(mail_encoding_parse(SLICE("BASE64")), MAIL_ENC_BASE64);
    assert_int_equal(mail_encoding_parse(SLICE("base64;")), MAIL_ENC_BASE64);
    assert_int_equal(mail_encoding_parse(SLICE("")), MAIL_ENC_7BIT);
    assert_int_equal(mail_encoding_parse(SLICE("x-yenc")), MAIL_ENC_UNKNOWN);
    assert_string_equal(mail_encoding_name(MAIL_ENC_UUENCODE), "x-uuencode");
}

static void test_preview_text(void **state)
{
    static const struct {
        bool html;
        const char *in, *want;
    } rows[] = {
        {false, "  a\r\n\r\n\tb  ", "a b"},
        {false, "a\xe3\x80\x80" "b\xc2\xa0" "c", "a b c"},
        {false, "a\xe2\x80\x8b" "b\x01" "c", "ab c"},
        {false, "<b>&amp;", "<b>&amp;"},
        {true, "<p>a<b>b</b>c</p><p>d", "abc d"},
        {true, "<html><head><title>t</title><style>x{}</style></head><body>a</body></html>", "a"},
        {true, "<style>a > b {}</style>x", "x"},
        {true, "<script>if (a<b) x</SCRIPT >y", "y"},
        {true, "<script>never closed", ""},
        {true, "a<!-- c > d -->b", "ab"},
        {true, "a<!-- open", "a"},
        {true, "<a title=\"x>y\">z</a>", "z"},
        {true, "<a title=\"x>z", "z"},
        {true, "1 < 2 &lt;&amp;&gt; &#x3042;&#12354;&nosuch; & &#0;&#xd800;", "1 < 2 <&> \xe3\x81\x82\xe3\x81\x82&nosuch; & " U_BAD U_BAD},
        {true, "a<br>b<br/>c", "a b c"},
        {true, "<head/>a", "a"},
        {true, "x<", "x<"},
        {true, "", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf out;
        buf_init(&out, MAIL_PREVIEW_MAX);
        assert_false(mail_preview_text(slice_str(rows[i].in), rows[i].html, &out));
        buf_put_char(&out, '\0');
        assert_string_equal(out.p, rows[i].want);
        buf_done(&out);
    }
}

static void test_preview(void **state)
{
    static const struct {
        const char *in, *want;
    } rows[] = {
        {"Subject: x\r\n\r\nHello  there\r\n", "Hello there"},
        {"Content-Type: text/html; charset=iso-2022-jp\r\n\r\n<p>\x1b$BF|K\\8l\x1b(B</p>", U_NIHONGO},
        {"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n5pel5pys6Kqe\r\n", U_NIHONGO},
        {"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Disposition: attachment\r\n\r\nno\r\n--b\r\n\r\nyes\r\n--b--\r\n", "yes"},
        {"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\n \r\n--b\r\nContent-Type: text/html\r\n\r\n<i>h</i>\r\n--b--\r\n", "h"},
        {"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ninner\r\n--b--\r\n", ""},
        {"Content-Type: image/png\r\n\r\nxx", ""},
        {"\r\n", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena a;
        struct mime_message m;
        struct buf out;
        arena_init(&a, 1 << 20);
        buf_init(&out, MAIL_PREVIEW_MAX);
        assert_int_equal(mime_parse(&a, slice_str(rows[i].in), &m), 0);
        mail_preview(&m, &out);
        buf_put_char(&out, '\0');
        assert_string_equal(out.p, rows[i].want);
        buf_done(&out);
        arena_done(&a);
    }
}

/* 256 characters and no more; found behind a long white stretch too. */
static void test_preview_length(void **state)
{
    struct arena a;
    struct mime_message m;
    struct buf in, out;
    (void)state;
    buf_init(&in, 100000);
    buf_put_str(&in, "Content-Type: text/plain; charset=utf-8\r\n\r\n");
    for (int i = 0; i < 3000; i++)
        buf_put_str(&in, " \r\n");
    for (int i = 0; i < 1000; i++)
        buf_put_str(&in, "\xe3\x81\x82");
    arena_init(&a, 1 << 20);
    buf_init(&out, MAIL_PREVIEW_MAX);
    assert_int_equal(mime_parse(&a, buf_slice(&in), &m), 0);
    mail_preview(&m, &out);
    assert_int_equal(out.n, 3 * MAIL_PREVIEW_CHARS);
    buf_done(&out);
    buf_done(&in);
    arena_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_charset),        cmocka_unit_test(test_charset_cut), cmocka_unit_test(test_decode),
        cmocka_unit_test(test_encoding_names), cmocka_unit_test(test_preview_text), cmocka_unit_test(test_preview),
        cmocka_unit_test(test_preview_length),
    };
    if (mail_charset_init(NULL) != 0)
        return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    mail_charset_done();
    return rc;
}
