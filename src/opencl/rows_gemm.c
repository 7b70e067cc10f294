/* LINEAR and MATMUL, and the products that other families use. */
#include "opencl/gemm.h"

#include "base/checked.h"

enum {
    FEW_ROWS = 4, /* of a product that reads its operands as they are */
};

size_t bn_ocl_a_panels(const bn_ocl *ocl, int64_t M, int64_t K)
{
    return ocl->cpu_shape
               ? bn_align_up((size_t)(bn_ceil_div(M, BN_OCL_MR) * BN_OCL_MR * K) * sizeof(float),
                             BN_ALIGN)
               : 0;
}

size_t bn_ocl_b_panels(const bn_ocl *ocl, int64_t N, int64_t K)
{
    return ocl->cpu_shape
               ? bn_align_up((size_t)(bn_ceil_div(N, BN_OCL_NR) * BN_OCL_NR * K) * sizeof(float),
                             BN_ALIGN)
               : 0;
}

size_t bn_ocl_gemm_scratch(const bn_ocl *ocl, int64_t M, int64_t N, int64_t K)
{
    return bn_ocl_a_panels(ocl, M, K) + bn_ocl_b_panels(ocl, N, K);
}

/* The kernels count lines and depth in 32 bits. */
static bn_status check(const bn_ocl *ocl, const bn_ocl_gemm *g)
{
    if (g->M > INT32_MAX / 2 || g->N > INT32_MAX / 2 || g->K > INT32_MAX / 2)
        return bn_error(BN_FAIL, "%s: product of [%lld,%lld] and [%lld,%lld], a dimension takes %d",
                        ocl->name, (long long)g->M, (long long)g->K, (long long)g->K,
                        (long long)g->N, INT32_MAX / 2);
    return BN_OK;
}

/* Blocks are halved until there are some for every core. */
static void choose_block(const bn_ocl *ocl, const bn_ocl_gemm *g, int64_t *m, int64_t *n)
{
    int64_t wanted =
        bn_ocl_choice(ocl, BN_OCL_C_BLOCKS_PER_CORE) * (int64_t)ocl->device.compute_units;
    int64_t all_m = bn_ceil_div(g->M, BN_OCL_MR), all_n = bn_ceil_div(g->N, BN_OCL_NR);
    *m = bn_ocl_choice(ocl, BN_OCL_C_GEMM_PANELS_M);
    *n = bn_ocl_choice(ocl, BN_OCL_C_GEMM_PANELS_N);
    while (bn_ceil_div(all_m, *m) * bn_ceil_div(all_n, *n) < wanted && (*m > 2 || *n > 1)) {
        if (*m > 2 * *n || *n == 1)
            *m /= 2;
        else
            *n /= 2;
    }
}

static bn_status run_panels(bn_ocl *ocl, const bn_ocl_gemm *g, const bn_tensor *scratch)
{
    size_t a_bytes = bn_ocl_a_panels(ocl, g->M, g->K), b_bytes = bn_ocl_b_panels(ocl, g->N, g->K);
    bn_tensor a = g->a, b = g->b;
    int64_t panels_m, panels_n;
    if (!g->a_panels) {
        a = bn_ocl_part(scratch, 0, a_bytes);
        BN_TRY(BN_OCL_LAUNCH(ocl, BN_OCL_K_GEMM_PACK_A, bn_ceil_div(g->M, BN_OCL_MR), 1, 1,
                             BN_OCL_T(&g->a), BN_OCL_T(&a), BN_OCL_I(g->M), BN_OCL_I(g->K),
                             BN_OCL_L(g->ld_a), BN_OCL_I(g->a_across)));
    }
    if (!g->b_panels) {
        b = bn_ocl_part(scratch, a_bytes, b_bytes);
        BN_TRY(BN_OCL_LAUNCH(ocl, BN_OCL_K_GEMM_PACK_B, bn_ceil_div(g->N, BN_OCL_NR), 1, 1,
                             BN_OCL_T(&g->b), BN_OCL_T(&b), BN_OCL_I(g->N), BN_OCL_I(g->K),
                             BN_OCL_L(g->ld_b), BN_OCL_I(g->b_across)));
    }
    choose_block(ocl, g, &panels_m, &panels_n);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_GEMM_PANELS, bn_ceil_div(g->M, BN_OCL_MR * panels_m),
                         bn_ceil_div(g->N, BN_OCL_NR * panels_n), 1, BN_OCL_T(&a), BN_OCL_T(&b),
                         BN_OCL_T(&g->c), BN_OCL_T(&g->bias), BN_OCL_I(g->M), BN_OCL_I(g->N),
                         BN_OCL_I(g->K), BN_OCL_L(g->ld_c), BN_OCL_I(g->add), BN_OCL_I(panels_m),
                         BN_OCL_I(panels_n));
}

/* Whether every float4 along an operand's contiguous direction is whole and
 * aligned: then it is loaded as one. */
