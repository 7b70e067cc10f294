#include "autograd/gradcheck.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/ops.h"
#include "base/rng.h"
#include "quant/estimator.h"
#include "quant/quantize.h"

static bn_gradcheck_options with_defaults(const bn_gradcheck_options *given)
{
    bn_gradcheck_options o = given ? *given : (bn_gradcheck_options){0};
    o.step = o.step > 0 ? o.step : 1e-4;
    o.floor = o.floor > 0 ? o.floor : 1;
    return o;
}

static double *new_doubles(int64_t n)
{
    double *a = calloc((size_t)n, sizeof *a);
    if (!a)
        (void)bn_error_nomem("the gradient check", (size_t)n * sizeof *a);
    return a;
}

/* A host copy of a real tensor; NULL with an error text. */
static double *fetch(bn_backend *backend, const bn_tensor *t)
{
    double *a = new_doubles(bn_tensor_numel(t));
    if (a && bn_real_download(backend, t, a) != BN_OK) {
        free(a);
        a = NULL;
    }
    return a;
}

/* Fills a real tensor with standard normal numbers. */
static bn_status upload_normal(bn_backend *backend, const bn_tensor *t, uint64_t seed)
{
    int64_t n = bn_tensor_numel(t);
    double *a = new_doubles(n);
    if (!a)
        return BN_FAIL;
    bn_rng rng = bn_rng_of(seed, 0x67726164);
    for (int64_t i = 0; i < n; i++)
        a[i] = bn_rng_normal(&rng);
    bn_status status = bn_real_upload(backend, t, a);
    free(a);
    return status;
}

/* ---- central differences ------------------------------------------------ */

typedef bn_status (*eval_fn)(void *arg, double *f);

/* f with element `index` of x set to `value`. */
static bn_status eval_at(bn_backend *backend, const bn_tensor *x, int64_t index, double value,
                         eval_fn eval, void *arg, double *f)
{
    bn_tensor one = bn_tensor_1d(x->dtype, 1);
    one = bn_tensor_at(one, x->buffer, x->offset + (size_t)index * bn_dtype_size(x->dtype));
    BN_TRY(bn_real_upload(backend, &one, &value));
    return f ? eval(arg, f) : BN_OK;
}

static void note_error(bn_gradcheck_entry *e, int64_t index, double analytic, double numeric)
{
    double error = fabs(analytic - numeric) / fmax(1, fmax(fabs(analytic), fabs(numeric)));
    /* a NaN on either side makes the error NaN, and the first NaN stays the worst */
    bool worse = e->checked == 0 || (!isnan(e->error) && !(error <= e->error));
    e->checked++;
    if (!worse)
        return;
    e->index = index;
    e->analytic = analytic;
    e->numeric = numeric;
    e->error = error;
}

/* Compares analytic [numel of x] with the derivative of eval along x. */
static bn_status check_input(bn_backend *backend, const bn_tensor *x, const double *analytic,
                             const bn_gradcheck_options *o, eval_fn eval, void *arg,
                             bn_gradcheck_entry *entry)
{
    int64_t n = bn_tensor_numel(x);
    int64_t checked = o->max_elements > 0 && o->max_elements < n ? o->max_elements : n;
    double *value = fetch(backend, x);
    if (!value)
        return BN_FAIL;
    bn_status status = BN_OK;
    for (int64_t k = 0; k < checked; k++) {
        int64_t i = (int64_t)((double)k / (double)checked * (double)n);
        double h = o->step * fmax(fabs(value[i]), o->floor), f[4];
        static const double at[4] = {1, -1, 2, -2};
        for (int s = 0; s < 4; s++)
            BN_TRY_OUT(eval_at(backend, x, i, value[i] + at[s] * h, eval, arg, &f[s]));
        BN_TRY_OUT(eval_at(backend, x, i, value[i], NULL, NULL, NULL));
        note_error(entry, i, analytic[i], (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * h));
    }
out:
    free(value);
    return status;
}

