/* store_verify: every record of every segment, the index against the segments both ways, counters and quotas, every body on demand.
 * Runs piece by piece on the task thread; one account is one piece, read in one index transaction, so that its counters can be
 * compared. See store.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/secret.h"
#include "store/store_priv.h"

#define ACCOUNTS_AT_ONCE 64
#define LINE_MAX_BYTES 400

struct verify {
    struct store *s;
    bool bodies, with_keys;
    store_report_fn *report;
    void *arg;
    struct store_check check;
    struct seal *seal;
    struct index_mark mark;   /* what was applied when it began */
    /* one segment open at a time */
    uint64_t open_segment;
    int open_fd;
    /* one account */
    struct store_account account;
    uint8_t key[KEYS_SIZE];
    bool has_key;
    int rc;
};

static void __attribute__((format(printf, 2, 3))) problem(struct verify *v, const char *fmt, ...)
{
    char line[LINE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    v->check.problems++;
    if (v->report != NULL)
        v->report(v->arg, line);
}

static int open_at(struct verify *v, uint64_t segment)
{
    struct journal_segment g;
    if (v->open_segment == segment && v->open_fd >= 0)
        return 0;
    if (v->open_fd >= 0)
        (void)close(v->open_fd);
    v->open_fd = -1;
    v->open_segment = segment;
    return segment_open(v->s, segment, &v->open_fd, &g);
}

/* ---- segments ---- */

struct segment_check {
    const struct segment_info *g;
    MDB_txn *t;
    struct buf scratch;
    struct arena arena;
    uint64_t event; /* the next one expected; 0: any */
};

/* A body that the index locates in this segment must be where the index says. */
static int check_location(struct verify *v, struct segment_check *c, const struct journal_header *h, const struct journal_position *at)
{
    struct ikey k = ikey_id(h->body);
    struct index_body b;
    char id[ID_TEXT_SIZE];
    int rc = index_row(v->s->x, c->t, INDEX_BODIES, &k, &b, sizeof(b), NULL);
    if (rc == -ENOENT)
        return 0; /* dead and swept */
    if (rc != 0)
        return rc;
    if (b.segment == c->g->id && (b.offset != at->body_offset || b.stored_size != h->body_n)) {
        id_print(h->body, id);
        problem(v, "store: body %s: segment %016llx has it at %llu, the index says %llu", id, (unsigned long long)b.segment,
                (unsigned long long)at->body_offset, (unsigned long long)b.offset);
    }
    return 0;
}

static int check_effects(struct verify *v, struct segment_check *c, int fd, const struct journal_header *h,
                         const struct journal_position *at)
{
    union journal_effect e;
    int rc = journal_read(fd, h, at, v->seal, v->s->journal_key, &c->scratch, &c->arena, &e);
    arena_reset(&c->arena);
    if (rc == ERR_CORRUPT)
        problem(v, "store: segment %016llx: record %llu at %llu: its sealed part does not open", (unsigned long long)c->g->id,
                (unsigned long long)h->sequence, (unsigned long long)at->offset);
    return rc == ERR_CORRUPT ? 0 : rc;
}

static int check_record(struct verify *v, struct segment_check *c, int fd, const struct journal_header *h, const struct journal_position *at)
{
    v->check.bytes += at->next - at->offset;
    if (h->event != 0 && c->event != 0 && h->event != c->event)
        problem(v, "store: segment %016llx: record %llu: event %llu where %llu was to come", (unsigned long long)c->g->id,
                (unsigned long long)h->sequence, (unsigned long long)h->event, (unsigned long long)c->event);
    if (h->event != 0)
        c->event = h->event + 1;
    int rc = v->with_keys ? check_effects(v, c, fd, h, at) : 0;
    return rc == 0 && h->body_n != 0 ? check_location(v, c, h, at) : rc;
}

/* To the end of what was applied when the check began. */
static int check_records(struct verify *v, struct segment_check *c, int fd, uint64_t size)
{
    struct journal_cursor cursor = {.fd = fd, .offset = JOURNAL_SEGMENT_HEADER, .end = size, .expect = c->g->first_sequence};
    struct journal_header h;
    struct journal_position at;
    int rc = 0;
    while (rc == 0 && cursor.expect <= v->mark.sequence && (rc = journal_next(&cursor, true, &h, &at)) == 0)
        rc = check_record(v, c, fd, &h, &at);
    bool last = c->g->id >= v->mark.segment;
    if (rc == ERR_CORRUPT || (rc == ERR_CLOSED && last && cursor.expect <= v->mark.sequence)) {
        problem(v, "store: segment %016llx: record %llu at %llu is damaged or missing", (unsigned long long)c->g->id,
                (unsigned long long)cursor.expect, (unsigned long long)cursor.offset);
        return 0;
    }
    return rc == ERR_CLOSED ? 0 : rc;
}

static int check_segment(struct verify *v, const struct segment_info *info)
{
    struct segment_check c = {.g = info, .event = info->first_event};
    struct journal_segment g;
    int fd, rc = segment_open(v->s, info->id, &fd, &g);
    if (rc == -ENOENT)
        return 0; /* reclaimed meanwhile */
    if (rc == ERR_CORRUPT)
        problem(v, "store: segment %016llx: damaged header", (unsigned long long)info->id);
    if (rc != 0)
        return rc == ERR_CORRUPT ? 0 : rc;
    buf_init(&c.scratch, JOURNAL_SEALED_MAX + SEAL_TAG);
    arena_init(&c.arena, 2 * JOURNAL_SEALED_MAX);
    rc = index_read_begin(v->s->x, &c.t);
    if (rc == 0) {
        rc = check_records(v, &c, fd, g.size);
        index_read_end(v->s->x, c.t);
    }
    buf_done(&c.scratch);
    arena_done(&c.arena);
    (void)close(fd);
    return rc;
}

static int check_index_segment(void *arg, const uint8_t *key, size_t key_n, struct slice value)
{
    struct verify *v = arg;
    struct segment_info g;
    if (key_n != 8 || value.n < sizeof(struct index_segment))
        problem(v, "store: index: a segment row of the wrong size");
    else if (!segments_get(v->s, ikey_get_u64(key), &g))
        problem(v, "store: segment %016llx is missing", (unsigned long long)ikey_get_u64(key));
    return 0;
}

static void check_segments(void *arg)
{
    struct verify *v = arg;
    struct segment_info g = {0};
    struct ikey none = {0};
    MDB_txn *t;
    v->rc = index_read_begin(v->s->x, &t);
    if (v->rc != 0)
        return;
    v->rc = index_walk(v->s->x, t, INDEX_SEGMENTS, &none, &none, check_index_segment, v);
    index_read_end(v->s->x, t);
    while (v->rc == 0 && segments_next(v->s, g.id, &g))
        v->rc = check_segment(v, &g);
}

/* ---- an account ---- */

struct account_check {
    struct verify *v;
    MDB_txn *t;
    struct index_account row, sum;
    struct map refs;              /* message -> count of entries, as a pointer */
    uint32_t mailbox;             /* being walked */
    struct index_mailbox box, box_sum;
    uint32_t highest_uid;
};

static void account_problem(struct account_check *c, const char *what, uint64_t is, uint64_t should)
{
    problem(c->v, "store: account %llu: %s is %llu, should be %llu", (unsigned long long)c->v->account.id, what, (unsigned long long)is,
            (unsigned long long)should);
}

static int count_ref(struct account_check *c, uint64_t message)
{
    uintptr_t n = (uintptr_t)map_get(&c->refs, MAP_KEY(message));
    return map_put(&c->refs, MAP_KEY(message), (void *)(n + 1), NULL);
}

static int check_entry(void *arg, const uint8_t *key, size_t key_n, struct slice value)
{
    struct account_check *c = arg;
    struct index_entry e;
    struct index_placement p;
    if (key_n != 20 || value.n < sizeof(e)) {
        problem(c->v, "store: account %llu: an entry of the wrong size", (unsigned long long)c->v->account.id);
        return 0;
    }
    memcpy(&e, value.p, sizeof(e));
    uint32_t uid = ikey_get_u32(key + 16);
    struct ikey k = ikey_placement(c->v->account, e.e.message);
    int rc = index_row(c->v->s->x, c->t, INDEX_PLACEMENTS, &k, &p, sizeof(p), NULL);
    if (rc != 0 && rc != -ENOENT && rc != ERR_CORRUPT)
        return rc;
    if (rc != 0 || !id_eq(p.body, e.body) || e.e.uid != uid || e.e.modseq > c->row.modseq || e.e.message >= c->row.message_next)
        problem(c->v, "store: account %llu mailbox %u uid %u: %s", (unsigned long long)c->v->account.id, c->mailbox, uid,
                rc != 0 ? "has no placement" : "disagrees with its placement or account");
    c->box_sum.messages++;
    c->box_sum.bytes += e.e.size;
    c->box_sum.unseen += (e.e.flags & STORE_SEEN) == 0;
    c->box_sum.deleted += (e.e.flags & STORE_DELETED) != 0;
    c->box_sum.recent += (e.e.flags & STORE_RECENT) != 0;
    c->highest_uid = uid;
    c->sum.used += e.e.size;
    c->v->check.messages++;
    return count_ref(c, e.e.message);
}

static int check_mailbox(void *arg, const uint8_t *key, size_t key_n, struct slice value)
{
    struct account_check *c = arg;
    if (key_n != 16 || value.n < sizeof(c->box)) {
        problem(c->v, "store: account %llu: a mailbox row of the wrong size", (unsigned long long)c->v->account.id);
        return 0;
    }
    memcpy(&c->box, value.p, sizeof(c->box));
    c->box_sum = (struct index_mailbox){0};
    c->highest_uid = 0;
    c->mailbox = ikey_get_u32(key + 12);
    struct ikey k = ikey_mailbox(c->v->account, c->mailbox);
    int rc = index_walk(c->v->s->x, c->t, INDEX_ENTRIES, &k, &k, check_entry, c);
    const struct index_mailbox *is = &c->box, *sum = &c->box_sum;
    if (is->messages != sum->messages || is->bytes != sum->bytes || is->unseen != sum->unseen || is->deleted != sum->deleted ||
        is->recent != sum->recent)
        problem(c->v, "store: account %llu mailbox %u: its counters disagree with its entries (%llu messages, should be %llu)",
                (unsigned long long)c->v->account.id, c->mailbox, (unsigned long long)is->messages, (unsigned long long)sum->messages);
    if (c->highest_uid >= is->uidnext || is->uidvalidity >= c->row.uidvalidity_next || is->modseq > c->row.modseq ||
        c->mailbox >= c->row.mailbox_next)
        problem(c->v, "store: account %llu mailbox %u: uidnext, uidvalidity, modseq or id stand too low",
                (unsigned long long)c->v->account.id, c->mailbox);
    c->sum.messages += sum->messages;
    c->sum.mailboxes++;
    return rc;
}

static int read_whole_body(struct verify *v, const struct index_body *b, const uint8_t *key)
{
    struct body_reader *r;
    struct slice piece;
    int rc = body_reader_new(v->open_fd, b->offset, b->stored_size, b->body_size, (uint8_t)b->codec, key, &r);
    if (rc != 0)
        return rc;
    do
        rc = body_reader_next(r, &piece);
    while (rc == 0 && piece.n > 0);
    body_reader_free(r);
    return rc;
}

/* The body's key unwraps; what is sealed under it opens; with v->bodies, so does the body. */
static int check_secrets(struct account_check *c, const struct index_placement *p, struct slice prefix, const struct index_body *b,
                         struct slice meta)
{
    struct verify *v = c->v;
    uint8_t aad[28], key[SEAL_KEY];
    struct ikey k = ikey_account(v->account);
    memcpy(aad, k.b, 12);
    memcpy(aad + 12, p->body.b, 16);
    char *open = malloc(prefix.n + meta.n + 1);
    if (open == NULL)
        return -ENOMEM;
    int rc = prefix.n < SEAL_TAG || meta.n < SEAL_TAG ? ERR_CORRUPT : 0;
    if (rc == 0)
        rc = seal_unwrap(v->seal, v->key, slice_of(aad, sizeof(aad)), p->key, key);
    if (rc == 0)
        rc = seal_decrypt(v->seal, key, SEAL_PREFIX, p->lane, SLICE_EMPTY, prefix.p, prefix.n - SEAL_TAG, open,
                          (const uint8_t *)prefix.p + prefix.n - SEAL_TAG);
    if (rc == 0)
        rc = seal_decrypt(v->seal, key, SEAL_META, 0, SLICE_EMPTY, meta.p, meta.n - SEAL_TAG, open,
                          (const uint8_t *)meta.p + meta.n - SEAL_TAG);
    if (rc == 0 && v->bodies) {
        rc = read_whole_body(v, b, key);
        v->check.bodies++;
    }
    secret_wipe(open, prefix.n + meta.n);
    free(open);
    secret_wipe(key, sizeof(key));
    return rc;
}

/* The record around the body says that it is this body. */
static int check_body_record(struct verify *v, const struct index_placement *p, const struct index_body *b)
{
    uint8_t raw[JOURNAL_HEADER];
    struct journal_header h;
    int rc = b->offset >= JOURNAL_SEGMENT_HEADER + JOURNAL_HEADER ? open_at(v, b->segment) : ERR_CORRUPT;
    if (rc == 0)
        rc = disk_read(v->open_fd, raw, sizeof(raw), b->offset - JOURNAL_HEADER);
    if (rc == 0)
        rc = journal_header_decode(raw, &h);
    if (rc == 0 && (!id_eq(h.body, p->body) || h.body_n != b->stored_size))
        rc = ERR_CORRUPT;
    return rc == -ENODATA || rc == -ENOENT ? ERR_CORRUPT : rc;
}

static int check_placement(void *arg, const uint8_t *key, size_t key_n, struct slice value)
{
    struct account_check *c = arg;
    struct verify *v = c->v;
    struct index_placement p;
    struct index_body b;
    struct slice meta;
    if (key_n != 20 || value.n < sizeof(p)) {
        problem(v, "store: account %llu: a placement of the wrong size", (unsigned long long)v->account.id);
        return 0;
    }
    memcpy(&p, value.p, sizeof(p));
    uint64_t message = ikey_get_u64(key + 12);
    uintptr_t entries = (uintptr_t)map_get(&c->refs, MAP_KEY(message));
    if (entries != p.entries)
        account_problem(c, "the count of a message's entries", p.entries, entries);
    struct ikey k = ikey_id(p.body);
    int rc = index_row(v->s->x, c->t, INDEX_BODIES, &k, &b, sizeof(b), &meta);
    if (rc == 0)
        rc = check_body_record(v, &p, &b);
    if (rc == 0 && v->with_keys)
        rc = check_secrets(c, &p, slice_from(value, sizeof(p)), &b, meta);
    if (rc != 0 && rc != -ENOENT && rc != ERR_CORRUPT && rc != ERR_VERSION)
        return rc;
    if (rc != 0)
        problem(v, "store: account %llu message %llu: its body is %s", (unsigned long long)v->account.id, (unsigned long long)message,
                rc == -ENOENT ? "missing" : "damaged");
    return 0;
}

static int check_totals(struct account_check *c)
{
    if (c->row.used != c->sum.used)
        account_problem(c, "used", c->row.used, c->sum.used);
    if (c->row.messages != c->sum.messages)
        account_problem(c, "the number of messages", c->row.messages, c->sum.messages);
    if (c->row.mailboxes != c->sum.mailboxes)
        account_problem(c, "the number of mailboxes", c->row.mailboxes, c->sum.mailboxes);
    return 0;
}

static int check_orphan(void *arg, const uint8_t *key, size_t key_n, struct slice value)
{
    struct account_check *c = arg;
    (void)key_n;
    (void)value;
    struct ikey k = ikey_mailbox(c->v->account, ikey_get_u32(key + 12));
    struct slice row;
    int rc = index_get(c->v->s->x, c->t, INDEX_MAILBOXES, &k, &row);
    if (rc == -ENOENT)
        problem(c->v, "store: account %llu: entries of mailbox %u, which does not exist", (unsigned long long)c->v->account.id,
                ikey_get_u32(key + 12));
    return rc == 0 || rc == -ENOENT ? 1 : rc;
}

static void check_account(void *arg)
{
    struct verify *v = arg;
    struct account_check c = {.v = v};
    struct ikey k = ikey_account(v->account);
    map_init(&c.refs);
    v->rc = index_read_begin(v->s->x, &c.t);
    if (v->rc != 0)
        return;
    int rc = store_account_row(v->s, c.t, v->account, &c.row);
    if (rc == 0 && v->with_keys && !v->has_key)
        problem(v, "store: account %llu has no key", (unsigned long long)v->account.id);
    if (rc == 0)
        rc = index_walk(v->s->x, c.t, INDEX_MAILBOXES, &k, &k, check_mailbox, &c);
    if (rc == 0)
        rc = index_walk(v->s->x, c.t, INDEX_ENTRIES, &k, &k, check_orphan, &c);
    if (rc == 0 && (v->has_key || !v->with_keys))
        rc = index_walk(v->s->x, c.t, INDEX_PLACEMENTS, &k, &k, check_placement, &c);
    if (rc == 0)
        rc = check_totals(&c);
    index_read_end(v->s->x, c.t);
    map_done(&c.refs);
    v->check.accounts++;
    v->rc = rc == ERR_GONE || rc == -ENOENT ? 0 : rc;
}

/* ---- all of it ---- */

static int MAY_YIELD run(struct verify *v, void (*fn)(void *))
{
    if (v->s->task == NULL) {
        fn(v);
        return v->rc;
    }
    int rc = worker_run(v->s->task, fn, v);
    return rc != 0 ? rc : v->rc;
}

static int MAY_YIELD check_accounts(struct verify *v)
{
    struct store_account at[ACCOUNTS_AT_ONCE], after = {0, 0};
    size_t n = ACCOUNTS_AT_ONCE;
    int rc = 0;
    while (rc == 0 && n == ACCOUNTS_AT_ONCE) {
        rc = store_account_list(v->s, after, at, ACCOUNTS_AT_ONCE, &n);
        for (size_t i = 0; i < n && rc == 0; i++) {
            const uint8_t *key = v->s->keys != NULL ? keys_account(v->s->keys, at[i]) : NULL;
            v->has_key = key != NULL;
            if (key != NULL)
                memcpy(v->key, key, KEYS_SIZE);
            v->account = after = at[i];
            rc = run(v, check_account);
        }
    }
    return rc;
}

static int MAY_YIELD verify_all(struct verify *v, struct store_check *ret, struct err *err)
{
    struct apply a;
    MDB_txn *t;
    int rc = seal_new(&v->seal);
    v->open_fd = -1;
    if (rc == 0)
        rc = index_read_begin(v->s->x, &t);
    if (rc == 0) {
        rc = apply_begin(&a, v->s->x, t);
        v->mark = a.mark;
        index_read_end(v->s->x, t);
    }
    if (rc == 0)
        rc = run(v, check_segments);
    if (rc == 0)
        rc = check_accounts(v);
    if (v->open_fd >= 0)
        (void)close(v->open_fd);
    seal_free(v->seal);
    secret_wipe(v->key, sizeof(v->key));
    *ret = v->check;
    return rc == 0 ? 0 : err_set(err, rc, "the check was broken off: %s", err_name(rc));
}

int MAY_YIELD store_verify(struct store *s, bool bodies, store_report_fn *report, void *arg, struct store_check *ret, struct err *err)
{
    struct verify v = {.s = s, .bodies = bodies, .with_keys = true, .report = report, .arg = arg};
    if (!s->started)
        return err_set(err, ERR_CLOSED, "the store is not serving");
    return verify_all(&v, ret, err);
}

/* ---- offline ---- */

static int open_offline(struct store *s, int dir, const struct store_key_ops *keys, struct err *err)
{
    s->disk = &disk_real;
    (void)pthread_mutex_init(&s->lock, NULL);
    s->dir = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    s->seg_dir = openat(dir, "seg", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir < 0 || s->seg_dir < 0)
        return err_errno(err, "this is not a store");
    if (flock(s->dir, LOCK_EX | LOCK_NB) != 0)
        return err_set(err, -EBUSY, "the store is in use; ask the running service instead");
    int rc = store_read_format(s->dir, &s->id, err);
    if (rc == 0)
        rc = segments_load(s, true, err);
    if (rc == 0)
        rc = index_open(s->dir, 1 << 20, s->id, true, &s->x, err);
    if (rc != 0 || keys == NULL || keys->unwrap == NULL)
        return rc;
    rc = keys_new(s->disk, s->dir, s->id, keys, NULL, &s->keys);
    if (rc == 0)
        rc = keys_load(s->keys, false, err);
    if (rc == 0)
        memcpy(s->journal_key, keys_journal(s->keys), KEYS_SIZE);
    return rc;
}

int store_verify_offline(int dir, const struct store_key_ops *keys, bool bodies, store_report_fn *report, void *arg,
                         struct store_check *ret, struct err *err)
{
    struct store *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    map_init(&s->pending);
    s->dir = s->seg_dir = -1;
    int rc = open_offline(s, dir, keys, err);
    struct verify v = {.s = s, .with_keys = s->keys != NULL, .bodies = bodies && s->keys != NULL, .report = report, .arg = arg};
    if (rc == 0)
        rc = verify_all(&v, ret, err);
    keys_free(s->keys);
    index_close(s->x);
    free(s->segments);
    if (s->dir >= 0)
        (void)close(s->dir);
    if (s->seg_dir >= 0)
        (void)close(s->seg_dir);
    (void)pthread_mutex_destroy(&s->lock);
    secret_wipe(s, sizeof(*s));
    free(s);
    return rc;
}
