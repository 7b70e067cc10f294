#include "layers/quant_spec.h"

static bn_grid grid_of(const bn_config *config)
{
    switch (config->quantization.weight_bits) {
    case BN_WEIGHT_BITS_BINARY:
        return BN_GRID_BINARY;
    case BN_WEIGHT_BITS_2:
        return BN_GRID_INT2;
    case BN_WEIGHT_BITS_3:
        return BN_GRID_INT3;
    case BN_WEIGHT_BITS_4:
        return BN_GRID_INT4;
    case BN_WEIGHT_BITS_8:
        return BN_GRID_INT8;
    case BN_WEIGHT_BITS_TERNARY:
    case BN_WEIGHT_BITS_NONE:
        break;
    }
    return BN_GRID_TERNARY;
}

static bn_scale_rule rule_of(const bn_config *config)
{
    switch (config->quantization.scale_estimator) {
    case BN_SCALE_ESTIMATOR_ABSMEDIAN:
        return BN_SCALE_MEDIAN;
    case BN_SCALE_ESTIMATOR_LEARNED:
        return BN_SCALE_LEARNED;
    case BN_SCALE_ESTIMATOR_ABSMEAN:
        break;
    }
    return BN_SCALE_MEAN;
}

static bn_estimator estimator_of(const bn_config *config)
{
    switch (config->quantization.gradient_estimator) {
    case BN_GRADIENT_ESTIMATOR_CLIPPED:
        return BN_ESTIMATOR_CLIPPED;
    case BN_GRADIENT_ESTIMATOR_TRUST:
        return BN_ESTIMATOR_TRUST;
    case BN_GRADIENT_ESTIMATOR_EWGS:
        return BN_ESTIMATOR_EWGS;
    case BN_GRADIENT_ESTIMATOR_LSQ:
        return BN_ESTIMATOR_LSQ;
    case BN_GRADIENT_ESTIMATOR_IDENTITY:
        break;
    }
    return BN_ESTIMATOR_IDENTITY;
}

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
                              .grid = grid_of(config),
                              .rule = rule_of(config),
                              .estimator = estimator_of(config),
                              .ewgs_delta = config->quantization.ewgs_delta,
                              .backward = backward_of[config->training.backward_precision]}},
        .act = {.quantized = bn_config_quantized_activations(config),
                .hadamard =
                    config->quantization.activation_transform == BN_ACTIVATION_TRANSFORM_HADAMARD,
                .params = {.bits =
                               config->quantization.activation_bits == BN_ACTIVATION_BITS_4 ? 4 : 8,
                           .group_size = bn_config_act_group_size(config)}},
    };
}
