#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/suggest.h"
#include "conf/table.h"
#include "conf/value.h"

struct heard {
    char text[3000];
    size_t n, errors, warnings;
};

static void hear(void *arg, bool is_error, const char *sentence)
{
    struct heard *h = arg;
    h->errors += is_error;
    h->warnings += !is_error;
    int n = snprintf(h->text + h->n, sizeof(h->text) - h->n, "%s\n", sentence);
    h->n += n > 0 && (size_t)n < sizeof(h->text) - h->n ? (size_t)n : 0;
}

static struct conf *parse_ok(const char *text)
{
    struct heard h = {0};
    struct conf *c = NULL;
    int rc = conf_parse(slice_str(text), "k.conf", hear, &h, &c);
    if (rc != 0)
        print_error("%s", h.text);
    assert_int_equal(rc, 0);
    return c;
}

/* ---- errors: every one with its line ---- */

struct error_row {
    const char *name, *text;
    size_t errors;
    const char *want[4]; /* each must be in what is reported */
};

static const struct error_row error_rows[] = {
    {"unknown option, suggestion", "smtp { max_recipient = 5 }", 1, {"k.conf:1: there is no option max_recipient in section smtp; did you mean max_recipients?"}},
    {"swapped letters", "pop3 {\n idle_timeuot = 5m }", 1, {"k.conf:2:", "did you mean idle_timeout?"}},
    {"nothing near", "smtp { xyzzy = 5 }", 1, {"there is no option xyzzy in section smtp\n"}},
    {"unknown section", "stmp { max_errors = 5 }", 1, {"there is no section stmp; did you mean smtp?"}},
    {"option of another section", "smtp { segment_size = 5M }", 1, {"it belongs to section store"}},
    {"outside of a section", "max_recipients = 5", 1, {"max_recipients belongs into its section: smtp { max_recipients = ... }"}},
    {"outside, unknown", "wibble = 5", 1, {"wibble stands outside of any section"}},
    {"not a number", "smtp { max_errors = many }", 1, {"smtp.max_errors: \"many\" is not a number"}},
    {"number with unit", "smtp { max_errors = 5k }", 1, {"is not a number"}},
    {"not a size", "smtp { max_message_size = 5X }", 1, {"is not a size such as 25M"}},
    {"time without unit", "smtp { data_timeout = 30 }", 1, {"\"30\" is not a time such as 30s"}},
    {"not a boolean", "server { ipv6 = maybe }", 1, {"is not true or false"}},
    {"below", "smtp { max_errors = 0 }", 1, {"smtp.max_errors: 0 is below the least that is allowed, 1"}},
    {"above, size", "smtp { max_message_size = 3G }", 1, {"above the most that is allowed, 2147483647"}},
    {"above, time", "smtp { tarpit = 2m }", 1, {"above the most that is allowed, 1m"}},
    {"overflow", "smtp { max_message_size = 99999999999T }", 1, {"is not a size"}},
    {"negative", "smtp { max_errors = -1 }", 1, {"below the least"}},
    {"list for a number", "smtp { max_errors = { 1, 2 } }", 1, {"is not a number"}},
    {"list for a text", "log { level = { \"info\" } }", 1, {"takes one text, not a list"}},
    {"choice", "log { level = loud }", 1, {"\"loud\" is none of the possible words: debug info warning error"}},
    {"listener", "listen { smtp = 25 }", 1, {"is not address:port"}},
    {"listener, ambiguous IPv6", "listen { smtp = ::1:25 }", 1, {"is not address:port"}},
    {"listener, port 0", "listen { smtp = \"*:0\" }", 1, {"is not address:port"}},
    {"network", "smtp { unlimited_from = 10.0.0.1/8 }", 1, {"is not a network"}},
    {"relative path", "tls { certificates = \"cert.pem\" }", 1, {"must begin with /"}},
    {"host name", "server { hostname = \"mail_1.example\" }", 1, {"is not a host name"}},
    {"host name, hyphen", "server { hostname = \"-a.example\" }", 1, {"begins or ends with a hyphen"}},
    {"domain", "server { domains = \"a@example.org\" }", 1, {"is not a host name"}},
    {"text too long", "address { delimiter = \"++\" }", 1, {"has 2 bytes; allowed are 0 to 1"}},
    {"append to no list", "smtp { max_errors += 5 }", 1, {"is no list: write = instead of +="}},
    {"twice", "smtp { max_errors = 5\nmax_errors = 6 }", 1, {"k.conf:2: smtp.max_errors is set twice (first in line 1)"}},
    {"twice in two blocks", "smtp { max_errors = 5 }\nsmtp { max_errors = 5 }", 1, {"k.conf:2:"}},
    {"all problems", "smtp {\n max_errors = 0\n nonsense = 1\n tarpit = x\n}\npop4 { }\n", 4, {":2:", ":3:", ":4:", "k.conf:6: there is no section pop4; did you mean pop3?"}},
    {"missing sign", "smtp {\n max_errors 5\n max_recipients = 0\n}", 2, {":2: expected = behind max_errors", ":3:"}},
    {"missing value", "smtp { max_errors =\n}", 1, {"max_errors has no value"}},
    {"missing comma", "server { domains = { \"a.example\" \"b.example\" } }", 1, {"expected a comma or }"}},
    {"unclosed section", "smtp {\n max_errors = 5\n", 1, {"k.conf:1: this section is not closed"}},
    {"unclosed string", "log { level = \"info\n }", 1, {"k.conf:1: this string is not closed on its line"}},
    {"unclosed comment", "smtp { max_errors = 5 } /* and so\non", 1, {"k.conf:1: this comment is not closed"}},
    {"brace too many", "smtp { } }", 1, {"this } closes nothing"}},
    {"nested", "smtp { pop3 { idle_timeout = 5m } }", 1, {"sections do not nest"}},
    {"environment, quoted", "log { level = \"${HOME}\" }", 2, {"${...} is not replaced by anything"}},
    {"environment, bare", "log { level = ${HOME} }", 2, {"${...} is not replaced by anything"}},
    {"include", "include(\"/etc/passwd\")", 1, {"include does not exist"}},
    {"include, unquoted", "include /etc/passwd", 1, {"expected { behind include"}},
    {"control byte", "smtp {\n max_errors = 5\x01\n}", 2, {"k.conf:2: control character 0x01"}},
    {"not UTF-8", "log { level = \"\xff\" }", 2, {"k.conf:1: byte 0xff is not UTF-8"}},
    {"unknown escape", "server { state = \"\\x41\" }", 2, {"\\x is not known in a string"}},
    {"library path syntax", "smtp|max_errors = 5", 1, {"stands outside of any section"}},
};

