/* BITLINEAR: the integer product on packed weights, and its backward as float
 * products of decoded operands. */
#include "base/checked.h"
#include "opencl/gemm.h"
#include "quant/quantize.h"

enum {
    ROWS = 6,          /* of a tile (CPU shape) */
    OUTPUTS = 16,      /* of a panel */
    X_BYTES = 1 << 15, /* of activations copied by a work-item */
    TILE = 64,         /* rows and outputs of a group (GPU shape) */
    FEW_ROWS = 3,      /* that read the weights as they are */
    FEW_CHUNK = 64,    /* k of a chunk there */
    FEW_OUTPUTS = 4,   /* of a group (GPU shape) */
    FLOATS_GROUP = 64, /* work-items of the decoding kernels */
};

typedef struct job {
    int64_t R, O, I, group, groups, quads, panels, rows; /* rows: up to a whole tile */
    bool one_step, one_scale, step_groups;
} job;

static job job_of(const bn_op_call *c)
{
    int64_t G = c->params->weight.group_size;
    job j = {.R = bn_tensor_rows(&c->in[0]),
             .O = c->in[2].shape[0],
             .I = c->in[2].shape[1],
             .one_step = bn_tensor_numel(&c->in[1]) == 1,
             .one_scale = G == BN_PER_TENSOR,
             .step_groups = c->params->weight.act_group > 0};
    j.group = bn_group_length(j.I, G);
    j.groups = bn_groups_per_row(j.I, G);
    j.quads =
        (j.groups - 1) * bn_ceil_div(j.group, 4) + bn_ceil_div(j.I - (j.groups - 1) * j.group, 4);
    j.panels = bn_ceil_div(j.O, OUTPUTS);
    j.rows = bn_ceil_div(j.R, ROWS) * ROWS;
    return j;
}

static bn_status check(const bn_ocl *ocl, const job *j)
{
    if (j->I > BN_MAX_IN_INT32)
        return bn_error(BN_FAIL, "bitlinear: rows of %lld elements, the int32 sum takes %lld",
                        (long long)j->I, (long long)BN_MAX_IN_INT32);
    if (j->step_groups)
        return bn_error(BN_FAIL,
                        "%s: bitlinear has no product with a step per group of activations "
                        "(quantization.activation_scale \"group\"); device \"cpu\" has",
                        ocl->name);
    if (j->R > INT32_MAX / 2 || j->O > INT32_MAX / 2)
        return bn_error(BN_FAIL, "%s: bitlinear of %lld rows and %lld outputs, it takes %d",
                        ocl->name, (long long)j->R, (long long)j->O, INT32_MAX / 2);
    return BN_OK;
}

/* ---- forward --------------------------------------------------------------- */

/* Scratch of the CPU shape: panels, rows of x, group sums. */
typedef struct layout {
    size_t panels, x, sums;
} layout;

static layout layout_of(const job *j)
{
    return (layout){
        .panels = bn_align_up((size_t)(j->panels * (j->quads + j->groups)) * 64, BN_ALIGN),
        .x = bn_align_up((size_t)(j->rows * j->quads) * 4, BN_ALIGN),
        .sums = bn_align_up((size_t)(j->rows * j->groups) * sizeof(int32_t), BN_ALIGN),
    };
}

/* Whether the kernels for few rows take this. */
static bool is_few(const job *j)
{
    return j->R <= FEW_ROWS && (j->groups == 1 || j->group % FEW_CHUNK == 0);
}

/* Their scratch in the CPU shape: planes, group sums. */
static layout few_layout_of(const job *j)
{
    int64_t elements = j->R * bn_ceil_div(j->I, FEW_CHUNK) * FEW_CHUNK;
    return (layout){
        .x = bn_align_up((size_t)elements * sizeof(int16_t), BN_ALIGN),
        .sums = bn_align_up((size_t)(j->R * j->groups) * sizeof(int32_t), BN_ALIGN),
    };
}

