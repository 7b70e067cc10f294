/* Embedding lookup. */
#include "cpu/ref/ref.h"

/* ids i32 [R], weight [V,D] -> y [R,D], y[r] = weight[ids[r]] */
bn_status REF(bn_embedding_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t R = bn_tensor_numel(&c->in[0]), V = c->in[1].shape[0], D = c->in[1].shape[1];
    const int32_t *ids = ref_data(&c->in[0]);
    const real *weight = ref_in(c, 1);
    real *y = ref_out(c, 0);
    for (int64_t r = 0; r < R; r++) {
        if (ids[r] < 0 || ids[r] >= V)
            return bn_error(BN_FAIL, "embedding: id %d at position %lld, expected 0 to %lld",
                            (int)ids[r], (long long)r, (long long)V - 1);
        memcpy(y + r * D, weight + ids[r] * D, (size_t)D * sizeof *y);
    }
    return BN_OK;
}

/* dy [R,D] -> dweight[v] = sum of dy[r] over the rows r with ids[r] = v */
bn_status REF(bn_embedding_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t R = bn_tensor_numel(&c->in[0]), V = c->in[1].shape[0], D = c->in[1].shape[1];
    const int32_t *ids = ref_data(&c->in[0]);
    const real *dy = ref_dout(c);
    real *dweight = ref_din(c, 1);
    if (!dweight)
        return BN_OK;
    if (!c->accumulate[1])
        memset(dweight, 0, (size_t)(V * D) * sizeof *dweight);
    for (int64_t r = 0; r < R; r++)
        for (int64_t d = 0; d < D; d++)
            dweight[ids[r] * D + d] += dy[r * D + d];
    return BN_OK;
}
