/* What can be written down without differences: exact values of kernels, exact
 * gradients of straight-through estimators, and what they refuse. On both
 * reference backends. */
#include "cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/op_instance.h"
#include "autograd/ops.h"
#include "cpu/cpu.h"
#include "quant/pack.h"

static bn_backend *backend; /* ref32, then ref64 */

/* Relative; what is 0 must be 0. */
static double eps(void)
{
    return backend->real == BN_F64 ? 1e-14 : 3e-7;
}

static void expect(const bn_tensor *t, const double *want)
{
    double got[64];
    assert_true(bn_tensor_numel(t) <= 64);
    assert_ok(bn_real_download(backend, t, got));
    for (int64_t i = 0; i < bn_tensor_numel(t); i++)
        if (!(fabs(got[i] - want[i]) <= eps() * fabs(want[i])))
            fail_msg("%s: element %lld is %.17g, expected %.17g", backend->name, (long long)i,
                     got[i], want[i]);
}

static void run(bn_op_instance *op, const bn_op_spec *spec)
{
    assert_ok(bn_op_instance_init(op, backend, spec));
    assert_ok(bn_op_instance_forward(op));
}

/* Backward with dout = `dy` everywhere. */
static void run_back(bn_op_instance *op, double dy)
{
    double all[64];
    for (int i = 0; i < 64; i++)
        all[i] = dy;
    assert_true(bn_tensor_numel(&op->call.dout) <= 64);
    assert_ok(bn_real_upload(backend, &op->call.dout, all));
    assert_ok(bn_op_instance_backward(op, bn_op_instance_grads(op), 0));
}

static void relu2(void **state)
{
    (void)state;
    const double x[] = {-2, -0.0, 0, 0.5, 3};
    const bn_op_spec spec = {.op = BN_OP_RELU2, .in = {bn_tensor_1d(BN_F64, 5)}, .data = {x}};
    bn_op_instance op;
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){0, 0, 0, 0.25, 9});
    run_back(&op, 10);
    expect(&op.call.din[0], (double[]){0, 0, 0, 10, 60});
    bn_op_instance_clear(&op);
}

static void silu_far_from_zero(void **state)
{
    (void)state;
    const double x[] = {-1000, 0, 1000};
    const bn_op_spec spec = {.op = BN_OP_SILU, .in = {bn_tensor_1d(BN_F64, 3)}, .data = {x}};
    bn_op_instance op;
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){0, 0, 1000});
    run_back(&op, 1);
    expect(&op.call.din[0], (double[]){0, 0.5, 1});
    bn_op_instance_clear(&op);
}

static void embedding_and_products(void **state)
{
    (void)state;
    const double x[] = {1, 2, 3, 4, 5, 6}, w[] = {1, 0, -1, 2, 1, 1}, bias[] = {10, 20};
    const int32_t id[] = {1, 0, 1};
    const bn_op_spec embedding = {.op = BN_OP_EMBEDDING,
                                  .in = {bn_tensor_1d(BN_I32, 3), bn_tensor_2d(BN_F64, 2, 3)},
                                  .data = {id, x}};
    const bn_op_spec linear = {
        .op = BN_OP_LINEAR,
        .in = {bn_tensor_2d(BN_F64, 2, 3), bn_tensor_2d(BN_F64, 2, 3), bn_tensor_1d(BN_F64, 2)},
        .data = {x, w, bias}};
    const bn_op_spec matmul = {.op = BN_OP_MATMUL,
                               .in = {bn_tensor_2d(BN_F64, 2, 3), bn_tensor_2d(BN_F64, 3, 2)},
                               .data = {x, w}};
    bn_op_instance op;
    run(&op, &embedding);
    expect(&op.call.out[0], (double[]){4, 5, 6, 1, 2, 3, 4, 5, 6});
    bn_op_instance_clear(&op);
    run(&op, &linear);
    expect(&op.call.out[0], (double[]){1 - 3 + 10, 2 + 2 + 3 + 20, 4 - 6 + 10, 8 + 5 + 6 + 20});
    bn_op_instance_clear(&op);
    run(&op, &matmul); /* w as [3,2]: rows (1,0) (-1,2) (1,1) */
    expect(&op.call.out[0], (double[]){1 - 2 + 3, 4 + 3, 4 - 5 + 6, 10 + 6});
    bn_op_instance_clear(&op);
}

