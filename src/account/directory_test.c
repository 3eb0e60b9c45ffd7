#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "account/directory.h"

static const struct directory_rules rules = {.delimiter = "+", .first_domain = "example.test"};

static void add(struct directory *d, uint64_t id, const char *address, enum account_state state)
{
    struct account a = {.id = id, .state = state, .address = address, .credential = "$argon2id$"};
    assert_int_equal(directory_set_account(d, &a), 0);
}

static void alias(struct directory *d, const char *from, const char *to)
{
    assert_int_equal(directory_add_alias(d, slice_str(from), slice_str(to)), 0);
}

static struct directory *sample(void)
{
    struct directory *d;
    assert_int_equal(directory_new(&d), 0);
    assert_int_equal(directory_set_domain(d, SLICE("example.test"), SLICE_EMPTY), 0);
    assert_int_equal(directory_set_domain(d, SLICE("all.test"), SLICE("taro@example.test")), 0);
    assert_int_equal(directory_set_domain(d, SLICE("empty.test"), SLICE_EMPTY), 0);
    assert_int_equal(directory_set_domain(d, SLICE("\xe4\xbe\x8b\xe3\x81\x88.test"), SLICE_EMPTY), 0);
    add(d, 7, "taro@example.test", ACCOUNT_ACTIVE);
    add(d, 8, "hanako@example.test", ACCOUNT_ACTIVE);
    add(d, 9, "gone@example.test", ACCOUNT_SUSPENDED);
    add(d, 10, "new@example.test", ACCOUNT_CREATING);
    add(d, 11, "kaki@\xe4\xbe\x8b\xe3\x81\x88.test", ACCOUNT_ACTIVE);
    alias(d, "team@example.test", "taro@example.test");
    alias(d, "team@example.test", "hanako@example.test");
    alias(d, "team@example.test", "sub@example.test");
    alias(d, "sub@example.test", "team@example.test");
    alias(d, "sub@example.test", "taro@example.test");
    alias(d, "loop@example.test", "loop@example.test");
    alias(d, "half@example.test", "gone@example.test");
    alias(d, "half@example.test", "taro+half@example.test");
    alias(d, "dead@example.test", "gone@example.test");
    alias(d, "dangling@example.test", "nobody@example.test");
    alias(d, "abuse@all.test", "gone@example.test");
    return d;
}

/* [R5.1] [R6.1] [T2.3.3.1(1)(a)] no shape of address makes us relay: what is not an existing recipient of our domains is refused. */
static const struct {
    const char *in;
    enum rcpt_verdict verdict;
    const char *want; /* accounts and details: "7 8+box" */
} rows[] = {
    {"taro@example.test", RCPT_OK, "7"},
    {"TARO@Example.TEST", RCPT_OK, "7"},
    {"taro+box@example.test", RCPT_OK, "7+box"},
    {"team@example.test", RCPT_OK, "7 8"},
    {"team+x@example.test", RCPT_OK, "7 8"},
    {"half@example.test", RCPT_OK, "7+half"},
    {"dead@example.test", RCPT_DISABLED, ""},
    {"gone@example.test", RCPT_DISABLED, ""},
    {"new@example.test", RCPT_TEMPORARY, ""},
    {"loop@example.test", RCPT_UNKNOWN, ""},
    {"dangling@example.test", RCPT_UNKNOWN, ""},
    {"nobody@example.test", RCPT_UNKNOWN, ""},
    {"nobody@all.test", RCPT_OK, "7"},
    {"kaki@xn--r8jz45g.test", RCPT_OK, "11"},
    {"postmaster", RCPT_OK, "7"},
    {"PostMaster@example.test", RCPT_OK, "7"},
    {"postmaster+x@example.test", RCPT_OK, "7"},
    {"abuse@example.test", RCPT_OK, "7"},
    {"abuse@all.test", RCPT_TEMPORARY, ""}, /* its alias is suspended and the domain has no account */
    {"postmaster@empty.test", RCPT_TEMPORARY, ""},
    {"abuse", RCPT_BAD_ADDRESS, ""},
    {"taro", RCPT_BAD_ADDRESS, ""},
    {"taro@example.test.", RCPT_BAD_ADDRESS, ""},
    {"", RCPT_BAD_ADDRESS, ""},
    {"taro@elsewhere.test", RCPT_NOT_OURS, ""},
    {"taro@sub.example.test", RCPT_NOT_OURS, ""},
    {"taro@[127.0.0.1]", RCPT_NOT_OURS, ""},
    {"postmaster@[127.0.0.1]", RCPT_NOT_OURS, ""},
    {"victim%elsewhere.test@example.test", RCPT_UNKNOWN, ""},
    {"elsewhere.test!victim@example.test", RCPT_UNKNOWN, ""},
    {"victim@elsewhere.test@example.test", RCPT_UNKNOWN, ""},
    {"taro@example.test@elsewhere.test", RCPT_NOT_OURS, ""},
    {"@example.test:victim@elsewhere.test", RCPT_NOT_OURS, ""},
    {"taro@elsewhere.test%example.test", RCPT_BAD_ADDRESS, ""},
};