static size_t forward_scratch(const bn_backend *backend, const bn_op_call *c)
{
    job j = job_of(c);
    layout l = is_few(&j) ? few_layout_of(&j) : layout_of(&j);
    return bn_ocl_of(backend)->cpu_shape ? l.panels + l.x + l.sums : 0;
}

static int64_t blocks_wanted(const bn_ocl *ocl)
{
    return bn_ocl_choice(ocl, BN_OCL_C_BLOCKS_PER_CORE) * (int64_t)ocl->device.compute_units;
}

static void choose_block(const bn_ocl *ocl, const job *j, int64_t *rows, int64_t *panels)
{
    int64_t wanted = blocks_wanted(ocl);
    *rows = bn_ocl_choice(ocl, BN_OCL_C_TERNARY_ROWS);
    *panels = bn_ocl_choice(ocl, BN_OCL_C_TERNARY_PANELS);
    while (bn_ceil_div(j->R, *rows) * bn_ceil_div(j->panels, *panels) < wanted && *panels > 1)
        *panels /= 2;
}

static bn_status forward_panels(bn_ocl *ocl, const bn_op_call *c, const job *j)
{
    layout l = layout_of(j);
    bn_tensor panels = bn_ocl_part(&c->scratch, 0, l.panels);
    bn_tensor x = bn_ocl_part(&c->scratch, l.panels, l.x);
    bn_tensor sums = bn_ocl_part(&c->scratch, l.panels + l.x, l.sums);
    int64_t per_item = X_BYTES / j->I < 1 ? 1 : X_BYTES / j->I, block_rows, block_panels;
    BN_TRY(BN_OCL_LAUNCH(ocl, BN_OCL_K_TERNARY_PANELS, j->panels, 1, 1, BN_OCL_T(&c->in[2]),
                         BN_OCL_T(&c->in[3]), BN_OCL_T(&panels), BN_OCL_I(j->O), BN_OCL_I(j->I),
                         BN_OCL_I(j->group), BN_OCL_I(j->groups), BN_OCL_I(j->quads),
                         BN_OCL_I(j->one_scale)));
    BN_TRY(BN_OCL_LAUNCH(ocl, BN_OCL_K_TERNARY_ROWS, bn_ceil_div(j->rows, per_item), 1, 1,
                         BN_OCL_T(&c->in[0]), BN_OCL_T(&x), BN_OCL_T(&sums), BN_OCL_I(j->R),
                         BN_OCL_I(j->I), BN_OCL_I(j->group), BN_OCL_I(j->groups),
                         BN_OCL_I(j->quads), BN_OCL_I(per_item), BN_OCL_I(j->rows)));
    choose_block(ocl, j, &block_rows, &block_panels);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_TERNARY_PRODUCT, bn_ceil_div(j->R, block_rows),
                         bn_ceil_div(j->panels, block_panels), 1, BN_OCL_T(&x), BN_OCL_T(&sums),
                         BN_OCL_T(&panels), BN_OCL_T(&c->in[1]), BN_OCL_T(&c->in[4]),
                         BN_OCL_T(&c->out[0]), BN_OCL_I(j->R), BN_OCL_I(j->O), BN_OCL_I(j->I),
                         BN_OCL_I(j->group), BN_OCL_I(j->groups), BN_OCL_I(j->quads),
                         BN_OCL_I(j->one_step), BN_OCL_I(block_rows), BN_OCL_I(block_panels));
}

