/* imapd_test.c: POP3 sessions as login, stored, auditd and the client see them: real frames and a real stream over real sockets; the bodies are
 * in a real segment form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/mman.h>

#include "role/imapd/imapd.h"
#include "role/imapd/segments.h"
#include "role/stored/fake_peer.h"
#include "store/body_write.h"
#include "trail/event.h"

#define GRANT 77
#define SEGMENT 5
#define MESSAGES 3

static struct fake_peer supervisor, login, stored, auditd, tlsd;
static struct fake_frame frame;
static struct arena arena;
static struct conf conf;
static const struct id128 conn = {{1, 2, 3}};
static uint8_t key[32] = {9};

/* What the fakes were asked, and how they answer. */
static struct {
    int lock_code, event_code;
    bool lost;             /* locate answers that messages are gone */
    size_t locates, opens; /* calls */
    struct buf trail;      /* events as JSON lines */
    struct buf asked;      /* "expunge 1 3\n", "flags ...\n", "drop\n" */
    int list, segment;
    uint64_t offsets[MESSAGES], sizes[MESSAGES];
} fake;

static const char *const bodies[MESSAGES] = {"Subject: one\r\n\r\nHello\r\n.dot\r\n", "Subject: two\r\n\r\nx\r\n", "Subject: three\r\n\r\n\r\n"};
static const char prefix[] = "Received: by test\r\n";

/* ---- the fakes ---- */

static void write_segment(void)
{
    static char out[BODY_FRAME_BOUND(BODY_FRAME_MAX)];
    struct body_writer *w;
    struct seal *s;
    uint64_t at = 0;
    fake.segment = memfd_create("segment", MFD_CLOEXEC);
    assert_int_equal(body_writer_new(1, &w), 0);
    assert_int_equal(seal_new(&s), 0);
    for (size_t i = 0; i < MESSAGES; i++) {
        size_t n;
        assert_int_equal(body_write_frame(w, s, key, 0, true, slice_str(bodies[i]), out, &n), 0);
        assert_int_equal(pwrite(fake.segment, out, n, (off_t)at), n);
        fake.offsets[i] = at;
        fake.sizes[i] = n;
        at += n;
    }
    seal_free(s);
    body_writer_free(w);
}

static void write_list(void)
{
    struct store_entry entries[MESSAGES] = {{0}};
    for (size_t i = 0; i < MESSAGES; i++)
        entries[i] = (struct store_entry){.uid = (uint32_t)i + 1, .size = sizeof(prefix) - 1 + strlen(bodies[i]), .flags = STORE_RECENT};
    fake.list = ipc_memfd_new("list");
    assert_int_equal(write(fake.list, entries, sizeof(entries)), sizeof(entries));
    assert_int_equal(ipc_memfd_seal(fake.list), 0);
}

static void note_uids(const char *word, struct record_list l)
{
    buf_put_str(&fake.asked, word);
    for (size_t i = 0; i < l.n; i++)
        buf_printf(&fake.asked, " %u", (unsigned)RECORD_ITEM(l, m_message_uid, i)->uid);
    buf_put_char(&fake.asked, '\n');
}

static void keep_event(struct slice event)
{
    assert_int_equal(event_print_json(event, 0, &fake.trail), 0);
    buf_put_char(&fake.trail, '\n');
}

static void answer_locate(const struct m_message_locate *q, struct m_message_locate_reply *r)
{
    struct m_message_place *places = arena_array(&arena, q->uids.n, sizeof(*places));
    fake.locates++;
    for (size_t i = 0; i < q->uids.n; i++) {
        uint64_t uid = RECORD_ITEM(q->uids, m_message_uid, i)->uid;
        places[i] = (struct m_message_place){.uid = uid};
        if (!fake.lost)
            places[i] = (struct m_message_place){
                .uid = uid, .segment = SEGMENT, .offset = fake.offsets[uid - 1], .stored_size = fake.sizes[uid - 1],
                .body_size = strlen(bodies[uid - 1]), .codec = BODY_FRAMED, .key = slice_of(key, sizeof(key)), .prefix = slice_str(prefix)};
    }
    r->places = (struct record_list){q->uids.n, places};
}

