/* cmd_demo.c: `kakitome demo`, the inside of ./dev run: prepares a directory once, then runs the service there in the foreground. A
 * child waits until everything serves, then makes the accounts and prints what a person can do next. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/client.h"
#include "ctl/demo.h"
#include "ctl/file.h"
#include "role/supervisor/supervisor.h"

#define TEXT_MAX (4u * 1024 * 1024)

struct demo {
    struct ctl *c;
    const char *dir, *config, *ca, *json, *program;
    unsigned base;
};

static unsigned port_of(const struct demo *d, const char *name)
{
    for (const struct demo_port *p = demo_ports; p->name != NULL; p++)
        if (strcmp(p->name, name) == 0)
            return d->base + p->offset;
    return 0;
}

/* ---- before the start ---- */

static void print_config(const struct demo *d, struct buf *out)
{
    const char *set[16];
    size_t n = 0;
    set[n++] = arena_printf(&d->c->arena, "server.state=%s", d->dir);
    set[n++] = "server.ipv6=false";
    set[n++] = "smtp.unlimited_from=127.0.0.0/8";
    for (const struct demo_port *p = demo_ports; p->name != NULL; p++)
        if (p->option != NULL)
            set[n++] = arena_printf(&d->c->arena, "listen.%s=" DEMO_HOST ":%u", p->option, d->base + p->offset);
    conf_print_template(out, DEMO_HOSTNAME, DEMO_DOMAIN, set, n);
}

static bool listens_at(const struct conf *conf, const struct demo *d)
{
    const struct conf_list *lists[] = {&conf->listen_smtp, &conf->listen_pop3, &conf->listen_pop3s};
    static const char *const names[] = {"smtp", "pop3", "pop3s"};
    for (size_t i = 0; i < 3; i++) {
        struct netaddr at;
        bool any;
        if (lists[i]->n != 1 || !conf_listener(lists[i]->items[0], &at, &any) || at.port != port_of(d, names[i]))
            return false;
    }
    return true;
}

/* An existing file is the person's: it is taken as it is, and must only agree about the ports. */
static int prepare_config(struct demo *d, struct err *err)
{
    struct buf text;
    if (access(d->config, F_OK) == 0) {
        d->c->config_path = d->config;
        int rc = ctl_config(d->c, err);
        if (rc == 0 && !listens_at(d->c->conf, d))
            rc = err_set(err, ERR_CONFIG, "%s has other ports than --port-base %u gives: change section listen there, or take another --state",
                         d->config, d->base);
        return rc;
    }
    buf_init(&text, TEXT_MAX);
    print_config(d, &text);
    int rc = buf_ok(&text) ? file_create(d->config, buf_slice(&text), 0644, err) : err_set(err, -ENOMEM, "out of memory");
    buf_done(&text);
    return rc;
}

