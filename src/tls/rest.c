/* Keys at rest: see rest.h. */
#include "tls/rest.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/secret.h"

#define FILE_NAME "master.key"
#define FILE_TEMPORARY "master.key.new"
#define FILE_MAGIC "KKMASTER"
#define FILE_VERSION 1
#define FILE_SIZE 56
#define FILE_SUM_AT 48
#define WRAP_VERSION 1
#define NAME_SIZE 8
#define NONCE_SIZE 12
#define TAG_SIZE 16

struct rest_master {
    uint8_t key[32];
    uint8_t name[NAME_SIZE]; /* of the key: lets a wrong master key be told from a changed blob */
};

static int digest(const void *p, size_t n, uint8_t out[32])
{
    unsigned got = 0;
    return EVP_Digest(p, n, out, &got, EVP_sha256(), NULL) == 1 && got == 32 ? 0 : -ENOMEM;
}

static int name_key(struct rest_master *m)
{
    uint8_t in[8 + 32], sum[32];
    memcpy(in, "KKname1", 8);
    memcpy(in + 8, m->key, 32);
    int rc = digest(in, sizeof(in), sum);
    memcpy(m->name, sum, NAME_SIZE);
    secret_wipe(in, sizeof(in));
    secret_wipe(sum, sizeof(sum));
    return rc;
}

static int parse_file(struct slice file, struct rest_master *m, struct err *err)
{
    struct slice magic, key, sum;
    uint32_t version, flags;
    uint8_t expect[32];
    struct slice s = file;
    if (file.n != FILE_SIZE || !slice_get_bytes(&s, 8, &magic) || !slice_eq(magic, SLICE(FILE_MAGIC)))
        return err_set(err, ERR_CORRUPT, FILE_NAME ": not a master key file; restore it from your backup");
    (void)slice_get_u32(&s, &version);
    (void)slice_get_u32(&s, &flags);
    (void)slice_get_bytes(&s, 32, &key);
    (void)slice_get_bytes(&s, 8, &sum);
    if (version != FILE_VERSION || flags != 0)
        return err_set(err, ERR_VERSION, FILE_NAME ": version %u is newer than this program", version);
    int rc = digest(file.p, FILE_SUM_AT, expect);
    if (rc != 0)
        return err_set(err, rc, FILE_NAME ": out of memory");
    if (!secret_eq(sum, slice_of(expect, 8)))
        return err_set(err, ERR_CORRUPT, FILE_NAME ": damaged; restore it from your backup");
    memcpy(m->key, key.p, 32);
    return 0;
}

static int read_file(int fd, struct rest_master *m, struct err *err)
{
    uint8_t file[FILE_SIZE + 1];
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_errno(err, FILE_NAME);
    if (!S_ISREG(st.st_mode) || (st.st_mode & 077) != 0)
        return err_set(err, ERR_DENIED, FILE_NAME ": mode %04o lets others read it: chmod 600", (unsigned)st.st_mode & 07777);
    ssize_t n = pread(fd, file, sizeof(file), 0);
    if (n < 0)
        return err_errno(err, FILE_NAME);
    int rc = parse_file(slice_of(file, (size_t)n), m, err);
    secret_wipe(file, sizeof(file));
    return rc;
}

