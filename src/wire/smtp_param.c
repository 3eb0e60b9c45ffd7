/* Parameters of MAIL and RCPT: see smtp_param.h. One row a parameter. */
#include "wire/smtp_param.h"

#include "base/utf8.h"

int smtp_param_next(struct slice *text, struct slice *ret_keyword, struct slice *ret_value)
{
    struct slice s = *text;
    while (s.n > 0 && s.p[0] == ' ')
        s = slice_from(s, 1);
    if (s.n == 0)
        return ERR_CLOSED;
    struct slice item = slice_cut(&s, ' '), value = item;
    struct slice keyword = slice_cut(&value, '=');
    bool has_value = keyword.n < item.n;
    if (keyword.n == 0 || !ascii_is_alnum(keyword.p[0]))
        return ERR_SYNTAX;
    for (size_t i = 0; i < keyword.n; i++)
        if (!ascii_is_alnum(keyword.p[i]) && keyword.p[i] != '-')
            return ERR_SYNTAX;
    if (has_value && value.n == 0)
        return ERR_SYNTAX;
    for (size_t i = 0; has_value && i < value.n; i++)
        if ((unsigned char)value.p[i] < 33 || value.p[i] == '=' || value.p[i] == 127)
            return ERR_SYNTAX;
    *text = s;
    *ret_keyword = keyword;
    *ret_value = has_value ? value : (struct slice){NULL, 0};
    return 0;
}

static int hex_value(char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int smtp_xtext_decode(struct slice text, size_t max, struct arena *a, struct slice *ret)
{
    char *out = arena_alloc(a, text.n + 1);
    size_t n = 0;
    if (out == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c < 33 || c == 127 || c == '=')
            return ERR_SYNTAX;
        if (c == '+') {
            int high = i + 2 < text.n ? hex_value(text.p[i + 1]) : -1, low = high >= 0 ? hex_value(text.p[i + 2]) : -1;
            if (low < 0)
                return ERR_SYNTAX;
            c = (unsigned char)(high << 4 | low);
            i += 2;
        }
        out[n++] = (char)c;
    }
    if (n > max)
        return ERR_LIMIT;
    *ret = slice_of(out, n);
    return 0;
}

/* One row: a parameter's name and what takes its value. into: the parsed struct of the command. */
struct param_row {
    const char *keyword;
    bool takes_value;
    int (*take)(struct slice value, struct arena *a, void *into);
    const char *shape; /* for the sender */
};

static int take_size(struct slice value, struct arena *a, void *into)
{
    (void)a;
    struct smtp_mail_params *p = into;
    return value.n <= 20 && slice_to_u64(value, &p->size) ? 0 : ERR_SYNTAX;
}

static int take_body(struct slice value, struct arena *a, void *into)
{
    (void)a;
    static const char *const names[] = {"7BIT", "8BITMIME", "BINARYMIME"};
    struct smtp_mail_params *p = into;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (slice_ieq(value, slice_str(names[i]))) {
            p->body = (enum smtp_body_type)i;
            return 0;
        }
    return ERR_SYNTAX;
}

static int take_smtputf8(struct slice value, struct arena *a, void *into)
{
    (void)value;
    (void)a;
    ((struct smtp_mail_params *)into)->smtputf8 = true;
    return 0;
}

static int take_ret(struct slice value, struct arena *a, void *into)
{
    (void)a;
    struct smtp_mail_params *p = into;
    p->ret = slice_ieq(value, SLICE("FULL")) ? SMTP_RET_FULL : slice_ieq(value, SLICE("HDRS")) ? SMTP_RET_HDRS : SMTP_RET_NONE;
    return p->ret != SMTP_RET_NONE ? 0 : ERR_SYNTAX;
}

static int take_envid(struct slice value, struct arena *a, void *into)
{
    return smtp_xtext_decode(value, SMTP_ENVID_MAX, a, &((struct smtp_mail_params *)into)->envid);
}

/* RFC 3461 4.1: NEVER alone, or a list of the others. */
static int take_notify(struct slice value, struct arena *a, void *into)
{
    (void)a;
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = {{"NEVER", SMTP_NOTIFY_NEVER}, {"SUCCESS", SMTP_NOTIFY_SUCCESS}, {"FAILURE", SMTP_NOTIFY_FAILURE}, {"DELAY", SMTP_NOTIFY_DELAY}};
    unsigned notify = 0;
    for (bool more = true; more;) {
        size_t before = value.n, i = 0;
        struct slice one = slice_cut(&value, ',');
        more = one.n < before;
        while (i < 4 && !slice_ieq(one, slice_str(names[i].name)))
            i++;
        if (i == 4 || (notify & names[i].bit) != 0)
            return ERR_SYNTAX;
        notify |= names[i].bit;
    }
    if ((notify & SMTP_NOTIFY_NEVER) != 0 && notify != SMTP_NOTIFY_NEVER)
        return ERR_SYNTAX;
    ((struct smtp_rcpt_params *)into)->notify = notify;
    return 0;
}

