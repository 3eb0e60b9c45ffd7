/* Session tickets: see ticket.h. AES-256-CBC with HMAC-SHA-256 over it, OpenSSL's ticket format. */
#include "tls/ticket.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>

#include "base/clock.h"
#include "base/secret.h"

void ticket_keys_wipe(struct ticket_keys *t)
{
    secret_wipe(t, sizeof(*t));
}

void ticket_keys_set(struct ticket_keys *t, const struct ticket_key *keys, size_t n)
{
    ticket_keys_wipe(t);
    t->n = n < TICKET_KEYS_MAX ? n : TICKET_KEYS_MAX;
    memcpy(t->keys, keys, t->n * sizeof(*keys));
}

static int ex_index(void)
{
    static int index = -1;
    if (index < 0)
        index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    return index;
}

static bool set_mac(EVP_MAC_CTX *mac, struct ticket_key *k)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, k->hmac, sizeof(k->hmac)),
                           OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* -1: error; 0: no key, a full handshake follows; 1: good; 2: good, and give a new ticket (SSL_CTX_set_tlsext_ticket_key_evp_cb(3)). */
static int new_ticket(struct ticket_keys *t, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *c, EVP_MAC_CTX *mac)
{
    if (t->n == 0 || t->keys[0].expires_ms <= clock_real_ms())
        return 0;
    struct ticket_key *k = &t->keys[0];
    memcpy(name, k->name, TICKET_NAME_SIZE);
    rand_bytes(iv, 16);
    return EVP_EncryptInit_ex(c, EVP_aes_256_cbc(), NULL, k->aes, iv) == 1 && set_mac(mac, k) ? 1 : -1;
}

static int open_ticket(struct ticket_keys *t, const unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *c, EVP_MAC_CTX *mac)
{
    for (size_t i = 0; i < t->n; i++) {
        struct ticket_key *k = &t->keys[i];
        if (memcmp(k->name, name, TICKET_NAME_SIZE) != 0)
            continue;
        if (k->expires_ms <= clock_real_ms())
            return 0;
        if (EVP_DecryptInit_ex(c, EVP_aes_256_cbc(), NULL, k->aes, iv) != 1 || !set_mac(mac, k))
            return -1;
        return i == 0 ? 1 : 2;
    }
    return 0;
}

static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *c, EVP_MAC_CTX *mac, int encrypt)
{
    struct ticket_keys *t = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), ex_index());
    if (t == NULL)
        return 0;
    return encrypt ? new_ticket(t, name, iv, c, mac) : open_ticket(t, name, iv, c, mac);
}

int ticket_keys_attach(struct ticket_keys *t, SSL_CTX *ctx)
{
    if (SSL_CTX_set_ex_data(ctx, ex_index(), t) != 1 || SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket) != 1)
        return -ENOMEM;
    return 0;
}
