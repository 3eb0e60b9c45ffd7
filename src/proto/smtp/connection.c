/* The beginning of a connection: PROXY header, who the client is, its limits, early talkers, the greeting; and the change to TLS. */
#include "base/clock.h"
#include "proto/smtp/session_priv.h"
#include "wire/proxy.h"

static int proxy_read(struct smtp_session *s, struct netaddr *client)
{
    struct proxy_header h;
    size_t used = 0;
    stream_set_deadline(s->stream, clock_deadline(SMTP_PROXY_TIMEOUT));
    for (;;) {
        int rc = proxy_parse(stream_buffered(s->stream), &h, &used);
        if (rc == -EAGAIN)
            rc = stream_fill(s->stream);
        else if (rc == 0)
            break;
        if (rc == ERR_SYNTAX || rc == ERR_LIMIT)
            smtp_trail_abuse(s, "proxy_header", 1);
        if (rc != 0) {
            smtp_end(s, "proxy");
            return rc;
        }
    }
    stream_consume(s->stream, used);
    if (!h.local) {
        *client = h.source;
        s->local = h.destination;
    }
    return 0;
}

int smtp_connection_client(struct smtp_session *s, const struct netaddr *client)
{
    if (s->entered)
        s->backend->client_leave(s->arg, &s->client);
    s->entered = false;
    s->client = *client;
    netaddr_print_ip(&s->client, s->client_ip);
    s->unlimited = smtp_networks_have(&s->set->unlimited_from, &s->client);
    const char *limit = s->unlimited ? NULL : s->backend->client_enter(s->arg, &s->client, s->set);
    if (limit != NULL) {
        smtp_trail_abuse(s, limit, 1);
        (void)smtp_reply(s, 421, "4.7.0", "Too many connections from your network; try again later");
        return ERR_LIMIT;
    }
    s->entered = !s->unlimited;
    return 0;
}

/* RFC 5321 4.3.1: the client waits for the greeting. Who does not is a machine that sends blindly. */
static int early_talker_check(struct smtp_session *s)
{
    if (s->set->banner_delay == 0 || s->unlimited)
        return 0;
    stream_set_deadline(s->stream, clock_deadline(s->set->banner_delay));
    int rc = stream_buffered(s->stream).n != 0 ? 0 : stream_fill(s->stream);
    if (rc == -ETIMEDOUT)
        return 0;
    if (rc == 0) {
        smtp_trail_abuse(s, "early_talker", 1);
        smtp_end(s, "early talker");
        (void)smtp_reply(s, 554, "5.5.1", "You have spoken before the greeting");
        return ERR_DENIED;
    }
    smtp_end(s, rc == ERR_CLOSED ? "closed" : "read");
    return rc;
}

int smtp_connection_greet(struct smtp_session *s)
{
    return smtp_reply(s, 220, "", "%s %s", s->set->hostname, s->lmtp ? "LMTP" : "ESMTP");
}

int smtp_connection_open(struct smtp_session *s)
{
    struct netaddr client = s->peer;
    int rc = smtp_networks_have(&s->set->proxy_from, &s->peer) ? proxy_read(s, &client) : 0;
    if (rc == 0)
        rc = smtp_connection_client(s, &client);
    if (rc == 0 && s->tls_first)
        rc = smtp_connection_tls(s);
    if (rc == 0)
        rc = early_talker_check(s);
    return rc != 0 ? rc : smtp_connection_greet(s);
}

/* --- TLS (RFC 3207) --- */

int smtp_connection_tls(struct smtp_session *s)
{
    struct stream *raw = s->stream;
    s->stream = NULL;
    int rc = s->backend->starttls(s->arg, raw, s->conn, s->client_ip, &s->tls, &s->stream);
    if (rc != 0) {
        s->stream = NULL;
        smtp_end(s, "tls");
        return rc;
    }
    s->tls_on = true;
    return 0;
}

int smtp_cmd_starttls(struct smtp_session *s, struct slice args)
{
    (void)args;
    /* What came in the clear behind STARTTLS would be taken for something said under TLS. */
    if (stream_buffered(s->stream).n != 0) {
        smtp_trail_abuse(s, "starttls_injection", stream_buffered(s->stream).n);
        smtp_end(s, "starttls injection");
        return smtp_reply(s, 503, "5.5.1", "Nothing may follow STARTTLS before the handshake");
    }
    int rc = smtp_reply(s, 220, "2.0.0", "Begin the handshake");
    if (rc == 0)
        rc = stream_flush(s->stream);
    if (rc == 0)
        rc = smtp_connection_tls(s);
    if (rc != 0)
        return rc;
    /* RFC 3207 4.2: all knowledge from before is discarded. */
    s->state = SMTP_NEW;
    s->extended = false;
    free(s->helo);
    s->helo = NULL;
    return 0;
}
