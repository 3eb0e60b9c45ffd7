/* diff.c: the longest common subsequence of lines, after the equal ends are cut off. Quadratic in the changed part, so that part is
 * limited: configurations have some hundred lines. */
#include "ctl/diff.h"

#include "base/err.h"

#define LINES_MAX 20000
#define CHANGED_MAX 4000 /* lines between the equal ends: a table of at most 32 MB */
#define AROUND 3

struct lines {
    struct slice *p;
    size_t n;
};

static int split(struct slice text, struct lines *l)
{
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++)
        n += text.p[i] == '\n';
    if (n > LINES_MAX)
        return ERR_LIMIT;
    l->p = calloc(n + 1, sizeof(*l->p));
    l->n = 0;
    if (l->p == NULL)
        return -ENOMEM;
    while (text.n > 0)
        l->p[l->n++] = slice_cut(&text, '\n');
    return 0;
}

enum { KEEP = ' ', REMOVE = '-', INSERT = '+' };
struct edit {
    char kind;
    struct slice line;
    size_t a, b; /* line numbers, from 0, before this edit */
};

/* length[i][j]: of the common subsequence of the tails from i and j. */
static int edit_middle(const struct lines *a, const struct lines *b, size_t from, size_t end_a, size_t end_b, struct edit *out, size_t *n)
{
    size_t rows = end_a - from, cols = end_b - from;
    if (rows > CHANGED_MAX || cols > CHANGED_MAX)
        return ERR_LIMIT;
    uint16_t *length = calloc((rows + 1) * (cols + 1), sizeof(*length));
    if (length == NULL)
        return -ENOMEM;
#define AT(i, j) length[(i) * (cols + 1) + (j)]
    for (size_t i = rows; i-- > 0;)
        for (size_t j = cols; j-- > 0;)
            AT(i, j) = slice_eq(a->p[from + i], b->p[from + j]) ? (uint16_t)(AT(i + 1, j + 1) + 1)
                       : AT(i + 1, j) >= AT(i, j + 1)           ? AT(i + 1, j)
                                                                : AT(i, j + 1);
    for (size_t i = 0, j = 0; i < rows || j < cols;) {
        struct edit *e = &out[(*n)++];
        *e = (struct edit){.a = from + i, .b = from + j};
        if (i < rows && j < cols && slice_eq(a->p[from + i], b->p[from + j])) {
            e->kind = KEEP;
            e->line = a->p[from + i++];
            j++;
        } else if (i < rows && (j == cols || AT(i + 1, j) >= AT(i, j + 1))) {
            e->kind = REMOVE;
            e->line = a->p[from + i++];
        } else {
            e->kind = INSERT;
            e->line = b->p[from + j++];
        }
    }
#undef AT
    free(length);
    return 0;
}

static int edits_of(const struct lines *a, const struct lines *b, struct edit *out, size_t *ret_n)
{
    size_t from = 0, end_a = a->n, end_b = b->n, n = 0;
    while (from < a->n && from < b->n && slice_eq(a->p[from], b->p[from])) {
        out[n++] = (struct edit){KEEP, a->p[from], from, from};
        from++;
    }
    while (end_a > from && end_b > from && slice_eq(a->p[end_a - 1], b->p[end_b - 1])) {
        end_a--;
        end_b--;
    }
    int rc = edit_middle(a, b, from, end_a, end_b, out, &n);
    for (; rc == 0 && end_a < a->n; end_a++, end_b++)
        out[n++] = (struct edit){KEEP, a->p[end_a], end_a, end_b};
    *ret_n = n;
    return rc;
}

static void print_hunk(struct buf *out, const struct edit *e, size_t from, size_t to)
{
    size_t in_a = 0, in_b = 0;
    for (size_t i = from; i < to; i++) {
        in_a += e[i].kind != INSERT;
        in_b += e[i].kind != REMOVE;
    }
    buf_printf(out, "@@ -%zu,%zu +%zu,%zu @@\n", e[from].a + (in_a > 0), in_a, e[from].b + (in_b > 0), in_b);
    for (size_t i = from; i < to; i++)
        buf_printf(out, "%c%.*s\n", e[i].kind, SLICE_ARG(e[i].line));
}

static void print_edits(struct buf *out, const struct edit *e, size_t n)
{
    size_t i = 0, printed = 0;
    while (i < n) {
        if (e[i].kind == KEEP) {
            i++;
            continue;
        }
        size_t from = i - printed > AROUND ? i - AROUND : printed, to = i, quiet = 0;
        while (to < n && quiet <= 2 * AROUND)
            quiet = e[to++].kind == KEEP ? quiet + 1 : 0;
        if (quiet > AROUND)
            to -= quiet - AROUND;
        print_hunk(out, e, from, to);
        i = printed = to;
    }
}

int diff_print(struct buf *out, struct slice a, struct slice b, const char *name_a, const char *name_b)
{
    struct lines la = {0}, lb = {0};
    size_t n = 0;
    if (slice_eq(a, b))
        return 0;
    int rc = split(a, &la);
    if (rc == 0)
        rc = split(b, &lb);
    struct edit *edits = rc == 0 ? calloc(la.n + lb.n + 1, sizeof(*edits)) : NULL;
    if (rc == 0 && edits == NULL)
        rc = -ENOMEM;
    if (rc == 0)
        rc = edits_of(&la, &lb, edits, &n);
    if (rc == 0) {
        buf_printf(out, "--- %s\n+++ %s\n", name_a, name_b);
        print_edits(out, edits, n);
    }
    free(edits);
    free(la.p);
    free(lb.p);
    return rc;
}
