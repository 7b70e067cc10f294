#include "interop/hf_config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum { MAX_CONFIG = 16 << 20 }; /* bytes */

const char *bn_hf_family_name(bn_hf_family family)
{
    static const char *const names[] = {
        [BN_HF_BITNET] = "BitNetForCausalLM",
        [BN_HF_1BITLLM] = "BitnetForCausalLM",
        [BN_HF_LLAMA] = "LlamaForCausalLM",
    };
    return names[family];
}

void bn_hf_model_clear(bn_hf_model *model)
{
    bn_config_clear(&model->config);
    *model = (bn_hf_model){0};
}

/* A file being read. */
typedef struct source {
    const char *path;
    const cJSON *json;
} source;

static bn_status wrong(const source *s, const char *key, const char *expected)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(s->json, key);
    char *found = item ? cJSON_PrintUnformatted(item) : NULL;
    bn_status status = bn_error(BN_BAD_DATA, "%s: %s: expected %s, found %.200s", s->path, key,
                                expected, found ? found : "none");
    cJSON_free(found);
    return status;
}

/* NULL if the key is missing or null. */
static const cJSON *get(const source *s, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(s->json, key);
    return cJSON_IsNull(item) ? NULL : item;
}

/* A missing key leaves *out. */
static bn_status get_int(const source *s, const char *key, int64_t *out)
{
    const cJSON *item = get(s, key);
    if (!item)
        return BN_OK;
    const double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(value >= 0 && value <= 0x1p40) || floor(value) < value)
        return wrong(s, key, "a whole number");
    *out = (int64_t)value;
    return BN_OK;
}

static bn_status get_real(const source *s, const char *key, double *out)
{
    const cJSON *item = get(s, key);
    if (item && !cJSON_IsNumber(item))
        return wrong(s, key, "a number");
    if (item)
        *out = item->valuedouble;
    return BN_OK;
}

static bn_status get_bool(const source *s, const char *key, bool *out)
{
    const cJSON *item = get(s, key);
    if (item && !cJSON_IsBool(item))
        return wrong(s, key, "true or false");
    if (item)
        *out = cJSON_IsTrue(item);
    return BN_OK;
}

/* "" if the key is missing. */
static bn_status get_string(const source *s, const char *key, const char **out)
{
    const cJSON *item = get(s, key);
    *out = "";
    if (item && !cJSON_IsString(item))
        return wrong(s, key, "a string");
    if (item)
        *out = item->valuestring;
    return BN_OK;
}

static bn_status need_int(const source *s, const char *key, int64_t *out)
{
    return get(s, key) ? get_int(s, key, out) : wrong(s, key, "a whole number");
}

static bn_status must_be_off(const source *s, const char *key)
{
    bool on = false;
    BN_TRY(get_bool(s, key, &on));
    return on ? wrong(s, key, "false") : BN_OK;
}

static bool lists_architecture(const source *s, const char *name)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, get(s, "architectures")) if (cJSON_IsString(item) &&
                                                          strcmp(item->valuestring, name) ==
                                                              0) return true;
    return false;
}

static bn_status read_family(const source *s, bn_hf_family *out)
{
    const char *type;
    BN_TRY(get_string(s, "model_type", &type));
    if (strcmp(type, "bitnet") == 0)
        *out = BN_HF_BITNET;
    else if (strcmp(type, "llama") == 0)
        *out = lists_architecture(s, "BitnetForCausalLM") || get(s, "weight_bits") ? BN_HF_1BITLLM
                                                                                   : BN_HF_LLAMA;
    else
        return wrong(s, "model_type", "bitnet or llama");
    return BN_OK;
}

