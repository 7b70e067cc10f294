#include "train/checkpoint_io.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/json.h"
#include "train/adapter_run.h"
#include "model/load.h"
#include "quant/pack.h"

#define PRODUCER "bitnet-train"

/* Host views of all parameters and moments: addresses of device memory where a
 * tensor is within reach and as the file has it, else copies in `copy`. */
typedef struct host_params {
    bn_checkpoint_param *items;
    int count;
    char *copy; /* NULL: items point into device memory */
} host_params;

/* What a parameter's state is made of. */
enum { VALUE, M, M_ABSMAX, V, V_ABSMAX, ROLES };

static void role_tensors(const bn_trainer *t, int index, bn_tensor out[ROLES])
{
    const bn_moments *moments = &t->optimizer.moments[index];
    out[VALUE] = t->params->items[index]->value;
    out[M] = moments->m.values;
    out[M_ABSMAX] = moments->m.absmax;
    out[V] = moments->v.values;
    out[V_ABSMAX] = moments->v.absmax;
}

static bool in_place(const bn_tensor *tensor)
{
    return tensor->buffer->host && (tensor->dtype == BN_F32 || tensor->dtype == BN_U8);
}

/* Of a tensor in a file, where it is codes or float32. */
static size_t file_bytes(const bn_tensor *tensor)
{
    const size_t n = (size_t)bn_tensor_numel(tensor);
    return tensor->dtype == BN_U8 ? n : n * sizeof(float);
}

/* Of all tensors; `copied`: of those that are not in place, each a multiple of a float. */
static size_t all_bytes(const bn_trainer *t, bool copied)
{
    size_t sum = 0;
    for (int i = 0; i < t->params->count; i++) {
        bn_tensor tensors[ROLES];
        role_tensors(t, i, tensors);
        for (int k = 0; k < ROLES; k++)
            if (bn_tensor_present(&tensors[k]) && !(copied && in_place(&tensors[k])))
                sum += bn_align_up(file_bytes(&tensors[k]), sizeof(float));
    }
    return sum;
}

static void host_params_clear(host_params *host)
{
    free(host->items);
    free(host->copy);
    *host = (host_params){0};
}

static bn_checkpoint_param item_of(const bn_param *p, void *const at[ROLES])
{
    bn_checkpoint_param item = {.name = p->name, .ndim = p->value.ndim, .value = at[VALUE]};
    memcpy(item.shape, p->value.shape, sizeof item.shape);
    item.codes1 = at[M_ABSMAX] ? at[M] : NULL;
    item.moment1 = at[M_ABSMAX] ? at[M_ABSMAX] : at[M];
    item.codes2 = at[V_ABSMAX] ? at[V] : NULL;
    item.moment2 = at[V_ABSMAX] ? at[V_ABSMAX] : at[V];
    return item;
}

static bn_status host_params_init(const bn_trainer *t, host_params *out)
{
    const bn_param_set *set = t->params;
    *out = (host_params){.count = set->count};
    out->items = calloc((size_t)set->count, sizeof *out->items);
    const size_t bytes = all_bytes(t, true);
    if (bytes)
        out->copy = malloc(bytes);
    if (!out->items || (bytes && !out->copy)) {
        host_params_clear(out);
        return bn_error_nomem("the arrays of a checkpoint", bytes);
    }
    char *next = out->copy;
    for (int i = 0; i < set->count; i++) {
        bn_tensor tensors[ROLES];
        void *at[ROLES] = {NULL};
        role_tensors(t, i, tensors);
        for (int k = 0; k < ROLES; k++) {
            if (!bn_tensor_present(&tensors[k]))
                continue;
            at[k] = in_place(&tensors[k]) ? bn_tensor_data(&tensors[k]) : next;
            if (!in_place(&tensors[k]))
                next += bn_align_up(file_bytes(&tensors[k]), sizeof(float));
        }
        out->items[i] = item_of(set->items[i], at);
    }
    return BN_OK;
}

static bn_status move_tensor(bn_backend *backend, const bn_tensor *tensor, void *at, bool to_device)
{
    const int64_t n = bn_tensor_numel(tensor);
    if (tensor->dtype == BN_U8)
        return to_device ? backend->upload(backend, tensor, at)
                         : backend->download(backend, tensor, at);
    return to_device ? bn_backend_put_f32(backend, tensor, at, n)
                     : bn_backend_get_f32(backend, tensor, at, n);
}

