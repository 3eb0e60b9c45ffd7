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

static struct tls_key *key;
static struct ticket_keys tickets;
static struct tls_server *server;

static int set_up(void **state)
{
    struct ticket_key k;
    (void)state;
    fixture_init();
    key = fixture_key("P-256", "mail.example.test");
    rand_bytes(&k, sizeof(k));
    k.expires_ms = clock_real_ms() + 3600000;
    ticket_keys_set(&tickets, &k, 1);
    server = fixture_server("cryptrec", &tickets, &key, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tls_server_unref(server);
    fixture_done();
    return 0;
}

/* A connection after its handshake, both ends in the test's hands: `ssl` is the client, used without fibers. */
struct pair {
    struct fixture_conn c;
    SSL_CTX *ctx;
    SSL *ssl;
    int version, rc;
};

static void client_handshake(void *arg)
{
    struct pair *p = arg;
    p->ctx = fixture_client_ctx(p->version, p->version);
    p->ssl = SSL_new(p->ctx);
    p->rc = fixture_client_handshake(p->ssl, p->c.client_fd);
}

static void pair_open(struct pair *p, int version)
{
    *p = (struct pair){.version = version, .rc = 1};
    fixture_connect(&p->c, server, "pop3");
    assert_int_equal(fiber_start("client", client_handshake, p, NULL), 0);
    while (p->c.rc == 1 || p->rc == 1)
        loop_turn(10);
    assert_int_equal(p->rc, 0);
    assert_int_equal(p->c.rc, 0);
}

static void pair_close(struct pair *p)
{
    SSL_free(p->ssl);
    SSL_CTX_free(p->ctx);
    ERR_clear_error();
    fixture_close(&p->c);
}

static void turns(int n)
{
    while (n-- > 0)
        loop_turn(5);
}

/* One non-blocking read of the client: bytes, 0 when nothing, -1 at close_notify, -2 otherwise. */
static int client_read(struct pair *p, char *out, size_t max)
{
    ERR_clear_error();
    int n = SSL_read(p->ssl, out, (int)max);
    if (n > 0)
        return n;
    switch (SSL_get_error(p->ssl, n)) {
    case SSL_ERROR_WANT_READ: return 0;
    case SSL_ERROR_ZERO_RETURN: return -1;
    default: return -2;
    }
}

static char pattern(size_t i)
{
    return (char)(i * 31 + i / 253);
}

/* Data of many sizes both ways at once, the readers slower than the writers, so that each side's back-pressure is met. */
static void run_bulk(int version, size_t total, size_t chunk)
{
    struct pair p;
    size_t up_sent = 0, up_got = 0, down_sent = 0, down_got = 0;
    static char out[65536], in[65536];
    pair_open(&p, version);
    for (int idle = 0; (up_got < total || down_got < total) && idle < 5000; idle++) {
        for (size_t i = 0; i < chunk; i++)
            out[i] = pattern(up_sent + i);
        size_t n = total - up_sent < chunk ? total - up_sent : chunk;
        ERR_clear_error();
        int wrote = n != 0 ? SSL_write(p.ssl, out, (int)n) : 0;
        up_sent += wrote > 0 ? (size_t)wrote : 0;
        for (size_t i = 0; i < chunk; i++)
            out[i] = pattern(down_sent + i);
        n = total - down_sent < chunk ? total - down_sent : chunk;
        ssize_t sent = n != 0 ? send(p.c.plain, out, n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
        down_sent += sent > 0 ? (size_t)sent : 0;
        loop_turn(0);
        if (idle % 3 != 0 && up_sent < total)
            continue;
        ssize_t got = recv(p.c.plain, in, chunk + 7, MSG_DONTWAIT);
        for (ssize_t i = 0; i < got; i++)
            assert_int_equal(in[i], pattern(up_got + (size_t)i));
        up_got += got > 0 ? (size_t)got : 0;
        int had = client_read(&p, in, sizeof(in));
        for (int i = 0; i < had; i++)
            assert_int_equal(in[i], pattern(down_got + (size_t)i));
        assert_true(had >= 0);
        down_got += (size_t)had;
        if (got > 0 || had > 0)
            idle = 0;
    }
    assert_int_equal(up_got, total);
    assert_int_equal(down_got, total);
    assert_false(p.c.ended);
    pair_close(&p);
}

static void test_bulk(void **state)
{
    static const size_t chunks[] = {1, 100, 4096, 16384, 16385, 60000};
    (void)state;
    for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
        run_bulk(TLS1_3_VERSION, chunks[i] == 1 ? 2000 : 3000000, chunks[i]);
        run_bulk(TLS1_2_VERSION, chunks[i] == 1 ? 2000 : 1000000, chunks[i]);
    }
}

static void test_end_close_notify(void **state)
{
    char in[64];
    struct pair p;
    (void)state;
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        pair_open(&p, v);
        assert_int_equal(SSL_write(p.ssl, "bye", 3), 3);
        assert_int_equal(SSL_shutdown(p.ssl), 0);
        turns(5);
        assert_true(p.c.ended);
        assert_int_equal(p.c.end.reason, TLS_END_CLOSE_NOTIFY);
        assert_int_equal(recv(p.c.plain, in, sizeof(in), MSG_DONTWAIT), 3);
        assert_int_equal(recv(p.c.plain, in, sizeof(in), MSG_DONTWAIT), 0);
        /* Half-closed: the server's last words still arrive. */
        assert_int_equal(send(p.c.plain, "+OK bye\r\n", 9, MSG_NOSIGNAL), 9);
        (void)close(p.c.plain);
        p.c.plain = -1;
        turns(5);
        assert_true(p.c.gone);
        if (v == TLS1_3_VERSION) {
            assert_int_equal(client_read(&p, in, sizeof(in)), 9);
            assert_int_equal(client_read(&p, in, sizeof(in)), -1);
        }
        pair_close(&p);
    }
}

