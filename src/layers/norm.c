#include "layers/layer_util.h"

bn_status bn_norm_layer_init(bn_norm_layer *layer, const char *name, int64_t size, double eps)
{
    *layer = (bn_norm_layer){.size = size, .eps = eps};
    return bn_layer_name(layer->name, "", name);
}

bn_status bn_norm_layer_register(bn_norm_layer *layer, bn_param_set *set)
{
    return bn_layer_param(set, layer->name, "weight", BN_PARAM_NORM, 1,
                          (const int64_t[]){layer->size}, &layer->weight);
}

bn_value bn_norm_layer_forward(const bn_norm_layer *layer, bn_graph *g, bn_value x)
{
    return bn_rmsnorm(g->tape, x, bn_tape_param(g->tape, layer->weight), layer->eps);
}
