#include "tools/hf_tensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "interop/hf_pack.h"

typedef struct reading {
    const bn_hf_model *hf;
    const bn_st_reader *file;
    const bn_model *model;
    bool *used; /* of the file's tensors */
    bn_hf_tensors *out;
} reading;

/* What 1bitLLM calls the sub-norms. */
static const char *const other_names[][2] = {
    {"attn_sub_norm", "inner_attn_ln"},
    {"ffn_sub_norm", "ffn_layernorm"},
};

/* The tensor in the file, under this name or the other one; NULL: none. */
static bn_status find(reading *r, const char *name, const bn_st_tensor **out)
{
    *out = bn_st_find(r->file, name);
    for (int i = 0; i < 2 && !*out; i++) {
        const char *ours = other_names[i][0], *at = strstr(name, ours);
        if (!at)
            continue;
        char *other =
            bn_format("%.*s%s%s", (int)(at - name), name, other_names[i][1], at + strlen(ours));
        char *line = other ? bn_format("%s -> %s", other, name) : NULL;
        *out = other ? bn_st_find(r->file, other) : NULL;
        bn_status status = line ? BN_OK : BN_FAIL;
        if (*out && status == BN_OK)
            status = bn_strings_add(&r->out->renamed, line);
        free(other);
        free(line);
        BN_TRY(status);
    }
    if (*out)
        r->used[*out - bn_st_at(r->file, 0)] = true;
    return BN_OK;
}

static bn_status missing(const reading *r, const char *name)
{
    return bn_error(BN_BAD_DATA, "%s: %s: expected a tensor, found none",
                    bn_st_count(r->file) ? bn_st_at(r->file, 0)->path : "an empty file", name);
}

static bn_status check_shape(const bn_st_tensor *t, int ndim, const int64_t *shape)
{
    char wanted[128], found[160] = "[";
    const bn_tensor expected = bn_tensor_of(BN_F32, ndim, shape);
    bool same = t->ndim == ndim;
    for (int d = 0; d < t->ndim; d++) {
        same = same && t->shape[d] == shape[d];
        const size_t used = strlen(found);
        snprintf(found + used, sizeof found - used, "%s%lld", d ? ", " : "",
                 (long long)t->shape[d]);
    }
    if (same)
        return BN_OK;
    return bn_error(BN_BAD_DATA, "%s: %s: expected %s, found %s]", t->path, t->name,
                    bn_tensor_shape_text(&expected, wanted, sizeof wanted), found);
}

/* ---- float tensors ---- */

/* The short type that every float matrix so far came in, else float32. */
static void note_type(reading *r, const bn_st_tensor *t)
{
    const bn_encoding encoding = t->dtype == BN_ST_BF16  ? BN_ENC_BFLOAT16
                                 : t->dtype == BN_ST_F16 ? BN_ENC_FLOAT16
                                                         : BN_ENC_FLOAT32;
    if (r->out->floats == BN_ENC_COUNT)
        r->out->floats = encoding;
    else if (r->out->floats != encoding)
        r->out->floats = BN_ENC_FLOAT32;
}

static bool is_sub_norm(const char *name)
{
    return strstr(name, other_names[0][0]) || strstr(name, other_names[1][0]);
}

/* Whether a tensor goes into a packed file as it is in this one. */
static bool stays(const reading *r, const bn_st_tensor *t)
{
    return r->hf->weights == BN_HF_OFFLINE && t->ndim > 1 &&
           (t->dtype == BN_ST_BF16 || t->dtype == BN_ST_F16);
}

