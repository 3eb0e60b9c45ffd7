#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include "account/db.h"
#include "account/register.h"

struct fixture {
    char path[64];
    int dir;
    struct account_db *db;
    struct directory *d;
    struct arena arena;
};

static const struct slice event = {"event", 5};

static void open_db(struct fixture *f)
{
    struct err err = {0};
    if (account_db_open(f->dir, &f->db, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(directory_new(&f->d), 0);
    assert_int_equal(account_db_load(f->db, f->d, &err), 0);
}

static void close_db(struct fixture *f)
{
    account_db_close(f->db);
    directory_free(f->d);
    f->db = NULL;
    f->d = NULL;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    (void)snprintf(f->path, sizeof(f->path), "/tmp/kk-db-test-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    f->dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    arena_init(&f->arena, 1 << 20);
    open_db(f);
    assert_int_equal(account_db_set_domain(f->db, SLICE("example.test"), SLICE_EMPTY, 1, SLICE_EMPTY, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    DIR *d = opendir(f->path);
    struct dirent *e;
    close_db(f);
    while ((e = readdir(d)) != NULL)
        (void)unlinkat(f->dir, e->d_name, 0);
    (void)closedir(d);
    (void)close(f->dir);
    (void)rmdir(f->path);
    arena_done(&f->arena);
    free(f);
    return 0;
}

static int reserve(struct fixture *f, const char *address, uint64_t *id)
{
    struct account_new a = {.address = slice_str(address), .credential = "$argon2id$x", .actor = SLICE("root"), .now_ms = 5};
    return account_db_reserve(f->db, &a, id, NULL);
}

static uint64_t make(struct fixture *f, const char *address)
{
    uint64_t id = 0;
    assert_int_equal(reserve(f, address, &id), 0);
    assert_int_equal(account_db_activate(f->db, id, event, NULL), 0);
    return id;
}

static void test_accounts(void **state)
{
    struct fixture *f = *state;
    uint64_t id, other = 0, half = 0;
    struct err err;
    id = make(f, "taro@example.test");
    assert_int_equal(reserve(f, "taro@example.test", &other), -EEXIST);
    assert_int_equal(reserve(f, "x@elsewhere.test", &other), -ENOENT);
    assert_int_equal(reserve(f, "half@example.test", &half), 0);
    assert_int_equal(account_db_set_credential(f->db, id, "$argon2id$y", 77, 6, event, NULL), 0);
    assert_int_equal(account_db_rehash(f->db, id, "$argon2id$z", 76, &err), -ENOENT);
    assert_int_equal(account_db_rehash(f->db, id, "$argon2id$z", 77, &err), 0);
    assert_int_equal(account_db_set_state(f->db, id, ACCOUNT_SUSPENDED, event, NULL), 0);
    assert_int_equal(account_db_set_state(f->db, 999, ACCOUNT_SUSPENDED, event, NULL), -ENOENT);
    struct account_login login = {.id = id, .at_ms = 1234};
    assert_int_equal(account_db_save_logins(f->db, &login, 1, NULL), 0);
    close_db(f);
    open_db(f);
    struct account *a = directory_account(f->d, id);
    assert_non_null(a);
    assert_string_equal(a->address, "taro@example.test");
    assert_string_equal(a->credential, "$argon2id$z");
    assert_int_equal(a->credential_version, 77);
    assert_int_equal(a->state, ACCOUNT_SUSPENDED);
    assert_int_equal(a->last_login_ms, 1234);
    assert_int_equal(directory_account(f->d, half)->state, ACCOUNT_CREATING);
    /* The interrupted one is taken up again under its id. */
    assert_int_equal(reserve(f, "half@example.test", &other), 0);
    assert_int_equal(other, half);
    assert_int_equal(account_db_outbox_count(f->db), 3); /* activate, credential, suspend */
}

/* [R7.1(6)] an address and an id that were ever given out are never given to another account, even when an older copy of the database
 * is put back. */
static void test_never_again(void **state)
{
    struct fixture *f = *state;
    uint64_t first, again = 0, next;
    first = make(f, "taro@example.test");
    assert_int_equal(account_db_add_alias(f->db, SLICE("all@example.test"), SLICE("taro@example.test"), event, NULL), 0);
    assert_int_equal(account_db_delete_begin(f->db, first, SLICE("root"), NULL), 0);
    assert_int_equal(account_db_delete_finish(f->db, first, event, NULL), 0);
    assert_int_equal(reserve(f, "taro@example.test", &again), ERR_GONE);
    close_db(f);
    assert_int_equal(unlinkat(f->dir, ACCOUNT_DB_FILE, 0), 0);
    open_db(f);
    assert_int_equal(account_db_set_domain(f->db, SLICE("example.test"), SLICE_EMPTY, 1, SLICE_EMPTY, NULL), 0);
    assert_int_equal(reserve(f, "taro@example.test", &again), ERR_GONE);
    next = make(f, "hanako@example.test");
    assert_true(next > first);
    struct record_list l;
    assert_int_equal(account_db_list_aliases(f->db, SLICE_EMPTY, SLICE_EMPTY, 10, &f->arena, &l, NULL), 0);
    assert_int_equal(l.n, 0);
}

static void test_aliases_and_domains(void **state)
{
    struct fixture *f = *state;
    struct record_list l;
    (void)make(f, "a@example.test");
    (void)make(f, "b@example.test");
    assert_int_equal(account_db_add_alias(f->db, SLICE("list@example.test"), SLICE("a@example.test"), event, NULL), 0);
    assert_int_equal(account_db_add_alias(f->db, SLICE("list@example.test"), SLICE("b@example.test"), event, NULL), 0);
    assert_int_equal(account_db_add_alias(f->db, SLICE("list@example.test"), SLICE("b@example.test"), event, NULL), -EEXIST);
    assert_int_equal(account_db_add_alias(f->db, SLICE("a@example.test"), SLICE("b@example.test"), event, NULL), -EEXIST);
    assert_int_equal(account_db_add_alias(f->db, SLICE("x@elsewhere.test"), SLICE("b@example.test"), event, NULL), -ENOENT);
    assert_int_equal(account_db_list_aliases(f->db, SLICE_EMPTY, SLICE_EMPTY, 1, &f->arena, &l, NULL), 0);
    assert_int_equal(l.n, 1);
    struct m_ctl_alias *item = RECORD_ITEM(l, m_ctl_alias, 0);
    assert_true(slice_eq(item->target, SLICE("a@example.test")));
    assert_int_equal(account_db_list_aliases(f->db, item->alias, item->target, 10, &f->arena, &l, NULL), 0);
    assert_int_equal(l.n, 1);
    assert_int_equal(account_db_list_accounts(f->db, SLICE("a@example.test"), 10, &f->arena, &l, NULL), 0);
    assert_int_equal(l.n, 1);
    assert_true(slice_eq(RECORD_ITEM(l, m_ctl_account, 0)->address, SLICE("b@example.test")));
    assert_int_equal(account_db_del_domain(f->db, SLICE("example.test"), event, NULL), -ENOTEMPTY);
    assert_int_equal(account_db_del_domain(f->db, SLICE("none.test"), event, NULL), -ENOENT);
    assert_int_equal(account_db_set_domain(f->db, SLICE("other.test"), SLICE("a@example.test"), 1, event, NULL), 0);
    assert_int_equal(account_db_list_domains(f->db, SLICE_EMPTY, 10, &f->arena, &l, NULL), 0);
    assert_int_equal(l.n, 2);
    assert_int_equal(RECORD_ITEM(l, m_ctl_domain, 0)->accounts, 2);
    assert_true(slice_eq(RECORD_ITEM(l, m_ctl_domain, 1)->catch_all, SLICE("a@example.test")));
    assert_int_equal(account_db_del_domain(f->db, SLICE("other.test"), event, NULL), 0);
    assert_int_equal(account_db_del_alias(f->db, SLICE("list@example.test"), SLICE("a@example.test"), event, NULL), 0);
    assert_int_equal(account_db_del_alias(f->db, SLICE("list@example.test"), SLICE("a@example.test"), event, NULL), -ENOENT);
    assert_int_equal(account_db_del_alias(f->db, SLICE("list@example.test"), SLICE("b@example.test"), event, NULL), 0);
}

static void test_outbox(void **state)
{
    struct fixture *f = *state;
    struct record_list l;
    uint64_t epoch, epoch2;
    for (int i = 0; i < 5; i++)
        assert_int_equal(account_db_set_domain(f->db, SLICE("d.test"), SLICE_EMPTY, 1, event, NULL), 0);
    assert_int_equal(account_db_outbox(f->db, 0, 3, 1000, &f->arena, &l, &epoch, NULL), 0);
    assert_int_equal(l.n, 3);
    assert_int_equal(RECORD_ITEM(l, m_outbox_item, 2)->sequence, 3);
    assert_true(slice_eq(RECORD_ITEM(l, m_outbox_item, 0)->event, event));
    assert_int_equal(account_db_outbox(f->db, 0, 100, 11, &f->arena, &l, &epoch, NULL), 0);
    assert_int_equal(l.n, 2); /* bytes */
    assert_int_equal(account_db_outbox(f->db, 5, 100, 1000, &f->arena, &l, &epoch, NULL), 0);
    assert_int_equal(l.n, 0);
    assert_int_equal(account_db_outbox_count(f->db), 0);
    close_db(f);
    open_db(f);
    assert_int_equal(account_db_set_domain(f->db, SLICE("d.test"), SLICE_EMPTY, 1, event, NULL), 0);
    assert_int_equal(account_db_outbox(f->db, 0, 100, 1000, &f->arena, &l, &epoch2, NULL), 0);
    assert_int_equal(RECORD_ITEM(l, m_outbox_item, 0)->sequence, 6); /* never again from 1 */
    assert_true(epoch == epoch2);
}

static void alter(struct fixture *f, const char *sql)
{
    char path[128];
    sqlite3 *s;
    close_db(f);
    (void)snprintf(path, sizeof(path), "%s/%s", f->path, ACCOUNT_DB_FILE);
    assert_int_equal(sqlite3_open(path, &s), SQLITE_OK);
    assert_int_equal(sqlite3_exec(s, sql, NULL, NULL, NULL), SQLITE_OK);
    (void)sqlite3_close(s);
}

static void test_newer_refused(void **state)
{
    struct fixture *f = *state;
    struct err err;
    alter(f, "UPDATE meta SET value=4 WHERE key='features'");
    assert_int_equal(account_db_open(f->dir, &f->db, &err), ERR_VERSION);
    assert_non_null(strstr(err.text, "newer"));
    f->db = NULL;
    alter(f, "PRAGMA user_version=2");
    assert_int_equal(account_db_open(f->dir, &f->db, &err), ERR_VERSION);
    f->db = NULL;
}

static void test_two_owners_refused(void **state)
{
    struct fixture *f = *state;
    struct account_db *second;
    struct err err;
    assert_int_equal(account_db_open(f->dir, &second, &err), -EBUSY);
}

static void test_register_torn_line(void **state)
{
    struct fixture *f = *state;
    uint64_t id = make(f, "taro@example.test");
    close_db(f);
    int fd = openat(f->dir, REGISTER_FILE, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(write(fd, "99 torn@exa", 11), 11);
    (void)close(fd);
    open_db(f);
    uint64_t next = make(f, "torn@example.test");
    assert_int_equal(next, id + 1);
    close_db(f);
    fd = openat(f->dir, REGISTER_FILE, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(write(fd, "nonsense\n", 9), 9);
    (void)close(fd);
    struct err err;
    assert_int_equal(account_db_open(f->dir, &f->db, &err), ERR_CORRUPT);
    f->db = NULL;
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_accounts), T(test_never_again), T(test_aliases_and_domains), T(test_outbox),
        T(test_newer_refused), T(test_two_owners_refused), T(test_register_torn_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
