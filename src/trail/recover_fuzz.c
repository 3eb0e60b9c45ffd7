/* What recovery makes of any file: it keeps whole lines of the front and nothing else, and reading what it kept gives the same again. */
#include "trail/files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_of(data, size);
    struct trail_scan first, again;
    struct trail_file f;
    trail_scan_text(text, &first);
    if (first.good > size || (first.good > 0 && data[first.good - 1] != '\n') || first.sources.n > TRAIL_SOURCES_MAX)
        abort();
    trail_scan_text(slice_head(text, (size_t)first.good), &again);
    if (again.good != first.good || again.lines != first.lines || again.last_seq != first.last_seq || again.damaged ||
        again.sources.n != first.sources.n)
        abort();
    (void)trail_file_parse(text, &f);
    return 0;
}
