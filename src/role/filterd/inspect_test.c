#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/charset.h"
#include "mail/meta.h"
#include "role/filterd/inspect.h"

static const struct conf settings = {.smtp_max_received = 5};

struct inspected {
    struct arena work, keep;
    struct m_inspect_reply reply;
};

static int inspect(struct inspected *i, struct slice body)
{
    struct m_inspect request = {.size = body.n, .body = body, .body_fd = -1};
    struct err err = {0};
    i->reply = (struct m_inspect_reply){0};
    arena_init(&i->work, MIME_ARENA_MAX(body.n));
    arena_init(&i->keep, 1 << 20);
    return inspect_message(&settings, &request, body, &i->work, &i->keep, &i->reply, &err);
}

static void done(struct inspected *i)
{
    arena_done(&i->work);
    arena_done(&i->keep);
}

/* The reply can be sent, whatever was in the message. */
static void assert_sendable(const struct m_inspect_reply *reply)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_int_equal(record_encode(&record_m_inspect_reply, reply, &b, NULL, NULL), 0);
    buf_done(&b);
}

static void test_accept(void **state)
{
    static const struct {
        const char *in, *from, *message_id, *preview;
    } rows[] = {
        {"From: Joe <Joe@EXAMPLE.com>\r\nMessage-ID: <a@b>\r\n\r\nHello\r\n", "Joe@example.com", "<a@b>", "Hello"},
        {"From: Group: a@b;\r\n\r\n", "a@b", "", ""},
        {"From: nobody\r\n\r\n", "nobody", "", ""},
        {"From: J\xff <j\xff@x>\r\nMessage-ID: \xff\r\n\r\n\xff", "j\xef\xbf\xbd@x", "\xef\xbf\xbd", "\xef\xbf\xbd"},
        {"Subject: none\r\n\r\n", "", "", ""},
        {"", "", "", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct inspected in;
        struct mail_meta meta;
        assert_int_equal(inspect(&in, slice_str(rows[i].in)), 0);
        assert_int_equal(in.reply.verdict, INSPECT_ACCEPT);
        assert_true(slice_eq(in.reply.from, slice_str(rows[i].from)));
        assert_true(slice_eq(in.reply.message_id, slice_str(rows[i].message_id)));
        assert_int_equal(mail_meta_decode(in.reply.meta, &in.work, &meta), 0);
        assert_true(slice_eq(meta.preview, slice_str(rows[i].preview)));
        assert_sendable(&in.reply);
        done(&in);
    }
}

/* RFC 5321 6.3. */
static void test_loop(void **state)
{
    (void)state;
    for (size_t n = 0; n < 9; n++) {
        struct inspected in;
        struct buf b;
        buf_init(&b, 10000);
        for (size_t i = 0; i < n; i++)
            buf_put_str(&b, "Received: from a by b; Sun, 22 Nov 2026 02:44:36 +0000\r\n");
        buf_put_str(&b, "From: a@b\r\n\r\nx\r\n");
        assert_int_equal(inspect(&in, buf_slice(&b)), 0);
        assert_int_equal(in.reply.received_count, n);
        assert_int_equal(in.reply.verdict, n > 5 ? INSPECT_REJECT : INSPECT_ACCEPT);
        if (n > 5) {
            assert_int_equal(in.reply.code, 554);
            assert_true(slice_eq(in.reply.enhanced, SLICE("5.4.6")));
            assert_true(in.reply.text.n > 0 && in.reply.text.n < IPC_TEXT_MAX);
        }
        assert_sendable(&in.reply);
        done(&in);
        buf_done(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_accept), cmocka_unit_test(test_loop)};
    if (inspect_prepare(NULL) != 0)
        return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    mail_charset_done();
    return rc;
}
