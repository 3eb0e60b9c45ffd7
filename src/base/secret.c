#include "base/secret.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
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

static void rand_from_kernel(void *p, size_t n)
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

/* A message takes several short draws (ids, keys, nonces), and a system call for each costs more than the bytes. So each thread draws
 * in advance. What was given out is wiped; a fork's child finds the page empty and draws its own. */
#define POOL_PAGE 4096
#define POOL_SIZE 512
#define POOL_LONGEST 64

struct pool {
    size_t left;
    unsigned char bytes[POOL_SIZE];
};

static struct pool *pool_new(void)
{
    struct pool *p = mmap(NULL, POOL_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    if (madvise(p, POOL_PAGE, MADV_WIPEONFORK) == 0)
        return p;
    (void)munmap(p, POOL_PAGE);
    return NULL;
}

void rand_bytes(void *p, size_t n)
{
    static _Thread_local struct pool *pool;
    if (pool == NULL)
        pool = pool_new();
    if (pool == NULL || n > POOL_LONGEST) {
        rand_from_kernel(p, n);
        return;
    }
    if (pool->left < n) {
        rand_from_kernel(pool->bytes, POOL_SIZE);
        pool->left = POOL_SIZE;
    }
    pool->left -= n;
    memcpy(p, pool->bytes + pool->left, n);
    secret_wipe(pool->bytes + pool->left, n);
}

uint64_t rand_u64(void)
{
    uint64_t v;
    rand_bytes(&v, sizeof(v));
    return v;
}
