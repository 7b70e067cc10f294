/* bitnet-export - packs a trained model and proves that nothing was lost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "tools/export_report.h"
#include "tools/sample.h"
#include "tools/tool.h"
#include "tools/verify.h"

struct args {
    const char *model, *output, *format, *encoding, *float_dtype, *data;
    bool compress, verify, no_verify, quiet, json;
    bn_tool_where where;
};

static const bn_option options[] = {
    {"output", 'o', "FILE", BN_OPT_STRING, offsetof(struct args, output),
     "the packed file to write; an existing one is replaced"},
    {"format", 0, "NAME", BN_OPT_STRING, offsetof(struct args, format), "hdf5 (hdf5)"},
    {"encoding", 0, "NAME", BN_OPT_STRING, offsetof(struct args, encoding),
     "of ternary weights: base3x5, 1.6 bits each, or ternary2, 2 bits (base3x5)"},
    {"float-dtype", 0, "NAME", BN_OPT_STRING, offsetof(struct args, float_dtype),
     "of embedding and head: float32, float16 or bfloat16 (float32)"},
    {"compress", 0, NULL, BN_OPT_FLAG, offsetof(struct args, compress), "deflate the datasets"},
    {"verify", 0, NULL, BN_OPT_FLAG, offsetof(struct args, verify),
     "compare the file with the model before it gets its name (the default)"},
    {"no-verify", 0, NULL, BN_OPT_FLAG, offsetof(struct args, no_verify), "do not"},
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
    "Codes and scales are stored as the device quantized them. FILE.report.json says what was\n"
    "stored how and how it was verified. Exit codes: 0 done, 1 failure, 2 usage, 3 the file\n"
    "differs from the model (it is removed), 65 bad model file, 66 input missing, 74 I/O.\n"};

/* Everything an export holds. */
struct job {
    const struct args *args;
    bn_tool_model source;
    bn_export_set set;
    char *config_json, *temp;
    bn_packed_info info;
    bn_sample sample;
    bn_probe original; /* the source as it is */
    bn_probe rounded;  /* with its floats as stored; empty if those are float32 */
    bn_export_report report;
};

static void job_clear(struct job *job)
{
    bn_export_report_clear(&job->report);
    bn_probe_clear(&job->original);
    bn_probe_clear(&job->rounded);
    bn_sample_clear(&job->sample);
    bn_export_set_clear(&job->set);
    bn_tool_close(&job->source);
    free(job->config_json);
    free(job->temp);
}

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

