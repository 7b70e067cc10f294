#include "ops/op_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "quant/pack.h"
#include "quant/quantize.h"

#define SHAPE(...)                                                                                 \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[])                         \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

static void *must(void *memory)
{
    if (!memory) {
        fprintf(stderr, "op cases: out of memory\n");
        abort();
    }
    return memory;
}

/* ---- building blocks ---------------------------------------------------- */

/* The seed of a case's numbers comes from its name, so a case can be put anywhere. */
static uint64_t seed_of(const char *name)
{
    uint64_t seed = 0;
    for (uint64_t i = 0; name[i]; i++)
        seed = bn_hash64(seed ^ (uint8_t)name[i], i);
    return seed;
}

/* A new case; the pointer is good until the next one. */
static op_case *add(op_case_list *list, bn_op op, const char *name)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 64;
        list->items = must(realloc(list->items, (size_t)list->capacity * sizeof *list->items));
    }
    op_case *k = &list->items[list->count++];
    *k = (op_case){.spec = {.op = op, .run = {.seed = 7, .step = 3}}};
    snprintf(k->name, sizeof k->name, "%s: %s", bn_op_table[op].name, name);
    k->check.seed = seed_of(k->name);
    return k;
}

static void *operand(op_case *k, int i, bn_dtype dtype, int ndim, const int64_t *shape)
{
    k->spec.in[i] = bn_tensor_of(dtype, ndim, shape);
    k->owned[i] = must(calloc(1, bn_tensor_bytes(&k->spec.in[i])));
    k->spec.data[i] = k->owned[i];
    return k->owned[i];
}

static bn_rng rng_of(const op_case *k, int i)
{
    return bn_rng_of(k->check.seed, (uint64_t)i);
}

/* Normal numbers times `scale`. */
static double *reals(op_case *k, int i, double scale, int ndim, const int64_t *shape)
{
    double *x = operand(k, i, BN_F64, ndim, shape);
    bn_rng rng = rng_of(k, i);
    for (int64_t j = 0; j < bn_tensor_numel(&k->spec.in[i]); j++)
        x[j] = (double)(float)(scale * bn_rng_normal(&rng)); /* the same value in both types */
    return x;
}

/* Moves every element at least `gap` away from 0, where the function bends. */
static void away_from_zero(op_case *k, int i, double gap)
{
    double *x = k->owned[i];
    for (int64_t j = 0; j < bn_tensor_numel(&k->spec.in[i]); j++)
        if (fabs(x[j]) < gap)
            x[j] = x[j] < 0 ? x[j] - gap : x[j] + gap;
}

/* Numbers in 0.5 .. 1.5 times `scale`. */
static double *positives(op_case *k, int i, double scale, int ndim, const int64_t *shape)
{
    double *x = operand(k, i, BN_F64, ndim, shape);
    bn_rng rng = rng_of(k, i);
    for (int64_t j = 0; j < bn_tensor_numel(&k->spec.in[i]); j++)
        x[j] = (double)(float)(scale * (0.5 + bn_rng_uniform(&rng)));
    return x;
}

/* Integers 0 .. below-1. */
static int32_t *ids(op_case *k, int i, int below, int ndim, const int64_t *shape)
{
    int32_t *x = operand(k, i, BN_I32, ndim, shape);
    bn_rng rng = rng_of(k, i);
    for (int64_t j = 0; j < bn_tensor_numel(&k->spec.in[i]); j++)
        x[j] = (int32_t)bn_rng_below(&rng, (uint64_t)below);
    return x;
}

/* int8 codes -127 .. 127. */
static int8_t *codes(op_case *k, int i, int ndim, const int64_t *shape)
{
    int8_t *x = operand(k, i, BN_I8, ndim, shape);
    bn_rng rng = rng_of(k, i);
    for (int64_t j = 0; j < bn_tensor_numel(&k->spec.in[i]); j++)
        x[j] = (int8_t)((int)bn_rng_below(&rng, 255) - 127);
    return x;
}

/* Packed ternary codes. */
static void ternary(op_case *k, int i, int64_t out, int64_t in)
{
    uint8_t *packed = operand(k, i, BN_T2, SHAPE(out, in));
    int8_t *q = must(malloc((size_t)(out * in)));
    bn_rng rng = rng_of(k, i);
    for (int64_t j = 0; j < out * in; j++)
        q[j] = (int8_t)((int)bn_rng_below(&rng, 3) - 1);
    bn_t2_pack(q, out, in, packed);
    free(q);
}

/* ---- products ----------------------------------------------------------- */

static void embedding(op_case_list *l)
{
    op_case *k = add(l, BN_OP_EMBEDDING, "one id, width 1");
    ids(k, 0, 1, SHAPE(1, 1));
    reals(k, 1, 1, SHAPE(1, 1));
    k = add(l, BN_OP_EMBEDDING, "repeated ids");
    ids(k, 0, 5, SHAPE(3, 7));
    reals(k, 1, 1, SHAPE(5, 9));
    k = add(l, BN_OP_EMBEDDING, "unused rows");
    ids(k, 0, 3, SHAPE(1, 4));
    reals(k, 1, 100, SHAPE(33, 16));
}

