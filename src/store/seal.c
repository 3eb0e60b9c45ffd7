/* AES-256-GCM and record keys: see seal.h. */
#include "store/seal.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "base/secret.h"

#define NONCE 12

struct seal {
    EVP_CIPHER *cipher;
    EVP_CIPHER_CTX *enc, *dec;
    EVP_MAC *mac;
    EVP_MAC_CTX *mac_ctx;
};

int seal_new(struct seal **ret)
{
    struct seal *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    s->cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    s->enc = EVP_CIPHER_CTX_new();
    s->dec = EVP_CIPHER_CTX_new();
    s->mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    s->mac_ctx = s->mac != NULL ? EVP_MAC_CTX_new(s->mac) : NULL;
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
    if (s->cipher == NULL || s->enc == NULL || s->dec == NULL || s->mac_ctx == NULL ||
        EVP_EncryptInit_ex2(s->enc, s->cipher, NULL, NULL, NULL) != 1 || EVP_DecryptInit_ex2(s->dec, s->cipher, NULL, NULL, NULL) != 1 ||
        EVP_MAC_CTX_set_params(s->mac_ctx, params) != 1) {
        seal_free(s);
        return -ENOMEM;
    }
    *ret = s;
    return 0;
}

void seal_free(struct seal *s)
{
    if (s == NULL)
        return;
    EVP_CIPHER_CTX_free(s->enc);
    EVP_CIPHER_CTX_free(s->dec);
    EVP_CIPHER_free(s->cipher);
    EVP_MAC_CTX_free(s->mac_ctx);
    EVP_MAC_free(s->mac);
    free(s);
}

static void make_nonce(uint8_t nonce[NONCE], enum seal_domain domain, uint64_t counter)
{
    uint32_t d = (uint32_t)domain;
    for (int i = 0; i < 4; i++)
        nonce[i] = (uint8_t)(d >> (8 * i));
    for (int i = 0; i < 8; i++)
        nonce[4 + i] = (uint8_t)(counter >> (8 * i));
}

static int encrypt(struct seal *s, const uint8_t *key, const uint8_t *nonce, struct slice aad, const void *in, size_t n, void *out,
                   uint8_t *tag)
{
    int len;
    uint8_t last[16];
    ERR_clear_error();
    if (n > INT32_MAX || EVP_EncryptInit_ex2(s->enc, NULL, key, nonce, NULL) != 1 ||
        (aad.n > 0 && EVP_EncryptUpdate(s->enc, NULL, &len, (const uint8_t *)aad.p, (int)aad.n) != 1) ||
        (n > 0 && EVP_EncryptUpdate(s->enc, out, &len, in, (int)n) != 1) || EVP_EncryptFinal_ex(s->enc, last, &len) != 1 ||
        EVP_CIPHER_CTX_ctrl(s->enc, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG, tag) != 1)
        return -ENOMEM;
    return 0;
}

static int decrypt(struct seal *s, const uint8_t *key, const uint8_t *nonce, struct slice aad, const void *in, size_t n, void *out,
                   const uint8_t *tag)
{
    int len;
    uint8_t last[16], expect[SEAL_TAG];
    memcpy(expect, tag, SEAL_TAG);
    ERR_clear_error();
    if (n > INT32_MAX || EVP_DecryptInit_ex2(s->dec, NULL, key, nonce, NULL) != 1 ||
        (aad.n > 0 && EVP_DecryptUpdate(s->dec, NULL, &len, (const uint8_t *)aad.p, (int)aad.n) != 1) ||
        (n > 0 && EVP_DecryptUpdate(s->dec, out, &len, in, (int)n) != 1) ||
        EVP_CIPHER_CTX_ctrl(s->dec, EVP_CTRL_AEAD_SET_TAG, SEAL_TAG, expect) != 1)
        return -ENOMEM;
    int ok = EVP_DecryptFinal_ex(s->dec, last, &len);
    ERR_clear_error();
    return ok == 1 ? 0 : ERR_CORRUPT;
}

int seal_encrypt(struct seal *s, const uint8_t key[SEAL_KEY], enum seal_domain domain, uint64_t counter, struct slice aad, const void *in,
                 size_t n, void *out, uint8_t tag[SEAL_TAG])
{
    uint8_t nonce[NONCE];
    make_nonce(nonce, domain, counter);
    return encrypt(s, key, nonce, aad, in, n, out, tag);
}

int seal_decrypt(struct seal *s, const uint8_t key[SEAL_KEY], enum seal_domain domain, uint64_t counter, struct slice aad, const void *in,
                 size_t n, void *out, const uint8_t tag[SEAL_TAG])
{
    uint8_t nonce[NONCE];
    make_nonce(nonce, domain, counter);
    return decrypt(s, key, nonce, aad, in, n, out, tag);
}

int seal_wrap(struct seal *s, const uint8_t kek[SEAL_KEY], struct slice aad, const uint8_t key[SEAL_KEY], uint8_t out[SEAL_WRAPPED])
{
    rand_bytes(out, NONCE);
    return encrypt(s, kek, out, aad, key, SEAL_KEY, out + NONCE, out + NONCE + SEAL_KEY);
}

int seal_unwrap(struct seal *s, const uint8_t kek[SEAL_KEY], struct slice aad, const uint8_t in[SEAL_WRAPPED], uint8_t key[SEAL_KEY])
{
    return decrypt(s, kek, in, aad, in + NONCE, SEAL_KEY, key, in + NONCE + SEAL_KEY);
}

int seal_derive(struct seal *s, const uint8_t key[SEAL_KEY], const uint8_t salt[SEAL_SALT], uint8_t out[SEAL_KEY])
{
    static const char label[] = "kakitome record 1";
    size_t n;
    if (EVP_MAC_init(s->mac_ctx, key, SEAL_KEY, NULL) != 1 || EVP_MAC_update(s->mac_ctx, (const uint8_t *)label, sizeof(label) - 1) != 1 ||
        EVP_MAC_update(s->mac_ctx, salt, SEAL_SALT) != 1 || EVP_MAC_final(s->mac_ctx, out, &n, SEAL_KEY) != 1)
        return -ENOMEM;
    return 0;
}