static void test_errors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(error_rows) / sizeof(error_rows[0]); i++) {
        const struct error_row *r = &error_rows[i];
        struct heard h = {0};
        struct conf *c = NULL;
        int rc = conf_parse(slice_str(r->text), "k.conf", hear, &h, &c);
        bool good = rc == ERR_CONFIG && c == NULL && h.errors == r->errors;
        for (size_t w = 0; w < 4 && r->want[w] != NULL; w++)
            good = good && strstr(h.text, r->want[w]) != NULL;
        if (!good)
            fail_msg("%s: code %d, %zu errors (wanted %zu):\n%s", r->name, rc, h.errors, r->errors, h.text);
    }
}

static void test_nul_and_many_errors(void **state)
{
    (void)state;
    struct heard h = {0};
    struct conf *c = NULL;
    assert_int_equal(conf_parse(SLICE("log { level = \"in\0fo\" }\0"), "k.conf", hear, &h, &c), ERR_CONFIG);
    assert_non_null(strstr(h.text, "control character 0x00"));
    static char text[4001];
    memset(text, '}', 4000);
    text[4000] = '\0';
    h = (struct heard){0};
    assert_int_equal(conf_parse(slice_str(text), "k.conf", hear, &h, &c), ERR_CONFIG);
    assert_int_equal(h.errors, 101);
}

/* ---- what is accepted ---- */

static void test_defaults(void **state)
{
    (void)state;
    struct conf *c = parse_ok("");
    assert_string_equal(c->server_hostname, "localhost");
    assert_int_equal(c->smtp_max_message_size, 52428800);
    assert_int_equal(c->smtp_command_timeout, 300000);
    assert_true(c->server_ipv6);
    assert_int_equal(c->server_domains.n, 0);
    assert_int_equal(c->listen_smtp.n, 1);
    assert_string_equal(c->listen_smtp.items[0], "*:25");
    assert_int_equal(c->lines[CONF_O_listen_smtp], 0);
    conf_free(c);
    conf_free(NULL);
}

