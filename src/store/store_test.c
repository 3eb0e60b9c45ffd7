/* Tests of the store as a whole: what goes in comes out, now and after opening again; flags, copies, quotas, deletion, outbox,
 * reclaim, verify, export and import. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "ipc/ipc.h"
#include "store/body.h"
#include "store/store_testing.h"

/* One test's store. Each test body runs in a fiber; assertions jump, so they are made on what the fiber left here. */
static struct {
    char path[64];
    int dir;
    struct store *s;
    struct store_options o;
    uint64_t events, last_event, alerts;
    void (*body)(void);
    char failure[256];
} t;

#define CHECK(what)                                                                                    \
    do {                                                                                               \
        if (!(what) && t.failure[0] == '\0')                                                           \
            (void)snprintf(t.failure, sizeof(t.failure), "%s:%d: %s", __func__, __LINE__, #what);      \
    } while (0)
#define A1 STORE_ACCOUNT(1)
#define A2 STORE_ACCOUNT(2)

static void on_event(void *arg, uint64_t sequence, struct slice event)
{
    (void)arg;
    (void)event;
    CHECK(sequence == t.last_event + 1);
    t.last_event = sequence;
    t.events++;
}

static void on_alert(void *arg, const char *name, const char *text)
{
    (void)arg;
    (void)name;
    (void)text;
    t.alerts++;
}

static void open_store(void)
{
    struct err err = {0};
    t.o.dir = t.dir;
    t.o.on_event = on_event;
    t.o.on_alert = on_alert;
    int rc = store_open(&t.o, &t.s, &err);
    if (rc == 0)
        rc = store_start(t.s, &err);
    if (rc != 0)
        (void)snprintf(t.failure, sizeof(t.failure), "open: %.200s", err.text);
}

static void reopen(bool clean)
{
    if (clean)
        store_stop(t.s);
    store_free(t.s);
    open_store();
}

static void fiber_main(void *arg)
{
    (void)arg;
    open_store();
    if (t.failure[0] == '\0')
        t.body();
    struct store_check check = {0};
    struct err err = {0};
    if (t.failure[0] == '\0') {
        CHECK(store_verify(t.s, true, NULL, NULL, &check, &err) == 0);
        CHECK(check.problems == 0);
        store_stop(t.s);
    }
}

static void run(void (*body)(void), uint64_t segment_size)
{
    memset(&t, 0, sizeof(t));
    struct err err;
    t.dir = testing_dir(t.path);
    t.o = testing_options(t.dir);
    t.o.segment_size = segment_size;
    t.body = body;
    assert_int_equal(loop_init(&err), 0);
    bool ended = testing_run(fiber_main, NULL);
    store_free(t.s);
    loop_done();
    close(t.dir);
    testing_remove(t.path);
    if (t.failure[0] != '\0')
        fail_msg("%s", t.failure);
    assert_true(ended);
}

/* ---- helpers ---- */

static int deliver(struct store_account a, struct slice name, struct slice body, struct store_rcpt *ret)
{
    struct err err = {0};
    struct store_rcpt r = {.account = a, .name = name, .prefix = SLICE("Return-Path: <s@example.org>\r\n"), .flags = STORE_RECENT};
    struct store_accept m = {
        .received_ms = 1000,
        .sender = SLICE("s@example.org"),
        .common = SLICE("Received: by test\r\n"),
        .meta = SLICE("meta"),
        .event = SLICE("event"),
        .body = body,
        .body_fd = -1,
        .rcpts = &r,
        .n_rcpts = 1,
        .want_uids = true,
    };
    int rc = store_accept(t.s, &m, &err);
    *ret = r;
    return rc != 0 ? rc : r.status;
}

static bool reads_as(struct store_account a, uint32_t mailbox, uint32_t uid, struct slice prefix, struct slice body)
{
    struct arena arena;
    struct store_place p = {0};
    struct body_reader *r = NULL;
    struct slice piece = SLICE_EMPTY;
    struct buf out;
    int fd = -1;
    arena_init(&arena, 1 << 20);
    buf_init(&out, 64 << 20);
    int rc = store_locate(t.s, a, mailbox, &uid, 1, true, &arena, &p);
    if (rc == 0)
        rc = p.status;
    if (rc == 0)
        rc = store_segment_open(t.s, p.segment, &fd);
    if (rc == 0)
        rc = body_reader_new(fd, p.offset, p.stored_size, p.body_size, p.codec, p.key, &r);
    while (rc == 0 && (rc = body_reader_next(r, &piece)) == 0 && piece.n > 0)
        buf_put_slice(&out, piece);
    bool same = rc == 0 && slice_eq(p.prefix, prefix) && slice_eq(buf_slice(&out), body) && slice_eq(p.meta, SLICE("meta"));
    body_reader_free(r);
    buf_done(&out);
    arena_done(&arena);
    if (fd >= 0)
        close(fd);
    return same;
}

#define LINES SLICE("Return-Path: <s@example.org>\r\nReceived: by test\r\n")

static void two_accounts(void)
{
    CHECK(store_account_create(t.s, A1, 0, SLICE("created 1"), NULL) == 0);
    CHECK(store_account_create(t.s, A2, 0, SLICE("created 2"), NULL) == 0);
}

static uint64_t count_entries(struct store_account a, uint32_t mailbox)
{
    struct store_mailbox m;
    return store_mailbox_get(t.s, a, mailbox, &m) == 0 ? m.messages : UINT64_MAX;
}

/* ---- tests ---- */

static void body_roundtrip(void)
{
    static const size_t sizes[] = {0, 1, 5000, 65536, 262144, 1000000};
    struct store_rcpt r;
    char *text = malloc(1000000);
    two_accounts();
    for (size_t i = 0; i < 1000000; i++)
        text[i] = (char)(i * 7 % 251);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        CHECK(deliver(A1, SLICE_EMPTY, slice_of(text, sizes[i]), &r) == 0);
        CHECK(r.uid == i + 1 && r.message == i + 1 && r.uidvalidity != 0);
    }
    for (int again = 0; again < 3; again++) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
            CHECK(reads_as(A1, STORE_INBOX, (uint32_t)i + 1, LINES, slice_of(text, sizes[i])));
        CHECK(!reads_as(A2, STORE_INBOX, 1, LINES, slice_of(text, 0)));
        if (again < 2)
            reopen(again == 0);
    }
    CHECK(t.events == 2 + sizeof(sizes) / sizeof(sizes[0]));
    free(text);
}

