/* ctl.h: the framework of the command line. Every command is one row of a table: name, options, arguments, help, function. Parsing,
 * usage texts, --help, bash completion and the check of the manual pages all come from the rows.
 *
 * A file cmd_<name>.c exports `const struct ctl_command ctl_<name>_commands[]` (last row zero) and is listed in commands.c. A
 * command returns an exit status of sysexits(3); errors go to standard error through ctl_fail. Commands may block: each is a
 * process of its own that does one thing. */
#ifndef KK_CTL_CTL_H
#define KK_CTL_CTL_H

#include <sysexits.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "conf/conf.h"

#define CTL_CONFIG_DEFAULT "/etc/kakitome/kakitome.conf" /* after --config and $KAKITOME_CONFIG */
#define CTL_OPTIONS_MAX 12                               /* of one command, the common ones not counted */

enum ctl_kind {
    CTL_FLAG,   /* --name */
    CTL_STRING, /* --name VALUE or --name=VALUE */
    CTL_NUMBER, /* checked: a decimal number */
    CTL_SIZE,   /* checked: "25M" */
};

struct ctl_option {
    const char *name;  /* without the dashes; NULL ends the list */
    enum ctl_kind kind;
    const char *value; /* placeholder in the usage line: "SIZE" */
    const char *help;
};

struct ctl;
struct ctl_command {
    const char *name;      /* one or two words: "account add" */
    const char *arguments; /* for the usage line: "ADDRESS [TARGET...]"; "" when there are none */
    size_t least, most;    /* how many arguments; most may be CTL_MANY */
    const char *help;      /* one line */
    int (*run)(struct ctl *c);
    const struct ctl_option *options; /* NULL: only the common ones (--config, --state, --json, --help) */
    unsigned flags;
};
#define CTL_MANY SIZE_MAX
#define CTL_HIDDEN 1u /* not in the overview, no manual page of its own */

/* One run of a command. */
struct ctl {
    const struct ctl_command *command;
    const char *config_path;  /* of --config, the environment or the default */
    bool config_named;        /* by --config or the environment */
    const char *state_option; /* of --state or $KAKITOME_STATE, or NULL */
    bool json;
    char **args; /* positional arguments */
    size_t n_args;
    const char *values[CTL_OPTIONS_MAX]; /* of command->options; "" for a flag */
    struct arena arena;                  /* for the run */
    struct conf *conf;                   /* after ctl_config */
    char *config_text;
    size_t config_text_n;
};

extern const struct ctl_command *const ctl_command_groups[]; /* each ends with a zero row; the list ends with NULL */

/* Runs argv; the program's exit status. */
int ctl_main(int argc, char **argv);

/* The value of an option; NULL when it was not given. Only names of the command's own options. */
const char *ctl_get(const struct ctl *c, const char *option);
bool ctl_flag(const struct ctl *c, const char *option);
int64_t ctl_get_int(const struct ctl *c, const char *option, int64_t otherwise); /* CTL_NUMBER and CTL_SIZE, in bytes */

/* Reads the configuration once (an absent file that nobody named counts as empty); problems are printed. 0 or ERR_CONFIG etc.
 * Then c->conf is set. */
int ctl_config(struct ctl *c, struct err *err);
/* The state directory: --state, $KAKITOME_STATE, server.state, /var/lib/kakitome. NULL and err when the configuration is wrong. */
const char *ctl_state_dir(struct ctl *c, struct err *err);

/* Prints "kakitome: <command>: <sentence>" and returns the exit status that belongs to the code. */
int ctl_fail(const struct ctl *c, const struct err *err);
int ctl_fail_text(const struct ctl *c, int status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int ctl_usage_error(const struct ctl *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void ctl_warn(const struct ctl *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int ctl_exit_status(int code);

/* A secret from the terminal (no echo; asked twice when `twice`), or the first line of standard input when that is no terminal. The
 * caller wipes it with buf_done_secret. */
int ctl_read_secret(const struct ctl *c, const char *prompt, bool twice, struct buf *ret, struct err *err);
/* 20 characters that are hard to confuse, in groups: about 94 bits. */
#define CTL_PASSWORD_SIZE 24
void ctl_random_password(char out[CTL_PASSWORD_SIZE]);
/* The name of the person at this terminal, for records: $SUDO_USER with the real user, else the user. */
const char *ctl_who(struct ctl *c);

#endif
