/* Every gradient of every op against central differences in double precision,
 * and against the rules of a kernel call: store or add, wanted or not. The loop
 * is over the op list: an op without a case fails. Ops whose gradient passes
 * through without a kernel are checked on tapes, where the planner shares the
 * buffer. */
#include "cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/ops.h"
#include "base/rng.h"
#include "cpu/cpu.h"
#include "ops/op_cases.h"

static bn_backend *backend;
static op_case_list cases;

static int setup(void **state)
{
    (void)state;
    cases = op_cases_new();
    return bn_ref_backend_new(BN_F64, &backend) == BN_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    op_cases_free(&cases);
    bn_backend_free(backend);
    return 0;
}

/* Number of elements over the limit; says so. */
static int judge(const char *name, int operand, const bn_gradcheck_entry *e, double warn,
                 double fail)
{
    if (e->checked == 0) {
        print_error("%s: input %d was not checked\n", name, operand);
        return 1;
    }
    if (e->error <= warn)
        return 0;
    print_message("%s: input %d, element %lld: analytic %.12g, numeric %.12g, error %.2e\n", name,
                  operand, (long long)e->index, e->analytic, e->numeric, e->error);
    return !(e->error <= fail);
}

static bool has_kernel(bn_op op)
{
    return !(bn_op_table[op].traits & (BN_PASS | BN_NOGRAD));
}

static void every_op_has_a_case(void **state)
{
    (void)state;
    for (int op = 0; op < BN_OP_COUNT; op++) {
        int found = 0;
        for (int i = 0; i < cases.count; i++)
            found += cases.items[i].spec.op == (bn_op)op;
        if (!found)
            fail_msg("%s has no case in op_cases.c", bn_op_table[op].name);
        assert_true(bn_op_table[op].fail <= 1e-6);
    }
}

static void gradients_are_derivatives(void **state)
{
    (void)state;
    int failed = 0;
    for (int i = 0; i < cases.count; i++) {
        const op_case *k = &cases.items[i];
        const bn_op_info *info = &bn_op_table[k->spec.op];
        if (!has_kernel(k->spec.op))
            continue;
        bn_gradcheck_entry entry[BN_MAX_IN];
        assert_ok(bn_gradcheck_op(backend, &k->spec, &k->check, entry));
        for (int j = 0; j < info->n_in; j++)
            if ((info->grads >> j & 1u) && bn_tensor_present(&k->spec.in[j]))
                failed += judge(k->name, j, &entry[j], info->warn, info->fail);
    }
    assert_int_equal(failed, 0);
}

/* ---- the rules of a backward call ---------------------------------------- */

static void fill(const bn_tensor *t, double value)
{
    double *p = bn_tensor_data(t);
    for (int64_t i = 0; i < bn_tensor_numel(t); i++)
        p[i] = value;
}

static double *copy_of(const bn_tensor *t)
{
    double *p = malloc(bn_tensor_bytes(t));
    assert_non_null(p);
    assert_ok(bn_real_download(backend, t, p));
    return p;
}

/* Runs backward with the gradients in `wanted`, added to `base` where in
 * `added`; all buffers hold `base` before. */
static void expect_gradients(bn_op_instance *op, const char *name, unsigned wanted, unsigned added,
                             double base, double *const *expected)
{
    for (unsigned i = 0; i < BN_MAX_IN; i++)
        if (bn_tensor_present(&op->call.din[i]))
            fill(&op->call.din[i], base);
    assert_ok(bn_op_instance_backward(op, wanted, added));
    for (unsigned i = 0; i < BN_MAX_IN; i++) {
        const bn_tensor *t = &op->call.din[i];
        for (int64_t j = 0; bn_tensor_present(t) && j < bn_tensor_numel(t); j++) {
            double want = !(wanted >> i & 1u) ? base
                          : added >> i & 1u   ? base + expected[i][j]
                                              : expected[i][j];
            double got = ((const double *)bn_tensor_data(t))[j];
            if (!(fabs(got - want) <= 1e-12 * fmax(1, fabs(want))))
                fail_msg("%s: wanted %x, added %x: gradient %u[%lld] is %.17g, expected %.17g",
                         name, wanted, added, i, (long long)j, got, want);
        }
    }
}

