#include "ops/parity.h"

#include "cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "quant/dynamic8.h"
#include "ops/attention_bound.h"

const parity_limits parity_table[BN_OP_COUNT] = {
    [BN_OP_EMBEDDING] = {0, 1e-6},
    [BN_OP_LINEAR] = {2e-6, 2e-6},
    [BN_OP_MATMUL] = {2e-6, 2e-6},
    [BN_OP_ACT_QUANT] = {0, 0},
    [BN_OP_WEIGHT_QUANT] = {0, 0},
    [BN_OP_WEIGHT_ESTIMATOR] = {0, 0},
    [BN_OP_BITLINEAR] = {0, 2e-6},
    [BN_OP_ACT_FAKE_QUANT] = {0, 0},
    [BN_OP_WEIGHT_FAKE_QUANT] = {0, 0},
    [BN_OP_ADD] = {0, 2e-7},
    [BN_OP_MUL] = {0, 2e-7},
    [BN_OP_SCALE] = {0, 2e-7},
    [BN_OP_SILU] = {5e-7, 1e-6},
    [BN_OP_RELU2] = {0, 2e-7},
    [BN_OP_GLU] = {5e-7, 1e-6},
    [BN_OP_RMSNORM] = {5e-7, 2e-6},
    [BN_OP_ROPE] = {5e-7, 5e-7},
    [BN_OP_HADAMARD] = {0, 0},
    /* ATTENTION: attention_bound.h */
    [BN_OP_KV_ATTENTION] = {2e-6, 0},
    [BN_OP_SOFTMAX] = {1e-6, 2e-6},
    [BN_OP_CROSS_ENTROPY] = {1e-6, 2e-6},
    [BN_OP_LINEAR_CROSS_ENTROPY] = {2e-6, 5e-6},
    [BN_OP_DISTILL_KL] = {2e-6, 2e-6},
    [BN_OP_RELATION_KL] = {2e-6, 2e-6},
    [BN_OP_DISTANCE] = {2e-7, 2e-7},
    [BN_OP_DROPOUT] = {2e-7, 2e-7},
    [BN_OP_SUM] = {1e-6, 2e-7},
    [BN_OP_MEAN] = {1e-6, 2e-7},
    [BN_OP_RESHAPE] = {0, 0},
    [BN_OP_TRANSPOSE] = {0, 0},
    [BN_OP_SLICE] = {0, 0},
};

/* The bytes of a tensor; the caller frees. */
static void *fetch(bn_backend *backend, const bn_tensor *t)
{
    void *copy = malloc(bn_tensor_bytes(t));
    assert_non_null(copy);
    assert_ok(backend->download(backend, t, copy));
    return copy;
}

static void same_bytes(const char *name, const char *label, const char *what, const uint8_t *x,
                       const uint8_t *y, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (x[i] != y[i])
            fail_msg("%s [%s]: %s: byte %zu is %d, the reference has %d", name, label, what, i,
                     x[i], y[i]);
}

/* How far elements may be from the reference: limit * (|y| + mean|y| + start), `start` what
 * they were added to, or the bound of each; neither: not at all. */
typedef struct tolerance {
    double limit, start;
    double *bound; /* compare_within() frees it */
} tolerance;

static void near(const char *name, const char *label, const char *what, const float *x,
                 const float *y, int64_t n, const tolerance *within)
{
    double mean = 0;
    for (int64_t i = 0; i < n; i++)
        mean += fabs((double)y[i]) / (double)n;
    for (int64_t i = 0; i < n; i++) {
        const double error = fabs((double)x[i] - (double)y[i]);
        const double size = fabs((double)y[i]) + mean + within->start;
        if (!(error <= (within->bound ? within->bound[i] : within->limit * size)))
            fail_msg("%s [%s]: %s[%lld] is %.9g, the reference has %.9g (relative %.2e)", name,
                     label, what, (long long)i, (double)x[i], (double)y[i], error / size);
    }
}

/* Two backends and what they are called. */
typedef struct pair {
    bn_backend *backend, *reference;
    const char *name, *label;
} pair;

