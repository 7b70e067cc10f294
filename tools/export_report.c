#include "tools/export_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/signals.h"
#include "base/json.h"

/* Everything that is reported. */
typedef struct input {
    const bn_export_job_facts *facts;
    const bn_export_set *set;
    const bn_export_stored *stored;
    const char *written;
    bool is_folder;
    uint64_t bytes; /* of all files */
} input;

static double ratio_of(const bn_export_size *size)
{
    return size->bytes_stored ? (double)size->bytes_float / (double)size->bytes_stored : 0;
}

static double bits_per_weight(const bn_export_size *size)
{
    return size->weights ? 8.0 * (double)size->bytes_stored / (double)size->weights : 0;
}

static bn_export_size size_of(const input *in, int i)
{
    const int64_t n = bn_export_numel(&in->set->items[i]);
    return (bn_export_size){n, 4 * (uint64_t)n, in->stored[i].bytes};
}

static void add_size(bn_export_size *sum, const bn_export_size *part)
{
    sum->weights += part->weights;
    sum->bytes_float += part->bytes_float;
    sum->bytes_stored += part->bytes_stored;
}

static void measure(const input *in, bn_export_report *report)
{
    for (int i = 0; i < in->set->count; i++) {
        const bn_export_size size = size_of(in, i);
        add_size(&report->all, &size);
        if (!in->set->items[i].coded)
            continue;
        const double ratio = ratio_of(&size);
        add_size(&report->quantized, &size);
        report->smallest_ratio = report->layers ? fmin(report->smallest_ratio, ratio) : ratio;
        report->layers++;
    }
}

/* ---- JSON ---- */

static bn_status file_json(bn_json *json, const char *path, uint64_t *sum)
{
    char sha[BN_SHA256_TEXT];
    uint64_t bytes = 0;
    BN_TRY(bn_fs_size(path, &bytes));
    BN_TRY(bn_sha256_file(path, sha));
    bn_json_string(json, "sha256", sha);
    bn_json_int(json, "file_bytes", (int64_t)bytes);
    *sum += bytes;
    return BN_OK;
}

static bn_status folder_json(bn_json *json, input *in)
{
    bn_strings names = {0};
    bn_status status = bn_fs_list(in->written, NULL, NULL, &names);
    bn_json_array(json, "files");
    for (size_t i = 0; i < names.count && status == BN_OK; i++) {
        char *path = bn_path_join(in->written, names.items[i]);
        bn_json_object(json, NULL);
        bn_json_string(json, "name", names.items[i]);
        status = path ? file_json(json, path, &in->bytes) : BN_FAIL;
        bn_json_object_end(json);
        free(path);
    }
    bn_json_array_end(json);
    bn_strings_clear(&names);
    return status;
}

static bn_status head_json(bn_json *json, input *in)
{
    const bn_export_job_facts *facts = in->facts;
    bn_json_string(json, in->is_folder ? "folder" : "file", facts->output);
    bn_json_string(json, "source", facts->source);
    if (facts->step >= 0)
        bn_json_int(json, "source_step", facts->step);
    bn_json_string(json, "format", facts->format);
    for (const bn_export_fact *fact = facts->more; fact && fact->key; fact++)
        bn_json_string(json, fact->key, fact->value);
    return in->is_folder ? folder_json(json, in) : file_json(json, in->written, &in->bytes);
}

static void sizes_json(bn_json *json, const bn_export_report *report)
{
    const bn_export_size *quantized = &report->quantized;
    bn_json_int(json, "parameters", report->all.weights);
    bn_json_int(json, "bytes_float32", (int64_t)report->all.bytes_float);
    bn_json_int(json, "bytes_stored", (int64_t)report->all.bytes_stored);
    bn_json_object(json, "quantized");
    bn_json_int(json, "layers", report->layers);
    bn_json_int(json, "weights", quantized->weights);
    bn_json_int(json, "bytes_float32", (int64_t)quantized->bytes_float);
    bn_json_int(json, "bytes_stored", (int64_t)quantized->bytes_stored);
    bn_json_double(json, "ratio", ratio_of(quantized));
    bn_json_double(json, "smallest_layer_ratio", report->smallest_ratio);
    bn_json_double(json, "bits_per_weight", bits_per_weight(quantized));
    bn_json_object_end(json);
}

static void check_json(bn_json *json, const bn_export_check *check)
{
    if (!check->done) {
        bn_json_null(json, "verification");
        return;
    }
    bn_json_object(json, "verification");
    bn_json_int(json, "codes_compared", check->codes);
    bn_json_int(json, "scales_compared", check->scales);
    bn_json_int(json, "floats_compared", check->floats);
    bn_json_int(json, "products_bit_equal", check->products);
    bn_json_int(json, "probe_tokens", check->probe_tokens);
    bn_json_double(json, "largest_logit_difference", check->logit_difference);
    bn_json_double(json, "relative_logit_difference_numbers_as_stored", check->logit_relative);
    bn_json_string(json, "text", check->text);
    bn_json_bool(json, "text_is_random_tokens", check->random);
    bn_json_int(json, "loss_tokens", check->loss_tokens);
    bn_json_double(json, "loss_before", check->loss_before);
    bn_json_double(json, "loss_after", check->loss_after);
    bn_json_double(json, "perplexity_before", exp(check->loss_before));
    bn_json_double(json, "perplexity_after", exp(check->loss_after));
    bn_json_object_end(json);
}

