/* bitnet-quantize - makes a float model ternary without training it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "tools/quantize.h"
#include "tools/tool.h"

struct args {
    const char *model, *output, *method, *calibration, *data;
    bn_strings set;
    int64_t tokens, max_batches;
    double damping;
    bool quiet, json;
    bn_tool_where where;
};

static const bn_option options[] = {
    {"output", 'o', "FILE", BN_OPT_STRING, offsetof(struct args, output),
     "the checkpoint to write; an existing one is replaced"},
    {"method", 0, "NAME", BN_OPT_STRING, offsetof(struct args, method),
     "rtn: round to nearest; calibrated: scales of least error; gptq: columns make up for the "
     "errors of those before them (gptq)"},
    {"calibration", 0, "FILE", BN_OPT_STRING, offsetof(struct args, calibration),
     "text, or of an mlp table, to calibrate on (what the model was trained on)"},
    {"tokens", 0, "N", BN_OPT_I64, offsetof(struct args, tokens),
     "tokens of it, or examples, evenly spaced (32768)"},
    {"damping", 0, "X", BN_OPT_F64, offsetof(struct args, damping),
     "added to the diagonal of the inputs' second moments, in parts of its mean (0.01)"},
    {"set", 0, "KEY=VALUE", BN_OPT_LIST, offsetof(struct args, set),
     "a configuration key of the new model, quantization.weight_scale=row, say"},
    {"data", 0, "FILE", BN_OPT_STRING, offsetof(struct args, data),
     "text or table to measure loss on (what training held out)"},
    {"max-batches", 0, "N", BN_OPT_I64, offsetof(struct args, max_batches),
     "at most N batches of it, evenly spaced; 0 takes all (0)"},
    {"quiet", 'q', NULL, BN_OPT_FLAG, offsetof(struct args, quiet), "no summary"},
    {"json", 0, NULL, BN_OPT_FLAG, offsetof(struct args, json), "print the report"},
    BN_TOOL_WHERE_OPTIONS(struct args),
    {0}};

static const bn_positional positionals[] = {
    {"MODEL", BN_POS_ONE, offsetof(struct args, model),
     "a float model: output folder (its best checkpoint), checkpoint, or packed file"},
    {0}};

static const bn_program program = {
    "bitnet-quantize", "Makes a float model ternary without training it.", options, positionals,
    "The result is a checkpoint: bitnet-train --init-from goes on training it, bitnet-export\n"
    "packs it. Its quantization is that of the model's config, with ternary weights, and of\n"
    "--set. docs/conversion.md has the methods. Exit codes: 0 done, 1 failure, 2 usage, 65 bad\n"
    "data or model file, 66 input missing, 69 no device, 74 I/O, 78 bad configuration.\n"};

static bn_status check_args(const struct args *args, bn_quantize_method *method)
{
    BN_TRY(bn_tool_check_output(args->output));
    if (args->tokens < 1)
        return bn_error(BN_USAGE, "--tokens %lld: expected 1 or more", (long long)args->tokens);
    if (!(args->damping >= 0 && args->damping <= 1))
        return bn_error(BN_USAGE, "--damping %g: expected 0 to 1", args->damping);
    if (args->max_batches < 0)
        return bn_error(BN_USAGE, "--max-batches %lld: expected 0 or more",
                        (long long)args->max_batches);
    for (int i = 0; i < BN_QUANTIZE_METHODS; i++)
        if (strcmp(args->method, bn_quantize_method_name((bn_quantize_method)i)) == 0) {
            *method = (bn_quantize_method)i;
            return BN_OK;
        }
    return bn_error(BN_USAGE, "--method %s: expected rtn, calibrated or gptq", args->method);
}

static bn_status print_json(const struct args *args, const char *source,
                            const bn_quantize_report *report)
{
    bn_json json = {.indent = 2};
    bn_json_object(&json, NULL);
    bn_json_string(&json, "source", source);
    bn_json_string(&json, "file", args->output);
    bn_json_string(&json, "method", args->method);
    bn_json_int(&json, "calibrated_on", report->calibrated_on);
    bn_json_double(&json, "loss_before", report->loss_before);
    bn_json_double(&json, "loss_after", report->loss_after);
    bn_json_array(&json, "layers");
    for (int i = 0; i < report->count; i++) {
        const bn_quantized_layer *layer = &report->layers[i];
        bn_json_object(&json, NULL);
        bn_json_string(&json, "name", layer->name);
        bn_json_double(&json, "error", layer->error);
        if (layer->condition > 0)
            bn_json_double(&json, "condition", layer->condition);
        bn_json_object_end(&json);
    }
    bn_json_array_end(&json);
    bn_json_object_end(&json);
    return bn_tool_print_json(&json);
}

static void print_text(const struct args *args, const bn_quantize_report *report)
{
    fprintf(stderr, "%-40s %s\n", "layer",
            report->calibrated_on ? "error of its output" : "error of its weight");
    for (int i = 0; i < report->count; i++) {
        const bn_quantized_layer *layer = &report->layers[i];
        fprintf(stderr, "%-40s %.4f", layer->name, layer->error);
        if (layer->condition > 0)
            fprintf(stderr, "  (condition %.2g)", layer->condition);
        fputc('\n', stderr);
    }
    fprintf(stderr, "loss %.4f -> %.4f with %s\n%s: %d ternary layers\n", report->loss_before,
            report->loss_after, args->method, args->output, report->count);
}

static bn_status run(void *arg)
{
    const struct args *args = arg;
    bn_quantize_method method = BN_QUANTIZE_RTN;
    bn_tool_model model;
    bn_quantize_report report;
    BN_TRY(check_args(args, &method));
    BN_TRY(bn_tool_open(args->model, &args->where, false, &model));
    const bn_quantize_request request = {.output = args->output,
                                         .producer = bn_tool_producer,
                                         .method = method,
                                         .calibration = args->calibration,
                                         .tokens = args->tokens,
                                         .damping = args->damping,
                                         .data = args->data,
                                         .max_batches = args->max_batches,
                                         .set = &args->set};
    bn_status status = bn_quantize_run(&request, &model.loaded, &report);
    if (status == BN_OK) {
        if (!args->quiet)
            print_text(args, &report);
        if (args->json)
            status = print_json(args, model.loaded.path, &report);
        bn_quantize_report_clear(&report);
    }
    bn_tool_close(&model);
    return status;
}

int main(int argc, char **argv)
{
    struct args args = {
        .method = "gptq", .tokens = 32768, .damping = 0.01, .where = BN_TOOL_WHERE_DEFAULT};
    const int code = bn_tool_main(&program, run, &args, argc, argv);
    bn_strings_clear(&args.set);
    return code;
}
