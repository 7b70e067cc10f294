/* bitnet-export - packs a trained model and proves that nothing was lost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/signals.h"
#include "tools/c_header_export.h"
#include "tools/export_job.h"
#include "tools/gguf_export.h"
#include "tools/hf_export.h"
#include "tools/tool.h"

struct args {
    const char *model, *output, *format, *encoding, *float_dtype, *hf_weights, *gguf_type, *data;
    bool compress, verify, no_verify, force, quiet, json;
    bn_tool_where where;
};

static const bn_option options[] = {
    {"output", 'o', "FILE", BN_OPT_STRING, offsetof(struct args, output),
     "the packed file to write, an existing one is replaced; of safetensors a new folder"},
    {"format", 0, "NAME", BN_OPT_STRING, offsetof(struct args, format),
     "hdf5; safetensors: a folder that transformers loads; gguf: for llama.cpp; c-header: an "
     "mlp as C source for microcontrollers (hdf5)"},
    {"encoding", 0, "NAME", BN_OPT_STRING, offsetof(struct args, encoding),
     "of ternary weights: base3x5, 1.6 bits each, or ternary2, 2 bits (base3x5)"},
    {"float-dtype", 0, "NAME", BN_OPT_STRING, offsetof(struct args, float_dtype),
     "of embedding and head: float32, float16, bfloat16, or of gguf q8_0 (float32)"},
    {"hf-weights", 0, "FORM", BN_OPT_STRING, offsetof(struct args, hf_weights),
     "of safetensors: packed, bf16, float32 or shadow (packed)"},
    {"gguf-type", 0, "TYPE", BN_OPT_STRING, offsetof(struct args, gguf_type),
     "of gguf, of ternary weights: tq2_0, tq1_0 or q4_0 (tq2_0)"},
    {"force", 0, NULL, BN_OPT_FLAG, offsetof(struct args, force),
     "of gguf: write a model that llama.cpp computes differently"},
    {"compress", 0, NULL, BN_OPT_FLAG, offsetof(struct args, compress), "deflate the datasets"},
    {"verify", 0, NULL, BN_OPT_FLAG, offsetof(struct args, verify),
     "compare the file with the model before it gets its name (the default)"},
    {"no-verify", 0, NULL, BN_OPT_FLAG, offsetof(struct args, no_verify),
     "give the file its name unseen"},
    {"data", 0, "FILE", BN_OPT_STRING, offsetof(struct args, data),
     "text for the comparison (the text that training held out, else random tokens)"},
    {"quiet", 'q', NULL, BN_OPT_FLAG, offsetof(struct args, quiet), "no summary"},
    {"json", 0, NULL, BN_OPT_FLAG, offsetof(struct args, json), "print the report"},
    BN_TOOL_WHERE_OPTIONS(struct args),
    {0}};

static const bn_positional positionals[] = {
    {"MODEL", BN_POS_ONE, offsetof(struct args, model),
     "output folder (its best checkpoint), checkpoint, or packed file (to change its encoding)"},
    {0}};

static const bn_program program = {
    "bitnet-export", "Packs a trained model into a small file for inference.", options, positionals,
    "Codes and scales are stored as the device quantized them; blocks of gguf hold scales as\n"
    "float16, but one scale per tensor as float32. --hf-weights packed needs one\n"
    "scale per tensor; bf16 and float32 hold any model; shadow holds the weights that are\n"
    "trained, for transformers to quantize and train on. FILE.report.json says what was\n"
    "stored how and how it was verified. Exit codes: 0 done, 1 failure, 2 usage, 3 the file\n"
    "differs from the model (it is removed), 65 bad model file, 66 input missing, 74 I/O, 75\n"
    "interrupted: nothing was written.\n"};

static bn_status choose(const char *option, const char *word, const bn_encoding *choices, int count,
                        bn_encoding *out)
{
    bn_text known = {0};
    char *list = NULL;
    for (int i = 0; i < count; i++) {
        if (strcmp(word, bn_encoding_name(choices[i])) == 0) {
            bn_text_clear(&known);
            *out = choices[i];
            return BN_OK;
        }
        bn_text_addf(&known, "%s%s", i ? ", " : "", bn_encoding_name(choices[i]));
    }
    BN_TRY(bn_text_take(&known, &list));
    bn_status status = bn_error(BN_USAGE, "--%s %s: expected one of %s", option, word, list);
    free(list);
    return status;
}

static bn_status choose_form(const char *word, bn_hf_form *out)
{
    for (int i = 0; i < BN_HF_FORMS; i++)
        if (strcmp(word, bn_hf_form_name((bn_hf_form)i)) == 0) {
            *out = (bn_hf_form)i;
            return BN_OK;
        }
    return bn_error(BN_USAGE, "--hf-weights %s: expected packed, bf16, float32 or shadow", word);
}

static bool is_q8(const struct args *args)
{
    return strcmp(args->float_dtype, "q8_0") == 0;
}

/* The output would replace the file that is being read. */
static bn_status check_same_file(const char *source, const char *output)
{
    struct stat a, b;
    if (stat(source, &a) == 0 && stat(output, &b) == 0 && a.st_dev == b.st_dev &&
        a.st_ino == b.st_ino)
        return bn_error(BN_USAGE, "-o %s: is the model itself", output);
    return BN_OK;
}

