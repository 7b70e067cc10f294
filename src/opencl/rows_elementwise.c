/* Element by element: add, mul, scale, silu, relu2, glu, dropout (kernels/elementwise.cl). */
#include <math.h>

#include "base/rng.h"
#include "opencl/ocl_impl.h"

/* The masks of elementwise.cl for gradients 0 and 1. */
static int wanted(const bn_op_call *c)
{
    int mask = 0;
    for (int i = 0; i < 2; i++)
        if (bn_tensor_present(&c->din[i]))
            mask |= (1 << i) | (c->accumulate[i] ? 4 << i : 0);
    return mask;
}

/* kernel(a, b, y, n) */
static bn_status binary(bn_backend *backend, const bn_op_call *c, bn_ocl_kernel_id kernel)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t n = bn_tensor_numel(&c->in[0]);
    return BN_OCL_LAUNCH(ocl, kernel, bn_ocl_flat_groups(ocl, n), 1, 1, BN_OCL_T(&c->in[0]),
                         BN_OCL_T(&c->in[1]), BN_OCL_T(&c->out[0]), BN_OCL_L(n));
}

static bn_status add_forward(bn_backend *backend, const bn_op_call *c)
{
    return binary(backend, c, BN_OCL_K_ADD);
}

static bn_status mul_forward(bn_backend *backend, const bn_op_call *c)
{
    return binary(backend, c, BN_OCL_K_MUL);
}

static bool same_place(const bn_tensor *a, const bn_tensor *b)
{
    return a->buffer->handle == b->buffer->handle && a->offset == b->offset;
}

static bn_status add_backward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t n = bn_tensor_numel(&c->dout);
    for (int i = 0; i < 2; i++) {
        const bn_tensor *d = &c->din[i];
        if (!bn_tensor_present(d) || (!c->accumulate[i] && same_place(d, &c->dout)))
            continue;
        BN_TRY(BN_OCL_LAUNCH(ocl, BN_OCL_K_COPY_ADD, bn_ocl_flat_groups(ocl, n), 1, 1,
                             BN_OCL_T(&c->dout), BN_OCL_T(d), BN_OCL_L(n),
                             BN_OCL_I(c->accumulate[i])));
    }
    return BN_OK;
}

static bn_status mul_backward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t n = bn_tensor_numel(&c->dout);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_MUL_BACKWARD, bn_ocl_flat_groups(ocl, n), 1, 1,
                         BN_OCL_T(&c->in[0]), BN_OCL_T(&c->in[1]), BN_OCL_T(&c->dout),
                         BN_OCL_T(&c->din[0]), BN_OCL_T(&c->din[1]), BN_OCL_L(n),
                         BN_OCL_I(wanted(c)));
}

/* to = factor * from, or to += factor * from */
static bn_status scale(bn_backend *backend, const bn_op_call *c, const bn_tensor *from,
                       const bn_tensor *to, bool add)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t n = bn_tensor_numel(from);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_TIMES, bn_ocl_flat_groups(ocl, n), 1, 1, BN_OCL_T(from),
                         BN_OCL_T(to), BN_OCL_L(n), BN_OCL_F(c->params->scale.factor),
                         BN_OCL_I(add));
}

static bn_status scale_forward(bn_backend *backend, const bn_op_call *c)
{
    return scale(backend, c, &c->in[0], &c->out[0], false);
}

static bn_status scale_backward(bn_backend *backend, const bn_op_call *c)
{
    if (!bn_tensor_present(&c->din[0]))
        return BN_OK;
    return scale(backend, c, &c->dout, &c->din[0], c->accumulate[0]);
}

static bn_status activation_forward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t n = bn_tensor_numel(&c->in[0]);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_ACTIVATION, bn_ocl_flat_groups(ocl, n), 1, 1,
                         BN_OCL_T(&c->in[0]), BN_OCL_T(&c->out[0]), BN_OCL_L(n),
                         BN_OCL_I(c->op == BN_OP_SILU));
}

static bn_status activation_backward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t n = bn_tensor_numel(&c->in[0]);
    if (!bn_tensor_present(&c->din[0]))
        return BN_OK;
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_ACTIVATION_BACKWARD, bn_ocl_flat_groups(ocl, n), 1, 1,
                         BN_OCL_T(&c->in[0]), BN_OCL_T(&c->dout), BN_OCL_T(&c->din[0]), BN_OCL_L(n),
                         BN_OCL_I(c->op == BN_OP_SILU), BN_OCL_I(c->accumulate[0]));
}

static int is_silu(const bn_op_call *c)
{
    return c->params->glu.activation == BN_ACT_SILU;
}

static bn_status glu_forward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t n = bn_tensor_numel(&c->in[0]);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_GLU, bn_ocl_flat_groups(ocl, n), 1, 1, BN_OCL_T(&c->in[0]),
                         BN_OCL_T(&c->in[1]), BN_OCL_T(&c->out[0]), BN_OCL_L(n),
                         BN_OCL_I(is_silu(c)));
}

static bn_status glu_backward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t n = bn_tensor_numel(&c->in[0]);
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_GLU_BACKWARD, bn_ocl_flat_groups(ocl, n), 1, 1,
                         BN_OCL_T(&c->in[0]), BN_OCL_T(&c->in[1]), BN_OCL_T(&c->dout),
                         BN_OCL_T(&c->din[0]), BN_OCL_T(&c->din[1]), BN_OCL_L(n),
                         BN_OCL_I(is_silu(c)), BN_OCL_I(wanted(c)));
}

/* bn_dropout_keep(): number / 2^24 >= p, both exact in double, so an integer
 * threshold decides the same. */
static bn_status dropout(bn_backend *backend, const bn_op_call *c, const bn_tensor *x,
                         const bn_tensor *y, bool add)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int64_t n = bn_tensor_numel(x);
    double p = c->params->dropout.p;
    uint64_t key = bn_dropout_key(c->run->seed, c->run->step, c->params->dropout.site);
    uint64_t mixed = bn_mix64(key + UINT64_C(0x9e3779b97f4a7c15));
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_DROPOUT, bn_ocl_flat_groups(ocl, n), 1, 1, BN_OCL_T(x),
                         BN_OCL_T(y), BN_OCL_L(n), BN_OCL_L(mixed), BN_OCL_I(ceil(p * 0x1p24)),
                         BN_OCL_F(1 - p), BN_OCL_I(add));
}

static bn_status dropout_forward(bn_backend *backend, const bn_op_call *c)
{
    return dropout(backend, c, &c->in[0], &c->out[0], false);
}

static bn_status dropout_backward(bn_backend *backend, const bn_op_call *c)
{
    if (!bn_tensor_present(&c->din[0]))
        return BN_OK;
    return dropout(backend, c, &c->dout, &c->din[0], c->accumulate[0]);
}

void bn_ocl_rows_elementwise(bn_backend *backend)
{
    static const struct {
        bn_op op;
        bn_kernel forward, backward;
    } rows[] = {
        {BN_OP_ADD, add_forward, add_backward},
        {BN_OP_MUL, mul_forward, mul_backward},
        {BN_OP_SCALE, scale_forward, scale_backward},
        {BN_OP_SILU, activation_forward, activation_backward},
        {BN_OP_RELU2, activation_forward, activation_backward},
        {BN_OP_GLU, glu_forward, glu_backward},
        {BN_OP_DROPOUT, dropout_forward, dropout_backward},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        bn_ocl_set_row(backend, rows[i].op, rows[i].forward, rows[i].backward);
}
