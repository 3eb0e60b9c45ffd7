/* Fibers: see fiber.h. This is the only file that knows how a stack is switched.
 *
 * A stack is started afresh with makecontext for each use and then switched with sigsetjmp/siglongjmp without the signal
 * mask, as QEMU's coroutine-ucontext.c does. The stack's lowest page is a guard. _FORTIFY_SOURCE must be off here: its
 * longjmp check takes a jump to another stack for an attack (see meson.build). */
#include "io/fiber.h"

#include <errno.h>
#include <setjmp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/loop.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef KK_VALGRIND
#include <valgrind/valgrind.h>
#endif

#define PAGE 4096
#define KEEP_STACKS 256      /* free stacks whose pages stay resident */
#define BREATHE_MS 4         /* how long a fiber may run before fiber_breathe gives way */
#define TRIM_EVERY_MS 4000   /* how often the unused pages of long-waiting fibers are given back */
#define PAINT 0xa5

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

struct fiber {
    struct list ready;   /* in run queue */
    struct list waiting; /* in a fiber_queue */
    struct list all;
    struct timer timer;
    char *stack; /* FIBER_STACK bytes, the lowest page a guard; NULL: not yet run */
    char *sp;    /* about where it is suspended */
    fiber_fn *fn;
    void *arg;
    const char *name;
    sigjmp_buf env;
    int wake_code;
    int64_t since; /* suspended since */
    bool started, cancelled, suspended, trimmed;
#ifdef WITH_ASAN
    void *fake_stack;
#endif
#ifdef KK_VALGRIND
    unsigned valgrind_id;
#endif
};

struct free_stack {
    struct free_stack *next;
};

static struct {
    struct fiber *running;
    struct list ready, all;
    struct deferred run;
    sigjmp_buf loop_env;
    struct free_stack *free_stacks; /* the header lies at the top of the free stack itself */
    size_t n_free, count, peak;
    int64_t resumed_at;
    struct timer trim_timer;
    bool inited;
#ifdef WITH_ASAN
    void *loop_fake_stack;
    const void *loop_bottom;
    size_t loop_size;
#endif
} fibers;

static void init_once(void)
{
    if (fibers.inited)
        return;
    list_init(&fibers.ready);
    list_init(&fibers.all);
    fibers.inited = true;
}

