/* mime-dump: what the parser makes of messages, as JSON lines; for tests that compare it with other parsers, and for looking.
 *
 * Arguments are files; each gives one line. With "-" messages come on standard input, each after its length as u32
 * (little-endian). Not installed. */
#include <openssl/evp.h>

#include "base/utf8.h"
#include "mail/charset.h"
#include "mail/header.h"
#include "ipc/messages.h"
#include "mail/meta.h"

#define MESSAGE_MAX (256u * 1024 * 1024)

static void put_string(struct buf *out, const char *name, struct slice s)
{
    buf_printf(out, "\"%s\":\"", name);
    utf8_put_json(out, s);
    buf_put_str(out, "\"");
}

static void put_decoded(struct buf *out, const char *name, struct slice raw, struct slice hint)
{
    struct buf text;
    buf_init(&text, 4 * MAIL_VALUE_MAX);
    mail_header_decode(&text, raw, hint);
    put_string(out, name, buf_slice(&text));
    buf_done(&text);
}

static void put_addresses(struct buf *out, const char *name, const struct mail_addresses *l, struct slice hint)
{
    static const char *const kinds[] = {"mailbox", "group", "end"};
    buf_printf(out, ",\"%s\":[", name);
    for (size_t i = 0; i < l->n; i++) {
        const struct mail_address *a = &l->items[i];
        buf_printf(out, "%s{\"kind\":\"%s\",", i != 0 ? "," : "", kinds[a->kind]);
        put_decoded(out, "name", a->name, hint);
        buf_put_char(out, ',');
        put_string(out, "local", a->local);
        buf_put_char(out, ',');
        put_string(out, "domain", a->domain);
        buf_put_char(out, '}');
    }
    buf_put_char(out, ']');
}

static void put_digest(struct buf *out, const struct mime_message *m, const struct mime_part *p)
{
    struct slice body = mime_part_body(m, p);
    struct buf decoded;
    unsigned char md[32];
    buf_init(&decoded, 2 * body.n + 1024);
    mail_decode(p->encoding, body, &decoded);
    buf_printf(out, ",\"decoded\":%zu,\"sha256\":\"", decoded.n);
    if (EVP_Digest(decoded.n != 0 ? decoded.p : "", decoded.n, md, NULL, EVP_sha256(), NULL) == 1)
        for (size_t i = 0; i < sizeof(md); i++)
            buf_printf(out, "%02x", md[i]);
    buf_put_char(out, '"');
    buf_done(&decoded);
}

static void put_part(struct buf *out, const struct mime_message *m, const struct mime_part *p)
{
    static const char *const kinds[] = {"leaf", "multipart", "message"};
    struct buf name;
    buf_init(&name, MAIL_PARAM_MAX);
    bool named = mime_part_filename(p, &name);
    buf_printf(out, "{\"parent\":%d,\"depth\":%u,\"number\":%u,\"kind\":\"%s\",\"encoding\":\"%s\",", p->parent == MIME_NONE ? -1 : (int)p->parent,
               p->depth, p->number, kinds[p->kind], mail_encoding_name(p->encoding));
    put_string(out, "type", p->type);
    buf_put_char(out, ',');
    put_string(out, "subtype", p->subtype);
    buf_put_char(out, ',');
    put_string(out, "charset", mime_part_charset(p));
    buf_put_char(out, ',');
    put_string(out, "disposition", p->disposition);
    if (named) {
        buf_put_char(out, ',');
        put_string(out, "filename", buf_slice(&name));
    }
    buf_printf(out, ",\"header_at\":%zu,\"body_at\":%zu,\"size\":%zu,\"lines\":%zu", p->header_at, p->body_at, p->body_size, p->lines);
    if (p->kind == MIME_LEAF)
        put_digest(out, m, p);
    buf_put_char(out, '}');
    buf_done(&name);
}

static void put_envelope(struct buf *out, const struct mime_message *m)
{
    const struct mail_envelope *e = &m->envelopes[0];
    struct slice hint = mime_part_charset(&m->parts[0]);
    put_decoded(out, "subject", e->subject, hint);
    buf_put_char(out, ',');
    put_string(out, "message_id", e->message_id);
    put_addresses(out, "from", &e->from, hint);
    put_addresses(out, "to", &e->to, hint);
    put_addresses(out, "cc", &e->cc, hint);
    if (m->has_date)
        buf_printf(out, ",\"date_ms\":%lld,\"zone\":%d", (long long)m->date.ms, m->date.zone_minutes);
}

static int dump(struct slice message, struct arena *a, struct buf *out)
{
    struct mime_message m;
    struct buf preview, meta;
    buf_init(&preview, MAIL_PREVIEW_MAX);
    buf_init(&meta, IPC_META_MAX);
    a->max = MIME_ARENA_MAX(message.n);
    if (mime_parse(a, message, &m) != 0)
        return -1;
    mail_preview(&m, &preview);
    if (mail_meta_encode(&m, buf_slice(&preview), IPC_META_MAX, a, &meta) != 0)
        return -1;
    buf_put_char(out, '{');
    put_envelope(out, &m);
    buf_printf(out, ",\"received\":%zu,\"flags\":%u,\"limits\":%u,\"meta\":%zu,", m.received_count, m.flags, m.limits, meta.n);
    put_string(out, "preview", buf_slice(&preview));
    buf_put_str(out, ",\"parts\":[");
    for (size_t i = 0; i < m.n_parts; i++) {
        if (i != 0)
            buf_put_char(out, ',');
        put_part(out, &m, &m.parts[i]);
    }
    buf_put_str(out, "]}\n");
    buf_done(&preview);
    buf_done(&meta);
    return 0;
}

/* One message: n bytes of f, or all of it when n is MESSAGE_MAX. */
static int dump_stream(FILE *f, size_t n, struct arena *a)
{
    struct buf message, out;
    int rc = -1;
    buf_init(&message, MESSAGE_MAX);
    buf_init(&out, MESSAGE_MAX);
    while (message.n < n) {
        size_t want = n - message.n < 65536 ? n - message.n : 65536;
        if (buf_reserve(&message, want) != 0)
            break;
        size_t got = fread(message.p + message.n, 1, want, f);
        message.n += got;
        if (got == 0)
            break;
    }
    if ((n == MESSAGE_MAX || message.n == n) && dump(buf_slice(&message), a, &out) == 0)
        rc = fwrite(out.p, 1, out.n, stdout) == out.n ? 0 : -1;
    arena_reset(a);
    buf_done(&message);
    buf_done(&out);
    return rc;
}

static int dump_framed(struct arena *a)
{
    unsigned char head[4];
    int rc = 0;
    while (rc == 0 && fread(head, 1, sizeof(head), stdin) == sizeof(head))
        rc = dump_stream(stdin, (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24, a);
    return rc;
}

int main(int argc, char **argv)
{
    struct arena a;
    struct err err = {0};
    int rc = mail_charset_init(&err);
    arena_init(&a, MIME_ARENA_MAX(0));
    for (int i = 1; i < argc && rc == 0; i++) {
        if (strcmp(argv[i], "-") == 0) {
            rc = dump_framed(&a);
            continue;
        }
        FILE *f = fopen(argv[i], "rbe");
        rc = f != NULL ? dump_stream(f, MESSAGE_MAX, &a) : -1;
        if (f != NULL)
            (void)fclose(f);
    }
    if (rc != 0)
        (void)fprintf(stderr, "mime-dump: a message could not be read %s\n", err.text);
    arena_done(&a);
    mail_charset_done();
    return rc == 0 ? 0 : 1;
}
