/* template.c: the commented file that `kakitome setup` writes, from the table. */
#include "conf/table.h"

static void put_value(struct buf *out, const struct conf_row *row, struct slice value)
{
    if (row->kind == CONF_STR) {
        buf_printf(out, "\"%.*s\"", SLICE_ARG(value));
        return;
    }
    if (row->kind != CONF_LIST) {
        buf_put_slice(out, value);
        return;
    }
    buf_put_char(out, '{');
    while (value.n > 0) {
        struct slice item = slice_cut(&value, ' ');
        if (item.n > 0)
            buf_printf(out, " \"%.*s\"%s", SLICE_ARG(item), value.n > 0 ? "," : " ");
    }
    buf_put_char(out, '}');
}

/* The value that is set for the row: p is NULL when there is none. */
static struct slice find_set(const struct conf_row *row, const char *hostname, const char *domain, const char *const *set, size_t n)
{
    struct slice found = {NULL, 0};
    if (hostname != NULL && row == &conf_table[CONF_O_server_hostname])
        found = slice_str(hostname);
    if (domain != NULL && row == &conf_table[CONF_O_server_domains])
        found = slice_str(domain);
    for (size_t i = 0; i < n; i++) {
        struct slice value = slice_str(set[i]), key = slice_cut(&value, '='), section = slice_cut(&key, '.');
        if (slice_eq(section, slice_str(row->section)) && slice_eq(key, slice_str(row->name)))
            found = value;
    }
    return found;
}

static void put_limits(struct buf *out, const struct conf_row *row)
{
    const char *choices = conf_rule_choices((enum conf_option)(row - conf_table));
    if (row->kind == CONF_BOOL || row->kind == CONF_LIST || choices != NULL || row->kind == CONF_STR)
        return;
    buf_put_str(out, " [");
    conf_print_number(out, row->kind, row->least);
    buf_put_str(out, " .. ");
    conf_print_number(out, row->kind, row->most);
    buf_put_char(out, ']');
}

static void put_row(struct buf *out, const struct conf_row *row, struct slice value)
{
    buf_printf(out, "    # %s", row->en);
    put_limits(out, row);
    buf_printf(out, "\n    # %s\n    %s%s = ", row->ja, value.p == NULL ? "# " : "", row->name);
    if (value.p == NULL)
        conf_print_default(out, row);
    else
        put_value(out, row, value);
    buf_put_str(out, "\n");
}

void conf_print_template(struct buf *out, const char *hostname, const char *domain, const char *const *set, size_t n_set)
{
    buf_put_str(out, "# Kakitome: the configuration. Every option has a default; what is commented out shows it. After a change:\n"
                     "#   kakitome check && kakitome config apply --reason \"...\"\n"
                     "# Manual: man kakitome.conf\n"
                     "# Kakitome の設定ファイル。どの項目にも既定値があり、# の付いた行はその値を示す。変更の後は上のコマンドで検査し、反映する。\n");
    for (const struct conf_section *s = conf_sections; s->name != NULL; s++) {
        buf_printf(out, "\n# %s\n# %s\n%s {\n", s->en, s->ja, s->name);
        for (size_t i = 0; i < CONF_OPTION_COUNT; i++)
            if (strcmp(conf_table[i].section, s->name) == 0)
                put_row(out, &conf_table[i], find_set(&conf_table[i], hostname, domain, set, n_set));
        buf_put_str(out, "}\n");
    }
}
