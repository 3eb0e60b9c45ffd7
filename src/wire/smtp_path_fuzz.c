/* Paths and parameters of SMTP: what is taken prints to something that reads back as the same, and its domain is separated by the last "@". */
#include "base/utf8.h"
#include "wire/smtp_param.h"
#include "wire/smtp_path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct smtp_path *p, enum smtp_path_kind kind, struct arena *a)
{
    struct smtp_path again;
    struct buf b;
    buf_init(&b, SMTP_PATH_TEXT_MAX + 2);
    buf_put_char(&b, '<');
    smtp_path_print(p->address, &b);
    buf_put_char(&b, '>');
    struct slice in = buf_slice(&b);
    if (!buf_ok(&b) || !utf8_valid(p->address) || memchr(p->domain.p, '@', p->domain.n) != NULL)
        abort();
    if (smtp_path_parse(&in, kind, a, &again, NULL) != 0 || in.n != 0 || !slice_eq(again.address, p->address))
        abort();
    buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a;
    struct err err;
    arena_init(&a, 1 << 20);
    for (int kind = 0; kind < 2; kind++) {
        struct slice in = slice_of((const char *)data, size);
        struct smtp_path p;
        struct smtp_mail_params m;
        struct smtp_rcpt_params r;
        if (smtp_path_parse(&in, (enum smtp_path_kind)kind, &a, &p, &err) != 0)
            continue;
        check(&p, (enum smtp_path_kind)kind, &a);
        (void)smtp_mail_params_parse(in, &a, &m, &err);
        if (smtp_rcpt_params_parse(in, &a, &r, &err) == 0 && !utf8_valid(r.orcpt))
            abort();
    }
    arena_done(&a);
    return 0;
}