/* Rows of the matrix by hand; blocks apart; its own inverse and gradient. */
static void hadamard(void **state)
{
    (void)state;
    const double x[] = {1, 2, 3, 5, 1, 0, 0, 0, 0, 0, 0, -6};
    const bn_op_spec spec = {
        .op = BN_OP_HADAMARD, .in = {bn_tensor_2d(BN_F64, 1, 12)}, .data = {x}};
    const double y[] = {5.5, -1.5, -2.5, 0.5, 0.5, 0.5, 0.5, 0.5, -3, 3, 3, -3};
    const bn_op_spec back = {
        .op = BN_OP_HADAMARD, .in = {bn_tensor_2d(BN_F64, 1, 12)}, .data = {y}};
    bn_op_instance op;
    run(&op, &spec);
    expect(&op.call.out[0], y);
    run_back(&op, 1);
    expect(&op.call.din[0], (double[]){2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0});
    bn_op_instance_clear(&op);
    run(&op, &back);
    expect(&op.call.out[0], x);
    bn_op_instance_clear(&op);
}

static void rmsnorm_and_softmax(void **state)
{
    (void)state;
    const double x[] = {3, 4, 0, 0}, weight[] = {2, -1};
    const bn_op_spec norm = {.op = BN_OP_RMSNORM,
                             .params.rmsnorm.eps = 0.25,
                             .in = {bn_tensor_2d(BN_F64, 2, 2), bn_tensor_1d(BN_F64, 2)},
                             .data = {x, weight}};
    const bn_op_spec softmax = {
        .op = BN_OP_SOFTMAX, .in = {bn_tensor_2d(BN_F64, 2, 2)}, .data = {x}};
    bn_op_instance op;
    double r = 1 / sqrt(12.5 + 0.25), e = exp(1);
    run(&op, &norm);
    expect(&op.call.out[0], (double[]){6 * r, -4 * r, 0, 0});
    expect(&op.call.out[1], (double[]){r, 2});
    bn_op_instance_clear(&op);
    run(&op, &softmax);
    expect(&op.call.out[0], (double[]){1 / (1 + e), e / (1 + e), 0.5, 0.5});
    bn_op_instance_clear(&op);
}

/* silu(x) up and relu2(x) up. */
static void glu(void **state)
{
    (void)state;
    const double gate[] = {1, -1, 2}, up[] = {3, 5, -7};
    bn_op_spec spec = {.op = BN_OP_GLU,
                       .params.glu.activation = BN_ACT_SILU,
                       .in = {bn_tensor_1d(BN_F64, 3), bn_tensor_1d(BN_F64, 3)},
                       .data = {gate, up}};
    bn_op_instance op;
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){3 / (1 + exp(-1)), -5 / (1 + exp(1)), -14 / (1 + exp(-2))});
    bn_op_instance_clear(&op);
    spec.params.glu.activation = BN_ACT_RELU2;
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){3, 0, -28});
    bn_op_instance_clear(&op);
}

/* The table row is run.position + t: a turn by p * 30 degrees at position p. */
static void rope_starts_at_the_position(void **state)
{
    (void)state;
    const double h = sqrt(0.75);
    const double table[] = {1, 0, h, 0.5, 0.5, h, 0, 1}, x[] = {1, 0, 0, 1, 1, 1, 2, 0};
    bn_op_spec spec = {.op = BN_OP_ROPE,
                       .params.rope.head_dim = 2,
                       .run.position = 2,
                       .in = {bn_tensor_3d(BN_F64, 1, 2, 4), bn_tensor_2d(BN_F64, 4, 2)},
                       .data = {x, table}};
    bn_op_instance op;
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){0.5, h, -h, 0.5, -1, 1, 0, 2});
    bn_op_instance_clear(&op);

    /* Batches start over at the position; halves of a head turn together. */
    const double one_head[] = {1, 2, 3, 4, 5, 6, 7, 8}, quarter[] = {0, 1, 1, 0};
    spec.params.rope.head_dim = 4;
    spec.run.position = 0;
    spec.in[0] = bn_tensor_3d(BN_F64, 2, 1, 4);
    spec.in[1] = bn_tensor_2d(BN_F64, 1, 4);
    spec.data[0] = one_head;
    spec.data[1] = quarter; /* cos 0, 1; sin 1, 0 */
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){-3, 2, 1, 4, -7, 6, 5, 8});
    bn_op_instance_clear(&op);
}

