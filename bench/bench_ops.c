/* bench-ops: kernels of the "cpu" backend, one at a time, in the shapes of a
 * training step (2048 rows of 128 and 384) and of larger layers, beside the
 * limits of this machine. Every subject is compared with the reference kernels
 * before it is timed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/op_instance.h"
#include "base/checked.h"
#include "base/pool.h"
#include "base/rng.h"
#include "bench/limits.h"
#include "cpu/cpu.h"

/* Largest error that verification accepts, relative to |ref| + mean|ref|. */
enum { POOL_RUNS = 10 };
static const double tolerance = 5e-5;

typedef struct subject {
    const char *name;
    bn_op_spec spec;
    bool backward;
    double work; /* operations of one run */
    const char *kind;
    void *owned[BN_MAX_IN];
    char shape[64];
} subject;

/* ---- operands ------------------------------------------------------------ */

static bn_status place(subject *s, int i, bn_tensor t, size_t bytes, void **data)
{
    s->owned[i] = *data = malloc(bytes);
    if (!*data)
        return bn_error_nomem("bench operand", bytes);
    s->spec.in[i] = t;
    s->spec.data[i] = *data;
    return BN_OK;
}

static bn_status reals(subject *s, int i, bn_tensor t)
{
    bn_rng rng = bn_rng_of(1, (uint64_t)i);
    int64_t n = bn_tensor_numel(&t);
    void *data;
    BN_TRY(place(s, i, t, (size_t)n * sizeof(double), &data));
    for (int64_t j = 0; j < n; j++)
        ((double *)data)[j] = bn_rng_normal(&rng);
    return BN_OK;
}

static bn_status ids(subject *s, int i, bn_tensor t, int64_t below)
{
    bn_rng rng = bn_rng_of(2, (uint64_t)i);
    int64_t n = bn_tensor_numel(&t);
    void *data;
    BN_TRY(place(s, i, t, (size_t)n * sizeof(int32_t), &data));
    for (int64_t j = 0; j < n; j++)
        ((int32_t *)data)[j] = (int32_t)bn_rng_below(&rng, (uint64_t)below);
    return BN_OK;
}

/* Random int8 codes, or packed ones (the invalid field 3 becomes 1). */
static bn_status codes(subject *s, int i, bn_tensor t)
{
    bn_rng rng = bn_rng_of(3, (uint64_t)i);
    size_t bytes = bn_tensor_bytes(&t);
    void *data;
    BN_TRY(place(s, i, t, bytes, &data));
    for (size_t j = 0; j < bytes; j++) {
        unsigned byte = (unsigned)bn_rng_below(&rng, 256), invalid = byte & byte >> 1 & 0x55u;
        ((uint8_t *)data)[j] = (uint8_t)(t.dtype == BN_T2 ? byte & ~(invalid << 1) : byte);
    }
    return BN_OK;
}

/* ---- verification and timing --------------------------------------------- */

/* An upstream gradient of both signs. */
static void fill_gradient(const bn_tensor *t)
{
    float *p = bn_tensor_present(t) ? bn_tensor_data(t) : NULL;
    for (int64_t i = 0; p && i < bn_tensor_numel(t); i++)
        p[i] = (float)(i % 13 - 6) * 0.1f;
}

static double error_of(const bn_tensor *a, const bn_tensor *b)
{
    if (!bn_tensor_present(a))
        return 0;
    if (a->dtype != BN_F32)
        return memcmp(bn_tensor_data(a), bn_tensor_data(b), bn_tensor_bytes(a)) == 0 ? 0.0
                                                                                     : HUGE_VAL;
    const float *x = bn_tensor_data(a), *y = bn_tensor_data(b);
    int64_t n = bn_tensor_numel(a);
    double mean = 0, worst = 0;
    for (int64_t i = 0; i < n; i++)
        mean += fabs((double)y[i]) / (double)n;
    for (int64_t i = 0; i < n; i++) {
        double error = fabs((double)x[i] - (double)y[i]) / (fabs((double)y[i]) + mean + 1e-30);
        if (!(error <= worst))
            worst = error;
    }
    return worst;
}

