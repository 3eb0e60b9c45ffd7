/* secret.h: passwords and keys. Wiped when done with, compared in constant time, never printed. */
#ifndef KK_BASE_SECRET_H
#define KK_BASE_SECRET_H

#include "base/slice.h"

/* Overwrites; the compiler cannot leave it out. */
void secret_wipe(void *p, size_t n);
/* Time depends on the lengths only. */
bool secret_eq(struct slice a, struct slice b);
/* Fills with bytes of the kernel's generator; aborts if the kernel has none (then no key would be safe). */
void rand_bytes(void *p, size_t n);
uint64_t rand_u64(void);

#endif
