/* Elementwise ops and dropout. */
#include "cpu/fast/fast_impl.h"

#include "base/rng.h"

/* Operands of one elementwise loop; which are used depends on the function. */
typedef struct loop {
    const bn_rowops *ops;
    const float *a, *b, *dy;
    float *y, *z; /* results */
    const bool *add;
    bool silu;
    uint64_t key; /* dropout */
    double p;
} loop;

static bn_status run(bn_backend *backend, const bn_tensor *shape, bn_range_fn fn, loop *l)
{
    l->ops = bn_fast_ops(backend);
    bn_fast_ranges(backend, bn_tensor_numel(shape), BN_CHUNK_ELEMENTS, fn, l);
    return BN_OK;
}

static void add(void *arg, int64_t i, int64_t end, int worker)
{
    (void)worker;
    const loop *l = arg;
    l->ops->add(end - i, l->a + i, l->b + i, l->y + i);
}

bn_status bn_fast_add_forward(bn_backend *backend, const bn_op_call *c)
{
    loop l = {.a = bn_fast_in(c, 0), .b = bn_fast_in(c, 1), .y = bn_fast_out(c, 0)};
    return run(backend, &c->in[0], add, &l);
}

static void add_back(void *arg, int64_t i, int64_t end, int worker)
{
    (void)worker;
    const loop *l = arg;
    if (l->y)
        l->ops->copy_add(end - i, l->dy + i, l->y + i, l->add[0]);
    if (l->z)
        l->ops->copy_add(end - i, l->dy + i, l->z + i, l->add[1]);
}

/* da = dy, db = dy */
bn_status bn_fast_add_backward(bn_backend *backend, const bn_op_call *c)
{
    loop l = {.dy = bn_fast_data(&c->dout),
              .y = bn_fast_din(c, 0),
              .z = bn_fast_din(c, 1),
              .add = c->accumulate};
    return run(backend, &c->dout, add_back, &l);
}

static void mul(void *arg, int64_t i, int64_t end, int worker)
{
    (void)worker;
    const loop *l = arg;
    l->ops->mul(end - i, l->a + i, l->b + i, l->y + i);
}

bn_status bn_fast_mul_forward(bn_backend *backend, const bn_op_call *c)
{
    loop l = {.a = bn_fast_in(c, 0), .b = bn_fast_in(c, 1), .y = bn_fast_out(c, 0)};
    return run(backend, &c->in[0], mul, &l);
}

/* The gradient that is dy's own memory (or its operand's) comes last. */
static void mul_back(void *arg, int64_t i, int64_t end, int worker)
{
    (void)worker;
    const loop *l = arg;
    bool a_last = l->y == l->dy || l->y == l->a;
    for (int pass = 0; pass < 2; pass++)
        if ((pass == 1) == a_last) {
            if (l->y)
                l->ops->mul_backward(end - i, l->b + i, l->dy + i, l->y + i, l->add[0]);
        } else if (l->z) {
            l->ops->mul_backward(end - i, l->a + i, l->dy + i, l->z + i, l->add[1]);
        }
}

/* da = dy b, db = dy a */
bn_status bn_fast_mul_backward(bn_backend *backend, const bn_op_call *c)
{
    loop l = {.a = bn_fast_in(c, 0),
              .b = bn_fast_in(c, 1),
              .dy = bn_fast_data(&c->dout),
              .y = bn_fast_din(c, 0),
              .z = bn_fast_din(c, 1),
              .add = c->accumulate};
    return run(backend, &c->dout, mul_back, &l);
}

static void unary(void *arg, int64_t i, int64_t end, int worker)
{
    (void)worker;
    const loop *l = arg;
    (l->silu ? l->ops->silu : l->ops->relu2)(end - i, l->a + i, l->y + i);
}

static void unary_back(void *arg, int64_t i, int64_t end, int worker)
{
    (void)worker;
    const loop *l = arg;
    (l->silu ? l->ops->silu_backward : l->ops->relu2_backward)(end - i, l->a + i, l->dy + i,
                                                               l->y + i, l->add[0]);
}

/* SILU and RELU2 */
bn_status bn_fast_unary_forward(bn_backend *backend, const bn_op_call *c)
{
    loop l = {.a = bn_fast_in(c, 0), .y = bn_fast_out(c, 0), .silu = c->op == BN_OP_SILU};
    return run(backend, &c->in[0], unary, &l);
}

bn_status bn_fast_unary_backward(bn_backend *backend, const bn_op_call *c)
{
    loop l = {.a = bn_fast_in(c, 0),
              .dy = bn_fast_data(&c->dout),
              .y = bn_fast_din(c, 0),
              .add = c->accumulate,
              .silu = c->op == BN_OP_SILU};
    return l.y ? run(backend, &c->dout, unary_back, &l) : BN_OK;
}

static void glu(void *arg, int64_t i, int64_t end, int worker)
{
    (void)worker;
    const loop *l = arg;
    (l->silu ? l->ops->silu_glu : l->ops->relu2_glu)(end - i, l->a + i, l->b + i, l->y + i);
}

static void glu_back(void *arg, int64_t i, int64_t end, int worker)
{
    (void)worker;
    const loop *l = arg;
    (l->silu ? l->ops->silu_glu_backward
             : l->ops->relu2_glu_backward)(end - i, l->a + i, l->b + i, l->dy + i,
                                           l->y ? l->y + i : NULL, l->z ? l->z + i : NULL, l->add);
}

bn_status bn_fast_glu_forward(bn_backend *backend, const bn_op_call *c)
{
    loop l = {.a = bn_fast_in(c, 0),
              .b = bn_fast_in(c, 1),
              .y = bn_fast_out(c, 0),
              .silu = c->params->glu.activation == BN_ACT_SILU};
    return run(backend, &c->in[0], glu, &l);
}

bn_status bn_fast_glu_backward(bn_backend *backend, const bn_op_call *c)
{
    loop l = {.a = bn_fast_in(c, 0),
              .b = bn_fast_in(c, 1),
              .dy = bn_fast_data(&c->dout),
              .y = bn_fast_din(c, 0),
              .z = bn_fast_din(c, 1),
              .add = c->accumulate,
              .silu = c->params->glu.activation == BN_ACT_SILU};
    return run(backend, &c->dout, glu_back, &l);
}

/* y = keep ? x / (1-p) : 0, the mask a function of the element's index */
static void dropout(void *arg, int64_t i, int64_t end, int worker)
{
    (void)worker;
    const loop *l = arg;
    for (; i < end; i++) {
        float v = bn_dropout_keep(l->key, (uint64_t)i, l->p) ? (float)((double)l->a[i] / (1 - l->p))
                                                             : 0.0f;
        l->y[i] = l->add[0] ? l->y[i] + v : v;
    }
}

static bn_status run_dropout(bn_backend *backend, const bn_op_call *c, const bn_tensor *from,
                             float *to, const bool *accumulate)
{
    loop l = {.a = bn_fast_data(from),
              .y = to,
              .add = accumulate,
              .p = c->params->dropout.p,
              .key = bn_dropout_key(c->run->seed, c->run->step, c->params->dropout.site)};
    return run(backend, from, dropout, &l);
}

bn_status bn_fast_dropout_forward(bn_backend *backend, const bn_op_call *c)
{
    const bool store = false;
    return run_dropout(backend, c, &c->in[0], bn_fast_out(c, 0), &store);
}

bn_status bn_fast_dropout_backward(bn_backend *backend, const bn_op_call *c)
{
    float *dx = bn_fast_din(c, 0);
    return dx ? run_dropout(backend, c, &c->dout, dx, c->accumulate) : BN_OK;
}
