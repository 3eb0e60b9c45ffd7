/* The provider that signs elsewhere: see provider.h, provider-keymgmt(7), provider-signature(7).
 *
 * Key management wraps the public key in an EVP_PKEY of the default provider and passes every question on to it. Export gives the
 * public half only, so that OpenSSL, which first tries to move a key to the default provider's signature, must come to ours. */
#include "tls/provider.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include <openssl/x509.h>
#include <strings.h>

#include "tls/scheme.h"

#define PROVIDER "kakitome-keyd"
/* The octet string parameter by which tls_provider_key names the key. */
#define PARAM_KEY_ID "kakitome-key-id"

static struct {
    OSSL_LIB_CTX *lib;
    OSSL_PROVIDER *deflt, *ours;
    tls_sign_fn *sign;
} provider;

OSSL_LIB_CTX *tls_libctx(void)
{
    return provider.lib;
}

/* ---- key management ---- */

struct key {
    enum tls_key_type type;
    EVP_PKEY *pub; /* in the default provider; NULL until imported */
    uint8_t id[TLS_KEY_ID_SIZE];
    bool named; /* has a private half, elsewhere */
};

static void *key_new(enum tls_key_type type)
{
    struct key *k = OPENSSL_zalloc(sizeof(*k));
    if (k != NULL)
        k->type = type;
    return k;
}

static void *key_new_ec(void *provctx)
{
    (void)provctx;
    return key_new(TLS_KEY_EC);
}

static void *key_new_rsa(void *provctx)
{
    (void)provctx;
    return key_new(TLS_KEY_RSA);
}

static void *key_new_ed25519(void *provctx)
{
    (void)provctx;
    return key_new(TLS_KEY_ED25519);
}

static void key_free(void *keydata)
{
    struct key *k = keydata;
    if (k == NULL)
        return;
    EVP_PKEY_free(k->pub);
    OPENSSL_free(k);
}

static const char *type_name(enum tls_key_type type)
{
    static const char *const names[] = {[TLS_KEY_EC] = "EC", [TLS_KEY_RSA] = "RSA", [TLS_KEY_ED25519] = "ED25519"};
    return names[type];
}

static int key_has(const void *keydata, int selection)
{
    const struct key *k = keydata;
    if (k == NULL)
        return 0;
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 && !k->named)
        return 0;
    if ((selection & (OSSL_KEYMGMT_SELECT_PUBLIC_KEY | OSSL_KEYMGMT_SELECT_ALL_PARAMETERS)) != 0 && k->pub == NULL)
        return 0;
    return 1;
}

/* Private halves are not compared: a key's id is the digest of its public half. */
static int key_match(const void *a, const void *b, int selection)
{
    const struct key *ka = a, *kb = b;
    (void)selection;
    return ka->pub != NULL && kb->pub != NULL && EVP_PKEY_eq(ka->pub, kb->pub) == 1;
}

static int key_import(void *keydata, int selection, const OSSL_PARAM params[])
{
    struct key *k = keydata;
    (void)selection;
    if (k->pub != NULL)
        return 0;
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(provider.lib, type_name(k->type), "provider=default");
    if (c == NULL || EVP_PKEY_fromdata_init(c) <= 0 ||
        EVP_PKEY_fromdata(c, &k->pub, EVP_PKEY_PUBLIC_KEY, (OSSL_PARAM *)(uintptr_t)params) <= 0) {
        EVP_PKEY_CTX_free(c);
        return 0;
    }
    EVP_PKEY_CTX_free(c);
    const OSSL_PARAM *id = OSSL_PARAM_locate_const(params, PARAM_KEY_ID);
    if (id == NULL)
        return 1;
    if (id->data_type != OSSL_PARAM_OCTET_STRING || id->data_size != sizeof(k->id) || id->data == NULL)
        return 0;
    memcpy(k->id, id->data, sizeof(k->id));
    k->named = true;
    return 1;
}

static const OSSL_PARAM *key_import_types(int selection)
{
    static const OSSL_PARAM types[] = {
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0), OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),               OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
        OSSL_PARAM_octet_string(PARAM_KEY_ID, NULL, 0),              OSSL_PARAM_END};
    (void)selection;
    return types;
}

