/* The structure of a message: see mime.h. The parser goes line by line with a stack of the parts that are open; a header block
 * is read as a whole when its end is found (mime_header.c). */
#include "mail/mime.h"

#include "mail/header.h"
#include "mail/mime_priv.h"

/* A part that is open: a boundary or the end will close it. */
struct frame {
    uint32_t part;
    struct slice boundary; /* empty: not a multipart, or its closing line has been seen */
    size_t line_at_body;   /* line ends before its body */
};

enum mode {
    IN_HEADER,
    IN_BODY, /* of a leaf; also before the first and behind the last boundary of a multipart: nothing but boundaries matter */
};

struct parser {
    struct mime_builder b;
    struct frame frames[MIME_DEPTH_MAX + 1];
    size_t n_frames;
    size_t n_boundaries; /* frames with one */
    size_t at;           /* start of the next line */
    size_t lines;        /* line ends before it */
    enum mode mode;
    unsigned own_tries; /* lines of this header block that were looked at as its own boundary */
};

#define OWN_TRIES_MAX 4

static struct mime_part *top_part(struct parser *p)
{
    return &p->b.m->parts[p->frames[p->n_frames - 1].part];
}

/* Opens a part whose header block begins at p->at. */
static int open_part(struct parser *p, uint32_t parent, bool digest)
{
    uint32_t index;
    int rc = mime_part_new(&p->b, &index);
    if (rc != 0)
        return rc;
    struct mime_part *part = &p->b.m->parts[index];
    part->parent = parent;
    part->depth = (uint16_t)p->n_frames;
    part->header_at = p->at;
    part->body_at = p->at;
    part->type = digest ? SLICE("message") : SLICE("text");
    part->subtype = digest ? SLICE("rfc822") : SLICE("plain");
    part->number = 1;
    if (parent != MIME_NONE)
        part->number = ++p->b.children[p->n_frames - 1];
    p->b.children[p->n_frames] = 0;
    p->frames[p->n_frames++] = (struct frame){index, SLICE_EMPTY, p->lines};
    p->mode = IN_HEADER;
    p->own_tries = 0;
    return 0;
}

/* The boundary of a multipart; false: it has none that can be used. */
static bool boundary_get(struct parser *p, const struct mail_params *params, struct slice *ret)
{
    struct slice raw;
    if (!mail_param_raw(params, SLICE("boundary"), &raw)) {
        struct buf joined; /* RFC 2231 continuations */
        buf_init(&joined, MIME_BOUNDARY_MAX);
        bool found = mail_param_get(params, SLICE("boundary"), &joined) && buf_ok(&joined);
        raw = found ? arena_copy(p->b.arena, buf_slice(&joined)) : SLICE_EMPTY;
        buf_done(&joined);
    }
    while (raw.n > 0 && (raw.p[raw.n - 1] == ' ' || raw.p[raw.n - 1] == '\t'))
        raw.n--;
    *ret = raw;
    return raw.n > 0 && raw.n <= MIME_BOUNDARY_MAX;
}

/* The header block of the top part ends at `end`, its body begins at p->at: what is in it? */
static int begin_body(struct parser *p, size_t end)
{
    struct frame *f = &p->frames[p->n_frames - 1];
    struct mime_part *part = top_part(p);
    struct slice boundary;
    int rc = mime_header_read(&p->b, f->part, slice_of(p->b.m->source.p + part->header_at, end - part->header_at));
    if (rc != 0)
        return rc;
    part = top_part(p); /* reading may have moved nothing, but be sure of it */
    part->body_at = p->at;
    f->line_at_body = p->lines;
    p->mode = IN_BODY;
    bool multipart = mime_part_is(part, "multipart", NULL) && boundary_get(p, &part->params, &boundary);
    bool message = (mime_part_is(part, "message", "rfc822") || mime_part_is(part, "message", "global")) &&
                   part->encoding != MAIL_ENC_BASE64 && part->encoding != MAIL_ENC_QP && part->encoding != MAIL_ENC_UUENCODE;
    if (!multipart && !message)
        return 0;
    if (p->n_frames > MIME_DEPTH_MAX) {
        p->b.m->limits |= MIME_LIMIT_DEPTH;
        return 0;
    }
    if (multipart) {
        part->kind = MIME_MULTIPART;
        f->boundary = boundary;
        p->n_boundaries++;
        return 0;
    }
    if (p->b.m->n_parts >= MIME_PARTS_MAX) {
        p->b.m->limits |= MIME_LIMIT_PARTS;
        return 0;
    }
    part->kind = MIME_MESSAGE;
    return open_part(p, f->part, false);
}