static int write_all(int fd, const uint8_t *p, size_t n)
{
    while (n > 0) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return -errno;
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

/* A name of its own first, then link(2), which never replaces: a crash leaves no half file and two starts do not overwrite each other's. */
static int write_file(int dir, const uint8_t file[FILE_SIZE], struct err *err)
{
    (void)unlinkat(dir, FILE_TEMPORARY, 0);
    int fd = openat(dir, FILE_TEMPORARY, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(err, FILE_TEMPORARY);
    int rc = write_all(fd, file, FILE_SIZE);
    if (rc == 0 && fsync(fd) != 0)
        rc = -errno;
    if (close(fd) != 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && linkat(dir, FILE_TEMPORARY, dir, FILE_NAME, 0) != 0)
        rc = -errno;
    (void)unlinkat(dir, FILE_TEMPORARY, 0);
    if (rc == 0 && fsync(dir) != 0)
        rc = -errno;
    return rc == 0 ? 0 : err_set(err, rc, FILE_NAME " cannot be made: %s", err_name(rc));
}

static int make_file(int dir, struct rest_master *m, struct err *err)
{
    struct buf b;
    uint8_t sum[32];
    buf_init(&b, FILE_SIZE);
    rand_bytes(m->key, sizeof(m->key));
    int rc = buf_reserve(&b, FILE_SIZE);
    buf_put_str(&b, FILE_MAGIC);
    buf_put_u32(&b, FILE_VERSION);
    buf_put_u32(&b, 0);
    buf_put(&b, m->key, sizeof(m->key));
    if (rc == 0 && buf_ok(&b))
        rc = digest(b.p, b.n, sum);
    buf_put(&b, sum, 8);
    if (rc != 0 || !buf_ok(&b))
        rc = err_set(err, -ENOMEM, FILE_NAME ": out of memory");
    else
        rc = write_file(dir, (const uint8_t *)b.p, err);
    buf_done_secret(&b);
    return rc;
}

int rest_master_open(int dir, struct rest_master **ret, bool *ret_made, struct err *err)
{
    struct rest_master *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return err_set(err, -ENOMEM, FILE_NAME ": out of memory");
    int rc;
    int fd = openat(dir, FILE_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool make = fd < 0 && errno == ENOENT;
    if (fd >= 0) {
        rc = read_file(fd, m, err);
        (void)close(fd);
    } else {
        rc = make ? make_file(dir, m, err) : err_errno(err, FILE_NAME);
    }
    if (rc == 0)
        rc = name_key(m);
    if (rc != 0) {
        rest_master_free(m);
        return rc;
    }
    *ret = m;
    *ret_made = make;
    return 0;
}

void rest_master_free(struct rest_master *m)
{
    if (m == NULL)
        return;
    secret_wipe(m, sizeof(*m));
    free(m);
}

/* Feeds what is authenticated but not encrypted. */
static bool put_context(EVP_CIPHER_CTX *c, const struct rest_master *m, struct slice context)
{
    static const unsigned char label[] = "kakitome rest 1"; /* with its NUL */
    int n;
    return EVP_CipherUpdate(c, NULL, &n, label, sizeof(label)) == 1 && EVP_CipherUpdate(c, NULL, &n, m->name, NAME_SIZE) == 1 &&
           EVP_CipherUpdate(c, NULL, &n, (const unsigned char *)context.p, (int)context.n) == 1;
}

int rest_wrap(const struct rest_master *m, struct slice context, struct slice key, uint8_t *out, size_t *ret_n)
{
    uint8_t *nonce = out + 1 + NAME_SIZE, *text = nonce + NONCE_SIZE;
    int n = 0, last = 0;
    if (key.n == 0 || key.n > REST_KEY_MAX || context.n == 0 || context.n > REST_CONTEXT_MAX)
        return ERR_LIMIT;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    out[0] = WRAP_VERSION;
    memcpy(out + 1, m->name, NAME_SIZE);
    rand_bytes(nonce, NONCE_SIZE);
    bool ok = c != NULL && EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, m->key, nonce) == 1 && put_context(c, m, context) &&
              EVP_EncryptUpdate(c, text, &n, (const unsigned char *)key.p, (int)key.n) == 1 &&
              EVP_EncryptFinal_ex(c, text + n, &last) == 1 &&
              EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG_SIZE, text + key.n) == 1;
    EVP_CIPHER_CTX_free(c);
    if (!ok)
        return -ENOMEM;
    *ret_n = key.n + REST_OVERHEAD;
    return 0;
}

int rest_unwrap(const struct rest_master *m, struct slice context, struct slice wrapped, uint8_t *out, size_t *ret_n)
{
    if (wrapped.n <= REST_OVERHEAD || wrapped.n > REST_WRAPPED_MAX || context.n == 0 || context.n > REST_CONTEXT_MAX)
        return ERR_CORRUPT;
    const unsigned char *p = (const unsigned char *)wrapped.p;
    if (p[0] != WRAP_VERSION)
        return ERR_VERSION;
    if (memcmp(p + 1, m->name, NAME_SIZE) != 0)
        return ERR_CORRUPT;
    const unsigned char *nonce = p + 1 + NAME_SIZE, *text = nonce + NONCE_SIZE;
    size_t key_n = wrapped.n - REST_OVERHEAD;
    uint8_t tag[TAG_SIZE];
    int n = 0, last = 0;
    memcpy(tag, text + key_n, TAG_SIZE);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    bool ok = c != NULL && EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, m->key, nonce) == 1 && put_context(c, m, context) &&
              EVP_DecryptUpdate(c, out, &n, text, (int)key_n) == 1 &&
              EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG_SIZE, tag) == 1 && EVP_DecryptFinal_ex(c, out + n, &last) == 1;
    EVP_CIPHER_CTX_free(c);
    if (!ok) {
        secret_wipe(out, key_n);
        return ERR_CORRUPT;
    }
    *ret_n = key_n;
    return 0;
}
