/* Tests of wire/pop3.c: command lines, numbers, byte stuffing and TOP over pieces of every size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/pop3.h"

static void test_lines(void **state)
{
    (void)state;
    static const struct {
        struct slice line;
        int rc;
        const char *keyword, *rest;
    } rows[] = {
        {SLICE("QUIT\r\n"), 0, "QUIT", ""},
        {SLICE("quit\n"), 0, "quit", ""},
        {SLICE("QUIT"), 0, "QUIT", ""},
        {SLICE("PASS a b  c \r\n"), 0, "PASS", "a b  c "},
        {SLICE("USER 花子@例え.jp\r\n"), 0, "USER", "花子@例え.jp"},
        {SLICE("\r\n"), 0, "", ""},
        {SLICE("US\0ER x\r\n"), ERR_SYNTAX, NULL, NULL},
        {SLICE("USER\tx\r\n"), ERR_SYNTAX, NULL, NULL},
        {SLICE("USER x\ry\r\n"), ERR_SYNTAX, NULL, NULL},
        {SLICE("USER \x8f\xc0\r\n"), ERR_SYNTAX, NULL, NULL},
        {SLICE("USER \x7f\r\n"), ERR_SYNTAX, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pop3_line l;
        assert_int_equal(pop3_parse_line(rows[i].line, &l), rows[i].rc);
        if (rows[i].rc != 0)
            continue;
        assert_true(slice_eq(l.keyword, slice_str(rows[i].keyword)));
        assert_true(slice_eq(l.rest, slice_str(rows[i].rest)));
    }
}

static void test_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *arg;
        bool ok;
        uint64_t want;
    } rows[] = {{"1", true, 1}, {"7", true, 7}, {"007", true, 7}, {"0", false, 0}, {"8", false, 0}, {"-1", false, 0},
                {"+1", false, 0}, {"", false, 0}, {"1x", false, 0}, {"99999999999999999999999", false, 0}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t n = 0;
        assert_int_equal(pop3_parse_number(slice_str(rows[i].arg), 7, &n), rows[i].ok);
        assert_int_equal(n, rows[i].want);
    }
    struct slice rest = SLICE("1  20 "), arg;
    assert_true(pop3_next_arg(&rest, &arg) && slice_eq(arg, SLICE("1")));
    assert_true(pop3_next_arg(&rest, &arg) && slice_eq(arg, SLICE("20")));
    assert_false(pop3_next_arg(&rest, &arg));
}

/* What a client makes of a multi-line answer: dots unstuffed, the end cut off. */
static void unstuff(struct slice sent, struct buf *out)
{
    while (sent.n > 0 && !slice_eq(sent, SLICE(".\r\n"))) {
        size_t lf = slice_find(sent, '\n');
        struct slice line = slice_head(sent, lf + 1);
        sent = slice_from(sent, lf + 1);
        buf_put_slice(out, slice_from(line, line.p[0] == '.' ? 1 : 0));
    }
    assert_true(slice_eq(sent, SLICE(".\r\n")));
}

static void stuff(struct slice text, size_t piece, struct buf *ret)
{
    struct stream_fake fake = {.input = SLICE_EMPTY, .fail_read_at = SIZE_MAX, .fail_write_at = SIZE_MAX};
    struct pop3_stuffer st;
    struct stream *s;
    assert_int_equal(stream_new_fake(&fake, &s), 0);
    pop3_stuff_init(&st, s);
    for (size_t at = 0; at < text.n; at += piece)
        assert_int_equal(pop3_stuff_write(&st, slice_head(slice_from(text, at), piece)), 0);
    assert_int_equal(pop3_stuff_end(&st), 0);
    assert_int_equal(stream_flush(s), 0);
    stream_free(s);
    *ret = fake.output;
}

static void test_stuffing(void **state)
{
    (void)state;
    static const struct {
        struct slice text, want;
    } rows[] = {
        {SLICE(""), SLICE(".\r\n")},
        {SLICE("a\r\n"), SLICE("a\r\n.\r\n")},
        {SLICE(".\r\n"), SLICE("..\r\n.\r\n")},
        {SLICE("..\r\n.x\r\n"), SLICE("...\r\n..x\r\n.\r\n")},
        {SLICE("a.b\r\n c.\r\n"), SLICE("a.b\r\n c.\r\n.\r\n")},
        {SLICE("no end"), SLICE("no end\r\n.\r\n")},
        {SLICE("half end\r"), SLICE("half end\r\r\n.\r\n")},
        {SLICE("\r\n.\r\n"), SLICE("\r\n..\r\n.\r\n")},
        {SLICE("\n."), SLICE("\n..\r\n.\r\n")},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t piece = 1; piece < 8; piece++) {
            struct buf sent, back;
            stuff(rows[i].text, piece, &sent);
            assert_true(slice_eq(buf_slice(&sent), rows[i].want));
            buf_init(&back, 1000);
            unstuff(buf_slice(&sent), &back);
            assert_true(slice_eq(slice_head(buf_slice(&back), rows[i].text.n), rows[i].text));
            buf_done(&back);
            buf_done(&sent);
        }
    }
}

static void test_top(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t lines;
        const char *want;
        bool whole; /* wants more than there is */
    } rows[] = {
        {"A: 1\r\nB: 2\r\n\r\nx\r\ny\r\n", 0, "A: 1\r\nB: 2\r\n\r\n", false},
        {"A: 1\r\nB: 2\r\n\r\nx\r\ny\r\n", 1, "A: 1\r\nB: 2\r\n\r\nx\r\n", false},
        {"A: 1\r\nB: 2\r\n\r\nx\r\ny\r\n", 2, "A: 1\r\nB: 2\r\n\r\nx\r\ny\r\n", false},
        {"A: 1\r\nB: 2\r\n\r\nx\r\ny\r\n", 3, "A: 1\r\nB: 2\r\n\r\nx\r\ny\r\n", true},
        {"A: 1\r\n\r\n\r\n\r\nz\r\n", 1, "A: 1\r\n\r\n\r\n", false},
        {"\r\nbody\r\n", 0, "\r\n", false},
        {"A: 1\r\n", 5, "A: 1\r\n", true},
        {"A: 1\r\nx\r\r\n\r\nb\r\n", 0, "A: 1\r\nx\r\r\n\r\n", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slice text = slice_str(rows[i].text);
        for (size_t piece = 1; piece <= text.n; piece++) {
            struct pop3_top t;
            size_t taken = 0;
            pop3_top_init(&t, rows[i].lines);
            for (size_t at = 0; at < text.n && !pop3_top_done(&t); at += piece)
                taken += pop3_top_take(&t, slice_head(slice_from(text, at), piece));
            assert_int_equal(taken, strlen(rows[i].want));
            assert_int_equal(pop3_top_done(&t), !rows[i].whole);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines), cmocka_unit_test(test_numbers), cmocka_unit_test(test_stuffing), cmocka_unit_test(test_top),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
