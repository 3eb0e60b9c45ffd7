/* stored_store_test.c: stored with the real store in a temporary directory: a message in by smtpd's frames, out by imapd's, and the
 * same after a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>

#include "role/role_main.h"
#include "role/stored/fake_peer.h"
#include "role/stored/stored.h"
#include "store/body.h"

#define LIFE_MS 60000
#define SMALL "From: a@example.org\r\nSubject: small\r\n\r\nsmall body\r\n"
#define BIG_SIZE (300 * 1024)
#define PREFIX "Return-Path: <a@example.org>\r\n"
#define COMMON "Received: by test\r\n"

static struct fake_peer supervisor, smtpd0, imapd0, authd, auditd, keyd, ctl;
static struct arena arena;
static struct fake_frame frame, key_frame;
static struct conf conf;
static char dir[] = "/tmp/kakitome-stored-XXXXXX";
static char *big;

/* ---- keyd: "wraps" by turning the bits over ---- */

static struct slice flipped(struct slice s)
{
    char *p = arena_alloc(&arena, s.n);
    for (size_t i = 0; i < s.n; i++)
        p[i] = (char)~s.p[i];
    return slice_of(p, s.n);
}

static void keyd_serve(void)
{
    while (fake_take(&keyd, &key_frame)) {
        struct m_rest_wrap w;
        struct m_rest_unwrap u;
        if (key_frame.number == IPC_rest_wrap && record_decode(&record_m_rest_wrap, key_frame.payload, NULL, 0, &arena, &w) == 0) {
            struct m_rest_wrap_reply r = {.wrapped = flipped(w.key)};
            fake_send(&keyd, IPC_rest_wrap, 1, key_frame.call, 0, &record_m_rest_wrap_reply, &r);
        } else if (key_frame.number == IPC_rest_unwrap && record_decode(&record_m_rest_unwrap, key_frame.payload, NULL, 0, &arena, &u) == 0) {
            struct m_rest_unwrap_reply r = {.key = flipped(u.wrapped)};
            fake_send(&keyd, IPC_rest_unwrap, 1, key_frame.call, 0, &record_m_rest_unwrap_reply, &r);
        }
    }
}

/* auditd: everything is durable at once. */
static void auditd_serve(void)
{
    struct m_event_reply r = {0};
    while (fake_take(&auditd, &key_frame))
        if (key_frame.number == IPC_event)
            fake_send(&auditd, IPC_event, 1, key_frame.call, 0, &record_m_event_reply, &r);
}

/* A call while keyd and auditd answer. */
static int call(struct fake_peer *peer, enum ipc_number number, const void *request, void *reply)
{
    uint32_t id = fake_call_begin(peer, number, request);
    int64_t until = clock_mono_ms() + FAKE_PATIENCE_MS;
    do {
        while (!fake_take(peer, &frame)) {
            assert_true(clock_mono_ms() < until);
            loop_turn(1);
            keyd_serve();
            if (peer != &auditd)
                auditd_serve();
        }
    } while (frame.kind != 1 || frame.call != id);
    return fake_reply(&frame, reply, &arena);
}

/* ---- life ---- */

struct life {
    int rc;
    bool done;
};

static void start_fiber(void *arg)
{
    struct life *l = arg;
    struct err err = {0};
    l->rc = role_program_stored.start(role_context(), &err);
    if (l->rc < 0)
        print_error("start: %s\n", err.text);
    l->done = true;
}

static void stop_fiber(void *arg)
{
    role_program_stored.stop(role_context(), clock_deadline(5000));
    ((struct life *)arg)->done = true;
}

static void await_fiber(fiber_fn *fn)
{
    struct life l = {0};
    assert_int_equal(fiber_start("life", fn, &l, NULL), 0);
    while (!l.done) {
        loop_turn(5);
        keyd_serve();
    }
    assert_int_equal(l.rc, 0);
}

static void start(void)
{
    struct err err = {0};
    role_context()->stopping = false;
    role_context()->state_dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (role_program_stored.threads(role_context(), &err) != 0)
        fail_msg("%s", err.text);
    await_fiber(start_fiber);
}

static void stop(void)
{
    role_context()->stopping = true;
    await_fiber(stop_fiber);
    stored_done();
    (void)close(role_context()->state_dir);
}

