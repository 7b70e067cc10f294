#include "data/base64.h"

#include <stdlib.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void bn_base64_encode(const void *bytes, size_t length, bn_text *out)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < length; i += 3) {
        const size_t left = length - i;
        const uint32_t three = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
                               (left > 2 ? p[i + 2] : 0);
        const char four[4] = {digits[three >> 18], digits[three >> 12 & 63],
                              left > 1 ? digits[three >> 6 & 63] : '=',
                              left > 2 ? digits[three & 63] : '='};
        bn_text_add_bytes(out, four, sizeof four);
    }
}

bn_status bn_base64_decode(const char *text, unsigned char **bytes, size_t *length)
{
    const size_t size = strlen(text), digit_count = strspn(text, digits);
    const size_t padding = size - digit_count;
    *length = 0;
    if (size % 4 != 0 || padding > 2 || strspn(text + digit_count, "=") != padding)
        return bn_error(BN_BAD_DATA, "no base64 at byte %zu of %zu", digit_count, size);
    unsigned char *out = *bytes = malloc(size / 4 * 3 + 1);
    if (!out)
        return bn_error_nomem("base64", size);
    uint32_t value = 0;
    for (size_t i = 0; i < digit_count; i++) {
        value = value << 6 | (uint32_t)(strchr(digits, text[i]) - digits);
        if (i % 4 > 0)
            out[(*length)++] = (unsigned char)(value >> (6 - 2 * (i % 4)));
    }
    return BN_OK;
}
