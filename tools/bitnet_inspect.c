/* bitnet-inspect - what is in a model file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "tools/activations.h"
#include "tools/inspect.h"
#include "tools/sensitivity_print.h"
#include "tools/tool.h"

struct args {
    const char *file, *data;
    bool json, sensitivity, activations;
    double budget;
    int64_t max_batches;
    bn_tool_where where;
};

static const bn_option options[] = {
    {"json", 0, NULL, BN_OPT_FLAG, offsetof(struct args, json), "print one JSON object"},
    {"sensitivity", 0, NULL, BN_OPT_FLAG, offsetof(struct args, sensitivity),
     "instead: what the quantization of each layer alone does to the loss on --data"},
    {"activations", 0, NULL, BN_OPT_FLAG, offsetof(struct args, activations),
     "instead: what the activation quantizers meet on --data"},
    {"data", 0, "FILE", BN_OPT_STRING, offsetof(struct args, data),
     "for these two: a text, file or quoted pattern; of an mlp a table"},
    {"max-batches", 0, "N", BN_OPT_I64, offsetof(struct args, max_batches),
     "for --sensitivity: at most N batches, evenly spaced; 0 takes the whole text (0)"},
    {"budget", 0, "BITS", BN_OPT_F64, offsetof(struct args, budget),
     "for --sensitivity: propose quantization.rules with at most BITS bits per weight"},
    BN_TOOL_WHERE_OPTIONS(struct args),
    {0}};

static const bn_positional positionals[] = {
    {"FILE", BN_POS_ONE, offsetof(struct args, file),
     "checkpoint, packed file, GGUF file, or output folder (its best checkpoint)"},
    {0}};

static const bn_program program = {
    "bitnet-inspect", "Shows what is in a checkpoint, a packed file or a GGUF file.", options,
    positionals,
    "Of every quantized layer: shares of negative codes, 0 and positive ones, the codes' entropy, "
    "scales, rows that are all\n"
    "zero, size; in a checkpoint also what quantization costs against the shadow weights (mean\n"
    "squared error, signal to noise in dB, cosine), and the size is that of base3x5. Every\n"
    "checksum is checked. --sensitivity takes a checkpoint and needs a pass over the text per "
    "layer\n"
    "(docs/analysis.md). Exit codes: 0 done, 1 failure, 2 usage, 65 bad model file, 66 input\n"
    "missing, 69 no device.\n"};

static double share(const bn_tensor_info *t, int code)
{
    const int64_t *count = t->q.codes.count;
    return (double)count[code] / (double)(count[0] + count[1] + count[2]);
}

static double ratio(const bn_tensor_info *t)
{
    return t->bytes_packed ? (double)t->bytes_float / (double)t->bytes_packed : 0;
}

typedef struct totals {
    int coded;
    uint64_t coded_float, coded_packed, all_float, all_packed;
} totals;

static totals sum_up(const bn_file_info *info)
{
    totals sum = {0};
    for (int i = 0; i < info->count; i++) {
        const bn_tensor_info *t = &info->tensors[i];
        sum.all_float += t->bytes_float;
        sum.all_packed += t->bytes_packed;
        if (t->coded) {
            sum.coded++;
            sum.coded_float += t->bytes_float;
            sum.coded_packed += t->bytes_packed;
        }
    }
    return sum;
}

/* ---- JSON ---- */

static void codes_json(bn_json *json, const bn_tensor_info *t)
{
    bn_json_int(json, "group_size", t->group_size);
    bn_json_double(json, "share_minus", share(t, 0));
    bn_json_double(json, "share_zero", share(t, 1));
    bn_json_double(json, "share_plus", share(t, 2));
    bn_json_double(json, "entropy_bits", t->q.codes.entropy_bits);
    bn_json_int(json, "dead_rows", t->q.codes.dead_rows);
    bn_json_double(json, "scale_min", t->q.scale_min);
    bn_json_double(json, "scale_mean", t->q.scale_mean);
    bn_json_double(json, "scale_max", t->q.scale_max);
    if (!t->has_shadow)
        return;
    bn_json_double(json, "mse", t->q.mse);
    bn_json_double(json, "sqnr_db", t->q.sqnr_db);
    bn_json_double(json, "cosine", t->q.cosine);
    bn_json_array(json, "worst_groups");
    for (int i = 0; i < t->q.worst_count; i++) {
        const bn_group_error *worst = &t->q.worst[i];
        bn_json_object(json, NULL);
        bn_json_int(json, "row", worst->row);
        bn_json_int(json, "group", worst->group);
        bn_json_double(json, "mse", worst->mse);
        bn_json_double(json, "relative", worst->relative);
        bn_json_object_end(json);
    }
    bn_json_array_end(json);
}

