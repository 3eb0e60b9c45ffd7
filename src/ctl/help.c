#include "ctl/help.h"

#include <stdio.h>

#include "conf/suggest.h"

static void print_options(const struct ctl_option *o)
{
    for (; o != NULL && o->name != NULL; o++) {
        char left[64];
        (void)snprintf(left, sizeof(left), "--%s%s%s", o->name, o->value != NULL ? " " : "", o->value != NULL ? o->value : "");
        printf("  %-24s %s\n", left, o->help);
    }
}

void help_usage(const struct ctl_command *cmd, FILE *to)
{
    (void)fprintf(to, "usage: kakitome %s", cmd->name);
    for (const struct ctl_option *o = cmd->options; o != NULL && o->name != NULL; o++)
        (void)fprintf(to, " [--%s%s%s]", o->name, o->value != NULL ? " " : "", o->value != NULL ? o->value : "");
    (void)fprintf(to, "%s%s\n", *cmd->arguments != '\0' ? " " : "", cmd->arguments);
}

void help_command(const struct ctl_command *cmd)
{
    struct slice rest = slice_str(cmd->name), word = slice_cut(&rest, ' ');
    help_usage(cmd, stdout);
    printf("\n%s\n\n", cmd->help);
    if (cmd->options != NULL) {
        print_options(cmd->options);
        printf("\n");
    }
    print_options(ctl_common_options);
    if ((cmd->flags & CTL_HIDDEN) == 0)
        printf("\nMore: man kakitome-%.*s\n", SLICE_ARG(word));
}

void help_overview(void)
{
    printf("kakitome %s, a mail service\n\n", KAKITOME_VERSION);
    printf("usage: kakitome COMMAND [options] [arguments]\n\n");
    for (const struct ctl_command *const *g = ctl_command_groups; *g != NULL; g++) {
        for (const struct ctl_command *cmd = *g; cmd->name != NULL; cmd++)
            if ((cmd->flags & CTL_HIDDEN) == 0)
                printf("  %-18s %s\n", cmd->name, cmd->help);
    }
    printf("\n  help COMMAND       explain a command (also: kakitome COMMAND --help)\n"
           "  --version          print the version\n\n"
           "Every command takes:\n");
    print_options(ctl_common_options);
    printf("\nThe first steps: kakitome setup, then kakitome serve. More: man kakitome\n");
}

/* All commands whose first word this is. */
static bool help_group(struct slice word, FILE *to)
{
    bool any = false;
    for (const struct ctl_command *const *g = ctl_command_groups; *g != NULL; g++) {
        for (const struct ctl_command *cmd = *g; cmd->name != NULL; cmd++) {
            struct slice rest = slice_str(cmd->name), first = slice_cut(&rest, ' ');
            if (!slice_eq(first, word))
                continue;
            if (any)
                (void)fputs("\n", to);
            help_usage(cmd, to);
            (void)fprintf(to, "  %s\n", cmd->help);
            any = true;
        }
    }
    if (any)
        (void)fprintf(to, "\nMore: kakitome COMMAND --help, man kakitome-%.*s\n", SLICE_ARG(word));
    return any;
}

int help_main(int argc, char **argv)
{
    if (argc < 1) {
        help_overview();
        return EX_OK;
    }
    for (const struct ctl_command *const *g = ctl_command_groups; *g != NULL; g++) {
        for (const struct ctl_command *cmd = *g; cmd->name != NULL; cmd++) {
            char name[64];
            (void)snprintf(name, sizeof(name), "%s%s%s", argv[0], argc > 1 ? " " : "", argc > 1 ? argv[1] : "");
            if (strcmp(cmd->name, name) == 0) {
                help_command(cmd);
                return EX_OK;
            }
        }
    }
    return help_group(slice_str(argv[0]), stdout) ? EX_OK : help_unknown(argc, argv);
}

int help_unknown(int argc, char **argv)
{
    struct suggest one, two;
    char both[64];
    (void)snprintf(both, sizeof(both), "%s%s%s", argv[0], argc > 1 ? " " : "", argc > 1 ? argv[1] : "");
    suggest_init(&one, slice_str(argv[0]));
    suggest_init(&two, slice_str(both));
    bool group = false;
    for (const struct ctl_command *const *g = ctl_command_groups; *g != NULL; g++) {
        for (const struct ctl_command *cmd = *g; cmd->name != NULL; cmd++) {
            struct slice rest = slice_str(cmd->name), first = slice_cut(&rest, ' ');
            group |= slice_eq(first, one.typed);
            if ((cmd->flags & CTL_HIDDEN) != 0)
                continue;
            suggest_offer(&one, cmd->name);
            suggest_offer(&two, cmd->name);
        }
    }
    if (group && argc == 1) { /* the first word of several commands */
        (void)fprintf(stderr, "kakitome: %s what?\n", argv[0]);
        help_group(one.typed, stderr);
        return EX_USAGE;
    }
    const char *best = two.best != NULL ? two.best : one.best;
    (void)fprintf(stderr, "kakitome: there is no command \"%s\"", group ? both : argv[0]);
    if (best != NULL)
        (void)fprintf(stderr, "; did you mean \"%s\"?", best);
    (void)fprintf(stderr, "\nkakitome --help lists all commands%s%s\n", group ? "; kakitome help " : "", group ? argv[0] : "");
    return EX_USAGE;
}
