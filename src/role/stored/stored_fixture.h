/* stored_fixture.h: for tests: stored with the real store in a temporary directory, and its peers. */
#ifndef KK_ROLE_STORED_STORED_FIXTURE_H
#define KK_ROLE_STORED_STORED_FIXTURE_H

#include <dirent.h>
#include <fcntl.h>

#include "role/role_main.h"
#include "role/stored/fake_peer.h"
#include "role/stored/stored.h"

#define LIFE_MS 60000

static struct fake_peer supervisor, smtpd0, imapd0, authd, auditd, keyd, ctl;
static struct arena arena;
static struct fake_frame frame, key_frame;
static struct conf conf;
static char dir[] = "/tmp/kakitome-stored-XXXXXX";

/* ---- keyd: "wraps" by turning the bits over ---- */

static inline struct slice flipped(struct slice s)
{
    char *p = arena_alloc(&arena, s.n);
    for (size_t i = 0; i < s.n; i++)
        p[i] = (char)~s.p[i];
    return slice_of(p, s.n);
}

static inline void keyd_serve(void)
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
static inline void auditd_serve(void)
{
    struct m_event_reply r = {0};
    while (fake_take(&auditd, &key_frame))
        if (key_frame.number == IPC_event)
            fake_send(&auditd, IPC_event, 1, key_frame.call, 0, &record_m_event_reply, &r);
}

/* A call while keyd and auditd answer. */
static inline int call(struct fake_peer *peer, enum ipc_number number, const void *request, void *reply)
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

static inline void start_fiber(void *arg)
{
    struct life *l = arg;
    struct err err = {0};
    l->rc = role_program_stored.start(role_context(), &err);
    if (l->rc < 0)
        print_error("start: %s\n", err.text);
    l->done = true;
}

static inline void stop_fiber(void *arg)
{
    role_program_stored.stop(role_context(), clock_deadline(5000));
    ((struct life *)arg)->done = true;
}

static inline void await_fiber(fiber_fn *fn)
{
    struct life l = {0};
    assert_int_equal(fiber_start("life", fn, &l, NULL), 0);
    while (!l.done) {
        loop_turn(5);
        keyd_serve();
    }
    assert_int_equal(l.rc, 0);
}

static inline void start(void)
{
    struct err err = {0};
    role_context()->stopping = false;
    role_context()->state_dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (role_program_stored.threads(role_context(), &err) != 0)
        fail_msg("%s", err.text);
    await_fiber(start_fiber);
}

static inline void stop(void)
{
    role_context()->stopping = true;
    await_fiber(stop_fiber);
    stored_done();
    (void)close(role_context()->state_dir);
}

static inline void peers_up(void)
{
    fake_peer_up(&supervisor, ROLE_SUPERVISOR, 0);
    fake_peer_up(&smtpd0, ROLE_SMTPD, 0);
    fake_peer_up(&imapd0, ROLE_IMAPD, 0);
    fake_peer_up(&authd, ROLE_AUTHD, 0);
    fake_peer_up(&auditd, ROLE_AUDITD, 0);
    fake_peer_up(&keyd, ROLE_KEYD, 0);
    fake_peer_up(&ctl, ROLE_CTL, 1);
}

static inline void restart(void)
{
    stop();
    peers_up(); /* with new serials, as after a restart */
    start();
}

static inline void fixture_up(void)
{
    assert_non_null(mkdtemp(dir));
    arena_init(&arena, 256 * 1024 * 1024);
    conf = (struct conf){.trail_outbox_limit = 10000, .store_zstd_level = 1, .store_segment_size = 4 * 1024 * 1024, .store_index_map = 64 * 1024 * 1024};
    role_context()->conf = &conf;
    role_context()->role = ROLE_STORED;
    assert_int_equal(ipc_init(ROLE_STORED, 0, stored_handlers, stored_on_peer), 0);
    peers_up();
    start();
}

static inline void remove_dir(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *e;
    while (d != NULL && (e = readdir(d)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && unlinkat(fd, e->d_name, 0) != 0)
            remove_dir(fd, e->d_name);
    if (d != NULL)
        (void)closedir(d);
    (void)unlinkat(at, name, AT_REMOVEDIR);
}

static inline void fixture_down(void)
{
    struct fake_peer *all[] = {&supervisor, &smtpd0, &imapd0, &authd, &auditd, &keyd, &ctl};
    stop();
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        fake_peer_down(all[i]);
    stored_done();
    remove_dir(AT_FDCWD, dir);
    arena_done(&arena);
}

/* ---- what peers do ---- */

static inline void make_account(uint64_t account)
{
    struct m_account_create q = {.account = account, .quota = 10 * 1024 * 1024};
    assert_int_equal(call(&authd, IPC_account_create, &q, NULL), 0);
}

static inline uint64_t deliver_grant(uint64_t account, uint64_t size)
{
    struct m_grant_deliver q = {.account = account, .holder_role = ROLE_SMTPD, .size = size, .lifetime_ms = LIFE_MS};
    struct m_grant_deliver_reply r = {0};
    assert_int_equal(call(&authd, IPC_grant_deliver, &q, &r), 0);
    assert_int_equal(r.verdict, RCPT_OK);
    return r.grant;
}

static inline uint64_t mailbox_grant(uint64_t account)
{
    struct m_grant_mailbox q = {.account = account, .rights = GRANT_ALL, .holder_role = ROLE_IMAPD, .lifetime_ms = LIFE_MS};
    struct m_grant_mailbox_reply r = {0};
    assert_int_equal(call(&authd, IPC_grant_mailbox, &q, &r), 0);
    return r.grant;
}

static inline struct slice received_event(void)
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

#endif
