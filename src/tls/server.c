/* Certificates by server name: see server.h. Runs in tlsd; the name is the client's word. */
#include "tls/server.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/map.h"
#include "tls/bio.h"
#include "tls/keyfile.h"
#include "tls/provider.h"

#define SEND_TICKETS 1 /* of TLS 1.3; mail programs open few connections at a time */

/* One context: the certificates of one set of names. */
struct entry {
    SSL_CTX *ctx;
    struct buf names;
};

struct tls_server {
    unsigned refs;
    const struct tls_policy *policy;
    struct ticket_keys *tickets;
    int64_t session_ms;
    struct entry entries[TLS_SERVER_KEYS_MAX];
    size_t n, n_keys;
    struct entry *by_default;
    struct map names; /* lower case, "*.example.com" for wildcards -> struct entry */
};

/* What hangs on a connection: nothing is allocated, the protocol is an index and the alert a number. */
struct protocol {
    const char *name;
    struct slice alpn; /* with its length byte; empty: none is registered */
};
static const struct protocol protocols[] = {
    {"smtp", {"", 0}}, {"lmtp", {"", 0}}, {"imap", {"\4imap", 5}}, {"pop3", {"\4pop3", 5}}, {"sieve", {"\13managesieve", 12}}};
#define N_PROTOCOLS (sizeof(protocols) / sizeof(protocols[0]))
#define EX_PROTOCOL 0
#define EX_ALERT 1
static int ex_indexes[2] = {-1, -1};

static int ex(int which)
{
    if (ex_indexes[which] < 0)
        ex_indexes[which] = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    return ex_indexes[which];
}

static void on_info(const SSL *ssl, int where, int value)
{
    /* value: level and description, one byte each. Warnings (close_notify, user_canceled) end nothing by themselves. */
    if ((where & SSL_CB_ALERT) != 0 && (value >> 8) == SSL3_AL_FATAL)
        (void)SSL_set_ex_data((SSL *)(uintptr_t)ssl, ex(EX_ALERT), (void *)(uintptr_t)(unsigned)(value & 0xff));
}

unsigned tls_ssl_alert(const SSL *ssl)
{
    return (unsigned)(uintptr_t)SSL_get_ex_data(ssl, ex(EX_ALERT));
}

static struct entry *find_name(const struct tls_server *s, const char *name)
{
    char lower[256];
    size_t n = strlen(name);
    while (n > 0 && name[n - 1] == '.')
        n--;
    if (n == 0 || n >= sizeof(lower) - 1)
        return NULL;
    for (size_t i = 0; i < n; i++)
        lower[i + 1] = ascii_lower(name[i]);
    struct entry *e = map_get(&s->names, slice_of(lower + 1, n));
    if (e != NULL)
        return e;
    /* RFC 9525 6.3: a wildcard stands for one whole leftmost label. */
    size_t dot = slice_find(slice_of(lower + 1, n), '.');
    if (dot == 0 || dot + 1 >= n)
        return NULL;
    lower[dot] = '*';
    return map_get(&s->names, slice_of(lower + dot, n - dot + 1));
}

static int on_server_name(SSL *ssl, int *alert, void *arg)
{
    const struct tls_server *s = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)alert;
    if (name == NULL)
        return SSL_TLSEXT_ERR_NOACK;
    struct entry *e = find_name(s, name);
    if (e == NULL)
        return SSL_TLSEXT_ERR_NOACK; /* the default certificate: the client decides whether it will do */
    if (SSL_get_SSL_CTX(ssl) != e->ctx && SSL_set_SSL_CTX(ssl, e->ctx) == NULL)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    return SSL_TLSEXT_ERR_OK;
}

/* The name in a server_name extension (RFC 6066 3), before OpenSSL has read it; empty when there is none or it is malformed (then OpenSSL
 * refuses the handshake soon after). */
static struct slice early_name(SSL *ssl)
{
    const unsigned char *p;
    size_t n;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) != 1 || n < 5 || p[2] != TLSEXT_NAMETYPE_host_name)
        return SLICE_EMPTY;
    return slice_head(slice_of(p + 5, n - 5), (size_t)p[3] << 8 | p[4]);
}

/* A session is bound to protocol and server name: a ticket of another one leads to a full handshake (RFC 6066 3, RFC 9325 3.7). The session
 * is looked up before any extension is read, so this is the place to say so. */
