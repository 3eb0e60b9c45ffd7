/* command.h: POP3's commands and capabilities in one table each. Both halves of a session dispatch by it (login_session.c up to
 * authentication, session.c behind it), CAPA prints it, docs/POP3.md is compared with it by a test. */
#ifndef KK_PROTO_POP3_COMMAND_H
#define KK_PROTO_POP3_COMMAND_H

#include "wire/pop3.h"

enum pop3_state { POP3_AUTHORIZATION = 1, POP3_TRANSACTION = 2 };
#define POP3_BOTH (POP3_AUTHORIZATION | POP3_TRANSACTION)

/* Arguments: how many words at least and at most, or the rest of the line as it stands (names and passwords may hold spaces). */
enum pop3_shape { POP3_NONE, POP3_OPTIONAL, POP3_ONE, POP3_TWO, POP3_UP_TO_TWO, POP3_REST };

/* When a capability is told. */
enum pop3_condition {
    POP3_IF_ALWAYS,
    POP3_IF_PASSWORD, /* before login: where passwords are taken now (TLS is on, or plain text allowed); after it: always */
    POP3_IF_STLS,     /* before login, where STLS would be taken now */
    POP3_IF_NEVER,    /* part of the base protocol: no capability of its own */
};

#define POP3_COMMANDS(C)                                                                                       \
    /* name  states               shape            capability          told when          defined in */        \
    C(CAPA, POP3_BOTH,          POP3_NONE,       "",                 POP3_IF_NEVER,    "RFC 2449 5")           \
    C(USER, POP3_AUTHORIZATION, POP3_REST,       "USER",             POP3_IF_PASSWORD, "RFC 1939 7")           \
    C(PASS, POP3_AUTHORIZATION, POP3_REST,       "",                 POP3_IF_NEVER,    "RFC 1939 7")           \
    C(AUTH, POP3_AUTHORIZATION, POP3_UP_TO_TWO,  "SASL PLAIN LOGIN", POP3_IF_PASSWORD, "RFC 5034 4")           \
    C(STLS, POP3_AUTHORIZATION, POP3_NONE,       "STLS",             POP3_IF_STLS,     "RFC 2595 4")           \
    C(UTF8, POP3_AUTHORIZATION, POP3_NONE,       "UTF8 USER",        POP3_IF_ALWAYS,   "RFC 6856 2")           \
    C(LANG, POP3_BOTH,          POP3_OPTIONAL,   "LANG",             POP3_IF_ALWAYS,   "RFC 6856 3")           \
    C(STAT, POP3_TRANSACTION,   POP3_NONE,       "",                 POP3_IF_NEVER,    "RFC 1939 5")           \
    C(LIST, POP3_TRANSACTION,   POP3_OPTIONAL,   "",                 POP3_IF_NEVER,    "RFC 1939 5")           \
    C(UIDL, POP3_TRANSACTION,   POP3_OPTIONAL,   "UIDL",             POP3_IF_ALWAYS,   "RFC 1939 7")           \
    C(RETR, POP3_TRANSACTION,   POP3_ONE,        "",                 POP3_IF_NEVER,    "RFC 1939 5")           \
    C(TOP,  POP3_TRANSACTION,   POP3_TWO,        "TOP",              POP3_IF_ALWAYS,   "RFC 1939 7")           \
    C(DELE, POP3_TRANSACTION,   POP3_ONE,        "",                 POP3_IF_NEVER,    "RFC 1939 5")           \
    C(NOOP, POP3_TRANSACTION,   POP3_NONE,       "",                 POP3_IF_NEVER,    "RFC 1939 5")           \
    C(RSET, POP3_TRANSACTION,   POP3_NONE,       "",                 POP3_IF_NEVER,    "RFC 1939 5")           \
    C(QUIT, POP3_BOTH,          POP3_NONE,       "",                 POP3_IF_NEVER,    "RFC 1939 4, 6")

/* Capabilities that are no command. IMPLEMENTATION tells no version: it helps nobody but an attacker. */
#define POP3_TRAITS(T)                                        \
    T("PIPELINING", "RFC 2449 6.6")                           \
    T("RESP-CODES", "RFC 2449 6.4")                           \
    T("AUTH-RESP-CODE", "RFC 3206 6")                         \
    T("EXPIRE NEVER", "RFC 2449 6.7")                         \
    T("IMPLEMENTATION Kakitome", "RFC 2449 6.9")

enum pop3_command_id {
#define POP3_ENUM_(name, ...) POP3_##name,
    POP3_COMMANDS(POP3_ENUM_) POP3_N_COMMANDS
};

struct pop3_command {
    const char *name;
    unsigned states;
    enum pop3_shape shape;
    const char *capability;
    enum pop3_condition condition;
    const char *rfc;
};
extern const struct pop3_command pop3_commands[POP3_N_COMMANDS];
struct pop3_trait {
    const char *capability, *rfc;
};
extern const struct pop3_trait pop3_traits[];
extern const size_t pop3_traits_n;

/* A command with its arguments, checked against the table. */
struct pop3_request {
    enum pop3_command_id id;
    struct slice args[2];
    unsigned n_args;
};
enum pop3_parse_result { POP3_PARSED, POP3_BAD_LINE, POP3_UNKNOWN, POP3_WRONG_STATE, POP3_BAD_ARGS };
enum pop3_parse_result pop3_parse_request(struct slice line, enum pop3_state state, struct pop3_request *ret);

/* The lines of CAPA, without the first and the last. */
int MAY_YIELD pop3_print_capabilities(struct stream *s, enum pop3_state state, bool password, bool stls);

#endif
