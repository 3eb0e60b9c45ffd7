/* See tls_fixture.h. */
#include "tls/tls_fixture.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secret.h"
#include "io/loop.h"
#include "tls/bio.h"
#include "tls/provider.h"

#define KEYS_MAX 16

unsigned fixture_signatures;
int fixture_sign_code;
static struct tls_key *keys[KEYS_MAX];
static size_t n_keys;

static int MAY_YIELD fake_keyd(const uint8_t key_id[TLS_KEY_ID_SIZE], unsigned scheme, struct slice tbs, uint8_t *sig, size_t cap,
                               size_t *ret_n)
{
    const char *why;
    if (fiber_self() != NULL)
        (void)fiber_yield();
    /* What another fiber may leave behind. */
    ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
    if (fixture_sign_code != 0)
        return fixture_sign_code;
    for (size_t i = 0; i < n_keys; i++) {
        if (memcmp(keys[i]->id, key_id, TLS_KEY_ID_SIZE) != 0)
            continue;
        fixture_signatures++;
        return tls_key_sign(keys[i], scheme, tbs, sig, cap, ret_n, &why);
    }
    return -ENOENT;
}

void fixture_init(void)
{
    struct err err = {0};
    int rc = loop_init(&err);
    if (rc == 0)
        rc = tls_provider_init(fake_keyd, &err);
    if (rc == 0)
        rc = tls_bio_init();
    if (rc != 0) {
        fprintf(stderr, "fixture: %s\n", err.text);
        abort();
    }
}

void fixture_done(void)
{
    for (size_t i = 0; i < n_keys; i++)
        tls_key_free(keys[i]);
    n_keys = 0;
    tls_provider_done();
    tls_bio_done();
    loop_done();
}

static EVP_PKEY *generate(const char *type)
{
    if (strcmp(type, "RSA") == 0)
        return EVP_RSA_gen(2048);
    if (strcmp(type, "ED25519") == 0)
        return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    return EVP_EC_gen(type);
}

