#include "opencl/product_cases.h"

#include "cmocka_all.h"

#include <stdlib.h>

#include "base/rng.h"

static void *memory(size_t bytes)
{
    void *p = malloc(bytes);
    assert_non_null(p);
    return p;
}

void case_place(op_case *k, int i, bn_tensor t, void *data)
{
    k->spec.in[i] = t;
    k->spec.data[i] = k->owned[i] = data;
}

void case_reals(op_case *k, int i, bn_tensor t, double scale)
{
    bn_rng rng = bn_rng_of(11, (uint64_t)i);
    int64_t n = bn_tensor_numel(&t);
    double *x = memory((size_t)n * sizeof *x);
    for (int64_t j = 0; j < n; j++)
        x[j] = scale * bn_rng_normal(&rng);
    case_place(k, i, t, x);
}

void case_positives(op_case *k, int i, bn_tensor t)
{
    bn_rng rng = bn_rng_of(12, (uint64_t)i);
    int64_t n = bn_tensor_numel(&t);
    double *x = memory((size_t)n * sizeof *x);
    for (int64_t j = 0; j < n; j++)
        x[j] = 0.01 + 0.001 * (double)bn_rng_below(&rng, 50);
    case_place(k, i, t, x);
}

/* Random bytes; of packed codes the invalid field 3 becomes 1. */
void case_codes(op_case *k, int i, bn_tensor t)
{
    bn_rng rng = bn_rng_of(13, (uint64_t)i);
    size_t bytes = bn_tensor_bytes(&t);
    uint8_t *x = memory(bytes);
    for (size_t j = 0; j < bytes; j++) {
        unsigned byte = (unsigned)bn_rng_below(&rng, 256), invalid = byte & byte >> 1 & 0x55u;
        x[j] = (uint8_t)(t.dtype == BN_T2 ? byte & ~(invalid << 1) : byte);
    }
    case_place(k, i, t, x);
}

op_case case_linear(int64_t rows, int64_t in, int64_t out, bool bias)
{
    op_case k = {.name = "linear", .spec.op = BN_OP_LINEAR};
    case_reals(&k, 0, bn_tensor_2d(BN_F64, rows, in), 1);
    case_reals(&k, 1, bn_tensor_2d(BN_F64, out, in), 1);
    if (bias)
        case_reals(&k, 2, bn_tensor_1d(BN_F64, out), 1);
    return k;
}

op_case case_bitlinear(int64_t rows, int64_t in, int64_t out, int64_t group, bool bias)
{
    op_case k = {.name = "bitlinear", .spec.op = BN_OP_BITLINEAR};
    k.spec.params.weight.group_size = group;
    case_codes(&k, 0, bn_tensor_2d(BN_I8, rows, in));
    case_positives(&k, 1, bn_tensor_1d(BN_F64, rows));
    case_codes(&k, 2, bn_tensor_2d(BN_T2, out, in));
    case_positives(&k, 3, bn_weight_scale_shape(BN_F64, out, in, group));
    if (bias)
        case_reals(&k, 4, bn_tensor_1d(BN_F64, out), 1);
    return k;
}

void case_clear(op_case *k)
{
    for (int i = 0; i < BN_MAX_IN; i++)
        free(k->owned[i]);
}

static void append(bn_backend *backend, const bn_tensor *t, unsigned char *to, size_t *bytes)
{
    if (!bn_tensor_present(t))
        return;
    assert_ok(backend->download(backend, t, to + *bytes));
    *bytes += bn_tensor_bytes(t);
}

unsigned char *case_run(const op_case *k, bn_backend *backend, size_t *bytes)
{
    bn_op_instance op;
    assert_ok(bn_op_instance_init(&op, backend, &k->spec));
    const int64_t n = bn_tensor_numel(&op.call.dout);
    float *dy = memory((size_t)n * sizeof *dy);
    unsigned char *out = memory(op.memory.bytes);
    for (int64_t i = 0; i < n; i++)
        dy[i] = (float)(i % 13 - 5) * 0.1f;
    assert_ok(bn_backend_put_f32(backend, &op.call.dout, dy, n));
    assert_ok(bn_op_instance_forward(&op));
    assert_ok(bn_op_instance_backward(&op, bn_op_instance_grads(&op), 0));
    *bytes = 0;
    for (int i = 0; i < BN_MAX_OUT; i++)
        append(backend, &op.call.out[i], out, bytes);
    for (int i = 0; i < BN_MAX_IN; i++)
        append(backend, &op.call.din[i], out, bytes);
    assert_ok(backend->sync(backend));
    bn_op_instance_clear(&op);
    free(dy);
    return out;
}
