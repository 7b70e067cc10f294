/* The products and attention, in both shapes, on sizes that need more than one
 * block of everything: rows, columns, depth, keys, groups, chunks. */
#include "cmocka_all.h"

#include <stdlib.h>

#include "cpu/cpu.h"
#include "opencl/opencl.h"
#include "opencl/product_cases.h"
#include "ops/parity.h"

static const parity_limits limits[BN_OP_COUNT] = {
    /* one chain over hundreds of terms; the reference sums in double */
    [BN_OP_LINEAR] = {5e-6, 5e-6},
    [BN_OP_MATMUL] = {5e-6, 5e-6},
    [BN_OP_BITLINEAR] = {0, 5e-6}, /* a logit's rounding is a relative error of its probability */
    [BN_OP_LINEAR_CROSS_ENTROPY] = {2e-6, 1e-5},
    [BN_OP_KV_ATTENTION] = {5e-6, 0},
};

static void check(op_case *k)
{
    static const char *const shapes[] = {"cpu", "gpu"};
    bn_backend *reference, *backend;
    assert_ok(bn_ref_backend_new(BN_F32, &reference));
    for (int s = 0; s < 2; s++) {
        const bn_opencl_options options = {.shape = shapes[s]};
        assert_ok(bn_opencl_backend_new(NULL, &options, &backend));
        assert_true(parity_case(k, backend, reference, shapes[s], limits) > 0);
        bn_backend_free(backend);
    }
    bn_backend_free(reference);
    case_clear(k);
}

static void linear_of_many_blocks(void **state)
{
    (void)state;
    const int64_t sizes[][3] = {{131, 521, 141}, {259, 64, 300}, {2, 700, 35}, {4, 512, 130}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        op_case k = case_linear(sizes[i][0], sizes[i][1], sizes[i][2], true);
        check(&k);
    }
    op_case k = {.name = "matmul", .spec.op = BN_OP_MATMUL};
    case_reals(&k, 0, bn_tensor_2d(BN_F64, 100, 290), 1);
    case_reals(&k, 1, bn_tensor_2d(BN_F64, 290, 136), 1);
    check(&k);
}

static void bitlinear_of_many_blocks(void **state)
{
    (void)state;
    /* rows, in, out, group */
    const int64_t sizes[][4] = {
        {103, 330, 150, 64}, {100, 1100, 40, BN_PER_ROW}, {98, 259, 35, 37}, {1, 640, 77, 64},
        {3, 2100, 50, 128},  {2, 300, 33, 100},           {1, 96, 20, 32},   {5, 512, 260, 0},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int64_t *s = sizes[i];
        op_case k = case_bitlinear(s[0], s[1], s[2], s[3], i % 2);
        check(&k);
    }
}

static void head_of_many_chunks(void **state)
{
    (void)state;
    int32_t *labels = malloc(150 * sizeof *labels);
    assert_non_null(labels);
    op_case k = {.name = "head", .spec.op = BN_OP_LINEAR_CROSS_ENTROPY};
    k.spec.params.cross_entropy.ignore_index = -100;
    k.spec.params.cross_entropy.chunk_rows = 64;
    case_reals(&k, 0, bn_tensor_2d(BN_F64, 150, 70), 1);
    case_reals(&k, 1, bn_tensor_2d(BN_F64, 333, 70), 0.2);
    for (int i = 0; i < 150; i++)
        labels[i] = i % 7 == 3 ? -100 : i * 37 % 333;
    case_place(&k, 2, bn_tensor_1d(BN_I32, 150), labels);
    check(&k);
}