/* RFC 3461 4.2: addr-type ";" xtext. */
static int take_orcpt(struct slice value, struct arena *a, void *into)
{
    struct smtp_rcpt_params *p = into;
    struct slice type = slice_cut(&value, ';');
    if (type.n == 0 || type.n > 32 || value.n == 0)
        return ERR_SYNTAX;
    for (size_t i = 0; i < type.n; i++)
        if (!ascii_is_alnum(type.p[i]) && type.p[i] != '-')
            return ERR_SYNTAX;
    int rc = smtp_xtext_decode(value, SMTP_ORCPT_MAX, a, &p->orcpt);
    if (rc != 0)
        return rc;
    /* It goes into a header line: nothing that could end it. */
    for (size_t i = 0; i < p->orcpt.n; i++)
        if ((unsigned char)p->orcpt.p[i] < 32 || p->orcpt.p[i] == 127)
            return ERR_SYNTAX;
    p->orcpt_type = arena_copy(a, type);
    if (p->orcpt_type.p == NULL)
        return -ENOMEM;
    return utf8_valid(p->orcpt) ? 0 : ERR_SYNTAX;
}

static const struct param_row mail_rows[] = {
    {"SIZE", true, take_size, "SIZE=<octets>"},
    {"BODY", true, take_body, "BODY=7BIT or BODY=8BITMIME"},
    {"SMTPUTF8", false, take_smtputf8, "SMTPUTF8"},
    {"RET", true, take_ret, "RET=FULL or RET=HDRS"},
    {"ENVID", true, take_envid, "ENVID=<xtext>"},
};
static const struct param_row rcpt_rows[] = {
    {"NOTIFY", true, take_notify, "NOTIFY=NEVER or a list of SUCCESS,FAILURE,DELAY"},
    {"ORCPT", true, take_orcpt, "ORCPT=rfc822;<xtext>"},
};

static int params_parse(const struct param_row *rows, size_t n, struct slice text, struct arena *a, void *into, struct err *err)
{
    unsigned seen = 0;
    if (text.n > 0 && text.p[0] != ' ')
        return err_set(err, ERR_SYNTAX, "a space is missing behind the address");
    for (;;) {
        struct slice keyword, value;
        int rc = smtp_param_next(&text, &keyword, &value);
        if (rc == ERR_CLOSED)
            return 0;
        if (rc != 0)
            return err_set(err, ERR_SYNTAX, "a parameter is malformed");
        size_t i = 0;
        while (i < n && !slice_ieq(keyword, slice_str(rows[i].keyword)))
            i++;
        if (i == n)
            return err_set(err, -EOPNOTSUPP, "the parameter %.*s is not supported", (int)(keyword.n < 32 ? keyword.n : 32), keyword.p);
        if ((seen & 1U << i) != 0)
            return err_set(err, ERR_SYNTAX, "the parameter %s is given twice", rows[i].keyword);
        seen |= 1U << i;
        if (rows[i].takes_value != (value.p != NULL))
            return err_set(err, ERR_SYNTAX, "the parameter is %s", rows[i].shape);
        rc = rows[i].take(value, a, into);
        if (rc == -ENOMEM)
            return rc;
        if (rc != 0)
            return err_set(err, ERR_SYNTAX, "the parameter is %s", rows[i].shape);
    }
}

int smtp_mail_params_parse(struct slice text, struct arena *a, struct smtp_mail_params *ret, struct err *err)
{
    struct smtp_mail_params p = {.envid = SLICE_EMPTY};
    int rc = params_parse(mail_rows, sizeof(mail_rows) / sizeof(*mail_rows), text, a, &p, err);
    if (rc == 0)
        *ret = p;
    return rc;
}

int smtp_rcpt_params_parse(struct slice text, struct arena *a, struct smtp_rcpt_params *ret, struct err *err)
{
    struct smtp_rcpt_params p = {.orcpt = SLICE_EMPTY, .orcpt_type = SLICE_EMPTY};
    int rc = params_parse(rcpt_rows, sizeof(rcpt_rows) / sizeof(*rcpt_rows), text, a, &p, err);
    if (rc == 0)
        *ret = p;
    return rc;
}
