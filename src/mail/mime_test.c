#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ipc/messages.h"
#include "mail/charset.h"
#include "mail/header.h"
#include "mail/meta.h"

#define MIXED(b) "Content-Type: multipart/mixed; boundary=" b "\r\n\r\n"

/* The tree in words: a leaf is "type/subtype{body}", a multipart "subtype[...]", a message "message(...)". */
static void print_part(const struct mime_message *m, size_t i, struct buf *out)
{
    const struct mime_part *p = &m->parts[i];
    struct slice body = mime_part_body(m, p);
    if (p->kind == MIME_LEAF) {
        buf_printf(out, "%.*s/%.*s{%.*s}%zu ", SLICE_ARG(p->type), SLICE_ARG(p->subtype), SLICE_ARG(body), p->lines);
        return;
    }
    buf_printf(out, "%.*s%c", SLICE_ARG(p->subtype), p->kind == MIME_MULTIPART ? '[' : '(');
    for (size_t k = i + 1, n = 0; k < m->n_parts; k++) {
        if (m->parts[k].parent != i)
            continue;
        assert_int_equal(m->parts[k].number, ++n);
        assert_int_equal(m->parts[k].depth, p->depth + 1);
        print_part(m, k, out);
    }
    buf_put_char(out, p->kind == MIME_MULTIPART ? ']' : ')');
}