static void compare_within(const pair *p, const char *what, const bn_tensor *a, const bn_tensor *b,
                           tolerance within)
{
    assert_int_equal(a->dtype, b->dtype);
    assert_true(bn_tensor_same_shape(a, b));
    void *x = fetch(p->backend, a), *y = fetch(p->reference, b);
    if (a->dtype != BN_F32 || (within.limit <= 0 && !within.bound))
        same_bytes(p->name, p->label, what, x, y, bn_tensor_bytes(a));
    else
        near(p->name, p->label, what, x, y, bn_tensor_numel(a), &within);
    free(within.bound);
    free(x);
    free(y);
}

static void compare(const pair *p, const char *what, const bn_tensor *a, const bn_tensor *b,
                    double limit)
{
    compare_within(p, what, a, b, (tolerance){.limit = limit});
}

static void fill(bn_backend *backend, const bn_tensor *t, float first, float step)
{
    int64_t n = bn_tensor_numel(t);
    float *p = malloc((size_t)n * sizeof *p);
    assert_non_null(p);
    for (int64_t i = 0; i < n; i++)
        p[i] = first + step * (float)(i % 17);
    assert_ok(backend->upload(backend, t, p));
    free(p);
}

#define ADDED_TO 0.5 /* what a gradient that is added holds before */

/* Both operate on the reference's saved values, so that errors do not add up. */
static void compare_backward(const pair *p, bn_op_instance *fast, bn_op_instance *ref,
                             unsigned wanted, unsigned added, double limit)
{
    bn_op_instance *both[2] = {fast, ref};
    const bn_op_call *rc = &ref->call;
    for (int j = 0; j < BN_MAX_OUT; j++)
        if (bn_tensor_present(&rc->out[j])) {
            void *saved = fetch(p->reference, &rc->out[j]);
            assert_ok(p->backend->upload(p->backend, &fast->call.out[j], saved));
            free(saved);
        }
    for (int b = 0; b < 2; b++) {
        fill(both[b]->backend, &both[b]->call.dout, -0.8f, 0.1f);
        for (unsigned i = 0; i < BN_MAX_IN; i++)
            if (bn_tensor_present(&rc->din[i]))
                fill(both[b]->backend, &both[b]->call.din[i],
                     added >> i & 1u ? (float)ADDED_TO : NAN, 0);
        assert_ok(bn_op_instance_backward(both[b], wanted, added));
    }
    for (unsigned i = 0; i < BN_MAX_IN; i++)
        if (wanted >> i & 1u) {
            char what[32];
            const bool add = added >> i & 1u;
            tolerance within = {limit, add ? ADDED_TO : 0, NULL};
            if (rc->op == BN_OP_WEIGHT_ESTIMATOR && i != 2)
                within.limit = 0; /* elementwise; the scale's is a sum */
            if (rc->op == BN_OP_ATTENTION)
                within.bound = attention_bound_of_gradient(rc, (int)i, within.start);
            snprintf(what, sizeof what, "gradient %u (%s)", i, add ? "add" : "store");
            compare_within(p, what, &fast->call.din[i], &rc->din[i], within);
        }
}

