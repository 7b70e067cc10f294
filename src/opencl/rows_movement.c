/* Embedding, sum and mean, transpose, slice (kernels/movement.cl). */
#include "base/checked.h"
#include "opencl/ocl_impl.h"

/* ---- embedding ------------------------------------------------------------------ */

static bn_status embedding_forward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t R = bn_tensor_numel(&c->in[0]), V = c->in[1].shape[0], D = c->in[1].shape[1], per_item;
    int64_t groups = bn_ocl_row_groups(ocl, R, D, &per_item);
    bn_tensor flag = bn_ocl_flag(ocl);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_EMBEDDING, groups, 1, 1, BN_OCL_T(&c->in[0]),
                         BN_OCL_T(&c->in[1]), BN_OCL_T(&c->out[0]), BN_OCL_T(&flag), BN_OCL_L(R),
                         BN_OCL_I(V), BN_OCL_I(D), BN_OCL_I(BN_OP_EMBEDDING + 1),
                         BN_OCL_L(per_item));
}

/* Each block of ids goes through all of them, so there are just enough to keep
 * the device busy; their number does not change any sum. */
static bn_status embedding_backward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t R = bn_tensor_numel(&c->in[0]), V = c->in[1].shape[0], D = c->in[1].shape[1];
    int64_t want = (int64_t)ocl->device.compute_units * (ocl->cpu_shape ? 4 : 8);
    int64_t block = bn_ceil_div(V, want), blocks = bn_ceil_div(V, block);
    if (!bn_tensor_present(&c->din[1]))
        return BN_OK;
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_EMBEDDING_BACKWARD, blocks,
                         ocl->cpu_shape ? 1 : bn_ceil_div(D, BN_OCL_ROW_GROUP), 1,
                         BN_OCL_T(&c->in[0]), BN_OCL_T(&c->dout), BN_OCL_T(&c->din[1]), BN_OCL_L(R),
                         BN_OCL_I(V), BN_OCL_I(D), BN_OCL_I(block), BN_OCL_I(c->accumulate[1]));
}

/* ---- sum and mean ------------------------------------------------------------------ */

bn_status bn_ocl_total(bn_ocl *ocl, const bn_tensor *x, bool squares, bool root, int64_t count,
                       const bn_tensor *y)
{
    const int64_t max_parts = BN_OCL_WORK_BYTES / 8;
    int64_t n = bn_tensor_numel(x), chunk = 1 << 14;
    while (bn_ceil_div(n, chunk) > max_parts)
        chunk *= 2;
    int64_t parts = bn_ceil_div(n, chunk);
    bn_tensor part = bn_ocl_work(ocl, BN_F64, parts, 0);
    BN_TRY(BN_OCL_LAUNCH(ocl, BN_OCL_K_SUM_PARTS, parts, 1, 1, BN_OCL_T(x), BN_OCL_T(&part),
                         BN_OCL_L(n), BN_OCL_L(chunk), BN_OCL_I(squares)));
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_SUM_TOTAL, 1, 1, 1, BN_OCL_T(&part), BN_OCL_T(y),
                         BN_OCL_L(parts), BN_OCL_I(root), BN_OCL_L(count));
}

static bn_status sum_forward(bn_backend *backend, const bn_op_call *c)
{
    return bn_ocl_total(bn_ocl_of(backend), &c->in[0], false, false, 0, &c->out[0]);
}

static bn_status mean_forward(bn_backend *backend, const bn_op_call *c)
{
    return bn_ocl_total(bn_ocl_of(backend), &c->in[0], false, false, bn_tensor_numel(&c->in[0]),
                        &c->out[0]);
}

static bn_status spread(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t n = bn_tensor_numel(&c->in[0]);
    if (!bn_tensor_present(&c->din[0]))
        return BN_OK;
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_SPREAD, bn_ocl_flat_groups(ocl, n), 1, 1, BN_OCL_T(&c->dout),
                         BN_OCL_T(&c->din[0]), BN_OCL_L(n), BN_OCL_F(c->op == BN_OP_MEAN ? n : 1),
                         BN_OCL_I(c->accumulate[0]));
}

/* ---- transpose and slice -------------------------------------------------------------- */

/* Product of the dimensions from..to-1. */
static int64_t span(const bn_tensor *t, int from, int to)
{
    int64_t n = 1;
    for (int i = from; i < to; i++)
        n *= t->shape[i];
    return n;
}

/* x with the shape of t -> y with the two dimensions exchanged. */
static bn_status exchange(bn_backend *backend, const bn_op_call *c, const bn_tensor *t,
                          const bn_tensor *x, const bn_tensor *y, bool add)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int dim0 = c->params->transpose.dim0, dim1 = c->params->transpose.dim1;
    int lo = dim0 < dim1 ? dim0 : dim1, hi = dim0 < dim1 ? dim1 : dim0;
    int64_t n = bn_tensor_numel(t), a = t->shape[lo], b = t->shape[hi];
    int64_t n1 = span(t, lo + 1, hi), n2 = span(t, hi + 1, t->ndim);
    if (lo == hi) /* nothing to exchange: a copy */
        b = n1 = n2 = 1, a = 1;
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_EXCHANGE, bn_ocl_flat_groups(ocl, n), 1, 1, BN_OCL_T(x),
                         BN_OCL_T(y), BN_OCL_L(n), BN_OCL_L(a), BN_OCL_L(n1), BN_OCL_L(b),
                         BN_OCL_L(n2), BN_OCL_I(add));
}

static bn_status transpose_forward(bn_backend *backend, const bn_op_call *c)
{
    return exchange(backend, c, &c->in[0], &c->in[0], &c->out[0], false);
}

/* The transpose is its own inverse. */
static bn_status transpose_backward(bn_backend *backend, const bn_op_call *c)
{
    if (!bn_tensor_present(&c->din[0]))
        return BN_OK;
    return exchange(backend, c, &c->dout, &c->dout, &c->din[0], c->accumulate[0]);
}

static bn_status slice(bn_backend *backend, const bn_op_call *c, const bn_tensor *x,
                       const bn_tensor *y, bool back, bool add)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int dim = c->params->slice.dim;
    const bn_tensor *t = &c->in[0];
    int64_t n = bn_tensor_numel(back ? x : y);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_SLICE, bn_ocl_flat_groups(ocl, n), 1, 1, BN_OCL_T(x),
                         BN_OCL_T(y), BN_OCL_L(n), BN_OCL_L(t->shape[dim]),
                         BN_OCL_L(c->params->slice.start), BN_OCL_L(c->params->slice.length),
                         BN_OCL_L(span(t, dim + 1, t->ndim)), BN_OCL_I(back), BN_OCL_I(add));
}

static bn_status slice_forward(bn_backend *backend, const bn_op_call *c)
{
    return slice(backend, c, &c->in[0], &c->out[0], false, false);
}

static bn_status slice_backward(bn_backend *backend, const bn_op_call *c)
{
    if (!bn_tensor_present(&c->din[0]))
        return BN_OK;
    return slice(backend, c, &c->din[0], &c->dout, true, c->accumulate[0]);
}

void bn_ocl_rows_movement(bn_backend *backend)
{
    bn_ocl_set_row(backend, BN_OP_EMBEDDING, embedding_forward, embedding_backward);
    bn_ocl_set_row(backend, BN_OP_SUM, sum_forward, spread);
    bn_ocl_set_row(backend, BN_OP_MEAN, mean_forward, spread);
    bn_ocl_set_row(backend, BN_OP_TRANSPOSE, transpose_forward, transpose_backward);
    bn_ocl_set_row(backend, BN_OP_SLICE, slice_forward, slice_backward);
}
