/* stored_test.c: stored's handlers as its peers see them: real frames over real sockets, with a store in memory behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/mman.h>

#include "role/role_main.h"
#include "role/stored/fake_peer.h"
#include "role/stored/fake_store.h"
#include "role/stored/stored.h"

#define LIFE_MS 60000

static struct fake_peer supervisor, smtpd0, smtpd1, imapd0, authd, auditd, keyd, ctl;
static struct arena arena;
static struct fake_frame frame, frame2;
static struct conf conf;

/* ---- set-up ---- */

static void start_fiber(void *arg)
{
    *(int *)arg = role_program_stored.start(role_context(), NULL);
}

static void turns(int n)
{
    for (int i = 0; i < n; i++)
        loop_turn(0);
}

static int setup_unopened(void **state)
{
    (void)state;
    fake_store_reset();
    arena_init(&arena, 16 * 1024 * 1024);
    conf = (struct conf){.trail_outbox_limit = 10000, .store_zstd_level = 1};
    role_context()->conf = &conf;
    role_context()->role = ROLE_STORED;
    assert_int_equal(ipc_init(ROLE_STORED, 0, stored_handlers, stored_on_peer), 0);
    fake_peer_up(&supervisor, ROLE_SUPERVISOR, 0);
    fake_peer_up(&smtpd0, ROLE_SMTPD, 0);
    fake_peer_up(&smtpd1, ROLE_SMTPD, 1);
    fake_peer_up(&imapd0, ROLE_IMAPD, 0);
    fake_peer_up(&authd, ROLE_AUTHD, 0);
    fake_peer_up(&auditd, ROLE_AUDITD, 0);
    fake_peer_up(&keyd, ROLE_KEYD, 0);
    fake_peer_up(&ctl, ROLE_CTL, 1);
    assert_int_equal(role_program_stored.threads(role_context(), NULL), 0);
    return 0;
}

static int setup(void **state)
{
    int rc = -1;
    (void)setup_unopened(state);
    assert_int_equal(fiber_start("start", start_fiber, &rc, NULL), 0);
    turns(5);
    assert_int_equal(rc, 0);
    for (uint64_t id = 1; id <= 3; id++)
        fake_store.accounts[id] = (struct store_account_info){.created_ms = 1};
    return 0;
}

static int teardown(void **state)
{
    struct fake_peer *all[] = {&supervisor, &smtpd0, &smtpd1, &imapd0, &authd, &auditd, &keyd, &ctl};
    (void)state;
    fake_release();
    turns(5);
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        fake_peer_down(all[i]);
    assert_int_equal(fake_store.held, 0);
    assert_int_equal(stored()->store != NULL ? grants_count(&stored()->grants) : 0, 0);
    stored_done();
    fake_store_reset();
    arena_done(&arena);
    return 0;
}

/* ---- what the peers do ---- */

static uint64_t deliver_grant(uint64_t account, uint64_t instance, uint64_t size)
{
    struct m_grant_deliver q = {.account = account, .holder_role = ROLE_SMTPD, .holder_instance = instance, .size = size, .lifetime_ms = LIFE_MS};
    struct m_grant_deliver_reply r = {0};
    assert_int_equal(fake_call(&authd, IPC_grant_deliver, &q, &r, &arena, &frame), 0);
    assert_int_equal(r.verdict, RCPT_OK);
    return r.grant;
}

static uint64_t mailbox_grant(uint64_t account, unsigned rights)
{
    struct m_grant_mailbox q = {.account = account, .rights = rights, .holder_role = ROLE_IMAPD, .lifetime_ms = LIFE_MS, .conn = {{5}}};
    struct m_grant_mailbox_reply r = {0};
    assert_int_equal(fake_call(&authd, IPC_grant_mailbox, &q, &r, &arena, &frame), 0);
    return r.grant;
}

static uint64_t verdict(uint64_t account, uint64_t size)
{
    struct m_grant_deliver q = {.account = account, .holder_role = ROLE_SMTPD, .size = size, .lifetime_ms = LIFE_MS};
    struct m_grant_deliver_reply r = {0};
    assert_int_equal(fake_call(&authd, IPC_grant_deliver, &q, &r, &arena, &frame), 0);
    return r.verdict;
}

static struct slice event_of(enum event_number number, enum role role, const void *record)
{
    struct event_head head = {.number = number, .role = role, .time_ms = 1};
    struct buf b;
    buf_init(&b, IPC_EVENT_MAX);
    assert_int_equal(event_encode(&head, record, &b), 0);
    struct slice copy = arena_copy(&arena, buf_slice(&b));
    buf_done(&b);
    return copy;
}

static struct slice received_event(void)
{
    struct ev_smtp_received e = {.sender = SLICE("a@example.org")};
    return event_of(EV_smtp_received, ROLE_SMTPD, &e);
}

#define BODY "Subject: x\r\n\r\nbody\r\n"
/* An accept for one recipient. */
struct one {
    struct m_accept_rcpt rcpt;
    struct m_accept q;
};
static void one_init(struct one *o, uint8_t message, uint64_t account, uint64_t grant)
{
    *o = (struct one){.rcpt = {.account = account, .grant = grant},
                      .q = {.message = {{message}}, .body = SLICE(BODY), .size = sizeof(BODY) - 1, .body_fd = -1, .event = received_event()}};
    o->q.rcpts = (struct record_list){1, &o->rcpt};
}

static int64_t accept_one(struct fake_peer *peer, uint8_t message, uint64_t account, uint64_t grant)
{
    struct one o;
    struct m_accept_reply r = {0};
    one_init(&o, message, account, grant);
    int rc = fake_call(peer, IPC_accept, &o.q, &r, &arena, &frame);
    if (rc < 0)
        return rc;
    assert_int_equal(r.results.n, 1);
    return (int64_t)RECORD_ITEM(r.results, m_accept_result, 0)->status;
}

