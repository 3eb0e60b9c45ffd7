/* describe.h: documents made from the tables of options and commands, so that they cannot differ from the program. */
#ifndef KK_CTL_DESCRIBE_H
#define KK_CTL_DESCRIBE_H

#include "base/buf.h"

void describe_options_man(struct buf *out);  /* man/kakitome.conf.5 */
void describe_completion(struct buf *out);   /* packaging/bash-completion/kakitome */
void describe_commands(struct buf *out);     /* a line a command or option: "command<TAB>--option<TAB>VALUE", for tools */

#endif
