#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secret.h"
#include "io/loop.h"
#include "tls/tls_fixture.h"

/* The certificates of most tests: the first is the default. */
enum { K_EC, K_RSA, K_ED, K_WILD, K_OTHER, K_P384, K_N };
static struct tls_key *keys[K_N];
static struct ticket_keys tickets;

static void new_tickets(void)
{
    struct ticket_key k[2];
    rand_bytes(k, sizeof(k));
    k[0].expires_ms = k[1].expires_ms = clock_real_ms() + 3600000;
    ticket_keys_set(&tickets, k, 2);
}

static int set_up(void **state)
{
    (void)state;
    fixture_init();
    keys[K_EC] = fixture_key("P-256", "mail.example.test");
    keys[K_RSA] = fixture_key("RSA", "mail.example.test");
    keys[K_ED] = fixture_key("ED25519", "ed.example.test");
    keys[K_WILD] = fixture_key("P-256", "*.example.test");
    keys[K_OTHER] = fixture_key("P-256", "other.example xn--eckwd4c7c.example");
    keys[K_P384] = fixture_key("P-384", "p384.example.test");
    new_tickets();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_done();
    return 0;
}

/* What a client asks for, and what it got. */
struct client {
    struct fixture_conn *c;
    SSL_CTX *ctx;
    int least, most;
    const char *sni, *sigalgs, *ciphers12, *groups;
    const char *alpn; /* as on the wire */
    SSL_SESSION *session;
    int rc;
    bool done;
    uint8_t peer_key[TLS_KEY_ID_SIZE];
    uint8_t exporter[32];
    char line[64];
    SSL_SESSION *ret_session;
};

static int keep_session(SSL *ssl, SSL_SESSION *s)
{
    struct client *k = SSL_get_app_data(ssl);
    SSL_SESSION_free(k->ret_session);
    k->ret_session = s;
    return 1;
}

static SSL *client_ssl(struct client *k)
{
    k->ctx = fixture_client_ctx(k->least != 0 ? k->least : TLS1_2_VERSION, k->most != 0 ? k->most : TLS1_3_VERSION);
    SSL_CTX_sess_set_new_cb(k->ctx, keep_session);
    SSL *ssl = SSL_new(k->ctx);
    SSL_set_app_data(ssl, k);
    if (k->sni != NULL)
        (void)SSL_set_tlsext_host_name(ssl, k->sni);
    if (k->sigalgs != NULL)
        (void)SSL_set1_sigalgs_list(ssl, k->sigalgs);
    if (k->ciphers12 != NULL)
        (void)SSL_set_cipher_list(ssl, k->ciphers12);
    if (k->groups != NULL)
        (void)SSL_set1_groups_list(ssl, k->groups);
    if (k->alpn != NULL)
        (void)SSL_set_alpn_protos(ssl, (const unsigned char *)k->alpn, (unsigned)strlen(k->alpn));
    if (k->session != NULL)
        (void)SSL_set_session(ssl, k->session);
    return ssl;
}

/* Connects, reads one line from the server, sends one, closes in good order. */
static void run_client(void *arg)
{
    struct client *k = arg;
    size_t n = 0;
    SSL *ssl = client_ssl(k);
    k->rc = fixture_client_handshake(ssl, k->c->client_fd);
    if (k->rc == 0) {
        X509 *cert = SSL_get0_peer_certificate(ssl);
        if (cert != NULL)
            (void)tls_key_id(X509_get0_pubkey(cert), k->peer_key);
        (void)SSL_export_keying_material(ssl, k->exporter, 32, "EXPORTER-Channel-Binding", 24, (const unsigned char *)"", 0, 1);
        k->rc = fixture_read(ssl, k->c->client_fd, k->line, sizeof(k->line) - 1, &n);
        if (k->rc == 0)
            k->rc = fixture_write(ssl, k->c->client_fd, "QUIT\r\n", 6);
        (void)SSL_shutdown(ssl);
    }
    ERR_clear_error();
    SSL_free(ssl);
    SSL_CTX_free(k->ctx);
    (void)close(k->c->client_fd);
    k->c->client_fd = -1;
    k->done = true;
}