/* The grant.denied event that auditd got, or NULL. */
static const struct ev_grant_denied *denied_event(void)
{
    struct m_event_note note;
    struct event_head head;
    const struct event_desc *desc;
    void *record = NULL;
    turns(3);
    if (!fake_take(&auditd, &frame2))
        return NULL;
    assert_int_equal(frame2.number, IPC_event_note);
    assert_int_equal(record_decode(&record_m_event_note, frame2.payload, NULL, 0, &arena, &note), 0);
    assert_int_equal(event_decode(note.event, &arena, &head, &desc, &record), 0);
    assert_int_equal(head.number, EV_grant_denied);
    return record;
}

static void expect_denied(const char *holder, const char *request, const char *reason)
{
    const struct ev_grant_denied *e = denied_event();
    assert_non_null(e);
    assert_true(slice_eq(e->holder, slice_str(holder)));
    assert_true(slice_eq(e->request, slice_str(request)));
    assert_true(slice_eq(e->reason, slice_str(reason)));
}

static bool alerted(const char *name)
{
    turns(3);
    while (fake_take(&supervisor, &frame2)) {
        struct m_alert a;
        if (frame2.number == IPC_alert && record_decode(&record_m_alert, frame2.payload, NULL, 0, &arena, &a) == 0 &&
            slice_eq(a.name, slice_str(name)))
            return true;
    }
    return false;
}

/* ---- accepting under grants ---- */

static void accepted_under_a_grant_that_is_used_up(void **state)
{
    (void)state;
    uint64_t g = deliver_grant(1, 0, 100);
    assert_int_equal(accept_one(&smtpd0, 1, 1, g), ACCEPT_OK);
    assert_int_equal(fake_store.n_messages, 1);
    assert_int_equal(fake_store.last, 1); /* the event went with it */
    assert_int_equal(grants_reserved(&stored()->grants, 1), 0);
    assert_null(denied_event());
    assert_int_equal(accept_one(&smtpd0, 2, 1, g), ACCEPT_NO_GRANT);
    expect_denied("smtpd.0", "accept", "unknown");
    assert_int_equal(fake_store.n_messages, 1);
}

static void accept_refused_without_the_right_grant(void **state)
{
    (void)state;
    uint64_t g = deliver_grant(1, 0, 0), reading = mailbox_grant(1, GRANT_ALL);
    const struct {
        struct fake_peer *peer;
        uint64_t account, grant;
        const char *holder, *reason;
    } rows[] = {
        {&smtpd0, 1, g + 1, "smtpd.0", "unknown"},       {&smtpd0, 1, 0, "smtpd.0", "unknown"}, {&smtpd1, 1, g, "smtpd.1", "foreign"},
        {&smtpd0, 2, g, "smtpd.0", "wrong account"},     {&smtpd0, 1, reading, "smtpd.0", "foreign"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        assert_int_equal(accept_one(rows[i].peer, (uint8_t)(i + 1), rows[i].account, rows[i].grant), ACCEPT_NO_GRANT);
        expect_denied(rows[i].holder, "accept", rows[i].reason);
    }
    assert_int_equal(fake_store.n_messages, 0);
    assert_int_equal(accept_one(&smtpd0, 9, 1, g), ACCEPT_OK); /* the grant itself is as good as before */
}

static void accept_refused_after_the_grant_expired(void **state)
{
    (void)state;
    uint64_t g = deliver_grant(1, 0, 100);
    struct grant *grant = list_item(stored()->grants.by_expiry[GRANT_DELIVER].next, struct grant, of_kind);
    assert_int_equal(grant->id, g);
    grant->expires = clock_mono_ms(); /* as if its time had passed, before the sweep comes */
    assert_int_equal(accept_one(&smtpd0, 1, 1, g), ACCEPT_NO_GRANT);
    expect_denied("smtpd.0", "accept", "expired");
    stored_sweep_later();
    assert_int_equal(grants_reserved(&stored()->grants, 1), 0);
}

static void a_holder_that_came_again_has_no_grants(void **state)
{
    (void)state;
    uint64_t g = deliver_grant(1, 0, 100);
    fake_peer_down(&smtpd0);
    assert_int_equal(grants_reserved(&stored()->grants, 1), 0);
    fake_peer_up(&smtpd0, ROLE_SMTPD, 0);
    assert_int_equal(accept_one(&smtpd0, 1, 1, g), ACCEPT_NO_GRANT);
    expect_denied("smtpd.0", "accept", "unknown");
}

static void some_recipients_may_be_refused(void **state)
{
    (void)state;
    struct m_accept_rcpt rcpts[] = {
        {.account = 1, .grant = deliver_grant(1, 0, 0)}, {.account = 2, .grant = 1}, {.account = 3, .grant = deliver_grant(3, 0, 0)}};
    struct m_accept q = {.message = {{1}}, .body = SLICE(BODY), .size = sizeof(BODY) - 1, .body_fd = -1, .rcpts = {3, rcpts}};
    struct m_accept_reply r = {0};
    fake_store.accounts[3].quota = 5;
    q.event = received_event();
    assert_int_equal(fake_call(&smtpd0, IPC_accept, &q, &r, &arena, &frame), 0);
    const uint64_t want[] = {ACCEPT_OK, ACCEPT_NO_GRANT, ACCEPT_FULL};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(RECORD_ITEM(r.results, m_accept_result, i)->status, want[i]);
    expect_denied("smtpd.0", "accept", "unknown");
}

static void all_recipients_or_none(void **state)
{
    (void)state;
    uint64_t g1 = deliver_grant(1, 0, 7), g3 = deliver_grant(3, 0, 1), twice[2] = {deliver_grant(2, 0, 1), deliver_grant(2, 0, 1)};
    fake_store.accounts[3].quota = 5;
    fake_store.accounts[2].quota = 30; /* one copy fits, two do not */
    const struct {
        struct m_accept_rcpt rcpts[2];
        uint64_t want[2];
    } rows[] = {
        {{{.account = 1, .grant = g1}, {.account = 3, .grant = g3}}, {ACCEPT_TEMPORARY, ACCEPT_FULL}},
        {{{.account = 1, .grant = g1}, {.account = 2, .grant = 1}}, {ACCEPT_TEMPORARY, ACCEPT_NO_GRANT}},
        {{{.account = 1, .grant = g1}, {.account = 1, .grant = g1}}, {ACCEPT_TEMPORARY, ACCEPT_NO_GRANT}}, /* a grant is for one copy */
        {{{.account = 2, .grant = twice[0]}, {.account = 2, .grant = twice[1]}}, {ACCEPT_TEMPORARY, ACCEPT_FULL}},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct m_accept q = {.message = {{(uint8_t)(i + 1)}}, .body = SLICE(BODY), .size = sizeof(BODY) - 1, .body_fd = -1, .all = 1,
                             .rcpts = {2, (void *)(uintptr_t)rows[i].rcpts}, .event = received_event()};
        struct m_accept_reply r = {0};
        assert_int_equal(fake_call(&smtpd0, IPC_accept, &q, &r, &arena, &frame), 0);
        for (size_t k = 0; k < 2; k++)
            assert_int_equal(RECORD_ITEM(r.results, m_accept_result, k)->status, rows[i].want[k]);
    }
    assert_int_equal(fake_store.n_messages, 0);
    assert_int_equal(grants_reserved(&stored()->grants, 1), 7); /* as it was */
    assert_int_equal(accept_one(&smtpd0, 9, 1, g1), ACCEPT_OK);
}

static void the_same_message_twice_is_one_delivery(void **state)
{
    (void)state;
    struct one o, other;
    fake_store.accounts[1].quota = 30; /* no room for a second copy, and none is asked for */
    one_init(&o, 1, 1, deliver_grant(1, 0, 0));
    one_init(&other, 2, 1, o.rcpt.grant);
    struct m_accept_reply r = {0};
    fake_store.hold = true;
    uint32_t first = fake_call_begin(&smtpd0, IPC_accept, &o.q), second = fake_call_begin(&smtpd0, IPC_accept, &o.q);
    turns(5);
    assert_int_equal(fake_store.held, 2);
    assert_int_equal(fake_call(&smtpd0, IPC_accept, &other.q, &r, &arena, &frame), 0); /* another message under that grant */
    assert_int_equal(RECORD_ITEM(r.results, m_accept_result, 0)->status, ACCEPT_NO_GRANT);
    expect_denied("smtpd.0", "accept", "in use");
    fake_release();
    for (int i = 0; i < 2; i++) {
        fake_await(&smtpd0, &frame);
        assert_true(frame.call == first || frame.call == second);
        assert_int_equal(fake_reply(&frame, &r, &arena), 0);
        assert_int_equal(RECORD_ITEM(r.results, m_accept_result, 0)->status, ACCEPT_OK);
    }
    assert_int_equal(accept_one(&smtpd0, 1, 1, o.rcpt.grant), ACCEPT_OK); /* and once more, when the grant is used up */
    assert_int_equal(fake_store.n_messages, 1);
    assert_int_equal(fake_store.accounts[1].messages, 1);
}

static void the_holder_may_die_during_its_commit(void **state)
{
    (void)state;
    struct one o;
    one_init(&o, 1, 1, deliver_grant(1, 0, 50));
    fake_store.hold = true;
    (void)fake_call_begin(&smtpd0, IPC_accept, &o.q);
    turns(5);
    fake_peer_down(&smtpd0);
    assert_int_equal(grants_reserved(&stored()->grants, 1), 0);
    fake_release();
    turns(5);
    assert_int_equal(fake_store.n_messages, 1); /* it was under way and is kept: nobody was told otherwise */
    assert_int_equal(ipc_serving(), 0);
}

static void failures_put_mail_off_and_keep_the_grant(void **state)
{
    (void)state;
    const int codes[] = {-ENOSPC, ERR_READONLY, -EIO, -ENOMEM, -EBUSY};
    uint64_t g = deliver_grant(1, 0, 10);
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
        fake_store.fail = codes[i];
        assert_int_equal(accept_one(&smtpd0, (uint8_t)(i + 1), 1, g), codes[i]);
    }
    fake_store.fail = 0;
    fake_store.readonly = true;
    assert_int_equal(accept_one(&smtpd0, 20, 1, g), ERR_READONLY);
    assert_true(alerted("stored.readonly"));
    fake_store.readonly = false;
    assert_int_equal(grants_reserved(&stored()->grants, 1), 10);
    assert_int_equal(accept_one(&smtpd0, 21, 1, g), ACCEPT_OK);
}

