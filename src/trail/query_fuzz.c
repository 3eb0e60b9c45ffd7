/* The query parser and the matcher: the first line of the input is the query, the rest a line of the trail. */
#include "trail/query.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_of(data, size), text = slice_cut(&rest, '\n');
    struct trail_query *q;
    if (trail_query_parse(text, 1795315476123, &q, NULL) != 0)
        return 0;
    (void)trail_query_match(q, rest);
    trail_query_free(q);
    return 0;
}