static void tensor_json(bn_json *json, const input *in, int i)
{
    const bn_export_item *item = &in->set->items[i];
    const bn_export_size size = size_of(in, i);
    bn_json_object(json, NULL);
    bn_json_string(json, "name", item->name);
    bn_json_array_flat(json, "shape");
    for (int d = 0; d < item->ndim; d++)
        bn_json_int(json, NULL, item->shape[d]);
    bn_json_array_end(json);
    bn_json_bool(json, "ternary", item->coded && item->grid == BN_GRID_TERNARY);
    bn_json_bool(json, "quantized", item->coded);
    bn_json_string(json, "stored_as", in->stored[i].as);
    if (item->coded)
        bn_json_int(json, "group_size", item->group_size);
    bn_json_int(json, "bytes_float32", (int64_t)size.bytes_float);
    bn_json_int(json, "bytes_stored", (int64_t)size.bytes_stored);
    bn_json_double(json, "ratio", ratio_of(&size));
    bn_json_object_end(json);
}

static bn_status make_json(input *in, bn_export_report *report)
{
    bn_json json = {.indent = 2};
    bn_json_object(&json, NULL);
    bn_status status = head_json(&json, in);
    if (status != BN_OK) {
        bn_json_clear(&json);
        return status;
    }
    sizes_json(&json, report);
    check_json(&json, &in->facts->check);
    bn_json_array(&json, "tensors");
    for (int i = 0; i < in->set->count; i++)
        tensor_json(&json, in, i);
    bn_json_array_end(&json);
    bn_json_object_end(&json);
    return bn_json_take(&json, &report->json);
}

/* ---- for people ---- */

static void check_text(const bn_export_check *check, bn_text *text)
{
    bn_text_addf(text,
                 "  verified: %lld codes, %lld scales and %lld floats as stored; %d products bit "
                 "for bit; largest logit difference %.3g\n",
                 (long long)check->codes, (long long)check->scales, (long long)check->floats,
                 check->products, check->logit_difference);
    bn_text_addf(text, "  loss %.6f -> %.6f, perplexity %.4f -> %.4f on %lld tokens of %s\n",
                 check->loss_before, check->loss_after, exp(check->loss_before),
                 exp(check->loss_after), (long long)check->loss_tokens, check->text);
}

/* What the layers with codes are, if they are alike. */
static const char *grid_name(const bn_export_set *set)
{
    const char *name = NULL;
    for (int i = 0; i < set->count; i++) {
        const char *of_item = bn_grid_table[set->items[i].grid].name;
        if (set->items[i].coded && name && name != of_item)
            return "quantized";
        name = set->items[i].coded ? of_item : name;
    }
    return name;
}

static bn_status make_text(const input *in, bn_export_report *report)
{
    const bn_export_job_facts *facts = in->facts;
    bn_text text = {0};
    char a[BN_SIZE_TEXT], b[BN_SIZE_TEXT];
    bn_text_addf(&text, "%s -> %s\n", facts->source, facts->output);
    if (facts->note)
        bn_text_addf(&text, "  %s\n", facts->note);
    if (report->layers)
        bn_text_addf(&text,
                     "  %d %s layers: %s -> %s, %.2f times smaller (worst layer %.2f), "
                     "%.3f bits per weight with scales\n",
                     report->layers, grid_name(in->set),
                     bn_size_text(report->quantized.bytes_float, a),
                     bn_size_text(report->quantized.bytes_stored, b), ratio_of(&report->quantized),
                     report->smallest_ratio, bits_per_weight(&report->quantized));
    else
        bn_text_add(&text, "  no quantized layers\n");
    bn_text_addf(&text, "  whole %s: %s -> %s, %.2f times smaller\n",
                 in->is_folder ? "folder" : "file", bn_size_text(report->all.bytes_float, a),
                 bn_size_text(in->bytes, b), (double)report->all.bytes_float / (double)in->bytes);
    if (facts->check.done)
        check_text(&facts->check, &text);
    else
        bn_text_add(&text, "  not verified\n");
    bn_text_addf(&text, "  report: %s.report.json\n", facts->output);
    return bn_text_take(&text, &report->text);
}

bn_status bn_export_report_make(const bn_export_job_facts *facts, const char *written,
                                const bn_export_set *set, const bn_export_stored *stored,
                                bn_export_report *report)
{
    input in = {facts, set, stored, written, .is_folder = bn_fs_is_dir(written)};
    *report = (bn_export_report){.check = facts->check};
    report->check.text = NULL;
    measure(&in, report);
    bn_status status = make_json(&in, report);
    if (status == BN_OK)
        status = make_text(&in, report);
    if (status != BN_OK)
        bn_export_report_clear(report);
    return status;
}

bn_status bn_export_report_save(const bn_export_report *report, const char *output)
{
    char *path = bn_format("%s.report.json", output);
    bn_status status = path ? bn_fs_write(path, report->json, strlen(report->json)) : BN_FAIL;
    free(path);
    return status;
}

bn_status bn_export_settle(bn_status made, const char *temp, const char *output,
                           bn_export_report *report)
{
    bn_status status = made == BN_OK ? bn_signals_poll() : made;
    if (status != BN_OK)
        unlink(temp); /* not bn_fs_remove(): the message stays */
    else
        status = bn_fs_commit(temp, output);
    if (status == BN_OK)
        status = bn_export_report_save(report, output);
    if (status != BN_OK)
        bn_export_report_clear(report);
    return status;
}

void bn_export_report_clear(bn_export_report *report)
{
    free(report->json);
    free(report->text);
    *report = (bn_export_report){0};
}
