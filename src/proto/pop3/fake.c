/* Backends for tests and fuzzers: see fake.h. Linked into those only. */
#include "proto/pop3/fake.h"

#include <assert.h>

#include "mail/downgrade.h"

/* ---- login ---- */

static enum pop3_auth fake_auth(void *ctx, struct slice user, struct slice password, const char *mechanism)
{
    struct fake_login *f = ctx;
    buf_printf(&f->trace, "auth %s %.*s %.*s\n", mechanism, SLICE_ARG(user), SLICE_ARG(password));
    for (size_t i = 0; i < f->n_accounts; i++)
        if (slice_eq(f->accounts[i].user, user) && slice_eq(f->accounts[i].password, password))
            return f->accounts[i].verdict;
    return POP3_AUTH_BAD;
}

static enum pop3_hand_over fake_hand_over(void *ctx, struct stream *s, bool utf8, enum pop3_lang lang)
{
    struct fake_login *f = ctx;
    struct slice unread = stream_buffered(s);
    buf_printf(&f->trace, "hand-over utf8=%d lang=%s unread=%.*s\n", utf8, pop3_lang_tag(lang),
               (int)slice_find(unread, '\r'), unread.n != 0 ? unread.p : "");
    return f->hand_over;
}

static int fake_starttls(void *ctx, struct stream **s)
{
    struct fake_login *f = ctx;
    buf_put_str(&f->trace, "starttls\n");
    assert(stream_buffered(*s).n == 0);
    stream_free(*s);
    *s = NULL;
    if (f->starttls != 0 || f->inner == NULL)
        return f->starttls != 0 ? f->starttls : ERR_CLOSED;
    return stream_new_fake(f->inner, s);
}

static void fake_injection(void *ctx)
{
    struct fake_login *f = ctx;
    buf_put_str(&f->trace, "injection\n");
}

const struct pop3_login_backend fake_login_backend = {fake_auth, fake_hand_over, fake_starttls, fake_injection};
const struct pop3_login_backend fake_login_backend_no_tls = {fake_auth, fake_hand_over, NULL, fake_injection};

/* ---- the maildrop ---- */

struct fake_message *fake_maildrop_add(struct fake_maildrop *m, struct slice prefix, struct slice body)
{
    if (m->n == FAKE_MESSAGES_MAX)
        return NULL;
    struct fake_message *msg = &m->messages[m->n];
    const char *end = memmem(body.p, body.n, "\r\n\r\n", 4);
    size_t header = end != NULL ? (size_t)(end - body.p) : body.n;
    *msg = (struct fake_message){.prefix = prefix, .body = body, .fail_at = SIZE_MAX};
    m->entries[m->n] = (struct store_entry){.uid = (uint32_t)m->n * 2 + 1, .size = prefix.n + body.n};
    if (downgrade_wanted(prefix) || downgrade_wanted(slice_head(body, header)))
        m->entries[m->n].flags |= STORE_UTF8_HEADER;
    m->n++;
    return msg;
}

static int fake_open(void *ctx, size_t index, struct slice *ret_prefix)
{
    struct fake_maildrop *m = ctx;
    assert(m->open == NULL && index < m->n);
    if (m->messages[index].open_code != 0)
        return m->messages[index].open_code;
    m->open = &m->messages[index];
    m->at = 0;
    *ret_prefix = m->open->prefix;
    return 0;
}

static int fake_read(void *ctx, struct slice *ret_piece)
{
    struct fake_maildrop *m = ctx;
    assert(m->open != NULL);
    size_t left = m->open->body.n - m->at;
    size_t n = m->piece != 0 && m->piece < left ? m->piece : left;
    if (m->at >= m->open->fail_at)
        return m->open->read_code;
    if (n > m->open->fail_at - m->at)
        n = m->open->fail_at - m->at;
    *ret_piece = slice_of(m->open->body.p + m->at, n);
    m->at += n;
    return 0;
}

static void fake_close(void *ctx)
{
    struct fake_maildrop *m = ctx;
    assert(m->open != NULL);
    m->open = NULL;
}

static int fake_expunge(void *ctx, const uint32_t *uids, size_t n, uint64_t *ret_expunged)
{
    struct fake_maildrop *m = ctx;
    buf_put_str(&m->trace, "expunge");
    for (size_t i = 0; i < n; i++)
        buf_printf(&m->trace, " %u", uids[i]);
    buf_put_char(&m->trace, '\n');
    *ret_expunged = n;
    return m->expunge_code;
}

static int fake_record(void *ctx, uint64_t messages, uint64_t bytes)
{
    struct fake_maildrop *m = ctx;
    buf_printf(&m->trace, "retrieved %llu %llu\n", (unsigned long long)messages, (unsigned long long)bytes);
    return m->record_code;
}

static enum pop3_text fake_why(void *ctx)
{
    const struct fake_maildrop *m = ctx;
    return m->why;
}

const struct pop3_maildrop_ops fake_maildrop_ops = {.open = fake_open, .read = fake_read, .close = fake_close, .expunge = fake_expunge,
                                                    .record_retrieved = fake_record, .why = fake_why};