static void test_structure(void **state)
{
    static const struct {
        const char *in, *want;
    } rows[] = {
        {"", "text/plain{}0 "},
        {"\r\n", "text/plain{}0 "},
        {"A: b\r\n", "text/plain{}0 "},
        {"A: b\r\n\r\nbody\r\nmore", "text/plain{body\r\nmore}1 "},
        {"Content-Type: text/html\n\nbody\n", "text/html{body\n}1 "},
        {"Content-Type: nonsense\r\n\r\nx", "text/plain{x}0 "},
        {MIXED("b") "pre\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: a/b\r\n\r\ntwo\r\n\r\n--b--\r\nepi\r\n--b\r\n", "mixed[text/plain{one}0 a/b{two\r\n}1 ]"},
        {MIXED("b") "--b\r\n\r\n--b\r\n\r\n\r\n--b--", "mixed[text/plain{}0 text/plain{}0 ]"},
        {MIXED("b") "--b\r\n--b\r\nContent-Type: a/b\r\n--b--\r\n", "mixed[a/b{}0 ]"},
        {MIXED("b") "--b\r\n--b\r\n\r\nx\r\n--b\r\n--b--\r\n", "mixed[text/plain{x}0 text/plain{}0 ]"},
        /* the empty line before the first boundary forgotten, or of blanks */
        {"Content-Type: multipart/mixed; boundary=b\r\n--b\r\n\r\nx\r\n--b--", "mixed[text/plain{x}0 ]"},
        {"Content-Type: multipart/mixed; boundary=b\r\n \r\n--b\r\n\r\nx\r\n--b--", "mixed[text/plain{x}0 ]"},
        {"Content-Type: multipart/mixed; boundary=b\r\n--c\r\n\r\nx\r\n--b--", "mixed[]"},
        {MIXED("b") "--b  \t\r\n\r\nx\r\n--b--  \r\n", "mixed[text/plain{x}0 ]"},
        {MIXED("b") "--bb\r\n\r\nx\r\n--b--", "mixed[]"},
        {MIXED("b") "--b\r\n\r\nx\r\n --b\r\n--b.\r\n", "mixed[text/plain{x\r\n --b\r\n--b.\r\n}3 ]"},
        {MIXED("b") "--b\r\n\r\nnever closed", "mixed[text/plain{never closed}0 ]"},
        {MIXED("b") "--b\n\nlf\n--b--\n", "mixed[text/plain{lf}0 ]"},
        {"Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\nx\r\n--b--", "multipart/mixed{--b\r\n\r\nx\r\n--b--}3 "},
        {"Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n\r\nx", "multipart/mixed{--\r\n\r\nx}2 "},
        {"Content-Type: multipart/mixed; boundary*0=b; boundary*1=c\r\n\r\n--bc\r\n\r\nx\r\n--bc--", "mixed[text/plain{x}0 ]"},
        {"Content-Type: multipart/mixed; boundary=\"b \"\r\n\r\n--b\r\n\r\nx\r\n--b--", "mixed[text/plain{x}0 ]"},
        {"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: in\r\n\r\nx\r\n--b--", "digest[rfc822(text/plain{x}0 )]"},
        {MIXED("b") "--b\r\n" MIXED("c") "--c\r\n\r\nx\r\n--c--\r\n--b\r\n\r\ny\r\n--b--", "mixed[mixed[text/plain{x}0 ]text/plain{y}0 ]"},
        /* an outer boundary ends everything inside */
        {MIXED("b") "--b\r\n" MIXED("c") "--c\r\n\r\nx\r\n--b\r\n\r\ny\r\n--c\r\n--b--", "mixed[mixed[text/plain{x}0 ]text/plain{y\r\n--c}1 ]"},
        /* the same boundary twice: the inner one first */
        {MIXED("b") "--b\r\n" MIXED("b") "--b\r\n\r\nx\r\n--b--\r\n--b\r\n\r\ny\r\n--b--", "mixed[mixed[text/plain{x}0 ]text/plain{y}0 ]"},
        /* one boundary begins with the other */
        {MIXED("b") "--b\r\n" MIXED("bb") "--bb\r\n\r\nx\r\n--bb--\r\n--b\r\n\r\ny\r\n--b--", "mixed[mixed[text/plain{x}0 ]text/plain{y}0 ]"},
        {"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nx", "rfc822(text/plain{x}0 )"},
        {"Content-Type: message/rfc822\r\n\r\n", "rfc822(text/plain{}0 )"},
        {"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\neA==", "message/rfc822{eA==}0 "},
        {MIXED("b") "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n--b\r\n\r\ny\r\n--b--", "mixed[rfc822(text/plain{}0 )text/plain{y}0 ]"},
        {MIXED("b") "--b\r\nContent-Type: message/rfc822\r\n--b\r\n\r\ny\r\n--b--", "mixed[rfc822(text/plain{}0 )text/plain{y}0 ]"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena a;
        struct mime_message m;
        struct buf got;
        arena_init(&a, 1 << 20);
        buf_init(&got, 10000);
        assert_int_equal(mime_parse(&a, slice_str(rows[i].in), &m), 0);
        print_part(&m, 0, &got);
        buf_put_char(&got, '\0');
        assert_string_equal(got.p, rows[i].want);
        assert_int_equal(m.limits, 0);
        buf_done(&got);
        arena_done(&a);
    }
}

static const char sample[] = "Received: one\r\nReceived: two\r\n"
                             "From: =?utf-8?q?J=C3=B6rg?= <j@Example.COM>\r\nFrom: second@example.com\r\n"
                             "To: a@b, Group: c@d;\r\nTo: e@f\r\nSubject: folded\r\n subject\r\nMessage-ID: <id@x>\r\n"
                             "Date: Sun, 22 Nov 2026 02:44:36 +0900\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
                             "--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-ID: <c>\r\nContent-Description:\r\n\r\nhello\r\n"
                             "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nReceived: x\r\n\r\ninner\r\n"
                             "--b\r\nContent-Type: image/png; name=x.png\r\nContent-Transfer-Encoding: base64\r\n"
                             "Content-Disposition: attachment; filename=y.png\r\n\r\n\xff\r\n--b--\r\n";

static void test_envelope(void **state)
{
    struct arena a;
    struct mime_message m;
    struct buf name;
    (void)state;
    arena_init(&a, 1 << 20);
    buf_init(&name, MAIL_PARAM_MAX);
    assert_int_equal(mime_parse(&a, slice_of(sample, sizeof(sample) - 1), &m), 0);
    const struct mail_envelope *e = &m.envelopes[0];
    assert_int_equal(m.received_count, 2);
    assert_int_equal(e->from.n, 1);
    assert_true(slice_eq(e->from.items[0].local, SLICE("j")));
    assert_int_equal(e->to.n, 5);
    assert_true(slice_eq(e->to.items[4].domain, SLICE("f")));
    assert_true(slice_eq(e->subject, SLICE("folded subject")));
    assert_true(slice_eq(e->message_id, SLICE("<id@x>")));
    assert_null(e->in_reply_to.p);
    assert_int_equal(m.has_date, 1);
    assert_int_equal(m.date.zone_minutes, 540);
    assert_int_equal(m.n_parts, 5);
    assert_int_equal(m.n_envelopes, 2);
    assert_int_equal(m.parts[2].envelope, 1);
    assert_true(slice_eq(m.envelopes[1].subject, SLICE("inner")));
    assert_true(slice_eq(m.parts[1].id, SLICE("<c>")));
    assert_non_null(m.parts[1].description.p);
    assert_null(m.parts[1].md5.p);
    assert_true(mime_part_filename(&m.parts[4], &name));
    assert_true(slice_eq(buf_slice(&name), SLICE("y.png")));
    assert_int_equal(m.flags, MIME_HAS_8BIT | MIME_HAS_ATTACHMENT);
    buf_done(&name);
    arena_done(&a);
}

/* Deep, wide and long beyond the limits: a structure all the same, in little time and memory. */
static void test_limits(void **state)
{
    static const struct {
        const char *name, *head, *piece;
        size_t times;
        unsigned limit;
    } rows[] = {
        {"deep", "", "Content-Type: message/rfc822\r\n\r\n", 20000, MIME_LIMIT_DEPTH},
        {"same boundary", "", MIXED("b") "--b\r\n", 20000, MIME_LIMIT_DEPTH},
        {"wide", MIXED("b"), "--b\r\n\r\nx\r\n", 100000, MIME_LIMIT_PARTS},
        {"messages", MIXED("b"), "--b\r\nContent-Type: message/rfc822\r\n\r\nTo: a,b,c,d,e,f,g\r\n\r\n", 20000, MIME_LIMIT_PARTS},
        {"fields", "", "To: a@b\r\n", 100000, MIME_LIMIT_HEADER},
        {"addresses", "To: x", ",x", 20000, MIME_LIMIT_ADDRESSES},
        {"many", "", "To: a,b,c,d,e,f,g,h,i,j,k,l,m\r\n", 1500, MIME_LIMIT_ADDRESSES},
        {"long field", "Subject: ", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n ", 20000, MIME_LIMIT_HEADER},
        {"boundaries", MIXED("b") "--b\r\n" MIXED("bb"), "--bbx\r\n", 100000, 0},
        {"no lines", MIXED("b"), "--b", 300000, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena a;
        struct mime_message m;
        struct buf in, meta;
        buf_init(&in, 8 << 20);
        buf_put_str(&in, rows[i].head);
        for (size_t k = 0; k < rows[i].times; k++)
            buf_put_str(&in, rows[i].piece);
        arena_init(&a, MIME_ARENA_MAX(in.n));
        assert_int_equal(mime_parse(&a, buf_slice(&in), &m), 0);
        assert_int_equal(m.limits & rows[i].limit, rows[i].limit);
        assert_true(m.n_parts <= MIME_PARTS_MAX);
        buf_init(&meta, IPC_META_MAX);
        assert_int_equal(mail_meta_encode(&m, SLICE_EMPTY, IPC_META_MAX, &a, &meta), 0);
        assert_true(meta.n <= IPC_META_MAX);
        buf_done(&meta);
        buf_done(&in);
        arena_done(&a);
    }
}

static void test_meta(void **state)
{
    struct arena a;
    struct mime_message m;
    struct mail_meta meta;
    struct buf b;
    (void)state;
    arena_init(&a, 1 << 20);
    buf_init(&b, IPC_META_MAX);
    assert_int_equal(mime_parse(&a, slice_of(sample, sizeof(sample) - 1), &m), 0);
    assert_int_equal(mail_meta_encode(&m, SLICE("hello"), IPC_META_MAX, &a, &b), 0);
    assert_int_equal(mail_meta_decode(buf_slice(&b), &a, &meta), 0);
    assert_int_equal(meta.flags, MAIL_META_8BIT | MAIL_META_ATTACHMENT | MAIL_META_DATE | MAIL_META_ZONE_KNOWN);
    assert_int_equal(meta.received_count, 2);
    assert_int_equal((int64_t)meta.date_ms, m.date.ms);
    assert_int_equal(meta.zone, 10540);
    assert_int_equal(meta.size, sizeof(sample) - 1);
    assert_true(slice_eq(meta.preview, SLICE("hello")));
    assert_int_equal(meta.parts.n, 5);
    assert_int_equal(meta.envelopes.n, 2);
    const struct mail_meta_envelope *e = RECORD_ITEM(meta.envelopes, mail_meta_envelope, 0);
    assert_int_equal(e->present, MAIL_ENV_DATE | MAIL_ENV_SUBJECT | MAIL_ENV_MESSAGE_ID);
    assert_int_equal(e->to.n, 5);
    assert_int_equal(RECORD_ITEM(e->to, mail_meta_address, 1)->kind, MAIL_ADDR_GROUP);
    const struct mail_meta_part *p = RECORD_ITEM(meta.parts, mail_meta_part, 2);
    assert_int_equal(p->kind, MIME_MESSAGE);
    assert_int_equal(p->envelope, 2);
    p = RECORD_ITEM(meta.parts, mail_meta_part, 4);
    assert_int_equal(p->parent, 1);
    assert_int_equal(p->body_at, m.parts[4].body_at);
    assert_int_equal(p->encoding, MAIL_ENC_BASE64);
    assert_true(slice_eq(RECORD_ITEM(p->disposition_params, mail_meta_param, 0)->value, SLICE("y.png")));
    /* Damaged: every length and every byte changed; never accepted with references that lead nowhere, never a crash. */
    for (size_t n = 0; n < b.n; n++)
        assert_int_not_equal(mail_meta_decode(slice_head(buf_slice(&b), n), &a, &meta), 0);
    for (size_t i = 0; i < b.n; i++) {
        b.p[i] = (char)(b.p[i] ^ 0x41);
        arena_reset(&a);
        (void)mail_meta_decode(buf_slice(&b), &a, &meta);
        b.p[i] = (char)(b.p[i] ^ 0x41);
    }
    b.p[0] = MAIL_META_VERSION + 1;
    assert_int_equal(mail_meta_decode(buf_slice(&b), &a, &meta), ERR_VERSION);
    buf_done(&b);
    arena_done(&a);
}

/* A maximum that is too small cuts parts first, then the envelope; what is left can be read. */
static void test_meta_cut(void **state)
{
    struct buf in;
    size_t least_parts = SIZE_MAX;
    (void)state;
    buf_init(&in, 1 << 20);
    buf_put_str(&in, "To: ");
    for (int i = 0; i < 300; i++)
        buf_printf(&in, "User %d <user%d@example.com>,\r\n ", i, i);
    buf_put_str(&in, "x\r\n" MIXED("b"));
    for (int i = 0; i < 500; i++)
        buf_put_str(&in, "--b\r\nContent-Type: text/plain\r\n\r\n\r\n");
    for (size_t max = 200000; max > 2000; max = max * 3 / 4) {
        struct arena a;
        struct mime_message m;
        struct mail_meta meta;
        struct buf b;
        arena_init(&a, 64 << 20);
        buf_init(&b, 1 << 20);
        assert_int_equal(mime_parse(&a, buf_slice(&in), &m), 0);
        assert_int_equal(mail_meta_encode(&m, SLICE_EMPTY, max, &a, &b), 0);
        assert_true(b.n <= max);
        assert_int_equal(mail_meta_decode(buf_slice(&b), &a, &meta), 0);
        assert_int_equal(meta.n_parts, 501);
        assert_true(meta.parts.n <= least_parts);
        least_parts = meta.parts.n;
        assert_int_equal((meta.flags & MAIL_META_PARTS_CUT) != 0, meta.parts.n < 501);
        size_t to = RECORD_ITEM(meta.envelopes, mail_meta_envelope, 0)->to.n;
        assert_int_equal((meta.flags & MAIL_META_ENVELOPE_CUT) != 0, to < 301);
        assert_true(to == 301 || meta.parts.n <= 1);
        buf_done(&b);
        arena_done(&a);
    }
    assert_int_equal(least_parts, 1);
    buf_done(&in);
}

/* Every way to be short of memory is an answer, not a crash. */
static void test_memory(void **state)
{
    (void)state;
    for (size_t max = 0; max < 20000; max += 16) {
        struct arena a;
        struct mime_message m;
        struct buf b;
        arena_init(&a, max);
        buf_init(&b, IPC_META_MAX);
        int rc = mime_parse(&a, slice_of(sample, sizeof(sample) - 1), &m);
        if (rc == 0)
            rc = mail_meta_encode(&m, SLICE_EMPTY, IPC_META_MAX, &a, &b);
        assert_true(rc == 0 || rc == -ENOMEM);
        buf_done(&b);
        arena_done(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structure), cmocka_unit_test(test_envelope), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_meta),      cmocka_unit_test(test_meta_cut), cmocka_unit_test(test_memory),
    };
    if (mail_charset_init(NULL) != 0)
        return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    mail_charset_done();
    return rc;
}
