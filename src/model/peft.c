#include "model/peft.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "interop/safetensors.h"

static const char config_name[] = "adapter_config.json";
static const char weights_name[] = "adapter_model.safetensors";
static const char identity_name[] = "base.sha256";
static const char prefix[] = "base_model.model.";
static const char a_suffix[] = ".lora_A.weight", b_suffix[] = ".lora_B.weight";

enum { JSON_LIMIT = 1 << 20, PEFT_NAME_MAX = sizeof prefix + BN_PARAM_NAME_MAX };

bool bn_peft_is(const char *path)
{
    char file[PATH_MAX]; /* no allocation: its failure would look like another kind of adapter */
    const int length = snprintf(file, sizeof file, "%s/%s", path, config_name);
    return length < (int)sizeof file && bn_fs_exists(file);
}

/* ---- reading ------------------------------------------------------------ */

static bool is_empty(const cJSON *item)
{
    return !item || cJSON_IsNull(item) || cJSON_IsFalse(item) ||
           ((cJSON_IsArray(item) || cJSON_IsObject(item)) && !item->child) ||
           (cJSON_IsString(item) && strcmp(item->valuestring, "none") == 0);
}

/* What changes the formula, or adds parameters. */
static bn_status check_kind(const char *path, const cJSON *json)
{
    static const char *const unknown[] = {"use_dora",          "bias",          "modules_to_save",
                                          "rank_pattern",      "alpha_pattern", "fan_in_fan_out",
                                          "layer_replication", "lora_bias"};
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(json, "peft_type");
    if (!cJSON_IsString(type) || strcmp(type->valuestring, "LORA") != 0)
        return bn_error(BN_BAD_DATA, "%s: peft_type: expected \"LORA\", found %s", path,
                        cJSON_IsString(type) ? type->valuestring : "none");
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        if (!is_empty(cJSON_GetObjectItemCaseSensitive(json, unknown[i])))
            return bn_error(BN_BAD_DATA, "%s: %s: adapters with it are not supported", path,
                            unknown[i]);
    return BN_OK;
}

static bn_status set_number(const char *path, const cJSON *json, const char *key, bn_config *config)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
    char text[96];
    if (!cJSON_IsNumber(item))
        return bn_error(BN_BAD_DATA, "%s: %s: expected a number", path, key);
    snprintf(text, sizeof text, "adapter.%s=%.17g", key, item->valuedouble);
    return bn_error_in(bn_config_set(config, text), path);
}

static bn_status read_config(const char *dir, bn_config *config)
{
    cJSON *json = NULL;
    char *path = bn_path_join(dir, config_name);
    bn_status status = path ? bn_json_read(path, JSON_LIMIT, &json) : BN_FAIL;
    if (status == BN_OK)
        status = check_kind(path, json);
    if (status == BN_OK)
        status = set_number(path, json, "r", config);
    if (status == BN_OK)
        status = set_number(path, json, "lora_alpha", config);
    if (status == BN_OK) /* false where PEFT does not say, whatever the base's config has */
        config->adapter.use_rslora =
            cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "use_rslora"));
    cJSON_Delete(json);
    free(path);
    return status == BN_BAD_CONFIG ? BN_BAD_DATA : status;
}

/* The layer that a tensor belongs to, into `name`; false: none. */
static bool layer_of(const char *tensor, char name[BN_LAYER_NAME_MAX])
{
    const size_t length = strlen(tensor), head = strlen(prefix), tail = strlen(a_suffix);
    if (length <= head + tail || length - head - tail >= BN_LAYER_NAME_MAX ||
        strncmp(tensor, prefix, head) != 0 ||
        (strcmp(tensor + length - tail, a_suffix) != 0 &&
         strcmp(tensor + length - tail, b_suffix) != 0))
        return false;
    memcpy(name, tensor + head, length - head - tail);
    name[length - head - tail] = '\0';
    return true;
}

/* The layers of the file become the adapter's. */
static bn_status set_targets(const bn_st_reader *file, const char *dir, bn_config *config)
{
    bn_text list = {0};
    char name[BN_LAYER_NAME_MAX], *text = NULL;
    bn_text_add(&list, "adapter.target_modules=");
    for (int i = 0; i < bn_st_count(file); i++) {
        const char *tensor = bn_st_at(file, i)->name;
        if (!layer_of(tensor, name)) {
            bn_text_clear(&list);
            return bn_error(BN_BAD_DATA,
                            "%s/%s: %.100s: expected base_model.model.LAYER.lora_A.weight or "
                            "lora_B.weight",
                            dir, weights_name, tensor);
        }
        if (strstr(tensor, a_suffix))
            bn_text_addf(&list, "%s%s", i ? "," : "", name);
    }
    BN_TRY(bn_text_take(&list, &text));
    bn_status status = bn_error_in(bn_config_set(config, text), dir);
    free(text);
    return status == BN_BAD_CONFIG ? BN_BAD_DATA : status;
}

