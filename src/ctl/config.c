/* config.c: the configuration and the state directory that a command works with. */
#include <stdio.h>

#include "ctl/ctl.h"
#include "ctl/file.h"

#define CONFIG_MAX (4u * 1024 * 1024)

struct problems {
    const struct ctl *c;
    unsigned errors;
};

static void print_problem(void *arg, bool is_error, const char *sentence)
{
    struct problems *p = arg;
    p->errors += is_error;
    if (is_error)
        (void)fprintf(stderr, "%s\n", sentence);
}

int ctl_config(struct ctl *c, struct err *err)
{
    if (c->conf != NULL)
        return 0;
    struct buf text;
    struct problems problems = {.c = c};
    buf_init(&text, CONFIG_MAX);
    int rc = file_read(c->config_path, &text, err);
    if (rc == -ENOENT && !c->config_named)
        rc = 0;
    if (rc == 0)
        rc = conf_parse(buf_slice(&text), c->config_path, print_problem, &problems, &c->conf);
    if (rc == ERR_CONFIG)
        (void)err_set(err, rc, "%s has %u error%s", c->config_path, problems.errors, problems.errors == 1 ? "" : "s");
    else if (rc != 0 && err->code == 0)
        (void)err_set(err, rc, "%s: %s", c->config_path, err_name(rc));
    c->config_text = text.p;
    c->config_text_n = text.n;
    return rc;
}

const char *ctl_state_dir(struct ctl *c, struct err *err)
{
    if (c->state_option != NULL)
        return c->state_option;
    if (ctl_config(c, err) != 0)
        return NULL;
    return *c->conf->server_state != '\0' ? c->conf->server_state : CONF_STATE_DEFAULT;
}
