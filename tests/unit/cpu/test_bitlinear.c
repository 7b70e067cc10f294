/* The integer product and the quantizers of every instruction set against
 * quant/quantize.h, bit for bit. */
#include "cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cpu/cpu.h"
#include "quant/pack.h"
#include "quant/quantize.h"

static void *must(void *p)
{
    assert_non_null(p);
    return p;
}

/* ---- the product --------------------------------------------------------- */

typedef enum codes {
    RANDOM,
    LARGEST, /* weights +1, x -128: the largest sums */
    MIXED,   /* weights -1, x 127 and -128 in turn */
    WIDE,    /* int8 weights, half of each row extreme */
} codes;

/* Host data of one product and what the reference makes of it. */
typedef struct product {
    bn_int_product shape;
    int8_t *x, *w;
    uint8_t *packed;
    float *step, *scale, *bias, *want;
} product;

static product product_of(int64_t rows, int64_t out, int64_t in, int64_t group_size, bool one_step,
                          bool bias, codes kind)
{
    bn_rng rng = bn_rng_of((uint64_t)(rows * 1000003 + out * 1009 + in), (uint64_t)group_size);
    int64_t scales = bn_scale_count(out, in, group_size), steps = one_step ? 1 : rows;
    product p = {
        .x = must(malloc((size_t)(rows * in))),
        .w = must(malloc((size_t)(out * in))),
        .packed = must(malloc((size_t)(out * bn_t2_row_bytes(in)))),
        .step = must(malloc((size_t)steps * sizeof(float))),
        .scale = must(malloc((size_t)scales * sizeof(float))),
        .bias = bias ? must(malloc((size_t)out * sizeof(float))) : NULL,
        .want = must(malloc((size_t)(rows * out) * sizeof(float))),
    };
    for (int64_t i = 0; i < rows * in; i++)
        p.x[i] = kind == RANDOM    ? (int8_t)bn_rng_below(&rng, 256)
                 : kind == WIDE    ? (int8_t)(i % 2 ? -128 : (int)bn_rng_below(&rng, 256) - 128)
                 : kind == LARGEST ? -128
                                   : (int8_t)(i % 2 ? 127 : -128);
    for (int64_t i = 0; i < out * in; i++)
        p.w[i] = kind == RANDOM    ? (int8_t)((int)bn_rng_below(&rng, 3) - 1)
                 : kind == WIDE    ? (int8_t)(i % 2 ? -128 : (int)bn_rng_below(&rng, 256) - 128)
                 : kind == LARGEST ? 1
                                   : -1;
    for (int64_t i = 0; i < steps; i++)
        p.step[i] = (float)(0.001 + bn_rng_uniform(&rng));
    for (int64_t i = 0; i < scales; i++)
        p.scale[i] = (float)(0.001 + bn_rng_uniform(&rng));
    for (int64_t i = 0; bias && i < out; i++)
        p.bias[i] = (float)bn_rng_normal(&rng);
    p.shape = (bn_int_product){.x = p.x,
                               .packed = p.packed,
                               .rows = rows,
                               .out = out,
                               .in = in,
                               .group_size = group_size,
                               .per_tensor_step = one_step};
    if (kind == WIDE)
        p.shape.wide = p.w;
    else
        bn_t2_pack(p.w, out, in, p.packed);
    bn_int_product_f32(&p.shape, p.step, p.scale, p.bias, p.want);
    return p;
}

static void product_free(product *p)
{
    free(p->x);
    free(p->w);
    free(p->packed);
    free(p->step);
    free(p->scale);
    free(p->bias);
    free(p->want);
}

/* Places host memory under a tensor. */
static bn_tensor over(bn_buffer *buffer, bn_tensor t, void *data)
{
    *buffer = (bn_buffer){.host = data, .bytes = bn_tensor_bytes(&t)};
    return bn_tensor_at(t, buffer, 0);
}

