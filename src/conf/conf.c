/* conf.c: from the assignments of a file to struct conf, by the table. */
#include "conf/conf.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/utf8.h"
#include "conf/parse.h"
#include "conf/suggest.h"
#include "conf/table.h"
#include "conf/value.h"

#define CONF_ARENA_MAX (64u * 1024 * 1024)

struct building {
    struct conf *conf;
    unsigned lines[CONF_OPTION_COUNT];
    struct arena words; /* of the file; what is kept is copied */
    const char *name;   /* of the file */
    conf_report_fn *report;
    void *arg;
    bool wrong;
    int failed;
};

static void complain(struct building *b, unsigned line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void complain(struct building *b, unsigned line, const char *fmt, ...)
{
    char text[700], sentence[1200];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)snprintf(sentence, sizeof(sentence), "%.400s:%u: %s", b->name, line, text);
    b->wrong = true;
    b->report(b->arg, true, sentence);
}

/* ---- values ---- */

static void *member(struct conf *c, const struct conf_row *row)
{
    return (char *)c + row->offset;
}

static const char *keep(struct building *b, struct slice s)
{
    char *p = arena_strdup(b->conf->arena, s);
    if (p == NULL)
        b->failed = -ENOMEM;
    return p != NULL ? p : "";
}

static bool parse_number(const struct conf_row *row, struct slice word, int64_t *ret)
{
    bool yes = false;
    switch (row->kind) {
    case CONF_BOOL:
        if (!conf_value_bool(word, &yes))
            return false;
        *ret = yes;
        return true;
    case CONF_SIZE: return conf_value_size(word, ret);
    case CONF_TIME: return conf_value_time(word, ret);
    default: return conf_value_int(word, ret);
    }
}

static void set_number(struct conf *c, const struct conf_row *row, int64_t v)
{
    if (row->kind == CONF_BOOL)
        *(bool *)member(c, row) = v != 0;
    else
        *(int64_t *)member(c, row) = v;
}

static void take_number(struct building *b, const struct conf_row *row, const struct parse_value *v)
{
    int64_t number = 0;
    struct buf limit;
    if (v->n != 1 || v->braces || !parse_number(row, v->items[0], &number)) {
        struct slice shown = v->n > 0 ? slice_head(v->items[0], 60) : SLICE_EMPTY;
        complain(b, v->line, "%s.%s: \"%.*s\" is not %s", row->section, row->name, SLICE_ARG(shown), conf_kind_name(row->kind));
        return;
    }
    if (number >= row->least && number <= row->most) {
        set_number(b->conf, row, number);
        return;
    }
    buf_init(&limit, 64);
    conf_print_number(&limit, row->kind, number < row->least ? row->least : row->most);
    complain(b, v->line, "%s.%s: %.*s is %s, %.*s", row->section, row->name, SLICE_ARG(slice_head(v->items[0], 60)),
             number < row->least ? "below the least that is allowed" : "above the most that is allowed", SLICE_ARG(buf_slice(&limit)));
    buf_done(&limit);
}

static bool check_text(struct building *b, const struct conf_row *row, unsigned line, struct slice word)
{
    enum conf_option option = (enum conf_option)(row - conf_table);
    struct slice shown = slice_head(word, 80);
    if ((int64_t)word.n < row->least || (int64_t)word.n > row->most) {
        complain(b, line, "%s.%s: \"%.*s\" has %zu bytes; allowed are %lld to %lld", row->section, row->name, SLICE_ARG(shown), word.n,
                 (long long)row->least, (long long)row->most);
        return false;
    }
    const char *wrong = conf_rule_check(option, keep(b, word));
    if (wrong == NULL)
        return true;
    const char *choices = conf_rule_choices(option);
    complain(b, line, "%s.%s: \"%.*s\" %s%s%s", row->section, row->name, SLICE_ARG(shown), wrong, choices != NULL ? ": " : "",
             choices != NULL ? choices : "");
    return false;
}

static void take_text(struct building *b, const struct conf_row *row, const struct parse_value *v)
{
    if (v->braces || v->n != 1)
        complain(b, v->line, "%s.%s takes one text, not a list", row->section, row->name);
    else if (check_text(b, row, v->line, v->items[0]))
        *(const char **)member(b->conf, row) = keep(b, v->items[0]);
}

