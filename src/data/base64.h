/* base64.h - bytes as text (RFC 4648, with padding). */
#ifndef BN_DATA_BASE64_H
#define BN_DATA_BASE64_H

#include "base/text.h"

void bn_base64_encode(const void *bytes, size_t length, bn_text *out);
/* The caller frees *bytes. BN_BAD_DATA for anything but base64. */
bn_status bn_base64_decode(const char *text, unsigned char **bytes, size_t *length) BN_MUST_CHECK;

#endif
