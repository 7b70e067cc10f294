/* Rows: RMSNorm, RoPE, Hadamard, softmax, cross-entropy, and column sums (kernels/norm.cl). */
#include <math.h>

#include "base/checked.h"
#include "opencl/ocl_impl.h"

/* ---- column sums ------------------------------------------------------------ */

/* Chunks of rows that are summed apart: a function of the number of rows alone. */
static int64_t column_chunks(int64_t rows)
{
    int64_t chunks = bn_ceil_div(rows, 32);
    return chunks < 64 ? chunks : 64;
}

static size_t column_scratch(int64_t rows, int64_t cols)
{
    return (size_t)(column_chunks(rows) * cols) * sizeof(float);
}

static bn_status column_sums(bn_ocl *ocl, const bn_tensor *dy, const bn_tensor *x,
                             const bn_tensor *rstd, int64_t rows, int64_t cols, const bn_tensor *d,
                             bool add, const bn_tensor *scratch)
{
    int64_t chunk = bn_ceil_div(rows, column_chunks(rows)), parts = bn_ceil_div(rows, chunk);
    int64_t blocks = bn_ceil_div(cols, BN_OCL_ROW_GROUP);
    BN_TRY(BN_OCL_LAUNCH(ocl, BN_OCL_K_COLUMN_PARTS, ocl->cpu_shape ? 1 : blocks, parts, 1,
                         BN_OCL_T(dy), BN_OCL_T(x), BN_OCL_T(rstd), BN_OCL_T(scratch),
                         BN_OCL_L(rows), BN_OCL_I(cols), BN_OCL_L(chunk)));
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_COLUMN_TOTAL, blocks, 1, 1, BN_OCL_T(scratch), BN_OCL_T(d),
                         BN_OCL_L(parts), BN_OCL_I(cols), BN_OCL_I(add));
}

/* ---- RMSNorm ------------------------------------------------------------------ */

static bn_status rmsnorm_forward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t R = bn_tensor_rows(&c->in[0]), C = bn_tensor_cols(&c->in[0]), per_item;
    int64_t groups = bn_ocl_row_groups(ocl, R, C, &per_item);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_RMSNORM, groups, 1, 1, BN_OCL_T(&c->in[0]),
                         BN_OCL_T(&c->in[1]), BN_OCL_T(&c->out[0]), BN_OCL_T(&c->out[1]),
                         BN_OCL_L(R), BN_OCL_I(C), BN_OCL_F(c->params->rmsnorm.eps),
                         BN_OCL_L(per_item));
}

static size_t rmsnorm_scratch(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return column_scratch(bn_tensor_rows(&c->in[0]), bn_tensor_cols(&c->in[0]));
}

/* The weight's gradient first: dx may be dy's memory. */
static bn_status rmsnorm_backward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t R = bn_tensor_rows(&c->in[0]), C = bn_tensor_cols(&c->in[0]), per_item;
    int64_t groups = bn_ocl_row_groups(ocl, R, C, &per_item);
    if (bn_tensor_present(&c->din[1]))
        BN_TRY(column_sums(ocl, &c->dout, &c->in[0], &c->out[1], R, C, &c->din[1], c->accumulate[1],
                           &c->scratch));
    if (!bn_tensor_present(&c->din[0]))
        return BN_OK;
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_RMSNORM_BACKWARD, groups, 1, 1, BN_OCL_T(&c->in[0]),
                         BN_OCL_T(&c->in[1]), BN_OCL_T(&c->out[1]), BN_OCL_T(&c->dout),
                         BN_OCL_T(&c->din[0]), BN_OCL_L(R), BN_OCL_I(C), BN_OCL_I(c->accumulate[0]),
                         BN_OCL_L(per_item));
}

/* ---- RoPE ---------------------------------------------------------------------- */

