#include "tools/hf_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "interop/hf_pack.h"
#include "interop/safetensors.h"
#include "quant/pack.h"
#include "quant/quantize.h"
#include "tools/hf_tokenizer.h"

const char *bn_hf_form_name(bn_hf_form form)
{
    static const char *const names[BN_HF_FORMS] = {
        [BN_HF_PACKED] = "packed",
        [BN_HF_BF16] = "bf16",
        [BN_HF_FLOAT32] = "float32",
        [BN_HF_SHADOW] = "shadow",
    };
    return names[form];
}

static bn_st_dtype dtype_of(const bn_export_item *item, const bn_hf_folder *folder)
{
    if (item->coded)
        return folder->form == BN_HF_PACKED ? BN_ST_U8
               : folder->form == BN_HF_BF16 ? BN_ST_BF16
                                            : BN_ST_F32;
    if (item->ndim == 1 || folder->floats == BN_ENC_FLOAT32)
        return BN_ST_F32;
    return folder->floats == BN_ENC_FLOAT16 ? BN_ST_F16 : BN_ST_BF16;
}

uint64_t bn_hf_stored_bytes(const bn_export_item *item, const bn_hf_folder *folder)
{
    const uint64_t n = (uint64_t)bn_export_numel(item);
    const bn_st_dtype dtype = dtype_of(item, folder);
    if (dtype == BN_ST_U8)
        return n / 4 + sizeof(float);
    return n * (uint64_t)bn_st_dtype_size(dtype) + (item->coded ? sizeof(float) : 0);
}

const char *bn_hf_stored_as(const bn_export_item *item, const bn_hf_folder *folder)
{
    const bool several = item->group_size != BN_PER_TENSOR;
    switch (dtype_of(item, folder)) {
    case BN_ST_U8:
        return "codes, four in a byte";
    case BN_ST_BF16:
        return !item->coded ? "bfloat16" : several ? "code * scale, bfloat16" : "codes, bfloat16";
    case BN_ST_F16:
        return "float16";
    default:
        return !item->coded ? "float32" : several ? "code * scale, float32" : "codes, float32";
    }
}

/* ---- model.safetensors ---- */

static bn_st_spec spec_of(const bn_export_item *item, const bn_hf_folder *folder)
{
    bn_st_spec spec = {.name = item->name, .dtype = dtype_of(item, folder), .ndim = item->ndim};
    memcpy(spec.shape, item->shape, sizeof item->shape);
    if (spec.dtype == BN_ST_U8)
        spec.shape[0] /= 4;
    return spec;
}

/* Numbers before bytes, so that all of them are aligned: pass 0 and pass 1. */
static bool in_pass(const bn_export_item *item, const bn_hf_folder *folder, int pass)
{
    return (dtype_of(item, folder) == BN_ST_F32 ? 0 : 1) == pass;
}

/* The header: *names holds the names of the scales. */
static bn_status list_specs(const bn_hf_folder *folder, const bn_export_set *set, bn_st_spec *specs,
                            bn_strings *names, int *count)
{
    *count = 0;
    for (int i = 0; i < set->count; i++) {
        char name[sizeof set->items[i].name + 8];
        if (!set->items[i].coded)
            continue;
        snprintf(name, sizeof name, "%s_scale", set->items[i].name);
        BN_TRY(bn_strings_add(names, name));
        specs[(*count)++] = (bn_st_spec){
            .name = names->items[names->count - 1], .dtype = BN_ST_F32, .ndim = 1, .shape = {1}};
    }
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < set->count; i++)
            if (in_pass(&set->items[i], folder, pass))
                specs[(*count)++] = spec_of(&set->items[i], folder);
    return BN_OK;
}

static bn_status put_packed(bn_st_writer *w, const bn_export_item *item)
{
    const size_t bytes = (size_t)bn_export_numel(item) / 4;
    uint8_t *packed = malloc(bytes);
    if (!packed)
        return bn_error_nomem(item->name, bytes);
    bn_hf_pack(item->codes, item->shape[0], item->shape[1], packed);
    bn_status status = bn_st_write(w, packed, bytes);
    free(packed);
    return status;
}

/* Codes as numbers, times their scales where there are several. */
static bn_status put_unpacked(bn_st_writer *w, const bn_export_item *item, bn_st_dtype dtype)
{
    const float one = 1;
    const int64_t n = bn_export_numel(item);
    float *values = malloc((size_t)n * sizeof *values);
    if (!values)
        return bn_error_nomem(item->name, (size_t)n * sizeof *values);
    bn_weight_dequantize_rows_f32(item->codes,
                                  item->group_size == BN_PER_TENSOR ? &one : item->data, 0,
                                  item->shape[0], item->shape[1], item->group_size, values);
    bn_status status = bn_st_write_f32(w, dtype, values, n);
    free(values);
    return status;
}

