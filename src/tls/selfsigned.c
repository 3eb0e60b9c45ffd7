/* A certificate of our own making: see selfsigned.h. Runs in keyd before it serves. */
#include "tls/selfsigned.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secret.h"

#define DAYS 730
#define RENEW_BEFORE_MS (INT64_C(30) * 86400 * 1000)
#define PEM_TEMPORARY SELFSIGNED_PEM ".new"
#define CRT_TEMPORARY SELFSIGNED_CRT ".new"

static bool has_name(struct slice names, const char *name)
{
    while (names.n != 0)
        if (slice_ieq(slice_cut(&names, ' '), slice_str(name)))
            return true;
    return false;
}

static bool still_good(const struct tls_key *k, const char *const *names, size_t n)
{
    if (k->not_after_ms - clock_real_ms() < RENEW_BEFORE_MS)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!has_name(buf_slice(&k->names), names[i]))
            return false;
    return true;
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX c;
    X509V3_set_ctx(&c, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &c, nid, value);
    bool ok = e != NULL && X509_add_ext(cert, e, -1) == 1;
    X509_EXTENSION_free(e);
    return ok;
}

static bool set_serial(X509 *cert)
{
    unsigned char serial[16];
    rand_bytes(serial, sizeof(serial));
    serial[0] = (unsigned char)((serial[0] & 0x7f) | 0x40); /* RFC 5280 4.1.2.2: positive */
    BIGNUM *number = BN_bin2bn(serial, sizeof(serial), NULL);
    bool ok = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;
    BN_free(number);
    return ok;
}

static X509 *new_certificate(const char *common_name, EVP_PKEY *key, X509 *issuer)
{
    X509 *cert = X509_new();
    X509_NAME *subject = cert != NULL ? X509_get_subject_name(cert) : NULL;
    bool ok = cert != NULL && X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
              X509_gmtime_adj(X509_getm_notBefore(cert), -3600) != NULL &&
              X509_time_adj_ex(X509_getm_notAfter(cert), DAYS, 0, NULL) != NULL &&
              X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1, 0) == 1 &&
              X509_set_issuer_name(cert, issuer != NULL ? X509_get_subject_name(issuer) : subject) == 1 &&
              X509_set_pubkey(cert, key) == 1;
    if (!ok) {
        X509_free(cert);
        return NULL;
    }
    return cert;
}

static X509 *make_authority(EVP_PKEY *key)
{
    X509 *cert = new_certificate("Kakitome trial authority (its key no longer exists)", key, NULL);
    if (cert != NULL && add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
        add_extension(cert, cert, NID_key_usage, "critical,keyCertSign") &&
        add_extension(cert, cert, NID_subject_key_identifier, "hash") && X509_sign(cert, key, EVP_sha256()) > 0)
        return cert;
    X509_free(cert);
    return NULL;
}

static X509 *make_leaf(EVP_PKEY *key, const char *const *names, size_t n, X509 *authority, EVP_PKEY *authority_key)
{
    struct buf alt;
    buf_init(&alt, 64 * 1024);
    for (size_t i = 0; i < n; i++)
        buf_printf(&alt, "DNS:%s,", names[i]);
    buf_put_str(&alt, "IP:127.0.0.1,IP:::1");
    buf_put_char(&alt, '\0');
    X509 *cert = new_certificate("Kakitome trial certificate", key, authority);
    bool ok = cert != NULL && buf_ok(&alt) && add_extension(cert, authority, NID_basic_constraints, "critical,CA:FALSE") &&
              add_extension(cert, authority, NID_key_usage, "critical,digitalSignature") &&
              add_extension(cert, authority, NID_ext_key_usage, "serverAuth") &&
              add_extension(cert, authority, NID_subject_key_identifier, "hash") &&
              add_extension(cert, authority, NID_authority_key_identifier, "keyid:always") &&
              add_extension(cert, authority, NID_subject_alt_name, alt.p) && X509_sign(cert, authority_key, EVP_sha256()) > 0;
    buf_done(&alt);
    if (ok)
        return cert;
    X509_free(cert);
    return NULL;
}

