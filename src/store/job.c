/* The loop's side of changes: admission, waiting, telling, accounts with work under way. See store_priv.h. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/secret.h"
#include "store/store_priv.h"

#define VISIBLE_WAIT_MS 60000 /* the index is never so far behind, unless the disk hangs */

/* ---- pending accounts ---- */

static struct slice pending_key(const struct ikey *k)
{
    return slice_of(k->b, k->n);
}

struct pending *pending_find(struct store *s, struct store_account a)
{
    struct ikey k = ikey_account(a);
    return map_get(&s->pending, pending_key(&k));
}

static struct pending *pending_ref(struct store *s, struct store_account a)
{
    struct pending *p = pending_find(s, a);
    if (p == NULL) {
        p = calloc(1, sizeof(*p));
        if (p == NULL)
            return NULL;
        p->key = ikey_account(a);
        if (map_put(&s->pending, pending_key(&p->key), p, NULL) != 0) {
            free(p);
            return NULL;
        }
    }
    p->refs++;
    return p;
}

static void pending_unref(struct store *s, struct pending *p, uint64_t charged)
{
    p->bytes -= charged;
    if (--p->refs > 0)
        return;
    (void)map_del(&s->pending, pending_key(&p->key));
    free(p);
}

/* ---- jobs ---- */

int job_new(struct store *s, unsigned type, struct job **ret)
{
    struct job *j = calloc(1, sizeof(*j));
    if (j == NULL)
        return -ENOMEM;
    j->s = s;
    j->h.type = (uint16_t)type;
    buf_init(&j->effects, JOURNAL_SEALED_MAX);
    fiber_queue_init(&j->wait);
    *ret = j;
    return 0;
}

/* It is under way no more: its accounts and its id are free of it. */
static void job_settle(struct job *j)
{
    struct store *s = j->s;
    for (size_t i = 0; i < j->n_touched; i++)
        pending_unref(s, j->touched[i], j->charged[i]);
    j->n_touched = 0;
    if (!id_is_zero(j->message) && map_get(&s->in_flight, MAP_KEY(j->message)) == j)
        (void)map_del(&s->in_flight, MAP_KEY(j->message));
}

static void job_free(struct job *j)
{
    job_settle(j);
    free(j->touched);
    free(j->charged);
    if (j->rcpts != NULL)
        secret_wipe(j->rcpts, j->n_rcpts * sizeof(*j->rcpts));
    free(j->rcpts);
    record_free(j);
    buf_done(&j->effects);
    apply_result_done(&j->result);
    free(j);
}

int job_touch(struct job *j, struct store_account a, uint64_t charge)
{
    struct pending **touched = realloc(j->touched, (j->n_touched + 1) * sizeof(struct pending *));
    if (touched != NULL)
        j->touched = touched;
    uint64_t *charged = realloc(j->charged, (j->n_touched + 1) * sizeof(*charged));
    if (charged != NULL)
        j->charged = charged;
    struct pending *p = touched != NULL && charged != NULL ? pending_ref(j->s, a) : NULL;
    if (p == NULL)
        return -ENOMEM;
    p->bytes += charge;
    j->touched[j->n_touched] = p;
    j->charged[j->n_touched++] = charge;
    return 0;
}

int job_admit(struct store *s, bool small, struct err *err)
{
    if (!s->started || s->stopping)
        return err_set(err, ERR_CLOSED, "the store is not serving");
    if (store_is_readonly(s))
        return err_set(err, ERR_READONLY, "the store is read-only after a failed write");
    if (!small && __atomic_load_n(&s->low_space, __ATOMIC_RELAXED)) {
        /* Ask again: space may have been freed, and the commit thread sees that only with the next change. */
        uint64_t left;
        if (s->disk->free_bytes(s->dir, &left) != 0 || left < s->o.reserve)
            return err_set(err, -ENOSPC, "the disk is nearly full");
    }
    if (s->jobs_n >= STORE_JOBS_MAX)
        return err_set(err, -EBUSY, "too many changes under way");
    return 0;
}

