#include "tools/calibration.h"

#include <stdlib.h>
#include <string.h>

#include "linalg/linalg.h"

static void keep_wanted(void *arg, const bn_linear_layer *layer, bn_value x)
{
    bn_calibration *c = arg;
    if (layer == c->wanted) {
        c->x = x;
        bn_tape_retain(c->tape, x);
    }
    c->sharing += c->x != BN_NO_VALUE && x == c->x;
}

static bn_status record(bn_calibration *c)
{
    BN_TRY(bn_tape_new(c->model->backend, &c->tape));
    bn_graph graph = {.tape = c->tape, .see_input = keep_wanted, .see_arg = c};
    bn_tape_no_grad_push(c->tape);
    bn_value logits = bn_model_logits(c->model, &graph, bn_tape_input(c->tape, &c->input));
    (void)logits; /* what is wanted lies on the way to them */
    bn_tape_no_grad_pop(c->tape);
    return bn_tape_plan(c->tape, BN_NO_VALUE);
}

bn_status bn_calibration_init(const bn_model *model, const bn_sample *sample,
                              const bn_linear_layer *wanted, bn_calibration *out)
{
    bn_backend *be = model->backend;
    bn_status status = BN_OK;
    *out = (bn_calibration){.model = model, .sample = sample, .wanted = wanted, .x = BN_NO_VALUE};
    out->input = bn_model_input(model, sample->batch, sample->time);
    BN_TRY_OUT(be->alloc(be, bn_tensor_bytes(&out->input), &out->memory));
    out->input = bn_tensor_at(out->input, &out->memory, 0);
    BN_TRY_OUT(record(out));
    BN_TRY_OUT(be->alloc(be, bn_tape_memory_of(out->tape).arena, &out->arena));
    BN_TRY_OUT(bn_tape_bind(out->tape, &out->arena));
out:
    if (status != BN_OK)
        bn_calibration_clear(out);
    return status;
}

void bn_calibration_clear(bn_calibration *c)
{
    if (c->model) {
        bn_backend *be = c->model->backend;
        bn_tape_free(c->tape);
        be->release(be, &c->arena);
        be->release(be, &c->memory);
    }
    *c = (bn_calibration){0};
}

static int64_t sample_count(const bn_sample *sample)
{
    int64_t count = 0;
    for (int64_t i = 0; i < sample->batches; i++)
        count += sample->counts[i];
    return count;
}

bn_status bn_calibration_hessian(bn_calibration *c, const bn_tensor *h)
{
    bn_backend *be = c->model->backend;
    const bn_run run = {0};
    const bn_tensor *x = bn_tape_tensor(c->tape, c->x);
    const int64_t n = bn_tensor_numel(x), in = bn_tensor_cols(x);
    const double each = 1.0 / (double)sample_count(c->sample);
    bn_status status = BN_OK;
    float *values = malloc((size_t)n * sizeof *values);
    if (!values)
        return bn_error_nomem("a layer's inputs", (size_t)n * sizeof *values);
    const bn_buffer memory = {.host = values, .bytes = (size_t)n * sizeof *values};
    memset(bn_tensor_data(h), 0, bn_tensor_bytes(h));
    for (int64_t i = 0; i < c->sample->batches; i++) {
        BN_TRY_OUT(bn_model_put_input(c->model, &c->input, bn_sample_input(c->sample, i)));
        BN_TRY_OUT(bn_tape_forward(c->tape, &run));
        BN_TRY_OUT(bn_backend_get_f32(be, x, values, n));
        /* The padding of a last, partial batch does not count. */
        const bn_tensor rows =
            bn_tensor_at(bn_tensor_2d(BN_F32, c->sample->counts[i], in), &memory, 0);
        BN_TRY_OUT(bn_linalg_add_gram(each, &rows, h));
    }
out:
    free(values);
    return status;
}