/* The base of the rotary frequencies, under its older and its newer key. */
static bn_status read_rope(const source *s, double *theta)
{
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    BN_TRY(get_real(s, "rope_theta", theta));
    for (int i = 0; i < 2; i++) {
        const source inner = {s->path, get(s, keys[i])};
        const char *type, *older;
        if (!inner.json)
            continue;
        if (!cJSON_IsObject(inner.json))
            return wrong(s, keys[i], "an object");
        BN_TRY(get_string(&inner, "rope_type", &type));
        BN_TRY(get_string(&inner, "type", &older));
        if ((*type && strcmp(type, "default") != 0) || (*older && strcmp(older, "default") != 0))
            return wrong(s, keys[i], "unscaled rotary frequencies (rope_type default)");
        double part = 1;
        BN_TRY(get_real(&inner, "partial_rotary_factor", &part));
        if (part < 1 || part > 1)
            return wrong(s, keys[i], "a partial_rotary_factor of 1");
        BN_TRY(get_real(&inner, "rope_theta", theta));
    }
    return BN_OK;
}

static bn_status read_activation(const source *s, bn_config *config, bn_hf_family family)
{
    const char *word;
    BN_TRY(get_string(s, "hidden_act", &word));
    if (!*word)
        word = family == BN_HF_BITNET ? "relu2" : "silu";
    if (strcmp(word, "relu2") != 0 && strcmp(word, "silu") != 0)
        return wrong(s, "hidden_act", "relu2 or silu");
    config->model.hidden_act = strcmp(word, "silu") == 0 ? BN_HIDDEN_ACT_SILU : BN_HIDDEN_ACT_RELU2;
    return BN_OK;
}

/* Shape and constants; missing keys as in Hugging Face's defaults. */
static bn_status read_model(const source *s, bn_hf_model *m)
{
    bn_config *c = &m->config;
    int64_t head_dim = 0;
    const bool bitnet = m->family == BN_HF_BITNET;
    c->model.max_position_embeddings = 2048;
    c->model.rms_norm_eps = bitnet ? 1e-5 : 1e-6;
    c->model.rope_theta = bitnet ? 500000 : 10000;
    c->model.tie_word_embeddings = false;
    c->model.num_key_value_heads = 0;
    BN_TRY(need_int(s, "vocab_size", &c->model.vocab_size));
    BN_TRY(need_int(s, "hidden_size", &c->model.hidden_size));
    BN_TRY(need_int(s, "intermediate_size", &c->model.intermediate_size));
    BN_TRY(need_int(s, "num_hidden_layers", &c->model.num_hidden_layers));
    BN_TRY(need_int(s, "num_attention_heads", &c->model.num_attention_heads));
    BN_TRY(get_int(s, "num_key_value_heads", &c->model.num_key_value_heads));
    BN_TRY(get_int(s, "max_position_embeddings", &c->model.max_position_embeddings));
    BN_TRY(get_real(s, "rms_norm_eps", &c->model.rms_norm_eps));
    BN_TRY(get_real(s, "initializer_range", &c->model.initializer_range));
    BN_TRY(get_bool(s, "tie_word_embeddings", &c->model.tie_word_embeddings));
    BN_TRY(read_rope(s, &c->model.rope_theta));
    BN_TRY(read_activation(s, c, m->family));
    BN_TRY(must_be_off(s, "attention_bias"));
    BN_TRY(must_be_off(s, "mlp_bias"));
    BN_TRY(get_int(s, "head_dim", &head_dim));
    if (head_dim && head_dim * c->model.num_attention_heads != c->model.hidden_size)
        return wrong(s, "head_dim", "hidden_size / num_attention_heads");
    if (c->training.seq_len > c->model.max_position_embeddings)
        c->training.seq_len = c->model.max_position_embeddings;
    return BN_OK;
}

/* null leaves the head out; a list leaves out what it names, and nothing else. */
static bn_status read_kept_modules(const source *s, bn_config *c)
{
    const char *key = "modules_to_not_convert";
    const cJSON *list = get(s, key), *item;
    if (!list)
        return BN_OK; /* lm_head: the default here too */
    if (!cJSON_IsArray(list))
        return wrong(s, key, "a list of module names");
    bn_strings_clear(&c->quantization.modules_to_not_convert);
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsString(item))
            return wrong(s, key, "a list of module names");
        BN_TRY(bn_strings_add(&c->quantization.modules_to_not_convert, item->valuestring));
    }
    return BN_OK;
}

