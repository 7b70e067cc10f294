/* The trainer without files: it learns, counts, and does so reproducibly. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "train/checkpoint_io.h"
#include "train/memory.h"
#include "train/selftest.h"
#include "train_help.h"

typedef struct fixture {
    bn_config config;
    bn_train_data data;
    bn_backend *backend;
    bn_trainer *trainer;
} fixture;

static void start(fixture *f, bool one_batch)
{
    assert_ok(bn_train_data_open(&f->config, &f->data));
    assert_ok(bn_cpu_backend_new(&(bn_cpu_options){.threads = (int)f->config.training.threads},
                                 &f->backend));
    assert_ok(bn_trainer_new(&f->config, &f->data, f->backend, one_batch, &f->trainer));
}

static void stop(fixture *f)
{
    bn_trainer_free(f->trainer);
    bn_backend_free(f->backend);
    bn_train_data_clear(&f->data);
    bn_config_clear(&f->config);
}

static bn_step_result step(fixture *f)
{
    bn_step_result result;
    assert_ok(bn_trainer_step(f->trainer, &result));
    return result;
}

static void copy_values(const fixture *f, float **out, size_t *bytes)
{
    *bytes = f->trainer->model->params.block_bytes;
    *out = malloc(*bytes);
    assert_non_null(*out);
    memcpy(*out, f->trainer->model->values.host, *bytes);
}

static void test_overfits_one_batch(void **state)
{
    (void)state;
    static const char *const schemes[] = {"quantization.weight_bits=ternary",
                                          "quantization.weight_bits=none"};
    for (int k = 0; k < 2; k++) {
        fixture f = {0};
        help_config(&f.config, "unused", "training.max_steps=400", "training.learning_rate=0.01",
                    "training.weight_decay=0", "model.hidden_size=64",
                    "model.intermediate_size=128", "model.num_hidden_layers=2", schemes[k], NULL);
        start(&f, true);
        bn_step_result result = {0};
        for (int i = 0; i < 400; i++)
            result = step(&f);
        if (!(result.loss < 0.05))
            fail_msg("%s: loss %g after 400 steps on one batch", schemes[k], result.loss);
        stop(&f);
    }
}

static void test_first_loss_is_that_of_chance(void **state)
{
    (void)state;
    fixture f = {0};
    help_config(&f.config, "unused", NULL);
    start(&f, false);
    bn_evaluation evaluation;
    assert_ok(bn_trainer_evaluate(f.trainer, &evaluation));
    assert_true(fabs(evaluation.loss - log(256.0)) < 0.2);
    assert_true(fabs(evaluation.perplexity - exp(evaluation.loss)) < 1e-9 * evaluation.perplexity);
    /* one byte per token: bits per byte is the loss in bits */
    assert_true(fabs(evaluation.bits_per_byte - evaluation.loss / log(2.0)) < 1e-12);
    assert_int_equal(evaluation.labels, 4 * 2 * 16);
    assert_int_equal(evaluation.bytes, evaluation.labels);
    stop(&f);
}

/* The whole held-out text: every token of it but the first is a label once, and
 * the loss is the mean over labels, not over batches. */
static void test_whole_evaluation(void **state)
{
    (void)state;
    fixture f = {0};
    help_config(&f.config, "unused", "training.eval_batches=0", "data.validation_fraction=0.0361",
                NULL);
    start(&f, false);
    bn_evaluation all;
    bn_eval_batches it;
    bn_eval_count count;
    double nats = 0.0;
    int64_t labels = 0;
    assert_ok(bn_trainer_evaluate(f.trainer, &all));
    assert_int_equal(f.data.validation.count, 217); /* 6000 - floor(6000 * 0.9639) */
    assert_int_equal(all.labels, f.data.validation.count - 1);
    assert_ok(bn_eval_batches_init(&it, f.data.validation, f.data.tokenizer, 16, 2, 0));
    while (bn_eval_batches_next(&it, f.trainer->feed.host_input, f.trainer->feed.host_labels,
                                &count)) {
        double loss;
        assert_ok(bn_feed_upload(&f.trainer->feed));
        assert_ok(bn_tape_forward(f.trainer->graphs.evaluate, NULL));
        assert_ok(bn_backend_get_scalar(
            f.backend, bn_tape_tensor(f.trainer->graphs.evaluate, f.trainer->graphs.evaluate_loss),
            &loss));
        nats += loss * (double)count.labels;
        labels += count.labels;
    }
    assert_int_equal(labels, all.labels);
    assert_true(fabs(nats / (double)labels - all.loss) < 1e-12);
    stop(&f);
}