/* What was done; the report is cleared. */
static bn_status print(const struct args *args, bn_export_report *report)
{
    if (!args->quiet)
        fputs(report->text, stderr);
    bn_status status = args->json ? bn_tool_print(report->json) : BN_OK;
    bn_export_report_clear(report);
    return status;
}

static bn_status export_file(const struct args *args, const bn_export_format *format,
                             bn_loaded *source)
{
    const bn_export_request request = {.output = args->output,
                                       .producer = bn_tool_producer,
                                       .format = *format,
                                       .verify = !args->no_verify,
                                       .data = args->data};
    bn_export_report report;
    BN_TRY(check_same_file(source->path, args->output));
    BN_TRY(bn_export_run(&request, source, &report));
    return print(args, &report);
}

/* bf16 stores all matrices so, whatever --float-dtype says. */
static bn_status export_folder(const struct args *args, const bn_export_format *format,
                               bn_loaded *source)
{
    bn_hf_export_request request = {.output = args->output,
                                    .producer = bn_tool_producer,
                                    .floats = format->floats,
                                    .verify = !args->no_verify,
                                    .data = args->data};
    bn_export_report report;
    BN_TRY(choose_form(args->hf_weights, &request.form));
    if (request.form == BN_HF_BF16)
        request.floats = BN_ENC_BFLOAT16;
    BN_TRY(bn_hf_export_run(&request, source, &report));
    return print(args, &report);
}

static bn_status export_gguf(const struct args *args, const bn_export_format *format,
                             bn_loaded *source)
{
    static const bn_gguf_type floats[] = {[BN_ENC_FLOAT32] = BN_GGUF_F32,
                                          [BN_ENC_FLOAT16] = BN_GGUF_F16,
                                          [BN_ENC_BFLOAT16] = BN_GGUF_BF16};
    bn_gguf_export_request request = {.output = args->output,
                                      .producer = bn_tool_producer,
                                      .layout.floats =
                                          is_q8(args) ? BN_GGUF_Q8_0 : floats[format->floats],
                                      .verify = !args->no_verify,
                                      .force = args->force,
                                      .data = args->data};
    bn_export_report report;
    if (!bn_gguf_type_find(args->gguf_type, &request.layout.ternary) ||
        !bn_gguf_holds_codes(request.layout.ternary))
        return bn_error(BN_USAGE, "--gguf-type %s: expected tq2_0, tq1_0 or q4_0", args->gguf_type);
    BN_TRY(check_same_file(source->path, args->output));
    BN_TRY(bn_gguf_export_run(&request, source, &report));
    return print(args, &report);
}

static bn_status export_c_header(const struct args *args, const bn_export_format *format,
                                 bn_loaded *source)
{
    const bn_c_header_request request = {.output = args->output,
                                         .producer = bn_tool_producer,
                                         .verify = !args->no_verify,
                                         .data = args->data};
    bn_export_report report;
    (void)format; /* a header has one form */
    BN_TRY(bn_c_header_run(&request, source, &report));
    return print(args, &report);
}

