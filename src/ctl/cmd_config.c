/* cmd_config.c: the configuration's kept versions. A change is checked as a whole, kept with who, when and why, written so that a
 * crash leaves the old or the new file, and then taken over by the running service. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/table.h"
#include "ctl/client.h"
#include "ctl/diff.h"
#include "ctl/file.h"
#include "ctl/output.h"
#include "ctl/problems.h"

#define CONFIG_MAX (4u * 1024 * 1024)
#define RELOAD_MS 60000

static int open_state(struct ctl *c, struct err *err)
{
    const char *path = ctl_state_dir(c, err);
    if (path == NULL)
        return err->code;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 ? fd : err_errno(err, "%s", path);
}

static int run_history(struct ctl *c)
{
    static const struct ctl_column columns[] = {{"version", CTL_COUNT}, {"time", CTL_TIME}, {"who", CTL_TEXT}, {"why", CTL_TEXT}, {0}};
    struct err err = {0};
    struct conf_version *all;
    struct ctl_list l;
    size_t n;
    int dir = open_state(c, &err);
    if (dir < 0)
        return ctl_fail(c, &err);
    int rc = conf_history_list(dir, &c->arena, &all, &n, &err);
    (void)close(dir);
    if (rc != 0)
        return ctl_fail(c, &err);
    ctl_list_init(&l, c, "versions", columns);
    for (size_t i = 0; i < n; i++) {
        ctl_list_number(&l, all[i].number);
        ctl_list_number(&l, (uint64_t)all[i].time_ms);
        ctl_list_text(&l, slice_str(all[i].who));
        ctl_list_text(&l, slice_str(all[i].why));
    }
    return ctl_list_print(&l);
}

/* "3" is a version; "now" the file. */
static int read_version(struct ctl *c, int dir, const char *which, struct buf *text, struct err *err)
{
    uint64_t number;
    buf_init(text, CONFIG_MAX);
    if (strcmp(which, "now") == 0)
        return file_read(c->config_path, text, err);
    if (!slice_to_u64(slice_str(which), &number))
        return err_set(err, -EINVAL, "\"%s\" is not the number of a version", which);
    return conf_history_read(dir, number, text, err);
}

static int run_show(struct ctl *c)
{
    struct err err = {0};
    struct buf text;
    int dir = open_state(c, &err);
    if (dir < 0)
        return ctl_fail(c, &err);
    int rc = read_version(c, dir, c->args[0], &text, &err);
    if (rc == 0 && !ctl_print(buf_slice(&text)))
        rc = err_set(&err, -EIO, "cannot write");
    (void)close(dir);
    buf_done(&text);
    return rc == 0 ? EX_OK : ctl_fail(c, &err);
}

static int run_diff(struct ctl *c)
{
    struct err err = {0};
    struct buf a, b, out;
    const char *second = c->n_args > 1 ? c->args[1] : "now";
    int dir = open_state(c, &err);
    if (dir < 0)
        return ctl_fail(c, &err);
    buf_init(&b, CONFIG_MAX);
    buf_init(&out, 8 * CONFIG_MAX);
    int rc = read_version(c, dir, c->args[0], &a, &err);
    if (rc == 0)
        rc = read_version(c, dir, second, &b, &err);
    if (rc == 0 && (rc = diff_print(&out, buf_slice(&a), buf_slice(&b), c->args[0], second)) != 0)
        (void)err_set(&err, rc, "the two differ too much to be compared line by line");
    if (rc == 0 && !ctl_print(buf_slice(&out)))
        rc = err_set(&err, -EIO, "cannot write");
    (void)close(dir);
    buf_done(&a);
    buf_done(&b);
    buf_done(&out);
    return rc == 0 ? EX_OK : ctl_fail(c, &err);
}

/* Keeps the mode and the place of the file that is there. */
static int replace_config(struct ctl *c, struct slice text, struct err *err)
{
    struct stat st;
    char *real = realpath(c->config_path, NULL); /* a link stays a link */
    mode_t mode = stat(c->config_path, &st) == 0 ? st.st_mode & 0777 : 0644;
    int rc = file_replace(real != NULL ? real : c->config_path, text, mode, err);
    free(real);
    return rc;
}

/* A service that does not run takes the new file at its next start. */
static int reload_service(struct ctl *c, const char *reason, bool *ret_running, struct err *err)
{
    struct m_ctl_reload q = {.reason = slice_str(reason)};
    struct m_ctl_reload_reply r;
    struct ctl_client *cl = NULL;
    int rc = ctl_client_open(c, ROLE_SUPERVISOR, &cl, err);
    *ret_running = rc != -ENOTCONN;
    if (rc == -ENOTCONN)
        return 0;
    if (rc == 0)
        rc = ctl_client_call(cl, IPC_ctl_reload, &q, &c->arena, &r, RELOAD_MS, err);
    ctl_client_close(cl);
    return rc;
}