/* Between device and copies; nothing to do for what is in place. */
static bn_status host_params_move(bn_trainer *t, host_params *host, bool to_device)
{
    for (int i = 0; i < host->count; i++) {
        const bn_checkpoint_param *item = &host->items[i];
        void *const at[ROLES] = {
            [VALUE] = item->value,      [M] = item->codes1 ? (void *)item->codes1 : item->moment1,
            [M_ABSMAX] = item->moment1, [V] = item->codes2 ? (void *)item->codes2 : item->moment2,
            [V_ABSMAX] = item->moment2,
        };
        bn_tensor tensors[ROLES];
        role_tensors(t, i, tensors);
        for (int k = 0; k < ROLES; k++)
            if (bn_tensor_present(&tensors[k]) && !in_place(&tensors[k]))
                BN_TRY(move_tensor(t->backend, &tensors[k], at[k], to_device));
    }
    return t->backend->sync(t->backend);
}

/* Number of the oldest loss in a window. */
static int64_t oldest(const bn_loss_window *window)
{
    return window->count > BN_HEALTH_WINDOW ? window->count - BN_HEALTH_WINDOW : 0;
}

static bn_status progress_json(const bn_train_progress *progress, char **out)
{
    bn_json json = {0};
    bn_json_object(&json, NULL);
    bn_json_double(&json, "loss_sum", progress->loss_sum);
    bn_json_int(&json, "loss_count", progress->loss_count);
    bn_json_double(&json, "last_loss", progress->last_loss);
    bn_json_double(&json, "training_s", progress->training_s);
    bn_json_double(&json, "lr_factor", progress->lr_factor);
    bn_json_int(&json, "rollbacks", progress->rollbacks);
    bn_json_bool(&json, "pending", progress->pending);
    bn_json_double(&json, "step_lr", progress->step_lr);
    bn_json_double(&json, "step_grad_norm", progress->step_grad_norm);
    bn_json_array(&json, "recent");
    for (int64_t n = oldest(&progress->recent); n < progress->recent.count; n++)
        bn_json_double(&json, NULL, progress->recent.losses[n % BN_HEALTH_WINDOW]);
    bn_json_array_end(&json);
    bn_json_object_end(&json);
    return bn_json_take(&json, out);
}

static bn_train_state state_of(const bn_trainer *t, uint64_t metrics_bytes)
{
    const bn_train_progress *p = &t->progress;
    const bn_batcher_state place = bn_feed_state(&t->feed);
    return (bn_train_state){
        .step = p->step,
        .tokens_seen = p->tokens_seen,
        .seed = (uint64_t)t->config->training.seed,
        .data_seed = place.seed,
        .data_epoch = place.epoch,
        .data_index = place.index,
        .best_val_loss = p->best_val_loss,
        .best_step = p->best_step,
        .evals_since_best = p->evals_since_best,
        .metrics_bytes = metrics_bytes,
        .elapsed_s = p->elapsed_s,
        .tokenizer = bn_tokenizer_source(t->data->tokenizer),
        .producer = PRODUCER,
        .device = t->backend->name,
    };
}

bn_status bn_trainer_save(bn_trainer *t, const char *path, uint64_t metrics_bytes)
{
    bn_status status = BN_OK;
    bn_train_state state = state_of(t, metrics_bytes);
    char *config = NULL, *progress = NULL;
    host_params host = {0};
    BN_TRY_OUT(bn_config_dump(t->config, &config));
    BN_TRY_OUT(progress_json(&t->progress, &progress));
    BN_TRY_OUT(host_params_init(t, &host));
    BN_TRY_OUT(host_params_move(t, &host, false));
    state.config_json = config;
    bn_checkpoint_extra extras[6] = {
        {"progress", progress, strlen(progress)},
        {"data", &t->data->identity, sizeof t->data->identity},
        {"telemetry_codes", t->telemetry.codes, t->telemetry.code_bytes},
        {"telemetry_scales", t->telemetry.scales,
         (size_t)t->telemetry.count * sizeof *t->telemetry.scales},
        {"telemetry_directions", t->telemetry.directions, t->telemetry.code_bytes},
    };
    int extra_count = t->telemetry.count ? 5 : 2;
    if (t->adapter) /* its base has no shadow weights to measure */
        extras[extra_count++] =
            (bn_checkpoint_extra){BN_ADAPTER_BASE, t->base_id, sizeof t->base_id};
    BN_TRY_OUT(bn_checkpoint_save(path, &state, host.items, host.count, extras, extra_count));
out:
    host_params_clear(&host);
    free(progress);
    free(config);
    return status;
}

uint64_t bn_trainer_save_bytes(const bn_trainer *t)
{
    enum { PER_ARRAY = 4096, FIXED = 1 << 16 }; /* what HDF5 keeps around the data */
    const char *tokenizer = bn_tokenizer_source(t->data->tokenizer);
    const uint64_t arrays = ROLES * (uint64_t)t->params->count;
    return FIXED + arrays * PER_ARRAY + all_bytes(t, false) + 2 * t->telemetry.code_bytes +
           strlen(tokenizer);
}

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : (double)NAN; /* NaN was written as null */
}

