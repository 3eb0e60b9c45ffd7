/* Private keys with their chains: see keyfile.h. Runs in keyd alone. */
#include "tls/keyfile.h"

#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/secret.h"
#include "tls/tbs.h"

int64_t tls_asn1_time_ms(const ASN1_TIME *t)
{
    struct tm tm;
    if (t == NULL || ASN1_TIME_to_tm(t, &tm) != 1)
        return 0;
    return (int64_t)timegm(&tm) * 1000;
}

static bool curve_ok(EVP_PKEY *key)
{
    static const char *const curves[] = {"prime256v1", "secp384r1", "secp521r1"};
    char group[64];
    if (EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) != 1)
        return false;
    for (size_t i = 0; i < sizeof(curves) / sizeof(curves[0]); i++)
        if (strcmp(group, curves[i]) == 0)
            return true;
    return false;
}

static int check_key(struct tls_key *k, const char *name, struct err *err)
{
    int bits = EVP_PKEY_get_bits(k->key);
    if (EVP_PKEY_is_a(k->key, "EC"))
        k->type = TLS_KEY_EC;
    else if (EVP_PKEY_is_a(k->key, "RSA"))
        k->type = TLS_KEY_RSA;
    else if (EVP_PKEY_is_a(k->key, "ED25519"))
        k->type = TLS_KEY_ED25519;
    else
        return err_set(err, ERR_CONFIG, "%s: the private key is neither EC nor RSA nor Ed25519", name);
    if (k->type == TLS_KEY_EC && !curve_ok(k->key))
        return err_set(err, ERR_CONFIG, "%s: the private key's curve is not P-256, P-384 or P-521", name);
    if (k->type == TLS_KEY_RSA && (bits < 2048 || bits > 8192))
        return err_set(err, ERR_CONFIG, "%s: RSA of %d bits; 2048 to 8192 are accepted", name, bits);
    return 0;
}

/* Encrypted keys are not asked for a passphrase: there is nobody to answer. */
static int no_passphrase(char *out, int size, int writing, void *arg)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

static EVP_PKEY *read_key(struct slice pem)
{
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    EVP_PKEY *key = b != NULL ? PEM_read_bio_PrivateKey(b, NULL, no_passphrase, NULL) : NULL;
    BIO_free(b);
    return key;
}

static size_t read_certificates(struct slice pem, X509 *certs[KEYFILE_CHAIN_MAX + 1])
{
    size_t n = 0;
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    while (b != NULL && n <= KEYFILE_CHAIN_MAX && (certs[n] = PEM_read_bio_X509(b, NULL, no_passphrase, NULL)) != NULL)
        n++;
    BIO_free(b);
    return n;
}

static void put_certificate(struct buf *out, X509 *cert)
{
    BIO *b = BIO_new(BIO_s_mem());
    char *text;
    if (b != NULL && PEM_write_bio_X509(b, cert) == 1) {
        long n = BIO_get_mem_data(b, &text);
        buf_put(out, text, (size_t)n);
    } else {
        out->failed = true;
    }
    BIO_free(b);
}

static bool dns_name_ok(struct slice name)
{
    if (name.n == 0 || name.n > 253)
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (!ascii_is_alnum(name.p[i]) && strchr("-._*", name.p[i]) == NULL)
            return false;
    return slice_find(name, '\0') == name.n;
}

static void put_name(struct buf *out, struct slice name)
{
    if (out->n + name.n + 1 > out->max)
        return; /* a thousand names on one certificate: those that fit are enough to select it by */
    if (out->n != 0)
        buf_put_char(out, ' ');
    for (size_t i = 0; i < name.n; i++)
        buf_put_char(out, ascii_lower(name.p[i]));
}

static void put_names(struct buf *out, X509 *leaf)
{
    GENERAL_NAMES *all = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(all); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(all, i);
        if (g->type != GEN_DNS)
            continue;
        struct slice name = slice_of(ASN1_STRING_get0_data(g->d.dNSName), (size_t)ASN1_STRING_length(g->d.dNSName));
        if (dns_name_ok(name))
            put_name(out, name);
    }
    GENERAL_NAMES_free(all);
}

/* The leaf, then the others in their order. */
static int take_chain(struct tls_key *k, X509 **certs, size_t n, const char *name, struct err *err)
{
    size_t leaf = n;
    for (size_t i = 0; i < n && leaf == n; i++)
        if (EVP_PKEY_eq(X509_get0_pubkey(certs[i]), k->key) == 1)
            leaf = i;
    if (leaf == n)
        return err_set(err, ERR_CONFIG, n == 0 ? "%s: no certificate in it" : "%s: no certificate matches the private key", name);
    if (n > KEYFILE_CHAIN_MAX)
        return err_set(err, ERR_CONFIG, "%s: more than %d certificates", name, KEYFILE_CHAIN_MAX);
    put_certificate(&k->chain_pem, certs[leaf]);
    for (size_t i = 0; i < n; i++)
        if (i != leaf)
            put_certificate(&k->chain_pem, certs[i]);
    put_names(&k->names, certs[leaf]);
    k->not_before_ms = tls_asn1_time_ms(X509_get0_notBefore(certs[leaf]));
    k->not_after_ms = tls_asn1_time_ms(X509_get0_notAfter(certs[leaf]));
    if (!buf_ok(&k->chain_pem) || !buf_ok(&k->names))
        return err_set(err, ERR_CONFIG, "%s: the certificate chain is larger than %d bytes", name, KEYFILE_CHAIN_PEM_MAX);
    return tls_key_id(k->key, k->id);
}

