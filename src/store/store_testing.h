/* store_testing.h: what the store's tests, fuzz targets and the bench share: a store in a scratch directory with a local top key. */
#ifndef KK_STORE_STORE_TESTING_H
#define KK_STORE_STORE_TESTING_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/secret.h"
#include "io/loop.h"
#include "store/seal.h"
#include "store/store.h"

static const uint8_t testing_top_key[KEYS_SIZE] = {7};

static inline int testing_wrap(void *arg, const char *context, const uint8_t key[KEYS_SIZE], uint8_t ret[KEYS_WRAPPED_MAX], size_t *ret_n,
                               struct err *err)
{
    struct seal *s;
    (void)arg;
    (void)err;
    int rc = seal_new(&s);
    if (rc == 0)
        rc = seal_wrap(s, testing_top_key, slice_str(context), key, ret);
    seal_free(s);
    *ret_n = SEAL_WRAPPED;
    return rc;
}

static inline int testing_unwrap(void *arg, const char *context, struct slice wrapped, uint8_t ret_key[KEYS_SIZE], struct err *err)
{
    struct seal *s;
    (void)arg;
    (void)err;
    if (wrapped.n != SEAL_WRAPPED)
        return ERR_CORRUPT;
    int rc = seal_new(&s);
    if (rc == 0)
        rc = seal_unwrap(s, testing_top_key, slice_str(context), (const uint8_t *)wrapped.p, ret_key);
    seal_free(s);
    return rc;
}

static inline struct store_options testing_options(int dir)
{
    return (struct store_options){
        .dir = dir,
        .segment_size = 4 << 20,
        .zstd_level = 1,
        .index_map = 1 << 30,
        .threads = 2,
        .keys = {testing_wrap, testing_unwrap, NULL},
    };
}

/* A new empty directory under $TMPDIR; its path for removal. */
static inline int testing_dir(char path[64])
{
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(path, 64, "%s/kk-store-XXXXXX", tmp != NULL && strlen(tmp) < 40 ? tmp : "/tmp");
    if (mkdtemp(path) == NULL)
        return -1;
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static inline void testing_remove(const char *path)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", path);
    if (system(command) != 0)
        perror(path);
}

/* Runs fn in a fiber to its end. false: it hung. */
static inline bool testing_run(fiber_fn *fn, void *arg)
{
    return fiber_start("test", fn, arg, NULL) == 0 && fiber_run_all(120000);
}

#endif