static void tensor_json(bn_json *json, const bn_tensor_info *t)
{
    bn_json_object(json, NULL);
    bn_json_string(json, "name", t->name);
    bn_json_array_flat(json, "shape");
    for (int d = 0; d < t->ndim; d++)
        bn_json_int(json, NULL, t->shape[d]);
    bn_json_array_end(json);
    bn_json_string(json, "encoding", t->encoding);
    bn_json_bool(json, "ternary", t->coded && t->grid == BN_GRID_TERNARY);
    bn_json_bool(json, "quantized", t->coded);
    bn_json_int(json, "bytes_float32", (int64_t)t->bytes_float);
    bn_json_int(json, "bytes_packed", (int64_t)t->bytes_packed);
    bn_json_double(json, "ratio", ratio(t));
    if (t->coded)
        codes_json(json, t);
    bn_json_object_end(json);
}

static void sizes_json(bn_json *json, const bn_file_info *info)
{
    const totals sum = sum_up(info);
    bn_json_int(json, "parameters", (int64_t)(sum.all_float / 4));
    bn_json_int(json, "quantized_tensors", sum.coded);
    bn_json_int(json, "bytes_float32", (int64_t)sum.all_float);
    bn_json_int(json, "bytes_packed", (int64_t)sum.all_packed);
    bn_json_double(json, "quantized_ratio",
                   sum.coded ? (double)sum.coded_float / (double)sum.coded_packed : 0);
}

static void gguf_json(bn_json *json, const bn_file_info *info)
{
    bn_json_string(json, "file", info->path);
    bn_json_string(json, "kind", "gguf");
    bn_json_int(json, "version", bn_gguf_version(info->gguf));
    bn_json_int(json, "alignment", bn_gguf_alignment(info->gguf));
    bn_json_int(json, "file_bytes", (int64_t)info->file_bytes);
    sizes_json(json, info);
    bn_json_object(json, "metadata");
    for (int i = 0; i < bn_gguf_value_count(info->gguf); i++) {
        const bn_gguf_value *value = bn_gguf_value_at(info->gguf, i);
        bn_gguf_value_json(json, value, value->key, UINT64_MAX);
    }
    bn_json_object_end(json);
}

static void head_json(bn_json *json, const bn_file_info *info)
{
    const bool packed = info->kind == BN_MODEL_FILE_PACKED;
    bn_json_string(json, "file", info->path);
    bn_json_string(json, "kind", packed ? "packed" : "checkpoint");
    bn_json_string(json, "producer", info->producer);
    bn_json_int(json, "file_bytes", (int64_t)info->file_bytes);
    if (!packed) {
        bn_json_int(json, "step", info->state.step);
        bn_json_int(json, "tokens_seen", info->state.tokens_seen);
        bn_json_double(json, "best_val_loss", info->state.best_val_loss);
        bn_json_int(json, "best_step", info->state.best_step);
        bn_json_double(json, "elapsed_s", info->state.elapsed_s);
        bn_json_bool(json, "has_moments", info->has_moments);
    }
    sizes_json(json, info);
    if (info->tokenizer[0] == '{')
        bn_json_raw(json, "tokenizer", info->tokenizer);
    else
        bn_json_string(json, "tokenizer", info->tokenizer);
    bn_json_raw(json, "config", info->config_json);
}

static bn_status print_json(const bn_file_info *info)
{
    bn_json json = {.indent = 2};
    bn_json_object(&json, NULL);
    if (info->gguf)
        gguf_json(&json, info);
    else
        head_json(&json, info);
    bn_json_array(&json, "tensors");
    for (int i = 0; i < info->count; i++)
        tensor_json(&json, &info->tensors[i]);
    bn_json_array_end(&json);
    bn_json_object_end(&json);
    return bn_tool_print_json(&json);
}

/* ---- text ---- */

