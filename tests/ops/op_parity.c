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
#include "ops/op_cases.h"

/* Largest |fast - ref| / (|ref| + mean|ref|), per op: the second term because a
 * sum of products may cancel. 0 = the same bits. */
static const struct {
    double forward, backward;
} limits[BN_OP_COUNT] = {
    [BN_OP_EMBEDDING] = {0, 1e-6},
    [BN_OP_LINEAR] = {2e-6, 2e-6},
    [BN_OP_MATMUL] = {2e-6, 2e-6},
    [BN_OP_ACT_QUANT] = {0, 0},
    [BN_OP_WEIGHT_QUANT] = {0, 0},
    [BN_OP_BITLINEAR] = {0, 2e-6},
    [BN_OP_ACT_FAKE_QUANT] = {0, 0},
    [BN_OP_WEIGHT_FAKE_QUANT] = {0, 0},
    [BN_OP_ADD] = {0, 2e-7},
    [BN_OP_MUL] = {0, 2e-7},
    [BN_OP_SILU] = {5e-7, 1e-6},
    [BN_OP_RELU2] = {0, 2e-7},
    [BN_OP_GLU] = {5e-7, 1e-6},
    [BN_OP_RMSNORM] = {5e-7, 2e-6},
    [BN_OP_ROPE] = {5e-7, 5e-7},
    /* a score s carries an error of s * 2^-24 into the exponent; "peaked" has |s| > 100 */
    [BN_OP_ATTENTION] = {2e-6, 2e-5},
    [BN_OP_KV_ATTENTION] = {2e-6, 0},
    [BN_OP_SOFTMAX] = {1e-6, 2e-6},
    [BN_OP_CROSS_ENTROPY] = {1e-6, 2e-6},
    [BN_OP_LINEAR_CROSS_ENTROPY] = {2e-6, 5e-6},
    [BN_OP_DROPOUT] = {2e-7, 2e-7},
    [BN_OP_SUM] = {1e-6, 2e-7},
    [BN_OP_MEAN] = {1e-6, 2e-7},
    [BN_OP_RESHAPE] = {0, 0},
    [BN_OP_TRANSPOSE] = {0, 0},
    [BN_OP_SLICE] = {0, 0},
};

static const char *isa; /* of the kernels under test */

static void same_bytes(const char *name, const char *what, const bn_tensor *a, const bn_tensor *b)
{
    const uint8_t *x = bn_tensor_data(a), *y = bn_tensor_data(b);
    for (size_t i = 0; i < bn_tensor_bytes(a); i++)
        if (x[i] != y[i])
            fail_msg("%s [%s]: %s: byte %zu is %d, the reference has %d", name, isa, what, i, x[i],
                     y[i]);
}

static void near(const char *name, const char *what, const bn_tensor *a, const bn_tensor *b,
                 double limit)
{
    const float *x = bn_tensor_data(a), *y = bn_tensor_data(b);
    int64_t n = bn_tensor_numel(a);
    double mean = 0;
    for (int64_t i = 0; i < n; i++)
        mean += fabs((double)y[i]) / (double)n;
    for (int64_t i = 0; i < n; i++) {
        double error = fabs((double)x[i] - (double)y[i]);
        if (!(error <= limit * (fabs((double)y[i]) + mean)))
            fail_msg("%s [%s]: %s[%lld] is %.9g, the reference has %.9g (relative %.2e)", name, isa,
                     what, (long long)i, (double)x[i], (double)y[i],
                     error / (fabs((double)y[i]) + mean));
    }
}

static void compare(const char *name, const char *what, const bn_tensor *a, const bn_tensor *b,
                    double limit)
{
    assert_int_equal(a->dtype, b->dtype);
    assert_true(bn_tensor_same_shape(a, b));
    if (a->dtype != BN_F32 || limit <= 0)
        same_bytes(name, what, a, b);
    else
        near(name, what, a, b, limit);
}

static void fill(const bn_tensor *t, float first, float step)
{
    float *p = bn_tensor_data(t);
    for (int64_t i = 0; i < bn_tensor_numel(t); i++)
        p[i] = first + step * (float)(i % 17);
}

/* Both operate on the reference's saved values, so that errors do not add up. */
static void compare_backward(const op_case *k, bn_op_instance *fast, bn_op_instance *ref,
                             unsigned wanted, unsigned added)
{
    bn_op_instance *both[2] = {fast, ref};
    const bn_op_call *rc = &ref->call;
    for (int j = 0; j < BN_MAX_OUT; j++)
        if (bn_tensor_present(&rc->out[j]))
            memcpy(bn_tensor_data(&fast->call.out[j]), bn_tensor_data(&rc->out[j]),
                   bn_tensor_bytes(&rc->out[j]));
    for (int b = 0; b < 2; b++) {
        fill(&both[b]->call.dout, -0.8f, 0.1f);
        for (unsigned i = 0; i < BN_MAX_IN; i++)
            if (bn_tensor_present(&rc->din[i]))
                fill(&both[b]->call.din[i], added >> i & 1u ? 0.5f : NAN, 0);
        assert_ok(bn_op_instance_backward(both[b], wanted, added));
    }
    for (unsigned i = 0; i < BN_MAX_IN; i++)
        if (wanted >> i & 1u) {
            char what[32];
            snprintf(what, sizeof what, "gradient %u (%s)", i, added >> i & 1u ? "add" : "store");
            compare(k->name, what, &fast->call.din[i], &rc->din[i], limits[k->spec.op].backward);
        }
}