static void peers_up(void)
{
    fake_peer_up(&supervisor, ROLE_SUPERVISOR, 0);
    fake_peer_up(&smtpd0, ROLE_SMTPD, 0);
    fake_peer_up(&imapd0, ROLE_IMAPD, 0);
    fake_peer_up(&authd, ROLE_AUTHD, 0);
    fake_peer_up(&auditd, ROLE_AUDITD, 0);
    fake_peer_up(&keyd, ROLE_KEYD, 0);
    fake_peer_up(&ctl, ROLE_CTL, 1);
}

static void restart(void)
{
    stop();
    peers_up(); /* with new serials, as after a restart */
    start();
}

static int setup(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    arena_init(&arena, 256 * 1024 * 1024);
    conf = (struct conf){.trail_outbox_limit = 10000, .store_zstd_level = 1, .store_segment_size = 4 * 1024 * 1024, .store_index_map = 64 * 1024 * 1024};
    role_context()->conf = &conf;
    role_context()->role = ROLE_STORED;
    assert_int_equal(ipc_init(ROLE_STORED, 0, stored_handlers, stored_on_peer), 0);
    big = malloc(BIG_SIZE);
    for (size_t i = 0; i < BIG_SIZE; i++)
        big[i] = i % 72 == 70 ? '\r' : i % 72 == 71 ? '\n' : (char)('a' + (i * 7 + i / 72) % 26);
    peers_up();
    start();
    return 0;
}

