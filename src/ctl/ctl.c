/* ctl.c: from argv to the row of the command table, its options and arguments, and the function. Input: the command line of
 * whoever may run the program; nothing here has more rights than that person. */
#include "ctl/ctl.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "conf/value.h"
#include "ctl/help.h"

#define CTL_ARENA_MAX (256u * 1024 * 1024)

/* What every command takes. */
enum common { COMMON_CONFIG, COMMON_STATE, COMMON_JSON, COMMON_HELP, COMMON_COUNT };
const struct ctl_option ctl_common_options[] = {
    [COMMON_CONFIG] = {"config", CTL_STRING, "FILE", "configuration file (also $KAKITOME_CONFIG)"},
    [COMMON_STATE] = {"state", CTL_STRING, "DIR", "state directory (also $KAKITOME_STATE)"},
    [COMMON_JSON] = {"json", CTL_FLAG, NULL, "print JSON"},
    [COMMON_HELP] = {"help", CTL_FLAG, NULL, "explain this command"},
    [COMMON_COUNT] = {0},
};

static size_t count_options(const struct ctl_option *o)
{
    size_t n = 0;
    while (o != NULL && o[n].name != NULL)
        n++;
    return n;
}

static const struct ctl_option *find_option(const struct ctl_option *list, struct slice name)
{
    for (size_t i = 0, n = count_options(list); i < n; i++)
        if (slice_eq(slice_str(list[i].name), name))
            return &list[i];
    return NULL;
}

/* The command whose words stand at the front of argv; the longer name wins. */
static const struct ctl_command *find_command(int argc, char **argv, int *ret_words)
{
    const struct ctl_command *found = NULL;
    for (const struct ctl_command *const *g = ctl_command_groups; *g != NULL; g++) {
        for (const struct ctl_command *cmd = *g; cmd->name != NULL; cmd++) {
            struct slice rest = slice_str(cmd->name), first = slice_cut(&rest, ' ');
            int words = rest.n != 0 ? 2 : 1;
            if (argc < words || !slice_eq(first, slice_str(argv[0])) || (words == 2 && !slice_eq(rest, slice_str(argv[1]))))
                continue;
            if (found == NULL || words > *ret_words) {
                found = cmd;
                *ret_words = words;
            }
        }
    }
    return found;
}

static bool option_value_ok(const struct ctl_option *o, const char *value)
{
    int64_t v;
    switch (o->kind) {
    case CTL_NUMBER: return conf_value_int(slice_str(value), &v);
    case CTL_SIZE: return conf_value_size(slice_str(value), &v);
    default: return true;
    }
}

static void set_common(struct ctl *c, size_t index, const char *value, bool *help)
{
    switch (index) {
    case COMMON_CONFIG:
        c->config_path = value;
        c->config_named = true;
        break;
    case COMMON_STATE: c->state_option = value; break;
    case COMMON_JSON: c->json = true; break;
    default: *help = true; break;
    }
}

/* One "--name", "--name=value" or "--name value" at argv[*at]. */
static int take_option(struct ctl *c, int argc, char **argv, int *at, bool *help)
{
    struct slice value, name = slice_str(argv[*at] + 2);
    value = name;
    name = slice_cut(&value, '=');
    bool attached = name.n < strlen(argv[*at] + 2);
    const struct ctl_option *own = find_option(c->command->options, name), *o = own;
    if (o == NULL)
        o = find_option(ctl_common_options, name);
    if (o == NULL)
        return ctl_usage_error(c, "there is no option --%.*s", SLICE_ARG(name));
    const char *text = "";
    if (o->kind == CTL_FLAG && attached)
        return ctl_usage_error(c, "--%s takes no value", o->name);
    if (o->kind != CTL_FLAG) {
        if (!attached && *at + 1 >= argc)
            return ctl_usage_error(c, "--%s needs a value (%s)", o->name, o->value);
        text = attached ? value.p : argv[++*at];
        if (!option_value_ok(o, text))
            return ctl_usage_error(c, "\"%s\" is no value for --%s (%s)", text, o->name,
                                   o->kind == CTL_SIZE ? "a size such as 25M" : "a number");
    }
    if (own != NULL)
        c->values[own - c->command->options] = text;
    else
        set_common(c, (size_t)(o - ctl_common_options), text, help);
    return EX_OK;
}

