#include "layers/layer_util.h"

bn_status bn_mlp_layer_init(bn_mlp_layer *layer, const char *name, int64_t hidden,
                            int64_t intermediate, bn_activation activation, double eps)
{
    char full[BN_LAYER_NAME_MAX];
    *layer = (bn_mlp_layer){.activation = activation};
    BN_TRY(bn_layer_linear(&layer->gate_proj, name, ".gate_proj", hidden, intermediate));
    BN_TRY(bn_layer_linear(&layer->up_proj, name, ".up_proj", hidden, intermediate));
    BN_TRY(bn_layer_linear(&layer->down_proj, name, ".down_proj", intermediate, hidden));
    layer->down_proj.closes_block = true;
    BN_TRY(bn_layer_name(full, name, ".ffn_sub_norm"));
    return bn_norm_layer_init(&layer->sub_norm, full, intermediate, eps);
}

bn_status bn_mlp_layer_register(bn_mlp_layer *layer, bn_param_set *set, bool packed)
{
    BN_TRY(bn_linear_layer_register(&layer->gate_proj, set, packed));
    BN_TRY(bn_linear_layer_register(&layer->up_proj, set, packed));
    BN_TRY(bn_linear_layer_register(&layer->down_proj, set, packed));
    return bn_norm_layer_register(&layer->sub_norm, set);
}

bn_value bn_mlp_layer_forward(const bn_mlp_layer *layer, bn_graph *g, bn_value x)
{
    bn_linear_input in = bn_linear_input_of(x);
    bn_value gate = bn_linear_layer_forward(&layer->gate_proj, g, &in);
    bn_value up = bn_linear_layer_forward(&layer->up_proj, g, &in);
    bn_value h = bn_glu(g->tape, gate, up, layer->activation);
    bn_linear_input normed = bn_linear_input_of(bn_norm_layer_forward(&layer->sub_norm, g, h));
    return bn_linear_layer_forward(&layer->down_proj, g, &normed);
}
