/* bitnet-adapter - writes an adapter alone, for PEFT, or merged with its base. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/signals.h"
#include "model/peft.h"
#include "tools/adapter_merge.h"

struct args {
    const char *adapter, *base, *output, *format, *data;
    bool quiet, json;
    bn_tool_where where;
};

static const bn_option options[] = {
    {"base", 'b', "MODEL", BN_OPT_STRING, offsetof(struct args, base),
     "the model that it adapts: output folder, checkpoint, or packed file"},
    {"output", 'o', "PATH", BN_OPT_STRING, offsetof(struct args, output),
     "file to write, of peft a folder; what is there is replaced"},
    {"format", 'f', "NAME", BN_OPT_STRING, offsetof(struct args, format),
     "hdf5 (adapters alone), peft, or merged: a model of its own (hdf5)"},
    {"data", 0, "FILE", BN_OPT_STRING, offsetof(struct args, data),
     "of merged: text or table to measure the losses on (what training held out)"},
    {"quiet", 'q', NULL, BN_OPT_FLAG, offsetof(struct args, quiet), "no summary"},
    {"json", 0, NULL, BN_OPT_FLAG, offsetof(struct args, json), "print the report"},
    BN_TOOL_WHERE_OPTIONS(struct args),
    {0}};

static const bn_positional positionals[] = {
    {"ADAPTER", BN_POS_ONE, offsetof(struct args, adapter),
     "output folder (its best checkpoint), checkpoint, or folder of PEFT"},
    {0}};

static const bn_program program = {
    "bitnet-adapter", "Writes an adapter alone, for PEFT, or merged with its base.", options,
    positionals,
    "A merged model is a checkpoint whose weights are quantized anew when it is run or\n"
    "exported; the losses of base, adapted and merged model say what that costs. Exit codes:\n"
    "0 done, 1 failure, 2 usage, 65 bad file or another base, 66 input missing, 74 I/O,\n"
    "75 interrupted: nothing was written.\n"};

static bn_status check_args(const struct args *args)
{
    if (!args->base)
        return bn_error(BN_USAGE, "--base MODEL is missing");
    if (!args->output || !*args->output)
        return bn_error(BN_USAGE, "-o PATH is missing");
    if (strcmp(args->format, "hdf5") != 0 && strcmp(args->format, "peft") != 0 &&
        strcmp(args->format, "merged") != 0)
        return bn_error(BN_USAGE, "--format %.40s: expected hdf5, peft or merged", args->format);
    if (args->data && strcmp(args->format, "merged") != 0)
        return bn_error(BN_USAGE, "--data goes with --format merged");
    return strcmp(args->format, "peft") == 0 ? BN_OK : bn_tool_check_output(args->output);
}

static bn_status merge(const struct args *args, bn_tool_model *model)
{
    bn_merge_losses losses;
    BN_TRY(bn_adapter_merge(model, args->output, args->data, &losses));
    if (!args->quiet)
        fprintf(stderr,
                "bitnet-adapter: loss on %s: base %.4f, with adapter %.4f, merged and quantized "
                "%.4f\n",
                args->data ? args->data : "the held-out data", losses.base, losses.adapted,
                losses.merged);
    if (!args->json)
        return BN_OK;
    bn_json json = {.indent = 2};
    bn_json_object(&json, NULL);
    bn_json_string(&json, "file", args->output);
    bn_json_double(&json, "base_loss", losses.base);
    bn_json_double(&json, "adapter_loss", losses.adapted);
    bn_json_double(&json, "merged_loss", losses.merged);
    bn_json_object_end(&json);
    return bn_tool_print_json(&json);
}

static bn_status write_alone(const struct args *args, const bn_tool_model *model)
{
    char id[BN_SHA256_TEXT];
    BN_TRY(bn_signals_poll());
    BN_TRY(strcmp(args->format, "peft") == 0
               ? bn_peft_write(model->adapters[0], args->output, &model->base)
               : bn_adapter_save(model->adapters[0], args->output, &model->base,
                                 bn_tokenizer_source(model->loaded.tokenizer), bn_tool_producer));
    const long long parameters = bn_param_set_numel(&model->adapters[0]->params);
    bn_sha256_text(model->base.id, id);
    if (!args->quiet)
        fprintf(stderr, "bitnet-adapter: %s: %lld parameters, rank %lld, base SHA-256 %s\n",
                args->output, parameters, (long long)model->adapters[0]->config.adapter.r, id);
    if (!args->json)
        return BN_OK;
    bn_json json = {.indent = 2};
    bn_json_object(&json, NULL);
    bn_json_string(&json, "file", args->output);
    bn_json_int(&json, "parameters", parameters);
    bn_json_string(&json, "base_sha256", id);
    bn_json_object_end(&json);
    return bn_tool_print_json(&json);
}

static bn_status run(void *arg)
{
    const struct args *args = arg;
    bn_tool_model model = {0};
    BN_TRY(check_args(args));
    BN_TRY(bn_signals_install());
    BN_TRY(bn_tool_open_base(args->base, &args->where, &model));
    bn_status status = bn_tool_add_adapter(args->adapter, &model);
    if (status == BN_OK)
        status =
            strcmp(args->format, "merged") == 0 ? merge(args, &model) : write_alone(args, &model);
    bn_tool_close(&model);
    return status;
}

int main(int argc, char **argv)
{
    struct args args = {.format = "hdf5", .where = BN_TOOL_WHERE_DEFAULT};
    return bn_tool_main(&program, run, &args, argc, argv);
}
