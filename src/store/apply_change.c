/* Effects on messages that are there: expunge, flags, copy, move. See apply.h. */
#include <stdlib.h>

#include "store/apply_priv.h"

/* Walks the runs in order; false at the end. */
struct runs {
    struct slice rest;
    uint32_t uid, left;
};

static bool next_uid(struct runs *r, uint32_t *ret)
{
    while (r->left == 0)
        if (!slice_get_u32(&r->rest, &r->uid) || !slice_get_u32(&r->rest, &r->left))
            return false;
    r->left--;
    *ret = r->uid++;
    return true;
}

/* How many uids: what bounds the work. ERR_CORRUPT past the limit that the writer keeps. */
static int count_uids(struct slice runs, size_t *ret)
{
    uint32_t first, n;
    uint64_t total = 0;
    while (slice_get_u32(&runs, &first) && slice_get_u32(&runs, &n))
        total += n;
    if (total > STORE_UIDS_MAX)
        return ERR_CORRUPT;
    *ret = (size_t)total;
    return 0;
}

struct change {
    struct apply *a;
    const struct j_change *c;
    struct apply_account acc;
    struct apply_mailbox from, other;
    struct apply_mailbox *to; /* of a copy: &other, or &from */
    uint32_t *add, *remove; /* keyword numbers */
    size_t n_add, n_remove;
    struct apply_result *r;
};

static int expunge(struct change *g, struct apply_entry *e)
{
    g->r->count++;
    return apply_expunge_one(g->a, &g->acc, &g->from, e);
}

static int set_flags(struct change *g, struct apply_entry *e)
{
    struct apply_entry old = *e;
    if (g->c->unchanged_since != 0 && e->row.e.modseq > g->c->unchanged_since)
        return 0;
    g->r->count++;
    e->row.e.flags = (e->row.e.flags & ~(uint32_t)g->c->remove) | (uint32_t)g->c->add;
    for (size_t i = 0; i < g->n_remove; i++)
        apply_set_keyword(e, g->remove[i], false);
    for (size_t i = 0; i < g->n_add; i++)
        apply_set_keyword(e, g->add[i], true);
    if (e->row.e.flags == old.row.e.flags && e->extra_n == old.extra_n && memcmp(e->extra, old.extra, sizeof(old.extra)) == 0)
        return 0;
    apply_count(g->a, &g->acc, &g->from, &old.row.e, -1);
    apply_count(g->a, &g->acc, &g->from, &e->row.e, 1);
    e->row.e.modseq = g->from.row.modseq = g->acc.row.modseq;
    return apply_entry_put(g->a, g->acc.id, g->from.id, e);
}

/* Keywords have other numbers in another mailbox. */
static int translate_keywords(struct change *g, const struct apply_entry *from, struct apply_entry *to)
{
    const uint32_t mask = ~(uint32_t)0 << STORE_KEYWORD_FIRST;
    if ((from->row.e.flags & mask) == 0 && from->extra_n == 0)
        return 0;
    to->row.e.flags &= ~mask;
    memset(to->extra, 0, sizeof(to->extra));
    to->extra_n = 0;
    for (uint32_t i = 0; i < g->from.row.keywords; i++) {
        uint32_t j = i - STORE_KEYWORDS_IN_FLAGS, number;
        bool on = i < STORE_KEYWORDS_IN_FLAGS ? (from->row.e.flags >> (STORE_KEYWORD_FIRST + i) & 1) != 0
                                              : (from->extra[j / 8] >> j % 8 & 1) != 0;
        struct ikey k = ikey_u32(ikey_mailbox(g->acc.id, g->from.id), i);
        struct slice name;
        char copy[STORE_KEYWORD_MAX];
        if (!on)
            continue;
        int rc = index_get(g->a->x, g->a->t, INDEX_KEYWORDS, &k, &name);
        if (rc != 0 || name.n > sizeof(copy))
            return rc != 0 && rc != -ENOENT ? rc : ERR_CORRUPT;
        memcpy(copy, name.p, name.n);
        rc = apply_keyword(g->a, g->acc.id, g->to, slice_of(copy, name.n), true, &number);
        if (rc != 0)
            return rc;
        if (number != UINT32_MAX)
            apply_set_keyword(to, number, true);
    }
    return 0;
}

/* One entry more shows the message. */
static int share_placement(struct change *g, uint64_t message)
{
    struct ikey k = ikey_placement(g->acc.id, message);
    struct index_placement p;
    struct slice rest;
    char prefix[STORE_PREFIX_MAX + SEAL_TAG];
    int rc = index_row(g->a->x, g->a->t, INDEX_PLACEMENTS, &k, &p, sizeof(p), &rest);
    if (rc != 0 || rest.n > sizeof(prefix))
        return rc != 0 && rc != -ENOENT ? rc : ERR_CORRUPT;
    memcpy(prefix, rest.p, rest.n);
    p.entries++;
    return index_put(g->a->x, g->a->t, INDEX_PLACEMENTS, &k, &p, sizeof(p), slice_of(prefix, rest.n));
}