static void test_roundtrip(void **state)
{
    (void)state;
    run(body_roundtrip, 4 << 20);
}

static void body_many(void)
{
    struct err err = {0};
    struct store_rcpt r[3] = {{.account = A1, .prefix = SLICE("To-A1\r\n")}, {.account = STORE_ACCOUNT(77)},
                              {.account = A2, .prefix = SLICE("To-A2\r\n"), .flags = STORE_SEEN}};
    struct slice words[] = {SLICE("$Junk"), SLICE("\xe9\x87\x8d\xe8\xa6\x81")};
    r[2].keywords = words;
    r[2].n_keywords = 2;
    int fd = ipc_memfd_new("m");
    CHECK(write(fd, "body of one copy", 16) == 16 && ipc_memfd_seal(fd) == 0);
    struct store_accept m = {.message = id_new(), .received_ms = 5, .common = SLICE("C\r\n"), .meta = SLICE("meta"), .event = SLICE("e"),
                             .body_fd = fd, .body_size = 16, .rcpts = r, .n_rcpts = 3, .sender = SLICE_EMPTY};
    two_accounts();
    for (int i = 0; i < 3; i++) {
        r[0].status = r[1].status = r[2].status = 99;
        CHECK(store_accept(t.s, &m, &err) == 0);
        CHECK(r[0].status == 0 && r[1].status == -ENOENT && r[2].status == 0);
        if (i == 1)
            reopen(false);
    }
    int statuses[3];
    CHECK(store_accept_recall(t.s, m.message, statuses, 3) && statuses[1] == -ENOENT && statuses[2] == 0);
    CHECK(!store_accept_recall(t.s, m.message, statuses, 2) && !store_accept_recall(t.s, id_new(), statuses, 3));
    CHECK(count_entries(A1, STORE_INBOX) == 1 && count_entries(A2, STORE_INBOX) == 1);
    CHECK(reads_as(A1, STORE_INBOX, 1, SLICE("To-A1\r\nC\r\n"), SLICE("body of one copy")));
    CHECK(reads_as(A2, STORE_INBOX, 1, SLICE("To-A2\r\nC\r\n"), SLICE("body of one copy")));
    struct arena arena;
    struct slice *got;
    size_t n = 0;
    arena_init(&arena, 1 << 20);
    CHECK(store_message_keywords(t.s, A2, STORE_INBOX, 1, &arena, &got, &n) == 0 && n == 2 && slice_eq(got[1], words[1]));
    arena_done(&arena);
    struct store_account_info info;
    CHECK(store_account_get(t.s, A2, &info) == 0 && info.used == 7 + 3 + 16 && info.messages == 1);
    close(fd);
}

