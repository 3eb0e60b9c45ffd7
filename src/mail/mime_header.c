/* What the header block of a part says: a table of fields. See mime.h. */
#include <errno.h>

#include "mail/header.h"
#include "mail/mime_priv.h"

/* Grows an array by doubling: the arena keeps the old copies, less than the array itself. */
static void *grown(struct arena *a, void *items, size_t n, size_t size, size_t *cap)
{
    if (n < *cap)
        return items;
    size_t want = *cap != 0 ? *cap * 2 : 4;
    void *more = arena_array(a, want, size);
    if (more == NULL)
        return NULL;
    if (n != 0)
        memcpy(more, items, n * size);
    *cap = want;
    return more;
}

int mime_part_new(struct mime_builder *b, uint32_t *ret_index)
{
    struct mime_message *m = b->m;
    struct mime_part *parts = grown(b->arena, m->parts, m->n_parts, sizeof(*parts), &b->parts_cap);
    if (parts == NULL)
        return -ENOMEM;
    m->parts = parts;
    m->parts[m->n_parts] = (struct mime_part){.envelope = MIME_NONE};
    *ret_index = (uint32_t)m->n_parts++;
    return 0;
}

static int envelope_new(struct mime_builder *b, uint32_t *ret_index)
{
    struct mime_message *m = b->m;
    struct mail_envelope *all = grown(b->arena, m->envelopes, m->n_envelopes, sizeof(*all), &b->envelopes_cap);
    if (all == NULL)
        return -ENOMEM;
    m->envelopes = all;
    m->envelopes[m->n_envelopes] = (struct mail_envelope){0};
    *ret_index = (uint32_t)m->n_envelopes++;
    return 0;
}

struct reader {
    struct mime_builder *b;
    struct mime_part *part;
    struct mail_envelope *envelope; /* NULL: not the header of a message */
    bool is_root;
};

struct known_field;
typedef bool field_fn(struct reader *r, const struct known_field *f, struct slice value);

struct known_field {
    const char *name;
    size_t n;
    bool of_message; /* belongs to the envelope */
    field_fn *fn;
    size_t offset; /* what the function fills, in the part or the envelope */
    bool repeats;  /* occurrences are put together */
};

/* A text kept unfolded. The first one counts. */
static bool keep_text(struct reader *r, const struct known_field *f, struct slice value)
{
    char *base = f->of_message ? (char *)r->envelope : (char *)r->part;
    struct slice *to = (struct slice *)(void *)(base + f->offset);
    if (to->p != NULL)
        return true;
    *to = mail_header_unfold(r->b->arena, value);
    return to->p != NULL;
}

static bool keep_addresses(struct reader *r, const struct known_field *f, struct slice value)
{
    struct mail_addresses *to = (struct mail_addresses *)(void *)((char *)r->envelope + f->offset);
    size_t had = to->n;
    if (had != 0 && !f->repeats)
        return true;
    if (r->b->addresses >= MIME_ADDRESSES_MAX || r->b->address_bytes >= MIME_ADDRESS_BYTES_MAX) {
        r->b->m->limits |= MIME_LIMIT_ADDRESSES;
        return true;
    }
    bool ok = mail_address_parse(r->b->arena, value, to);
    r->b->addresses += to->n - had;
    r->b->address_bytes += value.n;
    if (to->cut)
        r->b->m->limits |= MIME_LIMIT_ADDRESSES;
    return ok;
}

static bool keep_date(struct reader *r, const struct known_field *f, struct slice value)
{
    bool first = r->envelope->date.p == NULL;
    if (first && r->is_root)
        r->b->m->has_date = mail_date_parse(value, &r->b->m->date);
    return keep_text(r, f, value);
}

static bool count_received(struct reader *r, const struct known_field *f, struct slice value)
{
    (void)f;
    (void)value;
    r->b->m->received_count += r->is_root;
    return true;
}

