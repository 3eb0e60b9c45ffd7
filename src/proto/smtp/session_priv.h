/* session_priv.h: a session's inside, for the files of this directory and their tests. */
#ifndef KK_PROTO_SMTP_SESSION_PRIV_H
#define KK_PROTO_SMTP_SESSION_PRIV_H

#include "proto/smtp/body.h"
#include "proto/smtp/session.h"
#include "wire/smtp_data.h"
#include "wire/smtp_param.h"
#include "wire/smtp_path.h"

#define SMTP_LINE_MAX 4096          /* a command with its parameters; RFC 5321 4.5.3.1.4 and the extensions ask for less than 2000 */
#define SMTP_LINE_SKIP_MAX 1048576  /* of an endless line, before the connection is closed */
#define SMTP_REPLY_MAX 500          /* text of one reply line: RFC 5321 4.5.3.1.5 has 512 octets with code and end */
#define SMTP_TARPIT_AFTER 3         /* errors that are answered at once */
#define SMTP_PROXY_TIMEOUT 10000
#define SMTP_FAREWELL 10000         /* for the last answer to go out */
#define SMTP_RATE_GRACE 60000       /* a sender's first minute within a message: no lowest rate yet */
#define SMTP_SMUGGLE_WAIT 3000      /* how long the end of a message is waited for that tries to smuggle */
#define SMTP_TX_ARENA_MAX (8u << 20)
#define SMTP_RCPT_BYTES_MAX 60000   /* what the recipients of a message may need in one request to stored */
#define SMTP_EVENT_BYTES_MAX 11000  /* and in the event of its acceptance */
#define SMTP_NAME_MAX 255           /* HELO and XCLIENT names */

enum smtp_state {
    SMTP_NEW = 1,      /* no HELO yet */
    SMTP_GREETED = 2,
    SMTP_MAIL = 4,     /* a sender and no recipient */
    SMTP_RCPT = 8,     /* at least one recipient */
    SMTP_BDAT = 16,    /* some chunks */
    SMTP_ANY = 31,
};

/* One mailbox that the message goes to. Several recipients may mean the same account: it gets the message once. */
struct smtp_target {
    uint64_t account, grant;
    struct slice address;
    struct slice prefix; /* its own trace lines */
    uint64_t status;  /* enum accept_status, after the commit */
    bool out;         /* LMTP: it cannot take the message; the others get it without it */
};
struct smtp_rcpt {
    struct slice given;     /* as the sender wrote it, canonical */
    struct slice canonical; /* as authd calls it */
    struct slice orcpt_type, orcpt;
    size_t n_targets;
    size_t *targets;        /* indexes of struct smtp_tx.targets */
};
/* A transaction; exists between MAIL and its end only. */
struct smtp_tx {
    struct arena arena;
    struct id128 message;
    struct smtp_path sender;
    struct smtp_mail_params params;
    struct smtp_rcpt *rcpts;
    size_t n_rcpts, cap_rcpts;
    struct smtp_target *targets;
    size_t n_targets, cap_targets;
    size_t rcpt_bytes, event_bytes;
    struct smtp_body body;
    struct smtp_data content;
    bool accepted; /* the grants are used up */
};

struct smtp_session {
    const struct smtp_backend *backend;
    void *arg;
    struct smtp_settings **newest, *set;
    struct stream *stream;
    struct fiber *fiber;
    enum smtp_state state;
    bool lmtp, tls_first;
    bool extended;   /* EHLO or LHLO */
    bool tls_on, stopping, idle, closing;
    bool entered;    /* counted by the limits */
    bool unlimited;  /* smtp.unlimited_from */
    struct netaddr peer, client, local;
    struct id128 conn;
    char client_ip[NETADDR_TEXT_SIZE];
    char listener[65];
    char *helo;        /* NULL before HELO */
    char *client_name; /* from XCLIENT, or NULL */
    struct smtp_tls tls;
    struct smtp_tx *tx; /* NULL outside of transactions */
    uint64_t errors, commands, messages, octets;
    int64_t started;
    const char *end;   /* why it ended, for the trail */
};

