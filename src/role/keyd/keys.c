/* The keys that keyd serves: see keyd.h. */
#include <dirent.h>
#include <fcntl.h>
#include <idn2.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "role/keyd/keyd.h"
#include "tls/selfsigned.h"

void keyd_keys_free(struct keyd_keys *k)
{
    for (size_t i = 0; i < k->n; i++)
        tls_key_free(k->keys[i]);
    memset(k, 0, sizeof(*k));
}

const struct tls_key *keyd_keys_find(const struct keyd_keys *k, struct slice id)
{
    for (size_t i = 0; i < k->n; i++)
        if (slice_eq(slice_of(k->keys[i]->id, TLS_KEY_ID_SIZE), id))
            return k->keys[i];
    return NULL;
}

/* Takes the key over. */
static int add(struct keyd_keys *k, struct tls_key *key, const char *path, struct err *err)
{
    int rc = 0;
    if (k->n == KEYD_KEYS_MAX)
        rc = err_set(err, ERR_CONFIG, "more than %d certificates", KEYD_KEYS_MAX);
    else if (keyd_keys_find(k, slice_of(key->id, TLS_KEY_ID_SIZE)) != NULL)
        rc = err_set(err, ERR_CONFIG, "%s: its private key is configured already", path);
    if (rc != 0) {
        tls_key_free(key);
        return rc;
    }
    k->keys[k->n++] = key;
    return 0;
}

static int add_file(struct keyd_keys *k, int dir, const char *path, struct err *err)
{
    struct tls_key *key;
    int rc = tls_key_load(dir, path, &key, err);
    return rc == 0 ? add(k, key, path, err) : rc;
}

static bool is_pem_name(const char *name)
{
    size_t n = strlen(name);
    return name[0] != '.' && n > 4 && strcmp(name + n - 4, ".pem") == 0;
}

static int pem_filter(const struct dirent *e)
{
    return is_pem_name(e->d_name);
}

/* In the order of their names, so that the default is the same at every start. */
static int add_directory(struct keyd_keys *k, const char *path, struct err *err)
{
    struct dirent **names = NULL;
    int rc = 0;
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_errno(err, "%s", path);
    int n = scandirat(dir, ".", &names, pem_filter, alphasort);
    if (n < 0)
        rc = err_errno(err, "%s", path);
    for (int i = 0; i < n; i++) {
        if (rc == 0 && (rc = add_file(k, dir, names[i]->d_name, err)) != 0)
            err_context(err, "%s", path);
        free(names[i]);
    }
    free(names);
    (void)close(dir);
    if (rc == 0 && n == 0)
        rc = err_set(err, ERR_CONFIG, "%s: no .pem file in this directory", path);
    return rc;
}

static int add_path(struct keyd_keys *k, const char *path, struct err *err)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return err_errno(err, "%s", path);
    return S_ISDIR(st.st_mode) ? add_directory(k, path, err) : add_file(k, AT_FDCWD, path, err);
}

/* Appends the name as A-labels; what is no host name is left out. */
static void add_name(char **names, size_t *n, const char *name)
{
    char *ascii = NULL;
    if (*n == SELFSIGNED_NAMES_MAX ||
        idn2_to_ascii_8z(name, &ascii, IDN2_NONTRANSITIONAL | IDN2_USE_STD3_ASCII_RULES) != IDN2_OK)
        return;
    for (size_t i = 0; i < *n; i++) {
        if (strcmp(names[i], ascii) == 0) {
            idn2_free(ascii);
            return;
        }
    }
    names[(*n)++] = ascii;
}

static int add_selfsigned(struct keyd_keys *k, int state_dir, const struct conf *conf, struct err *err)
{
    char *names[SELFSIGNED_NAMES_MAX];
    size_t n = 0;
    struct tls_key *key;
    bool made = false;
    add_name(names, &n, conf->server_hostname);
    for (size_t i = 0; i < conf->server_domains.n; i++)
        add_name(names, &n, conf->server_domains.items[i]);
    int rc = selfsigned_load(state_dir, (const char *const *)names, n, &key, &made, err);
    for (size_t i = 0; i < n; i++)
        idn2_free(names[i]);
    if (rc != 0)
        return rc;
    log_warning(made ? "keyd.selfsigned_made" : "keyd.selfsigned", L_STR("authority", SELFSIGNED_CRT));
    return add(k, key, SELFSIGNED_PEM, err);
}

int keyd_keys_load(struct keyd_keys *ret, int state_dir, const struct conf *conf, struct err *err)
{
    struct keyd_keys k = {0};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < conf->tls_certificates.n; i++)
        rc = add_path(&k, conf->tls_certificates.items[i], err);
    if (rc == 0 && k.n == 0)
        rc = add_selfsigned(&k, state_dir, conf, err);
    if (rc != 0) {
        keyd_keys_free(&k);
        return rc;
    }
    *ret = k;
    return 0;
}
