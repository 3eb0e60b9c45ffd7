/* tlsd.h: the parts of tlsd: what it knows of keyd (keys.c), and the connections (main.c). */
#ifndef KK_ROLE_TLSD_TLSD_H
#define KK_ROLE_TLSD_TLSD_H

#include "io/fiber.h"
#include "conf/conf.h"
#include "tls/server.h"

/* Once, before the sandbox. */
int tlsd_keys_init(const struct conf *conf, struct err *err);
/* Takes over the policy of a new configuration. ERR_CONFIG: as it was. */
int tlsd_keys_reload(const struct conf *conf, struct err *err);
/* keyd is there (again), or has other keys: asks for them, in a fiber of its own. Never waits. */
void tlsd_keys_refresh(void);
/* The certificates to serve with, as a reference that the caller gives back; waits for the first answer of keyd. -ETIMEDOUT, -ECANCELED. */
int MAY_YIELD tlsd_keys_get(int64_t deadline, struct tls_server **ret);

#endif
