/* Blocking jobs on threads: see worker.h. */
#include "io/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/clock.h"
#include "io/loop.h"

struct job {
    struct list node;
    struct deferred back;
    void (*fn)(void *arg);
    void *arg;
    struct fiber_queue done_queue;
    bool done;
};

struct worker_pool {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct list jobs;
    size_t queued, queue_max;
    unsigned n_threads;
    bool stop;
    pthread_t threads[];
};

static void job_back(struct deferred *d)
{
    struct job *j = list_item(d, struct job, back);
    j->done = true;
    fiber_wake_all(&j->done_queue);
}

static void *thread_main(void *arg)
{
    struct worker_pool *p = arg;
    (void)pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->stop && list_empty(&p->jobs))
            (void)pthread_cond_wait(&p->more, &p->lock);
        struct list *n = list_pop(&p->jobs);
        if (n == NULL)
            break;
        p->queued--;
        (void)pthread_mutex_unlock(&p->lock);
        struct job *j = list_item(n, struct job, node);
        j->fn(j->arg);
        loop_post(&j->back, job_back);
        (void)pthread_mutex_lock(&p->lock);
    }
    (void)pthread_mutex_unlock(&p->lock);
    return NULL;
}

int worker_pool_new(const char *name, unsigned threads, size_t queue_max, struct worker_pool **ret)
{
    struct worker_pool *p = calloc(1, sizeof(*p) + threads * sizeof(p->threads[0]));
    sigset_t all, old;
    if (p == NULL)
        return -ENOMEM;
    list_init(&p->jobs);
    p->queue_max = queue_max;
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->more, NULL);
    /* Signals are the loop's business. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    while (p->n_threads < threads) {
        if (pthread_create(&p->threads[p->n_threads], NULL, thread_main, p) != 0)
            break;
        (void)pthread_setname_np(p->threads[p->n_threads], name);
        p->n_threads++;
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (p->n_threads < threads) {
        worker_pool_free(p);
        return -EAGAIN;
    }
    *ret = p;
    return 0;
}

void worker_pool_free(struct worker_pool *p)
{
    if (p == NULL)
        return;
    (void)pthread_mutex_lock(&p->lock);
    p->stop = true;
    (void)pthread_cond_broadcast(&p->more);
    (void)pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->n_threads; i++)
        (void)pthread_join(p->threads[i], NULL);
    (void)pthread_mutex_destroy(&p->lock);
    (void)pthread_cond_destroy(&p->more);
    free(p);
}

int worker_run(struct worker_pool *p, void (*fn)(void *arg), void *arg)
{
    struct job j = {.fn = fn, .arg = arg};
    fiber_queue_init(&j.done_queue);
    (void)pthread_mutex_lock(&p->lock);
    bool full = p->queued >= p->queue_max;
    if (!full) {
        p->queued++;
        list_add_tail(&p->jobs, &j.node);
        (void)pthread_cond_signal(&p->more);
    }
    (void)pthread_mutex_unlock(&p->lock);
    if (full)
        return -EBUSY;
    fiber_wait_uncancelled(&j.done_queue, &j.done);
    return 0;
}