/* The file's tensor of a parameter, in its shape. */
static bn_status find_param(const bn_st_reader *file, const char *dir, const bn_param *param,
                            const bn_st_tensor **out)
{
    char name[PEFT_NAME_MAX];
    const int64_t *shape = param->value.shape;
    snprintf(name, sizeof name, "%s%s", prefix, param->name);
    const bn_st_tensor *tensor = *out = bn_st_find(file, name);
    if (!tensor)
        return bn_error(BN_BAD_DATA, "%s/%s: %s is missing", dir, weights_name, name);
    if (tensor->ndim == 2 && tensor->shape[0] == shape[0] && tensor->shape[1] == shape[1])
        return BN_OK;
    return bn_error(BN_BAD_DATA, "%s/%s: %s: expected shape [%lld, %lld], found [%lld, %lld]", dir,
                    weights_name, name, (long long)shape[0], (long long)shape[1],
                    (long long)tensor->shape[0], (long long)tensor->shape[1]);
}

static bn_status read_param(const bn_adapter *adapter, const bn_st_tensor *tensor,
                            const bn_param *param)
{
    float *floats = malloc((size_t)tensor->count * sizeof *floats);
    if (!floats)
        return bn_error_nomem(tensor->name, (size_t)tensor->count * sizeof *floats);
    bn_status status = bn_st_read_f32(tensor, floats);
    if (status == BN_OK)
        status = bn_backend_put_f32(adapter->model->backend, &param->value, floats, tensor->count);
    free(floats);
    return status;
}

static bn_status read_weights(const char *dir, const bn_st_reader *file, bn_config *config,
                              const bn_adapter_base *base, bn_adapter **out)
{
    BN_TRY(set_targets(file, dir, config));
    bn_status status = bn_error_in(bn_adapter_new(config, base->model, out), dir);
    BN_TRY(status == BN_BAD_CONFIG ? BN_BAD_DATA : status);
    const bn_param_set *set = &(*out)->params;
    if (set->count != bn_st_count(file))
        return bn_error(BN_BAD_DATA, "%s/%s: %d of its %d tensors belong to layers of the base %s",
                        dir, weights_name, set->count, bn_st_count(file), base->path);
    const bn_st_tensor *tensor;
    for (int i = 0; i < set->count; i++) /* before memory is taken on a rank's word */
        BN_TRY(find_param(file, dir, set->items[i], &tensor));
    BN_TRY(bn_adapter_alloc(*out, false));
    for (int i = 0; i < set->count; i++) {
        BN_TRY(find_param(file, dir, set->items[i], &tensor));
        BN_TRY(read_param(*out, tensor, set->items[i]));
    }
    return BN_OK;
}

static bn_status check_identity(const char *dir, const bn_adapter_base *base)
{
    char *path = bn_path_join(dir, identity_name), *text, wanted[BN_SHA256_TEXT];
    size_t size;
    if (!path)
        return BN_FAIL;
    bn_status status = BN_OK;
    if (bn_fs_exists(path)) {
        status = bn_fs_read(path, BN_SHA256_TEXT, &text, &size);
        if (status == BN_OK) {
            bn_sha256_text(base->id, wanted);
            if (size < BN_SHA256_TEXT - 1 || memcmp(text, wanted, BN_SHA256_TEXT - 1) != 0)
                status = bn_error(BN_BAD_DATA,
                                  "%s: is not the model that the adapter was trained on: %s "
                                  "expects another SHA-256 than %s",
                                  base->path, path, wanted);
            free(text);
        }
    }
    free(path);
    return status;
}

bn_status bn_peft_read(const char *dir, const bn_adapter_base *base, bn_adapter **out)
{
    bn_config config = {0};
    bn_st_reader *file = NULL;
    bn_status status = BN_OK;
    char *path = bn_path_join(dir, weights_name);
    if (!path)
        return BN_FAIL;
    BN_TRY_OUT(check_identity(dir, base));
    BN_TRY_OUT(bn_config_copy(base->config, &config));
    BN_TRY_OUT(read_config(dir, &config));
    BN_TRY_OUT(bn_st_open(path, &file));
    BN_TRY_OUT(read_weights(dir, file, &config, base, out));
out:
    bn_st_close(file);
    bn_config_clear(&config);
    free(path);
    return status;
}

/* ---- writing ------------------------------------------------------------ */

/* In this order: the last makes the folder an adapter. */
enum { WEIGHTS, IDENTITY, CONFIG, FILES };