/* Files of before there were spikes have none of these. */
static void restore_health(const cJSON *json, bn_train_progress *p)
{
    const cJSON *item;
    const double factor = number(json, "lr_factor"), rollbacks = number(json, "rollbacks");
    p->lr_factor = factor > 0.0 && factor <= 1.0 ? factor : 1.0;
    p->rollbacks = rollbacks > 0.0 && rollbacks <= 1000.0 ? (int64_t)rollbacks : 0;
    p->pending = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "pending"));
    p->step_lr = number(json, "step_lr");
    p->step_grad_norm = number(json, "step_grad_norm");
    cJSON_ArrayForEach(item,
                       cJSON_GetObjectItemCaseSensitive(json, "recent")) if (cJSON_IsNumber(item))
        bn_loss_window_add(&p->recent, item->valuedouble);
}

static bn_status restore_progress(bn_trainer *t, bn_checkpoint *checkpoint)
{
    enum { LIMIT = 1 << 16 };
    const bn_train_state *state = bn_checkpoint_state(checkpoint);
    bn_train_progress *p = &t->progress;
    void *text;
    size_t bytes;
    cJSON *json;
    BN_TRY(bn_checkpoint_get_extra(checkpoint, "progress", LIMIT, &text, &bytes));
    if (!text)
        return bn_error(BN_BAD_DATA, "extra/progress is missing");
    bn_status status = bn_json_parse("extra/progress", text, bytes, &json);
    free(text);
    BN_TRY(status);
    *p = (bn_train_progress){
        .step = state->step,
        .tokens_seen = state->tokens_seen,
        .best_val_loss = state->best_val_loss,
        .best_step = state->best_step,
        .evals_since_best = state->evals_since_best,
        .elapsed_s = state->elapsed_s,
        .loss_sum = number(json, "loss_sum"),
        .last_loss = number(json, "last_loss"),
        .training_s = number(json, "training_s"),
    };
    restore_health(json, p);
    const double count = number(json, "loss_count");
    if (count >= 0 && count <= (double)state->step)
        p->loss_count = (int64_t)count;
    else
        status = bn_error(BN_BAD_DATA, "extra/progress: loss_count is %g, expected 0 to %lld",
                          count, (long long)state->step);
    cJSON_Delete(json);
    return status;
}

/* extra/NAME of exactly `expected` bytes into `to`. */
static bn_status restore_extra(bn_checkpoint *checkpoint, const char *name, void *to,
                               size_t expected)
{
    void *data;
    size_t bytes;
    BN_TRY(bn_checkpoint_get_extra(checkpoint, name, expected, &data, &bytes));
    bn_status status = BN_OK;
    if (bytes != expected)
        status =
            bn_error(BN_BAD_DATA, "extra/%s: expected %zu bytes, found %zu", name, expected, bytes);
    else
        memcpy(to, data, bytes);
    free(data);
    return status;
}

static bn_status restore_telemetry(bn_trainer *t, bn_checkpoint *checkpoint)
{
    bn_telemetry *telemetry = &t->telemetry;
    if (telemetry->count == 0)
        return BN_OK;
    BN_TRY(restore_extra(checkpoint, "telemetry_codes", telemetry->codes, telemetry->code_bytes));
    BN_TRY(restore_extra(checkpoint, "telemetry_scales", telemetry->scales,
                         (size_t)telemetry->count * sizeof *telemetry->scales));
    void *data;
    size_t bytes;
    BN_TRY(bn_checkpoint_get_extra(checkpoint, "telemetry_directions", telemetry->code_bytes, &data,
                                   &bytes));
    free(data);
    if (!data) { /* a checkpoint from before there were any: no code has moved */
        memset(telemetry->directions, BN_T2_ZERO_BYTE, telemetry->code_bytes);
        return BN_OK;
    }
    return restore_extra(checkpoint, "telemetry_directions", telemetry->directions,
                         telemetry->code_bytes);
}

/* The keys that say, next to the data itself, which windows come in which order. */
static bool orders_data(const char *key)
{
    return strcmp(key, "training.seq_len") == 0 || strcmp(key, "training.seed") == 0;
}

static bn_status read_identity(bn_checkpoint *checkpoint, bn_restored *out)
{
    void *data;
    size_t bytes;
    BN_TRY(bn_checkpoint_get_extra(checkpoint, "data", sizeof out->data, &data, &bytes));
    out->data_known = bytes == sizeof out->data;
    if (out->data_known)
        memcpy(&out->data, data, sizeof out->data);
    free(data);
    return BN_OK;
}

