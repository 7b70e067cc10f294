/* The same bits for any number of threads, and, where no OpenBLAS is involved,
 * for every instruction set; attention with a cache against attention at once
 * over several blocks. Shapes are large enough for many chunks. */
#include "cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/op_instance.h"
#include "base/rng.h"
#include "cpu/cpu.h"

static void *must(void *p)
{
    assert_non_null(p);
    return p;
}

/* ---- one op with random operands ----------------------------------------- */

typedef struct subject {
    bn_op_spec spec;
    void *owned[BN_MAX_IN];
} subject;

static uint64_t next_stream;

static void reals(subject *s, int i, bn_tensor t)
{
    bn_rng rng = bn_rng_of(5, next_stream++);
    int64_t n = bn_tensor_numel(&t);
    double *x = s->owned[i] = must(malloc((size_t)n * sizeof *x));
    for (int64_t j = 0; j < n; j++)
        x[j] = bn_rng_normal(&rng);
    s->spec.in[i] = t;
    s->spec.data[i] = x;
}

static void ids(subject *s, int i, bn_tensor t, int32_t below)
{
    bn_rng rng = bn_rng_of(6, next_stream++);
    int64_t n = bn_tensor_numel(&t);
    int32_t *x = s->owned[i] = must(malloc((size_t)n * sizeof *x));
    for (int64_t j = 0; j < n; j++)
        x[j] = (int32_t)bn_rng_below(&rng, (uint64_t)below);
    s->spec.in[i] = t;
    s->spec.data[i] = x;
}

/* Random bytes: int8 codes, or packed codes with the invalid field 3 put right. */
static void codes(subject *s, int i, bn_tensor t)
{
    bn_rng rng = bn_rng_of(7, next_stream++);
    size_t n = bn_tensor_bytes(&t);
    uint8_t *x = s->owned[i] = must(malloc(n));
    for (size_t j = 0; j < n; j++) {
        unsigned byte = (unsigned)bn_rng_below(&rng, 256);
        unsigned invalid = byte & byte >> 1 & 0x55u;
        x[j] = (uint8_t)(t.dtype == BN_T2 ? byte & ~(invalid << 1) : byte);
    }
    s->spec.in[i] = t;
    s->spec.data[i] = x;
}

enum { SUBJECTS = 16 };

static subject subject_of(int which)
{
    enum { R = 700, C = 200, V = 300, B = 2, T = 150, H = 4, KV = 2, HD = 20 };
    subject s = {.spec.run = {.seed = 3, .step = 4}};
    bn_tensor rows = bn_tensor_2d(BN_F64, R, C), row = bn_tensor_1d(BN_F64, C);
    switch (which) {
    case 0:
    case 1: /* add, mul */
        s.spec.op = which == 0 ? BN_OP_ADD : BN_OP_MUL;
        reals(&s, 0, rows);
        reals(&s, 1, rows);
        break;
    case 2:
    case 3: /* silu, relu2 */
        s.spec.op = which == 2 ? BN_OP_SILU : BN_OP_RELU2;
        reals(&s, 0, rows);
        break;
    case 4:
    case 5:
        s.spec.op = BN_OP_GLU;
        s.spec.params.glu.activation = which == 4 ? BN_ACT_SILU : BN_ACT_RELU2;
        reals(&s, 0, rows);
        reals(&s, 1, rows);
        break;
    case 6:
        s.spec.op = BN_OP_RMSNORM;
        s.spec.params.rmsnorm.eps = 1e-5;
        reals(&s, 0, rows);
        reals(&s, 1, row);
        break;
    case 7:
        s.spec.op = BN_OP_SOFTMAX;
        reals(&s, 0, rows);
        break;
    case 8:
        s.spec.op = BN_OP_CROSS_ENTROPY;
        s.spec.params.cross_entropy.ignore_index = 7;
        reals(&s, 0, rows);
        ids(&s, 1, bn_tensor_1d(BN_I32, R), C);
        break;
    case 9:
        s.spec.op = BN_OP_EMBEDDING;
        ids(&s, 0, bn_tensor_2d(BN_I32, 7, R / 7), V);
        reals(&s, 1, bn_tensor_2d(BN_F64, V, C));
        break;
    case 10:
        s.spec.op = BN_OP_DROPOUT;
        s.spec.params.dropout.p = 0.3;
        reals(&s, 0, rows);
        break;
    case 11:
        s.spec.op = BN_OP_ROPE;
        s.spec.params.rope.head_dim = HD;
        reals(&s, 0, bn_tensor_3d(BN_F64, B, T, H * HD));
        reals(&s, 1, bn_tensor_2d(BN_F64, T, HD));
        break;
    case 12:
        s.spec.op = BN_OP_ATTENTION;
        s.spec.params.attention.heads = H;
        s.spec.params.attention.kv_heads = KV;
        reals(&s, 0, bn_tensor_3d(BN_F64, B, T, H * HD));
        reals(&s, 1, bn_tensor_3d(BN_F64, B, T, KV * HD));
        reals(&s, 2, bn_tensor_3d(BN_F64, B, T, KV * HD));
        break;
    case 13:
        s.spec.op = BN_OP_LINEAR;
        reals(&s, 0, rows);
        reals(&s, 1, bn_tensor_2d(BN_F64, V, C));
        reals(&s, 2, bn_tensor_1d(BN_F64, V));
        break;
    case 14:
        s.spec.op = BN_OP_BITLINEAR;
        s.spec.params.weight.group_size = 64;
        codes(&s, 0, bn_tensor_2d(BN_I8, R, C));
        reals(&s, 1, bn_tensor_1d(BN_F64, R));
        codes(&s, 2, bn_tensor_2d(BN_T2, V, C));
        reals(&s, 3, bn_weight_scale_shape(BN_F64, V, C, 64));
        reals(&s, 4, bn_tensor_1d(BN_F64, V));
        break;
    default:
        s.spec.op = BN_OP_LINEAR_CROSS_ENTROPY;
        s.spec.params.cross_entropy.ignore_index = 7;
        s.spec.params.cross_entropy.chunk_rows = 256;
        reals(&s, 0, rows);
        reals(&s, 1, bn_tensor_2d(BN_F64, V, C));
        ids(&s, 2, bn_tensor_1d(BN_I32, R), V);
        break;
    }
    return s;
}

