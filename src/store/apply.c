/* Applying records in order, and the rows that all effects share: see apply.h. */
#include "store/apply.h"

#include <stdlib.h>

#include "store/apply_priv.h"

static const char mark_name[] = "mark";

void apply_result_done(struct apply_result *r)
{
    free(r->places);
    free(r->pairs);
    *r = (struct apply_result){0};
}

int apply_begin(struct apply *a, struct index *x, MDB_txn *t)
{
    struct ikey k = ikey_name(mark_name);
    *a = (struct apply){.x = x, .t = t};
    int rc = index_row(x, t, INDEX_META, &k, &a->mark, sizeof(a->mark), NULL);
    return rc == -ENOENT ? 0 : rc;
}

int apply_end(struct apply *a)
{
    struct ikey k = ikey_name(mark_name);
    return index_put(a->x, a->t, INDEX_META, &k, &a->mark, sizeof(a->mark), SLICE_EMPTY);
}

/* ---- shared rows ---- */

int apply_account_get(struct apply *a, uint64_t tenant, uint64_t account, struct apply_account *ret)
{
    ret->id = (struct store_account){(uint32_t)tenant, account};
    struct ikey k = ikey_account(ret->id);
    int rc = index_row(a->x, a->t, INDEX_ACCOUNTS, &k, &ret->row, sizeof(ret->row), NULL);
    return rc == 0 && ret->row.state != ACCOUNT_LIVE ? ERR_GONE : rc;
}

int apply_account_put(struct apply *a, const struct apply_account *acc)
{
    struct ikey k = ikey_account(acc->id);
    return index_put(a->x, a->t, INDEX_ACCOUNTS, &k, &acc->row, sizeof(acc->row), SLICE_EMPTY);
}

int apply_mailbox_get(struct apply *a, struct store_account account, uint32_t mailbox, struct apply_mailbox *ret)
{
    struct ikey k = ikey_mailbox(account, mailbox);
    struct slice name;
    int rc = index_row(a->x, a->t, INDEX_MAILBOXES, &k, &ret->row, sizeof(ret->row), &name);
    if (rc == 0 && name.n > sizeof(ret->name))
        rc = ERR_CORRUPT;
    if (rc != 0)
        return rc;
    ret->id = mailbox;
    memcpy(ret->name, name.p, name.n);
    ret->name_n = name.n;
    return 0;
}

int apply_mailbox_put(struct apply *a, struct store_account account, const struct apply_mailbox *m)
{
    struct ikey k = ikey_mailbox(account, m->id);
    return index_put(a->x, a->t, INDEX_MAILBOXES, &k, &m->row, sizeof(m->row), slice_of(m->name, m->name_n));
}

int apply_entry_get(struct apply *a, struct store_account account, uint32_t mailbox, uint32_t uid, struct apply_entry *ret)
{
    struct ikey k = ikey_entry(account, mailbox, uid);
    struct slice extra;
    int rc = index_row(a->x, a->t, INDEX_ENTRIES, &k, &ret->row, sizeof(ret->row), &extra);
    if (rc == 0 && extra.n > sizeof(ret->extra))
        rc = ERR_CORRUPT;
    if (rc != 0)
        return rc;
    memset(ret->extra, 0, sizeof(ret->extra));
    memcpy(ret->extra, extra.p, extra.n);
    ret->extra_n = extra.n;
    return 0;
}

int apply_entry_put(struct apply *a, struct store_account account, uint32_t mailbox, const struct apply_entry *e)
{
    struct ikey k = ikey_entry(account, mailbox, e->row.e.uid);
    return index_put(a->x, a->t, INDEX_ENTRIES, &k, &e->row, sizeof(e->row), slice_of(e->extra, e->extra_n));
}

void apply_count(struct apply *a, struct apply_account *acc, struct apply_mailbox *m, const struct store_entry *e, int sign)
{
    uint64_t one = (uint64_t)(int64_t)sign;
    acc->row.used += one * e->size;
    acc->row.messages += one;
    a->mark.messages += one;
    m->row.messages += one;
    m->row.bytes += one * e->size;
    m->row.unseen += (e->flags & STORE_SEEN) == 0 ? one : 0;
    m->row.deleted += (e->flags & STORE_DELETED) != 0 ? one : 0;
    m->row.recent += (e->flags & STORE_RECENT) != 0 ? one : 0;
}

struct keyword_search {
    struct slice name;
    uint32_t number;
};

static int match_keyword(void *arg, const uint8_t *key, size_t key_n, struct slice value)
{
    struct keyword_search *f = arg;
    if (key_n != 20 || !slice_ieq(value, f->name))
        return 0;
    f->number = ikey_get_u32(key + 16);
    return 1;
}

