#include "model/session.h"

#include <stdlib.h>
#include <string.h>

#include "model/kv_cache.h"

/* One recorded graph for a fixed number of rows. */
typedef struct session_graph {
    bn_tape *tape;
    bn_tensor ids;
    bn_value logits; /* [B,1,V]: of the last row of each sequence */
} session_graph;

/* Rows of the graphs: a prompt is cut into the largest that fit. */
static const int64_t graph_rows[] = {BN_PREFILL_ROWS, 64, 16, 4, 1};

enum { GRAPHS = sizeof graph_rows / sizeof *graph_rows };

struct bn_session {
    bn_model *model;
    bn_backend *backend;
    bn_kv_cache cache;
    bn_buffer ids_memory, arena;
    session_graph graphs[GRAPHS]; /* of one sequence; none for more rows than positions */
    session_graph step;           /* one token of every sequence, where there are several */
    int64_t sequences, selected, capacity;
    int64_t *position; /* of each sequence */
    int64_t *at;       /* the same, for a step */
    int32_t *ids;      /* of a step, on the host */
    float *logits;
};

static bn_status record(bn_session *s, session_graph *graph, int64_t batch, int64_t rows)
{
    BN_TRY(bn_tape_new(s->backend, &graph->tape));
    graph->ids = bn_tensor_at(bn_tensor_2d(BN_I32, batch, rows), &s->ids_memory, 0);
    bn_graph g = {.tape = graph->tape};
    bn_tape_no_grad_push(graph->tape);
    bn_value ids = bn_tape_input(graph->tape, &graph->ids);
    bn_value hidden = bn_model_hidden(s->model, &g, ids, s->cache.layers);
    if (rows > 1)
        hidden = bn_slice(graph->tape, hidden, 1, rows - 1, 1);
    graph->logits = bn_model_head(s->model, &g, hidden);
    bn_tape_retain(graph->tape, graph->logits);
    bn_tape_no_grad_pop(graph->tape);
    return bn_tape_plan(graph->tape, BN_NO_VALUE);
}

static session_graph *graph_of(bn_session *s, int i)
{
    return i < GRAPHS ? &s->graphs[i] : &s->step;
}

/* All graphs, which take turns in one arena. */
static bn_status record_all(bn_session *s)
{
    bn_backend *be = s->backend;
    size_t arena = 0;
    for (int i = 0; i < GRAPHS; i++)
        if (graph_rows[i] <= s->capacity)
            BN_TRY(record(s, &s->graphs[i], 1, graph_rows[i]));
    if (s->sequences > 1)
        BN_TRY(record(s, &s->step, s->sequences, 1));
    for (int i = 0; i <= GRAPHS; i++)
        if (graph_of(s, i)->tape) {
            const size_t bytes = bn_tape_memory_of(graph_of(s, i)->tape).arena;
            arena = bytes > arena ? bytes : arena;
        }
    BN_TRY(be->alloc(be, arena, &s->arena));
    for (int i = 0; i <= GRAPHS; i++)
        if (graph_of(s, i)->tape)
            BN_TRY(bn_tape_bind(graph_of(s, i)->tape, &s->arena));
    return BN_OK;
}

static bn_status alloc_sequences(bn_session *s)
{
    const size_t n = (size_t)s->sequences, rows = n > BN_PREFILL_ROWS ? n : BN_PREFILL_ROWS;
    s->position = calloc(n, sizeof *s->position);
    s->at = calloc(n, sizeof *s->at);
    s->ids = calloc(n, sizeof *s->ids);
    s->logits = n > 1 ? malloc(n * (size_t)s->model->vocab * sizeof *s->logits) : NULL;
    if (!s->position || !s->at || !s->ids || (n > 1 && !s->logits))
        return bn_error_nomem("the sequences of a session",
                              n * (size_t)s->model->vocab * sizeof *s->logits);
    return s->backend->alloc(s->backend, rows * sizeof(int32_t), &s->ids_memory);
}

/* The other backend can read the model's memory, in the layout it has. */
static bool shares_memory(const bn_model *model, const bn_backend *be)
{
    const bn_backend *own = model->backend;
    const bool host = (model->values.host || !model->values.bytes) &&
                      (model->packed.host || !model->packed.bytes);
    return be == own || (host && be->real == own->real &&
                         be->rows[BN_OP_BITLINEAR].forward == own->rows[BN_OP_BITLINEAR].forward);
}

