/* The commit thread: everything that waits goes to disk with one write and one sync. That is the commit point. See store_priv.h and
 * docs/STORE.md section 5.
 *
 * A failed write or sync is never retried: the kernel may have dropped the pages, so a second sync that succeeds would prove nothing.
 * The store then takes no more changes until the process starts anew and reads what the disk really has. */
#include <limits.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/store_priv.h"

#define IOV_AT_ONCE 256 /* below IOV_MAX */

static void finish_group(struct store *s, struct list *group, int rc)
{
    uint64_t room = 0, n = 0;
    for (struct list *l = group->next; l != group; l = l->next) {
        struct job *j = list_item(l, struct job, node);
        record_free(j);
        room += j->prepared;
        n++;
    }
    if (rc == 0) {
        __atomic_add_fetch(&s->commits, n, __ATOMIC_RELAXED);
        __atomic_add_fetch(&s->groups, 1, __ATOMIC_RELAXED);
    }
    (void)pthread_mutex_lock(&s->lock);
    while (!list_empty(group)) {
        struct job *j = list_item(list_pop(group), struct job, node);
        j->rc = rc;
        j->failed = rc != 0;
        list_add_tail(&s->done_committed, &j->committed_node);
        if (rc == 0) {
            list_add_tail(&s->apply, &j->node);
            s->apply_n++;
        }
    }
    s->prepared_bytes -= room;
    (void)pthread_cond_broadcast(&s->room);
    (void)pthread_cond_signal(&s->apply_more);
    store_post_done(s);
    (void)pthread_mutex_unlock(&s->lock);
}

static void number_record(struct store *s, struct job *j, uint64_t offset)
{
    j->h.sequence = ++s->sequence;
    j->h.durable = s->durable;
    j->h.event = j->event.n > 0 ? ++s->event : 0;
    j->segment = s->seg.id;
    j->at = (struct journal_position){
        .offset = offset,
        .body_offset = offset + JOURNAL_HEADER,
        .sealed_offset = offset + JOURNAL_HEADER + j->h.body_n,
        .next = offset + j->size,
    };
    record_finish(j);
}

/* Writes the group behind the segment's end. */
static int write_group(struct store *s, struct list *group)
{
    struct iovec iov[IOV_AT_ONCE];
    uint64_t at = s->seg.offset, from = at;
    int n = 0, rc = 0;
    for (struct list *l = group->next; l != group && rc == 0; l = l->next) {
        struct job *j = list_item(l, struct job, node);
        number_record(s, j, at);
        at += j->size;
        for (int i = 0; i < j->n_iov && rc == 0; i++) {
            iov[n++] = j->iov[i];
            if (n == IOV_AT_ONCE) {
                uint64_t bytes = 0;
                for (int k = 0; k < n; k++)
                    bytes += iov[k].iov_len;
                rc = s->disk->write(s->seg.fd, iov, n, from);
                from += bytes;
                n = 0;
            }
        }
    }
    if (rc == 0 && n > 0)
        rc = s->disk->write(s->seg.fd, iov, n, from);
    if (rc == 0)
        rc = s->disk->datasync(s->seg.fd);
    __atomic_add_fetch(&s->syncs, 1, __ATOMIC_RELAXED);
    if (rc == 0) {
        s->seg.offset = at;
        s->durable = s->sequence;
    }
    return rc;
}

static void commit_group(struct store *s, struct list *group)
{
    if (list_empty(group))
        return;
    int rc = store_is_readonly(s) ? ERR_READONLY : write_group(s, group);
    if (rc != 0 && rc != ERR_READONLY)
        store_fail(s, "store.readonly", "writing the journal failed; no mail is accepted until the service is restarted", rc);
    finish_group(s, group, rc);
}

