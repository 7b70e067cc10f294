#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "config/config.h"

static bn_status check_shape(const bn_config *c, const char *name)
{
    long long hidden = c->model.hidden_size, heads = c->model.num_attention_heads;
    long long kv = bn_config_kv_heads(c);
    if (hidden % heads)
        return bn_error(BN_BAD_CONFIG,
                        "%s: model.hidden_size: expected a multiple of model.num_attention_heads "
                        "(%lld), found %lld",
                        name, heads, hidden);
    if (hidden / heads % 2)
        return bn_error(BN_BAD_CONFIG,
                        "%s: model.num_attention_heads: expected an even head size, found "
                        "hidden_size %lld / %lld heads = %lld",
                        name, hidden, heads, hidden / heads);
    if (heads % kv)
        return bn_error(BN_BAD_CONFIG,
                        "%s: model.num_key_value_heads: expected a divisor of "
                        "model.num_attention_heads (%lld), found %lld",
                        name, heads, kv);
    if (c->training.seq_len > c->model.max_position_embeddings)
        return bn_error(BN_BAD_CONFIG,
                        "%s: training.seq_len: expected at most model.max_position_embeddings "
                        "(%lld), found %lld",
                        name, (long long)c->model.max_position_embeddings,
                        (long long)c->training.seq_len);
    if (c->model.vocab_size && strcmp(c->data.tokenizer, "byte") == 0 && c->model.vocab_size < 256)
        return bn_error(BN_BAD_CONFIG,
                        "%s: model.vocab_size: expected 0 or at least 256 for data.tokenizer "
                        "\"byte\", found %lld",
                        name, (long long)c->model.vocab_size);
    return BN_OK;
}

/* The rows of the quantized layers have hidden_size or intermediate_size
 * elements. */
static bn_status check_groups(const bn_config *c, const char *name, const char *path)
{
    long long hidden = c->model.hidden_size, ffn = c->model.intermediate_size;
    long long shortest = hidden < ffn ? hidden : ffn, group = bn_config_group_size(c);
    if (bn_config_quantized(c) && group > shortest)
        return bn_error(BN_BAD_CONFIG,
                        "%s: %s.group_size: expected at most model.%s (%lld), found %lld", name,
                        path, hidden < ffn ? "hidden_size" : "intermediate_size", shortest, group);
    return BN_OK;
}

enum { TRANSFORM_BLOCK_MIN = 16, STEP_GROUP_UNIT = 16 };

static bn_status check_activations(const bn_config *c, const char *name, const char *path)
{
    const bool hadamard = c->quantization.activation_transform == BN_ACTIVATION_TRANSFORM_HADAMARD;
    const long long widths[] = {c->model.hidden_size, c->model.intermediate_size};
    if (!bn_config_quantized_activations(c))
        return BN_OK;
    if (hadamard && c->model.kind == BN_KIND_MLP)
        return bn_error(BN_BAD_CONFIG,
                        "%s: %s.activation_transform: expected \"none\" for model.kind "
                        "\"mlp\", found \"hadamard\"",
                        name, path);
    for (int i = 0; i < 2 && hadamard; i++)
        if (widths[i] % TRANSFORM_BLOCK_MIN)
            return bn_error(BN_BAD_CONFIG,
                            "%s: model.%s: expected a multiple of %d for %s.activation_transform "
                            "\"hadamard\", found %lld",
                            name, i ? "intermediate_size" : "hidden_size", TRANSFORM_BLOCK_MIN,
                            path, widths[i]);
    if (c->quantization.activation_scale != BN_ACTIVATION_SCALE_GROUP)
        return BN_OK;
    if (c->quantization.group_size % STEP_GROUP_UNIT)
        return bn_error(BN_BAD_CONFIG,
                        "%s: %s.group_size: expected a multiple of %d for "
                        "%s.activation_scale \"group\", found %lld",
                        name, path, STEP_GROUP_UNIT, path, (long long)c->quantization.group_size);
    return BN_OK;
}

