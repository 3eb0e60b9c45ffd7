/* RETR, TOP and the sizes of LIST: a message from the maildrop to the client. See session.h.
 *
 * Nothing is said before the first bytes are at hand, so that a message that cannot be read is a clean "-ERR". When reading fails
 * later there is no answer that the client would not take for text: the connection is closed without the final dot. */
#include "base/clock.h"
#include "mail/downgrade.h"
#include "proto/pop3/session_priv.h"

/* A reader's piece is far smaller. */
#define GATHER_MAX (4 * 1024 * 1024)

/* A message opened, with its header made ready: head is sent first, then first, then what the maildrop still has. */
struct message {
    struct slice head, first;
    struct buf raw;       /* the header as stored, when it had to be gathered */
    struct buf rewritten; /* the header for a client without UTF8 */
    uint64_t size;        /* of all that will be sent */
};

enum pop3_text pop3_failure_text(int code)
{
    return code == ERR_GONE ? POP3_T_GONE : code == ERR_CORRUPT ? POP3_T_READ_PERMANENT : POP3_T_READ_TEMPORARY;
}

/* Behind the header's blank line; 0 when it is not in there. text begins at the start of a line. */
static size_t header_end(struct slice text, size_t from)
{
    if (text.n >= 2 && memcmp(text.p, "\r\n", 2) == 0)
        return 2;
    const char *at = memmem(text.p + from, text.n - from, "\r\n\r\n", 4);
    return at != NULL ? (size_t)(at - text.p) + 4 : 0;
}

/* Pieces until the blank line is there, or the end, or more than anybody would rewrite. */
static int gather_header(struct pop3_session *s, struct message *m, size_t *ret_end)
{
    size_t seen = 0;
    buf_put_slice(&m->raw, m->head);
    buf_put_slice(&m->raw, m->first);
    for (;;) {
        if (!buf_ok(&m->raw))
            return -ENOMEM;
        *ret_end = header_end(buf_slice(&m->raw), seen);
        if (*ret_end != 0 || m->raw.n >= DOWNGRADE_HEADER_MAX)
            break;
        seen = m->raw.n > 3 ? m->raw.n - 3 : 0;
        struct slice piece;
        int rc = s->ops->read(s->ctx, &piece);
        if (rc != 0)
            return rc;
        if (piece.n == 0) {
            *ret_end = m->raw.n; /* a message without a body */
            break;
        }
        buf_put_slice(&m->raw, piece);
    }
    m->head = slice_head(buf_slice(&m->raw), *ret_end);
    m->first = slice_from(buf_slice(&m->raw), *ret_end);
    /* An empty piece means the end, and the blank line may have ended one. */
    return m->first.n == 0 ? s->ops->read(s->ctx, &m->first) : 0;
}

/* RFC 6856 section 4: a client that has not asked for UTF8 gets a header it can read (RFC 6857). */
static int downgrade(struct pop3_session *s, struct message *m)
{
    size_t end = header_end(m->first, 0);
    if (end != 0 && !downgrade_wanted(m->head) && !downgrade_wanted(slice_head(m->first, end)))
        return 0;
    int rc = gather_header(s, m, &end);
    if (rc != 0 || end == 0 || end > DOWNGRADE_HEADER_MAX || !downgrade_wanted(m->head))
        return rc;
    size_t before = m->head.n;
    rc = downgrade_header(m->head, &m->rewritten);
    if (rc == 0) {
        m->head = buf_slice(&m->rewritten);
        m->size = m->size - before + m->head.n;
    }
    return rc;
}

static void close_message(struct pop3_session *s, struct message *m)
{
    s->ops->close(s->ctx);
    buf_done(&m->raw);
    buf_done(&m->rewritten);
}

static int open_message(struct pop3_session *s, size_t index, struct message *m)
{
    *m = (struct message){.head = SLICE_EMPTY, .first = SLICE_EMPTY, .size = s->view.entries[index].size};
    buf_init(&m->raw, GATHER_MAX);
    buf_init(&m->rewritten, GATHER_MAX);
    int rc = s->ops->open(s->ctx, index, &m->head);
    if (rc != 0)
        return rc;
    rc = s->ops->read(s->ctx, &m->first);
    if (rc == 0 && !s->utf8)
        rc = downgrade(s, m);
    if (rc != 0)
        close_message(s, m);
    return rc;
}

