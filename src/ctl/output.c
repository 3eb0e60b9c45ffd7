#include "ctl/output.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/utf8.h"

#define LIST_MAX (512u * 1024 * 1024)

struct cell {
    struct slice text; /* as people see it */
    uint64_t number;
};

void ctl_list_init(struct ctl_list *l, struct ctl *c, const char *name, const struct ctl_column *columns)
{
    *l = (struct ctl_list){.c = c, .name = name, .columns = columns};
    while (columns[l->n_columns].name != NULL)
        l->n_columns++;
    buf_init(&l->cells, LIST_MAX);
    arena_init(&l->arena, LIST_MAX);
}

bool ctl_print(struct slice text)
{
    return fwrite(text.p, 1, text.n, stdout) == text.n;
}

static void add_cell(struct ctl_list *l, struct slice text, uint64_t number)
{
    struct cell cell = {.text = arena_copy(&l->arena, text), .number = number};
    if (cell.text.p == NULL)
        l->error = -ENOMEM;
    buf_put(&l->cells, &cell, sizeof(cell));
    l->n_cells++;
}

void ctl_list_text(struct ctl_list *l, struct slice text)
{
    add_cell(l, text, 0);
}

void ctl_print_bytes(struct buf *b, uint64_t v)
{
    static const char units[] = "KMGTPE";
    if (v < 10000) {
        buf_printf(b, "%llu", (unsigned long long)v);
        return;
    }
    double d = (double)v / 1024;
    size_t u = 0;
    while (d >= 1000 && u + 1 < sizeof(units) - 1) {
        d /= 1024;
        u++;
    }
    buf_printf(b, d < 10 ? "%.2f%c" : "%.1f%c", d, units[u]);
}

void ctl_list_number(struct ctl_list *l, uint64_t v)
{
    struct buf b;
    char iso[CLOCK_ISO_SIZE];
    buf_init(&b, 64);
    switch (l->columns[l->n_cells % l->n_columns].kind) {
    case CTL_BYTES: ctl_print_bytes(&b, v); break;
    case CTL_BOOL: buf_put_str(&b, v != 0 ? "yes" : "no"); break;
    case CTL_TIME:
        if (v != 0)
            clock_print_iso((int64_t)v, iso);
        buf_put_str(&b, v != 0 ? iso : "-");
        break;
    default: buf_printf(&b, "%llu", (unsigned long long)v); break;
    }
    add_cell(l, buf_slice(&b), v);
    buf_done(&b);
}

static const struct cell *cell_at(const struct ctl_list *l, size_t i)
{
    return (const struct cell *)(const void *)l->cells.p + i;
}

static void put_json_cell(struct buf *b, const struct ctl_column *column, const struct cell *cell)
{
    buf_printf(b, "\"%s\":", column->name);
    switch (column->kind) {
    case CTL_COUNT:
    case CTL_BYTES: buf_printf(b, "%llu", (unsigned long long)cell->number); break;
    case CTL_BOOL: buf_put_str(b, cell->number != 0 ? "true" : "false"); break;
    case CTL_TIME:
        if (cell->number == 0) {
            buf_put_str(b, "null");
            break;
        }
        __attribute__((fallthrough));
    default:
        buf_put_char(b, '"');
        utf8_put_json(b, cell->text);
        buf_put_char(b, '"');
        break;
    }
}

static void put_json_row(const struct ctl_list *l, struct buf *b, size_t row)
{
    buf_put_char(b, '{');
    for (size_t i = 0; i < l->n_columns; i++) {
        if (i != 0)
            buf_put_char(b, ',');
        put_json_cell(b, &l->columns[i], cell_at(l, row * l->n_columns + i));
    }
    buf_put_char(b, '}');
}

/* Columns on a terminal; East Asian characters are two wide. */
static size_t width_of(struct slice s)
{
    size_t width = 0, len;
    uint32_t cp;
    for (; s.n > 0; s = slice_from(s, len)) {
        len = utf8_next(s, &cp);
        if (len == 0) {
            len = 1;
            cp = '?';
        }
        bool wide = (cp >= 0x1100 && cp <= 0x115f) || (cp >= 0x2e80 && cp <= 0xa4cf) || (cp >= 0xac00 && cp <= 0xd7a3) ||
                    (cp >= 0xf900 && cp <= 0xfaff) || (cp >= 0xfe30 && cp <= 0xfe6f) || (cp >= 0xff00 && cp <= 0xff60) ||
                    (cp >= 0xffe0 && cp <= 0xffe6) || (cp >= 0x1f300 && cp <= 0x1faff) || (cp >= 0x20000 && cp <= 0x3fffd);
        width += wide ? 2 : 1;
    }
    return width;
}