static void sizes_text(bn_text *text, const bn_file_info *info)
{
    char a[BN_SIZE_TEXT], b[BN_SIZE_TEXT];
    const totals sum = sum_up(info);
    const bool stored = info->gguf || info->kind == BN_MODEL_FILE_PACKED;
    bn_text_addf(text, "%llu parameters, %s as float32\n", (unsigned long long)sum.all_float / 4,
                 bn_size_text(sum.all_float, a));
    if (sum.coded)
        bn_text_addf(text, "%d quantized tensors: %s %s %s, %.2f times smaller\n", sum.coded,
                     bn_size_text(sum.coded_float, a), stored ? "->" : "would be",
                     bn_size_text(sum.coded_packed, b),
                     (double)sum.coded_float / (double)sum.coded_packed);
}

/* Of long arrays the beginning. */
static void gguf_text(bn_text *text, const bn_file_info *info)
{
    enum { SHOWN = 6 };
    char size[BN_SIZE_TEXT];
    bn_text_addf(text, "%s: GGUF %u, %s, %d keys\n", info->path, bn_gguf_version(info->gguf),
                 bn_size_text(info->file_bytes, size), bn_gguf_value_count(info->gguf));
    sizes_text(text, info);
    bn_text_add(text, "\n");
    for (int i = 0; i < bn_gguf_value_count(info->gguf); i++) {
        const bn_gguf_value *value = bn_gguf_value_at(info->gguf, i);
        bn_json json = {0};
        char *shown = NULL;
        bn_gguf_value_json(&json, value, NULL, SHOWN);
        if (bn_json_take(&json, &shown) != BN_OK) {
            text->failed = true;
            return;
        }
        shown[strcspn(shown, "\n")] = '\0';
        bn_text_addf(text, "%-42s %s%s", value->key, shown, value->count > SHOWN ? " of " : "\n");
        if (value->count > SHOWN)
            bn_text_addf(text, "%llu\n", (unsigned long long)value->count);
        free(shown);
    }
}

static void head_text(bn_text *text, const bn_file_info *info)
{
    char size[BN_SIZE_TEXT];
    const bool packed = info->kind == BN_MODEL_FILE_PACKED;
    bn_text_addf(text, "%s: %s, %s, written by %s\n", info->path,
                 packed ? "packed model" : "checkpoint", bn_size_text(info->file_bytes, size),
                 info->producer);
    if (!packed) {
        bn_text_addf(text, "step %lld, %lld tokens seen", (long long)info->state.step,
                     (long long)info->state.tokens_seen);
        if (info->state.best_step >= 0)
            bn_text_addf(text, ", best validation loss %.4f at step %lld",
                         info->state.best_val_loss, (long long)info->state.best_step);
        bn_text_addf(text, ", optimizer state %s\n", info->has_moments ? "included" : "absent");
    }
    sizes_text(text, info);
}

static void shape_text(const bn_tensor_info *t, char *text, size_t size)
{
    const bn_tensor shape = bn_tensor_of(BN_F32, t->ndim, t->shape);
    bn_tensor_shape_text(&shape, text, size);
}

static void codes_table(bn_text *text, const bn_file_info *info, int width)
{
    char shape[64];
    bn_text_addf(text, "\n%-*s  %-12s %5s  %6s %6s %6s %7s %5s  %9s %9s %9s", width, "quantized",
                 "shape", "group", "-", "0", "+", "entropy", "dead", "scale min", "mean", "max");
    if (!info->gguf && info->kind == BN_MODEL_FILE_CHECKPOINT)
        bn_text_addf(text, "  %9s %6s %6s", "MSE", "SQNR", "cosine");
    bn_text_add(text, "  ratio\n");
    for (int i = 0; i < info->count; i++) {
        const bn_tensor_info *t = &info->tensors[i];
        if (!t->coded)
            continue;
        shape_text(t, shape, sizeof shape);
        bn_text_addf(text, "%-*s  %-12s %5lld  %5.1f%% %5.1f%% %5.1f%% %7.4f %5lld", width, t->name,
                     shape, (long long)t->group_size, 100 * share(t, 0), 100 * share(t, 1),
                     100 * share(t, 2), t->q.codes.entropy_bits, (long long)t->q.codes.dead_rows);
        bn_text_addf(text, "  %9.3g %9.3g %9.3g", t->q.scale_min, t->q.scale_mean, t->q.scale_max);
        if (t->has_shadow)
            bn_text_addf(text, "  %9.3g %6.2f %6.4f", t->q.mse, t->q.sqnr_db, t->q.cosine);
        bn_text_addf(text, "  %5.2f\n", ratio(t));
    }
}

