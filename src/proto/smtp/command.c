/* The table of commands and what is done with it: one row a verb; the dispatcher checks state and arguments, the handlers do not repeat
 * it. BDAT alone is allowed in every state, because its octets follow whatever the answer is. */
#include "proto/smtp/session_priv.h"

/* --- the small ones --- */

static int cmd_rset(struct smtp_session *s, struct slice args)
{
    (void)args;
    smtp_tx_end(s);
    return smtp_reply(s, 250, "2.0.0", "Forgotten");
}

static int cmd_noop(struct smtp_session *s, struct slice args)
{
    (void)args;
    return smtp_reply(s, 250, "2.0.0", "OK");
}

static int cmd_quit(struct smtp_session *s, struct slice args)
{
    (void)args;
    smtp_end(s, "quit");
    return smtp_reply(s, 221, "2.0.0", "%s says goodbye", s->set->hostname);
}

/* RFC 5321 3.5.3, 7.3: the same answer for every address. */
static int cmd_vrfy(struct smtp_session *s, struct slice args)
{
    (void)args;
    return smtp_reply(s, 252, "2.5.0", "Addresses are not confirmed here; send the message and see");
}

static int cmd_etrn(struct smtp_session *s, struct slice args)
{
    (void)args;
    return smtp_reply(s, 502, "5.5.1", "ETRN is not supported");
}

static int cmd_help(struct smtp_session *s, struct slice args)
{
    (void)args;
    int rc = smtp_reply_more(s, 214, "2.0.0 Kakitome. Commands:");
    for (size_t i = 0; i < smtp_commands_n && rc == 0; i++) {
        const struct smtp_command *c = &smtp_commands[i];
        if (smtp_command_offered(s, c) && (c->flags & SMTP_CMD_HIDDEN) == 0)
            rc = smtp_reply_more(s, 214, "2.0.0   %s%s%s  (%s)", c->name, c->shape[0] != '\0' ? " " : "", c->shape, c->rfc);
    }
    return rc != 0 ? rc : smtp_reply(s, 214, "2.0.0", "Questions: postmaster");
}

/* What speaks HTTP at us has been led here to speak for somebody else: one line is enough to know. PROXY: from an address that may not. */
static int cmd_other_protocol(struct smtp_session *s, struct slice args)
{
    (void)args;
    smtp_trail_abuse(s, "other_protocol", 1);
    return smtp_reply(s, 521, "5.5.1", "This is SMTP");
}

/* --- the table --- */

#define AFTER_HELO (SMTP_GREETED | SMTP_MAIL | SMTP_RCPT | SMTP_BDAT)

const struct smtp_command smtp_commands[] = {
    {"EHLO", smtp_cmd_ehlo, SMTP_ANY, SMTP_CMD_SMTP, SMTP_ARGS_NEEDED, "<your host name>", "RFC 5321"},
    {"HELO", smtp_cmd_helo, SMTP_ANY, SMTP_CMD_SMTP, SMTP_ARGS_NEEDED, "<your host name>", "RFC 5321"},
    {"LHLO", smtp_cmd_lhlo, SMTP_ANY, SMTP_CMD_LMTP, SMTP_ARGS_NEEDED, "<your host name>", "RFC 2033"},
    {"MAIL", smtp_cmd_mail, SMTP_GREETED, 0, SMTP_ARGS_NEEDED, "FROM:<address> [parameters]", "RFC 5321"},
    {"RCPT", smtp_cmd_rcpt, SMTP_MAIL | SMTP_RCPT, 0, SMTP_ARGS_NEEDED, "TO:<address> [parameters]", "RFC 5321"},
    {"DATA", smtp_cmd_data, SMTP_RCPT, 0, SMTP_ARGS_NONE, "", "RFC 5321"},
    {"BDAT", smtp_cmd_bdat, SMTP_ANY, 0, SMTP_ARGS_NEEDED, "<octets> [LAST]", "RFC 3030"},
    {"RSET", cmd_rset, SMTP_ANY, 0, SMTP_ARGS_NONE, "", "RFC 5321"},
    {"NOOP", cmd_noop, SMTP_ANY, 0, SMTP_ARGS_ANY, "", "RFC 5321"},
    {"QUIT", cmd_quit, SMTP_ANY, 0, SMTP_ARGS_NONE, "", "RFC 5321"},
    {"VRFY", cmd_vrfy, SMTP_ANY, 0, SMTP_ARGS_NEEDED, "<address>", "RFC 5321"},
    {"EXPN", cmd_vrfy, SMTP_ANY, 0, SMTP_ARGS_NEEDED, "<list>", "RFC 5321"},
    {"ETRN", cmd_etrn, SMTP_ANY, SMTP_CMD_HIDDEN, SMTP_ARGS_ANY, "", "RFC 1985"},
    {"HELP", cmd_help, SMTP_ANY, 0, SMTP_ARGS_ANY, "", "RFC 5321"},
    {"STARTTLS", smtp_cmd_starttls, SMTP_GREETED, SMTP_CMD_PLAIN, SMTP_ARGS_NONE, "", "RFC 3207"},
    {"XCLIENT", smtp_cmd_xclient, SMTP_NEW | SMTP_GREETED, SMTP_CMD_XCLIENT | SMTP_CMD_HIDDEN, SMTP_ARGS_NEEDED, "<attributes>", "Postfix"},
    {"GET", cmd_other_protocol, SMTP_ANY, SMTP_CMD_HIDDEN, SMTP_ARGS_ANY, "", "RFC 9110"},
    {"POST", cmd_other_protocol, SMTP_ANY, SMTP_CMD_HIDDEN, SMTP_ARGS_ANY, "", "RFC 9110"},
    {"PUT", cmd_other_protocol, SMTP_ANY, SMTP_CMD_HIDDEN, SMTP_ARGS_ANY, "", "RFC 9110"},
    {"HEAD", cmd_other_protocol, SMTP_ANY, SMTP_CMD_HIDDEN, SMTP_ARGS_ANY, "", "RFC 9110"},
    {"OPTIONS", cmd_other_protocol, SMTP_ANY, SMTP_CMD_HIDDEN, SMTP_ARGS_ANY, "", "RFC 9110"},
    {"CONNECT", cmd_other_protocol, SMTP_ANY, SMTP_CMD_HIDDEN, SMTP_ARGS_ANY, "", "RFC 9110"},
    {"PROXY", cmd_other_protocol, SMTP_ANY, SMTP_CMD_HIDDEN, SMTP_ARGS_ANY, "", "proxy-protocol.txt"},
};
const size_t smtp_commands_n = sizeof(smtp_commands) / sizeof(*smtp_commands);