static void test_many(void **state)
{
    (void)state;
    run(body_many, 4 << 20);
}

static void body_flags(void)
{
    struct store_rcpt r;
    uint64_t changed, modseq, m2;
    struct store_entry e[10];
    struct store_mailbox m;
    size_t n;
    two_accounts();
    for (int i = 0; i < 6; i++)
        CHECK(deliver(A1, SLICE("inbox"), SLICE("x"), &r) == 0);
    uint32_t uids[] = {5, 1, 2, 3, 99};
    struct store_flags f = {.add = STORE_SEEN | STORE_FLAGGED, .remove = STORE_RECENT};
    CHECK(store_flags(t.s, A1, STORE_INBOX, uids, 5, &f, &changed, &modseq, NULL) == 0 && changed == 4);
    CHECK(store_entries(t.s, A1, STORE_INBOX, 0, e, 10, &n) == 0 && n == 6);
    CHECK(e[0].flags == (STORE_SEEN | STORE_FLAGGED) && e[0].modseq == modseq && e[3].flags == STORE_RECENT && e[3].modseq < modseq);
    CHECK(store_mailbox_get(t.s, A1, STORE_INBOX, &m) == 0 && m.unseen == 2 && m.recent == 2 && m.modseq == modseq);
    /* Conditional: only what did not change since. */
    f = (struct store_flags){.remove = STORE_SEEN, .unchanged_since = e[3].modseq};
    CHECK(store_flags(t.s, A1, STORE_INBOX, uids, 5, &f, &changed, &m2, NULL) == 0 && changed == 0);
    /* Thirty keywords: more than flags has bits. */
    char names[30][8];
    struct slice words[30];
    for (size_t i = 0; i < 30; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "k%zu", i);
        words[i] = slice_str(names[i]);
    }
    f = (struct store_flags){.add_keywords = words, .n_add = 30};
    CHECK(store_flags(t.s, A1, STORE_INBOX, uids, 2, &f, &changed, &modseq, NULL) == 0 && changed == 2);
    f = (struct store_flags){.remove_keywords = words + 1, .n_remove = 28};
    CHECK(store_flags(t.s, A1, STORE_INBOX, uids, 1, &f, &changed, &modseq, NULL) == 0);
    reopen(false);
    struct arena arena;
    struct slice *got;
    arena_init(&arena, 1 << 20);
    CHECK(store_message_keywords(t.s, A1, STORE_INBOX, 5, &arena, &got, &n) == 0 && n == 2);
    CHECK(slice_eq(got[0], words[0]) && slice_eq(got[1], words[29]));
    CHECK(store_message_keywords(t.s, A1, STORE_INBOX, 1, &arena, &got, &n) == 0 && n == 30);
    arena_done(&arena);
    char name[STORE_KEYWORD_MAX + 1];
    CHECK(store_keyword_get(t.s, A1, STORE_INBOX, 29, name) == 0 && strcmp(name, "k29") == 0);
    CHECK(store_keyword_get(t.s, A1, STORE_INBOX, 30, name) == -ENOENT);
}

static void test_flags(void **state)
{
    (void)state;
    run(body_flags, 4 << 20);
}