static bn_status read_param(reading *r, const bn_param *param)
{
    const bn_st_tensor *t;
    bn_export_item *item = &r->out->set.items[r->out->set.count++];
    snprintf(item->name, sizeof item->name, "%s", param->name);
    item->ndim = param->value.ndim;
    memcpy(item->shape, param->value.shape, sizeof item->shape);
    BN_TRY(find(r, param->name, &t));
    const bool add = !t && r->hf->family == BN_HF_LLAMA && is_sub_norm(param->name);
    if (!t && !add)
        return missing(r, param->name);
    if (t)
        BN_TRY(check_shape(t, item->ndim, item->shape));
    if (t && item->ndim > 1)
        note_type(r, t);
    if (t && stays(r, t)) {
        item->count = t->count;
        item->stored = t->data;
        return bn_st_check_short(t);
    }
    BN_TRY(bn_export_item_alloc(item));
    if (add) {
        for (int64_t i = 0; i < item->count; i++)
            item->data[i] = 1;
        return bn_strings_add(&r->out->added, item->name);
    }
    return bn_st_read_f32(t, item->data);
}

/* Matrices that were to stay in the file, but not all of them have one type. */
static bn_status take_stored(reading *r)
{
    for (int i = 0; i < r->out->set.count && r->out->floats == BN_ENC_FLOAT32; i++) {
        bn_export_item *item = &r->out->set.items[i];
        if (!item->stored)
            continue;
        item->stored = NULL;
        BN_TRY(bn_export_item_alloc(item));
        BN_TRY(bn_st_read_f32(bn_st_find(r->file, item->name), item->data));
    }
    return BN_OK;
}

/* ---- ternary tensors ---- */

static bn_status not_ternary(const bn_st_tensor *t, const bn_hf_fault *fault)
{
    return bn_error(BN_BAD_DATA,
                    "%s: %s: row %lld, column %lld: expected a ternary value, found %g", t->path,
                    t->name, (long long)fault->row, (long long)fault->column, fault->value);
}

/* The one scale of a layer as the factor of its output. */
static bn_status read_scale(reading *r, const bn_linear_layer *layer, float *scale)
{
    char name[BN_PARAM_NAME_MAX + 16];
    const bn_st_tensor *t;
    snprintf(name, sizeof name, "%s.weight_scale", layer->name);
    BN_TRY(find(r, name, &t));
    if (!t)
        return missing(r, name);
    if (t->count != 1)
        return bn_error(BN_BAD_DATA, "%s: %s: expected one scale, found %lld", t->path, name,
                        (long long)t->count);
    BN_TRY(bn_st_read_f32(t, scale));
    if (r->hf->scale_divides)
        *scale = 1 / *scale;
    if (!(isfinite(*scale) && *scale > 0))
        return bn_error(BN_BAD_DATA, "%s: %s: expected a scale above 0, found %g", t->path, name,
                        (double)*scale);
    return BN_OK;
}

/* Codes as numbers, times scales if there is more than one. */
static bn_status read_unpacked(const bn_st_tensor *t, bn_export_item *item)
{
    bn_hf_fault fault;
    bn_status status = BN_OK;
    BN_TRY(check_shape(t, 2, item->shape));
    float *values = malloc((size_t)t->count * sizeof *values);
    if (!values)
        return bn_error_nomem(t->name, (size_t)t->count * sizeof *values);
    if (t->dtype == BN_ST_I8)
        for (int64_t i = 0; i < t->count; i++)
            values[i] = (float)(int8_t)t->data[i];
    else
        BN_TRY_OUT(bn_st_read_f32(t, values));
    if (!bn_hf_recover(values, item->shape[0], item->shape[1], item->group_size, item->codes,
                       item->data, &fault))
        status = not_ternary(t, &fault);
out:
    free(values);
    return status;
}

static bn_status read_codes(reading *r, const bn_st_tensor *t, bn_export_item *item)
{
    bn_hf_fault fault;
    const int64_t out = item->shape[0], in = item->shape[1];
    if (t->dtype != BN_ST_U8) {
        r->out->unpacked++;
        return read_unpacked(t, item);
    }
    r->out->packed++;
    if (out % 4 != 0)
        return bn_error(BN_BAD_DATA, "%s: %s: %lld rows cannot be packed, expected a multiple of 4",
                        t->path, t->name, (long long)out);
    BN_TRY(check_shape(t, 2, (const int64_t[]){out / 4, in}));
    for (int64_t i = 0; i < item->count; i++)
        item->data[i] = 1;
    return bn_hf_unpack(t->data, out, in, item->codes, &fault) ? BN_OK : not_ternary(t, &fault);
}

