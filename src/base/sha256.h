/* sha256.h - SHA-256 (FIPS 180-4) of bytes that come in pieces.
 *
 * Names what a file is in reports; no secrets are involved.
 */
#ifndef BN_BASE_SHA256_H
#define BN_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { BN_SHA256_BYTES = 32, BN_SHA256_TEXT = 65 };

typedef struct bn_sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes so far; below 2^61 */
    uint8_t block[64];
} bn_sha256;

void bn_sha256_init(bn_sha256 *sha);
void bn_sha256_add(bn_sha256 *sha, const void *data, size_t size);
/* The digest; `sha` has to be initialised again after that. */
void bn_sha256_end(bn_sha256 *sha, uint8_t digest[BN_SHA256_BYTES]);

/* 64 lower-case hexadecimal digits and a NUL into `text`, which is returned. */
const char *bn_sha256_text(const uint8_t digest[BN_SHA256_BYTES], char text[BN_SHA256_TEXT]);

/* The digest of a file, as text. Errors as bn_map_open(). */
bn_status bn_sha256_file(const char *path, char text[BN_SHA256_TEXT]) BN_MUST_CHECK;

#endif