static void remove_dir(const char *path)
{
    char name[4096];
    DIR *d = opendir(path);
    const struct dirent *e;
    while (d != NULL && (e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        (void)snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
        if (unlink(name) != 0)
            remove_dir(name);
    }
    if (d != NULL)
        (void)closedir(d);
    (void)rmdir(path);
}

static int teardown(void **state)
{
    struct fake_peer *all[] = {&supervisor, &smtpd0, &imapd0, &authd, &auditd, &keyd, &ctl};
    (void)state;
    stop();
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        fake_peer_down(all[i]);
    stored_done();
    remove_dir(dir);
    free(big);
    arena_done(&arena);
    return 0;
}

/* ---- what peers do ---- */

static void make_account(uint64_t account)
{
    struct m_account_create q = {.account = account, .quota = 10 * 1024 * 1024};
    assert_int_equal(call(&authd, IPC_account_create, &q, NULL), 0);
}

static uint64_t deliver_grant(uint64_t account, uint64_t size)
{
    struct m_grant_deliver q = {.account = account, .holder_role = ROLE_SMTPD, .size = size, .lifetime_ms = LIFE_MS};
    struct m_grant_deliver_reply r = {0};
    assert_int_equal(call(&authd, IPC_grant_deliver, &q, &r), 0);
    assert_int_equal(r.verdict, RCPT_OK);
    return r.grant;
}

static uint64_t mailbox_grant(uint64_t account)
{
    struct m_grant_mailbox q = {.account = account, .rights = GRANT_ALL, .holder_role = ROLE_IMAPD, .lifetime_ms = LIFE_MS};
    struct m_grant_mailbox_reply r = {0};
    assert_int_equal(call(&authd, IPC_grant_mailbox, &q, &r), 0);
    return r.grant;
}

static struct slice received_event(void)
{
    struct ev_smtp_received e = {.sender = SLICE("a@example.org")};
    struct event_head head = {.number = EV_smtp_received, .role = ROLE_SMTPD, .time_ms = 1};
    struct buf b;
    buf_init(&b, IPC_EVENT_MAX);
    assert_int_equal(event_encode(&head, &e, &b), 0);
    struct slice copy = arena_copy(&arena, buf_slice(&b));
    buf_done(&b);
    return copy;
}

static struct m_accept_rcpt rcpts[2];

static struct m_accept message(uint8_t id, struct slice body)
{
    for (uint64_t i = 0; i < 2; i++)
        rcpts[i] = (struct m_accept_rcpt){.account = i + 1, .grant = deliver_grant(i + 1, body.n), .prefix = SLICE(PREFIX)};
    return (struct m_accept){.message = {{id}}, .received_ms = 1000, .sender = SLICE("a@example.org"), .prefix = SLICE(COMMON),
                             .rcpts = {2, rcpts}, .meta = SLICE("meta"), .event = received_event(), .size = body.n, .all = 1,
                             .body = body.n <= IPC_INLINE_MAX ? body : SLICE_EMPTY, .body_fd = -1};
}

static void accept_all(const struct m_accept *q)
{
    struct m_accept_reply r = {0};
    assert_int_equal(call(&smtpd0, IPC_accept, q, &r), 0);
    assert_int_equal(r.results.n, 2);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(RECORD_ITEM(r.results, m_accept_result, i)->status, ACCEPT_OK);
}

static uint64_t messages_in(uint64_t account)
{
    struct m_mailbox_open q = {.grant = mailbox_grant(account), .name = SLICE("INBOX")};
    struct m_mailbox_open_reply r = {0};
    assert_int_equal(call(&imapd0, IPC_mailbox_open, &q, &r), 0);
    return r.messages;
}

/* The message under this uid, read as imapd does, is prefix, common lines and body. */
static void expect_body(uint64_t grant, uint64_t uid, struct slice body)
{
    struct m_message_uid item = {uid};
    struct m_message_locate q = {.grant = grant, .mailbox = STORE_INBOX, .uids = {1, &item}, .want_meta = 1};
    struct m_message_locate_reply r = {0};
    assert_int_equal(call(&imapd0, IPC_message_locate, &q, &r), 0);
    const struct m_message_place *p = RECORD_ITEM(r.places, m_message_place, 0);
    assert_true(slice_eq(p->prefix, SLICE(PREFIX COMMON)));
    assert_true(slice_eq(p->meta, SLICE("meta")));
    struct m_segment_open sq = {.grant = grant, .segment = p->segment};
    struct m_segment_open_reply sr = {.file = -1};
    assert_int_equal(call(&imapd0, IPC_segment_open, &sq, &sr), 0);
    assert_int_equal(fcntl(sr.file, F_GETFL) & O_ACCMODE, O_RDONLY);
    struct body_reader *reader;
    struct slice part;
    assert_int_equal(body_reader_new(sr.file, p->offset, p->stored_size, p->body_size, (uint8_t)p->codec, (const uint8_t *)p->key.p, &reader), 0);
    for (;;) {
        assert_int_equal(body_reader_next(reader, &part), 0);
        if (part.n == 0)
            break;
        assert_true(slice_eq(slice_head(body, part.n), part));
        body = slice_from(body, part.n);
    }
    assert_int_equal(body.n, 0);
    body_reader_free(reader);
    (void)close(sr.file);
}

/* ---- the tests, which build on each other ---- */

static void a_message_goes_in_and_comes_out(void **state)
{
    (void)state;
    make_account(1);
    make_account(2);
    struct m_accept small = message(1, SLICE(SMALL));
    accept_all(&small);
    struct m_accept large = message(2, slice_of(big, BIG_SIZE));
    large.body_fd = ipc_memfd_new("body");
    assert_int_equal(write(large.body_fd, big, BIG_SIZE), BIG_SIZE);
    assert_int_equal(ipc_memfd_seal(large.body_fd), 0);
    accept_all(&large);
    (void)close(large.body_fd);
    for (uint64_t account = 1; account <= 2; account++) {
        uint64_t grant = mailbox_grant(account);
        assert_int_equal(messages_in(account), 2);
        expect_body(grant, 1, SLICE(SMALL));
        expect_body(grant, 2, slice_of(big, BIG_SIZE));
    }
}

static void the_same_after_a_restart(void **state)
{
    (void)state;
    struct m_accept again = message(3, SLICE(SMALL));
    accept_all(&again);
    restart();
    assert_int_equal(messages_in(1), 3);
    accept_all(&again); /* the same request with its old grants: the answer that was lost, and no second copy */
    assert_int_equal(messages_in(1), 3);
    uint64_t grant = mailbox_grant(1);
    expect_body(grant, 1, SLICE(SMALL));
    expect_body(grant, 2, slice_of(big, BIG_SIZE));
    struct m_accept new_one = message(4, SLICE(SMALL));
    new_one.rcpts.n = 2;
    rcpts[0].grant = 77; /* of before */
    struct m_accept_reply r = {0};
    assert_int_equal(call(&smtpd0, IPC_accept, &new_one, &r), 0);
    assert_int_equal(RECORD_ITEM(r.results, m_accept_result, 0)->status, ACCEPT_NO_GRANT);
    assert_int_equal(RECORD_ITEM(r.results, m_accept_result, 1)->status, ACCEPT_TEMPORARY);
    assert_int_equal(messages_in(2), 3);
}

static void events_wait_for_auditd(void **state)
{
    (void)state;
    struct m_outbox_fetch q = {.done = 0, .max = 100};
    struct m_outbox_fetch_reply r = {0};
    assert_int_equal(call(&auditd, IPC_outbox_fetch, &q, &r), 0);
    assert_int_equal(r.items.n, 3); /* one a message, also those of before the restart */
    for (size_t i = 0; i < r.items.n; i++) {
        assert_int_equal(RECORD_ITEM(r.items, m_outbox_item, i)->sequence, i + 1);
        assert_true(slice_eq(RECORD_ITEM(r.items, m_outbox_item, i)->event, received_event()));
    }
    q.done = 3;
    assert_int_equal(call(&auditd, IPC_outbox_fetch, &q, &r), 0);
    assert_int_equal(r.items.n, 0);
}

static void expunged_and_verified(void **state)
{
    struct m_message_uid uids[2] = {{1}, {3}};
    uint64_t grant = mailbox_grant(1);
    struct m_mailbox_expunge q = {.grant = grant, .mailbox = STORE_INBOX, .uids = {2, uids}};
    struct m_mailbox_expunge_reply r = {0};
    (void)state;
    assert_int_equal(call(&imapd0, IPC_mailbox_expunge, &q, &r), 0);
    assert_int_equal(r.expunged, 2);
    assert_int_equal(call(&imapd0, IPC_mailbox_expunge, &q, &r), 0); /* gone already: no error */
    struct m_mailbox_list lq = {.grant = grant, .mailbox = STORE_INBOX};
    struct m_mailbox_list_reply lr = {.entries = -1};
    struct store_entry entry;
    assert_int_equal(call(&imapd0, IPC_mailbox_list, &lq, &lr), 0);
    assert_int_equal(lr.count, 1);
    assert_int_equal(pread(lr.entries, &entry, sizeof(entry), 0), sizeof(entry));
    assert_int_equal(entry.uid, 2);
    assert_int_equal(entry.size, sizeof(PREFIX COMMON) - 1 + BIG_SIZE);
    (void)close(lr.entries);
    struct m_ctl_store_verify vq = {.bodies = 1, .out = ipc_memfd_new("report")};
    struct m_ctl_store_verify_reply vr = {0};
    char text[2000] = "";
    assert_int_equal(call(&ctl, IPC_ctl_store_verify, &vq, &vr), 0);
    if (vr.problems != 0 && pread(vq.out, text, sizeof(text) - 1, 0) > 0)
        fail_msg("%s", text);
    assert_int_equal(vr.accounts, 2);
    (void)close(vq.out);
}

static void exported_and_imported(void **state)
{
    int file = ipc_memfd_new("export");
    struct m_ctl_store_export eq = {.account = 2, .out = file};
    struct m_ctl_store_export_reply er = {0};
    (void)state;
    assert_int_equal(call(&ctl, IPC_ctl_store_export, &eq, &er), 0);
    assert_int_equal(er.messages, 3);
    assert_int_equal(lseek(file, 0, SEEK_SET), 0);
    make_account(3);
    struct m_ctl_store_import iq = {.account = 3, .in = file};
    struct m_ctl_store_import_reply ir = {0};
    assert_int_equal(call(&ctl, IPC_ctl_store_import, &iq, &ir), 0);
    assert_int_equal(ir.messages, 3);
    assert_int_equal(messages_in(3), 3);
    expect_body(mailbox_grant(3), 2, slice_of(big, BIG_SIZE));
    (void)close(file);
    struct m_ctl_store_reclaim cq = {0};
    assert_int_equal(call(&ctl, IPC_ctl_store_reclaim, &cq, NULL), 0);
    expect_body(mailbox_grant(2), 2, slice_of(big, BIG_SIZE));
}

static void a_deleted_account_is_gone_for_good(void **state)
{
    (void)state;
    uint64_t grant = mailbox_grant(1);
    struct m_account_delete q = {.account = 1};
    assert_int_equal(call(&authd, IPC_account_delete, &q, NULL), 0);
    struct m_mailbox_open oq = {.grant = grant, .name = SLICE("INBOX")};
    assert_int_equal(call(&imapd0, IPC_mailbox_open, &oq, NULL), ERR_DENIED);
    struct m_account_create cq = {.account = 1};
    assert_int_equal(call(&authd, IPC_account_create, &cq, NULL), ERR_GONE);
    restart();
    expect_body(mailbox_grant(2), 2, slice_of(big, BIG_SIZE)); /* the body was shared with it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_goes_in_and_comes_out), cmocka_unit_test(the_same_after_a_restart),
        cmocka_unit_test(events_wait_for_auditd),          cmocka_unit_test(expunged_and_verified),
        cmocka_unit_test(exported_and_imported),           cmocka_unit_test(a_deleted_account_is_gone_for_good),
    };
    if (loop_init(NULL) != 0)
        return 1;
    return cmocka_run_group_tests(tests, setup, teardown);
}