static void test_end_truncated(void **state)
{
    char in[64];
    struct pair p;
    (void)state;
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        pair_open(&p, v);
        assert_int_equal(SSL_write(p.ssl, "DATA", 4), 4);
        (void)shutdown(p.c.client_fd, SHUT_WR);
        turns(5);
        assert_true(p.c.ended);
        assert_int_equal(p.c.end.reason, TLS_END_TRUNCATED);
        assert_int_equal(recv(p.c.plain, in, sizeof(in), MSG_DONTWAIT), 4);
        assert_int_equal(recv(p.c.plain, in, sizeof(in), MSG_DONTWAIT), 0);
        assert_int_equal(send(p.c.plain, "421", 3, MSG_NOSIGNAL), 3);
        turns(5);
        assert_int_equal(client_read(&p, in, sizeof(in)), 3);
        pair_close(&p);
    }
}

static void test_end_mid_record(void **state)
{
    char in[64];
    struct pair p;
    (void)state;
    pair_open(&p, TLS1_3_VERSION);
    assert_int_equal(send(p.c.client_fd, "\x17\x03\x03\x01\x00 half of it", 16, MSG_NOSIGNAL), 16);
    turns(3);
    assert_false(p.c.ended);
    (void)shutdown(p.c.client_fd, SHUT_WR);
    turns(5);
    assert_true(p.c.ended);
    assert_int_equal(p.c.end.reason, TLS_END_TRUNCATED);
    assert_int_equal(recv(p.c.plain, in, sizeof(in), MSG_DONTWAIT), 0);
    pair_close(&p);
}

/* A record that was changed on the way: bad_record_mac, and not one byte of it gets through. */
static void test_end_alert(void **state)
{
    char in[64], record[5 + 64];
    struct pair p;
    (void)state;
    pair_open(&p, TLS1_3_VERSION);
    memset(record, 'x', sizeof(record));
    memcpy(record, "\x17\x03\x03\x00\x40", 5);
    assert_int_equal(send(p.c.client_fd, record, sizeof(record), MSG_NOSIGNAL), sizeof(record));
    turns(5);
    assert_true(p.c.ended);
    assert_int_equal(p.c.end.reason, TLS_END_ALERT);
    assert_int_equal(p.c.end.alert, SSL_AD_BAD_RECORD_MAC);
    assert_int_equal(recv(p.c.plain, in, sizeof(in), MSG_DONTWAIT), 0);
    assert_true(p.c.gone);
    pair_close(&p);
}

