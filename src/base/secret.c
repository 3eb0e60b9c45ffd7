#include "base/secret.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

void secret_wipe(void *p, size_t n)
{
    explicit_bzero(p, n);
}

bool secret_eq(struct slice a, struct slice b)
{
    unsigned char diff = a.n != b.n;
    for (size_t i = 0; i < a.n && i < b.n; i++)
        diff |= (unsigned char)a.p[i] ^ (unsigned char)b.p[i];
    return diff == 0;
}

void rand_bytes(void *p, size_t n)
{
    char *at = p;
    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            abort();
        }
        at += got;
        n -= (size_t)got;
    }
}

uint64_t rand_u64(void)
{
    uint64_t v;
    rand_bytes(&v, sizeof(v));
    return v;
}
