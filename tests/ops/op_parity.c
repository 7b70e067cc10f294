/* Every set of CPU kernels that this CPU can run against the float32 reference,
 * forward and backward, over all cases of op_cases.c. Integers and whatever is
 * derived from them by a written-down order of operations agree bit for bit;
 * the rest within the limits of one table. */
#include "cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "ops/parity.h"
#include "quant/quantize.h"

static const char *isa; /* of the kernels under test */

static void kernels_agree_with_the_reference(void **state)
{
    (void)state;
    bn_backend *reference;
    op_case_list cases = op_cases_new();
    assert_ok(bn_ref_backend_new(BN_F32, &reference));
    for (int i = 0; (isa = bn_cpu_isa_choice(i)); i++) {
        int count = 0;
        for (int threads = 1; threads <= 3; threads += 2) {
            bn_backend *backend;
            assert_ok(
                bn_cpu_backend_new(&(bn_cpu_options){.threads = threads, .isa = isa}, &backend));
            assert_string_equal(bn_cpu_isa(backend), isa);
            assert_int_equal(bn_threads_count(bn_cpu_threads(backend)), threads);
            assert_int_equal(backend->backwards, 1u << BN_BACKWARD_FLOAT32 |
                                                     1u << BN_BACKWARD_BF16 |
                                                     1u << BN_BACKWARD_INT16);
            for (int k = 0; k < cases.count; k++)
                count += parity_case(&cases.items[k], backend, reference, isa, parity_table);
            bn_backend_free(backend);
        }
        assert_true(count >= 2 * cases.count); /* every op has a kernel */
        print_message("%s: %d comparisons agree\n", isa, count);
    }
    bn_backend_free(reference);
    op_cases_free(&cases);
}

/* Decoding token by token gives the bits of the whole sequence at once. */
static void cached_attention_equals_attention(void **state)
{
    (void)state;
    enum { T = 37, H = 4, KV = 2, HD = 16, STEP = 5 };
    static double q[T * H * HD], kv[2][T * KV * HD], cache[T * KV * HD];
    for (int i = 0; i < T * H * HD; i++)
        q[i] = sin(1.7 * i);
    for (int i = 0; i < T * KV * HD; i++) {
        kv[0][i] = cos(0.9 * i);
        kv[1][i] = sin(0.3 * i);
    }
    for (int c = 0; (isa = bn_cpu_isa_choice(c)); c++) {
        bn_backend *backend;
        assert_ok(bn_cpu_backend_new(&(bn_cpu_options){.threads = 2, .isa = isa}, &backend));
        bn_op_spec whole = {.op = BN_OP_ATTENTION,
                            .params.attention = {H, KV, 0},
                            .in = {bn_tensor_3d(BN_F64, 1, T, H * HD),
                                   bn_tensor_3d(BN_F64, 1, T, KV * HD),
                                   bn_tensor_3d(BN_F64, 1, T, KV * HD)},
                            .data = {q, kv[0], kv[1]}};
        bn_op_instance all, step;
        assert_ok(bn_op_instance_init(&all, backend, &whole));
        assert_ok(bn_op_instance_forward(&all));
        float *keys = NULL, *values = NULL;
        size_t cache_bytes = sizeof(float) * T * KV * HD;
        keys = calloc(1, cache_bytes);
        values = calloc(1, cache_bytes);
        assert_true(keys && values);
        /* Prompts of STEP tokens, then the rest one by one. */
        for (int at = 0; at < T; at += at < 2 * STEP ? STEP : 1) {
            int n = at < 2 * STEP ? STEP : 1;
            bn_op_spec part = {
                .op = BN_OP_KV_ATTENTION,
                .params.attention = {H, KV, 0},
                .run.position = at,
                .in = {bn_tensor_3d(BN_F64, 1, n, H * HD), bn_tensor_3d(BN_F64, 1, n, KV * HD),
                       bn_tensor_3d(BN_F64, 1, n, KV * HD), bn_tensor_2d(BN_F64, T, KV * HD),
                       bn_tensor_2d(BN_F64, T, KV * HD)},
                .data = {q + at * H * HD, kv[0] + at * KV * HD, kv[1] + at * KV * HD, cache,
                         cache}};
            assert_ok(bn_op_instance_init(&step, backend, &part));
            memcpy(bn_tensor_data(&step.call.in[3]), keys, cache_bytes);
            memcpy(bn_tensor_data(&step.call.in[4]), values, cache_bytes);
            assert_ok(bn_op_instance_forward(&step));
            memcpy(keys, bn_tensor_data(&step.call.in[3]), cache_bytes);
            memcpy(values, bn_tensor_data(&step.call.in[4]), cache_bytes);
            const float *expected = (const float *)bn_tensor_data(&all.call.out[0]) + at * H * HD;
            const float *got = bn_tensor_data(&step.call.out[0]);
            for (int i = 0; i < n * H * HD; i++)
                if (memcmp(&got[i], &expected[i], sizeof got[i]) != 0)
                    fail_msg("[%s] position %d, element %d: %.9g cached, %.9g at once", isa, at, i,
                             (double)got[i], (double)expected[i]);
            bn_op_instance_clear(&step);
        }
        free(keys);
        free(values);
        bn_op_instance_clear(&all);
        bn_backend_free(backend);
    }
}

