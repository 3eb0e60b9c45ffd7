/* ask.h: a question to the person at the terminal. Secrets: ctl_read_secret in ctl.h. */
#ifndef KK_CTL_ASK_H
#define KK_CTL_ASK_H

#include "ctl/ctl.h"

/* Prints "question [otherwise]: " to standard error and reads a line; an empty one means `otherwise`. -ENOENT at the end of input. */
int ctl_ask(const char *question, const char *otherwise, struct buf *ret, struct err *err);

#endif
