/* RFC 5321 paths: see smtp_path.h. Input is from strangers; pure functions. */
#include "wire/smtp_path.h"

#include <idn2.h>

#include "base/netaddr.h"
#include "base/utf8.h"

static bool is_atext(char c)
{
    return ascii_is_alnum(c) || (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL) || (unsigned char)c >= 0x80;
}

bool smtp_domain_valid(struct slice text, bool loose)
{
    size_t label = 0;
    char before = '.';
    if (text.n == 0 || text.n > SMTP_DOMAIN_MAX)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '.') {
            if (label == 0 || before == '-')
                return false;
            label = 0;
        } else {
            bool inner = c == '-' && label != 0;
            if (!ascii_is_alnum(c) && !inner && !(loose && c == '_'))
                return false;
            if (++label > SMTP_LABEL_MAX)
                return false;
        }
        before = c;
    }
    return label != 0 && before != '-';
}

bool smtp_literal_parse(struct slice text, struct netaddr *ret)
{
    if (text.n < 3 || text.p[0] != '[' || text.p[text.n - 1] != ']')
        return false;
    text = slice_of(text.p + 1, text.n - 2);
    bool tagged = slice_istarts(text, SLICE("IPv6:"));
    if (tagged)
        text = slice_from(text, 5);
    /* The tag decides the family: "[2001:db8::1]" and "[IPv6:192.0.2.1]" are no literals. */
    bool colon = slice_find(text, ':') < text.n;
    if (tagged != colon || slice_find(text, '[') < text.n)
        return false;
    return netaddr_parse_ip(text, ret);
}

void smtp_literal_print(const struct netaddr *a, struct buf *out)
{
    char ip[NETADDR_TEXT_SIZE];
    netaddr_print_ip(a, ip);
    buf_printf(out, "[%s%s]", netaddr_is_v4(a) ? "" : "IPv6:", ip);
}

/* --- the domain --- */

static int domain_copy(struct slice s, bool lower, struct arena *a, struct slice *ret)
{
    char *p = arena_alloc(a, s.n + 1);
    if (p == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < s.n; i++)
        p[i] = lower ? ascii_lower(s.p[i]) : s.p[i];
    *ret = slice_of(p, s.n);
    return 0;
}

static bool has_a_label(struct slice s)
{
    while (s.n > 0)
        if (slice_istarts(slice_cut(&s, '.'), SLICE("xn--")))
            return true;
    return false;
}

/* Some A-labels decode to what encodes differently or not at all; they are then nobody's U-label and stay as they are. */
static bool idn_round_trips(const char *utf8, const char *ascii)
{
    char *again = NULL;
    bool same = idn2_to_ascii_8z(utf8, &again, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) == IDN2_OK &&
                slice_ieq(slice_str(again), slice_str(ascii));
    idn2_free(again);
    return same && utf8_valid(slice_str(utf8)) && strlen(utf8) <= SMTP_DOMAIN_MAX;
}

