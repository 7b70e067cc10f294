#include "layers/layer_util.h"

bn_status bn_embedding_layer_init(bn_embedding_layer *layer, const char *name, int64_t vocab,
                                  int64_t hidden)
{
    *layer = (bn_embedding_layer){.vocab = vocab, .hidden = hidden};
    return bn_layer_name(layer->name, "", name);
}

bn_status bn_embedding_layer_register(bn_embedding_layer *layer, bn_param_set *set)
{
    return bn_layer_param(set, layer->name, "weight", BN_PARAM_EMBEDDING, 2,
                          (const int64_t[]){layer->vocab, layer->hidden}, &layer->weight);
}

bn_value bn_embedding_layer_forward(const bn_embedding_layer *layer, bn_graph *g, bn_value ids)
{
    return bn_embedding(g->tape, ids, bn_tape_param(g->tape, layer->weight));
}