/* ---- one op ------------------------------------------------------------- */

/* The function that is differentiated numerically: sum of r (y - y0), y0 the
 * result of the unperturbed run. Taking it away first keeps the rounding of
 * elements that do not change out of the difference. */
typedef struct op_function {
    bn_op_instance run;
    double *r, *y, *y0;
} op_function;

static bn_status eval_op(void *arg, double *f)
{
    op_function *fn = arg;
    BN_TRY(bn_op_instance_forward(&fn->run));
    BN_TRY(bn_real_download(fn->run.backend, &fn->run.call.out[0], fn->y));
    int64_t n = bn_tensor_numel(&fn->run.call.out[0]);
    *f = 0;
    for (int64_t i = 0; i < n; i++)
        *f += fn->r[i] * (fn->y[i] - fn->y0[i]);
    return BN_OK;
}

/* One element of WEIGHT_ESTIMATOR's surrogate, gamma (clip(w/gamma, L) + constant),
 * whose constant makes it the quantized weight at w0, gamma0. */
static double clipped_code(double w, double gamma, double w0, double gamma0, double limit,
                           bn_grid grid)
{
    const double v0 = w0 / gamma0;
    const double rest = bn_grid_code_f64(grid, v0) - fmax(-limit, fmin(v0, limit));
    return gamma * (fmax(-limit, fmin(w / gamma, limit)) + rest);
}

/* Sum of r (y - y0) for it: the weight and the scale each with its own limit,
 * the scale's part times LSQ's factor, the weight's times that of EWGS. */
static bn_status eval_estimator(void *arg, double *f)
{
    const op_function *fn = arg;
    const bn_op_spec *spec = &fn->run.spec;
    const bn_weight_params *p = &spec->params.weight;
    const int64_t O = spec->in[1].shape[0], I = spec->in[1].shape[1];
    const int64_t length = bn_group_length(I, p->group_size);
    const double weight_limit = bn_estimator_weight_limit(p->estimator, p->grid);
    const double scale_limit = bn_estimator_scale_limit(p->estimator, p->grid);
    const double *w0 = spec->data[1], *gamma0 = spec->data[2];
    double *w = fetch(fn->run.backend, &fn->run.call.in[1]);
    double *gamma = fetch(fn->run.backend, &fn->run.call.in[2]);
    *f = 0;
    for (int64_t i = 0; w && gamma && i < O * I; i++) {
        const int64_t first = i % I / length * length;
        const int64_t in_group = I - first < length ? I - first : length;
        const int64_t n = p->group_size == BN_PER_TENSOR ? O * I : in_group;
        const int64_t s = bn_scale_index(i / I, i % I / length, I, p->group_size);
        const double v0 = w0[i] / gamma0[s], q0 = bn_grid_code_f64(p->grid, v0);
        const double direction = fn->r[i] > 0 ? 1 : -1;
        const double ewgs =
            p->estimator == BN_ESTIMATOR_EWGS
                ? p->ewgs_delta * direction * (v0 - q0) / (2 * bn_grid_half_step(p->grid))
                : 0;
        const double of_w =
            clipped_code(w[i], gamma0[s], w0[i], gamma0[s], weight_limit, p->grid) - q0 * gamma0[s];
        const double of_gamma =
            clipped_code(w0[i], gamma[s], w0[i], gamma0[s], scale_limit, p->grid) - q0 * gamma0[s];
        *f += fn->r[i] * ((1 + ewgs) * of_w + bn_lsq_factor(p->grid, n) * of_gamma);
    }
    const bn_status status = w && gamma ? BN_OK : BN_FAIL;
    free(w);
    free(gamma);
    return status;
}

/* The surrogate of BITLINEAR: LINEAR on codes*step and codes*scale, which are
 * made in x and w. */
