#include "account/password.h"

#include <argon2.h>
#include <unictype.h>
#include <uninorm.h>

#include "account/address.h"
#include "base/secret.h"
#include "base/utf8.h"

#define SALT_SIZE 16 /* RFC 9106 3.1 */
#define HASH_SIZE 32

/* Non-ASCII spaces become U+0020 (they are all longer than one byte). */
static void map_spaces(struct password *p)
{
    size_t out = 0;
    struct slice rest = slice_of(p->text, p->n);
    while (rest.n > 0) {
        uint32_t cp;
        size_t n = utf8_next(rest, &cp);
        if (cp >= 0x80 && uc_is_general_category(cp, UC_SPACE_SEPARATOR)) {
            p->text[out++] = ' ';
        } else {
            memmove(p->text + out, rest.p, n);
            out += n;
        }
        rest = slice_from(rest, n);
    }
    p->n = out;
}

int password_prepare(struct slice in, struct password *ret)
{
    ret->n = 0;
    if (in.n == 0 || memchr(in.p, '\0', in.n) != NULL)
        return ERR_SYNTAX;
    if (in.n > PASSWORD_MAX)
        return ERR_LIMIT;
    if (utf8_is_ascii(in) || !utf8_valid(in)) {
        memcpy(ret->text, in.p, in.n);
        ret->n = in.n;
        return 0;
    }
    ret->n = sizeof(ret->text);
    uint8_t *got = u8_normalize(UNINORM_NFC, (const uint8_t *)in.p, in.n, (uint8_t *)ret->text, &ret->n);
    if (got == (uint8_t *)ret->text) {
        map_spaces(ret);
        return 0;
    }
    if (got != NULL)
        secret_wipe(got, ret->n);
    free(got);
    ret->n = 0;
    return got == NULL ? -ENOMEM : ERR_LIMIT;
}

int password_check(const struct password *p, struct slice address, struct err *err)
{
    struct slice s = slice_of(p->text, p->n), local = slice_cut(&(struct slice){address.p, address.n}, '@');
    size_t characters = 0;
    for (size_t i = 0; i < p->n; i++)
        characters += ((unsigned char)p->text[i] & 0xc0) != 0x80;
    if (characters < PASSWORD_LEAST)
        return err_set(err, ERR_SYNTAX, "the password is shorter than %d characters", PASSWORD_LEAST);
    if (slice_ieq(s, address) || slice_ieq(s, local))
        return err_set(err, ERR_SYNTAX, "the password is the address");
    return 0;
}

int password_hash(const struct password *p, const struct password_params *params, char ret[PASSWORD_ENCODED_SIZE])
{
    unsigned char salt[SALT_SIZE];
    rand_bytes(salt, sizeof(salt));
    int rc = argon2id_hash_encoded(params->passes, params->memory_kib, 1, p->text, p->n, salt, sizeof(salt), HASH_SIZE, ret,
                                   PASSWORD_ENCODED_SIZE);
    return rc == ARGON2_OK ? 0 : -ENOMEM;
}

int password_verify(const struct password *p, const char *encoded)
{
    switch (argon2id_verify(encoded, p->text, p->n)) {
    case ARGON2_OK: return 0;
    case ARGON2_VERIFY_MISMATCH: return ERR_DENIED;
    case ARGON2_MEMORY_ALLOCATION_ERROR: return -ENOMEM;
    default: return ERR_CORRUPT;
    }
}

bool password_outdated(const char *encoded, const struct password_params *params)
{
    char want[80];
    (void)snprintf(want, sizeof(want), "$argon2id$v=%d$m=%u,t=%u,p=1$", ARGON2_VERSION_NUMBER, params->memory_kib, params->passes);
    return strncmp(encoded, want, strlen(want)) != 0;
}
