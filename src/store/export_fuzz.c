/* An export file from outside: the check that comes before an import, and reading its items. With the right digest put at the end, so
 * that the items are reached. */
#include <openssl/sha.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store/disk.h"
#include "store/export_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int fd)
{
    uint64_t messages = 0;
    struct export_reader r;
    enum export_type type;
    if (export_check(fd, &messages) != 0)
        return;
    int rc = export_reader_init(&r, fd);
    do
        rc = rc == 0 ? export_reader_next(&r, &type) : rc;
    while (rc == 0 && type != EXPORT_END);
    if (rc != 0)
        abort();
    export_reader_done(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t end[EXPORT_ITEM_HEADER + EXPORT_DIGEST] = {EXPORT_END, EXPORT_DIGEST};
    int fd = memfd_create("export", MFD_CLOEXEC);
    if (fd < 0 || disk_write(&disk_real, fd, data, size, 0) != 0)
        abort();
    check(fd);
    (void)SHA256(data, size, end + EXPORT_ITEM_HEADER);
    if (disk_write(&disk_real, fd, end, sizeof(end), size) != 0)
        abort();
    check(fd);
    (void)close(fd);
    return 0;
}
