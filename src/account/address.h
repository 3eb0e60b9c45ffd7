/* address.h: the one canonical form of mail addresses, by which they are kept, compared and found.
 *
 * Local part: valid UTF-8 in NFC (RFC 6532 3.1), ASCII letters in lower case (we keep no two mailboxes that differ only in the case of
 * ASCII letters: RFC 5321 2.4 leaves that to the receiving host); other letters keep their case. Domain: lower-case U-labels
 * (IDNA 2008 with UTS 46 mapping, not transitional), whichever of A-label and U-label was given, so that both spellings are equal.
 *
 * Trust: the input is what a stranger wrote in RCPT TO, or what somebody typed as a user name. */
#ifndef KK_ACCOUNT_ADDRESS_H
#define KK_ACCOUNT_ADDRESS_H

#include "base/slice.h"
#include "ipc/messages.h"

#define ADDRESS_LOCAL_MAX 512    /* octets of a local part that we look at: sub-addresses may be long */
#define ADDRESS_LOCAL_OWN_MAX 64 /* octets of the local part of an address kept here (RFC 5321 4.5.3.1.1) */
#define ADDRESS_DOMAIN_MAX 255   /* octets, as A-labels and as U-labels (RFC 5321 4.5.3.1.2) */

struct address {
    char text[ADDRESS_LOCAL_MAX + 1 + ADDRESS_DOMAIN_MAX + 1]; /* NUL-terminated */
    size_t n;       /* of the whole text */
    size_t local_n; /* of the local part */
};
_Static_assert(sizeof(((struct address *)0)->text) <= IPC_ADDRESS_MAX, "fits into messages");

static inline struct slice address_text(const struct address *a)
{
    return slice_of(a->text, a->n);
}
static inline struct slice address_local(const struct address *a)
{
    return slice_of(a->text, a->local_n);
}
/* Empty when the address has no domain. */
static inline struct slice address_domain(const struct address *a)
{
    return a->local_n < a->n ? slice_of(a->text + a->local_n + 1, a->n - a->local_n - 1) : SLICE_EMPTY;
}

/* The canonical form of an unquoted address; the domain is what follows the last "@", and may be missing altogether. Local parts may hold
 * anything printable (they need not be ours). ERR_SYNTAX (also for an address literal, a trailing dot and an empty part), ERR_LIMIT. */
int address_canon(struct slice in, struct address *ret);
/* Is what follows the last "@" an address literal, "[192.0.2.1]"? */
bool address_is_literal(struct slice in);
/* The canonical form of a domain name of at least one label. ret has room for ADDRESS_DOMAIN_MAX bytes and NUL. */
int address_canon_domain(struct slice in, char *ret, size_t *ret_n);
/* May this canonical address be given to an account or alias here: a Dot-string (RFC 5321 4.1.2, RFC 6531 3.3) without the sub-address
 * delimiter ("" or one character), without spaces and unassigned or invisible characters, not too long. 0, ERR_SYNTAX, ERR_LIMIT. */
int address_check_own(const struct address *a, const char *delimiter, struct err *err);
/* The address without its sub-address: "user+detail@d" gives "user@d" and the detail (pointing into a). False: it has none. */
bool address_split_detail(const struct address *a, const char *delimiter, struct address *ret_base, struct slice *ret_detail);

#endif
