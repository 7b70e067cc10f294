#include "layers/layer_util.h"
#include "layers/lora.h"

bn_status bn_linear_layer_init(bn_linear_layer *layer, const char *name, int64_t in, int64_t out,
                               bool has_bias)
{
    *layer = (bn_linear_layer){.in = in, .out = out, .has_bias = has_bias};
    return bn_layer_name(layer->name, "", name);
}

void bn_linear_layer_quantize(bn_linear_layer *layer, const bn_quant_spec *spec)
{
    layer->is_bit = bn_quant_spec_any(spec);
    layer->quant = *spec;
    if (layer->quant.weight.params.group_size > layer->in)
        layer->quant.weight.params.group_size = layer->in;
    bn_act_spec *act = &layer->quant.act;
    act->hadamard &= act->quantized && layer->closes_block;
    if (act->params.group_size > layer->in)
        act->params.group_size = BN_PER_ROW;
    if (act->quantized && act->params.group_size > 0)
        layer->quant.weight.params.act_group = act->params.group_size;
}

static bool packs(const bn_linear_layer *layer)
{
    return layer->is_bit && layer->quant.weight.quantized;
}

bn_status bn_linear_layer_register(bn_linear_layer *layer, bn_param_set *set, bool packed)
{
    if (packs(layer)) {
        layer->codes =
            bn_tensor_2d(bn_grid_dtype(layer->quant.weight.params.grid), layer->out, layer->in);
        layer->scale = bn_weight_scale_shape(set->real, layer->out, layer->in,
                                             layer->quant.weight.params.group_size);
    }
    if (!packed || !packs(layer))
        BN_TRY(bn_layer_param(set, layer->name, "weight", BN_PARAM_LINEAR, 2,
                              (const int64_t[]){layer->out, layer->in}, &layer->weight));
    if (!packed && packs(layer) && layer->quant.weight.params.rule == BN_SCALE_LEARNED)
        BN_TRY(bn_layer_param(set, layer->name, "weight_scale", BN_PARAM_SCALE, layer->scale.ndim,
                              layer->scale.shape, &layer->weight_scale));
    if (layer->has_bias)
        BN_TRY(bn_layer_param(set, layer->name, "bias", BN_PARAM_BIAS, 1,
                              (const int64_t[]){layer->out}, &layer->bias));
    return BN_OK;
}

bn_status bn_linear_layer_codes(const bn_linear_layer *layer, bn_backend *backend,
                                const bn_tensor *weight, const bn_tensor *codes,
                                const bn_tensor *scale)
{
    const bn_op_params params = {.weight = layer->quant.weight.params};
    bn_op_call call = {.op = BN_OP_WEIGHT_QUANT, .params = &params};
    call.in[0] = *weight;
    if (layer->weight_scale)
        call.in[1] = layer->weight_scale->value;
    call.out[0] = *codes;
    call.out[1] = *scale;
    return bn_backend_forward_alone(backend, &call);
}

/* Appends a site to a capturing trace; a failure shows as BN_NO_VALUE. */
static bool capture(bn_graph *g, bn_value x, bn_quantized q, int64_t group_size, bool is_weight)
{
    if (!g->trace || g->trace->mode != BN_TRACE_CAPTURE)
        return true;
    bn_quant_site site = {.x = x, .q = q, .group_size = group_size, .is_weight = is_weight};
    return bn_quant_trace_add(g->trace, &site) == BN_OK;
}

static bool frozen(const bn_graph *g)
{
    return g->trace && g->trace->mode == BN_TRACE_FROZEN;
}

/* Whether x has been quantized as this layer wants it. */
static bool has_codes(const bn_linear_input *x, const bn_act_params *params)
{
    return x->quantized && x->params.bits == params->bits &&
           x->params.group_size == params->group_size;
}

/* The integer product: quantized activation times quantized weight. */
static bn_value integer_product(const bn_linear_layer *layer, bn_graph *g, bn_linear_input *x,
                                bn_value bias)
{
    const bn_quant_spec *spec = &layer->quant;
    bn_quantized w;
    if (!has_codes(x, &spec->act.params)) {
        x->codes = bn_act_quant(g->tape, x->x, &spec->act.params);
        x->quantized = true;
        x->params = spec->act.params;
        if (!capture(g, x->x, x->codes, x->params.group_size, false))
            return BN_NO_VALUE;
    }
    if (layer->codes.buffer || !layer->weight) {
        w.codes = bn_tape_input(g->tape, &layer->codes);
        w.scale = bn_tape_input(g->tape, &layer->scale);
    } else {
        bn_value weight = bn_tape_param(g->tape, layer->weight);
        const bn_value scale =
            layer->weight_scale ? bn_tape_param(g->tape, layer->weight_scale) : BN_NO_VALUE;
        w = bn_weight_quant(g->tape, weight, scale, &spec->weight.params);
        if (!capture(g, weight, w, spec->weight.params.group_size, true))
            return BN_NO_VALUE;
    }
    return bn_bitlinear(g->tape, x->codes, w, &spec->weight.params, bias);
}