static void compare_case(const op_case *k, bn_backend *backend, bn_backend *reference)
{
    const bn_op_info *info = &bn_op_table[k->spec.op];
    bn_op_instance fast, ref;
    assert_ok(bn_op_instance_init(&fast, backend, &k->spec));
    assert_ok(bn_op_instance_init(&ref, reference, &k->spec));
    assert_ok(bn_op_instance_forward(&fast));
    assert_ok(bn_op_instance_forward(&ref));
    for (int j = 0; j < info->n_out; j++) {
        const char *what = j == 0 ? "output 0" : "output 1";
        compare(k->name, what, &fast.call.out[j], &ref.call.out[j], limits[k->spec.op].forward);
    }
    for (int j = 0; j < info->n_in; j++) /* caches are written, the rest must not be */
        if (bn_tensor_present(&ref.call.in[j]))
            compare(k->name, "input after", &fast.call.in[j], &ref.call.in[j], 0);
    if (!(info->traits & (BN_PASS | BN_NOGRAD))) {
        unsigned all = bn_op_instance_grads(&ref);
        compare_backward(k, &fast, &ref, all, 0);
        compare_backward(k, &fast, &ref, all, all);
        for (unsigned i = 0; i < BN_MAX_IN; i++)
            if (all >> i & 1u)
                compare_backward(k, &fast, &ref, 1u << i, 0);
    }
    bn_op_instance_clear(&fast);
    bn_op_instance_clear(&ref);
}

static void kernels_agree_with_the_reference(void **state)
{
    (void)state;
    bn_backend *reference;
    op_case_list cases = op_cases_new();
    assert_ok(bn_ref_backend_new(BN_F32, &reference));
    for (int i = 0; (isa = bn_cpu_isa_choice(i)); i++) {
        for (int threads = 1; threads <= 3; threads += 2) {
            bn_backend *backend;
            assert_ok(bn_cpu_backend_new(&(bn_cpu_options){threads, isa}, &backend));
            assert_string_equal(bn_cpu_isa(backend), isa);
            assert_int_equal(bn_threads_count(bn_cpu_threads(backend)), threads);
            for (int k = 0; k < cases.count; k++)
                compare_case(&cases.items[k], backend, reference);
            bn_backend_free(backend);
        }
        print_message("%s: %d cases agree\n", isa, cases.count);
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
        assert_ok(bn_cpu_backend_new(&(bn_cpu_options){2, isa}, &backend));
        bn_op_spec whole = {.op = BN_OP_ATTENTION,
                            .params.attention = {H, KV},
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
                .params.attention = {H, KV},
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

/* ---- routines on flat tensors -------------------------------------------- */

enum { FLAT = 70001 };

typedef struct flat {
    bn_buffer memory;
    bn_tensor p, g, m, v, norm;
} flat;

static void flat_init(flat *f, bn_backend *backend)
{
    bn_tensor *all[] = {&f->p, &f->g, &f->m, &f->v};
    size_t bytes = (FLAT * sizeof(float) + BN_ALIGN - 1) / BN_ALIGN * BN_ALIGN;
    assert_ok(backend->alloc(backend, 5 * bytes, &f->memory));
    for (int i = 0; i < 4; i++) {
        *all[i] = bn_tensor_at(bn_tensor_1d(BN_F32, FLAT), &f->memory, (size_t)i * bytes);
        float *x = bn_tensor_data(all[i]);
        for (int j = 0; j < FLAT; j++)
            x[j] = (float)sin(0.37 * (j + 1) * (i + 1)) * (i == 3 ? 1e-3f : 0.1f);
        for (int j = 0; i == 3 && j < FLAT; j++)
            x[j] = fabsf(x[j]); /* second moments */
    }
    f->norm = bn_tensor_at(bn_tensor_1d(BN_F32, 1), &f->memory, 4 * bytes);
}

static void routines_agree_with_the_reference(void **state)
{
    (void)state;
    bn_backend *reference, *backend;
    assert_ok(bn_ref_backend_new(BN_F32, &reference));
    for (int i = 0; (isa = bn_cpu_isa_choice(i)); i++) {
        assert_ok(bn_cpu_backend_new(&(bn_cpu_options){2, isa}, &backend));
        bn_backend *both[2] = {backend, reference};
        flat f[2];
        for (int clip = 0; clip <= 1; clip++) {
            for (int b = 0; b < 2; b++) {
                const bn_adamw o = {.lr = 1e-3,
                                    .beta1 = 0.9,
                                    .beta2 = 0.95,
                                    .eps = 1e-8,
                                    .weight_decay = 0.1,
                                    .step = 3,
                                    .decay_end = 50003,
                                    .clip = clip};
                flat_init(&f[b], both[b]);
                assert_ok(both[b]->norm(both[b], &f[b].g, &f[b].norm));
                assert_ok(
                    both[b]->adamw(both[b], &o, &f[b].p, &f[b].g, &f[b].m, &f[b].v, &f[b].norm));
                assert_ok(both[b]->scale(both[b], &f[b].g, 0.3));
            }
            near("norm", "norm", &f[0].norm, &f[1].norm, 2e-7);
            near("adamw", "parameter", &f[0].p, &f[1].p, 5e-7);
            near("adamw", "first moment", &f[0].m, &f[1].m, 5e-7);
            near("adamw", "second moment", &f[0].v, &f[1].v, 5e-7);
            near("scale", "x", &f[0].g, &f[1].g, 2e-7);
            backend->release(backend, &f[0].memory);
            reference->release(reference, &f[1].memory);
        }
        bn_backend_free(backend);
    }
    bn_backend_free(reference);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_agree_with_the_reference),
        cmocka_unit_test(cached_attention_equals_attention),
        cmocka_unit_test(routines_agree_with_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
