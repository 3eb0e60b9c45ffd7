/* The applying thread: effects of committed records into the index, many records a transaction. See store_priv.h. */
#include <errno.h>
#include <time.h>

#include "store/store_priv.h"

static const char ack_name[] = "outbox";

static int apply_job(struct apply *a, struct job *j, struct arena *arena)
{
    union journal_effect e;
    int rc = journal_decode(&j->h, buf_slice(&j->effects), arena, &e);
    apply_result_done(&j->result); /* of an attempt before the map grew */
    return rc == 0 ? apply_record(a, j->segment, &j->at, &j->h, &e, &j->result) : rc;
}

static int put_ack(struct apply *a, uint64_t ack)
{
    struct ikey k = ikey_name(ack_name);
    return index_put(a->x, a->t, INDEX_META, &k, &ack, sizeof(ack), SLICE_EMPTY);
}

static int apply_once(struct store *s, struct list *jobs, uint64_t ack)
{
    struct apply a;
    MDB_txn *t;
    struct arena arena;
    int rc = index_write_begin(s->x, &t);
    if (rc != 0)
        return rc;
    arena_init(&arena, 2 * JOURNAL_SEALED_MAX);
    rc = apply_begin(&a, s->x, t);
    for (struct list *l = jobs->next; l != jobs && rc == 0; l = l->next) {
        rc = apply_job(&a, list_item(l, struct job, node), &arena);
        arena_reset(&arena);
    }
    if (rc == 0)
        rc = put_ack(&a, ack);
    if (rc == 0)
        rc = apply_end(&a);
    if (rc == 0)
        rc = index_write_commit(s->x, t);
    else
        index_write_abort(s->x, t);
    arena_done(&arena);
    return rc;
}

static int wait_for_memory(struct store *s)
{
    static const struct timespec while_others_free = {0, 50000000};
    (void)nanosleep(&while_others_free, NULL);
    (void)pthread_mutex_lock(&s->lock);
    bool quit = s->quit;
    (void)pthread_mutex_unlock(&s->lock);
    return quit ? -ENOMEM : 0;
}

static int apply_jobs(struct store *s, struct list *jobs, uint64_t ack)
{
    uint64_t left;
    /* The index needs pages of its own: on a full disk the ballast gives them, before a write fails. */
    if (s->disk->free_bytes(s->dir, &left) == 0 && left < STORE_BALLAST / 2)
        (void)ballast_drop(s);
    for (;;) {
        int rc = apply_once(s, jobs, ack);
        /* In both cases the transaction came to nothing before anything was written. */
        if (rc == INDEX_MAP_FULL)
            rc = index_grow(s->x);
        else if (rc == -ENOMEM)
            rc = wait_for_memory(s);
        else
            return rc;
        if (rc != 0)
            return rc;
    }
}

static void finish(struct store *s, struct list *jobs, int rc)
{
    uint64_t last = 0;
    (void)pthread_mutex_lock(&s->lock);
    while (!list_empty(jobs)) {
        struct job *j = list_item(list_pop(jobs), struct job, node);
        if (rc == 0)
            last = j->h.sequence;
        else
            j->failed = true;
        s->apply_n--;
        list_add_tail(&s->done_applied, &j->applied_node);
    }
    if (last != 0)
        __atomic_store_n(&s->applied, last, __ATOMIC_RELEASE);
    store_post_done(s);
    (void)pthread_cond_signal(&s->commit_more);
    (void)pthread_mutex_unlock(&s->lock);
}

/* With the lock held. Lets more come together unless somebody waits for the index. */
static void linger(struct store *s)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(s->o.apply_delay_ms % 1000) * 1000000;
    until.tv_sec += (time_t)(s->o.apply_delay_ms / 1000) + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (!s->quit && !s->apply_kick && s->apply_n < STORE_APPLY_RECORDS)
        if (pthread_cond_timedwait(&s->apply_more, &s->lock, &until) == ETIMEDOUT)
            break;
}

static bool take_jobs(struct store *s, struct list *taken, uint64_t *ret_ack)
{
    while (!s->quit && list_empty(&s->apply) && !(s->apply_kick && s->outbox_ack != s->outbox_kept))
        (void)pthread_cond_wait(&s->apply_more, &s->lock);
    linger(s);
    if (s->quit)
        return false;
    s->apply_kick = false;
    for (size_t n = 0; !list_empty(&s->apply) && n < STORE_APPLY_RECORDS; n++) {
        struct list *l = list_pop(&s->apply);
        list_add_tail(taken, l);
    }
    *ret_ack = s->outbox_ack;
    return true;
}

void *apply_main(void *store)
{
    struct store *s = store;
    struct list taken = LIST_INIT(taken);
    uint64_t ack = 0;
    (void)pthread_mutex_lock(&s->lock);
    while (take_jobs(s, &taken, &ack)) {
        (void)pthread_mutex_unlock(&s->lock);
        int rc = s->apply_stopped ? ERR_READONLY : apply_jobs(s, &taken, ack);
        if (rc != 0 && !s->apply_stopped) {
            /* Not retried either: a sync of the index may have failed. What is committed is applied at the next start. */
            __atomic_store_n(&s->apply_stopped, true, __ATOMIC_RELEASE);
            store_fail(s, "store.readonly", "writing the index failed; no mail is accepted until the service is restarted", rc);
        }
        finish(s, &taken, rc);
        (void)pthread_mutex_lock(&s->lock);
        if (rc == 0)
            s->outbox_kept = ack;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return NULL;
}
