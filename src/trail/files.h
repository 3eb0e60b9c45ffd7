/* files.h: the files of the trail and what is known of them after a crash.
 *
 * A file is named <yyyymmdd>-<number>.jsonl; numbers go up by one for ever and order the files (days may step back, numbers do not). The
 * first line of each is the event trail.begun, which repeats what recovery must know of all files before: the last sequence of each
 * source. So only the last file is read at start. */
#ifndef KK_TRAIL_FILES_H
#define KK_TRAIL_FILES_H

#include "base/arena.h"
#include "base/err.h"
#include "trail/line.h"

#define TRAIL_SOURCES_MAX 8
#define TRAIL_FILES_MAX 1000000
#define TRAIL_BATCH_MAX (8 * 1024 * 1024) /* bytes written and synced together: what a crash can tear */
#define TRAIL_NAME_SIZE 48

struct trail_file {
    uint64_t number;
    uint32_t day; /* yyyymmdd */
};
void trail_file_name(const struct trail_file *f, char ret[TRAIL_NAME_SIZE]);
bool trail_file_parse(struct slice name, struct trail_file *ret);
/* All files of the directory in order; allocated in the arena. */
int trail_files_list(int dir, struct arena *arena, struct trail_file **ret, size_t *ret_n, struct err *err);

struct trail_sources {
    size_t n;
    struct trail_origin last[TRAIL_SOURCES_MAX]; /* of each source, the last event written */
};
/* NULL: nothing yet. */
struct trail_origin *trail_sources_find(struct trail_sources *s, struct slice source);
/* False when there is no room for another. */
bool trail_sources_put(struct trail_sources *s, const struct trail_origin *o);

/* What a file's text says. */
struct trail_scan {
    uint64_t good;        /* bytes of whole lines from the start */
    uint64_t lines;
    uint64_t last_seq;
    int64_t highest_ms;
    struct trail_sources sources;
    bool damaged;         /* what follows `good` is more than a crash can have torn */
};
/* Reads lines until one that is none of ours, or whose number does not follow. Never fails; any bytes will do. */
void trail_scan_text(struct slice text, struct trail_scan *ret);

/* Scans a file and, when its tail is torn, cuts it off (kept beside it as <name>.cut when it held more than the start of one line). */
int trail_file_recover(int dir, int fd, const struct trail_file *f, struct trail_scan *ret, struct err *err);

#endif