static int key_export(void *keydata, int selection, OSSL_CALLBACK *cb, void *arg)
{
    struct key *k = keydata;
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 || k->pub == NULL)
        return 0;
    return EVP_PKEY_export(k->pub, selection, cb, arg);
}

static const OSSL_PARAM *key_export_types(int selection)
{
    return (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 ? NULL : key_import_types(selection);
}

static int key_get_params(void *keydata, OSSL_PARAM params[])
{
    struct key *k = keydata;
    return k->pub != NULL && EVP_PKEY_get_params(k->pub, params);
}

static const OSSL_PARAM *key_gettable_params(void *provctx)
{
    static const OSSL_PARAM types[] = {
        OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_END};
    (void)provctx;
    return types;
}

static const char *key_operation_name_ec(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? "ECDSA" : NULL;
}

#define FN(id, fn) {(id), (void (*)(void))(fn)}
#define KEYMGMT_COMMON                                                                                                     \
    FN(OSSL_FUNC_KEYMGMT_FREE, key_free), FN(OSSL_FUNC_KEYMGMT_HAS, key_has), FN(OSSL_FUNC_KEYMGMT_MATCH, key_match),       \
        FN(OSSL_FUNC_KEYMGMT_IMPORT, key_import), FN(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, key_import_types),                     \
        FN(OSSL_FUNC_KEYMGMT_EXPORT, key_export), FN(OSSL_FUNC_KEYMGMT_EXPORT_TYPES, key_export_types),                     \
        FN(OSSL_FUNC_KEYMGMT_GET_PARAMS, key_get_params), FN(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, key_gettable_params)

static const OSSL_DISPATCH keymgmt_ec[] = {FN(OSSL_FUNC_KEYMGMT_NEW, key_new_ec), KEYMGMT_COMMON,
                                           FN(OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, key_operation_name_ec), {0, NULL}};
static const OSSL_DISPATCH keymgmt_rsa[] = {FN(OSSL_FUNC_KEYMGMT_NEW, key_new_rsa), KEYMGMT_COMMON, {0, NULL}};
static const OSSL_DISPATCH keymgmt_ed25519[] = {FN(OSSL_FUNC_KEYMGMT_NEW, key_new_ed25519), KEYMGMT_COMMON, {0, NULL}};

/* ---- signature ---- */

struct signing {
    const struct key *key; /* the EVP_PKEY_CTX above holds it */
    char digest[16];
    bool pss;
    int salt_length; /* as OpenSSL counts: -1 is "as long as the digest" */
};

static void *signing_new(void *provctx, const char *propq)
{
    (void)provctx;
    (void)propq;
    return OPENSSL_zalloc(sizeof(struct signing));
}

static void signing_free(void *ctx)
{
    OPENSSL_free(ctx);
}

static int set_digest(struct signing *s, const char *name)
{
    if (name == NULL)
        name = "";
    if (strlen(name) >= sizeof(s->digest))
        return 0;
    memcpy(s->digest, name, strlen(name) + 1);
    return 1;
}

static int set_padding(struct signing *s, const OSSL_PARAM *p)
{
    int number;
    if (p->data_type == OSSL_PARAM_UTF8_STRING) {
        bool pss = strcmp(p->data, OSSL_PKEY_RSA_PAD_MODE_PSS) == 0;
        s->pss = pss;
        return pss || strcmp(p->data, OSSL_PKEY_RSA_PAD_MODE_PKCSV15) == 0;
    }
    if (!OSSL_PARAM_get_int(p, &number))
        return 0;
    s->pss = number == 6;       /* RSA_PKCS1_PSS_PADDING */
    return s->pss || number == 1; /* RSA_PKCS1_PADDING */
}

static int set_salt_length(struct signing *s, const OSSL_PARAM *p)
{
    if (p->data_type != OSSL_PARAM_UTF8_STRING)
        return OSSL_PARAM_get_int(p, &s->salt_length);
    s->salt_length = -1;
    return strcmp(p->data, OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST) == 0 || strcmp(p->data, "-1") == 0;
}

static int signing_set_params(void *ctx, const OSSL_PARAM params[])
{
    struct signing *s = ctx;
    const OSSL_PARAM *p;
    if (params == NULL)
        return 1;
    if ((p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE)) != NULL && !set_padding(s, p))
        return 0;
    if ((p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN)) != NULL && !set_salt_length(s, p))
        return 0;
    return 1;
}

