/* One float product over threads. */
#include "cpu/blas/blas.h"

#include <cblas.h>
#include <limits.h>

enum {
    TILE_ROWS = 256, /* of c, where it has more than FEW_ROWS */
    TILE_COLS = 512,
    FEW_ROWS = 512,    /* c is cut into columns then: weight gradients, short batches */
    NARROW_COLS = 128, /* the most of such a tile */
    DEPTH = 256,       /* of one call: longer sums run faster in pieces */
};

int64_t bn_gemm_narrow_cols(int64_t cols)
{
    do
        cols = bn_ceil_div(bn_ceil_div(cols, 2), 32) * 32;
    while (cols > NARROW_COLS);
    return cols;
}

bn_status bn_gemm_check(const bn_gemm *g)
{
    const int64_t dims[] = {g->M, g->N, g->K, g->ld_a, g->ld_b, g->ld_c};
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++)
        if (dims[i] > INT_MAX)
            return bn_error(BN_FAIL, "matrix product: a dimension of %lld, OpenBLAS takes %d",
                            (long long)dims[i], INT_MAX);
    return BN_OK;
}

/* A single row, one token of a decode: b is read once and not repacked. */
static void run_row(const bn_gemm *g)
{
    int64_t rows = g->transpose_b ? g->N : g->K, cols = g->transpose_b ? g->K : g->N;
    cblas_sgemv(CblasRowMajor, g->transpose_b ? CblasNoTrans : CblasTrans, (blasint)rows,
                (blasint)cols, 1.0f, g->b, (blasint)g->ld_b, g->a,
                (blasint)(g->transpose_a ? g->ld_a : 1), g->add ? 1.0f : 0.0f, g->c, 1);
}

void bn_gemm_run(const bn_gemm *g)
{
    if (g->M == 1) {
        run_row(g);
        return;
    }
    for (int64_t k = 0; k < g->K; k += DEPTH) {
        const float *a = g->a + k * (g->transpose_a ? g->ld_a : 1);
        const float *b = g->b + k * (g->transpose_b ? 1 : g->ld_b);
        cblas_sgemm(CblasRowMajor, g->transpose_a ? CblasTrans : CblasNoTrans,
                    g->transpose_b ? CblasTrans : CblasNoTrans, (blasint)g->M, (blasint)g->N,
                    (blasint)bn_fast_min(DEPTH, g->K - k), 1.0f, a, (blasint)g->ld_a, b,
                    (blasint)g->ld_b, g->add || k > 0 ? 1.0f : 0.0f, g->c, (blasint)g->ld_c);
    }
}

typedef struct tiles {
    bn_gemm g;
    int64_t rows, cols, across; /* of a tile; tiles in a row of tiles */
} tiles;

static void run_tile(void *arg, int64_t chunk, int worker)
{
    (void)worker;
    const tiles *t = arg;
    bn_gemm g = t->g;
    int64_t m = chunk / t->across * t->rows, n = chunk % t->across * t->cols;
    g.M = bn_fast_min(t->rows, g.M - m);
    g.N = bn_fast_min(t->cols, g.N - n);
    g.a += m * (g.transpose_a ? 1 : g.ld_a);
    g.b += n * (g.transpose_b ? g.ld_b : 1);
    g.c += m * g.ld_c + n;
    bn_gemm_run(&g);
}

bn_status bn_gemm_parallel(const bn_backend *backend, const bn_gemm *g)
{
    BN_TRY(bn_gemm_check(g));
    tiles t = {.g = *g, .rows = TILE_ROWS, .cols = TILE_COLS};
    if (g->M <= FEW_ROWS) {
        t.rows = g->M;
        t.cols = bn_gemm_narrow_cols(g->N);
    }
    t.across = bn_ceil_div(g->N, t.cols);
    int64_t chunks = bn_ceil_div(g->M, t.rows) * t.across;
    if (chunks == 1)
        bn_gemm_run(g);
    else
        bn_parallel_for(bn_cpu_of(backend)->threads, chunks, run_tile, &t);
    return BN_OK;
}
