/* The whole model against the PyTorch oracle (make_oracle.py): first loss,
 * logits and every gradient, then three AdamW steps. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cmocka_all.h"
#include "model/model.h"

enum { BATCH = 4, TIME = 32, VOCAB = 65 };

/* ---- the golden file ---------------------------------------------------- */

static char *golden;
static const char *golden_data;

static const void *find(const char *name, const char *dtype, int64_t *count)
{
    const size_t length = strlen(name);
    for (const char *line = golden; *line != '\n'; line = strchr(line, '\n') + 1) {
        if (strncmp(line, name, length) != 0 || line[length] != ' ')
            continue;
        char kind[8], dims[64];
        unsigned long long offset;
        assert_int_equal(sscanf(line + length, "%7s %63s %llu", kind, dims, &offset), 3);
        assert_string_equal(kind, dtype);
        *count = 1;
        for (char *at = dims; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
            *count *= atoll(at);
        return golden_data + offset;
    }
    fail_msg("%s is not in the golden file", name);
    return NULL;
}

static int load_golden(void **state)
{
    (void)state;
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/golden/oracle.bin", getenv("BITNET_SOURCE_DIR"));
    FILE *file = fopen(path, "rb");
    if (!file)
        return -1;
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    golden = calloc(1, (size_t)size + 1);
    size_t got = fread(golden, 1, (size_t)size, file);
    fclose(file);
    if (got != (size_t)size)
        return -1;
    size_t header = (size_t)(strstr(golden, "\n\n") + 2 - golden);
    golden_data = golden + (header + 7) / 8 * 8;
    return 0;
}

static int free_golden(void **state)
{
    (void)state;
    free(golden);
    return 0;
}

/* ---- the model under test ----------------------------------------------- */

typedef struct subject {
    bn_backend *backend;
    bn_model *model;
    bn_tape *tape;
    bn_value loss, logits;
    bn_buffer tokens, arena, moments[2], norm_memory;
    bn_tensor ids, labels;
} subject;

static void configure(bn_config *config, const char *variant)
{
    static const char text[] =
        "{\"model\": {\"hidden_size\": 64, \"intermediate_size\": 128, \"num_hidden_layers\": 2,"
        "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"hidden_act\": \"relu2\","
        "\"max_position_embeddings\": 32, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0,"
        "\"tie_word_embeddings\": true},"
        "\"quantization\": {\"group_size\": 64}, \"training\": {\"seq_len\": 32}}";
    assert_ok(bn_config_parse(text, "oracle", config));
    if (strcmp(variant, "float") == 0)
        assert_ok(bn_config_set(config, "quantization.weight_bits=none"));
    if (strcmp(variant, "ternary-tensor") == 0)
        assert_ok(bn_config_set(config, "quantization.weight_scale=tensor"));
}

static void open_subject(subject *s, bn_backend *backend, const char *variant)
{
    bn_config config;
    *s = (subject){.backend = backend};
    configure(&config, variant);
    assert_ok(bn_model_create(&config, VOCAB, backend, BN_MODEL_FLOAT, &s->model));
    bn_config_clear(&config);
    assert_ok(bn_model_alloc(s->model, true));
    for (int i = 0; i < s->model->params.count; i++) {
        const bn_param *p = s->model->params.items[i];
        char name[160];
        int64_t n;
        snprintf(name, sizeof name, "init.%s", p->name);
        const float *init = find(name, "f4", &n);
        assert_ok(bn_backend_put_f32(backend, &p->value, init, n));
    }
    int64_t rope_size;
    const float *rope = find("rope", "f4", &rope_size);
    assert_ok(bn_backend_put_f32(backend, &s->model->rope, rope, rope_size));
    assert_ok(backend->alloc(backend, 1024, &s->tokens));
    s->ids = bn_tensor_at(bn_tensor_2d(BN_I32, BATCH, TIME), &s->tokens, 0);
    s->labels = bn_tensor_at(bn_tensor_2d(BN_I32, BATCH, TIME), &s->tokens, 512);
    for (int i = 0; i < 2; i++)
        assert_ok(backend->alloc(backend, s->model->params.block_bytes, &s->moments[i]));
    assert_ok(backend->alloc(backend, 128, &s->norm_memory));

    assert_ok(bn_tape_new(backend, &s->tape));
    bn_graph g = {.tape = s->tape};
    bn_value ids = bn_tape_input(s->tape, &s->ids), labels = bn_tape_input(s->tape, &s->labels);
    s->loss = bn_model_loss(s->model, &g, ids, labels);
    bn_tape_no_grad_push(s->tape);
    s->logits = bn_model_head(s->model, &g, bn_model_hidden(s->model, &g, ids, NULL));
    bn_tape_retain(s->tape, s->logits);
    bn_tape_no_grad_pop(s->tape);
    assert_ok(bn_tape_plan(s->tape, s->loss));
    assert_ok(backend->alloc(backend, bn_tape_memory_of(s->tape).arena, &s->arena));
    assert_ok(bn_tape_bind(s->tape, &s->arena));
}

static void close_subject(subject *s)
{
    bn_buffer *buffers[] = {&s->tokens, &s->arena, &s->moments[0], &s->moments[1], &s->norm_memory};
    bn_tape_free(s->tape);
    for (int i = 0; i < 5; i++)
        s->backend->release(s->backend, buffers[i]);
    bn_model_free(s->model);
}

static double step_gradients(subject *s, int batch)
{
    char name[8];
    int64_t n;
    double loss;
    snprintf(name, sizeof name, "x%d", batch);
    assert_ok(s->backend->upload(s->backend, &s->ids, find(name, "i4", &n)));
    snprintf(name, sizeof name, "y%d", batch);
    assert_ok(s->backend->upload(s->backend, &s->labels, find(name, "i4", &n)));
    bn_tensor grads = bn_param_set_flat(&s->model->params, &s->model->grads);
    assert_ok(s->backend->fill_zero(s->backend, &grads));
    assert_ok(bn_tape_forward(s->tape, NULL));
    assert_ok(bn_backend_get_scalar(s->backend, bn_tape_tensor(s->tape, s->loss), &loss));
    assert_ok(bn_tape_backward(s->tape, NULL, 1.0));
    return loss;
}

static void adamw(subject *s, int step)
{
    const bn_param_set *set = &s->model->params;
    bn_adamw hyper = {.lr = 1e-3,
                      .beta1 = 0.9,
                      .beta2 = 0.95,
                      .eps = 1e-8,
                      .weight_decay = 0.1,
                      .step = step + 1,
                      .decay_end = (int64_t)(set->decay_bytes / bn_dtype_size(set->real))};
    bn_tensor p = bn_param_set_flat(set, &s->model->values);
    bn_tensor g = bn_param_set_flat(set, &s->model->grads);
    bn_tensor m = bn_param_set_flat(set, &s->moments[0]);
    bn_tensor v = bn_param_set_flat(set, &s->moments[1]);
    bn_tensor norm = bn_tensor_at(bn_tensor_1d(set->real, 1), &s->norm_memory, 0);
    assert_ok(s->backend->norm(s->backend, &g, &norm));
    assert_ok(s->backend->adamw(s->backend, &hyper, &p, &g, &m, &v, &norm));
}

/* Worst |a-b| over the largest |b| of the tensor. */
static double tensor_error(const double *a, const double *b, int64_t n)
{
    double worst = 0, largest = 1e-300;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(b[i]));
        if (!(fabs(a[i] - b[i]) <= worst))
            worst = fabs(a[i] - b[i]);
    }
    return worst / largest;
}