static const OSSL_PARAM *signing_settable_params(void *ctx, void *provctx)
{
    static const OSSL_PARAM types[] = {OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
                                       OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0), OSSL_PARAM_END};
    (void)ctx;
    (void)provctx;
    return types;
}

static int signing_init(void *ctx, const char *digest, void *keydata, const OSSL_PARAM params[])
{
    struct signing *s = ctx;
    const struct key *k = keydata;
    if (k == NULL || !k->named)
        return 0;
    s->key = k;
    s->pss = false;
    s->salt_length = -1;
    return set_digest(s, digest) && signing_set_params(s, params);
}

/* The one private operation. With sig == NULL it is only asked for the greatest size. */
static int signing_sign(void *ctx, unsigned char *sig, size_t *sig_n, size_t sig_cap, const unsigned char *tbs, size_t tbs_n)
{
    struct signing *s = ctx;
    int greatest = s->key != NULL ? EVP_PKEY_get_size(s->key->pub) : 0;
    if (greatest <= 0 || greatest > TLS_SIGNATURE_MAX)
        return 0;
    if (sig == NULL) {
        *sig_n = (size_t)greatest;
        return 1;
    }
    const struct tls_scheme *scheme = tls_scheme_match(s->key->type, s->digest, s->pss);
    if (scheme == NULL || s->salt_length != -1 || tbs_n > TLS_TBS_MAX)
        return 0;
    /* Across the wait other fibers use this thread's error queue. */
    int rc = provider.sign(s->key->id, scheme->number, slice_of(tbs, tbs_n), sig, sig_cap, sig_n);
    ERR_clear_error();
    return rc == 0 && *sig_n <= sig_cap;
}

static const OSSL_DISPATCH signature[] = {FN(OSSL_FUNC_SIGNATURE_NEWCTX, signing_new),
                                          FN(OSSL_FUNC_SIGNATURE_FREECTX, signing_free),
                                          FN(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, signing_init),
                                          FN(OSSL_FUNC_SIGNATURE_DIGEST_SIGN, signing_sign),
                                          FN(OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, signing_set_params),
                                          FN(OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, signing_settable_params),
                                          {0, NULL}};

/* ---- the provider ---- */

static const OSSL_ALGORITHM keymgmts[] = {
    {"EC:id-ecPublicKey:1.2.840.10045.2.1", "provider=" PROVIDER, keymgmt_ec, "EC keys held by keyd"},
    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", "provider=" PROVIDER, keymgmt_rsa, "RSA keys held by keyd"},
    {"ED25519:1.3.101.112", "provider=" PROVIDER, keymgmt_ed25519, "Ed25519 keys held by keyd"},
    {NULL, NULL, NULL, NULL}};
static const OSSL_ALGORITHM signatures[] = {{"ECDSA", "provider=" PROVIDER, signature, "ECDSA by keyd"},
                                            {"RSA:rsaEncryption", "provider=" PROVIDER, signature, "RSA by keyd"},
                                            {"ED25519:1.3.101.112", "provider=" PROVIDER, signature, "Ed25519 by keyd"},
                                            {NULL, NULL, NULL, NULL}};

static const OSSL_ALGORITHM *query_operation(void *provctx, int operation, int *no_cache)
{
    (void)provctx;
    *no_cache = 0;
    if (operation == OSSL_OP_KEYMGMT)
        return keymgmts;
    return operation == OSSL_OP_SIGNATURE ? signatures : NULL;
}

static int provider_start(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out, void **provctx)
{
    static const OSSL_DISPATCH table[] = {FN(OSSL_FUNC_PROVIDER_QUERY_OPERATION, query_operation), {0, NULL}};
    (void)in;
    *out = table;
    *provctx = (void *)(uintptr_t)handle;
    return 1;
}

