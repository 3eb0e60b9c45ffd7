/* fake.h: backends of POP3 sessions for tests and fuzzers: passwords, hand-over and TLS from a table, and a maildrop in memory. What the
 * session asks of them is noted in `trace`, a line each. */
#ifndef KK_PROTO_POP3_FAKE_H
#define KK_PROTO_POP3_FAKE_H

#include "proto/pop3/login_session.h"
#include "proto/pop3/session.h"

#define FAKE_MESSAGES_MAX 32
#define FAKE_ACCOUNTS_MAX 8

struct fake_account {
    struct slice user, password;
    enum pop3_auth verdict;
};

struct fake_login {
    struct fake_account accounts[FAKE_ACCOUNTS_MAX];
    size_t n_accounts;
    enum pop3_hand_over hand_over;
    int starttls;               /* its code */
    struct stream_fake *inner;  /* the stream under TLS */
    struct buf trace;
};
extern const struct pop3_login_backend fake_login_backend, fake_login_backend_no_tls;

struct fake_message {
    struct slice prefix, body;
    int open_code;   /* of open */
    size_t fail_at;  /* reading fails at this byte of the body with read_code; SIZE_MAX: never */
    int read_code;
};

struct fake_maildrop {
    struct fake_message messages[FAKE_MESSAGES_MAX];
    struct store_entry entries[FAKE_MESSAGES_MAX];
    size_t n;
    size_t piece;            /* bytes a read; 0: all */
    int expunge_code, record_code;
    enum pop3_text why;
    struct fake_message *open;
    size_t at;
    struct buf trace;
};
extern const struct pop3_maildrop_ops fake_maildrop_ops;

/* Fills the entry (uid n, size) from the message's text. */
struct fake_message *fake_maildrop_add(struct fake_maildrop *m, struct slice prefix, struct slice body);

#endif