static bool whole(const bn_tensor *t, int64_t ld, int64_t contiguous)
{
    return t->offset % 16 == 0 && ld % 4 == 0 && contiguous % 4 == 0;
}

static bn_status run_tiles(bn_ocl *ocl, const bn_ocl_gemm *g)
{
    int64_t large = bn_ceil_div(g->M, 128) * bn_ceil_div(g->N, 128);
    int64_t enough = bn_ocl_choice(ocl, BN_OCL_C_GEMM_LARGE) * (int64_t)ocl->device.compute_units;
    int64_t tile = large >= enough ? 128 : 64;
    static const bn_ocl_kernel_id kernels[2][3] = {
        {BN_OCL_K_GEMM_NT_64, BN_OCL_K_GEMM_NN_64, BN_OCL_K_GEMM_TN_64},
        {BN_OCL_K_GEMM_NT_128, BN_OCL_K_GEMM_NN_128, BN_OCL_K_GEMM_TN_128},
    };
    int bits = (whole(&g->a, g->ld_a, g->a_across ? g->M : g->K) ? 1 : 0) |
               (whole(&g->b, g->ld_b, g->b_across ? g->N : g->K) ? 2 : 0);
    return BN_OCL_LAUNCH(ocl, kernels[tile == 128][g->a_across ? 2 : g->b_across],
                         bn_ceil_div(g->N, tile), bn_ceil_div(g->M, tile), 1, BN_OCL_T(&g->a),
                         BN_OCL_T(&g->b), BN_OCL_T(&g->c), BN_OCL_T(&g->bias), BN_OCL_I(g->M),
                         BN_OCL_I(g->N), BN_OCL_I(g->K), BN_OCL_L(g->ld_a), BN_OCL_L(g->ld_b),
                         BN_OCL_L(g->ld_c), BN_OCL_I(g->add), BN_OCL_I(bits));
}

/* A product of few rows with a weight (decoding) is bound by reading the weight. */
static bool is_few(const bn_ocl_gemm *g)
{
    return g->M <= FEW_ROWS && !g->a_across && !g->b_across && g->ld_a == g->K && g->ld_b == g->K &&
           g->ld_c == g->N && !g->a_panels && !g->b_panels && !g->add;
}

static bn_status run_few(bn_ocl *ocl, const bn_ocl_gemm *g)
{
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_GEMM_FEW, bn_ceil_div(g->N, ocl->cpu_shape ? 16 : 4), 1, 1,
                         BN_OCL_T(&g->a), BN_OCL_T(&g->b), BN_OCL_T(&g->c), BN_OCL_T(&g->bias),
                         BN_OCL_I(g->M), BN_OCL_I(g->N), BN_OCL_I(g->K));
}

bn_status bn_ocl_gemm_run(bn_ocl *ocl, const bn_ocl_gemm *g, const bn_tensor *scratch)
{
    BN_TRY(check(ocl, g));
    if (is_few(g))
        return run_few(ocl, g);
    return ocl->cpu_shape ? run_panels(ocl, g, scratch) : run_tiles(ocl, g);
}

bn_status bn_ocl_column_sums(bn_ocl *ocl, const bn_tensor *x, int64_t M, int64_t N,
                             const bn_tensor *sum, bool add)
{
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_COLUMN_SUMS, bn_ceil_div(N, ocl->cpu_shape ? 16 : 32), 1, 1,
                         BN_OCL_T(x), BN_OCL_T(sum), BN_OCL_I(M), BN_OCL_I(N), BN_OCL_I(add));
}

/* ---- LINEAR ------------------------------------------------------------------- */

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t linear_forward_scratch(const bn_backend *backend, const bn_op_call *c)
{
    return bn_ocl_gemm_scratch(bn_ocl_of(backend), bn_tensor_rows(&c->in[0]), c->in[1].shape[0],
                               c->in[1].shape[1]);
}

/* x [R,I], w [O,I], bias [O] or absent -> y [R,O] = x w^T + bias */
static bn_status linear_forward(bn_backend *backend, const bn_op_call *c)
{
    int64_t R = bn_tensor_rows(&c->in[0]), I = c->in[1].shape[1], O = c->in[1].shape[0];
    return bn_ocl_gemm_run(bn_ocl_of(backend),
                           &(bn_ocl_gemm){.M = R,
                                          .N = O,
                                          .K = I,
                                          .a = c->in[0],
                                          .ld_a = I,
                                          .b = c->in[1],
                                          .ld_b = I,
                                          .c = c->out[0],
                                          .ld_c = O,
                                          .bias = c->in[2]},
                           &c->scratch);
}

static size_t linear_backward_scratch(const bn_backend *backend, const bn_op_call *c)
{
    const bn_ocl *ocl = bn_ocl_of(backend);
    int64_t R = bn_tensor_rows(&c->in[0]), I = c->in[1].shape[1], O = c->in[1].shape[0];
    return larger(bn_ocl_gemm_scratch(ocl, R, I, O), bn_ocl_gemm_scratch(ocl, O, I, R));
}

