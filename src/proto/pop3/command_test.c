/* Tests of the command table: every command and capability stands in docs/POP3.md with its RFC; arguments by their shape. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/pop3/command.h"
#include "proto/pop3/text.h"

static char doc[65536];

static void want(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void want(const char *fmt, ...)
{
    char text[300];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (strstr(doc, text) == NULL)
        fail_msg("docs/POP3.md lacks: %s", text);
}

static void test_document(void **state)
{
    static const char *const states[] = {[POP3_AUTHORIZATION] = "AUTHORIZATION", [POP3_TRANSACTION] = "TRANSACTION", [POP3_BOTH] = "both"};
    (void)state;
    FILE *f = fopen(KK_SOURCE_ROOT "/docs/POP3.md", "re");
    assert_non_null(f);
    size_t n = fread(doc, 1, sizeof(doc) - 1, f);
    (void)fclose(f);
    assert_true(n > 0 && n < sizeof(doc) - 1);
    for (unsigned i = 0; i < POP3_N_COMMANDS; i++) {
        const struct pop3_command *c = &pop3_commands[i];
        want("| `%s` | %s | %s |", c->name, states[c->states], c->rfc);
        if (c->capability[0] != '\0')
            want("`%s`", c->capability);
    }
    for (size_t i = 0; i < pop3_traits_n; i++) {
        want("| `%s` | always", pop3_traits[i].capability);
        want("%s", pop3_traits[i].rfc);
    }
}

static void test_requests(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        enum pop3_state in;
        enum pop3_parse_result want;
        enum pop3_command_id id;
        const char *args[2];
    } rows[] = {
        {"USER a b\r\n", POP3_AUTHORIZATION, POP3_PARSED, POP3_USER, {"a b"}},
        {"pass  x \r\n", POP3_AUTHORIZATION, POP3_PARSED, POP3_PASS, {" x "}},
        {"AUTH\r\n", POP3_AUTHORIZATION, POP3_PARSED, POP3_AUTH, {NULL}},
        {"AUTH PLAIN =\r\n", POP3_AUTHORIZATION, POP3_PARSED, POP3_AUTH, {"PLAIN", "="}},
        {"TOP 1 2\r\n", POP3_TRANSACTION, POP3_PARSED, POP3_TOP, {"1", "2"}},
        {"TOP 1 2 3\r\n", POP3_TRANSACTION, POP3_BAD_ARGS, POP3_TOP, {NULL}},
        {"TOP 1 2\r\n", POP3_AUTHORIZATION, POP3_WRONG_STATE, POP3_TOP, {NULL}},
        {"USER \r\n", POP3_AUTHORIZATION, POP3_BAD_ARGS, POP3_USER, {NULL}},
        {"USERA\r\n", POP3_AUTHORIZATION, POP3_UNKNOWN, POP3_USER, {NULL}},
        {"US\r\n", POP3_AUTHORIZATION, POP3_UNKNOWN, POP3_USER, {NULL}},
        {"NOOP\t\r\n", POP3_TRANSACTION, POP3_BAD_LINE, POP3_NOOP, {NULL}},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pop3_request rq = {.n_args = 0};
        assert_int_equal(pop3_parse_request(slice_str(rows[i].line), rows[i].in, &rq), rows[i].want);
        if (rows[i].want != POP3_PARSED)
            continue;
        assert_int_equal(rq.id, rows[i].id);
        for (unsigned k = 0; k < 2; k++)
            assert_true(k < rq.n_args ? slice_eq(rq.args[k], slice_str(rows[i].args[k])) : rows[i].args[k] == NULL);
    }
}

static void test_texts(void **state)
{
    (void)state;
    for (unsigned text = 0; text < POP3_N_TEXTS; text++) {
        for (unsigned lang = 0; lang < POP3_N_LANGS; lang++) {
            struct stream_fake fake = {.input = SLICE_EMPTY, .fail_read_at = SIZE_MAX, .fail_write_at = SIZE_MAX};
            struct stream *s;
            assert_int_equal(stream_new_fake(&fake, &s), 0);
            assert_int_equal(pop3_reply_n(s, lang, text, UINT64_MAX, UINT64_MAX), 0);
            assert_int_equal(stream_flush(s), 0);
            assert_true(fake.output.n < 512); /* RFC 2449 section 4 */
            assert_true(slice_starts(buf_slice(&fake.output), pop3_text_is_ok(text) ? SLICE("+OK ") : SLICE("-ERR ")));
            assert_int_equal(slice_find(buf_slice(&fake.output), '%'), fake.output.n);
            assert_int_equal(slice_find(buf_slice(&fake.output), '\n'), fake.output.n - 1);
            stream_free(s);
            buf_done(&fake.output);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_document), cmocka_unit_test(test_requests), cmocka_unit_test(test_texts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
