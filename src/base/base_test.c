/* The base library, as tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/id.h"
#include "base/map.h"
#include "base/netaddr.h"
#include "base/secret.h"
#include "base/utf8.h"

static void numbers(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        bool ok;
        uint64_t want;
    } rows[] = {
        {"0", true, 0}, {"42", true, 42}, {"18446744073709551615", true, UINT64_MAX}, {"18446744073709551616", false, 0},
        {"", false, 0}, {"-1", false, 0}, {"+1", false, 0}, {" 1", false, 0}, {"1a", false, 0}, {"99999999999999999999", false, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t v = 7;
        assert_int_equal(slice_to_u64(slice_str(rows[i].in), &v), rows[i].ok);
        assert_int_equal(v, rows[i].ok ? rows[i].want : 7);
    }
}

static void buffers_keep_their_maximum(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    buf_put_str(&b, "12345");
    buf_printf(&b, "%s", "67890");
    assert_true(buf_ok(&b));
    assert_int_equal(b.n, 10);
    buf_put_char(&b, 'x');
    assert_false(buf_ok(&b));
    assert_true(slice_eq(buf_slice(&b), SLICE("1234567890")));
    buf_reset(&b);
    buf_put_u64(&b, 0x0102030405060708);
    struct slice s = buf_slice(&b);
    uint64_t v;
    uint16_t small;
    assert_true(slice_get_u64(&s, &v));
    assert_int_equal(v, 0x0102030405060708);
    assert_false(slice_get_u16(&s, &small));
    buf_done(&b);
}

static void arenas_with_secrets_are_wiped(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 10000);
    a.secret = true;
    assert_non_null(arena_copy(&a, SLICE("a key")).p);
    struct arena_block *keep = a.blocks;
    arena_reset(&a); /* keeps the block: it can be looked at */
#ifndef KK_ARENA_MALLOC
    assert_ptr_equal(a.blocks, keep);
    assert_null(memmem(keep, 4000, "a key", 5));
#else
    (void)keep;
#endif
    assert_false(a.secret);
    arena_done(&a);
}

static void arenas_keep_their_maximum(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 10000);
    char *p = arena_alloc(&a, 100);
    assert_non_null(p);
    for (int i = 0; i < 100; i++)
        assert_int_equal(p[i], 0);
    assert_null(arena_alloc(&a, 10001));
    assert_null(arena_array(&a, SIZE_MAX / 2, 3));
    assert_non_null(arena_alloc(&a, 9000));
    assert_null(arena_alloc(&a, 9000));
    assert_null(arena_strdup(&a, slice_of("a\0b", 3)));
    arena_reset(&a);
    assert_non_null(arena_alloc(&a, 9000));
    assert_string_equal(arena_printf(&a, "%d-%s", 4, "x"), "4-x");
    arena_done(&a);
}

static void addresses_have_one_form(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"192.0.2.1", "192.0.2.1"}, {"::ffff:192.0.2.1", "192.0.2.1"}, {"[2001:DB8::0:1]", "2001:db8::1"},
        {"2001:db8:0:0:0:0:0:1", "2001:db8::1"}, {"::1", "::1"}, {"192.0.2.256", NULL}, {"192.0.2", NULL}, {"", NULL},
        {"01.2.3.4", NULL}, {"fe80::1%eth0", NULL}, {"[::1", NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct netaddr a;
        char text[NETADDR_TEXT_SIZE];
        assert_int_equal(netaddr_parse_ip(slice_str(rows[i].in), &a), rows[i].out != NULL);
        if (rows[i].out != NULL) {
            netaddr_print_ip(&a, text);
            assert_string_equal(text, rows[i].out);
        }
    }
}