static bn_status restore_data(bn_trainer *t, bn_checkpoint *checkpoint, const bn_config *saved,
                              bn_restored *out)
{
    bn_config_diff diff;
    const bn_train_state *state = bn_checkpoint_state(checkpoint);
    const bn_data_identity *was = &out->data, *is = &t->data->identity;
    BN_TRY(read_identity(checkpoint, out));
    BN_TRY(bn_config_compare(saved, t->config, &diff));
    out->data_restarted = t->one_batch || !out->data_known || was->train != is->train ||
                          was->train_hash != is->train_hash;
    for (int64_t i = 0; i < diff.count; i++)
        out->data_restarted |= orders_data(diff.items[i].key);
    bn_config_diff_clear(&diff);
    const bn_batcher_state place = {state->data_seed, state->data_epoch, state->data_index};
    return out->data_restarted ? bn_feed_rewind(&t->feed) : bn_feed_restore(&t->feed, &place);
}

static bn_status restore_arrays(bn_trainer *t, bn_checkpoint *checkpoint)
{
    host_params host;
    if (!bn_checkpoint_has_moments(checkpoint))
        return bn_error(BN_BAD_DATA, "holds no optimizer moments: training cannot go on from it");
    BN_TRY(host_params_init(t, &host));
    bn_status status = bn_checkpoint_load(checkpoint, host.items, host.count);
    if (status == BN_OK)
        status = host_params_move(t, &host, true);
    host_params_clear(&host);
    return status;
}

/* Where a tokenizer lies may have changed, what it does may not. */
static bn_status check_tokenizer(const bn_trainer *t, const bn_tokenizer *saved, const char *where)
{
    const uint64_t was = bn_tokenizer_hash(saved), is = bn_tokenizer_hash(t->data->tokenizer);
    if (was == is)
        return BN_OK;
    return bn_error(BN_BAD_CONFIG,
                    "data.tokenizer: %s was trained with another tokenizer (hash %016llx) than %s "
                    "(hash %016llx)",
                    where, (unsigned long long)was, t->config->data.tokenizer,
                    (unsigned long long)is);
}

static bn_status check_saved_tokenizer(const bn_trainer *t, const bn_train_state *state)
{
    bn_tokenizer *saved;
    bn_status status = bn_tokenizer_new(state->tokenizer, &saved);
    if (status != BN_OK)
        return bn_error_in(status == BN_BAD_CONFIG ? BN_BAD_DATA : status,
                           "the checkpoint's tokenizer");
    status = check_tokenizer(t, saved, "the checkpoint");
    bn_tokenizer_free(saved);
    return status;
}

static bn_status init_from(bn_trainer *t)
{
    bn_loaded from;
    BN_TRY(bn_loaded_open(t->config->training.init_from, t->backend, false, &from));
    /* An MLP has no use for its tokenizer. */
    bn_status status =
        bn_model_is_classifier(t->model) ? BN_OK : check_tokenizer(t, from.tokenizer, from.path);
    if (status == BN_OK)
        status = bn_loaded_give(&from, t->model);
    bn_loaded_clear(&from);
    return status == BN_OK ? bn_telemetry_begin(&t->telemetry) : status;
}

bn_status bn_trainer_start(bn_trainer *t)
{
    if (t->config->training.init_from)
        return init_from(t);
    if (t->adapter && t->config->adapter.init_lora_weights == BN_INIT_LORA_RESIDUAL)
        return bn_adapter_init_residual(t->adapter, t->base.path);
    return BN_OK;
}

bn_status bn_trainer_restore(bn_trainer *t, bn_checkpoint *checkpoint, bn_restored *out)
{
    bn_status status = BN_OK;
    *out = (bn_restored){0};
    const bn_train_state *state = bn_checkpoint_state(checkpoint);
    bn_config saved;
    BN_TRY(bn_checkpoint_config("the checkpoint's configuration", checkpoint, &saved));
    BN_TRY_OUT(bn_config_check_resume(&saved, t->config));
    BN_TRY_OUT(check_saved_tokenizer(t, state));
    BN_TRY_OUT(bn_adapter_run_check(t, checkpoint));
    BN_TRY_OUT(restore_arrays(t, checkpoint));
    t->optimizer.step = state->step;
    if (state->step == 0) { /* an import, say: nothing but the weights is there to go on from */
        out->data_restarted = true;
        t->progress = bn_train_progress_new();
        BN_TRY_OUT(bn_feed_rewind(&t->feed));
        status = bn_telemetry_begin(&t->telemetry);
        goto out;
    }
    BN_TRY_OUT(restore_progress(t, checkpoint));
    BN_TRY_OUT(restore_telemetry(t, checkpoint));
    BN_TRY_OUT(restore_data(t, checkpoint, &saved, out));
out:
    bn_config_clear(&saved);
    return status;
}
