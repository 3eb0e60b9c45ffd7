/* mime_priv.h: what mime.c and mime_header.c share. */
#ifndef KK_MAIL_MIME_PRIV_H
#define KK_MAIL_MIME_PRIV_H

#include "mail/mime.h"

struct mime_builder {
    struct arena *arena;
    struct mime_message *m;
    size_t parts_cap, envelopes_cap;
    size_t addresses, address_bytes; /* of the whole message so far */
    uint16_t children[MIME_DEPTH_MAX + 2]; /* by depth: parts that the open part there has so far */
};

/* A new part at the end of m->parts (pointers to parts are void after it). 0 or -ENOMEM. */
int mime_part_new(struct mime_builder *b, uint32_t *ret_index);
/* Reads the header block of a part: its content fields and, if it heads a message, the envelope. 0 or -ENOMEM. */
int mime_header_read(struct mime_builder *b, uint32_t part, struct slice block);

#endif
