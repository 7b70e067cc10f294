/* Quantizers (kernels/quant.cl). Their gradients pass through unchanged. */
#include "base/checked.h"
#include "opencl/ocl_impl.h"
#include "quant/estimator.h"
#include "quant/pack.h"
#include "quant/quantize.h"

/* ---- activations ------------------------------------------------------------- */

enum { ABSMAX_CHUNK = 1 << 16, WORK_FLOATS = BN_OCL_WORK_BYTES / 2 / (int)sizeof(float) };

/* one [1] = max|x|, in the context's work memory: parts in its second half. */
static bn_status whole_absmax(bn_ocl *ocl, const bn_tensor *x, const bn_tensor *one)
{
    int64_t n = bn_tensor_numel(x), chunk = ABSMAX_CHUNK;
    while (bn_ceil_div(n, chunk) > WORK_FLOATS)
        chunk *= 2;
    int64_t parts = bn_ceil_div(n, chunk);
    bn_tensor part = bn_ocl_work(ocl, BN_F32, parts, BN_OCL_WORK_BYTES / 2);
    if (chunk > INT32_MAX)
        return bn_error(BN_FAIL, "act_quant: %lld elements are too many", (long long)n);
    BN_TRY(BN_OCL_LAUNCH(ocl, BN_OCL_K_ABSMAX_PARTS, parts, 1, 1, BN_OCL_T(x), BN_OCL_T(&part),
                         BN_OCL_L(n), BN_OCL_I(chunk)));
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_ABSMAX_PARTS, 1, 1, 1, BN_OCL_T(&part), BN_OCL_T(one),
                         BN_OCL_L(parts), BN_OCL_I(parts));
}

static bn_status act_quant(bn_backend *backend, const bn_op_call *c, const bn_tensor *codes,
                           const bn_tensor *step, const bn_tensor *y)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    const bn_act_params *p = &c->params->act;
    int64_t R = bn_tensor_rows(&c->in[0]), C = bn_tensor_cols(&c->in[0]), per_item;
    int64_t length = bn_group_length(C, p->group_size), N = R * bn_groups_per_row(C, p->group_size);
    int64_t groups = bn_ocl_row_groups(ocl, N, length, &per_item);
    bn_tensor one = bn_ocl_work(ocl, BN_F32, 1, 0);
    bool whole = p->group_size == BN_PER_TENSOR;
    if (whole)
        BN_TRY(whole_absmax(ocl, &c->in[0], &one));
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_ACT_QUANT, groups, 1, 1, BN_OCL_T(&c->in[0]),
                         BN_OCL_T(whole ? &one : NULL), BN_OCL_T(codes), BN_OCL_T(step),
                         BN_OCL_T(y), BN_OCL_L(N), BN_OCL_I(C), BN_OCL_I(length),
                         BN_OCL_F(bn_act_limit(p->bits)), BN_OCL_L(per_item));
}

/* y = q + softness (x - q), q in y */
static bn_status soften(bn_ocl *ocl, const bn_op_call *c)
{
    const int64_t n = bn_tensor_numel(&c->in[0]);
    if (c->run->softness == 0)
        return BN_OK;
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_SOFTEN, bn_ocl_flat_groups(ocl, n), 1, 1,
                         BN_OCL_T(&c->in[0]), BN_OCL_T(&c->out[0]), BN_OCL_L(n),
                         BN_OCL_F(c->run->softness));
}

static bn_status act_quant_forward(bn_backend *backend, const bn_op_call *c)
{
    return act_quant(backend, c, &c->out[0], &c->out[1], NULL);
}

static bn_status act_fake_quant_forward(bn_backend *backend, const bn_op_call *c)
{
    BN_TRY(act_quant(backend, c, NULL, NULL, &c->out[0]));
    return soften(bn_ocl_of(backend), c);
}

/* ---- weights ------------------------------------------------------------------- */

typedef struct weight {
    int64_t O, I, length, per_row; /* groups of `length` elements, per_row in a row */
    int64_t stride;                /* scales per row; 0: one for the tensor */
    bool whole;
} weight;

static weight weight_of(const bn_op_call *c)
{
    weight w = {.O = c->in[0].shape[0], .I = c->in[0].shape[1]};
    int64_t G = c->params->weight.group_size;
    w.length = bn_group_length(w.I, G);
    w.per_row = bn_groups_per_row(w.I, G);
    w.whole = G == BN_PER_TENSOR;
    w.stride = w.whole ? 0 : w.per_row;
    return w;
}