static void test_end_local(void **state)
{
    char in[64];
    struct pair p;
    (void)state;
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        pair_open(&p, v);
        assert_int_equal(send(p.c.plain, "221 bye\r\n", 9, MSG_NOSIGNAL), 9);
        (void)close(p.c.plain);
        p.c.plain = -1;
        turns(5);
        assert_true(p.c.ended);
        assert_int_equal(p.c.end.reason, TLS_END_LOCAL);
        assert_false(p.c.gone); /* lingers for the client's own close */
        assert_int_equal(client_read(&p, in, sizeof(in)), 9);
        assert_int_equal(client_read(&p, in, sizeof(in)), -1);
        (void)SSL_shutdown(p.ssl);
        (void)close(p.c.client_fd);
        p.c.client_fd = -1;
        turns(5);
        assert_true(p.c.gone);
        pair_close(&p);
    }
}

/* The owner half-closes: close_notify to the peer, whose data still comes. */
static void test_half_close_of_plain(void **state)
{
    char in[64];
    struct pair p;
    (void)state;
    pair_open(&p, TLS1_3_VERSION);
    assert_int_equal(send(p.c.plain, "last", 4, MSG_NOSIGNAL), 4);
    (void)shutdown(p.c.plain, SHUT_WR);
    turns(5);
    assert_int_equal(client_read(&p, in, sizeof(in)), 4);
    assert_int_equal(client_read(&p, in, sizeof(in)), -1);
    assert_int_equal(SSL_write(p.ssl, "more", 4), 4);
    turns(5);
    assert_int_equal(recv(p.c.plain, in, sizeof(in), MSG_DONTWAIT), 4);
    assert_false(p.c.ended);
    (void)SSL_shutdown(p.ssl);
    turns(5);
    assert_true(p.c.ended);
    assert_int_equal(p.c.end.reason, TLS_END_CLOSE_NOTIFY);
    assert_true(p.c.gone);
    pair_close(&p);
}

