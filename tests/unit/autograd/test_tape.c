/* The tape and its memory plan: errors, lifetimes, sharing of buffers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/ops.h"
#include "base/rng.h"
#include "cpu/cpu.h"
#include "cmocka_all.h"

enum { ROWS = 3, COLS = 4, LEAVES = 3, N = ROWS * COLS };

typedef struct fixture {
    bn_backend *backend;
    bn_buffer values, grads, arena;
    bn_tensor leaf[LEAVES], grad[LEAVES];
    bn_tape *tape;
} fixture;

static void open_fixture(fixture *f)
{
    *f = (fixture){0};
    assert_ok(bn_ref_backend_new(BN_F64, &f->backend));
    assert_ok(f->backend->alloc(f->backend, LEAVES * 256, &f->values));
    assert_ok(f->backend->alloc(f->backend, LEAVES * 256, &f->grads));
    for (int i = 0; i < LEAVES; i++) {
        f->leaf[i] = bn_tensor_at(bn_tensor_2d(BN_F64, ROWS, COLS), &f->values, (size_t)i * 256);
        f->grad[i] = bn_tensor_at(bn_tensor_2d(BN_F64, ROWS, COLS), &f->grads, (size_t)i * 256);
    }
    assert_ok(bn_tape_new(f->backend, &f->tape));
}

static void close_fixture(fixture *f)
{
    bn_tape_free(f->tape);
    f->backend->release(f->backend, &f->values);
    f->backend->release(f->backend, &f->grads);
    f->backend->release(f->backend, &f->arena);
    bn_backend_free(f->backend);
}

static void plan_and_bind(fixture *f, bn_value target)
{
    assert_ok(bn_tape_plan(f->tape, target));
    size_t bytes = bn_tape_memory_of(f->tape).arena;
    assert_ok(f->backend->alloc(f->backend, bytes ? bytes : 1, &f->arena));
    memset(f->arena.host, 0xff, f->arena.bytes); /* NaN wherever nothing was written */
    assert_ok(bn_tape_bind(f->tape, &f->arena));
}

static double *data(const bn_tensor *t)
{
    return bn_tensor_data(t);
}

static double forward(fixture *f, bn_value target)
{
    double value;
    assert_ok(bn_tape_forward(f->tape, NULL));
    assert_ok(bn_backend_get_scalar(f->backend, bn_tape_tensor(f->tape, target), &value));
    return value;
}

static bn_value leaf(fixture *f, int i)
{
    return bn_tape_leaf(f->tape, &f->leaf[i], &f->grad[i]);
}

static void random_leaves(fixture *f, bn_rng *rng)
{
    for (int i = 0; i < LEAVES; i++)
        for (int k = 0; k < N; k++)
            data(&f->leaf[i])[k] = bn_rng_normal(rng);
}

/* Gradients of all leaves, run with several seeds summed, against central
 * differences. */
static void check_against_differences(fixture *f, bn_value target)
{
    memset(f->grads.host, 0, f->grads.bytes);
    forward(f, target);
    assert_ok(bn_tape_backward(f->tape, NULL, 0.25));
    forward(f, target);
    assert_ok(bn_tape_backward(f->tape, NULL, 0.75)); /* leaf gradients add up to seed 1 */
    for (int i = 0; i < LEAVES; i++)
        for (int k = 0; k < N; k++) {
            double *x = &data(&f->leaf[i])[k], at = *x, h = 1e-5;
            *x = at + h;
            double up = forward(f, target);
            *x = at - h;
            double down = forward(f, target);
            *x = at;
            double n = (up - down) / (2 * h), a = data(&f->grad[i])[k];
            double error = fabs(a - n) / fmax(1, fmax(fabs(a), fabs(n)));
            if (!(error <= 1e-6))
                fail_msg("leaf %d element %d: %.12g, differences give %.12g", i, k, a, n);
        }
}

/* A random graph of ops that keep the shape, biased towards residual sums,
 * reuse of old values and views. */
