/* cmd_alias.c: alias add, list, delete. */
#include <stdio.h>

#include "ctl/client.h"
#include "ctl/ctl.h"
#include "ctl/output.h"

#define PAGE 100

static int run_add(struct ctl *c)
{
    struct err err = {0};
    struct ctl_client *cl = NULL;
    int rc = ctl_client_open(c, ROLE_AUTHD, &cl, &err);
    for (size_t i = 1; rc == 0 && i < c->n_args; i++) {
        struct m_ctl_alias_add q = {.alias = slice_str(c->args[0]), .target = slice_str(c->args[i])};
        struct m_ctl_alias_add_reply r;
        rc = ctl_client_call(cl, IPC_ctl_alias_add, &q, &c->arena, &r, CTL_CALL_MS, &err);
    }
    ctl_client_close(cl);
    return rc == 0 ? EX_OK : ctl_fail(c, &err);
}

/* One page behind the row of `last`, which moves on; fn sees each row. */
struct place {
    char alias[IPC_ADDRESS_MAX + 1], target[IPC_ADDRESS_MAX + 1];
};
typedef void row_fn(void *arg, const struct m_ctl_alias *a);

static int read_page(struct ctl_client *cl, struct place *last, row_fn *fn, void *arg, size_t *ret_n, struct err *err)
{
    struct m_ctl_alias_list q = {.after = slice_str(last->alias), .after_target = slice_str(last->target), .max = PAGE};
    struct m_ctl_alias_list_reply r;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    int rc = ctl_client_call(cl, IPC_ctl_alias_list, &q, &arena, &r, CTL_CALL_MS, err);
    *ret_n = rc == 0 ? r.aliases.n : 0;
    for (size_t i = 0; i < *ret_n; i++) {
        const struct m_ctl_alias *a = RECORD_ITEM(r.aliases, m_ctl_alias, i);
        fn(arg, a);
        (void)snprintf(last->alias, sizeof(last->alias), "%.*s", SLICE_ARG(a->alias));
        (void)snprintf(last->target, sizeof(last->target), "%.*s", SLICE_ARG(a->target));
    }
    arena_done(&arena);
    return rc;
}

static int read_all(struct ctl_client *cl, struct place *from, row_fn *fn, void *arg, struct err *err)
{
    size_t n = PAGE;
    int rc = 0;
    while (rc == 0 && n == PAGE)
        rc = read_page(cl, from, fn, arg, &n, err);
    return rc;
}

static void list_row(void *arg, const struct m_ctl_alias *a)
{
    ctl_list_text(arg, a->alias);
    ctl_list_text(arg, a->target);
}

static int run_list(struct ctl *c)
{
    static const struct ctl_column columns[] = {{"alias", CTL_TEXT}, {"target", CTL_TEXT}, {0}};
    struct err err = {0};
    struct ctl_client *cl = NULL;
    struct ctl_list l;
    struct place from = {.alias = ""};
    ctl_list_init(&l, c, "aliases", columns);
    int rc = ctl_client_open(c, ROLE_AUTHD, &cl, &err);
    if (rc == 0)
        rc = read_all(cl, &from, list_row, &l, &err);
    ctl_client_close(cl);
    if (rc == 0)
        return ctl_list_print(&l);
    ctl_list_free(&l);
    return ctl_fail(c, &err);
}

static int delete_one(struct ctl *c, struct ctl_client *cl, struct slice target, struct err *err)
{
    struct m_ctl_alias_delete q = {.alias = slice_str(c->args[0]), .target = target};
    struct m_ctl_alias_delete_reply r;
    return ctl_client_call(cl, IPC_ctl_alias_delete, &q, &c->arena, &r, CTL_CALL_MS, err);
}

/* The targets of one alias. */
struct targets {
    const char *alias;
    struct buf names; /* one a line */
};

static void target_row(void *arg, const struct m_ctl_alias *a)
{
    struct targets *t = arg;
    if (!slice_ieq(a->alias, slice_str(t->alias)))
        return;
    buf_put_slice(&t->names, a->target);
    buf_put_char(&t->names, '\n');
}

static int delete_all(struct ctl *c, struct ctl_client *cl, struct err *err)
{
    struct targets t = {.alias = c->args[0]};
    struct place from = {.alias = ""};
    buf_init(&t.names, 64 << 20);
    int rc = read_all(cl, &from, target_row, &t, err);
    struct slice rest = buf_slice(&t.names);
    if (rc == 0 && rest.n == 0)
        rc = err_set(err, -ENOENT, "no alias %s", t.alias);
    while (rc == 0 && rest.n > 0)
        rc = delete_one(c, cl, slice_cut(&rest, '\n'), err);
    buf_done(&t.names);
    return rc;
}

static int run_delete(struct ctl *c)
{
    struct err err = {0};
    struct ctl_client *cl = NULL;
    int rc = ctl_client_open(c, ROLE_AUTHD, &cl, &err);
    if (rc == 0 && c->n_args == 1)
        rc = delete_all(c, cl, &err);
    for (size_t i = 1; rc == 0 && i < c->n_args; i++)
        rc = delete_one(c, cl, slice_str(c->args[i]), &err);
    ctl_client_close(cl);
    return rc == 0 ? EX_OK : ctl_fail(c, &err);
}

const struct ctl_command ctl_alias_commands[] = {
    {"alias add", "ALIAS TARGET...", 2, CTL_MANY, "Let an address lead to addresses here", run_add, NULL, 0},
    {"alias list", "", 0, 0, "List the aliases", run_list, NULL, 0},
    {"alias delete", "ALIAS [TARGET...]", 1, CTL_MANY, "Delete an alias, or only these targets of it", run_delete, NULL, 0},
    {0},
};