static void linear_case(op_case_list *l, const char *name, int64_t rows, int64_t in, int64_t out,
                        bool bias, double scale)
{
    op_case *k = add(l, BN_OP_LINEAR, name);
    reals(k, 0, scale, SHAPE(rows, in));
    reals(k, 1, 1, SHAPE(out, in));
    if (bias)
        reals(k, 2, scale, SHAPE(out));
    k->check.floor = fmin(scale, 1);
}

static void linear(op_case_list *l)
{
    linear_case(l, "size 1", 1, 1, 1, true, 1);
    linear_case(l, "odd sizes, bias", 5, 13, 7, true, 1);
    linear_case(l, "odd sizes, no bias", 3, 17, 9, false, 1);
    linear_case(l, "one row", 1, 65, 33, true, 1);
    linear_case(l, "large magnitudes", 4, 8, 6, true, 1e4);
    linear_case(l, "small magnitudes", 4, 8, 6, true, 1e-6);
    linear_case(l, "all zero input", 2, 8, 4, false, 0);
    l->items[l->count - 1].check.floor = 1;
    linear_case(l, "blocks", 37, 96, 67, true, 1);
    l->items[l->count - 1].check.max_elements = 300;
    op_case *k = add(l, BN_OP_LINEAR, "3-D input");
    reals(k, 0, 1, SHAPE(2, 3, 11));
    reals(k, 1, 1, SHAPE(5, 11));
    reals(k, 2, 1, SHAPE(5));
}

static void matmul_case(op_case_list *l, const char *name, int64_t M, int64_t K, int64_t N)
{
    op_case *k = add(l, BN_OP_MATMUL, name);
    reals(k, 0, 1, SHAPE(M, K));
    reals(k, 1, 1, SHAPE(K, N));
}

static void matmul(op_case_list *l)
{
    matmul_case(l, "size 1", 1, 1, 1);
    matmul_case(l, "odd sizes", 5, 7, 3);
    matmul_case(l, "row times matrix", 1, 33, 17);
    matmul_case(l, "outer product", 9, 1, 11);
    matmul_case(l, "blocks", 35, 70, 66);
    l->items[l->count - 1].check.max_elements = 300;
}

/* ---- quantizers --------------------------------------------------------- */

static op_case *act_case(op_case_list *l, bn_op op, const char *name, int bits, int64_t group_size,
                         double scale, int64_t rows, int64_t in)
{
    op_case *k = add(l, op, name);
    reals(k, 0, scale, SHAPE(rows, in));
    k->spec.params.act = (bn_act_params){bits, group_size};
    return k;
}

static void act_cases(op_case_list *l, bn_op op)
{
    act_case(l, op, "size 1", 8, BN_PER_ROW, 1, 1, 1);
    act_case(l, op, "per token, odd", 8, BN_PER_ROW, 1, 5, 37);
    act_case(l, op, "per tensor, odd", 8, BN_PER_TENSOR, 1, 5, 37);
    act_case(l, op, "per group, a short one", 8, 32, 1, 5, 101);
    act_case(l, op, "wide", 8, BN_PER_ROW, 1, 3, 259);
    act_case(l, op, "4 bits per token", 4, BN_PER_ROW, 1, 3, 259);
    act_case(l, op, "4 bits per tensor", 4, BN_PER_TENSOR, 1, 5, 37);
    act_case(l, op, "4 bits per group", 4, 64, 1, 3, 128);
    act_case(l, op, "large magnitudes", 8, BN_PER_ROW, 1e6, 3, 33);
    act_case(l, op, "below the floor", 8, BN_PER_ROW, 1e-7, 3, 33);
    act_case(l, op, "all zero", 8, BN_PER_ROW, 0, 2, 16);
    for (int bits = 8; bits >= 4; bits -= 4) {
        op_case *k = act_case(l, op, "a row of zeros, ties", bits, BN_PER_ROW, 1, 3, 8);
        double *x = k->owned[0];
        for (int j = 0; j < 8; j++) {
            x[j] = 0;
            x[8 + j] = j == 7 ? bits == 8 ? 127 : 7 : j - 2.5; /* scale 1: halves round to even */
        }
    }
}

static op_case *weight_case(op_case_list *l, bn_op op, const char *name, int64_t group_size,
                            double scale, int64_t out, int64_t in)
{
    op_case *k = add(l, op, name);
    reals(k, 0, scale, SHAPE(out, in));
    k->spec.params.weight.group_size = group_size;
    return k;
}