/* dy [R,O] -> dx = dy w, dw = dy^T x, dbias = column sums of dy */
static bn_status linear_backward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t R = bn_tensor_rows(&c->in[0]), I = c->in[1].shape[1], O = c->in[1].shape[0];
    if (bn_tensor_present(&c->din[0]))
        BN_TRY(bn_ocl_gemm_run(ocl,
                               &(bn_ocl_gemm){.M = R,
                                              .N = I,
                                              .K = O,
                                              .a = c->dout,
                                              .ld_a = O,
                                              .b = c->in[1],
                                              .ld_b = I,
                                              .b_across = true,
                                              .c = c->din[0],
                                              .ld_c = I,
                                              .add = c->accumulate[0]},
                               &c->scratch));
    if (bn_tensor_present(&c->din[1]))
        BN_TRY(bn_ocl_gemm_run(ocl,
                               &(bn_ocl_gemm){.M = O,
                                              .N = I,
                                              .K = R,
                                              .a = c->dout,
                                              .ld_a = O,
                                              .a_across = true,
                                              .b = c->in[0],
                                              .ld_b = I,
                                              .b_across = true,
                                              .c = c->din[1],
                                              .ld_c = I,
                                              .add = c->accumulate[1]},
                               &c->scratch));
    if (bn_tensor_present(&c->din[2]))
        BN_TRY(bn_ocl_column_sums(ocl, &c->dout, R, O, &c->din[2], c->accumulate[2]));
    return BN_OK;
}

/* ---- MATMUL ------------------------------------------------------------------- */

static size_t matmul_forward_scratch(const bn_backend *backend, const bn_op_call *c)
{
    return bn_ocl_gemm_scratch(bn_ocl_of(backend), c->in[0].shape[0], c->in[1].shape[1],
                               c->in[0].shape[1]);
}

/* a [M,K], b [K,N] -> y [M,N] = a b */
static bn_status matmul_forward(bn_backend *backend, const bn_op_call *c)
{
    int64_t M = c->in[0].shape[0], K = c->in[0].shape[1], N = c->in[1].shape[1];
    return bn_ocl_gemm_run(bn_ocl_of(backend),
                           &(bn_ocl_gemm){.M = M,
                                          .N = N,
                                          .K = K,
                                          .a = c->in[0],
                                          .ld_a = K,
                                          .b = c->in[1],
                                          .ld_b = N,
                                          .b_across = true,
                                          .c = c->out[0],
                                          .ld_c = N},
                           &c->scratch);
}

static size_t matmul_backward_scratch(const bn_backend *backend, const bn_op_call *c)
{
    const bn_ocl *ocl = bn_ocl_of(backend);
    int64_t M = c->in[0].shape[0], K = c->in[0].shape[1], N = c->in[1].shape[1];
    return larger(bn_ocl_gemm_scratch(ocl, M, K, N), bn_ocl_gemm_scratch(ocl, K, N, M));
}

/* dy [M,N] -> da = dy b^T, db = a^T dy */
static bn_status matmul_backward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t M = c->in[0].shape[0], K = c->in[0].shape[1], N = c->in[1].shape[1];
    if (bn_tensor_present(&c->din[0]))
        BN_TRY(bn_ocl_gemm_run(ocl,
                               &(bn_ocl_gemm){.M = M,
                                              .N = K,
                                              .K = N,
                                              .a = c->dout,
                                              .ld_a = N,
                                              .b = c->in[1],
                                              .ld_b = N,
                                              .c = c->din[0],
                                              .ld_c = K,
                                              .add = c->accumulate[0]},
                               &c->scratch));
    if (bn_tensor_present(&c->din[1]))
        BN_TRY(bn_ocl_gemm_run(ocl,
                               &(bn_ocl_gemm){.M = K,
                                              .N = N,
                                              .K = M,
                                              .a = c->in[0],
                                              .ld_a = K,
                                              .a_across = true,
                                              .b = c->dout,
                                              .ld_b = N,
                                              .b_across = true,
                                              .c = c->din[1],
                                              .ld_c = N,
                                              .add = c->accumulate[1]},
                               &c->scratch));
    return BN_OK;
}

void bn_ocl_rows_gemm(bn_backend *backend)
{
    bn_ocl_set_row(backend, BN_OP_LINEAR, linear_forward, linear_backward);
    backend->rows[BN_OP_LINEAR].forward_scratch = linear_forward_scratch;
    backend->rows[BN_OP_LINEAR].backward_scratch = linear_backward_scratch;
    bn_ocl_set_row(backend, BN_OP_MATMUL, matmul_forward, matmul_backward);
    backend->rows[BN_OP_MATMUL].forward_scratch = matmul_forward_scratch;
    backend->rows[BN_OP_MATMUL].backward_scratch = matmul_backward_scratch;
}