static void body_expunge(void)
{
    struct store_rcpt r;
    uint64_t n, modseq, floor;
    struct store_vanished v[4];
    size_t nv;
    two_accounts();
    for (int i = 0; i < 6; i++)
        CHECK(deliver(A1, SLICE_EMPTY, SLICE("x"), &r) == 0);
    uint32_t uids[] = {2, 3, 6, 6, 8};
    CHECK(store_expunge(t.s, A1, STORE_INBOX, uids, 5, SLICE("expunged"), &n, &modseq, NULL) == 0 && n == 3);
    uint64_t again;
    CHECK(store_expunge(t.s, A1, STORE_INBOX, uids, 5, SLICE_EMPTY, &n, &again, NULL) == 0 && n == 0);
    CHECK(store_vanished(t.s, A1, STORE_INBOX, (struct store_vanished){0, 0}, v, 4, &nv, &floor) == 0 && nv == 3 && floor == 0);
    CHECK(v[0].uid == 2 && v[2].uid == 6 && v[2].modseq == modseq);
    CHECK(store_vanished(t.s, A1, STORE_INBOX, v[1], v, 4, &nv, &floor) == 0 && nv == 1 && v[0].uid == 6);
    reopen(false);
    /* The highest uid is not given again. */
    CHECK(deliver(A1, SLICE_EMPTY, SLICE("y"), &r) == 0 && r.uid == 7);
    struct arena arena;
    struct store_place p[2];
    arena_init(&arena, 1 << 20);
    CHECK(store_locate(t.s, A1, STORE_INBOX, uids, 2, false, &arena, p) == 0 && p[0].status == ERR_GONE && p[0].segment == 0);
    arena_done(&arena);
    struct store_account_info info;
    CHECK(store_account_get(t.s, A1, &info) == 0 && info.messages == 4 && info.used == 4 * (LINES.n + 1));
}

static void test_expunge(void **state)
{
    (void)state;
    run(body_expunge, 4 << 20);
}

static void body_copy(void)
{
    struct store_rcpt r;
    struct store_uid_pair pairs[4];
    struct store_mailbox m;
    uint32_t box, other;
    uint64_t modseq, changed;
    struct err err = {0};
    two_accounts();
    CHECK(store_mailbox_create(t.s, A1, SLICE("\xe6\x9b\xb8\xe7\x95\x99/2026"), &box, &err) == 0);
    CHECK(store_mailbox_create(t.s, A1, SLICE("\xe6\x9b\xb8\xe7\x95\x99/2026"), &other, &err) == -EEXIST);
    CHECK(store_mailbox_create(t.s, A1, SLICE("Inbox"), &other, &err) == -EEXIST);
    CHECK(store_mailbox_create(t.s, A1, SLICE("a//b"), &other, &err) == ERR_SYNTAX);
    CHECK(store_mailbox_create(t.s, A1, SLICE("a\xff"), &other, &err) == ERR_SYNTAX);
    for (int i = 0; i < 3; i++)
        CHECK(deliver(A1, SLICE_EMPTY, SLICE("copied"), &r) == 0);
    struct slice words[] = {SLICE("zz"), SLICE("$Important")};
    struct store_flags f = {.add = STORE_SEEN, .add_keywords = words + 1, .n_add = 1};
    uint32_t uids[] = {3, 9, 1};
    CHECK(store_flags(t.s, A1, STORE_INBOX, uids, 3, &f, &changed, &modseq, &err) == 0);
    f = (struct store_flags){.add_keywords = words, .n_add = 1};
    CHECK(store_copy(t.s, A1, STORE_INBOX, uids, 3, box, false, pairs, &modseq, &err) == 0);
    CHECK(pairs[0].from == 3 && pairs[0].to == 1 && pairs[1].to == 0 && pairs[2].from == 1 && pairs[2].to == 2);
    CHECK(store_flags(t.s, A1, box, (uint32_t[]){1}, 1, &f, &changed, &modseq, &err) == 0);
    /* Into itself, and back by moving. */
    CHECK(store_copy(t.s, A1, box, (uint32_t[]){1, 2}, 2, box, false, pairs, &modseq, &err) == 0 && pairs[1].to == 4);
    CHECK(store_copy(t.s, A1, box, (uint32_t[]){1, 2}, 2, STORE_INBOX, true, pairs, &modseq, &err) == 0 && pairs[0].to == 4);
    reopen(false);
    CHECK(store_mailbox_find(t.s, A1, SLICE("\xe6\x9b\xb8\xe7\x95\x99/2026"), &m) == 0 && m.id == box && m.messages == 2 && m.unseen == 0);
    CHECK(count_entries(A1, STORE_INBOX) == 5);
    struct arena arena;
    struct slice *got;
    size_t n;
    arena_init(&arena, 1 << 20);
    CHECK(store_message_keywords(t.s, A1, STORE_INBOX, 4, &arena, &got, &n) == 0 && n == 2);
    arena_done(&arena);
    /* The original goes; the copies stay readable. */
    uint64_t gone;
    CHECK(store_expunge(t.s, A1, STORE_INBOX, (uint32_t[]){1, 2, 3}, 3, SLICE_EMPTY, &gone, &modseq, &err) == 0 && gone == 3);
    CHECK(reads_as(A1, box, 3, LINES, SLICE("copied")) && reads_as(A1, STORE_INBOX, 5, LINES, SLICE("copied")));
    /* Rename and delete; the number is never used again, nor its UIDVALIDITY. */
    CHECK(store_mailbox_rename(t.s, A1, box, SLICE("other"), &err) == 0);
    CHECK(store_mailbox_find(t.s, A1, SLICE("other"), &m) == 0 && m.id == box);
    CHECK(store_mailbox_rename(t.s, A1, STORE_INBOX, SLICE("x"), &err) < 0 && store_mailbox_delete(t.s, A1, STORE_INBOX, SLICE_EMPTY, &err) < 0);
    CHECK(store_mailbox_delete(t.s, A1, box, SLICE_EMPTY, &err) == 0);
    CHECK(store_mailbox_get(t.s, A1, box, &m) == -ENOENT);
    uint32_t validity = m.uidvalidity;
    CHECK(store_mailbox_create(t.s, A1, SLICE("other"), &other, &err) == 0 && other > box);
    CHECK(store_mailbox_get(t.s, A1, other, &m) == 0 && m.uidvalidity > validity);
}