/* Closes all frames above the first `keep`: their bodies end at `end`, with `lines` line ends before it. */
static void close_frames(struct parser *p, size_t keep, size_t end, size_t lines)
{
    while (p->n_frames > keep) {
        struct frame *f = &p->frames[--p->n_frames];
        struct mime_part *part = &p->b.m->parts[f->part];
        part->body_size = end > part->body_at ? end - part->body_at : 0;
        part->lines = lines > f->line_at_body && part->body_size != 0 ? lines - f->line_at_body : 0;
        p->n_boundaries -= f->boundary.n != 0;
    }
}

/* RFC 2046 5.1.1: "--" boundary ["--"] and transport padding. */
static bool is_boundary(struct slice line, struct slice boundary, bool *ret_last)
{
    line = slice_from(line, 2);
    if (line.n < boundary.n || memcmp(line.p, boundary.p, boundary.n) != 0)
        return false;
    struct slice rest = slice_from(line, boundary.n);
    *ret_last = rest.n >= 2 && rest.p[0] == '-' && rest.p[1] == '-';
    return slice_trim(slice_from(rest, *ret_last ? 2 : 0)).n == 0;
}

/* Returns the frame's number plus one; 0: no boundary line. */
static size_t boundary_find(const struct parser *p, struct slice line, bool *ret_last)
{
    for (size_t i = p->n_frames; i > 0; i--)
        if (p->frames[i - 1].boundary.n != 0 && is_boundary(line, p->frames[i - 1].boundary, ret_last))
            return i;
    return 0;
}

/* Is the line at `start`, inside a header block, the boundary that the same header block declares? Then the empty line was
 * forgotten (or is one of blanks), and everything behind it would be hidden in a header. */
static bool is_own_boundary(struct parser *p, struct slice line, size_t start)
{
    struct slice block = slice_of(p->b.m->source.p + top_part(p)->header_at, start - top_part(p)->header_at), boundary;
    struct mail_field field;
    struct mail_type type;
    bool last;
    if (p->own_tries++ >= OWN_TRIES_MAX)
        return false;
    block = slice_head(block, MAIL_HEADER_MAX);
    while (mail_header_next(&block, &field))
        if (slice_ieq(field.name, SLICE("Content-Type")))
            return mail_type_parse(p->b.arena, field.value, &type) && slice_ieq(type.type, SLICE("multipart")) &&
                   boundary_get(p, &type.params, &boundary) && is_boundary(line, boundary, &last);
    return false;
}

/* A boundary line of frames[i] begins at `start`. */
static int take_boundary(struct parser *p, size_t i, bool last, size_t start, size_t lines)
{
    struct frame *f = &p->frames[i];
    struct slice source = p->b.m->source;
    bool crlf = start >= 2 && source.p[start - 2] == '\r';
    if (!last && p->mode == IN_HEADER && p->n_frames == i + 2 && top_part(p)->header_at == start) {
        /* Two boundary lines in a row: the first one has no line end left for the second, so nothing is between them. */
        p->b.children[i]--;
        p->b.m->n_parts--;
        p->n_frames--;
        p->mode = IN_BODY;
    }
    /* A header block without an empty line, and so a part without a body, ends here too; a message inside one as well. */
    size_t at = p->at, lines_now = p->lines;
    p->at = start;
    p->lines = lines;
    while (p->mode == IN_HEADER) {
        int rc = begin_body(p, start);
        if (rc != 0)
            return rc;
    }
    p->at = at;
    p->lines = lines_now;
    /* The line end before the boundary belongs to it, if there is one that is not the header's. */
    close_frames(p, i + 1, start > 0 ? start - (crlf ? 2 : 1) : 0, lines > 0 ? lines - 1 : 0);
    p->mode = IN_BODY;
    if (last) {
        f->boundary = SLICE_EMPTY;
        p->n_boundaries--;
        return 0;
    }
    if (p->b.m->n_parts >= MIME_PARTS_MAX) {
        p->b.m->limits |= MIME_LIMIT_PARTS;
        return 0;
    }
    return open_part(p, f->part, mime_part_is(&p->b.m->parts[f->part], "multipart", "digest"));
}

