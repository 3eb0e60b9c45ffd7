#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctl/client.h"
#include "ctl/describe.h"
#include "ctl/diff.h"
#include "ctl/file.h"
#include "ctl/output.h"

/* ---- argv ---- */

/* Runs a command line with standard output and error in a file; both come back in text. */
static int run(char *text, size_t size, const char *line)
{
    char copy[512], name[] = "kakitome", *argv[20] = {name}, *save = NULL;
    int argc = 1;
    (void)snprintf(copy, sizeof(copy), "%s", line);
    for (char *w = strtok_r(copy, " ", &save); w != NULL && argc < 19; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    FILE *f = tmpfile();
    assert_non_null(f);
    (void)fflush(stdout);
    (void)fflush(stderr);
    int out = dup(1), err = dup(2);
    assert_true(dup2(fileno(f), 1) == 1 && dup2(fileno(f), 2) == 2);
    int status = ctl_main(argc, argv);
    (void)fflush(stdout);
    (void)fflush(stderr);
    assert_true(dup2(out, 1) == 1 && dup2(err, 2) == 2);
    (void)close(out);
    (void)close(err);
    rewind(f);
    text[fread(text, 1, size - 1, f)] = '\0';
    (void)fclose(f);
    return status;
}

static const struct {
    const char *line;
    int status;
    const char *want;
} rows[] = {
    {"", EX_OK, "usage: kakitome COMMAND"},
    {"--help", EX_OK, "config rollback"},
    {"--version", EX_OK, "kakitome " KAKITOME_VERSION},
    {"help", EX_OK, "usage: kakitome COMMAND"},
    {"help config diff", EX_OK, "usage: kakitome config diff VERSION [VERSION]"},
    {"help config", EX_OK, "kakitome config history"},
    {"config", EX_USAGE, "config what?"},
    {"config hsitory", EX_USAGE, "did you mean \"config history\"?"},
    {"stauts", EX_USAGE, "did you mean \"status\"?"},
    {"frobnicate", EX_USAGE, "there is no command \"frobnicate\""},
    {"status --help", EX_OK, "Show the service's processes"},
    {"status -h", EX_OK, "usage: kakitome status"},
    {"status --jsom", EX_USAGE, "there is no option --jsom"},
    {"status -x", EX_USAGE, "there is no option -x"},
    {"status extra", EX_USAGE, "\"extra\" is too much"},
    {"config diff", EX_USAGE, "something is missing"},
    {"status --json=yes", EX_USAGE, "--json takes no value"},
    {"status --state", EX_USAGE, "--state needs a value (DIR)"},
    {"serve --ready-fd x", EX_USAGE, "\"x\" is no value for --ready-fd (a number)"},
    {"status --state /nonexistent", EX_UNAVAILABLE, "the service is not running on /nonexistent"},
    {"status --state=/nonexistent --json", EX_UNAVAILABLE, "not running"},
    {"--state /nonexistent --json status", EX_UNAVAILABLE, "not running on /nonexistent"},
    {"--config=/dev/null config get pop3.idle_timeout", EX_OK, "10m"},
    {"--config", EX_USAGE, "there is no command \"--config\""},
    {"--state x", EX_USAGE, "there is no command"},
    {"check /nonexistent/k.conf", EX_NOINPUT, "/nonexistent/k.conf"},
    {"check -- --odd", EX_NOINPUT, "--odd"},
    {"serve --config /nonexistent/k.conf --state /x", EX_NOINPUT, "there is no configuration /nonexistent/k.conf"},
    {"status --config /nonexistent/k.conf", EX_NOUSER, "/nonexistent/k.conf"},
    {"config show x --state /tmp", EX_DATAERR, "is not the number of a version"},
    {"config get pop3.idle_timeout --config /dev/null", EX_OK, "10m"},
    {"config get pop3.idle --config /dev/null", EX_DATAERR, "there is no section or option"},
    {"describe nothing", EX_USAGE, "there is no document"},
};

static void test_command_lines(void **state)
{
    static char text[20000];
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int status = run(text, sizeof(text), rows[i].line);
        if (status != rows[i].status || strstr(text, rows[i].want) == NULL)
            fail_msg("kakitome %s: status %d\n%s", rows[i].line, status, text);
    }
}