/* Two micro-batches of 2 sequences are one batch of 4: same windows, the same
 * gradient up to rounding. */
static void test_accumulation(void **state)
{
    (void)state;
    double losses[2][3], norms[2][3];
    for (int k = 0; k < 2; k++) {
        fixture f = {0};
        help_config(&f.config, "unused", "quantization.weight_bits=none",
                    k ? "training.batch_size=4" : "training.batch_size=2",
                    k ? "training.gradient_accumulation_steps=1"
                      : "training.gradient_accumulation_steps=2",
                    NULL);
        start(&f, false);
        for (int i = 0; i < 3; i++) {
            bn_step_result result = step(&f);
            losses[k][i] = result.loss;
            norms[k][i] = result.grad_norm;
        }
        assert_int_equal(f.trainer->progress.tokens_seen, 3 * 4 * 16);
        stop(&f);
    }
    for (int i = 0; i < 3; i++) {
        assert_true(fabs(losses[0][i] - losses[1][i]) < 1e-5);
        assert_true(fabs(norms[0][i] - norms[1][i]) < 1e-4 * norms[1][i]);
    }
}

static void test_threads_and_seed(void **state)
{
    (void)state;
    static const char *const settings[3][2] = {
        {"training.threads=1", "training.seed=5"},
        {"training.threads=2", "training.seed=5"},
        {"training.threads=1", "training.seed=6"},
    };
    float *values[3];
    size_t bytes[3];
    for (int k = 0; k < 3; k++) {
        fixture f = {0};
        help_config(&f.config, "unused", "model.dropout=0.1", settings[k][0], settings[k][1], NULL);
        start(&f, false);
        for (int i = 0; i < 5; i++)
            step(&f);
        copy_values(&f, &values[k], &bytes[k]);
        stop(&f);
    }
    assert_memory_equal(values[0], values[1], bytes[0]);
    assert_true(memcmp(values[0], values[2], bytes[0]) != 0);
    for (int k = 0; k < 3; k++)
        free(values[k]);
}

/* Dropout is for training only, and differs from step to step. */
static void test_dropout(void **state)
{
    (void)state;
    fixture f = {0};
    help_config(&f.config, "unused", "model.dropout=0.5", "training.learning_rate=0",
                "training.weight_decay=0", NULL);
    start(&f, true);
    bn_step_result first = step(&f), second = step(&f);
    assert_true(first.loss != second.loss);
    stop(&f);
    static const char *const rates[] = {"model.dropout=0.5", "model.dropout=0"};
    bn_evaluation evaluations[2];
    for (int k = 0; k < 2; k++) {
        help_config(&f.config, "unused", rates[k], NULL);
        start(&f, false);
        assert_ok(bn_trainer_evaluate(f.trainer, &evaluations[k]));
        stop(&f);
    }
    assert_true(evaluations[0].loss == evaluations[1].loss);
}

static void test_nan_guard(void **state)
{
    (void)state;
    fixture f = {0};
    help_config(&f.config, "unused", "training.learning_rate=100", "training.warmup_steps=0",
                "training.grad_clip=0", "training.max_steps=10", NULL);
    f.config.training.learning_rate = 1e30; /* beyond what a config may say */
    start(&f, false);
    bn_step_result result;
    bn_status status = BN_OK;
    for (int i = 0; i < 10 && status == BN_OK; i++)
        status = bn_trainer_step(f.trainer, &result);
    assert_int_equal(status, BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "step "));
    assert_non_null(strstr(bn_error_text(), "nan"));
    stop(&f);
}