static bool in_lanes(const bn_int_product *s)
{
    return s->out % 8 == 0 && s->in % 16 == 0 && (s->group_size <= 0 || s->group_size % 16 == 0);
}

/* The product with the weight as it is and, where the backend can, arranged. */
static void check_layout(bn_backend *backend, const product *p, bool arranged)
{
    const bn_int_product *s = &p->shape;
    bn_buffer memory[8] = {0};
    bn_op_params params = {.weight.group_size = s->group_size};
    bn_run run = {0};
    bn_op_call c = {.op = BN_OP_BITLINEAR, .params = &params, .run = &run};
    c.in[0] = over(&memory[0], bn_tensor_2d(BN_I8, s->rows, s->in), p->x);
    c.in[1] = over(&memory[1], bn_tensor_1d(BN_F32, s->per_tensor_step ? 1 : s->rows), p->step);
    c.in[2] = over(&memory[2], bn_tensor_2d(s->wide ? BN_I8 : BN_T2, s->out, s->in),
                   s->wide ? (void *)p->w : (void *)p->packed);
    c.in[3] =
        over(&memory[3], bn_weight_scale_shape(BN_F32, s->out, s->in, s->group_size), p->scale);
    if (p->bias)
        c.in[4] = over(&memory[4], bn_tensor_1d(BN_F32, s->out), p->bias);
    if (arranged) {
        assert_ok(backend->arrange(backend, &c.in[2], &c.in[3], s->group_size));
        assert_int_equal(c.in[2].dtype, in_lanes(s) ? BN_T2_LANES : BN_T2);
    }
    float *y = must(malloc((size_t)(s->rows * s->out) * sizeof *y));
    memset(y, 0xff, (size_t)(s->rows * s->out) * sizeof *y);
    c.out[0] = over(&memory[5], bn_tensor_2d(BN_F32, s->rows, s->out), y);
    bn_scratch_rule rule = backend->rows[BN_OP_BITLINEAR].forward_scratch;
    size_t bytes = rule ? rule(backend, &c) : 0;
    uint8_t *scratch = must(malloc(bytes + 1));
    memset(scratch, 0xa5, bytes + 1);
    if (bytes > 0)
        c.scratch = over(&memory[6], bn_tensor_1d(BN_U8, (int64_t)bytes), scratch);
    assert_ok(bn_backend_forward(backend, &c));
    for (int64_t i = 0; i < s->rows * s->out; i++)
        if (memcmp(&y[i], &p->want[i], sizeof *y) != 0)
            fail_msg("[%s%s] %lld x %lld x %lld, group %lld: row %lld, output %lld is %.9g, "
                     "expected %.9g",
                     bn_cpu_isa(backend), arranged ? ", arranged" : "", (long long)s->rows,
                     (long long)s->out, (long long)s->in, (long long)s->group_size,
                     (long long)(i / s->out), (long long)(i % s->out), (double)y[i],
                     (double)p->want[i]);
    free(y);
    free(scratch);
}

/* Arranges p's weight for good. */
static void check_product(bn_backend *backend, const product *p)
{
    check_layout(backend, p, false);
    if (backend->arrange && !p->shape.wide)
        check_layout(backend, p, true);
}

typedef void (*with_backend)(bn_backend *backend);

static void for_each_backend(with_backend fn)
{
    for (int i = 0; bn_cpu_isa_choice(i); i++)
        for (int threads = 1; threads <= 3; threads += 2) {
            bn_backend *backend;
            const bn_cpu_options options = {.threads = threads, .isa = bn_cpu_isa_choice(i)};
            assert_ok(bn_cpu_backend_new(&options, &backend));
            fn(backend);
            bn_backend_free(backend);
        }
}