static void weight_cases(op_case_list *l, bn_op op)
{
    weight_case(l, op, "size 1", BN_PER_TENSOR, 1, 1, 1);
    weight_case(l, op, "per tensor", BN_PER_TENSOR, 1, 7, 37);
    weight_case(l, op, "per row", BN_PER_ROW, 1, 7, 37);
    weight_case(l, op, "groups", 32, 1, 5, 96);
    weight_case(l, op, "group remainder", 32, 1, 5, 65);
    weight_case(l, op, "one group per row", 48, 1, 3, 48);
    weight_case(l, op, "large magnitudes", 32, 1e6, 3, 70);
    weight_case(l, op, "below the floor", 32, 1e-8, 3, 70);
    op_case *k = weight_case(l, op, "a group of zeros", 32, 0.02, 3, 97);
    memset((double *)k->owned[0] + 97 + 32, 0, 32 * sizeof(double));
    k = weight_case(l, op, "ties", BN_PER_ROW, 1, 1, 4);
    memcpy(k->owned[0], (double[]){0.5, -0.5, 1.5, -1.5}, 4 * sizeof(double));
}

/* On the ramp, part of the way from x to the codes. */
static void soft_cases(op_case_list *l)
{
    act_case(l, BN_OP_ACT_FAKE_QUANT, "soft", 8, 32, 1, 5, 101)->spec.run.softness = 0.3;
    act_case(l, BN_OP_ACT_FAKE_QUANT, "soft, wide", 4, BN_PER_TENSOR, 1, 70, 333)
        ->spec.run.softness = 0.9;
    weight_case(l, BN_OP_WEIGHT_FAKE_QUANT, "soft", 32, 1, 5, 65)->spec.run.softness = 0.7;
    weight_case(l, BN_OP_WEIGHT_FAKE_QUANT, "soft, wide", BN_PER_TENSOR, 1, 70, 333)
        ->spec.run.softness = 0.1;
}

/* Every grid with the mean, the median and a scale of its own, at every
 * granularity and with a row of zeros. */
static void grid_cases(op_case_list *l, bn_op op)
{
    static const int64_t sizes[] = {BN_PER_TENSOR, BN_PER_ROW, 32};
    for (int grid = 0; grid < BN_GRID_COUNT; grid++)
        for (int rule = BN_SCALE_MEAN; rule <= BN_SCALE_LEARNED; rule++) {
            if (rule == BN_SCALE_LEARNED && op == BN_OP_WEIGHT_FAKE_QUANT)
                continue;
            const int64_t group_size = sizes[(grid + rule) % 3], out = 5, in = 77;
            op_case *k = weight_case(l, op, bn_grid_table[grid].name, group_size, 0.7, out, in);
            memset((double *)k->owned[0] + in, 0, (size_t)in * sizeof(double));
            k->spec.params.weight.grid = (bn_grid)grid;
            k->spec.params.weight.rule = (bn_scale_rule)rule;
            const bn_tensor scale = bn_weight_scale_shape(BN_F64, out, in, group_size);
            if (rule == BN_SCALE_LEARNED)
                positives(k, 1, 0.3, scale.ndim, scale.shape);
        }
}

/* Moves weights away from where an estimator's gradient jumps. */
static void away_from_limits(op_case *k)
{
    const bn_weight_params *p = &k->spec.params.weight;
    const int64_t in = k->spec.in[1].shape[1];
    const double limit[2] = {bn_estimator_weight_limit(p->estimator, p->grid),
                             bn_estimator_scale_limit(p->estimator, p->grid)};
    double *w = k->owned[1], *scale = k->owned[2];
    for (int64_t i = 0; i < bn_tensor_numel(&k->spec.in[1]); i++) {
        const int64_t g = i % in / bn_group_length(in, p->group_size);
        const double gamma = scale[bn_scale_index(i / in, g, in, p->group_size)];
        for (int j = 0; j < 2; j++)
            if (fabs(fabs(w[i]) / gamma - limit[j]) < 0.02)
                w[i] *= 1.1;
    }
}

/* Every estimator on every grid. */
static void estimator_cases(op_case_list *l)
{
    static const int64_t sizes[] = {BN_PER_TENSOR, BN_PER_ROW, 32};
    for (int grid = 0; grid < BN_GRID_COUNT; grid++)
        for (int e = BN_ESTIMATOR_IDENTITY; e <= BN_ESTIMATOR_LSQ; e++) {
            const int64_t group_size = sizes[(grid + e) % 3], out = 4, in = 65;
            op_case *k = add(l, BN_OP_WEIGHT_ESTIMATOR, bn_grid_table[grid].name);
            reals(k, 0, 1, SHAPE(out, in));
            reals(k, 1, bn_grid_table[grid].max, SHAPE(out, in)); /* beyond the limits too */
            const bn_tensor scale = bn_weight_scale_shape(BN_F64, out, in, group_size);
            positives(k, 2, 1, scale.ndim, scale.shape);
            k->spec.params.weight = (bn_weight_params){.group_size = group_size,
                                                       .grid = (bn_grid)grid,
                                                       .estimator = (bn_estimator)e,
                                                       .ewgs_delta = 0.2};
            away_from_limits(k);
        }
}