static void attention_of_many_blocks(void **state)
{
    (void)state;
    /* batch, time, heads, key/value heads, head dimension */
    const int64_t sizes[][5] = {
        {2, 200, 3, 1, 32}, {1, 150, 4, 2, 64}, {1, 131, 2, 2, 20}, {1, 97, 2, 1, 128}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int64_t *s = sizes[i];
        op_case k = {.name = "attention", .spec.op = BN_OP_ATTENTION};
        k.spec.params.attention.heads = s[2];
        k.spec.params.attention.kv_heads = s[3];
        case_reals(&k, 0, bn_tensor_3d(BN_F64, s[0], s[1], s[2] * s[4]), 1);
        case_reals(&k, 1, bn_tensor_3d(BN_F64, s[0], s[1], s[3] * s[4]), 1);
        case_reals(&k, 2, bn_tensor_3d(BN_F64, s[0], s[1], s[3] * s[4]), 1);
        check(&k);
    }
    op_case k = {.name = "kv_attention", .spec.op = BN_OP_KV_ATTENTION, .spec.run.position = 101};
    k.spec.params.attention.heads = 4;
    k.spec.params.attention.kv_heads = 2;
    case_reals(&k, 0, bn_tensor_3d(BN_F64, 1, 30, 4 * 24), 1);
    for (int i = 1; i < 3; i++) {
        case_reals(&k, i, bn_tensor_3d(BN_F64, 1, 30, 2 * 24), 1);
        case_reals(&k, i + 2, bn_tensor_2d(BN_F64, 140, 2 * 24), 1);
    }
    check(&k);
}

static void download(bn_op_instance *instance, float *to)
{
    assert_ok(instance->backend->download(instance->backend, &instance->call.out[0], to));
    assert_ok(instance->backend->sync(instance->backend));
}

/* Decoding gives the bits of the whole sequence at once, wherever a step starts. */
static void cached_attention_equals_attention(void **state)
{
    (void)state;
    enum { T = 150, H = 4, KV = 2, HD = 24 };
    const int steps[][2] = {{0, 70}, {70, 1}, {71, 1}, {72, 33}, {105, 5}, {149, 1}};
    static float whole[T * H * HD], part[T * H * HD];
    for (int shape = 0; shape < 2; shape++) {
        const bn_opencl_options options = {.shape = shape ? "gpu" : "cpu"};
        bn_backend *backend;
        bn_op_instance instance;
        op_case k = {.name = "attention", .spec.op = BN_OP_ATTENTION};
        assert_ok(bn_opencl_backend_new(NULL, &options, &backend));
        k.spec.params.attention.heads = H;
        k.spec.params.attention.kv_heads = KV;
        case_reals(&k, 0, bn_tensor_3d(BN_F64, 1, T, H * HD), 1);
        case_reals(&k, 1, bn_tensor_3d(BN_F64, 1, T, KV * HD), 1);
        case_reals(&k, 2, bn_tensor_3d(BN_F64, 1, T, KV * HD), 1);
        assert_ok(bn_op_instance_init(&instance, backend, &k.spec));
        assert_ok(bn_op_instance_forward(&instance));
        download(&instance, whole);
        bn_op_instance_clear(&instance);
        for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
            int first = steps[i][0], n = steps[i][1];
            bn_op_spec step = {
                .op = BN_OP_KV_ATTENTION,
                .params = k.spec.params,
                .run.position = first,
                .in = {bn_tensor_3d(BN_F64, 1, n, H * HD), bn_tensor_3d(BN_F64, 1, n, KV * HD),
                       bn_tensor_3d(BN_F64, 1, n, KV * HD), bn_tensor_2d(BN_F64, T, KV * HD),
                       bn_tensor_2d(BN_F64, T, KV * HD)},
                .data = {(double *)k.owned[0] + first * H * HD,
                         (double *)k.owned[1] + first * KV * HD,
                         (double *)k.owned[2] + first * KV * HD, k.owned[1], k.owned[2]}};
            assert_ok(bn_op_instance_init(&instance, backend, &step));
            assert_ok(bn_op_instance_forward(&instance));
            download(&instance, part);
            bn_op_instance_clear(&instance);
            assert_memory_equal(part, whole + first * H * HD, (size_t)(n * H * HD) * sizeof(float));
        }
        case_clear(&k);
        bn_backend_free(backend);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_of_many_blocks),
        cmocka_unit_test(bitlinear_of_many_blocks),
        cmocka_unit_test(head_of_many_chunks),
        cmocka_unit_test(attention_of_many_blocks),
        cmocka_unit_test(cached_attention_equals_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