static bn_op_spec linear_of(const bn_op_spec *b, double *x, double *w)
{
    int64_t rows = bn_tensor_rows(&b->in[0]);
    bn_op_spec s = {.op = BN_OP_LINEAR, .run = b->run};
    s.in[0] = b->in[0];
    s.in[1] = b->in[2];
    s.in[0].dtype = s.in[1].dtype = BN_F64;
    s.in[2] = b->in[4];
    s.data[0] = x;
    s.data[1] = w;
    s.data[2] = b->data[4];
    bn_act_dequantize_f64(b->data[0], b->data[1], rows, bn_tensor_cols(&b->in[0]),
                          bn_step_group(&b->params.weight, &b->in[1]), x);
    bn_codes_dequantize_f64(b->in[2].dtype, b->data[2], b->data[3], b->in[2].shape[0],
                            b->in[2].shape[1], b->params.weight.group_size, w);
    return s;
}

static bn_status check_op(bn_op_instance *op, op_function *fn, const bn_gradcheck_options *o,
                          bn_gradcheck_entry *entry)
{
    static const int linear_input[BN_MAX_IN] = {0, -1, 1, -1, 2}; /* of BITLINEAR's */
    bool surrogate = op->call.op != fn->run.call.op;
    unsigned wanted = bn_op_instance_grads(op);
    BN_TRY(upload_normal(op->backend, &op->call.dout, o->seed));
    BN_TRY(bn_real_download(op->backend, &op->call.dout, fn->r));
    BN_TRY(bn_op_instance_forward(op));
    BN_TRY(bn_op_instance_backward(op, wanted, 0));
    BN_TRY(bn_op_instance_forward(&fn->run));
    BN_TRY(bn_real_download(op->backend, &fn->run.call.out[0], fn->y0));
    for (int i = 0; i < BN_MAX_IN; i++) {
        if (!(wanted >> i & 1u))
            continue;
        double *analytic = fetch(op->backend, &op->call.din[i]);
        if (!analytic)
            return BN_FAIL;
        const bn_tensor *x = &fn->run.call.in[surrogate ? linear_input[i] : i];
        const eval_fn eval = op->call.op == BN_OP_WEIGHT_ESTIMATOR ? eval_estimator : eval_op;
        bn_status status = check_input(op->backend, x, analytic, o, eval, fn, &entry[i]);
        free(analytic);
        BN_TRY(status);
    }
    return BN_OK;
}

bn_status bn_gradcheck_op(bn_backend *backend, const bn_op_spec *spec,
                          const bn_gradcheck_options *options, bn_gradcheck_entry entry[BN_MAX_IN])
{
    const bn_op_info *info = &bn_op_table[spec->op];
    bn_gradcheck_options o = with_defaults(options);
    memset(entry, 0, BN_MAX_IN * sizeof *entry);
    if (info->traits & (BN_PASS | BN_NOGRAD))
        return bn_error(BN_FAIL, "gradient check: %s has no backward kernel", info->name);

    bn_op_instance op = {0};
    op_function fn = {0};
    bn_op_spec numeric = *spec;
    double *x = NULL, *w = NULL;
    bn_status status = BN_FAIL;
    if (spec->op == BN_OP_BITLINEAR) {
        x = new_doubles(bn_tensor_numel(&spec->in[0]));
        w = new_doubles(bn_tensor_numel(&spec->in[2]));
        if (!x || !w)
            goto out;
        numeric = linear_of(spec, x, w);
    }
    BN_TRY_OUT(bn_op_instance_init(&op, backend, spec));
    BN_TRY_OUT(bn_op_instance_init(&fn.run, backend, &numeric));
    status = BN_FAIL;
    fn.r = new_doubles(bn_tensor_numel(&op.call.out[0]));
    fn.y = new_doubles(bn_tensor_numel(&op.call.out[0]));
    fn.y0 = new_doubles(bn_tensor_numel(&op.call.out[0]));
    if (!fn.r || !fn.y || !fn.y0)
        goto out;
    status = check_op(&op, &fn, &o, entry);
out:
    bn_op_instance_clear(&op);
    bn_op_instance_clear(&fn.run);
    free(fn.r);
    free(fn.y);
    free(fn.y0);
    free(x);
    free(w);
    return status;
}