/* Written beside, synced, then renamed: never half a file. */
static int replace_file(int dir, const char *temporary, const char *name, mode_t mode, BIO *content, struct err *err)
{
    char *p;
    long left = BIO_get_mem_data(content, &p);
    (void)unlinkat(dir, temporary, 0);
    int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return err_errno(err, "%s", temporary);
    int rc = fchmod(fd, mode) == 0 ? 0 : -errno;
    while (rc == 0 && left > 0) {
        ssize_t n = write(fd, p, (size_t)left);
        rc = n < 0 ? -errno : 0;
        p += n > 0 ? n : 0;
        left -= n > 0 ? n : 0;
    }
    if (rc == 0 && fsync(fd) != 0)
        rc = -errno;
    (void)close(fd);
    if (rc == 0 && renameat(dir, temporary, dir, name) != 0)
        rc = -errno;
    return rc == 0 ? 0 : err_set(err, rc, "%s cannot be written: %s", name, err_name(rc));
}

static int write_files(int dir, EVP_PKEY *key, X509 *leaf, X509 *authority, struct err *err)
{
    BIO *pem = BIO_new(BIO_s_secmem()), *crt = BIO_new(BIO_s_mem());
    int rc = -ENOMEM;
    if (pem != NULL && crt != NULL && PEM_write_bio_PrivateKey(pem, key, NULL, NULL, 0, NULL, NULL) == 1 &&
        PEM_write_bio_X509(pem, leaf) == 1 && PEM_write_bio_X509(pem, authority) == 1 && PEM_write_bio_X509(crt, authority) == 1) {
        rc = replace_file(dir, CRT_TEMPORARY, SELFSIGNED_CRT, 0644, crt, err);
        if (rc == 0)
            rc = replace_file(dir, PEM_TEMPORARY, SELFSIGNED_PEM, 0600, pem, err);
        if (rc == 0 && fsync(dir) != 0)
            rc = err_errno(err, "keyd's directory");
    }
    BIO_free(pem);
    BIO_free(crt);
    return rc;
}

static int make(int dir, const char *const *names, size_t n, struct err *err)
{
    EVP_PKEY *key = EVP_EC_gen("P-256"), *authority_key = EVP_EC_gen("P-256");
    X509 *authority = authority_key != NULL ? make_authority(authority_key) : NULL;
    X509 *leaf = key != NULL && authority != NULL ? make_leaf(key, names, n, authority, authority_key) : NULL;
    int rc = leaf != NULL ? write_files(dir, key, leaf, authority, err)
                          : err_set(err, ERR_CONFIG, "a trial certificate cannot be made (are server.hostname and server.domains names?)");
    X509_free(leaf);
    X509_free(authority);
    EVP_PKEY_free(authority_key); /* the end of the authority */
    EVP_PKEY_free(key);
    ERR_clear_error();
    return rc;
}

int selfsigned_load(int dir, const char *const *names, size_t n_names, struct tls_key **ret, bool *ret_made, struct err *err)
{
    const char *all[SELFSIGNED_NAMES_MAX + 1];
    size_t n = 0;
    for (size_t i = 0; i < n_names && n < SELFSIGNED_NAMES_MAX; i++)
        if (strcmp(names[i], "localhost") != 0)
            all[n++] = names[i];
    all[n++] = "localhost";
    struct tls_key *k = NULL;
    *ret_made = false;
    int rc = tls_key_load(dir, SELFSIGNED_PEM, &k, NULL);
    if (rc == 0 && still_good(k, all, n)) {
        *ret = k;
        return 0;
    }
    tls_key_free(k);
    rc = make(dir, all, n, err);
    if (rc != 0)
        return rc;
    *ret_made = true;
    return tls_key_load(dir, SELFSIGNED_PEM, ret, err);
}