static void set_list(struct building *b, const struct conf_row *row, const struct slice *items, size_t n, bool add)
{
    struct conf_list *l = member(b->conf, row);
    size_t old = add ? l->n : 0;
    const char **all = arena_array(b->conf->arena, old + n, sizeof(*all));
    if (all == NULL) {
        b->failed = -ENOMEM;
        return;
    }
    for (size_t i = 0; i < old; i++)
        all[i] = l->items[i];
    for (size_t i = 0; i < n; i++)
        all[old + i] = keep(b, items[i]);
    *l = (struct conf_list){old + n, all};
}

static void take_list(struct building *b, const struct conf_row *row, const struct parse_value *v)
{
    bool right = true;
    if (!v->braces && v->n == 1 && v->items[0].n == 0) { /* name = "" */
        set_list(b, row, NULL, 0, v->add);
        return;
    }
    for (size_t i = 0; i < v->n; i++)
        right &= check_text(b, row, v->line, v->items[i]);
    if (right)
        set_list(b, row, v->items, v->n, v->add);
}

static void set_default(struct building *b, const struct conf_row *row)
{
    struct slice items[64], rest;
    size_t n = 0;
    switch (row->kind) {
    case CONF_STR: *(const char **)member(b->conf, row) = row->otherwise.text; break;
    case CONF_LIST:
        for (rest = slice_str(row->otherwise.text); rest.n > 0 && n < 64;)
            items[n++] = slice_cut(&rest, ' ');
        set_list(b, row, items, n, false);
        break;
    default: set_number(b->conf, row, row->otherwise.number); break;
    }
}

/* ---- names ---- */

static const struct conf_row *find_row(struct slice section, struct slice name)
{
    for (size_t i = 0; i < CONF_OPTION_COUNT; i++)
        if (slice_eq(slice_str(conf_table[i].section), section) && slice_eq(slice_str(conf_table[i].name), name))
            return &conf_table[i];
    return NULL;
}

/* The same name in another section beats a similar one in this. */
static void unknown_option(struct building *b, const struct parse_value *v)
{
    struct suggest s;
    const char *elsewhere = NULL;
    struct slice shown = slice_head(v->name, 64);
    suggest_init(&s, v->name);
    for (size_t i = 0; i < CONF_OPTION_COUNT; i++) {
        if (slice_eq(slice_str(conf_table[i].name), v->name))
            elsewhere = conf_table[i].section;
        if (v->section.n == 0 || slice_eq(slice_str(conf_table[i].section), v->section))
            suggest_offer(&s, conf_table[i].name);
    }
    if (v->section.n == 0 && elsewhere != NULL)
        complain(b, v->line, "%.*s belongs into its section: %s { %.*s = ... }", SLICE_ARG(shown), elsewhere, SLICE_ARG(shown));
    else if (v->section.n == 0)
        complain(b, v->line, "%.*s stands outside of any section", SLICE_ARG(shown));
    else if (elsewhere != NULL)
        complain(b, v->line, "there is no %.*s in section %.*s; it belongs to section %s", SLICE_ARG(shown),
                 SLICE_ARG(slice_head(v->section, 64)), elsewhere);
    else
        complain(b, v->line, "there is no option %.*s in section %.*s%s%s%s", SLICE_ARG(shown), SLICE_ARG(slice_head(v->section, 64)),
                 s.best != NULL ? "; did you mean " : "", s.best != NULL ? s.best : "", s.best != NULL ? "?" : "");
}

static bool on_section(void *arg, struct slice name, unsigned line)
{
    struct building *b = arg;
    struct suggest s;
    suggest_init(&s, name);
    for (const struct conf_section *c = conf_sections; c->name != NULL; c++) {
        if (slice_eq(slice_str(c->name), name))
            return true;
        suggest_offer(&s, c->name);
    }
    complain(b, line, "there is no section %.*s%s%s%s", SLICE_ARG(slice_head(name, 64)), s.best != NULL ? "; did you mean " : "",
             s.best != NULL ? s.best : "", s.best != NULL ? "?" : "");
    return false;
}

