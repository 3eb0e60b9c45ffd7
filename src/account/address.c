/* Canonical addresses: see address.h. Pure functions. */
#include "account/address.h"

#include <idn2.h>
#include <unictype.h>
#include <uninorm.h>

#include "base/utf8.h"

/* ASCII letters in lower case, the rest in NFC. */
static int canon_local(struct slice in, char *out, size_t max, size_t *ret_n)
{
    if (in.n == 0 || !utf8_valid(in))
        return ERR_SYNTAX;
    if (in.n > max)
        return ERR_LIMIT;
    size_t n = in.n;
    if (utf8_is_ascii(in)) {
        memcpy(out, in.p, in.n);
    } else {
        n = max;
        uint8_t *got = u8_normalize(UNINORM_NFC, (const uint8_t *)in.p, in.n, (uint8_t *)out, &n);
        if (got == NULL)
            return -ENOMEM;
        if (got != (uint8_t *)out) { /* did not fit */
            free(got);
            return ERR_LIMIT;
        }
    }
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)out[i] < 0x20 || out[i] == 0x7f)
            return ERR_SYNTAX;
        out[i] = ascii_lower(out[i]);
    }
    *ret_n = n;
    return 0;
}

/* Labels of letters, digits, hyphens (and underscores, which some put into names): no label empty or longer than 63. */
static int check_ascii_domain(const char *p, size_t n)
{
    size_t label = 0;
    for (size_t i = 0; i <= n; i++) {
        if (i == n || p[i] == '.') {
            if (label == 0)
                return ERR_SYNTAX;
            if (label > 63)
                return ERR_LIMIT;
            label = 0;
        } else if (ascii_is_alnum(p[i]) || p[i] == '-' || p[i] == '_') {
            label++;
        } else {
            return ERR_SYNTAX;
        }
    }
    return 0;
}

/* An A-label must be what its U-label gives (RFC 5890 2.3.2.1): otherwise one name would have two forms. */
static bool is_same_name(const char *unicode, const char *ascii)
{
    char *back = NULL;
    bool same = idn2_to_ascii_8z(unicode, &back, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT) == IDN2_OK && strcmp(back, ascii) == 0;
    idn2_free(back);
    return same;
}

/* Through A-labels to U-labels: whatever does not survive that way is no name. */
static int canon_idn(const char *in, char *out, size_t *ret_n)
{
    char *ascii = NULL, *unicode = NULL;
    int rc = ERR_SYNTAX;
    if (idn2_to_ascii_8z(in, &ascii, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT) != IDN2_OK)
        return ERR_SYNTAX;
    size_t ascii_n = strlen(ascii);
    if (check_ascii_domain(ascii, ascii_n) == 0 && idn2_to_unicode_8z8z(ascii, &unicode, 0) == IDN2_OK) {
        size_t n = strlen(unicode);
        rc = n <= ADDRESS_DOMAIN_MAX ? 0 : ERR_LIMIT;
        if (rc == 0 && (n == 0 || !utf8_valid(slice_of(unicode, n)) || !is_same_name(unicode, ascii)))
            rc = ERR_SYNTAX;
        if (rc == 0) {
            memcpy(out, unicode, n + 1);
            *ret_n = n;
        }
    }
    idn2_free(ascii);
    idn2_free(unicode);
    return rc;
}

static bool has_a_label(const char *p, size_t n)
{
    for (size_t i = 0; i + 4 <= n; i++)
        if ((i == 0 || p[i - 1] == '.') && memcmp(p + i, "xn--", 4) == 0)
            return true;
    return false;
}