/* ---- a whole graph ------------------------------------------------------ */

/* One recording of the function with its memory. target = sum of r y, r of the
 * shape of y. */
typedef struct graph {
    bn_backend *backend;
    const bn_run *run;
    bn_tape *tape;
    bn_value target;
    bn_buffer arena, upstream;
    bn_tensor r;
} graph;

static void graph_clear(graph *g)
{
    bn_tape_free(g->tape);
    if (g->backend) {
        g->backend->release(g->backend, &g->arena);
        g->backend->release(g->backend, &g->upstream);
    }
}

static bn_status eval_graph(void *arg, double *f)
{
    graph *g = arg;
    BN_TRY(bn_tape_forward(g->tape, g->run));
    return bn_backend_get_scalar(g->backend, bn_tape_tensor(g->tape, g->target), f);
}

/* Adds the target to a recorded y and gives the tape its memory. */
static bn_status graph_finish(graph *g, bn_value y, bool differentiate, uint64_t seed)
{
    BN_TRY(bn_tape_status(g->tape));
    const bn_tensor *t = bn_tape_tensor(g->tape, y);
    g->r = bn_tensor_of(t->dtype, t->ndim, t->shape);
    BN_TRY(g->backend->alloc(g->backend, bn_tensor_bytes(&g->r), &g->upstream));
    g->r = bn_tensor_at(g->r, &g->upstream, 0);
    BN_TRY(upload_normal(g->backend, &g->r, seed));
    g->target = bn_sum(g->tape, bn_mul(g->tape, y, bn_tape_input(g->tape, &g->r)));
    bn_tape_retain(g->tape, g->target);
    BN_TRY(bn_tape_plan(g->tape, differentiate ? g->target : BN_NO_VALUE));
    BN_TRY(g->backend->alloc(g->backend, bn_tape_memory_of(g->tape).arena, &g->arena));
    return bn_tape_bind(g->tape, &g->arena);
}

static bn_status graph_record(graph *g, bn_gradcheck_graph record, void *arg, bool differentiate,
                              bool retain, uint64_t seed)
{
    BN_TRY(bn_tape_new(g->backend, &g->tape));
    if (retain)
        bn_tape_retain_all(g->tape);
    bn_value y = record(arg, g->tape);
    return graph_finish(g, y, differentiate, seed);
}

/* The function with every quantizer replaced by x + constant. */
typedef struct surrogate {
    graph graph;
    const bn_tape *real; /* recorded with every value kept, and run */
    bn_value *of;        /* surrogate of each value of `real`, -1: not yet */
    int n_values;
    bn_buffer *residual; /* one per replaced quantizer */
    bn_tensor *constant;
    int n_residuals;
} surrogate;

static void surrogate_clear(surrogate *s)
{
    for (int i = 0; i < s->n_residuals; i++)
        s->graph.backend->release(s->graph.backend, &s->residual[i]);
    free(s->residual);
    free(s->constant);
    free(s->of);
    graph_clear(&s->graph);
}

/* Largest value index on a tape, + 1. */
static int value_count(const bn_tape *tape)
{
    int n = 0;
    for (int i = 0; i < bn_tape_length(tape); i++) {
        const bn_tape_node *node = bn_tape_node_at(tape, i);
        for (int k = 0; k < BN_MAX_IN; k++)
            n = node->in[k] >= n ? node->in[k] + 1 : n;
        for (int k = 0; k < BN_MAX_OUT; k++)
            n = node->out[k] >= n ? node->out[k] + 1 : n;
    }
    return n;
}

static bool is_quantizer(bn_op op)
{
    return op == BN_OP_ACT_QUANT || op == BN_OP_WEIGHT_QUANT || op == BN_OP_ACT_FAKE_QUANT ||
           op == BN_OP_WEIGHT_FAKE_QUANT;
}

