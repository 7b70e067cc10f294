#include "bench/workload.h"

#define SHAPE(HIDDEN, FFN, LAYERS, HEADS, CONTEXT)                                                 \
    "{\"model\": {\"hidden_size\": " #HIDDEN ", \"intermediate_size\": " #FFN                      \
    ", \"num_hidden_layers\": " #LAYERS ", \"num_attention_heads\": " #HEADS                       \
    ", \"max_position_embeddings\": " #CONTEXT                                                     \
    "}, \"quantization\": {\"weight_scale\": \"tensor\"}}"

/* Ends with a row whose name is NULL. */
static const workload workloads[] = {
    {"A", SHAPE(128, 384, 4, 4, 128), 65, 16, 128},
    {"B", SHAPE(384, 1024, 6, 6, 256), 65, 8, 256},
    {0},
};

bn_status workload_model(const workload *w, bn_backend *backend, bool with_grads, bn_model **out)
{
    bn_config config;
    BN_TRY(bn_config_parse(w->config, w->name, &config));
    bn_model *model = NULL;
    bn_status status = bn_model_create(&config, w->vocab, backend, BN_MODEL_FLOAT, &model);
    bn_config_clear(&config);
    if (status == BN_OK)
        status = bn_model_alloc(model, with_grads);
    if (status == BN_OK)
        status = bn_model_init(model, 1);
    if (status != BN_OK)
        bn_model_free(model);
    else
        *out = model;
    return status;
}

int workload_main(int argc, char **argv, workload_body body)
{
    bench b;
    bool done = false;
    bn_status status = bench_init(&b, argc, argv, &done);
    for (const workload *w = workloads; status == BN_OK && !done && w->name; w++)
        if (bench_wants(&b, w->name))
            status = body(&b, w);
    return bench_finish(&b, status);
}
