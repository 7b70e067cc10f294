#include "tools/export_report.h"

#include <math.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/json.h"

static double ratio_of(const bn_export_size *size)
{
    return size->bytes_stored ? (double)size->bytes_float / (double)size->bytes_stored : 0;
}

static double bits_per_weight(const bn_export_size *size)
{
    return size->weights ? 8.0 * (double)size->bytes_stored / (double)size->weights : 0;
}

static void add_size(bn_export_size *sum, const bn_export_size *part)
{
    sum->weights += part->weights;
    sum->bytes_float += part->bytes_float;
    sum->bytes_stored += part->bytes_stored;
}

/* The size of every tensor of the set into sizes[], and the report's sums. */
static bn_status measure(const char *written, const bn_export_set *set, bn_export_size *sizes,
                         bn_export_report *report)
{
    bn_packed *file;
    bn_status status = BN_OK;
    BN_TRY(bn_packed_open(written, &file));
    for (int i = 0; i < set->count; i++) {
        const bn_export_item *item = &set->items[i];
        const int64_t n = bn_export_numel(item);
        const bn_packed_entry *entry;
        BN_TRY_OUT(bn_packed_expect(file, item->name, item->ndim, item->shape, &entry));
        sizes[i] = (bn_export_size){n, 4 * (uint64_t)n, entry->stored_bytes};
        add_size(&report->all, &sizes[i]);
        if (item->ternary) {
            const double ratio = ratio_of(&sizes[i]);
            add_size(&report->ternary, &sizes[i]);
            report->smallest_ratio = report->layers ? fmin(report->smallest_ratio, ratio) : ratio;
            report->layers++;
        }
    }
out:
    bn_packed_close(file);
    return status;
}

static void tensor_json(bn_json *json, const bn_export_item *item, bn_encoding encoding,
                        const bn_export_size *size)
{
    bn_json_object(json, NULL);
    bn_json_string(json, "name", item->name);
    bn_json_array_flat(json, "shape");
    for (int d = 0; d < item->ndim; d++)
        bn_json_int(json, NULL, item->shape[d]);
    bn_json_array_end(json);
    bn_json_string(json, "encoding", bn_encoding_name(encoding));
    if (item->ternary)
        bn_json_int(json, "group_size", item->group_size);
    bn_json_int(json, "bytes_float32", (int64_t)size->bytes_float);
    bn_json_int(json, "bytes_packed", (int64_t)size->bytes_stored);
    bn_json_double(json, "ratio", ratio_of(size));
    bn_json_object_end(json);
}

static void tensors_json(bn_json *json, const bn_export_set *set, const bn_export_size *sizes,
                         bool ternary, const bn_export_format *format)
{
    bn_json_array(json, ternary ? "ternary_tensors" : "other_tensors");
    for (int i = 0; i < set->count; i++)
        if (set->items[i].ternary == ternary)
            tensor_json(json, &set->items[i], bn_export_encoding(&set->items[i], format),
                        &sizes[i]);
    bn_json_array_end(json);
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
    bn_json_double(json, "relative_logit_difference_floats_as_stored", check->logit_relative);
    bn_json_string(json, "text", check->text);
    bn_json_bool(json, "text_is_random_tokens", check->random);
    bn_json_int(json, "loss_tokens", check->loss_tokens);
    bn_json_double(json, "loss_before", check->loss_before);
    bn_json_double(json, "loss_after", check->loss_after);
    bn_json_double(json, "perplexity_before", exp(check->loss_before));
    bn_json_double(json, "perplexity_after", exp(check->loss_after));
    bn_json_object_end(json);
}