static bn_status run(void *arg)
{
    bn_op_instance *op = arg;
    return bn_op_instance_forward(op);
}

static bn_status run_backward(void *arg)
{
    bn_op_instance *op = arg;
    return bn_op_instance_backward(op, bn_op_instance_grads(op), 0);
}

static bn_status verify(const subject *s, bn_op_instance *op, double *error)
{
    bn_status status = BN_OK;
    bn_backend *reference = NULL;
    bn_op_instance ref = {0};
    BN_TRY(bn_ref_backend_new(BN_F32, &reference));
    BN_TRY_OUT(bn_op_instance_init(&ref, reference, &s->spec));
    BN_TRY_OUT(run(&ref));
    BN_TRY_OUT(run(op));
    *error = 0;
    if (s->backward) {
        fill_gradient(&ref.call.dout);
        fill_gradient(&op->call.dout);
        BN_TRY_OUT(run_backward(&ref));
        BN_TRY_OUT(run_backward(op));
    }
    for (int i = 0; i < BN_MAX_IN; i++) {
        bool has_out = !s->backward && i < BN_MAX_OUT;
        double e = s->backward ? error_of(&op->call.din[i], &ref.call.din[i])
                   : has_out   ? error_of(&op->call.out[i], &ref.call.out[i])
                               : 0;
        *error = e > *error ? e : *error;
    }
    if (!(*error <= tolerance))
        status = bn_error(BN_MISMATCH, "%s %s: error %.2e against the reference, allowed %.0e",
                          s->name, s->shape, *error, tolerance);
out:
    bn_op_instance_clear(&ref);
    bn_backend_free(reference);
    return status;
}

/* Bytes of the operands that one run reads or writes. */
static double bytes_of(const subject *s, const bn_op_instance *op)
{
    const bn_op_call *c = &op->call;
    double bytes = s->backward ? (double)bn_tensor_bytes(&c->dout) : 0;
    for (int i = 0; i < BN_MAX_IN; i++) {
        bytes += bn_tensor_present(&c->in[i]) ? (double)bn_tensor_bytes(&c->in[i]) : 0;
        if (s->backward && bn_tensor_present(&c->din[i]))
            bytes += (double)bn_tensor_bytes(&c->din[i]);
    }
    for (int i = 0; i < BN_MAX_OUT && !s->backward; i++)
        bytes += bn_tensor_present(&c->out[i]) ? (double)bn_tensor_bytes(&c->out[i]) : 0;
    return bytes;
}

/* Verifies and times a subject, forward and then (`both`) backward, and frees
 * its operands. `status` is that of making them. */
static bn_status measure(bench *b, subject *s, bn_status status, bool both, double backward_work)
{
    static const char *const suffix[2] = {"", "_backward"};
    bn_op_instance op = {0};
    if (status != BN_OK)
        goto out;
    for (int back = 0; back <= both; back++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s", s->name, suffix[back]);
        if (!bench_wants(b, name))
            continue;
        s->backward = back;
        bench_result r = {.name = name,
                          .shape = s->shape,
                          .kind = back && s->kind ? "GFLOP/s" : s->kind,
                          .work = back ? backward_work : s->work};
        BN_TRY_OUT(bn_op_instance_init(&op, b->backend, &s->spec));
        BN_TRY_OUT(verify(s, &op, &r.error));
        BN_TRY_OUT(bench_time(b, back ? run_backward : run, &op, &r));
        r.bytes = bytes_of(s, &op);
        bench_report(b, &r);
        bn_op_instance_clear(&op);
    }
out:
    bn_op_instance_clear(&op);
    for (int i = 0; i < BN_MAX_IN; i++)
        free(s->owned[i]);
    return status;
}

/* ---- subjects ------------------------------------------------------------ */

