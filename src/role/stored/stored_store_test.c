/* stored_store_test.c: stored with the real store in a temporary directory: a message in by smtpd's frames, out by imapd's, and the
 * same after a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "role/stored/stored_fixture.h"
#include "store/body.h"

#define SMALL "From: a@example.org\r\nSubject: small\r\n\r\nsmall body\r\n"
#define BIG_SIZE (300 * 1024)
#define PREFIX "Return-Path: <a@example.org>\r\n"
#define COMMON "Received: by test\r\n"

static char *big;

static int setup(void **state)
{
    (void)state;
    big = malloc(BIG_SIZE);
    for (size_t i = 0; i < BIG_SIZE; i++)
        big[i] = i % 72 == 70 ? '\r' : i % 72 == 71 ? '\n' : (char)('a' + (i * 7 + i / 72) % 26);
    fixture_up();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_down();
    free(big);
    return 0;
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