static bn_status forward_few(bn_ocl *ocl, const bn_op_call *c, const job *j)
{
    layout l = few_layout_of(j);
    bn_tensor x = bn_ocl_part(&c->scratch, 0, l.x), sums = bn_ocl_part(&c->scratch, l.x, l.sums);
    int64_t block = bn_ceil_div(j->O, 2 * blocks_wanted(ocl));
    BN_TRY(BN_OCL_LAUNCH(ocl, BN_OCL_K_TERNARY_PLANES, j->R, 1, 1, BN_OCL_T(&c->in[0]),
                         BN_OCL_T(&x), BN_OCL_T(&sums), BN_OCL_I(j->I), BN_OCL_I(j->group),
                         BN_OCL_I(j->groups)));
    return BN_OCL_LAUNCH(
        ocl, BN_OCL_K_TERNARY_FEW, bn_ceil_div(j->O, block), 1, 1, BN_OCL_T(&x), BN_OCL_T(&sums),
        BN_OCL_T(&c->in[1]), BN_OCL_T(&c->in[2]), BN_OCL_T(&c->in[3]), BN_OCL_T(&c->in[4]),
        BN_OCL_T(&c->out[0]), BN_OCL_I(j->R), BN_OCL_I(j->O), BN_OCL_I(j->I), BN_OCL_I(j->group),
        BN_OCL_I(j->groups), BN_OCL_I(j->one_step), BN_OCL_I(j->one_scale), BN_OCL_I(block));
}

/* Which loads of mma_forward.cl are whole: see there. */
static int forward_whole(const bn_op_call *c, const job *j)
{
    const bool one = j->groups == 1;
    const bool x = c->in[0].offset % 16 == 0 && j->I % 16 == 0 && (one || j->group % 16 == 0);
    const bool w = c->in[2].offset % 8 == 0 && j->I % 32 == 0 && (one || j->group % 32 == 0);
    return (x ? 1 : 0) | (w ? 2 : 0);
}

static bn_status forward_mma(bn_ocl *ocl, const bn_op_call *c, const job *j)
{
    const int64_t across = bn_ceil_div(j->O, TILE);
    const int64_t enough = bn_ocl_choice(ocl, BN_OCL_C_MMA_LARGE) * ocl->device.compute_units;
    const bool large = bn_ceil_div(j->R, 128) * across >= enough;
    return BN_OCL_LAUNCH(
        ocl, large ? BN_OCL_K_MMA_FORWARD_128 : BN_OCL_K_MMA_FORWARD_64, across,
        bn_ceil_div(j->R, large ? 128 : 64), 1, BN_OCL_T(&c->in[0]), BN_OCL_T(&c->in[1]),
        BN_OCL_T(&c->in[2]), BN_OCL_T(&c->in[3]), BN_OCL_T(&c->in[4]), BN_OCL_T(&c->out[0]),
        BN_OCL_I(j->R), BN_OCL_I(j->O), BN_OCL_I(j->I), BN_OCL_I(j->group), BN_OCL_I(j->groups),
        BN_OCL_I(j->one_step), BN_OCL_I(j->one_scale), BN_OCL_I(forward_whole(c, j)));
}

static bn_status forward_tiles(bn_ocl *ocl, const bn_op_call *c, const job *j)
{
    static const bn_ocl_kernel_id kernels[2][2] = {
        {BN_OCL_K_TERNARY_TILES, BN_OCL_K_TERNARY_FEW_TILES},
        {BN_OCL_K_TERNARY_TILES_DOT, BN_OCL_K_TERNARY_FEW_TILES_DOT},
    };
    const bool few = is_few(j);
    return BN_OCL_LAUNCH(
        ocl, kernels[bn_ocl_uses(ocl, BN_OPENCL_DOT)][few],
        bn_ceil_div(j->O, few ? FEW_OUTPUTS : TILE), few ? 1 : bn_ceil_div(j->R, TILE), 1,
        BN_OCL_T(&c->in[0]), BN_OCL_T(&c->in[1]), BN_OCL_T(&c->in[2]), BN_OCL_T(&c->in[3]),
        BN_OCL_T(&c->in[4]), BN_OCL_T(&c->out[0]), BN_OCL_I(j->R), BN_OCL_I(j->O), BN_OCL_I(j->I),
        BN_OCL_I(j->group), BN_OCL_I(j->groups), BN_OCL_I(j->one_step), BN_OCL_I(j->one_scale));
}

/* x codes i8 [R,I], step [R] or [1], weight codes t2 [O,I], scale, bias [O] or
 * absent -> y [R,O] */
