/* POP3 behind authentication: the command loop, listings, deletion. RETR and TOP are in retrieve.c. See session.h. */
#include "proto/pop3/session.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "proto/pop3/session_priv.h"

#define LISTING_CHUNK 4000

int pop3_say(struct pop3_session *s, enum pop3_text text)
{
    return pop3_reply(s->stream, s->lang, text);
}

int pop3_say_error(struct pop3_session *s, enum pop3_text text)
{
    s->errors++;
    return pop3_say(s, text);
}

static uint8_t mark_of(const struct pop3_session *s, size_t i)
{
    return s->marks != NULL ? s->marks[i] : 0;
}

bool pop3_set_mark(struct pop3_session *s, size_t i, enum pop3_mark mark)
{
    if (s->marks == NULL)
        s->marks = calloc(s->view.n, 1);
    if (s->marks == NULL)
        return false;
    s->marks[i] |= (uint8_t)mark;
    return true;
}

/* The message a command names: 0 with the index, or 1 when the client has been told what is wrong with it. */
int pop3_find_message(struct pop3_session *s, struct slice arg, size_t *ret_index)
{
    uint64_t number;
    if (!pop3_parse_number(arg, s->view.n, &number)) {
        (void)pop3_say_error(s, POP3_T_NO_MESSAGE);
        return 1;
    }
    if ((mark_of(s, number - 1) & POP3_MARK_DELETED) != 0) {
        (void)pop3_say_error(s, POP3_T_IS_DELETED);
        return 1;
    }
    *ret_index = number - 1;
    return 0;
}

static void count_left(struct pop3_session *s)
{
    s->left = s->left_bytes = 0;
    for (size_t i = 0; i < s->view.n; i++) {
        if ((mark_of(s, i) & POP3_MARK_DELETED) == 0) {
            s->left++;
            s->left_bytes += s->view.entries[i].size;
        }
    }
}

size_t pop3_print_uid(const struct pop3_view *v, size_t index, char out[POP3_UID_SIZE])
{
    /* The UID has a fixed width, so that two numbers cannot run into another pair. */
    return (size_t)snprintf(out, POP3_UID_SIZE, "%08" PRIx64 "%08" PRIx32, v->uidvalidity, v->entries[index].uid);
}

static int print_size(struct pop3_session *s, size_t i, struct buf *out)
{
    uint64_t size;
    int rc = pop3_message_size(s, i, &size);
    if (rc == 0)
        buf_printf(out, "%zu %" PRIu64 "\r\n", i + 1, size);
    return rc;
}

static int print_uid(struct pop3_session *s, size_t i, struct buf *out)
{
    char uid[POP3_UID_SIZE];
    size_t n = pop3_print_uid(&s->view, i, uid);
    buf_printf(out, "%zu ", i + 1);
    buf_put(out, uid, n);
    buf_put(out, "\r\n", 2);
    return 0;
}

typedef int MAY_YIELD print_fn(struct pop3_session *s, size_t i, struct buf *out);

/* Lines gather here and go to the stream in larger pieces: a mailbox may have a million messages. */
static int print_all(struct pop3_session *s, print_fn *print)
{
    struct buf out;
    int rc = 0;
    buf_init(&out, 2 * LISTING_CHUNK);
    for (size_t i = 0; i < s->view.n && rc == 0; i++) {
        if ((mark_of(s, i) & POP3_MARK_DELETED) != 0)
            continue;
        rc = print(s, i, &out);
        if (rc != 0 && rc != -ECANCELED) {
            /* What RETR would send cannot be told now; that the message is there can. */
            buf_printf(&out, "%zu %" PRIu64 "\r\n", i + 1, s->view.entries[i].size);
            rc = 0;
        }
        if (rc == 0 && out.n >= LISTING_CHUNK) {
            rc = stream_write_slice(s->stream, buf_slice(&out));
            buf_reset(&out);
            stream_set_deadline(s->stream, clock_deadline(s->idle_ms));
            if (rc == 0)
                rc = fiber_self() != NULL ? fiber_breathe() : 0;
        }
    }
    buf_put(&out, ".\r\n", 3);
    if (rc == 0)
        rc = buf_ok(&out) ? stream_write_slice(s->stream, buf_slice(&out)) : -ENOMEM;
    buf_done(&out);
    return rc;
}

static int print_one(struct pop3_session *s, size_t i, print_fn *print)
{
    struct buf out;
    buf_init(&out, 128);
    buf_put_str(&out, "+OK ");
    int rc = print(s, i, &out);
    rc = rc == 0 ? stream_write_slice(s->stream, buf_slice(&out)) : pop3_say(s, pop3_failure_text(rc));
    buf_done(&out);
    return rc;
}

