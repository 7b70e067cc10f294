/* bitnet-eval - loss, perplexity and bits per byte of a model on a text, or
 * loss and accuracy of an MLP on a table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/signals.h"
#include "base/timer.h"
#include "tools/measure.h"
#include "tools/tool.h"

struct args {
    const char *model, *data, *cache_type;
    bn_strings adapters;
    bool json, validation_split;
    int64_t max_batches, batch_size;
    bn_tool_where where;
};

static const bn_option options[] = {
    {"data", 0, "FILE", BN_OPT_STRING, offsetof(struct args, data),
     "text to evaluate on: a file or a quoted pattern; of an mlp a table"},
    {"validation-split", 0, NULL, BN_OPT_FLAG, offsetof(struct args, validation_split),
     "only what training holds out; without --data, of the model's own text or table"},
    {"max-batches", 0, "N", BN_OPT_I64, offsetof(struct args, max_batches),
     "at most N batches, evenly spaced; 0 takes the whole text (0)"},
    {"batch-size", 0, "N", BN_OPT_I64, offsetof(struct args, batch_size),
     "sequences at a time; 0 takes that of the training run (0)"},
    {"json", 0, NULL, BN_OPT_FLAG, offsetof(struct args, json), "print one JSON object"},
    BN_TOOL_CACHE_OPTION(struct args, cache_type),
    BN_TOOL_ADAPTER_OPTION(struct args, adapters),
    BN_TOOL_WHERE_OPTIONS(struct args),
    {0}};

static const bn_positional positionals[] = {
    {"MODEL", BN_POS_ONE, offsetof(struct args, model),
     "output folder (its best checkpoint), checkpoint, or packed file"},
    {0}};

static const bn_program program = {
    "bitnet-eval", "Measures how well a model predicts a text or sorts a table.", options,
    positionals,
    "The text is cut into windows as long as in training; every token but the first is\n"
    "predicted once. Loss is in nats per token. Exit codes: 0 done, 1 failure, 2 usage, 65 bad\n"
    "data or model file, 66 input missing, 69 no device, 75 interrupted.\n"};

static bn_status print_json(const bn_loaded *loaded, const char *data, const bn_score *score,
                            double seconds)
{
    const bool classifier = bn_model_is_classifier(loaded->model);
    bn_json json = {.indent = 2};
    bn_json_object(&json, NULL);
    bn_json_string(&json, "model", loaded->path);
    bn_json_bool(&json, "packed", loaded->is_packed);
    if (!loaded->is_packed)
        bn_json_int(&json, "step", loaded->step);
    bn_json_string(&json, "data", data);
    bn_json_int(&json, classifier ? "examples" : "tokens", score->labels);
    if (!classifier)
        bn_json_int(&json, "bytes", score->bytes);
    bn_json_int(&json, "batches", score->batches);
    bn_json_int(&json, classifier ? "batches_in_table" : "batches_in_text", score->total);
    bn_json_double(&json, "loss", bn_score_loss(score));
    if (classifier) {
        bn_json_double(&json, "accuracy", bn_score_accuracy(score));
        bn_json_int(&json, "correct", score->correct);
    } else {
        bn_json_double(&json, "perplexity", bn_score_perplexity(score));
        bn_json_double(&json, "bits_per_byte", bn_score_bits_per_byte(score));
    }
    bn_json_double(&json, "elapsed_s", seconds);
    bn_json_double(&json, classifier ? "examples_per_second" : "tokens_per_second",
                   (double)score->labels / seconds);
    bn_json_object_end(&json);
    return bn_tool_print_json(&json);
}

static bn_status print_text(const bn_loaded *loaded, const bn_score *score, double seconds)
{
    const bool classifier = bn_model_is_classifier(loaded->model);
    const char *unit = classifier ? "examples" : "tokens";
    bn_text text = {0};
    bn_text_addf(&text, "loss           %.6f nats per %.*s\n", bn_score_loss(score),
                 (int)strlen(unit) - 1, unit);
    if (classifier) {
        bn_text_addf(&text, "accuracy       %.4f (%lld right)\n", bn_score_accuracy(score),
                     (long long)score->correct);
    } else {
        bn_text_addf(&text, "perplexity     %.4f\n", bn_score_perplexity(score));
        bn_text_addf(&text, "bits per byte  %.4f\n", bn_score_bits_per_byte(score));
    }
    bn_text_addf(&text, "%-14s %lld", unit, (long long)score->labels);
    if (score->batches < score->total)
        bn_text_addf(&text, " (%lld of %lld batches)", (long long)score->batches,
                     (long long)score->total);
    bn_text_add(&text, "\n");
    fprintf(stderr, "bitnet-eval: %.1f s, %.0f %s/s\n", seconds, (double)score->labels / seconds,
            unit);
    return bn_tool_print_text(&text);
}

static bn_status check_args(const struct args *args, int *cache_bits)
{
    if (!args->data && !args->validation_split)
        return bn_error(BN_USAGE, "--data FILE is missing (or --validation-split)");
    if (args->max_batches < 0)
        return bn_error(BN_USAGE, "--max-batches %lld: expected 0 or more",
                        (long long)args->max_batches);
    if (args->batch_size < 0 || args->batch_size > 1 << 20)
        return bn_error(BN_USAGE, "--batch-size %lld: expected 0 to %d",
                        (long long)args->batch_size, 1 << 20);
    return bn_tool_cache_bits(args->cache_type, cache_bits);
}

static bn_status print(const struct args *args, const bn_loaded *loaded, const char *data,
                       const bn_score *score, double start)
{
    const double seconds = bn_seconds() - start;
    return args->json ? print_json(loaded, data, score, seconds)
                      : print_text(loaded, score, seconds);
}

static bn_status score(const struct args *args, const bn_loaded *loaded, int cache_bits)
{
    const bn_part part = args->validation_split ? BN_PART_HELD_OUT : BN_PART_ALL;
    bn_measure measure;
    bn_score found;
    if (cache_bits && bn_model_is_classifier(loaded->model))
        return bn_error(BN_USAGE, "--cache-type %s: %s is an mlp, which has no KV cache",
                        args->cache_type, loaded->path);
    BN_TRY(bn_measure_open(loaded, args->data, part, &measure));
    measure.cache_bits = cache_bits;
    const double start = bn_seconds();
    bn_status status =
        bn_measure_score(&measure, loaded->model, args->batch_size, args->max_batches, &found);
    if (status == BN_OK)
        status = print(args, loaded, measure.name, &found, start);
    bn_measure_close(&measure);
    return status;
}

static bn_status run(void *arg)
{
    struct args *args = arg;
    bn_tool_model model = {0};
    int cache_bits = 0;
    bn_status status = BN_OK;
    BN_TRY_OUT(check_args(args, &cache_bits));
    BN_TRY_OUT(bn_signals_install());
    BN_TRY_OUT(bn_tool_open_adapted(args->model, &args->where, &args->adapters, &model));
    status = score(args, &model.loaded, cache_bits);
out:
    bn_tool_close(&model);
    bn_strings_clear(&args->adapters);
    return status;
}

int main(int argc, char **argv)
{
    struct args args = {.cache_type = "float32", .where = BN_TOOL_WHERE_DEFAULT};
    return bn_tool_main(&program, run, &args, argc, argv);
}