static X509 *certify(EVP_PKEY *key, const char *names)
{
    struct buf alt;
    X509V3_CTX v3;
    struct slice rest = slice_str(names);
    X509 *cert = X509_new();
    buf_init(&alt, 4096);
    while (rest.n != 0) {
        struct slice name = slice_cut(&rest, ' ');
        buf_printf(&alt, "%sDNS:%.*s", alt.n != 0 ? "," : "", SLICE_ARG(name));
    }
    buf_put_char(&alt, '\0');
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_UTF8, (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    X509_set_pubkey(cert, key);
    X509V3_set_ctx(&v3, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &v3, NID_subject_alt_name, alt.p);
    X509_add_ext(cert, e, -1);
    X509_EXTENSION_free(e);
    X509_sign(cert, key, EVP_PKEY_is_a(key, "ED25519") ? NULL : EVP_sha256());
    buf_done(&alt);
    return cert;
}

struct tls_key *fixture_key(const char *type, const char *names)
{
    struct err err = {0};
    char *text;
    EVP_PKEY *key = generate(type);
    X509 *cert = certify(key, names);
    BIO *b = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(b, cert);
    PEM_write_bio_PrivateKey(b, key, NULL, NULL, 0, NULL, NULL);
    long n = BIO_get_mem_data(b, &text);
    if (n_keys == KEYS_MAX || tls_key_parse(slice_of(text, (size_t)n), "fixture", &keys[n_keys], &err) != 0) {
        fprintf(stderr, "fixture: %s\n", err.text);
        abort();
    }
    BIO_free(b);
    X509_free(cert);
    EVP_PKEY_free(key);
    return keys[n_keys++];
}

struct tls_server *fixture_server(const char *policy, struct ticket_keys *tickets, struct tls_key *const *ks, size_t n)
{
    struct err err = {0};
    struct tls_server *s;
    int rc = tls_server_new(tls_policy_find(slice_str(policy)), tickets, 3600000, &s, &err);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = tls_server_add(s, buf_slice(&ks[i]->names), buf_slice(&ks[i]->chain_pem), i == 0, &err);
    if (rc != 0) {
        fprintf(stderr, "fixture: %s\n", err.text);
        abort();
    }
    return s;
}

static void on_ended(void *arg, const struct tls_relay_end *end)
{
    struct fixture_conn *c = arg;
    assert(!c->ended);
    c->ended = true;
    c->end = *end;
}

static void on_gone(void *arg)
{
    struct fixture_conn *c = arg;
    c->gone = true;
    c->relay = NULL;
}

static void serve(void *arg)
{
    static const struct tls_relay_events events = {on_ended, on_gone};
    struct fixture_conn *c = arg;
    int pair[2] = {-1, -1};
    SSL *ssl = tls_server_ssl(c->server, c->server_fd, slice_str(c->proto));
    int rc = ssl != NULL ? tls_handshake(ssl, c->server_fd, id_new(), clock_deadline(c->deadline_ms), &c->err) : -EINVAL;
    tls_server_unref(c->server);
    if (rc == 0) {
        tls_handshake_facts(ssl, &c->facts);
        rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 ? 0 : -errno;
    }
    if (rc == 0) {
        c->plain = pair[1];
        rc = tls_relay_start(ssl, c->server_fd, pair[0], &events, c, &c->relay);
    } else {
        SSL_free(ssl);
        (void)close(c->server_fd);
        c->gone = true;
    }
    c->rc = rc;
}

void fixture_connect(struct fixture_conn *c, struct tls_server *server, const char *proto)
{
    int pair[2];
    int64_t deadline_ms = c->deadline_ms != 0 ? c->deadline_ms : 10000;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        abort();
    *c = (struct fixture_conn){.server = tls_server_ref(server), .proto = proto, .client_fd = pair[0], .server_fd = pair[1],
                               .plain = -1, .deadline_ms = deadline_ms, .rc = 1};
    if (fiber_start("test server", serve, c, NULL) != 0)
        abort();
}

void fixture_close(struct fixture_conn *c)
{
    if (c->client_fd >= 0)
        (void)close(c->client_fd);
    c->client_fd = -1;
    while (c->rc == 1)
        loop_turn(10);
    if (c->plain >= 0)
        (void)close(c->plain);
    c->plain = -1;
    for (int i = 0; i < 1000 && !c->gone; i++)
        loop_turn(10);
    assert(c->gone);
}

SSL_CTX *fixture_client_ctx(int least_version, int most_version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(ctx, least_version);
    SSL_CTX_set_max_proto_version(ctx, most_version);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    return ctx;
}

/* Waits for what OpenSSL wants; a negative code when it has failed or ended. */
static int MAY_YIELD client_wait(SSL *ssl, int fd, int result)
{
    struct fiber_fd *f;
    int rc;
    switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: break;
    case SSL_ERROR_ZERO_RETURN: return ERR_CLOSED;
    default: ERR_clear_error(); return -EIO;
    }
    if (fiber_fd_new(fd, &f) != 0)
        return -ENOMEM;
    rc = SSL_want_read(ssl) ? fiber_fd_wait_in(f, clock_deadline(10000)) : fiber_fd_wait_out(f, clock_deadline(10000));
    fiber_fd_free(f);
    return rc;
}

int MAY_YIELD fixture_client_handshake(SSL *ssl, int fd)
{
    BIO *b = tls_bio_new(fd);
    SSL_set_bio(ssl, b, b);
    for (;;) {
        ERR_clear_error();
        int result = SSL_connect(ssl);
        int rc = result == 1 ? 0 : client_wait(ssl, fd, result);
        if (result == 1 || rc != 0)
            return rc;
    }
}

int MAY_YIELD fixture_read(SSL *ssl, int fd, char *p, size_t max, size_t *ret_n)
{
    for (;;) {
        ERR_clear_error();
        int n = SSL_read(ssl, p, (int)max);
        if (n > 0) {
            *ret_n = (size_t)n;
            return 0;
        }
        int rc = client_wait(ssl, fd, n);
        if (rc != 0)
            return rc;
    }
}

int MAY_YIELD fixture_write(SSL *ssl, int fd, const char *p, size_t n)
{
    while (n > 0) {
        ERR_clear_error();
        int wrote = SSL_write(ssl, p, (int)n);
        if (wrote > 0) {
            p += wrote;
            n -= (size_t)wrote;
            continue;
        }
        int rc = client_wait(ssl, fd, wrote);
        if (rc != 0)
            return rc;
    }
    return 0;
}