/* Two query heads on one key/value head of width 1: scores are q k. */
static void attention_is_causal(void **state)
{
    (void)state;
    const double q[] = {5, -5, 1, 0}, k[] = {2, 3}, v[] = {10, 20};
    const bn_op_spec spec = {.op = BN_OP_ATTENTION,
                             .params.attention = {2, 1, 0},
                             .in = {bn_tensor_3d(BN_F64, 1, 2, 2), bn_tensor_3d(BN_F64, 1, 2, 1),
                                    bn_tensor_3d(BN_F64, 1, 2, 1)},
                             .data = {q, k, v}};
    bn_op_instance op;
    double p = 1 / (1 + exp(1)); /* of the first key for q = 1: scores 2 and 3 */
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){10, 10, 10 * p + 20 * (1 - p), 15});
    expect(&op.call.out[1], (double[]){10, log(exp(2) + exp(3)), -10, log(2)});
    bn_op_instance_clear(&op);

    /* Width 4: scores are divided by 2. Heads 0, 1 use key head 0, heads 2, 3
     * key head 1. */
    double wide_q[32] = {0}, wide_k[16] = {0}, wide_v[16] = {0}, want[32];
    for (int h = 0; h < 4; h++)
        wide_q[16 + 4 * h] = 2;
    wide_k[8] = 1;  /* token 1, key head 0 */
    wide_k[12] = 3; /* token 1, key head 1 */
    for (int i = 0; i < 4; i++)
        wide_v[8 + i] = wide_v[12 + i] = i + 1;
    for (int i = 0; i < 32; i++) {
        double score = i % 16 < 8 ? 1 : 3;
        want[i] = i < 16 ? 0 : (i % 4 + 1) * exp(score) / (1 + exp(score));
    }
    const bn_op_spec grouped = {.op = BN_OP_ATTENTION,
                                .params.attention = {4, 2, 0},
                                .in = {bn_tensor_3d(BN_F64, 1, 2, 16),
                                       bn_tensor_3d(BN_F64, 1, 2, 8),
                                       bn_tensor_3d(BN_F64, 1, 2, 8)},
                                .data = {wide_q, wide_k, wide_v}};
    run(&op, &grouped);
    expect(&op.call.out[0], want);
    bn_op_instance_clear(&op);
}

static void reductions_and_copies(void **state)
{
    (void)state;
    const double x[] = {1, 2, 3, 4, 5, 6};
    bn_op_spec spec = {.op = BN_OP_SUM, .in = {bn_tensor_2d(BN_F64, 2, 3)}, .data = {x}};
    bn_op_instance op;
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){21});
    bn_op_instance_clear(&op);
    spec.op = BN_OP_MEAN;
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){3.5});
    bn_op_instance_clear(&op);
    spec.op = BN_OP_TRANSPOSE;
    spec.params.transpose.dim1 = 1;
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){1, 4, 2, 5, 3, 6});
    bn_op_instance_clear(&op);
    spec.op = BN_OP_SLICE;
    spec.params = (bn_op_params){.slice = {.dim = 1, .start = 1, .length = 2}};
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){2, 3, 5, 6});
    bn_op_instance_clear(&op);
}

/* log(V) for equal logits, whatever the chunk. */
static void linear_cross_entropy(void **state)
{
    (void)state;
    const double x[] = {1, -1, 2}, weight[] = {3, 3, 3, 3};
    const int32_t label[] = {0, 3, 2};
    bn_op_spec spec = {
        .op = BN_OP_LINEAR_CROSS_ENTROPY,
        .params.cross_entropy = {-100, 2},
        .in = {bn_tensor_2d(BN_F64, 3, 1), bn_tensor_2d(BN_F64, 4, 1), bn_tensor_1d(BN_I32, 3)},
        .data = {x, weight, label}};
    bn_op_instance op;
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){log(4)});
    expect(&op.call.out[1], (double[]){3 + log(4), -3 + log(4), 6 + log(4)});
    bn_op_instance_clear(&op);
}