static const struct {
    const char *text;
    enum conf_option option;
    const char *want;
} value_rows[] = {
    {"smtp { max_message_size = 25M }", CONF_O_smtp_max_message_size, "25M"},
    {"smtp { max_message_size = 25MiB }", CONF_O_smtp_max_message_size, "25M"},
    {"smtp { max_message_size = 100000 }", CONF_O_smtp_max_message_size, "100000"},
    {"smtp{max_errors=7}", CONF_O_smtp_max_errors, "7"},
    {"smtp { max_errors =\n\n 7 }", CONF_O_smtp_max_errors, "7"},
    {"smtp { tarpit = 0 }", CONF_O_smtp_tarpit, "0s"},
    {"smtp { tarpit = 1500ms }", CONF_O_smtp_tarpit, "1500ms"},
    {"pop3 { idle_timeout = 600s }", CONF_O_pop3_idle_timeout, "10m"},
    {"server { ipv6 = NO }", CONF_O_server_ipv6, "false"},
    {"# x\n// y ${Z}\n/* \" { */ smtp { max_errors = 3 } # end", CONF_O_smtp_max_errors, "3"},
    {"\xef\xbb\xbfsmtp { max_errors = 4 }\r\n", CONF_O_smtp_max_errors, "4"},
    {"smtp { max_errors = \"5\" }", CONF_O_smtp_max_errors, "5"},
    {"smtp { } smtp { max_errors = 6 }", CONF_O_smtp_max_errors, "6"},
};

static void test_value_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(value_rows) / sizeof(value_rows[0]); i++) {
        const struct conf_row *row = &conf_table[value_rows[i].option];
        struct conf *c = parse_ok(value_rows[i].text);
        struct buf b;
        buf_init(&b, 100);
        const void *p = (const char *)c + row->offset;
        conf_print_number(&b, row->kind, row->kind == CONF_BOOL ? *(const bool *)p : *(const int64_t *)p);
        buf_put_char(&b, '\0');
        assert_string_equal(b.p, value_rows[i].want);
        assert_true(c->lines[value_rows[i].option] > 0);
        buf_done(&b);
        conf_free(c);
    }
}

static void test_lists(void **state)
{
    (void)state;
    struct conf *c = parse_ok("server { domains = { \"a.example\", b.example, }  domains += c.example }\n"
                              "listen { smtp += \"[::1]:2525\"  pop3 = {}  pop3s = \"\" lmtp = 127.0.0.1:24 }\n");
    assert_int_equal(c->server_domains.n, 3);
    assert_string_equal(c->server_domains.items[2], "c.example");
    assert_int_equal(c->listen_smtp.n, 2);
    assert_string_equal(c->listen_smtp.items[0], "*:25");
    assert_int_equal(c->listen_pop3.n, 0);
    assert_int_equal(c->listen_pop3s.n, 0);
    assert_string_equal(c->listen_lmtp.items[0], "127.0.0.1:24");
    conf_free(c);
}

static void test_strings(void **state)
{
    (void)state;
    struct conf *c = parse_ok("server { state = \"/a \\\"b\\\" \\\\c\" hostname = 'h.example' } tls { certificates = { '/x\\y', /z } }");
    assert_string_equal(c->server_state, "/a \"b\" \\c");
    assert_string_equal(c->server_hostname, "h.example");
    assert_string_equal(c->tls_certificates.items[0], "/x\\y");
    assert_string_equal(c->tls_certificates.items[1], "/z");
    conf_free(c);
}

/* Every default lies within its own limits and rules, and every section has a heading. */
static void test_table_is_sound(void **state)
{
    (void)state;
    for (size_t i = 0; i < CONF_OPTION_COUNT; i++) {
        const struct conf_row *r = &conf_table[i];
        bool found = false;
        for (const struct conf_section *s = conf_sections; s->name != NULL; s++)
            found |= strcmp(s->name, r->section) == 0;
        assert_true(found);
        assert_true(*r->en != '\0' && *r->ja != '\0' && strchr(r->en, '\n') == NULL);
        if (r->kind == CONF_STR) {
            assert_true((int64_t)strlen(r->otherwise.text) >= r->least && (int64_t)strlen(r->otherwise.text) <= r->most);
            assert_null(conf_rule_check((enum conf_option)i, r->otherwise.text));
        } else if (r->kind != CONF_LIST) {
            assert_true(r->otherwise.number >= r->least && r->otherwise.number <= r->most);
        }
    }
}