bn_status bn_session_new_with(bn_model *model, const bn_session_options *options, bn_session **out)
{
    bn_status status = BN_OK;
    bn_backend *be = options->backend ? options->backend : model->backend;
    const int64_t positions = options->positions;
    *out = NULL;
    if (!shares_memory(model, be))
        return bn_error(BN_USAGE, "a session on %s cannot read the memory of a model on %s",
                        be->name, model->backend->name);
    if (positions < 0 || positions > model->positions)
        return bn_error(BN_USAGE, "%lld positions asked for, the model has %lld",
                        (long long)positions, (long long)model->positions);
    bn_session *s = calloc(1, sizeof *s);
    if (!s)
        return bn_error_nomem("a session", sizeof *s);
    s->model = model;
    s->backend = be;
    s->capacity = positions ? positions : model->positions;
    s->sequences = options->sequences ? options->sequences : 1;
    BN_TRY_OUT(alloc_sequences(s));
    BN_TRY_OUT(
        bn_kv_cache_init(model, be, s->sequences, s->capacity, options->cache_bits, &s->cache));
    BN_TRY_OUT(record_all(s));
out:
    if (status != BN_OK)
        bn_session_free(s);
    else
        *out = s;
    return status;
}

bn_status bn_session_new(bn_model *model, int64_t positions, bn_session **out)
{
    return bn_session_new_with(model, &(bn_session_options){.positions = positions}, out);
}

static void free_graphs(bn_session *s)
{
    for (int i = 0; i <= GRAPHS; i++) {
        bn_tape_free(graph_of(s, i)->tape);
        *graph_of(s, i) = (session_graph){0};
    }
    s->backend->release(s->backend, &s->arena);
}

bn_status bn_session_use(bn_session *s, bn_adapter *adapter)
{
    free_graphs(s);
    bn_adapter_use(s->model, adapter);
    return record_all(s);
}

void bn_session_free(bn_session *s)
{
    if (!s)
        return;
    bn_backend *be = s->backend;
    free_graphs(s);
    bn_kv_cache_clear(&s->cache);
    be->release(be, &s->ids_memory);
    free(s->position);
    free(s->at);
    free(s->ids);
    free(s->logits);
    free(s);
}

void bn_session_select(bn_session *s, int64_t sequence)
{
    s->selected = sequence;
}

int64_t bn_session_position(const bn_session *s)
{
    return s->position[s->selected];
}

int64_t bn_session_capacity(const bn_session *s)
{
    return s->capacity;
}

size_t bn_session_token_bytes(const bn_session *s)
{
    return s->cache.token_bytes;
}

void bn_session_rewind(bn_session *s, int64_t position)
{
    if (position >= 0 && position < s->position[s->selected])
        s->position[s->selected] = position;
}

static bn_status run(bn_session *s, const session_graph *graph, const int32_t *ids)
{
    bn_backend *be = s->backend;
    bn_run at = {.position = s->position[s->selected], .sequence = s->selected};
    BN_TRY(be->upload(be, &graph->ids, ids));
    BN_TRY(bn_tape_forward(graph->tape, &at));
    s->position[s->selected] += bn_tensor_cols(&graph->ids);
    return BN_OK;
}

bn_status bn_session_feed(bn_session *s, const int32_t *ids, int64_t n, float *logits)
{
    const session_graph *last = NULL;
    const int64_t used = s->position[s->selected];
    if (n < 1 || n > s->capacity - used)
        return bn_error(BN_FAIL, "%lld tokens do not fit: %lld of %lld positions are used",
                        (long long)n, (long long)used, (long long)s->capacity);
    for (int i = 0; i < GRAPHS; i++)
        for (; n >= graph_rows[i] && s->graphs[i].tape; n -= graph_rows[i], ids += graph_rows[i]) {
            last = &s->graphs[i];
            BN_TRY(run(s, last, ids));
        }
    if (!logits)
        return s->backend->sync(s->backend);
    return bn_backend_get_f32(s->backend, bn_tape_tensor(last->tape, last->logits), logits,
                              s->model->vocab);
}

/* What is not live runs too, on token 0 at its next position (the last one where
 * it is full), which the next token fed there writes again. */
bn_status bn_session_step(bn_session *s, const int32_t *ids, const bool *live, float *logits)
{
    bn_backend *be = s->backend;
    const size_t vocab = (size_t)s->model->vocab;
    if (s->sequences == 1)
        return live[0] ? bn_session_feed(s, ids, 1, logits) : BN_OK;
    for (int64_t i = 0; i < s->sequences; i++) {
        const bool full = s->position[i] == s->capacity;
        if (live[i] && full)
            return bn_error(BN_FAIL, "1 token does not fit: %lld of %lld positions are used",
                            (long long)s->position[i], (long long)s->capacity);
        s->ids[i] = live[i] ? ids[i] : 0;
        s->at[i] = s->position[i] - full;
    }
    const bn_run at = {.positions = s->at};
    BN_TRY(be->upload(be, &s->step.ids, s->ids));
    BN_TRY(bn_tape_forward(s->step.tape, &at));
    BN_TRY(bn_backend_get_f32(be, bn_tape_tensor(s->step.tape, s->step.logits), s->logits,
                              s->sequences * s->model->vocab));
    for (int64_t i = 0; i < s->sequences; i++)
        if (live[i]) {
            memcpy(logits + (size_t)i * vocab, s->logits + (size_t)i * vocab,
                   vocab * sizeof *logits);
            s->position[i]++;
        }
    return BN_OK;
}