static void mail_is_put_off_when_the_trail_is_behind(void **state)
{
    (void)state;
    uint64_t g = deliver_grant(1, 0, 0);
    stored()->outbox_limit = 3;
    for (int i = 0; i < 3; i++)
        fake_event(SLICE("e"));
    assert_int_equal(accept_one(&smtpd0, 1, 1, g), -EBUSY);
    assert_true(alerted("stored.outbox_full"));
    struct m_outbox_fetch q = {.done = 1, .max = 1};
    assert_int_equal(fake_call(&auditd, IPC_outbox_fetch, &q, NULL, &arena, &frame), 0);
    assert_int_equal(accept_one(&smtpd0, 1, 1, g), ACCEPT_OK);
}

static void only_sealed_bodies_of_the_told_size_are_taken(void **state)
{
    (void)state;
    const struct {
        bool seal;
        uint64_t size;
        int want;
    } rows[] = {{false, 5, ERR_DENIED}, {true, 6, ERR_SYNTAX}, {true, 5, ACCEPT_OK}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct one o;
        struct m_accept_reply r = {0};
        one_init(&o, (uint8_t)(i + 1), 1, deliver_grant(1, 0, 0));
        o.q.body = SLICE_EMPTY;
        o.q.size = rows[i].size;
        o.q.body_fd = ipc_memfd_new("body");
        assert_int_equal(write(o.q.body_fd, "12345", 5), 5);
        if (rows[i].seal)
            assert_int_equal(ipc_memfd_seal(o.q.body_fd), 0);
        assert_int_equal(fake_call(&smtpd0, IPC_accept, &o.q, &r, &arena, &frame), rows[i].want);
        (void)close(o.q.body_fd);
        struct m_grant_drop drop = {.grant = o.rcpt.grant};
        fake_send(&smtpd0, IPC_grant_drop, 2, 0, 0, &record_m_grant_drop, &drop);
    }
    assert_int_equal(fake_store.messages[0].size, 5);
}

