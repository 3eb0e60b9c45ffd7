/* fake_store.c: see fake_store.h. */
#include "role/stored/fake_store.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "ipc/ipc.h"

struct fake_store fake_store;

void fake_store_reset(void)
{
    for (uint64_t i = 0; i < fake_store.last; i++)
        free((void *)(uintptr_t)fake_store.events[i].p);
    memset(&fake_store, 0, sizeof(fake_store));
    fiber_queue_init(&fake_store.released);
}

void fake_release(void)
{
    fake_store.hold = false;
    fiber_wake_all(&fake_store.released);
}

static void MAY_YIELD wait_if_held(void)
{
    fake_store.held++;
    while (fake_store.hold && fiber_wait(&fake_store.released, CLOCK_NEVER) == 0)
        ;
    fake_store.held--;
}

static int MAY_YIELD change(struct err *err)
{
    wait_if_held();
    return fake_store.fail != 0 ? err_set(err, fake_store.fail, "made to fail") : 0;
}

void fake_event(struct slice event)
{
    if (event.n == 0)
        return;
    char *copy = malloc(event.n);
    memcpy(copy, event.p, event.n);
    fake_store.events[fake_store.last++] = slice_of(copy, event.n);
    if (fake_store.options.on_event != NULL)
        fake_store.options.on_event(fake_store.options.arg, fake_store.last, event);
}

static struct store_account_info *find(struct store_account a)
{
    return a.id < FAKE_ACCOUNTS && fake_store.accounts[a.id].created_ms != 0 ? &fake_store.accounts[a.id] : NULL;
}

/* ---- life and accounts ---- */

int store_open(const struct store_options *options, struct store **ret, struct err *err)
{
    (void)err;
    fake_store.options = *options;
    *ret = (struct store *)&fake_store;
    return 0;
}

int store_start(struct store *s, struct err *err)
{
    (void)s;
    return change(err);
}

void store_stop(struct store *s)
{
    (void)s;
    fake_store.stopped = true;
}

void store_free(struct store *s)
{
    (void)s;
}

bool store_is_readonly(const struct store *s)
{
    (void)s;
    return fake_store.readonly;
}

int store_account_create(struct store *s, struct store_account a, uint64_t quota, struct slice event, struct err *err)
{
    (void)s;
    int rc = change(err);
    if (rc == 0 && find(a) == NULL) {
        fake_store.accounts[a.id] = (struct store_account_info){.quota = quota, .created_ms = 1};
        fake_event(event);
    }
    return rc;
}

int store_account_delete(struct store *s, struct store_account a, struct slice event, struct err *err)
{
    (void)s;
    int rc = change(err);
    if (rc == 0)
        fake_store.accounts[a.id].created_ms = 0;
    fake_event(event);
    return rc;
}

int store_account_quota(struct store *s, struct store_account a, uint64_t quota, struct slice event, struct err *err)
{
    (void)s;
    fake_event(event);
    int rc = find(a) == NULL ? -ENOENT : change(err);
    if (rc == 0)
        find(a)->quota = quota;
    return rc;
}

int store_account_get(struct store *s, struct store_account a, struct store_account_info *ret)
{
    (void)s;
    if (find(a) == NULL)
        return -ENOENT;
    *ret = *find(a);
    return 0;
}

/* ---- accepting ---- */

static size_t known(struct id128 message)
{
    size_t i = 0;
    while (i < fake_store.n_messages && !id_eq(fake_store.messages[i].message, message))
        i++;
    return i;
}

static int take(struct store_rcpt *r, uint64_t size)
{
    struct store_account_info *a = find(r->account);
    if (a == NULL)
        return -ENOENT;
    if (a->quota != 0 && a->used + size > a->quota)
        return ERR_QUOTA;
    a->used += size;
    a->messages++;
    return 0;
}

int store_accept(struct store *s, struct store_accept *a, struct err *err)
{
    (void)s;
    size_t i = known(a->message);
    int rc = change(err);
    if (rc < 0)
        return rc;
    if (i == fake_store.n_messages)
        i = known(a->message); /* the same message may have been committed while this one waited */
    bool again = i < fake_store.n_messages;
    for (size_t k = 0; k < a->n_rcpts; k++) {
        a->rcpts[k].status = again ? fake_store.messages[i].statuses[k] : take(&a->rcpts[k], a->body_size + a->common.n + a->rcpts[k].prefix.n);
        fake_store.messages[i].statuses[k] = a->rcpts[k].status;
    }
    if (again)
        return 0;
    fake_store.messages[i].message = a->message;
    fake_store.messages[i].n = a->n_rcpts;
    fake_store.messages[i].size = a->body_size;
    fake_store.n_messages++;
    fake_event(a->event);
    return 0;
}

bool store_accept_recall(struct store *s, struct id128 message, int *ret_statuses, size_t n)
{
    (void)s;
    size_t i = known(message);
    if (i == fake_store.n_messages || fake_store.messages[i].n != n)
        return false;
    for (size_t k = 0; k < n; k++)
        ret_statuses[k] = fake_store.messages[i].statuses[k];
    return true;
}

/* ---- reading and changing: every account has an INBOX with the messages 1, 2, 3 ---- */

int store_mailbox_find(struct store *s, struct store_account a, struct slice name, struct store_mailbox *ret)
{
    (void)s;
    wait_if_held();
    if (find(a) == NULL || !slice_ieq(name, SLICE("INBOX")))
        return -ENOENT;
    *ret = (struct store_mailbox){.id = STORE_INBOX, .uidvalidity = 9, .uidnext = 4, .messages = 3, .bytes = 300, .modseq = 5};
    return 0;
}