static void print(const struct directory_answer *ans, char *out, size_t max)
{
    size_t n = 0;
    out[0] = '\0';
    /* In order of ids, as the order of targets is nobody's business. */
    for (uint64_t id = 0; id < 100; id++)
        for (size_t i = 0; i < ans->n_targets; i++)
            if (ans->targets[i].account == id)
                n += (size_t)snprintf(out + n, max - n, "%s%llu%s%.*s", n != 0 ? " " : "", (unsigned long long)id,
                                      ans->targets[i].detail.n != 0 ? "+" : "", SLICE_ARG(ans->targets[i].detail));
}

static void test_resolve(void **state)
{
    struct directory *d = sample();
    struct arena arena;
    (void)state;
    arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct directory_answer ans;
        char got[200];
        assert_int_equal(directory_resolve(d, &rules, slice_str(rows[i].in), &arena, &ans), 0);
        print(&ans, got, sizeof(got));
        if (ans.verdict != rows[i].verdict || strcmp(got, rows[i].want) != 0)
            fail_msg("%s: verdict %d targets %s", rows[i].in, (int)ans.verdict, got);
    }
    arena_done(&arena);
    directory_free(d);
}

static enum rcpt_verdict verdict(struct directory *d, const char *address)
{
    struct arena arena;
    struct directory_answer ans;
    arena_init(&arena, 1 << 20);
    assert_int_equal(directory_resolve(d, &rules, slice_str(address), &arena, &ans), 0);
    arena_done(&arena);
    return ans.verdict;
}

static void test_changes(void **state)
{
    struct directory *d = sample();
    (void)state;
    add(d, 7, "taro@example.test", ACCOUNT_SUSPENDED);
    assert_int_equal(verdict(d, "taro@example.test"), RCPT_DISABLED);
    assert_int_equal(verdict(d, "postmaster"), RCPT_OK); /* now account 8 */
    directory_del_account(d, 7);
    directory_del_target(d, SLICE("taro@example.test"));
    assert_int_equal(verdict(d, "taro@example.test"), RCPT_UNKNOWN);
    assert_int_equal(verdict(d, "sub@example.test"), RCPT_OK);
    directory_del_alias(d, SLICE("sub@example.test"), SLICE("team@example.test"));
    assert_int_equal(verdict(d, "sub@example.test"), RCPT_UNKNOWN);
    directory_del_domain(d, SLICE("example.test"));
    assert_int_equal(verdict(d, "hanako@example.test"), RCPT_NOT_OURS);
    assert_null(directory_account(d, 7));
    assert_non_null(directory_account_by_address(d, SLICE("hanako@example.test")));
    assert_null(directory_account_by_address(d, SLICE("team@example.test")));
    directory_free(d);
}

/* More targets than a message may have recipients: put off, not cut. */
static void test_limits(void **state)
{
    struct directory *d = sample();
    char name[64], list[64];
    (void)state;
    for (unsigned i = 0; i < IPC_RCPT_MAX + 1; i++) {
        (void)snprintf(name, sizeof(name), "u%u@example.test", i);
        (void)snprintf(list, sizeof(list), "list%u@example.test", i % 2);
        add(d, 1000 + i, name, ACCOUNT_ACTIVE);
        alias(d, list, name);
    }
    alias(d, "everybody@example.test", "list0@example.test");
    assert_int_equal(verdict(d, "everybody@example.test"), RCPT_OK);
    alias(d, "everybody@example.test", "list1@example.test");
    assert_int_equal(verdict(d, "everybody@example.test"), RCPT_TEMPORARY);
    directory_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_resolve), cmocka_unit_test(test_changes), cmocka_unit_test(test_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
