/* Muon (backend/backend.h): Newton-Schulz by float products over threads.
 *
 * Tiles and chunks depend on the matrix's shape alone. */
#include "cpu/blas/blas.h"

#include <math.h>

typedef struct muon_job {
    const float *grad;
    float *param, *m;
    float *x, *y;         /* [rows,cols]: the iterate and the next one */
    float *gram, *square; /* [side,side] */
    int64_t rows, cols, side;
    float clip, momentum, rest, factor, decay;
} muon_job;

static void look_ahead(void *arg, int64_t i, int64_t end, int worker)
{
    (void)worker;
    const muon_job *j = arg;
    for (; i < end; i++) {
        const float g = j->clip * j->grad[i];
        const float m = j->momentum * j->m[i] + j->rest * g;
        j->m[i] = m;
        j->x[i] = j->momentum * m + j->rest * g;
    }
}

static void polynomial(void *arg, int64_t i, int64_t end, int worker)
{
    (void)worker;
    const muon_job *j = arg;
    for (; i < end; i++)
        j->square[i] = (float)BN_MUON_B * j->gram[i] + (float)BN_MUON_C * j->square[i];
}

/* y = factor x */
static void scaled(void *arg, int64_t i, int64_t end, int worker)
{
    (void)worker;
    const muon_job *j = arg;
    for (; i < end; i++)
        j->y[i] = j->factor * j->x[i];
}

static void update(void *arg, int64_t i, int64_t end, int worker)
{
    (void)worker;
    const muon_job *j = arg;
    for (; i < end; i++) {
        const float p = j->param[i] - j->decay * j->param[i];
        j->param[i] = p - j->factor * j->x[i];
    }
}

static void swap(muon_job *j)
{
    float *x = j->x;
    j->x = j->y;
    j->y = x;
}

/* gram = X X^T or, where X is tall, X^T X */
static bn_status gram(const bn_backend *backend, const muon_job *j)
{
    const bool tall = j->rows > j->cols;
    return bn_gemm_parallel(backend, &(bn_gemm){.M = j->side,
                                                .N = j->side,
                                                .K = tall ? j->rows : j->cols,
                                                .a = j->x,
                                                .ld_a = j->cols,
                                                .transpose_a = tall,
                                                .b = j->x,
                                                .ld_b = j->cols,
                                                .transpose_b = !tall,
                                                .c = j->gram,
                                                .ld_c = j->side});
}

/* y += square X or, where X is tall, X square */
static bn_status advance(const bn_backend *backend, const muon_job *j)
{
    const bool tall = j->rows > j->cols;
    return bn_gemm_parallel(backend, &(bn_gemm){.M = j->rows,
                                                .N = j->cols,
                                                .K = j->side,
                                                .a = tall ? j->x : j->square,
                                                .ld_a = j->side,
                                                .b = tall ? j->square : j->x,
                                                .ld_b = j->cols,
                                                .c = j->y,
                                                .ld_c = j->cols,
                                                .add = true});
}

static bn_status newton_schulz(const bn_backend *backend, muon_job *j)
{
    j->factor = (float)BN_MUON_A;
    for (int step = 0; step < BN_MUON_STEPS; step++) {
        BN_TRY(gram(backend, j));
        BN_TRY(bn_gemm_parallel(backend, &(bn_gemm){.M = j->side,
                                                    .N = j->side,
                                                    .K = j->side,
                                                    .a = j->gram,
                                                    .ld_a = j->side,
                                                    .b = j->gram,
                                                    .ld_b = j->side,
                                                    .c = j->square,
                                                    .ld_c = j->side}));
        bn_fast_ranges(backend, j->side * j->side, BN_CHUNK_ELEMENTS, polynomial, j);
        bn_fast_ranges(backend, j->rows * j->cols, BN_CHUNK_ELEMENTS, scaled, j);
        BN_TRY(advance(backend, j));
        swap(j);
    }
    return BN_OK;
}

bn_status bn_blas_muon(bn_backend *backend, const bn_muon *o, const bn_tensor *param,
                       const bn_tensor *grad, const bn_tensor *m, const bn_tensor *norm,
                       const bn_tensor *scratch)
{
    const int64_t rows = param->shape[0], cols = param->shape[1], n = rows * cols;
    const int64_t side = bn_fast_min(rows, cols);
    float length, *x = bn_fast_data(scratch);
    muon_job j = {.grad = bn_fast_data(grad),
                  .param = bn_fast_data(param),
                  .m = bn_fast_data(m),
                  .x = x,
                  .y = x + n,
                  .gram = x + 2 * n,
                  .square = x + 2 * n + side * side,
                  .rows = rows,
                  .cols = cols,
                  .side = side,
                  .clip = (float)bn_clip_factor(o->clip, (double)*(float *)bn_fast_data(norm)),
                  .momentum = (float)o->momentum,
                  .rest = (float)(1 - o->momentum)};
    bn_fast_ranges(backend, n, BN_CHUNK_ELEMENTS, look_ahead, &j);
    bn_buffer at = {.host = &length, .bytes = sizeof length};
    const bn_tensor whole = bn_tensor_at(bn_tensor_1d(BN_F32, n), scratch->buffer, scratch->offset);
    const bn_tensor length_of = bn_tensor_at(bn_tensor_1d(BN_F32, 1), &at, 0);
    BN_TRY(bn_fast_norm(backend, &whole, &length_of));
    j.factor = (float)(1 / ((double)length + 1e-7));
    bn_fast_ranges(backend, n, BN_CHUNK_ELEMENTS, scaled, &j);
    swap(&j);
    BN_TRY(newton_schulz(backend, &j));
    j.decay = (float)(o->lr * o->weight_decay);
    j.factor = (float)(o->lr * sqrt(fmax(1, (double)rows / (double)cols)));
    bn_fast_ranges(backend, n, BN_CHUNK_ELEMENTS, update, &j);
    return BN_OK;
}
