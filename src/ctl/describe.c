#include "ctl/describe.h"

#include "conf/table.h"
#include "ctl/help.h"

/* ---- kakitome.conf(5) ---- */

/* Text for troff: a leading dot or quote is no request, a backslash and a hyphen are themselves. */
static void put_troff(struct buf *out, const char *s)
{
    if (*s == '.' || *s == '\'')
        buf_put_str(out, "\\&");
    for (; *s != '\0'; s++) {
        if (*s == '\\')
            buf_put_str(out, "\\e");
        else if (*s == '-')
            buf_put_str(out, "\\-");
        else
            buf_put_char(out, *s);
    }
}

static void put_limits(struct buf *out, const struct conf_row *row)
{
    const char *choices = conf_rule_choices((enum conf_option)(row - conf_table));
    if (choices != NULL) {
        buf_put_str(out, " One of: ");
        put_troff(out, choices);
        buf_put_char(out, '.');
    } else if (row->kind == CONF_INT || row->kind == CONF_SIZE || row->kind == CONF_TIME) {
        buf_put_str(out, " From ");
        conf_print_number(out, row->kind, row->least);
        buf_put_str(out, " to ");
        conf_print_number(out, row->kind, row->most);
        buf_put_char(out, '.');
    }
}

static void put_option(struct buf *out, const struct conf_row *row)
{
    struct buf def;
    buf_init(&def, 4096);
    conf_print_default(&def, row);
    buf_put_char(&def, '\0');
    buf_printf(out, ".TP\n.B %s\n", row->name);
    put_troff(out, row->en);
    buf_put_str(out, ".");
    put_limits(out, row);
    buf_put_str(out, "\n.br\n");
    put_troff(out, row->ja);
    buf_put_str(out, "\n.br\nDefault: ");
    put_troff(out, def.p);
    buf_put_char(out, '\n');
    buf_done(&def);
}

void describe_options_man(struct buf *out)
{
    buf_put_str(out,
                ".\\\" Made from the table of options in src/conf/conf.h by tools/documents; changes here are lost.\n"
                ".TH KAKITOME.CONF 5 \"2026-11-22\" \"Kakitome\" \"Kakitome\"\n"
                ".SH NAME\nkakitome.conf \\- configuration of the Kakitome mail service\n"
                ".SH DESCRIPTION\n"
                "One file, by default\n.IR /etc/kakitome/kakitome.conf .\n"
                "It is valid when it is empty: every option has a default. It is checked as a whole before it is used;\n.B kakitome check\n"
                "names the file, the line and what is wrong, for every problem.\n"
                ".PP\nOptions stand in sections:\n.PP\n.nf\n.RS\n"
                "smtp {\n    max_message_size = 25M    # up to the end of the line: a comment\n    unlimited_from = { 192.0.2.0/24, 2001:db8::/32 }\n}\n"
                ".RE\n.fi\n.PP\n"
                "A value with other than letters, digits and punctuation stands in quotes; in double quotes \\e\\(dq and \\e\\e stand for\n"
                "themselves. Lists stand in braces;\n.B +=\nadds to a list. Sizes take K, M, G or T (powers of 1024), times ms, s, m, h or d.\n"
                "Nothing is included, and variables of the environment are not read.\n"
                ".PP\nAfter a change:\n.B kakitome config apply\n(see\n.BR kakitome\\-config (1)).\n");
    for (const struct conf_section *s = conf_sections; s->name != NULL; s++) {
        buf_printf(out, ".SH \"SECTION %s\"\n", s->name);
        put_troff(out, s->en);
        buf_put_str(out, ".\n.br\n");
        put_troff(out, s->ja);
        buf_put_str(out, "\n");
        for (size_t i = 0; i < CONF_OPTION_COUNT; i++)
            if (strcmp(conf_table[i].section, s->name) == 0)
                put_option(out, &conf_table[i]);
    }
    buf_put_str(out, ".SH \"SEE ALSO\"\n.BR kakitome (1),\n.BR kakitome\\-check (1),\n.BR kakitome\\-config (1)\n");
}

/* ---- commands ---- */

static bool shown(const struct ctl_command *cmd)
{
    return (cmd->flags & CTL_HIDDEN) == 0;
}