static char *stack_map(void)
{
    char *p = mmap(NULL, FIBER_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    /* A guard by madvise costs no mapping; older kernels (before 6.13) split the mapping instead. */
    if (madvise(p, PAGE, MADV_GUARD_INSTALL) != 0 && mprotect(p, PAGE, PROT_NONE) != 0) {
        (void)munmap(p, FIBER_STACK);
        return NULL;
    }
    return p;
}

static char *stack_get(void)
{
    char *p;
    if (fibers.free_stacks != NULL) {
        struct free_stack *f = fibers.free_stacks;
        fibers.free_stacks = f->next;
        fibers.n_free--;
        p = (char *)f + sizeof(*f) - FIBER_STACK;
    } else {
        p = stack_map();
    }
#ifdef KK_DEBUG
    if (p != NULL)
        memset(p + PAGE, PAINT, FIBER_STACK - PAGE);
#endif
    return p;
}

static void measure_peak(const char *stack)
{
#ifdef KK_DEBUG
    size_t i = PAGE;
    while (i < FIBER_STACK && (unsigned char)stack[i] == PAINT)
        i++;
    if (FIBER_STACK - i > fibers.peak)
        fibers.peak = FIBER_STACK - i;
#else
    (void)stack;
#endif
}

static void stack_put(char *stack)
{
#ifdef WITH_ASAN
    __asan_unpoison_memory_region(stack + PAGE, FIBER_STACK - PAGE);
#endif
    measure_peak(stack);
    if (fibers.n_free >= KEEP_STACKS)
        (void)madvise(stack + PAGE, FIBER_STACK - PAGE, MADV_DONTNEED);
    struct free_stack *f = (struct free_stack *)(void *)(stack + FIBER_STACK - sizeof(*f));
    f->next = fibers.free_stacks;
    fibers.free_stacks = f;
    fibers.n_free++;
}

size_t fiber_stack_peak(void)
{
    return fibers.peak;
}

struct fiber *fiber_self(void)
{
    return fibers.running;
}

bool fiber_cancelled(void)
{
    return fibers.running != NULL && fibers.running->cancelled;
}

size_t fiber_count(void)
{
    return fibers.count;
}

/* Back to the loop; returns when resumed. `dying`: never returns. */
static void switch_to_loop(struct fiber *f, bool dying)
{
    f->sp = __builtin_frame_address(0);
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(dying ? NULL : &f->fake_stack, fibers.loop_bottom, fibers.loop_size);
#else
    (void)dying;
#endif
    if (sigsetjmp(f->env, 0) == 0)
        siglongjmp(fibers.loop_env, 1);
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(f->fake_stack, &fibers.loop_bottom, &fibers.loop_size);
#endif
}

static void fiber_main(void)
{
    struct fiber *f = fibers.running;
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(NULL, &fibers.loop_bottom, &fibers.loop_size);
#endif
    f->fn(f->arg);
    f->fn = NULL; /* ended */
    switch_to_loop(f, true);
    abort();
}

static void enter_first_time(struct fiber *f)
{
    static ucontext_t uc; /* only makecontext's frame of it is used; too large for a fiber's caller */
    static bool filled;   /* with this thread's signal mask, which never changes */
    if (!filled && getcontext(&uc) != 0)
        abort();
    filled = true;
    uc.uc_stack.ss_sp = f->stack + PAGE;
    uc.uc_stack.ss_size = FIBER_STACK - PAGE;
    uc.uc_link = NULL;
    makecontext(&uc, fiber_main, 0);
    /* The only signal-mask system call of a fiber's life. */
    (void)setcontext(&uc);
    abort();
}

static void fiber_end(struct fiber *f)
{
#ifdef KK_VALGRIND
    VALGRIND_STACK_DEREGISTER(f->valgrind_id);
#endif
    stack_put(f->stack);
    timer_cancel(&f->timer);
    list_del(&f->all);
    fibers.count--;
    free(f);
}

static bool prepare(struct fiber *f)
{
    if (f->stack != NULL)
        return true;
    f->stack = stack_get();
#ifdef KK_VALGRIND
    if (f->stack != NULL)
        f->valgrind_id = VALGRIND_STACK_REGISTER(f->stack + PAGE, f->stack + FIBER_STACK);
#endif
    return f->stack != NULL;
}

static void resume(struct fiber *volatile f)
{
    fibers.running = f;
    f->suspended = false;
    f->trimmed = false;
    fibers.resumed_at = 0;
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(&fibers.loop_fake_stack, f->stack + PAGE, FIBER_STACK - PAGE);
#endif
    if (sigsetjmp(fibers.loop_env, 0) == 0) {
        if (f->started)
            siglongjmp(f->env, 1);
        f->started = true;
        enter_first_time(f);
    }
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(fibers.loop_fake_stack, NULL, NULL);
#endif
    /* The jump may have clobbered our local variables: what ran is asked from memory. */
    struct fiber *ran = fibers.running;
    fibers.running = NULL;
    if (ran->fn == NULL)
        fiber_end(ran);
}

static void run_ready(struct deferred *d)
{
    struct list now = LIST_INIT(now);
    (void)d;
    while (!list_empty(&fibers.ready)) {
        struct list *n = list_pop(&fibers.ready);
        list_add_tail(&now, n);
    }
    while (!list_empty(&now))
        resume(list_item(list_pop(&now), struct fiber, ready));
    if (!list_empty(&fibers.ready))
        loop_defer(&fibers.run, run_ready);
}

static void make_ready(struct fiber *f)
{
    if (list_is_linked(&f->ready) || fibers.running == f)
        return;
    list_add_tail(&fibers.ready, &f->ready);
    loop_defer(&fibers.run, run_ready);
}

/* Pages below the suspended frame are given back once a fiber has waited for a while. */
static void trim(struct timer *t)
{
    int64_t now = clock_mono_ms();
    for (struct list *n = fibers.all.next; n != &fibers.all; n = n->next) {
        struct fiber *f = list_item(n, struct fiber, all);
        if (!f->suspended || f->trimmed || now - f->since < TRIM_EVERY_MS)
            continue;
        uintptr_t low = (uintptr_t)f->stack + PAGE;
        uintptr_t top = ((uintptr_t)f->sp - 1024) & ~(uintptr_t)(PAGE - 1); /* below the red zone and callee's frame */
        if (top > low && top < (uintptr_t)f->stack + FIBER_STACK)
            (void)madvise((void *)low, top - low, MADV_DONTNEED);
        f->trimmed = true;
    }
    if (!list_empty(&fibers.all))
        timer_set(t, now + TRIM_EVERY_MS, trim, NULL);
}

int fiber_start(const char *name, fiber_fn *fn, void *arg, struct fiber **ret_fiber)
{
    init_once();
    if (fibers.count >= FIBER_MAX)
        return -EAGAIN;
    struct fiber *f = calloc(1, sizeof(*f));
    if (f == NULL)
        return -ENOMEM;
    f->name = name;
    f->fn = fn;
    f->arg = arg;
    if (!prepare(f)) {
        free(f);
        return -ENOMEM;
    }
    list_add_tail(&fibers.all, &f->all);
    fibers.count++;
    make_ready(f);
#ifndef KK_DEBUG
    if (fibers.trim_timer.heap_index == 0)
        timer_set(&fibers.trim_timer, clock_mono_ms() + TRIM_EVERY_MS, trim, NULL);
#else
    (void)trim; /* would wipe the painted watermark */
#endif
    if (ret_fiber != NULL)
        *ret_fiber = f;
    return 0;
}

static void wake(struct fiber *f, int code)
{
    if (!f->suspended || list_is_linked(&f->ready))
        return;
    list_del(&f->waiting);
    timer_cancel(&f->timer);
    f->wake_code = code;
    make_ready(f);
}

void fiber_cancel(struct fiber *f)
{
    f->cancelled = true;
    wake(f, -ECANCELED);
}

static int suspend(struct fiber *f)
{
    f->suspended = true;
    f->since = clock_mono_ms();
    switch_to_loop(f, false);
    return f->cancelled ? -ECANCELED : f->wake_code;
}

int fiber_yield(void)
{
    struct fiber *f = fibers.running;
    if (f == NULL)
        return 0;
    if (f->cancelled)
        return -ECANCELED;
    f->wake_code = 0;
    list_add_tail(&fibers.ready, &f->ready);
    loop_defer(&fibers.run, run_ready);
    return suspend(f);
}

int fiber_breathe(void)
{
    int64_t now = clock_mono_ms();
    if (fibers.running == NULL)
        return 0;
    if (fibers.resumed_at == 0)
        fibers.resumed_at = now;
    if (now - fibers.resumed_at < BREATHE_MS)
        return fibers.running->cancelled ? -ECANCELED : 0;
    return fiber_yield();
}

static void on_deadline(struct timer *t)
{
    wake(t->arg, -ETIMEDOUT);
}

static int wait_until(struct list *waiters, int64_t deadline)
{
    struct fiber *f = fibers.running;
    if (f == NULL)
        abort(); /* a MAY_YIELD function was called outside of a fiber */
    if (f->cancelled)
        return -ECANCELED;
    if (deadline <= clock_mono_ms())
        return -ETIMEDOUT;
    if (waiters != NULL)
        list_add_tail(waiters, &f->waiting);
    if (deadline != CLOCK_NEVER)
        timer_set(&f->timer, deadline, on_deadline, f);
    return suspend(f);
}

int fiber_sleep_until(int64_t at)
{
    int rc = wait_until(NULL, at);
    return rc == -ETIMEDOUT ? 0 : rc;
}

void fiber_queue_init(struct fiber_queue *q)
{
    list_init(&q->waiters);
}

int fiber_wait(struct fiber_queue *q, int64_t deadline)
{
    if (q->waiters.next == NULL)
        list_init(&q->waiters);
    return wait_until(&q->waiters, deadline);
}

void fiber_wait_uncancelled(struct fiber_queue *q, const bool *done)
{
    struct fiber *f = fibers.running;
    if (f == NULL)
        abort();
    while (!*done) {
        list_add_tail(&q->waiters, &f->waiting);
        (void)suspend(f);
    }
}

bool fiber_wake_one(struct fiber_queue *q)
{
    if (q->waiters.next == NULL || list_empty(&q->waiters))
        return false;
    wake(list_item(q->waiters.next, struct fiber, waiting), 0);
    return true;
}

void fiber_wake_all(struct fiber_queue *q)
{
    while (fiber_wake_one(q))
        continue;
}

struct fiber_fd {
    struct watch watch;
    struct fiber_queue in, out;
    bool ready_in, ready_out; /* an edge came while nobody waited */
};

static void on_events(struct watch *w, uint32_t events)
{
    struct fiber_fd *f = w->arg;
    const uint32_t both = EPOLLHUP | EPOLLERR;
    if (events & (EPOLLIN | EPOLLRDHUP | both)) {
        f->ready_in = true;
        fiber_wake_all(&f->in);
    }
    if (events & (EPOLLOUT | both)) {
        f->ready_out = true;
        fiber_wake_all(&f->out);
    }
}

int fiber_fd_new(int fd, struct fiber_fd **ret)
{
    struct fiber_fd *f = calloc(1, sizeof(*f));
    if (f == NULL)
        return -ENOMEM;
    int rc = watch_add(&f->watch, fd, on_events, f);
    if (rc != 0) {
        free(f);
        return rc;
    }
    *ret = f;
    return 0;
}

void fiber_fd_free(struct fiber_fd *f)
{
    if (f == NULL)
        return;
    watch_del(&f->watch);
    free(f);
}

static int fd_wait(struct fiber_queue *q, bool *ready, int64_t deadline)
{
    /* An edge may have come between the caller's EAGAIN and now, or before it (then the caller tries once in vain). */
    if (*ready) {
        *ready = false;
        return fibers.running != NULL && fibers.running->cancelled ? -ECANCELED : 0;
    }
    int rc = fiber_wait(q, deadline);
    if (rc == 0)
        *ready = false;
    return rc;
}

int fiber_fd_wait_in(struct fiber_fd *f, int64_t deadline)
{
    return fd_wait(&f->in, &f->ready_in, deadline);
}

int fiber_fd_wait_out(struct fiber_fd *f, int64_t deadline)
{
    return fd_wait(&f->out, &f->ready_out, deadline);
}

bool fiber_run_all(int64_t max_ms)
{
    int64_t end = clock_deadline(max_ms);
    while (fibers.count > 0 && clock_mono_ms() < end)
        loop_turn(10);
    return fibers.count == 0;
}