/* a = max|x|, codes = rne(x 127/a), step = a/127; a row of zeros has step
 * 1e-5/127 and codes 0; halves round to even. */
static void absmax(void **state)
{
    (void)state;
    const double x[] = {127, 0.5, 1.5, -2.5, 0, 0, 0, 0, -2, 1, 0, 2};
    static const int8_t want[] = {127, 0, 2, -2, 0, 0, 0, 0, -127, 64, 0, 127};
    const bn_op_spec spec = {.op = BN_OP_ACT_QUANT,
                             .params.act = {8, BN_PER_ROW},
                             .in = {bn_tensor_2d(BN_F64, 3, 4)},
                             .data = {x}};
    bn_op_instance op;
    run(&op, &spec);
    assert_memory_equal(bn_tensor_data(&op.call.out[0]), want, sizeof want);
    expect(&op.call.out[1], (double[]){1, 1e-5 / 127, 2.0 / 127});
    bn_op_instance_clear(&op);
}

/* gamma = max(mean|w|, 1e-5) per group of 32 with a short last group. */
static void absmean(void **state)
{
    (void)state;
    double w[2 * 33] = {0};
    for (int i = 0; i < 32; i++)
        w[i] = i % 2 ? 0.4 : -1.2; /* mean 0.8: 0.5 rounds to 0, -1.5 to -1 */
    w[32] = 5;                     /* a group of one: gamma 5, code 1 */
    w[33 + 32] = -1e-9;            /* below the floor */
    const bn_op_spec spec = {.op = BN_OP_WEIGHT_QUANT,
                             .params.weight.group_size = 32,
                             .in = {bn_tensor_2d(BN_F64, 2, 33)},
                             .data = {w}};
    bn_op_instance op;
    int8_t q[2 * 33];
    run(&op, &spec);
    expect(&op.call.out[1], (double[]){0.8, 5, 1e-5, 1e-5});
    bn_t2_unpack(bn_tensor_data(&op.call.out[0]), 0, 2, 33, q);
    for (int i = 0; i < 32; i++)
        assert_int_equal(q[i], i % 2 ? 0 : -1);
    assert_int_equal(q[32], 1);
    for (int i = 33; i < 66; i++)
        assert_int_equal(q[i], 0);
    bn_op_instance_clear(&op);
}

/* codes * step and codes * gamma of the two tests above, per token and per
 * tensor, per group and per row. */
static void fake_quantizers(void **state)
{
    (void)state;
    const double x[] = {127, 0.5, 1.5, -2.5, -2, 1, 0, 2}, s = 2.0 / 127;
    bn_op_spec act = {.op = BN_OP_ACT_FAKE_QUANT,
                      .params.act = {8, BN_PER_ROW},
                      .in = {bn_tensor_2d(BN_F64, 2, 4)},
                      .data = {x}};
    bn_op_instance op;
    run(&op, &act);
    expect(&op.call.out[0], (double[]){127, 0, 2, -2, -127 * s, 64 * s, 0, 127 * s});
    bn_op_instance_clear(&op);
    act.params.act.group_size = BN_PER_TENSOR;
    run(&op, &act);
    expect(&op.call.out[0], (double[]){127, 0, 2, -2, -2, 1, 0, 2});
    bn_op_instance_clear(&op);
    act.run.softness = 0.5; /* half way between the codes and x */
    run(&op, &act);
    expect(&op.call.out[0], (double[]){127, 0.25, 1.75, -2.25, -2, 1, 0, 2});
    bn_op_instance_clear(&op);
    act.run.softness = 0;
    act.params.act = (bn_act_params){4, 2};
    run(&op, &act); /* steps 127/7, 2.5/7, 2/7, 2/7 */
    expect(&op.call.out[0], (double[]){127, 0, 1.5 - 0.5 / 7, -2.5, -2, 8.0 / 7, 0, 2});
    bn_op_instance_clear(&op);

    const double w[] = {1, -3, 0.5, 8, 0.25, -0.25};
    bn_op_spec weight = {.op = BN_OP_WEIGHT_FAKE_QUANT,
                         .params.weight.group_size = 2,
                         .in = {bn_tensor_2d(BN_F64, 2, 3)},
                         .data = {w}};
    run(&op, &weight); /* gammas 2, 0.5; 4.125, 0.25; 1/2 rounds to 0 */
    expect(&op.call.out[0], (double[]){0, -2, 0.5, 4.125, 0, -0.25});
    bn_op_instance_clear(&op);
    weight.params.weight.group_size = BN_PER_ROW;
    run(&op, &weight);
    expect(&op.call.out[0], (double[]){1.5, -1.5, 0, 8.5 / 3, 0, 0});
    bn_op_instance_clear(&op);
    weight.run.softness = 0.25;
    run(&op, &weight);
    expect(&op.call.out[0], (double[]){1.375, -1.875, 0.125, 2.125 + 2, 0.0625, -0.0625});
    bn_op_instance_clear(&op);
}

