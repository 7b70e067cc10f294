/* training.freeze: what is frozen stays, costs nothing, and may be thawed later. */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "cpu/cpu.h"
#include "train/memory.h"
#include "train_help.h"

typedef struct fixture {
    bn_config config;
    bn_train_data data;
    bn_backend *backend;
    bn_trainer *trainer;
} fixture;

static void start(fixture *f, const char *freeze)
{
    help_config(&f->config, "unused", freeze, NULL);
    assert_ok(bn_train_data_open(&f->config, &f->data));
    assert_ok(bn_cpu_backend_new(NULL, &f->backend));
    assert_ok(bn_trainer_new(&f->config, &f->data, f->backend, false, &f->trainer));
}

static void stop(fixture *f)
{
    bn_trainer_free(f->trainer);
    bn_backend_free(f->backend);
    bn_train_data_clear(&f->data);
    bn_config_clear(&f->config);
}

static const float *value(const fixture *f, const char *name)
{
    const bn_param *p = bn_param_set_find(&f->trainer->model->params, name);
    assert_non_null(p);
    return bn_tensor_data(&p->value);
}

static const char *const q_proj = "model.layers.0.self_attn.q_proj.weight";
static const char *const up_proj = "model.layers.0.mlp.up_proj.weight";

static void test_frozen_stays(void **state)
{
    (void)state;
    fixture all = {0}, some = {0};
    bn_step_result a, b;
    bn_size_report report;
    start(&all, "training.freeze=");
    start(&some, "training.freeze=*,!*norm,!q_proj");
    const bn_param_set *set = &some.trainer->model->params;
    const bn_param *q = bn_param_set_find(set, q_proj);
    const size_t q_bytes = bn_tensor_bytes(&q->value);
    float first[32];
    memcpy(first, value(&some, up_proj), sizeof first);
    assert_ok(bn_trainer_step(all.trainer, &a));
    assert_ok(bn_trainer_step(some.trainer, &b));
    /* The gradient is the same where there is one, and gone where not. */
    assert_true(a.loss == b.loss);
    assert_true(b.grad_norm < a.grad_norm);
    assert_memory_equal(
        bn_tensor_data(&q->grad),
        bn_tensor_data(&bn_param_set_find(&all.trainer->model->params, q_proj)->grad), q_bytes);
    assert_null(bn_param_set_find(set, up_proj)->grad.buffer);
    for (int i = 0; i < 5; i++)
        assert_ok(bn_trainer_step(some.trainer, &b));
    assert_memory_equal(first, value(&some, up_proj), sizeof first); /* no decay either */
    assert_memory_not_equal(bn_tensor_data(&q->value), value(&all, q_proj), q_bytes);
    /* 32 x 32 weights and five norms of 32 or intermediate_size, in memory as foretold */
    const int64_t trained = 32 * 32 + 4 * 32 + some.config.model.intermediate_size;
    assert_int_equal(bn_param_set_trainable(set), trained);
    assert_int_equal(some.trainer->model->grads.bytes, set->train_bytes);
    assert_int_equal(some.trainer->optimizer.m.bytes, set->train_bytes);
    assert_true(set->train_bytes < (size_t)trained * sizeof(float) + 6 * BN_ALIGN);
    assert_ok(bn_size_report_make(&some.config, 256, some.backend, &report));
    assert_int_equal(report.trainable, trained);
    assert_int_equal(report.memory.gradients, set->train_bytes);
    assert_int_equal(report.memory.moments, 2 * set->train_bytes);
    stop(&all);
    stop(&some);
}

/* Backward ends where nobody wants a gradient any more. */
static void test_backward_does_not_go_on(void **state)
{
    (void)state;
    fixture f = {0};
    int differentiated = 0;
    start(&f, "training.freeze=*,!model.norm");
    for (int i = 0; i < bn_tape_length(f.trainer->graphs.train[BN_STRENGTH_HARD]); i++)
        differentiated +=
            bn_tape_node_at(f.trainer->graphs.train[BN_STRENGTH_HARD], i)->differentiated;
    assert_int_equal(differentiated, 2); /* the loss, the norm before the head */
    stop(&f);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *freeze, *text;
    } cases[] = {
        {"training.freeze=q_prj", "training.freeze: \"q_prj\" matches no parameter"},
        {"training.freeze=norm,!norn", "\"!norn\" matches no parameter"},
        {"training.freeze=*", "found all 13 parameters frozen"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bn_config config;
        help_config(&config, "refused", cases[i].freeze, NULL);
        assert_int_equal(help_run(&config, NULL, NULL), BN_BAD_CONFIG);
        assert_non_null(strstr(bn_error_text(), cases[i].text));
        bn_config_clear(&config);
    }
}

static bool has_moments(bn_checkpoint *c, const char *name, int64_t rows, int64_t cols)
{
    float *floats = malloc((size_t)(2 * rows * cols) * sizeof *floats);
    assert_non_null(floats);
    const bn_checkpoint_param p = {.name = name,
                                   .ndim = 2,
                                   .shape = {rows, cols},
                                   .moment1 = floats,
                                   .moment2 = floats + rows * cols};
    assert_ok(bn_checkpoint_load_one(c, &p));
    bool some = false;
    for (int64_t i = 0; i < 2 * rows * cols; i++)
        some |= floats[i] != 0.0f;
    free(floats);
    return some;
}

/* Stopped and resumed: the same bytes. Then with another list: what was frozen
 * learns, from moments of zero. */
static void test_resume(void **state)
{
    (void)state;
    bn_config straight, stopped;
    bn_checkpoint *c;
    const char *freeze = "training.freeze=embed_tokens,mlp";
    help_config(&straight, "straight", freeze, NULL);
    help_config(&stopped, "stopped", freeze, NULL);
    help_stop_and_resume(&straight, &stopped, 7, 20);
    const int64_t ffn = straight.model.intermediate_size;
    assert_ok(bn_checkpoint_open("straight/checkpoint-00000020.h5", &c));
    assert_true(has_moments(c, q_proj, 32, 32));
    assert_false(has_moments(c, up_proj, ffn, 32));
    bn_checkpoint_close(c);
    assert_ok(bn_config_set(&stopped, "training.freeze=q_proj"));
    assert_ok(bn_config_set(&stopped, "training.max_steps=24"));
    assert_ok(help_run(&stopped, &(bn_run_options){.resume = "auto"}, NULL));
    assert_ok(bn_checkpoint_open("stopped/checkpoint-00000024.h5", &c));
    assert_false(has_moments(c, q_proj, 32, 32));
    assert_true(has_moments(c, up_proj, ffn, 32));
    bn_checkpoint_close(c);
    bn_config_clear(&straight);
    bn_config_clear(&stopped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frozen_stays),
        cmocka_unit_test(test_backward_does_not_go_on),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_resume),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