/* The input of a soft product; layers that share it share its quantization. */
static bn_value soft_input(const bn_linear_layer *layer, bn_graph *g, bn_linear_input *x)
{
    const bn_act_params *params = &layer->quant.act.params;
    if (!layer->quant.act.quantized)
        return x->x;
    if (!has_codes(x, params)) {
        x->codes.codes = bn_act_fake_quant(g->tape, x->x, params);
        x->quantized = true;
        x->params = *params;
    }
    return x->codes.codes;
}

/* The product of operands that are partly quantized: w + strength (Q(w) - w). */
static bn_value soft_product(const bn_linear_layer *layer, bn_graph *g, bn_linear_input *x,
                             bn_value bias)
{
    bn_value weight = bn_tape_param(g->tape, layer->weight);
    if (layer->quant.weight.quantized)
        weight = bn_weight_fake_quant(g->tape, weight, &layer->quant.weight.params);
    return bn_linear(g->tape, soft_input(layer, g, x), weight, bias);
}

/* One side quantized: a float product of fake-quantized operands. */
static bn_value float_product(const bn_linear_layer *layer, bn_graph *g, bn_value x, bn_value bias)
{
    const bn_quant_spec *spec = &layer->quant;
    bn_value weight = bn_tape_param(g->tape, layer->weight);
    if (spec->act.quantized) {
        bn_value q = bn_act_fake_quant(g->tape, x, &spec->act.params);
        if (!capture(g, x, (bn_quantized){q, BN_NO_VALUE}, 0, false))
            return BN_NO_VALUE;
        x = q;
    }
    if (spec->weight.quantized) {
        bn_value q = bn_weight_fake_quant(g->tape, weight, &spec->weight.params);
        if (!capture(g, weight, (bn_quantized){q, BN_NO_VALUE}, spec->weight.params.group_size,
                     true))
            return BN_NO_VALUE;
        weight = q;
    }
    return bn_linear(g->tape, x, weight, bias);
}

/* The stand-in whose gradient the straight-through estimator is: operands plus
 * constant residuals, in the order in which they were captured. */
static bn_value frozen_product(const bn_linear_layer *layer, bn_graph *g, bn_linear_input *x,
                               bn_value bias)
{
    const bn_quant_spec *spec = &layer->quant;
    bn_value weight = bn_tape_param(g->tape, layer->weight);
    bool shared = spec->weight.quantized; /* integer_product() quantizes x once */
    if (spec->act.quantized && !(shared && has_codes(x, &spec->act.params))) {
        x->codes.codes = bn_quant_trace_freeze(g->trace, g->tape, x->x);
        x->quantized = shared;
        x->params = spec->act.params;
    }
    bn_value operand = spec->act.quantized ? x->codes.codes : x->x;
    if (spec->weight.quantized)
        weight = bn_quant_trace_freeze(g->trace, g->tape, weight);
    return bn_linear(g->tape, operand, weight, bias);
}

static bn_value own_forward(const bn_linear_layer *layer, bn_graph *g, bn_linear_input *x)
{
    bn_value bias = layer->bias ? bn_tape_param(g->tape, layer->bias) : BN_NO_VALUE;
    if (layer->quant.act.hadamard) /* such a layer shares its input with no other */
        x->x = bn_hadamard(g->tape, x->x);
    if (g->see_input)
        g->see_input(g->see_arg, layer, x->x);
    if (!layer->is_bit || g->strength == BN_STRENGTH_NONE)
        return bn_linear(g->tape, x->x, bn_tape_param(g->tape, layer->weight), bias);
    if (g->strength == BN_STRENGTH_SOFT)
        return soft_product(layer, g, x, bias);
    if (frozen(g))
        return frozen_product(layer, g, x, bias);
    if (layer->quant.weight.quantized && layer->quant.act.quantized)
        return integer_product(layer, g, x, bias);
    return float_product(layer, g, x->x, bias);
}

bn_value bn_linear_layer_forward(const bn_linear_layer *layer, bn_graph *g, bn_linear_input *x)
{
    bn_value y = own_forward(layer, g, x);
    return bn_lora_forward(layer->lora, g, x->x, y);
}