/* A case of caches of codes, again with the caches of what they decode to: same bits. */
static void codes_case(bn_backend *backend, const op_case *k)
{
    bn_op_instance codes, reals;
    const bn_kv_codes c = {k->spec.params.attention.cache_bits, k->spec.params.attention.kv_heads,
                           k->spec.in[0].shape[2] / k->spec.params.attention.heads};
    const int64_t width = c.heads * c.head_dim, rows = k->spec.in[3].shape[0];
    const int64_t bytes = bn_kv_row_bytes(&c), first = k->spec.run.position;
    const int64_t time = k->spec.in[0].shape[1];
    bn_op_spec spec = k->spec;
    double *decoded[2];
    assert_ok(bn_op_instance_init(&codes, backend, &k->spec));
    assert_ok(bn_op_instance_forward(&codes));
    spec.params.attention.cache_bits = 0;
    for (int i = 0; i < 2; i++) {
        const uint8_t *row = bn_tensor_data(&codes.call.in[3 + i]);
        decoded[i] = malloc((size_t)(rows * width) * sizeof *decoded[i]);
        assert_non_null(decoded[i]);
        for (int64_t at = 0; at < rows * c.heads; at++)
            bn_kv_decode_f64(&c, row + at / c.heads * bytes, at % c.heads,
                             decoded[i] + at * c.head_dim);
        /* What was fed, as it came back: a cache of reals takes it as it is. */
        spec.data[1 + i] = decoded[i] + first * width;
        spec.in[3 + i] = bn_tensor_2d(BN_F64, rows, width);
        spec.data[3 + i] = decoded[i];
    }
    assert_ok(bn_op_instance_init(&reals, backend, &spec));
    assert_ok(bn_op_instance_forward(&reals));
    const float *x = bn_tensor_data(&codes.call.out[0]), *y = bn_tensor_data(&reals.call.out[0]);
    for (int64_t i = 0; i < bn_tensor_numel(&codes.call.out[0]); i++)
        if (memcmp(&x[i], &y[i], sizeof *x) != 0)
            fail_msg("%s, %d bits [%s]: element %lld of %lld rows: %.9g, decoded %.9g", k->name,
                     c.bits, isa, (long long)i, (long long)time, (double)x[i], (double)y[i]);
    bn_op_instance_clear(&codes);
    bn_op_instance_clear(&reals);
    free(decoded[0]);
    free(decoded[1]);
}

static void attention_over_codes_reads_what_they_decode_to(void **state)
{
    (void)state;
    op_case_list cases = op_cases_new();
    int seen = 0;
    for (int c = 0; (isa = bn_cpu_isa_choice(c)); c++) {
        bn_backend *backend;
        assert_ok(bn_cpu_backend_new(&(bn_cpu_options){.threads = 2, .isa = isa}, &backend));
        for (int i = 0; i < cases.count; i++)
            if (cases.items[i].spec.op == BN_OP_KV_ATTENTION &&
                cases.items[i].spec.params.attention.cache_bits) {
                codes_case(backend, &cases.items[i]);
                seen++;
            }
        bn_backend_free(backend);
    }
    assert_true(seen >= 8);
    op_cases_free(&cases);
}

static void routines_agree_with_the_reference(void **state)
{
    (void)state;
    bn_backend *reference, *backend;
    assert_ok(bn_ref_backend_new(BN_F32, &reference));
    for (int i = 0; (isa = bn_cpu_isa_choice(i)); i++) {
        assert_ok(bn_cpu_backend_new(&(bn_cpu_options){.threads = 2, .isa = isa}, &backend));
        assert_non_null(backend->muon);
        parity_routines(backend, reference, isa);
        bn_backend_free(backend);
    }
    bn_backend_free(reference);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_agree_with_the_reference),
        cmocka_unit_test(cached_attention_equals_attention),
        cmocka_unit_test(attention_over_codes_reads_what_they_decode_to),
        cmocka_unit_test(routines_agree_with_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
