/* tls_fixture.h: for tests and fuzz targets of this directory: a server whose keyd is a function of this process, and a client. */
#ifndef KK_TLS_TLS_FIXTURE_H
#define KK_TLS_TLS_FIXTURE_H

#include "tls/handshake.h"
#include "tls/keyfile.h"
#include "tls/relay.h"
#include "tls/server.h"

/* Starts the loop and the provider. The fake keyd gives way to other fibers before it signs, as the real one does. */
void fixture_init(void);
void fixture_done(void);
/* A self-signed certificate of that key type with these names ("a.example b.example"), known to the fake keyd. */
struct tls_key *fixture_key(const char *type, const char *names);
struct tls_server *fixture_server(const char *policy, struct ticket_keys *tickets, struct tls_key *const *keys, size_t n);
extern unsigned fixture_signatures; /* made by the fake keyd so far */
extern int fixture_sign_code;       /* what it answers instead, when not 0 */

/* One connection: the server's handshake in a fiber and then the relay; the client in another. */
struct fixture_conn {
    struct tls_server *server;
    const char *proto;
    int client_fd, server_fd;
    int plain;             /* the server's plain end; -1 before the handshake */
    int64_t deadline_ms;   /* of the server's handshake */
    int rc;                /* of the server's handshake; 1 while it lasts */
    struct err err;
    struct tls_facts facts;
    struct tls_relay *relay; /* NULL when gone */
    bool ended, gone;
    struct tls_relay_end end;
};
/* Makes the socket pair and starts the server's fiber. Takes a reference of server. */
void fixture_connect(struct fixture_conn *c, struct tls_server *server, const char *proto);
/* Closes what is open and runs the loop until the relay is gone. */
void fixture_close(struct fixture_conn *c);

/* A client over c->client_fd; it trusts everything. Call from a fiber. */
SSL_CTX *fixture_client_ctx(int least_version, int most_version);
int MAY_YIELD fixture_client_handshake(SSL *ssl, int fd);
/* 0 or a negative code; ERR_CLOSED at close_notify or end of file. */
int MAY_YIELD fixture_read(SSL *ssl, int fd, char *p, size_t max, size_t *ret_n);
int MAY_YIELD fixture_write(SSL *ssl, int fd, const char *p, size_t n);

#endif