static void test_copy(void **state)
{
    (void)state;
    run(body_copy, 4 << 20);
}

static void body_quota(void)
{
    struct store_rcpt r;
    struct store_account_info info;
    uint64_t modseq;
    struct err err = {0};
    uint64_t one = LINES.n + 10;
    CHECK(store_account_create(t.s, A1, 2 * one, SLICE_EMPTY, NULL) == 0);
    CHECK(deliver(A1, SLICE_EMPTY, SLICE("0123456789"), &r) == 0 && deliver(A1, SLICE_EMPTY, SLICE("0123456789"), &r) == 0);
    CHECK(deliver(A1, SLICE_EMPTY, SLICE(""), &r) == ERR_QUOTA);
    CHECK(store_copy(t.s, A1, STORE_INBOX, (uint32_t[]){1}, 1, STORE_INBOX, false, NULL, &modseq, &err) == ERR_QUOTA);
    CHECK(store_account_quota(t.s, A1, 3 * one, SLICE_EMPTY, &err) == 0);
    CHECK(store_copy(t.s, A1, STORE_INBOX, (uint32_t[]){1}, 1, STORE_INBOX, false, NULL, &modseq, &err) == 0);
    CHECK(store_account_get(t.s, A1, &info) == 0 && info.used == 3 * one && info.quota == 3 * one);
    CHECK(store_account_quota(t.s, A2, 1, SLICE_EMPTY, &err) == -ENOENT);
    CHECK(deliver(A1, SLICE("nowhere"), SLICE("x"), &r) == ERR_QUOTA && store_account_quota(t.s, A1, 0, SLICE_EMPTY, &err) == 0);
    CHECK(deliver(A1, SLICE("nowhere"), SLICE("x"), &r) == -ENOENT);
}

static void test_quota(void **state)
{
    (void)state;
    run(body_quota, 4 << 20);
}