/* Options may stand anywhere; "--" ends them. Positional arguments are moved to the front of argv. */
static int parse_arguments(struct ctl *c, int argc, char **argv, bool *help)
{
    bool only_args = false;
    c->args = argv;
    for (int i = 0; i < argc; i++) {
        if (!only_args && strcmp(argv[i], "--") == 0) {
            only_args = true;
        } else if (!only_args && strcmp(argv[i], "-h") == 0) {
            *help = true;
        } else if (!only_args && strncmp(argv[i], "--", 2) == 0) {
            int status = take_option(c, argc, argv, &i, help);
            if (status != EX_OK)
                return status;
        } else if (!only_args && argv[i][0] == '-' && argv[i][1] != '\0') {
            return ctl_usage_error(c, "there is no option %s", argv[i]);
        } else {
            argv[c->n_args++] = argv[i];
        }
    }
    if (*help)
        return EX_OK;
    if (c->n_args < c->command->least)
        return ctl_usage_error(c, "something is missing");
    if (c->n_args > c->command->most)
        return ctl_usage_error(c, "\"%s\" is too much", c->args[c->command->most]);
    return EX_OK;
}

static void take_environment(struct ctl *c)
{
    const char *config = getenv("KAKITOME_CONFIG"), *state = getenv("KAKITOME_STATE");
    c->config_named = config != NULL && *config != '\0';
    c->config_path = c->config_named ? config : CTL_CONFIG_DEFAULT;
    c->state_option = state != NULL && *state != '\0' ? state : NULL;
}

static int run_command(const struct ctl_command *cmd, int argc, char **argv)
{
    struct ctl c = {.command = cmd};
    bool help = false;
    arena_init(&c.arena, CTL_ARENA_MAX);
    take_environment(&c);
    int status = parse_arguments(&c, argc, argv, &help);
    if (status == EX_OK && help)
        help_command(cmd);
    else if (status == EX_OK)
        status = cmd->run(&c);
    conf_free(c.conf);
    free(c.config_text);
    arena_done(&c.arena);
    if (fflush(stdout) != 0 && status == EX_OK)
        status = EX_IOERR;
    return status;
}

/* Descriptors 0 to 2 must be taken, or the next file opened would become somebody's standard output. */
static void ensure_standard_fds(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= 2 && fcntl(fd, F_SETFD, 0) == 0);
    if (fd > 2)
        (void)close(fd);
}

/* Options may also stand before the command: they are moved behind it. */
static void move_options(int argc, char **argv)
{
    int n = 1; /* of the words before the command */
    while (n < argc && argv[n][0] == '-') {
        const struct ctl_option *o = find_option(ctl_common_options, slice_str(argv[n] + (argv[n][1] == '-' ? 2 : 1)));
        n += o != NULL && o->kind != CTL_FLAG ? 2 : 1;
    }
    for (int moved = 1; moved < n && n < argc; moved++) {
        char *first = argv[1];
        memmove(&argv[1], &argv[2], (size_t)(argc - 2) * sizeof(*argv));
        argv[argc - 1] = first;
    }
}

int ctl_main(int argc, char **argv)
{
    ensure_standard_fds();
    move_options(argc, argv);
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        help_overview();
        return EX_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("kakitome %s\n", KAKITOME_VERSION);
        return EX_OK;
    }
    if (strcmp(argv[1], "help") == 0)
        return help_main(argc - 2, argv + 2);
    int words = 0;
    const struct ctl_command *cmd = find_command(argc - 1, argv + 1, &words);
    if (cmd == NULL)
        return help_unknown(argc - 1, argv + 1);
    return run_command(cmd, argc - 1 - words, argv + 1 + words);
}

