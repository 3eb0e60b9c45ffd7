/* param.h: Content-Type, Content-Disposition and their parameters (RFC 2045 5, RFC 2183, RFC 2231).
 *
 * Run by: filterd, imapd (trust of input: none). Parameters are kept as they were sent (quotes removed), which is what IMAP's
 * BODYSTRUCTURE shows; mail_param_get puts continuations together and decodes. Tolerant: missing quotes, semicolons and blanks
 * where none belong. Slices point into the value given, or into the arena where something had to be removed. Linear. */
#ifndef KK_MAIL_PARAM_H
#define KK_MAIL_PARAM_H

#include "base/arena.h"
#include "base/buf.h"

#define MAIL_PARAMS_MAX 64      /* of one field; more are ignored */
#define MAIL_PARAM_MAX 4096     /* bytes of one decoded value; IMAP clients show names, not novels */
#define MAIL_TOKEN_MAX 127      /* type, subtype, parameter name (RFC 6838 4.2) */

struct mail_param {
    struct slice name, value;
};
struct mail_params {
    struct mail_param *items;
    size_t n;
};

/* A value without its parameters: `word` is what stands before the first ';', `params` the rest. */
struct mail_type {
    struct slice type, subtype; /* as written; both empty when the field is not type "/" subtype */
    struct mail_params params;
};
/* false: out of memory. */
bool mail_type_parse(struct arena *a, struct slice raw, struct mail_type *ret);
struct mail_disposition {
    struct slice word; /* "attachment"; empty when there is none */
    struct mail_params params;
};
bool mail_disposition_parse(struct arena *a, struct slice raw, struct mail_disposition *ret);

/* The parameter as it was sent; false when it is absent (or there only in RFC 2231's forms). */
bool mail_param_raw(const struct mail_params *p, struct slice name, struct slice *ret);
/* Appends the parameter as UTF-8: RFC 2231 continuations joined and character sets converted; a plain value with encoded-words in it
 * (not allowed, often sent) decoded too. The RFC 2231 form wins over a plain one. Cut at MAIL_PARAM_MAX. false: absent. */
bool mail_param_get(const struct mail_params *p, struct slice name, struct buf *out);

#endif
