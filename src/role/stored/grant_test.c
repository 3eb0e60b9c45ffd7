/* grant_test.c: forged, expired, foreign and revoked grants are refused; what a grant holds goes with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "role/stored/grant.h"

#define NOW 1000000

static const struct grant_holder smtpd0 = {ROLE_SMTPD, 0, 11}, smtpd1 = {ROLE_SMTPD, 1, 12}, imapd0 = {ROLE_IMAPD, 0, 13},
                                 imapd0_again = {ROLE_IMAPD, 0, 14};

static struct grants g;

static int setup(void **state)
{
    (void)state;
    grants_init(&g);
    assert_int_equal(grants_holder_up(&g, &smtpd0), 0);
    assert_int_equal(grants_holder_up(&g, &smtpd1), 0);
    assert_int_equal(grants_holder_up(&g, &imapd0), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    grants_done(&g);
    return 0;
}

static uint64_t issue_for(enum grant_kind kind, const struct grant_holder *h, uint64_t account, unsigned rights, uint64_t reserve)
{
    struct grant_request q = {kind, h->role, h->instance, {{1}}, account, rights, reserve, 60000};
    uint64_t id = 0;
    assert_int_equal(grants_issue(&g, &q, NOW, &id, NULL), 0);
    assert_int_not_equal(id, 0);
    return id;
}

static enum grant_reason ask(uint64_t id, const struct grant_holder *h, enum grant_kind kind, unsigned rights, int64_t now)
{
    enum grant_reason r;
    uint64_t account;
    struct grant *grant = grants_find(&g, id, h, kind, rights, now, &r, &account);
    assert_int_equal(grant != NULL, r == GRANT_OBEYED);
    return r;
}

/* One mailbox grant of imapd.0 with read and change, asked for in every wrong way. */
static void refused_unless_exactly_right(void **state)
{
    (void)state;
    const struct grant_holder other_role = {ROLE_SMTPD, 0, 13}, other_serial = {ROLE_IMAPD, 0, 99}, other_instance = {ROLE_IMAPD, 1, 13};
    uint64_t id = issue_for(GRANT_MAILBOX, &imapd0, 7, GRANT_READ | GRANT_CHANGE, 0);
    const struct {
        const char *name;
        uint64_t id;
        const struct grant_holder *h;
        enum grant_kind kind;
        unsigned rights;
        int64_t now;
        enum grant_reason want;
    } rows[] = {
        {"as granted", id, &imapd0, GRANT_MAILBOX, GRANT_READ, NOW, GRANT_OBEYED},
        {"both rights", id, &imapd0, GRANT_MAILBOX, GRANT_READ | GRANT_CHANGE, NOW, GRANT_OBEYED},
        {"forged: zero", 0, &imapd0, GRANT_MAILBOX, GRANT_READ, NOW, GRANT_UNKNOWN},
        {"forged: one more", id + 1, &imapd0, GRANT_MAILBOX, GRANT_READ, NOW, GRANT_UNKNOWN},
        {"forged: a bit off", id ^ (1ULL << 63), &imapd0, GRANT_MAILBOX, GRANT_READ, NOW, GRANT_UNKNOWN},
        {"last millisecond", id, &imapd0, GRANT_MAILBOX, GRANT_READ, NOW + 59999, GRANT_OBEYED},
        {"expired", id, &imapd0, GRANT_MAILBOX, GRANT_READ, NOW + 60000, GRANT_EXPIRED},
        {"foreign: other role", id, &other_role, GRANT_MAILBOX, GRANT_READ, NOW, GRANT_FOREIGN},
        {"foreign: other instance", id, &other_instance, GRANT_MAILBOX, GRANT_READ, NOW, GRANT_FOREIGN},
        {"foreign: other socket", id, &other_serial, GRANT_MAILBOX, GRANT_READ, NOW, GRANT_FOREIGN},
        {"rights it has not", id, &imapd0, GRANT_MAILBOX, GRANT_EXPUNGE, NOW, GRANT_WRONG_RIGHTS},
        {"one of two rights", id, &imapd0, GRANT_MAILBOX, GRANT_READ | GRANT_EXPUNGE, NOW, GRANT_WRONG_RIGHTS},
        {"as a deliver grant", id, &imapd0, GRANT_DELIVER, 0, NOW, GRANT_WRONG_KIND},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        if (ask(rows[i].id, rows[i].h, rows[i].kind, rows[i].rights, rows[i].now) != rows[i].want)
            fail_msg("%s", rows[i].name);
}

static void void_when_the_holder_dies(void **state)
{
    (void)state;
    uint64_t id = issue_for(GRANT_MAILBOX, &imapd0, 7, GRANT_ALL, 0);
    uint64_t of_other = issue_for(GRANT_DELIVER, &smtpd1, 7, 0, 100);
    grants_holder_down(&g, &imapd0);
    assert_int_equal(ask(id, &imapd0, GRANT_MAILBOX, GRANT_READ, NOW), GRANT_UNKNOWN);
    assert_int_equal(ask(of_other, &smtpd1, GRANT_DELIVER, 0, NOW), GRANT_OBEYED);
    struct grant_request q = {GRANT_MAILBOX, ROLE_IMAPD, 0, {{1}}, 7, GRANT_ALL, 0, 60000};
    assert_int_equal(grants_issue(&g, &q, NOW, &id, NULL), -ENOTCONN);
}

static void a_restarted_holder_inherits_nothing(void **state)
{
    (void)state;
    uint64_t id = issue_for(GRANT_MAILBOX, &imapd0, 7, GRANT_ALL, 0);
    assert_int_equal(grants_holder_up(&g, &imapd0_again), 0);
    assert_int_equal(ask(id, &imapd0_again, GRANT_MAILBOX, GRANT_READ, NOW), GRANT_UNKNOWN);
    uint64_t new_id = issue_for(GRANT_MAILBOX, &imapd0_again, 7, GRANT_ALL, 0);
    grants_holder_down(&g, &imapd0); /* the older socket's end comes late: nothing of the new one is touched */
    assert_int_equal(ask(new_id, &imapd0_again, GRANT_MAILBOX, GRANT_READ, NOW), GRANT_OBEYED);
    assert_int_equal(ask(new_id, &imapd0, GRANT_MAILBOX, GRANT_READ, NOW), GRANT_FOREIGN);
}

static void dropped_by_its_holder_only(void **state)
{
    (void)state;
    uint64_t id = issue_for(GRANT_DELIVER, &smtpd0, 7, 0, 500);
    assert_int_equal(grants_drop(&g, id, &smtpd1), GRANT_FOREIGN);
    assert_int_equal(grants_reserved(&g, 7), 500);
    assert_int_equal(grants_drop(&g, id, &smtpd0), GRANT_OBEYED);
    assert_int_equal(grants_reserved(&g, 7), 0);
    assert_int_equal(grants_drop(&g, id, &smtpd0), GRANT_OBEYED); /* twice is harmless */
    assert_int_equal(ask(id, &smtpd0, GRANT_DELIVER, 0, NOW), GRANT_UNKNOWN);
}

static void count_told(void *arg, const struct grant *grant)
{
    assert_int_equal(grant->kind, GRANT_MAILBOX);
    ++*(size_t *)arg;
}

static void revoked_at_once(void **state)
{
    (void)state;
    uint64_t reading = issue_for(GRANT_MAILBOX, &imapd0, 7, GRANT_ALL, 0);
    uint64_t delivering = issue_for(GRANT_DELIVER, &smtpd0, 7, 0, 10);
    uint64_t other_account = issue_for(GRANT_MAILBOX, &imapd0, 8, GRANT_ALL, 0);
    size_t told = 0;
    assert_int_equal(grants_revoke(&g, 7, false, count_told, &told), 1);
    assert_int_equal(told, 1);
    assert_int_equal(ask(reading, &imapd0, GRANT_MAILBOX, GRANT_READ, NOW), GRANT_UNKNOWN);
    assert_int_equal(ask(delivering, &smtpd0, GRANT_DELIVER, 0, NOW), GRANT_OBEYED);
    assert_int_equal(grants_revoke(&g, 7, true, NULL, NULL), 1);
    assert_int_equal(ask(delivering, &smtpd0, GRANT_DELIVER, 0, NOW), GRANT_UNKNOWN);
    assert_int_equal(grants_reserved(&g, 7), 0);
    assert_int_equal(grants_revoke(&g, 7, true, NULL, NULL), 0);
    assert_int_equal(ask(other_account, &imapd0, GRANT_MAILBOX, GRANT_READ, NOW), GRANT_OBEYED);
}

static void reservation_ends_with_the_grant(void **state)
{
    (void)state;
    uint64_t a = issue_for(GRANT_DELIVER, &smtpd0, 7, 0, 1000), b = issue_for(GRANT_DELIVER, &smtpd1, 7, 0, 200);
    assert_int_equal(grants_reserved(&g, 7), 1200);
    assert_int_equal(grants_reserved(&g, 8), 0);
    assert_int_equal(grants_drop(&g, a, &smtpd0), GRANT_OBEYED); /* dropped */
    assert_int_equal(grants_reserved(&g, 7), 200);
    assert_int_equal(grants_sweep(&g, NOW + 59999), NOW + 60000);
    assert_int_equal(grants_reserved(&g, 7), 200);
    assert_true(grants_sweep(&g, NOW + 60000) == CLOCK_NEVER); /* expired */
    assert_int_equal(grants_reserved(&g, 7), 0);
    assert_int_equal(ask(b, &smtpd1, GRANT_DELIVER, 0, NOW), GRANT_UNKNOWN);
    (void)issue_for(GRANT_DELIVER, &smtpd0, 7, 0, 300);
    grants_holder_down(&g, &smtpd0); /* holder gone */
    assert_int_equal(grants_reserved(&g, 7), 0);
    assert_int_equal(grants_count(&g), 0);
}

static struct grant *get(uint64_t id)
{
    enum grant_reason r;
    uint64_t account;
    return grants_find(&g, id, &imapd0, GRANT_MAILBOX, 0, NOW, &r, &account);
}

static void lock_is_exclusive_and_gone_with_its_holder(void **state)
{
    (void)state;
    uint64_t a = issue_for(GRANT_MAILBOX, &imapd0, 7, GRANT_ALL, 0), b = issue_for(GRANT_MAILBOX, &imapd0, 7, GRANT_ALL, 0);
    uint64_t other = issue_for(GRANT_MAILBOX, &imapd0, 8, GRANT_ALL, 0);
    assert_int_equal(grants_lock(get(a), 1), 0);
    assert_int_equal(grants_lock(get(a), 1), 0);
    assert_int_equal(grants_lock(get(b), 1), -EBUSY);
    assert_int_equal(grants_lock(get(b), 2), 0);
    assert_int_equal(grants_lock(get(other), 1), 0); /* the same number in another account */
    assert_int_equal(grants_drop(&g, a, &imapd0), GRANT_OBEYED);
    assert_int_equal(grants_lock(get(b), 1), 0);
    grants_holder_down(&g, &imapd0);
    assert_int_equal(grants_holder_up(&g, &imapd0), 0);
    uint64_t c = issue_for(GRANT_MAILBOX, &imapd0, 7, GRANT_ALL, 0);
    assert_int_equal(grants_lock(get(c), 1), 0);
    for (uint64_t i = 1; i <= GRANT_LOCKS_MAX; i++)
        assert_int_equal(grants_lock(get(c), i), 0);
    assert_int_equal(grants_lock(get(c), GRANT_LOCKS_MAX + 1), ERR_LIMIT);
}

/* A login that never became a session does not hold its grant for a day; a session does. */
static void unused_ones_end_soon(void **state)
{
    (void)state;
    struct grant_request q = {GRANT_MAILBOX, ROLE_IMAPD, 0, {{1}}, 7, GRANT_ALL, 0, UINT64_MAX};
    uint64_t used, unused, third;
    assert_int_equal(grants_issue(&g, &q, NOW, &used, NULL), 0);
    assert_int_equal(grants_issue(&g, &q, NOW + 1, &unused, NULL), 0);
    assert_int_equal(ask(used, &imapd0, GRANT_MAILBOX, GRANT_READ, NOW + 2), GRANT_OBEYED);
    assert_int_equal(ask(unused, &smtpd0, GRANT_MAILBOX, GRANT_READ, NOW + 2), GRANT_FOREIGN); /* is no use */
    assert_int_equal(grants_issue(&g, &q, NOW + 3, &third, NULL), 0);
    assert_true(grants_sweep(&g, NOW + 3) == NOW + 1 + GRANT_UNUSED_MS);
    assert_true(grants_sweep(&g, NOW + 1 + GRANT_UNUSED_MS) == NOW + 3 + GRANT_UNUSED_MS);
    assert_int_equal(ask(unused, &imapd0, GRANT_MAILBOX, GRANT_READ, NOW + 1), GRANT_UNKNOWN);
    assert_true(grants_sweep(&g, NOW + 3 + GRANT_UNUSED_MS) == NOW + GRANT_LIFETIME_MAX);
    assert_int_equal(ask(used, &imapd0, GRANT_MAILBOX, GRANT_READ, NOW + GRANT_LIFETIME_MAX - 1), GRANT_OBEYED);
    assert_int_equal(grants_count(&g), 1);
}

static void bounded(void **state)
{
    (void)state;
    struct grant_request q = {GRANT_DELIVER, ROLE_SMTPD, 0, {{1}}, 7, 0, GRANT_RESERVE_MAX + 1, 60000};
    uint64_t id;
    assert_int_equal(grants_issue(&g, &q, NOW, &id, NULL), ERR_LIMIT);
    q.reserve = 1;
    q.lifetime_ms = UINT64_MAX; /* no overflow, cut to a day */
    for (size_t i = 0; i < GRANTS_PER_HOLDER_MAX; i++)
        assert_int_equal(grants_issue(&g, &q, NOW, &id, NULL), 0);
    assert_int_equal(grants_issue(&g, &q, NOW, &id, NULL), -EBUSY);
    assert_true(grants_sweep(&g, NOW) == NOW + GRANT_LIFETIME_MAX);
    (void)issue_for(GRANT_DELIVER, &smtpd1, 7, 0, 1); /* one greedy process does not starve another */
    grants_holder_down(&g, &smtpd0);
    assert_int_equal(grants_count(&g), 1);
    assert_int_equal(grants_reserved(&g, 7), 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(refused_unless_exactly_right), T(void_when_the_holder_dies), T(a_restarted_holder_inherits_nothing),
        T(dropped_by_its_holder_only), T(revoked_at_once), T(reservation_ends_with_the_grant),
        T(lock_is_exclusive_and_gone_with_its_holder), T(unused_ones_end_soon), T(bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