static void body_delete(void)
{
    struct store_rcpt r;
    struct store_account_info info;
    struct store_account list[4];
    struct store_mailbox m;
    size_t n;
    two_accounts();
    for (int i = 0; i < 20; i++)
        CHECK(deliver(A1, SLICE_EMPTY, SLICE("secret"), &r) == 0 && deliver(A2, SLICE_EMPTY, SLICE("kept"), &r) == 0);
    CHECK(store_account_delete(t.s, A1, SLICE("deleted"), NULL) == 0 && store_account_delete(t.s, A1, SLICE("deleted"), NULL) == 0);
    CHECK(store_account_get(t.s, A1, &info) == ERR_GONE && deliver(A1, SLICE_EMPTY, SLICE("x"), &r) == ERR_GONE);
    CHECK(store_mailbox_get(t.s, A1, STORE_INBOX, &m) == ERR_GONE);
    CHECK(store_account_create(t.s, A1, 0, SLICE_EMPTY, NULL) == ERR_GONE);
    reopen(false);
    CHECK(store_account_create(t.s, A1, 0, SLICE_EMPTY, NULL) == ERR_GONE);
    for (int i = 0; i < 100 && t.failure[0] == '\0'; i++) {
        struct store_status st;
        store_status(t.s, &st);
        if (st.messages == 20)
            break;
        CHECK(i < 99);
        (void)fiber_sleep_until(clock_deadline(20));
    }
    CHECK(store_account_list(t.s, (struct store_account){0, 0}, list, 4, &n) == 0 && n == 1 && list[0].id == 2);
    CHECK(reads_as(A2, STORE_INBOX, 20, LINES, SLICE("kept")));
}

static void test_delete(void **state)
{
    (void)state;
    run(body_delete, 4 << 20);
}

static void body_outbox(void)
{
    struct store_rcpt r;
    struct arena arena;
    struct store_outbox_item *items;
    size_t n;
    uint64_t acked, last;
    two_accounts();
    for (int i = 0; i < 500; i++)
        CHECK(deliver(A1, SLICE_EMPTY, SLICE("x"), &r) == 0);
    arena_init(&arena, 4 << 20);
    for (int again = 0; again < 2; again++) {
        CHECK(store_outbox_read(t.s, 0, 1000, 1 << 20, &arena, &items, &n) == 0 && n == 502);
        for (size_t i = 0; i < n; i++)
            CHECK(items[i].sequence == i + 1);
        CHECK(slice_eq(items[0].event, SLICE("created 1")) && slice_eq(items[501].event, SLICE("event")));
        CHECK(store_outbox_read(t.s, 499, 2, 1 << 20, &arena, &items, &n) == 0 && n == 2 && items[1].sequence == 501);
        CHECK(store_outbox_read(t.s, 501, 2, 1 << 20, &arena, &items, &n) == 0 && n == 1 && items[0].sequence == 502);
        CHECK(store_outbox_read(t.s, 502, 2, 1 << 20, &arena, &items, &n) == 0 && n == 0);
        arena_reset(&arena);
        reopen(again == 0);
    }
    uint64_t epoch = store_epoch(t.s);
    store_outbox_ack(t.s, 400);
    reopen(true);
    store_outbox_marks(t.s, &acked, &last);
    CHECK(acked == 400 && last == 502 && store_epoch(t.s) == epoch);
    CHECK(deliver(A1, SLICE_EMPTY, SLICE("x"), &r) == 0 && t.last_event == 503);
    arena_done(&arena);
}

static void test_outbox(void **state)
{
    (void)state;
    run(body_outbox, STORE_SEGMENT_MIN);
}

static void body_reclaim(void)
{
    struct store_rcpt r;
    struct err err = {0};
    struct store_status before, after;
    uint64_t n, modseq, freed, moved, acked, last;
    char *noise = malloc(20000);
    two_accounts();
    for (uint32_t i = 1; i <= 300; i++) {
        rand_bytes(noise, 20000);
        memcpy(noise, &i, 4);
        CHECK(deliver(A1, SLICE_EMPTY, slice_of(noise, 20000), &r) == 0 && r.uid == i);
    }
    CHECK(reads_as(A1, STORE_INBOX, 300, LINES, slice_of(noise, 20000)));
    store_status(t.s, &before);
    CHECK(before.segments >= 5);
    uint32_t uids[300];
    size_t k = 0;
    for (uint32_t i = 1; i <= 290; i++)
        if (i % 10 != 0)
            uids[k++] = i;
    CHECK(store_expunge(t.s, A1, STORE_INBOX, uids, k, SLICE_EMPTY, &n, &modseq, &err) == 0 && n == k);
    /* Events that the trail does not have yet pin their segments. */
    CHECK(store_reclaim(t.s, 50, &freed, &moved, &err) == 0 && freed == 0 && moved > 20);
    store_outbox_marks(t.s, &acked, &last);
    store_outbox_ack(t.s, last);
    CHECK(store_reclaim(t.s, 50, &freed, &moved, &err) == 0 && freed >= 4 << 20);
    store_status(t.s, &after);
    CHECK(after.segments < before.segments);
    for (int again = 0; again < 2; again++) {
        struct store_entry e[32];
        size_t ne;
        CHECK(store_entries(t.s, A1, STORE_INBOX, 0, e, 32, &ne) == 0 && ne == 32);
        CHECK(reads_as(A1, STORE_INBOX, 300, LINES, slice_of(noise, 20000)));
        struct store_check check;
        CHECK(store_verify(t.s, true, NULL, NULL, &check, &err) == 0 && check.problems == 0 && check.bodies == 39);
        reopen(false);
    }
    free(noise);
}