static bn_status read_group_size(const source *s, bn_config *c)
{
    const cJSON *item = get(s, "group_size");
    if (item && cJSON_IsNumber(item) && item->valuedouble < 0) {
        c->quantization.weight_scale = BN_WEIGHT_SCALE_ROW;
        return BN_OK;
    }
    int64_t size = 0;
    BN_TRY(get_int(s, "group_size", &size));
    if (size > 0) {
        c->quantization.weight_scale = BN_WEIGHT_SCALE_GROUP;
        c->quantization.group_size = size;
    }
    return BN_OK;
}

/* quantization_config of a BitNetForCausalLM. */
static bn_status read_quantization(const source *s, bn_hf_model *m)
{
    const char *method, *class, *mode;
    BN_TRY(get_string(s, "quant_method", &method));
    if (strcmp(method, "bitnet") != 0)
        return wrong(s, "quant_method", "bitnet");
    BN_TRY(get_string(s, "linear_class", &class));
    BN_TRY(get_string(s, "quantization_mode", &mode));
    if (*class && strcmp(class, "bitlinear") != 0 && strcmp(class, "autobitlinear") != 0)
        return wrong(s, "linear_class", "bitlinear or autobitlinear");
    if (*mode && strcmp(mode, "online") != 0 && strcmp(mode, "offline") != 0)
        return wrong(s, "quantization_mode", "online or offline");
    BN_TRY(must_be_off(s, "use_rms_norm"));
    m->scale_divides = strcmp(class, "autobitlinear") != 0;
    m->weights = strcmp(mode, "online") == 0 && !m->scale_divides ? BN_HF_ONLINE : BN_HF_OFFLINE;
    BN_TRY(read_kept_modules(s, &m->config));
    return read_group_size(s, &m->config);
}

static bn_status read_scheme(const source *s, bn_hf_model *m)
{
    const source inner = {s->path, get(s, "quantization_config")};
    int64_t weight_bits = 1, input_bits = 8;
    m->config.quantization.weight_scale = BN_WEIGHT_SCALE_TENSOR;
    if (inner.json && (m->family != BN_HF_BITNET || !cJSON_IsObject(inner.json)))
        return wrong(s, "quantization_config", "none but that of a bitnet model");
    switch (m->family) {
    case BN_HF_BITNET:
        if (inner.json)
            return read_quantization(&inner, m);
        m->config.quantization.weight_bits = BN_WEIGHT_BITS_NONE;
        return BN_OK;
    case BN_HF_1BITLLM:
        m->weights = BN_HF_ONLINE;
        BN_TRY(get_int(s, "weight_bits", &weight_bits));
        BN_TRY(get_int(s, "input_bits", &input_bits));
        if (weight_bits != 1)
            return wrong(s, "weight_bits", "1");
        return input_bits == 8 ? BN_OK : wrong(s, "input_bits", "8");
    default:
        return BN_OK; /* float weights, ternary from the first step on */
    }
}

/* The settings, and whether everything is in range and fits together. */
static bn_status settle(const source *s, const bn_strings *set, bn_hf_model *m)
{
    bn_config asked = {0};
    char *json = NULL;
    bn_status status = bn_config_copy(&m->config, &asked);
    if (status != BN_OK)
        return status;
    for (size_t i = 0; set && i < set->count; i++)
        BN_TRY_OUT(bn_config_set(&asked, set->items[i]));
    if (m->family != BN_HF_LLAMA) {
        status = bn_error_in(bn_config_check_resume(&m->config, &asked), s->path);
        if (status != BN_OK)
            goto out;
    }
    BN_TRY_OUT(bn_config_dump(&asked, &json));
    bn_config_clear(&m->config);
    status = bn_config_parse(json, s->path, &m->config); /* the table's ranges */
    if (status == BN_OK)
        status = bn_config_check(&m->config, s->path);
    status = status == BN_BAD_CONFIG ? BN_BAD_DATA : status;
out:
    bn_config_clear(&asked);
    free(json);
    return status;
}

