/* Plays the transcripts of tests/script/smtp against a whole session over a fake stream, with a fake world and a fake clock.
 *
 * A transcript is lines:
 *   C: text     what the client sends, with CR LF; escapes \r \n \0 \t \\ \xHH. Lines in a row are sent at once (pipelined).
 *   C- text     the same without CR LF
 *   C* n text   the text n times
 *   S: text     what must come back, line by line, before the client sends more; "*" stands for anything
 *   E: text     the next event of this name must match: "name field=glob ..."
 *   K: text     the last message kept has this in its recipients' prefix, prefix or body (escapes as in C:)
 *   KEPT n      so many messages are kept
 *   DROPPED n   so many grants have been given back without use
 *   TICK ms     time passes     TIMEOUT   the client is silent until the deadline     EOF   it is gone (also at the end)
 *   WHOLE       only with input that comes whole
 *   CONF name=value   before all else: a setting; PEER address; LMTP; TLS; LIMIT name; NO-MESSAGES; TLS-FAILS
 *   # comment */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <fnmatch.h>

#include "proto/smtp/fake_world.h"

#define FAKES 4

struct play {
    struct world world;
    char *text, *at; /* the rest of the transcript */
    const char *name;
    size_t line;
    size_t chunk;
    bool whole;
    struct stream_fake fakes[FAKES];
    size_t n_fakes;
    struct buf output; /* of all streams */
    size_t output_read;
    struct buf input;
    char problem[512];
};