static void subject_clear(subject *s)
{
    for (int i = 0; i < BN_MAX_IN; i++)
        free(s->owned[i]);
}

/* ---- comparison ---------------------------------------------------------- */

static void run(bn_op_instance *op, bn_backend *backend, const subject *s)
{
    assert_ok(bn_op_instance_init(op, backend, &s->spec));
    assert_ok(bn_op_instance_forward(op));
    float *dy = bn_tensor_data(&op->call.dout);
    for (int64_t i = 0; i < bn_tensor_numel(&op->call.dout); i++)
        dy[i] = (float)sin((double)i);
    unsigned all = bn_op_instance_grads(op);
    for (unsigned i = 0; i < BN_MAX_IN; i++)
        if (bn_tensor_present(&op->call.din[i]))
            memset(bn_tensor_data(&op->call.din[i]), 0, bn_tensor_bytes(&op->call.din[i]));
    assert_ok(bn_op_instance_backward(op, all, all & 5u)); /* some are added */
}

static void same(const char *isa, int threads, const bn_op_instance *a, const bn_op_instance *b)
{
    const char *name = bn_op_table[a->call.op].name;
    for (int i = 0; i < BN_MAX_OUT; i++) {
        const bn_tensor *x = &a->call.out[i], *y = &b->call.out[i];
        if (bn_tensor_present(x) &&
            memcmp(bn_tensor_data(x), bn_tensor_data(y), bn_tensor_bytes(x)) != 0)
            fail_msg("%s [%s, %d threads]: other bits in output %d", name, isa, threads, i);
    }
    for (int i = 0; i < BN_MAX_IN; i++) {
        const bn_tensor *x = &a->call.din[i], *y = &b->call.din[i];
        if (bn_tensor_present(x) &&
            memcmp(bn_tensor_data(x), bn_tensor_data(y), bn_tensor_bytes(x)) != 0)
            fail_msg("%s [%s, %d threads]: other bits in gradient %d", name, isa, threads, i);
    }
}

static void threads_do_not_change_bits(void **state)
{
    (void)state;
    const char *isa;
    for (int c = 0; (isa = bn_cpu_isa_choice(c)); c++) {
        bn_backend *backend[4];
        for (int t = 0; t < 4; t++)
            assert_ok(
                bn_cpu_backend_new(&(bn_cpu_options){.threads = t + 1, .isa = isa}, &backend[t]));
        for (int which = 0; strcmp(isa, "ref") != 0 && which < SUBJECTS; which++) {
            subject s = subject_of(which);
            bn_op_instance one, more;
            run(&one, backend[0], &s);
            for (int t = 1; t < 4; t++) {
                run(&more, backend[t], &s);
                same(isa, t + 1, &more, &one);
                bn_op_instance_clear(&more);
            }
            bn_op_instance_clear(&one);
            subject_clear(&s);
        }
        for (int t = 0; t < 4; t++)
            bn_backend_free(backend[t]);
    }
}

