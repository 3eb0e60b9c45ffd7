/* cmd_store.c: store status, verify, export, import, reclaim: the care of what is kept. All of it is done by the running service. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ctl/client.h"
#include "ctl/ctl.h"
#include "ctl/output.h"

#define LONG_MS (24 * 3600 * 1000) /* for work that grows with what is kept */
#define ACCOUNTS_A_PAGE 100

static int call_stored(struct ctl *c, enum ipc_number number, const void *request, void *reply, int timeout_ms, struct err *err)
{
    struct ctl_client *cl = NULL;
    int rc = ctl_client_open(c, ROLE_STORED, &cl, err);
    if (rc == 0)
        rc = ctl_client_call(cl, number, request, &c->arena, reply, timeout_ms, err);
    ctl_client_close(cl);
    return rc;
}

/* ---- status ---- */

static int run_status(struct ctl *c)
{
    static const struct ctl_column columns[] = {
        {"accounts", CTL_COUNT},      {"messages", CTL_COUNT},    {"segments", CTL_COUNT}, {"segment_bytes", CTL_BYTES},
        {"live_bytes", CTL_BYTES},    {"index_bytes", CTL_BYTES}, {"commits", CTL_COUNT},  {"syncs", CTL_COUNT},
        {"accepts_mail", CTL_BOOL},   {0}};
    struct err err = {0};
    struct m_ctl_store_status q = {0};
    struct m_ctl_store_status_reply r;
    struct ctl_list l;
    if (call_stored(c, IPC_ctl_store_status, &q, &r, CTL_CALL_MS, &err) != 0)
        return ctl_fail(c, &err);
    const uint64_t cells[] = {r.accounts, r.messages, r.segments, r.segment_bytes, r.live_bytes, r.index_bytes, r.commits, r.syncs,
                              !r.readonly};
    ctl_list_init(&l, c, "store", columns);
    for (size_t i = 0; i < sizeof(cells) / sizeof(*cells); i++)
        ctl_list_number(&l, cells[i]);
    return ctl_list_print_single(&l);
}

/* ---- verify ---- */

/* The problems go to standard error, each on its line. */
static void copy_report(int report)
{
    char part[4096];
    ssize_t n;
    off_t at = 0;
    while ((n = pread(report, part, sizeof(part), at)) > 0) {
        (void)fwrite(part, 1, (size_t)n, stderr);
        at += n;
    }
}

static int print_check(struct ctl *c, const struct m_ctl_store_verify_reply *r)
{
    static const struct ctl_column columns[] = {
        {"problems", CTL_COUNT}, {"accounts", CTL_COUNT}, {"messages", CTL_COUNT}, {"bytes", CTL_BYTES}, {0}};
    struct ctl_list l;
    ctl_list_init(&l, c, "verify", columns);
    ctl_list_number(&l, r->problems);
    ctl_list_number(&l, r->accounts);
    ctl_list_number(&l, r->messages);
    ctl_list_number(&l, r->bytes);
    int status = ctl_list_print_single(&l);
    return status == EX_OK && r->problems != 0 ? EX_DATAERR : status;
}

static int run_verify(struct ctl *c)
{
    struct err err = {0};
    struct m_ctl_store_verify q = {.bodies = !ctl_flag(c, "quick"), .out = memfd_create("report", MFD_CLOEXEC)};
    struct m_ctl_store_verify_reply r;
    if (q.out < 0)
        return ctl_fail_text(c, EX_OSERR, "no memory for the report");
    int rc = call_stored(c, IPC_ctl_store_verify, &q, &r, LONG_MS, &err);
    copy_report(q.out);
    (void)close(q.out);
    return rc != 0 ? ctl_fail(c, &err) : print_check(c, &r);
}

/* ---- export and import ---- */

/* One page of accounts, from just before `address` on; accounts are in the order of their addresses. */
static int find_in_page(struct ctl *c, struct ctl_client *cl, struct slice address, struct m_ctl_account_list *q, uint64_t *ret, struct err *err)
{
    struct m_ctl_account_list_reply r;
    int rc = ctl_client_call(cl, IPC_ctl_account_list, q, &c->arena, &r, CTL_CALL_MS, err);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < r.accounts.n; i++) {
        const struct m_ctl_account *a = RECORD_ITEM(r.accounts, m_ctl_account, i);
        if (slice_ieq(a->address, address)) {
            *ret = a->account;
            return 0;
        }
        q->after = a->address;
    }
    return r.accounts.n == 0 ? err_set(err, -ENOENT, "there is no account %.*s", SLICE_ARG(address)) : -EAGAIN;
}

