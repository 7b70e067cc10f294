/* bench-generate: prefill and decode through a session with a KV cache on packed
 * random weights. Verifies that one token at a time and whole chunks give the
 * same logits, bit for bit, before it times. Decoding of 1, 4 and 16 sequences in
 * one step each is timed too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "bench/workload.h"
#include "model/session.h"

enum { SEQUENCES_MAX = 16 };

typedef struct generation {
    bn_model *model;
    bn_session *session;
    int32_t *ids;
    float *logits, *other;
    int64_t prompt, vocab;
    double bytes; /* of weights that a token reads */
} generation;

static bn_status prefill(void *arg)
{
    generation *g = arg;
    bn_session_rewind(g->session, 0);
    return bn_session_feed(g->session, g->ids, g->prompt, g->logits);
}

/* One token after half the context. */
static bn_status decode(void *arg)
{
    generation *g = arg;
    bn_session_rewind(g->session, g->prompt / 2);
    return bn_session_feed(g->session, g->ids, 1, g->logits);
}

/* One token of every sequence after half the context. */
typedef struct many {
    bn_session *session;
    int64_t sequences, position;
    const int32_t *ids;
    float *logits;
} many;

static bn_status step(void *arg)
{
    static const bool live[SEQUENCES_MAX] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    many *m = arg;
    for (int64_t i = 0; i < m->sequences; i++) {
        bn_session_select(m->session, i);
        bn_session_rewind(m->session, m->position);
    }
    return bn_session_step(m->session, m->ids, live, m->logits);
}

static bn_status time_sequences(bench *b, const workload *w, const generation *g, int64_t sequences)
{
    char shape[64], name[64];
    many m = {.sequences = sequences, .position = g->prompt / 2, .ids = g->ids};
    bn_status status = BN_OK;
    m.logits = malloc((size_t)(sequences * g->vocab) * sizeof *m.logits);
    if (!m.logits)
        return bn_error_nomem("logits", (size_t)(sequences * g->vocab) * sizeof *m.logits);
    BN_TRY_OUT(
        bn_session_new_with(g->model, &(bn_session_options){.sequences = sequences}, &m.session));
    for (int64_t i = 0; i < sequences; i++) {
        bn_session_select(m.session, i);
        BN_TRY_OUT(bn_session_feed(m.session, g->ids, m.position, NULL));
    }
    snprintf(shape, sizeof shape, "at position %lld", (long long)m.position);
    snprintf(name, sizeof name, "%s decode x%lld", w->name, (long long)sequences);
    bench_result r = {.name = name, .shape = shape, .tokens = (double)sequences, .bytes = g->bytes};
    BN_TRY_OUT(bench_time(b, step, &m, &r));
    bench_report(b, &r);
out:
    bn_session_free(m.session);
    free(m.logits);
    return status;
}

static bn_status verify(generation *g)
{
    BN_TRY(prefill(g));
    memcpy(g->other, g->logits, (size_t)g->vocab * sizeof *g->other);
    bn_session_rewind(g->session, 0);
    for (int64_t i = 0; i < g->prompt; i++)
        BN_TRY(bn_session_feed(g->session, &g->ids[i], 1, g->logits));
    if (memcmp(g->other, g->logits, (size_t)g->vocab * sizeof *g->other) != 0)
        return bn_error(BN_MISMATCH, "logits depend on how the prompt was cut into calls");
    return BN_OK;
}

static bn_status time_both(bench *b, const workload *w, generation *g)
{
    char shape[64], name[64];
    BN_TRY(verify(g));
    snprintf(shape, sizeof shape, "%lld tokens", (long long)g->prompt);
    snprintf(name, sizeof name, "%s prefill", w->name);
    bench_result r = {.name = name, .shape = shape, .tokens = (double)g->prompt};
    BN_TRY(bench_time(b, prefill, g, &r));
    bench_report(b, &r);
    snprintf(shape, sizeof shape, "at position %lld", (long long)(g->prompt / 2));
    snprintf(name, sizeof name, "%s decode", w->name);
    r = (bench_result){.name = name, .shape = shape, .tokens = 1, .bytes = g->bytes};
    BN_TRY(bench_time(b, decode, g, &r));
    bench_report(b, &r);
    for (int64_t n = 4; n <= SEQUENCES_MAX; n *= 4)
        BN_TRY(time_sequences(b, w, g, n));
    return BN_OK;
}

static bn_status run_shape(bench *b, const workload *w)
{
    bn_status status = BN_OK;
    bn_model *model = NULL;
    generation g = {.prompt = w->time, .vocab = w->vocab};
    g.ids = calloc((size_t)g.prompt, sizeof *g.ids);
    g.logits = calloc((size_t)g.vocab, sizeof *g.logits);
    g.other = calloc((size_t)g.vocab, sizeof *g.other);
    if (!g.ids || !g.logits || !g.other) {
        status = bn_error_nomem("a prompt", (unsigned long long)g.prompt * sizeof *g.ids);
        goto out;
    }
    bn_rng rng = bn_rng_of(3, 3);
    for (int64_t i = 0; i < g.prompt; i++)
        g.ids[i] = (int32_t)bn_rng_below(&rng, (uint64_t)w->vocab);
    BN_TRY_OUT(workload_model(w, b->backend, false, &model));
    BN_TRY_OUT(bn_model_pack(model));
    g.bytes = (double)(bn_model_packed_bytes(model) + (size_t)(w->vocab * model->hidden));
    BN_TRY_OUT(bn_model_arrange(model));
    if (w->packed)
        BN_TRY_OUT(bn_model_quantize_head(model));
    else
        g.bytes += 3 * (double)(w->vocab * model->hidden); /* a float head */
    BN_TRY_OUT(bn_session_new(model, 0, &g.session));
    g.model = model;
    status = time_both(b, w, &g);
out:
    bn_session_free(g.session);
    bn_model_free(model);
    free(g.ids);
    free(g.logits);
    free(g.other);
    return status;
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, bench_memory_read, run_shape);
}