/* The first 13 subjects use no OpenBLAS. */
static void instruction_sets_do_not_change_bits(void **state)
{
    (void)state;
    const char *isa;
    bn_backend *generic, *backend;
    assert_ok(bn_cpu_backend_new(&(bn_cpu_options){.threads = 2, .isa = "generic"}, &generic));
    for (int c = 2; (isa = bn_cpu_isa_choice(c)); c++) {
        assert_ok(bn_cpu_backend_new(&(bn_cpu_options){.threads = 2, .isa = isa}, &backend));
        for (int which = 0; which < 13; which++) {
            subject s = subject_of(which);
            bn_op_instance a, b;
            run(&a, backend, &s);
            run(&b, generic, &s);
            same(isa, 2, &a, &b);
            bn_op_instance_clear(&a);
            bn_op_instance_clear(&b);
            subject_clear(&s);
        }
        bn_backend_free(backend);
    }
    bn_backend_free(generic);
}

/* ---- attention with a cache ---------------------------------------------- */

enum { LONG = 150, HEADS = 4, KV_HEADS = 2, HEAD_DIM = 24, P = 160 };

/* Rows at..at+n-1 through the cache, compared with those of `all`. */
static void check_step(bn_backend *backend, const bn_op_spec *whole, const bn_op_instance *all,
                       int at, int n, float *const cache[2])
{
    static const double empty[P * KV_HEADS * HEAD_DIM];
    const double *const *data = (const double *const *)whole->data;
    enum { Q = HEADS * HEAD_DIM, W = KV_HEADS * HEAD_DIM };
    bn_op_spec part = {
        .op = BN_OP_KV_ATTENTION,
        .params = whole->params,
        .run.position = at,
        .in = {bn_tensor_3d(BN_F64, 1, n, Q), bn_tensor_3d(BN_F64, 1, n, W),
               bn_tensor_3d(BN_F64, 1, n, W), bn_tensor_2d(BN_F64, P, W),
               bn_tensor_2d(BN_F64, P, W)},
        .data = {data[0] + at * Q, data[1] + at * W, data[2] + at * W, empty, empty}};
    bn_op_instance step;
    assert_ok(bn_op_instance_init(&step, backend, &part));
    for (int i = 0; i < 2; i++)
        memcpy(bn_tensor_data(&step.call.in[3 + i]), cache[i], sizeof(float) * P * W);
    assert_ok(bn_op_instance_forward(&step));
    for (int i = 0; i < 2; i++)
        memcpy(cache[i], bn_tensor_data(&step.call.in[3 + i]), sizeof(float) * P * W);
    const float *want = (const float *)bn_tensor_data(&all->call.out[0]) + at * Q;
    if (memcmp(bn_tensor_data(&step.call.out[0]), want, sizeof(float) * (size_t)(n * Q)) != 0)
        fail_msg("[%s] rows %d to %d: other bits with a cache", bn_cpu_isa(backend), at,
                 at + n - 1);
    bn_op_instance_clear(&step);
}

static void a_cache_does_not_change_bits(void **state)
{
    (void)state;
    static float keys[P * KV_HEADS * HEAD_DIM], values[P * KV_HEADS * HEAD_DIM];
    float *const cache[2] = {keys, values};
    subject s = {.spec = {.op = BN_OP_ATTENTION, .params.attention = {HEADS, KV_HEADS, 0}}};
    reals(&s, 0, bn_tensor_3d(BN_F64, 1, LONG, HEADS * HEAD_DIM));
    reals(&s, 1, bn_tensor_3d(BN_F64, 1, LONG, KV_HEADS * HEAD_DIM));
    reals(&s, 2, bn_tensor_3d(BN_F64, 1, LONG, KV_HEADS * HEAD_DIM));
    for (int c = 0; bn_cpu_isa_choice(c); c++) {
        bn_backend *backend;
        bn_op_instance all;
        assert_ok(bn_cpu_backend_new(&(bn_cpu_options){.threads = 2, .isa = bn_cpu_isa_choice(c)},
                                     &backend));
        assert_ok(bn_op_instance_init(&all, backend, &s.spec));
        assert_ok(bn_op_instance_forward(&all));
        check_step(backend, &s.spec, &all, 0, 61, cache); /* a prompt, then one by one, */
        for (int at = 61; at < 75; at++)
            check_step(backend, &s.spec, &all, at, 1, cache);
        check_step(backend, &s.spec, &all, 75, 70, cache); /* then over a border of blocks */
        for (int at = 145; at < LONG; at++)
            check_step(backend, &s.spec, &all, at, 1, cache);
        bn_op_instance_clear(&all);
        bn_backend_free(backend);
    }
    subject_clear(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(instruction_sets_do_not_change_bits),
        cmocka_unit_test(a_cache_does_not_change_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
