/* cmd_domain.c: domain add, list, delete. */
#include <stdio.h>

#include "ctl/client.h"
#include "ctl/ctl.h"
#include "ctl/output.h"

#define PAGE 100

static int run_add(struct ctl *c)
{
    const char *catch_all = ctl_get(c, "catch-all");
    struct err err = {0};
    struct m_ctl_domain_add q = {.domain = slice_str(c->args[0]), .catch_all = slice_str(catch_all != NULL ? catch_all : "")};
    struct m_ctl_domain_add_reply r;
    return ctl_call_once(c, ROLE_AUTHD, IPC_ctl_domain_add, &q, &r, &err) == 0 ? EX_OK : ctl_fail(c, &err);
}

static int run_delete(struct ctl *c)
{
    struct err err = {0};
    struct m_ctl_domain_delete q = {.domain = slice_str(c->args[0])};
    struct m_ctl_domain_delete_reply r;
    return ctl_call_once(c, ROLE_AUTHD, IPC_ctl_domain_delete, &q, &r, &err) == 0 ? EX_OK : ctl_fail(c, &err);
}

static int add_page(struct ctl_client *cl, struct ctl_list *l, char after[IPC_NAME_MAX + 1], size_t *ret_n, struct err *err)
{
    struct m_ctl_domain_list q = {.after = slice_str(after), .max = PAGE};
    struct m_ctl_domain_list_reply r;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    int rc = ctl_client_call(cl, IPC_ctl_domain_list, &q, &arena, &r, CTL_CALL_MS, err);
    *ret_n = rc == 0 ? r.domains.n : 0;
    for (size_t i = 0; i < *ret_n; i++) {
        const struct m_ctl_domain *d = RECORD_ITEM(r.domains, m_ctl_domain, i);
        ctl_list_text(l, d->domain);
        ctl_list_number(l, d->accounts);
        ctl_list_text(l, d->catch_all);
        (void)snprintf(after, IPC_NAME_MAX + 1, "%.*s", SLICE_ARG(d->domain));
    }
    arena_done(&arena);
    return rc;
}

static int run_list(struct ctl *c)
{
    static const struct ctl_column columns[] = {{"domain", CTL_TEXT}, {"accounts", CTL_COUNT}, {"catch_all", CTL_TEXT}, {0}};
    char after[IPC_NAME_MAX + 1] = "";
    struct err err = {0};
    struct ctl_client *cl = NULL;
    struct ctl_list l;
    size_t n = PAGE;
    ctl_list_init(&l, c, "domains", columns);
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
    {"catch-all", CTL_STRING, "ADDRESS", "who gets mail for addresses that do not exist; without it such mail is refused"},
    {0},
};

const struct ctl_command ctl_domain_commands[] = {
    {"domain add", "DOMAIN", 1, 1, "Take mail for a domain, or change its catch-all", run_add, add_options, 0},
    {"domain list", "", 0, 0, "List the domains", run_list, NULL, 0},
    {"domain delete", "DOMAIN", 1, 1, "Take no more mail for a domain", run_delete, NULL, 0},
    {0},
};
