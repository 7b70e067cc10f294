/* LINEAR_CROSS_ENTROPY: the logits of one chunk of rows at a time, each chunk in
 * small tiles of rows that stay in cache; backward makes them again. */
#include "cpu/blas/blas.h"

enum {
    TILE_ROWS = 64,
    TILE_FLOATS = 1 << 18, /* logits of a tile: 1 MiB */
    VOCAB_ROWS = 64,       /* rows of dweight in a chunk */
};

typedef struct lce_job {
    const bn_rowops *ops;
    const bn_op_call *call;
    int64_t R, V, D, tile;
    int64_t row0, rows; /* of the chunk in work (backward) */
    const float *x, *weight, *lse;
    const int32_t *labels;
    float *logits; /* forward: [tile,V] of each worker; backward: [chunk,V] */
    double *loss;  /* [R] */
    float factor;
} lce_job;

static lce_job job_of(const bn_backend *backend, const bn_op_call *c)
{
    lce_job j = {.ops = bn_fast_ops(backend),
                 .call = c,
                 .R = bn_tensor_rows(&c->in[0]),
                 .V = c->in[1].shape[0],
                 .D = c->in[1].shape[1]};
    j.tile = bn_fast_min(TILE_ROWS, TILE_FLOATS / j.V);
    j.tile = j.tile < 4 ? 4 : j.tile;
    return j;
}

static void set_memory(lce_job *j)
{
    const bn_op_call *c = j->call;
    j->x = bn_fast_in(c, 0);
    j->weight = bn_fast_in(c, 1);
    j->labels = bn_fast_data(&c->in[2]);
    j->loss = bn_fast_data(&c->scratch);
    j->logits = (float *)(j->loss + j->R);
}

static int64_t chunk_rows(const lce_job *j)
{
    int64_t rows = j->call->params->cross_entropy.chunk_rows;
    return rows > 0 ? bn_fast_min(rows, j->R) : j->R;
}

/* Room for the loss of each row, then for the logits of forward (a tile for
 * each worker) or backward (a chunk). */
size_t bn_blas_linear_cross_entropy_scratch(const bn_backend *backend, const bn_op_call *c)
{
    lce_job j = job_of(backend, c);
    int64_t rows = bn_fast_workers(backend) * j.tile, chunk = chunk_rows(&j);
    return (size_t)j.R * sizeof(double) +
           (size_t)((rows > chunk ? rows : chunk) * j.V) * sizeof(float);
}

static void logits_of(const lce_job *j, int64_t r, int64_t rows, float *logits)
{
    bn_gemm_run(&(bn_gemm){.M = rows,
                           .N = j->V,
                           .K = j->D,
                           .a = j->x + r * j->D,
                           .ld_a = j->D,
                           .b = j->weight,
                           .ld_b = j->D,
                           .transpose_b = true,
                           .c = logits,
                           .ld_c = j->V});
}

static void forward(void *arg, int64_t r, int64_t end, int worker)
{
    const lce_job *j = arg;
    float *logits = j->logits + worker * j->tile * j->V, *lse = bn_fast_out(j->call, 1) + r;
    logits_of(j, r, end - r, logits);
    j->ops->log_sum_exp(end - r, j->V, logits, lse);
    for (int64_t i = 0; i < end - r; i++) {
        int32_t label = j->labels[r + i];
        j->loss[r + i] = label == j->call->params->cross_entropy.ignore_index
                             ? 0
                             : (double)lse[i] - (double)logits[i * j->V + label];
    }
}

/* x [R,D], weight [V,D], labels i32 [R] -> loss [1], log-sum-exp [R] */
bn_status bn_blas_linear_cross_entropy_forward(bn_backend *backend, const bn_op_call *c)
{
    lce_job j = job_of(backend, c);
    int64_t count;
    double sum = 0;
    set_memory(&j);
    BN_TRY(bn_gemm_check(&(bn_gemm){.M = j.R, .N = j.V, .K = j.D}));
    BN_TRY(bn_fast_count_labels(c, j.labels, j.R, j.V, &count));
    bn_fast_ranges(backend, j.R, j.tile, forward, &j);
    for (int64_t r = 0; r < j.R; r++)
        sum += j.loss[r];
    bn_fast_out(c, 0)[0] = (float)(count > 0 ? sum / (double)count : 0);
    return BN_OK;
}

/* Logits of some rows of the chunk -> their gradient, and dx. */
static void rows_backward(void *arg, int64_t i, int64_t end, int worker)
{
    (void)worker;
    const lce_job *j = arg;
    const bn_op_call *c = j->call;
    int64_t r = j->row0 + i, rows = end - i;
    float *d = j->logits + i * j->V, *dx = bn_fast_din(c, 0);
    logits_of(j, r, rows, d);
    j->ops->cross_entropy_backward(rows, j->V, d, j->lse + r, j->labels + r,
                                   c->params->cross_entropy.ignore_index, j->factor, d, false);
    if (dx)
        bn_gemm_run(&(bn_gemm){.M = rows,
                               .N = j->D,
                               .K = j->V,
                               .a = d,
                               .ld_a = j->V,
                               .b = j->weight,
                               .ld_b = j->D,
                               .c = dx + r * j->D,
                               .ld_c = j->D,
                               .add = c->accumulate[0]});
}

/* Rows v..end-1 of dweight += dlogits^T x over the chunk. */
static void weight_backward(void *arg, int64_t v, int64_t end, int worker)
{
    (void)worker;
    const lce_job *j = arg;
    bn_gemm_run(&(bn_gemm){.M = end - v,
                           .N = j->D,
                           .K = j->rows,
                           .a = j->logits + v,
                           .ld_a = j->V,
                           .transpose_a = true,
                           .b = j->x + j->row0 * j->D,
                           .ld_b = j->D,
                           .c = bn_fast_din(j->call, 1) + v * j->D,
                           .ld_c = j->D,
                           .add = j->call->accumulate[1] || j->row0 > 0});
}

bn_status bn_blas_linear_cross_entropy_backward(bn_backend *backend, const bn_op_call *c)
{
    lce_job j = job_of(backend, c);
    int64_t count;
    set_memory(&j);
    j.lse = bn_fast_data(&c->out[1]);
    BN_TRY(bn_gemm_check(&(bn_gemm){.M = j.R, .N = j.V, .K = j.D}));
    BN_TRY(bn_fast_count_labels(c, j.labels, j.R, j.V, &count));
    const float *dloss = bn_fast_data(&c->dout);
    j.factor = count > 0 ? (float)((double)dloss[0] / (double)count) : 0.0f;
    for (j.row0 = 0; j.row0 < j.R; j.row0 += chunk_rows(&j)) {
        j.rows = bn_fast_min(chunk_rows(&j), j.R - j.row0);
        bn_fast_ranges(backend, j.rows, j.tile, rows_backward, &j);
        if (bn_tensor_present(&c->din[1]))
            bn_fast_ranges(backend, j.V, VOCAB_ROWS, weight_backward, &j);
    }
    return BN_OK;
}