/* What has to fit together in the section and under each of its rules; `path`
 * is the place of the values. */
static bn_status check_scheme(const bn_config *c, const char *name, const char *path)
{
    if (c->model.kind == BN_KIND_TRANSFORMER)
        BN_TRY(check_groups(c, name, path));
    return check_activations(c, name, path);
}

/* Estimators other than the plain ones need the codes of the integer product. */
static bn_status check_estimators(const bn_config *c, const char *name, const char *section)
{
    const bool learned = c->quantization.scale_estimator == BN_SCALE_ESTIMATOR_LEARNED;
    const char *scale =
        bn_config_word("quantization.scale_estimator", (int)c->quantization.scale_estimator);
    const char *gradient =
        bn_config_word("quantization.gradient_estimator", (int)c->quantization.gradient_estimator);
    if (!bn_config_quantized(c))
        return BN_OK;
    if (learned && !bn_config_quantized_activations(c))
        return bn_error(BN_BAD_CONFIG,
                        "%s: %s.scale_estimator: with activation_bits none expected absmean or "
                        "absmedian, found %s",
                        name, section, scale);
    if (learned && bn_config_strength(c, 0) < 1.0)
        return bn_error(BN_BAD_CONFIG,
                        "%s: %s.scale_estimator: \"learned\" starts from the first weights: "
                        "expected warmup_fraction 0 and ramp_steps 0, found %g and %lld",
                        name, section, c->quantization.warmup_fraction,
                        (long long)c->quantization.ramp_steps);
    if (c->quantization.gradient_estimator != BN_GRADIENT_ESTIMATOR_IDENTITY &&
        !bn_config_quantized_activations(c))
        return bn_error(BN_BAD_CONFIG,
                        "%s: %s.gradient_estimator: with activation_bits none expected identity, "
                        "found %s",
                        name, section, gradient);
    if (c->quantization.gradient_estimator == BN_GRADIENT_ESTIMATOR_LSQ && !learned)
        return bn_error(BN_BAD_CONFIG,
                        "%s: %s.scale_estimator: gradient_estimator lsq expects learned, found %s",
                        name, section, scale);
    return BN_OK;
}

static bn_status check_quantization(const bn_config *c, const char *name)
{
    char path[64];
    BN_TRY(check_scheme(c, name, "quantization"));
    BN_TRY(check_estimators(c, name, "quantization"));
    for (size_t i = 0; i < c->quantization.rules.count; i++) {
        const bn_config view = bn_config_under(c, &c->quantization.rules.items[i]);
        snprintf(path, sizeof path, "quantization.rules[%zu]", i);
        BN_TRY(check_scheme(&view, name, path));
        BN_TRY(check_estimators(&view, name, path));
    }
    return BN_OK;
}

/* Sizes of an MLP that no default can know. */
static bn_status check_classifier(const bn_config *c, const char *name)
{
    const long long features = c->model.input_size, classes = c->model.num_labels;
    if (features < 1)
        return bn_error(BN_BAD_CONFIG,
                        "%s: model.input_size: expected the number of features for model.kind "
                        "\"mlp\", found %lld",
                        name, features);
    if (classes < 2)
        return bn_error(BN_BAD_CONFIG,
                        "%s: model.num_labels: expected 2 or more classes for model.kind \"mlp\", "
                        "found %lld",
                        name, classes);
    return BN_OK;
}

static bool device_is_known(const char *device)
{
    static const char opencl[] = "opencl:";
    if (strcmp(device, "auto") == 0 || strcmp(device, "cpu") == 0 || strcmp(device, "opencl") == 0)
        return true;
    return strncmp(device, opencl, strlen(opencl)) == 0 && device[strlen(opencl)] != '\0';
}

