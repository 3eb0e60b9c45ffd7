/* What keyd is asked to sign: from tlsd, which may have been taken. Also: nothing but the known shapes is ever accepted. */
#include <assert.h>

#include "tls/tbs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice s = slice_of(data, size);
    switch (tls_tbs_check(s)) {
    case TBS_TLS13: assert(size == 98 + 32 || size == 98 + 48); break;
    case TBS_TLS12_ECDHE: assert(size > 64 && size <= 64 + 4 + 133 && data[64] == 3); break;
    case TBS_TLS12_DHE: assert(size >= 64 + 2 + 256 + 3 + 3); break;
    case TBS_REFUSED: break;
    }
    return 0;
}
