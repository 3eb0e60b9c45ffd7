/* problems.h: what is wrong with a configuration, printed as it is found. */
#ifndef KK_CTL_PROBLEMS_H
#define KK_CTL_PROBLEMS_H

#include "ctl/ctl.h"

struct problems {
    struct ctl *c;
    unsigned errors, warnings;
    struct ctl_list *list; /* with --json: collected here instead of being printed */
};

/* A conf_report_fn; arg is a struct problems. */
void problems_report(void *arg, bool is_error, const char *sentence);
/* Parses and checks the text as a whole; name: what to call it. 0, or ERR_CONFIG with everything reported. */
int problems_check(struct problems *p, struct slice text, const char *name, struct err *err);

#endif