static bool ends_with(const char *name, const char *suffix)
{
    const size_t length = strlen(name), n = strlen(suffix);
    return length > n && strcmp(name + length - n, suffix) == 0;
}

static bool tokenizer_is_known(const char *name)
{
    return strcmp(name, "byte") == 0 || ends_with(name, ".json") || ends_with(name, ".model");
}

static bn_status check_distillation(const bn_config *c, const char *name)
{
    if (!c->distillation.teacher)
        return BN_OK;
    if (c->model.kind == BN_KIND_MLP && c->distillation.hidden_weight > 0)
        return bn_error(BN_BAD_CONFIG,
                        "%s: distillation.hidden_weight: expected 0 for model.kind \"mlp\", "
                        "found %g",
                        name, c->distillation.hidden_weight);
    if (c->model.kind == BN_KIND_MLP && c->distillation.attention_weight > 0)
        return bn_error(BN_BAD_CONFIG,
                        "%s: distillation.attention_weight: expected 0 for model.kind \"mlp\", "
                        "found %g",
                        name, c->distillation.attention_weight);
    if (!(c->distillation.logits_weight > 0) && !(c->distillation.hidden_weight > 0) &&
        !(c->distillation.attention_weight > 0))
        return bn_error(BN_BAD_CONFIG,
                        "%s: distillation.teacher: expected logits_weight, hidden_weight or "
                        "attention_weight above 0, found none",
                        name);
    return BN_OK;
}

/* What a run of adapters has no use for must not be asked for in silence. */
static bn_status check_adapter(const bn_config *c, const char *name)
{
    if (!c->adapter.base)
        return BN_OK;
    if (c->training.init_from)
        return bn_error(BN_BAD_CONFIG,
                        "%s: training.init_from: expected null with adapter.base, found \"%.60s\"",
                        name, c->training.init_from);
    if (c->training.freeze.count)
        return bn_error(BN_BAD_CONFIG,
                        "%s: training.freeze: adapters leave their base as it is: expected [] with "
                        "adapter.base, found \"%.60s\"",
                        name, c->training.freeze.items[0]);
    if (c->training.optimizer == BN_OPTIMIZER_MUON)
        return bn_error(BN_BAD_CONFIG,
                        "%s: training.optimizer: expected \"adamw\" with adapter.base, found "
                        "\"muon\"",
                        name);
    if (bn_config_strength(c, 0) < 1.0)
        return bn_error(
            BN_BAD_CONFIG,
            "%s: adapter.base: the base is packed, nothing of it can be brought in: "
            "expected quantization.warmup_fraction 0 and ramp_steps 0, found %g and %lld",
            name, c->quantization.warmup_fraction, (long long)c->quantization.ramp_steps);
    if (c->adapter.init_lora_weights == BN_INIT_LORA_RESIDUAL && !(c->adapter.lora_alpha > 0.0))
        return bn_error(BN_BAD_CONFIG,
                        "%s: adapter.lora_alpha: expected more than 0 for "
                        "adapter.init_lora_weights \"residual\", found %g",
                        name, c->adapter.lora_alpha);
    return BN_OK;
}

bn_status bn_config_check(const bn_config *c, const char *name)
{
    if (c->model.kind == BN_KIND_TRANSFORMER) {
        BN_TRY(check_shape(c, name));
    } else {
        BN_TRY(check_classifier(c, name));
    }
    BN_TRY(check_quantization(c, name));
    BN_TRY(check_distillation(c, name));
    BN_TRY(check_adapter(c, name));
    if (c->training.min_learning_rate > c->training.learning_rate)
        return bn_error(BN_BAD_CONFIG,
                        "%s: training.min_learning_rate: expected at most training.learning_rate "
                        "(%g), found %g",
                        name, c->training.learning_rate, c->training.min_learning_rate);
    if (c->training.optimizer == BN_OPTIMIZER_MUON && c->training.learning_rate <= 0)
        return bn_error(BN_BAD_CONFIG,
                        "%s: training.learning_rate: expected more than 0 for training.optimizer "
                        "\"muon\" (its rate is a share of muon_learning_rate), found %g",
                        name, c->training.learning_rate);
    if (!tokenizer_is_known(c->data.tokenizer))
        return bn_error(BN_BAD_CONFIG,
                        "%s: data.tokenizer: expected \"byte\" or the path of a tokenizer.json or "
                        "tokenizer.model, found \"%.60s\"",
                        name, c->data.tokenizer);
    if (!device_is_known(c->training.device))
        return bn_error(BN_BAD_CONFIG,
                        "%s: training.device: expected \"auto\", \"cpu\", \"opencl\" or "
                        "\"opencl:N\", found \"%.60s\"",
                        name, c->training.device);
    return BN_OK;
}