static void test_reclaim(void **state)
{
    (void)state;
    run(body_reclaim, STORE_SEGMENT_MIN);
}

static void body_export(void)
{
    struct store_rcpt r;
    struct err err = {0};
    uint64_t n, modseq, changed;
    uint32_t box;
    struct store_entry e1[40], e2[40];
    size_t n1, n2;
    char *big = malloc(700000);
    rand_bytes(big, 700000);
    two_accounts();
    CHECK(store_mailbox_create(t.s, A1, SLICE("Archive"), &box, &err) == 0);
    for (int i = 0; i < 30; i++)
        CHECK(deliver(A1, i % 2 == 0 ? SLICE("Archive") : SLICE_EMPTY, slice_of(big, (size_t)i * 2000), &r) == 0);
    CHECK(deliver(A1, SLICE("Archive"), slice_of(big, 700000), &r) == 0);
    struct slice word = SLICE("$Work");
    struct store_flags f = {.add = STORE_ANSWERED, .add_keywords = &word, .n_add = 1};
    CHECK(store_flags(t.s, A1, box, (uint32_t[]){3, 4}, 2, &f, &changed, &modseq, &err) == 0);
    int fd = ipc_memfd_new("export");
    CHECK(store_export(t.s, A1, fd, &n, &err) == 0 && n == 31);
    /* Damage anywhere: nothing is added. */
    for (int i = 0; i < 20; i++) {
        char byte;
        off_t at = (off_t)(rand_u64() % (uint64_t)lseek(fd, 0, SEEK_END));
        CHECK(pread(fd, &byte, 1, at) == 1);
        byte ^= 1;
        CHECK(pwrite(fd, &byte, 1, at) == 1);
        lseek(fd, 0, SEEK_SET);
        CHECK(store_import(t.s, A2, fd, &n, &err) != 0 && n == 0);
        byte ^= 1;
        CHECK(pwrite(fd, &byte, 1, at) == 1);
    }
    for (int again = 0; again < 2; again++) {
        lseek(fd, 0, SEEK_SET);
        CHECK(store_import(t.s, A2, fd, &n, &err) == 0 && n == (again == 0 ? 31 : 0));
    }
    struct store_mailbox m;
    CHECK(store_mailbox_find(t.s, A2, SLICE("Archive"), &m) == 0 && m.messages == 16);
    CHECK(store_entries(t.s, A1, box, 0, e1, 40, &n1) == 0 && store_entries(t.s, A2, m.id, 0, e2, 40, &n2) == 0 && n1 == 16 && n2 == 16);
    for (size_t i = 0; i < 16; i++)
        CHECK(e1[i].flags == e2[i].flags && e1[i].internal_ms == e2[i].internal_ms && e1[i].save_ms == e2[i].save_ms &&
              e1[i].size == e2[i].size);
    CHECK(reads_as(A2, m.id, 16, LINES, slice_of(big, 700000)));
    close(fd);
    free(big);
}

static void test_export(void **state)
{
    (void)state;
    run(body_export, 4 << 20);
}

/* A map that is too small grows while mail comes in. */
static void body_growth(void)
{
    struct store_rcpt r;
    reopen(true);
    two_accounts();
    char *big = malloc(24000);
    struct err err = {0};
    rand_bytes(big, 24000);
    for (int i = 0; i < 100; i++) {
        struct store_rcpt rc = {.account = A1};
        struct store_accept m = {.meta = slice_of(big, 24000), .body = SLICE("b"), .body_fd = -1, .rcpts = &rc, .n_rcpts = 1,
                                 .sender = SLICE_EMPTY, .common = SLICE_EMPTY, .event = SLICE_EMPTY};
        CHECK(store_accept(t.s, &m, &err) == 0 && rc.status == 0);
    }
    CHECK(deliver(A1, SLICE_EMPTY, SLICE("x"), &r) == 0 && r.uid == 101);
    free(big);
}

