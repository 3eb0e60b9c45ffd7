/* What was kept may be damaged: it decodes to something whose references hold, or not at all. */
#include <assert.h>

#include "mail/meta.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a;
    struct mail_meta meta;
    arena_init(&a, 64 << 20);
    if (mail_meta_decode(slice_of(data, size), &a, &meta) == 0)
        for (size_t i = 0; i < meta.parts.n; i++) {
            const struct mail_meta_part *p = RECORD_ITEM(meta.parts, mail_meta_part, i);
            assert(p->parent <= i && p->envelope <= meta.envelopes.n && p->body_at + p->body_size <= meta.size);
        }
    arena_done(&a);
    return 0;
}