static void problem(struct play *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void problem(struct play *p, const char *fmt, ...)
{
    va_list ap;
    if (p->problem[0] != '\0')
        return;
    int n = snprintf(p->problem, sizeof(p->problem), "%s:%zu (chunk %zu): ", p->name, p->line, p->chunk);
    va_start(ap, fmt);
    (void)vsnprintf(p->problem + n, sizeof(p->problem) - (size_t)n, fmt, ap);
    va_end(ap);
}

static void unescape(struct buf *b, const char *s)
{
    for (; *s != '\0'; s++) {
        unsigned v;
        if (*s != '\\') {
            buf_put_char(b, *s);
            continue;
        }
        s++;
        if (*s == 'x' && sscanf(s + 1, "%2x", &v) == 1) {
            buf_put_char(b, (char)v);
            s += 2;
            continue;
        }
        buf_put_char(b, *s == 'r' ? '\r' : *s == 'n' ? '\n' : *s == 't' ? '\t' : *s == '0' ? '\0' : *s);
    }
}

static bool starts(const char *s, const char *word)
{
    return strncmp(s, word, strlen(word)) == 0;
}

static void gather_output(struct play *p)
{
    struct stream_fake *f = &p->fakes[p->n_fakes - 1];
    buf_put_slice(&p->output, buf_slice(&f->output));
    buf_reset(&f->output);
}

static void expect_line(struct play *p, const char *want)
{
    char line[2048];
    struct slice rest = slice_from(buf_slice(&p->output), p->output_read);
    size_t lf = slice_find(rest, '\n');
    if (lf == rest.n) {
        problem(p, "want \"%s\", but nothing has come", want);
        return;
    }
    (void)snprintf(line, sizeof(line), "%.*s", (int)(lf > 0 ? lf - 1 : 0), rest.p);
    p->output_read += lf + 1;
    if (lf == 0 || rest.p[lf - 1] != '\r' || fnmatch(want, line, 0) != 0)
        problem(p, "want \"%s\", got \"%s\"", want, line);
}

static void expect_event(struct play *p, char *want)
{
    char *save = NULL, *name = strtok_r(want, " ", &save), *field, tag[96], pattern[600];
    (void)snprintf(tag, sizeof(tag), "\"event\":\"%s\"", name);
    struct world *w = &p->world;
    while (w->event_seen < w->n_events && strstr(w->events[w->event_seen], tag) == NULL)
        w->event_seen++;
    if (w->event_seen == w->n_events) {
        problem(p, "no event %s", name);
        return;
    }
    const char *event = w->events[w->event_seen++];
    while ((field = strtok_r(NULL, " ", &save)) != NULL) {
        struct slice value = slice_str(field), key = slice_cut(&value, '=');
        (void)snprintf(pattern, sizeof(pattern), "*\"%.*s\":*%.*s*", SLICE_ARG(key), SLICE_ARG(value));
        if (fnmatch(pattern, event, FNM_NOESCAPE) != 0)
            problem(p, "event %s has no %s", event, field);
    }
}

static void expect_kept(struct play *p, const char *want)
{
    struct buf w, all;
    buf_init(&w, 65536);
    buf_init(&all, 256 << 20);
    unescape(&w, want);
    if (p->world.n_kept > 0 && p->world.n_kept <= WORLD_KEPT) {
        const struct kept *k = &p->world.kept[p->world.n_kept - 1];
        for (size_t i = 0; i < k->n_rcpts && i < 8; i++)
            buf_put_slice(&all, k->rcpt_prefix[i]);
        buf_put_slice(&all, k->prefix);
        buf_put_slice(&all, k->body);
    }
    if (memmem(all.p != NULL ? all.p : "", all.n, w.p, w.n) == NULL)
        problem(p, "the message kept has no \"%s\": %.*s", want, (int)(all.n < 300 ? all.n : 300), all.p != NULL ? all.p : "");
    buf_done(&w);
    buf_done(&all);
}

static void expect_number(struct play *p, const char *what, uint64_t have, const char *want)
{
    if (have != strtoull(want, NULL, 10))
        problem(p, "%s is %llu, not %s", what, (unsigned long long)have, want);
}

/* One line that is not input. false: it is. */
static bool play_line(struct play *p, char *line, int *ret_end)
{
    if (starts(line, "S: "))
        expect_line(p, line + 3);
    else if (starts(line, "E: "))
        expect_event(p, line + 3);
    else if (starts(line, "K: "))
        expect_kept(p, line + 3);
    else if (starts(line, "KEPT "))
        expect_number(p, "kept", p->world.n_kept, line + 5);
    else if (starts(line, "DROPPED "))
        expect_number(p, "dropped", p->world.dropped, line + 8);
    else if (starts(line, "TICK "))
        world_tick(&p->world, strtoll(line + 5, NULL, 10));
    else if (starts(line, "TIMEOUT"))
        *ret_end = -ETIMEDOUT;
    else if (starts(line, "EOF"))
        *ret_end = ERR_CLOSED;
    else if (line[0] != '#' && line[0] != '\0')
        return false;
    return true;
}

static void put_input(struct play *p, const char *line)
{
    if (starts(line, "C* ")) {
        char *text;
        for (unsigned long n = strtoul(line + 3, &text, 10); n > 0; n--)
            unescape(&p->input, text + 1);
        return;
    }
    if (!starts(line, "C: ") && !starts(line, "C- ") && strcmp(line, "C:") != 0) {
        problem(p, "not understood: %s", line);
        return;
    }
    unescape(&p->input, strlen(line) > 3 ? line + 3 : "");
    if (line[1] == ':')
        buf_put_str(&p->input, "\r\n");
}

/* Plays on until the client has said something: what comes back must have come by then, and nothing else. */
static int play_on(struct play *p)
{
    int end = 0;
    gather_output(p);
    buf_reset(&p->input);
    while (*p->at != '\0') {
        char *line = p->at, *eol = strchrnul(line, '\n');
        bool more = *eol != '\0';
        bool is_input = line[0] == 'C' && (line[1] == ':' || line[1] == '-' || line[1] == '*');
        if (p->input.n > 0 && !is_input && line[0] != '#')
            break;
        *eol = '\0';
        p->at = eol + (more ? 1 : 0);
        p->line++;
        if (is_input) {
            struct slice rest = slice_from(buf_slice(&p->output), p->output_read);
            if (rest.n > 0)
                problem(p, "too much came back: \"%.*s\"", SLICE_ARG(slice_head(rest, 200)));
            put_input(p, line);
        } else if (!play_line(p, line, &end)) {
            put_input(p, line);
        }
        if (end != 0)
            return end;
    }
    return p->input.n > 0 ? 0 : ERR_CLOSED;
}

static int play_next(struct stream_fake *f)
{
    struct play *p = f->arg;
    int rc = play_on(p);
    if (rc == 0)
        f->input = buf_slice(&p->input);
    return rc;
}

static int play_stream(struct play *p, struct stream **ret)
{
    struct stream_fake *f = &p->fakes[p->n_fakes++];
    *f = (struct stream_fake){.input = SLICE_EMPTY, .chunk = p->chunk, .fail_read_at = SIZE_MAX, .fail_write_at = SIZE_MAX, .next = play_next,
                              .arg = p};
    return stream_new_fake(f, ret);
}

static int play_starttls(struct world *w, struct stream *raw, struct stream **ret)
{
    struct play *p = w->arg;
    stream_free(raw);
    gather_output(p);
    if (p->n_fakes == FAKES)
        return -EMFILE;
    return play_stream(p, ret);
}

/* --- settings of a transcript --- */

static void set_number(struct play *p, struct conf *c, const char *name, const char *value)
{
#define SET_BOOL(field)
#define SET_INT(field) c->field = strtoll(value, NULL, 10);
#define SET_SIZE(field) c->field = strtoll(value, NULL, 10);
#define SET_TIME(field) c->field = strtoll(value, NULL, 10);
#define SET_STR(field) c->field = value;
#define SET_LIST(field)                                         \
    static const char *items_##field[1];                        \
    items_##field[0] = value;                                   \
    c->field = (struct conf_list){1, items_##field};
#define SET_(kind, section, option, ...)              \
    if (strcmp(name, #section "_" #option) == 0) {    \
        SET_##kind(section##_##option) return;        \
    }
    CONF_OPTIONS(SET_)
    problem(p, "no option %s", name);
}

static bool play_setting(struct play *p, struct conf *c, struct smtp_session_params *params, char *line)
{
    if (starts(line, "CONF ")) {
        char *value = strchrnul(line, '=');
        if (*value != '\0')
            *value++ = '\0';
        set_number(p, c, line + 5, value);
    } else if (starts(line, "PEER "))
        (void)netaddr_parse_ip(slice_str(line + 5), &params->peer);
    else if (starts(line, "LIMIT "))
        p->world.enter_limit = line + 6;
    else if (strcmp(line, "LMTP") == 0)
        params->lmtp = true;
    else if (strcmp(line, "TLS") == 0)
        params->tls = true;
    else if (strcmp(line, "WHOLE") == 0)
        p->whole = true;
    else if (strcmp(line, "NO-MESSAGES") == 0)
        p->world.no_messages = true;
    else if (strcmp(line, "TLS-FAILS") == 0)
        p->world.tls_fails = true;
    else
        return line[0] == '#' || line[0] == '\0';
    return true;
}

static void play_settings(struct play *p, struct conf *c, struct smtp_session_params *params)
{
    while (*p->at != '\0') {
        static char copy[512];
        char *eol = strchrnul(p->at, '\n');
        (void)snprintf(copy, sizeof(copy), "%.*s", (int)(eol - p->at), p->at);
        char *kept = arena_strdup(&p->world.arena, slice_str(copy));
        if (!play_setting(p, c, params, kept))
            return;
        p->line++;
        p->at = *eol != '\0' ? eol + 1 : eol;
    }
}

/* --- one transcript --- */

static void play_end(struct play *p)
{
    int rc = play_on(p);
    if (rc == 0)
        problem(p, "the session has ended, but the client wants to say more");
    while (rc != ERR_CLOSED || *p->at != '\0')
        rc = play_on(p);
    struct slice rest = slice_from(buf_slice(&p->output), p->output_read);
    if (rest.n > 0)
        problem(p, "too much came back: \"%.*s\"", SLICE_ARG(slice_head(rest, 200)));
    if (p->world.memory != 0)
        problem(p, "the budget was not given back");
    if (p->world.entered != 0)
        problem(p, "the client's entry was not given back");
}

static void play_run(struct play *p, const char *path, size_t chunk)
{
    struct buf text;
    struct conf conf = world_conf();
    struct smtp_settings *settings;
    struct smtp_session *session;
    struct stream *stream;
    struct err err;
    static char part[4096];
    size_t n;
    *p = (struct play){.name = strrchr(path, '/') + 1, .chunk = chunk};
    world_init(&p->world);
    p->world.starttls = play_starttls;
    p->world.arg = p;
    buf_init(&p->output, 16 << 20);
    buf_init(&p->input, 256 << 20);
    buf_init(&text, 1 << 20);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    while ((n = fread(part, 1, sizeof(part), f)) > 0)
        buf_put(&text, part, n);
    (void)fclose(f);
    buf_put_char(&text, '\0');
    p->at = text.p;
    struct smtp_session_params params = {.listener = "smtp test", .backend = &world_backend, .arg = &p->world, .settings = &settings};
    assert_true(netaddr_parse_ip(SLICE("192.0.2.7"), &params.peer));
    assert_true(netaddr_parse_ip(SLICE("192.0.2.25"), &params.local));
    play_settings(p, &conf, &params);
    if (smtp_settings_new(&conf, &settings, &err) != 0)
        fail_msg("%s: %s", path, err.text);
    assert_int_equal(play_stream(p, &stream), 0);
    assert_int_equal(smtp_session_new(&params, stream, &session), 0);
    smtp_session_run(session);
    smtp_session_free(session);
    play_end(p);
    smtp_settings_unref(settings);
    for (size_t i = 0; i < p->n_fakes; i++)
        buf_done(&p->fakes[i].output);
    buf_done(&p->output);
    buf_done(&p->input);
    buf_done(&text);
    arena_done(&p->world.arena);
    clock_fake_set(-1, 0);
}

static int is_transcript(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return n > 4 && strcmp(e->d_name + n - 4, ".txt") == 0;
}

/* Every transcript, with input that comes whole and in pieces of 1, 2, 3 and 7 octets. */
static void transcripts(void **state)
{
    (void)state;
    static const size_t chunks[] = {0, 1, 2, 3, 7};
    static struct play p;
    const char *only = getenv("KK_SCRIPT");
    struct dirent **list;
    int n = scandir(KK_SOURCE_ROOT "/tests/script/smtp", &list, is_transcript, alphasort), failed = 0;
    assert_true(n > 0);
    for (int i = 0; i < n; i++) {
        static char path[4096];
        (void)snprintf(path, sizeof(path), "%s/tests/script/smtp/%s", KK_SOURCE_ROOT, list[i]->d_name);
        for (size_t c = 0; c < sizeof(chunks) / sizeof(*chunks); c++) {
            if (only != NULL && strstr(path, only) == NULL)
                continue;
            play_run(&p, path, chunks[c]);
            if (p.whole && chunks[c] != 0)
                continue;
            if (p.problem[0] != '\0') {
                print_error("%s\n", p.problem);
                failed++;
            }
        }
        free(list[i]);
    }
    free(list);
    assert_int_equal(failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(transcripts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
