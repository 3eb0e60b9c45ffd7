/* Base64 and PLAIN over arbitrary bytes: what decodes must have one spelling, what parses must lie within the message. */
#include <assert.h>

#include "wire/sasl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    struct sasl_plain p;
    struct buf b;
    buf_init(&b, SASL_LINE_MAX);
    if (sasl_base64_decode(in, &b) == 0)
        assert(b.n <= in.n / 4 * 3 && b.n + 3 > in.n / 4 * 3);
    struct slice messages[] = {in, buf_slice(&b)};
    for (size_t i = 0; i < 2; i++)
        if (sasl_plain_parse(messages[i], &p) == 0)
            assert(p.authzid.n + p.authcid.n + p.password.n + 2 == messages[i].n && p.authcid.n > 0 && p.password.n > 0);
    (void)sasl_login_check(in, SASL_NAME_MAX);
    buf_done_secret(&b);
    return 0;
}
