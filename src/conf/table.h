/* table.h: the rows of CONF_OPTIONS as data, for the files of this directory and the tools that compare documents with them. */
#ifndef KK_CONF_TABLE_H
#define KK_CONF_TABLE_H

#include "conf/conf.h"

enum conf_kind { CONF_BOOL, CONF_INT, CONF_SIZE, CONF_TIME, CONF_STR, CONF_LIST };

/* CONF_O_smtp_max_errors: the option's place in conf_table and conf->lines. */
enum conf_option {
#define CONF_ENUM_(kind, section, name, ...) CONF_O_##section##_##name,
    CONF_OPTIONS(CONF_ENUM_) CONF_OPTION_COUNT
};

struct conf_row {
    const char *section, *name;
    enum conf_kind kind;
    size_t offset; /* in struct conf */
    struct {
        int64_t number; /* BOOL, INT, SIZE, TIME */
        const char *text; /* STR, LIST */
    } otherwise;
    int64_t least, most;
    const char *en, *ja;
};
extern const struct conf_row conf_table[CONF_OPTION_COUNT];

/* Sections in the order of the table, with a heading for the file. */
struct conf_section {
    const char *name, *en, *ja;
};
extern const struct conf_section conf_sections[]; /* ends with a NULL name */

/* What a text value must look like beyond its length. NULL when it is right, else what is wrong. */
const char *conf_rule_check(enum conf_option option, const char *value);
/* The words that the option may be set to, separated by spaces; NULL when it is free. */
const char *conf_rule_choices(enum conf_option option);
const char *conf_kind_name(enum conf_kind kind);
/* The default as it would be written in the file. */
void conf_print_default(struct buf *out, const struct conf_row *row);
/* A limit (least or most) or value of the row's kind, as a person would write it. */
void conf_print_number(struct buf *out, enum conf_kind kind, int64_t v);

#endif