/* ---- expected losses of the three steps (printed by the oracle) ---------- */

static const struct {
    const char *variant;
    double loss[3];
} expected[] = {
    {"float", {4.460513553265368, 4.268026302294048, 4.00852751665712}},
    {"ternary-tensor", {4.308193083889563, 4.286923300785449, 4.109569642198167}},
    {"ternary-group64", {4.29148167545227, 4.256711199284914, 4.108388178575007}},
};
enum { VARIANTS = 3 };

static void test_double(void **state)
{
    (void)state;
    bn_backend *backend;
    assert_ok(bn_ref_backend_new(BN_F64, &backend));
    for (int v = 0; v < VARIANTS; v++) {
        subject s;
        char name[200];
        int64_t n;
        open_subject(&s, backend, expected[v].variant);
        double loss = step_gradients(&s, 0);
        print_message("%s: |loss - oracle| = %.3g\n", expected[v].variant,
                      fabs(loss - expected[v].loss[0]));
        assert_true(fabs(loss - expected[v].loss[0]) <= 1e-9);
        snprintf(name, sizeof name, "%s.logits0", expected[v].variant);
        const double *logits = find(name, "f8", &n);
        assert_true(tensor_error(bn_tensor_data(bn_tape_tensor(s.tape, s.logits)), logits, n) <=
                    1e-8);
        double worst = 0;
        for (int i = 0; i < s.model->params.count; i++) {
            const bn_param *p = s.model->params.items[i];
            snprintf(name, sizeof name, "%s.grad0.%s", expected[v].variant, p->name);
            const double *grad = find(name, "f8", &n);
            assert_int_equal(n, bn_tensor_numel(&p->grad));
            double error = tensor_error(bn_tensor_data(&p->grad), grad, n);
            worst = fmax(worst, error);
            if (!(error <= 1e-8))
                fail_msg("%s: relative error %.3g", name, error);
        }
        print_message("%s: worst gradient error %.3g\n", expected[v].variant, worst);
        adamw(&s, 0);
        for (int step = 1; step < 3; step++) {
            loss = step_gradients(&s, step);
            assert_true(fabs(loss - expected[v].loss[step]) <= 1e-7);
            adamw(&s, step);
        }
        for (int i = 0; i < s.model->params.count; i++) {
            const bn_param *p = s.model->params.items[i];
            snprintf(name, sizeof name, "%s.final.%s", expected[v].variant, p->name);
            const float *final = find(name, "f4", &n);
            const double *value = bn_tensor_data(&p->value);
            for (int64_t k = 0; k < n; k++)
                if (!(fabs(value[k] - (double) final[k]) <= 1e-6))
                    fail_msg("%s[%lld]: %.9g, oracle %.9g", name, (long long)k, value[k],
                             (double) final[k]);
        }
        close_subject(&s);
    }
    bn_backend_free(backend);
}

