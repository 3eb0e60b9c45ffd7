/* parse.h: the grammar of the configuration file.
 *
 *     file       = *section
 *     section    = name "{" *assignment "}"                 a section may appear more than once
 *     assignment = name ("=" / "+=") (word / "{" [word *("," word) [","]] "}")
 *     word       = bare / '"' text with \" and \\ '"' / "'" text "'"      a string ends on its line
 *     comments     # and // to the end of the line, and slash-star to star-slash
 *
 * "+=" adds to a list. The surface is libconfuse's; the parser is our own because that library stops at the first error, takes an
 * unclosed comment or section for the end of the file, drops control bytes in silence, and expands ${VARIABLES} of the environment.
 * Here all four are errors, each with its line, and reading goes on behind them. */
#ifndef KK_CONF_PARSE_H
#define KK_CONF_PARSE_H

#include "base/arena.h"
#include "base/slice.h"

#define PARSE_ERRORS_MAX 100 /* reported; then reading stops */
#define PARSE_ITEMS_MAX 1000 /* of one list */
#define PARSE_WORD_MAX 8192

struct parse_value {
    struct slice section, name;
    unsigned line;
    bool add;     /* "+=" */
    bool braces;  /* written as a list */
    const struct slice *items;
    size_t n;
};

struct parse_target {
    void *arg;
    /* A section begins: false when there is none of that name (already reported); its content is skipped. */
    bool (*section)(void *arg, struct slice name, unsigned line);
    void (*value)(void *arg, const struct parse_value *v);
    void (*error)(void *arg, unsigned line, const char *sentence);
};

/* Words live in arena. Tells everything through target; nothing but memory can fail: 0 or -ENOMEM. */
int parse_text(struct slice text, struct arena *arena, const struct parse_target *target);

#endif