static void forged_events_are_refused(void **state)
{
    (void)state;
    struct ev_account_created created = {.account = 1};
    struct ev_smtp_received received = {.sender = SLICE("a@example.org")};
    struct slice rows[] = {SLICE("rubbish"), event_of(EV_account_created, ROLE_AUTHD, &created), event_of(EV_smtp_received, ROLE_IMAPD, &received)};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct one o;
        one_init(&o, 1, 1, deliver_grant(1, 0, 0));
        o.q.event = rows[i];
        assert_int_equal(fake_call(&smtpd0, IPC_accept, &o.q, NULL, &arena, &frame), ERR_DENIED);
    }
    assert_int_equal(fake_store.last, 0);
}

/* ---- quota ---- */

static void quota_answers_at_rcpt(void **state)
{
    (void)state;
    fake_store.accounts[1] = (struct store_account_info){.quota = 1000, .used = 700, .created_ms = 1};
    fake_store.accounts[2] = (struct store_account_info){.quota = 1000, .used = 1000, .created_ms = 1};
    assert_int_equal(verdict(3, 1 << 30), RCPT_OK);   /* no quota */
    assert_int_equal(verdict(7, 10), RCPT_TEMPORARY); /* no account */
    assert_int_equal(verdict(1, 1001), RCPT_TOO_BIG); /* never fits */
    assert_int_equal(verdict(1, 301), RCPT_FULL);
    assert_int_equal(verdict(2, 0), RCPT_FULL);
    assert_int_equal(verdict(1, 100), RCPT_OK);       /* reserved: 200 left */
    assert_int_equal(verdict(1, 201), RCPT_FULL);
    assert_int_equal(verdict(1, 200), RCPT_OK);
    assert_int_equal(verdict(1, 151), RCPT_FULL);     /* all is reserved, but announcing keeps others from half of it at most */
    assert_int_equal(verdict(1, 150), RCPT_OK);
    assert_int_equal(verdict(1, 0), RCPT_OK);
    fake_store.readonly = true;
    assert_int_equal(verdict(3, 10), RCPT_TEMPORARY);
}

static void reservations_of_others_count_at_accept(void **state)
{
    (void)state;
    fake_store.accounts[1] = (struct store_account_info){.quota = 30, .created_ms = 1};
    uint64_t too_small = deliver_grant(1, 0, 1), reserved = deliver_grant(1, 1, 29);
    assert_int_equal(accept_one(&smtpd0, 1, 1, too_small), ACCEPT_FULL); /* more than the half that others cannot reserve */
    struct m_grant_drop drop = {.grant = reserved};
    fake_send(&smtpd1, IPC_grant_drop, 2, 0, 0, &record_m_grant_drop, &drop);
    turns(3);
    assert_int_equal(accept_one(&smtpd0, 1, 1, too_small), ACCEPT_OK);
}

/* ---- reading ---- */

struct request_row {
    enum ipc_number number;
    unsigned right;
    const char *name;
    const void *request;
};

/* Every request that needs a mailbox grant, with this one. */
static size_t requests(uint64_t grant, struct request_row out[8])
{
    static struct m_message_uid uid = {2};
    static struct m_mailbox_open o;
    static struct m_mailbox_lock l;
    static struct m_mailbox_list ls;
    static struct m_message_locate loc;
    static struct m_segment_open seg;
    static struct m_mailbox_expunge ex;
    static struct m_mailbox_flags fl;
    o = (struct m_mailbox_open){grant, SLICE("inbox")};
    l = (struct m_mailbox_lock){grant, STORE_INBOX};
    ls = (struct m_mailbox_list){.grant = grant, .mailbox = STORE_INBOX};
    loc = (struct m_message_locate){.grant = grant, .mailbox = STORE_INBOX, .uids = {1, &uid}};
    seg = (struct m_segment_open){grant, 77};
    ex = (struct m_mailbox_expunge){.grant = grant, .mailbox = STORE_INBOX, .uids = {1, &uid}};
    fl = (struct m_mailbox_flags){.grant = grant, .mailbox = STORE_INBOX, .uids = {1, &uid}, .add = STORE_SEEN};
    size_t n = 0;
    out[n++] = (struct request_row){IPC_mailbox_open, GRANT_READ, "mailbox_open", &o};
    out[n++] = (struct request_row){IPC_mailbox_lock, GRANT_READ, "mailbox_lock", &l};
    out[n++] = (struct request_row){IPC_mailbox_list, GRANT_READ, "mailbox_list", &ls};
    out[n++] = (struct request_row){IPC_message_locate, GRANT_READ, "message_locate", &loc};
    out[n++] = (struct request_row){IPC_segment_open, GRANT_READ, "segment_open", &seg};
    out[n++] = (struct request_row){IPC_mailbox_expunge, GRANT_EXPUNGE, "mailbox_expunge", &ex};
    out[n++] = (struct request_row){IPC_mailbox_flags, GRANT_CHANGE, "mailbox_flags", &fl};
    return n;
}

static int ask(const struct request_row *row)
{
    int rc = fake_call(&imapd0, row->number, row->request, NULL, &arena, &frame);
    for (size_t i = 0; i < frame.n_fds; i++)
        (void)close(frame.fds[i]);
    return rc;
}

static void every_reading_request_needs_its_right(void **state)
{
    (void)state;
    struct request_row rows[8];
    for (unsigned rights = 1; rights <= GRANT_ALL; rights++) {
        size_t n = requests(mailbox_grant(1, rights), rows);
        for (size_t i = 0; i < n; i++) {
            bool allowed = (rights & rows[i].right) != 0;
            assert_int_equal(ask(&rows[i]), allowed ? 0 : ERR_DENIED);
            if (!allowed)
                expect_denied("imapd.0", rows[i].name, "wrong rights");
        }
        struct m_grant_revoke revoke = {.account = 1};
        assert_int_equal(fake_call(&authd, IPC_grant_revoke, &revoke, NULL, &arena, &frame), 0);
        turns(3);
        assert_true(fake_take(&imapd0, &frame)); /* told that it is revoked */
    }
}