static int prepare_dir(struct demo *d, const char *given, struct err *err)
{
    char program[4096];
    if (mkdir(given, 0711) != 0 && errno != EEXIST)
        return err_errno(err, "%s", given);
    char *real = realpath(given, NULL);
    d->dir = real != NULL ? arena_strdup(&d->c->arena, slice_str(real)) : NULL;
    free(real);
    ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
    if (d->dir == NULL || n <= 0)
        return err_errno(err, "%s", given);
    program[n] = '\0';
    d->program = arena_strdup(&d->c->arena, slice_str(program));
    d->config = arena_printf(&d->c->arena, "%s/kakitome.conf", d->dir);
    d->ca = arena_printf(&d->c->arena, "%s/ca.pem", d->dir);
    d->json = arena_printf(&d->c->arena, "%s/demo.json", d->dir);
    return d->program != NULL && d->config != NULL && d->ca != NULL && d->json != NULL ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* ---- when everything serves ---- */

/* An account of an earlier start is there already; if its password got lost, it gets the new one. */
static int make_account(const struct demo *d, struct ctl_client *cl, const char *address, const char *password, bool known, struct err *err)
{
    struct m_ctl_account_add q = {.address = slice_str(address), .password = slice_str(password)};
    struct m_ctl_account_add_reply r;
    int rc = ctl_client_call(cl, IPC_ctl_account_add, &q, &d->c->arena, &r, CTL_CALL_MS, err);
    if (rc != -EEXIST || known)
        return rc == -EEXIST ? 0 : rc;
    struct m_ctl_account_set s = {.address = slice_str(address), .what = SLICE("password"), .password = slice_str(password)};
    struct m_ctl_account_set_reply sr;
    return ctl_client_call(cl, IPC_ctl_account_set, &s, &d->c->arena, &sr, CTL_CALL_MS, err);
}

static int make_accounts(const struct demo *d, struct demo_accounts *a, struct err *err)
{
    struct ctl_client *cl = NULL;
    int rc = demo_accounts_load(a, d->dir, err);
    if (rc == 0)
        rc = demo_accounts_save(a, d->dir, err); /* before they are used: no account whose password nobody knows */
    if (rc == 0)
        rc = ctl_client_open_at(d->dir, ROLE_AUTHD, &cl, err);
    for (size_t i = 0; rc == 0 && i < DEMO_ACCOUNTS; i++)
        rc = make_account(d, cl, a->rows[i].address, a->rows[i].password, a->known, err);
    ctl_client_close(cl);
    if (rc != 0 || a->welcomed)
        return rc;
    rc = demo_welcome(a, port_of(d, "smtp"), err);
    a->welcomed = rc == 0;
    return rc == 0 ? demo_accounts_save(a, d->dir, err) : rc;
}

/* keyd's directory is closed to people; what they must trust is not secret. */
static int publish_ca(const struct demo *d, struct err *err)
{
    struct buf pem;
    const char *path = arena_printf(&d->c->arena, "%s/keyd/selfsigned.crt", d->dir);
    buf_init(&pem, 65536);
    int rc = file_read(path, &pem, err);
    if (rc == 0)
        rc = file_replace(d->ca, buf_slice(&pem), 0644, err);
    buf_done(&pem);
    return rc;
}

static int write_json(const struct demo *d, const struct demo_accounts *a, struct err *err)
{
    struct buf b;
    buf_init(&b, 65536);
    buf_printf(&b, "{\n  \"domain\": \"" DEMO_DOMAIN "\",\n  \"host\": \"" DEMO_HOST "\",\n  \"ports\": {");
    for (const struct demo_port *p = demo_ports; p->name != NULL; p++) {
        buf_printf(&b, "%s\"%s\": ", p == demo_ports ? "" : ", ", p->name);
        if (p->option != NULL)
            buf_printf(&b, "%u", d->base + p->offset);
        else
            buf_put_str(&b, "null");
    }
    buf_put_str(&b, "},\n  \"accounts\": [");
    for (size_t i = 0; i < DEMO_ACCOUNTS; i++)
        buf_printf(&b, "%s\n    {\"address\": \"%s\", \"password\": \"%s\"}", i == 0 ? "" : ",", a->rows[i].address, a->rows[i].password);
    buf_printf(&b, "\n  ],\n  \"ca\": \"%s\",\n  \"program\": \"%s\",\n  \"config\": \"%s\"\n}\n", d->ca, d->program, d->config);
    int rc = buf_ok(&b) ? file_replace(d->json, buf_slice(&b), 0600, err) : err_set(err, -ENOMEM, "out of memory");
    buf_done_secret(&b);
    return rc;
}

static void print_guide(const struct demo *d, const struct demo_accounts *a)
{
    unsigned smtp = port_of(d, "smtp"), pop3 = port_of(d, "pop3"), pop3s = port_of(d, "pop3s");
    const char *user = a->rows[0].address, *password = a->rows[0].password;
    printf("\nKakitome is running. 書留が動いています。\n\n");
    for (size_t i = 0; i < DEMO_ACCOUNTS; i++)
        printf("  %-20s password %s\n", a->rows[i].address, a->rows[i].password);
    printf("\nSend a message / メールを送る:\n"
           "  printf 'From: me@example.net\\r\\nTo: %s\\r\\nSubject: Hello\\r\\n\\r\\nFirst mail.\\r\\n' | \\\n"
           "    curl -sS --url smtp://" DEMO_HOST ":%u/client.example.net --mail-from me@example.net --mail-rcpt %s --upload-file -\n",
           user, smtp, user);
    printf("\nRead the newest / 読む (1 is the welcome message; without a number: the list):\n"
           "  curl -sS --cacert %s --user '%s:%s' pop3s://" DEMO_HOST ":%u/1\n",
           d->ca, user, password, pop3s);
    printf("\nSettings of a mail program / メールソフトの設定:\n"
           "  POP3 server " DEMO_HOST ", port %u (SSL/TLS) or %u (STARTTLS), user %s, normal password\n"
           "  trust the certificate %s\n",
           pop3s, pop3, user, d->ca);
    printf("\nThe command line / コマンド:\n  %s --config %s status\n", d->program, d->config);
    printf("\nFor scripts: %s. Ctrl-C stops the service.\n\n", d->json);
    (void)fflush(stdout);
}

/* The child: waits for the byte, does its work, and is gone. A failure stops the service. */
static void when_ready(const struct demo *d, int ready_fd)
{
    char byte;
    struct err err = {0};
    struct demo_accounts accounts;
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (read(ready_fd, &byte, 1) != 1)
        _exit(EX_UNAVAILABLE); /* the service has said why */
    int rc = publish_ca(d, &err);
    if (rc == 0)
        rc = make_accounts(d, &accounts, &err);
    if (rc == 0)
        rc = write_json(d, &accounts, &err);
    if (rc == 0) {
        print_guide(d, &accounts);
        _exit(EX_OK);
    }
    (void)ctl_fail(d->c, &err);
    (void)kill(getppid(), SIGTERM);
    _exit(EX_SOFTWARE);
}

static int run_service(struct demo *d, struct err *err)
{
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) != 0)
        return ctl_fail_text(d->c, EX_OSERR, "pipe: %s", err_name(-errno));
    (void)unlink(d->json); /* there while the service is ready, and only then */
    pid_t child = fork();
    if (child < 0) {
        (void)err_errno(err, "fork");
        return ctl_fail(d->c, err);
    }
    if (child == 0) {
        (void)close(ready[1]);
        when_ready(d, ready[0]);
    }
    (void)close(ready[0]);
    struct supervisor_options options = {.config_path = d->config, .state = d->dir, .probing = ctl_flag(d->c, "probing"), .ready_fd = ready[1]};
    int status = supervisor_main(&options);
    (void)unlink(d->json);
    return status;
}

static int run_demo(struct ctl *c)
{
    struct demo d = {.c = c, .base = (unsigned)ctl_get_int(c, "port-base", DEMO_PORT_BASE)};
    struct err err = {0};
    if (d.base < 1 || d.base > 64000)
        return ctl_usage_error(c, "--port-base is a number from 1 to 64000");
    int rc = demo_ports_check(d.base, &err);
    if (rc == 0)
        rc = prepare_dir(&d, c->state_option != NULL ? c->state_option : "run", &err);
    if (rc == 0)
        rc = prepare_config(&d, &err);
    return rc == 0 ? run_service(&d, &err) : ctl_fail(c, &err);
}

static const struct ctl_option demo_options[] = {
    {"port-base", CTL_NUMBER, "N", "ports are N + 525 (SMTP), N + 110 (POP3), N + 995 (POP3 over TLS)"},
    {"probing", CTL_FLAG, NULL, "for tests only: processes answer attempts to break out"},
    {0},
};

const struct ctl_command ctl_demo_commands[] = {
    {"demo", "", 0, 0, "Run a service for trying out, on loopback", run_demo, demo_options, CTL_HIDDEN},
    {0},
};
