/* gguf_tensors.h - an export set in the tensors of a GGUF file, and back. */
#ifndef BN_TOOLS_GGUF_TENSORS_H
#define BN_TOOLS_GGUF_TENSORS_H

#include "interop/gguf.h"
#include "tools/export.h"

/* How tensors are stored. Of ternary weights with one scale per tensor the
 * blocks hold the codes under scale 1 and the scale is a tensor of its own,
 * NAME.scale, as float32; otherwise the scales are in the blocks, as float16.
 * 1-D tensors are F32. */
typedef struct bn_gguf_layout {
    bn_gguf_type ternary; /* TQ1_0, TQ2_0 or Q4_0 */
    bn_gguf_type floats;  /* of other matrices: F32, F16, BF16 or Q8_0 */
} bn_gguf_layout;

bn_gguf_type bn_gguf_item_type(const bn_export_item *item, const bn_gguf_layout *layout);

/* Bytes in the file, a tensor for the scale included. */
uint64_t bn_gguf_item_bytes(const bn_export_item *item, const bn_gguf_layout *layout);

/* BN_USAGE unless the layout holds the codes of every item as they are, with
 * the reason and what would hold them. */
bn_status bn_gguf_set_check(const bn_export_set *set, const bn_gguf_layout *layout) BN_MUST_CHECK;

/* Replaces scales and floats by what they will read back as. BN_FAIL for one
 * that its type cannot hold. */
bn_status bn_gguf_set_round(bn_export_set *set, const bn_gguf_layout *layout) BN_MUST_CHECK;

bn_status bn_gguf_set_write(const char *path, const bn_gguf_meta *meta, const bn_export_set *set,
                            const bn_gguf_layout *layout) BN_MUST_CHECK;

/* The tensors that `like` names, decoded; names, shapes and group sizes are
 * those of `like`. BN_MISMATCH for a tensor that is missing, of another type,
 * shape or grouping, or beside those. *out need not be initialised; on failure
 * it is cleared. */
bn_status bn_gguf_set_read(const bn_gguf *file, const bn_export_set *like,
                           const bn_gguf_layout *layout, bn_export_set *out) BN_MUST_CHECK;

#endif