static void float_table(bn_text *text, const bn_file_info *info, int width)
{
    char shape[64], size[BN_SIZE_TEXT];
    bn_text_addf(text, "\n%-*s  %-14s %-9s %s\n", width, "other", "shape", "encoding", "size");
    for (int i = 0; i < info->count; i++) {
        const bn_tensor_info *t = &info->tensors[i];
        if (t->coded)
            continue;
        shape_text(t, shape, sizeof shape);
        bn_text_addf(text, "%-*s  %-14s %-9s %s\n", width, t->name, shape, t->encoding,
                     bn_size_text(t->bytes_packed, size));
    }
}

static bn_status print_text(const bn_file_info *info)
{
    bn_text text = {0};
    int width = 8;
    for (int i = 0; i < info->count; i++) {
        const int length = (int)strlen(info->tensors[i].name);
        width = length > width ? length : width;
    }
    if (info->gguf)
        gguf_text(&text, info);
    else
        head_text(&text, info);
    if (sum_up(info).coded)
        codes_table(&text, info, width);
    float_table(&text, info, width);
    return bn_tool_print_text(&text);
}

static bn_status check_args(const struct args *args)
{
    if (args->sensitivity && args->activations)
        return bn_error(BN_USAGE, "--sensitivity and --activations: one at a time");
    if (!args->sensitivity && (args->max_batches || args->budget != 0))
        return bn_error(BN_USAGE, "--max-batches and --budget go with --sensitivity");
    if (!args->sensitivity && !args->activations)
        return args->data ? bn_error(BN_USAGE, "--data goes with --sensitivity or --activations")
                          : BN_OK;
    if (!args->data)
        return bn_error(BN_USAGE, "--data FILE is missing");
    if (args->max_batches < 0)
        return bn_error(BN_USAGE, "--max-batches %lld: expected 0 or more",
                        (long long)args->max_batches);
    if (!(args->budget >= 0))
        return bn_error(BN_USAGE, "--budget %g: expected bits per weight", args->budget);
    return BN_OK;
}

static bn_status run_sensitivity(const struct args *args)
{
    const bn_sensitivity_data data = {args->data, args->max_batches};
    bn_tool_model model;
    BN_TRY(bn_tool_open(args->file, &args->where, false, &model));
    bn_status status = bn_sensitivity_run(&model.loaded, &data, args->budget, args->json);
    bn_tool_close(&model);
    return status;
}

static bn_status run_activations(const struct args *args)
{
    bn_tool_model model;
    bn_sample sample = {0};
    bn_activations found = {0};
    BN_TRY(bn_tool_open(args->file, &args->where, true, &model));
    const bn_loaded *loaded = &model.loaded;
    bn_status status = bn_sample_open(&loaded->config, args->data, loaded->tokenizer, &sample);
    if (status == BN_OK)
        status = bn_error_in(bn_activations_measure(loaded->model, &sample, &found), loaded->path);
    if (status == BN_OK)
        status = bn_activations_print(&found, loaded->path, sample.source, args->json);
    bn_activations_clear(&found);
    bn_sample_clear(&sample);
    bn_tool_close(&model);
    return status;
}

static bn_status run(void *arg)
{
    const struct args *args = arg;
    bn_file_info info;
    BN_TRY(check_args(args));
    if (args->sensitivity)
        return run_sensitivity(args);
    if (args->activations)
        return run_activations(args);
    bn_tool_distrust(args->where.untrusted);
    BN_TRY(bn_file_info_read(args->file, &info));
    for (size_t i = 0; i < info.skipped.count; i++)
        fprintf(stderr, "bitnet-inspect: passed over %s\n", info.skipped.items[i]);
    bn_status status = args->json ? print_json(&info) : print_text(&info);
    bn_file_info_clear(&info);
    return status;
}

int main(int argc, char **argv)
{
    struct args args = {.where = BN_TOOL_WHERE_DEFAULT};
    return bn_tool_main(&program, run, &args, argc, argv);
}