bool smtp_command_offered(const struct smtp_session *s, const struct smtp_command *c)
{
    if ((c->flags & SMTP_CMD_SMTP) != 0 && s->lmtp)
        return false;
    if ((c->flags & SMTP_CMD_LMTP) != 0 && !s->lmtp)
        return false;
    if ((c->flags & SMTP_CMD_PLAIN) != 0 && s->tls_on)
        return false;
    return (c->flags & SMTP_CMD_XCLIENT) == 0 || smtp_networks_have(&s->set->xclient_from, &s->peer);
}

static const struct smtp_command *command_find(struct slice verb)
{
    for (size_t i = 0; i < smtp_commands_n; i++)
        if (slice_ieq(verb, slice_str(smtp_commands[i].name)))
            return &smtp_commands[i];
    return NULL;
}

static int wrong_state(struct smtp_session *s, const struct smtp_command *c)
{
    if (s->state == SMTP_NEW)
        return smtp_reply(s, 503, "5.5.1", "Say %s first", s->lmtp ? "LHLO" : "EHLO");
    if (c->fn == smtp_cmd_mail)
        return smtp_reply(s, 503, "5.5.1", "A message is under way; RSET forgets it");
    if (s->state == SMTP_BDAT)
        return smtp_reply(s, 503, "5.5.1", "Only BDAT or RSET can follow BDAT");
    if (c->fn == smtp_cmd_data && s->state == SMTP_MAIL)
        return smtp_reply(s, s->lmtp ? 503 : 554, "5.5.1", "There is no valid recipient");
    if (s->state != SMTP_GREETED)
        return smtp_reply(s, 503, "5.5.1", "%s cannot come within a message", c->name);
    return smtp_reply(s, 503, "5.5.1", "MAIL comes first");
}

int smtp_command_run(struct smtp_session *s, struct slice line)
{
    struct slice args = line, verb = slice_cut(&args, ' ');
    args = slice_trim(args);
    const struct smtp_command *c = command_find(verb);
    if (c == NULL)
        return smtp_reply(s, 500, "5.5.1", "Unknown command \"%.*s\"", SLICE_ARG(slice_head(verb, 40)));
    if (!smtp_command_offered(s, c))
        return smtp_reply(s, c->flags & SMTP_CMD_PLAIN ? 503 : 500, "5.5.1", "%s is not available here", c->name);
    if ((c->states & s->state) == 0)
        return wrong_state(s, c);
    if (c->args == SMTP_ARGS_NONE && args.n != 0)
        return smtp_reply(s, 501, "5.5.4", "%s takes no arguments", c->name);
    if (c->args == SMTP_ARGS_NEEDED && args.n == 0)
        return smtp_reply(s, 501, "5.5.4", "Syntax: %s %s", c->name, c->shape);
    return c->fn(s, args);
}
