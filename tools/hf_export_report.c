#include "tools/hf_export_report.h"

#include <math.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/sha256.h"

typedef struct sizes {
    int layers;
    int64_t weights, ternary_weights;
    uint64_t stored, ternary_stored;
} sizes;

static sizes measure(const bn_hf_folder *folder, const bn_export_set *set)
{
    sizes sum = {0};
    for (int i = 0; i < set->count; i++) {
        const bn_export_item *item = &set->items[i];
        sum.weights += bn_export_numel(item);
        sum.stored += bn_hf_stored_bytes(item, folder);
        if (!item->ternary)
            continue;
        sum.layers++;
        sum.ternary_weights += bn_export_numel(item);
        sum.ternary_stored += bn_hf_stored_bytes(item, folder);
    }
    return sum;
}

static double bits(uint64_t bytes, int64_t weights)
{
    return weights ? 8.0 * (double)bytes / (double)weights : 0;
}

static bn_status file_json(bn_json *json, const char *dir, const char *name)
{
    char sha[BN_SHA256_TEXT];
    uint64_t bytes = 0;
    char *path = bn_path_join(dir, name);
    bn_status status = path ? bn_fs_size(path, &bytes) : BN_FAIL;
    if (status == BN_OK)
        status = bn_sha256_file(path, sha);
    free(path);
    BN_TRY(status);
    bn_json_object(json, NULL);
    bn_json_string(json, "name", name);
    bn_json_int(json, "bytes", (int64_t)bytes);
    bn_json_string(json, "sha256", sha);
    bn_json_object_end(json);
    return BN_OK;
}

static bn_status files_json(bn_json *json, const char *dir)
{
    bn_strings names = {0};
    bn_status status = bn_fs_list(dir, NULL, NULL, &names);
    bn_json_array(json, "files");
    for (size_t i = 0; i < names.count && status == BN_OK; i++)
        status = file_json(json, dir, names.items[i]);
    bn_json_array_end(json);
    bn_strings_clear(&names);
    return status;
}

static void tensors_json(bn_json *json, const bn_hf_folder *folder, const bn_export_set *set)
{
    bn_json_array(json, "tensors");
    for (int i = 0; i < set->count; i++) {
        const bn_export_item *item = &set->items[i];
        bn_json_object(json, NULL);
        bn_json_string(json, "name", item->name);
        bn_json_array_flat(json, "shape");
        for (int d = 0; d < item->ndim; d++)
            bn_json_int(json, NULL, item->shape[d]);
        bn_json_array_end(json);
        bn_json_string(json, "stored_as", bn_hf_stored_as(item, folder));
        if (item->ternary)
            bn_json_int(json, "group_size", item->group_size);
        bn_json_int(json, "bytes", (int64_t)bn_hf_stored_bytes(item, folder));
        bn_json_object_end(json);
    }
    bn_json_array_end(json);
}

static void check_json(bn_json *json, const bn_hf_export_facts *f)
{
    if (!f->verified) {
        bn_json_null(json, "verification");
        return;
    }
    bn_json_object(json, "verification");
    bn_json_int(json, "codes_compared", f->codes);
    bn_json_int(json, "scales_compared", f->scales);
    bn_json_int(json, "floats_compared", f->floats);
    bn_json_int(json, "products_bit_equal", f->products);
    bn_json_int(json, "probe_tokens", f->probe_tokens);
    bn_json_double(json, "largest_logit_difference", f->logit_difference);
    bn_json_double(json, "relative_logit_difference_numbers_as_stored", f->logit_relative);
    bn_json_string(json, "text", f->text);
    bn_json_bool(json, "text_is_random_tokens", f->random);
    bn_json_int(json, "loss_tokens", f->loss_tokens);
    bn_json_double(json, "loss_before", f->loss_before);
    bn_json_double(json, "loss_after", f->loss_after);
    bn_json_double(json, "perplexity_before", exp(f->loss_before));
    bn_json_double(json, "perplexity_after", exp(f->loss_after));
    bn_json_object_end(json);
}

