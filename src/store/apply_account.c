/* Effects on accounts and mailboxes, and accepted mail: see apply.h. */
#include <stdlib.h>

#include "store/apply_priv.h"

/* ---- accounts ---- */

static int new_mailbox(struct apply *a, struct apply_account *acc, int64_t time_ms, struct slice name, uint32_t flags, uint32_t *ret)
{
    struct apply_mailbox m = {.id = acc->row.mailbox_next++, .row = {.uidnext = 1, .flags = flags}};
    /* Seconds, so that a store that lost its counters would still go forward; the counter, so that it never repeats. */
    uint64_t now = (uint64_t)(time_ms > 0 ? time_ms : 0) / 1000;
    if (now > acc->row.uidvalidity_next && now < UINT32_MAX)
        acc->row.uidvalidity_next = (uint32_t)now;
    m.row.uidvalidity = acc->row.uidvalidity_next++;
    m.row.modseq = acc->row.modseq;
    acc->row.mailboxes++;
    m.name_n = name.n;
    memcpy(m.name, name.p, name.n);
    *ret = m.id;
    return apply_mailbox_put(a, acc->id, &m);
}

static int create_account(struct apply *a, const struct journal_header *h, const struct j_account *c, struct apply_result *r)
{
    struct apply_account acc;
    int rc = apply_account_get(a, c->tenant, c->account, &acc);
    if (rc != -ENOENT) {
        r->status = rc;
        return rc == ERR_GONE ? 0 : rc;
    }
    acc.row = (struct index_account){
        .quota = c->amount,
        .modseq = 1,
        .message_next = 1,
        .created_ms = h->time_ms,
        .uidvalidity_next = 1,
        .mailbox_next = STORE_INBOX,
        .state = ACCOUNT_LIVE,
    };
    a->mark.accounts++;
    rc = new_mailbox(a, &acc, h->time_ms, SLICE("INBOX"), STORE_MAILBOX_SUBSCRIBED, &r->mailbox);
    return rc == 0 ? apply_account_put(a, &acc) : rc;
}

/* The first row of the account in one of its tables goes. 0: went; -ENOENT: there is none. */
static int purge_row(struct apply *a, struct apply_account *acc)
{
    static const enum index_table tables[] = {INDEX_ENTRIES, INDEX_PLACEMENTS, INDEX_KEYWORDS, INDEX_TOMBSTONES, INDEX_MAILBOXES};
    struct ikey prefix = ikey_account(acc->id), k;
    struct slice v;
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        int rc = index_first(a->x, a->t, tables[i], &prefix, &prefix, &k, &v);
        if (rc == -ENOENT)
            continue;
        if (rc != 0)
            return rc;
        if (tables[i] == INDEX_ENTRIES && v.n >= sizeof(struct index_entry)) {
            struct index_entry e;
            memcpy(&e, v.p, sizeof(e));
            acc->row.used -= e.e.size;
            acc->row.messages--;
            a->mark.messages--;
        }
        /* The placement's only entry, as far as this goes: the others of its entries are gone. */
        if (tables[i] == INDEX_PLACEMENTS && v.n >= sizeof(struct index_placement)) {
            struct index_placement p;
            struct index_body b;
            memcpy(&p, v.p, sizeof(p));
            struct ikey bk = ikey_id(p.body);
            if (index_row(a->x, a->t, INDEX_BODIES, &bk, &b, sizeof(b), NULL) == 0)
                (void)apply_dead(a, b.segment, b.stored_size);
        }
        return index_del(a->x, a->t, tables[i], &k);
    }
    return -ENOENT;
}

static int purge_account(struct apply *a, const struct j_account *c, struct apply_result *r)
{
    struct apply_account acc;
    int rc = apply_account_get(a, c->tenant, c->account, &acc);
    if (rc != ERR_GONE || acc.row.state != ACCOUNT_DELETED) {
        r->status = rc;
        return rc == -ENOENT || rc == ERR_GONE ? 0 : rc;
    }
    for (rc = 0; rc == 0 && r->count < c->amount;) {
        rc = purge_row(a, &acc);
        if (rc == 0)
            r->count++;
    }
    if (rc == -ENOENT) {
        acc.row.state = ACCOUNT_PURGED;
        acc.row.mailboxes = 0;
        acc.row.tombstones = 0;
        rc = 0;
    }
    return rc == 0 ? apply_account_put(a, &acc) : rc;
}

int apply_account(struct apply *a, const struct journal_header *h, const struct j_account *c, struct apply_result *r)
{
    struct apply_account acc;
    if (h->type == JOURNAL_ACCOUNT_CREATE)
        return create_account(a, h, c, r);
    if (h->type == JOURNAL_ACCOUNT_PURGE)
        return purge_account(a, c, r);
    int rc = apply_account_get(a, c->tenant, c->account, &acc);
    if (rc == -ENOENT || rc == ERR_GONE) {
        r->status = rc;
        return 0;
    }
    if (rc != 0)
        return rc;
    if (h->type == JOURNAL_ACCOUNT_DELETE) {
        acc.row.state = ACCOUNT_DELETED;
        a->mark.accounts--;
    } else {
        acc.row.quota = c->amount;
    }
    return apply_account_put(a, &acc);
}

