/* cmd_setup.c: setup writes the first configuration; check validates one before anything is started or reloaded. */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/ask.h"
#include "ctl/ctl.h"
#include "ctl/file.h"
#include "ctl/output.h"
#include "ctl/problems.h"

#define CONFIG_MAX (4u * 1024 * 1024)
#define SETTINGS_MAX 64

/* ---- check ---- */

void problems_report(void *arg, bool is_error, const char *sentence)
{
    struct problems *p = arg;
    p->errors += is_error;
    p->warnings += !is_error;
    if (p->list == NULL) {
        (void)fprintf(stderr, "%s\n", sentence);
        return;
    }
    ctl_list_text(p->list, is_error ? SLICE("error") : SLICE("warning"));
    ctl_list_text(p->list, slice_str(sentence));
}

int problems_check(struct problems *p, struct slice text, const char *name, struct err *err)
{
    struct conf *conf = NULL;
    int rc = conf_parse(text, name, problems_report, p, &conf);
    if (rc == 0)
        rc = conf_check(conf, name, problems_report, p);
    conf_free(conf);
    if (rc == ERR_CONFIG)
        return err_set(err, rc, "%s: %u error%s", name, p->errors, p->errors == 1 ? "" : "s");
    return rc == 0 ? 0 : err_set(err, rc, "%s: %s", name, err_name(rc));
}

static int run_check(struct ctl *c)
{
    static const struct ctl_column columns[] = {{"severity", CTL_TEXT}, {"text", CTL_TEXT}, {0}};
    struct err err = {0};
    struct buf text;
    struct ctl_list l;
    struct problems p = {.c = c, .list = c->json ? &l : NULL};
    const char *path = c->n_args > 0 ? c->args[0] : c->config_path;
    buf_init(&text, CONFIG_MAX);
    int rc = file_read(path, &text, &err);
    if (rc != 0) {
        buf_done(&text);
        return ctl_fail_text(c, rc == -ENOENT ? EX_NOINPUT : ctl_exit_status(rc), "%s", err.text);
    }
    ctl_list_init(&l, c, "problems", columns);
    rc = problems_check(&p, buf_slice(&text), path, &err);
    buf_done(&text);
    int printed = ctl_list_print(&l);
    if (rc != 0)
        return ctl_fail(c, &err);
    if (!c->json)
        printf("%s is valid%s\n", path, p.warnings > 0 ? ", with warnings" : "");
    return printed;
}

/* ---- setup ---- */

static const char *own_hostname(struct ctl *c)
{
    char name[256];
    if (gethostname(name, sizeof(name)) != 0 || name[0] == '\0')
        return "mail.example.org";
    name[sizeof(name) - 1] = '\0';
    return arena_strdup(&c->arena, slice_str(name));
}

/* What follows the first label: the domain of a host, if there is more than one label left. */
static const char *domain_of(const char *hostname)
{
    const char *dot = strchr(hostname, '.');
    return dot != NULL && strchr(dot + 1, '.') != NULL ? dot + 1 : hostname;
}

/* The option's value, else the person's answer, else (--yes, or nobody there to ask) what we think. */
static int want(struct ctl *c, const char *option, const char *question, const char *otherwise, const char **ret, struct err *err)
{
    struct buf answer;
    *ret = ctl_get(c, option);
    if (*ret != NULL)
        return 0;
    *ret = otherwise;
    if (ctl_flag(c, "yes"))
        return 0;
    if (!isatty(STDIN_FILENO))
        return err_set(err, -EINVAL, "nobody is here to be asked: give --%s, or --yes to take \"%s\"", option, otherwise);
    int rc = ctl_ask(question, otherwise, &answer, err);
    if (rc == 0) {
        *ret = arena_strdup(&c->arena, slice_trim(buf_slice(&answer)));
        rc = *ret != NULL ? 0 : err_set(err, -EINVAL, "this answer cannot be used");
    }
    buf_done(&answer);
    return rc;
}

static int make_parent(const char *path, struct err *err)
{
    char dir[4096];
    const char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path)
        return 0;
    (void)snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
    return mkdir(dir, 0755) == 0 || errno == EEXIST ? 0 : err_errno(err, "cannot make %s", dir);
}

static int write_config(struct ctl *c, const char *hostname, const char *domain, struct err *err)
{
    const char *set[SETTINGS_MAX];
    size_t n = 0;
    struct buf text;
    struct problems p = {.c = c};
    struct conf *conf = NULL;
    for (size_t i = 0; i < c->n_args && n < SETTINGS_MAX - 1; i++)
        set[n++] = c->args[i];
    set[n++] = arena_printf(&c->arena, "server.state=%s", c->state_option != NULL ? c->state_option : CONF_STATE_DEFAULT);
    buf_init(&text, CONFIG_MAX);
    conf_print_template(&text, hostname, domain, set, n);
    int rc = buf_ok(&text) ? 0 : err_set(err, -ENOMEM, "out of memory");
    if (rc == 0)
        rc = conf_parse(buf_slice(&text), c->config_path, problems_report, &p, &conf);
    if (rc == ERR_CONFIG)
        (void)err_set(err, rc, "these answers make no valid configuration; nothing was written");
    if (rc == 0)
        rc = make_parent(c->config_path, err);
    if (rc == 0)
        rc = file_create(c->config_path, buf_slice(&text), 0644, err);
    if (rc == -EEXIST)
        (void)err_set(err, rc, "%s is there already and is not overwritten", c->config_path);
    conf_free(conf);
    buf_done(&text);
    return rc;
}

static int run_setup(struct ctl *c)
{
    struct err err = {0};
    const char *hostname, *domain;
    for (size_t i = 0; i < c->n_args; i++)
        if (strchr(c->args[i], '=') == NULL || strchr(c->args[i], '.') == NULL)
            return ctl_usage_error(c, "\"%s\" is not section.option=value", c->args[i]);
    if (access(c->config_path, F_OK) == 0)
        return ctl_fail_text(c, EX_CANTCREAT, "%s is there already and is not overwritten", c->config_path);
    int rc = want(c, "hostname", "Name of this host, as other servers look it up", own_hostname(c), &hostname, &err);
    if (rc == 0)
        rc = want(c, "domain", "Domain whose mail is kept here", domain_of(hostname), &domain, &err);
    if (rc == 0)
        rc = write_config(c, hostname, domain, &err);
    if (rc != 0)
        return ctl_fail(c, &err);
    printf("%s is written. Next:\n"
           "  put a certificate with its key into one file and name it under tls { certificates }\n"
           "  kakitome check\n"
           "  kakitome serve\n"
           "  kakitome account add NAME@%s\n",
           c->config_path, domain);
    return EX_OK;
}

static const struct ctl_option setup_options[] = {
    {"domain", CTL_STRING, "NAME", "domain whose mail is kept here"},
    {"hostname", CTL_STRING, "NAME", "name of this host, as other servers look it up"},
    {"yes", CTL_FLAG, NULL, "ask nothing; take what the host's name suggests"},
    {0},
};

const struct ctl_command ctl_setup_commands[] = {
    {"setup", "[SECTION.OPTION=VALUE...]", 0, CTL_MANY, "Write a commented configuration", run_setup, setup_options, 0},
    {"check", "[FILE]", 0, 1, "Check a configuration as a whole", run_check, NULL, 0},
    {0},
};
