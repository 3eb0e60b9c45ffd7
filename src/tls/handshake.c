/* The server's handshake: see handshake.h. Runs in tlsd's fibers; everything here is the client's doing. */
#include "tls/handshake.h"

#include <openssl/err.h>

#include "base/slice.h"
#include "tls/bio.h"
#include "tls/server.h"

static struct tls_work work;

const struct tls_work *tls_handshake_work(void)
{
    return &work;
}

static int failed(SSL *ssl, struct err *err)
{
    unsigned alert = tls_ssl_alert(ssl);
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    bool closed = tls_bio_eof(SSL_get_rbio(ssl)) || tls_bio_errno(SSL_get_rbio(ssl)) != 0;
    int rc;
    if (alert == 0 && closed)
        rc = err_set(err, ERR_CLOSED, "the client closed the connection during the handshake");
    else
        rc = err_set(err, ERR_DENIED, "%s%s%s", reason != NULL ? reason : "handshake failed", alert != 0 ? ", alert " : "",
                     alert != 0 ? SSL_alert_desc_string_long((int)alert) : "");
    ERR_clear_error();
    return rc;
}

/* 0: go on. */
static int MAY_YIELD wait_for(SSL *ssl, int result, struct fiber_fd *f, int64_t deadline, struct err *err)
{
    int rc;
    switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_WANT_READ: rc = fiber_fd_wait_in(f, deadline); break;
    case SSL_ERROR_WANT_WRITE: rc = fiber_fd_wait_out(f, deadline); break;
    default: return failed(ssl, err);
    }
    return rc == 0 ? 0 : err_set(err, rc, "the handshake was not finished in time");
}

int MAY_YIELD tls_handshake(SSL *ssl, int fd, struct id128 conn, int64_t deadline, struct err *err)
{
    struct fiber_fd *f = NULL;
    int rc = fiber_fd_new(fd, &f);
    if (rc != 0)
        return err_set(err, rc, "the connection cannot be watched");
    while (rc == 0) {
        /* The error queue is the thread's: what another fiber left there would turn a WANT_READ into a failure. */
        ERR_clear_error();
        work = (struct tls_work){conn, deadline};
        int result = SSL_accept(ssl);
        if (result == 1)
            break;
        rc = wait_for(ssl, result, f, deadline, err);
    }
    fiber_fd_free(f);
    return rc;
}

/* A host name as DNS writes it; what else a client sends there is not passed on to other processes. */
static void copy_name(const char *name, char *out, size_t size)
{
    out[0] = '\0';
    if (name == NULL || strlen(name) >= size)
        return;
    for (size_t i = 0; name[i] != '\0'; i++)
        if (!ascii_is_alnum(name[i]) && name[i] != '-' && name[i] != '.' && name[i] != '_')
            return;
    for (size_t i = 0;; i++) {
        out[i] = ascii_lower(name[i]);
        if (name[i] == '\0')
            return;
    }
}

static bool get_exporter(SSL *ssl, uint8_t *out)
{
    static const char label[] = "EXPORTER-Channel-Binding";
    if (SSL_version(ssl) < TLS1_3_VERSION && SSL_get_extms_support(ssl) != 1)
        return false;
    return SSL_export_keying_material(ssl, out, TLS_EXPORTER_SIZE, label, sizeof(label) - 1, (const unsigned char *)"", 0, 1) == 1;
}

void tls_handshake_facts(SSL *ssl, struct tls_facts *ret)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
    const unsigned char *alpn;
    unsigned alpn_n;
    int group = SSL_get_negotiated_group(ssl);
    memset(ret, 0, sizeof(*ret));
    ret->version = SSL_get_version(ssl);
    ret->cipher = cipher != NULL ? SSL_CIPHER_standard_name(cipher) : "";
    ret->group = group != NID_undef ? SSL_group_to_name(ssl, group) : "";
    if (ret->group == NULL)
        ret->group = "";
    ret->bits = cipher != NULL ? (unsigned)SSL_CIPHER_get_bits(cipher, NULL) : 0;
    ret->resumed = SSL_session_reused(ssl) == 1;
    copy_name(SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name), ret->sni, sizeof(ret->sni));
    SSL_get0_alpn_selected(ssl, &alpn, &alpn_n);
    if (alpn_n < sizeof(ret->alpn))
        memcpy(ret->alpn, alpn != NULL ? alpn : (const unsigned char *)"", alpn_n);
    ret->has_exporter = get_exporter(ssl, ret->exporter);
    ERR_clear_error();
}