static op_case *bitlinear_case(op_case_list *l, const char *name, int64_t rows, int64_t in,
                               int64_t out, int64_t group_size, bool per_tensor, bool bias)
{
    op_case *k = add(l, BN_OP_BITLINEAR, name);
    codes(k, 0, SHAPE(rows, in));
    positives(k, 1, 0.02, SHAPE(per_tensor ? 1 : rows));
    ternary(k, 2, out, in);
    bn_tensor scale = bn_weight_scale_shape(BN_F64, out, in, group_size);
    positives(k, 3, 0.05, scale.ndim, scale.shape);
    if (bias)
        reals(k, 4, 1, SHAPE(out));
    k->spec.params.weight.group_size = group_size;
    return k;
}

/* Steps per group of `group` elements. */
static void steps_case(op_case_list *l, const char *name, int64_t rows, int64_t in, int64_t out,
                       int64_t group, int64_t weight_group, bool bias)
{
    op_case *k = bitlinear_case(l, name, rows, in, out, weight_group, false, bias);
    free(k->owned[1]);
    positives(k, 1, 0.02, SHAPE(rows, (in + group - 1) / group));
    k->spec.params.weight.act_group = group;
}

/* Sums longer than a block of the int16 backward. */
static void long_bitlinear(op_case_list *l)
{
    bitlinear_case(l, "more than 512 rows", 515, 33, 7, BN_PER_ROW, false, false);
    l->items[l->count - 1].check.max_elements = 200;
    bitlinear_case(l, "more than 512 outputs", 3, 40, 517, 32, false, true);
    l->items[l->count - 1].check.max_elements = 200;
}

/* int8 weights, with one scale and in groups with a remainder. */
static void wide_cases(op_case_list *l)
{
    for (int64_t in = 40; in <= 200; in += 80) {
        bitlinear_case(l, "wide", 5, in, 7, in == 40 ? BN_PER_TENSOR : 32, false, true);
        free(l->items[l->count - 1].owned[2]);
        codes(&l->items[l->count - 1], 2, SHAPE(7, in));
    }
}

static void bitlinear(op_case_list *l)
{
    bitlinear_case(l, "size 1", 1, 1, 1, BN_PER_TENSOR, false, true);
    bitlinear_case(l, "per tensor scale", 5, 37, 7, BN_PER_TENSOR, false, false);
    bitlinear_case(l, "per row scale, bias", 5, 37, 7, BN_PER_ROW, false, true);
    bitlinear_case(l, "groups", 4, 128, 6, 64, false, false);
    bitlinear_case(l, "group remainder, bias", 3, 65, 9, 32, false, true);
    bitlinear_case(l, "groups of 33, per tensor step", 3, 100, 5, 33, true, false);
    bitlinear_case(l, "one row, wide", 1, 520, 18, 128, false, true);
    bitlinear_case(l, "blocks", 19, 96, 35, 32, false, true);
    l->items[l->count - 1].check.max_elements = 500;
    bitlinear_case(l, "groups of 96", 7, 288, 21, 96, false, false);
    op_case *k = &l->items[l->count - 1];
    k->check.max_elements = 500;
    memset(k->owned[2], BN_T2_ZERO_BYTE, 72); /* a row of zeros: in/4 bytes */
    memset(k->owned[0], 127, 288);            /* the largest integer sums */
    steps_case(l, "steps per group", 4, 128, 6, 64, 64, true);
    steps_case(l, "steps per group, weight per row", 3, 100, 18, 32, BN_PER_ROW, false);
    steps_case(l, "steps per group, weight per tensor", 13, 96, 5, 48, BN_PER_TENSOR, true);
    k = add(l, BN_OP_BITLINEAR, "3-D input");
    codes(k, 0, SHAPE(2, 3, 40));
    positives(k, 1, 0.02, SHAPE(6));
    ternary(k, 2, 5, 40);
    positives(k, 3, 0.05, SHAPE(5, 2));
    k->spec.params.weight.group_size = 32;
}

/* ---- element by element ------------------------------------------------- */

static void binary_cases(op_case_list *l, bn_op op)
{
    const struct {
        const char *name;
        double scale;
        int64_t rows, cols;
    } cases[] = {{"size 1", 1, 1, 1},
                 {"odd size", 1, 3, 37},
                 {"large magnitudes", 1e5, 2, 9},
                 {"small magnitudes", 1e-5, 2, 9},
                 {"all zero", 0, 2, 9}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        op_case *k = add(l, op, cases[i].name);
        reals(k, 0, cases[i].scale, SHAPE(cases[i].rows, cases[i].cols));
        reals(k, 1, cases[i].scale, SHAPE(cases[i].rows, cases[i].cols));
    }
}

static void activation_cases(op_case_list *l, bn_op op, bool bends)
{
    const struct {
        const char *name;
        double scale;
        int64_t n;
    } cases[] = {{"size 1", 1, 1},
                 {"odd size", 2, 133},
                 {"large magnitudes", 300, 21},
                 {"small magnitudes", 0.01, 21}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        op_case *k = add(l, op, cases[i].name);
        reals(k, 0, cases[i].scale, SHAPE(cases[i].n));
        if (bends)
            away_from_zero(k, 0, 1e-3);
    }
    if (!bends) {
        op_case *k = add(l, op, "all zero");
        reals(k, 0, 0, SHAPE(5));
    }
}

