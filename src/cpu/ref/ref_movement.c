/* Reductions and copies: sum, mean, transpose, slice. */
#include "cpu/ref/ref.h"

static double total(const bn_op_call *c)
{
    int64_t n = bn_tensor_numel(&c->in[0]);
    const real *x = ref_in(c, 0);
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i];
    return sum;
}

/* dx[i] = g for all i */
static void spread(const bn_op_call *c, double g)
{
    int64_t n = bn_tensor_numel(&c->in[0]);
    real *dx = ref_din(c, 0);
    for (int64_t i = 0; dx && i < n; i++)
        ref_put(&dx[i], c->accumulate[0], g);
}

/* x [n] -> y [1] = sum of x */
bn_status REF(bn_sum_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    ref_out(c, 0)[0] = (real)total(c);
    return BN_OK;
}

/* dx = dy */
bn_status REF(bn_sum_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    spread(c, (double)ref_dout(c)[0]);
    return BN_OK;
}

/* x [n] -> y [1] = sum of x / n */
bn_status REF(bn_mean_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    ref_out(c, 0)[0] = (real)(total(c) / (double)bn_tensor_numel(&c->in[0]));
    return BN_OK;
}

/* dx = dy / n */
bn_status REF(bn_mean_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    spread(c, (double)ref_dout(c)[0] / (double)bn_tensor_numel(&c->in[0]));
    return BN_OK;
}

/* Product of the dimensions from..to-1. */
static int64_t span(const bn_tensor *t, int from, int to)
{
    int64_t n = 1;
    for (int i = from; i < to; i++)
        n *= t->shape[i];
    return n;
}

/* x seen as [n0,a,n1,b,n2] -> y [n0,b,n1,a,n2] */
static void exchange(const bn_tensor *t, int dim0, int dim1, const real *x, real *y, bool add)
{
    int lo = dim0 < dim1 ? dim0 : dim1, hi = dim0 < dim1 ? dim1 : dim0;
    int64_t n0 = span(t, 0, lo), n1 = span(t, lo + 1, hi), n2 = span(t, hi + 1, t->ndim);
    int64_t a = t->shape[lo], b = t->shape[hi];
    for (int64_t i0 = 0; i0 < n0; i0++)
        for (int64_t ia = 0; ia < a; ia++)
            for (int64_t i1 = 0; i1 < n1; i1++)
                for (int64_t ib = 0; ib < b; ib++)
                    for (int64_t i2 = 0; i2 < n2; i2++)
                        ref_put(&y[(((i0 * b + ib) * n1 + i1) * a + ia) * n2 + i2], add,
                                (double)x[(((i0 * a + ia) * n1 + i1) * b + ib) * n2 + i2]);
}

static void copy(const real *x, int64_t n, real *y, bool add)
{
    for (int64_t i = 0; i < n; i++)
        ref_put(&y[i], add, (double)x[i]);
}

/* x -> x with the dimensions dim0 and dim1 exchanged */
static void transpose(const bn_op_call *c, const bn_tensor *t, const real *x, real *y, bool add)
{
    int dim0 = c->params->transpose.dim0, dim1 = c->params->transpose.dim1;
    if (dim0 == dim1)
        copy(x, bn_tensor_numel(t), y, add);
    else
        exchange(t, dim0, dim1, x, y, add);
}

bn_status REF(bn_transpose_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    transpose(c, &c->in[0], ref_in(c, 0), ref_out(c, 0), false);
    return BN_OK;
}

/* The transpose is its own inverse. */
bn_status REF(bn_transpose_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    if (bn_tensor_present(&c->din[0]))
        transpose(c, &c->dout, ref_dout(c), ref_din(c, 0), c->accumulate[0]);
    return BN_OK;
}

/* x [outer,n,inner] -> y [outer,length,inner] = x[:, start:start+length, :] */
bn_status REF(bn_slice_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int dim = c->params->slice.dim;
    const bn_tensor *t = &c->in[0];
    int64_t outer = span(t, 0, dim), n = t->shape[dim], inner = span(t, dim + 1, t->ndim);
    int64_t start = c->params->slice.start, length = c->params->slice.length;
    for (int64_t i = 0; i < outer; i++)
        copy(ref_in(c, 0) + (i * n + start) * inner, length * inner,
             ref_out(c, 0) + i * length * inner, false);
    return BN_OK;
}

/* dx = dy inside the slice, 0 elsewhere */
bn_status REF(bn_slice_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int dim = c->params->slice.dim;
    const bn_tensor *t = &c->in[0];
    int64_t outer = span(t, 0, dim), n = t->shape[dim], inner = span(t, dim + 1, t->ndim);
    int64_t start = c->params->slice.start, length = c->params->slice.length;
    real *dx = ref_din(c, 0);
    if (dx && !c->accumulate[0])
        memset(dx, 0, (size_t)bn_tensor_numel(t) * sizeof *dx);
    for (int64_t i = 0; dx && i < outer; i++)
        copy(ref_dout(c) + i * length * inner, length * inner, dx + (i * n + start) * inner,
             c->accumulate[0]);
    return BN_OK;
}
