/* DATA and BDAT: the content of the message (RFC 5321 4.1.1.4, RFC 3030). Content with a bare CR, a bare LF or a NUL is refused after its
 * end has been found, so that no octet of it is taken for a command; where it tries to look like the end of another message, the
 * connection is closed as well. */
#include "base/clock.h"
#include "proto/smtp/session_priv.h"

/* What is thrown away beyond the limit before the connection is closed: a sender should hear why. */
static uint64_t discard_max(const struct smtp_session *s)
{
    return 2 * s->set->max_message_size + (1 << 20);
}

/* --- receiving --- */

/* One reception: a DATA, or a chunk of BDAT. */
struct reception {
    int64_t started;
    uint64_t taken, want; /* want: octets of a chunk; UINT64_MAX for DATA */
    bool keep;            /* false: only to be read away */
};

/* The next wait ends when nothing comes for data_timeout, or when the sender falls below the lowest rate, or with the session; and a
 * smuggler is not waited for. */
static int64_t wait_until(const struct smtp_session *s, const struct reception *r)
{
    int64_t until = clock_deadline(s->set->data_timeout), end = s->started + s->set->session_timeout;
    if (s->tx != NULL && (s->tx->content.flaws & SMTP_DATA_SMUGGLE) != 0)
        return clock_deadline(SMTP_SMUGGLE_WAIT);
    if (s->set->min_data_rate > 0 && !s->unlimited) {
        int64_t earned = r->started + (int64_t)(r->taken * 1000 / s->set->min_data_rate), grace = r->started + SMTP_RATE_GRACE;
        int64_t rate = earned > grace ? earned : grace;
        until = until < rate ? until : rate;
    }
    return until < end ? until : end;
}

static int more_input(struct smtp_session *s, const struct reception *r)
{
    stream_set_deadline(s->stream, wait_until(s, r));
    int rc = stream_fill(s->stream);
    return rc != 0 ? rc : fiber_breathe();
}

static void take(struct smtp_session *s, struct reception *r, struct slice *in)
{
    struct smtp_tx *tx = s->tx;
    struct slice run;
    if (!r->keep) {
        *in = SLICE_EMPTY;
        return;
    }
    while (smtp_data_next(&tx->content, in, &run))
        if (tx->body.size <= s->set->max_message_size)
            smtp_body_put(&tx->body, run);
        else
            tx->body.size += run.n;
}

/* Until the end of the content. ERR_LIMIT: far too much. */
static int receive(struct smtp_session *s, struct reception *r)
{
    while (r->taken < r->want) {
        struct slice in = stream_buffered(s->stream);
        if (in.n == 0) {
            int rc = more_input(s, r);
            if (rc != 0)
                return rc;
            continue;
        }
        if (in.n > r->want - r->taken)
            in = slice_head(in, (size_t)(r->want - r->taken));
        struct slice rest = in;
        take(s, r, &rest);
        stream_consume(s->stream, in.n - rest.n);
        r->taken += in.n - rest.n;
        s->octets += in.n - rest.n;
        if (r->keep && smtp_data_ended(&s->tx->content))
            return 0;
        if (r->taken > discard_max(s))
            return ERR_LIMIT;
    }
    return 0;
}

/* The content did not come to its end: no answer can be understood but a farewell. */
static int receive_failed(struct smtp_session *s, int rc)
{
    struct smtp_answer a;
    const struct smtp_tx *tx = s->tx;
    if (tx != NULL && (tx->content.flaws & SMTP_DATA_SMUGGLE) != 0 && rc == -ETIMEDOUT)
        return 0; /* judged by its flaws */
    if (rc == -ETIMEDOUT)
        smtp_answer_set(&a, 421, "4.4.2", "The message comes too slowly; %s closes the connection", s->set->hostname);
    else if (rc == ERR_LIMIT)
        smtp_answer_set(&a, 552, "5.3.4", "The message is too big: at most %llu octets", (unsigned long long)s->set->max_message_size);
    else if (rc == -ECANCELED)
        smtp_answer_set(&a, 421, "4.3.2", "%s is being stopped; try again soon", s->set->hostname);
    smtp_end(s, rc == -ETIMEDOUT ? "timeout" : rc == ERR_LIMIT ? "too big" : rc == -ECANCELED ? "stopped" : "closed");
    if (rc != -ETIMEDOUT && rc != ERR_LIMIT && rc != -ECANCELED)
        return rc;
    if (tx != NULL)
        smtp_trail_message_refused(s, &a);
    (void)smtp_reply_answer(s, &a);
    return rc;
}

/* --- judging --- */

/* true: refused, by this answer. */
static bool content_refused(struct smtp_session *s, struct smtp_answer *a)
{
    struct smtp_tx *tx = s->tx;
    unsigned f = tx->content.flaws;
    if ((f & SMTP_DATA_SMUGGLE) != 0) {
        smtp_trail_abuse(s, "smuggling", 1);
        smtp_end(s, "smuggling");
        smtp_answer_set(a, 554, "5.6.0", "Refused: the message has a dot on a line whose end is not CR LF, as used to smuggle other messages");
    } else if ((f & SMTP_DATA_BARE_LF) != 0)
        smtp_answer_set(a, 554, "5.6.0", "Refused: the message has a line that ends with LF alone; every line must end with CR LF");
    else if ((f & SMTP_DATA_BARE_CR) != 0)
        smtp_answer_set(a, 554, "5.6.0", "Refused: the message has a CR without LF; every line must end with CR LF");
    else if ((f & SMTP_DATA_NUL) != 0)
        smtp_answer_set(a, 554, "5.6.0", "Refused: the message has a NUL octet; encode binary content");
    else if ((f & SMTP_DATA_LONG_LINE) != 0)
        smtp_answer_set(a, 554, "5.6.0", "Refused: the message has a line longer than %d octets", SMTP_TEXT_LINE_MAX);
    else if (tx->body.size > s->set->max_message_size)
        smtp_answer_set(a, 552, "5.3.4", "The message is too big: %llu octets of at most %llu", (unsigned long long)tx->body.size,
                        (unsigned long long)s->set->max_message_size);
    else if (tx->body.failed == -ENOBUFS)
        smtp_answer_set(a, 452, "4.3.1", "Too much mail is coming in at the moment; try again later");
    else if (tx->body.failed != 0)
        smtp_answer_set(a, 451, "4.3.0", "No memory for the message; try again later");
    else
        return false;
    return true;
}