static void summary_json(bn_json *json, const bn_export_report *report)
{
    const bn_export_size *ternary = &report->ternary;
    bn_json_string(json, "file", report->path);
    bn_json_string(json, "source", report->source);
    if (report->step >= 0)
        bn_json_int(json, "source_step", report->step);
    bn_json_string(json, "format", "hdf5");
    bn_json_string(json, "encoding", bn_encoding_name(report->format.ternary));
    bn_json_string(json, "float_dtype", bn_encoding_name(report->format.floats));
    bn_json_bool(json, "compressed", report->format.deflate > 0);
    bn_json_string(json, "sha256", report->sha256);
    bn_json_int(json, "file_bytes", (int64_t)report->file_bytes);
    bn_json_int(json, "parameters", report->all.weights);
    bn_json_int(json, "bytes_float32", (int64_t)report->all.bytes_float);
    bn_json_double(json, "file_ratio",
                   (double)report->all.bytes_float / (double)report->file_bytes);
    bn_json_object(json, "ternary");
    bn_json_int(json, "layers", report->layers);
    bn_json_int(json, "weights", ternary->weights);
    bn_json_int(json, "bytes_float32", (int64_t)ternary->bytes_float);
    bn_json_int(json, "bytes_packed", (int64_t)ternary->bytes_stored);
    bn_json_double(json, "ratio", ratio_of(ternary));
    bn_json_double(json, "smallest_layer_ratio", report->smallest_ratio);
    bn_json_double(json, "bits_per_weight", bits_per_weight(ternary));
    bn_json_object_end(json);
    check_json(json, &report->check);
}

bn_status bn_export_report_make(const char *written, const bn_export_set *set,
                                bn_export_report *report)
{
    bn_json json = {.indent = 2};
    bn_status status = BN_OK;
    bn_export_size *sizes = calloc((size_t)set->count + 1, sizeof *sizes);
    if (!sizes)
        return bn_error_nomem("the report", (size_t)set->count * sizeof *sizes);
    BN_TRY_OUT(bn_sha256_file(written, report->sha256));
    BN_TRY_OUT(bn_fs_size(written, &report->file_bytes));
    BN_TRY_OUT(measure(written, set, sizes, report));
    bn_json_object(&json, NULL);
    summary_json(&json, report);
    tensors_json(&json, set, sizes, true, &report->format);
    tensors_json(&json, set, sizes, false, &report->format);
    bn_json_object_end(&json);
    BN_TRY_OUT(bn_json_take(&json, &report->json));
out:
    free(sizes);
    bn_json_clear(&json);
    return status;
}

void bn_export_report_clear(bn_export_report *report)
{
    free(report->json);
    free(report->check.text);
    *report = (bn_export_report){0};
}

static void check_text(const bn_export_check *check, bn_text *text)
{
    bn_text_addf(text,
                 "  verified: %lld codes, %lld scales and %lld floats as in the source; %d "
                 "products bit for bit; largest logit difference %.3g\n",
                 (long long)check->codes, (long long)check->scales, (long long)check->floats,
                 check->products, check->logit_difference);
    bn_text_addf(text, "  loss %.6f -> %.6f, perplexity %.4f -> %.4f on %lld tokens of %s\n",
                 check->loss_before, check->loss_after, exp(check->loss_before),
                 exp(check->loss_after), (long long)check->loss_tokens, check->text);
}

void bn_export_report_text(const bn_export_report *report, bn_text *text)
{
    const bn_export_check *check = &report->check;
    char a[BN_SIZE_TEXT], b[BN_SIZE_TEXT];
    bn_text_addf(text, "%s -> %s\n", report->source, report->path);
    if (report->layers)
        bn_text_addf(text,
                     "  %d ternary layers: %s -> %s, %.2f times smaller (worst layer %.2f), "
                     "%.3f bits per weight with scales\n",
                     report->layers, bn_size_text(report->ternary.bytes_float, a),
                     bn_size_text(report->ternary.bytes_stored, b), ratio_of(&report->ternary),
                     report->smallest_ratio, bits_per_weight(&report->ternary));
    else
        bn_text_add(text, "  no ternary layers: the model was trained without quantization\n");
    bn_text_addf(text, "  whole file: %s -> %s, %.2f times smaller\n",
                 bn_size_text(report->all.bytes_float, a), bn_size_text(report->file_bytes, b),
                 (double)report->all.bytes_float / (double)report->file_bytes);
    if (check->done)
        check_text(check, text);
    else
        bn_text_add(text, "  not verified\n");
    bn_text_addf(text, "  report: %s.report.json\n", report->path);
}