static void gradients_store_or_add(void **state)
{
    (void)state;
    for (int i = 0; i < cases.count; i++) {
        const op_case *k = &cases.items[i];
        if (!has_kernel(k->spec.op))
            continue;
        bn_op_instance op;
        double *expected[BN_MAX_IN] = {NULL};
        assert_ok(bn_op_instance_init(&op, backend, &k->spec));
        fill(&op.call.dout, 0.75);
        assert_ok(bn_op_instance_forward(&op));
        unsigned all = bn_op_instance_grads(&op);
        for (unsigned j = 0; j < BN_MAX_IN; j++)
            if (all >> j & 1u)
                fill(&op.call.din[j], (double)NAN); /* must be overwritten */
        assert_ok(bn_op_instance_backward(&op, all, 0));
        for (unsigned j = 0; j < BN_MAX_IN; j++)
            if (all >> j & 1u)
                expected[j] = copy_of(&op.call.din[j]);
        expect_gradients(&op, k->name, all, all, 3.5, expected);
        for (unsigned mask = 1; mask < 1u << BN_MAX_IN; mask++)
            if ((mask & all) == mask) {
                expect_gradients(&op, k->name, mask, 0, -2, expected);
                expect_gradients(&op, k->name, mask, mask & (mask - 1), -2, expected);
            }
        for (int j = 0; j < BN_MAX_IN; j++)
            free(expected[j]);
        bn_op_instance_clear(&op);
    }
}

/* ---- ops that pass their gradient through, on tapes ---------------------- */

enum { ROWS = 6, IN = 65, OUT = 9, GROUP = 32, LEAVES = 3 };

/* Leaves x [ROWS,IN], weight [OUT,IN], bias [OUT] with gradients. */
typedef struct leaves {
    bn_buffer memory;
    bn_gradcheck_leaf leaf[LEAVES];
    bn_act_params act;
    int64_t group_size;
    bn_grid grid;
    bn_estimator estimator;
} leaves;

static void leaves_init(leaves *l)
{
    const bn_tensor shape[LEAVES] = {bn_tensor_2d(BN_F64, ROWS, IN), bn_tensor_2d(BN_F64, OUT, IN),
                                     bn_tensor_1d(BN_F64, OUT)};
    size_t end = 0;
    *l = (leaves){.group_size = GROUP};
    assert_ok(backend->alloc(backend, 64 * 1024, &l->memory));
    for (int i = 0; i < LEAVES; i++) {
        size_t bytes = (bn_tensor_bytes(&shape[i]) + BN_ALIGN - 1) / BN_ALIGN * BN_ALIGN;
        l->leaf[i].value = bn_tensor_at(shape[i], &l->memory, end);
        l->leaf[i].grad = bn_tensor_at(shape[i], &l->memory, end + bytes);
        end += 2 * bytes;
        assert_true(end <= l->memory.bytes);
        double *x = bn_tensor_data(&l->leaf[i].value);
        bn_rng rng = bn_rng_of(99, (uint64_t)i);
        for (int64_t j = 0; j < bn_tensor_numel(&shape[i]); j++)
            x[j] = 0.3 * bn_rng_normal(&rng);
    }
}

static bn_value leaf(const leaves *l, bn_tape *t, int i)
{
    return bn_tape_leaf(t, &l->leaf[i].value, &l->leaf[i].grad);
}

static bn_value graph_bitlinear(void *arg, bn_tape *t)
{
    const leaves *l = arg;
    bn_quantized x = bn_act_quant(t, leaf(l, t, 0), &l->act);
    const bn_weight_params params = {
        .group_size = l->group_size, .grid = l->grid, .estimator = l->estimator};
    bn_quantized w = bn_weight_quant(t, leaf(l, t, 1), BN_NO_VALUE, &params);
    return bn_bitlinear(t, x, w, &params, leaf(l, t, 2));
}

/* Two layers that share the weight, so the second's activation residual is
 * frozen far from a leaf and the weight's gradient has two writers. */
static bn_value graph_shared_weight(void *arg, bn_tape *t)
{
    const leaves *l = arg;
    bn_value x = leaf(l, t, 0), weight = leaf(l, t, 1);
    bn_quantized w =
        bn_weight_quant(t, weight, BN_NO_VALUE, &(bn_weight_params){.group_size = l->group_size});
    bn_value y = bn_bitlinear(t, bn_act_quant(t, x, &l->act), w,
                              &(bn_weight_params){.group_size = l->group_size}, leaf(l, t, 2));
    bn_value back = bn_add(t, x, bn_matmul(t, y, weight));
    return bn_bitlinear(t, bn_act_quant(t, back, &l->act), w,
                        &(bn_weight_params){.group_size = l->group_size}, BN_NO_VALUE);
}

static bn_value graph_fake_quant(void *arg, bn_tape *t)
{
    const leaves *l = arg;
    bn_value x = bn_act_fake_quant(t, leaf(l, t, 0), &l->act);
    bn_value w =
        bn_weight_fake_quant(t, leaf(l, t, 1), &(bn_weight_params){.group_size = l->group_size});
    return bn_linear(t, x, w, leaf(l, t, 2));
}

