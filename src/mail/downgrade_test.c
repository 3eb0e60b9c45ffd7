/* Tests of downgrade.c: fields as they come and as an older program gets them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mail/downgrade.h"

static const struct {
    const char *header, *want;
} rows[] = {
    {"Subject: plain\r\n\r\n", "Subject: plain\r\n\r\n"},
    {"Subject: 会議\r\n\r\n", "Subject: =?UTF-8?B?5Lya6K2w?=\r\n\r\n"},
    /* folded, and more than one encoded-word; characters stay whole */
    {"Subject: あいうえおかきくけこ\r\n さしすせそ\r\n",
     "Subject: =?UTF-8?B?44GC44GE44GG44GI44GK44GL44GN44GP44GR44GTIOOBleOBl+OBmeOBmw==?=\r\n =?UTF-8?B?44Gd?=\r\n"},
    {"From: 山田 <yamada@example.jp>\r\n", "From: =?UTF-8?B?5bGx55Sw?= <yamada@example.jp>\r\n"},
    {"From: \"山田, 太郎\" <y@example.jp>\r\n", "From: =?UTF-8?B?5bGx55SwLCDlpKrpg44=?= <y@example.jp>\r\n"},
    {"To: a@b.jp, 太郎@例え.jp, c@d.jp\r\n",
     "To: a@b.jp, Internationalized address =?UTF-8?B?5aSq6YOOQOS+i+OBiC5qcA==?= Removed:;,\r\n  c@d.jp\r\n"},
    {"To: Taro <太郎@例え.jp>\r\n", "To: Taro Internationalized address =?UTF-8?B?5aSq6YOOQOS+i+OBiC5qcA==?= Removed:;\r\n"},
    {"Cc: 友: a@b.jp, 太郎@例え.jp;\r\n",
     "Cc: =?UTF-8?B?5Y+L?=:\r\n  a@b.jp, (Internationalized address =?UTF-8?B?5aSq6YOOQOS+i+OBiC5qcA==?= Removed);\r\n"},
    {"From: a@b.jp (山)\r\n", "From: a@b.jp (=?UTF-8?B?5bGx?=)\r\n"},
    {"Message-ID: <é@x.jp>\r\n", "Downgraded-Message-ID: =?UTF-8?B?PMOpQHguanA+?=\r\n"},
    {"Content-Type: text/plain; name=\"é.txt\"; charset=utf-8\r\n", "Content-Type: text/plain; name*=UTF-8''%C3%A9.txt; charset=utf-8\r\n"},
    {"Content-Disposition: attachment; filename=é\r\n", "Content-Disposition: attachment; filename*=UTF-8''%C3%A9\r\n"},
    {"Received: from a (b) by c for <é@x.jp>; Sun, 1 Jan 2026 00:00:00 +0000\r\n",
     "Received: from a (b) by c ; Sun, 1 Jan 2026 00:00:00 +0000\r\n"},
    {"Received: from a (b) by c for <e@x.jp>; x\r\n", "Received: from a (b) by c for <e@x.jp>; x\r\n"},
    {"X-Odd: é\r\n", "X-Odd: =?UTF-8?B?w6k=?=\r\n"},
    /* unlabelled old charsets stay as they are */
    {"Subject: caf\xe9\r\n", "Subject: caf\xe9\r\n"},
    {"no colon é\r\n", "no colon é\r\n"},
    {"From: \"山\r\n", "From: =?UTF-8?B?5bGx?=\r\n"},
    {"", ""},
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf out;
        buf_init(&out, 10000);
        assert_int_equal(downgrade_header(slice_str(rows[i].header), &out), 0);
        buf_put_char(&out, '\0');
        assert_string_equal(out.p, rows[i].want);
        buf_done(&out);
    }
}

static void test_wanted(void **state)
{
    (void)state;
    char text[40];
    memset(text, 'a', sizeof(text));
    for (size_t n = 0; n < sizeof(text); n++) {
        assert_false(downgrade_wanted(slice_of(text, n)));
        for (size_t at = 0; at < n; at++) {
            text[at] = '\x80';
            assert_true(downgrade_wanted(slice_of(text, n)));
            text[at] = 'a';
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_wanted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
