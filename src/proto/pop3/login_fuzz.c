/* A whole login session over arbitrary input: outside and, behind the first 0xff byte, under TLS. Whatever comes, it ends; nobody is handed over
 * without the right password, nor asked about in the clear. */
#include <assert.h>

#include "base/clock.h"
#include "proto/pop3/fake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fake_stream(struct stream_fake *f, struct slice input, size_t chunk)
{
    *f = (struct stream_fake){.input = input, .chunk = chunk, .fail_read_at = SIZE_MAX, .fail_write_at = SIZE_MAX};
    buf_init(&f->output, SIZE_MAX / 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice inside = slice_of(data, size);
    struct fake_login f = {.accounts = {{SLICE("a"), SLICE("x"), POP3_AUTH_OK}, {SLICE("b"), SLICE("y"), POP3_AUTH_DISABLED}},
                           .n_accounts = 2, .hand_over = size % 4, .starttls = 0};
    struct stream_fake outer, inner;
    struct slice outside = slice_cut(&inside, '\xff');
    buf_init(&f.trace, SIZE_MAX / 4);
    fake_stream(&outer, outside, size % 5);
    fake_stream(&inner, inside, size % 3);
    f.inner = &inner;
    struct pop3_login l = {.backend = &fake_login_backend, .ctx = &f, .plaintext_ok = size % 7 == 0, .deadline = CLOCK_NEVER};
    if (stream_new_fake(&outer, &l.stream) == 0) {
        enum pop3_login_end end = pop3_login_run(&l);
        stream_free(l.stream);
        struct slice trace = buf_slice(&f.trace);
        bool tls = memmem(trace.p, trace.n, "starttls\n", 9) != NULL;
        assert(l.plaintext_ok || tls || memmem(trace.p, trace.n, "auth ", 5) == NULL);
        assert(end != POP3_END_HANDED_OVER || memmem(trace.p, trace.n, " a x\n", 5) != NULL);
    }
    buf_done(&outer.output);
    buf_done(&inner.output);
    buf_done(&f.trace);
    return 0;
}
