#include "trail/query.h"

#include <jansson.h>

#include "trail/line.h"

enum op { OP_IS, OP_IS_NOT, OP_HAS, OP_TEXT };

struct condition {
    enum op op;
    struct slice key, value;
    bool prefix; /* "*" stood at the end of the value */
};

struct trail_query {
    size_t n;
    struct condition conditions[TRAIL_QUERY_CONDITIONS];
    int64_t since, until;
    size_t used;
    char text[2 * TRAIL_QUERY_MAX]; /* keys and values */
};

/* ---- parsing ---- */

/* One word, in which quotation marks keep spaces together. False at the end. */
static bool next_word(struct trail_query *q, struct slice *s, struct slice *ret, bool *ret_quoted)
{
    bool in = false;
    *s = slice_trim(*s);
    *ret = slice_of(q->text + q->used, 0);
    *ret_quoted = s->n > 0 && s->p[0] == '"';
    if (s->n == 0)
        return false;
    size_t i = 0;
    for (; i < s->n && (in || (s->p[i] != ' ' && s->p[i] != '\t')); i++) {
        if (s->p[i] == '"')
            in = !in;
        else
            q->text[q->used++] = s->p[i];
    }
    ret->n = (size_t)(q->text + q->used - ret->p);
    *s = slice_from(*s, i);
    return true;
}

/* "-30m" */
static bool parse_ago(struct slice s, int64_t now_ms, int64_t *ret)
{
    static const struct {
        char unit;
        int64_t ms;
    } units[] = {{'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}};
    uint64_t n;
    if (s.n < 3 || s.p[0] != '-' || !slice_to_u64(slice_of(s.p + 1, s.n - 2), &n) || n > 1000000)
        return false;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (units[i].unit == s.p[s.n - 1]) {
            *ret = now_ms - (int64_t)n * units[i].ms;
            return true;
        }
    }
    return false;
}

static int add_time(int64_t *where, struct slice value, int64_t now_ms, struct err *err)
{
    if (parse_ago(value, now_ms, where) || trail_time_parse(value, where))
        return 0;
    return err_set(err, ERR_SYNTAX, "\"%.*s\" is no time: write 2026-11-22T02:00 (UTC) or -2h", SLICE_ARG(value));
}

static bool is_key(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!ascii_is_alnum(s.p[i]) && s.p[i] != '_')
            return false;
    return s.n > 0;
}

/* Cuts "key<op>value"; false: a plain word. */
static bool split(struct slice word, struct condition *c)
{
    size_t at = 0;
    while (at < word.n && word.p[at] != '=' && word.p[at] != '~' && word.p[at] != '!')
        at++;
    size_t after = at + 1;
    c->key = slice_head(word, at);
    if (at >= word.n || !is_key(c->key))
        return false;
    c->op = word.p[at] == '~' ? OP_HAS : OP_IS;
    if (word.p[at] == '!') {
        if (after >= word.n || word.p[after] != '=')
            return false;
        c->op = OP_IS_NOT;
        after++;
    }
    c->value = slice_from(word, after);
    return true;
}

static int add_word(struct trail_query *q, struct slice word, bool quoted, int64_t now_ms, struct err *err)
{
    struct condition c = {.op = OP_TEXT, .value = word};
    if (quoted || !split(word, &c)) {
        c = (struct condition){.op = OP_TEXT, .value = word};
    } else if (c.op == OP_IS && (slice_eq(c.key, SLICE("since")) || slice_eq(c.key, SLICE("until")))) {
        return add_time(c.key.p[0] == 's' ? &q->since : &q->until, c.value, now_ms, err);
    }
    if (q->n == TRAIL_QUERY_CONDITIONS)
        return err_set(err, ERR_LIMIT, "at most %d conditions", TRAIL_QUERY_CONDITIONS);
    c.prefix = (c.op == OP_IS || c.op == OP_IS_NOT) && c.value.n > 0 && c.value.p[c.value.n - 1] == '*';
    c.value.n -= c.prefix;
    q->conditions[q->n++] = c;
    return 0;
}