int apply_keyword(struct apply *a, struct store_account account, struct apply_mailbox *m, struct slice name, bool create, uint32_t *ret)
{
    struct keyword_search f = {name, UINT32_MAX};
    struct ikey k = ikey_mailbox(account, m->id);
    int rc = index_walk(a->x, a->t, INDEX_KEYWORDS, &k, &k, match_keyword, &f);
    if (rc == 0 && f.number == UINT32_MAX && create && m->row.keywords < STORE_KEYWORDS_MAX) {
        f.number = m->row.keywords++;
        k = ikey_u32(k, f.number);
        rc = index_put(a->x, a->t, INDEX_KEYWORDS, &k, name.p, name.n, SLICE_EMPTY);
    }
    *ret = f.number;
    return rc;
}

void apply_set_keyword(struct apply_entry *e, uint32_t number, bool on)
{
    if (number < STORE_KEYWORDS_IN_FLAGS) {
        uint32_t bit = 1u << (STORE_KEYWORD_FIRST + number);
        e->row.e.flags = on ? e->row.e.flags | bit : e->row.e.flags & ~bit;
        return;
    }
    uint32_t at = (number - STORE_KEYWORDS_IN_FLAGS) / 8, bit = 1u << (number - STORE_KEYWORDS_IN_FLAGS) % 8;
    if (at >= sizeof(e->extra))
        return;
    e->extra[at] = (uint8_t)(on ? e->extra[at] | bit : e->extra[at] & ~bit);
    e->extra_n = sizeof(e->extra);
    while (e->extra_n > 0 && e->extra[e->extra_n - 1] == 0)
        e->extra_n--;
}

int apply_dead(struct apply *a, uint64_t segment, uint64_t bytes)
{
    struct ikey k = ikey_segment(segment);
    struct index_segment g;
    int rc = index_row(a->x, a->t, INDEX_SEGMENTS, &k, &g, sizeof(g), NULL);
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    g.dead_bytes += bytes;
    return index_put(a->x, a->t, INDEX_SEGMENTS, &k, &g, sizeof(g), SLICE_EMPTY);
}

int apply_release(struct apply *a, struct store_account account, uint64_t message)
{
    struct ikey k = ikey_placement(account, message), bk;
    struct index_placement p;
    struct index_body b;
    struct slice rest;
    int rc = index_row(a->x, a->t, INDEX_PLACEMENTS, &k, &p, sizeof(p), &rest);
    if (rc != 0)
        return rc == -ENOENT ? ERR_CORRUPT : rc;
    if (p.entries > 1) {
        char prefix[STORE_PREFIX_MAX + SEAL_TAG];
        if (rest.n > sizeof(prefix))
            return ERR_CORRUPT;
        memcpy(prefix, rest.p, rest.n);
        p.entries--;
        return index_put(a->x, a->t, INDEX_PLACEMENTS, &k, &p, sizeof(p), slice_of(prefix, rest.n));
    }
    rc = index_del(a->x, a->t, INDEX_PLACEMENTS, &k);
    bk = ikey_id(p.body);
    if (rc == 0)
        rc = index_row(a->x, a->t, INDEX_BODIES, &bk, &b, sizeof(b), NULL);
    return rc == 0 ? apply_dead(a, b.segment, b.stored_size) : rc == -ENOENT ? ERR_CORRUPT : rc;
}

static int add_tombstone(struct apply *a, struct apply_account *acc, uint32_t mailbox, const struct store_entry *e)
{
    struct ikey prefix = ikey_account(acc->id), oldest;
    struct ikey k = ikey_u32(ikey_u32(ikey_u64(prefix, acc->row.modseq), mailbox), e->uid);
    struct slice v;
    int rc = index_put(a->x, a->t, INDEX_TOMBSTONES, &k, &e->message, sizeof(e->message), SLICE_EMPTY);
    if (rc != 0 || ++acc->row.tombstones <= STORE_TOMBSTONES_MAX)
        return rc;
    rc = index_first(a->x, a->t, INDEX_TOMBSTONES, &prefix, &prefix, &oldest, &v);
    if (rc != 0)
        return rc;
    acc->row.tombstone_floor = ikey_get_u64(oldest.b + prefix.n);
    acc->row.tombstones--;
    return index_del(a->x, a->t, INDEX_TOMBSTONES, &oldest);
}

int apply_expunge_one(struct apply *a, struct apply_account *acc, struct apply_mailbox *m, const struct apply_entry *e)
{
    struct ikey k = ikey_entry(acc->id, m->id, e->row.e.uid);
    int rc = index_del(a->x, a->t, INDEX_ENTRIES, &k);
    if (rc == 0)
        rc = apply_release(a, acc->id, e->row.e.message);
    if (rc == 0)
        rc = add_tombstone(a, acc, m->id, &e->row.e);
    apply_count(a, acc, m, &e->row.e, -1);
    m->row.modseq = acc->row.modseq;
    return rc;
}

