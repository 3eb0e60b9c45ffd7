#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secret.h"
#include "role/keyd/keyd.h"
#include "tls/rest.h"
#include "tls/selfsigned.h"
#include "tls/tbs.h"

static char tmp_path[] = "/tmp/kk-tls-XXXXXX";
static int tmp_dir;

static int set_up(void **state)
{
    (void)state;
    tmp_dir = mkdtemp(tmp_path) != NULL ? open(tmp_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    return tmp_dir >= 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"master.key", "selfsigned.pem", "selfsigned.crt", "a.pem"};
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        (void)unlinkat(tmp_dir, names[i], 0);
    (void)close(tmp_dir);
    return rmdir(tmp_path);
}

/* ---- shapes ---- */

static void put_tls13(struct buf *b, size_t hash)
{
    for (int i = 0; i < 64; i++)
        buf_put_char(b, ' ');
    buf_put(b, "TLS 1.3, server CertificateVerify", 34);
    for (size_t i = 0; i < hash; i++)
        buf_put_char(b, (char)i);
}

static void put_randoms(struct buf *b)
{
    for (int i = 0; i < 64; i++)
        buf_put_char(b, (char)(i * 7));
}

static void put_ecdhe(struct buf *b, int group, size_t n, char first)
{
    put_randoms(b);
    buf_put_char(b, 3);
    buf_put_char(b, (char)(group >> 8));
    buf_put_char(b, (char)group);
    buf_put_char(b, (char)n);
    for (size_t i = 0; i < n; i++)
        buf_put_char(b, i == 0 ? first : (char)i);
}

static void put_u16be(struct buf *b, size_t n)
{
    buf_put_char(b, (char)(n >> 8));
    buf_put_char(b, (char)n);
}

static void put_dhe(struct buf *b, BIGNUM *prime, char generator)
{
    unsigned char p[1024];
    int n = BN_bn2bin(prime, p);
    put_randoms(b);
    put_u16be(b, (size_t)n);
    buf_put(b, p, (size_t)n);
    put_u16be(b, 1);
    buf_put_char(b, generator);
    put_u16be(b, 256);
    for (int i = 0; i < 256; i++)
        buf_put_char(b, 5);
}

static void test_tbs(void **state)
{
    struct buf b;
    BIGNUM *prime = BN_get_rfc3526_prime_2048(NULL);
    (void)state;
    static const struct {
        const char *name;
        int group;
        size_t n;
        char first;
        enum tbs_kind want;
    } ec[] = {{"P-256", 23, 65, 4, TBS_TLS12_ECDHE},   {"P-384", 24, 97, 4, TBS_TLS12_ECDHE},   {"P-521", 25, 133, 4, TBS_TLS12_ECDHE},
              {"X25519", 29, 32, 9, TBS_TLS12_ECDHE},  {"X448", 30, 56, 9, TBS_TLS12_ECDHE},    {"compressed point", 23, 65, 2, TBS_REFUSED},
              {"short point", 23, 64, 4, TBS_REFUSED}, {"unknown group", 22, 65, 4, TBS_REFUSED}, {"empty", 23, 0, 4, TBS_REFUSED}};
    static const struct {
        size_t hash;
        enum tbs_kind want;
    } t13[] = {{32, TBS_TLS13}, {48, TBS_TLS13}, {20, TBS_REFUSED}, {64, TBS_REFUSED}, {0, TBS_REFUSED}, {33, TBS_REFUSED}};
    buf_init(&b, 8192);
    for (size_t i = 0; i < sizeof(ec) / sizeof(ec[0]); i++) {
        buf_reset(&b);
        put_ecdhe(&b, ec[i].group, ec[i].n, ec[i].first);
        if (tls_tbs_check(buf_slice(&b)) != ec[i].want)
            fail_msg("%s", ec[i].name);
        buf_put_char(&b, 0);
        assert_int_equal(tls_tbs_check(buf_slice(&b)), TBS_REFUSED); /* something behind it */
    }
    for (size_t i = 0; i < sizeof(t13) / sizeof(t13[0]); i++) {
        buf_reset(&b);
        put_tls13(&b, t13[i].hash);
        assert_int_equal(tls_tbs_check(buf_slice(&b)), t13[i].want);
    }
    /* The client's context string is not ours to sign. */
    buf_reset(&b);
    put_tls13(&b, 32);
    memcpy(b.p + 64 + 9, "client", 6);
    assert_int_equal(tls_tbs_check(buf_slice(&b)), TBS_REFUSED);
    buf_reset(&b);
    put_dhe(&b, prime, 2);
    assert_int_equal(tls_tbs_check(buf_slice(&b)), TBS_TLS12_DHE);
    buf_reset(&b);
    put_dhe(&b, prime, 5);
    assert_int_equal(tls_tbs_check(buf_slice(&b)), TBS_REFUSED);
    BN_add_word(prime, 2);
    buf_reset(&b);
    put_dhe(&b, prime, 2);
    assert_int_equal(tls_tbs_check(buf_slice(&b)), TBS_REFUSED);
    /* Every prefix is refused. */
    buf_reset(&b);
    put_ecdhe(&b, 23, 65, 4);
    for (size_t n = 0; n < b.n; n++)
        assert_int_equal(tls_tbs_check(slice_head(buf_slice(&b), n)), TBS_REFUSED);
    assert_int_equal(tls_tbs_check(SLICE("-----BEGIN something to be signed")), TBS_REFUSED);
    BN_free(prime);
    buf_done(&b);
}

