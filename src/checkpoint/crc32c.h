/* crc32c.h - CRC-32C (Castagnoli; RFC 3720, appendix B.4), reflected, initial
 * value and final xor 0xffffffff: crc("123456789") = 0xe3069283. */
#ifndef BN_CHECKPOINT_CRC32C_H
#define BN_CHECKPOINT_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from `crc` (0 at the start): crc(ab) = bn_crc32c(bn_crc32c(0, a), b).
 * Meant for a few bytes or many kilobytes: each call in between makes tables. */
uint32_t bn_crc32c(uint32_t crc, const void *data, size_t size);

#endif
