/* Any text is a list of at most so many addresses. */
#include <assert.h>

#include "mail/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a;
    struct mail_addresses l = {0};
    size_t depth = 0;
    arena_init(&a, 8 << 20);
    bool ok = mail_address_parse(&a, slice_of(data, size), &l);
    assert(ok && l.n <= MAIL_ADDRESSES_MAX);
    for (size_t i = 0; i < l.n; i++) {
        const struct mail_address *e = &l.items[i];
        assert(e->name.n + e->route.n + e->local.n + e->domain.n <= 4 * size);
        depth += e->kind == MAIL_ADDR_GROUP;
        depth -= e->kind == MAIL_ADDR_GROUP_END;
        assert(depth <= 1);
    }
    arena_done(&a);
    return 0;
}