static void forged_and_foreign_grants_read_nothing(void **state)
{
    (void)state;
    struct request_row rows[8];
    uint64_t deliver = deliver_grant(1, 0, 0), good = mailbox_grant(1, GRANT_ALL);
    const struct {
        uint64_t grant;
        const char *reason;
    } tries[] = {{0, "unknown"}, {good ^ 1, "unknown"}, {deliver, "foreign"}};
    for (size_t t = 0; t < sizeof(tries) / sizeof(*tries); t++) {
        size_t n = requests(tries[t].grant, rows);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(ask(&rows[i]), ERR_DENIED);
            expect_denied("imapd.0", rows[i].name, tries[t].reason);
        }
    }
    fake_peer_down(&imapd0);
    fake_peer_up(&imapd0, ROLE_IMAPD, 0);
    size_t n = requests(good, rows);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(ask(&rows[i]), ERR_DENIED);
    assert_int_equal(fake_store.n_uids, 0);
}

static void revoked_grants_stop_at_once(void **state)
{
    (void)state;
    struct request_row rows[8];
    uint64_t g = mailbox_grant(1, GRANT_ALL);
    (void)requests(g, rows);
    fake_store.hold = true;
    (void)fake_call_begin(&imapd0, rows[0].number, rows[0].request); /* waits in the store while it is revoked */
    turns(3);
    struct m_grant_revoke revoke = {.account = 1, .deliver = 1};
    struct m_grant_revoke_reply rr = {0};
    assert_int_equal(fake_call(&authd, IPC_grant_revoke, &revoke, &rr, &arena, &frame), 0);
    assert_int_equal(rr.revoked, 1);
    fake_await(&imapd0, &frame);
    struct m_grant_revoked note;
    assert_int_equal(frame.number, IPC_grant_revoked);
    assert_int_equal(record_decode(&record_m_grant_revoked, frame.payload, NULL, 0, &arena, &note), 0);
    assert_int_equal(note.grant, g);
    assert_int_equal(note.conn.b[0], 5);
    fake_release();
    fake_await(&imapd0, &frame);
    assert_int_equal(frame.status, ERR_DENIED); /* what it waited for is not given any more */
    assert_int_equal(ask(&rows[2]), ERR_DENIED);
}

static void mailbox_and_entries(void **state)
{
    (void)state;
    uint64_t g = mailbox_grant(1, GRANT_READ);
    struct m_mailbox_open open_q = {g, SLICE("INBOX")};
    struct m_mailbox_open_reply open_r = {0};
    assert_int_equal(fake_call(&imapd0, IPC_mailbox_open, &open_q, &open_r, &arena, &frame), 0);
    assert_int_equal(open_r.mailbox, STORE_INBOX);
    assert_int_equal(open_r.messages, 3);
    open_q.name = SLICE("Other");
    assert_int_equal(fake_call(&imapd0, IPC_mailbox_open, &open_q, NULL, &arena, &frame), -ENOENT);
    struct m_mailbox_list q = {.grant = g, .mailbox = STORE_INBOX, .after = 1};
    struct m_mailbox_list_reply r = {.entries = -1};
    assert_int_equal(fake_call(&imapd0, IPC_mailbox_list, &q, &r, &arena, &frame), 0);
    assert_int_equal(r.count, 2);
    assert_int_equal(ipc_memfd_check(r.entries, 2 * sizeof(struct store_entry)), 0);
    (void)close(r.entries);
    q.mailbox = 1ULL << 33;
    assert_int_equal(fake_call(&imapd0, IPC_mailbox_list, &q, NULL, &arena, &frame), -ENOENT);
}

static void places_come_as_many_as_fit(void **state)
{
    (void)state;
    struct m_message_uid uids[64];
    struct m_message_locate q = {.grant = mailbox_grant(1, GRANT_READ), .mailbox = STORE_INBOX, .uids = {64, uids}, .want_meta = 1};
    struct m_message_locate_reply r = {0};
    for (size_t i = 0; i < 64; i++)
        uids[i].uid = 2;
    uids[1].uid = 99;
    uids[2].uid = (1ULL << 32) + 2; /* no uid: not message 2 */
    assert_int_equal(fake_call(&imapd0, IPC_message_locate, &q, &r, &arena, &frame), 0);
    assert_int_equal(r.places.n, 2 + STORED_LOCATE_BYTES / 4004);
    assert_int_equal(RECORD_ITEM(r.places, m_message_place, 0)->segment, 77);
    assert_int_equal(RECORD_ITEM(r.places, m_message_place, 0)->key.n, 32);
    assert_int_equal(RECORD_ITEM(r.places, m_message_place, 1)->segment, 0);
    assert_int_equal(RECORD_ITEM(r.places, m_message_place, 1)->key.n, 0);
    assert_int_equal(RECORD_ITEM(r.places, m_message_place, 2)->segment, 0);
}

static void the_lock_is_gone_with_its_holder(void **state)
{
    (void)state;
    struct request_row a[8], b[8];
    (void)requests(mailbox_grant(1, GRANT_READ), a);
    assert_int_equal(ask(&a[1]), 0);
    uint64_t second = mailbox_grant(1, GRANT_READ);
    (void)requests(second, b);
    assert_int_equal(ask(&b[1]), -EBUSY);
    fake_peer_down(&imapd0);
    fake_peer_up(&imapd0, ROLE_IMAPD, 0);
    (void)requests(mailbox_grant(1, GRANT_READ), b);
    assert_int_equal(ask(&b[1]), 0);
}

