/* Encodings (packed.h). */
#include "checkpoint/packed.h"

const char *bn_encoding_name(bn_encoding encoding)
{
    static const char *const names[BN_ENC_COUNT] = {
        [BN_ENC_TERNARY2] = "ternary2", [BN_ENC_BASE3X5] = "base3x5",
        [BN_ENC_FLOAT32] = "float32",   [BN_ENC_FLOAT16] = "float16",
        [BN_ENC_BFLOAT16] = "bfloat16",
    };
    return names[encoding];
}