static void glu(op_case_list *l)
{
    for (int act = BN_ACT_RELU2; act <= BN_ACT_SILU; act++) {
        for (int i = 0; i < 3; i++) {
            static const int64_t rows[] = {1, 3, 5}, cols[] = {1, 37, 8};
            op_case *k = add(l, BN_OP_GLU, act == BN_ACT_SILU ? "silu" : "relu2");
            double scale = i == 2 ? 50 : 1;
            reals(k, 0, scale, SHAPE(rows[i], cols[i]));
            reals(k, 1, scale, SHAPE(rows[i], cols[i]));
            if (act == BN_ACT_RELU2)
                away_from_zero(k, 0, 0.05);
            k->spec.params.glu.activation = (bn_activation)act;
        }
    }
}

static void scale(op_case_list *l)
{
    static const double factors[] = {1, -0.25, 3, 1e-3};
    for (int i = 0; i < 4; i++) {
        op_case *k = add(l, BN_OP_SCALE, "factor");
        reals(k, 0, 1, SHAPE(i + 1, i ? 37 : 1));
        k->spec.params.scale.factor = factors[i];
    }
}

static void dropout(op_case_list *l)
{
    static const double p[] = {0, 0.1, 0.5, 0.9};
    for (int i = 0; i < 4; i++) {
        op_case *k = add(l, BN_OP_DROPOUT, i == 0 ? "p 0" : "p > 0");
        reals(k, 0, 1, SHAPE(7, 31));
        k->spec.params.dropout.p = p[i];
        k->spec.params.dropout.site = (uint32_t)i;
    }
    op_case *k = add(l, BN_OP_DROPOUT, "size 1");
    reals(k, 0, 1, SHAPE(1));
    k->spec.params.dropout.p = 0.3;
}

/* ---- rows --------------------------------------------------------------- */

static void rmsnorm_case(op_case_list *l, const char *name, int64_t rows, int64_t cols,
                         double scale, double eps)
{
    op_case *k = add(l, BN_OP_RMSNORM, name);
    reals(k, 0, scale, SHAPE(rows, cols));
    positives(k, 1, 1, SHAPE(cols));
    k->spec.params.rmsnorm.eps = eps;
    k->check.floor = scale > 0 ? fmin(scale, 1) : sqrt(eps);
}

static void rmsnorm(op_case_list *l)
{
    rmsnorm_case(l, "size 1", 1, 1, 1, 1e-5);
    rmsnorm_case(l, "odd size", 5, 37, 1, 1e-5);
    rmsnorm_case(l, "wide", 3, 130, 1, 1e-6);
    rmsnorm_case(l, "large magnitudes", 3, 16, 1e4, 1e-5);
    rmsnorm_case(l, "small magnitudes", 3, 16, 3e-3, 1e-5);
    rmsnorm_case(l, "all zero", 2, 16, 0, 1e-5);
    op_case *k = add(l, BN_OP_RMSNORM, "3-D input");
    reals(k, 0, 1, SHAPE(2, 3, 9));
    reals(k, 1, 1, SHAPE(9));
    k->spec.params.rmsnorm.eps = 1e-5;
}

static void rope_case(op_case_list *l, const char *name, int64_t batch, int64_t time, int64_t heads,
                      int64_t head_dim, int64_t position)
{
    op_case *k = add(l, BN_OP_ROPE, name);
    int64_t rows = position + time + 1, half = head_dim / 2;
    reals(k, 0, 1, SHAPE(batch, time, heads * head_dim));
    double *table = operand(k, 1, BN_F64, SHAPE(rows, head_dim));
    for (int64_t p = 0; p < rows; p++)
        for (int64_t i = 0; i < half; i++) {
            double angle = (double)p * pow(10000, -2 * (double)i / (double)head_dim);
            table[p * head_dim + i] = (double)(float)cos(angle);
            table[p * head_dim + half + i] = (double)(float)sin(angle);
        }
    k->spec.params.rope.head_dim = head_dim;
    k->spec.run.position = position;
}

static const int64_t listed[] = {7}; /* of one sequence, where run.position is another */

static void rope(op_case_list *l)
{
    rope_case(l, "one head of 2", 1, 1, 1, 2, 0);
    rope_case(l, "odd half", 2, 5, 3, 6, 0);
    rope_case(l, "at a later position", 1, 3, 2, 16, 11);
    rope_case(l, "heads of 32", 2, 4, 2, 32, 0);
    rope_case(l, "a position of the list", 1, 3, 2, 16, 11);
    l->items[l->count - 1].spec.run = (bn_run){.positions = listed};
}