/* What came from outside must not steer the terminal. */
static void put_visible(struct buf *b, struct slice s)
{
    size_t len;
    uint32_t cp;
    for (; s.n > 0; s = slice_from(s, len)) {
        len = utf8_next(s, &cp);
        if (len == 0 || cp < 0x20 || (cp >= 0x7f && cp < 0xa0)) {
            buf_put_char(b, '?');
            len = len == 0 ? 1 : len;
        } else {
            buf_put(b, s.p, len);
        }
    }
}

static bool is_number(const struct ctl_column *column)
{
    return column->kind == CTL_COUNT || column->kind == CTL_BYTES;
}

static void put_padded(struct buf *b, struct slice text, size_t width, bool right, bool last)
{
    size_t have = width_of(text), pad = width > have ? width - have : 0;
    for (size_t i = 0; right && i < pad; i++)
        buf_put_char(b, ' ');
    put_visible(b, text);
    for (size_t i = 0; !right && !last && i < pad; i++)
        buf_put_char(b, ' ');
    buf_put_str(b, last ? "\n" : "  ");
}

static void column_widths(const struct ctl_list *l, size_t *widths)
{
    for (size_t i = 0; i < l->n_columns; i++)
        widths[i] = strlen(l->columns[i].name);
    for (size_t i = 0; i < l->n_cells; i++) {
        size_t w = width_of(cell_at(l, i)->text);
        if (w > widths[i % l->n_columns])
            widths[i % l->n_columns] = w;
    }
}

static void put_spaced_name(struct buf *b, const char *name)
{
    for (; *name != '\0'; name++)
        buf_put_char(b, *name == '_' ? ' ' : *name);
}

static void put_table(const struct ctl_list *l, struct buf *b)
{
    size_t widths[32] = {0};
    column_widths(l, widths);
    for (size_t i = 0; i < l->n_columns; i++) {
        struct buf name;
        buf_init(&name, 256);
        put_spaced_name(&name, l->columns[i].name);
        put_padded(b, buf_slice(&name), widths[i], is_number(&l->columns[i]), i + 1 == l->n_columns);
        buf_done(&name);
    }
    for (size_t i = 0; i < l->n_cells; i++) {
        size_t col = i % l->n_columns;
        put_padded(b, cell_at(l, i)->text, widths[col], is_number(&l->columns[col]), col + 1 == l->n_columns);
    }
}

void ctl_list_free(struct ctl_list *l)
{
    buf_done(&l->cells);
    arena_done(&l->arena);
}

static int list_finish(struct ctl_list *l, struct buf *b)
{
    int error = l->error != 0 ? l->error : !buf_ok(b) || !buf_ok(&l->cells) ? -ENOMEM : 0;
    if (error == 0 && !ctl_print(buf_slice(b)))
        error = -EIO;
    buf_done(b);
    buf_done(&l->cells);
    arena_done(&l->arena);
    if (error == 0)
        return EX_OK;
    return ctl_fail(l->c, &(struct err){.code = error});
}

int ctl_list_print(struct ctl_list *l)
{
    struct buf b;
    buf_init(&b, LIST_MAX);
    if (l->c->json) {
        buf_printf(&b, "{\"%s\":[", l->name);
        for (size_t row = 0; row * l->n_columns < l->n_cells; row++) {
            buf_put_str(&b, row == 0 ? "\n" : ",\n");
            put_json_row(l, &b, row);
        }
        buf_put_str(&b, "\n]}\n");
    } else if (l->n_cells > 0) {
        put_table(l, &b);
    }
    return list_finish(l, &b);
}

int ctl_list_print_single(struct ctl_list *l)
{
    struct buf b;
    size_t widest = 0;
    buf_init(&b, LIST_MAX);
    for (size_t i = 0; i < l->n_columns; i++)
        widest = strlen(l->columns[i].name) > widest ? strlen(l->columns[i].name) : widest;
    if (l->c->json) {
        put_json_row(l, &b, 0);
        buf_put_char(&b, '\n');
    } else {
        for (size_t i = 0; i < l->n_columns; i++) {
            put_spaced_name(&b, l->columns[i].name);
            buf_printf(&b, ":%*s", (int)(widest - strlen(l->columns[i].name)) + 1, "");
            put_visible(&b, cell_at(l, i)->text);
            buf_put_char(&b, '\n');
        }
    }
    return list_finish(l, &b);
}