static bn_status read_ternary(reading *r, const bn_linear_layer *layer)
{
    const bn_st_tensor *t;
    float scale = 0;
    bn_export_item *item = &r->out->set.items[r->out->set.count++];
    snprintf(item->name, sizeof item->name, "%s.weight", layer->name);
    item->coded = true;
    item->ndim = 2;
    item->shape[0] = layer->out;
    item->shape[1] = layer->in;
    item->group_size = layer->quant.weight.params.group_size;
    BN_TRY(find(r, item->name, &t));
    if (!t)
        return missing(r, item->name);
    BN_TRY(bn_export_item_alloc(item));
    BN_TRY(read_codes(r, t, item));
    BN_TRY(read_scale(r, layer, &scale));
    for (int64_t i = 0; i < item->count; i++)
        item->data[i] *= scale;
    return BN_OK;
}

/* ---- the rest ---- */

static bool ends_with(const char *text, const char *end)
{
    const size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

/* Tensors that nothing asked for. */
static bn_status check_rest(reading *r)
{
    for (int i = 0; i < bn_st_count(r->file); i++) {
        const bn_st_tensor *t = bn_st_at(r->file, i);
        const char *reason = NULL;
        if (r->used[i])
            continue;
        if (ends_with(t->name, "rotary_emb.inv_freq"))
            reason = "computed from rope_theta";
        else if (r->model->tied && strcmp(t->name, "lm_head.weight") == 0)
            reason = "the head is the embedding";
        if (!reason)
            return bn_error(BN_BAD_DATA,
                            "%s: tensor '%.200s' does not belong to the model of its "
                            "config",
                            t->path, t->name);
        char *line = bn_format("%s: %s", t->name, reason);
        bn_status status = line ? bn_strings_add(&r->out->ignored, line) : BN_FAIL;
        free(line);
        BN_TRY(status);
    }
    return BN_OK;
}

bn_status bn_hf_tensors_read(const bn_hf_model *hf, const bn_st_reader *file, const bn_model *model,
                             bn_hf_tensors *out)
{
    reading r = {.hf = hf, .file = file, .model = model, .out = out};
    bn_status status = BN_OK;
    *out = (bn_hf_tensors){.floats = BN_ENC_COUNT};
    if (!(r.used = calloc((size_t)bn_st_count(file) + 1, sizeof *r.used)))
        return bn_error_nomem("the list of tensors", (size_t)bn_st_count(file));
    BN_TRY_OUT(bn_export_set_init(&out->set, model->n_linears + model->params.count));
    for (int i = 0; i < model->n_linears && hf->weights == BN_HF_OFFLINE; i++)
        if (model->linears[i]->quant.weight.quantized)
            BN_TRY_OUT(read_ternary(&r, model->linears[i]));
    for (int i = 0; i < model->params.count; i++)
        BN_TRY_OUT(read_param(&r, model->params.items[i]));
    BN_TRY_OUT(check_rest(&r));
    if (out->floats == BN_ENC_COUNT)
        out->floats = BN_ENC_FLOAT32;
    BN_TRY_OUT(take_stored(&r));
out:
    free(r.used);
    if (status != BN_OK)
        bn_hf_tensors_clear(out);
    return status;
}

void bn_hf_tensors_clear(bn_hf_tensors *tensors)
{
    bn_export_set_clear(&tensors->set);
    bn_strings_clear(&tensors->added);
    bn_strings_clear(&tensors->renamed);
    bn_strings_clear(&tensors->ignored);
    *tensors = (bn_hf_tensors){0};
}