static bn_value graph_reshape(void *arg, bn_tape *t)
{
    const leaves *l = arg;
    bn_value x = bn_reshape(t, leaf(l, t, 0), 3, (int64_t[]){2, ROWS / 2, IN});
    bn_value y = bn_silu(t, bn_linear(t, x, leaf(l, t, 1), leaf(l, t, 2)));
    return bn_mul(t, bn_reshape(t, y, 1, (int64_t[]){ROWS * OUT}),
                  bn_reshape(t, y, 1, (int64_t[]){ROWS * OUT}));
}

static void check_graph(const char *name, bn_gradcheck_graph graph, leaves *l, double softness)
{
    const bn_run run = {.softness = softness};
    bn_gradcheck_entry entry[LEAVES];
    int failed = 0;
    assert_ok(bn_gradcheck_tape(backend, graph, l, &run, l->leaf, LEAVES, NULL, entry));
    for (int i = 0; i < LEAVES; i++)
        failed += judge(name, i, &entry[i], 1e-9, 1e-6);
    assert_int_equal(failed, 0);
}

static void pass_ops_share_their_gradient(void **state)
{
    (void)state;
    static const int64_t sizes[] = {BN_PER_TENSOR, BN_PER_ROW, GROUP};
    leaves l;
    leaves_init(&l);
    for (int i = 0; i < 6; i++) {
        l.group_size = sizes[i % 3];
        l.act = (bn_act_params){i % 2 ? 4 : 8, i >= 3 ? BN_PER_TENSOR : BN_PER_ROW};
        check_graph("act_quant, weight_quant, bitlinear", graph_bitlinear, &l, 0);
        check_graph("two layers with one weight", graph_shared_weight, &l, 0);
        check_graph("act_fake_quant, weight_fake_quant", graph_fake_quant, &l, 0);
        check_graph("soft fake quantizers", graph_fake_quant, &l, 0.3);
    }
    l.group_size = GROUP;
    for (int grid = 0; grid < BN_GRID_COUNT; grid++) {
        l.grid = (bn_grid)grid;
        check_graph(bn_grid_table[grid].name, graph_bitlinear, &l, 0);
    }
    l.estimator = BN_ESTIMATOR_TRUST; /* passes all gradients of 8-bit codes, through its node */
    check_graph("weight_estimator", graph_bitlinear, &l, 0);
    check_graph("reshape", graph_reshape, &l, 0);
    backend->release(backend, &l.memory);
}

/* ---- the checker itself -------------------------------------------------- */

static bn_status wrong_backward(bn_backend *b, const bn_op_call *c)
{
    (void)b;
    for (int64_t i = 0; i < bn_tensor_numel(&c->din[0]); i++)
        ((double *)bn_tensor_data(&c->din[0]))[i] = i == 2 ? (double)NAN : 1;
    return BN_OK;
}

static void a_wrong_gradient_is_seen(void **state)
{
    (void)state;
    bn_kernel right = backend->rows[BN_OP_SILU].backward;
    backend->rows[BN_OP_SILU].backward = wrong_backward;
    double x[5] = {1, 2, 3, 4, 5};
    bn_op_spec spec = {.op = BN_OP_SILU, .in = {bn_tensor_1d(BN_F64, 2)}, .data = {x}};
    bn_gradcheck_entry entry[BN_MAX_IN];
    assert_ok(bn_gradcheck_op(backend, &spec, NULL, entry));
    assert_int_equal(entry[0].checked, 2);
    assert_true(entry[0].error > 1e-3);
    spec.in[0] = bn_tensor_1d(BN_F64, 5);
    assert_ok(bn_gradcheck_op(backend, &spec, NULL, entry));
    assert_int_equal(entry[0].index, 2);
    assert_false(entry[0].error <= 1e30); /* NaN fails any limit */
    backend->rows[BN_OP_SILU].backward = right;
}

static void ops_without_a_kernel_are_refused(void **state)
{
    (void)state;
    bn_gradcheck_entry entry[BN_MAX_IN];
    bn_op_spec spec = {.op = BN_OP_RESHAPE};
    assert_int_equal(bn_gradcheck_op(backend, &spec, NULL, entry), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "reshape"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_has_a_case),
        cmocka_unit_test(gradients_are_derivatives),
        cmocka_unit_test(gradients_store_or_add),
        cmocka_unit_test(pass_ops_share_their_gradient),
        cmocka_unit_test(a_wrong_gradient_is_seen),
        cmocka_unit_test(ops_without_a_kernel_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
