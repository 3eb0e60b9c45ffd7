/* login_session.h: a POP3 connection from the greeting to authentication (RFC 1939 section 4), run by the role login.
 *
 * Everything that is not protocol goes through struct pop3_login_backend, so that the same code runs under tests and fuzzers on
 * a fake stream. Input is a stranger's; passwords pass through and are wiped as soon as they have been asked about.
 *
 * The session owns its stream until it moves on: STLS replaces it, the hand-over takes it away. */
#ifndef KK_PROTO_POP3_LOGIN_SESSION_H
#define KK_PROTO_POP3_LOGIN_SESSION_H

#include "proto/pop3/command.h"
#include "proto/pop3/text.h"

/* Wrong commands before the connection is closed; wrong passwords (each also delayed, and counted by authd). */
#define POP3_LOGIN_ERRORS_MAX 10
#define POP3_LOGIN_FAILURES_MAX 3
/* After a line longer than POP3_LINE_MAX this much more is read to find its end. */
#define POP3_SKIP_MAX 65536

enum pop3_auth {
    POP3_AUTH_OK,        /* who the user is was told to `handed`; go on with hand_over */
    POP3_AUTH_BAD,       /* wrong, unknown: the same answer */
    POP3_AUTH_SLOW,      /* too many failures of this account from this network */
    POP3_AUTH_DISABLED,  /* right password, but the account may not be used */
    POP3_AUTH_TEMPORARY,
};

enum pop3_hand_over {
    POP3_HANDED_OVER, /* the other side answers the client from now on */
    POP3_IN_USE,      /* another session holds the maildrop; this one stays in AUTHORIZATION */
    POP3_REFUSED,     /* for now; this one stays */
    POP3_UNKNOWN_END, /* nobody knows whether the other side has it: close without a word */
};

/* How a session ended, for the trail and the caller. */
enum pop3_login_end {
    POP3_END_HANDED_OVER, POP3_END_QUIT, POP3_END_CLOSED, POP3_END_TIMEOUT, POP3_END_ERRORS, POP3_END_FAILURES, POP3_END_INJECTION,
    POP3_END_TLS, POP3_END_STOPPED,
};
const char *pop3_login_end_name(enum pop3_login_end end);

struct pop3_login_backend {
    /* Asks about a password. The answer's delay has been waited for when it returns. */
    enum pop3_auth MAY_YIELD (*auth)(void *ctx, struct slice user, struct slice password, const char *mechanism);
    /* The session of whoever auth last accepted moves on. Everything written has been flushed; unread input is still in the stream.
     * After POP3_HANDED_OVER and POP3_UNKNOWN_END the stream must not be written to (the caller frees it). */
    enum pop3_hand_over MAY_YIELD (*hand_over)(void *ctx, struct stream *s, bool utf8, enum pop3_lang lang);
    /* Makes TLS on the stream: 0 and a new stream (the old one is freed), or a negative code and *s as it was (-EAGAIN: TLS is
     * not to be had now) or NULL (the handshake failed and took the connection with it). NULL: no TLS here. */
    int MAY_YIELD (*starttls)(void *ctx, struct stream **s);
    void (*injection)(void *ctx); /* bytes behind STLS: somebody tried to put commands into the TLS session */
};

struct pop3_login {
    struct stream *stream; /* NULL when the connection is gone */
    const struct pop3_login_backend *backend;
    void *ctx;
    bool tls;              /* is on */
    bool plaintext_ok;     /* passwords are taken without it */
    int64_t deadline;      /* for all of it */

    /* the session's own */
    bool utf8;
    enum pop3_lang lang;
    unsigned errors, failures;
    struct buf user;
};

/* Runs to the end. The caller frees login->stream (may be NULL). */
enum pop3_login_end MAY_YIELD pop3_login_run(struct pop3_login *login);

#endif
