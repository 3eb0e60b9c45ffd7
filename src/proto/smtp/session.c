/* The session's life and its loop over commands: see session.h. */
#include "proto/smtp/session.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "proto/smtp/session_priv.h"

int smtp_session_new(const struct smtp_session_params *p, struct stream *stream, struct smtp_session **ret)
{
    struct smtp_session *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        stream_free(stream);
        return -ENOMEM;
    }
    *s = (struct smtp_session){.backend = p->backend, .arg = p->arg, .newest = p->settings, .stream = stream, .state = SMTP_NEW,
                               .lmtp = p->lmtp, .tls_first = p->tls, .peer = p->peer, .client = p->peer, .local = p->local,
                               .conn = id_new(), .started = clock_mono_ms(), .end = "closed"};
    s->set = smtp_settings_ref(*p->settings);
    (void)snprintf(s->listener, sizeof(s->listener), "%s", p->listener);
    netaddr_print_ip(&s->client, s->client_ip);
    *ret = s;
    return 0;
}

void smtp_session_free(struct smtp_session *s)
{
    if (s == NULL)
        return;
    smtp_tx_end(s);
    stream_free(s->stream);
    smtp_settings_unref(s->set);
    free(s->helo);
    free(s->client_name);
    free(s);
}

void smtp_session_stop(struct smtp_session *s)
{
    s->stopping = true;
    if (s->idle && s->fiber != NULL)
        fiber_cancel(s->fiber);
}

/* --- transactions --- */

int smtp_tx_new(struct smtp_session *s, struct smtp_tx **ret)
{
    struct smtp_tx *tx = calloc(1, sizeof(*tx));
    if (tx == NULL)
        return -ENOMEM;
    arena_init(&tx->arena, SMTP_TX_ARENA_MAX);
    tx->message = id_new();
    s->tx = *ret = tx;
    return 0;
}

void smtp_tx_end(struct smtp_session *s)
{
    struct smtp_tx *tx = s->tx;
    if (tx == NULL)
        return;
    for (size_t i = 0; i < tx->n_targets; i++)
        if (!tx->accepted || tx->targets[i].out)
            s->backend->grant_drop(s->arg, tx->targets[i].grant);
    smtp_body_done(&tx->body);
    arena_done(&tx->arena);
    free(tx);
    s->tx = NULL;
    if (s->state != SMTP_NEW)
        s->state = SMTP_GREETED;
}

/* --- the loop --- */

/* A reload takes effect between transactions: one is judged by one set of settings. */
static void settings_refresh(struct smtp_session *s)
{
    if (s->set == *s->newest || s->tx != NULL)
        return;
    smtp_settings_unref(s->set);
    s->set = smtp_settings_ref(*s->newest);
    s->unlimited = smtp_networks_have(&s->set->unlimited_from, &s->client);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* No command came. */
static int read_failed(struct smtp_session *s, int rc)
{
    if (rc == -ETIMEDOUT) {
        smtp_end(s, "timeout");
        return smtp_reply(s, 421, "4.4.2", "%s closes: nothing has come for too long", s->set->hostname);
    }
    if (rc == -ECANCELED) {
        smtp_end(s, "stopped");
        return smtp_reply(s, 421, "4.3.2", "%s is being stopped; try again soon", s->set->hostname);
    }
    if (rc != ERR_LIMIT) {
        smtp_end(s, rc == ERR_CLOSED ? "closed" : "read");
        return rc;
    }
    rc = stream_skip_line(s->stream, SMTP_LINE_SKIP_MAX);
    if (rc == ERR_LIMIT) {
        smtp_trail_abuse(s, "line", SMTP_LINE_SKIP_MAX);
        return smtp_reply(s, 521, "5.5.6", "The line is too long");
    }
    return rc != 0 ? read_failed(s, rc) : smtp_reply(s, 500, "5.5.6", "The line is longer than %d octets", SMTP_LINE_MAX);
}

/* RFC 5321 2.3.8: lines end with CR LF and hold neither alone. */
static int line_check(struct smtp_session *s, struct slice *line)
{
    if (line->n < 2 || line->p[line->n - 2] != '\r')
        return smtp_reply(s, 500, "5.5.2", "Lines must end with CR LF, not with LF alone");
    *line = slice_head(*line, line->n - 2);
    for (size_t i = 0; i < line->n; i++)
        if ((unsigned char)line->p[i] < 32 || line->p[i] == 127)
            return smtp_reply(s, 500, "5.5.2", "The line has control characters; this is SMTP without TLS");
    return 1;
}

static int limits_check(struct smtp_session *s)
{
    if (s->unlimited)
        return 0;
    if (s->errors >= s->set->max_errors) {
        smtp_trail_abuse(s, "max_errors", s->errors);
        return smtp_reply(s, 421, "4.7.0", "Too many errors; %s closes the connection", s->set->hostname);
    }
    if (s->commands >= s->set->max_commands) {
        smtp_trail_abuse(s, "max_commands", s->commands);
        return smtp_reply(s, 421, "4.7.0", "Too many commands in one connection; connect again");
    }
    return 0;
}

static int command_next(struct smtp_session *s)
{
    struct slice line;
    settings_refresh(s);
    if (s->stopping)
        return read_failed(s, -ECANCELED);
    int64_t end = s->started + s->set->session_timeout;
    stream_set_deadline(s->stream, earlier(clock_deadline(s->set->command_timeout), end));
    s->idle = true;
    int rc = stream_read_line(s->stream, SMTP_LINE_MAX, &line);
    s->idle = false;
    if (rc != 0)
        return read_failed(s, rc);
    s->octets += line.n;
    s->commands++;
    rc = line_check(s, &line);
    if (rc > 0)
        rc = smtp_command_run(s, line);
    if (rc == 0 && !s->closing)
        rc = limits_check(s);
    return rc != 0 ? rc : fiber_breathe();
}

void smtp_session_run(struct smtp_session *s)
{
    s->fiber = fiber_self();
    int rc = smtp_connection_open(s);
    while (rc == 0 && !s->closing)
        rc = command_next(s);
    if (s->stream != NULL) {
        stream_set_deadline(s->stream, clock_deadline(SMTP_FAREWELL));
        (void)stream_flush(s->stream);
    }
    smtp_tx_end(s);
    smtp_trail_connection(s);
    if (s->entered)
        s->backend->client_leave(s->arg, &s->client);
    s->entered = false;
    s->fiber = NULL;
}
