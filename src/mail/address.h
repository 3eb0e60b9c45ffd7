/* address.h: address lists of header fields (RFC 5322 3.4, 4.4; RFC 6532; RFC 6854).
 *
 * Run by: filterd, imapd (trust of input: none). For what people see and what IMAP's ENVELOPE shows; the envelope's addresses are
 * SMTP's and have a strict parser of their own. Tolerant: what is not an address still comes out as something that can be
 * shown, never as another address than the one in angle brackets. Not recursive; linear; the number of addresses is bounded.
 *
 * name: the phrase, quotes and comments removed, encoded-words left as they are (mail_header_decode decodes them); without a
 * phrase, the last comment ("user@host (Name)"). local: the local part, quotes removed. domain: as written, without blanks and
 * comments; empty when there is no '@'. route: "@a,@b" of an obsolete source route. */
#ifndef KK_MAIL_ADDRESS_H
#define KK_MAIL_ADDRESS_H

#include "base/arena.h"

#define MAIL_ADDRESSES_MAX 1000 /* entries of one list, starts and ends of groups too */

enum mail_address_kind {
    MAIL_ADDR_MAILBOX,
    MAIL_ADDR_GROUP,     /* name: the group's; its members follow */
    MAIL_ADDR_GROUP_END,
};

struct mail_address {
    enum mail_address_kind kind;
    struct slice name, route, local, domain;
};

struct mail_addresses {
    struct mail_address *items;
    size_t n;
    size_t cap; /* of items */
    bool cut;   /* there were more than the limit */
};

/* Appends the addresses of one field's value to *list (zeroed before the first). false: out of memory. */
bool mail_address_parse(struct arena *a, struct slice value, struct mail_addresses *list);

#endif