/* ---- key files ---- */

static void test_selfsigned(void **state)
{
    static const char *const names[] = {"mail.example.test", "example.test"};
    static const char *const more[] = {"mail.example.test", "other.example.test"};
    struct tls_key *k = NULL, *again = NULL;
    struct err err = {0};
    struct stat st;
    bool made;
    (void)state;
    assert_int_equal(selfsigned_load(tmp_dir, names, 2, &k, &made, &err), 0);
    assert_true(made);
    assert_int_equal(k->type, TLS_KEY_EC);
    assert_true(slice_eq(buf_slice(&k->names), SLICE("mail.example.test example.test localhost")));
    assert_true(k->not_after_ms > clock_real_ms());
    assert_int_equal(fstatat(tmp_dir, SELFSIGNED_PEM, &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(fstatat(tmp_dir, SELFSIGNED_CRT, &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
    assert_int_equal(selfsigned_load(tmp_dir, names, 2, &again, &made, &err), 0);
    assert_false(made);
    assert_memory_equal(k->id, again->id, TLS_KEY_ID_SIZE);
    tls_key_free(again);
    assert_int_equal(selfsigned_load(tmp_dir, more, 2, &again, &made, &err), 0);
    assert_true(made);
    assert_memory_not_equal(k->id, again->id, TLS_KEY_ID_SIZE);
    tls_key_free(again);
    tls_key_free(k);
    /* A key that others may read is refused. */
    assert_int_equal(fchmodat(tmp_dir, SELFSIGNED_PEM, 0644, 0), 0);
    assert_int_equal(tls_key_load(tmp_dir, SELFSIGNED_PEM, &k, &err), ERR_CONFIG);
    assert_non_null(strstr(err.text, "chmod"));
}

static void test_key_parse_errors(void **state)
{
    struct tls_key *k;
    struct err err = {0};
    (void)state;
    assert_int_equal(tls_key_parse(SLICE(""), "x.pem", &k, &err), ERR_CONFIG);
    assert_non_null(strstr(err.text, "x.pem: no private key"));
    assert_int_equal(tls_key_parse(SLICE("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "x.pem", &k, &err), ERR_CONFIG);
    assert_int_equal(tls_key_load(tmp_dir, "absent.pem", &k, &err), -ENOENT);
}

static struct tls_key *bare_key(enum tls_key_type type, EVP_PKEY *pkey)
{
    struct tls_key *k = calloc(1, sizeof(*k));
    assert_non_null(k);
    k->type = type;
    k->key = pkey;
    return k;
}

static void test_sign_rules(void **state)
{
    struct tls_key *keys[] = {bare_key(TLS_KEY_EC, EVP_EC_gen("P-256")), bare_key(TLS_KEY_RSA, EVP_RSA_gen(2048)),
                              bare_key(TLS_KEY_ED25519, EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"))};
    enum { EC, RSA_, ED };
    static const struct {
        int key;
        unsigned scheme;
        bool tls13, ok;
    } rows[] = {
        {EC, 0x0403, true, true},   {EC, 0x0403, false, true},  {EC, 0x0503, true, false},  {EC, 0x0503, false, true},
        {EC, 0x0804, true, false},  {EC, 0x0203, false, false}, {RSA_, 0x0804, true, true}, {RSA_, 0x0806, false, true},
        {RSA_, 0x0401, true, false}, {RSA_, 0x0401, false, true}, {RSA_, 0x0201, false, false}, {ED, 0x0807, true, true},
        {ED, 0x0807, false, true},  {ED, 0x0403, true, false},  {EC, 0, true, false},       {EC, 65535, false, false},
    };
    struct buf tbs13, tbs12;
    uint8_t sig[TLS_SIGNATURE_MAX];
    const char *why;
    size_t n;
    (void)state;
    buf_init(&tbs13, 4096);
    buf_init(&tbs12, 4096);
    put_tls13(&tbs13, 48);
    put_ecdhe(&tbs12, 29, 32, 1);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int rc = tls_key_sign(keys[rows[i].key], rows[i].scheme, buf_slice(rows[i].tls13 ? &tbs13 : &tbs12), sig, sizeof(sig), &n, &why);
        if (rc != (rows[i].ok ? 0 : ERR_DENIED))
            fail_msg("row %zu: %d %s", i, rc, why);
    }
    assert_int_equal(tls_key_sign(keys[EC], 0x0403, SLICE("sign this mail"), sig, sizeof(sig), &n, &why), ERR_DENIED);
    assert_string_equal(why, "not a TLS handshake signature");
    for (int i = 0; i < 3; i++)
        tls_key_free(keys[i]);
    buf_done(&tbs13);
    buf_done(&tbs12);
}

/* ---- keys at rest ---- */

static void test_rest(void **state)
{
    struct rest_master *m, *again;
    struct err err = {0};
    struct stat st;
    bool made;
    uint8_t key[64], wrapped[REST_WRAPPED_MAX], out[REST_KEY_MAX];
    size_t n, m_n;
    (void)state;
    rand_bytes(key, sizeof(key));
    assert_int_equal(rest_master_open(tmp_dir, &m, &made, &err), 0);
    assert_true(made);
    assert_int_equal(fstatat(tmp_dir, "master.key", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_size, 56);
    assert_int_equal(rest_wrap(m, SLICE("account:42"), slice_of(key, 32), wrapped, &n), 0);
    assert_int_equal(n, 32 + REST_OVERHEAD);
    rest_master_free(m);
    assert_int_equal(rest_master_open(tmp_dir, &again, &made, &err), 0);
    assert_false(made);
    assert_int_equal(rest_unwrap(again, SLICE("account:42"), slice_of(wrapped, n), out, &m_n), 0);
    assert_int_equal(m_n, 32);
    assert_memory_equal(out, key, 32);
    assert_int_equal(rest_unwrap(again, SLICE("account:43"), slice_of(wrapped, n), out, &m_n), ERR_CORRUPT);
    for (size_t i = 0; i < n; i++) {
        wrapped[i] ^= 1;
        assert_true(rest_unwrap(again, SLICE("account:42"), slice_of(wrapped, n), out, &m_n) < 0);
        wrapped[i] ^= 1;
    }
    for (size_t i = 0; i < n; i++)
        assert_true(rest_unwrap(again, SLICE("account:42"), slice_of(wrapped, i), out, &m_n) < 0);
    assert_int_equal(rest_wrap(again, SLICE("account:42"), slice_of(key, 0), wrapped, &n), ERR_LIMIT);
    assert_int_equal(rest_wrap(again, SLICE(""), slice_of(key, 32), wrapped, &n), ERR_LIMIT);
    assert_int_equal(rest_wrap(again, SLICE("x"), slice_of(key, 64), wrapped, &n), 0);
    assert_int_equal(rest_unwrap(again, SLICE("x"), slice_of(wrapped, n), out, &m_n), 0);
    assert_memory_equal(out, key, 64);
    rest_master_free(again);
}

/* A damaged or foreign file is never replaced by a new one. */
static void test_rest_damaged(void **state)
{
    struct rest_master *m;
    struct err err = {0};
    bool made;
    char before[56], after[56];
    (void)state;
    int fd = openat(tmp_dir, "master.key", O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, before, 56, 0), 56);
    static const struct {
        off_t at;
        int want;
    } rows[] = {{0, ERR_CORRUPT}, {8, ERR_VERSION}, {12, ERR_VERSION}, {20, ERR_CORRUPT}, {50, ERR_CORRUPT}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char c = (char)(before[rows[i].at] ^ 0x40);
        assert_int_equal(pwrite(fd, &c, 1, rows[i].at), 1);
        assert_int_equal(rest_master_open(tmp_dir, &m, &made, &err), rows[i].want);
        assert_int_equal(pwrite(fd, &before[rows[i].at], 1, rows[i].at), 1);
    }
    assert_int_equal(ftruncate(fd, 10), 0);
    assert_int_equal(rest_master_open(tmp_dir, &m, &made, &err), ERR_CORRUPT);
    assert_int_equal(pwrite(fd, before, 56, 0), 56);
    assert_int_equal(fchmod(fd, 0640), 0);
    assert_int_equal(rest_master_open(tmp_dir, &m, &made, &err), ERR_DENIED);
    assert_int_equal(fchmod(fd, 0600), 0);
    assert_int_equal(pread(fd, after, 56, 0), 56);
    assert_memory_equal(before, after, 56);
    (void)close(fd);
    assert_int_equal(rest_master_open(tmp_dir, &m, &made, &err), 0);
    rest_master_free(m);
}

/* ---- keyd's parts ---- */

static void test_ticket_rotation(void **state)
{
    struct keyd_tickets t = {0}, before;
    (void)state;
    keyd_tickets_rotate(&t, 1000, 100);
    assert_int_equal(t.n, 3);
    assert_int_equal(t.rotates_ms, 1100);
    assert_int_equal(t.keys[0].expires_ms, 1200);
    before = t;
    keyd_tickets_rotate(&t, 1100, 100);
    assert_memory_equal(t.keys[0].name, before.keys[2].name, 16); /* next became current */
    assert_memory_equal(t.keys[1].name, before.keys[0].name, 16); /* current became previous */
    assert_int_equal(t.keys[1].expires_ms, 1200);
    assert_int_equal(t.keys[0].expires_ms, 1300);
    assert_memory_not_equal(t.keys[2].name, before.keys[2].name, 16);
}

static void write_bundle(const char *name, EVP_PKEY *key)
{
    struct tls_key *k = NULL;
    bool made;
    static const char *const names[] = {"a.example.test"};
    (void)key;
    assert_int_equal(selfsigned_load(tmp_dir, names, 1, &k, &made, NULL), 0);
    tls_key_free(k);
    assert_int_equal(renameat(tmp_dir, SELFSIGNED_PEM, tmp_dir, name), 0);
}

static void test_keyd_keys(void **state)
{
    char path[200], sub[220];
    const char *items[2];
    struct conf conf = {.server_hostname = "mail.example.test"};
    struct keyd_keys k = {0};
    struct err err = {0};
    (void)state;
    (void)unlinkat(tmp_dir, SELFSIGNED_PEM, 0);
    assert_int_equal(keyd_keys_load(&k, tmp_dir, &conf, &err), 0);
    assert_int_equal(k.n, 1);
    assert_non_null(keyd_keys_find(&k, slice_of(k.keys[0]->id, 32)));
    assert_null(keyd_keys_find(&k, SLICE("x")));
    keyd_keys_free(&k);
    (void)unlinkat(tmp_dir, SELFSIGNED_PEM, 0);
    write_bundle("a.pem", NULL);
    (void)snprintf(path, sizeof(path), "%s", tmp_path);
    (void)snprintf(sub, sizeof(sub), "%s/a.pem", tmp_path);
    items[0] = path; /* the directory */
    conf.tls_certificates = (struct conf_list){1, items};
    assert_int_equal(keyd_keys_load(&k, tmp_dir, &conf, &err), 0);
    assert_int_equal(k.n, 1);
    assert_true(slice_starts(buf_slice(&k.keys[0]->names), SLICE("a.example.test")));
    keyd_keys_free(&k);
    items[1] = sub; /* the same once more */
    conf.tls_certificates.n = 2;
    assert_int_equal(keyd_keys_load(&k, tmp_dir, &conf, &err), ERR_CONFIG);
    assert_int_equal(k.n, 0);
    items[0] = "/nonexistent/x.pem";
    assert_int_equal(keyd_keys_load(&k, tmp_dir, &conf, &err), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tbs),         cmocka_unit_test(test_selfsigned),      cmocka_unit_test(test_key_parse_errors),
        cmocka_unit_test(test_sign_rules),  cmocka_unit_test(test_rest),            cmocka_unit_test(test_rest_damaged),
        cmocka_unit_test(test_ticket_rotation), cmocka_unit_test(test_keyd_keys),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
