#include "layers/quant_spec.h"

bn_quant_spec bn_quant_spec_of(const bn_config *whole, const char *module)
{
    static const bn_backward backward_of[] = {
        [BN_BACKWARD_PRECISION_FLOAT32] = BN_BACKWARD_FLOAT32,
        [BN_BACKWARD_PRECISION_BF16] = BN_BACKWARD_BF16,
        [BN_BACKWARD_PRECISION_INT16] = BN_BACKWARD_INT16,
    };
    const bn_config of_module = bn_config_of_module(whole, module), *config = &of_module;
    if (bn_config_keeps_float(config, module))
        return (bn_quant_spec){0};
    return (bn_quant_spec){
        .weight = {.quantized = bn_config_quantized(config),
                   .params = {.group_size = bn_config_group_size(config),
                              .backward = backward_of[config->training.backward_precision]}},
        .act = {.quantized = bn_config_quantized_activations(config),
                .hadamard =
                    config->quantization.activation_transform == BN_ACTIVATION_TRANSFORM_HADAMARD,
                .params = {.bits =
                               config->quantization.activation_bits == BN_ACTIVATION_BITS_4 ? 4 : 8,
                           .group_size = bn_config_act_group_size(config)}},
    };
}