/* One output by hand: two groups, one of them short. */
static void bitlinear(void **state)
{
    (void)state;
    int8_t x[33], q[33];
    uint8_t packed[9];
    for (int i = 0; i < 33; i++) {
        x[i] = (int8_t)(i - 16);
        q[i] = (int8_t)(i % 3 - 1);
    }
    bn_t2_pack(q, 1, 33, packed);
    int acc = 0;
    for (int i = 0; i < 32; i++)
        acc += x[i] * q[i];
    const double step = 0.5, gamma[2] = {0.25, 2}, bias = 3;
    const bn_op_spec spec = {.op = BN_OP_BITLINEAR,
                             .params.weight.group_size = 32,
                             .in = {bn_tensor_2d(BN_I8, 1, 33), bn_tensor_1d(BN_F64, 1),
                                    bn_tensor_2d(BN_T2, 1, 33), bn_tensor_2d(BN_F64, 1, 2),
                                    bn_tensor_1d(BN_F64, 1)},
                             .data = {x, &step, packed, gamma, &bias}};
    bn_op_instance op;
    double dx[33], dw[33];
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){(acc * 0.25 + x[32] * q[32] * 2) * step + bias});
    run_back(&op, 4);
    for (int i = 0; i < 33; i++) {
        dx[i] = 4 * q[i] * gamma[i / 32];
        dw[i] = 4 * x[i] * step;
    }
    expect(&op.call.din[0], dx);
    expect(&op.call.din[2], dw);
    expect(&op.call.din[4], (double[]){4});
    bn_op_instance_clear(&op);
}

/* The gradient of a quantizer's input is its output's, bit for bit, also where
 * values are clamped or rounded to 0. */
static void straight_through(void **state)
{
    (void)state;
    enum { N = 8 };
    const double x[N] = {-3, -0.01, 0, 0.2, 0.5, 0.9, 1.3, 100};
    const double r[N] = {0.1, -7, 1e-8, 1e8, 3, -0.3, 2, 5};
    bn_buffer memory, arena;
    assert_ok(backend->alloc(backend, 4 * BN_ALIGN, &memory));
    bn_tensor value = bn_tensor_at(bn_tensor_2d(backend->real, 2, 4), &memory, 0);
    bn_tensor grad = bn_tensor_at(value, &memory, BN_ALIGN);
    bn_tensor upstream = bn_tensor_at(value, &memory, 2 * BN_ALIGN);
    for (int which = 0; which < 2; which++) {
        bn_tape *t;
        assert_ok(bn_real_upload(backend, &value, x));
        assert_ok(bn_real_upload(backend, &upstream, r));
        assert_ok(backend->fill_zero(backend, &grad));
        assert_ok(bn_tape_new(backend, &t));
        bn_value leaf = bn_tape_leaf(t, &value, &grad);
        bn_value y =
            which == 0
                ? bn_act_fake_quant(t, leaf, &(bn_act_params){8, BN_PER_ROW})
                : bn_weight_fake_quant(t, leaf, &(bn_weight_params){.group_size = BN_PER_ROW});
        bn_value loss = bn_sum(t, bn_mul(t, y, bn_tape_input(t, &upstream)));
        assert_ok(bn_tape_plan(t, loss));
        assert_ok(backend->alloc(backend, bn_tape_memory_of(t).arena, &arena));
        assert_ok(bn_tape_bind(t, &arena));
        assert_ok(bn_tape_forward(t, NULL));
        assert_ok(bn_tape_backward(t, NULL, 1.0));
        assert_memory_equal(bn_tensor_data(&grad), bn_tensor_data(&upstream),
                            bn_tensor_bytes(&grad));
        bn_tape_free(t);
        backend->release(backend, &arena);
    }
    backend->release(backend, &memory);
}

