/* Ops on rows: RMSNorm, RoPE, Hadamard, softmax, cross-entropy, embedding. */
#include "cpu/fast/fast_impl.h"

#include <math.h>
#include <string.h>

typedef struct rows_job {
    const bn_rowops *ops;
    const bn_op_call *call;
    int64_t cols;
    const float *x, *dy;
    float *y;
    float *parts;      /* partial column sums */
    int64_t part_rows; /* rows of a part */
    float factor;
    bool add;
} rows_job;

static rows_job job_of(const bn_backend *backend, const bn_op_call *c)
{
    return (rows_job){.ops = bn_fast_ops(backend),
                      .call = c,
                      .cols = bn_tensor_cols(&c->in[0]),
                      .x = bn_fast_in(c, 0),
                      .dy = bn_fast_data(&c->dout),
                      .add = c->accumulate[0]};
}

static void run(bn_backend *backend, int64_t rows, bn_range_fn fn, rows_job *j)
{
    bn_fast_ranges(backend, rows, bn_fast_chunk_rows(j->cols), fn, j);
}

/* ---- RMSNorm ------------------------------------------------------------- */

static void rmsnorm(void *arg, int64_t r, int64_t end, int worker)
{
    (void)worker;
    const rows_job *j = arg;
    j->ops->rmsnorm(end - r, j->cols, j->call->params->rmsnorm.eps, j->x + r * j->cols,
                    bn_fast_in(j->call, 1), j->y + r * j->cols, bn_fast_out(j->call, 1) + r);
}

/* x [R,C], weight [C] -> y [R,C], rstd [R] */
bn_status bn_fast_rmsnorm_forward(bn_backend *backend, const bn_op_call *c)
{
    rows_job j = job_of(backend, c);
    j.y = bn_fast_out(c, 0);
    run(backend, bn_tensor_rows(&c->in[0]), rmsnorm, &j);
    return BN_OK;
}

size_t bn_fast_rmsnorm_backward_scratch(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return (size_t)(bn_fast_parts(bn_tensor_rows(&c->in[0])) * bn_tensor_cols(&c->in[0])) *
           sizeof(float);
}

static void rmsnorm_back(void *arg, int64_t r, int64_t end, int worker)
{
    (void)worker;
    const rows_job *j = arg;
    const float *rstd = bn_fast_data(&j->call->out[1]);
    float *part = j->parts ? j->parts + r / j->part_rows * j->cols : NULL;
    if (part)
        memset(part, 0, (size_t)j->cols * sizeof *part);
    j->ops->rmsnorm_backward(end - r, j->cols, j->x + r * j->cols, bn_fast_in(j->call, 1), rstd + r,
                             j->dy + r * j->cols, j->y ? j->y + r * j->cols : NULL, j->add, part);
}

bn_status bn_fast_rmsnorm_backward(bn_backend *backend, const bn_op_call *c)
{
    rows_job j = job_of(backend, c);
    int64_t R = bn_tensor_rows(&c->in[0]);
    float *dweight = bn_fast_din(c, 1);
    j.y = bn_fast_din(c, 0);
    j.parts = dweight ? bn_fast_data(&c->scratch) : NULL;
    j.part_rows = bn_fast_part_rows(R);
    bn_fast_ranges(backend, R, j.part_rows, rmsnorm_back, &j);
    if (dweight)
        bn_fast_add_parts(backend, j.parts, bn_fast_parts(R), j.cols, dweight, c->accumulate[1]);
    return BN_OK;
}

/* ---- RoPE ---------------------------------------------------------------- */

static void rope(void *arg, int64_t r, int64_t end, int worker)
{
    (void)worker;
    const rows_job *j = arg;
    const bn_op_call *c = j->call;
    int64_t T = c->in[0].shape[1], hd = c->params->rope.head_dim;
    for (; r < end; r++)
        j->ops->rope(j->cols / hd, hd,
                     bn_fast_in(c, 1) + (bn_run_position(c->run, r / T) + r % T) * hd, j->factor,
                     j->x + r * j->cols, j->y + r * j->cols, j->add);
}

static bn_status run_rope(bn_backend *backend, const bn_op_call *c, const float *x, float *y,
                          float sign, bool add)
{
    int64_t B = c->in[0].shape[0], T = c->in[0].shape[1], P = c->in[1].shape[0];
    for (int64_t b = 0; b < B; b++) {
        int64_t first = bn_run_position(c->run, b);
        if (first < 0 || first > P - T)
            return bn_error(BN_FAIL, "rope: positions %lld to %lld, the table has %lld",
                            (long long)first, (long long)(first + T - 1), (long long)P);
    }
    rows_job j = job_of(backend, c);
    j.x = x;
    j.y = y;
    j.factor = sign;
    j.add = add;
    run(backend, bn_tensor_rows(&c->in[0]), rope, &j);
    return BN_OK;
}

