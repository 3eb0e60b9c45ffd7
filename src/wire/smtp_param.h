/* smtp_param.h: the parameters of MAIL and RCPT (RFC 5321 4.1.2 Mail-parameters) and what they may be:
 * SIZE (RFC 1870), BODY (RFC 6152, 3030), SMTPUTF8 (RFC 6531), RET, ENVID, NOTIFY, ORCPT (RFC 3461). Pure syntax. */
#ifndef KK_WIRE_SMTP_PARAM_H
#define KK_WIRE_SMTP_PARAM_H

#include "base/arena.h"
#include "base/err.h"

#define SMTP_ENVID_MAX 100 /* RFC 3461 4.4 */
#define SMTP_ORCPT_MAX 500 /* RFC 3461 4.2 */

enum smtp_body_type { SMTP_BODY_7BIT, SMTP_BODY_8BITMIME, SMTP_BODY_BINARYMIME };
enum smtp_ret { SMTP_RET_NONE, SMTP_RET_FULL, SMTP_RET_HDRS };
enum smtp_notify { SMTP_NOTIFY_NEVER = 1, SMTP_NOTIFY_SUCCESS = 2, SMTP_NOTIFY_FAILURE = 4, SMTP_NOTIFY_DELAY = 8 };

struct smtp_mail_params {
    uint64_t size; /* 0: not given */
    enum smtp_body_type body;
    bool smtputf8;
    enum smtp_ret ret;
    struct slice envid; /* decoded; in the arena */
};
struct smtp_rcpt_params {
    unsigned notify;          /* of enum smtp_notify; 0: not given */
    struct slice orcpt_type;  /* "rfc822", "utf-8" */
    struct slice orcpt;       /* decoded, valid UTF-8; in the arena; empty: not given */
};

/* text: what follows the path. ERR_SYNTAX (501), -EOPNOTSUPP for a parameter that is not known (555), -ENOMEM. */
int smtp_mail_params_parse(struct slice text, struct arena *a, struct smtp_mail_params *ret, struct err *err);
int smtp_rcpt_params_parse(struct slice text, struct arena *a, struct smtp_rcpt_params *ret, struct err *err);

/* RFC 3461 4 xtext: "+" and two upper-case hexadecimal digits for an octet. Appends to an arena copy; ERR_SYNTAX, ERR_LIMIT, -ENOMEM. */
int smtp_xtext_decode(struct slice text, size_t max, struct arena *a, struct slice *ret);

/* One keyword[=value] off the front of *text. value.p is NULL when there is no "=". ERR_SYNTAX; ERR_CLOSED at the end. */
int smtp_param_next(struct slice *text, struct slice *ret_keyword, struct slice *ret_value);

#endif
