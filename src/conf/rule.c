/* rule.c: what text values must look like beyond their length: choices, addresses, names, paths. */
#include "base/utf8.h"
#include "conf/table.h"

typedef const char *rule_fn(const char *value);

static const char *check_host(const char *value)
{
    size_t label = 0;
    for (const char *p = value; *p != '\0'; p++) {
        if (*p == '.' ? label == 0 : !ascii_is_alnum(*p) && *p != '-')
            return "is not a host name (letters, digits, hyphens and dots)";
        if (*p == '-' && (label == 0 || p[1] == '.' || p[1] == '\0'))
            return "has a label that begins or ends with a hyphen";
        label = *p == '.' ? 0 : label + 1;
        if (label > 63)
            return "has a label longer than 63 letters";
    }
    return label == 0 ? "is not a host name (it ends with a dot)" : NULL;
}

/* Domains may be written in any script; what belongs to accounts is checked again by authd. */
static const char *check_domain(const char *value)
{
    if (utf8_is_ascii(slice_str(value)))
        return check_host(value);
    return strpbrk(value, " @/\\\"'<>") != NULL ? "is not a domain" : NULL;
}

static const char *check_listener(const char *value)
{
    struct netaddr at;
    bool any;
    return conf_listener(value, &at, &any) ? NULL : "is not address:port, such as 192.0.2.1:25, [2001:db8::1]:25 or *:25";
}

static const char *check_network(const char *value)
{
    struct netmask m;
    return netmask_parse(slice_str(value), &m) ? NULL : "is not a network, such as 192.0.2.0/24, 2001:db8::/32 or an address "
                                                        "(bits behind the prefix must be zero)";
}

static const char *check_path(const char *value)
{
    return *value == '/' || *value == '\0' ? NULL : "is not a path from the root (it must begin with /)";
}

static const char *check_delimiter(const char *value)
{
    return *value == '\0' || strchr("+-_=!#$%&'*?^~", *value) != NULL ? NULL : "cannot separate a sub-address";
}

static const struct {
    enum conf_option option;
    const char *choices;
    rule_fn *check;
} rules[] = {
    {CONF_O_server_hostname, NULL, check_host},
    {CONF_O_server_domains, NULL, check_domain},
    {CONF_O_server_state, NULL, check_path},
    {CONF_O_log_level, "debug info warning error", NULL},
    {CONF_O_log_format, "text json", NULL},
    {CONF_O_listen_smtp, NULL, check_listener},
    {CONF_O_listen_lmtp, NULL, check_listener},
    {CONF_O_listen_pop3, NULL, check_listener},
    {CONF_O_listen_pop3s, NULL, check_listener},
    {CONF_O_listen_proxy_from, NULL, check_network},
    {CONF_O_listen_xclient_from, NULL, check_network},
    {CONF_O_tls_certificates, NULL, check_path},
    {CONF_O_tls_policy, "cryptrec modern compatible", NULL},
    {CONF_O_smtp_helo_check, "off syntax own-name", NULL},
    {CONF_O_smtp_unlimited_from, NULL, check_network},
    {CONF_O_address_delimiter, NULL, check_delimiter},
};

const char *conf_rule_choices(enum conf_option option)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (rules[i].option == option)
            return rules[i].choices;
    return NULL;
}

static bool is_choice(const char *choices, const char *value)
{
    for (struct slice rest = slice_str(choices); rest.n > 0;)
        if (slice_eq(slice_cut(&rest, ' '), slice_str(value)))
            return true;
    return false;
}

const char *conf_rule_check(enum conf_option option, const char *value)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (rules[i].option != option)
            continue;
        if (rules[i].choices != NULL)
            return is_choice(rules[i].choices, value) ? NULL : "is none of the possible words";
        return rules[i].check(value);
    }
    return NULL;
}