void describe_commands(struct buf *out)
{
    for (const struct ctl_command *const *g = ctl_command_groups; *g != NULL; g++) {
        for (const struct ctl_command *cmd = *g; cmd->name != NULL; cmd++) {
            if (!shown(cmd))
                continue;
            buf_printf(out, "%s\t\t%s\n", cmd->name, cmd->arguments);
            for (const struct ctl_option *o = cmd->options; o != NULL && o->name != NULL; o++)
                buf_printf(out, "%s\t--%s\t%s\n", cmd->name, o->name, o->value != NULL ? o->value : "");
        }
    }
}

/* Second words of the commands that begin with this one. */
static void put_second_words(struct buf *out, struct slice first)
{
    for (const struct ctl_command *const *g = ctl_command_groups; *g != NULL; g++) {
        for (const struct ctl_command *cmd = *g; cmd->name != NULL; cmd++) {
            struct slice rest = slice_str(cmd->name);
            if (shown(cmd) && slice_eq(slice_cut(&rest, ' '), first) && rest.n != 0)
                buf_printf(out, " %.*s", SLICE_ARG(rest));
        }
    }
}

/* Calls fn once for each different first word. */
static void each_first_word(struct buf *out, void (*fn)(struct buf *out, struct slice word))
{
    struct slice seen[64];
    size_t n = 0;
    for (const struct ctl_command *const *g = ctl_command_groups; *g != NULL; g++) {
        for (const struct ctl_command *cmd = *g; cmd->name != NULL; cmd++) {
            struct slice rest = slice_str(cmd->name), word = slice_cut(&rest, ' ');
            bool known = !shown(cmd);
            for (size_t i = 0; i < n; i++)
                known |= slice_eq(seen[i], word);
            if (known || n == 64)
                continue;
            seen[n++] = word;
            fn(out, word);
        }
    }
}

static void put_word(struct buf *out, struct slice word)
{
    buf_printf(out, " %.*s", SLICE_ARG(word));
}

static void put_case(struct buf *out, struct slice word)
{
    struct buf words;
    buf_init(&words, 4096);
    put_second_words(&words, word);
    if (words.n > 0)
        buf_printf(out, "        %.*s) words=\"%.*s\" ;;\n", SLICE_ARG(word), SLICE_ARG(slice_from(buf_slice(&words), 1)));
    buf_done(&words);
}

static void put_option_case(struct buf *out, const struct ctl_command *cmd)
{
    bool two_words = strchr(cmd->name, ' ') != NULL;
    buf_printf(out, two_words ? "    \"%s\") options=\"" : "    \"%s \"*) options=\"", cmd->name);
    for (const struct ctl_option *o = cmd->options; o != NULL && o->name != NULL; o++)
        buf_printf(out, "%s--%s", o == cmd->options ? "" : " ", o->name);
    buf_put_str(out, "\" ;;\n");
}

void describe_completion(struct buf *out)
{
    buf_put_str(out, "# bash completion for kakitome. Made from the table of commands by tools/documents; changes here are lost.\n"
                     "_kakitome()\n{\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=\"\" options=\"\"\n"
                     "    COMPREPLY=()\n"
                     "    case $prev in\n"
                     "    --config | --state)\n"
                     "        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
                     "        return ;;\n"
                     "    esac\n"
                     "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        words=\"");
    size_t before = out->n;
    each_first_word(out, put_word);
    if (out->n > before && out->p != NULL)
        memmove(out->p + before, out->p + before + 1, --out->n - before);
    buf_put_str(out, " help --help --version\"\n    elif [ \"$COMP_CWORD\" -eq 2 ]; then\n        case ${COMP_WORDS[1]} in\n");
    each_first_word(out, put_case);
    buf_put_str(out, "        esac\n    fi\n    case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n");
    for (const struct ctl_command *const *g = ctl_command_groups; *g != NULL; g++)
        for (const struct ctl_command *cmd = *g; cmd->name != NULL; cmd++)
            if (shown(cmd) && cmd->options != NULL)
                put_option_case(out, cmd);
    buf_put_str(out, "    esac\n    case $cur in\n    -*) words=\"$options");
    for (const struct ctl_option *o = ctl_common_options; o->name != NULL; o++)
        buf_printf(out, " --%s", o->name);
    buf_put_str(out, "\" ;;\n    esac\n    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
                     "    [ -n \"${COMPREPLY[*]}\" ] || mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n}\n"
                     "complete -F _kakitome kakitome\n");
}