static bn_status forward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    job j = job_of(c);
    BN_TRY(check(ocl, &j));
    if (ocl->cpu_shape)
        return is_few(&j) ? forward_few(ocl, c, &j) : forward_panels(ocl, c, &j);
    if (bn_ocl_uses(ocl, BN_OPENCL_MMA_S8) && !is_few(&j))
        return forward_mma(ocl, c, &j);
    return forward_tiles(ocl, c, &j);
}

/* ---- backward --------------------------------------------------------------
 *
 * A product is dy, or with bf16 a rounded copy that has the factor of
 * the summed index, times decoded codes. dx takes one product for all columns,
 * or one for each group of columns. */

static bool is_bf16(const bn_op_call *c)
{
    return c->params->weight.backward == BN_BACKWARD_BF16;
}

/* Columns that one product of dx makes at most. */
static int64_t columns_of(const bn_op_call *c, const job *j)
{
    return is_bf16(c) ? j->group : j->I;
}

/* dx = dy w: [R,O] [O,n_cols] */
static bn_ocl_gemm input_product(const bn_ocl *ocl, const bn_op_call *c, const job *j,
                                 int64_t n_cols)
{
    return (bn_ocl_gemm){.M = j->R,
                         .N = n_cols,
                         .K = j->O,
                         .a = c->dout,
                         .ld_a = j->O,
                         .ld_b = n_cols,
                         .b_across = true,
                         .b_panels = ocl->cpu_shape,
                         .c = c->din[0],
                         .ld_c = j->I,
                         .add = c->accumulate[0]};
}

/* dw = dy^T x: [O,R] [R,I] */
static bn_ocl_gemm weight_product(const bn_ocl *ocl, const bn_op_call *c, const job *j)
{
    return (bn_ocl_gemm){.M = j->O,
                         .N = j->I,
                         .K = j->R,
                         .a = c->dout,
                         .ld_a = j->O,
                         .a_across = true,
                         .ld_b = j->I,
                         .b_across = true,
                         .b_panels = ocl->cpu_shape,
                         .c = c->din[2],
                         .ld_c = j->I,
                         .add = c->accumulate[2]};
}

/* The panels of a product, or in the GPU shape its decoded operand b. */
static size_t product_bytes(const bn_ocl *ocl, const bn_ocl_gemm *g)
{
    return ocl->cpu_shape ? bn_ocl_gemm_scratch(ocl, g->M, g->N, g->K)
                          : bn_align_up((size_t)(g->N * g->K) * sizeof(float), BN_ALIGN);
}

static size_t rounded_bytes(const bn_op_call *c, const job *j)
{
    return is_bf16(c) ? bn_align_up((size_t)(j->R * j->O) * sizeof(float), BN_ALIGN) : 0;
}

/* ---- backward on tensor cores (mma_backward.cl) ---------------------------- */

enum { MMA_TILE = 128, MMA_SLICE = 32, MMA_COLUMNS = 64 };

static bool backward_is_mma(const bn_ocl *ocl, const bn_op_call *c, const job *j)
{
    return bn_ocl_uses(ocl, BN_OPENCL_MMA_BF16) && is_bf16(c) &&
           (j->groups == 1 || j->group % MMA_COLUMNS == 0);
}

static int64_t up_to_slices(int64_t depth)
{
    return bn_ceil_div(depth, MMA_SLICE) * MMA_SLICE;
}

/* Room for the factors of both products, one after the other. */
static size_t mma_scratch(const job *j)
{
    const int64_t dx = j->groups * up_to_slices(j->O), dw = up_to_slices(j->R);
    return (size_t)(dx > dw ? dx : dw) * sizeof(float);
}

static bn_status mma_factors(bn_ocl *ocl, const bn_op_call *c, const bn_tensor *from, int64_t depth,
                             int64_t groups, bool one)
{
    const int64_t padded = up_to_slices(depth);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_MMA_FACTORS, bn_ceil_div(padded, 64), groups, 1,
                         BN_OCL_T(from), BN_OCL_T(&c->scratch), BN_OCL_I(depth), BN_OCL_I(padded),
                         BN_OCL_I(groups), BN_OCL_I(one));
}

