#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "trail/line.h"
#include "trail/query.h"

static const char line[] =
    "{\"seq\":7,\"time\":\"2026-11-22T02:44:36.123Z\",\"event\":\"smtp.received\",\"role\":\"smtpd\",\"conn\":\"01abc\",\"peer\":\"192.0.2.7\","
    "\"sender\":\"someone@example.org\",\"recipients\":[{\"address\":\"taro@example.test\",\"account\":3,\"result\":\"ok\"},{\"address\":"
    "\"\xe8\x8a\xb1\xe5\xad\x90@example.test\",\"account\":4,\"result\":\"ok\"}],\"size\":1234,\"message_id\":\"<a b@x>\",\"source\":\"stored\","
    "\"source_epoch\":\"00000000000000a9\",\"source_seq\":5}";

static const struct {
    const char *query;
    bool want;
} rows[] = {
    {"", true},
    {"event=smtp.received", true},
    {"event=smtp.*", true},
    {"event=SMTP.Received", true},
    {"event=pop3.*", false},
    {"event!=smtp.*", false},
    {"event!=login.ok", true},
    {"user=taro@example.test", true},
    {"user=TARO@example.test", true},
    {"user=taro", false},
    {"user=taro*", true},
    {"address=\xe8\x8a\xb1\xe5\xad\x90@example.test", true},
    {"user=jiro@example.test", false},
    {"user!=jiro@example.test", true},
    {"sender~example.org", true},
    {"peer~192.0.2", true},
    {"peer=192.0.2.8", false},
    {"size=1234", true},
    {"size=123", false},
    {"account=4", true},
    {"conn=01abc", true},
    {"since=2026-11-22", true},
    {"since=2026-11-22T02:44:36.123Z", true},
    {"since=2026-11-22T02:44:36.124", false},
    {"until=2026-11-22T02:44", false},
    {"until=2026-11-23", true},
    {"since=-2h", true},
    {"since=-30m", false},
    {"example.ORG", true},
    {"nothing-of-that", false},
    {"\"event=nothing\"", false},
    {"message_id=\"<a b@x>\"", true},
    {"  event=smtp.*   user=taro@example.test  since=-1d  ", true},
    {"event=smtp.* user=jiro@example.test", false},
};


static void test_match(void **state)
{
    int64_t at, now;
    (void)state;
    assert_true(trail_time_parse(SLICE("2026-11-22T02:44:36.123Z"), &at));
    now = at + 2 * 3600 * 1000 - 1;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct trail_query *q;
        struct err err;
        if (trail_query_parse(slice_str(rows[i].query), now, &q, &err) != 0)
            fail_msg("%s: %s", rows[i].query, err.text);
        if (trail_query_match(q, slice_str(line)) != rows[i].want)
            fail_msg("%s", rows[i].query);
        trail_query_free(q);
    }
}

static void test_refused(void **state)
{
    static const char *const bad[] = {"since=yesterday", "until=2026-13-01", "since=-5x", "until="};
    struct trail_query *q;
    struct err err;
    char many[TRAIL_QUERY_MAX + 2];
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(trail_query_parse(slice_str(bad[i]), 0, &q, &err), ERR_SYNTAX);
    memset(many, 'a', sizeof(many));
    assert_int_equal(trail_query_parse(slice_of(many, TRAIL_QUERY_MAX + 1), 0, &q, &err), ERR_LIMIT);
    for (size_t i = 1; i < TRAIL_QUERY_MAX; i += 2)
        many[i] = ' ';
    assert_int_equal(trail_query_parse(slice_of(many, TRAIL_QUERY_MAX), 0, &q, &err), ERR_LIMIT);
}

static void test_damaged_lines(void **state)
{
    struct trail_query *q;
    (void)state;
    assert_int_equal(trail_query_parse(SLICE("user=x"), 0, &q, NULL), 0);
    for (size_t n = 0; n < sizeof(line) - 1; n++)
        assert_false(trail_query_match(q, slice_of(line, n)));
    trail_query_free(q);
}

static void test_times(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        int64_t ms;
    } times[] = {
        {"1970-01-01", true, 0},
        {"1970-01-02T00:00:01Z", true, 86401000},
        {"2000-02-29T12:34:56.789Z", true, 951827696789},
        {"2026-11-22T02:44:36.123Z", true, 1795315476123},
        {"2026-11-22T02:44:36.12", false, 0},
        {"2026-11-22 02:44", false, 0},
        {"2026-1-22", false, 0},
        {"2026-11-22Z", false, 0},
        {"2026-11-22T25", false, 0},
        {"", false, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        int64_t ms = 0;
        if (trail_time_parse(slice_str(times[i].text), &ms) != times[i].ok || ms != times[i].ms)
            fail_msg("%s: %lld", times[i].text, (long long)ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_match), cmocka_unit_test(test_refused), cmocka_unit_test(test_damaged_lines),
                                       cmocka_unit_test(test_times)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