static void test_setup_check_and_versions(void **state)
{
    static char text[20000], line[400];
    char dir[] = "/tmp/kk-ctl-XXXXXX";
    (void)state;
    assert_non_null(mkdtemp(dir));
#define RUN(...) ((void)snprintf(line, sizeof(line), __VA_ARGS__), run(text, sizeof(text), line))
    assert_int_equal(RUN("setup --config %s/k.conf --state %s --yes --hostname mx.example.org smtp.max_errors=7", dir, dir), EX_OK);
    assert_int_equal(RUN("setup --config %s/k.conf --yes", dir), EX_CANTCREAT);
    assert_int_equal(RUN("setup --config %s/bad.conf --yes --hostname mx.example.org --domain a..b", dir), EX_CONFIG);
    assert_int_equal(RUN("setup --config %s/bad.conf --yes nonsense", dir), EX_USAGE);
    assert_int_equal(RUN("check %s/k.conf", dir), EX_OK);
    assert_int_equal(RUN("check %s/k.conf --json", dir), EX_OK);
    assert_non_null(strstr(text, "{\"problems\":[\n{\"severity\":\"warning\""));
    assert_int_equal(RUN("config apply --config %s/k.conf --reason first", dir), EX_OK);
    assert_non_null(strstr(text, "version 1 is written; the service is not running"));
    /* A second version, a comparison, and back. */
    struct err err;
    struct buf b;
    char path[100];
    (void)snprintf(path, sizeof(path), "%s/next.conf", dir);
    buf_init(&b, 1 << 20);
    buf_printf(&b, "server { state = \"%s\" }\nsmtp {\n max_errors = 9 }\n", dir);
    assert_int_equal(file_create(path, buf_slice(&b), 0600, &err), 0);
    buf_done(&b);
    assert_int_equal(RUN("config apply --config %s/k.conf --json %s", dir, path), EX_OK);
    assert_non_null(strstr(text, "{\"version\":2,\"reloaded\":false}"));
    assert_int_equal(RUN("config diff --config %s/k.conf 1", dir), EX_OK);
    assert_non_null(strstr(text, "\n+ max_errors = 9 }"));
    assert_int_equal(RUN("config rollback --config %s/k.conf 1 --reason oops", dir), EX_OK);
    assert_int_equal(RUN("config history --config %s/k.conf", dir), EX_OK);
    assert_non_null(strstr(text, "back to version 1: oops"));
    assert_int_equal(RUN("config get smtp.max_errors --config %s/k.conf --json", dir), EX_OK);
    assert_non_null(strstr(text, "\"value\":\"7\""));
    assert_int_equal(RUN("config rollback --config %s/k.conf 99", dir), EX_NOUSER);
    /* A wrong file is refused, and nothing changes. */
    (void)snprintf(path, sizeof(path), "%s/wrong.conf", dir);
    assert_int_equal(file_create(path, SLICE("smtp { max_errors = 0 }\n"), 0600, &err), 0);
    assert_int_equal(RUN("config apply --config %s/k.conf %s", dir, path), EX_CONFIG);
    assert_int_equal(RUN("config diff --config %s/k.conf 3", dir), EX_OK);
    assert_string_equal(text, "");
    (void)snprintf(line, sizeof(line), "rm -rf %s", dir);
    assert_int_equal(system(line), 0);
}

/* ---- listings ---- */

static void test_bytes(void **state)
{
    static const struct {
        uint64_t v;
        const char *want;
    } sizes[] = {{0, "0"}, {9999, "9999"}, {10240, "10.0K"}, {1 << 20, "1.00M"}, {1023u << 20, "1.00G"}, {UINT64_MAX, "16.0E"}};
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct buf b;
        buf_init(&b, 100);
        ctl_print_bytes(&b, sizes[i].v);
        buf_put_char(&b, '\0');
        assert_string_equal(b.p, sizes[i].want);
        buf_done(&b);
    }
}

/* ---- differences ---- */

