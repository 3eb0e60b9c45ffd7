/* smtpd.h: the inside of the role smtpd: what its files share. */
#ifndef KK_ROLE_SMTPD_SMTPD_H
#define KK_ROLE_SMTPD_SMTPD_H

#include "policy/limit.h"
#include "proto/smtp/backend.h"

/* Before anything else; 0 or -ENOMEM. */
int smtpd_backend_init(void);
/* The world as sessions see it: calls to authd, filterd, stored, tlsd and auditd; limits and budget of this process. No argument. */
extern const struct smtp_backend smtpd_backend;

#endif
