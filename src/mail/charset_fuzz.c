/* Every character set takes any bytes and gives UTF-8, cut anywhere. The first line of the input is the label, its first byte the cut. */
#include <assert.h>

#include "base/utf8.h"
#include "mail/charset.h"
#include "mail/decode.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return mail_charset_init(NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct slice rest = slice_of(data + 1, size - 1), label = slice_cut(&rest, '\n');
    struct buf text, decoded;
    buf_init(&text, data[0] < 128 ? data[0] : 16 * size);
    mail_charset_to_utf8(&text, label, rest);
    assert(buf_ok(&text) && utf8_valid(buf_slice(&text)));
    buf_done(&text);
    for (int e = 0; e < MAIL_ENC_COUNT; e++) {
        buf_init(&decoded, 64 * size + 1024);
        mail_decode((enum mail_encoding)e, rest, &decoded);
        assert(buf_ok(&decoded));
        buf_done(&decoded);
    }
    return 0;
}
