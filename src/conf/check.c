/* check.c: the configuration as a whole, with what it names outside of itself. */
#include <dirent.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/table.h"

#define EXPIRY_WARNING_DAYS 21

struct checking {
    const struct conf *c;
    const char *name;
    conf_report_fn *report;
    void *arg;
    bool wrong;
};

static void tell(struct checking *k, bool is_error, enum conf_option option, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static void tell(struct checking *k, bool is_error, enum conf_option option, const char *fmt, ...)
{
    char text[900], sentence[1500], where[32] = "";
    const struct conf_row *row = &conf_table[option];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (k->c->lines[option] != 0)
        (void)snprintf(where, sizeof(where), ":%u", k->c->lines[option]);
    (void)snprintf(sentence, sizeof(sentence), "%.400s%s: %s%s.%s: %s", k->name, where, is_error ? "" : "warning: ", row->section,
                   row->name, text);
    k->wrong |= is_error;
    k->report(k->arg, is_error, sentence);
}

/* ---- certificates ---- */

static const char *openssl_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return reason != NULL ? reason : "not understood";
}

static void check_dates(struct checking *k, const char *path, X509 *cert)
{
    int days = 0, seconds = 0;
    if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0)
        tell(k, true, CONF_O_tls_certificates, "the certificate in %s is not valid yet", path);
    if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)) != 1)
        return;
    if (days < 0 || seconds < 0)
        tell(k, true, CONF_O_tls_certificates, "the certificate in %s has expired", path);
    else if (days < EXPIRY_WARNING_DAYS)
        tell(k, false, CONF_O_tls_certificates, "the certificate in %s expires in %d days", path, days);
}

static int no_passphrase(char *buf, int size, int writing, void *arg)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

static void check_pem(struct checking *k, const char *path, BIO *bio)
{
    X509 *cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
    if (cert == NULL) {
        tell(k, true, CONF_O_tls_certificates, "%s holds no certificate (PEM): %s", path, openssl_reason());
        return;
    }
    (void)BIO_seek(bio, 0);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
    if (key == NULL)
        tell(k, true, CONF_O_tls_certificates, "%s holds no private key without a passphrase (PEM): %s", path, openssl_reason());
    else if (X509_check_private_key(cert, key) != 1)
        tell(k, true, CONF_O_tls_certificates, "the private key in %s does not belong to the first certificate there", path);
    check_dates(k, path, cert);
    ERR_clear_error();
    EVP_PKEY_free(key);
    X509_free(cert);
}

static void check_certificate(struct checking *k, const char *path)
{
    struct stat st;
    BIO *bio = stat(path, &st) == 0 && S_ISREG(st.st_mode) ? BIO_new_file(path, "r") : NULL;
    if (bio == NULL) {
        int code = errno;
        ERR_clear_error();
        tell(k, true, CONF_O_tls_certificates, "cannot read %s: %s", path, err_name(-code));
        return;
    }
    /* Group reading is how keyd, with a user id of its own, comes to the file when it belongs to root. */
    if ((st.st_mode & S_IROTH) != 0)
        tell(k, true, CONF_O_tls_certificates, "%s holds a private key and everybody may read it (mode %04o): chmod o-r", path,
             (unsigned)(st.st_mode & 07777));
    check_pem(k, path, bio);
    BIO_free(bio);
}

static int pem_filter(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return e->d_name[0] != '.' && n > 4 && strcmp(e->d_name + n - 4, ".pem") == 0;
}

/* A directory stands for every *.pem in it. */
static void check_certificate_directory(struct checking *k, const char *path)
{
    struct dirent **names = NULL;
    int n = scandir(path, &names, pem_filter, alphasort);
    if (n <= 0)
        tell(k, true, CONF_O_tls_certificates, n == 0 ? "%s holds no .pem file" : "cannot read the directory %s", path);
    for (int i = 0; i < n; i++) {
        char file[4096];
        (void)snprintf(file, sizeof(file), "%s/%s", path, names[i]->d_name);
        check_certificate(k, file);
        free(names[i]);
    }
    free(names);
}

