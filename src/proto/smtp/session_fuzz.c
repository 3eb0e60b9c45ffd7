/* A whole SMTP or LMTP session over what the fuzzer says. The first octet picks the kind of session and the size of the reads. What must
 * hold, whatever is said: no grant is lost, the budget and the client's entry come back, content kept has no bare CR, LF or NUL, replies
 * are lines of printable text, and every event can be encoded (fake_world aborts otherwise). */
#include "proto/smtp/fake_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void check_content(struct slice body)
{
    for (size_t i = 0; i < body.n; i++) {
        must(body.p[i] != '\0');
        must(body.p[i] != '\n' || (i > 0 && body.p[i - 1] == '\r'));
        must(body.p[i] != '\r' || (i + 1 < body.n && body.p[i + 1] == '\n'));
    }
}

static void check_replies(struct slice out)
{
    while (out.n > 0) {
        size_t lf = slice_find(out, '\n');
        must(lf >= 4 && lf < out.n && lf < 1000 && out.p[lf - 1] == '\r');
        must(ascii_is_digit(out.p[0]) && ascii_is_digit(out.p[1]) && ascii_is_digit(out.p[2]) && (out.p[3] == ' ' || out.p[3] == '-'));
        for (size_t i = 0; i + 1 < lf; i++)
            must((unsigned char)out.p[i] >= 32 && out.p[i] != 127);
        out = slice_from(out, lf + 1);
    }
}

/* TLS: the rest of the input is said within it. */
static int fuzz_starttls(struct world *w, struct stream *raw, struct stream **ret)
{
    struct stream_fake *f = w->arg;
    stream_free(raw);
    f[1] = (struct stream_fake){.input = SLICE("EHLO x\r\nMAIL FROM:<>\r\n"), .fail_read_at = SIZE_MAX, .fail_write_at = SIZE_MAX};
    return stream_new_fake(&f[1], ret);
}

static struct smtp_settings *settings_of(bool proxy)
{
    static const char *any[] = {"::/0"};
    struct conf conf = world_conf();
    struct smtp_settings *s;
    conf.smtp_max_message_size = 300000;
    conf.smtp_max_in_flight = 600000;
    conf.listen_xclient_from = (struct conf_list){1, any};
    if (proxy)
        conf.listen_proxy_from = (struct conf_list){1, any};
    must(smtp_settings_new(&conf, &s, NULL) == 0);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;
    struct stream_fake fake[2] = {{.fail_read_at = SIZE_MAX, .fail_write_at = SIZE_MAX}, {.fail_read_at = 0}};
    struct stream *stream;
    struct smtp_session *s = NULL;
    uint8_t kind = size > 0 ? data[0] : 0;
    if (size == 0)
        return 0;
    world_init(&w);
    w.starttls = fuzz_starttls;
    w.arg = fake;
    struct smtp_settings *settings = settings_of((kind & 2) != 0);
    struct smtp_session_params p = {.lmtp = (kind & 1) != 0, .listener = "fuzz", .backend = &world_backend, .arg = &w, .settings = &settings};
    must(netaddr_parse_ip(SLICE("2001:db8::7"), &p.peer));
    fake[0].input = slice_of((const char *)data + 1, size - 1);
    fake[0].chunk = kind >> 3;
    must(stream_new_fake(&fake[0], &stream) == 0 && smtp_session_new(&p, stream, &s) == 0);
    smtp_session_run(s);
    smtp_session_free(s);
    must(w.memory == 0 && w.entered == 0);
    must(w.regranted || w.grants == w.used + w.dropped); /* what a restarted store has forgotten is not given back */
    for (size_t i = 0; i < w.n_kept && i < WORLD_KEPT; i++)
        check_content(w.kept[i].body);
    check_replies(buf_slice(&fake[0].output));
    buf_done(&fake[0].output);
    if (fake[1].fail_read_at != 0)
        buf_done(&fake[1].output);
    smtp_settings_unref(settings);
    arena_done(&w.arena);
    return 0;
}
