/* CRC-32C: see crc32c.h. */
#include "store/crc32c.h"

#include <string.h>

#define POLY 0x82f63b78u

static uint32_t by_bit(uint32_t crc, const uint8_t *p, size_t n)
{
    static const uint32_t nibble[16] = {
#define ROW(i) ROW4(ROW4(ROW4(ROW4((uint32_t)(i)))))
#define ROW4(c) (((c) & 1) != 0 ? ((c) >> 1) ^ POLY : (c) >> 1)
        ROW(0), ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6), ROW(7), ROW(8), ROW(9), ROW(10), ROW(11), ROW(12), ROW(13), ROW(14), ROW(15)};
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        crc = (crc >> 4) ^ nibble[crc & 15];
        crc = (crc >> 4) ^ nibble[crc & 15];
    }
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const uint8_t *p, size_t n)
{
    uint64_t c = crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof(word));
        c = __builtin_ia32_crc32di(c, word);
    }
    for (; n > 0; n--, p++)
        c = __builtin_ia32_crc32qi((uint32_t)c, *p);
    return (uint32_t)c;
}

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
    crc = ~crc;
    return ~(__builtin_cpu_supports("sse4.2") ? by_instruction(crc, p, n) : by_bit(crc, p, n));
}
#else
uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
    return ~by_bit(~crc, p, n);
}
#endif