static bn_status rotate(bn_backend *backend, const bn_op_call *c, const bn_tensor *x,
                        const bn_tensor *y, float sign, bool add)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t R = bn_tensor_rows(&c->in[0]), T = c->in[0].shape[1], W = c->in[0].shape[2], per_item;
    int64_t first = bn_run_position(c->run, 0), P = c->in[1].shape[0];
    int64_t groups = bn_ocl_row_groups(ocl, R, W, &per_item);
    if (c->run->positions && c->in[0].shape[0] > 1)
        return bn_error(BN_FAIL, "%s: rope takes one sequence; device \"cpu\" several", ocl->name);
    if (first < 0 || first > P - T)
        return bn_error(BN_FAIL, "rope: positions %lld to %lld, the table has %lld",
                        (long long)first, (long long)(first + T - 1), (long long)P);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_ROPE, groups, 1, 1, BN_OCL_T(x), BN_OCL_T(&c->in[1]),
                         BN_OCL_T(y), BN_OCL_L(R), BN_OCL_I(T), BN_OCL_I(W),
                         BN_OCL_I(c->params->rope.head_dim), BN_OCL_L(first), BN_OCL_F(sign),
                         BN_OCL_I(add), BN_OCL_L(per_item));
}

static bn_status rope_forward(bn_backend *backend, const bn_op_call *c)
{
    return rotate(backend, c, &c->in[0], &c->out[0], 1, false);
}

static bn_status rope_backward(bn_backend *backend, const bn_op_call *c)
{
    if (!bn_tensor_present(&c->din[0]))
        return BN_OK;
    return rotate(backend, c, &c->dout, &c->din[0], -1, c->accumulate[0]);
}

/* ---- Hadamard --------------------------------------------------------------------- */

static bn_status transform(bn_backend *backend, const bn_tensor *x, const bn_tensor *y, bool add)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t block = bn_hadamard_block(bn_tensor_cols(x)), n = bn_tensor_numel(x) / block, per_item;
    int64_t groups = bn_ocl_row_groups(ocl, n, block, &per_item);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_HADAMARD, groups, 1, 1, BN_OCL_T(x), BN_OCL_T(y),
                         BN_OCL_L(n), BN_OCL_I(block), BN_OCL_F(1 / sqrt((double)block)),
                         BN_OCL_I(add), BN_OCL_L(per_item));
}

static bn_status hadamard_forward(bn_backend *backend, const bn_op_call *c)
{
    return transform(backend, &c->in[0], &c->out[0], false);
}

static bn_status hadamard_backward(bn_backend *backend, const bn_op_call *c)
{
    if (!bn_tensor_present(&c->din[0]))
        return BN_OK;
    return transform(backend, &c->dout, &c->din[0], c->accumulate[0]);
}

/* ---- softmax ---------------------------------------------------------------------- */

static bn_status softmax_forward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t R = bn_tensor_rows(&c->in[0]), C = bn_tensor_cols(&c->in[0]), per_item;
    int64_t groups = bn_ocl_row_groups(ocl, R, C, &per_item);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_SOFTMAX, groups, 1, 1, BN_OCL_T(&c->in[0]),
                         BN_OCL_T(&c->out[0]), BN_OCL_L(R), BN_OCL_I(C), BN_OCL_L(per_item));
}

static bn_status softmax_backward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t R = bn_tensor_rows(&c->in[0]), C = bn_tensor_cols(&c->in[0]), per_item;
    int64_t groups = bn_ocl_row_groups(ocl, R, C, &per_item);
    if (!bn_tensor_present(&c->din[0]))
        return BN_OK;
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_SOFTMAX_BACKWARD, groups, 1, 1, BN_OCL_T(&c->out[0]),
                         BN_OCL_T(&c->dout), BN_OCL_T(&c->din[0]), BN_OCL_L(R), BN_OCL_I(C),
                         BN_OCL_I(c->accumulate[0]), BN_OCL_L(per_item));
}

/* ---- cross-entropy ------------------------------------------------------------------ */

bn_status bn_ocl_cross_entropy_rows(bn_ocl *ocl, const bn_op_call *c, const bn_tensor *logits,
                                    const bn_tensor *labels, const bn_tensor *lse,
                                    const bn_tensor *nll, int64_t row0, int64_t rows, int64_t V)
{
    int64_t per_item, groups = bn_ocl_row_groups(ocl, rows, V, &per_item);
    bn_tensor flag = bn_ocl_flag(ocl);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_CROSS_ENTROPY, groups, 1, 1, BN_OCL_T(logits),
                         BN_OCL_T(labels), BN_OCL_T(lse), BN_OCL_T(nll), BN_OCL_T(&flag),
                         BN_OCL_L(rows), BN_OCL_I(V),
                         BN_OCL_I(c->params->cross_entropy.ignore_index), BN_OCL_I((int)c->op + 1),
                         BN_OCL_L(row0), BN_OCL_L(per_item));
}