bn_status bn_fast_rope_forward(bn_backend *backend, const bn_op_call *c)
{
    return run_rope(backend, c, bn_fast_in(c, 0), bn_fast_out(c, 0), 1.0f, false);
}

/* A rotation's gradient is the inverse rotation of dy. */
bn_status bn_fast_rope_backward(bn_backend *backend, const bn_op_call *c)
{
    float *dx = bn_fast_din(c, 0);
    return dx ? run_rope(backend, c, bn_fast_data(&c->dout), dx, -1.0f, c->accumulate[0]) : BN_OK;
}

/* ---- Hadamard ------------------------------------------------------------ */

static void hadamard(void *arg, int64_t r, int64_t end, int worker)
{
    (void)worker;
    const rows_job *j = arg;
    for (; r < end; r++)
        j->ops->hadamard(j->cols, bn_hadamard_block(j->cols), j->factor, j->x + r * j->cols,
                         j->y + r * j->cols, j->add);
}

static bn_status run_hadamard(bn_backend *backend, const bn_op_call *c, const float *x, float *y,
                              bool add)
{
    rows_job j = job_of(backend, c);
    j.x = x;
    j.y = y;
    j.factor = (float)(1 / sqrt((double)bn_hadamard_block(j.cols)));
    j.add = add;
    run(backend, bn_tensor_rows(&c->in[0]), hadamard, &j);
    return BN_OK;
}

bn_status bn_fast_hadamard_forward(bn_backend *backend, const bn_op_call *c)
{
    return run_hadamard(backend, c, bn_fast_in(c, 0), bn_fast_out(c, 0), false);
}

/* The matrix is symmetric: the gradient is the transform of dy. */
bn_status bn_fast_hadamard_backward(bn_backend *backend, const bn_op_call *c)
{
    float *dx = bn_fast_din(c, 0);
    return dx ? run_hadamard(backend, c, bn_fast_data(&c->dout), dx, c->accumulate[0]) : BN_OK;
}

/* ---- softmax ------------------------------------------------------------- */

static void softmax(void *arg, int64_t r, int64_t end, int worker)
{
    (void)worker;
    const rows_job *j = arg;
    j->ops->softmax(end - r, j->cols, j->x + r * j->cols, j->y + r * j->cols);
}

bn_status bn_fast_softmax_forward(bn_backend *backend, const bn_op_call *c)
{
    rows_job j = job_of(backend, c);
    j.y = bn_fast_out(c, 0);
    run(backend, bn_tensor_rows(&c->in[0]), softmax, &j);
    return BN_OK;
}

static void softmax_back(void *arg, int64_t r, int64_t end, int worker)
{
    (void)worker;
    const rows_job *j = arg;
    int64_t at = r * j->cols;
    j->ops->softmax_backward(end - r, j->cols, j->x + at, j->dy + at, j->y + at, j->add);
}

bn_status bn_fast_softmax_backward(bn_backend *backend, const bn_op_call *c)
{
    rows_job j = job_of(backend, c);
    j.x = bn_fast_data(&c->out[0]);
    j.y = bn_fast_din(c, 0);
    if (j.y)
        run(backend, bn_tensor_rows(&c->in[0]), softmax_back, &j);
    return BN_OK;
}

/* ---- cross-entropy ------------------------------------------------------- */

bn_status bn_fast_count_labels(const bn_op_call *c, const int32_t *labels, int64_t rows,
                               int64_t classes, int64_t *count)
{
    const int32_t ignore = c->params->cross_entropy.ignore_index;
    *count = 0;
    for (int64_t r = 0; r < rows; r++) {
        if (labels[r] == ignore)
            continue;
        if (labels[r] < 0 || labels[r] >= classes)
            return bn_error(BN_FAIL, "%s: label %d in row %lld, expected 0 to %lld or %d",
                            bn_op_table[c->op].name, (int)labels[r], (long long)r,
                            (long long)classes - 1, (int)ignore);
        ++*count;
    }
    return BN_OK;
}

static void cross_entropy(void *arg, int64_t r, int64_t end, int worker)
{
    (void)worker;
    const rows_job *j = arg;
    j->ops->log_sum_exp(end - r, j->cols, j->x + r * j->cols, bn_fast_out(j->call, 1) + r);
}