/* One whole connection; c->rc and k->rc tell how it went. */
static void converse(struct client *k, struct fixture_conn *c, struct tls_server *s, const char *proto)
{
    k->c = c;
    fixture_connect(c, s, proto);
    assert_int_equal(fiber_start("client", run_client, k, NULL), 0);
    while (c->rc == 1)
        loop_turn(10);
    if (c->plain >= 0)
        assert_int_equal(send(c->plain, "+OK hello\r\n", 11, MSG_NOSIGNAL), 11);
    for (int i = 0; i < 1000 && !k->done; i++)
        loop_turn(10);
    assert_true(k->done);
    for (int i = 0; i < 100 && c->rc == 0 && !c->ended; i++)
        loop_turn(10);
    fixture_close(c);
}

static void test_handshakes(void **state)
{
    static const struct {
        const char *name, *policy;
        int version;
        const char *sni, *sigalgs, *ciphers, *groups;
        int want_key; /* -1: refused */
        const char *want_cipher, *want_group;
    } rows[] = {
        {"TLS 1.3", "cryptrec", TLS1_3_VERSION, "mail.example.test", NULL, NULL, NULL, K_EC, "TLS_AES_128_GCM_SHA256", NULL},
        {"TLS 1.2", "cryptrec", TLS1_2_VERSION, "mail.example.test", NULL, NULL, NULL, K_EC, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", NULL},
        {"RSA-PSS, 1.3", "cryptrec", TLS1_3_VERSION, "mail.example.test", "RSA-PSS+SHA256", NULL, NULL, K_RSA, NULL, NULL},
        {"RSA-PSS SHA-512, 1.3", "cryptrec", TLS1_3_VERSION, "mail.example.test", "RSA-PSS+SHA512", NULL, NULL, K_RSA, NULL, NULL},
        {"RSA-PSS, 1.2", "cryptrec", TLS1_2_VERSION, "mail.example.test", "RSA-PSS+SHA384", NULL, NULL, K_RSA, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", NULL},
        {"RSA PKCS #1, 1.2", "cryptrec", TLS1_2_VERSION, "mail.example.test", "RSA+SHA256", NULL, NULL, K_RSA, NULL, NULL},
        {"RSA SHA-1 refused", "compatible", TLS1_2_VERSION, "mail.example.test", "RSA+SHA1", NULL, NULL, -1, NULL, NULL},
        {"Ed25519, 1.3", "cryptrec", TLS1_3_VERSION, "ed.example.test", NULL, NULL, NULL, K_ED, NULL, NULL},
        {"Ed25519, 1.2", "cryptrec", TLS1_2_VERSION, "ed.example.test", NULL, NULL, NULL, K_ED, NULL, NULL},
        {"P-384", "cryptrec", TLS1_3_VERSION, "p384.example.test", NULL, NULL, NULL, K_P384, NULL, NULL},
        {"wildcard", "cryptrec", TLS1_3_VERSION, "any.example.test", NULL, NULL, NULL, K_WILD, NULL, NULL},
        {"wildcard is one label", "cryptrec", TLS1_3_VERSION, "a.b.example.test", NULL, NULL, NULL, K_EC, NULL, NULL},
        {"no wildcard for the parent", "cryptrec", TLS1_3_VERSION, "example.test", NULL, NULL, NULL, K_EC, NULL, NULL},
        {"case and trailing dot", "cryptrec", TLS1_3_VERSION, "OTHER.Example.", NULL, NULL, NULL, K_OTHER, NULL, NULL},
        {"A-label", "cryptrec", TLS1_2_VERSION, "xn--eckwd4c7c.example", NULL, NULL, NULL, K_OTHER, NULL, NULL},
        {"no name", "cryptrec", TLS1_3_VERSION, NULL, NULL, NULL, NULL, K_EC, NULL, NULL},
        {"unknown name", "cryptrec", TLS1_3_VERSION, "nobody.invalid", NULL, NULL, NULL, K_EC, NULL, NULL},
        {"X25519", "cryptrec", TLS1_3_VERSION, NULL, NULL, NULL, "X25519", K_EC, NULL, "x25519"},
        {"P-384 group", "cryptrec", TLS1_3_VERSION, NULL, NULL, NULL, "P-384", K_EC, NULL, "secp384r1"},
        /* The groups are those of a certificate's key too in TLS 1.2 (RFC 8422 5.1), so the RSA certificate is chosen. */
        {"X25519 in 1.2", "cryptrec", TLS1_2_VERSION, NULL, NULL, NULL, "X25519", K_RSA, NULL, "x25519"},
        {"ffdhe in cryptrec", "cryptrec", TLS1_3_VERSION, NULL, NULL, NULL, "ffdhe2048", -1, NULL, NULL},
        {"ffdhe in compatible", "compatible", TLS1_3_VERSION, NULL, NULL, NULL, "ffdhe2048", K_EC, NULL, "ffdhe2048"},
        {"CBC in cryptrec", "cryptrec", TLS1_2_VERSION, NULL, NULL, "ECDHE-ECDSA-AES128-SHA256", NULL, -1, NULL, NULL},
        {"CBC in compatible", "compatible", TLS1_2_VERSION, NULL, NULL, "ECDHE-ECDSA-AES128-SHA256", NULL, K_EC, NULL, NULL},
        {"DHE in cryptrec", "cryptrec", TLS1_2_VERSION, "mail.example.test", NULL, "DHE-RSA-AES128-GCM-SHA256", NULL, -1, NULL, NULL},
        {"DHE in compatible", "compatible", TLS1_2_VERSION, "mail.example.test", NULL, "DHE-RSA-AES128-GCM-SHA256", NULL, K_RSA, NULL, NULL},
        {"RSA key exchange", "compatible", TLS1_2_VERSION, "mail.example.test", NULL, "AES128-GCM-SHA256:AES256-SHA", NULL, -1, NULL, NULL},
        {"anonymous", "compatible", TLS1_2_VERSION, NULL, NULL, "aNULL:@SECLEVEL=0", NULL, -1, NULL, NULL},
        {"CHACHA20", "cryptrec", TLS1_2_VERSION, NULL, NULL, "ECDHE-ECDSA-CHACHA20-POLY1305", NULL, K_EC, NULL, NULL},
        {"CCM", "cryptrec", TLS1_2_VERSION, NULL, NULL, "ECDHE-ECDSA-AES128-CCM", NULL, K_EC, NULL, NULL},
        {"modern has no 1.2", "modern", TLS1_2_VERSION, NULL, NULL, NULL, NULL, -1, NULL, NULL},
        {"modern", "modern", TLS1_3_VERSION, NULL, NULL, NULL, NULL, K_EC, NULL, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fixture_conn c = {0};
        struct client k = {.least = rows[i].version, .most = rows[i].version, .sni = rows[i].sni, .sigalgs = rows[i].sigalgs,
                           .ciphers12 = rows[i].ciphers, .groups = rows[i].groups};
        struct tls_server *s = fixture_server(rows[i].policy, &tickets, keys, K_N);
        converse(&k, &c, s, "smtp");
        bool ok = k.rc == 0 && c.rc == 0;
        if (ok != (rows[i].want_key >= 0))
            fail_msg("%s: client %d, server %d %s", rows[i].name, k.rc, c.rc, c.err.text);
        if (ok) {
            if (memcmp(k.peer_key, keys[rows[i].want_key]->id, TLS_KEY_ID_SIZE) != 0)
                fail_msg("%s: another certificate", rows[i].name);
            if (rows[i].want_cipher != NULL)
                assert_string_equal(c.facts.cipher, rows[i].want_cipher);
            if (rows[i].want_group != NULL)
                assert_string_equal(c.facts.group, rows[i].want_group);
            assert_string_equal(k.line, "+OK hello\r\n");
            assert_true(c.ended);
            assert_int_equal(c.end.reason, TLS_END_CLOSE_NOTIFY);
            assert_int_equal(c.end.bytes_in, 6);
            assert_true(c.facts.has_exporter);
            assert_memory_equal(c.facts.exporter, k.exporter, 32);
        } else {
            assert_int_equal(c.rc, ERR_DENIED);
        }
        SSL_SESSION_free(k.ret_session);
        tls_server_unref(s);
    }
}

static void test_versions_refused(void **state)
{
    static const int versions[] = {TLS1_VERSION, TLS1_1_VERSION};
    struct tls_server *s = fixture_server("compatible", &tickets, keys, K_N);
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct fixture_conn c = {0};
        struct client k = {.least = versions[i], .most = versions[i], .ciphers12 = "ALL:@SECLEVEL=0"};
        converse(&k, &c, s, "pop3");
        assert_int_equal(c.rc, ERR_DENIED);
        assert_true(k.rc < 0);
    }
    tls_server_unref(s);
}

static void test_alpn(void **state)
{
    static const struct {
        const char *proto, *alpn;
        bool ok;
        const char *want;
    } rows[] = {
        {"pop3", NULL, true, ""},
        {"pop3", "\4pop3", true, "pop3"},
        {"imap", "\2h2\4imap", true, "imap"},
        {"pop3", "\4imap", false, ""},
        {"pop3", "\2h2\10http/1.1", false, ""},
        {"smtp", "\10http/1.1", false, ""}, /* ALPACA */
        {"smtp", "\4smtp", false, ""},      /* not registered */
        {"sieve", "\13managesieve", true, "managesieve"},
    };
    struct tls_server *s = fixture_server("cryptrec", &tickets, keys, K_N);
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fixture_conn c = {0};
        struct client k = {.alpn = rows[i].alpn};
        converse(&k, &c, s, rows[i].proto);
        if ((c.rc == 0) != rows[i].ok)
            fail_msg("row %zu: %s", i, c.err.text);
        if (rows[i].ok)
            assert_string_equal(c.facts.alpn, rows[i].want);
        SSL_SESSION_free(k.ret_session);
    }
    tls_server_unref(s);
}

/* Connects with a session of before; true when it was resumed. */
static bool resumes(struct tls_server *s, const char *proto, int version, const char *sni, SSL_SESSION *session, SSL_SESSION **ret_session)
{
    struct fixture_conn c = {0};
    /* OpenSSL's client uses a TLS 1.3 session once. */
    SSL_SESSION *copy = session != NULL ? SSL_SESSION_dup(session) : NULL;
    struct client k = {.least = version, .most = version, .sni = sni, .session = copy};
    converse(&k, &c, s, proto);
    SSL_SESSION_free(copy);
    assert_int_equal(c.rc, 0);
    assert_int_equal(k.rc, 0);
    if (ret_session != NULL)
        *ret_session = k.ret_session;
    else
        SSL_SESSION_free(k.ret_session);
    return c.facts.resumed;
}

static void resumption(int version)
{
    struct ticket_key k[3], next[3];
    SSL_SESSION *session = NULL;
    struct tls_server *s = fixture_server("cryptrec", &tickets, keys, K_N);
    /* Another process: same ticket keys, other contexts. */
    struct tls_server *other = fixture_server("cryptrec", &tickets, keys, K_N);
    rand_bytes(k, sizeof(k));
    k[0].expires_ms = k[1].expires_ms = k[2].expires_ms = clock_real_ms() + 3600000;
    ticket_keys_set(&tickets, k, 3);
    assert_false(resumes(s, "pop3", version, "other.example", NULL, &session));
    assert_non_null(session);
    unsigned before = fixture_signatures;
    assert_true(resumes(s, "pop3", version, "other.example", session, NULL));
    assert_true(resumes(other, "pop3", version, "other.example", session, NULL));
    assert_int_equal(fixture_signatures, before); /* no private key was needed */
    /* Neither another protocol nor another name may use it. */
    assert_false(resumes(s, "imap", version, "other.example", session, NULL));
    assert_false(resumes(s, "pop3", version, "mail.example.test", session, NULL));
    /* Rotated: the key has become the previous one. */
    next[0] = k[2];
    next[1] = k[0];
    next[2] = k[1];
    ticket_keys_set(&tickets, next, 3);
    assert_true(resumes(s, "pop3", version, "other.example", session, NULL));
    /* Expired, then forgotten. */
    next[1].expires_ms = clock_real_ms() - 1;
    ticket_keys_set(&tickets, next, 3);
    assert_false(resumes(s, "pop3", version, "other.example", session, NULL));
    ticket_keys_set(&tickets, next, 1);
    assert_false(resumes(s, "pop3", version, "other.example", session, NULL));
    /* No ticket keys at all: full handshakes. */
    ticket_keys_wipe(&tickets);
    assert_false(resumes(s, "pop3", version, "other.example", session, NULL));
    SSL_SESSION_free(session);
    tls_server_unref(s);
    tls_server_unref(other);
    new_tickets();
}

static void test_resumption_12(void **state)
{
    (void)state;
    resumption(TLS1_2_VERSION);
}

static void test_resumption_13(void **state)
{
    (void)state;
    resumption(TLS1_3_VERSION);
}

/* Many at once: what one fiber leaves in the error queue must not hurt another. */
static void test_many_at_once(void **state)
{
    enum { N = 40 };
    static struct fixture_conn c[N];
    static struct client k[N];
    struct tls_server *s = fixture_server("cryptrec", &tickets, keys, K_N);
    (void)state;
    for (size_t i = 0; i < N; i++) {
        c[i] = (struct fixture_conn){0};
        k[i] = (struct client){.c = &c[i], .most = i % 2 != 0 ? TLS1_2_VERSION : TLS1_3_VERSION,
                               .sigalgs = i % 5 == 0 ? "ECDSA+SHA1" : NULL};
        fixture_connect(&c[i], s, "smtp");
        assert_int_equal(fiber_start("client", run_client, &k[i], NULL), 0);
    }
    for (int turn = 0; turn < 2000; turn++) {
        bool all = true;
        loop_turn(5);
        for (size_t i = 0; i < N; i++) {
            if (c[i].rc == 0 && c[i].plain >= 0 && !c[i].ended) {
                (void)send(c[i].plain, "+OK hello\r\n", 11, MSG_NOSIGNAL);
                (void)shutdown(c[i].plain, SHUT_WR);
            }
            all = all && k[i].done;
        }
        if (all)
            break;
    }
    for (size_t i = 0; i < N; i++) {
        assert_true(k[i].done);
        if ((k[i].rc == 0) != (i % 5 != 0))
            fail_msg("%zu: client %d, server %d %s", i, k[i].rc, c[i].rc, c[i].err.text);
        fixture_close(&c[i]);
        SSL_SESSION_free(k[i].ret_session);
    }
    tls_server_unref(s);
}

static void test_keyd_refuses(void **state)
{
    struct fixture_conn c = {0};
    struct client k = {0};
    struct tls_server *s = fixture_server("cryptrec", &tickets, keys, K_N);
    (void)state;
    fixture_sign_code = -ETIMEDOUT;
    converse(&k, &c, s, "smtp");
    fixture_sign_code = 0;
    assert_true(k.rc < 0);
    assert_int_equal(c.rc, ERR_DENIED);
    tls_server_unref(s);
}

static void test_garbage(void **state)
{
    static const struct {
        const char *name;
        struct slice bytes;
        bool close_after;
        int want;
    } rows[] = {
        {"plain text", {"EHLO client.example\r\n", 21}, false, ERR_DENIED},
        {"HTTP", {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27}, false, ERR_DENIED},
        {"SSL 2", {"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x07\x00\xc0\x01\x00", 16}, false, -ETIMEDOUT},
        {"nothing, then closed", {"", 0}, true, ERR_CLOSED},
        {"nothing", {"", 0}, false, -ETIMEDOUT},
        {"half a record", {"\x16\x03\x01\x02\x00\x01\x00", 7}, false, -ETIMEDOUT},
        {"half a record, then closed", {"\x16\x03\x01\x02\x00\x01\x00", 7}, true, ERR_CLOSED},
        {"too long a record", {"\x16\x03\x01\xff\xff\x01\x00", 7}, false, ERR_DENIED},
        {"an alert", {"\x15\x03\x01\x00\x02\x02\x28", 7}, false, ERR_DENIED},
    };
    struct tls_server *s = fixture_server("cryptrec", &tickets, keys, K_N);
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fixture_conn c = {.deadline_ms = 200};
        fixture_connect(&c, s, "smtp");
        if (rows[i].bytes.n != 0)
            assert_int_equal(send(c.client_fd, rows[i].bytes.p, rows[i].bytes.n, MSG_NOSIGNAL), rows[i].bytes.n);
        if (rows[i].close_after)
            (void)shutdown(c.client_fd, SHUT_WR);
        while (c.rc == 1)
            loop_turn(10);
        if (c.rc != rows[i].want)
            fail_msg("%s: %d %s", rows[i].name, c.rc, c.err.text);
        fixture_close(&c);
    }
    tls_server_unref(s);
}

/* A client that sends its ClientHello byte by byte is cut off at the deadline, however busy it keeps the line. */
static void test_slow_client(void **state)
{
    struct fixture_conn c = {.deadline_ms = 300};
    struct tls_server *s = fixture_server("cryptrec", &tickets, keys, K_N);
    int64_t began = clock_mono_ms();
    (void)state;
    fixture_connect(&c, s, "smtp");
    const char head[] = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for (size_t i = 0; c.rc == 1 && clock_mono_ms() - began < 2000; i++) {
        (void)send(c.client_fd, i < sizeof(head) - 1 ? head + i : "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        loop_turn(5);
        (void)usleep(2000);
    }
    assert_int_equal(c.rc, -ETIMEDOUT);
    assert_true(clock_mono_ms() - began < 2000);
    fixture_close(&c);
    tls_server_unref(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshakes),    cmocka_unit_test(test_versions_refused), cmocka_unit_test(test_alpn),
        cmocka_unit_test(test_resumption_12), cmocka_unit_test(test_resumption_13),    cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_keyd_refuses),  cmocka_unit_test(test_garbage),          cmocka_unit_test(test_slow_client),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
