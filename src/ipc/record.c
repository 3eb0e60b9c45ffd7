/* Encoder, decoder and printer of typed records: see record.h. */
#include "ipc/record.h"

#include <openssl/evp.h>
#include <unistd.h>

#include "base/secret.h"
#include "base/utf8.h"

#define LIST_DEPTH_MAX 4

static const void *field_at(const struct record_field *f, const void *record)
{
    return (const char *)record + f->offset;
}

static int encode_text(const struct record_field *f, struct slice s, struct buf *out)
{
    if (s.n > f->limit || s.n > UINT32_MAX)
        return ERR_LIMIT;
    if (f->kind == RECORD_STR && (!utf8_valid(s) || slice_find(s, '\0') != s.n))
        return ERR_SYNTAX;
    buf_put_u32(out, (uint32_t)s.n);
    buf_put_slice(out, s);
    return 0;
}

static int encode(const struct record_desc *d, const void *record, struct buf *out, int *fds, size_t *n_fds, int depth);

static int encode_list(const struct record_field *f, const struct record_list *l, struct buf *out, int depth)
{
    if (l->n > f->limit || depth >= LIST_DEPTH_MAX)
        return ERR_LIMIT;
    buf_put_u32(out, (uint32_t)l->n);
    for (size_t i = 0; i < l->n; i++) {
        int rc = encode(f->item, (const char *)l->items + i * f->item->size, out, NULL, NULL, depth + 1);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int encode_fd(int fd, struct buf *out, int *fds, size_t *n_fds)
{
    buf_put_char(out, fd >= 0 ? 1 : 0);
    if (fd < 0)
        return 0;
    if (fds == NULL || *n_fds >= RECORD_FDS_MAX)
        return ERR_LIMIT;
    fds[(*n_fds)++] = fd;
    return 0;
}

static int encode_field(const struct record_field *f, const void *record, struct buf *out, int *fds, size_t *n_fds, int depth)
{
    const void *at = field_at(f, record);
    switch (f->kind) {
    case RECORD_U64: {
        uint64_t v = *(const uint64_t *)at;
        if (f->limit != 0 && v > f->limit)
            return ERR_LIMIT;
        buf_put_u64(out, v);
        return 0;
    }
    case RECORD_ID: buf_put(out, at, sizeof(struct id128)); return 0;
    case RECORD_FD: return encode_fd(*(const int *)at, out, fds, n_fds);
    case RECORD_LIST: return encode_list(f, at, out, depth);
    case RECORD_STR:
    case RECORD_BYTES:
    case RECORD_SECRET: break;
    }
    return encode_text(f, *(const struct slice *)at, out);
}

static int encode(const struct record_desc *d, const void *record, struct buf *out, int *fds, size_t *n_fds, int depth)
{
    for (size_t i = 0; i < d->n_fields; i++) {
        int rc = encode_field(&d->fields[i], record, out, fds, n_fds, depth);
        if (rc != 0)
            return rc;
    }
    return buf_error(out);
}

int record_encode(const struct record_desc *d, const void *record, struct buf *out, int *fds, size_t *ret_n_fds)
{
    size_t n_fds = 0;
    int rc = encode(d, record, out, fds, &n_fds, 0);
    if (rc == 0 && ret_n_fds != NULL)
        *ret_n_fds = n_fds;
    return rc;
}

struct decoder {
    struct slice in;
    const int *fds;
    size_t n_fds, used_fds;
    struct arena *arena;
};

static int decode(struct decoder *c, const struct record_desc *d, void *record, int depth);

static int decode_text(struct decoder *c, const struct record_field *f, struct slice *ret)
{
    uint32_t n;
    struct slice s;
    if (!slice_get_u32(&c->in, &n))
        return ERR_SYNTAX;
    if (n > f->limit)
        return ERR_LIMIT;
    if (!slice_get_bytes(&c->in, n, &s))
        return ERR_SYNTAX;
    if (f->kind == RECORD_STR && (!utf8_valid(s) || slice_find(s, '\0') != s.n))
        return ERR_SYNTAX;
    *ret = s;
    return 0;
}

static int decode_list(struct decoder *c, const struct record_field *f, struct record_list *ret, int depth)
{
    uint32_t n;
    if (!slice_get_u32(&c->in, &n))
        return ERR_SYNTAX;
    if (n > f->limit || depth >= LIST_DEPTH_MAX)
        return ERR_LIMIT;
    /* An item has at least one byte, so that a short input cannot ask for much memory. */
    if (n > c->in.n)
        return ERR_SYNTAX;
    void *items = arena_array(c->arena, n, f->item->size);
    if (items == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        int rc = decode(c, f->item, (char *)items + i * f->item->size, depth + 1);
        if (rc != 0)
            return rc;
    }
    *ret = (struct record_list){n, items};
    return 0;
}

static int decode_fd(struct decoder *c, int *ret)
{
    uint8_t has;
    if (!slice_get_u8(&c->in, &has) || has > 1)
        return ERR_SYNTAX;
    if (has == 0)
        return 0; /* stays -1 */
    if (c->used_fds >= c->n_fds)
        return ERR_SYNTAX;
    *ret = c->fds[c->used_fds++];
    return 0;
}

static int decode_field(struct decoder *c, const struct record_field *f, void *at, int depth)
{
    switch (f->kind) {
    case RECORD_U64: {
        uint64_t v;
        if (!slice_get_u64(&c->in, &v))
            return ERR_SYNTAX;
        if (f->limit != 0 && v > f->limit)
            return ERR_LIMIT;
        *(uint64_t *)at = v;
        return 0;
    }
    case RECORD_ID: {
        struct slice s;
        if (!slice_get_bytes(&c->in, sizeof(struct id128), &s))
            return ERR_SYNTAX;
        memcpy(at, s.p, s.n);
        return 0;
    }
    case RECORD_FD: return decode_fd(c, at);
    case RECORD_LIST: return decode_list(c, f, at, depth);
    case RECORD_STR:
    case RECORD_BYTES:
    case RECORD_SECRET: break;
    }
    return decode_text(c, f, at);
}

static int decode(struct decoder *c, const struct record_desc *d, void *record, int depth)
{
    for (size_t i = 0; i < d->n_fields; i++) {
        int rc = decode_field(c, &d->fields[i], (char *)record + d->fields[i].offset, depth);
        if (rc != 0)
            return rc;
    }
    return 0;
}

void record_clear(const struct record_desc *d, void *record)
{
    memset(record, 0, d->size);
    for (size_t i = 0; i < d->n_fields; i++)
        if (d->fields[i].kind == RECORD_FD)
            *(int *)(void *)((char *)record + d->fields[i].offset) = -1;
}

int record_decode(const struct record_desc *d, struct slice in, const int *fds, size_t n_fds, struct arena *arena, void *record)
{
    struct decoder c = {.in = in, .fds = fds, .n_fds = n_fds, .arena = arena};
    record_clear(d, record);
    int rc = decode(&c, d, record, 0);
    if (rc == 0 && (c.in.n != 0 || c.used_fds != n_fds))
        rc = ERR_SYNTAX;
    if (rc != 0)
        record_clear(d, record);
    return rc;
}

void record_close_fds(const struct record_desc *d, void *record)
{
    for (size_t i = 0; i < d->n_fields; i++) {
        int *fd = (int *)(void *)((char *)record + d->fields[i].offset);
        if (d->fields[i].kind != RECORD_FD || *fd < 0)
            continue;
        (void)close(*fd);
        *fd = -1;
    }
}

void record_wipe(const struct record_desc *d, void *record)
{
    for (size_t i = 0; i < d->n_fields; i++) {
        if (d->fields[i].kind != RECORD_SECRET)
            continue;
        struct slice *s = (struct slice *)(void *)((char *)record + d->fields[i].offset);
        /* The bytes lie in the receiver's own frame; const in the slice only says that readers do not write. */
        if (s->n != 0)
            secret_wipe((void *)(uintptr_t)s->p, s->n);
        *s = SLICE_EMPTY;
    }
}

void record_wipe_deep(const struct record_desc *d, void *record)
{
    for (size_t i = 0; i < d->n_fields; i++) {
        const struct record_field *f = &d->fields[i];
        struct record_list *l = (struct record_list *)(void *)((char *)record + f->offset);
        for (size_t k = 0; f->kind == RECORD_LIST && k < l->n; k++)
            record_wipe_deep(f->item, (char *)l->items + k * f->item->size);
    }
    record_wipe(d, record);
}

static void print_base64(struct slice s, struct buf *out)
{
    size_t need = (s.n + 2) / 3 * 4 + 1;
    if (s.n > INT32_MAX / 2 || buf_reserve(out, need) != 0)
        return;
    out->n += (size_t)EVP_EncodeBlock((unsigned char *)out->p + out->n, (const unsigned char *)s.p, (int)s.n);
}

static void print_value(const struct record_field *f, const void *at, struct buf *out)
{
    char id[ID_TEXT_SIZE];
    const struct record_list *l = at;
    switch (f->kind) {
    case RECORD_U64: buf_printf(out, "%llu", (unsigned long long)*(const uint64_t *)at); break;
    case RECORD_ID:
        id_print(*(const struct id128 *)at, id);
        buf_printf(out, "\"%s\"", id);
        break;
    case RECORD_STR:
        buf_put_char(out, '"');
        utf8_put_json(out, *(const struct slice *)at);
        buf_put_char(out, '"');
        break;
    case RECORD_BYTES:
        buf_put_char(out, '"');
        print_base64(*(const struct slice *)at, out);
        buf_put_char(out, '"');
        break;
    case RECORD_LIST:
        buf_put_char(out, '[');
        for (size_t i = 0; i < l->n; i++) {
            buf_put_str(out, i != 0 ? ",{" : "{");
            record_print_json(f->item, (const char *)l->items + i * f->item->size, out);
            buf_put_char(out, '}');
        }
        buf_put_char(out, ']');
        break;
    case RECORD_SECRET:
    case RECORD_FD: buf_put_str(out, "null"); break;
    }
}

void record_print_json(const struct record_desc *d, const void *record, struct buf *out)
{
    bool first = true;
    for (size_t i = 0; i < d->n_fields; i++) {
        const struct record_field *f = &d->fields[i];
        if (f->kind == RECORD_FD)
            continue;
        buf_printf(out, "%s\"%s\":", first ? "" : ",", f->name);
        print_value(f, field_at(f, record), out);
        first = false;
    }
}
