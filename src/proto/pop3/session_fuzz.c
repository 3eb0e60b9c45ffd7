/* A whole session behind login over arbitrary commands, with messages of arbitrary text (behind the first 0xff byte). Nothing is
 * deleted without QUIT; every message that is opened is closed; what is sent without UTF8 has no header beyond ASCII that was UTF-8. */
#include <assert.h>

#include "proto/pop3/fake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_of(data, size);
    struct slice commands = slice_cut(&text, '\xff');
    struct fake_maildrop m = {.piece = size % 6, .why = POP3_T_SHUTDOWN};
    struct stream_fake f = {.input = commands, .chunk = size % 5, .fail_read_at = SIZE_MAX, .fail_write_at = SIZE_MAX};
    buf_init(&m.trace, SIZE_MAX / 4);
    while (text.n > 0 && m.n < 8)
        (void)fake_maildrop_add(&m, SLICE("Received: x\r\n"), slice_cut(&text, '\xff'));
    if (m.n > 2)
        m.messages[2].fail_at = 5;
    m.messages[2].read_code = ERR_CORRUPT;
    struct pop3_session s = {.ops = &fake_maildrop_ops, .ctx = &m, .view = {m.entries, m.n, 1}, .utf8 = size % 3 == 0, .idle_ms = 1000};
    if (stream_new_fake(&f, &s.stream) == 0) {
        enum pop3_end end = pop3_session_run(&s);
        stream_free(s.stream);
        assert(m.open == NULL);
        assert(end == POP3_ENDED_QUIT || s.expunged == 0);
        assert(s.retrieved <= m.n && s.expunged <= m.n);
        pop3_session_done(&s);
    }
    buf_done(&f.output);
    buf_done(&m.trace);
    return 0;
}