int address_canon_domain(struct slice in, char *ret, size_t *ret_n)
{
    char lower[ADDRESS_DOMAIN_MAX + 1];
    if (in.n == 0 || memchr(in.p, '\0', in.n) != NULL || !utf8_valid(in))
        return ERR_SYNTAX;
    if (in.n > ADDRESS_DOMAIN_MAX)
        return ERR_LIMIT;
    for (size_t i = 0; i < in.n; i++)
        lower[i] = ascii_lower(in.p[i]);
    lower[in.n] = '\0';
    bool ascii = utf8_is_ascii(in);
    if (ascii) {
        int rc = check_ascii_domain(lower, in.n);
        if (rc != 0)
            return rc;
    }
    if (!ascii || has_a_label(lower, in.n))
        return canon_idn(lower, ret, ret_n);
    memcpy(ret, lower, in.n + 1);
    *ret_n = in.n;
    return 0;
}

static size_t last_at(struct slice in)
{
    for (size_t i = in.n; i > 0; i--)
        if (in.p[i - 1] == '@')
            return i - 1;
    return in.n;
}

bool address_is_literal(struct slice in)
{
    size_t at = last_at(in);
    return at + 1 < in.n && in.p[at + 1] == '[';
}

int address_canon(struct slice in, struct address *ret)
{
    size_t at = last_at(in), domain_n = 0;
    int rc = canon_local(slice_head(in, at), ret->text, ADDRESS_LOCAL_MAX, &ret->local_n);
    if (rc != 0)
        return rc;
    ret->n = ret->local_n;
    if (at < in.n) {
        ret->text[ret->n++] = '@';
        rc = address_canon_domain(slice_from(in, at + 1), ret->text + ret->n, &domain_n);
        if (rc != 0)
            return rc;
        ret->n += domain_n;
    }
    ret->text[ret->n] = '\0';
    return 0;
}

/* RFC 5322 3.2.3 atext; RFC 6531 3.3 adds UTF8-non-ascii, of which we keep spaces, controls and the unassigned out. */
static bool is_atext(uint32_t cp)
{
    if (cp < 0x80)
        return ascii_is_alnum((char)cp) || (cp > 0x20 && strchr("!#$%&'*+-/=?^_`{|}~", (int)cp) != NULL);
    return !uc_is_general_category_withtable(cp, UC_CATEGORY_MASK_C | UC_CATEGORY_MASK_Z);
}

int address_check_own(const struct address *a, const char *delimiter, struct err *err)
{
    struct slice s = address_local(a);
    bool dot = true; /* as if one stood before the first character */
    if (address_domain(a).n == 0)
        return err_set(err, ERR_SYNTAX, "an address needs a domain: name@example.org");
    if (s.n > ADDRESS_LOCAL_OWN_MAX)
        return err_set(err, ERR_LIMIT, "the part before the @ is longer than %d bytes", ADDRESS_LOCAL_OWN_MAX);
    if (delimiter[0] != '\0' && slice_find(s, delimiter[0]) < s.n)
        return err_set(err, ERR_SYNTAX, "\"%s\" separates sub-addresses here and cannot be part of an address", delimiter);
    while (s.n > 0) {
        uint32_t cp;
        size_t n = utf8_next(s, &cp);
        bool is_dot = cp == '.';
        if (n == 0 || (is_dot && dot) || (!is_dot && !is_atext(cp)))
            return err_set(err, ERR_SYNTAX, "not allowed in an address kept here: %.*s", SLICE_ARG(s));
        dot = is_dot;
        s = slice_from(s, n);
    }
    if (dot)
        return err_set(err, ERR_SYNTAX, "the part before the @ ends with a dot");
    return 0;
}

bool address_split_detail(const struct address *a, const char *delimiter, struct address *ret_base, struct slice *ret_detail)
{
    struct slice local = address_local(a);
    size_t at = delimiter[0] != '\0' ? slice_find(local, delimiter[0]) : local.n;
    if (at == 0 || at >= local.n)
        return false;
    size_t rest = a->n - a->local_n;
    memcpy(ret_base->text, a->text, at);
    memcpy(ret_base->text + at, a->text + a->local_n, rest + 1);
    ret_base->local_n = at;
    ret_base->n = at + rest;
    *ret_detail = slice_from(local, at + 1);
    return true;
}
