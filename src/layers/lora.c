#include "layers/lora.h"

#include "layers/layer_util.h"

bn_status bn_lora_register(bn_lora *lora, const bn_linear_layer *layer, int64_t rank,
                           bn_param_set *set)
{
    BN_TRY(bn_layer_param(set, layer->name, "lora_A.weight", BN_PARAM_LINEAR, 2,
                          (const int64_t[]){rank, layer->in}, &lora->a));
    return bn_layer_param(set, layer->name, "lora_B.weight", BN_PARAM_LINEAR, 2,
                          (const int64_t[]){layer->out, rank}, &lora->b);
}

static bn_value add_one(const bn_lora *lora, bn_graph *g, bn_value x, bn_value y)
{
    bn_tape *t = g->tape;
    x = bn_dropout(t, x, g->adapter_dropout);
    bn_value h = bn_linear(t, x, bn_tape_param(t, lora->a), BN_NO_VALUE);
    h = bn_linear(t, bn_scale(t, h, lora->scale), bn_tape_param(t, lora->b), BN_NO_VALUE);
    return bn_add(t, y, h);
}

bn_value bn_lora_forward(const bn_lora *lora, bn_graph *g, bn_value x, bn_value y)
{
    for (; lora; lora = lora->next)
        y = add_one(lora, g, x, y);
    return y;
}