/* float32: codes on a rounding tie may flip, so later steps are only near. */
static void check_float(bn_backend *backend)
{
    for (int v = 0; v < VARIANTS; v++) {
        subject s;
        open_subject(&s, backend, expected[v].variant);
        double loss = step_gradients(&s, 0);
        print_message("%s on %s: |loss - oracle| = %.3g\n", expected[v].variant, backend->name,
                      fabs(loss - expected[v].loss[0]));
        assert_true(fabs(loss - expected[v].loss[0]) <= 1e-5);
        adamw(&s, 0);
        for (int step = 1; step < 3; step++) {
            loss = step_gradients(&s, step);
            assert_true(fabs(loss - expected[v].loss[step]) <= 5e-3);
            adamw(&s, step);
        }
        close_subject(&s);
    }
}

static void test_float_reference(void **state)
{
    (void)state;
    bn_backend *backend;
    assert_ok(bn_ref_backend_new(BN_F32, &backend));
    check_float(backend);
    bn_backend_free(backend);
}

static void test_float_cpu(void **state)
{
    (void)state;
    for (int i = 0; bn_cpu_isa_choice(i); i++) {
        bn_backend *backend;
        bn_cpu_options options = {.threads = 2, .isa = bn_cpu_isa_choice(i)};
        assert_ok(bn_cpu_backend_new(&options, &backend));
        print_message("isa %s\n", options.isa);
        check_float(backend);
        bn_backend_free(backend);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_double),
        cmocka_unit_test(test_float_reference),
        cmocka_unit_test(test_float_cpu),
    };
    return cmocka_run_group_tests(tests, load_golden, free_golden);
}
