/* smtp_path.h: the addresses of the SMTP envelope: RFC 5321 4.1.2 Path and Mailbox, with RFC 6531's UTF-8.
 *
 * What comes out is canonical, so that no other spelling of an address can mean something else to relay control: the local part
 * without quotes and escapes, the domain in lower case as U-labels (RFC 5890), source routes dropped (RFC 5321 appendix F.2), an
 * address literal in the form of RFC 5952. The address is local part "@" domain and the LAST "@" separates them: a local part
 * may itself hold "@", "%" or "!", which have no meaning here.
 *
 * Deliberately stricter than the grammar: the local part is not empty, "<>" are required, no trailing dot, no literal but IP.
 * Deliberately wider: a local part may be longer than 64 octets (RFC 5321 4.5.3.1: limits are to be avoided; bounce addresses
 * that carry an address are long), and dots may stand anywhere in it in a reverse path (mobile operators in Japan gave out
 * such addresses for years). */
#ifndef KK_WIRE_SMTP_PATH_H
#define KK_WIRE_SMTP_PATH_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#define SMTP_LOCAL_MAX 255
#define SMTP_DOMAIN_MAX 255
#define SMTP_LABEL_MAX 63
#define SMTP_ROUTE_MAX 1024 /* source route, ignored */
/* A printed path at its longest: each octet of the local part escaped, quotes, "@", domain, NUL. */
#define SMTP_PATH_TEXT_MAX (2 * SMTP_LOCAL_MAX + 3 + SMTP_DOMAIN_MAX + 1)

enum smtp_path_kind {
    SMTP_PATH_REVERSE, /* "<>" is allowed */
    SMTP_PATH_FORWARD, /* "<postmaster>" is allowed, in any case of letters */
};

struct smtp_path {
    struct slice local;   /* without quotes; empty for "<>" */
    struct slice domain;  /* empty for "<>" and "<postmaster>" */
    struct slice address; /* local@domain; "" for "<>"; "postmaster" */
    bool utf8;            /* something in it is not ASCII: needs SMTPUTF8 */
    bool routed;          /* a source route was there and is dropped */
};

/* Takes a path off the front of *in ("<" to ">"); what follows it is not looked at. ERR_SYNTAX and ERR_LIMIT with a sentence that
 * helps the sender; -ENOMEM. On failure *in is untouched. Slices are in the arena. */
int smtp_path_parse(struct slice *in, enum smtp_path_kind kind, struct arena *a, struct smtp_path *ret, struct err *err);
/* The same for a mailbox without "<>" that is the whole of text (tests, configuration). */
int smtp_mailbox_parse(struct slice text, enum smtp_path_kind kind, struct arena *a, struct smtp_path *ret, struct err *err);
/* Appends the path as it is written in trace fields, without "<>": the local part is quoted when it has to be. address: canonical. */
void smtp_path_print(struct slice address, struct buf *out);

/* Whether text is a domain name in ASCII as RFC 5321 4.1.2 has it (letters, digits, hyphens, labels of 1 to 63). loose: underscores too,
 * which names of hosts have in practice. */
bool smtp_domain_valid(struct slice text, bool loose);
/* "[192.0.2.1]" or "[IPv6:2001:db8::1]" and nothing else; the address through ret (port 0). */
struct netaddr;
bool smtp_literal_parse(struct slice text, struct netaddr *ret);
void smtp_literal_print(const struct netaddr *a, struct buf *out);

#endif
