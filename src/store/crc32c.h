/* crc32c.h: CRC-32C (Castagnoli, reflected, initial and final complement): checksums of the store's files. Uses the processor's
 * instruction where there is one. */
#ifndef KK_STORE_CRC32C_H
#define KK_STORE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Of p alone with crc 0; or goes on from an earlier result, so that crc32c(crc32c(0, a), b) is that of a and b together. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);

#endif