static int take_line(struct parser *p)
{
    struct slice source = p->b.m->source;
    size_t start = p->at, before = p->lines;
    const char *lf = memchr(source.p + start, '\n', source.n - start);
    struct slice line = slice_of(source.p + start, (lf != NULL ? (size_t)(lf - source.p) : source.n) - start);
    if (line.n > 0 && line.p[line.n - 1] == '\r' && lf != NULL)
        line.n--;
    p->at = lf != NULL ? (size_t)(lf - source.p) + 1 : source.n;
    p->lines += lf != NULL;
    bool dashes = line.n > 2 && line.p[0] == '-' && line.p[1] == '-', last;
    size_t i = dashes && p->n_boundaries != 0 ? boundary_find(p, line, &last) : 0;
    if (i != 0)
        return take_boundary(p, i - 1, last, start, before);
    if (dashes && p->mode == IN_HEADER && is_own_boundary(p, line, start)) {
        p->at = start; /* read again, as what it is */
        p->lines = before;
        return begin_body(p, start);
    }
    return p->mode == IN_HEADER && line.n == 0 ? begin_body(p, start) : 0;
}

/* Nothing can end the body of a leaf but the end: only its lines are counted. */
static void take_rest(struct parser *p)
{
    struct slice source = p->b.m->source;
    const char *lf = source.p + p->at, *end = source.p + source.n;
    for (; lf < end && (lf = memchr(lf, '\n', (size_t)(end - lf))) != NULL; lf++)
        p->lines++;
    p->at = source.n;
}

static int take_all(struct parser *p)
{
    int rc = open_part(p, MIME_NONE, false);
    while (rc == 0 && p->at < p->b.m->source.n) {
        if (p->mode == IN_BODY && p->n_boundaries == 0)
            take_rest(p);
        else
            rc = take_line(p);
    }
    /* No empty line: everything was header. An empty message inside opens one more header, which is at its end at once. */
    while (rc == 0 && p->mode == IN_HEADER)
        rc = begin_body(p, p->b.m->source.n);
    if (rc == 0)
        close_frames(p, 0, p->b.m->source.n, p->lines);
    return rc;
}

static unsigned content_flags(struct slice s)
{
    uint64_t high = 0, word;
    size_t i = 0;
    for (; i + sizeof(word) <= s.n; i += sizeof(word)) {
        memcpy(&word, s.p + i, sizeof(word));
        high |= word;
    }
    for (; i < s.n; i++)
        high |= (unsigned char)s.p[i];
    unsigned flags = (high & 0x8080808080808080) != 0 ? MIME_HAS_8BIT : 0;
    return flags | (s.n != 0 && memchr(s.p, '\0', s.n) != NULL ? MIME_HAS_NUL : 0);
}

static bool is_attachment(const struct mime_part *part)
{
    struct slice name;
    if (part->kind != MIME_LEAF || slice_ieq(part->disposition, SLICE("inline")))
        return false;
    if (slice_ieq(part->disposition, SLICE("attachment")))
        return true;
    return !mime_part_is(part, "text", NULL) && mail_param_raw(&part->params, SLICE("name"), &name);
}

int mime_parse(struct arena *a, struct slice message, struct mime_message *ret)
{
    struct parser p = {.b = {.arena = a, .m = ret}};
    *ret = (struct mime_message){.source = message.n != 0 ? message : SLICE_EMPTY};
    int rc = take_all(&p);
    if (rc != 0)
        return rc;
    ret->flags = content_flags(ret->source);
    for (size_t i = 0; i < ret->n_parts; i++)
        if (is_attachment(&ret->parts[i]))
            ret->flags |= MIME_HAS_ATTACHMENT;
    return 0;
}

bool mime_part_is(const struct mime_part *p, const char *type, const char *subtype)
{
    return slice_ieq(p->type, slice_str(type)) && (subtype == NULL || slice_ieq(p->subtype, slice_str(subtype)));
}

struct slice mime_part_body(const struct mime_message *m, const struct mime_part *p)
{
    return slice_head(slice_from(m->source, p->body_at), p->body_size);
}

bool mime_part_filename(const struct mime_part *p, struct buf *out)
{
    return mail_param_get(&p->disposition_params, SLICE("filename"), out) || mail_param_get(&p->params, SLICE("name"), out);
}

struct slice mime_part_charset(const struct mime_part *p)
{
    struct slice charset = SLICE_EMPTY;
    (void)mail_param_raw(&p->params, SLICE("charset"), &charset);
    return slice_trim(charset);
}
