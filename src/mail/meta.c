/* What is kept beside a message: see meta.h. */
#include "mail/meta.h"

RECORD_DEFINE(mail_meta_param);
RECORD_DEFINE(mail_meta_address);
RECORD_DEFINE(mail_meta_envelope);
RECORD_DEFINE(mail_meta_part);
RECORD_DEFINE(mail_meta);

#define ZONE_BIAS 10000

/* How much is kept: tried in this order until it fits. */
struct measure {
    size_t parts, addresses, bytes;
};
static const struct measure measures[] = {
    {MIME_PARTS_MAX, MAIL_ADDRESSES_MAX, 4096}, {128, MAIL_ADDRESSES_MAX, 4096}, {64, MAIL_ADDRESSES_MAX, 4096},
    {32, MAIL_ADDRESSES_MAX, 4096}, {16, MAIL_ADDRESSES_MAX, 4096}, {4, MAIL_ADDRESSES_MAX, 4096}, {1, MAIL_ADDRESSES_MAX, 4096},
    {1, 100, 1024}, {1, 30, 256}, {1, 8, 64}, {0, 8, 64},
};

struct builder {
    struct arena *arena;
    const struct measure *measure;
    bool parts_cut, envelope_cut, no_memory;
};

static struct slice cut(const struct builder *b, struct slice s, size_t limit, bool *ret_cut)
{
    size_t max = b->measure->bytes < limit ? b->measure->bytes : limit;
    if (s.n > max)
        *ret_cut = true;
    return s.n != 0 ? slice_head(s, max) : SLICE_EMPTY;
}

static void *new_items(struct builder *b, size_t n, size_t size)
{
    void *items = arena_array(b->arena, n, size);
    if (items == NULL)
        b->no_memory = true;
    return items;
}

static struct record_list put_addresses(struct builder *b, const struct mail_addresses *from)
{
    size_t n = from->n < b->measure->addresses ? from->n : b->measure->addresses;
    if (from->cut || n < from->n)
        b->envelope_cut = true;
    if (n == 0)
        return (struct record_list){0, NULL};
    struct mail_meta_address *items = new_items(b, n, sizeof(*items));
    for (size_t i = 0; items != NULL && i < n; i++) {
        const struct mail_address *a = &from->items[i];
        items[i] = (struct mail_meta_address){
            .kind = a->kind,
            .name = cut(b, a->name, 4096, &b->envelope_cut),
            .route = cut(b, a->route, 4096, &b->envelope_cut),
            .local = cut(b, a->local, 4096, &b->envelope_cut),
            .domain = cut(b, a->domain, 4096, &b->envelope_cut),
        };
    }
    return (struct record_list){items != NULL ? n : 0, items};
}

static struct mail_meta_envelope put_envelope(struct builder *b, const struct mail_envelope *e)
{
    return (struct mail_meta_envelope){
        .present = (e->date.p != NULL ? MAIL_ENV_DATE : 0u) | (e->subject.p != NULL ? MAIL_ENV_SUBJECT : 0u) |
                   (e->in_reply_to.p != NULL ? MAIL_ENV_IN_REPLY_TO : 0u) | (e->message_id.p != NULL ? MAIL_ENV_MESSAGE_ID : 0u),
        .date = cut(b, e->date, 4096, &b->envelope_cut),
        .subject = cut(b, e->subject, 4096, &b->envelope_cut),
        .in_reply_to = cut(b, e->in_reply_to, 4096, &b->envelope_cut),
        .message_id = cut(b, e->message_id, 4096, &b->envelope_cut),
        .from = put_addresses(b, &e->from),
        .sender = put_addresses(b, &e->sender),
        .reply_to = put_addresses(b, &e->reply_to),
        .to = put_addresses(b, &e->to),
        .cc = put_addresses(b, &e->cc),
        .bcc = put_addresses(b, &e->bcc),
    };
}

static struct record_list put_params(struct builder *b, const struct mail_params *from)
{
    if (from->n == 0)
        return (struct record_list){0, NULL};
    struct mail_meta_param *items = new_items(b, from->n, sizeof(*items));
    for (size_t i = 0; items != NULL && i < from->n; i++)
        items[i] = (struct mail_meta_param){
            .name = cut(b, from->items[i].name, MAIL_TOKEN_MAX, &b->parts_cut),
            .value = cut(b, from->items[i].value, MAIL_PARAM_MAX, &b->parts_cut),
        };
    return (struct record_list){items != NULL ? from->n : 0, items};
}

static uint64_t part_present(const struct mime_part *p)
{
    return (p->typed ? MAIL_PART_TYPED : 0u) | (p->encoding_text.p != NULL ? MAIL_PART_ENCODING : 0u) |
           (p->disposition.p != NULL ? MAIL_PART_DISPOSITION : 0u) | (p->id.p != NULL ? MAIL_PART_ID : 0u) |
           (p->description.p != NULL ? MAIL_PART_DESCRIPTION : 0u) | (p->md5.p != NULL ? MAIL_PART_MD5 : 0u) |
           (p->language.p != NULL ? MAIL_PART_LANGUAGE : 0u) | (p->location.p != NULL ? MAIL_PART_LOCATION : 0u);
}

