/* nomem_test.c: every allocation on a message's way into the store fails once. Whatever it was, the sender is told something, the
 * same request again succeeds, and in the end each message is there exactly once. With a sanitizer malloc is not ours: skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "role/stored/stored_fixture.h"

#if defined(__SANITIZE_ADDRESS__)
#define OWN_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define OWN_MALLOC 0
#endif
#endif
#ifndef OWN_MALLOC
#define OWN_MALLOC 1
#endif

/* ---- the allocator ---- */

static atomic_long countdown; /* the allocation that fails is the countdown'th; 0: none */
static atomic_bool in_loop;   /* of the loop's thread only the product's part counts, not the fakes' */
static pthread_t loop_thread;

#if OWN_MALLOC
static bool fails_now(void)
{
    if (atomic_load(&countdown) <= 0 || (!atomic_load(&in_loop) && pthread_equal(pthread_self(), loop_thread)))
        return false;
    return atomic_fetch_sub(&countdown, 1) == 1;
}

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
#define OURS __attribute__((visibility("default")))
OURS void *malloc(size_t n)
{
    return fails_now() ? (errno = ENOMEM, NULL) : __libc_malloc(n);
}
OURS void *calloc(size_t n, size_t size)
{
    return fails_now() ? (errno = ENOMEM, NULL) : __libc_calloc(n, size);
}
OURS void *realloc(void *p, size_t n)
{
    return fails_now() ? (errno = ENOMEM, NULL) : __libc_realloc(p, n);
}
#endif

/* ---- one message ---- */

static int64_t patience_ended;

/* Like call(), but counts what the loop's thread allocates. -ETIMEDOUT: no answer. */
static int call_counted(struct fake_peer *peer, enum ipc_number number, const void *request, void *reply)
{
    uint32_t id = fake_call_begin(peer, number, request);
    patience_ended = clock_mono_ms() + 5000;
    do {
        while (!fake_take(peer, &frame)) {
            if (clock_mono_ms() > patience_ended)
                return -ETIMEDOUT;
            atomic_store(&in_loop, true);
            loop_turn(1);
            atomic_store(&in_loop, false);
        }
    } while (frame.kind != 1 || frame.call != id);
    return fake_reply(&frame, reply, &arena);
}

/* One attempt: grant and accept. 0 when the sender would be told 250. */
static int attempt(uint32_t message)
{
    struct m_grant_deliver g = {.account = 1, .holder_role = ROLE_SMTPD, .size = 100, .lifetime_ms = LIFE_MS};
    struct m_grant_deliver_reply gr = {0};
    int rc = call_counted(&authd, IPC_grant_deliver, &g, &gr);
    if (rc < 0)
        return rc;
    if (gr.verdict != RCPT_OK)
        return -EAGAIN;
    struct m_accept_rcpt rcpt = {.account = 1, .grant = gr.grant, .prefix = SLICE("Return-Path: <>\r\n")};
    struct m_accept q = {.received_ms = 1000, .rcpts = {1, &rcpt}, .event = received_event(), .body = SLICE("Subject: x\r\n\r\nbody\r\n"),
                         .size = 20, .body_fd = -1, .all = 1};
    struct m_accept_reply r = {0};
    memcpy(q.message.b, &message, sizeof(message));
    rc = call_counted(&smtpd0, IPC_accept, &q, &r);
    if (rc < 0)
        return rc;
    return RECORD_ITEM(r.results, m_accept_result, 0)->status == ACCEPT_OK ? 0 : -EAGAIN;
}

/* A reader waits until the index has caught up: so the index's part of the way is in the round, too. */
static int look(void)
{
    struct m_grant_mailbox g = {.account = 1, .rights = GRANT_READ, .holder_role = ROLE_IMAPD, .lifetime_ms = LIFE_MS};
    struct m_grant_mailbox_reply gr = {0};
    struct m_mailbox_open q = {.name = SLICE("INBOX")};
    struct m_mailbox_open_reply r = {0};
    int rc = call_counted(&authd, IPC_grant_mailbox, &g, &gr);
    q.grant = gr.grant;
    return rc == 0 ? call_counted(&imapd0, IPC_mailbox_open, &q, &r) : rc;
}

static unsigned restarts;

/* Without failures now. */
static void until_accepted(uint32_t message)
{
    for (int i = 0; i < 5; i++) {
        int rc = attempt(message);
        if (rc == 0)
            return;
        if (store_is_readonly(stored()->store)) {
            restarts++;
            restart();
        }
    }
    fail_msg("message %u was never accepted", message);
}

static uint64_t messages_in_inbox(void)
{
    struct m_mailbox_open q = {.grant = mailbox_grant(1), .name = SLICE("INBOX")};
    struct m_mailbox_open_reply r = {0};
    assert_int_equal(call(&imapd0, IPC_mailbox_open, &q, &r), 0);
    return r.messages;
}

static void every_allocation_fails_once(void **state)
{
    uint32_t message = 1, accepted_in_spite = 0;
    int quiet = 0;
    (void)state;
    if (!OWN_MALLOC)
        skip();
    loop_thread = pthread_self();
    make_account(1);
    until_accepted(message); /* what is allocated once only has been */
    for (long n = 1; n < 2000 && quiet < 10; n++) {
        atomic_store(&countdown, n);
        int rc = attempt(++message), looked = look();
        bool fired = atomic_exchange(&countdown, 0) <= 0;
        if (rc == -ETIMEDOUT || looked == -ETIMEDOUT)
            fail_msg("allocation %ld: no answer", n);
        if (looked != 0 && look() != 0) {
            assert_true(store_is_readonly(stored()->store)); /* has said so, and is restarted */
            restarts++;
            restart();
            assert_int_equal(look(), 0);
        }
        accepted_in_spite += fired && rc == 0;
        quiet = fired ? 0 : quiet + 1;
        if (rc != 0)
            until_accepted(message);
    }
    assert_int_equal(messages_in_inbox(), message);
    print_message("%u messages, %u accepted in spite of a failure, %u restarts\n", message, accepted_in_spite, restarts);
    restart();
    assert_int_equal(messages_in_inbox(), message);
}

static int setup(void **state)
{
    (void)state;
    fixture_up();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_down();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(every_allocation_fails_once, setup, teardown)};
    if (loop_init(NULL) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