static void small_map(void)
{
    t.o.index_map = 1 << 20;
    body_growth();
}

static void test_growth(void **state)
{
    (void)state;
    run(small_map, 4 << 20);
}

/* Two processes cannot; nor a store of a newer format. */
static void body_guards(void)
{
    struct store *other = NULL;
    struct err err = {0};
    struct store_options o = testing_options(t.dir);
    CHECK(store_open(&o, &other, &err) == -EBUSY);
    CHECK(store_verify_offline(t.dir, &o.keys, true, NULL, NULL, &(struct store_check){0}, &err) == -EBUSY);
    struct store_rcpt r;
    two_accounts();
    CHECK(deliver(A1, SLICE_EMPTY, SLICE("x"), &r) == 0);
    store_stop(t.s);
    CHECK(deliver(A1, SLICE_EMPTY, SLICE("x"), &r) == ERR_CLOSED);
    store_free(t.s);
    t.s = NULL;
    struct store_check check = {0};
    CHECK(store_verify_offline(t.dir, &o.keys, true, NULL, NULL, &check, &err) == 0 && check.problems == 0 && check.messages == 1);
    open_store();
}

static void test_guards(void **state)
{
    (void)state;
    run(body_guards, 4 << 20);
}

static uint64_t steps;

static void on_clock_step(void *arg, int64_t highest_ms, int64_t now_ms)
{
    (void)arg;
    CHECK(highest_ms > now_ms);
    steps++;
}

/* The highest time ever seen is kept; each step back is told once. */
static void body_clock(void)
{
    struct store_rcpt r;
    int64_t now = clock_real_ms();
    t.o.on_clock_step = on_clock_step;
    reopen(true);
    two_accounts();
    clock_fake_set(clock_mono_ms(), now + 3600000);
    CHECK(deliver(A1, SLICE_EMPTY, SLICE("x"), &r) == 0 && steps == 0);
    clock_fake_set(-1, 0);
    for (int i = 0; i < 3; i++)
        CHECK(deliver(A1, SLICE_EMPTY, SLICE("x"), &r) == 0 && steps == 1);
    reopen(false);
    CHECK(deliver(A1, SLICE_EMPTY, SLICE("x"), &r) == 0 && steps == 2);
}

static void test_clock(void **state)
{
    (void)state;
    steps = 0;
    run(body_clock, 4 << 20);
}

static void body_listing(void)
{
    struct store_rcpt r;
    int fd = -1;
    uint64_t n = 0;
    two_accounts();
    for (int i = 0; i < 50; i++)
        CHECK(deliver(A1, SLICE_EMPTY, SLICE("x"), &r) == 0);
    CHECK(store_entries_memfd(t.s, A1, STORE_INBOX, 10, 0, &fd, &n) == 0 && n == 40);
    struct store_entry e;
    CHECK(pread(fd, &e, sizeof(e), 39 * sizeof(e)) == sizeof(e) && e.uid == 50);
    close(fd);
    CHECK(store_entries_memfd(t.s, A1, STORE_INBOX, 10, 5, &fd, &n) == 0 && n == 5);
    close(fd);
    CHECK(store_entries_memfd(t.s, A2, STORE_INBOX, 0, 0, &fd, &n) == 0 && n == 0);
    close(fd);
}

static void test_listing(void **state)
{
    (void)state;
    run(body_listing, 4 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roundtrip), cmocka_unit_test(test_many),   cmocka_unit_test(test_flags),   cmocka_unit_test(test_expunge),
        cmocka_unit_test(test_copy),      cmocka_unit_test(test_quota),  cmocka_unit_test(test_delete),  cmocka_unit_test(test_outbox),
        cmocka_unit_test(test_reclaim),   cmocka_unit_test(test_export), cmocka_unit_test(test_growth),  cmocka_unit_test(test_guards),
        cmocka_unit_test(test_listing),   cmocka_unit_test(test_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