static int listing(struct pop3_session *s, const struct pop3_request *rq, enum pop3_text title, print_fn *print)
{
    size_t i;
    if (rq->n_args != 0)
        return pop3_find_message(s, rq->args[0], &i) == 0 ? print_one(s, i, print) : 0;
    int rc = pop3_reply_n(s->stream, s->lang, title, s->left, s->left_bytes);
    return rc != 0 ? rc : print_all(s, print);
}

static int cmd_list(struct pop3_session *s, const struct pop3_request *rq)
{
    return listing(s, rq, POP3_T_LIST_FOLLOWS, print_size);
}

static int cmd_uidl(struct pop3_session *s, const struct pop3_request *rq)
{
    return listing(s, rq, POP3_T_UIDL_FOLLOWS, print_uid);
}

static int cmd_stat(struct pop3_session *s, const struct pop3_request *rq)
{
    (void)rq;
    return stream_printf(s->stream, "+OK %" PRIu64 " %" PRIu64 "\r\n", s->left, s->left_bytes);
}

static int cmd_dele(struct pop3_session *s, const struct pop3_request *rq)
{
    size_t i;
    if (pop3_find_message(s, rq->args[0], &i) != 0)
        return 0;
    if (!pop3_set_mark(s, i, POP3_MARK_DELETED))
        return pop3_say(s, POP3_T_READ_TEMPORARY);
    s->n_deleted++;
    s->left--;
    s->left_bytes -= s->view.entries[i].size;
    return pop3_say(s, POP3_T_DELETED);
}

static int cmd_rset(struct pop3_session *s, const struct pop3_request *rq)
{
    (void)rq;
    for (size_t i = 0; i < s->view.n && s->n_deleted != 0; i++)
        s->marks[i] &= (uint8_t)~POP3_MARK_DELETED;
    s->n_deleted = 0;
    count_left(s);
    return pop3_say(s, POP3_T_DONE);
}

static int cmd_noop(struct pop3_session *s, const struct pop3_request *rq)
{
    (void)rq;
    return pop3_say(s, POP3_T_DONE);
}

static int cmd_capa(struct pop3_session *s, const struct pop3_request *rq)
{
    (void)rq;
    int rc = pop3_say(s, POP3_T_CAPA_FOLLOWS);
    if (rc == 0)
        rc = pop3_print_capabilities(s->stream, POP3_TRANSACTION, true, false);
    return rc != 0 ? rc : stream_write(s->stream, ".\r\n", 3);
}

static int cmd_lang(struct pop3_session *s, const struct pop3_request *rq)
{
    return pop3_answer_lang(s->stream, rq->n_args != 0 ? &rq->args[0] : NULL, &s->lang);
}

/* The UPDATE state: deletes what is marked, a batch a commit. A failure leaves the rest for another session. */
static int expunge_marked(struct pop3_session *s)
{
    uint32_t *uids = calloc(POP3_EXPUNGE_BATCH, sizeof(*uids));
    size_t n = 0;
    int rc = uids != NULL ? 0 : -ENOMEM;
    for (size_t i = 0; i < s->view.n && rc == 0; i++) {
        if ((mark_of(s, i) & POP3_MARK_DELETED) != 0)
            uids[n++] = s->view.entries[i].uid;
        if (n > 0 && (n == POP3_EXPUNGE_BATCH || i + 1 == s->view.n)) {
            uint64_t expunged = 0;
            rc = s->ops->expunge(s->ctx, uids, n, &expunged);
            s->expunged += rc == 0 ? expunged : 0;
            n = 0;
        }
    }
    free(uids);
    return rc;
}

static int cmd_quit(struct pop3_session *s, const struct pop3_request *rq)
{
    (void)rq;
    int rc = 0;
    if (s->retrieved != 0)
        rc = s->ops->record_retrieved(s->ctx, s->retrieved, s->retrieved_bytes);
    s->retrieved_recorded = rc == 0 && s->retrieved != 0;
    /* What could not be written down is not deleted either: the client may fetch it again. */
    if (rc == 0 && s->n_deleted != 0)
        rc = expunge_marked(s);
    if (rc != 0)
        (void)pop3_say(s, s->n_deleted != 0 ? POP3_T_NOT_REMOVED : POP3_T_READ_TEMPORARY);
    else if (s->n_deleted != 0)
        (void)pop3_reply_n(s->stream, s->lang, POP3_T_QUIT_DELETED, s->n_deleted, 0);
    else
        (void)pop3_say(s, POP3_T_BYE);
    return ERR_CLOSED;
}

