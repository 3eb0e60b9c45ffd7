/* Any text is a date within the calendar, or none. */
#include <assert.h>

#include "mail/date.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mail_date d;
    if (mail_date_parse(slice_of(data, size), &d))
        assert(d.zone_minutes > -16 * 60 && d.zone_minutes < 16 * 60 && d.ms < 253402400000000 && d.ms > -2208988800000 - 86400000);
    return 0;
}