static void expunge_and_flags_reach_the_store(void **state)
{
    (void)state;
    struct m_message_uid uids[2] = {{3}, {1}};
    struct ev_mail_expunged e = {.account = 1, .messages = 2};
    uint64_t g = mailbox_grant(1, GRANT_ALL);
    struct m_mailbox_expunge q = {.grant = g, .mailbox = STORE_INBOX, .uids = {2, uids}, .event = event_of(EV_mail_expunged, ROLE_IMAPD, &e)};
    struct m_mailbox_expunge_reply r = {0};
    assert_int_equal(fake_call(&imapd0, IPC_mailbox_expunge, &q, &r, &arena, &frame), 0);
    assert_int_equal(r.expunged, 2);
    assert_int_equal(fake_store.n_uids, 2);
    assert_int_equal(fake_store.uids[0], 3);
    assert_int_equal(fake_store.last, 1);
    struct m_mailbox_flags f = {.grant = g, .mailbox = STORE_INBOX, .uids = {2, uids}, .add = STORE_SEEN | STORE_RETRIEVED};
    assert_int_equal(fake_call(&imapd0, IPC_mailbox_flags, &f, NULL, &arena, &frame), 0);
    assert_int_equal(fake_store.flags_add, STORE_SEEN | STORE_RETRIEVED);
    f.add = 1ULL << 40;
    assert_int_equal(fake_call(&imapd0, IPC_mailbox_flags, &f, NULL, &arena, &frame), ERR_SYNTAX);
}

/* ---- accounts ---- */

static void accounts_are_made_limited_and_deleted(void **state)
{
    (void)state;
    struct m_account_create create = {.account = 5, .quota = 100};
    struct m_account_quota quota = {.account = 5, .set = 1, .quota = 200};
    struct m_account_quota_reply r = {0};
    assert_int_equal(fake_call(&authd, IPC_account_create, &create, NULL, &arena, &frame), 0);
    assert_int_equal(fake_call(&authd, IPC_account_create, &create, NULL, &arena, &frame), 0);
    assert_int_equal(fake_call(&authd, IPC_account_quota, &quota, &r, &arena, &frame), 0);
    assert_int_equal(r.quota, 200);
    uint64_t g = mailbox_grant(5, GRANT_READ);
    struct m_account_delete del = {.account = 5};
    assert_int_equal(fake_call(&authd, IPC_account_delete, &del, NULL, &arena, &frame), 0);
    struct request_row rows[8];
    turns(2);
    assert_true(fake_take(&imapd0, &frame));
    assert_int_equal(frame.number, IPC_grant_revoked);
    (void)requests(g, rows);
    assert_int_equal(ask(&rows[0]), ERR_DENIED);
    struct m_grant_mailbox q = {.account = 5, .rights = GRANT_READ, .holder_role = ROLE_IMAPD, .lifetime_ms = LIFE_MS};
    assert_int_equal(fake_call(&authd, IPC_grant_mailbox, &q, NULL, &arena, &frame), -ENOENT);
    create.account = 0;
    assert_int_equal(fake_call(&authd, IPC_account_create, &create, NULL, &arena, &frame), -ENOENT);
}

static void grants_are_for_the_roles_that_need_them(void **state)
{
    (void)state;
    struct m_grant_mailbox m = {.account = 1, .rights = GRANT_READ, .holder_role = ROLE_SMTPD, .lifetime_ms = LIFE_MS};
    struct m_grant_deliver d = {.account = 1, .holder_role = ROLE_IMAPD, .lifetime_ms = LIFE_MS};
    assert_int_equal(fake_call(&authd, IPC_grant_mailbox, &m, NULL, &arena, &frame), ERR_DENIED);
    assert_int_equal(fake_call(&authd, IPC_grant_deliver, &d, NULL, &arena, &frame), ERR_DENIED);
    m = (struct m_grant_mailbox){.account = 1, .rights = 0, .holder_role = ROLE_IMAPD, .lifetime_ms = LIFE_MS};
    assert_int_equal(fake_call(&authd, IPC_grant_mailbox, &m, NULL, &arena, &frame), ERR_DENIED);
    d = (struct m_grant_deliver){.account = 1, .holder_role = ROLE_SMTPD, .holder_instance = 40, .lifetime_ms = LIFE_MS};
    assert_int_equal(fake_call(&authd, IPC_grant_deliver, &d, NULL, &arena, &frame), -ENOTCONN);
}

/* ---- outbox ---- */

static size_t fetch(uint64_t done, uint64_t max, struct m_outbox_fetch_reply *r)
{
    struct m_outbox_fetch q = {.done = done, .max = max};
    *r = (struct m_outbox_fetch_reply){0};
    assert_int_equal(fake_call(&auditd, IPC_outbox_fetch, &q, r, &arena, &frame), 0);
    assert_int_equal(r->epoch, 4711);
    return r->items.n;
}

static void outbox_gives_what_follows(void **state)
{
    (void)state;
    struct m_outbox_fetch_reply r;
    assert_int_equal(fetch(0, 100, &r), 0);
    for (int i = 0; i < 10; i++)
        fake_event(SLICE("event"));
    assert_int_equal(fetch(0, 4, &r), 4);
    assert_int_equal(RECORD_ITEM(r.items, m_outbox_item, 3)->sequence, 4);
    assert_int_equal(fake_store.acked, 0);
    assert_int_equal(fetch(4, 100, &r), 6);
    assert_int_equal(RECORD_ITEM(r.items, m_outbox_item, 0)->sequence, 5);
    assert_int_equal(fake_store.acked, 4);
    assert_int_equal(fetch(4, 100, &r), 6); /* the answer was lost */
    assert_int_equal(fetch(10, 100, &r), 0);
    assert_int_equal(fake_store.acked, 10);
    assert_int_equal(fetch(9999, 100, &r), 0); /* of another epoch: confirms nothing */
    assert_int_equal(fake_store.acked, 10);
    assert_int_equal(fake_store.outbox_reads, 0); /* all of it from memory */
}

static void outbox_falls_back_on_the_store(void **state)
{
    (void)state;
    struct m_outbox_fetch_reply r;
    for (int i = 0; i < STORED_OUTBOX_KEEP + 100; i++)
        fake_event(SLICE("event"));
    assert_int_equal(fetch(0, 50, &r), 50);
    assert_int_equal(fake_store.outbox_reads, 1);
    assert_int_equal(RECORD_ITEM(r.items, m_outbox_item, 0)->sequence, 1);
    assert_int_equal(fetch(100, 50, &r), 50);
    assert_int_equal(fake_store.outbox_reads, 1);
    assert_int_equal(RECORD_ITEM(r.items, m_outbox_item, 0)->sequence, 101);
    assert_int_equal(fetch(STORED_OUTBOX_KEEP + 99, 50, &r), 1);
    char *big = arena_alloc(&arena, IPC_EVENT_MAX);
    memset(big, 'e', IPC_EVENT_MAX);
    for (int i = 0; i < 20; i++)
        fake_event(slice_of(big, IPC_EVENT_MAX));
    assert_int_equal(fetch(STORED_OUTBOX_KEEP + 100, 1000, &r), STORED_OUTBOX_BYTES / (IPC_EVENT_MAX + 12)); /* within a frame */
}

