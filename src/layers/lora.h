/* lora.h - low-rank adapters of linear layers (LoRA: Hu et al., arXiv 2106.09685).
 *
 *   y = layer(x) + scale * B (A dropout(x)),   A [r,in], B [out,r], both float
 *
 * x is the layer's own input, before its quantizer. Parameters are named as
 * PEFT's without its prefix: "<layer>.lora_A.weight", "<layer>.lora_B.weight".
 */
#ifndef BN_LAYERS_LORA_H
#define BN_LAYERS_LORA_H

#include "layers/layers.h"

struct bn_lora {
    bn_param *a, *b; /* NULL: the layer is not adapted */
    double scale;
    const bn_lora *next; /* adds to the same layer; borrowed */
};

bn_status bn_lora_register(bn_lora *lora, const bn_linear_layer *layer, int64_t rank,
                           bn_param_set *set) BN_MUST_CHECK;

/* y, the layer's output, plus that of the adapter and of those after it. */
bn_value bn_lora_forward(const bn_lora *lora, bn_graph *g, bn_value x, bn_value y);

#endif
