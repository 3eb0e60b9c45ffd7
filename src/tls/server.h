/* server.h: what tlsd answers a ClientHello with: certificates by server name, policy, ticket keys. Immutable once built: a
 * reload builds a new one, and handshakes under way keep the old (by reference count).
 *
 * Server names (RFC 6066 3): compared without case as A-labels; an exact name first, then a wildcard of one label, then the default.
 * Certificates with the same names (an ECDSA and an RSA one) are offered together; OpenSSL picks by the client's signature algorithms.
 *
 * ALPN (RFC 7301): "imap", "pop3" and "managesieve" are registered, SMTP has none. A client that offers protocols and not ours is
 * refused with no_application_protocol, so that a connection meant for another protocol cannot be turned to this one (RFC 9325
 * 3.7, "ALPACA"). A client that offers none is served. Sessions are bound to protocol and server name (session id context). */
#ifndef KK_TLS_SERVER_H
#define KK_TLS_SERVER_H

#include <openssl/ssl.h>

#include "tls/policy.h"
#include "tls/ticket.h"

#define TLS_SERVER_KEYS_MAX 64

struct tls_server;

/* A new server with no certificates yet. The ticket keys must outlive it. session_ms: how long a session may be resumed. */
int tls_server_new(const struct tls_policy *policy, struct ticket_keys *tickets, int64_t session_ms, struct tls_server **ret,
                   struct err *err);
/* names: separated by spaces. The private key is in keyd (provider.h). ERR_CONFIG for a chain that cannot be read. */
int tls_server_add(struct tls_server *s, struct slice names, struct slice chain_pem, bool is_default, struct err *err);
/* Number of certificates added. */
size_t tls_server_keys(const struct tls_server *s);
struct tls_server *tls_server_ref(struct tls_server *s);
void tls_server_unref(struct tls_server *s); /* NULL allowed */

/* A connection's SSL object over fd (which stays the caller's). protocol: "smtp", "imap", "pop3". NULL: out of memory, or no key. */
SSL *tls_server_ssl(struct tls_server *s, int fd, struct slice protocol);

/* What OpenSSL told of alerts on this connection: 0, or the number of the last fatal one received or sent. */
unsigned tls_ssl_alert(const SSL *ssl);

#endif
