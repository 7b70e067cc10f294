#include "bench/workload.h"

#include <stdlib.h>

#include "base/rng.h"

#define SHAPE(HIDDEN, FFN, LAYERS, HEADS, CONTEXT, BACKWARD)                                       \
    "{\"model\": {\"hidden_size\": " #HIDDEN ", \"intermediate_size\": " #FFN                      \
    ", \"num_hidden_layers\": " #LAYERS ", \"num_attention_heads\": " #HEADS                       \
    ", \"max_position_embeddings\": " #CONTEXT                                                     \
    "}, \"quantization\": {\"weight_scale\": \"tensor\"}, "                                        \
    "\"training\": {\"backward_precision\": \"" BACKWARD "\"}}"

#define BIG_SHAPE(HIDDEN, FFN, LAYERS, HEADS, KV_HEADS)                                            \
    "{\"model\": {\"hidden_size\": " #HIDDEN ", \"intermediate_size\": " #FFN                      \
    ", \"num_hidden_layers\": " #LAYERS ", \"num_attention_heads\": " #HEADS                       \
    ", \"num_key_value_heads\": " #KV_HEADS ", \"max_position_embeddings\": 1024"                  \
    "}, \"quantization\": {\"weight_scale\": \"tensor\"}}"

/* Ends with a row whose name is NULL. */
static const workload workloads[] = {
    {"A", SHAPE(128, 384, 4, 4, 128, "float32"), 65, 16, 128, false},
    {"A, int16 backward", SHAPE(128, 384, 4, 4, 128, "int16"), 65, 16, 128, false},
    {"B", SHAPE(384, 1024, 6, 6, 256, "float32"), 65, 8, 256, false},
    {"B, int16 backward", SHAPE(384, 1024, 6, 6, 256, "int16"), 65, 8, 256, false},
    {"0.7B", BIG_SHAPE(1536, 4096, 24, 16, 16), 32002, 1, 512, true},
    {"2B-4T", BIG_SHAPE(2560, 6912, 30, 20, 5), 128256, 1, 512, true},
    {0},
};

/* Packed weights that were never floats. */
static bn_status random_codes(bn_model *model)
{
    bn_rng rng = bn_rng_of(5, 5);
    uint8_t valid[81]; /* bytes of four codes */
    for (int i = 0; i < 81; i++)
        valid[i] = (uint8_t)(i % 3 | i / 3 % 3 << 2 | i / 9 % 3 << 4 | i / 27 << 6);
    for (int i = 0; i < model->n_linears; i++) {
        const bn_linear_layer *layer = model->linears[i];
        const size_t bytes = bn_tensor_bytes(&layer->codes);
        uint8_t *codes = malloc(bytes);
        if (!codes)
            return bn_error_nomem(layer->name, bytes);
        for (size_t k = 0; k < bytes; k++)
            codes[k] = valid[bn_rng_below(&rng, 81)];
        bn_status status = model->backend->upload(model->backend, &layer->codes, codes);
        free(codes);
        BN_TRY(status);
        BN_TRY(bn_backend_put_f32(model->backend, &layer->scale, &(float){0.02f}, 1));
    }
    return BN_OK;
}

bn_status workload_model(const workload *w, bn_backend *backend, bool with_grads, bn_model **out)
{
    bn_config config;
    BN_TRY(bn_config_parse(w->config, w->name, &config));
    bn_model *model = NULL;
    bn_status status = bn_model_create(&config, w->vocab, backend,
                                       w->packed ? BN_MODEL_PACKED : BN_MODEL_FLOAT, &model);
    bn_config_clear(&config);
    if (status == BN_OK)
        status = bn_model_alloc(model, with_grads);
    if (status == BN_OK)
        status = bn_model_init(model, 1);
    if (status == BN_OK && w->packed)
        status = random_codes(model);
    if (status != BN_OK)
        bn_model_free(model);
    else
        *out = model;
    return status;
}

int workload_main(int argc, char **argv, bn_status (*first)(bench *b), workload_body body)
{
    bench b;
    bool done = false;
    bn_status status = bench_init(&b, argc, argv, &done);
    if (status == BN_OK && !done && first)
        status = first(&b);
    for (const workload *w = workloads; status == BN_OK && !done && w->name; w++)
        if (bench_wants(&b, w->name))
            status = body(&b, w);
    return bench_finish(&b, status);
}
