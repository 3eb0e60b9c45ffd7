/* Address lists: see address.h. One pass over the value; what is collected until a delimiter shows what it was: a '<' makes it a
 * phrase, a ':' a group's name, a ',' or ';' or the end an address. Text is collected in memory twice as long as the value,
 * allocated once: each byte of the value goes at most once into a phrase and once into an address. */
#include "mail/address.h"

#include "mail/header.h"

struct text {
    char *p;
    size_t n;
};

struct parser {
    struct arena *arena;
    struct slice in;
    size_t at;
    size_t last_quote, last_paren; /* where the last '"' and ')' are: a quote or comment that begins behind them never ends */
    bool comments_broken;          /* one was not closed: '(' is an ordinary character from here on */
    char *free;                    /* next free byte of the collecting memory */
    struct text phrase;            /* words with single blanks between them */
    struct text spec;              /* the same without blanks: an address if it turns out to be one */
    size_t spec_at;                /* where the last '@' in spec is, outside of quotes; SIZE_MAX: none */
    struct slice comment;          /* the last one */
    bool blank;                    /* a blank was seen since the last character */
    bool words;                    /* spec runs over a blank that no '.' or '@' stands next to: several words, no one address */
    bool in_group;
    struct mail_addresses *list;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool push(struct parser *p, struct mail_address address)
{
    struct mail_addresses *l = p->list;
    if (l->n >= MAIL_ADDRESSES_MAX) {
        l->cut = true;
        return true;
    }
    if (l->n == l->cap) {
        size_t cap = l->cap == 0 ? 2 : l->cap * 4;
        struct mail_address *items = arena_array(p->arena, cap, sizeof(*items));
        if (items == NULL)
            return false;
        if (l->n != 0)
            memcpy(items, l->items, l->n * sizeof(*items));
        l->items = items;
        l->cap = cap;
    }
    l->items[l->n++] = address;
    return true;
}

/* Starts collecting anew: what was collected stays where it is, for those who point at it. Memory: half of it for phrases. */
static void collect_new(struct parser *p)
{
    p->phrase = (struct text){p->phrase.p + p->phrase.n, 0};
    p->spec = (struct text){p->spec.p + p->spec.n, 0};
    p->spec_at = SIZE_MAX;
    p->comment = SLICE_EMPTY;
    p->blank = false;
    p->words = false;
}

static bool joins(char c)
{
    return c == '.' || c == '@';
}

static void collect(struct parser *p, char c)
{
    if (p->blank && p->phrase.n != 0) {
        p->words = p->words || (!joins(c) && !joins(p->phrase.p[p->phrase.n - 1]));
        p->phrase.p[p->phrase.n++] = ' ';
    }
    p->blank = false;
    p->phrase.p[p->phrase.n++] = c;
    p->spec.p[p->spec.n++] = c;
}

static struct slice text_slice(struct text t)
{
    return t.n != 0 ? slice_of(t.p, t.n) : SLICE_EMPTY;
}

/* RFC 5322 3.2.2: nested, with quoted pairs. At '('. false: it is not closed. */
static bool take_comment(struct parser *p)
{
    size_t depth = 0;
    if (p->comments_broken || p->at > p->last_paren)
        return false;
    for (size_t i = p->at; i <= p->last_paren; i++) {
        char c = p->in.p[i];
        if (c == '\\')
            i++;
        else if (c == '(')
            depth++;
        else if (c == ')' && --depth == 0) {
            p->comment = slice_trim(slice_of(p->in.p + p->at + 1, i - p->at - 1));
            p->at = i + 1;
            p->blank = true;
            return true;
        }
    }
    p->comments_broken = true;
    return false;
}

/* At '"'. Its inside is collected without the quotes; false: it is not closed. A blank next to it parts words. */
static bool take_quoted(struct parser *p)
{
    if (p->at >= p->last_quote)
        return false;
    size_t i = p->at + 1;
    for (; i < p->in.n && p->in.p[i] != '"'; i++) {
        char c = p->in.p[i];
        if (c == '\\' && i + 1 < p->in.n)
            c = p->in.p[++i];
        collect(p, c);
    }
    p->at = i < p->in.n ? i + 1 : i;
    return true;
}

static struct slice display_name(const struct parser *p)
{
    return p->phrase.n != 0 ? text_slice(p->phrase) : p->comment;
}

/* local "@" domain of what was collected. */
static void split_spec(const struct parser *p, struct mail_address *ret)
{
    struct slice spec = text_slice(p->spec);
    size_t at = p->spec_at < spec.n ? p->spec_at : spec.n;
    ret->local = slice_head(spec, at);
    ret->domain = slice_from(spec, at + 1);
}

/* "Joe a@b c@d": the commas and brackets were forgotten. Each word with an '@' is an address, what stands before it its name. */
static bool push_words(struct parser *p)
{
    struct slice rest = text_slice(p->phrase);
    size_t name_at = 0, at = 0;
    while (at < rest.n) {
        size_t n = slice_find(slice_from(rest, at), ' ');
        struct slice word = slice_head(slice_from(rest, at), n);
        size_t sign = slice_find(word, '@');
        if (sign < word.n) {
            struct mail_address address = {MAIL_ADDR_MAILBOX, slice_trim(slice_of(rest.p + name_at, at - name_at)), SLICE_EMPTY,
                                           slice_head(word, sign), slice_from(word, sign + 1)};
            if (!push(p, address))
                return false;
            name_at = at + n;
        }
        at += n + 1;
    }
    return true;
}

/* What stands before ',' ';' or the end is an address without angle brackets, or nothing. */
static bool end_bare(struct parser *p)
{
    struct mail_address address = {.kind = MAIL_ADDR_MAILBOX, .name = p->comment, .route = SLICE_EMPTY};
    bool ok = true;
    if (p->spec.n != 0 && p->spec_at != SIZE_MAX && p->words) {
        ok = push_words(p);
    } else if (p->spec.n != 0) {
        split_spec(p, &address);
        if (p->spec_at == SIZE_MAX) /* no address at all: shown as it is, blanks too */
            address.local = text_slice(p->phrase);
        ok = push(p, address);
    }
    collect_new(p);
    return ok;
}

static void collect_plain(struct parser *p, char c)
{
    if (c == '@')
        p->spec_at = p->spec.n;
    collect(p, c);
}

/* One step inside angle brackets. true: they are closed (or the list goes on without that). */
static bool angle_step(struct parser *p, struct mail_address *address)
{
    char c = p->in.p[p->at];
    if ((c == '(' && take_comment(p)) || (c == '"' && take_quoted(p)))
        return false;
    bool in_route = p->spec.n != 0 && p->spec.p[0] == '@' && address->route.n == 0;
    if (c == '>')
        return true;
    if ((c == ',' || c == ';') && p->spec_at != SIZE_MAX && !in_route)
        return true; /* "<a@b, c@d": the '>' was forgotten */
    if (c == ':' && in_route) { /* RFC 5322 4.4 obs-route */
        address->route = text_slice(p->spec);
        p->spec = (struct text){p->spec.p + p->spec.n, 0};
        p->spec_at = SIZE_MAX;
    } else if (is_blank(c)) {
        p->blank = true;
    } else {
        collect_plain(p, c);
    }
    p->at++;
    return false;
}

/* Behind '<'. The phrase is what was collected before; a comment counts as name only if there is no phrase. */
static bool take_angle(struct parser *p)
{
    struct mail_address address = {.kind = MAIL_ADDR_MAILBOX, .name = display_name(p), .route = SLICE_EMPTY};
    bool named = address.name.n != 0;
    collect_new(p);
    while (p->at < p->in.n && !angle_step(p, &address))
        continue;
    split_spec(p, &address);
    if (p->at < p->in.n && p->in.p[p->at] == '>')
        p->at++;
    /* Until the next delimiter only a comment means something: "<a@b> (Name)". */
    p->comment = SLICE_EMPTY;
    while (p->at < p->in.n && p->in.p[p->at] != ',' && p->in.p[p->at] != ';' && p->in.p[p->at] != '<')
        if (p->in.p[p->at] != '(' || !take_comment(p))
            p->at++;
    if (!named)
        address.name = p->comment;
    bool nothing = address.local.n == 0 && address.domain.n == 0 && address.name.n == 0;
    collect_new(p);
    return nothing || push(p, address);
}

static bool take_delimiter(struct parser *p, char c)
{
    p->at++;
    if (c == '<')
        return take_angle(p);
    if (c == ':') {
        struct mail_address group = {MAIL_ADDR_GROUP, text_slice(p->phrase), SLICE_EMPTY, SLICE_EMPTY, SLICE_EMPTY};
        p->in_group = true;
        collect_new(p);
        return push(p, group);
    }
    bool ok = end_bare(p);
    if (c == ';' && p->in_group) {
        p->in_group = false;
        ok = ok && push(p, (struct mail_address){MAIL_ADDR_GROUP_END, SLICE_EMPTY, SLICE_EMPTY, SLICE_EMPTY, SLICE_EMPTY});
    }
    return ok;
}

/* A domain literal (RFC 5322 3.4.1) may hold ':' and more; it ends at ']' and holds no blanks worth keeping. */
static bool take_literal(struct parser *p)
{
    const char *end = memchr(p->in.p + p->at, ']', p->in.n - p->at < 256 ? p->in.n - p->at : 256);
    if (end == NULL || p->spec_at == SIZE_MAX || p->spec_at + 1 != p->spec.n)
        return false;
    for (; p->in.p + p->at <= end; p->at++)
        if (!is_blank(p->in.p[p->at]))
            collect(p, p->in.p[p->at]);
    return true;
}

static bool step(struct parser *p)
{
    char c = p->in.p[p->at];
    if ((c == '(' && take_comment(p)) || (c == '"' && take_quoted(p)) || (c == '[' && take_literal(p)))
        return true;
    /* A group does not nest, and its name is no address: else ':' is an ordinary character. */
    if (c == '<' || c == ',' || c == ';' || (c == ':' && !p->in_group && p->spec_at == SIZE_MAX))
        return take_delimiter(p, c);
    if (is_blank(c))
        p->blank = true;
    else if (c != '>') /* one that nothing opened */
        collect_plain(p, c);
    p->at++;
    return true;
}

static size_t last_of(struct slice s, char c)
{
    const char *p = s.n != 0 ? memrchr(s.p, c, s.n) : NULL;
    return p != NULL ? (size_t)(p - s.p) : 0;
}

bool mail_address_parse(struct arena *a, struct slice value, struct mail_addresses *list)
{
    struct slice in = mail_header_unfold(a, slice_head(value, MAIL_VALUE_MAX));
    if (in.n == 0)
        return in.p != NULL;
    struct parser p = {.arena = a, .in = in, .list = list, .spec_at = SIZE_MAX, .comment = SLICE_EMPTY};
    /* Phrases gain at most one blank a character, and only where the value had one. */
    char *memory = arena_alloc(a, 2 * in.n + 2);
    if (memory == NULL)
        return false;
    p.phrase.p = memory;
    p.spec.p = memory + in.n + 1;
    p.last_quote = last_of(in, '"');
    p.last_paren = last_of(in, ')');
    while (p.at < in.n)
        if (!step(&p))
            return false;
    bool ok = end_bare(&p);
    if (p.in_group) /* the ';' was forgotten */
        ok = ok && push(&p, (struct mail_address){MAIL_ADDR_GROUP_END, SLICE_EMPTY, SLICE_EMPTY, SLICE_EMPTY, SLICE_EMPTY});
    return ok;
}
