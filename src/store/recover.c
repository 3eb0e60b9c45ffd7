/* Recovery: replays what the index has not seen, cuts the torn tail, or finds that more than a tail is damaged. Runs once, before the
 * threads get work. See docs/STORE.md section 5. Its cost: the records that the index was behind (at most STORE_LAG_MAX) and one
 * look over the last segment. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "store/store_priv.h"

struct recovery {
    struct store *s;
    struct seal *seal;
    struct buf scratch;
    struct arena arena;
    struct index_mark mark;
    uint64_t records;
};

/* What the page cache says after a failed sync is not what the disk has: let it go, and read the disk. */
static void forget_cache(int fd, uint64_t from)
{
    (void)fdatasync(fd);
    (void)posix_fadvise(fd, (off_t)(from & ~(uint64_t)4095), 0, POSIX_FADV_DONTNEED);
}

static int replay_record(struct recovery *r, struct apply *a, int fd, uint64_t segment, const struct journal_header *h,
                         const struct journal_position *at)
{
    union journal_effect e;
    struct apply_result result = {0};
    int rc = journal_read(fd, h, at, r->seal, r->s->journal_key, &r->scratch, &r->arena, &e);
    if (rc == 0)
        rc = apply_record(a, segment, at, h, &e, &result);
    apply_result_done(&result);
    arena_reset(&r->arena);
    return rc;
}

/* One transaction's worth of a segment. ERR_CLOSED: all that reads well has been applied; *ret_c stands behind it and *ret_tail says
 * how it ended (0 END or zeros, ERR_CORRUPT). */
static int replay_some(struct recovery *r, struct journal_cursor *c, uint64_t segment, int *ret_tail)
{
    struct store *s = r->s;
    struct journal_header h;
    struct journal_position at;
    struct apply a;
    MDB_txn *t;
    struct journal_cursor start = *c;
    int end = 0, rc = index_write_begin(s->x, &t);
    if (rc != 0)
        return rc;
    rc = apply_begin(&a, s->x, t);
    for (size_t n = 0; rc == 0 && end == 0 && n < STORE_APPLY_RECORDS; n++) {
        end = journal_next(c, true, &h, &at);
        if (end == 0)
            rc = replay_record(r, &a, c->fd, segment, &h, &at);
        else if (end != ERR_CLOSED && end != ERR_CORRUPT)
            rc = end;
    }
    if (rc == 0)
        rc = apply_end(&a);
    if (rc == 0)
        rc = index_write_commit(s->x, t);
    else
        index_write_abort(s->x, t);
    if (rc == INDEX_MAP_FULL) {
        *c = start;
        return index_grow(s->x);
    }
    if (rc != 0)
        return rc;
    r->records += a.mark.sequence - r->mark.sequence;
    r->mark = a.mark;
    *ret_tail = end == ERR_CLOSED ? 0 : end;
    return end != 0 ? ERR_CLOSED : 0;
}

/* Behind the last readable record of the last segment. */
static int settle_tail(struct recovery *r, const struct journal_cursor *c, const struct segment_info *g, int tail, struct err *err)
{
    struct store *s = r->s;
    char name[SEGMENT_NAME_SIZE];
    int fd, found = journal_scan_tail(c, c->expect);
    segment_name(g->id, name);
    if (found < 0)
        return err_set(err, found, "cannot read segment %s", name);
    if (found == JOURNAL_TAIL_DAMAGED)
        return err_set(err, ERR_CORRUPT, "segment %s: record %llu at %llu was acknowledged and is damaged; restore it from a backup, "
                       "or see docs/STORE.md section 8", name, (unsigned long long)c->expect, (unsigned long long)c->offset);
    int rc = s->disk->open(s->seg_dir, name, O_RDWR, 0, &fd);
    if (rc != 0)
        return err_set(err, rc, "cannot open segment %s for writing", name);
    s->seg.id = g->id;
    s->seg.offset = c->offset;
    s->seg.size = c->end;
    s->seg.fd = fd;
    if (found == JOURNAL_TAIL_CLEAN)
        return 0;
    /* Something stands there: an END record that was written before the next segment was made, or a torn tail. Either way nothing more
     * goes into this segment, so that what is torn can never be taken for a record again. */
    if (tail == ERR_CORRUPT)
        log_warning("store.tail_cut", L_STR("segment", name), L_INT("offset", c->offset));
    if (c->end - c->offset >= JOURNAL_HEADER + JOURNAL_TRAILER)
        rc = segment_write_end(s, fd, c->offset, c->expect);
    (void)close(fd);
    s->seg.fd = -1;
    return rc == 0 ? 0 : err_set(err, rc, "cannot end segment %s", name);
}