int tls_key_parse(struct slice pem, const char *name, struct tls_key **ret, struct err *err)
{
    X509 *certs[KEYFILE_CHAIN_MAX + 1] = {NULL};
    struct tls_key *k = calloc(1, sizeof(*k));
    if (k == NULL)
        return err_set(err, -ENOMEM, "%s: out of memory", name);
    buf_init(&k->chain_pem, KEYFILE_CHAIN_PEM_MAX);
    buf_init(&k->names, KEYFILE_NAMES_MAX);
    ERR_clear_error();
    k->key = read_key(pem);
    int rc = k->key != NULL ? check_key(k, name, err)
                            : err_set(err, ERR_CONFIG, "%s: no private key without passphrase in it", name);
    if (rc == 0) {
        size_t n = read_certificates(pem, certs);
        rc = take_chain(k, certs, n, name, err);
        for (size_t i = 0; i < n; i++)
            X509_free(certs[i]);
    }
    ERR_clear_error();
    if (rc != 0) {
        tls_key_free(k);
        return rc;
    }
    *ret = k;
    return 0;
}

void tls_key_free(struct tls_key *k)
{
    if (k == NULL)
        return;
    EVP_PKEY_free(k->key); /* OpenSSL clears private numbers */
    buf_done(&k->chain_pem);
    buf_done(&k->names);
    free(k);
}

static int read_file(int fd, struct buf *text)
{
    for (;;) {
        int rc = buf_reserve(text, 4096);
        if (rc != 0)
            return rc;
        ssize_t n = read(fd, text->p + text->n, 4096);
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        text->n += (size_t)n;
    }
}

int tls_key_load(int dir, const char *path, struct tls_key **ret, struct err *err)
{
    struct buf text;
    struct stat st;
    int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 && errno == EACCES)
        return err_set(err, -EACCES, "%s: keyd (user id %u) may not read it: chown root:%u, chmod 640", path,
                       (unsigned)geteuid(), (unsigned)geteuid());
    if (fd < 0)
        return err_errno(err, "%s", path);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        (void)close(fd);
        return err_set(err, ERR_CONFIG, "%s: not a regular file", path);
    }
    if ((st.st_mode & S_IROTH) != 0) {
        (void)close(fd);
        return err_set(err, ERR_CONFIG, "%s: a private key that everybody may read (mode %04o): chmod o-r", path,
                       (unsigned)st.st_mode & 07777);
    }
    /* Reserved at once, so that no copy of the key stays behind where a growing buffer was. */
    buf_init(&text, KEYFILE_MAX + 4096);
    int rc = buf_reserve(&text, KEYFILE_MAX);
    if (rc == 0)
        rc = read_file(fd, &text);
    (void)close(fd);
    if (rc != 0)
        err_set(err, rc, "%s: cannot be read, or is larger than %d bytes", path, KEYFILE_MAX);
    else
        rc = tls_key_parse(buf_slice(&text), path, ret, err);
    buf_done_secret(&text);
    return rc;
}

/* NULL when the scheme may be used; else the reason. */
static const char *scheme_problem(const struct tls_key *k, const struct tls_scheme *scheme, enum tbs_kind kind)
{
    char group[64] = "";
    if (scheme == NULL)
        return "unknown signature scheme";
    if (scheme->key != k->type)
        return "the scheme is not one of this key";
    if (kind == TBS_REFUSED)
        return "not a TLS handshake signature";
    if (kind != TBS_TLS13)
        return NULL;
    if (!scheme->tls13)
        return "the scheme is not one of TLS 1.3";
    if (scheme->curve != NULL &&
        (EVP_PKEY_get_group_name(k->key, group, sizeof(group), NULL) != 1 || strcmp(group, scheme->curve) != 0))
        return "the scheme is not one of this key's curve";
    return NULL;
}

static bool set_pss(EVP_PKEY_CTX *c)
{
    return EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_PSS_PADDING) == 1 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(c, RSA_PSS_SALTLEN_DIGEST) == 1;
}

int tls_key_sign(const struct tls_key *k, unsigned number, struct slice tbs, uint8_t *sig, size_t cap, size_t *ret_n,
                 const char **ret_why)
{
    const struct tls_scheme *scheme = tls_scheme_find(number);
    *ret_why = scheme_problem(k, scheme, tls_tbs_check(tbs));
    if (*ret_why != NULL)
        return ERR_DENIED;
    EVP_MD_CTX *m = EVP_MD_CTX_new();
    EVP_PKEY_CTX *c;
    size_t n = cap;
    ERR_clear_error();
    bool ok = m != NULL && EVP_DigestSignInit_ex(m, &c, scheme->digest, NULL, NULL, k->key, NULL) == 1 &&
              (!scheme->pss || set_pss(c)) && EVP_DigestSign(m, sig, &n, (const unsigned char *)tbs.p, tbs.n) == 1;
    EVP_MD_CTX_free(m);
    ERR_clear_error();
    if (!ok) {
        *ret_why = "the signature failed";
        return -EIO;
    }
    *ret_n = n;
    return 0;
}
