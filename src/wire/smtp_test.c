/* Paths, parameters and content of SMTP; PROXY headers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/utf8.h"
#include "wire/proxy.h"
#include "wire/smtp_data.h"
#include "wire/smtp_param.h"
#include "wire/smtp_path.h"

/* --- paths --- */

static const struct {
    const char *in;
    enum smtp_path_kind kind;
    int rc;
    const char *address, *rest;
    bool utf8, routed;
} paths[] = {
    {"<>", SMTP_PATH_REVERSE, 0, "", "", false, false},
    {"<> SIZE=1", SMTP_PATH_REVERSE, 0, "", " SIZE=1", false, false},
    {"<>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a@b>", SMTP_PATH_FORWARD, 0, "a@b", "", false, false},
    {"<A.b+c@EXAMPLE.org>", SMTP_PATH_FORWARD, 0, "A.b+c@example.org", "", false, false},
    {"<postmaster>", SMTP_PATH_FORWARD, 0, "postmaster", "", false, false},
    {"<POSTmaster>", SMTP_PATH_FORWARD, 0, "postmaster", "", false, false},
    {"<\"postmaster\">", SMTP_PATH_FORWARD, 0, "postmaster", "", false, false},
    {"<postmaster>", SMTP_PATH_REVERSE, ERR_SYNTAX, NULL, NULL, false, false},
    {"<abuse>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"a@b", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a@b", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"< a@b>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a@b >", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<@x,@y.example:a@b>", SMTP_PATH_FORWARD, 0, "a@b", "", false, true},
    {"<@[192.0.2.1]:a@b>", SMTP_PATH_FORWARD, 0, "a@b", "", false, true},
    {"<@x:a@b>", SMTP_PATH_REVERSE, 0, "a@b", "", false, true},
    {"<@x,a@b>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<@x:>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<\"a@b\"@c>", SMTP_PATH_FORWARD, 0, "a@b@c", "", false, false},
    {"<\"a b\"@c>", SMTP_PATH_FORWARD, 0, "a b@c", "", false, false},
    {"<\"a\\\"\\\\\"@c>", SMTP_PATH_FORWARD, 0, "a\"\\@c", "", false, false},
    {"<\"\"@c>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<\"a\"b@c>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<\"a>@c", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<\"a\\", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<\"a\x01\"@c>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a..b@c>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<.a@c>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a.@c>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a..b.@docomo.ne.jp>", SMTP_PATH_REVERSE, 0, "a..b.@docomo.ne.jp", "", false, false},
    {"<a@b.>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a@.b>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a@-b>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a@b->", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a@b-.c>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a@b_c>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a@[192.0.2.1]>", SMTP_PATH_FORWARD, 0, "a@[192.0.2.1]", "", false, false},
    {"<a@[IPv6:2001:DB8:0::1]>", SMTP_PATH_FORWARD, 0, "a@[IPv6:2001:db8::1]", "", false, false},
    {"<a@[ipv6:::ffff:192.0.2.1]>", SMTP_PATH_FORWARD, 0, "a@[192.0.2.1]", "", false, false},
    {"<a@[2001:db8::1]>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a@[192.0.2.1>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a@[x-tag:thing]>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a@[[192.0.2.1]]>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<用户@例え.テスト>", SMTP_PATH_FORWARD, 0, "用户@例え.テスト", "", true, false},
    {"<a@例え。テスト>", SMTP_PATH_FORWARD, 0, "a@例え.テスト", "", true, false},
    {"<a@xn--R8JZ45G.xn--zckzah>", SMTP_PATH_FORWARD, 0, "a@例え.テスト", "", false, false},
    {"<a@ＥＸＡＭＰＬＥ.org>", SMTP_PATH_FORWARD, 0, "a@example.org", "", true, false},
    {"<a@xn--\x80>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<\xff@b>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a@b@c>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a@b:c>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a,b@c>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a b@c>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<a\\@b@c>", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<@", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
    {"<\"", SMTP_PATH_FORWARD, ERR_SYNTAX, NULL, NULL, false, false},
};

static void paths_are_canonical(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
        struct arena a;
        struct smtp_path p = {0};
        struct err err = {0};
        struct slice in = slice_str(paths[i].in);
        arena_init(&a, 1 << 16);
        int rc = smtp_path_parse(&in, paths[i].kind, &a, &p, &err);
        if (rc != paths[i].rc)
            fail_msg("%s: %d (%s)", paths[i].in, rc, err.text);
        if (rc == 0) {
            if (!slice_eq(p.address, slice_str(paths[i].address)) || !slice_eq(in, slice_str(paths[i].rest)))
                fail_msg("%s: %.*s, rest %.*s", paths[i].in, SLICE_ARG(p.address), SLICE_ARG(in));
            assert_int_equal(p.utf8, paths[i].utf8);
            assert_int_equal(p.routed, paths[i].routed);
        } else {
            assert_ptr_equal(in.p, paths[i].in);
            assert_true(err.text[0] != '\0');
        }
        arena_done(&a);
    }
}

static void printed_paths_read_back(void **state)
{
    (void)state;
    static const char *const addresses[] = {"a@b", "a..b@c", "a b@c", "a\"\\@c", "a@b@c", "用户@例え.テスト", "postmaster", "", "a@[192.0.2.1]", "(x)@y"};
    for (size_t i = 0; i < sizeof(addresses) / sizeof(*addresses); i++) {
        struct arena a;
        struct smtp_path p;
        struct buf b;
        arena_init(&a, 1 << 16);
        buf_init(&b, SMTP_PATH_TEXT_MAX);
        buf_put_char(&b, '<');
        smtp_path_print(slice_str(addresses[i]), &b);
        buf_put_char(&b, '>');
        struct slice in = buf_slice(&b);
        enum smtp_path_kind kind = strcmp(addresses[i], "postmaster") == 0 ? SMTP_PATH_FORWARD : SMTP_PATH_REVERSE;
        if (smtp_path_parse(&in, kind, &a, &p, NULL) != 0 || !slice_eq(p.address, slice_str(addresses[i])))
            fail_msg("%s: %.*s", addresses[i], (int)b.n, b.p);
        buf_done(&b);
        arena_done(&a);
    }
}

static void lengths_have_limits(void **state)
{
    (void)state;
    char text[1024];
    struct arena a;
    struct smtp_path p;
    arena_init(&a, 1 << 16);
    for (int n = SMTP_LOCAL_MAX; n <= SMTP_LOCAL_MAX + 1; n++) {
        int len = snprintf(text, sizeof(text), "<%0*d@b.example>", n, 7);
        struct slice in = slice_of(text, (size_t)len);
        assert_int_equal(smtp_path_parse(&in, SMTP_PATH_REVERSE, &a, &p, NULL), n == SMTP_LOCAL_MAX ? 0 : ERR_LIMIT);
        len = snprintf(text, sizeof(text), "<\"%0*d\"@b.example>", n, 7);
        in = slice_of(text, (size_t)len);
        assert_int_equal(smtp_path_parse(&in, SMTP_PATH_REVERSE, &a, &p, NULL), n == SMTP_LOCAL_MAX ? 0 : ERR_SYNTAX);
    }
    int len = snprintf(text, sizeof(text), "<a@%064d.example>", 7);
    struct slice in = slice_of(text, (size_t)len);
    assert_int_equal(smtp_path_parse(&in, SMTP_PATH_REVERSE, &a, &p, NULL), ERR_SYNTAX);
    len = snprintf(text, sizeof(text), "<a@%0260d>", 7);
    in = slice_of(text, (size_t)len);
    assert_int_equal(smtp_path_parse(&in, SMTP_PATH_REVERSE, &a, &p, NULL), ERR_LIMIT);
    arena_done(&a);
}

/* --- public collections of addresses --- */

static FILE *shared_open(const char *name)
{
    char path[4096];
    const char *shared = getenv("KK_SHARED");
    (void)snprintf(path, sizeof(path), "%s/data/addresses/%s", shared != NULL ? shared : KK_SOURCE_ROOT "/../shared", name);
    return fopen(path, "re");
}

/* XML entities and isemail's pictures of control characters (U+2400 + code). */
static size_t xml_text(const char *in, size_t n, char *out)
{
    static const struct {
        const char *entity;
        char c;
    } names[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    size_t o = 0;
    for (size_t i = 0; i < n;) {
        unsigned code;
        size_t k = 0;
        while (k < 5 && strncmp(in + i, names[k].entity, strlen(names[k].entity)) != 0)
            k++;
        if (k < 5) {
            out[o++] = names[k].c;
            i += strlen(names[k].entity);
        } else if (sscanf(in + i, "&#x%x;", &code) == 1) {
            struct buf b;
            buf_init(&b, 8);
            utf8_put_cp(&b, code >= 0x2400 && code < 0x2420 ? code - 0x2400 : code);
            memcpy(out + o, b.p, b.n);
            o += b.n;
            buf_done(&b);
            i += strcspn(in + i, ";") + 1;
        } else {
            out[o++] = in[i++];
        }
    }
    return o;
}

static bool element(const char *test, const char *name, char *out, size_t *ret_n)
{
    char open[64], close[64];
    (void)snprintf(open, sizeof(open), "<%s>", name);
    (void)snprintf(close, sizeof(close), "</%s>", name);
    const char *from = strstr(test, open), *to = strstr(test, close);
    if (from == NULL || to == NULL)
        return false;
    from += strlen(open);
    *ret_n = xml_text(from, (size_t)(to - from), out);
    out[*ret_n] = '\0';
    return true;
}

/* Where we differ from isemail on purpose; see smtp_path.h. */
static const struct {
    const char *diagnosis;
    int ours; /* 0: taken */
} isemail_differences[] = {
    {"ISEMAIL_RFC5322_LOCAL_TOOLONG", 0}, /* longer than 64 octets, up to SMTP_LOCAL_MAX */
    {"ISEMAIL_RFC5322_TOOLONG", 0},
    {"ISEMAIL_RFC5321_IPV6DEPRECATED", 0}, /* "::" for one group: the same address */
};

static int isemail_want(const char *category, const char *diagnosis, const char *address)
{
    for (size_t i = 0; i < sizeof(isemail_differences) / sizeof(*isemail_differences); i++)
        if (strcmp(diagnosis, isemail_differences[i].diagnosis) == 0)
            return isemail_differences[i].ours;
    if (strncmp(address, "\"\"@", 3) == 0)
        return ERR_SYNTAX; /* an empty local part could only be a catch-all's */
    bool good = strcmp(category, "ISEMAIL_VALID_CATEGORY") == 0 || strcmp(category, "ISEMAIL_DNSWARN") == 0 ||
                strcmp(category, "ISEMAIL_RFC5321") == 0;
    return good ? 0 : ERR_SYNTAX;
}

static unsigned isemail_one(const char *test)
{
    static char address[4096], category[4096], diagnosis[4096];
    size_t n, unused;
    struct arena a;
    struct smtp_path p;
    if (!element(test, "address", address, &n) || !element(test, "category", category, &unused) || !element(test, "diagnosis", diagnosis, &unused))
        return 0;
    arena_init(&a, 1 << 16);
    int rc = smtp_mailbox_parse(slice_of(address, n), SMTP_PATH_FORWARD, &a, &p, NULL);
    arena_done(&a);
    if ((rc == 0) == (isemail_want(category, diagnosis, address) == 0))
        return 0;
    print_error("isemail: %s %s %s: %d\n", address, category, diagnosis, rc);
    return 1;
}

static void isemail_agrees(void **state)
{
    (void)state;
    FILE *f = shared_open("isemail-tests.xml");
    if (f == NULL)
        skip();
    static char text[1 << 20];
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    (void)fclose(f);
    text[n] = '\0';
    unsigned count = 0, wrong = 0;
    for (char *t = strstr(text, "<test id="), *next; t != NULL; t = next) {
        next = strstr(t + 1, "<test id=");
        char *end = strstr(t, "</test>");
        if (end == NULL)
            break;
        *end = '\0';
        wrong += isemail_one(t);
        count++;
    }
    assert_true(count > 100);
    assert_int_equal(wrong, 0);
}

/* --- parameters --- */

static const struct {
    const char *in;
    int rc;
} mail_params[] = {
    {"", 0}, {" ", 0}, {"  SIZE=1  BODY=8BITMIME ", 0}, {" SIZE=18446744073709551615", 0}, {" SIZE=18446744073709551616", ERR_SYNTAX},
    {" size=007", 0}, {" SIZE=", ERR_SYNTAX}, {" SIZE==1", ERR_SYNTAX}, {" BODY=BINARYMIME", 0}, {" BODY", ERR_SYNTAX},
    {" SMTPUTF8", 0}, {" SMTPUTF8 SMTPUTF8", ERR_SYNTAX}, {" RET=full ENVID=a+3Db", 0}, {" ENVID=a=b", ERR_SYNTAX}, {" ENVID=+zz", ERR_SYNTAX},
    {" ENVID=+4", ERR_SYNTAX}, {" ENVID=+4A+", ERR_SYNTAX}, {" AUTH=<>", -EOPNOTSUPP}, {" X-1=2", -EOPNOTSUPP}, {" -X=2", ERR_SYNTAX}, {"SIZE=1", ERR_SYNTAX},
    {" SIZE=1\tBODY=7BIT", ERR_SYNTAX},
};

static void parameters_of_mail(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 20);
    for (size_t i = 0; i < sizeof(mail_params) / sizeof(*mail_params); i++) {
        struct smtp_mail_params p;
        int rc = smtp_mail_params_parse(slice_str(mail_params[i].in), &a, &p, NULL);
        if (rc != mail_params[i].rc)
            fail_msg("\"%s\": %d", mail_params[i].in, rc);
    }
    struct smtp_mail_params p;
    assert_int_equal(smtp_mail_params_parse(SLICE(" SIZE=5 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb"), &a, &p, NULL), 0);
    assert_int_equal(p.size, 5);
    assert_int_equal(p.body, SMTP_BODY_8BITMIME);
    assert_true(p.smtputf8);
    assert_int_equal(p.ret, SMTP_RET_HDRS);
    assert_true(slice_eq(p.envid, SLICE("a+b")));
    struct smtp_rcpt_params r;
    assert_int_equal(smtp_rcpt_params_parse(SLICE(" NOTIFY=SUCCESS,delay ORCPT=rfc822;a+40b"), &a, &r, NULL), 0);
    assert_int_equal(r.notify, SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_DELAY);
    assert_true(slice_eq(r.orcpt, SLICE("a@b")));
    assert_int_equal(smtp_rcpt_params_parse(SLICE(" ORCPT=rfc822;a+0Ab"), &a, &r, NULL), ERR_SYNTAX);
    assert_int_equal(smtp_rcpt_params_parse(SLICE(" ORCPT=rfc822;"), &a, &r, NULL), ERR_SYNTAX);
    assert_int_equal(smtp_rcpt_params_parse(SLICE(" ORCPT=rfc822;+FF"), &a, &r, NULL), ERR_SYNTAX);
    assert_int_equal(smtp_rcpt_params_parse(SLICE(" NOTIFY=NEVER,DELAY"), &a, &r, NULL), ERR_SYNTAX);
    assert_int_equal(smtp_rcpt_params_parse(SLICE(" NOTIFY=DELAY,"), &a, &r, NULL), ERR_SYNTAX);
    arena_done(&a);
}

/* --- content: against a plain decoder --- */

struct decoded {
    char out[512];
    size_t n, used;
    bool ended;
    unsigned flaws;
};

/* The rules as one would write them down, octet by octet. */
static void plain_decode(struct slice in, bool dots, struct decoded *d)
{
    *d = (struct decoded){0};
    size_t i = 0, from;
    while (i < in.n && !d->ended) {
        bool dot = dots && in.p[i] == '.' && (i == 0 || (i >= 2 && in.p[i - 1] == '\n' && in.p[i - 2] == '\r'));
        if (dot && i + 2 < in.n && in.p[i + 1] == '\r' && in.p[i + 2] == '\n') {
            d->ended = true;
            i += 3;
            break;
        }
        if (dot && i + 1 < in.n && in.p[i + 1] == '\r' && i + 2 == in.n) {
            i = in.n; /* withheld */
            break;
        }
        from = dot ? i + 1 : i;
        if (from < in.n) {
            char c = in.p[from];
            if (c == '\n' && (from == 0 || in.p[from - 1] != '\r'))
                d->flaws |= SMTP_DATA_BARE_LF;
            if (c != '\n' && from > 0 && in.p[from - 1] == '\r')
                d->flaws |= SMTP_DATA_BARE_CR;
            if (c == '\0')
                d->flaws |= SMTP_DATA_NUL;
            d->out[d->n++] = c;
        }
        i = from + 1;
    }
    d->used = i < in.n ? i : in.n;
}

static void decode(struct slice in, bool dots, size_t chunk, struct decoded *d)
{
    struct smtp_data s;
    smtp_data_init(&s, dots);
    *d = (struct decoded){0};
    for (size_t at = 0; at < in.n && !smtp_data_ended(&s);) {
        size_t n = in.n - at < chunk ? in.n - at : chunk;
        struct slice part = slice_of(in.p + at, n), run;
        while (smtp_data_next(&s, &part, &run)) {
            memcpy(d->out + d->n, run.p, run.n);
            d->n += run.n;
        }
        at += n - part.n;
    }
    d->ended = smtp_data_ended(&s);
    d->flaws = s.flaws;
    d->used = s.taken;
}

static bool decoded_agree(const struct decoded *a, const struct decoded *b)
{
    const unsigned plain = SMTP_DATA_BARE_CR | SMTP_DATA_BARE_LF | SMTP_DATA_NUL;
    if ((a->flaws & plain) != (b->flaws & plain) || a->ended != b->ended || a->used != b->used)
        return false;
    return (a->flaws & plain) != 0 || (a->n == b->n && memcmp(a->out, b->out, a->n) == 0);
}

/* Every string of length 9 over { CR, LF, ".", "a" }, and with filler in front so that it lies across blocks, in several chunk sizes. */
static void content_as_the_rules_say(void **state)
{
    (void)state;
    static const char letters[] = "\r\n.a";
    char text[256];
    static const size_t fillers[] = {0, 57, 61}, chunks[] = {1, 3, 256};
    for (unsigned v = 0; v < 1U << 18; v++) {
        size_t filler = fillers[v % 3];
        memset(text, 'x', filler);
        for (unsigned i = 0; i < 9; i++)
            text[filler + i] = letters[v >> (2 * i) & 3];
        struct slice in = slice_of(text, filler + 9);
        struct decoded want, got;
        bool dots = v % 7 != 0;
        plain_decode(in, dots, &want);
        decode(in, dots, chunks[v % 5 % 3], &got);
        if (!decoded_agree(&want, &got))
            fail_msg("%u: flaws %u %u used %zu %zu ended %d %d", v, want.flaws, got.flaws, want.used, got.used, want.ended, got.ended);
    }
}

static void smuggling_is_seen(void **state)
{
    (void)state;
    static const char *const ends[] = {"\r\n", "\n", "\r"};
    for (unsigned v = 0; v < 9; v++) {
        char text[64];
        struct decoded got;
        int n = snprintf(text, sizeof(text), "text%s.%sMAIL FROM:<x>\r\nx\r\n.\r\n", ends[v / 3], ends[v % 3]);
        for (size_t chunk = 1; chunk < 8; chunk++) {
            decode(slice_of(text, (size_t)n), true, chunk, &got);
            assert_int_equal((got.flaws & SMTP_DATA_SMUGGLE) != 0, v != 0);
            assert_true(got.ended);
            assert_int_equal(got.used == (size_t)n, v != 0);
        }
    }
}

static void lines_have_a_limit(void **state)
{
    (void)state;
    for (size_t extra = 0; extra < 2; extra++) {
        struct smtp_data s;
        static char line[SMTP_TEXT_LINE_MAX + 1];
        memset(line, 'a', sizeof(line));
        size_t n = SMTP_TEXT_LINE_MAX - 2 + extra;
        smtp_data_init(&s, true);
        for (int i = 0; i < 3; i++) {
            struct slice in = slice_of(line, n), end = SLICE("\r\n"), run;
            while (smtp_data_next(&s, &in, &run)) {}
            while (smtp_data_next(&s, &end, &run)) {}
        }
        assert_int_equal(s.flaws, extra != 0 ? SMTP_DATA_LONG_LINE : 0);
    }
}

/* --- PROXY --- */

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define ROW(text, rc, local, source) {text, sizeof(text) - 1, rc, local, source}

static const struct {
    const char *in;
    size_t n;
    int rc;
    bool local;
    const char *source;
} proxies[] = {
    ROW("PROXY TCP4 198.51.100.22 203.0.113.7 35646 25\r\n", 0, false, "198.51.100.22:35646"),
    ROW("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\nEHLO", 0, false, "[2001:db8::1]:1"),
    ROW("PROXY UNKNOWN\r\n", 0, true, ""),
    ROW("PROXY UNKNOWN a b c\r\n", 0, true, ""),
    ROW("PROXY TCP4 198.51.100.22 203.0.113.7 35646 25\n", ERR_SYNTAX, false, ""),
    ROW("PROXY TCP4 198.51.100.22 203.0.113.7 35646 65536\r\n", ERR_SYNTAX, false, ""),
    ROW("PROXY TCP4 198.51.100.22 203.0.113.7 035646 25\r\n", ERR_SYNTAX, false, ""),
    ROW("PROXY TCP4 198.51.100.22 203.0.113.7 35646 25 \r\n", ERR_SYNTAX, false, ""),
    ROW("PROXY TCP4 2001:db8::1 203.0.113.7 35646 25\r\n", ERR_SYNTAX, false, ""),
    ROW("PROXY TCP6 198.51.100.22 203.0.113.7 35646 25\r\n", ERR_SYNTAX, false, ""),
    ROW("PROXY TCP4 198.51.100.22\r\n", ERR_SYNTAX, false, ""),
    ROW("PROXY\r\n", ERR_SYNTAX, false, ""),
    ROW("PROXY UDP4 198.51.100.22 203.0.113.7 35646 25\r\n", ERR_SYNTAX, false, ""),
    ROW("PROXY TCP4 198.51.100.22 203.0.113.7 35646 25", -EAGAIN, false, ""),
    ROW("PROX", -EAGAIN, false, ""),
    ROW("", -EAGAIN, false, ""),
    ROW("EHLO x\r\n", ERR_SYNTAX, false, ""),
    ROW("PROXY TCP4 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", ERR_LIMIT, false,
        ""),
    ROW(V2 "\x21\x11\0\x0c\x0a\0\0\x01\x0a\0\0\x02\x12\x34\0\x19", 0, false, "10.0.0.1:4660"),
    ROW(V2 "\x21\x11\0\x0b\x0a\0\0\x01\x0a\0\0\x02\x12\x34\0", ERR_SYNTAX, false, ""),
    ROW(V2 "\x20\0\0\0", 0, true, ""),
    ROW(V2 "\x20\x11\0\x04" "abcd", 0, true, ""),
    ROW(V2 "\x21\0\0\x03" "abc", 0, true, ""),
    ROW(V2 "\x21\x12\0\x0c\x0a\0\0\x01\x0a\0\0\x02\x12\x34\0\x19", 0, true, ""),
    ROW(V2 "\x22\x11\0\0", ERR_SYNTAX, false, ""),
    ROW(V2 "\x11\x11\0\0", ERR_SYNTAX, false, ""),
    ROW(V2 "\x21\x11\xff\xff", ERR_LIMIT, false, ""),
    ROW(V2 "\x21\x11\0\x0c\x0a\0", -EAGAIN, false, ""),
    /* extensions: an unknown one; one that is too long; a checksum, right and wrong */
    ROW(V2 "\x21\x11\0\x10\x0a\0\0\x01\x0a\0\0\x02\x12\x34\0\x19\xe0\0\x01z", 0, false, "10.0.0.1:4660"),
    ROW(V2 "\x21\x11\0\x10\x0a\0\0\x01\x0a\0\0\x02\x12\x34\0\x19\xe0\0\x02z", ERR_SYNTAX, false, ""),
    ROW(V2 "\x21\x11\0\x13\x0a\0\0\x01\x0a\0\0\x02\x12\x34\0\x19\x03\0\x04\0\0\0\0", ERR_SYNTAX, false, ""),
};

static void proxy_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(proxies) / sizeof(*proxies); i++) {
        struct proxy_header h;
        size_t used = 0;
        char text[NETADDR_TEXT_SIZE] = "";
        int rc = proxy_parse(slice_of(proxies[i].in, proxies[i].n), &h, &used);
        if (rc != proxies[i].rc)
            fail_msg("%zu: %d", i, rc);
        if (rc == 0) {
            assert_int_equal(h.local, proxies[i].local);
            assert_true(used > 0 && used <= proxies[i].n);
            if (!h.local)
                netaddr_print(&h.source, text);
            assert_string_equal(text, proxies[i].source);
            /* Every beginning of it asks for more. */
            for (size_t n = 0; n < used; n++)
                assert_int_equal(proxy_parse(slice_of(proxies[i].in, n), &h, &used), -EAGAIN);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_canonical), cmocka_unit_test(printed_paths_read_back), cmocka_unit_test(lengths_have_limits),
        cmocka_unit_test(isemail_agrees), cmocka_unit_test(parameters_of_mail), cmocka_unit_test(content_as_the_rules_say),
        cmocka_unit_test(smuggling_is_seen), cmocka_unit_test(lines_have_a_limit), cmocka_unit_test(proxy_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
