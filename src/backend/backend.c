#include "backend/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bn_backend_free(bn_backend *backend)
{
    if (backend && backend->free)
        backend->free(backend);
}

/* `weights`: mask of dtypes that are read besides BN_T2. */
static bn_status check_weight(const bn_backend *backend, const bn_op_call *call, unsigned weights)
{
    if (call->op != BN_OP_BITLINEAR || (weights | 1u << BN_T2) & 1u << call->in[2].dtype)
        return BN_OK;
    return bn_error(BN_FAIL, "backend %s: bitlinear cannot read a weight that is %s", backend->name,
                    bn_dtype_name(call->in[2].dtype));
}

static bn_status check_backward(const bn_backend *backend, const bn_op_call *call)
{
    static const char *const names[] = {"float32", "bf16", "int16"};
    if (call->op != BN_OP_BITLINEAR || backend->backwards >> call->params->weight.backward & 1u)
        return BN_OK;
    return bn_error(BN_FAIL, "backend %s: bitlinear has no %s backward", backend->name,
                    names[call->params->weight.backward]);
}

bn_status bn_backend_forward(bn_backend *backend, const bn_op_call *call)
{
    bn_kernel kernel = backend->rows[call->op].forward;
    if (!kernel)
        return bn_error(BN_FAIL, "backend %s has no forward kernel for %s", backend->name,
                        bn_op_table[call->op].name);
    BN_TRY(check_weight(backend, call, backend->weights));
    return kernel(backend, call);
}

bn_status bn_backend_backward(bn_backend *backend, const bn_op_call *call)
{
    bn_kernel kernel = backend->rows[call->op].backward;
    if (!kernel)
        return bn_error(BN_FAIL, "backend %s has no backward kernel for %s", backend->name,
                        bn_op_table[call->op].name);
    BN_TRY(check_weight(backend, call, backend->weights & 1u << BN_I8));
    BN_TRY(check_backward(backend, call));
    return kernel(backend, call);
}

bn_status bn_backend_forward_alone(bn_backend *backend, const bn_op_call *call)
{
    bn_scratch_rule rule = backend->rows[call->op].forward_scratch;
    bn_buffer memory = {0};
    bn_op_call with_scratch = *call;
    const size_t bytes = rule ? rule(backend, call) : 0;
    if (bytes) {
        BN_TRY(backend->alloc(backend, bytes, &memory));
        with_scratch.scratch = bn_tensor_at(bn_tensor_1d(BN_U8, (int64_t)bytes), &memory, 0);
    }
    bn_status status = bn_backend_forward(backend, &with_scratch);
    if (status == BN_OK && bytes)
        status = backend->sync(backend);
    backend->release(backend, &memory);
    return status;
}

bn_status bn_backend_put_f32(bn_backend *backend, const bn_tensor *dst, const float *src, int64_t n)
{
    if (n != bn_tensor_numel(dst))
        return bn_error(BN_FAIL, "upload of %lld elements into a tensor of %lld", (long long)n,
                        (long long)bn_tensor_numel(dst));
    if (dst->dtype == BN_F32)
        return backend->upload(backend, dst, src);
    double *wide = malloc((size_t)n * sizeof *wide);
    if (!wide)
        return bn_error_nomem("an upload", (size_t)n * sizeof *wide);
    for (int64_t i = 0; i < n; i++)
        wide[i] = (double)src[i];
    bn_status status = backend->upload(backend, dst, wide);
    free(wide);
    return status;
}

bn_status bn_backend_get_f32(bn_backend *backend, const bn_tensor *src, float *dst, int64_t n)
{
    if (n != bn_tensor_numel(src))
        return bn_error(BN_FAIL, "download of %lld elements from a tensor of %lld", (long long)n,
                        (long long)bn_tensor_numel(src));
    if (src->dtype == BN_F32)
        return backend->download(backend, src, dst);
    double *wide = malloc((size_t)n * sizeof *wide);
    if (!wide)
        return bn_error_nomem("a download", (size_t)n * sizeof *wide);
    bn_status status = backend->download(backend, src, wide);
    for (int64_t i = 0; status == BN_OK && i < n; i++)
        dst[i] = (float)wide[i];
    free(wide);
    return status;
}

bn_status bn_backend_get_scalar(bn_backend *backend, const bn_tensor *src, double *value)
{
    if (bn_tensor_numel(src) != 1)
        return bn_error(BN_FAIL, "a scalar was expected, the tensor has %lld elements",
                        (long long)bn_tensor_numel(src));
    if (src->dtype == BN_F64)
        return backend->download(backend, src, value);
    float narrow;
    BN_TRY(backend->download(backend, src, &narrow));
    *value = (double)narrow;
    return BN_OK;
}

bn_status bn_backend_coverage(const bn_backend *backend, char **text)
{
    enum { LINE = 96 };
    char *all = malloc((size_t)BN_OP_COUNT * LINE + 1);
    if (!all)
        return bn_error_nomem("the coverage matrix", (size_t)BN_OP_COUNT * LINE + 1);
    size_t used = 0;
    for (int op = 0; op < BN_OP_COUNT; op++) {
        const bn_op_info *info = &bn_op_table[op];
        const bn_kernel_row *row = &backend->rows[op];
        const char *forward = info->traits & BN_VIEW ? "view"
                              : row->forward         ? row->forward_variant
                                                     : "-";
        const char *backward = info->traits & BN_PASS ? "pass"
                               : row->backward        ? row->backward_variant
                                                      : "-";
        used +=
            (size_t)snprintf(all + used, LINE, "%-24s %-16s %s\n", info->name, forward, backward);
    }
    *text = all;
    return BN_OK;
}