static void check_wide(bn_backend *backend)
{
    static const int64_t rows[] = {1, 3}, outs[] = {1, 4, 37}, ins[] = {1, 15, 16, 100, 2051};
    static const int64_t groups[] = {BN_PER_TENSOR, BN_PER_ROW, 32, 48};
    for (int n = 0; n < 2 * 3 * 5 * 4; n++) {
        const int64_t in = ins[n / 6 % 5], group = groups[n / 30];
        product p = product_of(rows[n % 2], outs[n / 2 % 3], in, group < in ? group : BN_PER_ROW,
                               n % 4 == 0, n % 3 == 0, WIDE);
        check_product(backend, &p);
        product_free(&p);
    }
}

static void check_shapes(bn_backend *backend)
{
    static const int64_t rows[] = {1, 2, 3, 4, 5, 7, 50}, outs[] = {1, 8, 16, 37, 40};
    static const struct {
        int64_t in, group;
    } inner[] = {
        {1, BN_PER_ROW},   {3, BN_PER_TENSOR}, {4, BN_PER_ROW},    {31, BN_PER_ROW},
        {32, 32},          {33, 32},           {64, 64},           {96, 32},
        {96, 48},          {100, 64},          {127, 33},          {128, 64},
        {128, 128},        {130, 34},          {192, 96},          {200, BN_PER_TENSOR},
        {256, BN_PER_ROW}, {260, 256},         {384, 128},         {385, 64},
        {520, 256},        {1000, 999},        {1028, BN_PER_ROW},
    };
    int n = 0;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (size_t o = 0; o < sizeof outs / sizeof *outs; o++)
            for (size_t i = 0; i < sizeof inner / sizeof *inner; i++, n++) {
                product p = product_of(rows[r], outs[o], inner[i].in, inner[i].group, n % 3 == 0,
                                       n % 2 == 0, RANDOM);
                check_product(backend, &p);
                product_free(&p);
            }
}

static void check_extremes(bn_backend *backend)
{
    static const int64_t groups[] = {BN_PER_TENSOR, BN_PER_ROW, 32, 64, 128, 251, 252, 256, 2048};
    static const struct {
        int64_t out, in;
    } shapes[] = {{20, 2052}, {24, 2064}};
    for (int kind = LARGEST; kind <= MIXED; kind++)
        for (int64_t rows = 1; rows <= 7; rows += 3)
            for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
                for (int i = 0; i < 2; i++) {
                    product p = product_of(rows, shapes[i].out, shapes[i].in, groups[g], false,
                                           false, (codes)kind);
                    check_product(backend, &p);
                    product_free(&p);
                }
}

static void product_equals_the_reference(void **state)
{
    (void)state;
    for_each_backend(check_shapes);
}

static void product_with_int8_weights_equals_the_reference(void **state)
{
    (void)state;
    for_each_backend(check_wide);
}

static void largest_sums_are_exact(void **state)
{
    (void)state;
    for_each_backend(check_extremes);
}

/* Only the forward product of the backend that arranged a weight can read it. */
static void others_refuse_an_arranged_weight(void **state)
{
    (void)state;
    bn_backend *ref;
    const bn_op_call c = {.op = BN_OP_BITLINEAR, .in[2] = bn_tensor_2d(BN_T2_LANES, 8, 16)};
    assert_ok(bn_ref_backend_new(BN_F32, &ref));
    assert_int_equal(bn_backend_forward(ref, &c), BN_FAIL);
    assert_int_equal(bn_backend_backward(ref, &c), BN_FAIL);
    assert_string_equal(bn_error_text(),
                        "backend ref32: bitlinear cannot read a weight that is ternary2 in lanes");
    bn_backend_free(ref);
}

/* ---- the quantizers ------------------------------------------------------ */

static bn_backend *reference;

/* Numbers of many sizes with ties, zeros and, where asked for, no numbers. */
static float number(bn_rng *rng, int64_t i, int flavour)
{
    if (flavour == 1 && i % 97 == 5)
        return i % 2 ? NAN : INFINITY;
    if (flavour == 2)
        return (float)((int)bn_rng_below(rng, 509) - 254) * 0.5f; /* ties: absmax is 127 */
    if (flavour == 3)
        return 0.0f;
    return (float)bn_rng_normal(rng) * (float)(1 + i % 5);
}