/* What a quantizer made, as real numbers, into q [numel]. */
static bn_status dequantized(const surrogate *s, const bn_tape_node *node, double *q)
{
    bn_backend *backend = s->graph.backend;
    const bn_tensor *y = bn_tape_tensor(s->real, node->out[0]);
    if (node->op == BN_OP_ACT_FAKE_QUANT || node->op == BN_OP_WEIGHT_FAKE_QUANT)
        return bn_real_download(backend, y, q);
    bn_status status = BN_FAIL;
    double *scale = fetch(backend, bn_tape_tensor(s->real, node->out[1]));
    void *codes = malloc(bn_tensor_bytes(y));
    if (!codes)
        status = bn_error_nomem("the gradient check", bn_tensor_bytes(y));
    if (!scale || !codes)
        goto out;
    BN_TRY_OUT(backend->download(backend, y, codes));
    if (node->op == BN_OP_ACT_QUANT)
        bn_act_dequantize_f64(codes, scale, bn_tensor_rows(y), bn_tensor_cols(y),
                              node->params.act.group_size, q);
    else
        bn_codes_dequantize_f64(y->dtype, codes, scale, y->shape[0], y->shape[1],
                                node->params.weight.group_size, q);
out:
    free(scale);
    free(codes);
    return status;
}

/* x -> x + (q(x0) - x0) */
static bn_status add_residual(surrogate *s, const bn_tape_node *node, bn_value x, bn_value *out)
{
    bn_backend *backend = s->graph.backend;
    const bn_tensor *x0 = bn_tape_tensor(s->real, node->in[0]);
    int64_t n = bn_tensor_numel(x0);
    bn_buffer *memory = &s->residual[s->n_residuals];
    bn_tensor *constant = &s->constant[s->n_residuals];
    BN_TRY(backend->alloc(backend, bn_tensor_bytes(x0), memory));
    s->n_residuals++;
    *constant = bn_tensor_at(*x0, memory, 0);

    bn_status status = BN_FAIL;
    double *value = fetch(backend, x0), *q = new_doubles(n);
    if (!value || !q)
        goto out;
    BN_TRY_OUT(dequantized(s, node, q));
    for (int64_t i = 0; i < n; i++)
        q[i] -= value[i];
    BN_TRY_OUT(bn_real_upload(backend, constant, q));
    *out = bn_add(s->graph.tape, x, bn_tape_input(s->graph.tape, constant));
out:
    free(value);
    free(q);
    return status;
}

/* The surrogate of one value, an input from outside where it has no producer. */
static bn_value surrogate_of(surrogate *s, bn_value v)
{
    if (v == BN_NO_VALUE)
        return BN_NO_VALUE;
    if (s->of[v] == BN_NO_VALUE)
        s->of[v] = bn_tape_input(s->graph.tape, bn_tape_tensor(s->real, v));
    return s->of[v];
}

static bn_status translate(surrogate *s, const bn_tape_node *node)
{
    bn_value in[BN_MAX_IN], out[BN_MAX_OUT] = {BN_NO_VALUE, BN_NO_VALUE};
    bn_tape *tape = s->graph.tape;
    if (is_quantizer(node->op)) {
        BN_TRY(add_residual(s, node, surrogate_of(s, node->in[0]), &out[0]));
    } else if (node->op == BN_OP_BITLINEAR) {
        out[0] = bn_linear(tape, surrogate_of(s, node->in[0]), surrogate_of(s, node->in[2]),
                           surrogate_of(s, node->in[4]));
    } else {
        for (int k = 0; k < node->n_in; k++)
            in[k] = surrogate_of(s, node->in[k]);
        bn_tape_record(tape, node->op, &node->params, node->n_in, in, out);
    }
    for (int k = 0; k < BN_MAX_OUT; k++)
        if (node->out[k] != BN_NO_VALUE)
            s->of[node->out[k]] = out[k];
    return bn_tape_status(tape);
}

/* Makes the surrogate of `real` (whose target is the last value but the
 * surrogate has its own, with the same r). */