bn_status bn_hf_config_read(const char *path, const bn_strings *set, bn_hf_model *out)
{
    cJSON *json = NULL;
    bn_status status;
    *out = (bn_hf_model){0};
    BN_TRY(bn_json_read(path, MAX_CONFIG, &json));
    const source s = {path, json};
    if (!cJSON_IsObject(json)) {
        status = bn_error(BN_BAD_DATA, "%s: expected an object", path);
        goto out;
    }
    BN_TRY_OUT(bn_config_init(&out->config));
    BN_TRY_OUT(bn_config_set(&out->config, "data.train=null")); /* it learned elsewhere */
    BN_TRY_OUT(read_family(&s, &out->family));
    BN_TRY_OUT(read_model(&s, out));
    BN_TRY_OUT(read_scheme(&s, out));
    BN_TRY_OUT(settle(&s, set, out));
out:
    cJSON_Delete(json);
    if (status != BN_OK)
        bn_hf_model_clear(out);
    return status;
}

/* ---- writing ---- */

static void write_quantization(bn_json *json, const bn_config *c, const bn_hf_layout *layout)
{
    const int64_t group = bn_config_group_size(c);
    bn_json_object(json, "quantization_config");
    bn_json_string(json, "quant_method", "bitnet");
    bn_json_string(json, "linear_class", "autobitlinear");
    bn_json_string(json, "quantization_mode",
                   layout->weights == BN_HF_ONLINE ? "online" : "offline");
    bn_json_array(json, "modules_to_not_convert");
    for (size_t i = 0; i < layout->float_modules->count; i++)
        bn_json_string(json, NULL, layout->float_modules->items[i]);
    bn_json_array_end(json);
    if (group != 0)
        bn_json_int(json, "group_size", group);
    bn_json_object_end(json);
}

bn_status bn_hf_config_write(const bn_config *c, int64_t vocab, const bn_hf_layout *layout,
                             char **out)
{
    bn_json json = {.indent = 2};
    bn_json_object(&json, NULL);
    bn_json_array_flat(&json, "architectures");
    bn_json_string(&json, NULL, bn_hf_family_name(BN_HF_BITNET));
    bn_json_array_end(&json);
    bn_json_string(&json, "model_type", "bitnet");
    bn_json_int(&json, "vocab_size", vocab);
    bn_json_int(&json, "hidden_size", c->model.hidden_size);
    bn_json_int(&json, "intermediate_size", c->model.intermediate_size);
    bn_json_int(&json, "num_hidden_layers", c->model.num_hidden_layers);
    bn_json_int(&json, "num_attention_heads", c->model.num_attention_heads);
    bn_json_int(&json, "num_key_value_heads", bn_config_kv_heads(c));
    bn_json_string(&json, "hidden_act",
                   bn_config_word("model.hidden_act", (int)c->model.hidden_act));
    bn_json_int(&json, "max_position_embeddings", c->model.max_position_embeddings);
    bn_json_double(&json, "rms_norm_eps", c->model.rms_norm_eps);
    bn_json_double(&json, "rope_theta", c->model.rope_theta);
    bn_json_bool(&json, "tie_word_embeddings", c->model.tie_word_embeddings);
    bn_json_double(&json, "initializer_range", c->model.initializer_range);
    bn_json_bool(&json, "attention_bias", false);
    bn_json_null(&json, "bos_token_id");
    bn_json_null(&json, "eos_token_id");
    bn_json_null(&json, "pad_token_id");
    bn_json_bool(&json, "use_cache", true);
    bn_json_string(&json, "torch_dtype", layout->dtype);
    if (layout->weights != BN_HF_FLOAT)
        write_quantization(&json, c, layout);
    bn_json_object_end(&json);
    return bn_json_take(&json, out);
}