static void cross_entropy_of_nothing_is_zero(void **state)
{
    (void)state;
    const double logits[] = {1, 2, 3, -2, -1, 0};
    const int32_t none[] = {-100, -100}, one[] = {-100, 2};
    bn_op_spec spec = {.op = BN_OP_CROSS_ENTROPY,
                       .params.cross_entropy.ignore_index = -100,
                       .in = {bn_tensor_2d(BN_F64, 2, 3), bn_tensor_1d(BN_I32, 2)},
                       .data = {logits, none}};
    bn_op_instance op;
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){0});
    run_back(&op, 1);
    expect(&op.call.din[0], (double[]){0, 0, 0, 0, 0, 0});
    bn_op_instance_clear(&op);

    /* The mean is over one row: log(e^-2 + e^-1 + 1). */
    double z = exp(-2) + exp(-1) + 1;
    spec.data[1] = one;
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){log(z)});
    run_back(&op, 1);
    expect(&op.call.din[0], (double[]){0, 0, 0, exp(-2) / z, exp(-1) / z, 1 / z - 1});
    bn_op_instance_clear(&op);
}

/* Kept elements are scaled by 1/(1-p), their share is near 1-p, and another
 * step or site draws another mask. */
static void dropout(void **state)
{
    (void)state;
    enum { N = 20000 };
    static double x[N], y[3][N];
    for (int i = 0; i < N; i++)
        x[i] = 1;
    bn_op_spec spec = {.op = BN_OP_DROPOUT, .in = {bn_tensor_1d(BN_F64, N)}, .data = {x}};
    spec.params.dropout.p = 0.2;
    for (int k = 0; k < 3; k++) {
        bn_op_instance op;
        spec.run.step = k == 1;
        spec.params.dropout.site = k == 2;
        run(&op, &spec);
        assert_ok(bn_real_download(backend, &op.call.out[0], y[k]));
        int kept = 0;
        for (int i = 0; i < N; i++) {
            kept += y[k][i] > 0;
            assert_true(y[k][i] == 0 || fabs(y[k][i] - 1.25) < 1e-6);
        }
        assert_in_range(kept, N * 4 / 5 - 250, N * 4 / 5 + 250); /* 4.4 deviations */
        bn_op_instance_clear(&op);
    }
    assert_memory_not_equal(y[0], y[1], sizeof y[0]);
    assert_memory_not_equal(y[0], y[2], sizeof y[0]);
}

/* One step of AdamW by hand, with and without clipping and decay. */
static void adamw(void **state)
{
    (void)state;
    bn_buffer memory;
    assert_ok(backend->alloc(backend, 5 * BN_ALIGN, &memory));
    bn_tensor t[5];
    for (int i = 0; i < 5; i++)
        t[i] = bn_tensor_at(bn_tensor_1d(backend->real, i == 4 ? 1 : 2), &memory,
                            (size_t)i * BN_ALIGN);
    assert_ok(bn_real_upload(backend, &t[0], (double[]){1, 1}));
    assert_ok(bn_real_upload(backend, &t[1], (double[]){3, 4}));
    assert_ok(backend->norm(backend, &t[1], &t[4]));
    expect(&t[4], (double[]){5});
    const bn_adamw o = {.lr = 0.1,
                        .beta1 = 0.9,
                        .beta2 = 0.99,
                        .eps = 0.5,
                        .weight_decay = 0.2,
                        .step = 1,
                        .decay_end = 1,
                        .clip = 1};
    assert_ok(backend->adamw(backend, &o, &t[0], &t[1], &t[2], &t[3], &t[4]));
    double c = 1 / (5 + 1e-6), g0 = 3 * c, g1 = 4 * c; /* the first step's m/v are g/|g| */
    expect(&t[2], (double[]){0.1 * g0, 0.1 * g1});
    expect(&t[3], (double[]){0.01 * g0 * g0, 0.01 * g1 * g1});
    expect(&t[0], (double[]){0.98 - 0.1 * g0 / (g0 + 0.5), 1 - 0.1 * g1 / (g1 + 0.5)});
    assert_ok(backend->scale(backend, &t[1], -2));
    expect(&t[1], (double[]){-6, -8});
    backend->release(backend, &memory);
}

