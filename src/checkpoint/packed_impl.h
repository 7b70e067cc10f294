/* packed_impl.h - names of docs/packed-format.md that writer and reader share;
 * the training checkpoint uses those of the root. Private to this folder. */
#ifndef BN_CHECKPOINT_PACKED_IMPL_H
#define BN_CHECKPOINT_PACKED_IMPL_H

#include "checkpoint/packed.h"
#include "quant/pack.h"
#include "quant/quantize.h"

#define BN_ATTR_FORMAT         "format"
#define BN_ATTR_VERSION        "format_version"
#define BN_ATTR_PRODUCER       "producer"
#define BN_ATTR_CONFIG         "config_json"
#define BN_ATTR_TOKENIZER      "tokenizer"
#define BN_ATTR_TOKENIZER_JSON "tokenizer_json"
#define BN_ATTR_ENCODING       "encoding"
#define BN_ATTR_SHAPE          "shape"
#define BN_ATTR_GROUP_SIZE     "group_size"
#define BN_SCALE_SUFFIX        "_scale"

/* Bytes of a row of `in` codes in a file. */
static inline int64_t bn_packed_row_bytes(bn_encoding encoding, int64_t in)
{
    return encoding == BN_ENC_BASE3X5 ? bn_b3_row_bytes(in)
                                      : bn_bits_row_bytes(bn_encoding_grid(encoding), in);
}

/* Dimensions of the scales into shape[2]; returns their number. */
static inline int bn_packed_scale_shape(int64_t out, int64_t in, int64_t group_size, int64_t *shape)
{
    if (group_size == BN_PER_TENSOR) {
        shape[0] = 1;
        return 1;
    }
    shape[0] = out;
    shape[1] = bn_groups_per_row(in, group_size);
    return 2;
}

#endif