/* `sums`: 8 bytes per row, used per tensor only. */
static bn_status weight_scales(bn_ocl *ocl, const bn_op_call *c, const bn_tensor *scale,
                               const bn_tensor *sums)
{
    weight w = weight_of(c);
    int64_t N = w.O * w.per_row, per_item = 1, groups;
    if (ocl->cpu_shape)
        groups = bn_ocl_row_groups(ocl, N, w.length, &per_item);
    else
        groups = bn_ceil_div(N, BN_OCL_ROW_GROUP / 8);
    BN_TRY(BN_OCL_LAUNCH(ocl, BN_OCL_K_WEIGHT_SCALES, groups, 1, 1, BN_OCL_T(&c->in[0]),
                         BN_OCL_T(scale), BN_OCL_T(w.whole ? sums : NULL), BN_OCL_L(N),
                         BN_OCL_I(w.I), BN_OCL_I(w.length), BN_OCL_I(w.per_row),
                         BN_OCL_L(per_item)));
    if (!w.whole)
        return BN_OK;
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_WEIGHT_SCALE_TOTAL, 1, 1, 1, BN_OCL_T(sums), BN_OCL_T(scale),
                         BN_OCL_L(w.O), BN_OCL_L(w.O * w.I));
}

static size_t sums_bytes(const bn_op_call *c)
{
    return c->params->weight.group_size == BN_PER_TENSOR ? (size_t)c->in[0].shape[0] * 8 : 0;
}

static size_t weight_quant_scratch(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return sums_bytes(c);
}

/* bn_backend.weights and .scale_rules */
static bn_status check_scheme(const bn_ocl *ocl, const bn_op_call *c)
{
    const bn_weight_params *p = &c->params->weight;
    if (bn_grid_dtype(p->grid) == BN_T2 && ocl->backend.scale_rules >> p->rule & 1u)
        return BN_OK;
    return bn_error(BN_FAIL, "%s: OpenCL makes ternary and binary codes, with no median scales",
                    bn_op_table[c->op].name);
}

static int is_odd(const bn_op_call *c)
{
    return bn_grid_table[c->params->weight.grid].odd;
}

/* A work-item for each scale. */
static int64_t scale_groups(const bn_ocl *ocl, const bn_tensor *scale)
{
    return bn_ceil_div(bn_tensor_numel(scale), ocl->cpu_shape ? 1 : 256);
}

static bn_status weight_quant_forward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    weight w = weight_of(c);
    int64_t per_item = 1, groups;
    BN_TRY(check_scheme(ocl, c));
    if (c->params->weight.rule == BN_SCALE_LEARNED)
        BN_TRY(BN_OCL_LAUNCH(ocl, BN_OCL_K_SCALE_FLOOR, scale_groups(ocl, &c->out[1]), 1, 1,
                             BN_OCL_T(&c->in[1]), BN_OCL_T(&c->out[1]),
                             BN_OCL_L(bn_tensor_numel(&c->out[1]))));
    else
        BN_TRY(weight_scales(ocl, c, &c->out[1], &c->scratch));
    if (ocl->cpu_shape)
        groups = bn_ocl_row_groups(ocl, w.O, w.I, &per_item);
    else
        groups = bn_ceil_div(w.O * bn_t2_row_bytes(w.I), 256);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_TERNARIZE, groups, 1, 1, BN_OCL_T(&c->in[0]),
                         BN_OCL_T(&c->out[1]), BN_OCL_T(&c->out[0]), BN_OCL_L(w.O), BN_OCL_I(w.I),
                         BN_OCL_I(w.length), BN_OCL_I(w.stride), BN_OCL_I(is_odd(c)),
                         BN_OCL_L(per_item));
}

/* Row sums (aligned), then scales. */
static size_t weight_fake_quant_scratch(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return bn_align_up(sums_bytes(c), BN_ALIGN) +
           (size_t)bn_scale_count(c->in[0].shape[0], c->in[0].shape[1],
                                  c->params->weight.group_size) *
               sizeof(float);
}

