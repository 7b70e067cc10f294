#include "tools/start_checkpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Room for the moments of the largest parameter; all of them are zero. */
static float *zeros_for(const bn_export_set *set)
{
    int64_t most = 1;
    for (int i = 0; i < set->count; i++)
        most = set->items[i].count > most ? set->items[i].count : most;
    return calloc((size_t)most, sizeof(float));
}

static bn_status save(const char *path, const bn_train_state *state, const bn_export_set *set)
{
    bn_status status = BN_FAIL;
    float *zeros = zeros_for(set);
    bn_checkpoint_param *params = calloc((size_t)set->count + 1, sizeof *params);
    if (zeros && params) {
        for (int i = 0; i < set->count; i++) {
            const bn_export_item *item = &set->items[i];
            params[i] = (bn_checkpoint_param){.name = item->name,
                                              .ndim = item->ndim,
                                              .value = item->data,
                                              .moment1 = zeros,
                                              .moment2 = zeros};
            memcpy(params[i].shape, item->shape, sizeof item->shape);
        }
        status = bn_checkpoint_save(path, state, params, set->count, NULL, 0);
    } else {
        status = bn_error_nomem("the checkpoint", (size_t)set->count * sizeof *params);
    }
    free(params);
    free(zeros);
    return status;
}

bn_status bn_start_save(const char *path, const bn_start *start, const bn_export_set *set)
{
    const uint64_t seed = (uint64_t)start->config->training.seed;
    char *config_json;
    BN_TRY(bn_config_dump(start->config, &config_json));
    const bn_train_state state = {
        .seed = seed,
        .data_seed = seed,
        .best_val_loss = (double)INFINITY,
        .best_step = -1,
        .config_json = config_json,
        .tokenizer = start->tokenizer,
        .producer = start->producer,
        .device = start->origin,
    };
    bn_status status = save(path, &state, set);
    free(config_json);
    return status;
}
