/* LINEAR_CROSS_ENTROPY: the logits of one chunk of rows at a time; backward makes
 * them again. */
#include "base/checked.h"
#include "opencl/gemm.h"

typedef struct job {
    int64_t R, V, D, chunk;
} job;

static job job_of(const bn_op_call *c)
{
    job j = {.R = bn_tensor_rows(&c->in[0]), .V = c->in[1].shape[0], .D = c->in[1].shape[1]};
    int64_t chunk = c->params->cross_entropy.chunk_rows;
    j.chunk = chunk > 0 && chunk < j.R ? chunk : j.R;
    return j;
}

/* Scratch: losses of the rows, in backward only the common factor; the panels
 * of the products; the logits of a chunk. */
typedef struct layout {
    size_t rows, panels, logits;
} layout;

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static layout layout_of(const bn_ocl *ocl, const job *j, bool backward)
{
    layout l = {
        .rows = bn_align_up((size_t)(backward ? 1 : j->R) * sizeof(float), BN_ALIGN),
        .panels = bn_ocl_gemm_scratch(ocl, j->chunk, j->V, j->D),
        .logits = bn_align_up((size_t)(j->chunk * j->V) * sizeof(float), BN_ALIGN),
    };
    if (backward) {
        l.panels = larger(l.panels, bn_ocl_gemm_scratch(ocl, j->chunk, j->D, j->V));
        l.panels = larger(l.panels, bn_ocl_gemm_scratch(ocl, j->V, j->D, j->chunk));
    }
    return l;
}

static size_t forward_scratch(const bn_backend *backend, const bn_op_call *c)
{
    job j = job_of(c);
    layout l = layout_of(bn_ocl_of(backend), &j, false);
    return l.rows + l.panels + l.logits;
}

static size_t backward_scratch(const bn_backend *backend, const bn_op_call *c)
{
    job j = job_of(c);
    layout l = layout_of(bn_ocl_of(backend), &j, true);
    return l.rows + l.panels + l.logits;
}

/* `rows` rows of t from row r on; a row is `cols` elements of 4 bytes. */
static bn_tensor rows_of(const bn_tensor *t, int64_t r, int64_t rows, int64_t cols)
{
    return bn_ocl_part(t, (size_t)(r * cols) * 4, (size_t)(rows * cols) * 4);
}

/* A chunk in work, and the parts of the scratch. */
typedef struct chunk {
    int64_t row, rows;
    bn_tensor x, labels, lse, panels, logits;
} chunk;

static chunk chunk_of(const bn_op_call *c, const job *j, const layout *l, int64_t row)
{
    chunk k = {.row = row, .rows = j->R - row < j->chunk ? j->R - row : j->chunk};
    k.x = rows_of(&c->in[0], row, k.rows, j->D);
    k.labels = rows_of(&c->in[2], row, k.rows, 1);
    k.lse = rows_of(&c->out[1], row, k.rows, 1);
    k.panels = bn_ocl_part(&c->scratch, l->rows, l->panels);
    k.logits = bn_ocl_part(&c->scratch, l->rows + l->panels, l->logits);
    return k;
}

/* logits = x weight^T */
static bn_status make_logits(bn_ocl *ocl, const bn_op_call *c, const job *j, const chunk *k)
{
    return bn_ocl_gemm_run(ocl,
                           &(bn_ocl_gemm){.M = k->rows,
                                          .N = j->V,
                                          .K = j->D,
                                          .a = k->x,
                                          .ld_a = j->D,
                                          .b = c->in[1],
                                          .ld_b = j->D,
                                          .c = k->logits,
                                          .ld_c = j->V},
                           &k->panels);
}

/* x [R,D], weight [V,D], labels i32 [R] -> loss [1], log-sum-exp [R] */
static bn_status forward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    job j = job_of(c);
    layout l = layout_of(ocl, &j, false);
    bn_tensor losses = bn_ocl_part(&c->scratch, 0, l.rows);
    for (int64_t r = 0; r < j.R; r += j.chunk) {
        chunk k = chunk_of(c, &j, &l, r);
        bn_tensor nll = rows_of(&losses, r, k.rows, 1);
        BN_TRY(make_logits(ocl, c, &j, &k));
        BN_TRY(
            bn_ocl_cross_entropy_rows(ocl, c, &k.logits, &k.labels, &k.lse, &nll, r, k.rows, j.V));
    }
    return bn_ocl_cross_entropy_mean(ocl, c, &losses, &c->in[2], &c->out[0]);
}

/* Per chunk, with d the gradient of its logits: dx = d weight, dweight += d^T x */
static bn_status chunk_backward(bn_ocl *ocl, const bn_op_call *c, const job *j, const chunk *k)
{
    if (bn_tensor_present(&c->din[0]))
        BN_TRY(bn_ocl_gemm_run(ocl,
                               &(bn_ocl_gemm){.M = k->rows,
                                              .N = j->D,
                                              .K = j->V,
                                              .a = k->logits,
                                              .ld_a = j->V,
                                              .b = c->in[1],
                                              .ld_b = j->D,
                                              .b_across = true,
                                              .c = rows_of(&c->din[0], k->row, k->rows, j->D),
                                              .ld_c = j->D,
                                              .add = c->accumulate[0]},
                               &k->panels));
    if (bn_tensor_present(&c->din[1]))
        BN_TRY(bn_ocl_gemm_run(ocl,
                               &(bn_ocl_gemm){.M = j->V,
                                              .N = j->D,
                                              .K = k->rows,
                                              .a = k->logits,
                                              .ld_a = j->V,
                                              .a_across = true,
                                              .b = k->x,
                                              .ld_b = j->D,
                                              .b_across = true,
                                              .c = c->din[1],
                                              .ld_c = j->D,
                                              .add = c->accumulate[1] || k->row > 0},
                               &k->panels));
    return BN_OK;
}

static bn_status backward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    job j = job_of(c);
    layout l = layout_of(ocl, &j, true);
    bn_tensor factor = bn_ocl_part(&c->scratch, 0, l.rows);
    BN_TRY(bn_ocl_cross_entropy_factor(ocl, c, &c->in[2], &factor));
    for (int64_t r = 0; r < j.R; r += j.chunk) {
        chunk k = chunk_of(c, &j, &l, r);
        BN_TRY(make_logits(ocl, c, &j, &k));
        BN_TRY(bn_ocl_cross_entropy_gradient(ocl, c, &k.logits, &k.labels, &k.lse, &factor,
                                             &k.logits, k.rows, j.V, false));
        BN_TRY(chunk_backward(ocl, c, &j, &k));
    }
    return BN_OK;
}

void bn_ocl_rows_head(bn_backend *backend)
{
    bn_ocl_set_row(backend, BN_OP_LINEAR_CROSS_ENTROPY, forward, backward);
    backend->rows[BN_OP_LINEAR_CROSS_ENTROPY].forward_scratch = forward_scratch;
    backend->rows[BN_OP_LINEAR_CROSS_ENTROPY].backward_scratch = backward_scratch;
}
