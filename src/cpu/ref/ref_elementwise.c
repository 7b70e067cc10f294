/* Element by element: add, mul, silu, relu2, glu, dropout. Every kernel may
 * work in place (out or din on the memory of an operand of the same index). */
#include "cpu/ref/ref.h"

#include "base/rng.h"

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* x sigmoid(x) */
static double silu(double x)
{
    return x * sigmoid(x);
}

/* sigmoid(x) (1 + x (1 - sigmoid(x))) */
static double silu_slope(double x)
{
    double s = sigmoid(x);
    return s * (1 + x * (1 - s));
}

/* max(x,0)^2 */
static double relu2(double x)
{
    return x <= 0 ? 0 : x * x; /* NaN stays NaN */
}

/* 2 max(x,0) */
static double relu2_slope(double x)
{
    return x <= 0 ? 0 : 2 * x;
}

/* a, b [n] -> y = a + b */
bn_status REF(bn_add_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t n = bn_tensor_numel(&c->in[0]);
    const real *a = ref_in(c, 0), *b = ref_in(c, 1);
    real *y = ref_out(c, 0);
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
    return BN_OK;
}

/* da = dy, db = dy */
bn_status REF(bn_add_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t n = bn_tensor_numel(&c->dout);
    const real *dy = ref_dout(c);
    for (int k = 0; k < 2; k++) {
        real *d = ref_din(c, k);
        for (int64_t i = 0; d && i < n; i++)
            ref_put(&d[i], c->accumulate[k], (double)dy[i]);
    }
    return BN_OK;
}

/* a, b [n] -> y = a b */
bn_status REF(bn_mul_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t n = bn_tensor_numel(&c->in[0]);
    const real *a = ref_in(c, 0), *b = ref_in(c, 1);
    real *y = ref_out(c, 0);
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] * b[i];
    return BN_OK;
}

/* da = dy b, db = dy a */
bn_status REF(bn_mul_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t n = bn_tensor_numel(&c->dout);
    const real *dy = ref_dout(c), *a = ref_in(c, 0), *b = ref_in(c, 1);
    real *da = ref_din(c, 0), *db = ref_din(c, 1);
    for (int64_t i = 0; i < n; i++) {
        double g = (double)dy[i]; /* read first: da or db may be dy's memory */
        if (da)
            ref_put(&da[i], c->accumulate[0], g * (double)b[i]);
        if (db)
            ref_put(&db[i], c->accumulate[1], g * (double)a[i]);
    }
    return BN_OK;
}

/* x [n] -> y = factor x */
bn_status REF(bn_scale_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t n = bn_tensor_numel(&c->in[0]);
    const real *x = ref_in(c, 0), factor = (real)c->params->scale.factor;
    real *y = ref_out(c, 0);
    for (int64_t i = 0; i < n; i++)
        y[i] = factor * x[i];
    return BN_OK;
}

/* dx = factor dy */
bn_status REF(bn_scale_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t n = bn_tensor_numel(&c->dout);
    const real *dy = ref_dout(c), factor = (real)c->params->scale.factor;
    real *dx = ref_din(c, 0);
    for (int64_t i = 0; dx && i < n; i++)
        ref_put(&dx[i], c->accumulate[0], (double)(factor * dy[i]));
    return BN_OK;
}

/* x [n] -> y = f(x) */
static bn_status map(const bn_op_call *c, double (*f)(double))
{
    int64_t n = bn_tensor_numel(&c->in[0]);
    const real *x = ref_in(c, 0);
    real *y = ref_out(c, 0);
    for (int64_t i = 0; i < n; i++)
        y[i] = (real)f((double)x[i]);
    return BN_OK;
}

/* dx = dy f'(x) */
static bn_status map_backward(const bn_op_call *c, double (*slope)(double))
{
    int64_t n = bn_tensor_numel(&c->in[0]);
    const real *x = ref_in(c, 0), *dy = ref_dout(c);
    real *dx = ref_din(c, 0);
    for (int64_t i = 0; dx && i < n; i++)
        ref_put(&dx[i], c->accumulate[0], (double)dy[i] * slope((double)x[i]));
    return BN_OK;
}

/* x [n] -> y = x sigmoid(x) */
bn_status REF(bn_silu_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return map(c, silu);
}

bn_status REF(bn_silu_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return map_backward(c, silu_slope);
}

/* x [n] -> y = max(x,0)^2 */
bn_status REF(bn_relu2_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return map(c, relu2);
}

bn_status REF(bn_relu2_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return map_backward(c, relu2_slope);
}

/* gate, up [n] -> y = act(gate) up */
bn_status REF(bn_glu_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t n = bn_tensor_numel(&c->in[0]);
    double (*act)(double) = c->params->glu.activation == BN_ACT_SILU ? silu : relu2;
    const real *gate = ref_in(c, 0), *up = ref_in(c, 1);
    real *y = ref_out(c, 0);
    for (int64_t i = 0; i < n; i++)
        y[i] = (real)(act((double)gate[i]) * (double)up[i]);
    return BN_OK;
}

/* dgate = dy up act'(gate), dup = dy act(gate) */
bn_status REF(bn_glu_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t n = bn_tensor_numel(&c->in[0]);
    bool is_silu = c->params->glu.activation == BN_ACT_SILU;
    double (*act)(double) = is_silu ? silu : relu2;
    double (*slope)(double) = is_silu ? silu_slope : relu2_slope;
    const real *gate = ref_in(c, 0), *up = ref_in(c, 1), *dy = ref_dout(c);
    real *dgate = ref_din(c, 0), *dup = ref_din(c, 1);
    for (int64_t i = 0; i < n; i++) {
        double g = (double)gate[i], u = (double)up[i], d = (double)dy[i];
        if (dgate)
            ref_put(&dgate[i], c->accumulate[0], d * u * slope(g));
        if (dup)
            ref_put(&dup[i], c->accumulate[1], d * act(g));
    }
    return BN_OK;
}

/* x [n] -> y[i] = keep(i) ? x[i] / (1-p) : 0. The mask is a function of
 * (seed, step, site, i), so the gradient is the same map applied to dy. */
static void dropout(const bn_op_call *c, const real *x, int64_t n, real *y, bool add)
{
    double p = c->params->dropout.p;
    uint64_t key = bn_dropout_key(c->run->seed, c->run->step, c->params->dropout.site);
    for (int64_t i = 0; i < n; i++)
        ref_put(&y[i], add, bn_dropout_keep(key, (uint64_t)i, p) ? (double)x[i] / (1 - p) : 0);
}

bn_status REF(bn_dropout_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    dropout(c, ref_in(c, 0), bn_tensor_numel(&c->in[0]), ref_out(c, 0), false);
    return BN_OK;
}

bn_status REF(bn_dropout_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    if (bn_tensor_present(&c->din[0]))
        dropout(c, ref_dout(c), bn_tensor_numel(&c->dout), ref_din(c, 0), c->accumulate[0]);
    return BN_OK;
}
