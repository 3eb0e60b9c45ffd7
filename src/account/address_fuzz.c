/* The canonicaliser must be idempotent and within its limits, whatever it is given. */
#include "account/address.h"

#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size), detail;
    struct address a, again, base;
    (void)address_is_literal(in);
    if (address_canon(in, &a) != 0)
        return 0;
    if (a.n >= sizeof(a.text) || strlen(a.text) != a.n || !utf8_valid(address_text(&a)))
        abort();
    if (address_canon(address_text(&a), &again) != 0 || !slice_eq(address_text(&a), address_text(&again)))
        abort();
    (void)address_check_own(&a, "+", NULL);
    if (address_split_detail(&a, "+", &base, &detail) && strlen(base.text) != base.n)
        abort();
    return 0;
}