static void refused(const bn_op_spec *spec, const char *text)
{
    bn_op_instance op;
    assert_ok(bn_op_instance_init(&op, backend, spec));
    assert_int_equal(bn_op_instance_forward(&op), BN_FAIL);
    if (!strstr(bn_error_text(), text))
        fail_msg("the error says '%s', expected '%s' in it", bn_error_text(), text);
    bn_op_instance_clear(&op);
}

static void distillation_in_closed_form(void **state)
{
    (void)state;
    /* softmax(target / 2) = (3/4, 1/4), softmax(logits / 2) = (1/2, 1/2). */
    const double logits[] = {5, 5}, target[] = {2 * log(3), 0};
    bn_op_spec spec = {.op = BN_OP_DISTILL_KL,
                       .params.distill = {.temperature = 2, .weight = 0.5},
                       .in = {bn_tensor_2d(BN_F64, 1, 2), bn_tensor_2d(BN_F64, 1, 2)},
                       .data = {logits, target}};
    bn_op_instance op;
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){0.5 * 4 * (0.75 * log(1.5) + 0.25 * log(0.5))});
    run_back(&op, 1);
    expect(&op.call.din[0], (double[]){0.5 * 2 * (0.5 - 0.75), 0.5 * 2 * (0.5 - 0.25)});
    bn_op_instance_clear(&op);
    spec.data[1] = logits; /* nothing is left to learn */
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){0});
    bn_op_instance_clear(&op);

    /* The first position sees itself alone; the second relates to both as (1/2, 1/2),
     * the target's as (3/4, 1/4). */
    spec = (bn_op_spec){.op = BN_OP_RELATION_KL,
                        .params.distill = {.weight = 0.8, .heads = 1},
                        .in = {bn_tensor_3d(BN_F64, 1, 2, 1), bn_tensor_3d(BN_F64, 1, 2, 1)},
                        .data = {(double[]){1, 1}, (double[]){1 + log(3), 1}}};
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){0.8 / 2 * (0.75 * log(1.5) + 0.25 * log(0.5))});
    run_back(&op, 1);
    expect(&op.call.din[0], (double[]){-0.8 / 8, 0.8 / 8});
    bn_op_instance_clear(&op);

    spec = (bn_op_spec){.op = BN_OP_DISTANCE,
                        .params.distill.weight = 3,
                        .in = {bn_tensor_1d(BN_F64, 2), bn_tensor_1d(BN_F64, 2)},
                        .data = {(double[]){1, 5}, (double[]){2, 2}}};
    run(&op, &spec);
    expect(&op.call.out[0], (double[]){15});
    run_back(&op, 1);
    expect(&op.call.din[0], (double[]){-3, 9});
    bn_op_instance_clear(&op);
}

static void bad_numbers_are_refused(void **state)
{
    (void)state;
    const double x[12] = {0};
    const int32_t id[] = {1, 3}, negative[] = {-1, 0};
    bn_op_spec embedding = {.op = BN_OP_EMBEDDING,
                            .in = {bn_tensor_1d(BN_I32, 2), bn_tensor_2d(BN_F64, 3, 4)},
                            .data = {id, x}};
    refused(&embedding, "id 3 at position 1, expected 0 to 2");
    embedding.data[0] = negative;
    refused(&embedding, "id -1 at position 0");
    const bn_op_spec loss = {.op = BN_OP_CROSS_ENTROPY,
                             .params.cross_entropy.ignore_index = -100,
                             .in = {bn_tensor_2d(BN_F64, 2, 3), bn_tensor_1d(BN_I32, 2)},
                             .data = {x, id}};
    refused(&loss, "label 3 in row 1, expected 0 to 2 or -100");
    const bn_op_spec head = {
        .op = BN_OP_LINEAR_CROSS_ENTROPY,
        .params.cross_entropy = {-100, 1},
        .in = {bn_tensor_2d(BN_F64, 2, 3), bn_tensor_2d(BN_F64, 3, 3), bn_tensor_1d(BN_I32, 2)},
        .data = {x, x, negative}};
    refused(&head, "label -1 in row 0");
    const bn_op_spec rope = {.op = BN_OP_ROPE,
                             .params.rope.head_dim = 2,
                             .run.position = 2,
                             .in = {bn_tensor_3d(BN_F64, 1, 2, 2), bn_tensor_2d(BN_F64, 3, 2)},
                             .data = {x, x}};
    refused(&rope, "positions 2 to 3, the table has 3");
    const bn_op_spec cache = {.op = BN_OP_KV_ATTENTION,
                              .params.attention = {1, 1, 0},
                              .run.position = 2,
                              .in = {bn_tensor_3d(BN_F64, 1, 2, 2), bn_tensor_3d(BN_F64, 1, 2, 2),
                                     bn_tensor_3d(BN_F64, 1, 2, 2), bn_tensor_2d(BN_F64, 3, 2),
                                     bn_tensor_2d(BN_F64, 3, 2)},
                              .data = {x, x, x, x, x}};
    refused(&cache, "positions 2 to 3, the cache has 3");
}

