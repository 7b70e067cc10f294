#include "train/adapter_run.h"

#include <stdlib.h>

static bn_status check_tokenizer(const bn_trainer *t)
{
    const uint64_t base = bn_tokenizer_hash(t->base.tokenizer);
    const uint64_t run = bn_tokenizer_hash(t->data->tokenizer);
    if (base == run)
        return BN_OK;
    return bn_error(BN_BAD_CONFIG,
                    "data.tokenizer: expected that of the base %s (hash %016llx), found %s (hash "
                    "%016llx)",
                    t->base.path, (unsigned long long)base, t->config->data.tokenizer,
                    (unsigned long long)run);
}

bn_status bn_adapter_run_open(bn_trainer *t)
{
    const char *path = t->config->adapter.base;
    BN_TRY(bn_loaded_open_base(path, t->backend, t->config, &t->base));
    t->model = t->base.model;
    BN_TRY(check_tokenizer(t));
    BN_TRY(bn_model_identity(t->model, t->base_id));
    BN_TRY(bn_adapter_new(t->config, t->model, &t->adapter));
    BN_TRY(bn_adapter_alloc(t->adapter, true));
    BN_TRY(bn_adapter_init(t->adapter, (uint64_t)t->config->training.seed));
    bn_adapter_use(t->model, t->adapter);
    return BN_OK;
}

bn_status bn_adapter_run_check(const bn_trainer *t, bn_checkpoint *checkpoint)
{
    uint8_t saved[BN_SHA256_BYTES];
    bool known;
    BN_TRY(bn_adapter_base_of(checkpoint, saved, &known));
    if (known && !t->adapter)
        return bn_error(BN_BAD_CONFIG, "adapter.base: the checkpoint holds adapters: expected the "
                                       "model they belong to, found null");
    if (!known && t->adapter)
        return bn_error(BN_BAD_CONFIG,
                        "adapter.base: the checkpoint holds a model, no adapters: "
                        "expected null (to adapt that model, give it as the base of "
                        "a new run), found %s",
                        t->config->adapter.base);
    return known ? bn_adapter_expect_base(saved, t->base_id, t->base.path) : BN_OK;
}