static int on_client_hello(SSL *ssl, int *alert, void *arg)
{
    const struct protocol *p = SSL_get_ex_data(ssl, ex(EX_PROTOCOL));
    struct slice name = early_name(ssl);
    unsigned char in[16 + 256], digest[32];
    unsigned n = (unsigned)strlen(p->name) + 1, digest_n = 0;
    (void)arg;
    memcpy(in, p->name, n);
    for (size_t i = 0; i < name.n && i < 256; i++)
        in[n++] = (unsigned char)ascii_lower(name.p[i]);
    if (EVP_Digest(in, n, digest, &digest_n, EVP_sha256(), NULL) == 1 && SSL_set_session_id_context(ssl, digest, digest_n) == 1)
        return SSL_CLIENT_HELLO_SUCCESS;
    *alert = SSL_AD_INTERNAL_ERROR;
    return SSL_CLIENT_HELLO_ERROR;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n, const unsigned char *in, unsigned in_n, void *arg)
{
    const struct protocol *p = SSL_get_ex_data(ssl, ex(EX_PROTOCOL));
    (void)arg;
    for (size_t i = 0; p != NULL && p->alpn.n != 0 && i + in[i] < in_n; i += (size_t)in[i] + 1) {
        if (slice_eq(slice_of(in + i, (size_t)in[i] + 1), p->alpn)) {
            *out = in + i + 1;
            *out_n = in[i];
            return SSL_TLSEXT_ERR_OK;
        }
        if (i + in[i] + 1 >= in_n)
            break;
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int set_up(struct tls_server *s, SSL_CTX *ctx, struct err *err)
{
    int rc = tls_policy_apply(s->policy, ctx, err);
    if (rc != 0)
        return rc;
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets alone: no state here */
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_info_callback(ctx, on_info);
    SSL_CTX_set_client_hello_cb(ctx, on_client_hello, NULL);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    (void)SSL_CTX_set_timeout(ctx, (long)(s->session_ms / 1000));
    if (SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name) != 1 || SSL_CTX_set_tlsext_servername_arg(ctx, s) != 1 ||
        SSL_CTX_set_num_tickets(ctx, SEND_TICKETS) != 1 || SSL_CTX_set_max_early_data(ctx, 0) != 1 ||
        ticket_keys_attach(s->tickets, ctx) != 0)
        return err_set(err, -ENOMEM, "a TLS context cannot be set up");
    return 0;
}

int tls_server_new(const struct tls_policy *policy, struct ticket_keys *tickets, int64_t session_ms, struct tls_server **ret,
                   struct err *err)
{
    struct tls_server *s = calloc(1, sizeof(*s));
    if (s == NULL || ex(EX_PROTOCOL) < 0 || ex(EX_ALERT) < 0) {
        free(s);
        return err_set(err, -ENOMEM, "out of memory");
    }
    s->refs = 1;
    s->policy = policy;
    s->tickets = tickets;
    s->session_ms = session_ms;
    map_init(&s->names);
    *ret = s;
    return 0;
}

static X509 *next_certificate(BIO *b)
{
    X509 *cert = X509_new_ex(tls_libctx(), NULL);
    if (cert != NULL && PEM_read_bio_X509(b, &cert, NULL, NULL) != NULL)
        return cert;
    X509_free(cert);
    return NULL;
}

/* The chain as libssl wants it: leaf, then a stack. */
static int read_chain(struct slice pem, X509 **ret_leaf, STACK_OF(X509) **ret_rest)
{
    X509 *cert;
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    *ret_rest = sk_X509_new_null();
    *ret_leaf = b != NULL && *ret_rest != NULL ? next_certificate(b) : NULL;
    while (*ret_leaf != NULL && sk_X509_num(*ret_rest) < KEYFILE_CHAIN_MAX && (cert = next_certificate(b)) != NULL) {
        if (sk_X509_push(*ret_rest, cert) <= 0) {
            X509_free(cert);
            break;
        }
    }
    BIO_free(b);
    ERR_clear_error(); /* the end of the text is an error to PEM_read */
    return *ret_leaf != NULL ? 0 : ERR_CONFIG;
}

/* A trust anchor at the end of the chain is not sent: RFC 8446 4.4.2 lets it out, and the client must have it anyway. */
static void drop_anchor(STACK_OF(X509) *rest)
{
    int n = sk_X509_num(rest);
    if (n > 0 && X509_self_signed(sk_X509_value(rest, n - 1), 0) == 1)
        X509_free(sk_X509_pop(rest));
}

static int use_key(SSL_CTX *ctx, struct slice pem, struct err *err)
{
    X509 *leaf = NULL;
    STACK_OF(X509) *rest = NULL;
    EVP_PKEY *key = NULL;
    ERR_clear_error();
    int rc = read_chain(pem, &leaf, &rest);
    if (rc != 0)
        err_set(err, rc, "a certificate chain of keyd cannot be read");
    else
        rc = tls_provider_key(X509_get0_pubkey(leaf), &key, err);
    if (rc == 0) {
        drop_anchor(rest);
        if (SSL_CTX_use_cert_and_key(ctx, leaf, key, rest, 1) != 1)
            rc = err_set(err, ERR_CONFIG, "a certificate cannot be used: %s", ERR_reason_error_string(ERR_peek_last_error()));
    }
    EVP_PKEY_free(key);
    X509_free(leaf);
    sk_X509_pop_free(rest, X509_free);
    ERR_clear_error();
    return rc;
}

static struct entry *entry_for(struct tls_server *s, struct slice names, struct err *err)
{
    for (size_t i = 0; i < s->n; i++)
        if (slice_eq(buf_slice(&s->entries[i].names), names))
            return &s->entries[i];
    if (s->n == TLS_SERVER_KEYS_MAX) {
        err_set(err, ERR_LIMIT, "more than %d certificates", TLS_SERVER_KEYS_MAX);
        return NULL;
    }
    struct entry *e = &s->entries[s->n];
    e->ctx = SSL_CTX_new_ex(tls_libctx(), NULL, TLS_server_method());
    if (e->ctx == NULL || set_up(s, e->ctx, err) != 0) {
        SSL_CTX_free(e->ctx);
        e->ctx = NULL;
        return NULL;
    }
    buf_init(&e->names, KEYFILE_NAMES_MAX);
    buf_put_slice(&e->names, names);
    s->n++;
    return e;
}

int tls_server_add(struct tls_server *s, struct slice names, struct slice chain_pem, bool is_default, struct err *err)
{
    struct entry *e = entry_for(s, names, err);
    if (e == NULL)
        return err != NULL && err->code != 0 ? err->code : -ENOMEM;
    int rc = use_key(e->ctx, chain_pem, err);
    if (rc != 0)
        return rc;
    s->n_keys++;
    if (is_default || s->by_default == NULL)
        s->by_default = e;
    while (names.n != 0) {
        struct slice name = slice_cut(&names, ' ');
        /* The first certificate in the configuration that has a name keeps it. */
        if (name.n != 0 && map_get(&s->names, name) == NULL && map_put(&s->names, name, e, NULL) != 0)
            return err_set(err, -ENOMEM, "out of memory");
    }
    return 0;
}

size_t tls_server_keys(const struct tls_server *s)
{
    return s->n_keys;
}

struct tls_server *tls_server_ref(struct tls_server *s)
{
    s->refs++;
    return s;
}

void tls_server_unref(struct tls_server *s)
{
    if (s == NULL || --s->refs > 0)
        return;
    for (size_t i = 0; i < s->n; i++) {
        SSL_CTX_free(s->entries[i].ctx);
        buf_done(&s->entries[i].names);
    }
    map_done(&s->names);
    free(s);
}

static const struct protocol *find_protocol(struct slice name)
{
    for (size_t i = 0; i < N_PROTOCOLS; i++)
        if (slice_eq(name, slice_str(protocols[i].name)))
            return &protocols[i];
    return NULL;
}

SSL *tls_server_ssl(struct tls_server *s, int fd, struct slice protocol)
{
    const struct protocol *p = find_protocol(protocol);
    if (p == NULL || s->by_default == NULL)
        return NULL;
    SSL *ssl = SSL_new(s->by_default->ctx);
    BIO *bio = ssl != NULL ? tls_bio_new(fd) : NULL;
    if (bio == NULL || SSL_set_ex_data(ssl, ex(EX_PROTOCOL), (void *)(uintptr_t)p) != 1) {
        BIO_free(bio);
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_bio(ssl, bio, bio);
    SSL_set_accept_state(ssl);
    return ssl;
}