int trail_query_parse(struct slice text, int64_t now_ms, struct trail_query **ret, struct err *err)
{
    if (text.n > TRAIL_QUERY_MAX)
        return err_set(err, ERR_LIMIT, "the filter is longer than %d bytes", TRAIL_QUERY_MAX);
    struct trail_query *q = calloc(1, sizeof(*q));
    if (q == NULL)
        return err_set(err, -ENOMEM, "out of memory");
    q->since = INT64_MIN;
    q->until = INT64_MAX;
    struct slice word;
    bool quoted;
    int rc = 0;
    while (rc == 0 && next_word(q, &text, &word, &quoted))
        rc = add_word(q, word, quoted, now_ms, err);
    if (rc != 0) {
        trail_query_free(q);
        return rc;
    }
    *ret = q;
    return 0;
}

void trail_query_free(struct trail_query *q)
{
    free(q);
}

int64_t trail_query_since(const struct trail_query *q)
{
    return q->since;
}

/* ---- matching ---- */

static bool contains(struct slice s, struct slice what)
{
    for (size_t i = 0; i + what.n <= s.n; i++)
        if (slice_ieq(slice_of(s.p + i, what.n), what))
            return true;
    return false;
}

static bool value_is(const struct condition *c, struct slice v)
{
    if (c->op == OP_HAS)
        return contains(v, c->value);
    return c->prefix ? slice_istarts(v, c->value) : slice_ieq(v, c->value);
}

static bool key_is(const struct condition *c, const char *name)
{
    static const char *const people[] = {"user", "address", "alias", "target"};
    if (slice_eq(c->key, slice_str(name)))
        return true;
    if (!slice_eq(c->key, SLICE("user")))
        return false;
    for (size_t i = 0; i < sizeof(people) / sizeof(people[0]); i++)
        if (strcmp(people[i], name) == 0)
            return true;
    return false;
}

static bool scalar_meets(const struct condition *c, const json_t *v)
{
    char number[32];
    if (json_is_string(v))
        return value_is(c, slice_of(json_string_value(v), json_string_length(v)));
    if (!json_is_integer(v))
        return false;
    (void)snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    return value_is(c, slice_str(number));
}

/* Is there such a field with such a value, here or in the items of a list here? */
static bool object_meets(const struct condition *c, json_t *object, int depth)
{
    const char *name;
    json_t *v, *item;
    size_t i;
    json_object_foreach (object, name, v) {
        if (json_is_array(v) && depth < 2) {
            json_array_foreach (v, i, item)
                if (json_is_object(item) && object_meets(c, item, depth + 1))
                    return true;
        } else if (key_is(c, name) && scalar_meets(c, v)) {
            return true;
        }
    }
    return false;
}

/* What can be told without a JSON parser. Cheap, and false for most lines of a narrow query. */
static bool may_match(const struct trail_query *q, struct slice line, bool *ret_fields)
{
    struct trail_line l;
    *ret_fields = false;
    if (!trail_line_parse(line, &l) || l.time_ms < q->since || l.time_ms > q->until)
        return false;
    for (size_t i = 0; i < q->n; i++) {
        const struct condition *c = &q->conditions[i];
        if (c->op == OP_TEXT) {
            if (!contains(line, c->value))
                return false;
        } else if (slice_eq(c->key, SLICE("event"))) {
            if (value_is(c, l.event) != (c->op != OP_IS_NOT))
                return false;
        } else {
            *ret_fields = true;
        }
    }
    return true;
}

bool trail_query_match(const struct trail_query *q, struct slice line)
{
    bool fields, ok = true;
    if (!may_match(q, line, &fields))
        return false;
    if (!fields)
        return true;
    json_t *root = json_loadb(line.p, line.n, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(root)) {
        json_decref(root);
        return false;
    }
    for (size_t i = 0; ok && i < q->n; i++) {
        const struct condition *c = &q->conditions[i];
        if (c->op != OP_TEXT && !slice_eq(c->key, SLICE("event")))
            ok = object_meets(c, root, 0) == (c->op != OP_IS_NOT);
    }
    json_decref(root);
    return ok;
}
