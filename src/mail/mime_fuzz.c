/* Any bytes have a structure whose parts lie within the message and each other, and it survives being kept. */
#include <assert.h>

#include "ipc/messages.h"
#include "mail/charset.h"
#include "mail/meta.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return mail_charset_init(NULL);
}

static void check_structure(const struct mime_message *m)
{
    assert(m->n_parts >= 1 && m->n_parts <= MIME_PARTS_MAX && m->n_envelopes >= 1);
    for (size_t i = 0; i < m->n_parts; i++) {
        const struct mime_part *p = &m->parts[i];
        assert(p->header_at <= p->body_at && p->body_at <= m->source.n && p->body_size <= m->source.n - p->body_at);
        assert(p->lines <= p->body_size && p->depth <= MIME_DEPTH_MAX && (i == 0) == (p->parent == MIME_NONE));
        if (i == 0)
            continue;
        const struct mime_part *up = &m->parts[p->parent];
        assert(p->parent < i && up->kind != MIME_LEAF && p->depth == up->depth + 1);
        /* An empty part may lie behind the line end that its parent gives up to the boundary. */
        size_t slack = p->body_size == 0 ? 2 : 0;
        assert(p->header_at >= up->body_at && p->body_at + p->body_size <= up->body_at + up->body_size + slack);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a;
    struct mime_message m;
    struct mail_meta meta;
    struct buf preview, kept;
    arena_init(&a, MIME_ARENA_MAX(size) + (8 << 20));
    buf_init(&preview, MAIL_PREVIEW_MAX);
    buf_init(&kept, IPC_META_MAX);
    int rc = mime_parse(&a, slice_of(data, size), &m);
    assert(rc == 0);
    check_structure(&m);
    mail_preview(&m, &preview);
    assert(buf_ok(&preview));
    rc = mail_meta_encode(&m, buf_slice(&preview), IPC_META_MAX, &a, &kept);
    assert(rc == 0);
    rc = mail_meta_decode(buf_slice(&kept), &a, &meta);
    assert(rc == 0 && meta.n_parts == m.n_parts);
    buf_done(&preview);
    buf_done(&kept);
    arena_done(&a);
    return 0;
}
