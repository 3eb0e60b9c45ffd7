/* cmd_account.c: account add, list, password, quota, suspend, resume, delete. A password comes from standard input or is made here and
 * printed once; never from the arguments, which every process can see. */
#include <stdio.h>

#include "base/secret.h"
#include "ctl/client.h"
#include "ctl/ctl.h"
#include "ctl/output.h"

#define PAGE 100

/* The given or the generated password. *ret_made: print it. */
static int get_password(struct ctl *c, struct buf *ret, bool *ret_made, struct err *err)
{
    char made[CTL_PASSWORD_SIZE];
    *ret_made = !ctl_flag(c, "password-stdin");
    if (!*ret_made)
        return ctl_read_secret(c, "Password", true, ret, err);
    buf_init(ret, CTL_PASSWORD_SIZE);
    ctl_random_password(made);
    buf_put_str(ret, made);
    secret_wipe(made, sizeof(made));
    return buf_ok(ret) ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* What the administrator gets to see, and nobody else ever again. */
static int print_account(struct ctl *c, uint64_t account, const struct buf *password, bool made)
{
    static const struct ctl_column with[] = {{"account", CTL_COUNT}, {"address", CTL_TEXT}, {"password", CTL_TEXT}, {0}};
    static const struct ctl_column without[] = {{"account", CTL_COUNT}, {"address", CTL_TEXT}, {0}};
    static const struct ctl_column only_password[] = {{"address", CTL_TEXT}, {"password", CTL_TEXT}, {0}};
    struct ctl_list l;
    if (!made && !c->json)
        return EX_OK;
    ctl_list_init(&l, c, "account", account == 0 ? only_password : made ? with : without);
    if (account != 0)
        ctl_list_number(&l, account);
    ctl_list_text(&l, slice_str(c->args[0]));
    if (made || account == 0)
        ctl_list_text(&l, made ? buf_slice(password) : SLICE_EMPTY);
    return ctl_list_print_single(&l);
}

static int run_add(struct ctl *c)
{
    struct err err = {0};
    struct buf password;
    bool made;
    struct m_ctl_account_add_reply r;
    struct m_ctl_account_add q = {.address = slice_str(c->args[0]), .quota = (uint64_t)ctl_get_int(c, "quota", 0)};
    int rc = get_password(c, &password, &made, &err);
    q.password = buf_slice(&password);
    if (rc == 0)
        rc = ctl_call_once(c, ROLE_AUTHD, IPC_ctl_account_add, &q, &r, &err);
    int status = rc == 0 ? print_account(c, r.account, &password, made) : ctl_fail(c, &err);
    buf_done_secret(&password);
    return status;
}

static int run_password(struct ctl *c)
{
    struct err err = {0};
    struct buf password;
    bool made;
    struct m_ctl_account_set_reply r;
    struct m_ctl_account_set q = {.address = slice_str(c->args[0]), .what = SLICE("password")};
    int rc = get_password(c, &password, &made, &err);
    q.password = buf_slice(&password);
    if (rc == 0)
        rc = ctl_call_once(c, ROLE_AUTHD, IPC_ctl_account_set, &q, &r, &err);
    int status = rc == 0 ? print_account(c, 0, &password, made) : ctl_fail(c, &err);
    buf_done_secret(&password);
    return status;
}

static int set_simply(struct ctl *c, const char *what, uint64_t quota)
{
    struct err err = {0};
    struct m_ctl_account_set_reply r;
    struct m_ctl_account_set q = {.address = slice_str(c->args[0]), .what = slice_str(what), .password = SLICE_EMPTY, .quota = quota};
    return ctl_call_once(c, ROLE_AUTHD, IPC_ctl_account_set, &q, &r, &err) == 0 ? EX_OK : ctl_fail(c, &err);
}

/* "25M"; the units of the configuration. */
static bool parse_size(struct slice s, uint64_t *ret)
{
    static const char units[] = "KMGT";
    unsigned shift = 0;
    const char *u = s.n > 0 ? memchr(units, s.p[s.n - 1] & ~0x20, sizeof(units) - 1) : NULL;
    if (u != NULL) {
        shift = 10 * (unsigned)(u - units + 1);
        s.n--;
    }
    if (!slice_to_u64(s, ret) || *ret > (UINT64_MAX >> 1) >> shift)
        return false;
    *ret <<= shift;
    return true;
}

static int run_quota(struct ctl *c)
{
    uint64_t quota;
    if (!parse_size(slice_str(c->args[1]), &quota))
        return ctl_usage_error(c, "\"%s\" is no size: write 500M or 2G, or 0 for no limit", c->args[1]);
    return set_simply(c, "quota", quota);
}

static int run_suspend(struct ctl *c)
{
    return set_simply(c, "suspend", 0);
}

static int run_resume(struct ctl *c)
{
    return set_simply(c, "resume", 0);
}

static int run_delete(struct ctl *c)
{
    struct err err = {0};
    struct m_ctl_account_delete q = {.address = slice_str(c->args[0])};
    struct m_ctl_account_delete_reply r;
    return ctl_call_once(c, ROLE_AUTHD, IPC_ctl_account_delete, &q, &r, &err) == 0 ? EX_OK : ctl_fail(c, &err);
}

static void add_row(struct ctl_list *l, const struct m_ctl_account *a)
{
    ctl_list_number(l, a->account);
    ctl_list_text(l, a->address);
    ctl_list_text(l, a->state);
    ctl_list_number(l, a->used);
    ctl_list_number(l, a->quota);
    ctl_list_number(l, a->messages);
    ctl_list_number(l, a->created_ms);
    ctl_list_number(l, a->last_login_ms);
}

/* One page behind `after`, which moves on. *ret_n: rows of the page. */
static int add_page(struct ctl_client *cl, struct ctl_list *l, char after[IPC_ADDRESS_MAX + 1], size_t *ret_n, struct err *err)
{
    struct m_ctl_account_list q = {.after = slice_str(after), .max = PAGE};
    struct m_ctl_account_list_reply r;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    int rc = ctl_client_call(cl, IPC_ctl_account_list, &q, &arena, &r, CTL_CALL_MS, err);
    *ret_n = rc == 0 ? r.accounts.n : 0;
    for (size_t i = 0; i < *ret_n; i++)
        add_row(l, RECORD_ITEM(r.accounts, m_ctl_account, i));
    if (*ret_n > 0)
        (void)snprintf(after, IPC_ADDRESS_MAX + 1, "%.*s", SLICE_ARG(RECORD_ITEM(r.accounts, m_ctl_account, *ret_n - 1)->address));
    arena_done(&arena);
    return rc;
}

static int run_list(struct ctl *c)
{
    static const struct ctl_column columns[] = {{"account", CTL_COUNT},  {"address", CTL_TEXT},  {"state", CTL_TEXT},
                                                {"used", CTL_BYTES},     {"quota", CTL_BYTES},   {"messages", CTL_COUNT},
                                                {"created", CTL_TIME},   {"last_login", CTL_TIME}, {0}};
    char after[IPC_ADDRESS_MAX + 1] = "";
    struct err err = {0};
    struct ctl_client *cl = NULL;
    struct ctl_list l;
    size_t n = PAGE;
    ctl_list_init(&l, c, "accounts", columns);
    int rc = ctl_client_open(c, ROLE_AUTHD, &cl, &err);
    while (rc == 0 && n == PAGE)
        rc = add_page(cl, &l, after, &n, &err);
    ctl_client_close(cl);
    if (rc == 0)
        return ctl_list_print(&l);
    ctl_list_free(&l);
    return ctl_fail(c, &err);
}

static const struct ctl_option add_options[] = {
    {"password-stdin", CTL_FLAG, NULL, "read the password from standard input instead of making one"},
    {"quota", CTL_SIZE, "SIZE", "how much it may hold; 0: no limit"},
    {0},
};
static const struct ctl_option password_options[] = {
    {"password-stdin", CTL_FLAG, NULL, "read the password from standard input instead of making one"},
    {0},
};

const struct ctl_command ctl_account_commands[] = {
    {"account add", "ADDRESS", 1, 1, "Make an account; prints its password unless it was given", run_add, add_options, 0},
    {"account list", "", 0, 0, "List the accounts", run_list, NULL, 0},
    {"account password", "ADDRESS", 1, 1, "Set a new password", run_password, password_options, 0},
    {"account quota", "ADDRESS SIZE", 2, 2, "Set how much an account may hold", run_quota, NULL, 0},
    {"account suspend", "ADDRESS", 1, 1, "Close an account for mail and login, keep its mail", run_suspend, NULL, 0},
    {"account resume", "ADDRESS", 1, 1, "Open a suspended account again", run_resume, NULL, 0},
    {"account delete", "ADDRESS", 1, 1, "Delete an account and its mail, for ever", run_delete, NULL, 0},
    {0},
};