static bn_value random_graph(fixture *f, bn_rng *rng)
{
    enum { LENGTH = 24 };
    bn_value v[LEAVES + LENGTH];
    const int64_t flat[] = {N}, back[] = {ROWS, COLS};
    int n = 0;
    for (; n < LEAVES; n++)
        v[n] = leaf(f, n);
    int length = 2 + (int)bn_rng_below(rng, LENGTH - 2);
    for (int i = 0; i < length; i++, n++) {
        bn_value a = v[bn_rng_below(rng, 3) ? n - 1 : (int)bn_rng_below(rng, (uint64_t)n)];
        bn_value b = v[bn_rng_below(rng, (uint64_t)n)];
        switch (bn_rng_below(rng, 9)) {
        case 0:
        case 1:
        case 2:
            v[n] = bn_rng_below(rng, 2) ? bn_add(f->tape, a, b) : bn_add(f->tape, b, a);
            break;
        case 3:
            v[n] = bn_silu(f->tape, a);
            break;
        case 4: /* bounded: products of products stay tame */
            v[n] = bn_mul(f->tape, bn_softmax(f->tape, a), b);
            break;
        case 5:
            v[n] = bn_reshape(f->tape, bn_reshape(f->tape, a, 1, flat), 2, back);
            break;
        case 6:
            v[n] = bn_transpose(f->tape, bn_silu(f->tape, bn_transpose(f->tape, a, 0, 1)), 0, 1);
            break;
        case 7:
            bn_tape_no_grad_push(f->tape); /* a constant for backward, and unused */
            bn_silu(f->tape, a);
            bn_tape_no_grad_pop(f->tape);
            v[n] = bn_softmax(f->tape, a);
            break;
        default:
            v[n] = bn_mul(f->tape, bn_silu(f->tape, a), bn_softmax(f->tape, a));
        }
    }
    bn_value all = v[n - 1];
    if (bn_rng_below(rng, 2))
        all = bn_add(f->tape, all, v[bn_rng_below(rng, (uint64_t)n)]);
    for (int i = 0; i < LEAVES; i++) /* every leaf takes part */
        all = bn_add(f->tape, all, bn_softmax(f->tape, v[i]));
    return bn_mean(f->tape, bn_mul(f->tape, all, bn_softmax(f->tape, all)));
}

static void test_random_graphs(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 400; seed++) {
        fixture f;
        bn_rng rng = bn_rng_of(seed, 1);
        open_fixture(&f);
        random_leaves(&f, &rng);
        bn_value target = random_graph(&f, &rng);
        plan_and_bind(&f, target);
        check_against_differences(&f, target);
        close_fixture(&f);
    }
}

/* x -> x + f(x), many times: the gradient of the whole stream is one buffer,
 * and the arena does not grow with unneeded values. */
static void test_residual_stream_shares_one_gradient(void **state)
{
    (void)state;
    size_t gradients[2];
    for (int deep = 0; deep < 2; deep++) {
        fixture f;
        bn_rng rng = bn_rng_of(7, 7);
        open_fixture(&f);
        random_leaves(&f, &rng);
        bn_value x = bn_silu(f.tape, bn_add(f.tape, leaf(&f, 0), leaf(&f, 1)));
        for (int i = 0; i < (deep ? 12 : 2); i++)
            x = bn_add(f.tape, x, bn_mul(f.tape, bn_silu(f.tape, x), leaf(&f, 2)));
        bn_value target = bn_mean(f.tape, x);
        plan_and_bind(&f, target);
        gradients[deep] = bn_tape_memory_of(f.tape).gradients;
        check_against_differences(&f, target);
        close_fixture(&f);
    }
    assert_int_equal(gradients[0], gradients[1]);
}

static void test_forward_only_reuses_memory(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f);
    bn_value x = leaf(&f, 0);
    for (int i = 0; i < 50; i++)
        x = bn_silu(f.tape, x);
    bn_tape_retain(f.tape, x);
    plan_and_bind(&f, BN_NO_VALUE);
    bn_tape_memory m = bn_tape_memory_of(f.tape);
    assert_int_equal(m.arena, 2 * 128); /* operand and result take turns */
    assert_int_equal(m.saved_float, 0);
    assert_ok(bn_tape_forward(f.tape, NULL));
    assert_int_not_equal(bn_tape_backward(f.tape, NULL, 1), BN_OK);
    close_fixture(&f);
}

