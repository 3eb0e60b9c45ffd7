/* reader.h: reads the trail page by page, for `kakitome trail`. Blocks: on a thread. Sees only what is durable.
 *
 * A cursor names a place in all files: 0 the beginning, TRAIL_CURSOR_END what comes from now on, others come from a page before. It stays
 * right when old files are removed. */
#ifndef KK_TRAIL_READER_H
#define KK_TRAIL_READER_H

#include "trail/files.h"
#include "trail/query.h"

#define TRAIL_CURSOR_END UINT64_MAX
#define TRAIL_PAGE_SCAN (16 * 1024 * 1024) /* bytes looked at for one page, whether they match or not */

struct trail_page {
    int dir;
    struct trail_file end;  /* of the durable trail (trail_writer_end) */
    uint64_t end_size;
    const struct trail_query *query; /* NULL: everything */
    uint64_t cursor;        /* in: where from; out: where to go on */
    size_t max_bytes;       /* stop when there are so many (at least one line, if there is one) */
    struct buf *lines;      /* out: the lines that match, each with its end */
    bool at_end;            /* out: there is nothing after cursor now */
};
int trail_read_page(struct trail_page *p, struct err *err);

#endif