const char *ctl_get(const struct ctl *c, const char *option)
{
    const struct ctl_option *o = find_option(c->command->options, slice_str(option));
    return o != NULL ? c->values[o - c->command->options] : NULL;
}

bool ctl_flag(const struct ctl *c, const char *option)
{
    return ctl_get(c, option) != NULL;
}

int64_t ctl_get_int(const struct ctl *c, const char *option, int64_t otherwise)
{
    const char *text = ctl_get(c, option);
    int64_t v = otherwise;
    if (text != NULL && !conf_value_int(slice_str(text), &v) && !conf_value_size(slice_str(text), &v))
        return otherwise;
    return v;
}

/* ---- errors ---- */

int ctl_exit_status(int code)
{
    static const struct {
        int code, status;
    } rows[] = {
        {0, EX_OK},
        {ERR_SYNTAX, EX_DATAERR},       {ERR_LIMIT, EX_DATAERR},        {-EINVAL, EX_DATAERR},
        {ERR_CORRUPT, EX_DATAERR},      {ERR_VERSION, EX_DATAERR},      {ERR_CONFIG, EX_CONFIG},
        {ERR_DENIED, EX_NOPERM},        {-EACCES, EX_NOPERM},           {-EPERM, EX_NOPERM},
        {-ENOENT, EX_NOUSER},           {ERR_GONE, EX_NOUSER},          {-EEXIST, EX_CANTCREAT},
        {-ENOTCONN, EX_UNAVAILABLE},    {-ECONNREFUSED, EX_UNAVAILABLE}, {-ENOSYS, EX_UNAVAILABLE},
        {-ETIMEDOUT, EX_TEMPFAIL},      {-ECONNRESET, EX_TEMPFAIL},     {-EBUSY, EX_TEMPFAIL},
        {-ECANCELED, EX_TEMPFAIL},      {-EAGAIN, EX_TEMPFAIL},         {ERR_READONLY, EX_TEMPFAIL},
        {ERR_QUOTA, EX_TEMPFAIL},       {ERR_CLOSED, EX_TEMPFAIL},      {-EIO, EX_IOERR},
        {-ENOSPC, EX_IOERR},            {-EPIPE, EX_IOERR},             {-EROFS, EX_CANTCREAT},
        {-ENOMEM, EX_OSERR},            {-EADDRINUSE, EX_UNAVAILABLE},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].code == code)
            return rows[i].status;
    return EX_SOFTWARE;
}

static void complain(const struct ctl *c, const char *what, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));
static void complain(const struct ctl *c, const char *what, const char *fmt, va_list ap)
{
    (void)fflush(stdout);
    (void)fprintf(stderr, "kakitome: %s: %s", c->command->name, what);
    (void)vfprintf(stderr, fmt, ap);
    (void)fputc('\n', stderr);
}

int ctl_fail(const struct ctl *c, const struct err *err)
{
    return ctl_fail_text(c, ctl_exit_status(err->code), "%s", err->text[0] != '\0' ? err->text : err_name(err->code));
}

int ctl_fail_text(const struct ctl *c, int status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    complain(c, "", fmt, ap);
    va_end(ap);
    return status;
}

int ctl_usage_error(const struct ctl *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    complain(c, "", fmt, ap);
    va_end(ap);
    help_usage(c->command, stderr);
    return EX_USAGE;
}

void ctl_warn(const struct ctl *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    complain(c, "warning: ", fmt, ap);
    va_end(ap);
}

const char *ctl_who(struct ctl *c)
{
    const struct passwd *pw = getpwuid(getuid());
    const char *user = pw != NULL ? pw->pw_name : arena_printf(&c->arena, "uid %u", (unsigned)getuid());
    const char *sudo = getuid() == 0 ? getenv("SUDO_USER") : NULL;
    return sudo != NULL && *sudo != '\0' ? arena_printf(&c->arena, "%s (as %s)", sudo, user) : user;
}