/* Ends the segment and begins the next. -ENOSPC: no room, nothing changed but that the old one has ended. */
static int roll(struct store *s, uint64_t need, bool small)
{
    int fd, rc = 0;
    uint64_t size;
    if (s->seg.fd >= 0) {
        rc = segment_write_end(s, s->seg.fd, s->seg.offset, s->sequence + 1);
        (void)close(s->seg.fd);
        s->seg.fd = -1;
        s->durable = s->sequence;
        if (rc != 0)
            return rc == -ENOSPC ? -EIO : rc; /* within preallocated space: the disk is broken, not full */
    }
    rc = segment_create(s, s->seg.id + 1, need, small, &fd, &size);
    if (rc == 0) {
        s->seg.fd = fd;
        s->seg.id++;
        s->seg.offset = JOURNAL_SEGMENT_HEADER;
        s->seg.size = size;
    }
    return rc;
}

/* Is there room for bytes more, and an END record, in the segment? */
static bool fits(const struct store *s, uint64_t bytes)
{
    return s->seg.fd >= 0 && s->seg.offset + bytes + JOURNAL_HEADER + JOURNAL_TRAILER <= s->seg.size;
}

static void check_space(struct store *s)
{
    uint64_t left;
    bool low = s->disk->free_bytes(s->dir, &left) == 0 && left < s->o.reserve;
    if (low && !__atomic_load_n(&s->low_space, __ATOMIC_RELAXED))
        store_alert(s, "store.full", "free disk space is below store.reserve; new mail is put off");
    __atomic_store_n(&s->low_space, low, __ATOMIC_RELAXED);
    if (!low && !__atomic_load_n(&s->ballast, __ATOMIC_SEQ_CST))
        ballast_make(s);
}

/* One job into the group, committing it first when the segment is full. A job that cannot be placed fails alone. */
static void place_job(struct store *s, struct job *j, struct list *group, uint64_t *group_bytes)
{
    int rc = store_is_readonly(s) ? ERR_READONLY : 0;
    if (rc == 0 && !fits(s, *group_bytes + j->size)) {
        commit_group(s, group);
        *group_bytes = 0;
        rc = store_is_readonly(s) ? ERR_READONLY : 0;
        if (rc == 0 && !fits(s, j->size))
            rc = roll(s, j->size, j->may_fill);
        if (rc != 0 && rc != -ENOSPC && rc != -ENOMEM && rc != ERR_READONLY)
            store_fail(s, "store.readonly", "beginning a new segment failed; no mail is accepted until the service is restarted", rc);
        else if (rc == -ENOSPC)
            check_space(s);
    }
    if (rc != 0) {
        struct list alone = LIST_INIT(alone);
        list_add_tail(&alone, &j->node);
        finish_group(s, &alone, rc);
        return;
    }
    list_add_tail(group, &j->node);
    *group_bytes += j->size;
}

/* With the lock held: everything that waits, up to the limits of a group. false: quit. */
static bool take_group(struct store *s, struct list *taken)
{
    uint64_t bytes = 0;
    size_t n = 0;
    while (!s->quit && (list_empty(&s->commit) || (s->apply_n >= STORE_LAG_MAX && !s->apply_stopped)))
        (void)pthread_cond_wait(&s->commit_more, &s->lock);
    if (s->quit)
        return false;
    while (!list_empty(&s->commit) && n < STORE_GROUP_RECORDS && bytes < STORE_GROUP_BYTES) {
        struct job *j = list_item(list_pop(&s->commit), struct job, node);
        list_add_tail(taken, &j->node);
        bytes += j->size;
        n++;
    }
    s->commit_n -= n;
    return true;
}

void *commit_main(void *store)
{
    struct store *s = store;
    struct list taken = LIST_INIT(taken), group = LIST_INIT(group);
    (void)pthread_mutex_lock(&s->lock);
    while (take_group(s, &taken)) {
        (void)pthread_mutex_unlock(&s->lock);
        uint64_t bytes = 0;
        while (!list_empty(&taken))
            place_job(s, list_item(list_pop(&taken), struct job, node), &group, &bytes);
        commit_group(s, &group);
        check_space(s);
        (void)pthread_mutex_lock(&s->lock);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return NULL;
}