static bn_status weight_fake_quant_forward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    weight w = weight_of(c);
    int64_t n = w.O * w.I;
    size_t skip = bn_align_up(sums_bytes(c), BN_ALIGN);
    bn_tensor scale = bn_ocl_part(&c->scratch, skip, bn_tensor_bytes(&c->scratch) - skip);
    BN_TRY(check_scheme(ocl, c));
    BN_TRY(weight_scales(ocl, c, &scale, &c->scratch));
    BN_TRY(BN_OCL_LAUNCH(ocl, BN_OCL_K_WEIGHT_FAKE_QUANT, bn_ocl_flat_groups(ocl, n), 1, 1,
                         BN_OCL_T(&c->in[0]), BN_OCL_T(&scale), BN_OCL_T(&c->out[0]), BN_OCL_L(n),
                         BN_OCL_I(w.I), BN_OCL_I(w.length), BN_OCL_I(w.stride),
                         BN_OCL_I(is_odd(c))));
    return soften(ocl, c);
}

/* ---- gradient estimators ---------------------------------------------------------- */

/* Slopes of the rows of a weight with one scale, 8 bytes each. */
static size_t estimator_scratch(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return c->params->weight.group_size == BN_PER_TENSOR ? (size_t)c->in[1].shape[0] * 8 : 0;
}

/* dout [O,I] -> din1 [O,I] of the weight, din2 of its scale */
static bn_status weight_estimator_backward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    const bn_weight_params *p = &c->params->weight;
    const bn_grid_info *grid = &bn_grid_table[p->grid];
    const int64_t O = c->in[1].shape[0], I = c->in[1].shape[1];
    const int64_t length = bn_group_length(I, p->group_size), last = (I - 1) % length + 1;
    const int64_t N = O * bn_groups_per_row(I, p->group_size);
    const bool one = p->group_size == BN_PER_TENSOR, total = one && bn_tensor_present(&c->din[2]);
    const double delta =
        p->estimator == BN_ESTIMATOR_EWGS ? p->ewgs_delta / (2 * bn_grid_half_step(p->grid)) : 0;
    int64_t per_item, groups = bn_ocl_row_groups(ocl, N, length, &per_item);
    BN_TRY(BN_OCL_LAUNCH(
        ocl, BN_OCL_K_ESTIMATE, groups, 1, 1, BN_OCL_T(&c->in[1]), BN_OCL_T(&c->dout),
        BN_OCL_T(&c->in[2]), BN_OCL_T(&c->din[1]), BN_OCL_T(total ? &c->scratch : NULL),
        BN_OCL_T(one ? NULL : &c->din[2]), BN_OCL_L(N), BN_OCL_I(I), BN_OCL_I(length),
        BN_OCL_I(one), BN_OCL_I(grid->max), BN_OCL_I(grid->odd),
        BN_OCL_F(bn_estimator_weight_limit(p->estimator, p->grid)),
        BN_OCL_F(bn_estimator_scale_limit(p->estimator, p->grid)), BN_OCL_F(delta),
        BN_OCL_F(bn_lsq_factor(p->grid, length)), BN_OCL_F(bn_lsq_factor(p->grid, last)),
        BN_OCL_I(2 * c->accumulate[1] + 4 * c->accumulate[2]), BN_OCL_L(per_item)));
    if (!total)
        return BN_OK;
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_ESTIMATE_TOTAL, 1, 1, 1, BN_OCL_T(&c->scratch),
                         BN_OCL_T(&c->din[2]), BN_OCL_L(O), BN_OCL_F(bn_lsq_factor(p->grid, O * I)),
                         BN_OCL_I(c->accumulate[2]));
}

void bn_ocl_rows_quant(bn_backend *backend)
{
    bn_ocl_set_row(backend, BN_OP_ACT_QUANT, act_quant_forward, NULL);
    bn_ocl_set_row(backend, BN_OP_ACT_FAKE_QUANT, act_fake_quant_forward, NULL);
    bn_ocl_set_row(backend, BN_OP_WEIGHT_QUANT, weight_quant_forward, NULL);
    backend->rows[BN_OP_WEIGHT_QUANT].forward_scratch = weight_quant_scratch;
    bn_ocl_set_row(backend, BN_OP_WEIGHT_ESTIMATOR, NULL, weight_estimator_backward);
    backend->rows[BN_OP_WEIGHT_ESTIMATOR].backward_scratch = estimator_scratch;
    bn_ocl_set_row(backend, BN_OP_WEIGHT_FAKE_QUANT, weight_fake_quant_forward, NULL);
    backend->rows[BN_OP_WEIGHT_FAKE_QUANT].forward_scratch = weight_fake_quant_scratch;
}