static void hadamard_case(op_case_list *l, const char *name, int64_t rows, int64_t cols,
                          double scale)
{
    op_case *k = add(l, BN_OP_HADAMARD, name);
    reals(k, 0, scale, SHAPE(rows, cols));
    k->check.max_elements = 200;
}

static void hadamard(op_case_list *l)
{
    hadamard_case(l, "size 1", 1, 1, 1);
    hadamard_case(l, "odd: blocks of 1", 3, 7, 1);
    hadamard_case(l, "blocks of 4", 5, 12, 1);
    hadamard_case(l, "blocks of 8", 3, 24, 1);
    hadamard_case(l, "blocks of 32", 2, 96, 100);
    hadamard_case(l, "one block", 3, 512, 1);
    hadamard_case(l, "all zero", 2, 16, 0);
}

static void attention_case(op_case_list *l, const char *name, int64_t batch, int64_t time,
                           int64_t heads, int64_t kv_heads, int64_t head_dim, double scale)
{
    op_case *k = add(l, BN_OP_ATTENTION, name);
    reals(k, 0, scale, SHAPE(batch, time, heads * head_dim));
    reals(k, 1, scale, SHAPE(batch, time, kv_heads * head_dim));
    reals(k, 2, 1, SHAPE(batch, time, kv_heads * head_dim));
    k->spec.params.attention.heads = heads;
    k->spec.params.attention.kv_heads = kv_heads;
}

static void attention(op_case_list *l)
{
    attention_case(l, "size 1", 1, 1, 1, 1, 1, 1);
    attention_case(l, "odd sizes", 2, 7, 3, 3, 5, 1);
    attention_case(l, "grouped queries", 2, 6, 4, 2, 8, 1);
    attention_case(l, "one key/value head", 1, 9, 3, 1, 4, 1);
    attention_case(l, "peaked", 1, 8, 2, 2, 8, 4);
    attention_case(l, "all scores equal", 1, 5, 2, 1, 4, 0);
    attention_case(l, "long", 1, 67, 2, 1, 16, 1);
    l->items[l->count - 1].check.max_elements = 200;
}

static void kv_attention_case(op_case_list *l, const char *name, int64_t time, int64_t heads,
                              int64_t kv_heads, int64_t head_dim, int64_t position)
{
    op_case *k = add(l, BN_OP_KV_ATTENTION, name);
    reals(k, 0, 1, SHAPE(1, time, heads * head_dim));
    reals(k, 1, 1, SHAPE(1, time, kv_heads * head_dim));
    reals(k, 2, 1, SHAPE(1, time, kv_heads * head_dim));
    reals(k, 3, 1, SHAPE(position + time + 2, kv_heads * head_dim));
    reals(k, 4, 1, SHAPE(position + time + 2, kv_heads * head_dim));
    k->spec.params.attention.heads = heads;
    k->spec.params.attention.kv_heads = kv_heads;
    k->spec.run.position = position;
}

static void kv_attention(op_case_list *l)
{
    kv_attention_case(l, "size 1", 1, 1, 1, 1, 0);
    kv_attention_case(l, "a prompt", 7, 4, 2, 8, 0);
    kv_attention_case(l, "one more token", 1, 4, 2, 8, 7);
    kv_attention_case(l, "more tokens, odd", 3, 3, 1, 5, 9);
    kv_attention_case(l, "long", 2, 2, 2, 16, 70);
    kv_attention_case(l, "the third of several sequences", 3, 4, 2, 8, 5);
    op_case *k = &l->items[l->count - 1];
    for (int i = 3; i <= 4; i++) {
        free(k->owned[i]);
        reals(k, i, 1, SHAPE(4, 11, 16));
    }
    k->spec.run.sequence = 2;
    kv_attention_case(l, "a position of the list", 2, 4, 2, 8, 7);
    l->items[l->count - 1].spec.run = (bn_run){.positions = listed};
}

/* The same with caches of codes, those of normal numbers. */
static void kv_codes_case(op_case_list *l, const char *name, int bits, int64_t time, int64_t heads,
                          int64_t kv_heads, int64_t head_dim, int64_t position)
{
    kv_attention_case(l, name, time, heads, kv_heads, head_dim, position);
    op_case *k = &l->items[l->count - 1];
    const bn_kv_codes c = {bits, kv_heads, head_dim};
    const int64_t rows = k->spec.in[3].shape[0];
    for (int i = 3; i <= 4; i++) {
        const double *x = k->owned[i];
        uint8_t *row = operand(k, i, BN_U8, SHAPE(rows, bn_kv_row_bytes(&c)));
        for (int64_t r = 0; r < rows; r++)
            bn_kv_encode_f64(&c, x + r * kv_heads * head_dim, row + r * bn_kv_row_bytes(&c));
        free((void *)(uintptr_t)x);
    }
    k->spec.params.attention.cache_bits = bits;
}

