/* Calls between two peers in one process: both ends of a pair, one as smtpd and one as authd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/loop.h"
#include "ipc/ipc.h"

static void record_round_trip(void **state)
{
    (void)state;
    struct m_rcpt_target targets[2] = {{.account = 7, .grant = 9, .address = SLICE("a@example.test"), .detail = SLICE("")},
                                       {.account = 8, .grant = 10, .address = SLICE("b@example.test"), .detail = SLICE("x")}};
    struct m_rcpt_check_reply in = {.verdict = RCPT_OK, .canonical = SLICE("a@example.test"), .targets = {2, targets}}, out;
    struct buf b;
    struct arena a;
    buf_init(&b, 65536);
    arena_init(&a, 65536);
    assert_int_equal(record_encode(&record_m_rcpt_check_reply, &in, &b, NULL, NULL), 0);
    assert_int_equal(record_decode(&record_m_rcpt_check_reply, buf_slice(&b), NULL, 0, &a, &out), 0);
    assert_int_equal(out.targets.n, 2);
    assert_int_equal(RECORD_ITEM(out.targets, m_rcpt_target, 1)->grant, 10);
    assert_true(slice_eq(RECORD_ITEM(out.targets, m_rcpt_target, 1)->detail, SLICE("x")));
    /* Every shorter input is refused, and one with a byte too many. */
    for (size_t n = 0; n < b.n; n++)
        assert_int_not_equal(record_decode(&record_m_rcpt_check_reply, slice_of(b.p, n), NULL, 0, &a, &out), 0);
    buf_put_char(&b, 0);
    assert_int_equal(record_decode(&record_m_rcpt_check_reply, buf_slice(&b), NULL, 0, &a, &out), ERR_SYNTAX);
    buf_done(&b);
    arena_done(&a);
}

static void record_limits(void **state)
{
    (void)state;
    struct buf b;
    char big[IPC_TEXT_MAX + 1];
    memset(big, 'x', sizeof(big));
    struct m_alert in = {.name = SLICE("n"), .text = slice_of(big, sizeof(big))};
    buf_init(&b, 65536);
    assert_int_equal(record_encode(&record_m_alert, &in, &b, NULL, NULL), ERR_LIMIT);
    in.text = SLICE("bad \xff utf-8");
    assert_int_equal(record_encode(&record_m_alert, &in, &b, NULL, NULL), ERR_SYNTAX);
    in.text = slice_of("a\0b", 3);
    assert_int_equal(record_encode(&record_m_alert, &in, &b, NULL, NULL), ERR_SYNTAX);
    buf_done(&b);
}

static void secrets_are_not_printed(void **state)
{
    (void)state;
    struct m_auth_password in = {.user = SLICE("alice"), .password = SLICE("hunter2")};
    struct buf b;
    buf_init(&b, 65536);
    record_print_json(&record_m_auth_password, &in, &b);
    buf_put_char(&b, '\0');
    assert_null(strstr(b.p, "hunter2"));
    assert_non_null(strstr(b.p, "\"password\":null"));
    buf_done(&b);
}

/* ---- a pair: this process answers its own calls ---- */

static int answer_rcpt(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    const struct m_rcpt_check *q = request;
    struct m_rcpt_check_reply *r = reply;
    if (slice_eq(q->address, SLICE("fail")))
        return err_set(err, -ENOSPC, "no room for %.*s", SLICE_ARG(q->address));
    if (slice_eq(q->address, SLICE("slow")))
        (void)fiber_sleep_until(clock_deadline(10000));
    r->verdict = RCPT_OK;
    r->canonical = arena_copy(rq->arena, q->address);
    return 0;
}

static int answer_tls(struct ipc_request *rq, void *request, void *reply, struct err *err)
{
    struct m_tls_accept *q = request;
    struct m_tls_accept_reply *r = reply;
    (void)rq;
    (void)err;
    r->plain = q->raw; /* passes on to the reply */
    q->raw = -1;
    r->version = SLICE("TLSv1.3");
    return 0;
}

static const struct ipc_handler handlers[] = {{IPC_rcpt_check, answer_rcpt}, {IPC_tls_accept, answer_tls}, {0, NULL}};
static int peers_up, peers_down, violations;

static void on_peer(enum role role, uint64_t instance, uint64_t serial, bool up)
{
    (void)role;
    (void)instance;
    (void)serial;
    *(up ? &peers_up : &peers_down) += 1;
}