static struct mail_meta_part put_part(struct builder *b, const struct mime_part *p)
{
    return (struct mail_meta_part){
        .parent = p->parent == MIME_NONE ? 0 : (uint64_t)p->parent + 1,
        .depth = p->depth,
        .number = p->number,
        .kind = p->kind,
        .envelope = p->envelope == MIME_NONE ? 0 : (uint64_t)p->envelope + 1,
        .encoding = p->encoding,
        .header_at = p->header_at,
        .body_at = p->body_at,
        .body_size = p->body_size,
        .lines = p->lines,
        .present = part_present(p),
        .type = cut(b, p->type, MAIL_TOKEN_MAX, &b->parts_cut),
        .subtype = cut(b, p->subtype, MAIL_TOKEN_MAX, &b->parts_cut),
        .encoding_text = cut(b, p->encoding_text, 4096, &b->parts_cut),
        .disposition = cut(b, p->disposition, MAIL_TOKEN_MAX, &b->parts_cut),
        .id = cut(b, p->id, 4096, &b->parts_cut),
        .description = cut(b, p->description, 4096, &b->parts_cut),
        .md5 = cut(b, p->md5, 4096, &b->parts_cut),
        .language = cut(b, p->language, 4096, &b->parts_cut),
        .location = cut(b, p->location, 4096, &b->parts_cut),
        .params = put_params(b, &p->params),
        .disposition_params = put_params(b, &p->disposition_params),
    };
}

/* Parts come before those inside them, so the first n refer to each other only, and to the first envelopes only. */
static void put_lists(struct builder *b, const struct mime_message *m, struct mail_meta *meta)
{
    size_t n = m->n_parts < b->measure->parts ? m->n_parts : b->measure->parts, envelopes = m->n_envelopes != 0;
    b->parts_cut = b->parts_cut || n < m->n_parts;
    struct mail_meta_part *parts = new_items(b, n, sizeof(*parts));
    for (size_t i = 0; parts != NULL && i < n; i++) {
        parts[i] = put_part(b, &m->parts[i]);
        if (parts[i].envelope > envelopes)
            envelopes = (size_t)parts[i].envelope;
    }
    struct mail_meta_envelope *all = new_items(b, envelopes, sizeof(*all));
    for (size_t i = 0; all != NULL && i < envelopes; i++)
        all[i] = put_envelope(b, &m->envelopes[i]);
    meta->parts = (struct record_list){n, parts};
    meta->envelopes = (struct record_list){envelopes, all};
}

static int encode_measured(const struct mime_message *m, struct slice preview, const struct measure *measure, struct arena *a,
                           struct buf *out)
{
    struct builder b = {.arena = a, .measure = measure};
    struct mail_meta meta = {
        .limits = m->limits,
        .size = m->source.n,
        .received_count = m->received_count,
        .date_ms = m->has_date ? (uint64_t)m->date.ms : 0,
        .zone = (uint64_t)((m->has_date ? m->date.zone_minutes : 0) + ZONE_BIAS),
        .n_parts = m->n_parts,
        .preview = preview,
    };
    put_lists(&b, m, &meta);
    if (b.no_memory)
        return -ENOMEM;
    meta.flags = m->flags | (m->has_date ? MAIL_META_DATE : 0u) | (m->has_date && m->date.zone_known ? MAIL_META_ZONE_KNOWN : 0u) |
                 (b.parts_cut ? MAIL_META_PARTS_CUT : 0u) | (b.envelope_cut ? MAIL_META_ENVELOPE_CUT : 0u);
    buf_reset(out);
    buf_put_u16(out, MAIL_META_VERSION);
    return record_encode(&record_mail_meta, &meta, out, NULL, NULL);
}

int mail_meta_encode(const struct mime_message *m, struct slice preview, size_t max, struct arena *a, struct buf *out)
{
    int rc = ERR_LIMIT;
    size_t out_max = out->max;
    out->max = max < out_max ? max : out_max;
    for (size_t i = 0; rc == ERR_LIMIT && i < sizeof(measures) / sizeof(measures[0]); i++)
        rc = encode_measured(m, preview, &measures[i], a, out);
    out->max = out_max;
    return rc;
}

/* What a reader walks along must lead somewhere, and never in a circle. */
static bool references_hold(const struct mail_meta *meta)
{
    if (meta->parts.n > meta->n_parts || (meta->parts.n != 0 && RECORD_ITEM(meta->parts, mail_meta_part, 0)->parent != 0))
        return false;
    for (size_t i = 0; i < meta->parts.n; i++) {
        const struct mail_meta_part *p = RECORD_ITEM(meta->parts, mail_meta_part, i);
        bool inside = p->header_at <= p->body_at && p->body_at <= meta->size && p->body_size <= meta->size - p->body_at;
        if (!inside || (i != 0 && (p->parent == 0 || p->parent > i)) || p->envelope > meta->envelopes.n)
            return false;
    }
    return true;
}

int mail_meta_decode(struct slice encoded, struct arena *a, struct mail_meta *ret)
{
    uint16_t version;
    struct mail_meta meta;
    if (!slice_get_u16(&encoded, &version) || version == 0)
        return ERR_SYNTAX;
    if (version > MAIL_META_VERSION)
        return ERR_VERSION;
    int rc = record_decode(&record_mail_meta, encoded, NULL, 0, a, &meta);
    if (rc != 0)
        return rc;
    if (!references_hold(&meta))
        return ERR_SYNTAX;
    *ret = meta;
    return 0;
}