typedef struct export_format {
    const char *name;
    bool is_folder; /* of several files */
    bool takes_q8;  /* --float-dtype q8_0 */
    enum { TRANSFORMER = 1 << BN_KIND_TRANSFORMER, MLP = 1 << BN_KIND_MLP } kinds;
    bn_status (*run)(const struct args *args, const bn_export_format *format, bn_loaded *source);
} export_format;

static const export_format formats[] = {{"hdf5", false, false, TRANSFORMER | MLP, export_file},
                                        {"safetensors", true, false, TRANSFORMER, export_folder},
                                        {"gguf", false, true, TRANSFORMER, export_gguf},
                                        {"c-header", false, false, MLP, export_c_header}};
enum { FORMATS = sizeof formats / sizeof *formats };

static bn_status find_format(const char *name, const export_format **out)
{
    bn_text known = {0};
    char *list = NULL;
    for (int i = 0; i < FORMATS; i++) {
        if (strcmp(name, formats[i].name) == 0) {
            bn_text_clear(&known);
            *out = &formats[i];
            return BN_OK;
        }
        bn_text_addf(&known, "%s%s", i ? ", " : "", formats[i].name);
    }
    BN_TRY(bn_text_take(&known, &list));
    bn_status status = bn_error(BN_USAGE, "--format %s: expected one of %s", name, list);
    free(list);
    return status;
}

static bn_status check_args(const struct args *args, bn_export_format *format,
                            const export_format **target)
{
    static const bn_encoding ternary[] = {BN_ENC_BASE3X5, BN_ENC_TERNARY2};
    static const bn_encoding floats[] = {BN_ENC_FLOAT32, BN_ENC_FLOAT16, BN_ENC_BFLOAT16};
    if (!args->output || !*args->output)
        return bn_error(BN_USAGE, "-o FILE is missing");
    BN_TRY(find_format(args->format, target));
    if (args->verify && args->no_verify)
        return bn_error(BN_USAGE, "--verify and --no-verify exclude each other");
    BN_TRY(choose("encoding", args->encoding, ternary, 2, &format->ternary));
    format->floats = BN_ENC_FLOAT32;
    if (!(*target)->takes_q8 || !is_q8(args))
        BN_TRY(choose("float-dtype", args->float_dtype, floats, 3, &format->floats));
    format->deflate = args->compress ? 6 : 0;
    return (*target)->is_folder ? BN_OK : bn_tool_check_output(args->output);
}

static bn_status check_kind(const export_format *target, const bn_loaded *source)
{
    const bn_cfg_kind kind = source->config.model.kind;
    if (target->kinds & 1 << kind)
        return BN_OK;
    return bn_error(BN_USAGE, "--format %s: does not hold models of kind %s, as %s is",
                    target->name, bn_config_word("model.kind", kind), source->path);
}

/* A run stopped on its way to full quantization: what is packed is not what was
 * in training. */
static void warn_of_ramp(const bn_loaded *source)
{
    const double strength = bn_config_strength(&source->config, source->step - 1);
    if (!source->is_packed && source->step > 0 && strength < 1.0)
        fprintf(stderr,
                "warning: %s was in training at %.0f %% of quantization; it is exported fully "
                "quantized\n",
                source->path, 100.0 * strength);
}

static bn_status run(void *arg)
{
    const struct args *args = arg;
    bn_tool_model model = {0};
    bn_export_format format;
    const export_format *target = NULL;
    BN_TRY(check_args(args, &format, &target));
    BN_TRY(bn_signals_install());
    BN_TRY(bn_tool_open(args->model, &args->where, false, &model));
    bn_status status = check_kind(target, &model.loaded);
    if (status == BN_OK)
        warn_of_ramp(&model.loaded);
    if (status == BN_OK)
        status = target->run(args, &format, &model.loaded);
    bn_tool_close(&model);
    return status;
}

int main(int argc, char **argv)
{
    struct args args = {.format = "hdf5",
                        .encoding = "base3x5",
                        .float_dtype = "float32",
                        .hf_weights = "packed",
                        .gguf_type = "tq2_0",
                        .where = BN_TOOL_WHERE_DEFAULT};
    return bn_tool_main(&program, run, &args, argc, argv);
}