/* ---- mailboxes ---- */

struct name_search {
    struct slice name;
    uint32_t found;
};

static int match_name(void *arg, const uint8_t *key, size_t key_n, struct slice value)
{
    struct name_search *f = arg;
    if (key_n != 16 || value.n < sizeof(struct index_mailbox) || !slice_eq(slice_from(value, sizeof(struct index_mailbox)), f->name))
        return 0;
    f->found = ikey_get_u32(key + 12);
    return 1;
}

static int find_mailbox(struct apply *a, struct store_account account, struct slice name, uint32_t *ret)
{
    struct name_search f = {name, 0};
    struct ikey k = ikey_account(account);
    int rc = index_walk(a->x, a->t, INDEX_MAILBOXES, &k, &k, match_name, &f);
    *ret = f.found;
    return rc;
}

/* Rows of one mailbox in one table. */
static int delete_rows(struct apply *a, enum index_table table, struct ikey prefix)
{
    struct ikey k;
    struct slice v;
    int rc;
    while ((rc = index_first(a->x, a->t, table, &prefix, &prefix, &k, &v)) == 0) {
        rc = index_del(a->x, a->t, table, &k);
        if (rc != 0)
            return rc;
    }
    return rc == -ENOENT ? 0 : rc;
}

static int delete_mailbox(struct apply *a, struct apply_account *acc, struct apply_mailbox *m, struct apply_result *r)
{
    struct ikey prefix = ikey_mailbox(acc->id, m->id), k;
    struct slice v;
    int rc;
    while ((rc = index_first(a->x, a->t, INDEX_ENTRIES, &prefix, &prefix, &k, &v)) == 0) {
        struct apply_entry e;
        rc = apply_entry_get(a, acc->id, m->id, ikey_get_u32(k.b + 16), &e);
        if (rc == 0)
            rc = apply_expunge_one(a, acc, m, &e);
        if (rc != 0)
            return rc;
        r->count++;
    }
    if (rc != -ENOENT)
        return rc;
    rc = delete_rows(a, INDEX_KEYWORDS, prefix);
    acc->row.mailboxes--;
    return rc == 0 ? index_del(a->x, a->t, INDEX_MAILBOXES, &prefix) : rc;
}

static int change_mailbox(struct apply *a, const struct journal_header *h, const struct j_mailbox *c, struct apply_account *acc,
                          struct apply_result *r)
{
    struct apply_mailbox m;
    uint32_t same_name = 0;
    bool names = h->type == JOURNAL_MAILBOX_CREATE || h->type == JOURNAL_MAILBOX_RENAME;
    int rc = names ? find_mailbox(a, acc->id, c->name, &same_name) : 0;
    if (rc == 0 && same_name != 0 && (h->type == JOURNAL_MAILBOX_CREATE || same_name != c->mailbox)) {
        r->status = -EEXIST;
        r->mailbox = same_name;
        return 0;
    }
    acc->row.modseq++;
    if (rc == 0 && h->type == JOURNAL_MAILBOX_CREATE)
        return new_mailbox(a, acc, h->time_ms, c->name, (uint32_t)c->flags, &r->mailbox);
    if (rc == 0)
        rc = apply_mailbox_get(a, acc->id, (uint32_t)c->mailbox, &m);
    if (rc == -ENOENT) {
        r->status = -ENOENT;
        return 0;
    }
    if (rc == 0 && h->type == JOURNAL_MAILBOX_DELETE)
        return delete_mailbox(a, acc, &m, r);
    if (rc != 0)
        return rc;
    m.row.modseq = acc->row.modseq;
    if (h->type == JOURNAL_MAILBOX_FLAGS) {
        m.row.flags = (uint32_t)c->flags;
    } else {
        m.name_n = c->name.n;
        memcpy(m.name, c->name.p, c->name.n);
    }
    return apply_mailbox_put(a, acc->id, &m);
}

int apply_mailbox(struct apply *a, const struct journal_header *h, const struct j_mailbox *c, struct apply_result *r)
{
    struct apply_account acc;
    int rc = apply_account_get(a, c->tenant, c->account, &acc);
    if (rc == -ENOENT || rc == ERR_GONE) {
        r->status = rc;
        return 0;
    }
    if (rc == 0)
        rc = change_mailbox(a, h, c, &acc, r);
    r->modseq = acc.row.modseq;
    return rc == 0 ? apply_account_put(a, &acc) : rc;
}

/* ---- accepted mail ---- */