static void check_certificates(struct checking *k)
{
    struct stat st;
    for (size_t i = 0; i < k->c->tls_certificates.n; i++) {
        const char *path = k->c->tls_certificates.items[i];
        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
            check_certificate_directory(k, path);
        else
            check_certificate(k, path);
    }
    if (k->c->tls_certificates.n == 0)
        tell(k, false, CONF_O_tls_certificates, "there is no certificate: one of our own making is used, which mail programs do not trust");
}

/* ---- listeners ---- */

static const enum conf_option listener_options[] = {CONF_O_listen_smtp, CONF_O_listen_lmtp, CONF_O_listen_pop3, CONF_O_listen_pop3s};
#define N_LISTENER_OPTIONS (sizeof(listener_options) / sizeof(listener_options[0]))

static const struct conf_list *list_of(const struct conf *c, enum conf_option option)
{
    return (const struct conf_list *)(const void *)((const char *)c + conf_table[option].offset);
}

static bool same_place(const char *a, const char *b)
{
    struct netaddr x, y;
    bool any_x = false, any_y = false;
    if (!conf_listener(a, &x, &any_x) || !conf_listener(b, &y, &any_y) || x.port != y.port)
        return false;
    struct netaddr zero4 = {{[10] = 0xff, [11] = 0xff}, 0}, zero6 = {{0}, 0};
    bool all_x = any_x || memcmp(x.ip, zero4.ip, 16) == 0 || memcmp(x.ip, zero6.ip, 16) == 0;
    bool all_y = any_y || memcmp(y.ip, zero4.ip, 16) == 0 || memcmp(y.ip, zero6.ip, 16) == 0;
    bool same_family = any_x || any_y || netaddr_is_v4(&x) == netaddr_is_v4(&y);
    return same_family && (all_x || all_y || memcmp(x.ip, y.ip, 16) == 0);
}

static void check_pair(struct checking *k, size_t a, size_t i, size_t b, size_t j)
{
    const char *one = list_of(k->c, listener_options[a])->items[i], *two = list_of(k->c, listener_options[b])->items[j];
    if ((a != b || i != j) && same_place(one, two))
        tell(k, true, listener_options[b], "%s clashes with %s of listen.%s: a port can be used once", two, one,
             conf_table[listener_options[a]].name);
}

static bool outside(const struct conf *c, enum conf_option option)
{
    const struct conf_list *l = list_of(c, option);
    struct netaddr at;
    bool any;
    for (size_t i = 0; i < l->n; i++)
        if (conf_listener(l->items[i], &at, &any) && (any || !netaddr_is_loopback(&at)))
            return true;
    return false;
}

static void check_listeners(struct checking *k)
{
    size_t all = 0;
    for (size_t a = 0; a < N_LISTENER_OPTIONS; a++) {
        const struct conf_list *la = list_of(k->c, listener_options[a]);
        all += la->n;
        for (size_t i = 0; i < la->n; i++)
            for (size_t b = a; b < N_LISTENER_OPTIONS; b++)
                for (size_t j = b == a ? i : 0; j < list_of(k->c, listener_options[b])->n; j++)
                    check_pair(k, a, i, b, j);
    }
    if (all == 0)
        tell(k, false, CONF_O_listen_smtp, "nothing is listened on");
    if (strcmp(k->c->server_hostname, "localhost") == 0 && outside(k->c, CONF_O_listen_smtp))
        tell(k, false, CONF_O_server_hostname, "other servers will be greeted as \"localhost\": set the name of this host");
}

/* ---- combinations ---- */