/* text becomes the configuration. The file is put back when the service refuses it. */
static int put_into_force(struct ctl *c, struct slice text, struct slice old, const char *reason, struct err *err)
{
    struct problems p = {.c = c};
    uint64_t number = 0;
    bool running = false;
    int rc = problems_check(&p, text, c->config_path, err);
    if (rc == 0 && !slice_eq(text, old))
        rc = replace_config(c, text, err);
    if (rc != 0)
        return rc;
    rc = reload_service(c, reason, &running, err);
    if (rc != 0) {
        struct err second = {0};
        if (!slice_eq(text, old) && replace_config(c, old, &second) != 0)
            ctl_warn(c, "the old file could not be put back: %s", second.text);
        return rc;
    }
    int dir = open_state(c, err);
    if (dir < 0)
        return dir;
    rc = conf_history_add(dir, text, ctl_who(c), reason, &number, err);
    (void)close(dir);
    if (rc == 0 && c->json)
        printf("{\"version\":%llu,\"reloaded\":%s}\n", (unsigned long long)number, running ? "true" : "false");
    else if (rc == 0)
        printf("version %llu %s\n", (unsigned long long)number,
               running ? "is in force" : "is written; the service is not running and takes it at its start");
    return rc;
}

static int run_apply(struct ctl *c)
{
    struct err err = {0};
    struct buf text, old;
    const char *reason = ctl_get(c, "reason");
    buf_init(&text, CONFIG_MAX);
    buf_init(&old, CONFIG_MAX);
    int rc = file_read(c->config_path, &old, &err);
    if (rc == 0)
        rc = file_read(c->n_args > 0 ? c->args[0] : c->config_path, &text, &err);
    if (rc == 0)
        rc = put_into_force(c, buf_slice(&text), buf_slice(&old), reason != NULL ? reason : "", &err);
    buf_done(&text);
    buf_done(&old);
    return rc == 0 ? EX_OK : ctl_fail(c, &err);
}

static int run_rollback(struct ctl *c)
{
    struct err err = {0};
    struct buf text, old;
    const char *given = ctl_get(c, "reason");
    const char *reason = arena_printf(&c->arena, "back to version %s%s%s", c->args[0], given != NULL ? ": " : "", given != NULL ? given : "");
    int dir = open_state(c, &err);
    if (dir < 0)
        return ctl_fail(c, &err);
    buf_init(&old, CONFIG_MAX);
    int rc = read_version(c, dir, c->args[0], &text, &err);
    (void)close(dir);
    if (rc == 0)
        rc = file_read(c->config_path, &old, &err);
    if (rc == 0)
        rc = put_into_force(c, buf_slice(&text), buf_slice(&old), reason, &err);
    buf_done(&text);
    buf_done(&old);
    return rc == 0 ? EX_OK : ctl_fail(c, &err);
}

/* ---- the table of options, as it is and as it is set ---- */

static void value_text(struct buf *out, const struct conf *conf, const struct conf_row *row)
{
    const void *p = (const char *)conf + row->offset;
    const struct conf_list *l = p;
    switch (row->kind) {
    case CONF_BOOL: conf_print_number(out, row->kind, *(const bool *)p); break;
    case CONF_STR: buf_put_str(out, *(const char *const *)p); break;
    case CONF_LIST:
        for (size_t i = 0; i < l->n; i++)
            buf_printf(out, "%s%s", i > 0 ? " " : "", l->items[i]);
        break;
    default: conf_print_number(out, row->kind, *(const int64_t *)p); break;
    }
}

static int run_get(struct ctl *c)
{
    static const struct ctl_column columns[] = {{"option", CTL_TEXT}, {"value", CTL_TEXT}, {"line", CTL_COUNT}, {0}};
    struct err err = {0};
    struct ctl_list l;
    size_t shown = 0;
    if (ctl_config(c, &err) != 0)
        return ctl_fail(c, &err);
    ctl_list_init(&l, c, "options", columns);
    for (size_t i = 0; i < CONF_OPTION_COUNT; i++) {
        struct buf value;
        const char *name = arena_printf(&c->arena, "%s.%s", conf_table[i].section, conf_table[i].name);
        if (name == NULL || (c->n_args > 0 && strcmp(c->args[0], name) != 0 && strcmp(c->args[0], conf_table[i].section) != 0))
            continue;
        buf_init(&value, CONFIG_MAX);
        value_text(&value, c->conf, &conf_table[i]);
        ctl_list_text(&l, slice_str(name));
        ctl_list_text(&l, buf_slice(&value));
        ctl_list_number(&l, c->conf->lines[i]);
        buf_done(&value);
        shown++;
    }
    int status = ctl_list_print(&l);
    return shown > 0 ? status : ctl_fail_text(c, EX_DATAERR, "there is no section or option \"%s\"", c->args[0]);
}

static const struct ctl_option reason_options[] = {
    {"reason", CTL_STRING, "TEXT", "why, for the record"},
    {0},
};

const struct ctl_command ctl_config_commands[] = {
    {"config get", "[SECTION[.OPTION]]", 0, 1, "Show what is set, and what the rest defaults to", run_get, NULL, 0},
    {"config apply", "[FILE]", 0, 1, "Check the configuration, keep it as a version, put it into force", run_apply, reason_options, 0},
    {"config history", "", 0, 0, "List the versions: who, when, why", run_history, NULL, 0},
    {"config show", "VERSION", 1, 1, "Print a version", run_show, NULL, 0},
    {"config diff", "VERSION [VERSION]", 1, 2, "Compare two versions, or one with the file", run_diff, NULL, 0},
    {"config rollback", "VERSION", 1, 1, "Put an old version into force again", run_rollback, reason_options, 0},
    {0},
};