static void networks_and_limit_keys(void **state)
{
    (void)state;
    static const struct {
        const char *mask, *ip;
        bool has;
    } rows[] = {
        {"192.0.2.0/24", "192.0.2.255", true}, {"192.0.2.0/24", "192.0.3.0", false}, {"0.0.0.0/0", "203.0.113.9", true},
        {"0.0.0.0/0", "2001:db8::1", false}, {"2001:db8::/33", "2001:db8:7fff::1", true},
        {"2001:db8::/33", "2001:db8:8000::1", false}, {"::/0", "192.0.2.1", true}, {"192.0.2.7", "192.0.2.7", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct netmask m;
        struct netaddr a;
        assert_true(netmask_parse(slice_str(rows[i].mask), &m));
        assert_true(netaddr_parse_ip(slice_str(rows[i].ip), &a));
        assert_int_equal(netmask_has(&m, &a), rows[i].has);
    }
    static const char *const bad[] = {"192.0.2.1/24", "192.0.2.0/33", "2001:db8::/129", "x/8", "192.0.2.0/", "192.0.2.0/-1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct netmask m;
        assert_false(netmask_parse(slice_str(bad[i]), &m));
    }
    struct netaddr a, b, key_a, key_b;
    assert_true(netaddr_parse_ip(SLICE("2001:db8:1:2:3::4"), &a) && netaddr_parse_ip(SLICE("2001:db8:1:2:ffff::"), &b));
    key_a = netaddr_limit_key(&a);
    key_b = netaddr_limit_key(&b);
    assert_memory_equal(&key_a, &key_b, sizeof(key_a)); /* one /64, one customer */
}

static void maps(void **state)
{
    (void)state;
    struct map m;
    map_init(&m);
    for (uint64_t i = 0; i < 5000; i++)
        assert_int_equal(map_put(&m, MAP_KEY(i), (void *)(uintptr_t)(i + 1), NULL), 0);
    for (uint64_t i = 0; i < 5000; i += 2)
        assert_int_equal((uintptr_t)map_del(&m, MAP_KEY(i)), i + 1);
    for (uint64_t i = 0; i < 5000; i++)
        assert_int_equal((uintptr_t)map_get(&m, MAP_KEY(i)), i % 2 ? i + 1 : 0);
    size_t pos = 0, seen = 0;
    struct slice key;
    void *value;
    while (map_next(&m, &pos, &key, &value)) {
        seen++;
        assert_ptr_equal(map_del(&m, key), value);
    }
    assert_int_equal(seen, 2500);
    assert_int_equal(m.count, 0);
    map_done(&m);
}

static void utf8_is_strict(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        bool ok;
    } rows[] = {
        {"abc", true}, {"\xe6\x9b\xb8\xe7\x95\x99", true}, {"\xf0\x9f\x93\xae", true}, {"\xc0\x80", false}, {"\xe0\x80\x80", false},
        {"\xed\xa0\x80", false}, {"\xf4\x90\x80\x80", false}, {"\xff", false}, {"\xe6\x9b", false}, {"\x80", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(utf8_valid(slice_str(rows[i].in)), rows[i].ok);
    struct buf b;
    buf_init(&b, 100);
    utf8_put_json(&b, SLICE("a\"\\\n\x7f\xff\xc2\x9b"));
    assert_true(slice_eq(buf_slice(&b), SLICE("a\\\"\\\\\\u000a\\u007f\xef\xbf\xbd\\u009b")));
    buf_done(&b);
}

static void ids_sort_by_time_and_parse_back(void **state)
{
    (void)state;
    char first[ID_TEXT_SIZE], second[ID_TEXT_SIZE];
    clock_fake_set(1, 1700000000000);
    struct id128 a = id_new(), back;
    clock_fake_set(1, 1700000000001);
    struct id128 b = id_new();
    clock_fake_set(-1, 0);
    id_print(a, first);
    id_print(b, second);
    assert_true(strcmp(first, second) < 0);
    assert_true(id_parse(slice_str(first), &back));
    assert_true(id_eq(a, back));
    assert_false(id_parse(SLICE("8zzzzzzzzzzzzzzzzzzzzzzzzz"), &back)); /* over 128 bits */
    assert_false(id_parse(SLICE("0zzzzzzzzzzzzzzzzzzzzzzzzu"), &back)); /* not in the alphabet */
    assert_false(id_parse(SLICE("short"), &back));
}

static void secrets(void **state)
{
    (void)state;
    assert_true(secret_eq(SLICE("abc"), SLICE("abc")));
    assert_false(secret_eq(SLICE("abc"), SLICE("abd")));
    assert_false(secret_eq(SLICE("abc"), SLICE("ab")));
    assert_true(secret_eq(SLICE_EMPTY, SLICE_EMPTY));
}

static void dates(void **state)
{
    (void)state;
    char iso[CLOCK_ISO_SIZE], mail[CLOCK_RFC5322_SIZE];
    clock_print_iso(1795315476123, iso);
    assert_string_equal(iso, "2026-11-22T02:44:36.123Z");
    clock_print_rfc5322(1795315476123, mail);
    assert_string_equal(mail, "Sun, 22 Nov 2026 02:44:36 +0000");
    clock_print_iso(-1, iso);
    assert_string_equal(iso, "1969-12-31T23:59:59.999Z");
    assert_int_equal(clock_deadline(-1), CLOCK_NEVER);
    assert_int_equal(clock_deadline(INT64_MAX), CLOCK_NEVER);
}

static void errors_carry_context(void **state)
{
    (void)state;
    struct err err = {0};
    errno = ENOENT;
    assert_int_equal(err_errno(&err, "open %s", "x"), -ENOENT);
    assert_int_equal(err_context(&err, "segment %d", 3), -ENOENT);
    assert_string_equal(err.text, "segment 3: open x: No such file or directory");
    assert_int_equal(err_set(NULL, ERR_LIMIT, "nobody listens"), ERR_LIMIT);
}

/* Few entries that come and go must not make searches longer and longer. */
static void maps_do_not_fill_up_with_deleted_entries(void **state)
{
    (void)state;
    struct map m;
    map_init(&m);
    for (uint64_t i = 0; i < 100000; i++) {
        assert_int_equal(map_put(&m, MAP_KEY(i), &m, NULL), 0);
        if (i >= 8) {
            uint64_t old = i - 8;
            assert_ptr_equal(map_del(&m, MAP_KEY(old)), &m);
        }
        if (i > 16)
            assert_int_equal(m.count, 8);
    }
    assert_true(m.cap <= 64);
    assert_true(m.filled < m.cap);
    map_done(&m);
}

static void random_bytes_differ(void **state)
{
    (void)state;
    enum { N = 2000 };
    static uint64_t drawn[N];
    struct map seen;
    int pipes[2];
    map_init(&seen);
    for (size_t i = 0; i < N; i++) {
        drawn[i] = rand_u64();
        assert_null(map_get(&seen, MAP_KEY(drawn[i])));
        assert_int_equal(map_put(&seen, MAP_KEY(drawn[i]), &seen, NULL), 0);
    }
    /* Drawn in advance, but never twice: not in a fork's child either. */
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    uint64_t here = rand_u64(), there = 0;
    if (child == 0)
        _exit(write(pipes[1], &here, sizeof(here)) == (ssize_t)sizeof(here) ? 0 : 1);
    assert_int_equal(read(pipes[0], &there, sizeof(there)), sizeof(there));
    assert_true(here != there);
    assert_int_equal(waitpid(child, NULL, 0), child);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
    unsigned char longer[200] = {0}, zero[200] = {0};
    rand_bytes(longer, sizeof(longer));
    assert_memory_not_equal(longer, zero, sizeof(zero));
    map_done(&seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers), cmocka_unit_test(buffers_keep_their_maximum), cmocka_unit_test(arenas_with_secrets_are_wiped),
        cmocka_unit_test(maps_do_not_fill_up_with_deleted_entries), cmocka_unit_test(random_bytes_differ), cmocka_unit_test(arenas_keep_their_maximum),
        cmocka_unit_test(addresses_have_one_form), cmocka_unit_test(networks_and_limit_keys), cmocka_unit_test(maps),
        cmocka_unit_test(utf8_is_strict), cmocka_unit_test(ids_sort_by_time_and_parse_back), cmocka_unit_test(secrets),
        cmocka_unit_test(dates), cmocka_unit_test(errors_carry_context),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
