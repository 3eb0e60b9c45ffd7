/* demo.h: the parts of `kakitome demo`, which ./dev run starts: a service on loopback with two accounts, for trying out and for tests. */
#ifndef KK_CTL_DEMO_H
#define KK_CTL_DEMO_H

#include "ctl/ctl.h"

#define DEMO_HOST "127.0.0.1"
#define DEMO_DOMAIN "example.test"
#define DEMO_HOSTNAME "mail.example.test"
#define DEMO_PORT_BASE 2000

struct demo_port {
    const char *name;   /* in demo.json */
    const char *option; /* of section listen; NULL: this service does not exist yet */
    unsigned offset;    /* from the base */
};
extern const struct demo_port demo_ports[]; /* ends with a NULL name */

/* 0 when no listener has the ports; else -EADDRINUSE and a sentence that names the port and, if it can be known, who has it. */
int demo_ports_check(unsigned base, struct err *err);

#define DEMO_ACCOUNTS 2
struct demo_accounts {
    struct {
        const char *address;
        char password[CTL_PASSWORD_SIZE];
    } rows[DEMO_ACCOUNTS];
    bool known;    /* the passwords are those of an earlier start */
    bool welcomed; /* the first message has been sent */
};
/* From <dir>/accounts.json, or new ones. */
int demo_accounts_load(struct demo_accounts *a, const char *dir, struct err *err);
int demo_accounts_save(const struct demo_accounts *a, const char *dir, struct err *err);

/* Sends the first message to each account over SMTP, like any other server would. */
int demo_welcome(const struct demo_accounts *a, unsigned smtp_port, struct err *err);

#endif