int store_entries_memfd(struct store *s, struct store_account a, uint32_t mailbox, uint32_t after, uint64_t max, int *ret_fd, uint64_t *ret_n)
{
    (void)s;
    (void)max;
    wait_if_held();
    if (find(a) == NULL || mailbox != STORE_INBOX)
        return -ENOENT;
    *ret_fd = ipc_memfd_new("entries");
    *ret_n = 0;
    for (uint32_t uid = 1; uid <= 3; uid++) {
        struct store_entry e = {.uid = uid};
        if (uid > after && write(*ret_fd, &e, sizeof(e)) == (ssize_t)sizeof(e))
            ++*ret_n;
    }
    return ipc_memfd_seal(*ret_fd);
}

int store_locate(struct store *s, struct store_account a, uint32_t mailbox, const uint32_t *uids, size_t n, bool want_meta,
                 struct arena *arena, struct store_place *places)
{
    (void)s;
    (void)a;
    (void)mailbox;
    wait_if_held();
    for (size_t i = 0; i < n; i++) {
        char *prefix = arena_alloc(arena, 4000);
        memset(prefix, 'x', 4000);
        places[i] = (struct store_place){.uid = uids[i], .status = uids[i] >= 1 && uids[i] <= 3 ? 0 : ERR_GONE, .segment = 77,
                                         .offset = 100, .stored_size = 50, .body_size = 100, .codec = 1, .prefix = slice_of(prefix, 4000),
                                         .meta = want_meta ? SLICE("meta") : SLICE_EMPTY};
        memset(places[i].key, 'k', sizeof(places[i].key));
    }
    return 0;
}

int store_segment_open(struct store *s, uint64_t segment, int *ret_fd)
{
    (void)s;
    if (segment != 77)
        return ERR_GONE;
    *ret_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return 0;
}

static void note_uids(const uint32_t *uids, size_t n)
{
    fake_store.n_uids = n;
    for (size_t i = 0; i < n && i < 8; i++)
        fake_store.uids[i] = uids[i];
}

int store_expunge(struct store *s, struct store_account a, uint32_t mailbox, const uint32_t *uids, size_t n, struct slice event,
                  uint64_t *ret_expunged, uint64_t *ret_modseq, struct err *err)
{
    (void)s;
    (void)a;
    (void)mailbox;
    int rc = change(err);
    if (rc < 0)
        return rc;
    note_uids(uids, n);
    fake_event(event);
    *ret_expunged = n;
    *ret_modseq = 6;
    return 0;
}

int store_flags(struct store *s, struct store_account a, uint32_t mailbox, const uint32_t *uids, size_t n, const struct store_flags *f,
                uint64_t *ret_changed, uint64_t *ret_modseq, struct err *err)
{
    (void)s;
    (void)a;
    (void)mailbox;
    int rc = change(err);
    note_uids(uids, n);
    fake_store.flags_add = f->add;
    *ret_changed = n;
    *ret_modseq = 7;
    return rc;
}

/* ---- outbox ---- */

int store_outbox_read(struct store *s, uint64_t after, size_t max, size_t max_bytes, struct arena *arena, struct store_outbox_item **ret,
                      size_t *ret_n)
{
    (void)s;
    (void)max_bytes;
    size_t n = 0;
    fake_store.outbox_reads++;
    *ret = arena_array(arena, max, sizeof(**ret));
    while (n < max && after + n < fake_store.last) {
        (*ret)[n] = (struct store_outbox_item){after + n + 1, fake_store.events[after + n]};
        n++;
    }
    *ret_n = n;
    return 0;
}

void store_outbox_ack(struct store *s, uint64_t sequence)
{
    (void)s;
    fake_store.acked = sequence;
}

void store_outbox_marks(const struct store *s, uint64_t *ret_acked, uint64_t *ret_last)
{
    (void)s;
    *ret_acked = fake_store.acked;
    *ret_last = fake_store.last;
}

uint64_t store_epoch(const struct store *s)
{
    (void)s;
    return 4711;
}

/* ---- care ---- */

void store_status(struct store *s, struct store_status *ret)
{
    (void)s;
    *ret = (struct store_status){.accounts = 2, .commits = fake_store.n_messages, .readonly = fake_store.readonly};
}

int store_verify(struct store *s, bool bodies, store_report_fn *report, void *arg, struct store_check *ret, struct err *err)
{
    (void)s;
    (void)bodies;
    report(arg, "store: one thing is wrong");
    *ret = (struct store_check){.problems = 1, .messages = 3};
    return change(err);
}

int store_reclaim(struct store *s, unsigned min_percent, uint64_t *ret_freed, uint64_t *ret_moved, struct err *err)
{
    (void)s;
    fake_store.reclaim_percent = min_percent;
    *ret_freed = 1000;
    *ret_moved = 10;
    return change(err);
}

int store_export(struct store *s, struct store_account a, int fd, uint64_t *ret_messages, struct err *err)
{
    (void)s;
    if (find(a) == NULL)
        return err_set(err, -ENOENT, "no such account");
    *ret_messages = write(fd, "export", 6) == 6 ? 3 : 0;
    return change(err);
}

int store_import(struct store *s, struct store_account a, int fd, uint64_t *ret_messages, struct err *err)
{
    char text[6];
    (void)s;
    (void)a;
    *ret_messages = read(fd, text, 6) == 6 ? 3 : 0;
    return change(err);
}
