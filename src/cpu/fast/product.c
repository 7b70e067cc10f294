#include "cpu/fast/product.h"

enum {
    DEPTH = 256,      /* rows of a panel of b: 16 KiB of 16 columns */
    B_ROWS = 1024,    /* of b that lie packed, between two waits of the threads */
    BLOCK_ROWS = 96,  /* rows of a at once: 96 KiB */
    PIECES = 8,       /* that c is cut into, if its columns suffice */
    PIECE_COLS = 256, /* of a piece, at least */
};

typedef struct product_job {
    const bn_product *p;
    const bn_rowops *ops;
    float *b;                /* [B_ROWS / DEPTH] times the panels of `depth` rows */
    float *rooms, *a_blocks; /* of each worker */
    int64_t columns;         /* N, padded */
    int64_t k0, rows;        /* of b that lie packed */
    int64_t across, cols;    /* pieces side by side, and their columns */
} product_job;

static int64_t padded(int64_t cols)
{
    return bn_ceil_div(cols, BN_GEMM_MAX_COLS) * BN_GEMM_MAX_COLS;
}

int64_t bn_product_scratch(const bn_backend *backend, int64_t N, int64_t K)
{
    return bn_fast_min(B_ROWS, K) * padded(N) +
           bn_fast_workers(backend) * (padded(N) + BN_PRODUCT_ROOM + DEPTH * BLOCK_ROWS);
}

static void pack_rows(void *arg, int64_t k, int64_t end, int worker)
{
    const product_job *j = arg;
    float *room = j->rooms + worker * (j->columns + BN_PRODUCT_ROOM);
    for (; k < end; k++) {
        const int64_t from = k / DEPTH * DEPTH;
        j->ops->gemm_pack_b(j->p->N, bn_fast_min(DEPTH, j->rows - from), k - from,
                            j->p->row(j->p->arg, j->k0 + k, room), j->b + from * j->columns);
    }
}

/* The rows `from` and on of the packed ones: m0, n0 and rows x cols are of c. */
static void run_panels(const product_job *j, int64_t from, int64_t m0, int64_t rows, int64_t n0,
                       int64_t cols, float *block)
{
    const bn_product *p = j->p;
    const int64_t depth = bn_fast_min(DEPTH, j->rows - from), k = j->k0 + from;
    const int64_t wide = j->ops->gemm_cols;
    for (int64_t m = 0; m < rows; m += BN_GEMM_ROWS)
        j->ops->gemm_pack_a(bn_fast_min(BN_GEMM_ROWS, rows - m), depth,
                            p->a + (p->transposed ? k * p->ld_a + m0 + m : (m0 + m) * p->ld_a + k),
                            p->ld_a, p->transposed, block + m * depth);
    for (int64_t n = 0; n < cols; n += wide)
        for (int64_t m = 0; m < rows; m += BN_GEMM_ROWS)
            j->ops->gemm_tile(depth, block + m * depth, j->b + from * j->columns + (n0 + n) * depth,
                              p->c + (m0 + m) * p->ld_c + n0 + n, p->ld_c,
                              bn_fast_min(BN_GEMM_ROWS, rows - m), bn_fast_min(wide, cols - n),
                              p->add || k > 0);
}

static void run_piece(void *arg, int64_t chunk, int worker)
{
    const product_job *j = arg;
    const int64_t m0 = chunk / j->across * BLOCK_ROWS, n0 = chunk % j->across * j->cols;
    for (int64_t from = 0; from < j->rows; from += DEPTH)
        run_panels(j, from, m0, bn_fast_min(BLOCK_ROWS, j->p->M - m0), n0,
                   bn_fast_min(j->cols, j->p->N - n0), j->a_blocks + worker * DEPTH * BLOCK_ROWS);
}

void bn_product_run(const bn_backend *backend, const bn_product *p)
{
    const int64_t blocks = bn_ceil_div(p->M, BLOCK_ROWS);
    const int64_t pieces = bn_fast_min(bn_ceil_div(PIECES, blocks), p->N / PIECE_COLS);
    product_job j = {.p = p, .ops = bn_fast_ops(backend), .b = p->scratch, .columns = padded(p->N)};
    j.rooms = j.b + bn_fast_min(B_ROWS, p->K) * j.columns;
    j.a_blocks = j.rooms + bn_fast_workers(backend) * (j.columns + BN_PRODUCT_ROOM);
    j.cols = padded(bn_ceil_div(p->N, pieces > 0 ? pieces : 1));
    j.across = bn_ceil_div(p->N, j.cols);
    for (j.k0 = 0; j.k0 < p->K; j.k0 += B_ROWS) {
        j.rows = bn_fast_min(B_ROWS, p->K - j.k0);
        bn_fast_ranges(backend, j.rows, bn_fast_chunk_rows(p->N), pack_rows, &j);
        bn_parallel_for(bn_cpu_of(backend)->threads, blocks * j.across, run_piece, &j);
    }
}