int tls_provider_init(tls_sign_fn *sign, struct err *err)
{
    static const uint64_t settings = OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_LOAD_CRYPTO_STRINGS |
                                     OPENSSL_INIT_ADD_ALL_CIPHERS | OPENSSL_INIT_ADD_ALL_DIGESTS;
    if (OPENSSL_init_crypto(settings, NULL) != 1)
        return err_set(err, -ENOMEM, "OpenSSL cannot be initialised");
    provider.sign = sign;
    provider.lib = OSSL_LIB_CTX_new();
    if (provider.lib != NULL && OSSL_PROVIDER_add_builtin(provider.lib, PROVIDER, provider_start) == 1) {
        provider.deflt = OSSL_PROVIDER_load(provider.lib, "default");
        provider.ours = OSSL_PROVIDER_load(provider.lib, PROVIDER);
    }
    if (provider.deflt == NULL || provider.ours == NULL ||
        EVP_set_default_properties(provider.lib, "?provider!=" PROVIDER) != 1) {
        tls_provider_done();
        return err_set(err, -ENOMEM, "the OpenSSL providers cannot be loaded");
    }
    return 0;
}

void tls_provider_done(void)
{
    if (provider.ours != NULL)
        (void)OSSL_PROVIDER_unload(provider.ours);
    if (provider.deflt != NULL)
        (void)OSSL_PROVIDER_unload(provider.deflt);
    OSSL_LIB_CTX_free(provider.lib);
    memset(&provider, 0, sizeof(provider));
}

int tls_key_id(EVP_PKEY *key, uint8_t ret_id[TLS_KEY_ID_SIZE])
{
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(key, &der);
    unsigned got = 0;
    int ok = n > 0 && EVP_Digest(der, (size_t)n, ret_id, &got, EVP_sha256(), NULL) == 1 && got == TLS_KEY_ID_SIZE;
    OPENSSL_free(der);
    return ok ? 0 : -ENOMEM;
}

/* The key's public parameters and its id, as one list. */
static int name_key(EVP_PKEY *pub, const char *type, OSSL_PARAM *public_part, EVP_PKEY **ret)
{
    uint8_t id[TLS_KEY_ID_SIZE];
    int rc = tls_key_id(pub, id);
    if (rc != 0)
        return rc;
    OSSL_PARAM named[] = {OSSL_PARAM_construct_octet_string(PARAM_KEY_ID, id, sizeof(id)), OSSL_PARAM_construct_end()};
    OSSL_PARAM *all = OSSL_PARAM_merge(public_part, named);
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(provider.lib, type, "provider=" PROVIDER);
    rc = -ENOMEM;
    if (all != NULL && c != NULL && EVP_PKEY_fromdata_init(c) == 1 && EVP_PKEY_fromdata(c, ret, EVP_PKEY_KEYPAIR, all) == 1)
        rc = 0;
    EVP_PKEY_CTX_free(c);
    OSSL_PARAM_free(all);
    return rc;
}

int tls_provider_key(EVP_PKEY *pub, EVP_PKEY **ret, struct err *err)
{
    static const char *const types[] = {"EC", "RSA", "ED25519"};
    OSSL_PARAM *public_part = NULL;
    const char *type = NULL;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (EVP_PKEY_is_a(pub, types[i]))
            type = types[i];
    if (type == NULL)
        return err_set(err, ERR_CONFIG, "a certificate's key is neither EC nor RSA nor Ed25519");
    ERR_clear_error();
    if (EVP_PKEY_todata(pub, EVP_PKEY_PUBLIC_KEY, &public_part) != 1)
        return err_set(err, -ENOMEM, "a certificate's public key cannot be read");
    int rc = name_key(pub, type, public_part, ret);
    OSSL_PARAM_free(public_part);
    if (rc != 0)
        return err_set(err, rc, "a key of keyd cannot be named to OpenSSL: %s", ERR_reason_error_string(ERR_peek_last_error()));
    return 0;
}