static void outbox_waits_for_the_first(void **state)
{
    (void)state;
    struct m_outbox_fetch q = {.max = 10, .wait_ms = 10000};
    struct m_outbox_fetch_reply r = {0};
    (void)fake_call_begin(&auditd, IPC_outbox_fetch, &q);
    turns(5);
    assert_false(fake_take(&auditd, &frame));
    fake_event(SLICE("event"));
    fake_await(&auditd, &frame);
    assert_int_equal(fake_reply(&frame, &r, &arena), 0);
    assert_int_equal(r.items.n, 1);
    q = (struct m_outbox_fetch){.done = 1, .max = 10, .wait_ms = 20};
    assert_int_equal(fake_call(&auditd, IPC_outbox_fetch, &q, &r, &arena, &frame), 0);
    assert_int_equal(r.items.n, 0);
}

/* ---- opening ---- */

static void requests_wait_until_the_store_is_open(void **state)
{
    (void)state;
    int rc = -1;
    struct m_ctl_store_status q = {0};
    struct m_ctl_store_status_reply r = {0};
    (void)fake_call_begin(&ctl, IPC_ctl_store_status, &q);
    turns(5);
    assert_false(fake_take(&ctl, &frame));
    assert_int_equal(fiber_start("start", start_fiber, &rc, NULL), 0);
    fake_await(&ctl, &frame);
    assert_int_equal(fake_reply(&frame, &r, &arena), 0);
    assert_int_equal(r.accounts, 2);
    assert_int_equal(rc, 0);
}

static void requests_are_refused_when_the_store_cannot_be_opened(void **state)
{
    (void)state;
    int rc = 0;
    struct m_ctl_store_status q = {0};
    (void)fake_call_begin(&ctl, IPC_ctl_store_status, &q);
    fake_store.fail = ERR_CORRUPT;
    turns(2);
    assert_int_equal(fiber_start("start", start_fiber, &rc, NULL), 0);
    fake_await(&ctl, &frame);
    assert_int_equal(frame.status, -EAGAIN);
    assert_int_equal(rc, ERR_CORRUPT);
    assert_int_equal(fake_call(&ctl, IPC_ctl_store_status, &q, NULL, &arena, &frame), -EAGAIN);
}

static void waiting_requests_are_bounded(void **state)
{
    (void)state;
    struct m_ctl_store_status q = {0};
    stored()->n_opening = STORED_WAITING_MAX - 1; /* so many wait already */
    (void)fake_call_begin(&ctl, IPC_ctl_store_status, &q);
    turns(5);
    assert_int_equal(stored()->n_opening, STORED_WAITING_MAX);
    assert_false(fake_take(&ctl, &frame));
    assert_int_equal(fake_call(&ctl, IPC_ctl_store_status, &q, NULL, &arena, &frame), -EAGAIN);
    stored_set_phase(STORED_FAILED);
    turns(5);
}

/* ---- keys ---- */

struct key_job {
    bool done;
    int rc;
    size_t n;
    uint8_t wrapped[KEYS_WRAPPED_MAX], key[KEYS_SIZE];
};

static void key_fiber(void *arg)
{
    struct key_job *j = arg;
    struct store_key_ops ops = stored_key_ops();
    struct err err = {0};
    j->rc = ops.wrap(ops.arg, "store:kek", j->key, j->wrapped, &j->n, &err);
    memset(j->key, 0, sizeof(j->key));
    if (j->rc == 0)
        j->rc = ops.unwrap(ops.arg, "store:kek", slice_of(j->wrapped, j->n), j->key, &err);
    j->done = true;
}

static void keys_are_wrapped_by_keyd_even_when_it_restarts(void **state)
{
    struct key_job j = {.key = "0123456789abcdef0123456789abcde"};
    struct m_rest_wrap wrap;
    struct m_rest_unwrap unwrap;
    (void)state;
    assert_int_equal(fiber_start("keys", key_fiber, &j, NULL), 0);
    fake_await(&keyd, &frame); /* dies with the call under way */
    fake_peer_down(&keyd);
    fake_peer_up(&keyd, ROLE_KEYD, 0);
    fake_await(&keyd, &frame);
    assert_int_equal(frame.number, IPC_rest_wrap);
    assert_int_equal(record_decode(&record_m_rest_wrap, frame.payload, NULL, 0, &arena, &wrap), 0);
    assert_true(slice_eq(wrap.context, SLICE("store:kek")));
    struct m_rest_wrap_reply wr = {.wrapped = wrap.key};
    fake_send(&keyd, IPC_rest_wrap, 1, frame.call, 0, &record_m_rest_wrap_reply, &wr);
    fake_await(&keyd, &frame);
    assert_int_equal(frame.number, IPC_rest_unwrap);
    assert_int_equal(record_decode(&record_m_rest_unwrap, frame.payload, NULL, 0, &arena, &unwrap), 0);
    struct m_rest_unwrap_reply ur = {.key = unwrap.wrapped};
    fake_send(&keyd, IPC_rest_unwrap, 1, frame.call, 0, &record_m_rest_unwrap_reply, &ur);
    for (int i = 0; i < 100 && !j.done; i++)
        loop_turn(1);
    assert_int_equal(j.rc, 0);
    assert_memory_equal(j.key, "0123456789abcdef0123456789abcde", 32);
}

/* ---- command line ---- */

/* Takes the event that stored waits for, says that it is durable, and tells which it was. */
static unsigned recorded_by_auditd(void)
{
    struct m_event q;
    struct m_event_reply r = {0};
    struct event_head head;
    const struct event_desc *desc;
    void *record;
    fake_await(&auditd, &frame2);
    assert_int_equal(frame2.number, IPC_event);
    assert_int_equal(record_decode(&record_m_event, frame2.payload, NULL, 0, &arena, &q), 0);
    assert_int_equal(event_decode(q.event, &arena, &head, &desc, &record), 0);
    fake_send(&auditd, IPC_event, 1, frame2.call, 0, &record_m_event_reply, &r);
    return head.number;
}