int pop3_message_size(struct pop3_session *s, size_t index, uint64_t *ret)
{
    struct message m;
    if (s->utf8 || (s->view.entries[index].flags & STORE_UTF8_HEADER) == 0) {
        *ret = s->view.entries[index].size;
        return 0;
    }
    int rc = open_message(s, index, &m);
    if (rc == 0) {
        *ret = m.size;
        close_message(s, &m);
    }
    return rc;
}

/* One piece to the client, as far as TOP wants it. *ret_more: it wants what follows, too. */
static int send_piece(struct pop3_session *s, struct pop3_stuffer *st, struct pop3_top *top, struct slice piece, bool *ret_more)
{
    if (top != NULL) {
        size_t n = pop3_top_take(top, piece);
        *ret_more = !pop3_top_done(top);
        piece = slice_head(piece, n);
    }
    stream_set_deadline(s->stream, clock_deadline(s->idle_ms)); /* for each piece: slow is not idle */
    s->retrieved_bytes += piece.n;
    return pop3_stuff_write(st, piece);
}

/* The text of a message. *ret_whole: all of it was sent. A code ends the session. */
static int send_text(struct pop3_session *s, struct message *m, struct pop3_top *top, bool *ret_whole)
{
    struct pop3_stuffer st;
    struct slice piece = m->first;
    bool more = true;
    pop3_stuff_init(&st, s->stream);
    int rc = send_piece(s, &st, top, m->head, &more);
    while (rc == 0 && more && piece.n != 0) {
        rc = send_piece(s, &st, top, piece, &more);
        if (rc == 0 && more)
            rc = s->ops->read(s->ctx, &piece);
    }
    *ret_whole = more;
    return rc != 0 ? rc : pop3_stuff_end(&st);
}

static void count_retrieved(struct pop3_session *s, size_t index)
{
    if (s->marks != NULL && (s->marks[index] & POP3_MARK_RETRIEVED) != 0)
        return;
    if (!pop3_set_mark(s, index, POP3_MARK_RETRIEVED))
        return;
    s->retrieved++;
    if (s->ops->fetched != NULL)
        s->ops->fetched(s->ctx, index);
}

int pop3_cmd_retr(struct pop3_session *s, const struct pop3_request *rq)
{
    struct message m;
    size_t index;
    bool whole;
    if (pop3_find_message(s, rq->args[0], &index) != 0)
        return 0;
    int rc = open_message(s, index, &m);
    if (rc != 0)
        return rc == -ECANCELED ? rc : pop3_say(s, pop3_failure_text(rc));
    count_retrieved(s, index); /* before the first byte leaves: also when the connection breaks in the middle */
    rc = pop3_reply_n(s->stream, s->lang, POP3_T_OCTETS, m.size, 0);
    if (rc == 0)
        rc = send_text(s, &m, NULL, &whole);
    close_message(s, &m);
    return rc;
}

int pop3_cmd_top(struct pop3_session *s, const struct pop3_request *rq)
{
    struct message m;
    struct pop3_top top;
    size_t index;
    uint64_t lines;
    bool whole = false;
    if (!slice_to_u64(rq->args[1], &lines))
        return pop3_say_error(s, POP3_T_BAD_ARGS);
    if (pop3_find_message(s, rq->args[0], &index) != 0)
        return 0;
    int rc = open_message(s, index, &m);
    if (rc != 0)
        return rc == -ECANCELED ? rc : pop3_say(s, pop3_failure_text(rc));
    pop3_top_init(&top, lines);
    rc = pop3_say(s, POP3_T_TOP_FOLLOWS);
    if (rc == 0)
        rc = send_text(s, &m, &top, &whole);
    if (whole && lines > 0)
        count_retrieved(s, index); /* TOP with more lines than there are is a RETR by another name */
    close_message(s, &m);
    return rc;
}