static int replay_segment(struct recovery *r, const struct segment_info *g, bool last, struct err *err)
{
    struct store *s = r->s;
    struct journal_segment header;
    char name[SEGMENT_NAME_SIZE];
    int fd, tail = 0, rc = segment_open(s, g->id, &fd, &header);
    segment_name(g->id, name);
    if (rc != 0)
        return err_set(err, rc, "cannot read segment %s", name);
    bool begun = r->mark.segment == g->id;
    struct journal_cursor c = {
        .fd = fd,
        .offset = begun ? r->mark.offset : JOURNAL_SEGMENT_HEADER,
        .end = header.size,
        .expect = r->mark.sequence + 1,
    };
    if (!begun && header.first_sequence != c.expect)
        rc = err_set(err, ERR_CORRUPT, "segment %s begins with record %llu, but %llu is the next: a segment is missing", name,
                     (unsigned long long)header.first_sequence, (unsigned long long)c.expect);
    if (rc == 0 && last)
        forget_cache(fd, c.offset);
    while (rc == 0)
        rc = replay_some(r, &c, g->id, &tail);
    if (rc == ERR_CLOSED)
        rc = last ? settle_tail(r, &c, g, tail, err)
                  : tail == 0 ? 0 : err_set(err, ERR_CORRUPT, "segment %s: record %llu at %llu was acknowledged and is damaged", name,
                                            (unsigned long long)c.expect, (unsigned long long)c.offset);
    else if (rc != ERR_CORRUPT || err == NULL || err->code == 0)
        rc = err_set(err, rc, "segment %s: record %llu cannot be applied (%s)", name, (unsigned long long)c.expect, err_name(rc));
    (void)close(fd);
    return rc;
}

static int replay_all(struct recovery *r, struct err *err)
{
    struct store *s = r->s;
    struct segment_info g, next;
    uint64_t id = r->mark.segment != 0 ? r->mark.segment - 1 : 0;
    int rc = 0;
    if (r->mark.segment != 0 && !segments_get(s, r->mark.segment, &g) && segments_next(s, 0, &g) && g.id < r->mark.segment)
        return err_set(err, ERR_CORRUPT, "the last segment that the index knows is missing");
    if (r->mark.segment != 0 && !segments_next(s, id, &g))
        return err_set(err, ERR_CORRUPT, "the index has records, but their segments are missing");
    while (rc == 0 && segments_next(s, id, &g)) {
        if (id != 0 && r->mark.segment != 0 && g.id != id + 1)
            return err_set(err, ERR_CORRUPT, "segment %016llx is missing", (unsigned long long)(id + 1));
        id = g.id;
        rc = replay_segment(r, &g, !segments_next(s, id, &next), err);
    }
    return rc;
}

static int read_mark(struct recovery *r, uint64_t *ret_ack)
{
    struct ikey ack = ikey_name("outbox");
    struct apply a;
    MDB_txn *t;
    int rc = index_read_begin(r->s->x, &t);
    if (rc != 0)
        return rc;
    rc = apply_begin(&a, r->s->x, t);
    r->mark = a.mark;
    if (rc == 0)
        rc = index_row(r->s->x, t, INDEX_META, &ack, ret_ack, sizeof(*ret_ack), NULL);
    index_read_end(r->s->x, t);
    return rc == -ENOENT ? 0 : rc;
}

int recover(struct store *s, struct err *err)
{
    struct recovery r = {.s = s};
    struct err own = {0};
    uint64_t ack = 0;
    int rc = seal_new(&r.seal);
    if (rc != 0)
        return rc;
    buf_init(&r.scratch, JOURNAL_SEALED_MAX + SEAL_TAG);
    arena_init(&r.arena, 2 * JOURNAL_SEALED_MAX);
    s->seg.fd = -1;
    rc = read_mark(&r, &ack);
    if (rc == 0)
        rc = replay_all(&r, &own);
    if (rc == 0 && (rc = index_sync(s->x)) != 0)
        (void)err_set(&own, rc, "cannot sync the index");
    if (rc != 0)
        (void)err_set(err, rc, "%s", own.text[0] != '\0' ? own.text : "cannot read the index");
    if (rc == 0) {
        s->sequence = s->durable = s->applied = r.mark.sequence;
        s->event = s->event_last = r.mark.event;
        s->highest_ms = r.mark.highest_ms;
        s->outbox_ack = s->outbox_kept = ack;
        log_info("store.recovered", L_INT("sequence", s->sequence), L_INT("replayed", r.records));
    }
    buf_done(&r.scratch);
    arena_done(&r.arena);
    seal_free(r.seal);
    return rc;
}