/* ---- construction --------------------------------------------------------- */

static void memory_is_zero_and_aligned(void **state)
{
    (void)state;
    bn_buffer b;
    assert_ok(backend->alloc(backend, 1000, &b));
    assert_int_equal((uintptr_t)b.host % BN_ALIGN, 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(((const char *)b.host)[i], 0);
    backend->release(backend, &b);
    assert_null(b.host);
    backend->release(backend, &b); /* twice is fine */
    assert_int_equal(backend->alloc(backend, SIZE_MAX - 1, &b), BN_FAIL);
}

static void backends_are_named(void **state)
{
    (void)state;
    bn_backend *b;
    assert_string_equal(backend->name, backend->real == BN_F64 ? "ref64" : "ref32");
    assert_string_equal(bn_cpu_isa(backend), "ref");
    assert_null(bn_cpu_threads(backend));
    assert_int_equal(bn_ref_backend_new(BN_I8, &b), BN_FAIL);
    assert_null(b);
    assert_string_equal(bn_cpu_isa_choice(0), "ref");
    assert_int_equal(bn_cpu_backend_new(&(bn_cpu_options){.threads = 1, .isa = "sse9"}, &b),
                     BN_USAGE);
    assert_non_null(strstr(bn_error_text(), "'sse9', expected one of: ref"));
    assert_int_equal(setenv("BITNET_CPU", "ref", 1), 0);
    assert_ok(bn_cpu_backend_new(NULL, &b));
    assert_string_equal(bn_cpu_isa(b), "ref");
    assert_string_equal(b->name, "cpu");
    bn_backend_free(b);
    assert_int_equal(unsetenv("BITNET_CPU"), 0);
    int best = 0;
    while (bn_cpu_isa_choice(best + 1))
        best++;
    assert_ok(bn_cpu_backend_new(NULL, &b));
    assert_string_equal(bn_cpu_isa(b), bn_cpu_isa_choice(best));
    bn_backend_free(b);
}

static int run_on(bn_dtype real)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relu2),
        cmocka_unit_test(silu_far_from_zero),
        cmocka_unit_test(embedding_and_products),
        cmocka_unit_test(hadamard),
        cmocka_unit_test(rmsnorm_and_softmax),
        cmocka_unit_test(glu),
        cmocka_unit_test(rope_starts_at_the_position),
        cmocka_unit_test(attention_is_causal),
        cmocka_unit_test(reductions_and_copies),
        cmocka_unit_test(linear_cross_entropy),
        cmocka_unit_test(absmax),
        cmocka_unit_test(absmean),
        cmocka_unit_test(fake_quantizers),
        cmocka_unit_test(bitlinear),
        cmocka_unit_test(straight_through),
        cmocka_unit_test(cross_entropy_of_nothing_is_zero),
        cmocka_unit_test(distillation_in_closed_form),
        cmocka_unit_test(dropout),
        cmocka_unit_test(adamw),
        cmocka_unit_test(bad_numbers_are_refused),
        cmocka_unit_test(memory_is_zero_and_aligned),
        cmocka_unit_test(backends_are_named),
    };
    if (bn_ref_backend_new(real, &backend) != BN_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    bn_backend_free(backend);
    return failed;
}

int main(void)
{
    return run_on(BN_F32) + run_on(BN_F64);
}
