/* output.h: listings, for people as aligned columns, with --json as one object {"<name>":[{...},...]}.
 *
 *     static const struct ctl_column columns[] = {{"address", CTL_TEXT}, {"used", CTL_BYTES}, {0}};
 *     struct ctl_list l;
 *     ctl_list_init(&l, c, "accounts", columns);
 *     ctl_list_text(&l, address);  ctl_list_number(&l, used);     one call a cell, in the order of the columns
 *     return ctl_list_print(&l);
 */
#ifndef KK_CTL_OUTPUT_H
#define KK_CTL_OUTPUT_H

#include "ctl/ctl.h"

enum ctl_cell {
    CTL_TEXT,
    CTL_COUNT, /* number */
    CTL_BYTES, /* number; "12.3M" for people */
    CTL_TIME,  /* milliseconds since 1970; RFC 3339, 0 is none */
    CTL_BOOL,  /* "yes" or "no"; true, false */
};

struct ctl_column {
    const char *name; /* the JSON member; people see it with spaces for underscores */
    enum ctl_cell kind;
};

struct ctl_list {
    struct ctl *c;
    const char *name;
    const struct ctl_column *columns;
    size_t n_columns;
    struct buf cells; /* struct ctl_cell_value, row after row */
    struct arena arena;
    size_t n_cells;
    int error;
};

void ctl_list_init(struct ctl_list *l, struct ctl *c, const char *name, const struct ctl_column *columns);
void ctl_list_text(struct ctl_list *l, struct slice text); /* copied */
void ctl_list_number(struct ctl_list *l, uint64_t v);
/* For a list that is not printed after all. */
void ctl_list_free(struct ctl_list *l);
/* Prints, frees, and returns the exit status. */
int ctl_list_print(struct ctl_list *l);

/* One object's members, for commands that tell about a single thing: "name: value" lines, or one JSON object. Same cells. */
int ctl_list_print_single(struct ctl_list *l);

/* To standard output, as it is; false when that fails. */
bool ctl_print(struct slice text);
/* Appends "12.3M"; exact below 10,000. */
void ctl_print_bytes(struct buf *b, uint64_t v);

#endif