static bn_status write_config(const bn_adapter *adapter, const char *path,
                              const bn_adapter_base *base)
{
    const bn_config *c = &adapter->config;
    bn_json json = {.indent = 2};
    char *text;
    bn_json_object(&json, NULL);
    bn_json_string(&json, "peft_type", "LORA");
    bn_json_string(&json, "task_type", "CAUSAL_LM");
    bn_json_string(&json, "base_model_name_or_path", base->path);
    bn_json_int(&json, "r", c->adapter.r);
    bn_json_double(&json, "lora_alpha", c->adapter.lora_alpha);
    bn_json_double(&json, "lora_dropout", c->adapter.lora_dropout);
    bn_json_bool(&json, "use_rslora", c->adapter.use_rslora);
    bn_json_array(&json, "target_modules");
    for (int i = 0; i < adapter->model->n_linears; i++)
        if (adapter->layers[i].a)
            bn_json_string(&json, NULL, adapter->model->linears[i]->name);
    bn_json_array_end(&json);
    bn_json_string(&json, "bias", "none");
    bn_json_bool(&json, "fan_in_fan_out", false);
    bn_json_bool(&json, "inference_mode", true);
    bn_json_object_end(&json);
    BN_TRY(bn_json_take(&json, &text));
    bn_status status = bn_fs_write(path, text, strlen(text));
    free(text);
    return status;
}

static bn_status write_params(const bn_adapter *adapter, bn_st_writer *file)
{
    const bn_param_set *set = &adapter->params;
    bn_status status = BN_OK;
    for (int i = 0; i < set->count && status == BN_OK; i++) {
        const bn_tensor *value = &set->items[i]->value;
        const int64_t n = bn_tensor_numel(value);
        float *floats = malloc((size_t)n * sizeof *floats);
        status = floats ? bn_backend_get_f32(adapter->model->backend, value, floats, n)
                        : bn_error_nomem(set->items[i]->name, (size_t)n * sizeof *floats);
        if (status == BN_OK)
            status = bn_st_write_f32(file, BN_ST_F32, floats, n);
        free(floats);
    }
    return status;
}

static bn_status write_weights(const bn_adapter *adapter, const char *path)
{
    const bn_param_set *set = &adapter->params;
    bn_st_writer *file = NULL;
    bn_st_spec *specs = calloc((size_t)set->count, sizeof *specs);
    char(*names)[PEFT_NAME_MAX] = calloc((size_t)set->count, sizeof *names);
    bn_status status =
        specs && names ? BN_OK : bn_error_nomem("an adapter", (size_t)set->count * sizeof *specs);
    for (int i = 0; i < set->count && status == BN_OK; i++) {
        const bn_param *p = set->items[i];
        snprintf(names[i], sizeof names[i], "%s%s", prefix, p->name);
        specs[i] = (bn_st_spec){.name = names[i], .dtype = BN_ST_F32, .ndim = p->value.ndim};
        for (int d = 0; d < p->value.ndim; d++)
            specs[i].shape[d] = p->value.shape[d];
    }
    if (status == BN_OK)
        status = bn_st_create(path, specs, set->count, "pt", &file);
    if (status == BN_OK)
        status = write_params(adapter, file);
    if (status == BN_OK)
        status = bn_st_commit(file);
    else
        bn_st_abort(file);
    free(names);
    free(specs);
    return status;
}

/* The files under temporary names, complete. */
static bn_status write_files(const bn_adapter *adapter, const bn_adapter_base *base,
                             char *const temps[FILES])
{
    char id[BN_SHA256_TEXT];
    BN_TRY(write_weights(adapter, temps[WEIGHTS]));
    BN_TRY(bn_fs_write(temps[IDENTITY], bn_sha256_text(base->id, id), BN_SHA256_TEXT - 1));
    return write_config(adapter, temps[CONFIG], base);
}

bn_status bn_peft_write(const bn_adapter *adapter, const char *dir, const bn_adapter_base *base)
{
    const char *const names[] = {weights_name, identity_name, config_name};
    char *paths[FILES] = {0}, *temps[FILES] = {0};
    bn_status status = BN_OK;
    for (int i = 0; i < FILES && status == BN_OK; i++) {
        paths[i] = bn_path_join(dir, names[i]);
        temps[i] = paths[i] ? bn_format("%s.new", paths[i]) : NULL;
        status = temps[i] ? BN_OK : BN_FAIL;
    }
    if (status == BN_OK)
        status = bn_fs_mkdirs(dir);
    if (status == BN_OK)
        status = write_files(adapter, base, temps);
    if (status == BN_OK) /* what is there is no adapter while its files are of two */
        status = bn_fs_remove(paths[CONFIG]);
    for (int i = 0; i < FILES && status == BN_OK; i++)
        status = bn_fs_commit(temps[i], paths[i]);
    for (int i = 0; i < FILES; i++) {
        if (status != BN_OK && temps[i])
            unlink(temps[i]); /* not bn_fs_remove(): the message stays */
        free(temps[i]);
        free(paths[i]);
    }
    return status;
}
