/* quant_spec.h - how one linear layer is quantized, made from the config in one
 * place. A weight half and an activation half: each holds what its ops need.
 */
#ifndef BN_LAYERS_QUANT_SPEC_H
#define BN_LAYERS_QUANT_SPEC_H

#include "backend/op.h"
#include "config/config.h"

typedef struct bn_weight_spec {
    bool quantized;
    bn_weight_params params; /* of WEIGHT_QUANT and BITLINEAR */
} bn_weight_spec;

typedef struct bn_act_spec {
    bool quantized;
    bool hadamard;        /* first transformed; only where a layer closes a block */
    bn_act_params params; /* of ACT_QUANT */
} bn_act_spec;

/* With only one side quantized the other stays float and the product is a
 * float product of fake-quantized operands. With neither the layer is Linear. */
typedef struct bn_quant_spec {
    bn_weight_spec weight;
    bn_act_spec act;
} bn_quant_spec;

static inline bool bn_quant_spec_any(const bn_quant_spec *spec)
{
    return spec->weight.quantized || spec->act.quantized;
}

/* What config->quantization asks of the module of this name
 * ("model.layers.0.mlp.up_proj"): nothing quantized where it stays float. */
bn_quant_spec bn_quant_spec_of(const bn_config *config, const char *module);

#endif