static void test_twin_operands(void **state)
{
    (void)state;
    fixture f;
    bn_rng rng = bn_rng_of(3, 3);
    open_fixture(&f);
    random_leaves(&f, &rng);
    bn_value x = leaf(&f, 0);
    bn_value y = bn_add(f.tape, bn_mul(f.tape, x, x), bn_add(f.tape, x, x));
    y = bn_add(f.tape, y, bn_add(f.tape, leaf(&f, 1), leaf(&f, 2)));
    bn_value flat = bn_reshape(f.tape, y, 1, (const int64_t[]){N});
    y = bn_mul(f.tape, y, bn_reshape(f.tape, flat, 2, (const int64_t[]){ROWS, COLS}));
    bn_value target = bn_sum(f.tape, bn_glu(f.tape, y, y, BN_ACT_SILU));
    plan_and_bind(&f, target);
    check_against_differences(&f, target);
    close_fixture(&f);
}

static void test_errors_are_sticky(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f);
    bn_value bad = bn_matmul(f.tape, leaf(&f, 0), leaf(&f, 1)); /* 3x4 times 3x4 */
    assert_int_equal(bad, BN_NO_VALUE);
    bn_error_clear();
    bn_value later = bn_mean(f.tape, bn_add(f.tape, bad, leaf(&f, 0)));
    assert_int_equal(later, BN_NO_VALUE);
    assert_int_equal(bn_tape_plan(f.tape, later), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "matmul"));
    assert_non_null(strstr(bn_error_text(), "[3, 4]"));
    close_fixture(&f);
}

static void test_misuse(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f);
    bn_value x = leaf(&f, 0), y = bn_silu(f.tape, x), constant = bn_tape_input(f.tape, &f.leaf[1]);
    assert_int_equal(bn_tape_forward(f.tape, NULL), BN_FAIL);     /* not planned */
    assert_int_equal(bn_tape_plan(f.tape, y), BN_FAIL);           /* not one element */
    assert_int_equal(bn_tape_plan(f.tape, BN_NO_VALUE), BN_FAIL); /* planned already */
    bn_tape_free(f.tape);
    assert_ok(bn_tape_new(f.backend, &f.tape));
    constant = bn_mean(f.tape, bn_tape_input(f.tape, &f.leaf[1]));
    assert_int_equal(bn_tape_plan(f.tape, constant), BN_FAIL); /* nothing wants a gradient */
    bn_tape_free(f.tape);
    assert_ok(bn_tape_new(f.backend, &f.tape));
    bn_value target = bn_mean(f.tape, bn_silu(f.tape, leaf(&f, 0)));
    assert_ok(bn_tape_plan(f.tape, target));
    bn_buffer small = {.bytes = 1};
    assert_int_equal(bn_tape_bind(f.tape, &small), BN_FAIL);
    assert_int_equal(bn_tape_forward(f.tape, NULL), BN_FAIL); /* not bound */
    close_fixture(&f);
}

static void test_frozen_leaf_and_no_grad_scope(void **state)
{
    (void)state;
    fixture f;
    bn_rng rng = bn_rng_of(5, 5);
    open_fixture(&f);
    random_leaves(&f, &rng);
    bn_tape_no_grad_push(f.tape);
    bn_value scale = bn_softmax(f.tape, leaf(&f, 1));
    bn_tape_no_grad_pop(f.tape);
    bn_value target =
        bn_sum(f.tape, bn_mul(f.tape, leaf(&f, 0),
                              bn_mul(f.tape, scale, bn_tape_input(f.tape, &f.leaf[2]))));
    plan_and_bind(&f, target);
    memset(f.grads.host, 0, f.grads.bytes);
    forward(&f, target);
    assert_ok(bn_tape_backward(f.tape, NULL, 1));
    for (int k = 0; k < N; k++) {
        assert_true(data(&f.grad[0])[k] != 0);
        assert_true(data(&f.grad[1])[k] == 0); /* inside the scope */
        assert_true(data(&f.grad[2])[k] == 0); /* a constant */
    }
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_graphs),
        cmocka_unit_test(test_residual_stream_shares_one_gradient),
        cmocka_unit_test(test_forward_only_reuses_memory),
        cmocka_unit_test(test_twin_operands),
        cmocka_unit_test(test_errors_are_sticky),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_frozen_leaf_and_no_grad_scope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
