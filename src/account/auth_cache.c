#include "account/auth_cache.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

#include "base/map.h"
#include "base/secret.h"

#define DIGEST_SIZE 32

struct proved {
    uint64_t version;
    int64_t expires;
    unsigned char digest[DIGEST_SIZE];
};

struct auth_cache {
    unsigned char key[DIGEST_SIZE];
    struct map accounts; /* id -> proved */
};

int auth_cache_new(struct auth_cache **ret)
{
    struct auth_cache *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    rand_bytes(c->key, sizeof(c->key));
    map_init(&c->accounts);
    *ret = c;
    return 0;
}

static void forget(struct proved *p)
{
    if (p == NULL)
        return;
    secret_wipe(p, sizeof(*p));
    free(p);
}

void auth_cache_free(struct auth_cache *c)
{
    struct slice key;
    void *value;
    if (c == NULL)
        return;
    for (size_t pos = 0; map_next(&c->accounts, &pos, &key, &value);)
        forget(value);
    map_done(&c->accounts);
    secret_wipe(c->key, sizeof(c->key));
    free(c);
}

static bool digest(const struct auth_cache *c, struct slice password, unsigned char out[DIGEST_SIZE])
{
    unsigned n = 0;
    return HMAC(EVP_sha256(), c->key, (int)sizeof(c->key), (const unsigned char *)password.p, password.n, out, &n) != NULL &&
           n == DIGEST_SIZE;
}

bool auth_cache_check(struct auth_cache *c, uint64_t account, uint64_t version, struct slice password, int64_t now)
{
    unsigned char got[DIGEST_SIZE];
    const struct proved *p = map_get(&c->accounts, MAP_KEY(account));
    if (p == NULL || p->version != version || now >= p->expires || !digest(c, password, got))
        return false;
    bool same = secret_eq(slice_of(got, sizeof(got)), slice_of(p->digest, sizeof(p->digest)));
    secret_wipe(got, sizeof(got));
    return same;
}

void auth_cache_add(struct auth_cache *c, uint64_t account, uint64_t version, struct slice password, int64_t now, int64_t lifetime)
{
    void *old = NULL;
    if (lifetime <= 0 || (c->accounts.count >= AUTH_CACHE_MAX && map_get(&c->accounts, MAP_KEY(account)) == NULL))
        return;
    struct proved *p = malloc(sizeof(*p));
    if (p == NULL)
        return;
    p->version = version;
    p->expires = now + lifetime;
    if (!digest(c, password, p->digest) || map_put(&c->accounts, MAP_KEY(account), p, &old) != 0) {
        forget(p);
        return;
    }
    forget(old);
}

void auth_cache_drop(struct auth_cache *c, uint64_t account)
{
    forget(map_del(&c->accounts, MAP_KEY(account)));
}

void auth_cache_sweep(struct auth_cache *c, int64_t now)
{
    struct slice key;
    void *value;
    for (size_t pos = 0; map_next(&c->accounts, &pos, &key, &value);)
        if (((struct proved *)value)->expires <= now)
            forget(map_del(&c->accounts, key));
}
