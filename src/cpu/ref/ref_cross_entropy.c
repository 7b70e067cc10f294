/* Mean cross-entropy over the rows whose label is not ignore_index; without
 * such a row the loss and all gradients are 0. */
#include "cpu/ref/ref.h"

/* Labels that count; BN_FAIL for one outside 0..V-1 that is not ignored. */
static bn_status count_labels(const bn_op_call *c, const int32_t *labels, int64_t R, int64_t V,
                              int64_t *count)
{
    *count = 0;
    for (int64_t r = 0; r < R; r++) {
        if (labels[r] == c->params->cross_entropy.ignore_index)
            continue;
        if (labels[r] < 0 || labels[r] >= V)
            return bn_error(BN_FAIL, "%s: label %d in row %lld, expected 0 to %lld or %d",
                            bn_op_table[c->op].name, (int)labels[r], (long long)r, (long long)V - 1,
                            (int)c->params->cross_entropy.ignore_index);
        ++*count;
    }
    return BN_OK;
}

/* log sum exp of x [V] */
static double log_sum_exp(const real *x, int64_t V)
{
    double max = -HUGE_VAL, sum = 0;
    for (int64_t i = 0; i < V; i++)
        max = fmax(max, (double)x[i]);
    for (int64_t i = 0; i < V; i++)
        sum += exp((double)x[i] - max);
    return max + log(sum);
}

/* logits [R,V], labels [R] -> lse [R]; returns the sum of lse - logit[label] */
static double loss_sum(const bn_op_call *c, const real *logits, const int32_t *labels, int64_t R,
                       int64_t V, real *lse)
{
    double sum = 0;
    for (int64_t r = 0; r < R; r++) {
        double l = log_sum_exp(logits + r * V, V);
        lse[r] = (real)l;
        if (labels[r] != c->params->cross_entropy.ignore_index)
            sum += l - (double)logits[r * V + labels[r]];
    }
    return sum;
}

/* d[r,i] = (exp(logits[r,i] - lse[r]) - [i = label]) g, 0 for ignored rows; d
 * may be the memory of logits */
static void logit_gradient(const bn_op_call *c, const real *logits, const int32_t *labels,
                           const real *lse, int64_t R, int64_t V, double g, real *d, bool add)
{
    for (int64_t r = 0; r < R; r++) {
        bool ignored = labels[r] == c->params->cross_entropy.ignore_index;
        for (int64_t i = 0; i < V; i++) {
            double p = exp((double)logits[r * V + i] - (double)lse[r]);
            ref_put(&d[r * V + i], add, ignored ? 0 : (p - (i == labels[r])) * g);
        }
    }
}

/* logits [R,V], labels i32 [R] -> loss [1] = mean of lse - logit[label], lse [R] */
bn_status REF(bn_cross_entropy_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t R = bn_tensor_rows(&c->in[0]), V = bn_tensor_cols(&c->in[0]), count;
    const int32_t *labels = ref_data(&c->in[1]);
    BN_TRY(count_labels(c, labels, R, V, &count));
    double sum = loss_sum(c, ref_in(c, 0), labels, R, V, ref_out(c, 1));
    ref_out(c, 0)[0] = (real)(count > 0 ? sum / (double)count : 0);
    return BN_OK;
}

/* dlogits = (softmax - onehot) dloss / count */
bn_status REF(bn_cross_entropy_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t R = bn_tensor_rows(&c->in[0]), V = bn_tensor_cols(&c->in[0]), count;
    const int32_t *labels = ref_data(&c->in[1]);
    if (!bn_tensor_present(&c->din[0]))
        return BN_OK;
    BN_TRY(count_labels(c, labels, R, V, &count));
    double g = count > 0 ? (double)ref_dout(c)[0] / (double)count : 0;
    logit_gradient(c, ref_in(c, 0), labels, ref_data(&c->out[1]), R, V, g, ref_din(c, 0),
                   c->accumulate[0]);
    return BN_OK;
}

static int64_t chunk_rows(const bn_op_call *c)
{
    int64_t R = bn_tensor_rows(&c->in[0]), chunk = c->params->cross_entropy.chunk_rows;
    return chunk < R ? chunk : R;
}

/* The logits of one chunk of rows. */
size_t REF(bn_linear_cross_entropy_scratch)(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return (size_t)(chunk_rows(c) * c->in[1].shape[0]) * sizeof(real);
}

/* x [R,D], weight [V,D], labels i32 [R] -> loss [1], lse [R] of
 * logits = x weight^T, made chunk by chunk */
bn_status REF(bn_linear_cross_entropy_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t R = bn_tensor_rows(&c->in[0]), V = c->in[1].shape[0], D = c->in[1].shape[1], count;
    const int32_t *labels = ref_data(&c->in[2]);
    real *logits = ref_data(&c->scratch);
    double sum = 0;
    BN_TRY(count_labels(c, labels, R, V, &count));
    for (int64_t r = 0; r < R; r += chunk_rows(c)) {
        int64_t n = R - r < chunk_rows(c) ? R - r : chunk_rows(c);
        REF(bn_product)(n, V, D, ref_in(c, 0) + r * D, D, 1, ref_in(c, 1), 1, D, logits, false);
        sum += loss_sum(c, logits, labels + r, n, V, ref_out(c, 1) + r);
    }
    ref_out(c, 0)[0] = (real)(count > 0 ? sum / (double)count : 0);
    return BN_OK;
}

/* Per chunk, with dlogits as in cross_entropy: dx = dlogits weight,
 * dweight += dlogits^T x */
bn_status REF(bn_linear_cross_entropy_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t R = bn_tensor_rows(&c->in[0]), V = c->in[1].shape[0], D = c->in[1].shape[1], count;
    const int32_t *labels = ref_data(&c->in[2]);
    const real *lse = ref_data(&c->out[1]), *weight = ref_in(c, 1);
    real *logits = ref_data(&c->scratch), *dx = ref_din(c, 0), *dweight = ref_din(c, 1);
    BN_TRY(count_labels(c, labels, R, V, &count));
    double g = count > 0 ? (double)ref_dout(c)[0] / (double)count : 0;
    for (int64_t r = 0; r < R; r += chunk_rows(c)) {
        int64_t n = R - r < chunk_rows(c) ? R - r : chunk_rows(c);
        const real *x = ref_in(c, 0) + r * D;
        REF(bn_product)(n, V, D, x, D, 1, weight, 1, D, logits, false);
        logit_gradient(c, logits, labels + r, lse + r, n, V, g, logits, false);
        if (dx)
            REF(bn_product)(n, D, V, logits, V, 1, weight, D, 1, dx + r * D, c->accumulate[0]);
        if (dweight)
            REF(bn_product)(V, D, n, logits, 1, V, x, D, 1, dweight, c->accumulate[1] || r > 0);
    }
    return BN_OK;
}
