/* XCLIENT (Postfix's XCLIENT_README): a proxy or a test, from listen.xclient_from, says whose connection this is. The session begins again
 * with a greeting; limits, trail and trace fields are those of the client named. */
#include "proto/smtp/session_priv.h"

struct claim {
    struct netaddr client, local;
    struct slice name, helo; /* NULL: not given */
    bool extended;
};

static bool unknown(struct slice v)
{
    return slice_ieq(v, SLICE("[UNAVAILABLE]")) || slice_ieq(v, SLICE("[TEMPUNAVAIL]"));
}

static bool take_address(struct slice v, struct netaddr *ret)
{
    if (slice_istarts(v, SLICE("IPV6:")))
        v = slice_from(v, 5);
    uint16_t port = ret->port;
    bool ok = v.n > 0 && v.p[0] != '[' && netaddr_parse_ip(v, ret);
    ret->port = port;
    return ok;
}

static bool take_port(struct slice v, struct netaddr *ret)
{
    uint64_t port;
    if (!slice_to_u64(v, &port) || port > 65535)
        return false;
    ret->port = (uint16_t)port;
    return true;
}

static bool take_name(struct slice v, struct slice *ret)
{
    *ret = v;
    return v.n <= SMTP_NAME_MAX && smtp_domain_valid(v, true);
}

static bool take_helo(struct slice v, struct slice *ret)
{
    struct netaddr ip;
    *ret = v;
    return v.n <= SMTP_NAME_MAX && (smtp_domain_valid(v, true) || smtp_literal_parse(v, &ip));
}

/* 0, ERR_SYNTAX, or -EOPNOTSUPP for an attribute that we did not offer. */
static int take_attribute(struct slice key, struct slice v, struct claim *c)
{
    bool ok = true, none = unknown(v);
    if (slice_ieq(key, SLICE("ADDR")))
        ok = none || take_address(v, &c->client);
    else if (slice_ieq(key, SLICE("PORT")))
        ok = none || take_port(v, &c->client);
    else if (slice_ieq(key, SLICE("DESTADDR")))
        ok = none || take_address(v, &c->local);
    else if (slice_ieq(key, SLICE("DESTPORT")))
        ok = none || take_port(v, &c->local);
    else if (slice_ieq(key, SLICE("NAME")))
        ok = none || take_name(v, &c->name);
    else if (slice_ieq(key, SLICE("HELO")))
        ok = none || take_helo(v, &c->helo);
    else if (slice_ieq(key, SLICE("PROTO"))) {
        c->extended = slice_ieq(v, SLICE("ESMTP"));
        ok = c->extended || slice_ieq(v, SLICE("SMTP"));
    } else
        return -EOPNOTSUPP;
    return ok ? 0 : ERR_SYNTAX;
}

static int claim_parse(struct slice args, struct arena *a, struct claim *c)
{
    for (;;) {
        struct slice key, value, decoded;
        int rc = smtp_param_next(&args, &key, &value);
        if (rc == ERR_CLOSED)
            return 0;
        if (rc == 0 && value.p == NULL)
            rc = ERR_SYNTAX;
        if (rc == 0)
            rc = smtp_xtext_decode(value, SMTP_NAME_MAX, a, &decoded);
        if (rc == 0)
            rc = take_attribute(key, decoded, c);
        if (rc != 0)
            return rc;
    }
}

static int replace(char **text, struct slice v)
{
    char *copy = v.p != NULL ? strndup(v.p, v.n) : NULL;
    if (v.p != NULL && copy == NULL)
        return -ENOMEM;
    free(*text);
    *text = copy;
    return 0;
}

static int claim_apply(struct smtp_session *s, const struct claim *c)
{
    int rc = replace(&s->client_name, c->name);
    if (rc == 0)
        rc = replace(&s->helo, c->helo);
    if (rc != 0)
        return smtp_reply(s, 451, "4.3.0", "No memory; try again");
    s->local = c->local;
    s->state = s->helo != NULL ? SMTP_GREETED : SMTP_NEW;
    s->extended = c->extended;
    rc = smtp_connection_client(s, &c->client);
    return rc != 0 ? rc : smtp_connection_greet(s);
}

int smtp_cmd_xclient(struct smtp_session *s, struct slice args)
{
    struct claim c = {.client = s->client, .local = s->local};
    struct arena a;
    arena_init(&a, 16384);
    int rc = claim_parse(args, &a, &c);
    if (rc == 0)
        rc = claim_apply(s, &c);
    else if (rc == -EOPNOTSUPP)
        rc = smtp_reply(s, 501, "5.5.4", "An attribute is not supported");
    else
        rc = smtp_reply(s, 501, "5.5.4", "An attribute is malformed");
    arena_done(&a);
    return rc;
}