static void on_violation(enum role role, uint64_t instance, const char *reason)
{
    (void)role;
    (void)instance;
    (void)reason;
    violations++;
}

/* The process is "authd"; the peer known as smtpd is itself through a pair. Calls to authd go out at the other end. */
static void make_pair(enum role server, enum role client)
{
    int s[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s), 0);
    assert_int_equal(ipc_init(server, 0, handlers, on_peer), 0);
    ipc_set_violation_fn(on_violation);
    assert_int_equal(ipc_peer_add(client, 0, 1, s[0], NULL), 0);
    assert_int_equal(ipc_peer_add(server, 0, 1, s[1], NULL), 0);
}

static void drop_pair(enum role server, enum role client)
{
    if (ipc_peer_find(client, 0) != NULL)
        ipc_peer_close(ipc_peer_find(client, 0));
    if (ipc_peer_find(server, 0) != NULL)
        ipc_peer_close(ipc_peer_find(server, 0));
}

static int call_rcpt(const char *address, int64_t ms, struct m_rcpt_check_reply *reply, struct err *err)
{
    static struct arena a;
    arena_done(&a);
    arena_init(&a, 65536);
    struct m_rcpt_check q = {.address = slice_str(address)};
    struct ipc_call c = {.deadline = clock_deadline(ms), .arena = &a};
    return ipc_call(ROLE_AUTHD, 0, IPC_rcpt_check, &c, &q, reply, err);
}

static void calls_fiber(void *arg)
{
    struct m_rcpt_check_reply reply;
    struct err err = {0};
    int *failed = arg;
    assert_int_equal(call_rcpt("alice@example.test", 1000, &reply, &err), 0);
    assert_true(slice_eq(reply.canonical, SLICE("alice@example.test")));
    assert_int_equal(call_rcpt("fail", 1000, &reply, &err), -ENOSPC);
    assert_string_equal(err.text, "no room for fail");
    assert_int_equal(call_rcpt("slow", 50, &reply, &err), -ETIMEDOUT);
    *failed = 0;
}

static void calls_answers_and_deadlines(void **state)
{
    (void)state;
    int failed = 1;
    make_pair(ROLE_AUTHD, ROLE_SMTPD);
    assert_int_equal(fiber_start("calls", calls_fiber, &failed, NULL), 0);
    for (int i = 0; i < 100 && failed; i++)
        loop_turn(10);
    assert_int_equal(failed, 0);
    drop_pair(ROLE_AUTHD, ROLE_SMTPD);
}

static void fd_fiber(void *arg)
{
    struct arena a;
    int *failed = arg, s[2];
    struct m_tls_accept_reply reply;
    char c = 0;
    arena_init(&a, 65536);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
    struct m_tls_accept q = {.raw = s[0], .proto = SLICE("smtp"), .peer_ip = SLICE("192.0.2.1")};
    struct ipc_call call = {.deadline = clock_deadline(1000), .arena = &a};
    assert_int_equal(ipc_call(ROLE_TLSD, 0, IPC_tls_accept, &call, &q, &reply, NULL), 0);
    (void)close(s[0]);
    assert_true(reply.plain >= 0);
    assert_int_equal(write(s[1], "x", 1), 1);
    assert_int_equal(read(reply.plain, &c, 1), 1);
    assert_int_equal(c, 'x');
    (void)close(reply.plain);
    (void)close(s[1]);
    arena_done(&a);
    *failed = 0;
}