/* The message is whole: refuse it or pass it on. The transaction ends. */
static int finish(struct smtp_session *s)
{
    struct smtp_answer a;
    int rc;
    s->messages++;
    if (content_refused(s, &a)) {
        smtp_trail_message_refused(s, &a);
        rc = smtp_answer_all(s, &a);
    } else {
        rc = smtp_deliver(s);
    }
    smtp_tx_end(s);
    return rc;
}

/* --- DATA --- */

static int body_begin(struct smtp_session *s, bool dots)
{
    smtp_data_init(&s->tx->content, dots);
    return smtp_body_init(&s->tx->body, s->backend, s->arg, s->set, s->unlimited ? NULL : &s->client,
                          s->tx->params.size);
}

static int no_room(struct smtp_session *s)
{
    smtp_tx_end(s);
    return smtp_reply(s, 452, "4.3.1", "Too much mail is coming in at the moment; try again later");
}

int smtp_cmd_data(struct smtp_session *s, struct slice args)
{
    (void)args;
    if (body_begin(s, true) != 0)
        return no_room(s);
    int rc = smtp_reply(s, 354, "", "Send the message; end with a dot alone on a line");
    if (rc != 0)
        return rc;
    struct reception r = {.started = clock_mono_ms(), .want = UINT64_MAX, .keep = true};
    rc = receive(s, &r);
    if (rc != 0)
        rc = receive_failed(s, rc);
    return rc != 0 ? rc : finish(s);
}

/* --- BDAT --- */

static bool bdat_parse(struct slice args, uint64_t *ret_size, bool *ret_last)
{
    struct slice size = slice_cut(&args, ' ');
    args = slice_trim(args);
    *ret_last = slice_ieq(args, SLICE("LAST"));
    return slice_to_u64(size, ret_size) && (args.n == 0 || *ret_last);
}

/* A chunk that cannot be used: its octets are read away, so that they are not taken for commands. */
static int bdat_away(struct smtp_session *s, uint64_t size)
{
    struct reception r = {.started = clock_mono_ms(), .want = size, .keep = false};
    int rc = size > discard_max(s) ? ERR_LIMIT : receive(s, &r);
    return rc != 0 ? receive_failed(s, rc) : 0;
}

static int bdat_refused(struct smtp_session *s, uint64_t size)
{
    int rc = bdat_away(s, size);
    if (rc != 0)
        return rc;
    if (s->state == SMTP_MAIL)
        return smtp_reply(s, s->lmtp ? 503 : 554, "5.5.1", "There is no valid recipient");
    return smtp_reply(s, 503, "5.5.1", s->state == SMTP_NEW ? "Say EHLO first" : "MAIL and RCPT come first");
}

/* RFC 3030 2: the first chunk that fails ends the transaction. */
static int bdat_failed(struct smtp_session *s)
{
    struct smtp_answer a;
    if (!content_refused(s, &a))
        return 0;
    s->messages++;
    smtp_trail_message_refused(s, &a);
    int rc = smtp_reply_answer(s, &a);
    smtp_tx_end(s);
    return rc != 0 ? rc : 1;
}

/* A message may end without CR LF under BDAT; what is kept and read by other protocols ends with it. */
static void bdat_end_line(struct smtp_tx *tx)
{
    smtp_data_finish(&tx->content);
    if (tx->body.size > 0 && tx->content.state != SMTP_DATA_LINE_START && tx->content.flaws == 0)
        smtp_body_put(&tx->body, SLICE("\r\n"));
}

int smtp_cmd_bdat(struct smtp_session *s, struct slice args)
{
    uint64_t size;
    bool last;
    if (!bdat_parse(args, &size, &last)) {
        /* How many octets follow is not known. */
        smtp_end(s, "bdat");
        return smtp_reply(s, 501, "5.5.4", "Syntax: BDAT <octets> [LAST]");
    }
    if (s->state != SMTP_RCPT && s->state != SMTP_BDAT)
        return bdat_refused(s, size);
    if (s->state == SMTP_RCPT && body_begin(s, false) != 0) {
        int away = bdat_away(s, size);
        return away != 0 ? away : no_room(s);
    }
    s->state = SMTP_BDAT;
    struct reception r = {.started = clock_mono_ms(), .want = size, .keep = true};
    int rc = size > discard_max(s) ? ERR_LIMIT : receive(s, &r);
    if (rc != 0)
        rc = receive_failed(s, rc);
    if (rc == 0 && last)
        bdat_end_line(s->tx);
    if (rc == 0 && (!last || s->tx->content.flaws != 0))
        rc = bdat_failed(s);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    if (last)
        return finish(s);
    return smtp_reply(s, 250, "2.0.0", "%llu octets taken", (unsigned long long)size);
}