static int copy(struct change *g, struct apply_entry *e, bool move)
{
    struct apply_entry to = *e;
    int rc = g->to != &g->from ? translate_keywords(g, e, &to) : 0;
    if (rc != 0)
        return rc;
    to.row.e.uid = g->to->row.uidnext++;
    to.row.e.modseq = g->to->row.modseq = g->acc.row.modseq;
    to.row.e.save_ms = (int64_t)g->c->save_ms;
    to.row.e.flags |= STORE_RECENT;
    rc = share_placement(g, e->row.e.message);
    if (rc == 0)
        rc = apply_entry_put(g->a, g->acc.id, g->to->id, &to);
    apply_count(g->a, &g->acc, g->to, &to.row.e, 1);
    g->r->pairs[g->r->n_pairs - 1].to = to.row.e.uid;
    g->r->count++;
    return rc == 0 && move ? apply_expunge_one(g->a, &g->acc, &g->from, e) : rc;
}

static int one_uid(struct change *g, unsigned type, uint32_t uid)
{
    struct apply_entry e;
    if (type == JOURNAL_COPY || type == JOURNAL_MOVE)
        g->r->pairs[g->r->n_pairs++] = (struct store_uid_pair){uid, 0};
    int rc = apply_entry_get(g->a, g->acc.id, g->from.id, uid, &e);
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    switch (type) {
    case JOURNAL_EXPUNGE: return expunge(g, &e);
    case JOURNAL_FLAGS: return set_flags(g, &e);
    default: return copy(g, &e, type == JOURNAL_MOVE);
    }
}

static int find_keywords(struct change *g, struct record_list names, bool create, uint32_t **ret, size_t *ret_n)
{
    uint32_t *numbers = calloc(names.n + 1, sizeof(*numbers));
    size_t n = 0;
    if (numbers == NULL)
        return -ENOMEM;
    *ret = numbers;
    for (size_t i = 0; i < names.n; i++) {
        int rc = apply_keyword(g->a, g->acc.id, &g->from, RECORD_ITEM(names, j_keyword, i)->name, create, &numbers[n]);
        if (rc != 0)
            return rc;
        if (numbers[n] != UINT32_MAX)
            n++;
    }
    *ret_n = n;
    return 0;
}

static int change_all(struct change *g, const struct journal_header *h)
{
    struct runs runs = {.rest = g->c->runs};
    uint32_t uid;
    size_t n;
    int rc = count_uids(g->c->runs, &n);
    if (rc == 0 && g->to != NULL && n >= UINT32_MAX - g->to->row.uidnext) {
        g->r->status = ERR_LIMIT;
        return 0;
    }
    if (rc == 0 && g->to != NULL && (g->r->pairs = calloc(n + 1, sizeof(*g->r->pairs))) == NULL)
        rc = -ENOMEM;
    if (rc == 0 && h->type == JOURNAL_FLAGS)
        rc = find_keywords(g, g->c->add_keywords, true, &g->add, &g->n_add);
    if (rc == 0 && h->type == JOURNAL_FLAGS)
        rc = find_keywords(g, g->c->remove_keywords, false, &g->remove, &g->n_remove);
    g->acc.row.modseq++;
    while (rc == 0 && next_uid(&runs, &uid))
        rc = one_uid(g, h->type, uid);
    return rc;
}

int apply_change(struct apply *a, const struct journal_header *h, const struct j_change *c, struct apply_result *r)
{
    struct change g = {.a = a, .c = c, .r = r};
    int rc = apply_account_get(a, c->tenant, c->account, &g.acc);
    if (rc == 0)
        rc = apply_mailbox_get(a, g.acc.id, (uint32_t)c->mailbox, &g.from);
    if (rc == 0 && (h->type == JOURNAL_COPY || h->type == JOURNAL_MOVE)) {
        g.to = c->to == c->mailbox ? &g.from : &g.other;
        rc = apply_mailbox_get(a, g.acc.id, (uint32_t)c->to, g.to);
    }
    if (rc == -ENOENT || rc == ERR_GONE) {
        r->status = rc; /* it went before this was committed */
        return 0;
    }
    if (rc == 0)
        rc = change_all(&g, h);
    free(g.add);
    free(g.remove);
    if (rc == 0)
        rc = apply_mailbox_put(a, g.acc.id, &g.from);
    if (rc == 0 && g.to == &g.other)
        rc = apply_mailbox_put(a, g.acc.id, &g.other);
    r->modseq = g.acc.row.modseq;
    return rc == 0 ? apply_account_put(a, &g.acc) : rc;
}
