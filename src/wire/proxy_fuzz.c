/* PROXY headers: a header that is whole does not change when more follows, and no beginning of it is whole. */
#include "wire/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header h, again;
    size_t used = 0, used_again = 0;
    int rc = proxy_parse(slice_of((const char *)data, size), &h, &used);
    if (rc != 0)
        return 0;
    if (used == 0 || used > size || proxy_parse(slice_of((const char *)data, used), &again, &used_again) != 0 || used_again != used)
        abort();
    if (proxy_parse(slice_of((const char *)data, used - 1), &again, &used_again) != -EAGAIN)
        abort();
    return 0;
}
