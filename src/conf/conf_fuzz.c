/* The configuration file is the administrator's, but it is read before any sandbox: any bytes must be safe. */
#include "conf/conf.h"

static void ignore(void *arg, bool is_error, const char *sentence)
{
    (void)arg;
    (void)is_error;
    (void)sentence;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf *c = NULL;
    if (conf_parse(slice_of(data, size), "fuzz", ignore, NULL, &c) == 0)
        conf_free(c);
    return 0;
}
