#include "unit/model/model_fixture.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "tools/export.h"

/* The HDF5 library leaks what it has parsed of a damaged object header before
 * it finds the damage; leaks of this project's own memory still show. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5";
}

static const char base[] =
    "{\"model\": {\"hidden_size\": 64, \"intermediate_size\": 96, \"num_hidden_layers\": 2,"
    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"max_position_embeddings\": 544,"
    "\"initializer_range\": 0.2}, \"quantization\": {\"group_size\": 32},"
    "\"training\": {\"seq_len\": 32, \"batch_size\": 4}}";

void fixture_config(bn_config *config, ...)
{
    va_list ap;
    assert_ok(bn_config_parse(base, "test", config));
    va_start(ap, config);
    for (const char *set; (set = va_arg(ap, const char *));)
        assert_ok(bn_config_set(config, set));
    va_end(ap);
    assert_ok(bn_config_check(config, "test"));
}

void fixture_open(fixture *f, const char *set)
{
    const bn_cpu_options options = {.threads = 2};
    *f = (fixture){0};
    fixture_config(&f->config, set, NULL);
    assert_ok(bn_cpu_backend_new(&options, &f->backend));
    assert_ok(bn_model_create(&f->config, 256, f->backend, BN_MODEL_FLOAT, &f->model));
    assert_ok(bn_model_alloc(f->model, true));
    assert_ok(bn_model_init(f->model, 5));
}

void fixture_close(fixture *f)
{
    bn_model_free(f->model);
    bn_backend_free(f->backend);
    bn_config_clear(&f->config);
}

int32_t fixture_token(int64_t i)
{
    return "the quick brown fox jumps over it. "[i % 35];
}

/* A loss tape with memory. */
typedef struct trainer {
    bn_tape *tape;
    bn_buffer tokens, arena, moments, scalar;
    bn_tensor ids, labels;
    bn_value loss;
} trainer;

static void trainer_open(trainer *t, const fixture *f, int64_t batch, int64_t time)
{
    bn_backend *be = f->backend;
    const size_t each = (size_t)(batch * time) * sizeof(int32_t);
    assert_ok(be->alloc(be, 2 * each, &t->tokens));
    t->ids = bn_tensor_at(bn_tensor_2d(BN_I32, batch, time), &t->tokens, 0);
    t->labels = bn_tensor_at(bn_tensor_2d(BN_I32, batch, time), &t->tokens, each);
    assert_ok(bn_tape_new(be, &t->tape));
    bn_graph graph = {.tape = t->tape};
    t->loss = bn_model_loss(f->model, &graph, bn_tape_input(t->tape, &t->ids),
                            bn_tape_input(t->tape, &t->labels));
    assert_ok(bn_tape_plan(t->tape, t->loss));
    assert_ok(be->alloc(be, bn_tape_memory_of(t->tape).arena, &t->arena));
    assert_ok(bn_tape_bind(t->tape, &t->arena));
    assert_ok(be->alloc(be, 2 * f->model->params.block_bytes, &t->moments));
    assert_ok(be->alloc(be, BN_ALIGN, &t->scalar));
}

static void trainer_close(trainer *t, const fixture *f)
{
    bn_tape_free(t->tape);
    bn_buffer *buffers[] = {&t->tokens, &t->arena, &t->moments, &t->scalar};
    for (int i = 0; i < 4; i++)
        f->backend->release(f->backend, buffers[i]);
}

void fixture_train(fixture *f, int steps)
{
    enum { BATCH = 4, TIME = 32 };
    bn_backend *be = f->backend;
    const bn_param_set *set = &f->model->params;
    trainer t = {0};
    trainer_open(&t, f, BATCH, TIME);
    const bn_tensor values = bn_param_set_flat(set, &f->model->values);
    const bn_tensor grads = bn_param_set_flat(set, &f->model->grads);
    bn_tensor m = bn_param_set_flat(set, &t.moments), v = m;
    v.offset += set->block_bytes;
    const bn_tensor norm = bn_tensor_at(bn_tensor_1d(BN_F32, 1), &t.scalar, 0);
    for (int step = 1; step <= steps; step++) {
        int32_t ids[BATCH * TIME], labels[BATCH * TIME];
        for (int i = 0; i < BATCH * TIME; i++) {
            ids[i] = fixture_token(step * 13 + (i / TIME) * 5 + i % TIME);
            labels[i] = fixture_token(step * 13 + (i / TIME) * 5 + i % TIME + 1);
        }
        const bn_run run = {.step = (uint64_t)step};
        const bn_adamw adamw = {3e-3, 0.9, 0.95, 1e-8, 0, step, 0, 1.0};
        assert_ok(be->upload(be, &t.ids, ids));
        assert_ok(be->upload(be, &t.labels, labels));
        assert_ok(be->fill_zero(be, &grads));
        assert_ok(bn_tape_forward(t.tape, &run));
        assert_ok(bn_tape_backward(t.tape, &run, 1.0));
        assert_ok(be->norm(be, &grads, &norm));
        assert_ok(be->adamw(be, &adamw, &values, &grads, &m, &v, &norm));
    }
    trainer_close(&t, f);
}

