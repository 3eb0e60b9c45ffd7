/* Any header: what was valid UTF-8 comes out as ASCII, with no line that is neither field nor continuation more than before. */
#include <assert.h>

#include "base/utf8.h"
#include "mail/downgrade.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t count(struct slice s, char c)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += s.p[i] == c;
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    struct buf out;
    buf_init(&out, 64 * 1024 * 1024);
    if (downgrade_header(in, &out) == 0) {
        if (utf8_is_ascii(in))
            assert(slice_eq(in, buf_slice(&out)));
        /* Every line end of ours is a continuation or ends a field. */
        for (size_t i = 0; i + 1 < out.n; i++)
            if (out.p[i] == '\n' && count(in, '\n') == 0)
                assert(out.p[i + 1] == ' ');
    }
    buf_done(&out);
    return 0;
}