/* Non-ASCII to A-labels, so that the grammar can be checked, then to U-labels: one form whatever was given (RFC 5891 5). */
static int domain_idn(struct slice s, struct arena *a, struct slice *ret, struct err *err)
{
    char *ascii = NULL, *utf8 = NULL, *text = arena_strdup(a, s);
    int rc = 0;
    if (text == NULL)
        return err_set(err, ERR_SYNTAX, "the domain is not a name");
    if (idn2_to_ascii_8z(text, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
        rc = err_set(err, ERR_SYNTAX, "the domain is not a valid international name (RFC 5891)");
    else if (!smtp_domain_valid(slice_str(ascii), false))
        rc = err_set(err, ERR_SYNTAX, "the domain is not a name");
    else if (idn2_to_unicode_8z8z(ascii, &utf8, 0) != IDN2_OK || !idn_round_trips(utf8, ascii))
        rc = domain_copy(slice_str(ascii), true, a, ret);
    else
        rc = domain_copy(slice_str(utf8), true, a, ret);
    idn2_free(ascii);
    idn2_free(utf8);
    return rc;
}

static int domain_literal(struct slice s, struct arena *a, struct slice *ret, struct err *err)
{
    struct netaddr ip;
    struct buf b;
    if (!smtp_literal_parse(s, &ip))
        return err_set(err, ERR_SYNTAX, "an address literal is [192.0.2.1] or [IPv6:2001:db8::1]");
    buf_init(&b, 128);
    smtp_literal_print(&ip, &b);
    *ret = arena_copy(a, buf_slice(&b));
    buf_done(&b);
    return ret->p != NULL ? 0 : -ENOMEM;
}

static int domain_canonical(struct slice s, struct arena *a, struct slice *ret, struct err *err)
{
    if (s.n == 0)
        return err_set(err, ERR_SYNTAX, "the domain is missing");
    if (s.n > SMTP_DOMAIN_MAX)
        return err_set(err, ERR_LIMIT, "the domain is longer than %d octets", SMTP_DOMAIN_MAX);
    if (s.p[0] == '[')
        return domain_literal(s, a, ret, err);
    if (s.p[s.n - 1] == '.')
        return err_set(err, ERR_SYNTAX, "the domain must not end with a dot");
    if (!utf8_is_ascii(s))
        return domain_idn(s, a, ret, err);
    if (!smtp_domain_valid(s, false))
        return err_set(err, ERR_SYNTAX, "the domain is not a name");
    if (has_a_label(s) && domain_idn(s, a, ret, NULL) == 0)
        return 0;
    return domain_copy(s, true, a, ret);
}

/* --- the local part --- */

/* RFC 5321 Quoted-string; out takes the content without escapes. Returns the bytes used, 0 for bad syntax. */
static size_t quoted_take(struct slice in, char *out, size_t *ret_n)
{
    size_t n = 0;
    for (size_t i = 1; i < in.n; i++) {
        unsigned char c = (unsigned char)in.p[i];
        if (c == '"') {
            *ret_n = n;
            return i + 1;
        }
        if (c == '\\') {
            if (++i >= in.n)
                return 0;
            c = (unsigned char)in.p[i];
            if (c >= 0x7f)
                return 0;
        }
        if (c < 32 || c == 127 || n >= SMTP_LOCAL_MAX)
            return 0;
        out[n++] = (char)c;
    }
    return 0;
}

/* RFC 5321 Dot-string; dots may stand anywhere when free_dots. Returns the bytes used. */
static size_t dot_string_take(struct slice in, bool free_dots)
{
    size_t i = 0;
    for (; i < in.n; i++) {
        char c = in.p[i];
        if (is_atext(c))
            continue;
        if (c != '.' || (!free_dots && (i == 0 || in.p[i - 1] == '.')))
            break;
    }
    return !free_dots && i > 0 && in.p[i - 1] == '.' ? 0 : i;
}

static int local_take(struct slice *in, bool free_dots, struct arena *a, struct slice *ret, struct err *err)
{
    char text[SMTP_LOCAL_MAX];
    size_t used, n = 0;
    if (in->n > 0 && in->p[0] == '"') {
        used = quoted_take(*in, text, &n);
        if (used == 0)
            return err_set(err, ERR_SYNTAX, "the quoted part before the @ is malformed or longer than %d octets", SMTP_LOCAL_MAX);
        *ret = arena_copy(a, slice_of(text, n));
    } else {
        used = dot_string_take(*in, free_dots);
        if (used > SMTP_LOCAL_MAX)
            return err_set(err, ERR_LIMIT, "the part before the @ is longer than %d octets", SMTP_LOCAL_MAX);
        *ret = arena_copy(a, slice_head(*in, used));
    }
    if (ret->p == NULL)
        return -ENOMEM;
    if (ret->n == 0)
        return err_set(err, ERR_SYNTAX, "the part before the @ is missing or has characters that need quotes");
    if (!utf8_valid(*ret))
        return err_set(err, ERR_SYNTAX, "the address is not valid UTF-8");
    *in = slice_from(*in, used);
    return 0;
}

/* --- paths --- */

static int address_join(struct arena *a, struct smtp_path *p)
{
    char *text = arena_alloc(a, p->local.n + p->domain.n + 2);
    if (text == NULL)
        return -ENOMEM;
    memcpy(text, p->local.p, p->local.n);
    text[p->local.n] = '@';
    memcpy(text + p->local.n + 1, p->domain.p, p->domain.n);
    p->address = slice_of(text, p->local.n + 1 + p->domain.n);
    p->utf8 = !utf8_is_ascii(p->local);
    return 0;
}

/* The end of the domain: a literal ends with "]", a name at the first byte that cannot be part of one. */
static size_t domain_length(struct slice in)
{
    size_t i = 0;
    if (in.n > 0 && in.p[0] == '[') {
        i = slice_find(in, ']');
        return i < in.n ? i + 1 : i;
    }
    while (i < in.n && in.p[i] != '>' && in.p[i] != ' ' && in.p[i] != ',' && in.p[i] != ':')
        i++;
    return i;
}

static int mailbox_take(struct slice *in, enum smtp_path_kind kind, struct arena *a, struct smtp_path *p, struct err *err)
{
    int rc = local_take(in, kind == SMTP_PATH_REVERSE, a, &p->local, err);
    if (rc != 0)
        return rc;
    if (in->n == 0 || in->p[0] != '@') {
        /* RFC 5321 4.1.1.3: postmaster without a domain is ours. */
        bool ends = in->n == 0 || in->p[0] == '>';
        if (kind == SMTP_PATH_FORWARD && ends && slice_ieq(p->local, SLICE("postmaster"))) {
            p->local = p->address = SLICE("postmaster");
            return 0;
        }
        if (ends)
            return err_set(err, ERR_SYNTAX, "the address has no domain");
        return err_set(err, ERR_SYNTAX, "the part before the @ has characters that need quotes");
    }
    *in = slice_from(*in, 1);
    struct slice given = slice_head(*in, domain_length(*in));
    rc = domain_canonical(given, a, &p->domain, err);
    if (rc == 0)
        rc = address_join(a, p);
    if (rc != 0)
        return rc;
    p->utf8 = p->utf8 || !utf8_is_ascii(given);
    *in = slice_from(*in, given.n);
    return 0;
}

/* "@one,@two:" in front of the mailbox: accepted and ignored (RFC 5321 4.1.1.3, appendix C and F.2). */
static int route_skip(struct slice *in, struct arena *a, bool *ret_routed, struct err *err)
{
    if (in->n == 0 || in->p[0] != '@')
        return 0;
    size_t from = in->n;
    for (;;) {
        struct slice unused;
        if (in->n == 0 || in->p[0] != '@' || from - in->n > SMTP_ROUTE_MAX)
            return err_set(err, ERR_SYNTAX, "the source route is malformed; put the address alone into <>");
        *in = slice_from(*in, 1);
        size_t n = domain_length(*in);
        int rc = domain_canonical(slice_head(*in, n), a, &unused, err);
        if (rc != 0)
            return rc;
        *in = slice_from(*in, n);
        char c = in->n > 0 ? in->p[0] : '\0';
        *in = slice_from(*in, 1);
        if (c == ':')
            break;
        if (c != ',')
            return err_set(err, ERR_SYNTAX, "the source route is malformed; put the address alone into <>");
    }
    *ret_routed = true;
    return 0;
}

int smtp_path_parse(struct slice *in, enum smtp_path_kind kind, struct arena *a, struct smtp_path *ret, struct err *err)
{
    struct slice s = *in;
    struct smtp_path p = {.local = SLICE_EMPTY, .domain = SLICE_EMPTY, .address = SLICE_EMPTY};
    if (s.n == 0 || s.p[0] != '<')
        return err_set(err, ERR_SYNTAX, "the address must stand in <>");
    s = slice_from(s, 1);
    if (kind == SMTP_PATH_REVERSE && s.n > 0 && s.p[0] == '>') {
        *in = slice_from(s, 1);
        *ret = p;
        return 0;
    }
    int rc = route_skip(&s, a, &p.routed, err);
    if (rc == 0)
        rc = mailbox_take(&s, kind, a, &p, err);
    if (rc != 0)
        return rc;
    if (s.n == 0 || s.p[0] != '>')
        return err_set(err, ERR_SYNTAX, "the address does not end with >");
    *in = slice_from(s, 1);
    *ret = p;
    return 0;
}

int smtp_mailbox_parse(struct slice text, enum smtp_path_kind kind, struct arena *a, struct smtp_path *ret, struct err *err)
{
    struct smtp_path p = {.local = SLICE_EMPTY, .domain = SLICE_EMPTY, .address = SLICE_EMPTY};
    int rc = mailbox_take(&text, kind, a, &p, err);
    if (rc == 0 && text.n != 0)
        rc = err_set(err, ERR_SYNTAX, "something follows the address");
    if (rc == 0)
        *ret = p;
    return rc;
}

/* The last "@" of a canonical address; a literal or name holds none. */
static size_t last_at(struct slice s)
{
    size_t i = s.n;
    while (i > 0 && s.p[i - 1] != '@')
        i--;
    return i > 0 ? i - 1 : s.n;
}

void smtp_path_print(struct slice address, struct buf *out)
{
    size_t at = last_at(address);
    struct slice local = slice_head(address, at);
    if (dot_string_take(local, false) == local.n) {
        buf_put_slice(out, address);
        return;
    }
    buf_put_char(out, '"');
    for (size_t i = 0; i < local.n; i++) {
        if (local.p[i] == '"' || local.p[i] == '\\')
            buf_put_char(out, '\\');
        buf_put_char(out, local.p[i]);
    }
    buf_put_char(out, '"');
    buf_put_slice(out, slice_from(address, at));
}