static bn_status make_bitlinear(subject *s, int64_t rows, int64_t out, int64_t in, int64_t group)
{
    snprintf(s->shape, sizeof s->shape, "%lldx%lldx%lld group %lld", (long long)rows,
             (long long)out, (long long)in, (long long)group);
    s->spec.op = BN_OP_BITLINEAR;
    s->spec.params.weight.group_size = group;
    s->work = 2.0 * (double)rows * (double)out * (double)in;
    BN_TRY(codes(s, 0, bn_tensor_2d(BN_I8, rows, in)));
    BN_TRY(reals(s, 1, bn_tensor_1d(BN_F64, rows)));
    BN_TRY(codes(s, 2, bn_tensor_2d(BN_T2, out, in)));
    return reals(s, 3, bn_weight_scale_shape(BN_F64, out, in, group));
}

static bn_status bitlinear(bench *b)
{
    static const int64_t shapes[][4] = {
        {2048, 128, 128, 64}, {2048, 384, 128, 64},   {2048, 128, 384, 64},  {2048, 128, 384, -1},
        {2048, 384, 384, 64}, {1024, 1024, 384, 128}, {1024, 1024, 1024, 0}, {2048, 1024, 1024, -1},
        {512, 1536, 4096, 0}, {512, 4096, 1536, 0},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        subject s = {.name = "bitlinear", .kind = "GOPS"};
        bn_status made = make_bitlinear(&s, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
        BN_TRY(measure(b, &s, made, true, 2 * s.work));
    }
    static const int64_t int16_groups[] = {-1, 64};
    for (size_t i = 0; i < sizeof int16_groups / sizeof *int16_groups; i++) {
        subject s = {.name = "bitlinear_int16", .kind = "GOPS"};
        bn_status made = make_bitlinear(&s, 2048, 384, 1024, int16_groups[i]);
        s.spec.params.weight.backward = BN_BACKWARD_INT16;
        BN_TRY(measure(b, &s, made, true, 2 * s.work));
    }
    static const int64_t few[][4] = {{1, 384, 128, 64},
                                     {1, 2560, 2560, 64},
                                     {1, 6912, 2560, 128},
                                     {2, 2560, 2560, 128},
                                     {32, 2560, 2560, 128}};
    for (size_t i = 0; i < sizeof few / sizeof *few; i++) {
        subject s = {.name = "bitlinear_few_rows", .kind = "GOPS"};
        bn_status made = make_bitlinear(&s, few[i][0], few[i][1], few[i][2], few[i][3]);
        BN_TRY(measure(b, &s, made, false, 0));
    }
    return BN_OK;
}

static bn_status make_linear(subject *s, int64_t rows, int64_t out, int64_t in)
{
    snprintf(s->shape, sizeof s->shape, "%lldx%lldx%lld", (long long)rows, (long long)out,
             (long long)in);
    s->spec.op = BN_OP_LINEAR;
    s->work = 2.0 * (double)rows * (double)out * (double)in;
    BN_TRY(reals(s, 0, bn_tensor_2d(BN_F64, rows, in)));
    return reals(s, 1, bn_tensor_2d(BN_F64, out, in));
}

static bn_status linear(bench *b)
{
    static const int64_t shapes[][3] = {
        {2048, 128, 128}, {2048, 384, 128}, {2048, 128, 384}, {1, 4096, 384}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        subject s = {.name = "linear", .kind = "GFLOP/s"};
        bn_status made = make_linear(&s, shapes[i][0], shapes[i][1], shapes[i][2]);
        BN_TRY(measure(b, &s, made, shapes[i][0] > 1, 2 * s.work));
    }
    return BN_OK;
}

/* Ops on rows [2048, cols] with one or two such operands. */
static bn_status on_rows(bench *b, const char *name, bn_op op, bn_op_params params, int64_t cols,
                         int operands, bool both)
{
    enum { ROWS = 2048 };
    subject s = {.name = name, .spec = {.op = op, .params = params}};
    bn_status made = BN_OK;
    snprintf(s.shape, sizeof s.shape, "%dx%lld", ROWS, (long long)cols);
    for (int i = 0; i < operands && made == BN_OK; i++)
        made = reals(&s, i, bn_tensor_2d(BN_F64, ROWS, cols));
    if (op == BN_OP_RMSNORM && made == BN_OK)
        made = reals(&s, 1, bn_tensor_1d(BN_F64, cols));
    return measure(b, &s, made, both, 0);
}

static bn_status rows(bench *b)
{
    const bn_op_params none = {0}, eps = {.rmsnorm.eps = 1e-5};
    const bn_op_params int8 = {.act = {8, BN_PER_ROW}};
    const bn_op_params relu2 = {.glu.activation = BN_ACT_RELU2};
    const bn_op_params silu = {.glu.activation = BN_ACT_SILU};
    for (int64_t cols = 128; cols <= 384; cols += 256) {
        BN_TRY(on_rows(b, "rmsnorm", BN_OP_RMSNORM, eps, cols, 1, true));
        BN_TRY(on_rows(b, "act_quant", BN_OP_ACT_QUANT, int8, cols, 1, false));
        BN_TRY(on_rows(b, "hadamard", BN_OP_HADAMARD, none, cols, 1, true));
    }
    BN_TRY(on_rows(b, "add", BN_OP_ADD, none, 128, 2, false));
    BN_TRY(on_rows(b, "glu_relu2", BN_OP_GLU, relu2, 384, 2, true));
    BN_TRY(on_rows(b, "glu_silu", BN_OP_GLU, silu, 384, 2, true));
    return on_rows(b, "softmax", BN_OP_SOFTMAX, none, 256, 1, true);
}

static bn_status weight_quant(bench *b)
{
    static const int64_t shapes[][3] = {
        {128, 128, 64}, {384, 128, 64}, {1024, 1024, 64}, {1024, 1024, BN_PER_TENSOR}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        subject s = {.name = "weight_quant", .spec.op = BN_OP_WEIGHT_QUANT};
        s.spec.params.weight.group_size = shapes[i][2];
        snprintf(s.shape, sizeof s.shape, "%lldx%lld group %lld", (long long)shapes[i][0],
                 (long long)shapes[i][1], (long long)shapes[i][2]);
        bn_status made = reals(&s, 0, bn_tensor_2d(BN_F64, shapes[i][0], shapes[i][1]));
        BN_TRY(measure(b, &s, made, false, 0));
    }
    return BN_OK;
}

static bn_status make_attention(subject *s, int64_t batch, int64_t time, int64_t heads, int64_t hd)
{
    snprintf(s->shape, sizeof s->shape, "batch %lld, time %lld, %lldx%lld", (long long)batch,
             (long long)time, (long long)heads, (long long)hd);
    s->spec.op = BN_OP_ATTENTION;
    s->spec.params.attention.heads = heads;
    s->spec.params.attention.kv_heads = heads;
    s->work = 2.0 * (double)(batch * heads) * (double)(time * (time + 1)) * (double)hd;
    for (int i = 0; i < 3; i++)
        BN_TRY(reals(s, i, bn_tensor_3d(BN_F64, batch, time, heads * hd)));
    return BN_OK;
}

static bn_status attention(bench *b)
{
    static const int64_t shapes[][4] = {{16, 128, 4, 32}, {8, 256, 6, 64}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        subject s = {.name = "attention", .kind = "GFLOP/s"};
        bn_status made = make_attention(&s, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
        BN_TRY(measure(b, &s, made, true, 2.5 * s.work));
    }
    return BN_OK;
}

static bn_status make_loss(subject *s, int64_t R, int64_t D, int64_t V)
{
    snprintf(s->shape, sizeof s->shape, "%lldx%lld, %lld classes", (long long)R, (long long)D,
             (long long)V);
    s->spec.op = BN_OP_LINEAR_CROSS_ENTROPY;
    s->spec.params.cross_entropy.ignore_index = -100;
    s->spec.params.cross_entropy.chunk_rows = 512;
    s->work = 2.0 * (double)R * (double)D * (double)V;
    BN_TRY(reals(s, 0, bn_tensor_2d(BN_F64, R, D)));
    BN_TRY(reals(s, 1, bn_tensor_2d(BN_F64, V, D)));
    return ids(s, 2, bn_tensor_1d(BN_I32, R), V);
}

static bn_status loss(bench *b)
{
    for (int64_t V = 64; V <= 256; V *= 4) {
        subject s = {.name = "linear_cross_entropy", .kind = "GFLOP/s"};
        bn_status made = make_loss(&s, 2048, 128, V);
        BN_TRY(measure(b, &s, made, true, 3 * s.work));
    }
    return BN_OK;
}

/* ---- routines on flat tensors -------------------------------------------- */

typedef struct flat {
    bn_backend *backend;
    bn_tensor param, grad, m, v, norm;
} flat;

static bn_status adamw(void *arg)
{
    const flat *f = arg;
    const bn_adamw o = {.lr = 1e-3,
                        .beta1 = 0.9,
                        .beta2 = 0.95,
                        .eps = 1e-8,
                        .weight_decay = 0.1,
                        .step = 3,
                        .decay_end = bn_tensor_numel(&f->param),
                        .clip = 1};
    return f->backend->adamw(f->backend, &o, &f->param, &f->grad, &f->m, &f->v, &f->norm);
}

static bn_status norm(void *arg)
{
    const flat *f = arg;
    return f->backend->norm(f->backend, &f->grad, &f->norm);
}

/* `n` parameters on `backend`, all filled the same way. */
static bn_status flat_init(flat *f, bn_backend *backend, int64_t n, bn_buffer *memory)
{
    bn_tensor *all[] = {&f->param, &f->grad, &f->m, &f->v};
    size_t bytes = bn_align_up((size_t)n * sizeof(float), BN_ALIGN);
    *f = (flat){.backend = backend};
    BN_TRY(backend->alloc(backend, 5 * bytes, memory));
    for (size_t i = 0; i < 4; i++) {
        *all[i] = bn_tensor_at(bn_tensor_1d(BN_F32, n), memory, i * bytes);
        float *x = bn_tensor_data(all[i]);
        for (int64_t j = 0; j < n; j++)
            x[j] = 0.001f * (float)((j * 7919 + (int64_t)i) % 1000);
    }
    f->norm = bn_tensor_at(bn_tensor_1d(BN_F32, 1), memory, 4 * bytes);
    return BN_OK;
}

static bn_status routines(bench *b)
{
    enum { N = 1 << 20 };
    static const struct {
        const char *name;
        bench_body body;
        double passes; /* over the flat tensors: reads and writes */
    } subjects[] = {{"norm", norm, 1}, {"adamw", adamw, 7}};
    bn_status status = BN_OK;
    bn_backend *reference = NULL;
    bn_buffer memory[2] = {{0}};
    flat f[2];
    BN_TRY(bn_ref_backend_new(BN_F32, &reference));
    bn_backend *backends[2] = {b->backend, reference};
    for (int i = 0; i < 2; i++)
        BN_TRY_OUT(flat_init(&f[i], backends[i], N, &memory[i]));
    for (int i = 0; i < 2; i++) {
        if (!bench_wants(b, subjects[i].name))
            continue;
        bench_result r = {.name = subjects[i].name,
                          .shape = "1 Mi parameters",
                          .bytes = subjects[i].passes * N * sizeof(float)};
        for (int k = 0; k < 2; k++)
            BN_TRY_OUT(subjects[i].body(&f[k]));
        double of_param = error_of(&f[0].param, &f[1].param), of_norm;
        of_norm = error_of(&f[0].norm, &f[1].norm);
        r.error = of_param > of_norm ? of_param : of_norm;
        if (!(r.error <= tolerance)) {
            status = bn_error(BN_MISMATCH, "%s: error %.2e against the reference, allowed %.0e",
                              r.name, r.error, tolerance);
            goto out;
        }
        BN_TRY_OUT(bench_time(b, subjects[i].body, &f[0], &r));
        bench_report(b, &r);
    }
out:
    for (int i = 0; i < 2; i++)
        if (memory[i].host)
            backends[i]->release(backends[i], &memory[i]);
    bn_backend_free(reference);
    return status;
}

/* ---- trits --------------------------------------------------------------- */

enum { TRITS = 1 << 20, TRIT_BYTES = TRITS / BN_T2_PER_BYTE, BUNDLED = 9 };

typedef struct trits {
    const bn_trit_ops *ops;
    const uint8_t *in[BUNDLED];
    uint8_t *out;
    int64_t number; /* what a run without a vector as its result gives */
} trits;

static bn_status trit_bind(void *arg)
{
    trits *t = arg;
    t->ops->bind(t->in[0], t->in[1], TRITS, t->out);
    return BN_OK;
}

static bn_status trit_bundle(void *arg)
{
    trits *t = arg;
    t->ops->bundle(t->in, BUNDLED, TRITS, t->out);
    return BN_OK;
}

static bn_status trit_dot(void *arg)
{
    trits *t = arg;
    t->number = bn_trit_dot(t->ops, t->in[0], t->in[1], TRITS);
    return BN_OK;
}

static bn_status trit_count(void *arg)
{
    trits *t = arg;
    t->number = t->ops->count(t->in[0], TRITS).zero;
    return BN_OK;
}

static bn_status trit_vectors(bench *b)
{
    static const struct {
        const char *name;
        bench_body body;
        int operands; /* read or written */
    } subjects[] = {{"trit_bind", trit_bind, 3},
                    {"trit_bundle", trit_bundle, BUNDLED + 1},
                    {"trit_dot", trit_dot, 2},
                    {"trit_count", trit_count, 1}};
    bn_status status = BN_OK;
    subject s = {0}; /* its operand holds all vectors */
    uint8_t *results = calloc(2, TRIT_BYTES);
    if (!results)
        return bn_error_nomem("trits", 2 * TRIT_BYTES);
    BN_TRY_OUT(codes(&s, 0, bn_tensor_2d(BN_T2, BUNDLED, TRITS)));
    trits fast = {.ops = bn_cpu_trits(b->backend), .out = results};
    for (int i = 0; i < BUNDLED; i++)
        fast.in[i] = (const uint8_t *)s.owned[0] + i * TRIT_BYTES;
    trits ref = fast;
    ref.ops = &bn_trit_ref;
    ref.out = results + TRIT_BYTES;
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++) {
        bench_result r = {.name = subjects[i].name,
                          .shape = "1 Mi trits",
                          .bytes = (double)subjects[i].operands * TRIT_BYTES};
        if (!bench_wants(b, r.name))
            continue;
        BN_TRY_OUT(subjects[i].body(&fast));
        BN_TRY_OUT(subjects[i].body(&ref));
        if (fast.number != ref.number || memcmp(fast.out, ref.out, TRIT_BYTES) != 0) {
            status = bn_error(BN_MISMATCH, "%s: differs from the reference", r.name);
            goto out;
        }
        BN_TRY_OUT(bench_time(b, subjects[i].body, &fast, &r));
        bench_report(b, &r);
    }
out:
    free(s.owned[0]);
    free(results);
    return status;
}

/* ---- the memory pool ----------------------------------------------------- */

static bn_status take_and_give(void *arg)
{
    void *block;
    for (int i = 0; i < POOL_RUNS; i++) {
        BN_TRY(bn_pool_take(arg, 1024, &block));
        bn_pool_give(arg, block);
    }
    return BN_OK;
}

static bn_status pool(bench *b)
{
    bench_result r = {
        .name = "cached allocation", .shape = "10 x 1 KiB, taken and given", .error = -1};
    bn_pool *pool;
    if (!bench_wants(b, r.name))
        return BN_OK;
    BN_TRY(bn_pool_new(0, &pool));
    bn_status status = bench_time(b, take_and_give, pool, &r);
    bn_pool_free(pool);
    if (status == BN_OK)
        bench_report(b, &r);
    return status;
}

static bn_status all(bench *b)
{
    BN_TRY(bench_limits(b));
    BN_TRY(bitlinear(b));
    BN_TRY(linear(b));
    BN_TRY(rows(b));
    BN_TRY(weight_quant(b));
    BN_TRY(attention(b));
    BN_TRY(loss(b));
    BN_TRY(routines(b));
    BN_TRY(trit_vectors(b));
    return pool(b);
}

int main(int argc, char **argv)
{
    bench b;
    bool done;
    bn_status status = bench_init(&b, argc, argv, &done);
    if (status == BN_OK && !done)
        status = all(&b);
    return bench_finish(&b, status);
}