static bn_status make_json(const char *dir, const bn_hf_export_facts *f, const bn_hf_folder *folder,
                           const bn_export_set *set, char **out)
{
    const sizes sum = measure(folder, set);
    bn_json json = {.indent = 2};
    bn_json_object(&json, NULL);
    bn_json_string(&json, "folder", f->output);
    bn_json_string(&json, "source", f->source);
    if (f->step >= 0)
        bn_json_int(&json, "source_step", f->step);
    bn_json_string(&json, "format", "safetensors");
    bn_json_string(&json, "architecture", bn_hf_family_name(BN_HF_BITNET));
    bn_json_string(&json, "weights", bn_hf_form_name(folder->form));
    bn_json_string(&json, "float_dtype", bn_encoding_name(folder->floats));
    bn_json_int(&json, "parameters", sum.weights);
    bn_json_int(&json, "bytes_float32", 4 * sum.weights);
    bn_json_int(&json, "bytes_stored", (int64_t)sum.stored);
    bn_json_object(&json, "ternary");
    bn_json_int(&json, "layers", sum.layers);
    bn_json_int(&json, "weights", sum.ternary_weights);
    bn_json_int(&json, "bytes_stored", (int64_t)sum.ternary_stored);
    bn_json_double(&json, "bits_per_weight", bits(sum.ternary_stored, sum.ternary_weights));
    bn_json_object_end(&json);
    check_json(&json, f);
    bn_status status = files_json(&json, dir);
    if (status != BN_OK) {
        bn_json_clear(&json);
        return status;
    }
    tensors_json(&json, folder, set);
    bn_json_object_end(&json);
    return bn_json_take(&json, out);
}

static bn_status make_text(const bn_hf_export_facts *f, const bn_hf_folder *folder,
                           const bn_export_set *set, char **out)
{
    const sizes sum = measure(folder, set);
    bn_text text = {0};
    char a[BN_SIZE_TEXT], b[BN_SIZE_TEXT];
    bn_text_addf(&text, "%s -> %s\n  %s, weights %s: %s -> %s\n", f->source, f->output,
                 bn_hf_family_name(BN_HF_BITNET), bn_hf_form_name(folder->form),
                 bn_size_text(4 * (uint64_t)sum.weights, a), bn_size_text(sum.stored, b));
    if (sum.layers)
        bn_text_addf(&text, "  %d ternary layers at %.3f bits per weight, each %s\n", sum.layers,
                     bits(sum.ternary_stored, sum.ternary_weights),
                     folder->form == BN_HF_PACKED                            ? "packed"
                     : bn_config_group_size(folder->config) == BN_PER_TENSOR ? "as codes beside a "
                                                                               "scale"
                                                                             : "as code * scale");
    if (f->verified)
        bn_text_addf(&text,
                     "  verified by importing it: %lld codes, %lld scales and %lld floats as "
                     "stored, %d products bit for bit\n  largest logit difference %.3g, loss %.6f "
                     "-> %.6f on %lld tokens of %s\n",
                     (long long)f->codes, (long long)f->scales, (long long)f->floats, f->products,
                     f->logit_difference, f->loss_before, f->loss_after, (long long)f->loss_tokens,
                     f->text);
    else
        bn_text_add(&text, "  not verified\n");
    bn_text_addf(&text, "  report: %s.report.json\n", f->output);
    return bn_text_take(&text, out);
}

bn_status bn_hf_export_report_make(const char *dir, const bn_hf_export_facts *facts,
                                   const bn_hf_folder *folder, const bn_export_set *set,
                                   bn_hf_export_report *report)
{
    BN_TRY(make_json(dir, facts, folder, set, &report->json));
    return make_text(facts, folder, set, &report->text);
}

void bn_hf_export_report_clear(bn_hf_export_report *report)
{
    free(report->json);
    free(report->text);
    *report = (bn_hf_export_report){0};
}