static bn_status put_item(bn_st_writer *w, const bn_export_item *item, const bn_hf_folder *folder)
{
    const bn_st_dtype dtype = dtype_of(item, folder);
    if (!item->coded)
        return bn_st_write_f32(w, dtype, item->data, item->count);
    return dtype == BN_ST_U8 ? put_packed(w, item) : put_unpacked(w, item, dtype);
}

static bn_status put_data(bn_st_writer *w, const bn_hf_folder *folder, const bn_export_set *set)
{
    const float one = 1;
    for (int i = 0; i < set->count; i++) {
        const bn_export_item *item = &set->items[i];
        const float *scale = item->group_size == BN_PER_TENSOR ? item->data : &one;
        if (item->coded)
            BN_TRY(bn_st_write(w, scale, sizeof *scale));
    }
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < set->count; i++)
            if (in_pass(&set->items[i], folder, pass))
                BN_TRY(put_item(w, &set->items[i], folder));
    return BN_OK;
}

static bn_status write_tensors(const char *path, const bn_hf_folder *folder,
                               const bn_export_set *set)
{
    bn_strings names = {0};
    bn_st_writer *w = NULL;
    bn_status status;
    int count;
    bn_st_spec *specs = calloc(2 * (size_t)set->count + 1, sizeof *specs);
    if (!specs)
        return bn_error_nomem("the header", (size_t)set->count * sizeof *specs);
    BN_TRY_OUT(list_specs(folder, set, specs, &names, &count));
    BN_TRY_OUT(bn_st_create(path, specs, count, "pt", &w));
    status = put_data(w, folder, set);
    if (status == BN_OK)
        status = bn_st_commit(w);
    else
        bn_st_abort(w);
out:
    free(specs);
    bn_strings_clear(&names);
    return status;
}

/* ---- the other files ---- */

static bn_status write_text(const char *dir, const char *name, const char *text)
{
    char *path = bn_path_join(dir, name);
    bn_status status = path ? bn_fs_write(path, text, strlen(text)) : BN_FAIL;
    free(path);
    return status;
}

static bn_status write_config(const char *dir, const bn_hf_folder *folder)
{
    const bn_hf_layout layout = {
        .weights = folder->weights,
        .dtype = folder->form == BN_HF_BF16 ? "bfloat16" : "float32",
        .float_modules = folder->float_modules,
    };
    char *json = NULL;
    BN_TRY(bn_hf_config_write(folder->config, folder->vocab, &layout, &json));
    bn_status status = write_text(dir, "config.json", json);
    free(json);
    return status;
}

/* Greedy, without an end token: the tokenizers here have none. */
static bn_status write_generation(const char *dir)
{
    bn_json json = {.indent = 2};
    char *text = NULL;
    bn_json_object(&json, NULL);
    bn_json_bool(&json, "do_sample", false);
    bn_json_bool(&json, "use_cache", true);
    bn_json_object_end(&json);
    BN_TRY(bn_json_take(&json, &text));
    bn_status status = write_text(dir, "generation_config.json", text);
    free(text);
    return status;
}

static bn_status write_tokenizer(const char *dir, const bn_hf_folder *folder)
{
    bn_json json = {.indent = 2};
    char *bytes = NULL, *config = NULL;
    bn_status status = BN_OK;
    const bool is_json = folder->tokenizer[0] == '{';
    bn_json_object(&json, NULL);
    bn_json_string(&json, "tokenizer_class", "PreTrainedTokenizerFast");
    bn_json_bool(&json, "clean_up_tokenization_spaces", false);
    bn_json_int(&json, "model_max_length", folder->config->model.max_position_embeddings);
    bn_json_object_end(&json);
    BN_TRY_OUT(bn_json_take(&json, &config));
    if (!is_json)
        BN_TRY_OUT(bn_hf_byte_tokenizer(&bytes));
    BN_TRY_OUT(write_text(dir, "tokenizer.json", is_json ? folder->tokenizer : bytes));
    BN_TRY_OUT(write_text(dir, "tokenizer_config.json", config));
out:
    free(bytes);
    free(config);
    return status;
}

bn_status bn_hf_folder_write(const char *dir, const bn_hf_folder *folder, const bn_export_set *set)
{
    char *path = bn_path_join(dir, "model.safetensors");
    bn_status status = path ? write_tensors(path, folder, set) : BN_FAIL;
    free(path);
    BN_TRY(status);
    BN_TRY(write_config(dir, folder));
    BN_TRY(write_generation(dir));
    return write_tokenizer(dir, folder);
}
