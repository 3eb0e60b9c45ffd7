/* help.h: what the program says about itself, from the command table. */
#ifndef KK_CTL_HELP_H
#define KK_CTL_HELP_H

#include "ctl/ctl.h"

extern const struct ctl_option ctl_common_options[];

void help_overview(void);
void help_usage(const struct ctl_command *cmd, FILE *to);
void help_command(const struct ctl_command *cmd);
int help_main(int argc, char **argv);               /* kakitome help [COMMAND] */
int help_unknown(int argc, char **argv);            /* says so, with the nearest command; EX_USAGE */

#endif