static void test_telemetry(void **state)
{
    (void)state;
    fixture f = {0};
    help_config(&f.config, "unused", NULL);
    start(&f, false);
    bn_telemetry *t = &f.trainer->telemetry;
    assert_int_equal(t->count, 7);
    assert_string_equal(t->stats[0].name, "model.layers.0.self_attn.q_proj");
    assert_ok(bn_telemetry_measure(t)); /* nothing has happened since the baseline */
    for (int i = 0; i < t->count; i++) {
        assert_true(t->stats[i].flip_rate == 0.0);
        assert_true(t->stats[i].scale_drift == 0.0);
        /* N(0, s): P(|w| < mean|w| / 2) = 0.31 */
        assert_true(t->stats[i].zero_share > 0.25 && t->stats[i].zero_share < 0.38);
        assert_true(t->stats[i].entropy_bits > 1.5 && t->stats[i].entropy_bits < 1.585);
    }
    for (int i = 0; i < 5; i++)
        step(&f);
    assert_ok(bn_telemetry_measure(t));
    for (int i = 0; i < t->count; i++) {
        assert_true(t->stats[i].flip_rate > 0.0 && t->stats[i].flip_rate < 0.5);
        assert_true(t->stats[i].scale_drift != 0.0 && fabs(t->stats[i].scale_drift) < 0.5);
        assert_true(t->stats[i].oscillation == 0.0); /* a first move is no way back */
    }
    double oscillation = 0;
    for (int k = 0; k < 5; k++) {
        step(&f);
        step(&f);
        assert_ok(bn_telemetry_measure(t));
        for (int i = 0; i < t->count; i++) {
            assert_true(t->stats[i].oscillation <= t->stats[i].flip_rate);
            oscillation += t->stats[i].oscillation;
        }
    }
    assert_true(oscillation > 0.0);
    stop(&f);
    help_config(&f.config, "unused", "quantization.weight_bits=none", NULL);
    start(&f, false);
    assert_int_equal(f.trainer->telemetry.count, 0);
    assert_ok(bn_telemetry_measure(&f.trainer->telemetry));
    stop(&f);
}

/* Loss of a fresh run that starts from another one's weights; what its codes do
 * counts from there. */
static double loss_from(const char *model, const char *set, const char *also)
{
    fixture f = {0};
    bn_evaluation evaluation;
    char *from = bn_format("training.init_from=%s", model);
    help_config(&f.config, "unused", from, set, also, NULL);
    start(&f, false);
    assert_ok(bn_trainer_start(f.trainer));
    assert_ok(bn_trainer_evaluate(f.trainer, &evaluation));
    for (int i = 0; i < 3; i++)
        step(&f);
    assert_ok(bn_telemetry_measure(&f.trainer->telemetry));
    for (int i = 0; i < f.trainer->telemetry.count; i++)
        assert_true(f.trainer->telemetry.stats[i].oscillation == 0.0);
    stop(&f);
    free(from);
    return evaluation.loss;
}

/* From float weights or others: learned scales are made, taken over or left. */
static void test_init_from(void **state)
{
    (void)state;
    const char *learned = "quantization.scale_estimator=learned", *rate = "training.seed=1";
    static const char *const folders[] = {"float", "learned"};
    const char *const schemes[] = {"quantization.weight_bits=none", learned};
    for (int i = 0; i < 2; i++) {
        bn_config config;
        help_config(&config, folders[i], schemes[i], "training.learning_rate=0.01", NULL);
        help_remove(folders[i]);
        assert_ok(help_run(&config, NULL, NULL));
        bn_config_clear(&config);
    }
    const double mean = loss_from("float", rate, NULL);
    assert_true(loss_from("float", learned, NULL) == mean);
    char *text = help_read("learned/summary.json");
    const double trained = help_number(text, "val_loss");
    free(text);
    assert_true(loss_from("learned", learned, NULL) == trained);
    assert_true(loss_from("learned", rate, NULL) != trained);
    assert_true(loss_from("learned", learned, "quantization.weight_bits=3") < 5.0);
}

/* A run that goes back to a checkpoint of step 0 does again what it did. */
static void test_back_to_the_start(void **state)
{
    (void)state;
    fixture f = {0};
    float *values[2];
    size_t bytes;
    bn_checkpoint *file;
    bn_restored restored;
    help_config(&f.config, "unused", NULL);
    start(&f, false);
    assert_ok(bn_trainer_save(f.trainer, "start.h5", 0));
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 4; i++)
            step(&f);
        copy_values(&f, &values[k], &bytes);
        assert_ok(bn_checkpoint_open("start.h5", &file));
        assert_ok(bn_trainer_restore(f.trainer, file, &restored));
        bn_checkpoint_close(file);
        assert_int_equal(f.trainer->progress.step, 0);
        assert_int_equal(f.trainer->progress.tokens_seen, 0);
    }
    assert_memory_equal(values[0], values[1], bytes);
    free(values[0]);
    free(values[1]);
    stop(&f);
}

