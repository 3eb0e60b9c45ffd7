/* EHLO, HELO, LHLO: who the client says it is, and what we offer (RFC 5321 4.1.1.1, RFC 2033 4.1). */
#include "proto/smtp/session_priv.h"

/* --- checks of the name --- */

static bool name_is_own(const struct smtp_session *s, struct slice name)
{
    struct netaddr ip;
    if (smtp_literal_parse(name, &ip))
        return memcmp(ip.ip, s->local.ip, sizeof(ip.ip)) == 0;
    if (slice_ieq(name, slice_str(s->set->hostname)))
        return true;
    for (size_t i = 0; i < s->set->domains.n; i++)
        if (slice_ieq(name, slice_str(s->set->domains.items[i])))
            return true;
    return false;
}

/* 1: fine; otherwise answered. Hosts' names have underscores in practice; RFC 5321 4.1.4 forbids to refuse a name for not resolving. */
static int name_check(struct smtp_session *s, struct slice name)
{
    struct netaddr ip;
    if (name.n > SMTP_NAME_MAX)
        return smtp_reply(s, 501, "5.5.4", "The name is longer than %d octets", SMTP_NAME_MAX);
    if (s->set->helo_check == SMTP_HELO_OFF)
        return 1;
    struct slice bare = name.n > 1 && name.p[name.n - 1] == '.' ? slice_head(name, name.n - 1) : name;
    if (!smtp_domain_valid(bare, true) && !smtp_literal_parse(name, &ip))
        return smtp_reply(s, 501, "5.5.4", "Give your host name, or your address like [192.0.2.1] or [IPv6:2001:db8::1]");
    bool stranger = memcmp(s->client.ip, s->local.ip, sizeof(s->client.ip)) != 0 && !netaddr_is_loopback(&s->client);
    if (s->set->helo_check == SMTP_HELO_OWN_NAME && stranger && !s->unlimited && name_is_own(s, bare))
        return smtp_reply(s, 550, "5.7.1", "That is our name, not yours");
    return 1;
}

/* --- what is offered: one row a keyword --- */

struct extension {
    const char *keyword;
    bool (*offered)(const struct smtp_session *s); /* NULL: always */
    void (*value)(const struct smtp_session *s, char *out, size_t size); /* NULL: none */
};

static bool without_tls(const struct smtp_session *s)
{
    return !s->tls_on;
}

static bool to_xclient(const struct smtp_session *s)
{
    return smtp_networks_have(&s->set->xclient_from, &s->peer);
}

static void size_value(const struct smtp_session *s, char *out, size_t size)
{
    (void)snprintf(out, size, " %llu", (unsigned long long)s->set->max_message_size);
}

/* RFC 9422 */
static void limits_value(const struct smtp_session *s, char *out, size_t size)
{
    if (s->unlimited)
        (void)snprintf(out, size, " RCPTMAX=%llu", (unsigned long long)s->set->max_recipients);
    else
        (void)snprintf(out, size, " MAILMAX=%llu RCPTMAX=%llu", (unsigned long long)s->set->max_messages,
                       (unsigned long long)s->set->max_recipients);
}

static void xclient_value(const struct smtp_session *s, char *out, size_t size)
{
    (void)s;
    (void)snprintf(out, size, " NAME ADDR PORT PROTO HELO DESTADDR DESTPORT");
}

static const struct extension extensions[] = {
    {"PIPELINING", NULL, NULL},            /* RFC 2920 */
    {"SIZE", NULL, size_value},            /* RFC 1870 */
    {"8BITMIME", NULL, NULL},              /* RFC 6152 */
    {"SMTPUTF8", NULL, NULL},              /* RFC 6531 */
    {"DSN", NULL, NULL},                   /* RFC 3461 */
    {"ENHANCEDSTATUSCODES", NULL, NULL},   /* RFC 2034 */
    {"CHUNKING", NULL, NULL},              /* RFC 3030 */
    {"LIMITS", NULL, limits_value},        /* RFC 9422 */
    {"STARTTLS", without_tls, NULL},       /* RFC 3207 */
    {"XCLIENT", to_xclient, xclient_value},
    {"HELP", NULL, NULL},                  /* the last: always offered */
};
#define EXTENSIONS (sizeof(extensions) / sizeof(*extensions))

static int extensions_tell(struct smtp_session *s)
{
    int rc = smtp_reply_more(s, 250, "%s", s->set->hostname);
    for (size_t i = 0; i < EXTENSIONS && rc == 0; i++) {
        const struct extension *e = &extensions[i];
        char value[128] = "";
        if (e->offered != NULL && !e->offered(s))
            continue;
        if (e->value != NULL)
            e->value(s, value, sizeof(value));
        rc = i + 1 < EXTENSIONS ? smtp_reply_more(s, 250, "%s%s", e->keyword, value) : smtp_reply(s, 250, "", "%s%s", e->keyword, value);
    }
    return rc;
}

/* --- the commands --- */

/* 1: taken; otherwise answered. RFC 5321 4.1.4: it also ends a transaction. */
static int greet(struct smtp_session *s, struct slice name, bool extended)
{
    int rc = name_check(s, name);
    if (rc <= 0)
        return rc;
    char *copy = malloc(name.n + 1);
    if (copy == NULL)
        return smtp_reply(s, 451, "4.3.0", "No memory; try again");
    memcpy(copy, name.p, name.n);
    copy[name.n] = '\0';
    smtp_tx_end(s);
    free(s->helo);
    s->helo = copy;
    s->extended = extended;
    s->state = SMTP_GREETED;
    return 1;
}

int smtp_cmd_ehlo(struct smtp_session *s, struct slice args)
{
    int rc = greet(s, args, true);
    return rc <= 0 ? rc : extensions_tell(s);
}

int smtp_cmd_lhlo(struct smtp_session *s, struct slice args)
{
    return smtp_cmd_ehlo(s, args);
}

int smtp_cmd_helo(struct smtp_session *s, struct slice args)
{
    int rc = greet(s, args, false);
    return rc <= 0 ? rc : smtp_reply(s, 250, "", "%s", s->set->hostname);
}