static bn_status check_args(const struct args *args, bn_export_format *format)
{
    static const bn_encoding ternary[] = {BN_ENC_BASE3X5, BN_ENC_TERNARY2};
    static const bn_encoding floats[] = {BN_ENC_FLOAT32, BN_ENC_FLOAT16, BN_ENC_BFLOAT16};
    if (!args->output || !*args->output)
        return bn_error(BN_USAGE, "-o FILE is missing");
    if (strcmp(args->format, "hdf5") != 0)
        return bn_error(BN_USAGE, "--format %s: expected hdf5", args->format);
    if (args->verify && args->no_verify)
        return bn_error(BN_USAGE, "--verify and --no-verify exclude each other");
    BN_TRY(choose("encoding", args->encoding, ternary, 2, &format->ternary));
    BN_TRY(choose("float-dtype", args->float_dtype, floats, 3, &format->floats));
    format->deflate = args->compress ? 6 : 0;
    if (bn_fs_is_dir(args->output))
        return bn_error(BN_USAGE, "-o %s: is a folder, expected a file name", args->output);
    return BN_OK;
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

static bn_status probe(const struct job *job, const bn_model *model, bn_probe *out)
{
    enum { PROBE_TOKENS = 64 };
    const int64_t time = job->sample.time < PROBE_TOKENS ? job->sample.time : PROBE_TOKENS;
    return bn_probe_run(model, job->sample.tokens, time, out);
}

/* Replaces the floats of the source's matrices by what they will read back as. */
static bn_status round_floats(bn_model *model, bn_encoding encoding)
{
    for (int i = 0; i < model->params.count; i++) {
        const bn_tensor *value = &model->params.items[i]->value;
        const int64_t n = bn_tensor_numel(value);
        bool converted = value->ndim == 1;
        for (int k = 0; k < model->n_linears; k++)
            converted |= model->linears[k]->weight == model->params.items[i] &&
                         model->linears[k]->quant.ternary_weights;
        if (converted)
            continue;
        float *values = malloc((size_t)n * sizeof *values);
        if (!values)
            return bn_error_nomem(model->params.items[i]->name, (size_t)n * sizeof *values);
        bn_status status = bn_backend_get_f32(model->backend, value, values, n);
        for (int64_t k = 0; k < n; k++)
            values[k] = bn_export_round(values[k], encoding);
        if (status == BN_OK)
            status = bn_backend_put_f32(model->backend, value, values, n);
        free(values);
        BN_TRY(status);
    }
    return BN_OK;
}

/* What the source computes before it is packed: a checkpoint's graph quantizes
 * the shadow weights itself, as an evaluation during training does. */
static bn_status measure_source(struct job *job)
{
    bn_model *model = job->source.loaded.model;
    bn_export_check *check = &job->report.check;
    bn_score score;
    BN_TRY(bn_sample_open(&job->source.loaded.config, job->args->data, job->source.loaded.tokenizer,
                          &job->sample));
    BN_TRY(bn_sample_score(&job->sample, model, &score));
    check->loss_before = bn_score_loss(&score);
    check->loss_tokens = score.labels;
    check->text = job->sample.source;
    check->random = job->sample.random;
    return probe(job, model, &job->original);
}

static bn_status collect(struct job *job)
{
    bn_loaded *source = &job->source.loaded;
    if (source->is_packed)
        return bn_export_collect_packed(source->path, &job->set);
    BN_TRY(bn_model_pack(source->model));
    return bn_export_collect_model(source->model, &job->set);
}

/* The layer of integer product number `index` of a run. */
static const char *product_name(const bn_model *model, int index)
{
    for (int i = 0; i < model->n_linears; i++) {
        const bn_linear_layer *layer = model->linears[i];
        if (layer->is_bit && layer->quant.ternary_weights && layer->quant.int8_activations &&
            index-- == 0)
            return layer->name;
    }
    return "an unknown one";
}

static bn_status compare_probes(struct job *job, const bn_probe *packed)
{
    bn_export_check *check = &job->report.check;
    const bn_model *model = job->source.loaded.model;
    int first;
    const bn_probe *reference = job->rounded.logits ? &job->rounded : &job->original;
    const int differing = bn_probe_differing_products(reference, packed, &first);
    if (differing < 0)
        return bn_error(BN_MISMATCH, "%s: %d integer products, the model has %d", job->temp,
                        packed->products, reference->products);
    if (differing > 0)
        return bn_error(BN_MISMATCH,
                        "%s: %d of %d integer products differ from the model's, %s first",
                        job->temp, differing, packed->products, product_name(model, first));
    check->products = packed->products;
    check->probe_tokens = packed->count / model->vocab;
    check->logit_difference = bn_probe_logit_difference(&job->original, packed, false);
    check->logit_relative = bn_probe_logit_difference(reference, packed, true);
    if (!(check->logit_relative <= 1e-5))
        return bn_error(BN_MISMATCH, "%s: logits differ by %g relative, allowed is 1e-5", job->temp,
                        check->logit_relative);
    return BN_OK;
}

/* Loads the file as any program would, and lets it compute. */
static bn_status verify_results(struct job *job)
{
    bn_loaded packed;
    bn_probe result = {0};
    bn_score score;
    bn_status status = bn_loaded_open(job->temp, job->source.backend, true, &packed);
    if (status != BN_OK)
        return status == BN_BAD_DATA ? BN_MISMATCH : status;
    BN_TRY_OUT(probe(job, packed.model, &result));
    BN_TRY_OUT(compare_probes(job, &result));
    BN_TRY_OUT(bn_sample_score(&job->sample, packed.model, &score));
    job->report.check.loss_after = bn_score_loss(&score);
    job->report.check.done = true;
out:
    bn_probe_clear(&result);
    bn_loaded_clear(&packed);
    return status;
}

static bn_status verify(struct job *job)
{
    bn_export_check *check = &job->report.check;
    BN_TRY(bn_verify_contents(job->temp, &job->info, &job->set, &job->report.format));
    for (int i = 0; i < job->set.count; i++) {
        const bn_export_item *item = &job->set.items[i];
        check->codes += item->ternary ? bn_export_numel(item) : 0;
        *(item->ternary ? &check->scales : &check->floats) += item->count;
    }
    return verify_results(job);
}

/* From the open source to a verified file under the temporary name, and the
 * report on it. */
static bn_status make(struct job *job)
{
    const bn_export_format *format = &job->report.format;
    bn_model *model = job->source.loaded.model;
    const bool checked = !job->args->no_verify;
    if (checked)
        BN_TRY(measure_source(job));
    BN_TRY(collect(job));
    if (checked && format->floats != BN_ENC_FLOAT32) {
        BN_TRY(round_floats(model, format->floats));
        BN_TRY(probe(job, model, &job->rounded));
    }
    BN_TRY(bn_config_dump(&job->source.loaded.config, &job->config_json));
    job->info = (bn_packed_info){job->config_json, bn_tokenizer_name(job->source.loaded.tokenizer),
                                 bn_tool_producer};
    BN_TRY(bn_export_write(job->temp, &job->info, &job->set, format));
    if (checked)
        BN_TRY(verify(job));
    return bn_export_report_make(job->temp, &job->set, &job->report);
}

static bn_status finish(const struct job *job)
{
    bn_text summary = {0};
    char *text = NULL;
    bn_status status = BN_OK;
    char *path = bn_format("%s.report.json", job->args->output);
    if (!path)
        return BN_FAIL;
    BN_TRY_OUT(bn_fs_commit(job->temp, job->args->output));
    BN_TRY_OUT(bn_fs_write(path, job->report.json, strlen(job->report.json)));
    if (!job->args->quiet) {
        bn_export_report_text(&job->report, &summary);
        bn_text_addf(&summary, "  report: %s\n", path);
        BN_TRY_OUT(bn_text_take(&summary, &text));
        fputs(text, stderr);
    }
    if (job->args->json)
        BN_TRY_OUT(bn_tool_print(job->report.json));
out:
    bn_text_clear(&summary);
    free(text);
    free(path);
    return status;
}

static bn_status run(void *arg)
{
    const struct args *args = arg;
    struct job job = {.args = args};
    bn_status status = BN_OK;
    BN_TRY_OUT(check_args(args, &job.report.format));
    BN_TRY_OUT(bn_tool_open(args->model, &args->where, false, &job.source));
    const bn_loaded *source = &job.source.loaded;
    BN_TRY_OUT(check_same_file(source->path, args->output));
    job.report.source = source->path;
    job.report.path = args->output;
    job.report.step = source->is_packed ? -1 : source->step;
    job.temp = bn_format("%s.unverified", args->output);
    if (!job.temp) {
        status = BN_FAIL;
        goto out;
    }
    status = make(&job);
    if (status == BN_OK)
        status = finish(&job);
    else
        unlink(job.temp);
out:
    job_clear(&job);
    return status;
}

int main(int argc, char **argv)
{
    struct args args = {.format = "hdf5",
                        .encoding = "base3x5",
                        .float_dtype = "float32",
                        .where = BN_TOOL_WHERE_DEFAULT};
    return bn_tool_main(&program, run, &args, argc, argv);
}
