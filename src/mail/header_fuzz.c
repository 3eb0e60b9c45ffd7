/* Fields, their text and parameters: always UTF-8 without control characters, whatever came in. */
#include <assert.h>

#include "base/utf8.h"
#include "mail/charset.h"
#include "mail/header.h"
#include "mail/param.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return mail_charset_init(NULL);
}

static void check_text(struct buf *b)
{
    assert(buf_ok(b) && utf8_valid(buf_slice(b)));
    for (size_t i = 0; i < b->n; i++)
        assert((unsigned char)b->p[i] >= ' ' && b->p[i] != 127);
    buf_reset(b);
}

static void try_value(struct slice value, struct buf *text)
{
    struct arena a;
    struct mail_type t;
    struct mail_disposition d;
    arena_init(&a, 8 << 20);
    mail_header_decode(text, value, SLICE("iso-2022-jp"));
    check_text(text);
    bool ok = mail_type_parse(&a, value, &t) && mail_disposition_parse(&a, value, &d);
    assert(ok && t.params.n <= MAIL_PARAMS_MAX);
    (void)mail_param_get(&t.params, SLICE("name"), text);
    check_text(text);
    (void)mail_param_get(&d.params, SLICE("filename"), text);
    check_text(text);
    arena_done(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_of(data, size);
    struct mail_field f;
    struct buf text;
    buf_init(&text, 2 * MAIL_VALUE_MAX);
    try_value(slice_of(data, size), &text);
    for (int n = 0; n < 100 && mail_header_next(&rest, &f); n++)
        try_value(f.value, &text);
    buf_done(&text);
    return 0;
}