/* Both outputs of a quantizer, from the backend and from the reference. */
static void check_quantizer(bn_backend *backend, bn_op op, bn_op_params params, bn_tensor in,
                            const float *data)
{
    bn_backend *both[2] = {backend, reference};
    bn_buffer memory[2][4] = {{{0}}};
    bn_op_call c[2];
    for (int b = 0; b < 2; b++) {
        static const bn_run run;
        c[b] = (bn_op_call){.op = op, .params = &params, .run = &run, .in = {in}};
        assert_ok(bn_op_infer(&c[b], BN_F32));
        bn_scratch_rule rule = both[b]->rows[op].forward_scratch;
        c[b].scratch = bn_tensor_1d(BN_U8, 1 + (int64_t)(rule ? rule(both[b], &c[b]) : 0));
        bn_tensor *t[4] = {&c[b].in[0], &c[b].out[0], &c[b].out[1], &c[b].scratch};
        for (int i = 0; i < 4; i++)
            *t[i] = over(&memory[b][i], *t[i], must(calloc(1, bn_tensor_bytes(t[i]))));
        memcpy(bn_tensor_data(t[0]), data, bn_tensor_bytes(t[0]));
        assert_ok(bn_backend_forward(both[b], &c[b]));
    }
    assert_memory_equal(bn_tensor_data(&c[0].out[0]), bn_tensor_data(&c[1].out[0]),
                        bn_tensor_bytes(&c[0].out[0]));
    const float *scale[2] = {bn_tensor_data(&c[0].out[1]), bn_tensor_data(&c[1].out[1])};
    for (int64_t i = 0; i < bn_tensor_numel(&c[0].out[1]); i++)
        assert_true(scale[0][i] == scale[1][i] || (isnan(scale[0][i]) && isnan(scale[1][i])));
    for (int b = 0; b < 2; b++)
        for (int i = 0; i < 4; i++)
            free(memory[b][i].host);
}

static void check_quantizers(bn_backend *backend)
{
    static const int64_t shapes[][2] = {{1, 1}, {3, 7}, {5, 33}, {40, 128}, {300, 130}, {7, 1030}};
    static const int64_t groups[] = {BN_PER_TENSOR, BN_PER_ROW, 32, 33, 64};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int flavour = 0; flavour < 4; flavour++) {
            int64_t rows = shapes[s][0], cols = shapes[s][1];
            bn_tensor in = bn_tensor_2d(BN_F32, rows, cols);
            bn_rng rng = bn_rng_of(s, (uint64_t)flavour);
            float *x = must(malloc(bn_tensor_bytes(&in)));
            for (int64_t i = 0; i < rows * cols; i++)
                x[i] = number(&rng, i, flavour);
            for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
                if (!bn_group_size_ok(cols, groups[g]))
                    continue;
                for (int bits = 4; bits <= 8; bits += 4)
                    check_quantizer(backend, BN_OP_ACT_QUANT,
                                    (bn_op_params){.act = {bits, groups[g]}}, in, x);
                check_quantizer(backend, BN_OP_WEIGHT_QUANT,
                                (bn_op_params){.weight.group_size = groups[g]}, in, x);
            }
            free(x);
        }
}

static void quantizers_equal_the_reference(void **state)
{
    (void)state;
    assert_ok(bn_ref_backend_new(BN_F32, &reference));
    for_each_backend(check_quantizers);
    bn_backend_free(reference);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(product_equals_the_reference),
        cmocka_unit_test(product_with_int8_weights_equals_the_reference),
        cmocka_unit_test(largest_sums_are_exact),
        cmocka_unit_test(others_refuse_an_arranged_weight),
        cmocka_unit_test(quantizers_equal_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
