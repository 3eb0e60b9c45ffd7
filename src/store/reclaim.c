/* Reclaiming space: mark and sweep of segments that are mostly garbage. See store.h and docs/STORE.md section 8. */
#include <stdlib.h>
#include <unistd.h>

#include "store/store_priv.h"

/* Is the segment below the mark and without a row: swept? ret_last_event: the last event that may stand in it. */
static int is_swept(struct store *s, const struct segment_info *g, bool *ret, uint64_t *ret_last_event)
{
    struct ikey k = ikey_segment(g->id);
    struct segment_info next;
    struct apply a;
    struct slice v;
    MDB_txn *t;
    *ret = false;
    int rc = index_read_begin(s->x, &t);
    if (rc != 0)
        return rc;
    rc = apply_begin(&a, s->x, t);
    if (rc == 0 && g->id < a.mark.segment && segments_next(s, g->id, &next)) {
        int found = index_get(s->x, t, INDEX_SEGMENTS, &k, &v);
        *ret = found == -ENOENT;
        *ret_last_event = next.first_event - 1;
        rc = found == -ENOENT ? 0 : found;
    }
    index_read_end(s->x, t);
    return rc;
}

int store_unlink_swept(struct store *s, uint64_t *ret_freed)
{
    struct segment_info g = {0};
    char name[SEGMENT_NAME_SIZE];
    bool swept, synced = false;
    uint64_t last_event = 0;
    *ret_freed = 0;
    while (segments_next(s, g.id, &g)) {
        int rc = is_swept(s, &g, &swept, &last_event);
        if (rc != 0)
            return rc;
        (void)pthread_mutex_lock(&s->lock);
        bool told = last_event <= s->outbox_kept;
        (void)pthread_mutex_unlock(&s->lock);
        if (!swept || !told)
            continue;
        /* The sweep must not be undone by a power failure once the file is gone. */
        if (!synced && (rc = index_sync(s->x)) != 0)
            return rc;
        synced = true;
        segment_name(g.id, name);
        rc = s->disk->unlink(s->seg_dir, name);
        if (rc != 0 && rc != -ENOENT)
            return rc;
        segments_remove(s, g.id);
        *ret_freed += g.size;
    }
    return 0;
}