static void one_case(const op_case *k, bn_backend *backend, bn_backend *reference,
                     const char *label, const parity_limits limits[BN_OP_COUNT])
{
    const bn_op_info *info = &bn_op_table[k->spec.op];
    const parity_limits *limit = &limits[k->spec.op];
    const pair p = {backend, reference, k->name, label};
    bn_op_instance fast, ref;
    assert_ok(bn_op_instance_init(&fast, backend, &k->spec));
    assert_ok(bn_op_instance_init(&ref, reference, &k->spec));
    assert_ok(bn_op_instance_forward(&fast));
    assert_ok(bn_op_instance_forward(&ref));
    for (int j = 0; j < info->n_out; j++) {
        tolerance within = {.limit = limit->forward};
        if (ref.call.op == BN_OP_ATTENTION)
            within.bound = attention_bound_of_output(&ref.call, j);
        compare_within(&p, j == 0 ? "output 0" : "output 1", &fast.call.out[j], &ref.call.out[j],
                       within);
    }
    for (int j = 0; j < info->n_in; j++) /* caches are written, the rest must not be */
        if (bn_tensor_present(&ref.call.in[j]))
            compare(&p, "input after", &fast.call.in[j], &ref.call.in[j], 0);
    if (!(info->traits & (BN_PASS | BN_NOGRAD))) {
        unsigned all = bn_op_instance_grads(&ref);
        compare_backward(&p, &fast, &ref, all, 0, limit->backward);
        compare_backward(&p, &fast, &ref, all, all, limit->backward);
        for (unsigned i = 0; i < BN_MAX_IN; i++)
            if (all >> i & 1u)
                compare_backward(&p, &fast, &ref, 1u << i, 0, limit->backward);
    }
    bn_op_instance_clear(&fast);
    bn_op_instance_clear(&ref);
}

/* What a backend says it does not have, it must refuse. */
static bool is_refused(const bn_backend *backend, const bn_op_spec *spec)
{
    const bn_weight_params *p = &spec->params.weight;
    const bool wide = backend->weights & 1u << BN_I8;
    switch (spec->op) {
    case BN_OP_WEIGHT_QUANT:
    case BN_OP_WEIGHT_FAKE_QUANT:
        return (bn_grid_dtype(p->grid) == BN_I8 && !wide) ||
               !(backend->scale_rules >> p->rule & 1u);
    case BN_OP_BITLINEAR:
        return spec->in[2].dtype == BN_I8 && !wide;
    case BN_OP_KV_ATTENTION:
        return spec->params.attention.cache_bits && !backend->kv_codes;
    default:
        return false;
    }
}

/* Forward, or the backward pass alone where that is what the backend lacks. */
static void refused_case(const op_case *k, bn_backend *backend)
{
    bn_op_instance op;
    const bool backward = k->spec.op == BN_OP_BITLINEAR &&
                          !(backend->backwards >> k->spec.params.weight.backward & 1u);
    assert_ok(bn_op_instance_init(&op, backend, &k->spec));
    assert_int_equal(backward ? bn_op_instance_backward(&op, bn_op_instance_grads(&op), 0)
                              : bn_op_instance_forward(&op),
                     BN_FAIL);
    assert_non_null(strstr(bn_error_text(), bn_op_table[k->spec.op].name));
    bn_op_instance_clear(&op);
}

int parity_case(const op_case *k, bn_backend *backend, bn_backend *reference, const char *label,
                const parity_limits limits[BN_OP_COUNT])
{
    const bn_op_info *info = &bn_op_table[k->spec.op];
    int compared = 1;
    if (!(info->traits & BN_VIEW) && !backend->rows[k->spec.op].forward)
        return 0; /* a row that is missing is the coverage matrix's business */
    if (is_refused(backend, &k->spec)) {
        refused_case(k, backend);
        return 0;
    }
    one_case(k, backend, reference, label, limits);
    static const struct {
        bn_backward backward;
        const char *name;
    } others[] = {{BN_BACKWARD_BF16, "bf16"}, {BN_BACKWARD_INT16, "int16"}};
    for (int i = 0; i < 2 && k->spec.op == BN_OP_BITLINEAR; i++) {
        op_case other = *k;
        other.spec.params.weight.backward = others[i].backward;
        snprintf(other.name, sizeof other.name, "%.48s, %s", k->name, others[i].name);
        if (backend->backwards >> others[i].backward & 1u) {
            one_case(&other, backend, reference, label, limits);
            compared++;
        } else {
            refused_case(&other, backend);
        }
    }
    return compared;
}

void parity_refused(const op_case *k, bn_backend *backend, const char *text)
{
    bn_op_instance op;
    assert_ok(bn_op_instance_init(&op, backend, &k->spec));
    assert_int_equal(bn_op_instance_forward(&op), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), text));
    bn_op_instance_clear(&op);
}