/* ---- bodies and segments ---- */

static int note_segment(struct apply *a, uint64_t segment, const struct journal_header *h)
{
    struct ikey k = ikey_segment(segment);
    struct index_segment g = {.first_sequence = h->sequence};
    int rc = index_row(a->x, a->t, INDEX_SEGMENTS, &k, &g, sizeof(g), NULL);
    if (rc != 0 && rc != -ENOENT)
        return rc;
    g.last_sequence = h->sequence;
    if (h->event != 0)
        g.last_event = h->event;
    g.body_bytes += h->body_n;
    return index_put(a->x, a->t, INDEX_SEGMENTS, &k, &g, sizeof(g), SLICE_EMPTY);
}

static int apply_body_move(struct apply *a, uint64_t segment, const struct journal_position *at, const struct journal_header *h,
                           const struct j_body_move *c)
{
    struct ikey k = ikey_id(h->body);
    struct index_body b;
    struct slice rest;
    int rc = index_row(a->x, a->t, INDEX_BODIES, &k, &b, sizeof(b), &rest);
    if (rc == -ENOENT || (rc == 0 && (b.segment != c->from_segment || b.offset != c->from_offset)))
        return apply_dead(a, segment, h->body_n); /* moved already, or dead: this copy is the superfluous one */
    if (rc != 0)
        return rc;
    char *meta = malloc(rest.n + 1);
    if (meta == NULL)
        return -ENOMEM;
    memcpy(meta, rest.p, rest.n);
    b.segment = segment;
    b.offset = at->body_offset;
    rc = index_put(a->x, a->t, INDEX_BODIES, &k, &b, sizeof(b), slice_of(meta, rest.n));
    free(meta);
    return rc != 0 ? rc : apply_dead(a, c->from_segment, h->body_n);
}

static int apply_sweep(struct apply *a, const struct j_sweep *c, struct apply_result *r)
{
    for (size_t i = 0; i + 16 <= c->bodies.n; i += 16) {
        struct id128 id;
        struct index_body b;
        memcpy(id.b, c->bodies.p + i, sizeof(id.b));
        struct ikey k = ikey_id(id);
        int rc = index_row(a->x, a->t, INDEX_BODIES, &k, &b, sizeof(b), NULL);
        if (rc == 0 && b.segment == c->segment) {
            rc = index_del(a->x, a->t, INDEX_BODIES, &k);
            r->count++;
        }
        if (rc != 0 && rc != -ENOENT)
            return rc;
    }
    struct ikey k = ikey_segment(c->segment);
    int rc = c->last != 0 ? index_del(a->x, a->t, INDEX_SEGMENTS, &k) : 0;
    return rc == -ENOENT ? 0 : rc;
}

/* ---- one record ---- */

static int dispatch(struct apply *a, uint64_t segment, const struct journal_position *at, const struct journal_header *h,
                    const union journal_effect *e, struct apply_result *r)
{
    switch (h->type) {
    case JOURNAL_ACCEPT: return apply_accept(a, segment, at, h, &e->accept, r);
    case JOURNAL_EXPUNGE:
    case JOURNAL_FLAGS:
    case JOURNAL_COPY:
    case JOURNAL_MOVE: return apply_change(a, h, &e->change, r);
    case JOURNAL_ACCOUNT_CREATE:
    case JOURNAL_ACCOUNT_DELETE:
    case JOURNAL_ACCOUNT_QUOTA:
    case JOURNAL_ACCOUNT_PURGE: return apply_account(a, h, &e->account, r);
    case JOURNAL_MAILBOX_CREATE:
    case JOURNAL_MAILBOX_RENAME:
    case JOURNAL_MAILBOX_FLAGS:
    case JOURNAL_MAILBOX_DELETE: return apply_mailbox(a, h, &e->mailbox, r);
    case JOURNAL_BODY_MOVE: return apply_body_move(a, segment, at, h, &e->body_move);
    case JOURNAL_SWEEP: return apply_sweep(a, &e->sweep, r);
    default: return ERR_CORRUPT;
    }
}

int apply_record(struct apply *a, uint64_t segment, const struct journal_position *at, const struct journal_header *h,
                 const union journal_effect *e, struct apply_result *r)
{
    if (h->sequence != a->mark.sequence + 1)
        return ERR_CORRUPT;
    int rc = note_segment(a, segment, h);
    if (rc == 0)
        rc = dispatch(a, segment, at, h, e, r);
    if (rc != 0)
        return rc;
    a->mark.sequence = h->sequence;
    a->mark.segment = segment;
    a->mark.offset = at->next;
    if (h->event != 0)
        a->mark.event = h->event;
    if (h->time_ms > a->mark.highest_ms)
        a->mark.highest_ms = h->time_ms;
    return 0;
}