static void kv_codes(op_case_list *l)
{
    for (int bits = 8; bits >= 4; bits -= 4) {
        kv_codes_case(l, "codes, size 1", bits, 1, 1, 1, 1, 0);
        kv_codes_case(l, "codes, odd", bits, 3, 3, 1, 5, 9);
        kv_codes_case(l, "codes, one more token", bits, 1, 4, 2, 32, 70);
        kv_codes_case(l, "codes, a short group", bits, 7, 4, 2, 70, 60);
    }
}

static void softmax_case(op_case_list *l, const char *name, int64_t rows, int64_t cols,
                         double scale)
{
    op_case *k = add(l, BN_OP_SOFTMAX, name);
    reals(k, 0, scale, SHAPE(rows, cols));
}

static void softmax(op_case_list *l)
{
    softmax_case(l, "size 1", 1, 1, 1);
    softmax_case(l, "odd size", 3, 13, 1);
    softmax_case(l, "wide", 2, 259, 2);
    softmax_case(l, "large magnitudes", 3, 8, 1e4);
    softmax_case(l, "all equal", 2, 5, 0);
}

static op_case *cross_entropy_case(op_case_list *l, const char *name, int64_t rows, int vocab,
                                   double scale)
{
    op_case *k = add(l, BN_OP_CROSS_ENTROPY, name);
    reals(k, 0, scale, SHAPE(rows, vocab));
    ids(k, 1, vocab, SHAPE(rows));
    k->spec.params.cross_entropy.ignore_index = -100;
    return k;
}

static op_case *linear_cross_entropy_case(op_case_list *l, const char *name, int64_t rows,
                                          int64_t width, int vocab, int64_t chunk)
{
    op_case *k = add(l, BN_OP_LINEAR_CROSS_ENTROPY, name);
    reals(k, 0, 1, SHAPE(rows, width));
    reals(k, 1, 0.5, SHAPE(vocab, width));
    ids(k, 2, vocab, SHAPE(rows));
    k->spec.params.cross_entropy.ignore_index = -100;
    k->spec.params.cross_entropy.chunk_rows = chunk;
    return k;
}

static void ignore(op_case *k, int i, int every)
{
    int32_t *label = k->owned[i];
    for (int64_t r = 0; r < bn_tensor_numel(&k->spec.in[i]); r += every)
        label[r] = k->spec.params.cross_entropy.ignore_index;
}

static void distill_case(op_case_list *l, const char *name, int64_t rows, int64_t cols,
                         double scale, double temperature)
{
    for (int i = 0; i < 2; i++) {
        op_case *k = add(l, i ? BN_OP_DISTANCE : BN_OP_DISTILL_KL, name);
        reals(k, 0, scale, SHAPE(rows, cols));
        reals(k, 1, scale, SHAPE(rows, cols));
        k->spec.params.distill.temperature = temperature;
        k->spec.params.distill.weight = 0.7;
    }
}

static void distill(op_case_list *l)
{
    distill_case(l, "size 1", 1, 1, 1, 1);
    distill_case(l, "odd size", 5, 13, 1, 2);
    distill_case(l, "cold", 3, 7, 1, 0.5);
    distill_case(l, "large magnitudes", 4, 9, 50, 3);
    distill_case(l, "wide", 3, 259, 2, 1.5);
}

static void relation_case(op_case_list *l, const char *name, int64_t batch, int64_t time,
                          int64_t heads, int64_t width, int64_t other, double scale)
{
    op_case *k = add(l, BN_OP_RELATION_KL, name);
    reals(k, 0, scale, SHAPE(batch, time, heads * width));
    reals(k, 1, scale, SHAPE(batch, time, heads * other));
    k->spec.params.distill.heads = heads;
    k->spec.params.distill.weight = 0.7;
}

static void relations(op_case_list *l)
{
    relation_case(l, "size 1", 1, 1, 1, 1, 1, 1);
    relation_case(l, "odd sizes", 2, 7, 3, 5, 5, 1);
    relation_case(l, "another width", 1, 9, 2, 4, 7, 1);
    relation_case(l, "peaked", 1, 6, 2, 8, 8, 3);
    relation_case(l, "all equal", 1, 5, 1, 4, 4, 0);
    relation_case(l, "long", 1, 67, 1, 16, 8, 1);
    l->items[l->count - 1].check.max_elements = 100;
}

static void cross_entropy(op_case_list *l)
{
    cross_entropy_case(l, "size 1", 1, 1, 1);
    cross_entropy_case(l, "odd size", 5, 13, 1);
    ignore(cross_entropy_case(l, "some labels ignored", 9, 11, 1), 1, 3);
    ignore(cross_entropy_case(l, "all labels ignored", 4, 7, 1), 1, 1);
    cross_entropy_case(l, "large magnitudes", 4, 9, 1e3);
    cross_entropy_case(l, "wide", 3, 259, 2);
    op_case *k = cross_entropy_case(l, "a class is ignored", 9, 5, 1);
    k->spec.params.cross_entropy.ignore_index = 2;
    linear_cross_entropy_case(l, "size 1", 1, 1, 1, 1);
    linear_cross_entropy_case(l, "chunks with a rest", 7, 9, 13, 3);
    linear_cross_entropy_case(l, "one chunk", 5, 8, 11, 64);
    ignore(linear_cross_entropy_case(l, "some labels ignored", 8, 6, 10, 3), 2, 3);
    ignore(linear_cross_entropy_case(l, "all labels ignored", 4, 6, 10, 3), 2, 1);
    linear_cross_entropy_case(l, "rows one by one", 4, 37, 35, 1);
}