/* One frame to stored. */
static void serve_stored(struct fake_frame *f)
{
    const struct ipc_message *m = ipc_message_find(f->number);
    void *q = arena_alloc(&arena, m->request->size);
    void *r = arena_alloc(&arena, m->reply != NULL ? m->reply->size : 1);
    int rc = 0;
    assert_int_equal(record_decode(m->request, f->payload, f->fds, f->n_fds, &arena, q), 0);
    switch (m->number) {
    case IPC_mailbox_open:
        *(struct m_mailbox_open_reply *)r = (struct m_mailbox_open_reply){.mailbox = 4, .uidvalidity = 0x10};
        break;
    case IPC_mailbox_lock:
        rc = fake.lock_code;
        break;
    case IPC_mailbox_list:
        *(struct m_mailbox_list_reply *)r = (struct m_mailbox_list_reply){.count = MESSAGES, .entries = fake.list};
        break;
    case IPC_message_locate:
        assert_int_equal(((struct m_message_locate *)q)->grant, GRANT);
        answer_locate(q, r);
        break;
    case IPC_segment_open:
        fake.opens++;
        *(struct m_segment_open_reply *)r = (struct m_segment_open_reply){.file = fake.segment};
        break;
    case IPC_mailbox_expunge:
        note_uids("expunge", ((struct m_mailbox_expunge *)q)->uids);
        keep_event(((struct m_mailbox_expunge *)q)->event);
        ((struct m_mailbox_expunge_reply *)r)->expunged = ((struct m_mailbox_expunge *)q)->uids.n;
        break;
    case IPC_mailbox_flags:
        note_uids("flags", ((struct m_mailbox_flags *)q)->uids);
        break;
    case IPC_grant_drop:
        buf_put_str(&fake.asked, "drop\n");
        return;
    default:
        fail_msg("stored was asked for %s", m->name);
    }
    fake_send(&stored, f->number, 1, f->call, (uint32_t)-rc, rc == 0 ? m->reply : NULL, r);
}

static void serve_auditd(struct fake_frame *f)
{
    if (f->number == IPC_event) {
        struct m_event q;
        struct m_event_reply r = {0};
        assert_int_equal(record_decode(&record_m_event, f->payload, NULL, 0, &arena, &q), 0);
        keep_event(q.event);
        fake_send(&auditd, f->number, 1, f->call, (uint32_t)-fake.event_code, fake.event_code == 0 ? &record_m_event_reply : NULL, &r);
    } else {
        struct m_event_note q;
        assert_int_equal(record_decode(&record_m_event_note, f->payload, NULL, 0, &arena, &q), 0);
        keep_event(q.event);
    }
}

static void serve(void)
{
    while (stored.fd >= 0 && fake_take(&stored, &frame))
        serve_stored(&frame);
    while (fake_take(&auditd, &frame))
        serve_auditd(&frame);
    loop_turn(1);
}

/* ---- set-up ---- */

static int setup(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof(fake));
    buf_init(&fake.trail, 1 << 20);
    buf_init(&fake.asked, 1 << 20);
    arena_init(&arena, 1 << 26);
    conf = (struct conf){.pop3_idle_timeout = 600000, .pop3_max_connections = 1};
    role_context()->conf = &conf;
    role_context()->role = ROLE_IMAPD;
    role_context()->stopping = false;
    assert_int_equal(ipc_init(ROLE_IMAPD, 0, role_program_imapd.handlers, role_program_imapd.on_peer), 0);
    fake_peer_up(&supervisor, ROLE_SUPERVISOR, 0);
    fake_peer_up(&login, ROLE_LOGIN, 0);
    fake_peer_up(&stored, ROLE_STORED, 0);
    fake_peer_up(&auditd, ROLE_AUDITD, 0);
    fake_peer_up(&tlsd, ROLE_TLSD, 0);
    write_segment();
    write_list();
    return 0;
}

