/* Blockwise Walsh-Hadamard transform (BitNet v2, arXiv 2504.18415). */
#include "cpu/ref/ref.h"

/* x [R,C] -> y [R,C]: for h = 1, 2, 4 .. B/2 every pair (i, i+h) of a block of
 * B elements becomes (a+b, a-b); then times 1/sqrt(B), rounded to real. */
static void transform(const bn_op_call *c, const real *x, real *y, bool add)
{
    const int64_t n = bn_tensor_numel(&c->in[0]);
    const int64_t block = bn_hadamard_block(bn_tensor_cols(&c->in[0]));
    const real factor = (real)(1 / sqrt((double)block));
    real v[BN_HADAMARD_MAX];
    for (int64_t at = 0; at < n; at += block) {
        memcpy(v, x + at, (size_t)block * sizeof *v);
        for (int64_t h = 1; h < block; h *= 2)
            for (int64_t i = 0; i < block; i += i % h == h - 1 ? h + 1 : 1) {
                const real a = v[i], b = v[i + h];
                v[i] = a + b;
                v[i + h] = a - b;
            }
        for (int64_t i = 0; i < block; i++)
            ref_put(&y[at + i], add, (double)(v[i] * factor));
    }
}

bn_status REF(bn_hadamard_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    transform(c, ref_in(c, 0), ref_out(c, 0), false);
    return BN_OK;
}

/* The matrix is symmetric: the gradient is the transform of dy. */
bn_status REF(bn_hadamard_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    if (bn_tensor_present(&c->din[0]))
        transform(c, ref_dout(c), ref_din(c, 0), c->accumulate[0]);
    return BN_OK;
}