bn_status bn_ocl_cross_entropy_mean(bn_ocl *ocl, const bn_op_call *c, const bn_tensor *nll,
                                    const bn_tensor *labels, const bn_tensor *loss)
{
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_CROSS_ENTROPY_MEAN, 1, 1, 1, BN_OCL_T(nll), BN_OCL_T(labels),
                         BN_OCL_T(loss), BN_OCL_L(bn_tensor_numel(labels)),
                         BN_OCL_I(c->params->cross_entropy.ignore_index));
}

bn_status bn_ocl_cross_entropy_factor(bn_ocl *ocl, const bn_op_call *c, const bn_tensor *labels,
                                      const bn_tensor *factor)
{
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_CROSS_ENTROPY_FACTOR, 1, 1, 1, BN_OCL_T(labels),
                         BN_OCL_T(&c->dout), BN_OCL_T(factor), BN_OCL_L(bn_tensor_numel(labels)),
                         BN_OCL_I(c->params->cross_entropy.ignore_index));
}

bn_status bn_ocl_cross_entropy_gradient(bn_ocl *ocl, const bn_op_call *c, const bn_tensor *logits,
                                        const bn_tensor *labels, const bn_tensor *lse,
                                        const bn_tensor *factor, const bn_tensor *d, int64_t rows,
                                        int64_t V, bool add)
{
    int64_t per_item, groups = bn_ocl_row_groups(ocl, rows, V, &per_item);
    return BN_OCL_LAUNCH(
        ocl, BN_OCL_K_CROSS_ENTROPY_BACKWARD, groups, 1, 1, BN_OCL_T(logits), BN_OCL_T(labels),
        BN_OCL_T(lse), BN_OCL_T(factor), BN_OCL_T(d), BN_OCL_L(rows), BN_OCL_I(V),
        BN_OCL_I(c->params->cross_entropy.ignore_index), BN_OCL_I(add), BN_OCL_L(per_item));
}

/* nll [R] */
static size_t cross_entropy_scratch(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return (size_t)bn_tensor_rows(&c->in[0]) * sizeof(float);
}

static bn_status cross_entropy_forward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    BN_TRY(bn_ocl_cross_entropy_rows(ocl, c, &c->in[0], &c->in[1], &c->out[1], &c->scratch, 0,
                                     bn_tensor_rows(&c->in[0]), bn_tensor_cols(&c->in[0])));
    return bn_ocl_cross_entropy_mean(ocl, c, &c->scratch, &c->in[1], &c->out[0]);
}

static bn_status cross_entropy_backward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    bn_tensor factor = bn_ocl_work(ocl, BN_F32, 1, 0);
    if (!bn_tensor_present(&c->din[0]))
        return BN_OK;
    BN_TRY(bn_ocl_cross_entropy_factor(ocl, c, &c->in[1], &factor));
    return bn_ocl_cross_entropy_gradient(ocl, c, &c->in[0], &c->in[1], &c->out[1], &factor,
                                         &c->din[0], bn_tensor_rows(&c->in[0]),
                                         bn_tensor_cols(&c->in[0]), c->accumulate[0]);
}

void bn_ocl_rows_norm(bn_backend *backend)
{
    bn_ocl_set_row(backend, BN_OP_RMSNORM, rmsnorm_forward, rmsnorm_backward);
    backend->rows[BN_OP_RMSNORM].backward_scratch = rmsnorm_scratch;
    bn_ocl_set_row(backend, BN_OP_ROPE, rope_forward, rope_backward);
    bn_ocl_set_row(backend, BN_OP_HADAMARD, hadamard_forward, hadamard_backward);
    bn_ocl_set_row(backend, BN_OP_SOFTMAX, softmax_forward, softmax_backward);
    bn_ocl_set_row(backend, BN_OP_CROSS_ENTROPY, cross_entropy_forward, cross_entropy_backward);
    backend->rows[BN_OP_CROSS_ENTROPY].forward_scratch = cross_entropy_scratch;
}
