#include "account/throttle.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/map.h"
#include "base/secret.h"

struct throttle_pair {
    uint64_t tag; /* 0: free */
    int64_t window, last, until; /* first and last failure; refused until */
    uint16_t failures, pending;
    uint8_t level; /* how often refused: the exponent */
};

struct throttle {
    uint64_t set_key[2], tag_key[2];
    struct fiber_queue ended;
    struct throttle_pair pairs[THROTTLE_SETS][THROTTLE_WAYS];
};

int throttle_new(struct throttle **ret)
{
    struct throttle *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return -ENOMEM;
    rand_bytes(t->set_key, sizeof(t->set_key));
    rand_bytes(t->tag_key, sizeof(t->tag_key));
    fiber_queue_init(&t->ended);
    *ret = t;
    return 0;
}

void throttle_free(struct throttle *t)
{
    free(t);
}

/* What is old counts no more. */
static void age(struct throttle_pair *p, int64_t now)
{
    if (p->failures != 0 && now - p->window > THROTTLE_WINDOW_MS && now >= p->until)
        p->failures = 0;
    if (p->level != 0 && now - p->last > THROTTLE_FORGET_MS)
        p->level = 0;
}

static bool less_harmful(const struct throttle_pair *a, const struct throttle_pair *b)
{
    if (a->level != b->level)
        return a->level < b->level;
    if (a->failures != b->failures)
        return a->failures < b->failures;
    return a->last < b->last;
}

/* The pair's place, taking over another's when it must. NULL: all are under way. */
static struct throttle_pair *find(struct throttle *t, struct slice account, const struct netaddr *network, int64_t now)
{
    char key[1024];
    struct netaddr net = netaddr_limit_key(network);
    size_t n = account.n < sizeof(key) - sizeof(net.ip) ? account.n : sizeof(key) - sizeof(net.ip);
    memcpy(key, net.ip, sizeof(net.ip));
    memcpy(key + sizeof(net.ip), account.p, n);
    struct slice whole = slice_of(key, sizeof(net.ip) + n);
    struct throttle_pair *set = t->pairs[map_siphash13(t->set_key, whole) % THROTTLE_SETS], *victim = NULL;
    uint64_t tag = map_siphash13(t->tag_key, whole) | 1;
    for (size_t i = 0; i < THROTTLE_WAYS; i++) {
        age(&set[i], now);
        if (set[i].tag == tag)
            return &set[i];
        if (set[i].pending == 0 && (victim == NULL || less_harmful(&set[i], victim)))
            victim = &set[i];
    }
    if (victim != NULL)
        *victim = (struct throttle_pair){.tag = tag};
    return victim;
}

int throttle_begin(struct throttle *t, struct slice account, const struct netaddr *network, unsigned max_failures, int64_t deadline,
                   struct throttle_pair **ret)
{
    for (;;) {
        int64_t now = clock_mono_ms();
        struct throttle_pair *p = find(t, account, network, now);
        if (p == NULL)
            return -EBUSY;
        if (now < p->until)
            return -EAGAIN;
        if (p->pending == 0 || p->failures + p->pending < (int)max_failures) {
            p->pending++;
            *ret = p;
            return 0;
        }
        int rc = fiber_wait(&t->ended, deadline);
        if (rc != 0)
            return rc;
    }
}

static void count_failure(struct throttle_pair *p, unsigned max_failures, int64_t now)
{
    if (p->failures == 0)
        p->window = now;
    p->last = now;
    if (p->failures < max_failures)
        p->failures++;
    if (p->failures < max_failures)
        return;
    int64_t refuse = (int64_t)THROTTLE_FIRST_MS << p->level;
    p->until = now + (refuse < THROTTLE_LONGEST_MS ? refuse : THROTTLE_LONGEST_MS);
    if (p->level < 16)
        p->level++;
    /* After it, one more failure within the window refuses again, for longer. */
    p->failures = (uint16_t)(max_failures - 1);
    p->window = p->until;
}

int64_t throttle_end(struct throttle *t, struct throttle_pair *p, enum throttle_result result, unsigned max_failures)
{
    int64_t now = clock_mono_ms();
    p->pending--;
    if (result == THROTTLE_RIGHT) {
        p->failures = 0;
        p->level = 0;
        p->until = 0;
    } else if (result == THROTTLE_WRONG) {
        count_failure(p, max_failures, now);
    }
    fiber_wake_all(&t->ended);
    return p->until > now ? p->until - now : 0;
}
