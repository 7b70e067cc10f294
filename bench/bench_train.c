/* bench-train: whole training steps (forward, backward, norm, AdamW) on random
 * tokens. Verifies the loss of one small batch against the reference kernels,
 * then times steps; with --filter A or B only that shape. After the figures
 * comes the share of each kind of kernel. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/rng.h"
#include "base/timer.h"
#include "bench/workload.h"
#include "cpu/cpu.h"

typedef struct step_state {
    bn_backend *backend;
    bn_model *model;
    bn_tape *tape;
    bn_value loss;
    bn_buffer tokens, arena, moments[2], norm_memory;
    bn_tensor norm;
    bn_adamw hyper;
    double since; /* profile: when the last kernel ended */
    double forward_s[BN_OP_COUNT], backward_s[BN_OP_COUNT], other_s;
} step_state;

static bn_status fill_tokens(step_state *s, const bn_tensor *ids, const bn_tensor *labels,
                             int64_t vocab)
{
    const int64_t n = bn_tensor_numel(ids);
    int32_t *host = calloc((size_t)n, 2 * sizeof *host);
    if (!host)
        return bn_error_nomem("tokens", (size_t)n * 2 * sizeof *host);
    bn_rng rng = bn_rng_of(1, 2);
    for (int64_t i = 0; i < 2 * n; i++)
        host[i] = (int32_t)bn_rng_below(&rng, (uint64_t)vocab);
    bn_status status = s->backend->upload(s->backend, ids, host);
    if (status == BN_OK)
        status = s->backend->upload(s->backend, labels, host + n);
    free(host);
    return status;
}

static void close_step(step_state *s)
{
    bn_tape_free(s->tape);
    bn_buffer *buffers[] = {&s->tokens, &s->arena, &s->moments[0], &s->moments[1], &s->norm_memory};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        s->backend->release(s->backend, buffers[i]);
    bn_model_free(s->model);
}

static bn_status open_step(step_state *s, const workload *w, int64_t batch, bn_backend *be)
{
    *s = (step_state){.backend = be};
    s->hyper = (bn_adamw){.lr = 1e-4, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1};
    BN_TRY(workload_model(w, be, true, &s->model));
    bn_tensor shape = bn_tensor_2d(BN_I32, batch, w->time);
    const size_t bytes = bn_align_up(bn_tensor_bytes(&shape), BN_ALIGN);
    BN_TRY(be->alloc(be, 2 * bytes, &s->tokens));
    bn_tensor ids = bn_tensor_at(shape, &s->tokens, 0);
    bn_tensor labels = bn_tensor_at(shape, &s->tokens, bytes);
    BN_TRY(fill_tokens(s, &ids, &labels, w->vocab));
    for (int i = 0; i < 2; i++)
        BN_TRY(be->alloc(be, s->model->params.block_bytes, &s->moments[i]));
    BN_TRY(be->alloc(be, BN_ALIGN, &s->norm_memory));
    s->norm = bn_tensor_at(bn_tensor_1d(be->real, 1), &s->norm_memory, 0);
    BN_TRY(bn_tape_new(be, &s->tape));
    bn_graph g = {.tape = s->tape};
    s->loss =
        bn_model_loss(s->model, &g, bn_tape_input(s->tape, &ids), bn_tape_input(s->tape, &labels));
    BN_TRY(bn_tape_plan(s->tape, s->loss));
    BN_TRY(be->alloc(be, bn_tape_memory_of(s->tape).arena, &s->arena));
    return bn_tape_bind(s->tape, &s->arena);
}

