/* Trace fields (RFC 5321 4.4; keywords RFC 3848 and 6531; the tls clause RFC 8314 4.3). Outside text is made harmless: it cannot end
 * a line or a comment. */
#include "base/clock.h"
#include "base/utf8.h"
#include "proto/smtp/session_priv.h"

const char *smtp_trace_protocol(const struct smtp_session *s)
{
    bool utf8 = s->tx != NULL && s->tx->params.smtputf8;
    if (s->lmtp)
        return utf8 ? (s->tls_on ? "UTF8LMTPS" : "UTF8LMTP") : s->tls_on ? "LMTPS" : "LMTP";
    if (utf8)
        return s->tls_on ? "UTF8SMTPS" : "UTF8SMTP";
    if (!s->extended)
        return "SMTP";
    return s->tls_on ? "ESMTPS" : "ESMTP";
}

/* A domain or address literal as it may stand in a field; anything else becomes "?". */
static void put_host(struct buf *out, const char *text)
{
    for (const char *p = text; *p != '\0'; p++)
        buf_put_char(out, ascii_is_alnum(*p) || strchr(".-_:[]", *p) != NULL ? *p : '?');
}

static void put_token(struct buf *out, const char *text)
{
    for (const char *p = text; *p != '\0'; p++)
        buf_put_char(out, ascii_is_alnum(*p) || strchr(".-_", *p) != NULL ? *p : '?');
}

static void put_from(const struct smtp_session *s, struct buf *out)
{
    buf_put_str(out, "Received: from ");
    put_host(out, s->helo != NULL ? s->helo : "unknown");
    buf_put_str(out, " (");
    if (s->client_name != NULL) {
        put_host(out, s->client_name);
        buf_put_char(out, ' ');
    }
    smtp_literal_print(&s->client, out);
    buf_put_char(out, ')');
}

static void put_tls(const struct smtp_session *s, struct buf *out)
{
    if (!s->tls_on || s->tls.cipher[0] == '\0')
        return;
    buf_put_str(out, "\r\n\ttls ");
    put_token(out, s->tls.cipher);
    if (s->tls.group[0] != '\0') {
        buf_put_str(out, " group ");
        put_token(out, s->tls.group);
    }
    buf_put_str(out, " (");
    put_token(out, s->tls.version);
    buf_put_char(out, ')');
}

/* RFC 5321 7.2: with several recipients none is named, or a blind copy would not be blind. */
static void put_for(const struct smtp_session *s, struct buf *out)
{
    const struct smtp_tx *tx = s->tx;
    if (tx->n_rcpts != 1 || (!tx->params.smtputf8 && !utf8_is_ascii(tx->rcpts[0].given)))
        return;
    buf_put_str(out, "\r\n\tfor <");
    smtp_path_print(tx->rcpts[0].given, out);
    buf_put_char(out, '>');
}

void smtp_trace_received(const struct smtp_session *s, int64_t now_ms, struct buf *out)
{
    char id[ID_TEXT_SIZE], date[CLOCK_RFC5322_SIZE];
    id_print(s->tx->message, id);
    clock_print_rfc5322(now_ms, date);
    put_from(s, out);
    buf_put_str(out, "\r\n\tby ");
    put_host(out, s->set->hostname);
    buf_printf(out, " with %s id %s", smtp_trace_protocol(s), id);
    put_for(s, out);
    put_tls(s, out);
    buf_printf(out, ";\r\n\t%s\r\n", date);
}

void smtp_trace_rcpt(const struct smtp_tx *tx, const struct smtp_rcpt *r, struct slice address, struct buf *out)
{
    buf_put_str(out, "Return-Path: <");
    smtp_path_print(tx->sender.address, out);
    buf_put_str(out, ">\r\nDelivered-To: ");
    smtp_path_print(address, out);
    buf_put_str(out, "\r\n");
    if (r->orcpt.n > 0) /* RFC 8098 2.3 */
        buf_printf(out, "Original-Recipient: %.*s;%.*s\r\n", SLICE_ARG(r->orcpt_type), SLICE_ARG(r->orcpt));
}
