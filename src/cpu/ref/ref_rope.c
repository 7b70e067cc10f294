/* Rotary position embedding, rotate-half form (Su et al., arXiv 2104.09864). */
#include "cpu/ref/ref.h"

/* x [B,T,H*hd], table [P,hd] = cos, sin per position; row t is at its
 * sequence's position + t. x1, x2 = first and second half of a head:
 * y1 = x1 cos - x2 sin, y2 = x2 cos + x1 sin; the inverse has -sin. */
static bn_status rotate(const bn_op_call *c, const real *x, real *y, bool inverse, bool add)
{
    int64_t B = c->in[0].shape[0], T = c->in[0].shape[1], W = c->in[0].shape[2];
    int64_t hd = c->params->rope.head_dim, half = hd / 2;
    for (int64_t row = 0; row < B * T; row++) {
        int64_t first = bn_run_position(c->run, row / T);
        if (first < 0 || first > c->in[1].shape[0] - T)
            return bn_error(BN_FAIL, "rope: positions %lld to %lld, the table has %lld",
                            (long long)first, (long long)(first + T - 1),
                            (long long)c->in[1].shape[0]);
        const real *cosine = ref_in(c, 1) + (first + row % T) * hd, *sine = cosine + half;
        for (int64_t at = row * W; at < (row + 1) * W; at += hd) {
            for (int64_t i = 0; i < half; i++) {
                real x1 = x[at + i], x2 = x[at + half + i];
                real s = inverse ? -sine[i] : sine[i];
                ref_put(&y[at + i], add, (double)(x1 * cosine[i] - x2 * s));
                ref_put(&y[at + half + i], add, (double)(x2 * cosine[i] + x1 * s));
            }
        }
    }
    return BN_OK;
}

bn_status REF(bn_rope_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return rotate(c, ref_in(c, 0), ref_out(c, 0), false, false);
}

/* A rotation's gradient is the inverse rotation of dy. */
bn_status REF(bn_rope_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    if (!bn_tensor_present(&c->din[0]))
        return BN_OK;
    return rotate(c, ref_dout(c), ref_din(c, 0), true, c->accumulate[0]);
}