/* The number of an account, which is what the store knows. */
static int find_account(struct ctl *c, const char *address, uint64_t *ret, struct err *err)
{
    struct ctl_client *cl = NULL;
    struct m_ctl_account_list q = {.after = SLICE_EMPTY, .max = ACCOUNTS_A_PAGE};
    int rc = ctl_client_open(c, ROLE_AUTHD, &cl, err);
    while (rc == 0 && (rc = find_in_page(c, cl, slice_str(address), &q, ret, err)) == -EAGAIN)
        rc = 0;
    ctl_client_close(cl);
    return rc;
}

static int print_moved(struct ctl *c, const char *what, uint64_t messages)
{
    if (c->json)
        printf("{\"messages\":%llu}\n", (unsigned long long)messages);
    else
        fprintf(stderr, "%llu messages %s\n", (unsigned long long)messages, what);
    return EX_OK;
}

/* A descriptor to write to, or -1 with the exit status, the reason being printed. */
static int open_output(struct ctl *c, int *ret_status)
{
    const char *path = ctl_get(c, "output");
    int fd = -1;
    if (path == NULL && c->json)
        *ret_status = ctl_usage_error(c, "--json needs --output: standard output cannot take both");
    else if (path == NULL && isatty(STDOUT_FILENO))
        *ret_status = ctl_usage_error(c, "an export is no text for a terminal: use --output or redirect it");
    else if (path == NULL)
        fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    else if ((fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0)
        *ret_status = ctl_fail_text(c, EX_CANTCREAT, "%s: %s", path, strerror(errno));
    return fd;
}

static int run_export(struct ctl *c)
{
    struct err err = {0};
    struct m_ctl_store_export q = {0};
    struct m_ctl_store_export_reply r;
    const char *path = ctl_get(c, "output");
    int status = EX_OSERR, rc = find_account(c, c->args[0], &q.account, &err);
    if (rc != 0)
        return ctl_fail(c, &err);
    q.out = open_output(c, &status);
    if (q.out < 0)
        return status;
    rc = call_stored(c, IPC_ctl_store_export, &q, &r, LONG_MS, &err);
    if (rc == 0 && path != NULL && fsync(q.out) != 0)
        rc = err_errno(&err, "cannot write %s", path);
    (void)close(q.out);
    if (rc != 0 && path != NULL)
        (void)unlink(path); /* half an export is none */
    return rc != 0 ? ctl_fail(c, &err) : print_moved(c, "written", r.messages);
}

static int run_import(struct ctl *c)
{
    struct err err = {0};
    struct m_ctl_store_import q = {0};
    struct m_ctl_store_import_reply r;
    const char *path = c->n_args > 1 ? c->args[1] : "-";
    int rc = find_account(c, c->args[0], &q.account, &err);
    if (rc != 0)
        return ctl_fail(c, &err);
    q.in = strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);
    if (q.in < 0)
        return ctl_fail_text(c, EX_NOINPUT, "%s: %s", path, strerror(errno));
    rc = call_stored(c, IPC_ctl_store_import, &q, &r, LONG_MS, &err);
    (void)close(q.in);
    return rc != 0 ? ctl_fail(c, &err) : print_moved(c, "read", r.messages);
}

/* ---- reclaim ---- */

static int run_reclaim(struct ctl *c)
{
    static const struct ctl_column columns[] = {{"freed", CTL_BYTES}, {"moved", CTL_BYTES}, {0}};
    struct err err = {0};
    struct m_ctl_store_reclaim q = {0};
    struct m_ctl_store_reclaim_reply r;
    struct ctl_list l;
    if (call_stored(c, IPC_ctl_store_reclaim, &q, &r, LONG_MS, &err) != 0)
        return ctl_fail(c, &err);
    ctl_list_init(&l, c, "reclaim", columns);
    ctl_list_number(&l, r.freed);
    ctl_list_number(&l, r.moved);
    return ctl_list_print_single(&l);
}

static const struct ctl_option verify_options[] = {
    {"quick", CTL_FLAG, NULL, "do not decrypt the bodies: checksums and the index only"},
    {0},
};
static const struct ctl_option export_options[] = {
    {"output", CTL_STRING, "FILE", "write to this new file instead of standard output"},
    {0},
};

const struct ctl_command ctl_store_commands[] = {
    {"store status", "", 0, 0, "Show what the store holds and how it grows", run_status, NULL, 0},
    {"store verify", "", 0, 0, "Check everything that is kept", run_verify, verify_options, 0},
    {"store export", "ADDRESS", 1, 1, "Write an account's mail, with flags and dates, as one file", run_export, export_options, 0},
    {"store import", "ADDRESS [FILE]", 1, 2, "Add the mail of an export to an account", run_import, NULL, 0},
    {"store reclaim", "", 0, 0, "Give the space of expunged mail back now", run_reclaim, NULL, 0},
    {0},
};
