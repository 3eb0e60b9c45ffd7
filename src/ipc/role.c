#include "ipc/role.h"

static const char *const names[ROLE_COUNT] = {
    [ROLE_SUPERVISOR] = "supervisor", [ROLE_TLSD] = "tlsd",     [ROLE_SMTPD] = "smtpd",     [ROLE_LOGIN] = "login",
    [ROLE_IMAPD] = "imapd",           [ROLE_AUTHD] = "authd",   [ROLE_KEYD] = "keyd",       [ROLE_STORED] = "stored",
    [ROLE_FILTERD] = "filterd",       [ROLE_AUDITD] = "auditd", [ROLE_CTL] = "ctl",
};

/* Nobody else can send a byte to anybody: the supervisor makes exactly these socket pairs. */
const struct role_pair role_pairs[] = {
    {ROLE_SMTPD, ROLE_TLSD},    /* STARTTLS and TLS connections */
    {ROLE_SMTPD, ROLE_AUTHD},   /* is this recipient ours, may it receive; deliver grants */
    {ROLE_SMTPD, ROLE_FILTERD}, /* the verdict on a message */
    {ROLE_SMTPD, ROLE_STORED},  /* the commit */
    {ROLE_SMTPD, ROLE_AUDITD},  /* refusals and connections */
    {ROLE_LOGIN, ROLE_TLSD},
    {ROLE_LOGIN, ROLE_AUTHD},   /* is this password right; mailbox grant for the imapd that will serve */
    {ROLE_LOGIN, ROLE_IMAPD},   /* the stream moves on */
    {ROLE_LOGIN, ROLE_AUDITD},
    {ROLE_IMAPD, ROLE_TLSD},    /* why a stream ended */
    {ROLE_IMAPD, ROLE_STORED},  /* mail, under the grant */
    {ROLE_IMAPD, ROLE_AUDITD},
    {ROLE_TLSD, ROLE_KEYD},     /* certificates, signatures, ticket keys */
    {ROLE_TLSD, ROLE_AUTHD},    /* handshake facts that decide anything */
    {ROLE_AUTHD, ROLE_STORED},  /* grants, accounts made and deleted */
    {ROLE_AUTHD, ROLE_AUDITD},  /* outbox */
    {ROLE_STORED, ROLE_KEYD},   /* unwraps the keys at rest */
    {ROLE_STORED, ROLE_AUDITD}, /* outbox */
    {ROLE_SUPERVISOR, ROLE_SUPERVISOR},
};

const char *role_name(enum role role)
{
    return (unsigned)role < ROLE_COUNT ? names[role] : "?";
}

bool role_parse(struct slice name, enum role *ret_role)
{
    for (unsigned i = 0; i < ROLE_COUNT; i++) {
        if (slice_eq(name, slice_str(names[i]))) {
            *ret_role = (enum role)i;
            return true;
        }
    }
    return false;
}

bool role_may_talk(enum role a, enum role b)
{
    if ((a == ROLE_SUPERVISOR) != (b == ROLE_SUPERVISOR))
        return true; /* the control channel of every role */
    for (const struct role_pair *p = role_pairs; p->a != ROLE_SUPERVISOR; p++)
        if ((p->a == a && p->b == b) || (p->a == b && p->b == a))
            return true;
    return false;
}