static int open_fds(void)
{
    int n = 0;
    for (int fd = 0; fd < 200; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void descriptors_travel_and_none_leak(void **state)
{
    (void)state;
    int failed = 1;
    make_pair(ROLE_TLSD, ROLE_SMTPD);
    int before = open_fds();
    assert_int_equal(fiber_start("fd", fd_fiber, &failed, NULL), 0);
    for (int i = 0; i < 100 && failed; i++)
        loop_turn(10);
    assert_int_equal(failed, 0);
    loop_turn(0);
    assert_int_equal(open_fds(), before);
    drop_pair(ROLE_TLSD, ROLE_SMTPD);
}

static void dying_fiber(void *arg)
{
    struct m_rcpt_check_reply reply;
    *(int *)arg = call_rcpt("slow", 5000, &reply, NULL);
}

static void a_dead_peer_ends_calls_as_unknown(void **state)
{
    (void)state;
    int rc = 0;
    peers_down = 0;
    make_pair(ROLE_AUTHD, ROLE_SMTPD);
    assert_int_equal(fiber_start("dying", dying_fiber, &rc, NULL), 0);
    for (int i = 0; i < 5; i++)
        loop_turn(5);
    ipc_peer_close(ipc_peer_find(ROLE_SMTPD, 0)); /* the serving end dies */
    for (int i = 0; i < 5; i++)
        loop_turn(5);
    assert_int_equal(rc, -ECONNRESET);
    assert_int_equal(peers_down, 2);
    drop_pair(ROLE_AUTHD, ROLE_SMTPD);
}

/* Frames that a role taken over might send: each closes that peer, none reaches a handler, nobody else is hurt. */
static void hostile_frames_close_that_peer(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned number;
        int kind;
        const char *payload;
        size_t n;
    } rows[] = {
        {"unknown message", 9999, 0, "", 0},
        {"not allowed for this role (grant_mailbox is authd's)", IPC_grant_mailbox, 0, "", 0},
        {"meant for another role", IPC_accept, 0, "", 0},
        {"truncated record", IPC_rcpt_check, 0, "abc", 3},
        {"a call sent as a note", IPC_rcpt_check, 2, "", 0},
        {"kind out of range", IPC_rcpt_check, 7, "", 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int s[2];
        struct buf b;
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s), 0);
        ipc_init(ROLE_AUTHD, 0, handlers, on_peer);
        violations = 0;
        assert_int_equal(ipc_peer_add(ROLE_SMTPD, 0, 1, s[0], NULL), 0);
        buf_init(&b, 65536);
        buf_put_u16(&b, (uint16_t)rows[i].number);
        buf_put_char(&b, (char)rows[i].kind);
        buf_put_char(&b, 0);
        buf_put_u32(&b, 1);
        buf_put_u32(&b, 1000);
        buf_put_u32(&b, (uint32_t)rows[i].n);
        buf_put(&b, "0123456789abcdef", 16);
        buf_put(&b, rows[i].payload, rows[i].n);
        assert_int_equal(send(s[1], b.p, b.n, 0), (ssize_t)b.n);
        for (int k = 0; k < 3; k++)
            loop_turn(5);
        if (ipc_peer_find(ROLE_SMTPD, 0) != NULL || violations != 1)
            fail_msg("%s: peer not closed", rows[i].name);
        buf_done(&b);
        (void)close(s[1]);
    }
}

static void memfds_must_be_sealed(void **state)
{
    (void)state;
    int fd = ipc_memfd_new("test");
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "body", 4), 4);
    assert_int_equal(ipc_memfd_check(fd, 4), ERR_DENIED);
    assert_int_equal(ipc_memfd_seal(fd), 0);
    assert_int_equal(ipc_memfd_check(fd, 4), 0);
    assert_int_equal(ipc_memfd_check(fd, 5), ERR_SYNTAX);
    assert_int_equal(write(fd, "x", 1), -1);
    (void)close(fd);
}

static void who_may_talk_to_whom(void **state)
{
    (void)state;
    assert_true(role_may_talk(ROLE_SMTPD, ROLE_AUTHD));
    assert_false(role_may_talk(ROLE_SMTPD, ROLE_KEYD));
    assert_false(role_may_talk(ROLE_LOGIN, ROLE_STORED));
    assert_false(role_may_talk(ROLE_TLSD, ROLE_STORED));
    assert_false(role_may_talk(ROLE_FILTERD, ROLE_STORED));
    /* Every message's ends are a pair of the table. */
    for (size_t i = 0; i < ipc_messages_n; i++) {
        const struct ipc_message *m = &ipc_messages[i];
        for (unsigned from = 0; from < ROLE_CTL; from++)
            if (m->to != ROLE_COUNT && m->from != ROLE_ANY && (m->from & ROLE_BIT(from)) != 0)
                assert_true(role_may_talk((enum role)from, m->to));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(record_round_trip), cmocka_unit_test(record_limits), cmocka_unit_test(secrets_are_not_printed),
        cmocka_unit_test(calls_answers_and_deadlines), cmocka_unit_test(descriptors_travel_and_none_leak),
        cmocka_unit_test(a_dead_peer_ends_calls_as_unknown), cmocka_unit_test(hostile_frames_close_that_peer),
        cmocka_unit_test(memfds_must_be_sealed), cmocka_unit_test(who_may_talk_to_whom),
    };
    log_init("test", LOG_ALERT + 1, false);
    if (loop_init(NULL) != 0)
        return 1;
    return cmocka_run_group_tests_name("ipc", tests, NULL, NULL);
}