static void test_diff(void **state)
{
    static const struct {
        const char *a, *b, *want;
    } texts[] = {
        {"a\n", "a\n", ""},
        {"", "a\n", "--- x\n+++ y\n@@ -0,0 +1,1 @@\n+a\n"},
        {"a\n", "", "--- x\n+++ y\n@@ -1,1 +0,0 @@\n-a\n"},
        {"1\n2\n3\n4\n5\n6\n7\n8\n", "1\n2\n3\n4\nx\n6\n7\n8\n", "--- x\n+++ y\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n"},
        {"a\nb\nc\n", "b\nc\nd\n", "--- x\n+++ y\n@@ -1,3 +1,3 @@\n-a\n b\n c\n+d\n"},
        {"1\n2\n3\n4\n5\n6\n7\n8\n9\n0\n", "x\n2\n3\n4\n5\n6\n7\n8\n9\ny\n",
         "--- x\n+++ y\n@@ -1,4 +1,4 @@\n-1\n+x\n 2\n 3\n 4\n@@ -7,4 +7,4 @@\n 7\n 8\n 9\n-0\n+y\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct buf b;
        buf_init(&b, 10000);
        assert_int_equal(diff_print(&b, slice_str(texts[i].a), slice_str(texts[i].b), "x", "y"), 0);
        buf_put_char(&b, '\0');
        assert_string_equal(b.p, texts[i].want);
        buf_done(&b);
    }
}

/* ---- the client ---- */

enum behaviour { ANSWER, FAIL, WRONG_CALL, GARBAGE, CLOSE, SILENCE };
struct server {
    int listening;
    enum behaviour behaviour;
};

/* Answers one frame of ctl_status, in the way that the test wants. */
static void *serve_one(void *arg)
{
    struct server *s = arg;
    char frame[4096];
    int fd = accept(s->listening, NULL, NULL);
    ssize_t n = recv(fd, frame, sizeof(frame), 0);
    struct buf b;
    buf_init(&b, 65536);
    if (n >= 32 && s->behaviour <= WRONG_CALL) {
        uint32_t call;
        memcpy(&call, frame + 4, 4);
        struct buf body;
        struct m_ctl_process row = {.role = SLICE("smtpd"), .pid = 7, .state = SLICE("serving")};
        struct m_ctl_status_reply r = {.version = SLICE("1"), .processes = {1, &row}};
        size_t n_fds;
        buf_init(&body, 65536);
        if (s->behaviour == FAIL)
            buf_put_str(&body, "out of luck");
        else
            assert_int_equal(record_encode(&record_m_ctl_status_reply, &r, &body, NULL, &n_fds), 0);
        buf_put_u16(&b, IPC_ctl_status);
        buf_put_u16(&b, 1);
        buf_put_u32(&b, call + (s->behaviour == WRONG_CALL));
        buf_put_u32(&b, s->behaviour == FAIL ? (uint32_t)EBUSY : 0);
        buf_put_u32(&b, (uint32_t)body.n);
        buf_put(&b, frame + 16, 16);
        buf_put_slice(&b, buf_slice(&body));
        buf_done(&body);
    } else if (s->behaviour == GARBAGE) {
        buf_put_str(&b, "what?");
    }
    if (b.n > 0)
        (void)send(fd, b.p, b.n, 0);
    if (s->behaviour == SILENCE)
        (void)recv(fd, frame, sizeof(frame), 0);
    (void)close(fd);
    buf_done(&b);
    return NULL;
}

static void test_client(void **state)
{
    static const struct {
        enum behaviour behaviour;
        int want;
    } cases[] = {{ANSWER, 0},           {FAIL, -EBUSY},         {WRONG_CALL, ERR_SYNTAX},
                 {GARBAGE, ERR_SYNTAX}, {CLOSE, -ECONNRESET}, {SILENCE, -ETIMEDOUT}};
    char dir[] = "/tmp/kk-ctl-XXXXXX";
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(un.sun_path, sizeof(un.sun_path), "%s/ctl.sock", dir);
    struct server s = {.listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
    assert_int_equal(bind(s.listening, (struct sockaddr *)&un, sizeof(un)), 0);
    assert_int_equal(listen(s.listening, 5), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pthread_t t;
        struct ctl_client *cl = NULL;
        struct err err = {0};
        struct m_ctl_status q = {0};
        struct m_ctl_status_reply r;
        struct arena a;
        s.behaviour = cases[i].behaviour;
        arena_init(&a, 1 << 20);
        assert_int_equal(pthread_create(&t, NULL, serve_one, &s), 0);
        assert_int_equal(ctl_client_open_at(dir, ROLE_SUPERVISOR, &cl, &err), 0);
        int rc = ctl_client_call(cl, IPC_ctl_status, &q, &a, &r, cases[i].behaviour == SILENCE ? 100 : 5000, &err);
        if (rc != cases[i].want)
            fail_msg("behaviour %d: %d %s", (int)cases[i].behaviour, rc, err.text);
        if (rc == 0)
            assert_true(r.processes.n == 1 && slice_eq(RECORD_ITEM(r.processes, m_ctl_process, 0)->role, SLICE("smtpd")));
        if (rc == -EBUSY)
            assert_string_equal(err.text, "out of luck");
        ctl_client_close(cl);
        assert_int_equal(pthread_join(t, NULL), 0);
        arena_done(&a);
    }
    (void)close(s.listening);
    (void)unlink(un.sun_path);
    (void)rmdir(dir);
}

/* ---- the rest ---- */

static void test_passwords(void **state)
{
    char a[CTL_PASSWORD_SIZE], b[CTL_PASSWORD_SIZE];
    (void)state;
    ctl_random_password(a);
    ctl_random_password(b);
    assert_int_equal(strlen(a), CTL_PASSWORD_SIZE - 1);
    assert_string_not_equal(a, b);
}

static void test_replace_keeps_old_on_failure(void **state)
{
    struct err err;
    (void)state;
    assert_int_equal(file_replace("/nonexistent/x", SLICE("y"), 0600, &err), -ENOENT);
    assert_int_equal(file_create("/dev/null", SLICE("y"), 0600, &err), -EEXIST);
}

int main(void)
{
    (void)unsetenv("KAKITOME_CONFIG");
    (void)unsetenv("KAKITOME_STATE");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_command_lines), cmocka_unit_test(test_setup_check_and_versions), cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_diff),          cmocka_unit_test(test_client),                   cmocka_unit_test(test_passwords),
        cmocka_unit_test(test_replace_keeps_old_on_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
