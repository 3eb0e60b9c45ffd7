/* file.h: whole files, read and written so that a crash leaves the old or the new one. */
#ifndef KK_CTL_FILE_H
#define KK_CTL_FILE_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* Appends the file's bytes, at most the buffer's maximum. -ENOENT etc. with a sentence. */
int file_read(const char *path, struct buf *ret, struct err *err);
/* A new file beside it, synced, renamed over it, directory synced. */
int file_replace(const char *path, struct slice text, mode_t mode, struct err *err);
/* Fails with -EEXIST when there is one already. */
int file_create(const char *path, struct slice text, mode_t mode, struct err *err);

#endif