/* What was foretold without allocating is what a run takes. */
static void test_memory_agrees_with_report(void **state)
{
    (void)state;
    fixture f = {0};
    bn_size_report report;
    bn_evaluation evaluation;
    help_config(&f.config, "unused", "model.hidden_size=128", "model.intermediate_size=256",
                "model.num_hidden_layers=2", "training.batch_size=8", NULL);
    start(&f, false);
    step(&f);
    assert_ok(bn_trainer_evaluate(f.trainer, &evaluation));
    assert_ok(bn_size_report_make(&f.config, 256, f.backend, &report));
    const double measured = (double)bn_trainer_device_memory(f.trainer).peak_bytes;
    const double total = (double)report.memory.total;
    if (!(fabs(measured - total) <= 0.15 * total))
        fail_msg("measured %.0f bytes, foretold %.0f", measured, total);
    assert_int_equal(report.parameters, bn_param_set_numel(&f.trainer->model->params));
    /* Each quantizer saves its 8-bit codes and a step per row: in a block the
     * inputs of q/k/v, of o, of gate/up (128 wide) and of down (256 wide). */
    const size_t rows = 8 * 16, block = 3 * rows * (128 + 4) + rows * (256 + 4);
    assert_true(report.memory.saved_codes >= 2 * block);
    assert_true(report.memory.saved_codes <= 2 * block + 2 * 8 * BN_ALIGN);
    /* 2 bits per weight and a scale per 32 of them */
    const size_t weights = 2 * (4 * 128 * 128 + 3 * 128 * 256);
    assert_true(report.memory.saved_packed >= weights / 4 + weights / 32 * 4);
    assert_true(report.memory.saved_packed <= weights / 4 + weights / 32 * 4 + 2 * 14 * BN_ALIGN);
    assert_int_equal(report.quantized, weights);
    stop(&f);
}

/* A teacher takes room too: its weights, its codes, its values in the arena. */
static void test_memory_of_a_teacher(void **state)
{
    static const char *const schemes[] = {"quantization.weight_bits=none",
                                          "quantization.weight_scale=row"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        fixture f = {0};
        bn_size_report report, alone;
        help_config(&f.config, "teacher", "model.hidden_size=128", "model.intermediate_size=512",
                    "training.max_steps=1", schemes[i], NULL);
        help_remove("teacher");
        assert_ok(help_run(&f.config, NULL, NULL));
        bn_config_clear(&f.config);
        help_config(&f.config, "unused", "model.hidden_size=64", NULL);
        start(&f, false);
        assert_ok(bn_size_report_make(&f.config, 256, f.backend, &alone));
        stop(&f);
        help_config(&f.config, "unused", "model.hidden_size=64", "distillation.teacher=teacher",
                    NULL);
        start(&f, false);
        step(&f);
        assert_ok(bn_size_report_make(&f.config, 256, f.backend, &report));
        const size_t peak = bn_trainer_device_memory(f.trainer).peak_bytes;
        if (llabs((long long)peak - (long long)report.memory.total) > 8192)
            fail_msg("measured %zu bytes, foretold %zu", peak, report.memory.total);
        assert_int_equal(report.memory.arena, bn_train_graphs_arena(&f.trainer->graphs));
        assert_true(report.memory.total > alone.memory.total + report.memory.teacher);
        stop(&f);
    }
}

static bn_kernel right_rmsnorm;

static bn_status wrong_rmsnorm(bn_backend *backend, const bn_op_call *call)
{
    bn_status status = right_rmsnorm(backend, call);
    *(float *)bn_tensor_data(&call->out[0]) *= 1.5f;
    return status;
}

static void test_selftest(void **state)
{
    (void)state;
    bn_backend *backend;
    bn_text report = {0};
    assert_ok(bn_cpu_backend_new(NULL, &backend));
    assert_ok(bn_selftest(backend, &report));
    bn_text_clear(&report);
    /* A backend that is slightly wrong is noticed. */
    right_rmsnorm = backend->rows[BN_OP_RMSNORM].forward;
    backend->rows[BN_OP_RMSNORM].forward = wrong_rmsnorm;
    assert_int_equal(bn_selftest(backend, &report), BN_MISMATCH);
    assert_non_null(strstr(bn_error_text(), "tiny model"));
    bn_text_clear(&report);
    bn_backend_free(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overfits_one_batch),
        cmocka_unit_test(test_first_loss_is_that_of_chance),
        cmocka_unit_test(test_whole_evaluation),
        cmocka_unit_test(test_accumulation),
        cmocka_unit_test(test_threads_and_seed),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_nan_guard),
        cmocka_unit_test(test_telemetry),
        cmocka_unit_test(test_init_from),
        cmocka_unit_test(test_back_to_the_start),
        cmocka_unit_test(test_memory_agrees_with_report),
        cmocka_unit_test(test_memory_of_a_teacher),
        cmocka_unit_test(test_selftest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