/* ---- routines on flat tensors -------------------------------------------- */

enum { FLAT = 70001 };

typedef struct flat {
    bn_buffer memory;
    bn_tensor p, g, m, v, norm;
} flat;

static void flat_init(flat *f, bn_backend *backend)
{
    static float x[FLAT];
    bn_tensor *all[] = {&f->p, &f->g, &f->m, &f->v};
    size_t bytes = (FLAT * sizeof(float) + BN_ALIGN - 1) / BN_ALIGN * BN_ALIGN;
    assert_ok(backend->alloc(backend, 5 * bytes, &f->memory));
    for (int i = 0; i < 4; i++) {
        *all[i] = bn_tensor_at(bn_tensor_1d(BN_F32, FLAT), &f->memory, (size_t)i * bytes);
        for (int j = 0; j < FLAT; j++)
            x[j] = (float)sin(0.37 * (j + 1) * (i + 1)) * (i == 3 ? 1e-3f : 0.1f);
        for (int j = 0; i == 3 && j < FLAT; j++)
            x[j] = fabsf(x[j]); /* second moments */
        assert_ok(backend->upload(backend, all[i], x));
    }
    f->norm = bn_tensor_at(bn_tensor_1d(BN_F32, 1), &f->memory, 4 * bytes);
}

/* Muon on a matrix of every kind of shape; it works in the flat tensors' memory. */
static void parity_muon(bn_backend *backend, bn_backend *reference, const char *label)
{
    static const int64_t shapes[][2] = {{1, 37}, {37, 1}, {65, 33}, {40, 96}, {130, 130}};
    bn_backend *both[2] = {backend, reference};
    for (size_t i = 0; backend->muon && i < sizeof shapes / sizeof *shapes; i++) {
        const bn_muon o = {.lr = 0.02, .momentum = 0.95, .weight_decay = 0.1, .clip = 1};
        const int64_t rows = shapes[i][0], cols = shapes[i][1];
        const pair p = {backend, reference, "muon", label};
        bn_tensor param[2], m[2];
        flat f[2];
        for (int b = 0; b < 2; b++) {
            const bn_tensor shape = bn_tensor_2d(BN_F32, rows, cols);
            flat_init(&f[b], both[b]);
            param[b] = bn_tensor_at(shape, &f[b].memory, f[b].p.offset);
            m[b] = bn_tensor_at(shape, &f[b].memory, f[b].m.offset);
            const bn_tensor grad = bn_tensor_at(shape, &f[b].memory, f[b].g.offset);
            const bn_tensor scratch = bn_tensor_at(
                bn_tensor_1d(BN_F32, bn_muon_scratch(rows, cols)), &f[b].memory, f[b].v.offset);
            assert_ok(both[b]->norm(both[b], &f[b].g, &f[b].norm));
            assert_ok(both[b]->muon(both[b], &o, &param[b], &grad, &m[b], &f[b].norm, &scratch));
        }
        compare(&p, "parameter", &param[0], &param[1], 2e-6);
        compare(&p, "momentum", &m[0], &m[1], 5e-7);
        backend->release(backend, &f[0].memory);
        reference->release(reference, &f[1].memory);
    }
}

/* AdamW in 8 bits, twice, on a parameter whose last block is short: codes and maxima
 * of the reference bit for bit. */