static bn_status mma_input_gradient(bn_ocl *ocl, const bn_op_call *c, const job *j)
{
    const bool whole = c->dout.offset % 16 == 0 && j->O % 4 == 0;
    BN_TRY(mma_factors(ocl, c, &c->in[3], j->O, j->groups, j->one_scale));
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_MMA_DX, bn_ceil_div(j->I, MMA_TILE),
                         bn_ceil_div(j->R, MMA_TILE), 1, BN_OCL_T(&c->dout), BN_OCL_T(&c->scratch),
                         BN_OCL_T(&c->in[2]), BN_OCL_T(&c->din[0]), BN_OCL_I(j->R), BN_OCL_I(j->I),
                         BN_OCL_I(j->O), BN_OCL_I(up_to_slices(j->O)), BN_OCL_I(j->group),
                         BN_OCL_I(j->groups), BN_OCL_I(c->accumulate[0]), BN_OCL_I(whole));
}

static bn_status mma_weight_gradient(bn_ocl *ocl, const bn_op_call *c, const job *j)
{
    const bool whole = c->in[0].offset % 4 == 0 && j->I % 4 == 0;
    BN_TRY(mma_factors(ocl, c, &c->in[1], j->R, 1, j->one_step));
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_MMA_DW, bn_ceil_div(j->I, MMA_TILE),
                         bn_ceil_div(j->O, MMA_TILE), 1, BN_OCL_T(&c->dout), BN_OCL_T(&c->scratch),
                         BN_OCL_T(&c->in[0]), BN_OCL_T(&c->din[2]), BN_OCL_I(j->O), BN_OCL_I(j->I),
                         BN_OCL_I(j->R), BN_OCL_I(up_to_slices(j->R)), BN_OCL_I(c->accumulate[2]),
                         BN_OCL_I(whole));
}

/* ---- backward in float products ---------------------------------------------- */

static size_t backward_scratch(const bn_backend *backend, const bn_op_call *c)
{
    const bn_ocl *ocl = bn_ocl_of(backend);
    job j = job_of(c);
    if (backward_is_mma(ocl, c, &j))
        return mma_scratch(&j);
    bn_ocl_gemm dx = input_product(ocl, c, &j, columns_of(c, &j)), dw = weight_product(ocl, c, &j);
    size_t a = product_bytes(ocl, &dx), b = product_bytes(ocl, &dw);
    return rounded_bytes(c, &j) + (a > b ? a : b);
}

/* The two parts of the scratch that a product needs: all of its own, and of that
 * where operand b goes. */
static bn_tensor product_part(const bn_ocl *ocl, const bn_op_call *c, const job *j, bn_ocl_gemm *g)
{
    const size_t bytes = product_bytes(ocl, g), skip = bn_ocl_a_panels(ocl, g->M, g->K);
    const bn_tensor part = bn_ocl_part(&c->scratch, rounded_bytes(c, j), bytes);
    g->b = bn_ocl_part(&part, skip, bytes - skip);
    return part;
}

/* g->a = bf16(dy factor[first + r by_row + o by_column]) */
static bn_status round_dy(bn_ocl *ocl, const bn_op_call *c, const job *j, const bn_tensor *factor,
                          int64_t first, int64_t by_row, int64_t by_column, bn_ocl_gemm *g)
{
    g->a = bn_ocl_part(&c->scratch, 0, rounded_bytes(c, j));
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_TERNARY_ROUND, j->R, 1, 1, BN_OCL_T(&c->dout),
                         BN_OCL_T(factor), BN_OCL_T(&g->a), BN_OCL_I(j->O), BN_OCL_I(first),
                         BN_OCL_I(by_row), BN_OCL_I(by_column));
}