/* logits [R,V], labels i32 [R] -> loss [1], log-sum-exp [R] */
bn_status bn_fast_cross_entropy_forward(bn_backend *backend, const bn_op_call *c)
{
    rows_job j = job_of(backend, c);
    int64_t R = bn_tensor_rows(&c->in[0]), count;
    const int32_t *labels = bn_fast_data(&c->in[1]);
    const float *lse = bn_fast_out(c, 1);
    BN_TRY(bn_fast_count_labels(c, labels, R, j.cols, &count));
    run(backend, R, cross_entropy, &j);
    double sum = 0;
    for (int64_t r = 0; r < R; r++)
        if (labels[r] != c->params->cross_entropy.ignore_index)
            sum += (double)lse[r] - (double)j.x[r * j.cols + labels[r]];
    bn_fast_out(c, 0)[0] = (float)(count > 0 ? sum / (double)count : 0);
    return BN_OK;
}

static void cross_entropy_back(void *arg, int64_t r, int64_t end, int worker)
{
    (void)worker;
    const rows_job *j = arg;
    const int32_t *labels = bn_fast_data(&j->call->in[1]);
    const float *lse = bn_fast_data(&j->call->out[1]);
    j->ops->cross_entropy_backward(end - r, j->cols, j->x + r * j->cols, lse + r, labels + r,
                                   j->call->params->cross_entropy.ignore_index, j->factor,
                                   j->y + r * j->cols, j->add);
}

bn_status bn_fast_cross_entropy_backward(bn_backend *backend, const bn_op_call *c)
{
    rows_job j = job_of(backend, c);
    int64_t R = bn_tensor_rows(&c->in[0]), count;
    j.y = bn_fast_din(c, 0);
    if (!j.y)
        return BN_OK;
    BN_TRY(bn_fast_count_labels(c, bn_fast_data(&c->in[1]), R, j.cols, &count));
    j.factor = count > 0 ? (float)((double)j.dy[0] / (double)count) : 0.0f;
    run(backend, R, cross_entropy_back, &j);
    return BN_OK;
}

/* ---- embedding ----------------------------------------------------------- */

static void embedding(void *arg, int64_t r, int64_t end, int worker)
{
    (void)worker;
    const rows_job *j = arg;
    const int32_t *ids = bn_fast_data(&j->call->in[0]);
    for (; r < end; r++)
        memcpy(j->y + r * j->cols, j->x + ids[r] * j->cols, (size_t)j->cols * sizeof *j->y);
}

static bn_status check_ids(const int32_t *ids, int64_t n, int64_t vocabulary)
{
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocabulary)
            return bn_error(BN_FAIL, "embedding: id %d at position %lld, expected 0 to %lld",
                            (int)ids[i], (long long)i, (long long)vocabulary - 1);
    return BN_OK;
}

/* ids i32 [R], weight [V,D] -> y [R,D] */
bn_status bn_fast_embedding_forward(bn_backend *backend, const bn_op_call *c)
{
    int64_t R = bn_tensor_numel(&c->in[0]);
    rows_job j = {.ops = bn_fast_ops(backend),
                  .call = c,
                  .cols = c->in[1].shape[1],
                  .x = bn_fast_in(c, 1),
                  .y = bn_fast_out(c, 0)};
    BN_TRY(check_ids(bn_fast_data(&c->in[0]), R, c->in[1].shape[0]));
    run(backend, R, embedding, &j);
    return BN_OK;
}

/* Columns begin..end-1 of dweight: every row of dy in order, so that each sum
 * has one order whoever makes it. */
static void embedding_back(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const rows_job *j = arg;
    const int32_t *ids = bn_fast_data(&j->call->in[0]);
    int64_t R = bn_tensor_numel(&j->call->in[0]), V = j->call->in[1].shape[0];
    for (int64_t v = 0; !j->add && v < V; v++)
        memset(j->y + v * j->cols + begin, 0, (size_t)(end - begin) * sizeof *j->y);
    for (int64_t r = 0; r < R; r++)
        j->ops->copy_add(end - begin, j->dy + r * j->cols + begin, j->y + ids[r] * j->cols + begin,
                         true);
}

bn_status bn_fast_embedding_backward(bn_backend *backend, const bn_op_call *c)
{
    enum { COLUMNS = 64 }; /* four cache lines of a row */
    rows_job j = {.ops = bn_fast_ops(backend),
                  .call = c,
                  .cols = c->in[1].shape[1],
                  .dy = bn_fast_data(&c->dout),
                  .y = bn_fast_din(c, 1),
                  .add = c->accumulate[1]};
    if (!j.y)
        return BN_OK;
    BN_TRY(check_ids(bn_fast_data(&c->in[0]), bn_tensor_numel(&c->in[0]), c->in[1].shape[0]));
    bn_fast_ranges(backend, j.cols, COLUMNS, embedding_back, &j);
    return BN_OK;
}