bn_checkpoint_param *fixture_params(const bn_model *model, int *count)
{
    const bn_param_set *set = &model->params;
    bn_checkpoint_param *params = calloc((size_t)set->count, sizeof *params);
    assert_non_null(params);
    for (int i = 0; i < set->count; i++) {
        const bn_param *p = set->items[i];
        const int64_t n = bn_tensor_numel(&p->value);
        params[i] = (bn_checkpoint_param){.name = p->name, .ndim = p->value.ndim};
        memcpy(params[i].shape, p->value.shape, sizeof params[i].shape);
        params[i].value = malloc((size_t)n * sizeof(float));
        assert_non_null(params[i].value);
        assert_ok(bn_backend_get_f32(model->backend, &p->value, params[i].value, n));
    }
    *count = set->count;
    return params;
}

void fixture_params_free(bn_checkpoint_param *params, int count)
{
    for (int i = 0; i < count; i++)
        free(params[i].value);
    free(params);
}

void fixture_save_params(const fixture *f, const char *path, const bn_checkpoint_param *params,
                         int count, const char *config_json, const char *tokenizer)
{
    char *json = NULL;
    assert_ok(bn_config_dump(&f->config, &json));
    const bn_train_state state = {.step = 7,
                                  .best_step = -1,
                                  .best_val_loss = 1e9,
                                  .config_json = config_json ? config_json : json,
                                  .tokenizer = tokenizer,
                                  .producer = "test",
                                  .device = "cpu"};
    assert_ok(bn_checkpoint_save(path, &state, params, count, NULL, 0));
    free(json);
}

void fixture_save(const fixture *f, const char *path)
{
    int count;
    bn_checkpoint_param *params = fixture_params(f->model, &count);
    fixture_save_params(f, path, params, count, NULL, "byte");
    fixture_params_free(params, count);
}

void fixture_save_packed(fixture *f, const char *path)
{
    const bn_export_format format = {BN_ENC_BASE3X5, BN_ENC_FLOAT32, 0};
    bn_export_set set;
    char *json;
    assert_ok(bn_model_pack(f->model));
    assert_ok(bn_export_collect_model(f->model, &set));
    assert_ok(bn_config_dump(&f->config, &json));
    const bn_packed_info info = {json, "byte", "test"};
    assert_ok(bn_export_write(path, &info, &set, &format));
    free(json);
    bn_export_set_clear(&set);
}

float *fixture_full_logits(const bn_model *model, const int32_t *ids, int64_t time)
{
    bn_backend *be = model->backend;
    bn_buffer tokens = {0}, arena = {0};
    bn_tape *tape;
    const bn_run run = {0};
    float *out = malloc((size_t)(time * model->vocab) * sizeof *out);
    assert_non_null(out);
    assert_ok(be->alloc(be, (size_t)time * sizeof *ids, &tokens));
    const bn_tensor input = bn_tensor_at(bn_tensor_2d(BN_I32, 1, time), &tokens, 0);
    assert_ok(be->upload(be, &input, ids));
    assert_ok(bn_tape_new(be, &tape));
    bn_graph graph = {.tape = tape};
    bn_tape_no_grad_push(tape);
    bn_value hidden = bn_model_hidden(model, &graph, bn_tape_input(tape, &input), NULL);
    bn_value logits = bn_model_head(model, &graph, hidden);
    bn_tape_retain(tape, logits);
    bn_tape_no_grad_pop(tape);
    assert_ok(bn_tape_plan(tape, BN_NO_VALUE));
    assert_ok(be->alloc(be, bn_tape_memory_of(tape).arena, &arena));
    assert_ok(bn_tape_bind(tape, &arena));
    assert_ok(bn_tape_forward(tape, &run));
    assert_ok(bn_backend_get_f32(be, bn_tape_tensor(tape, logits), out, time * model->vocab));
    bn_tape_free(tape);
    be->release(be, &arena);
    be->release(be, &tokens);
    return out;
}

int32_t fixture_argmax(const float *logits, int64_t n)
{
    int32_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = (int32_t)i;
    return best;
}
