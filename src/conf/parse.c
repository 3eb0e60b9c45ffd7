/* parse.c: see parse.h. Runs in the supervisor, in every role at its start and in the command line. The text comes from the
 * administrator, or from whoever could write the file: any bytes. Bounded: errors, items, length of a word; no recursion. */
#include "conf/parse.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/err.h"
#include "base/utf8.h"

enum token { T_END, T_WORD, T_OPEN, T_CLOSE, T_IS, T_ADD, T_COMMA, T_PAREN, T_BAD };

struct reader {
    const struct parse_target *target;
    struct arena *arena;
    struct slice rest;
    unsigned line;   /* of rest */
    unsigned errors;
    int failed;      /* -ENOMEM */
    enum token token;
    unsigned token_line;
    struct slice word;
};

static void complain(struct reader *r, unsigned line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void complain(struct reader *r, unsigned line, const char *fmt, ...)
{
    char sentence[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(sentence, sizeof(sentence), fmt, ap);
    va_end(ap);
    if (r->errors < PARSE_ERRORS_MAX)
        r->target->error(r->target->arg, line, sentence);
    else if (r->errors == PARSE_ERRORS_MAX)
        r->target->error(r->target->arg, line, "too many errors: the rest has not been read");
    r->errors++;
}

/* ---- words and signs ---- */

static void skip(struct reader *r, size_t n)
{
    for (size_t i = 0; i < n && i < r->rest.n; i++)
        r->line += r->rest.p[i] == '\n';
    r->rest = slice_from(r->rest, n);
}

static void skip_block_comment(struct reader *r)
{
    unsigned line = r->line;
    const char *end = memmem(r->rest.p + 2, r->rest.n - 2, "*/", 2);
    if (end == NULL)
        complain(r, line, "this comment is not closed with */");
    skip(r, end != NULL ? (size_t)(end - r->rest.p) + 2 : r->rest.n);
}

static void skip_blank(struct reader *r)
{
    while (r->rest.n > 0) {
        char c = r->rest.p[0];
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
            skip(r, 1);
        else if (c == '#' || slice_starts(r->rest, SLICE("//")))
            skip(r, slice_find(r->rest, '\n'));
        else if (slice_starts(r->rest, SLICE("/*")))
            skip_block_comment(r);
        else
            return;
    }
}

static void add_byte(struct reader *r, char *word, size_t *n, char c)
{
    if (c == '\0') /* reported by check_bytes; words are C strings later */
        return;
    if (*n < PARSE_WORD_MAX)
        word[(*n)++] = c;
    else if (*n == PARSE_WORD_MAX) {
        (*n)++;
        complain(r, r->token_line, "this word is longer than %d bytes", PARSE_WORD_MAX);
    }
}

/* rest starts behind the quote. The word is at most as long as what is left of the line. */
static size_t read_quoted(struct reader *r, char quote, char *word)
{
    size_t n = 0;
    while (r->rest.n > 0 && r->rest.p[0] != '\n') {
        char c = r->rest.p[0];
        skip(r, 1);
        if (c == quote)
            return n;
        if (c == '\\' && quote == '"' && r->rest.n > 0) {
            c = r->rest.p[0];
            if (c != '"' && c != '\\') {
                complain(r, r->line, "\\%c is not known in a string; write \\\\ for a backslash", c > ' ' && c < 127 ? c : '?');
                continue;
            }
            skip(r, 1);
        }
        add_byte(r, word, &n, c);
    }
    complain(r, r->token_line, "this string is not closed on its line");
    return n;
}

static bool is_bare(struct slice s)
{
    char c = s.p[0];
    if (c == '+')
        return s.n < 2 || s.p[1] != '=';
    return c != '\0' && strchr(" \t\r\n\"'#={}(),", c) == NULL;
}

static size_t read_bare(struct reader *r, char *word)
{
    size_t n = 0;
    while (r->rest.n > 0 && is_bare(r->rest)) {
        add_byte(r, word, &n, r->rest.p[0]);
        skip(r, 1);
    }
    return n;
}

static void read_word(struct reader *r)
{
    char quote = r->rest.p[0] == '"' || r->rest.p[0] == '\'' ? r->rest.p[0] : '\0';
    size_t room = slice_find(r->rest, '\n') + 1;
    char *word = arena_alloc(r->arena, room < PARSE_WORD_MAX + 2 ? room : PARSE_WORD_MAX + 2);
    r->token = T_WORD;
    if (word == NULL) {
        r->failed = -ENOMEM;
        r->token = T_END;
        return;
    }
    if (quote != '\0')
        skip(r, 1);
    size_t n = quote != '\0' ? read_quoted(r, quote, word) : read_bare(r, word);
    r->word = slice_of(word, n <= PARSE_WORD_MAX ? n : PARSE_WORD_MAX);
    if (quote == '"' && memmem(word, r->word.n, "${", 2) != NULL)
        complain(r, r->token_line, "${...} is not replaced by anything here: write the value itself");
}

static void next(struct reader *r)
{
    static const struct {
        const char *sign;
        enum token token;
    } signs[] = {{"{", T_OPEN}, {"}", T_CLOSE}, {"+=", T_ADD}, {"=", T_IS}, {",", T_COMMA}, {"(", T_PAREN}, {")", T_PAREN}};
    skip_blank(r);
    r->token_line = r->line;
    r->token = T_END;
    if (r->rest.n == 0 || r->errors > PARSE_ERRORS_MAX || r->failed != 0)
        return;
    if (slice_starts(r->rest, SLICE("${"))) {
        complain(r, r->line, "${...} is not replaced by anything here: write the value itself");
        skip(r, 1);
    }
    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++) {
        if (slice_starts(r->rest, slice_str(signs[i].sign))) {
            r->token = signs[i].token;
            skip(r, strlen(signs[i].sign));
            return;
        }
    }
    if (r->rest.p[0] == '\0') { /* reported by check_bytes */
        r->token = T_BAD;
        skip(r, 1);
        return;
    }
    read_word(r);
}

/* ---- sections and assignments ---- */

/* Behind an error: on with the next line, or the end of the section. */
static void skip_line(struct reader *r)
{
    unsigned line = r->token_line;
    while (r->token != T_END && r->token != T_CLOSE && r->token_line == line)
        next(r);
}

/* token: the sign behind T_OPEN. Ends behind the matching brace. */
static void skip_braces(struct reader *r, unsigned line)
{
    unsigned depth = 1;
    while (r->token != T_END) {
        depth += r->token == T_OPEN;
        depth -= r->token == T_CLOSE;
        next(r);
        if (depth == 0)
            return;
    }
    complain(r, line, "this section is not closed with }");
}

/* Items up to the closing brace. */
static bool read_list(struct reader *r, struct slice *items, struct parse_value *v)
{
    v->braces = true;
    for (next(r); r->token == T_WORD; next(r)) {
        if (v->n >= PARSE_ITEMS_MAX) {
            complain(r, r->token_line, "a list has at most %d items", PARSE_ITEMS_MAX);
            return false;
        }
        items[v->n++] = r->word;
        next(r);
        if (r->token != T_COMMA)
            break;
    }
    if (r->token == T_CLOSE)
        return true;
    complain(r, r->token_line, "expected a comma or } in the list of %.*s", SLICE_ARG(slice_head(v->name, 64)));
    while (r->token == T_WORD || r->token == T_COMMA)
        next(r);
    if (r->token == T_CLOSE) /* of the list, not of the section */
        next(r);
    return false;
}

static bool read_value(struct reader *r, struct slice *items, struct parse_value *v)
{
    if (r->token == T_OPEN)
        return read_list(r, items, v);
    if (r->token == T_WORD) {
        items[v->n++] = r->word;
        return true;
    }
    complain(r, v->line, "%.*s has no value behind the =", SLICE_ARG(slice_head(v->name, 64)));
    return false;
}

/* token: the name. */
static void read_assignment(struct reader *r, struct slice section, struct slice *items)
{
    struct parse_value v = {.section = section, .name = r->word, .line = r->token_line, .items = items};
    next(r);
    if (r->token != T_IS && r->token != T_ADD) {
        bool block = r->token == T_OPEN;
        complain(r, v.line, block ? "%.*s { stands inside of section %.*s, which may not be closed: sections do not nest"
                                  : "expected = behind %.*s in section %.*s",
                 SLICE_ARG(slice_head(v.name, 64)), SLICE_ARG(slice_head(section, 64)));
        if (!block) {
            skip_line(r);
            return;
        }
        next(r);
        skip_braces(r, v.line);
        return;
    }
    v.add = r->token == T_ADD;
    next(r);
    if (!read_value(r, items, &v)) {
        skip_line(r);
        return;
    }
    r->target->value(r->target->arg, &v);
    next(r);
}

/* token: the name. */
static void read_section(struct reader *r, struct slice *items)
{
    struct slice name = r->word;
    unsigned line = r->token_line;
    next(r);
    if (r->token == T_IS || r->token == T_ADD) { /* outside of any section: let the target say where it belongs */
        struct parse_value v = {.name = name, .line = line};
        r->target->value(r->target->arg, &v);
        skip_line(r);
        return;
    }
    if (r->token == T_PAREN && slice_eq(name, SLICE("include"))) {
        complain(r, line, "include does not exist: the configuration is one file");
        skip_line(r);
        return;
    }
    if (r->token != T_OPEN) {
        complain(r, line, "expected { behind %.*s", SLICE_ARG(slice_head(name, 64)));
        skip_line(r);
        return;
    }
    next(r);
    if (!r->target->section(r->target->arg, name, line)) {
        skip_braces(r, line);
        return;
    }
    while (r->token != T_CLOSE && r->token != T_END) {
        if (r->token == T_WORD) {
            read_assignment(r, name, items);
            continue;
        }
        complain(r, r->token_line, "expected the name of an option in section %.*s", SLICE_ARG(slice_head(name, 64)));
        next(r);
        skip_line(r);
    }
    if (r->token == T_END)
        complain(r, line, "this section is not closed with }");
    next(r);
}

/* Bytes that have no place in a text file, once a line. */
static void check_bytes(struct reader *r)
{
    unsigned line = 1, told = 0;
    size_t len;
    for (struct slice s = r->rest; s.n > 0; s = slice_from(s, len)) {
        uint32_t cp = 0;
        len = utf8_next(s, &cp);
        bool odd = len == 0 || (cp < 0x20 && cp != '\n' && cp != '\t' && cp != '\r') || (cp >= 0x7f && cp < 0xa0);
        if (odd && told != line) {
            complain(r, line, len == 0 ? "byte 0x%02x is not UTF-8" : "control character 0x%02x is not allowed",
                     len == 0 ? (unsigned)(unsigned char)s.p[0] : (unsigned)cp);
            told = line;
        }
        line += cp == '\n';
        len = len == 0 ? 1 : len;
    }
}

int parse_text(struct slice text, struct arena *arena, const struct parse_target *target)
{
    struct reader r = {.target = target, .arena = arena, .rest = text, .line = 1};
    struct slice *items = arena_array(arena, PARSE_ITEMS_MAX, sizeof(*items));
    if (items == NULL)
        return -ENOMEM;
    if (slice_starts(text, SLICE("\xef\xbb\xbf"))) /* byte order mark of an editor */
        r.rest = slice_from(text, 3);
    check_bytes(&r);
    for (next(&r); r.token != T_END;) {
        if (r.token == T_WORD) {
            read_section(&r, items);
            continue;
        }
        complain(&r, r.token_line, r.token == T_CLOSE ? "this } closes nothing" : "expected the name of a section");
        next(&r);
        if (r.token != T_WORD)
            skip_line(&r);
    }
    return r.failed;
}