static double ramp_sigmoid(double x)
{
    const double low = 1.0 / (1.0 + exp(6.0));
    return (1.0 / (1.0 + exp(-12.0 * (x - 0.5))) - low) / (1.0 - 2.0 * low);
}

bn_phases bn_config_phases(const bn_config *config)
{
    const double steps = (double)config->training.max_steps;
    if (!bn_config_quantized(config) && config->quantization.rules.count == 0)
        return (bn_phases){0};
    return (bn_phases){.warmup = (int64_t)(config->quantization.warmup_fraction * steps),
                       .ramp = config->quantization.ramp_steps};
}

double bn_config_strength(const bn_config *config, int64_t step)
{
    const double pi = 3.14159265358979323846;
    const bn_phases phases = bn_config_phases(config);
    const int64_t k = step - phases.warmup;
    const double x = (double)(k + 1) / (double)(phases.ramp + 1);
    if (k >= phases.ramp)
        return 1.0;
    if (k < 0)
        return 0.0;
    switch (config->quantization.ramp_shape) {
    case BN_RAMP_SHAPE_LINEAR:
        return x;
    case BN_RAMP_SHAPE_COSINE:
        return 0.5 * (1.0 - cos(pi * x));
    case BN_RAMP_SHAPE_SIGMOID:
        return ramp_sigmoid(x);
    }
    return x;
}

int64_t bn_config_group_size(const bn_config *config)
{
    switch (config->quantization.weight_scale) {
    case BN_WEIGHT_SCALE_TENSOR:
        return 0;
    case BN_WEIGHT_SCALE_ROW:
        return -1;
    case BN_WEIGHT_SCALE_GROUP:
        break;
    }
    return config->quantization.group_size;
}

int64_t bn_config_act_group_size(const bn_config *config)
{
    switch (config->quantization.activation_scale) {
    case BN_ACTIVATION_SCALE_TENSOR:
        return 0;
    case BN_ACTIVATION_SCALE_TOKEN:
        return -1;
    case BN_ACTIVATION_SCALE_GROUP:
        break;
    }
    return config->quantization.group_size;
}

static const char *unusual_activations(const bn_config *config)
{
    if (!bn_config_quantized_activations(config))
        return NULL;
    if (config->quantization.activation_transform == BN_ACTIVATION_TRANSFORM_HADAMARD)
        return "a Hadamard transform before o_proj and down_proj "
               "(quantization.activation_transform)";
    if (config->quantization.activation_bits == BN_ACTIVATION_BITS_4)
        return "4-bit activations (quantization.activation_bits)";
    if (config->quantization.activation_scale == BN_ACTIVATION_SCALE_GROUP)
        return "activation scales per group (quantization.activation_scale)";
    return NULL;
}

const char *bn_config_unusual_activations(const bn_config *config)
{
    const bn_config_rules *rules = &config->quantization.rules;
    const char *found = unusual_activations(config);
    for (size_t i = 0; i < rules->count && !found; i++) {
        const bn_config view = bn_config_under(config, &rules->items[i]);
        found = unusual_activations(&view);
    }
    return found;
}