static void care_for_the_command_line(void **state)
{
    char text[64] = {0};
    int file = ipc_memfd_new("report"), pipes[2];
    struct m_ctl_store_verify v = {.bodies = 1, .out = file};
    struct m_ctl_store_verify_reply vr = {0};
    (void)state;
    assert_int_equal(fake_call(&ctl, IPC_ctl_store_verify, &v, &vr, &arena, &frame), 0);
    assert_int_equal(vr.problems, 1);
    assert_true(pread(file, text, sizeof(text), 0) > 0);
    assert_string_equal(text, "store: one thing is wrong\n");
    assert_int_equal(pipe(pipes), 0);
    v.out = pipes[1]; /* a pipe could make the store wait for the client */
    assert_int_equal(fake_call(&ctl, IPC_ctl_store_verify, &v, NULL, &arena, &frame), ERR_SYNTAX);
    struct m_ctl_store_export e = {.account = 1, .out = pipes[1]};
    struct m_ctl_store_export_reply er = {0};
    (void)fake_call_begin(&ctl, IPC_ctl_store_export, &e);
    assert_int_equal(recorded_by_auditd(), EV_store_exported);
    fake_await(&ctl, &frame);
    assert_int_equal(fake_reply(&frame, &er, &arena), 0);
    assert_int_equal(er.messages, 3);
    struct m_ctl_store_import i = {.account = 2, .in = pipes[0]};
    struct m_ctl_store_import_reply ir = {0};
    (void)fake_call_begin(&ctl, IPC_ctl_store_import, &i);
    assert_int_equal(recorded_by_auditd(), EV_store_imported);
    fake_await(&ctl, &frame);
    assert_int_equal(fake_reply(&frame, &ir, &arena), 0);
    assert_int_equal(ir.messages, 3);
    fake_peer_down(&auditd); /* what cannot be recorded is not done */
    assert_int_equal(fake_call(&ctl, IPC_ctl_store_export, &e, NULL, &arena, &frame), -EAGAIN);
    struct m_ctl_store_reclaim c = {0};
    struct m_ctl_store_reclaim_reply cr = {0};
    assert_int_equal(fake_call(&ctl, IPC_ctl_store_reclaim, &c, &cr, &arena, &frame), 0);
    assert_int_equal(cr.freed, 1000);
    assert_int_equal(fake_store.reclaim_percent, STORED_RECLAIM_ASKED_PERCENT);
    e.account = 6;
    assert_int_equal(fake_call(&ctl, IPC_ctl_store_export, &e, NULL, &arena, &frame), -ENOENT);
    (void)close(file);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
}

static void reload_fiber(void *arg)
{
    assert_int_equal(role_program_stored.reload(role_context(), arg, NULL), 0);
}

static void reload_takes_over_or_tells(void **state)
{
    (void)state;
    struct conf other = conf;
    other.trail_outbox_limit = 5;
    assert_int_equal(fiber_start("reload", reload_fiber, &other, NULL), 0);
    turns(3);
    assert_int_equal(stored()->outbox_limit, 5);
    assert_false(alerted("store.restart_needed"));
    other.store_zstd_level = 3;
    assert_int_equal(fiber_start("reload", reload_fiber, &other, NULL), 0);
    turns(3);
    assert_true(alerted("store.restart_needed"));
}

static void stop_fiber(void *arg)
{
    role_program_stored.stop(role_context(), clock_deadline(5000));
    *(bool *)arg = true;
}

static void stop_lets_auditd_fetch_the_last_events(void **state)
{
    (void)state;
    bool stopped = false;
    struct m_outbox_fetch_reply r;
    fake_event(SLICE("event"));
    assert_int_equal(fiber_start("stop", stop_fiber, &stopped, NULL), 0);
    turns(3);
    assert_true(fake_store.stopped);
    assert_false(stopped);
    assert_int_equal(fetch(0, 10, &r), 1);
    assert_int_equal(fetch(1, 10, &r), 0);
    for (int i = 0; i < 200 && !stopped; i++)
        loop_turn(5);
    assert_true(stopped);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define U(f) cmocka_unit_test_setup_teardown(f, setup_unopened, teardown)
    const struct CMUnitTest tests[] = {
        T(accepted_under_a_grant_that_is_used_up),
        T(accept_refused_without_the_right_grant),
        T(accept_refused_after_the_grant_expired),
        T(a_holder_that_came_again_has_no_grants),
        T(some_recipients_may_be_refused),
        T(all_recipients_or_none),
        T(the_same_message_twice_is_one_delivery),
        T(the_holder_may_die_during_its_commit),
        T(failures_put_mail_off_and_keep_the_grant),
        T(mail_is_put_off_when_the_trail_is_behind),
        T(only_sealed_bodies_of_the_told_size_are_taken),
        T(forged_events_are_refused),
        T(quota_answers_at_rcpt),
        T(reservations_of_others_count_at_accept),
        T(every_reading_request_needs_its_right),
        T(forged_and_foreign_grants_read_nothing),
        T(revoked_grants_stop_at_once),
        T(mailbox_and_entries),
        T(places_come_as_many_as_fit),
        T(the_lock_is_gone_with_its_holder),
        T(expunge_and_flags_reach_the_store),
        T(accounts_are_made_limited_and_deleted),
        T(grants_are_for_the_roles_that_need_them),
        T(outbox_gives_what_follows),
        T(outbox_falls_back_on_the_store),
        T(outbox_waits_for_the_first),
        U(requests_wait_until_the_store_is_open),
        U(requests_are_refused_when_the_store_cannot_be_opened),
        U(waiting_requests_are_bounded),
        T(keys_are_wrapped_by_keyd_even_when_it_restarts),
        T(care_for_the_command_line),
        T(reload_takes_over_or_tells),
        T(stop_lets_auditd_fetch_the_last_events),
    };
    if (loop_init(NULL) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