/* The owner goes away while much is unread by the peer, who takes nothing: cut off after TLS_CLOSE_MS, TLS_STALL_MS otherwise. */
static void run_stuck(bool owner_leaves)
{
    static char bytes[65536];
    struct pair p;
    int64_t mono = clock_mono_ms(), real = clock_real_ms();
    pair_open(&p, TLS1_3_VERSION);
    clock_fake_set(mono, real);
    for (int idle = 0; idle < 20; idle++) {
        while (send(p.c.plain, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
            idle = 0;
        loop_turn(0);
    }
    if (owner_leaves) {
        (void)close(p.c.plain);
        p.c.plain = -1;
    }
    loop_turn(0);
    int64_t limit = owner_leaves ? TLS_CLOSE_MS : TLS_STALL_MS;
    clock_fake_set(mono + limit - 1000, real);
    for (int i = 0; i < 5; i++)
        loop_turn(0);
    assert_false(p.c.gone);
    clock_fake_set(mono + limit + 1000, real);
    for (int i = 0; i < 5; i++)
        loop_turn(0);
    assert_true(p.c.gone);
    assert_int_equal(p.c.end.reason, TLS_END_TIMEOUT);
    clock_fake_set(-1, -1);
    pair_close(&p);
}

static void test_stuck_peer(void **state)
{
    (void)state;
    run_stuck(false);
    run_stuck(true);
}

/* The client stays although the owner closed: not longer than TLS_LINGER_MS. */
static void test_linger_ends(void **state)
{
    struct pair p;
    (void)state;
    pair_open(&p, TLS1_3_VERSION);
    int64_t mono = clock_mono_ms(), real = clock_real_ms();
    (void)close(p.c.plain);
    p.c.plain = -1;
    clock_fake_set(mono, real);
    for (int i = 0; i < 5; i++)
        loop_turn(0);
    assert_false(p.c.gone);
    clock_fake_set(mono + TLS_LINGER_MS + 100, real);
    for (int i = 0; i < 3; i++)
        loop_turn(0);
    assert_true(p.c.gone);
    assert_int_equal(p.c.end.reason, TLS_END_LOCAL);
    clock_fake_set(-1, -1);
    pair_close(&p);
}

/* Two connections share the process's read buffer: half a record of the one must survive the other's work. */
static void test_interleaved(void **state)
{
    struct pair a, b;
    char in[64];
    static char record[4096];
    BIO *mem = BIO_new(BIO_s_mem());
    (void)state;
    pair_open(&a, TLS1_3_VERSION);
    pair_open(&b, TLS1_2_VERSION);
    BIO *socket_bio = SSL_get_rbio(a.ssl);
    (void)BIO_up_ref(socket_bio);
    SSL_set0_wbio(a.ssl, mem);
    assert_int_equal(SSL_write(a.ssl, "split in pieces", 15), 15);
    int n = BIO_read(mem, record, sizeof(record));
    BIO_free(socket_bio);
    for (int i = 0; i < n; i++) {
        assert_int_equal(send(a.c.client_fd, record + i, 1, MSG_NOSIGNAL), 1);
        assert_int_equal(SSL_write(b.ssl, "x", 1), 1);
        turns(2);
        assert_int_equal(recv(b.c.plain, in, sizeof(in), MSG_DONTWAIT), 1);
    }
    turns(3);
    assert_int_equal(recv(a.c.plain, in, sizeof(in), MSG_DONTWAIT), 15);
    assert_memory_equal(in, "split in pieces", 15);
    pair_close(&a);
    pair_close(&b);
}

static void test_cut(void **state)
{
    struct pair p;
    (void)state;
    pair_open(&p, TLS1_3_VERSION);
    tls_relay_cut(p.c.relay);
    assert_true(p.c.gone);
    assert_int_equal(p.c.end.reason, TLS_END_LOCAL);
    pair_close(&p);
}

/* The client's key update is answered (RFC 8446 4.6.3) although nothing else is to be written. */
static void test_key_update(void **state)
{
    struct pair p;
    char in[64];
    (void)state;
    pair_open(&p, TLS1_3_VERSION);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(SSL_key_update(p.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_write(p.ssl, "a", 1), 1);
        turns(3);
        assert_int_equal(recv(p.c.plain, in, sizeof(in), MSG_DONTWAIT), 1);
        assert_int_equal(send(p.c.plain, "b", 1, MSG_NOSIGNAL), 1);
        turns(3);
        assert_int_equal(client_read(&p, in, sizeof(in)), 1);
    }
    pair_close(&p);
}

static void test_renegotiation_refused(void **state)
{
    struct pair p;
    char in[64];
    (void)state;
    pair_open(&p, TLS1_2_VERSION);
    assert_int_equal(SSL_renegotiate(p.ssl), 1);
    (void)SSL_do_handshake(p.ssl);
    turns(5);
    /* no_renegotiation: the connection goes on or ends, but no new handshake is made. */
    (void)client_read(&p, in, sizeof(in));
    turns(5);
    assert_false(SSL_is_init_finished(p.ssl));
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bulk),         cmocka_unit_test(test_end_close_notify),    cmocka_unit_test(test_end_truncated),
        cmocka_unit_test(test_end_mid_record), cmocka_unit_test(test_end_alert),         cmocka_unit_test(test_end_local),
        cmocka_unit_test(test_half_close_of_plain), cmocka_unit_test(test_stuck_peer),   cmocka_unit_test(test_linger_ends),
        cmocka_unit_test(test_interleaved),  cmocka_unit_test(test_cut),                 cmocka_unit_test(test_key_update),
        cmocka_unit_test(test_renegotiation_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