static bn_status one_step(void *arg)
{
    step_state *s = arg;
    const bn_param_set *set = &s->model->params;
    bn_tensor p = bn_param_set_flat(set, &s->model->values);
    bn_tensor g = bn_param_set_flat(set, &s->model->grads);
    bn_tensor m = bn_param_set_flat(set, &s->moments[0]);
    bn_tensor v = bn_param_set_flat(set, &s->moments[1]);
    double loss;
    s->hyper.step++;
    BN_TRY(s->backend->fill_zero(s->backend, &g));
    BN_TRY(bn_tape_forward(s->tape, NULL));
    BN_TRY(bn_tape_backward(s->tape, NULL, 1.0));
    BN_TRY(s->backend->norm(s->backend, &g, &s->norm));
    BN_TRY(s->backend->adamw(s->backend, &s->hyper, &p, &g, &m, &v, &s->norm));
    return bn_backend_get_scalar(s->backend, bn_tape_tensor(s->tape, s->loss), &loss);
}

/* Loss of the first forward pass of a batch of one. */
static bn_status first_loss(const workload *w, bn_backend *be, double *loss)
{
    step_state s;
    bn_status status = open_step(&s, w, 1, be);
    if (status == BN_OK)
        status = bn_tape_forward(s.tape, NULL);
    if (status == BN_OK)
        status = bn_backend_get_scalar(be, bn_tape_tensor(s.tape, s.loss), loss);
    close_step(&s);
    return status;
}

static bn_status verify(const workload *w, bn_backend *be, double *error)
{
    bn_backend *reference;
    double fast = 0, slow = 0;
    BN_TRY(bn_ref_backend_new(BN_F32, &reference));
    bn_status status = first_loss(w, reference, &slow);
    if (status == BN_OK)
        status = first_loss(w, be, &fast);
    bn_backend_free(reference);
    BN_TRY(status);
    *error = fabs(fast - slow);
    if (!(*error <= 1e-3)) /* a code on a rounding tie may flip */
        return bn_error(BN_MISMATCH, "shape %s: loss %.9g, the reference kernels give %.9g",
                        w->name, fast, slow);
    return BN_OK;
}

static void profile_kernel(void *arg, const bn_tape *tape, int node, bool backward)
{
    step_state *s = arg;
    const double now = bn_seconds();
    const bn_op op = bn_tape_node_at(tape, node)->op;
    *(backward ? &s->backward_s[op] : &s->forward_s[op]) += now - s->since;
    s->since = now;
}

static bn_status profile(bench *b, step_state *s)
{
    enum { STEPS = 5 };
    double all = 0;
    bn_tape_set_hook(s->tape, profile_kernel, s);
    for (int i = 0; i < STEPS; i++) {
        double start = s->since = bn_seconds();
        BN_TRY(one_step(s));
        all += bn_seconds() - start;
    }
    bn_tape_set_hook(s->tape, NULL, NULL);
    s->other_s = all;
    for (int op = 0; op < BN_OP_COUNT; op++) {
        const double f = s->forward_s[op], r = s->backward_s[op];
        s->other_s -= f + r;
        if (!b->json && f + r > 0.002 * all)
            printf("    %-22s forward %5.1f %%  backward %5.1f %%\n", bn_op_table[op].name,
                   100 * f / all, 100 * r / all);
    }
    if (!b->json)
        printf("    %-22s %5.1f %%\n", "optimizer and rest", 100 * s->other_s / all);
    return BN_OK;
}

static bn_status run_shape(bench *b, const workload *w)
{
    step_state s;
    char shape[64];
    if (w->packed)
        return BN_OK;
    snprintf(shape, sizeof shape, "%lldx%lld tokens", (long long)w->batch, (long long)w->time);
    bench_result r = {.name = w->name, .shape = shape, .tokens = (double)(w->batch * w->time)};
    BN_TRY(verify(w, b->backend, &r.error));
    bn_status status = open_step(&s, w, w->batch, b->backend);
    if (status == BN_OK)
        status = bench_time(b, one_step, &s, &r);
    if (status == BN_OK) {
        bench_report(b, &r);
        status = profile(b, &s);
    }
    close_step(&s);
    return status;
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, NULL, run_shape);
}
