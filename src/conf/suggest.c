#include "conf/suggest.h"

#define NAME_MAX_ 64

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Optimal string alignment: three rows of the usual table. */
size_t suggest_distance(struct slice a, struct slice b)
{
    size_t rows[3][NAME_MAX_ + 1];
    if (a.n > NAME_MAX_ || b.n > NAME_MAX_)
        return NAME_MAX_;
    size_t *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= b.n; j++)
        before[j] = last[j] = j;
    for (size_t i = 1; i <= a.n; i++) {
        now[0] = i;
        for (size_t j = 1; j <= b.n; j++) {
            size_t differs = ascii_lower(a.p[i - 1]) != ascii_lower(b.p[j - 1]);
            now[j] = least(least(last[j] + 1, now[j - 1] + 1), last[j - 1] + differs);
            if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1])
                now[j] = least(now[j], before[j - 2] + 1);
        }
        size_t *spare = before;
        before = last;
        last = now;
        now = spare;
    }
    return last[b.n];
}

void suggest_init(struct suggest *s, struct slice typed)
{
    *s = (struct suggest){.typed = typed, .distance = typed.n / 3 + 2};
}

void suggest_offer(struct suggest *s, const char *candidate)
{
    size_t d = suggest_distance(s->typed, slice_str(candidate));
    if (d < s->distance) {
        s->distance = d;
        s->best = candidate;
    }
}