typedef int MAY_YIELD handler_fn(struct pop3_session *s, const struct pop3_request *rq);
static handler_fn *const handlers[POP3_N_COMMANDS] = {
    [POP3_CAPA] = cmd_capa, [POP3_LANG] = cmd_lang, [POP3_STAT] = cmd_stat, [POP3_LIST] = cmd_list,
    [POP3_UIDL] = cmd_uidl, [POP3_RETR] = pop3_cmd_retr, [POP3_TOP] = pop3_cmd_top, [POP3_DELE] = cmd_dele,
    [POP3_NOOP] = cmd_noop, [POP3_RSET] = cmd_rset, [POP3_QUIT] = cmd_quit,
};

/* 0 to go on, or a stream's code; *ret_quit when it was QUIT. */
static int run_line(struct pop3_session *s, struct slice line, bool *ret_quit)
{
    struct pop3_request rq;
    switch (pop3_parse_request(line, POP3_TRANSACTION, &rq)) {
    case POP3_PARSED:
        *ret_quit = rq.id == POP3_QUIT;
        return handlers[rq.id](s, &rq);
    case POP3_BAD_LINE:
        return pop3_say_error(s, POP3_T_BAD_LINE);
    case POP3_UNKNOWN:
        return pop3_say_error(s, POP3_T_UNKNOWN);
    case POP3_WRONG_STATE:
        return pop3_say_error(s, POP3_T_WRONG_STATE);
    case POP3_BAD_ARGS:
        break;
    }
    return pop3_say_error(s, POP3_T_BAD_ARGS);
}

static int next_line(struct pop3_session *s, struct slice *ret_line)
{
    stream_set_deadline(s->stream, clock_deadline(s->idle_ms));
    s->idle = s->n_deleted == 0;
    int rc = stream_read_line(s->stream, POP3_LINE_MAX, ret_line);
    s->idle = false;
    if (rc == ERR_LIMIT) {
        rc = stream_skip_line(s->stream, POP3_LINE_MAX * 16);
        if (rc == 0)
            rc = pop3_say_error(s, POP3_T_LINE_TOO_LONG);
        *ret_line = (struct slice){NULL, 0};
    }
    return rc;
}

static enum pop3_end ended(struct pop3_session *s, int rc, bool in_answer)
{
    if (rc == -ECANCELED) {
        /* In the middle of a message a sentence would be taken for its text. */
        if (!in_answer)
            (void)pop3_say(s, s->ops->why(s->ctx));
        return POP3_ENDED_CANCELLED;
    }
    if (rc == -ETIMEDOUT)
        return POP3_ENDED_TIMEOUT; /* RFC 1939 section 3: no answer, nothing deleted */
    return in_answer && rc != -EPIPE && rc != -ECONNRESET ? POP3_ENDED_BROKEN : POP3_ENDED_CLOSED;
}

enum pop3_end pop3_session_run(struct pop3_session *s)
{
    struct slice line;
    bool quit = false;
    count_left(s);
    int rc = pop3_reply_n(s->stream, s->lang, POP3_T_LOGGED_IN, s->left, s->left_bytes);
    while (rc == 0) {
        rc = next_line(s, &line);
        if (rc != 0)
            return ended(s, rc, false);
        if (line.p != NULL)
            rc = run_line(s, line, &quit);
        if (quit)
            return POP3_ENDED_QUIT;
        if (rc == 0 && s->errors >= POP3_ERRORS_MAX) {
            (void)pop3_say(s, POP3_T_TOO_MANY_ERRORS);
            return POP3_ENDED_ERRORS;
        }
        if (rc == 0 && fiber_self() != NULL)
            rc = fiber_breathe();
    }
    return ended(s, rc, true);
}

void pop3_session_done(struct pop3_session *s)
{
    free(s->marks);
    s->marks = NULL;
}

const char *pop3_end_name(enum pop3_end end)
{
    static const char *const names[] = {
        [POP3_ENDED_QUIT] = "quit",     [POP3_ENDED_CLOSED] = "closed",       [POP3_ENDED_TIMEOUT] = "timeout",
        [POP3_ENDED_ERRORS] = "errors", [POP3_ENDED_CANCELLED] = "cancelled", [POP3_ENDED_BROKEN] = "broken",
    };
    return names[end];
}
