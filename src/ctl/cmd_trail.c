/* cmd_trail.c: trail: shows, filters and follows the audit trail. */
#include <jansson.h>
#include <stdio.h>

#include "base/utf8.h"
#include "ctl/client.h"
#include "ctl/ctl.h"

#define PAGE_BYTES 49152
#define FOLLOW_MS 20000
#define FROM_NOW UINT64_MAX /* TRAIL_CURSOR_END */

/* Plain when it has nothing to confuse a reader, or else as a JSON string: what came from outside must not steer the terminal. */
static void put_string(struct buf *b, struct slice s)
{
    bool plain = s.n > 0;
    for (size_t i = 0; i < s.n; i++)
        plain &= (unsigned char)s.p[i] > 0x20 && s.p[i] != '"' && s.p[i] != '=' && s.p[i] != ',' && s.p[i] != 0x7f;
    if (plain && utf8_is_ascii(s)) {
        buf_put_slice(b, s);
        return;
    }
    buf_put_char(b, '"');
    utf8_put_json(b, s);
    buf_put_char(b, '"');
}

static void put_fields(struct buf *b, json_t *object, bool top);

static void put_value(struct buf *b, json_t *v)
{
    size_t i;
    json_t *item;
    if (json_is_string(v)) {
        put_string(b, slice_of(json_string_value(v), json_string_length(v)));
    } else if (json_is_integer(v)) {
        buf_printf(b, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    } else if (json_is_array(v)) {
        buf_put_char(b, '[');
        json_array_foreach (v, i, item) {
            if (i != 0)
                buf_put_str(b, ", ");
            put_fields(b, item, false);
        }
        buf_put_char(b, ']');
    } else {
        buf_put_char(b, '-');
    }
}

/* At the top, time and event have been printed already, and the bookkeeping is for programs. */
static bool is_shown(const char *name)
{
    static const char *const hidden[] = {"seq", "time", "event", "source", "source_epoch", "source_seq"};
    for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
        if (strcmp(name, hidden[i]) == 0)
            return false;
    return true;
}

static void put_fields(struct buf *b, json_t *object, bool top)
{
    const char *name;
    json_t *v;
    bool first = !top;
    json_object_foreach (object, name, v) {
        if (top && !is_shown(name))
            continue;
        buf_put_str(b, first ? "" : " ");
        buf_put_str(b, name);
        buf_put_char(b, '=');
        put_value(b, v);
        first = false;
    }
}

static const char *text_of(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s != NULL ? s : "?";
}

static void print_line(struct slice line)
{
    struct buf b;
    json_t *o = json_loadb(line.p, line.n, 0, NULL);
    buf_init(&b, 1 << 20);
    if (o == NULL) { /* not as we write it: as it stands, harmless */
        utf8_put_json(&b, line);
        buf_put_char(&b, '\n');
        (void)fwrite(b.p, 1, b.n, stdout);
        buf_done(&b);
        return;
    }
    buf_printf(&b, "%s  %-20s", text_of(o, "time"), text_of(o, "event"));
    put_fields(&b, o, true);
    buf_put_char(&b, '\n');
    (void)fwrite(b.p, 1, b.n, stdout);
    buf_done(&b);
    json_decref(o);
}

static void print_lines(const struct ctl *c, struct slice lines)
{
    if (c->json)
        (void)fwrite(lines.p, 1, lines.n, stdout);
    while (!c->json && lines.n > 0)
        print_line(slice_cut(&lines, '\n'));
    (void)fflush(stdout);
}

/* What the shell kept together stays together: user=a b becomes user="a b". */
static void put_word(struct buf *b, struct slice word)
{
    size_t at = 0;
    bool spaces = slice_find(word, ' ') < word.n && slice_find(word, '"') == word.n;
    while (spaces && at < word.n && word.p[at] != '=' && word.p[at] != '~' && word.p[at] != ' ')
        at++;
    at = !spaces ? word.n : word.p[at] == ' ' ? 0 : at + 1;
    buf_put_slice(b, slice_head(word, at));
    buf_put_str(b, spaces ? "\"" : "");
    buf_put_slice(b, slice_from(word, at));
    buf_put_str(b, spaces ? "\"" : "");
}

/* The arguments as one query. */
static int join_filter(const struct ctl *c, struct buf *ret, struct err *err)
{
    buf_init(ret, 2048);
    for (size_t i = 0; i < c->n_args; i++) {
        buf_put_str(ret, i != 0 ? " " : "");
        put_word(ret, slice_str(c->args[i]));
    }
    return buf_ok(ret) ? 0 : err_set(err, ERR_LIMIT, "the filter is too long");
}

static bool says_since(const struct ctl *c)
{
    for (size_t i = 0; i < c->n_args; i++)
        if (strncmp(c->args[i], "since=", 6) == 0)
            return true;
    return false;
}

static int show(struct ctl *c, struct ctl_client *cl, struct slice filter, struct err *err)
{
    bool follow = ctl_flag(c, "follow"), at_end = false;
    uint64_t cursor = follow && !says_since(c) ? FROM_NOW : 0;
    int rc = 0;
    while (rc == 0 && (follow || !at_end) && !ferror(stdout)) {
        struct m_ctl_trail_read q = {.cursor = cursor, .filter = filter, .max_bytes = PAGE_BYTES, .wait_ms = follow ? FOLLOW_MS : 0};
        struct m_ctl_trail_read_reply r;
        struct arena arena;
        arena_init(&arena, 1 << 20);
        rc = ctl_client_call(cl, IPC_ctl_trail_read, &q, &arena, &r, CTL_CALL_MS + FOLLOW_MS, err);
        if (rc == 0) {
            print_lines(c, r.lines);
            cursor = r.cursor;
            at_end = r.at_end != 0;
        }
        arena_done(&arena);
    }
    return rc;
}

static int run_trail(struct ctl *c)
{
    struct err err = {0};
    struct ctl_client *cl = NULL;
    struct buf filter;
    int rc = join_filter(c, &filter, &err);
    if (rc == 0)
        rc = ctl_client_open(c, ROLE_AUDITD, &cl, &err);
    if (rc == 0)
        rc = show(c, cl, buf_slice(&filter), &err);
    ctl_client_close(cl);
    buf_done(&filter);
    return rc == 0 ? EX_OK : ctl_fail(c, &err);
}

static const struct ctl_option trail_options[] = {
    {"follow", CTL_FLAG, NULL, "go on with what comes; without since= begin with it"},
    {0},
};

const struct ctl_command ctl_trail_commands[] = {
    {"trail", "[FILTER...]", 0, CTL_MANY, "Show the audit trail, filtered: event=smtp.* user=ADDRESS since=-1h", run_trail, trail_options, 0},
    {0},
};