/* Wider than any one organisation's: an IPv4 /8, an IPv6 /16. */
static void check_wide(struct checking *k, enum conf_option option, const char *danger)
{
    const struct conf_list *l = list_of(k->c, option);
    struct netmask m;
    for (size_t i = 0; i < l->n; i++) {
        if (!netmask_parse(slice_str(l->items[i]), &m))
            continue;
        bool v4 = netaddr_is_v4(&m.base) && m.bits >= 96;
        if (v4 ? m.bits < 96 + 8 : m.bits < 16)
            tell(k, false, option, "%s takes in %s of the Internet: %s", l->items[i], m.bits == (v4 ? 96u : 0u) ? "all" : "a large part",
                 danger);
    }
}

static void check_plaintext(struct checking *k)
{
    if (!k->c->pop3_plaintext_login || k->c->listen_pop3.n == 0)
        return;
    /* Regulation 4.1(2)a: who uses the service must be told. */
    tell(k, false, CONF_O_pop3_plaintext_login,
         "passwords used in the e-mail service are sent and received unencrypted over the communication line, so there is a danger of "
         "their leaking easily through wiretapping; everybody who uses the service must be told / "
         "電子メールサービスにおいて利用するパスワードは通信回線上を暗号化されずに送受信されるため、盗聴等により容易に漏えいする危険性があること。"
         "利用者への通知が必要である");
}

static void check_combinations(struct checking *k)
{
    const struct conf *c = k->c;
    check_wide(k, CONF_O_smtp_unlimited_from, "no limit of rate or number protects this service");
    check_wide(k, CONF_O_listen_proxy_from, "anybody there can claim to be any client");
    check_wide(k, CONF_O_listen_xclient_from, "anybody there can claim to be any client");
    check_plaintext(k);
    if (strcmp(c->tls_policy, "compatible") == 0)
        tell(k, false, CONF_O_tls_policy, "\"compatible\" allows ciphers outside of the CRYPTREC list");
    if (!c->server_require_landlock)
        tell(k, false, CONF_O_server_require_landlock, "on a kernel without Landlock the processes would not be confined to their files");
    if (c->auth_max_failures > 100 && c->auth_failure_delay < 500)
        tell(k, false, CONF_O_auth_max_failures, "with this number and a delay below 500ms passwords can be guessed quickly");
    if (c->smtp_max_in_flight < c->smtp_max_message_size)
        tell(k, true, CONF_O_smtp_max_in_flight, "less than smtp.max_message_size: the largest message could never be received");
    if (c->smtp_max_connections_per_client > c->smtp_max_connections)
        tell(k, false, CONF_O_smtp_max_connections_per_client, "more than smtp.max_connections: one client could take all");
    if (c->pop3_max_connections_per_client > c->pop3_max_connections)
        tell(k, false, CONF_O_pop3_max_connections_per_client, "more than pop3.max_connections: one client could take all");
}

static void check_state(struct checking *k)
{
    const char *path = k->c->server_state;
    struct stat st;
    if (*path == '\0')
        return;
    if (stat(path, &st) != 0) {
        char parent[4096];
        const char *slash = strrchr(path, '/');
        (void)snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path) + (slash == path), path);
        if (errno != ENOENT || stat(parent, &st) != 0)
            tell(k, true, CONF_O_server_state, "cannot look at %s: %s", path, err_name(-errno));
        return;
    }
    if (!S_ISDIR(st.st_mode))
        tell(k, true, CONF_O_server_state, "%s is not a directory", path);
    else if ((st.st_mode & 0022) != 0)
        tell(k, true, CONF_O_server_state, "%s can be written by others (mode %04o): chmod 711", path, (unsigned)(st.st_mode & 07777));
    else if (access(path, W_OK | X_OK) != 0)
        tell(k, true, CONF_O_server_state, "%s cannot be written by this user", path);
}

int conf_check(const struct conf *c, const char *name, conf_report_fn *report, void *arg)
{
    struct checking k = {.c = c, .name = name, .report = report, .arg = arg};
    check_certificates(&k);
    check_listeners(&k);
    check_combinations(&k);
    check_state(&k);
    return k.wrong ? ERR_CONFIG : 0;
}