static int place_entry(struct apply *a, const struct journal_header *h, const struct j_place *p, struct apply_account *acc,
                       struct apply_mailbox *m, uint64_t message)
{
    struct apply_entry e = {0};
    uint64_t low;
    memcpy(&low, h->body.b + 8, sizeof(low));
    e.row.e = (struct store_entry){
        .uid = m->row.uidnext++,
        .flags = (uint32_t)p->flags,
        .modseq = acc->row.modseq,
        .size = p->size,
        .internal_ms = (int64_t)p->internal_ms,
        .save_ms = (int64_t)p->save_ms,
        .body = low,
        .message = message,
        .thread = message,
    };
    e.row.body = h->body;
    for (size_t i = 0; i < p->keywords.n; i++) {
        uint32_t number;
        int rc = apply_keyword(a, acc->id, m, RECORD_ITEM(p->keywords, j_keyword, i)->name, true, &number);
        if (rc != 0)
            return rc;
        if (number != UINT32_MAX)
            apply_set_keyword(&e, number, true);
    }
    apply_count(a, acc, m, &e.row.e, 1);
    m->row.modseq = acc->row.modseq;
    return apply_entry_put(a, acc->id, m->id, &e);
}

static int place(struct apply *a, const struct journal_header *h, const struct j_place *p, struct apply_place *ret)
{
    struct apply_account acc;
    struct apply_mailbox m;
    int rc = apply_account_get(a, p->tenant, p->account, &acc);
    ret->account = acc.id;
    if (rc == 0) {
        rc = apply_mailbox_get(a, acc.id, (uint32_t)p->mailbox, &m);
        if (rc == -ENOENT) /* deleted before this was committed: mail is not lost for that */
            rc = apply_mailbox_get(a, acc.id, STORE_INBOX, &m);
    }
    if (rc != 0)
        return rc == -ENOENT || rc == ERR_GONE ? 0 : rc;
    if (p->key.n != SEAL_WRAPPED)
        return ERR_CORRUPT;
    acc.row.modseq++;
    uint64_t message = acc.row.message_next++;
    struct index_placement row = {.body = h->body, .entries = 1, .lane = (uint32_t)p->lane};
    memcpy(row.key, p->key.p, SEAL_WRAPPED);
    struct ikey k = ikey_placement(acc.id, message);
    rc = index_put(a->x, a->t, INDEX_PLACEMENTS, &k, &row, sizeof(row), p->prefix);
    *ret = (struct apply_place){acc.id, m.id, m.row.uidnext, m.row.uidvalidity, message, acc.row.modseq};
    if (rc == 0)
        rc = place_entry(a, h, p, &acc, &m, message);
    if (rc == 0)
        rc = apply_mailbox_put(a, acc.id, &m);
    return rc == 0 ? apply_account_put(a, &acc) : rc;
}

/* Remembers the message id, forgets the oldest (ids sort by time). */
static int note_recent(struct apply *a, const struct journal_header *h, const struct j_accept *c)
{
    struct ikey k = ikey_id(c->message), oldest, all = {0};
    struct slice v;
    if (id_is_zero(c->message))
        return 0;
    int rc = index_get(a->x, a->t, INDEX_RECENT, &k, &v);
    if (rc == -ENOENT)
        a->mark.recent++;
    else if (rc != 0)
        return rc;
    rc = index_put(a->x, a->t, INDEX_RECENT, &k, &h->sequence, sizeof(h->sequence), c->statuses);
    if (rc != 0 || a->mark.recent <= STORE_RECENT_MAX)
        return rc;
    rc = index_first(a->x, a->t, INDEX_RECENT, &all, &all, &oldest, &v);
    if (rc == 0)
        rc = index_del(a->x, a->t, INDEX_RECENT, &oldest);
    a->mark.recent--;
    return rc;
}

int apply_accept(struct apply *a, uint64_t segment, const struct journal_position *at, const struct journal_header *h,
                 const struct j_accept *c, struct apply_result *r)
{
    struct ikey k = ikey_id(h->body);
    struct index_body b = {
        .segment = segment,
        .offset = at->body_offset,
        .stored_size = h->body_n,
        .body_size = c->body_size,
        .codec = BODY_FRAMED,
        .common_size = (uint32_t)c->common_size,
    };
    bool kept = false;
    if (h->body_n == 0)
        return ERR_CORRUPT;
    r->places = calloc(c->places.n + 1, sizeof(*r->places));
    if (r->places == NULL)
        return -ENOMEM;
    r->n_places = c->places.n;
    int rc = index_put(a->x, a->t, INDEX_BODIES, &k, &b, sizeof(b), c->meta);
    for (size_t i = 0; i < c->places.n && rc == 0; i++) {
        rc = place(a, h, RECORD_ITEM(c->places, j_place, i), &r->places[i]);
        kept |= r->places[i].message != 0;
    }
    if (rc == 0 && !kept)
        rc = apply_dead(a, segment, h->body_n);
    return rc == 0 ? note_recent(a, h, c) : rc;
}
