/* Adapters that begin with what quantization took away. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "linalg/linalg.h"
#include "model/adapter.h"
#include "quant/quantize.h"

bn_status bn_model_layer_weight(const bn_model *model, const bn_linear_layer *layer, float *out)
{
    bn_backend *be = model->backend;
    if (!layer->codes.buffer)
        return bn_backend_get_f32(be, &layer->weight->value, out, layer->out * layer->in);
    bn_status status = BN_OK;
    const int64_t scales = bn_tensor_numel(&layer->scale);
    void *codes = malloc(bn_tensor_bytes(&layer->codes));
    float *scale = malloc((size_t)scales * sizeof *scale);
    if (!codes || !scale) {
        status = bn_error_nomem(layer->name, bn_tensor_bytes(&layer->codes));
        goto out;
    }
    BN_TRY_OUT(be->download(be, &layer->codes, codes));
    BN_TRY_OUT(bn_backend_get_f32(be, &layer->scale, scale, scales));
    bn_codes_dequantize_f32(layer->codes.dtype, codes, scale, layer->out, layer->in,
                            layer->quant.weight.params.group_size, out);
out:
    free(codes);
    free(scale);
    return status;
}

/* One layer's factorization on the host, all float32. */
typedef struct residual {
    bn_buffer memory;
    bn_tensor w, q; /* [out,in]: W, later W - Q(W); and Q(W) */
    bn_tensor u, s, vt;
} residual;

static bn_status residual_init(const bn_linear_layer *layer, residual *m)
{
    const int64_t out = layer->out, in = layer->in, k = out < in ? out : in;
    *m = (residual){.w = bn_tensor_2d(BN_F32, out, in),
                    .q = bn_tensor_2d(BN_F32, out, in),
                    .u = bn_tensor_2d(BN_F32, out, k),
                    .s = bn_tensor_1d(BN_F32, k),
                    .vt = bn_tensor_2d(BN_F32, k, in)};
    bn_tensor *all[] = {&m->w, &m->q, &m->u, &m->s, &m->vt};
    for (int i = 0; i < 5; i++)
        m->memory.bytes += bn_tensor_bytes(all[i]);
    m->memory.host = malloc(m->memory.bytes);
    if (!m->memory.host)
        return bn_error_nomem(layer->name, m->memory.bytes);
    size_t at = 0;
    for (int i = 0; i < 5; i++) {
        *all[i] = bn_tensor_at(*all[i], &m->memory, at);
        at += bn_tensor_bytes(all[i]);
    }
    return BN_OK;
}

/* Singular values that are more than rounding; they come in descending order. */
static int64_t rank_of(const residual *m)
{
    const int64_t out = bn_tensor_rows(&m->u), in = bn_tensor_cols(&m->vt);
    const int64_t k = bn_tensor_cols(&m->u);
    const float *s = bn_tensor_data(&m->s);
    const float least = FLT_EPSILON * (float)(out > in ? out : in) * s[0];
    int64_t rank = 0;
    while (rank < k && s[rank] > least)
        rank++;
    return rank;
}

/* W - Q(W) = U diag(s) V^T; B = U sqrt(s / scale), A = sqrt(s / scale) V^T, the
 * first r columns and rows, so that scale * B A is the nearest matrix of rank r.
 * Beyond the rank of W - Q(W) rows of A and columns of B stay as they are: with
 * both at zero neither would ever have a gradient. */
static void split(const residual *m, const bn_lora *lora, float *a, float *b)
{
    const int64_t r = bn_tensor_rows(&lora->a->value), in = bn_tensor_cols(&m->vt);
    const int64_t out = bn_tensor_rows(&m->u), k = bn_tensor_cols(&m->u), rank = rank_of(m);
    const float *u = bn_tensor_data(&m->u), *s = bn_tensor_data(&m->s);
    const float *vt = bn_tensor_data(&m->vt);
    for (int64_t j = 0; j < r && j < rank; j++) {
        const float root = (float)sqrt((double)s[j] / lora->scale);
        for (int64_t i = 0; i < in; i++)
            a[j * in + i] = root * vt[j * in + i];
        for (int64_t o = 0; o < out; o++)
            b[o * r + j] = root * u[o * k + j];
    }
}

static bn_status init_layer(const bn_adapter *adapter, int index, bn_checkpoint *file)
{
    bn_backend *be = adapter->model->backend;
    const bn_linear_layer *layer = adapter->model->linears[index];
    const bn_lora *lora = &adapter->layers[index];
    const int64_t r = bn_tensor_rows(&lora->a->value);
    char name[BN_PARAM_NAME_MAX];
    residual m;
    bn_status status = BN_OK;
    float *factors = NULL;
    BN_TRY_OUT(residual_init(layer, &m));
    float *w = bn_tensor_data(&m.w);
    const float *q = bn_tensor_data(&m.q);
    snprintf(name, sizeof name, "%s.weight", layer->name);
    const bn_checkpoint_param wanted = {
        .name = name, .ndim = 2, .shape = {layer->out, layer->in}, .value = w};
    BN_TRY_OUT(bn_checkpoint_load_one(file, &wanted));
    BN_TRY_OUT(bn_model_layer_weight(adapter->model, layer, bn_tensor_data(&m.q)));
    for (int64_t i = 0; i < layer->out * layer->in; i++)
        w[i] -= q[i];
    BN_TRY_OUT(bn_error_in(bn_linalg_svd(&m.w, &m.u, &m.s, &m.vt, NULL), layer->name));
    factors = malloc((size_t)(r * (layer->in + layer->out)) * sizeof *factors);
    if (!factors) {
        status = bn_error_nomem(layer->name, (size_t)(r * layer->in) * sizeof *factors);
        goto out;
    }
    float *a = factors, *b = factors + r * layer->in;
    BN_TRY_OUT(bn_backend_get_f32(be, &lora->a->value, a, r * layer->in));
    BN_TRY_OUT(bn_backend_get_f32(be, &lora->b->value, b, layer->out * r));
    split(&m, lora, a, b);
    BN_TRY_OUT(bn_backend_put_f32(be, &lora->a->value, a, r * layer->in));
    BN_TRY_OUT(bn_backend_put_f32(be, &lora->b->value, b, layer->out * r));
out:
    free(factors);
    free(m.memory.host);
    return status;
}

bn_status bn_adapter_init_residual(bn_adapter *adapter, const char *path)
{
    bn_model_file kind;
    bn_checkpoint *file;
    BN_TRY(bn_model_file_kind(path, &kind));
    if (kind != BN_MODEL_FILE_CHECKPOINT)
        return bn_error(BN_BAD_CONFIG,
                        "adapter.init_lora_weights: residual needs the float weights of a "
                        "checkpoint, and %s is a packed file",
                        path);
    BN_TRY(bn_checkpoint_open(path, &file));
    bn_status status = BN_OK;
    for (int i = 0; i < adapter->model->n_linears && status == BN_OK; i++)
        if (adapter->layers[i].a)
            status = init_layer(adapter, i, file);
    bn_checkpoint_close(file);
    return status;
}