static bool keep_type(struct reader *r, const struct known_field *f, struct slice value)
{
    struct mail_type type;
    (void)f;
    if (r->part->params.items != NULL || r->part->typed)
        return true;
    if (!mail_type_parse(r->b->arena, value, &type))
        return false;
    r->part->params = type.params;
    r->part->typed = type.type.n != 0;
    if (r->part->typed) {
        r->part->type = type.type;
        r->part->subtype = type.subtype;
    } else { /* RFC 2045 5.2 */
        r->part->type = SLICE("text");
        r->part->subtype = SLICE("plain");
    }
    return true;
}

static bool keep_encoding(struct reader *r, const struct known_field *f, struct slice value)
{
    if (r->part->encoding_text.p == NULL)
        r->part->encoding = mail_encoding_parse(value);
    return keep_text(r, f, value);
}

static bool keep_disposition(struct reader *r, const struct known_field *f, struct slice value)
{
    struct mail_disposition d;
    (void)f;
    if (r->part->disposition.p != NULL)
        return true;
    if (!mail_disposition_parse(r->b->arena, value, &d))
        return false;
    r->part->disposition = d.word;
    r->part->disposition_params = d.params;
    return true;
}

#define OF_PART(name, fn, member) {name, sizeof(name) - 1, false, fn, offsetof(struct mime_part, member), false}
#define OF_MESSAGE(name, fn, member, repeats) {name, sizeof(name) - 1, true, fn, offsetof(struct mail_envelope, member), repeats}

static const struct known_field fields[] = {
    OF_MESSAGE("Received", count_received, date, true),
    OF_MESSAGE("From", keep_addresses, from, false),
    OF_MESSAGE("To", keep_addresses, to, true),
    OF_MESSAGE("Subject", keep_text, subject, false),
    OF_MESSAGE("Date", keep_date, date, false),
    OF_MESSAGE("Message-ID", keep_text, message_id, false),
    OF_PART("Content-Type", keep_type, type),
    OF_PART("Content-Transfer-Encoding", keep_encoding, encoding_text),
    OF_PART("Content-Disposition", keep_disposition, disposition),
    OF_MESSAGE("Cc", keep_addresses, cc, true),
    OF_MESSAGE("Reply-To", keep_addresses, reply_to, false),
    OF_MESSAGE("Sender", keep_addresses, sender, false),
    OF_MESSAGE("In-Reply-To", keep_text, in_reply_to, false),
    OF_MESSAGE("Bcc", keep_addresses, bcc, true),
    OF_PART("Content-ID", keep_text, id),
    OF_PART("Content-Description", keep_text, description),
    OF_PART("Content-MD5", keep_text, md5),
    OF_PART("Content-Language", keep_text, language),
    OF_PART("Content-Location", keep_text, location),
};

static const struct known_field *field_find(struct slice name)
{
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (fields[i].n == name.n && slice_ieq(name, slice_of(fields[i].name, fields[i].n)))
            return &fields[i];
    return NULL;
}

static int read_fields(struct reader *r, struct slice block)
{
    struct mail_field field;
    size_t n = 0;
    for (; n < MAIL_FIELDS_MAX && mail_header_next(&block, &field); n++) {
        const struct known_field *known = field_find(field.name);
        if (known == NULL || (known->of_message && r->envelope == NULL))
            continue;
        if (!known->fn(r, known, field.value))
            return -ENOMEM;
    }
    if (n == MAIL_FIELDS_MAX)
        r->b->m->limits |= MIME_LIMIT_HEADER;
    return 0;
}

int mime_header_read(struct mime_builder *b, uint32_t part, struct slice block)
{
    struct mime_part *p = &b->m->parts[part];
    struct reader r = {.b = b, .part = p, .is_root = p->parent == MIME_NONE};
    if (r.is_root || b->m->parts[p->parent].kind == MIME_MESSAGE) {
        uint32_t envelope;
        int rc = envelope_new(b, &envelope);
        if (rc != 0)
            return rc;
        if (!r.is_root)
            b->m->parts[p->parent].envelope = envelope;
        r.envelope = &b->m->envelopes[envelope];
    }
    if (block.n > MAIL_HEADER_MAX)
        b->m->limits |= MIME_LIMIT_HEADER;
    return read_fields(&r, slice_head(block, MAIL_HEADER_MAX));
}