static void test_template(void **state)
{
    (void)state;
    static const char *const set[] = {"listen.smtp=127.0.0.1:2525 [::1]:2525", "smtp.max_errors=7", "server.state=/tmp/x"};
    struct buf b;
    buf_init(&b, 1 << 20);
    conf_print_template(&b, "mx.example.test", "example.test", set, 3);
    assert_true(buf_ok(&b));
    buf_put_char(&b, '\0');
    struct conf *c = parse_ok(b.p);
    assert_string_equal(c->server_hostname, "mx.example.test");
    assert_string_equal(c->server_domains.items[0], "example.test");
    assert_int_equal(c->listen_smtp.n, 2);
    assert_int_equal(c->smtp_max_errors, 7);
    assert_string_equal(c->server_state, "/tmp/x");
    conf_free(c);
    for (size_t i = 0; i < CONF_OPTION_COUNT; i++) {
        assert_non_null(strstr(b.p, conf_table[i].en));
        assert_non_null(strstr(b.p, conf_table[i].ja));
    }
    /* Valid as well with every default spelt out. */
    for (char *p = b.p; (p = strstr(p, "\n    # ")) != NULL; p += 7)
        if (strstr(p + 7, " = ") != NULL && strcspn(p + 7, " ") == (size_t)(strstr(p + 7, " = ") - (p + 7)))
            memset(p + 5, ' ', 2);
    conf_free(parse_ok(b.p));
    buf_done(&b);
}

/* ---- check ---- */

static const struct {
    const char *name, *text;
    int code;
    const char *want;
} check_rows[] = {
    {"sound", "server { hostname = mx.example.org }", 0, "there is no certificate: one of our own making is used"},
    {"same port twice", "listen { smtp = \"*:25\" pop3 = 127.0.0.1:25 }", ERR_CONFIG, "127.0.0.1:25 clashes with *:25 of listen.smtp"},
    {"same address twice", "listen { smtp = { 127.0.0.1:25, 127.0.0.1:25 } }", ERR_CONFIG, "clashes"},
    {"any and one", "listen { smtp = { 0.0.0.0:25, 127.0.0.1:25 } }", ERR_CONFIG, "clashes"},
    {"two families", "listen { smtp = { 0.0.0.0:25, \"[::]:25\" } }", 0, "greeted as \"localhost\""},
    {"two addresses", "listen { smtp = { 127.0.0.1:25, 127.0.0.2:25 } }", 0, ""},
    {"plain login", "pop3 {\n plaintext_login = true }", 0, "k.conf:2: warning: pop3.plaintext_login: passwords used in the e-mail service are sent"},
    {"plain login, Japanese", "pop3 { plaintext_login = true }", 0, "盗聴等により容易に漏えいする危険性"},
    {"open limits", "smtp { unlimited_from = 0.0.0.0/0 }", 0, "takes in all of the Internet"},
    {"open limits, IPv6", "smtp { unlimited_from = \"::/0\" }", 0, "takes in all of the Internet"},
    {"wide proxy", "listen { proxy_from = 64.0.0.0/4 }", 0, "takes in a large part of the Internet"},
    {"in flight", "smtp { max_in_flight = 1M }", ERR_CONFIG, "the largest message could never be received"},
    {"missing certificate", "tls { certificates = /nonexistent/x.pem }", ERR_CONFIG, "k.conf:1: tls.certificates: cannot read /nonexistent/x.pem: No such file"},
    {"certificate of nothing", "tls { certificates = /dev/null }", ERR_CONFIG, "cannot read"},
    {"state in no place", "server { state = /nonexistent/a/b }", ERR_CONFIG, "cannot look at"},
    {"state is a file", "server { state = /etc/passwd }", ERR_CONFIG, "is not a directory"},
    {"state for everybody", "server { state = /tmp }", ERR_CONFIG, "can be written by others"},
    {"no landlock", "server { require_landlock = false }", 0, "would not be confined"},
    {"nothing listens", "listen { smtp = {} pop3 = {} pop3s = {} }", 0, "nothing is listened on"},
};

static void test_check(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(check_rows) / sizeof(check_rows[0]); i++) {
        struct heard h = {0};
        struct conf *c = parse_ok(check_rows[i].text);
        int rc = conf_check(c, "k.conf", hear, &h);
        if (rc != check_rows[i].code || strstr(h.text, check_rows[i].want) == NULL)
            fail_msg("%s: code %d:\n%s", check_rows[i].name, rc, h.text);
        conf_free(c);
    }
}

/* ---- values, suggestions, history ---- */