static bn_status surrogate_build(surrogate *s, const graph *real, uint64_t seed)
{
    int length = bn_tape_length(real->tape) - 2; /* without sum and mul of the target */
    s->real = real->tape;
    s->n_values = value_count(real->tape);
    s->of = malloc((size_t)s->n_values * sizeof *s->of);
    s->residual = calloc((size_t)length + 1, sizeof *s->residual);
    s->constant = calloc((size_t)length + 1, sizeof *s->constant);
    if (!s->of || !s->residual || !s->constant)
        return bn_error_nomem("the gradient check", (size_t)s->n_values * sizeof *s->of);
    for (int v = 0; v < s->n_values; v++)
        s->of[v] = BN_NO_VALUE;
    BN_TRY(bn_tape_new(s->graph.backend, &s->graph.tape));
    for (int i = 0; i < length; i++)
        BN_TRY(translate(s, bn_tape_node_at(real->tape, i)));
    bn_value y = bn_tape_node_at(real->tape, length)->in[0];
    return graph_finish(&s->graph, surrogate_of(s, y), false, seed);
}

static bn_status same_value(graph *real, graph *frozen)
{
    double a, b;
    BN_TRY(eval_graph(real, &a));
    BN_TRY(eval_graph(frozen, &b));
    if (!(fabs(a - b) <= 1e-9 * fmax(1, fabs(a))))
        return bn_error(BN_MISMATCH, "gradient check: the function is %.17g, its surrogate %.17g",
                        a, b);
    return BN_OK;
}

static bn_status analytic_gradients(graph *g, const bn_gradcheck_leaf *leaves, int n,
                                    double **analytic)
{
    double f;
    for (int i = 0; i < n; i++)
        BN_TRY(g->backend->fill_zero(g->backend, &leaves[i].grad));
    BN_TRY(eval_graph(g, &f));
    BN_TRY(bn_tape_backward(g->tape, g->run, 1.0));
    for (int i = 0; i < n; i++) {
        analytic[i] = fetch(g->backend, &leaves[i].grad);
        if (!analytic[i])
            return BN_FAIL;
    }
    return BN_OK;
}

bn_status bn_gradcheck_tape(bn_backend *backend, bn_gradcheck_graph record, void *arg,
                            const bn_run *run, const bn_gradcheck_leaf *leaves, int n_leaves,
                            const bn_gradcheck_options *options, bn_gradcheck_entry *entry)
{
    bn_gradcheck_options o = with_defaults(options);
    graph planned = {.backend = backend, .run = run}, kept = planned;
    surrogate frozen = {.graph = planned};
    bn_status status = BN_OK;
    double **analytic = calloc((size_t)n_leaves + 1, sizeof *analytic);
    if (!analytic)
        return bn_error_nomem("the gradient check", (size_t)n_leaves * sizeof *analytic);
    memset(entry, 0, (size_t)n_leaves * sizeof *entry);

    /* Gradients from a tape planned as in training; residuals from one that
     * keeps all values. */
    double f;
    BN_TRY_OUT(graph_record(&planned, record, arg, true, false, o.seed));
    BN_TRY_OUT(analytic_gradients(&planned, leaves, n_leaves, analytic));
    BN_TRY_OUT(graph_record(&kept, record, arg, false, true, o.seed));
    BN_TRY_OUT(eval_graph(&kept, &f));
    BN_TRY_OUT(surrogate_build(&frozen, &kept, o.seed));
    BN_TRY_OUT(same_value(&planned, &frozen.graph));
    for (int i = 0; i < n_leaves; i++)
        BN_TRY_OUT(check_input(backend, &leaves[i].value, analytic[i], &o, eval_graph,
                               &frozen.graph, &entry[i]));
out:
    for (int i = 0; i < n_leaves; i++)
        free(analytic[i]);
    free(analytic);
    surrogate_clear(&frozen);
    graph_clear(&kept);
    graph_clear(&planned);
    return status;
}
