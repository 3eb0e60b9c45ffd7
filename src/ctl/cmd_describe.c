/* cmd_describe.c: documents from the program's own tables; tools/documents writes them into the tree and compares them. */
#include <stdio.h>

#include "ctl/ctl.h"
#include "ctl/describe.h"
#include "ctl/output.h"

#define DOCUMENT_MAX (4u * 1024 * 1024)

static const struct {
    const char *name;
    void (*print)(struct buf *out);
} documents[] = {{"options-man", describe_options_man}, {"completion", describe_completion}, {"commands", describe_commands}};

static int run_describe(struct ctl *c)
{
    for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++) {
        struct buf b;
        if (strcmp(documents[i].name, c->args[0]) != 0)
            continue;
        buf_init(&b, DOCUMENT_MAX);
        documents[i].print(&b);
        bool good = buf_ok(&b) && ctl_print(buf_slice(&b));
        buf_done(&b);
        return good ? EX_OK : ctl_fail_text(c, EX_IOERR, "cannot write");
    }
    return ctl_usage_error(c, "there is no document \"%s\"", c->args[0]);
}

const struct ctl_command ctl_describe_commands[] = {
    {"describe", "DOCUMENT", 1, 1, "Print a document made from the tables: options-man, completion, commands", run_describe, NULL, CTL_HIDDEN},
    {0},
};