static void on_value(void *arg, const struct parse_value *v)
{
    struct building *b = arg;
    const struct conf_row *row = find_row(v->section, v->name);
    if (row == NULL) {
        unknown_option(b, v);
        return;
    }
    unsigned *line = &b->lines[row - conf_table];
    if (v->add && row->kind != CONF_LIST) {
        complain(b, v->line, "%s.%s is no list: write = instead of +=", row->section, row->name);
        return;
    }
    if (*line != 0 && !v->add) {
        complain(b, v->line, "%s.%s is set twice (first in line %u)", row->section, row->name, *line);
        return;
    }
    *line = v->line;
    switch (row->kind) {
    case CONF_STR: take_text(b, row, v); break;
    case CONF_LIST: take_list(b, row, v); break;
    default: take_number(b, row, v); break;
    }
}

static void on_error(void *arg, unsigned line, const char *sentence)
{
    complain(arg, line, "%s", sentence);
}

/* ---- the interface ---- */

static struct conf *conf_new(void)
{
    struct conf *c = calloc(1, sizeof(*c));
    struct arena *a = calloc(1, sizeof(*a));
    if (c == NULL || a == NULL) {
        free(c);
        free(a);
        return NULL;
    }
    arena_init(a, CONF_ARENA_MAX);
    c->arena = a;
    return c;
}

static void keep_lines(struct building *b)
{
    unsigned *lines = arena_array(b->conf->arena, CONF_OPTION_COUNT, sizeof(*lines));
    if (lines == NULL) {
        b->failed = -ENOMEM;
        return;
    }
    memcpy(lines, b->lines, sizeof(b->lines));
    b->conf->lines = lines;
}

int conf_parse(struct slice text, const char *name, conf_report_fn *report, void *arg, struct conf **ret)
{
    struct building b = {.conf = conf_new(), .name = name, .report = report, .arg = arg};
    struct parse_target target = {.arg = &b, .section = on_section, .value = on_value, .error = on_error};
    if (b.conf == NULL)
        return -ENOMEM;
    arena_init(&b.words, CONF_ARENA_MAX);
    for (size_t i = 0; i < CONF_OPTION_COUNT; i++)
        set_default(&b, &conf_table[i]);
    int rc = parse_text(text, &b.words, &target);
    keep_lines(&b);
    arena_done(&b.words);
    if (rc == 0)
        rc = b.failed != 0 ? b.failed : b.wrong ? ERR_CONFIG : 0;
    if (rc != 0) {
        conf_free(b.conf);
        return rc;
    }
    *ret = b.conf;
    return 0;
}

void conf_free(struct conf *c)
{
    if (c == NULL)
        return;
    arena_done(c->arena);
    free(c->arena);
    free(c);
}

bool conf_listener(const char *text, struct netaddr *ret, bool *ret_any)
{
    struct slice s = slice_str(text);
    const char *colon = strrchr(text, ':');
    uint64_t port;
    struct netaddr at = {0};
    if (colon == NULL || !slice_to_u64(slice_str(colon + 1), &port) || port == 0 || port > 65535)
        return false;
    struct slice host = slice_head(s, (size_t)(colon - text));
    bool any = slice_eq(host, SLICE("*"));
    bool bare_v6 = slice_find(host, ':') < host.n && host.p[0] != '['; /* ::1:25 could be read in two ways */
    if (bare_v6 || (!any && !netaddr_parse_ip(host, &at)))
        return false;
    at.port = (uint16_t)port;
    *ret = at;
    *ret_any = any;
    return true;
}

int conf_networks(const struct conf_list *l, struct arena *a, struct netmask **ret, size_t *ret_n, struct err *err)
{
    struct netmask *masks = arena_array(a, l->n, sizeof(*masks));
    if (masks == NULL)
        return err_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; i < l->n; i++)
        if (!netmask_parse(slice_str(l->items[i]), &masks[i]))
            return err_set(err, ERR_CONFIG, "\"%s\" is not a network", l->items[i]);
    *ret = masks;
    *ret_n = l->n;
    return 0;
}
