/* The inspection of one message: see inspect.h. */
#include "role/filterd/inspect.h"

#include "mail/charset.h"
#include "mail/meta.h"
#include "trail/event.h"

#define MESSAGE_ID_MAX 998 /* m_inspect_reply.message_id */

/* A check sets the reply's verdict, with code, enhanced and text, if it is not to be accepted. 0 or a negative code. */
typedef int check_fn(struct inspection *in, struct err *err);

struct check {
    const char *name;
    check_fn *fn;
};

static int refuse(struct inspection *in, uint64_t code, const char *enhanced, const char *text)
{
    if (text == NULL)
        return -ENOMEM;
    in->reply->verdict = INSPECT_REJECT;
    in->reply->code = code;
    in->reply->enhanced = slice_str(enhanced);
    in->reply->text = slice_str(text);
    return 0;
}

/* RFC 5321 6.3: many Received fields mean that the message goes round. RFC 3463 3.5: X.4.6. */
static int check_loop(struct inspection *in, struct err *err)
{
    (void)err;
    if (in->mime.received_count <= (uint64_t)in->conf->smtp_max_received)
        return 0;
    return refuse(in, 554, "5.4.6",
                  arena_printf(in->keep,
                               "Mail loop: this message has already passed %zu servers (the limit here is %lld). "
                               "Please check the forwarding and aliases on its way",
                               in->mime.received_count, (long long)in->conf->smtp_max_received));
}

/* In this order; sender authentication, malware, spam and Sieve follow here. */
static const struct check checks[] = {
    {"loop", check_loop},
};

static int run_checks(struct inspection *in, struct err *err)
{
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]) && in->reply->verdict == INSPECT_ACCEPT; i++) {
        int rc = checks[i].fn(in, err);
        if (rc != 0)
            return err_context(err, "check \"%s\"", checks[i].name);
    }
    return 0;
}

/* The author's address for the trail, domain in lower case. Empty when there is none. */
static struct slice author(struct inspection *in)
{
    const struct mail_addresses *from = &in->mime.envelopes[0].from;
    size_t i = 0;
    while (i < from->n && from->items[i].kind != MAIL_ADDR_MAILBOX)
        i++;
    if (i == from->n)
        return SLICE_EMPTY;
    struct slice local = slice_head(from->items[i].local, IPC_ADDRESS_MAX), domain = slice_head(from->items[i].domain, IPC_ADDRESS_MAX);
    char *text = arena_alloc(in->work, local.n + domain.n + 1);
    if (text == NULL)
        return SLICE_EMPTY;
    size_t n = local.n;
    memcpy(text, local.p, n);
    if (domain.n != 0)
        text[n++] = '@';
    for (size_t k = 0; k < domain.n; k++)
        text[n++] = ascii_lower(domain.p[k]);
    return event_text(in->keep, slice_of(text, n), IPC_ADDRESS_MAX);
}

static int put_meta(struct inspection *in, struct err *err)
{
    struct buf preview, meta;
    buf_init(&preview, MAIL_PREVIEW_MAX);
    buf_init(&meta, IPC_META_MAX);
    mail_preview(&in->mime, &preview);
    int rc = mail_meta_encode(&in->mime, buf_slice(&preview), IPC_META_MAX, in->work, &meta);
    if (rc == 0) {
        in->reply->meta = arena_copy(in->keep, buf_slice(&meta));
        rc = in->reply->meta.p != NULL ? 0 : -ENOMEM;
    }
    buf_done(&preview);
    buf_done(&meta);
    return rc == 0 ? 0 : err_set(err, rc, "what is kept beside the message could not be written: %s", err_name(rc));
}

int inspect_prepare(struct err *err)
{
    return mail_charset_init(err);
}

int inspect_message(const struct conf *conf, const struct m_inspect *request, struct slice body, struct arena *work, struct arena *keep,
                    struct m_inspect_reply *reply, struct err *err)
{
    struct inspection in = {.conf = conf, .request = request, .body = body, .work = work, .keep = keep, .reply = reply};
    int rc = mime_parse(work, body, &in.mime);
    if (rc != 0)
        return err_set(err, rc, "no memory for the structure of a message of %zu bytes", body.n);
    reply->verdict = INSPECT_ACCEPT;
    reply->received_count = in.mime.received_count;
    reply->message_id = event_text(keep, in.mime.envelopes[0].message_id, MESSAGE_ID_MAX);
    reply->from = author(&in);
    rc = run_checks(&in, err);
    return rc == 0 && reply->verdict == INSPECT_ACCEPT ? put_meta(&in, err) : rc;
}
