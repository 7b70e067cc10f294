/* Encodings (packed.h). */
#include "checkpoint/packed.h"

const char *bn_encoding_name(bn_encoding encoding)
{
    static const char *const names[BN_ENC_COUNT] = {
        [BN_ENC_TERNARY2] = "ternary2", [BN_ENC_BASE3X5] = "base3x5", [BN_ENC_BINARY1] = "binary1",
        [BN_ENC_INT2] = "int2",         [BN_ENC_INT3] = "int3",       [BN_ENC_INT4] = "int4",
        [BN_ENC_INT8] = "int8",         [BN_ENC_FLOAT32] = "float32", [BN_ENC_FLOAT16] = "float16",
        [BN_ENC_BFLOAT16] = "bfloat16",
    };
    return names[encoding];
}

bn_grid bn_encoding_grid(bn_encoding encoding)
{
    static const bn_grid grids[BN_ENC_COUNT] = {
        [BN_ENC_BINARY1] = BN_GRID_BINARY, [BN_ENC_INT2] = BN_GRID_INT2,
        [BN_ENC_INT3] = BN_GRID_INT3,      [BN_ENC_INT4] = BN_GRID_INT4,
        [BN_ENC_INT8] = BN_GRID_INT8,
    };
    return grids[encoding]; /* BN_GRID_TERNARY is 0 */
}

bn_encoding bn_grid_encoding(bn_grid grid)
{
    int e = 0;
    while (bn_encoding_grid((bn_encoding)e) != grid)
        e++;
    return (bn_encoding)e;
}