/* --- replies (reply.c) --- */
struct smtp_answer {
    unsigned code;
    char enhanced[16];
    char text[SMTP_REPLY_MAX + 1];
};
void smtp_answer_set(struct smtp_answer *a, unsigned code, const char *enhanced, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* One final line. Errors are counted and tarpitted; 421 and 521 end the session. enhanced: "" for none. 0 or a negative code. */
int MAY_YIELD smtp_reply(struct smtp_session *s, unsigned code, const char *enhanced, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
int MAY_YIELD smtp_reply_answer(struct smtp_session *s, const struct smtp_answer *a);
/* A line of a reply that goes on ("250-"). */
int MAY_YIELD smtp_reply_more(struct smtp_session *s, unsigned code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Ends the session after this command; why is static. */
void smtp_end(struct smtp_session *s, const char *why);

/* --- commands --- */
typedef int MAY_YIELD smtp_handler_fn(struct smtp_session *s, struct slice args);
enum smtp_command_flag {
    SMTP_CMD_SMTP = 1,    /* not in LMTP */
    SMTP_CMD_LMTP = 2,    /* only in LMTP */
    SMTP_CMD_HIDDEN = 4,  /* not in HELP */
    SMTP_CMD_XCLIENT = 8, /* only from listen.xclient_from */
    SMTP_CMD_PLAIN = 16,  /* only without TLS */
};
enum smtp_args { SMTP_ARGS_NONE, SMTP_ARGS_ANY, SMTP_ARGS_NEEDED };
struct smtp_command {
    const char *name;
    smtp_handler_fn *fn;
    unsigned states; /* of enum smtp_state */
    unsigned flags;
    enum smtp_args args;
    const char *shape; /* of the arguments, for HELP and errors */
    const char *rfc;
};
extern const struct smtp_command smtp_commands[];
extern const size_t smtp_commands_n;
bool smtp_command_offered(const struct smtp_session *s, const struct smtp_command *c);
/* Finds, checks state and arguments, runs. line: without its end. */
int MAY_YIELD smtp_command_run(struct smtp_session *s, struct slice line);

smtp_handler_fn smtp_cmd_ehlo, smtp_cmd_helo, smtp_cmd_lhlo, smtp_cmd_mail, smtp_cmd_rcpt, smtp_cmd_data, smtp_cmd_bdat, smtp_cmd_starttls,
    smtp_cmd_xclient;

/* --- connections (connection.c) --- */
/* PROXY header, limits, greeting. 0, or the session is to end. */
int MAY_YIELD smtp_connection_open(struct smtp_session *s);
/* The client is another one from now on (PROXY, XCLIENT): 0, or the session is to end (answered). */
int MAY_YIELD smtp_connection_client(struct smtp_session *s, const struct netaddr *client);
int MAY_YIELD smtp_connection_greet(struct smtp_session *s);
/* Handshake on the present stream, which is replaced. */
int MAY_YIELD smtp_connection_tls(struct smtp_session *s);

/* --- transactions --- */
int smtp_tx_new(struct smtp_session *s, struct smtp_tx **ret);
void smtp_tx_end(struct smtp_session *s); /* drops unused grants; back to SMTP_GREETED */
/* Inspection, commit and the answers (deliver.c). The body is complete. */
int MAY_YIELD smtp_deliver(struct smtp_session *s);
/* The final answer of a message: once, or once a recipient in LMTP. Refusals go into the trail. */
int MAY_YIELD smtp_answer_all(struct smtp_session *s, const struct smtp_answer *a);

/* --- trace fields (trace.c); RFC 5321 4.4 --- */
const char *smtp_trace_protocol(const struct smtp_session *s); /* RFC 3848, 6531, "ESMTPS" */
void smtp_trace_received(const struct smtp_session *s, int64_t now_ms, struct buf *out);
/* Return-Path, Delivered-To and, when the sender gave one, Original-Recipient. */
void smtp_trace_rcpt(const struct smtp_tx *tx, const struct smtp_rcpt *r, struct slice address, struct buf *out);

/* --- the trail (trail.c) --- */
void smtp_trail_rcpt(struct smtp_session *s, bool relay, struct slice recipient, const struct smtp_answer *a);
void smtp_trail_message_refused(struct smtp_session *s, const struct smtp_answer *a);
void smtp_trail_connection(struct smtp_session *s);
void smtp_trail_abuse(struct smtp_session *s, const char *limit, uint64_t value);
/* The event of an acceptance for the targets that are not out, encoded into out. */
int smtp_trail_received(struct smtp_session *s, const struct m_inspect_reply *seen, int64_t now_ms, struct buf *out);
/* What a recipient's target adds to that event. */
size_t smtp_trail_rcpt_size(struct slice address);

#endif