void job_post(struct job *j)
{
    struct store *s = j->s;
    s->jobs_n++;
    j->posted = true;
    (void)pthread_mutex_lock(&s->lock);
    list_add_tail(&s->prepare, &j->node);
    (void)pthread_cond_signal(&s->prepare_more);
    if (j->want_applied)
        s->apply_kick = true;
    (void)pthread_mutex_unlock(&s->lock);
}

int MAY_YIELD job_run(struct job *j, struct err *err)
{
    job_post(j);
    fiber_wait_uncancelled(&j->wait, &j->ready);
    if (j->rc != 0)
        return err_set(err, j->rc, "the change was not stored: %s", err_name(j->rc));
    if (j->want_applied && j->failed)
        return err_set(err, ERR_READONLY, "the change is stored, but cannot be read before the service is restarted");
    return 0;
}

static void leave(struct store *s)
{
    if (--s->jobs_n == 0)
        fiber_wake_all(&s->idle);
}

/* No thread has it any more. */
static void finish(struct job *j)
{
    j->finished = true;
    leave(j->s);
    job_settle(j);
    if (j->after != NULL)
        j->after(j);
}

/* Freed when both sides are done with it. */
static void maybe_free(struct job *j)
{
    if (j->abandoned && (j->finished || !j->posted))
        job_free(j);
}

void job_done(struct job *j)
{
    if (j == NULL)
        return;
    j->abandoned = true;
    maybe_free(j);
}

/* ---- coming back ---- */

static void wake(struct job *j)
{
    j->ready = true;
    fiber_wake_all(&j->wait);
}

static void tell_committed(struct store *s, struct job *j)
{
    for (size_t i = 0; i < j->n_touched; i++)
        if (j->touched[i]->sequence < j->h.sequence)
            j->touched[i]->sequence = j->h.sequence;
    if (j->h.event == 0)
        return;
    s->event_last = j->h.event;
    if (s->o.on_event != NULL)
        s->o.on_event(s->o.arg, j->h.event, j->event);
}

/* What the job points at belongs to the submitter, who may go from now on. */
static void on_committed(struct store *s, struct job *j)
{
    if (j->rc == 0)
        tell_committed(s, j);
    j->accept = NULL;
    j->event = SLICE_EMPTY;
    if (j->rc == 0 && j->want_applied)
        return;
    wake(j);
    if (j->rc == 0)
        return;
    finish(j);
    maybe_free(j);
}

static void tell_changes(struct store *s, const struct job *j)
{
    if (s->o.on_change == NULL || j->failed)
        return;
    for (size_t i = 0; i < j->result.n_places; i++) {
        const struct apply_place *p = &j->result.places[i];
        if (p->message != 0)
            s->o.on_change(s->o.arg, p->account, p->mailbox, p->modseq);
    }
    const struct j_change *c = &j->effect.change;
    struct store_account a = {(uint32_t)c->tenant, c->account};
    switch (j->h.type) {
    case JOURNAL_COPY:
    case JOURNAL_MOVE: s->o.on_change(s->o.arg, a, (uint32_t)c->to, j->result.modseq); __attribute__((fallthrough));
    case JOURNAL_EXPUNGE:
    case JOURNAL_FLAGS: s->o.on_change(s->o.arg, a, (uint32_t)c->mailbox, j->result.modseq); break;
    default: break;
    }
}

static void on_applied(struct store *s, struct job *j)
{
    tell_changes(s, j);
    finish(j);
    wake(j);
    maybe_free(j);
}

static void tell_alert(struct store *s)
{
    char name[sizeof(s->alert_name)], text[sizeof(s->alert_text)];
    (void)pthread_mutex_lock(&s->lock);
    memcpy(name, s->alert_name, sizeof(name));
    memcpy(text, s->alert_text, sizeof(text));
    s->alert_name[0] = '\0';
    (void)pthread_mutex_unlock(&s->lock);
    if (name[0] != '\0' && s->o.on_alert != NULL)
        s->o.on_alert(s->o.arg, name, text);
}