/* ---- reductions and copies ---------------------------------------------- */

static void reduction_cases(op_case_list *l, bn_op op)
{
    op_case *k = add(l, op, "size 1");
    reals(k, 0, 1, SHAPE(1));
    k = add(l, op, "odd size");
    reals(k, 0, 1, SHAPE(3, 5, 7));
    k = add(l, op, "large magnitudes");
    reals(k, 0, 1e6, SHAPE(17));
}

static void transpose_case(op_case_list *l, const char *name, int dim0, int dim1, int ndim,
                           const int64_t *shape)
{
    op_case *k = add(l, BN_OP_TRANSPOSE, name);
    reals(k, 0, 1, ndim, shape);
    k->spec.params.transpose.dim0 = dim0;
    k->spec.params.transpose.dim1 = dim1;
}

static void slice_case(op_case_list *l, const char *name, int dim, int64_t start, int64_t length,
                       int ndim, const int64_t *shape)
{
    op_case *k = add(l, BN_OP_SLICE, name);
    reals(k, 0, 1, ndim, shape);
    k->spec.params.slice.dim = dim;
    k->spec.params.slice.start = start;
    k->spec.params.slice.length = length;
}

static void movement(op_case_list *l)
{
    transpose_case(l, "size 1", 0, 0, SHAPE(1));
    transpose_case(l, "matrix", 0, 1, SHAPE(3, 5));
    transpose_case(l, "same dimension", 1, 1, SHAPE(3, 5));
    transpose_case(l, "outer two of four", 2, 1, SHAPE(2, 3, 4, 5));
    transpose_case(l, "first and last", 0, 3, SHAPE(2, 3, 4, 5));
    slice_case(l, "size 1", 0, 0, 1, SHAPE(1));
    slice_case(l, "first dimension", 0, 1, 2, SHAPE(4, 3));
    slice_case(l, "last dimension", 2, 2, 3, SHAPE(2, 3, 7));
    slice_case(l, "middle, all of it", 1, 0, 3, SHAPE(2, 3, 4));
    op_case *k = add(l, BN_OP_RESHAPE, "flatten");
    reals(k, 0, 1, SHAPE(3, 5));
    k->spec.params.reshape.ndim = 1;
    k->spec.params.reshape.shape[0] = 15;
}

op_case_list op_cases_new(void)
{
    op_case_list list = {0};
    embedding(&list);
    linear(&list);
    matmul(&list);
    act_cases(&list, BN_OP_ACT_QUANT);
    weight_cases(&list, BN_OP_WEIGHT_QUANT);
    bitlinear(&list);
    act_cases(&list, BN_OP_ACT_FAKE_QUANT);
    weight_cases(&list, BN_OP_WEIGHT_FAKE_QUANT);
    soft_cases(&list);
    binary_cases(&list, BN_OP_ADD);
    binary_cases(&list, BN_OP_MUL);
    activation_cases(&list, BN_OP_SILU, false);
    activation_cases(&list, BN_OP_RELU2, true);
    scale(&list);
    glu(&list);
    rmsnorm(&list);
    rope(&list);
    hadamard(&list);
    attention(&list);
    kv_attention(&list);
    kv_codes(&list);
    softmax(&list);
    cross_entropy(&list);
    distill(&list);
    relations(&list);
    dropout(&list);
    reduction_cases(&list, BN_OP_SUM);
    reduction_cases(&list, BN_OP_MEAN);
    movement(&list);
    long_bitlinear(&list);
    grid_cases(&list, BN_OP_WEIGHT_QUANT);
    grid_cases(&list, BN_OP_WEIGHT_FAKE_QUANT);
    weight_case(&list, BN_OP_WEIGHT_QUANT, "the median of several chunks", BN_PER_TENSOR, 1, 130,
                259)
        ->spec.params.weight.rule = BN_SCALE_MEDIAN;
    estimator_cases(&list);
    wide_cases(&list);
    return list;
}

void op_cases_free(op_case_list *list)
{
    for (int i = 0; i < list->count; i++)
        for (int j = 0; j < BN_MAX_IN; j++)
            free(list->items[i].owned[j]);
    free(list->items);
    *list = (op_case_list){0};
}

int op_cases_each(bn_backend *backend, bn_op op,
                  void (*check)(bn_backend *backend, const op_case *k, void *arg), void *arg)
{
    op_case_list cases = op_cases_new();
    int count = 0;
    for (int i = 0; i < cases.count; i++)
        if (cases.items[i].spec.op == op) {
            check(backend, &cases.items[i], arg);
            count++;
        }
    op_cases_free(&cases);
    return count;
}