static int teardown(void **state)
{
    struct fake_peer *all[] = {&supervisor, &login, &stored, &auditd, &tlsd};
    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        fake_peer_down(all[i]);
    assert_int_equal(imapd_sessions_count(), 0);
    segments_forget();
    (void)close(fake.list);
    (void)close(fake.segment);
    buf_done(&fake.trail);
    buf_done(&fake.asked);
    arena_done(&arena);
    return 0;
}

/* ---- the client ---- */

static void expect(int fd, const char *want)
{
    static char got[65536];
    size_t n = 0, most = strlen(want);
    int64_t until = clock_mono_ms() + FAKE_PATIENCE_MS;
    while (n < most) {
        ssize_t k = recv(fd, got + n, most - n, MSG_DONTWAIT);
        assert_true(k != 0);
        if (k > 0)
            n += (size_t)k;
        else
            serve();
        assert_true(clock_mono_ms() < until);
    }
    got[n] = '\0';
    assert_string_equal(got, want);
}

static void expect_end(int fd)
{
    char byte;
    int64_t until = clock_mono_ms() + FAKE_PATIENCE_MS;
    while (recv(fd, &byte, 1, MSG_DONTWAIT) != 0) {
        serve();
        assert_true(clock_mono_ms() < until);
    }
    while (imapd_sessions_count() != 0 && clock_mono_ms() < until)
        serve();
    serve();
    serve();
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* As login does it; the client's end of the connection, or -1 with the verdict. */
static int begin_with(const char *unread, const char *lang, uint64_t *ret_verdict)
{
    static struct fake_frame reply_frame;
    int sv[2];
    struct m_session_start_reply r = {99};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
    struct m_session_start q = {.conn = conn, .service = SLICE("pop3"), .stream = sv[0], .account = 3, .grant = GRANT,
                                .address = SLICE("hanako@example.test"), .peer_ip = SLICE("192.0.2.1"), .unread = slice_str(unread),
                                .lang = slice_str(lang)};
    uint32_t call = fake_call_begin(&login, IPC_session_start, &q);
    do {
        while (!fake_take(&login, &reply_frame))
            serve();
    } while (reply_frame.kind != 1 || reply_frame.call != call);
    assert_int_equal(fake_reply(&reply_frame, &r, &arena), 0);
    *ret_verdict = r.verdict;
    if (r.verdict != SESSION_TAKEN) {
        /* The asker's descriptor still works. */
        assert_int_equal(send(sv[0], "x", 1, MSG_NOSIGNAL), 1);
        (void)close(sv[0]);
        (void)close(sv[1]);
        return -1;
    }
    (void)close(sv[0]);
    return sv[1];
}

static int begin(const char *unread)
{
    uint64_t verdict;
    int fd = begin_with(unread, "en", &verdict);
    assert_int_equal(verdict, SESSION_TAKEN);
    expect(fd, "+OK Maildrop has 3 messages (125 octets)\r\n");
    return fd;
}

static bool in_trail(const char *what)
{
    return memmem(fake.trail.p, fake.trail.n, what, strlen(what)) != NULL;
}

static void assert_asked(const char *want)
{
    buf_put_char(&fake.asked, '\0');
    assert_string_equal(fake.asked.p, want);
    fake.asked.n--;
}

/* ---- tests ---- */

static void test_whole_session(void **state)
{
    (void)state;
    int fd = begin("STAT\r\nRETR 1\r\nNO"); /* half a command lay unread in login */
    expect(fd, "+OK 3 125\r\n+OK 48 octets\r\nReceived: by test\r\nSubject: one\r\n\r\nHello\r\n..dot\r\n.\r\n");
    say(fd, "OP\r\nRETR 2\r\nUIDL 3\r\nDELE 2\r\nQUIT\r\n");
    expect(fd, "+OK Done\r\n+OK 38 octets\r\nReceived: by test\r\nSubject: two\r\n\r\nx\r\n.\r\n"
               "+OK 3 0000001000000003\r\n+OK Marked for deletion\r\n+OK Bye (1 messages deleted)\r\n");
    expect_end(fd);
    assert_int_equal(fake.opens, 1); /* one segment, one descriptor */
    assert_asked("expunge 2\nflags 1\ndrop\n");
    assert_true(in_trail("\"event\":\"mail.retrieved\""));
    assert_true(in_trail("\"messages\":2,\"bytes\":86,\"complete\":1"));
    assert_true(in_trail("\"event\":\"mail.expunged\""));
    assert_true(in_trail("\"retrieved\":2,\"retrieved_bytes\":86,\"expunged\":1"));
    assert_true(in_trail("\"end\":\"quit\""));
    (void)close(fd);
}

static void test_lost_session(void **state)
{
    (void)state;
    int fd = begin("RETR 3\r\nDELE 3\r\nDELE 1\r\n");
    expect(fd, "+OK 39 octets\r\nReceived: by test\r\nSubject: three\r\n\r\n\r\n.\r\n+OK Marked for deletion\r\n+OK Marked for deletion\r\n");
    (void)shutdown(fd, SHUT_WR);
    expect_end(fd);
    assert_asked("flags 3\ndrop\n");
    assert_true(in_trail("\"messages\":1,\"bytes\":39,\"complete\":0"));
    assert_true(in_trail("\"end\":\"closed\""));
    (void)close(fd);
}

static void test_in_use(void **state)
{
    uint64_t verdict;
    (void)state;
    fake.lock_code = -EBUSY;
    assert_int_equal(begin_with("", "en", &verdict), -1);
    assert_int_equal(verdict, SESSION_IN_USE);
    fake.lock_code = ERR_DENIED;
    assert_int_equal(begin_with("", "en", &verdict), -1);
    assert_int_equal(verdict, SESSION_TEMPORARY);
    serve();
    assert_asked("drop\ndrop\n");
}

static void test_full(void **state)
{
    uint64_t verdict;
    (void)state;
    int fd = begin("");
    assert_int_equal(begin_with("", "en", &verdict), -1);
    assert_int_equal(verdict, SESSION_TEMPORARY);
    (void)close(fd);
    while (imapd_sessions_count() != 0)
        serve();
    serve();
}

static void test_revoked(void **state)
{
    uint64_t verdict;
    (void)state;
    int fd = begin_with("RETR 1\r\n", "ja", &verdict);
    expect(fd, "+OK メールは 3 通(125 オクテット)あります\r\n+OK 48 オクテット\r\nReceived: by test\r\nSubject: one\r\n\r\nHello\r\n..dot\r\n.\r\n");
    struct m_grant_revoked other = {.grant = GRANT + 1, .conn = conn}, note = {.grant = GRANT, .conn = conn};
    fake_send(&stored, IPC_grant_revoked, 2, 0, 0, &record_m_grant_revoked, &other);
    for (int i = 0; i < 20; i++)
        serve();
    assert_int_equal(imapd_sessions_count(), 1);
    int64_t before = clock_mono_ms();
    fake_send(&stored, IPC_grant_revoked, 2, 0, 0, &record_m_grant_revoked, &note);
    expect(fd, "-ERR [AUTH] このメールボックスへのアクセスは取り消されました\r\n");
    expect_end(fd);
    assert_true(clock_mono_ms() - before < 1000);
    assert_true(in_trail("\"messages\":1,\"bytes\":48,\"complete\":0"));
    assert_true(in_trail("\"end\":\"revoked\""));
    assert_asked("");
    (void)close(fd);
}

static void test_store_gone(void **state)
{
    (void)state;
    int fd = begin("DELE 1\r\n");
    expect(fd, "+OK Marked for deletion\r\n");
    fake_peer_down(&stored);
    expect(fd, "-ERR [SYS/TEMP] Mail store restarted, please reconnect\r\n");
    expect_end(fd);
    assert_true(in_trail("\"end\":\"store gone\""));
    (void)close(fd);
}

static void test_vanished(void **state)
{
    (void)state;
    int fd = begin("RETR 1\r\n");
    expect(fd, "+OK 48 octets\r\nReceived: by test\r\nSubject: one\r\n\r\nHello\r\n..dot\r\n.\r\n");
    fake.lost = true;
    say(fd, "RETR 2\r\nRETR 3\r\n"); /* 2 and 3 were located together with 1 */
    expect(fd, "+OK 38 octets\r\nReceived: by test\r\nSubject: two\r\n\r\nx\r\n.\r\n");
    expect(fd, "+OK 39 octets\r\nReceived: by test\r\nSubject: three\r\n\r\n\r\n.\r\n");
    assert_int_equal(fake.locates, 1);
    say(fd, "RETR 1\r\nQUIT\r\n");
    expect(fd, "+OK 48 octets\r\n");
    expect_end(fd);
    (void)close(fd);
}

static void test_gone_at_once(void **state)
{
    (void)state;
    fake.lost = true;
    int fd = begin("RETR 1\r\nQUIT\r\n");
    expect(fd, "-ERR Message is gone\r\n+OK Bye\r\n");
    expect_end(fd);
    (void)close(fd);
}

static void test_damaged(void **state)
{
    (void)state;
    char byte;
    assert_int_equal(pread(fake.segment, &byte, 1, (off_t)fake.offsets[1] + 14), 1);
    byte = (char)(byte + 1);
    assert_int_equal(pwrite(fake.segment, &byte, 1, (off_t)fake.offsets[1] + 14), 1);
    int fd = begin("RETR 2\r\nQUIT\r\n");
    expect(fd, "-ERR [SYS/PERM] Message is damaged; ask your administrator\r\n+OK Bye\r\n");
    expect_end(fd);
    (void)close(fd);
}

static void test_unrecorded(void **state)
{
    (void)state;
    fake.event_code = -ENOSPC;
    int fd = begin("RETR 2\r\nDELE 2\r\nQUIT\r\n");
    expect(fd, "+OK 38 octets\r\nReceived: by test\r\nSubject: two\r\n\r\nx\r\n.\r\n+OK Marked for deletion\r\n"
               "-ERR [SYS/TEMP] Some deleted messages not removed\r\n");
    expect_end(fd);
    assert_asked("flags 2\ndrop\n");
    (void)close(fd);
}

static void stop_fiber(void *arg)
{
    role_program_imapd.stop(role_context(), clock_deadline(1500));
    *(bool *)arg = true;
}

static void test_stop(void **state)
{
    uint64_t verdict;
    bool stopped = false;
    (void)state;
    int idle = begin("STAT\r\n");
    expect(idle, "+OK 3 125\r\n");
    assert_int_equal(fiber_start("stop", stop_fiber, &stopped, NULL), 0);
    expect(idle, "-ERR [SYS/TEMP] Service is stopping, please reconnect\r\n");
    expect_end(idle);
    role_context()->stopping = true;
    assert_int_equal(begin_with("", "en", &verdict), -1);
    assert_int_equal(verdict, SESSION_TEMPORARY);
    while (!stopped)
        serve();
    assert_true(in_trail("\"end\":\"stopped\""));
    (void)close(idle);
}

static void test_tls_end(void **state)
{
    (void)state;
    int fd = begin("");
    struct m_tls_ended note = {.conn = conn, .reason = TLS_END_TRUNCATED};
    fake_send(&tlsd, IPC_tls_ended, 2, 0, 0, &record_m_tls_ended, &note);
    for (int i = 0; i < 5; i++)
        serve();
    (void)close(fd);
    while (imapd_sessions_count() != 0)
        serve();
    serve();
    assert_true(in_trail("\"end\":\"truncated\""));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_whole_session), TEST(test_lost_session), TEST(test_in_use), TEST(test_full), TEST(test_revoked), TEST(test_store_gone),
        TEST(test_vanished), TEST(test_gone_at_once), TEST(test_damaged), TEST(test_unrecorded), TEST(test_stop), TEST(test_tls_end),
    };
    if (loop_init(NULL) != 0 || role_program_imapd.prepare(role_context(), NULL) != 0 || maildrop_threads() != 0)
        return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    loop_done();
    return rc;
}