static void test_numbers(void **state)
{
    static const struct {
        const char *text;
        bool size, ok;
        int64_t v;
    } rows[] = {
        {"0", true, true, 0},          {"1", true, true, 1},          {"1k", true, true, 1024},    {"2K", true, true, 2048},
        {"3MB", true, true, 3 << 20},  {"1GiB", true, true, 1 << 30}, {"4T", true, true, 4LL << 40}, {"1B", true, false, 0},
        {"", true, false, 0},          {"K", true, false, 0},         {"1 K", true, false, 0},     {"-1", true, false, 0},
        {"1.5M", true, false, 0},      {"9999999999G", true, false, 0}, {"9223372036854775807", true, true, INT64_MAX},
        {"9223372036854775808", true, false, 0},
        {"0", false, true, 0},         {"5ms", false, true, 5},       {"5s", false, true, 5000},   {"5m", false, true, 300000},
        {"2h", false, true, 7200000},  {"1d", false, true, 86400000}, {"5", false, false, 0},      {"5M", false, false, 0},
        {"5min", false, false, 0},     {"s", false, false, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t v = 0;
        bool ok = rows[i].size ? conf_value_size(slice_str(rows[i].text), &v) : conf_value_time(slice_str(rows[i].text), &v);
        if (ok != rows[i].ok || v != rows[i].v)
            fail_msg("%s: %d %lld", rows[i].text, ok, (long long)v);
    }
}

static void test_suggest(void **state)
{
    (void)state;
    assert_int_equal(suggest_distance(SLICE("smtp"), SLICE("smtp")), 0);
    assert_int_equal(suggest_distance(SLICE("stmp"), SLICE("smtp")), 1);
    assert_int_equal(suggest_distance(SLICE(""), SLICE("abc")), 3);
    assert_int_equal(suggest_distance(SLICE("kitten"), SLICE("sitting")), 3);
}

static void test_history(void **state)
{
    char dir[] = "/tmp/kk-conf-XXXXXX";
    struct err err = {0};
    struct conf_version *v;
    size_t n;
    uint64_t number = 0;
    struct arena a;
    struct buf text;
    (void)state;
    assert_non_null(mkdtemp(dir));
    int fd = open(dir, O_RDONLY | O_DIRECTORY);
    arena_init(&a, 1 << 20);
    buf_init(&text, 1 << 20);
    assert_int_equal(conf_history_list(fd, &a, &v, &n, &err), 0);
    assert_int_equal(n, 0);
    assert_int_equal(conf_history_add(fd, SLICE("one"), "alice", "first \"words\"\n", &number, &err), 0);
    assert_int_equal(number, 1);
    assert_int_equal(conf_history_add(fd, SLICE("one"), "bob", "the same", &number, &err), 0);
    assert_int_equal(number, 1);
    assert_int_equal(conf_history_add(fd, SLICE("two"), "bob", "書留", &number, &err), 0);
    assert_int_equal(number, 2);
    assert_int_equal(conf_history_list(fd, &a, &v, &n, &err), 0);
    assert_int_equal(n, 2);
    assert_string_equal(v[0].who, "alice");
    assert_string_equal(v[0].why, "first \"words\"\n");
    assert_string_equal(v[1].why, "書留");
    assert_int_equal(conf_history_read(fd, 2, &text, &err), 0);
    assert_true(slice_eq(buf_slice(&text), SLICE("two")));
    assert_int_equal(conf_history_read(fd, 3, &text, &err), -ENOENT);
    /* A version whose index line was lost in a crash is written over by the next. */
    int d = openat(fd, "config/000003.conf", O_WRONLY | O_CREAT, 0600);
    assert_true(d >= 0 && write(d, "torn", 4) == 4 && close(d) == 0);
    assert_int_equal(conf_history_add(fd, SLICE("three"), "c", "", &number, &err), 0);
    assert_int_equal(number, 3);
    buf_reset(&text);
    assert_int_equal(conf_history_read(fd, 3, &text, &err), 0);
    assert_true(slice_eq(buf_slice(&text), SLICE("three")));
    buf_done(&text);
    arena_done(&a);
    char command[100];
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors),   cmocka_unit_test(test_nul_and_many_errors), cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_value_rows), cmocka_unit_test(test_lists),             cmocka_unit_test(test_strings),
        cmocka_unit_test(test_table_is_sound), cmocka_unit_test(test_template),      cmocka_unit_test(test_check),
        cmocka_unit_test(test_numbers),  cmocka_unit_test(test_suggest),             cmocka_unit_test(test_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