static void check_clock(struct store *s)
{
    int64_t now = clock_real_ms();
    if (now >= s->highest_ms) {
        s->highest_ms = now;
        s->clock_behind = false;
    } else if (now < s->highest_ms - 1000 && !s->clock_behind) {
        s->clock_behind = true;
        if (s->o.on_clock_step != NULL)
            s->o.on_clock_step(s->o.arg, s->highest_ms, now);
    }
}

void store_done(struct deferred *d)
{
    struct store *s = list_item(d, struct store, done_post);
    struct list committed = LIST_INIT(committed), applied = LIST_INIT(applied), *n;
    (void)pthread_mutex_lock(&s->lock);
    s->done_posted = false;
    while ((n = list_pop(&s->done_committed)) != NULL)
        list_add_tail(&committed, n);
    while ((n = list_pop(&s->done_applied)) != NULL)
        list_add_tail(&applied, n);
    (void)pthread_mutex_unlock(&s->lock);
    check_clock(s);
    while ((n = list_pop(&committed)) != NULL)
        on_committed(s, list_item(n, struct job, committed_node));
    while ((n = list_pop(&applied)) != NULL)
        on_applied(s, list_item(n, struct job, applied_node));
    fiber_wake_all(&s->applied_queue);
    tell_alert(s);
}

void store_post_done(struct store *s)
{
    if (s->done_posted)
        return;
    s->done_posted = true;
    loop_post(&s->done_post, store_done);
}

void store_alert(struct store *s, const char *name, const char *text)
{
    (void)pthread_mutex_lock(&s->lock);
    (void)snprintf(s->alert_name, sizeof(s->alert_name), "%s", name);
    (void)snprintf(s->alert_text, sizeof(s->alert_text), "%s", text);
    store_post_done(s);
    (void)pthread_mutex_unlock(&s->lock);
}

void store_fail(struct store *s, const char *alert, const char *text, int rc)
{
    char sentence[400];
    __atomic_store_n(&s->readonly, true, __ATOMIC_RELEASE);
    (void)snprintf(sentence, sizeof(sentence), "%s (%s)", text, err_name(rc));
    store_alert(s, alert, sentence);
}

bool store_is_readonly(const struct store *s)
{
    return __atomic_load_n(&s->readonly, __ATOMIC_ACQUIRE);
}

/* ---- seeing what was committed ---- */

void store_kick(struct store *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->apply_kick = true;
    (void)pthread_cond_signal(&s->apply_more);
    (void)pthread_mutex_unlock(&s->lock);
}

int MAY_YIELD store_visible(struct store *s, struct store_account a)
{
    struct pending *p = pending_find(s, a);
    if (!s->started)
        return ERR_CLOSED;
    if (p == NULL)
        return 0;
    uint64_t target = p->sequence;
    int64_t deadline = clock_deadline(VISIBLE_WAIT_MS);
    while (__atomic_load_n(&s->applied, __ATOMIC_ACQUIRE) < target) {
        if (__atomic_load_n(&s->apply_stopped, __ATOMIC_ACQUIRE))
            return ERR_READONLY;
        store_kick(s);
        int rc = fiber_wait(&s->applied_queue, deadline);
        if (rc != 0)
            return rc;
    }
    return 0;
}

void jobs_drop(struct store *s)
{
    struct list *lists[] = {&s->prepare, &s->commit, &s->apply}, *n;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        while ((n = list_pop(lists[i])) != NULL) {
            struct job *j = list_item(n, struct job, node);
            list_del(&j->committed_node);
            job_free(j);
        }
    while ((n = list_pop(&s->done_applied)) != NULL) {
        struct job *j = list_item(n, struct job, applied_node);
        list_del(&j->committed_node);
        job_free(j);
    }
    while ((n = list_pop(&s->done_committed)) != NULL)
        job_free(list_item(n, struct job, committed_node));
}