/* Columns i0 .. i0+n-1 of dx; with bf16 they are one group. */
static bn_status input_columns(bn_ocl *ocl, const bn_op_call *c, const job *j, int64_t i0,
                               int64_t n)
{
    const bool bf16 = is_bf16(c);
    bn_ocl_gemm g = input_product(ocl, c, j, n);
    const bn_tensor part = product_part(ocl, c, j, &g);
    const bn_tensor *scale = bf16 ? NULL : &c->in[3];
    g.c.offset += (size_t)i0 * sizeof(float);
    if (bf16)
        BN_TRY(round_dy(ocl, c, j, &c->in[3], j->one_scale ? 0 : i0 / j->group, 0,
                        j->one_scale ? 0 : j->groups, &g));
    BN_TRY(BN_OCL_LAUNCH(
        ocl, ocl->cpu_shape ? BN_OCL_K_TERNARY_WEIGHT_PANELS : BN_OCL_K_TERNARY_WEIGHT_FLOATS,
        bn_ceil_div(n, ocl->cpu_shape ? BN_OCL_NR : 4 * FLOATS_GROUP), ocl->cpu_shape ? 1 : j->O, 1,
        BN_OCL_T(&c->in[2]), BN_OCL_T(scale), BN_OCL_T(&g.b), BN_OCL_I(j->O), BN_OCL_I(j->I),
        BN_OCL_I(j->group), BN_OCL_I(j->groups), BN_OCL_I(j->one_scale), BN_OCL_I(i0),
        BN_OCL_I(n)));
    return bn_ocl_gemm_run(ocl, &g, &part);
}

static bn_status input_gradient(bn_ocl *ocl, const bn_op_call *c, const job *j)
{
    const int64_t columns = columns_of(c, j);
    for (int64_t i0 = 0; i0 < j->I; i0 += columns)
        BN_TRY(input_columns(ocl, c, j, i0, columns < j->I - i0 ? columns : j->I - i0));
    return BN_OK;
}

static bn_status weight_gradient(bn_ocl *ocl, const bn_op_call *c, const job *j)
{
    const bool bf16 = is_bf16(c);
    bn_ocl_gemm g = weight_product(ocl, c, j);
    const bn_tensor part = product_part(ocl, c, j, &g);
    if (bf16)
        BN_TRY(round_dy(ocl, c, j, &c->in[1], 0, j->one_step ? 0 : 1, 0, &g));
    BN_TRY(BN_OCL_LAUNCH(
        ocl, ocl->cpu_shape ? BN_OCL_K_TERNARY_X_PANELS : BN_OCL_K_TERNARY_X_FLOATS,
        bn_ceil_div(j->I, ocl->cpu_shape ? BN_OCL_NR : 4 * FLOATS_GROUP), ocl->cpu_shape ? 1 : j->R,
        1, BN_OCL_T(&c->in[0]), BN_OCL_T(bf16 ? NULL : &c->in[1]), BN_OCL_T(&g.b), BN_OCL_I(j->R),
        BN_OCL_I(j->I), BN_OCL_I(j->one_step)));
    return bn_ocl_gemm_run(ocl, &g, &part);
}

/* dy [R,O] -> gradients of the real-valued activation, of the real-valued
 * weight and of the bias */
static bn_status backward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    job j = job_of(c);
    BN_TRY(check(ocl, &j));
    const bool mma = backward_is_mma(ocl, c, &j);
    if (bn_tensor_present(&c->din[0]))
        BN_TRY(mma ? mma_input_gradient(ocl, c, &j) : input_gradient(ocl, c, &j));
    if (bn_tensor_present(&c->din[2]))
        BN_TRY(mma ? mma_weight_gradient(ocl, c, &j) : weight_gradient(ocl, c, &j));
    if (bn_tensor_present(&c->din[4]))
        BN_TRY(bn_ocl_column_sums(ocl, &c->dout, j.R, j.O, &c->din[4], c->accumulate[4]));
    return BN_OK;
}

void bn_ocl_rows_bitlinear(bn_backend *backend)
{
    bn_ocl_set_row(backend, BN_OP_BITLINEAR, forward, backward);
    backend->rows[BN_OP_BITLINEAR].forward_scratch = forward_scratch;
    backend->rows[BN_OP_BITLINEAR].backward_scratch = backward_scratch;
}
