/* bitnet-import - takes a model over from a Hugging Face folder. */
#include <stdio.h>

#include "base/fs.h"
#include "tools/hf_import.h"
#include "tools/tool.h"

struct args {
    const char *dir, *output, *tokenizer;
    bn_strings set;
    bool quiet, json;
};

static const bn_option options[] = {
    {"output", 'o', "FILE", BN_OPT_STRING, offsetof(struct args, output),
     "the model file to write; an existing one is replaced"},
    {"tokenizer", 0, "NAME", BN_OPT_STRING, offsetof(struct args, tokenizer),
     "byte, or a tokenizer.json or tokenizer.model (what DIR has of the two)"},
    {"set", 0, "KEY=VALUE", BN_OPT_LIST, offsetof(struct args, set),
     "a configuration key of the new model, quantization.weight_scale=group, say"},
    {"quiet", 'q', NULL, BN_OPT_FLAG, offsetof(struct args, quiet), "no summary"},
    {"json", 0, NULL, BN_OPT_FLAG, offsetof(struct args, json), "print the report"},
    {0}};

static const bn_positional positionals[] = {
    {"DIR", BN_POS_ONE, offsetof(struct args, dir),
     "folder with config.json, *.safetensors and tokenizer.json"},
    {0}};

static const bn_program program = {
    "bitnet-import", "Takes a model over from a Hugging Face folder.", options, positionals,
    "Shadow weights (BitNetForCausalLM, online) and float weights (LlamaForCausalLM, to start\n"
    "from) become a training checkpoint, packed weights a packed model file. Exit codes: 0 done,\n"
    "1 failure, 2 usage, 65 not a model that can be taken over, 66 input missing, 74 I/O.\n"};

static bn_status check_args(const struct args *args)
{
    BN_TRY(bn_tool_check_output(args->output));
    if (!bn_fs_exists(args->dir))
        return bn_error(BN_NO_INPUT, "%s: no such folder", args->dir);
    if (!bn_fs_is_dir(args->dir))
        return bn_error(BN_USAGE, "%s: is not a folder", args->dir);
    return BN_OK;
}

static bn_status run(void *arg)
{
    const struct args *args = arg;
    bn_import_report report;
    const bn_import_request request = {.dir = args->dir,
                                       .output = args->output,
                                       .producer = bn_tool_producer,
                                       .tokenizer = args->tokenizer,
                                       .set = &args->set};
    BN_TRY(check_args(args));
    BN_TRY(bn_import_run(&request, &report));
    if (!args->quiet)
        fputs(report.text, stderr);
    bn_status status = args->json ? bn_tool_print(report.json) : BN_OK;
    bn_import_report_clear(&report);
    return status;
}

int main(int argc, char **argv)
{
    struct args args = {0};
    const int code = bn_tool_main(&program, run, &args, argc, argv);
    bn_strings_clear(&args.set);
    return code;
}
