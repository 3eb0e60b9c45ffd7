/* inspect.h: what filterd finds out about a message, and its verdict. No I/O: bytes and settings in, the reply out.
 *
 * The message is parsed once; then the checks of one table (inspect.c) look at it in order until one refuses or puts off.
 * Trust of input: none; a message that cannot be understood is still accepted, with what could be found. */
#ifndef KK_ROLE_FILTERD_INSPECT_H
#define KK_ROLE_FILTERD_INSPECT_H

#include "conf/conf.h"
#include "ipc/messages.h"
#include "mail/mime.h"

/* What the checks share. */
struct inspection {
    const struct conf *conf;
    const struct m_inspect *request;
    struct slice body;
    struct mime_message mime;
    struct arena *work; /* until the inspection ends */
    struct arena *keep; /* until the reply is sent */
    struct m_inspect_reply *reply;
};

/* Once a process, before the sandbox: opens the character set converters. */
int inspect_prepare(struct err *err);
/* Fills the reply (zeroed by the caller); what it points at lives in `keep`. 0, or a negative code when there is no verdict (out of
 * memory): the sender is asked to come again. */
int inspect_message(const struct conf *conf, const struct m_inspect *request, struct slice body, struct arena *work, struct arena *keep,
                    struct m_inspect_reply *reply, struct err *err);

#endif