static void parity_adamw8bit(bn_backend *backend, bn_backend *reference, const char *label)
{
    enum { BLOCKS = (FLAT + BN_DYNAMIC8_BLOCK - 1) / BN_DYNAMIC8_BLOCK };
    const pair p = {backend, reference, "adamw8bit", label};
    bn_backend *both[2] = {backend, reference};
    bn_dynamic8 *maps = malloc(2 * sizeof *maps);
    flat f[2];
    bn_buffer memory[2];
    bn_moment8 moments[2][2];
    if (!backend->adamw8bit) {
        free(maps);
        return;
    }
    assert_non_null(maps);
    bn_dynamic8_init(&maps[0], true);
    bn_dynamic8_init(&maps[1], false);
    for (int b = 0; b < 2; b++) {
        const size_t codes = (FLAT + BN_ALIGN - 1) / BN_ALIGN * BN_ALIGN, part = codes + 4 * BLOCKS;
        bn_adamw o = {.lr = 1e-3,
                      .beta1 = 0.9,
                      .beta2 = 0.95,
                      .eps = 1e-8,
                      .weight_decay = 0.1,
                      .decay_end = 50003,
                      .clip = 1};
        flat_init(&f[b], both[b]);
        assert_ok(both[b]->alloc(both[b], 2 * bn_align_up(part, BN_ALIGN), &memory[b]));
        for (int k = 0; k < 2; k++) {
            const size_t at = (size_t)k * bn_align_up(part, BN_ALIGN);
            moments[b][k].codes = bn_tensor_at(bn_tensor_1d(BN_U8, FLAT), &memory[b], at);
            moments[b][k].absmax =
                bn_tensor_at(bn_tensor_1d(BN_F32, BLOCKS), &memory[b], at + codes);
        }
        assert_ok(both[b]->fill_zero(both[b], &f[b].norm));
        for (o.step = 1; o.step <= 2; o.step++)
            assert_ok(both[b]->adamw8bit(both[b], &o, maps, &f[b].p,
                                         o.step == 1 ? &f[b].g : &f[b].m, &moments[b][0],
                                         &moments[b][1], &f[b].norm));
    }
    compare(&p, "parameter", &f[0].p, &f[1].p, 0);
    for (int k = 0; k < 2; k++) {
        compare(&p, "codes", &moments[0][k].codes, &moments[1][k].codes, 0);
        compare(&p, "largest magnitudes", &moments[0][k].absmax, &moments[1][k].absmax, 0);
    }
    backend->release(backend, &memory[0]);
    reference->release(reference, &memory[1]);
    backend->release(backend, &f[0].memory);
    reference->release(reference, &f[1].memory);
    free(maps);
}

static void compare_flat(const pair *p, const flat f[2])
{
    compare(p, "norm", &f[0].norm, &f[1].norm, 2e-7);
    compare(p, "parameter", &f[0].p, &f[1].p, 5e-7);
    compare(p, "first moment", &f[0].m, &f[1].m, 5e-7);
    compare(p, "second moment", &f[0].v, &f[1].v, 5e-7);
    compare(p, "scaled", &f[0].g, &f[1].g, 2e-7);
}

void parity_routines(bn_backend *backend, bn_backend *reference, const char *label)
{
    parity_muon(backend, reference, label);
    parity_adamw8bit(backend, reference, label);
    bn_backend *both[2] = {backend, reference};
    const pair p = {backend, reference, "routines", label};
    flat f[2];
    for (int clip = 0; clip <= 1; clip++) {
        for (int b = 0; b < 2; b++) {
            const bn_adamw o = {.lr = 1e-3,
                                .beta1 = 0.9,
                                .beta2 = 0.95,
                                .eps = 1e-8,
                                .weight_decay = 0.1,
                                .step = 3,
                                .decay_end = 50003,
                                .clip = clip};
            flat_init(&f[b], both[b]);
            assert_ok(both[b]->norm(both[b], &f[b].g, &f[b].norm));
            assert_ok(both[b]->adamw(both[b], &o, &f[b].p, &f[b].g, &f[b].m, &f[b].v, &f[b].norm));
            assert_ok(both[b]->scale(both[b], &f[b].g, 0.3));
        }
        compare_flat(&p, f);
        for (int b = 0; b < 2; b++) {
            const bn_sgd o = {.lr = 0.1,
                              .momentum = 0.9,
                              .weight_decay = 0.01,
                              .nesterov = clip,
                              .decay_end = 50003,
                              .clip = clip};
            assert_ok(both[b]->sgd(both[b], &o, &f[b].p, &f[b].g, &f[b].m, &f[b].norm));
        }
        compare_flat(&p, f);
        backend->release(backend, &f[0].memory);
        reference->release(reference, &f[1].memory);
    }
}
