/* session_priv.h: what session.c and retrieve.c share. */
#ifndef KK_PROTO_POP3_SESSION_PRIV_H
#define KK_PROTO_POP3_SESSION_PRIV_H

#include "proto/pop3/session.h"

int MAY_YIELD pop3_say(struct pop3_session *s, enum pop3_text text);
/* Counted against POP3_ERRORS_MAX. */
int MAY_YIELD pop3_say_error(struct pop3_session *s, enum pop3_text text);
int MAY_YIELD pop3_find_message(struct pop3_session *s, struct slice arg, size_t *ret_index);
bool pop3_set_mark(struct pop3_session *s, size_t i, enum pop3_mark mark);

/* What the client is told about a code of the maildrop's. */
enum pop3_text pop3_failure_text(int code);
/* Octets that RETR would send now (RFC 6856 section 2: as they are sent, not as they are kept). */
int MAY_YIELD pop3_message_size(struct pop3_session *s, size_t index, uint64_t *ret);
/* 0, or a code that ends the session. */
int MAY_YIELD pop3_cmd_retr(struct pop3_session *s, const struct pop3_request *rq);
int MAY_YIELD pop3_cmd_top(struct pop3_session *s, const struct pop3_request *rq);

#endif
