/* bench-opencl: the main kernels of an OpenCL device in the shapes of a training
 * step and of larger layers, each next to the same call on the "cpu" backend,
 * against whose results it is verified first. The "limit" lines are what the
 * device reaches at best: bandwidth of a plain addition, rate of a large
 * product. `--device WHICH` chooses as bitnet-train --device opencl:WHICH does;
 * the other options are those of every bench. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/op_instance.h"
#include "base/rng.h"
#include "bench/harness.h"
#include "opencl/opencl.h"

/* Largest difference from the CPU, relative to |cpu| + mean|cpu|. */
static const double tolerance = 1e-4;

typedef struct subject {
    const char *name;
    bn_op_spec spec;
    bool both;                  /* backward too */
    double work, backward_work; /* operations of one run */
    const char *kind;
    char shape[64];
    void *owned[BN_MAX_IN];
} subject;

typedef struct body {
    bn_op_instance op;
    bool backward;
} body;

/* ---- operands ------------------------------------------------------------ */

static bn_status place(subject *s, int i, bn_tensor t, size_t bytes, void **data)
{
    s->spec.in[i] = t;
    s->spec.data[i] = s->owned[i] = *data = malloc(bytes);
    return *data ? BN_OK : bn_error_nomem("bench operand", bytes);
}

static bn_status reals(subject *s, int i, bn_tensor t, double scale)
{
    bn_rng rng = bn_rng_of(1, (uint64_t)i);
    int64_t n = bn_tensor_numel(&t);
    void *data;
    BN_TRY(place(s, i, t, (size_t)n * sizeof(double), &data));
    for (int64_t j = 0; j < n; j++)
        ((double *)data)[j] = scale * bn_rng_normal(&rng);
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

static bn_status labels(subject *s, int i, int64_t n, int64_t below)
{
    void *data;
    BN_TRY(place(s, i, bn_tensor_1d(BN_I32, n), (size_t)n * sizeof(int32_t), &data));
    for (int64_t j = 0; j < n; j++)
        ((int32_t *)data)[j] = (int32_t)(j * 31 % below);
    return BN_OK;
}

/* ---- verification and timing --------------------------------------------- */

static bn_status run(void *arg)
{
    body *b = arg;
    bn_backend *backend = b->op.backend;
    if (b->backward)
        BN_TRY(bn_op_instance_backward(&b->op, bn_op_instance_grads(&b->op), 0));
    else
        BN_TRY(bn_op_instance_forward(&b->op));
    return backend->sync(backend);
}

/* Fills the upstream gradient with numbers of both signs. */
static bn_status fill_gradient(const bn_op_instance *op)
{
    const bn_tensor *t = &op->call.dout;
    if (!bn_tensor_present(t))
        return BN_OK;
    int64_t n = bn_tensor_numel(t);
    float *x = malloc((size_t)n * sizeof *x);
    if (!x)
        return bn_error_nomem("bench gradient", (size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(i % 13 - 5) * 0.1f;
    bn_status status = bn_backend_put_f32(op->backend, t, x, n);
    free(x);
    return status;
}

/* Largest difference between two float tensors of two backends. */
static bn_status compare(bn_backend *device, const bn_tensor *a, bn_backend *cpu,
                         const bn_tensor *b, double *error)
{
    bn_status status = BN_OK;
    if (!bn_tensor_present(a) || a->dtype != BN_F32)
        return BN_OK;
    int64_t n = bn_tensor_numel(a);
    float *x = malloc(2 * (size_t)n * sizeof *x), *y = x + n;
    double mean = 0;
    if (!x)
        return bn_error_nomem("bench results", 2 * (size_t)n * sizeof *x);
    BN_TRY_OUT(bn_backend_get_f32(device, a, x, n));
    BN_TRY_OUT(bn_backend_get_f32(cpu, b, y, n));
    for (int64_t i = 0; i < n; i++)
        mean += fabs((double)y[i]) / (double)n;
    for (int64_t i = 0; i < n; i++) {
        double e = fabs((double)x[i] - (double)y[i]) / (fabs((double)y[i]) + mean + 1e-30);
        if (!(e <= *error))
            *error = e;
    }
out:
    free(x);
    return status;
}

static bn_status verify(const subject *s, body *device, body *cpu, double *error)
{
    body *both[2] = {device, cpu};
    *error = 0;
    for (int i = 0; i < 2; i++) {
        BN_TRY(fill_gradient(&both[i]->op));
        BN_TRY(run(both[i]));
    }
    for (int i = 0; i < BN_MAX_IN; i++) {
        const bn_op_call *a = &device->op.call, *b = &cpu->op.call;
        if (device->backward)
            BN_TRY(compare(device->op.backend, &a->din[i], cpu->op.backend, &b->din[i], error));
        else if (i < BN_MAX_OUT)
            BN_TRY(compare(device->op.backend, &a->out[i], cpu->op.backend, &b->out[i], error));
    }
    if (!(*error <= tolerance))
        return bn_error(BN_MISMATCH, "%s %s: error %.2e against the CPU, allowed %.0e", s->name,
                        s->shape, *error, tolerance);
    return BN_OK;
}

/* Bytes of the operands that one run reads or writes. */
static double bytes_of(const body *b)
{
    const bn_op_call *c = &b->op.call;
    double bytes = b->backward ? (double)bn_tensor_bytes(&c->dout) : 0;
    for (int i = 0; i < BN_MAX_IN; i++) {
        bytes += bn_tensor_present(&c->in[i]) ? (double)bn_tensor_bytes(&c->in[i]) : 0;
        if (b->backward && bn_tensor_present(&c->din[i]))
            bytes += (double)bn_tensor_bytes(&c->din[i]);
    }
    for (int i = 0; i < BN_MAX_OUT && !b->backward; i++)
        bytes += bn_tensor_present(&c->out[i]) ? (double)bn_tensor_bytes(&c->out[i]) : 0;
    return bytes;
}

/* Verifies and times a subject on both backends and frees its operands.
 * `status` is that of making them. */
static bn_status measure(bench *b, bn_backend *device, subject *s, bn_status status)
{
    body bodies[2] = {{.backward = false}, {.backward = false}};
    bn_backend *backends[2] = {device, b->backend};
    if (status != BN_OK || !bench_wants(b, s->name))
        goto out;
    for (int i = 0; i < 2; i++)
        BN_TRY_OUT(bn_op_instance_init(&bodies[i].op, backends[i], &s->spec));
    for (int back = 0; back <= s->both; back++) {
        double error;
        bodies[0].backward = bodies[1].backward = back;
        BN_TRY_OUT(verify(s, &bodies[0], &bodies[1], &error));
        for (int i = 0; i < 2; i++) {
            char name[96];
            snprintf(name, sizeof name, "%s%s %s", s->name, back ? "_backward" : "",
                     backends[i]->name);
            bench_result r = {.name = name,
                              .shape = s->shape,
                              .kind = s->kind,
                              .work = back ? s->backward_work : s->work,
                              .bytes = bytes_of(&bodies[i]),
                              .error = i == 0 ? error : -1};
            BN_TRY_OUT(bench_time(b, run, &bodies[i], &r));
            bench_report(b, &r);
        }
    }
out:
    for (int i = 0; i < 2; i++)
        bn_op_instance_clear(&bodies[i].op);
    for (int i = 0; i < BN_MAX_IN; i++)
        free(s->owned[i]);
    return status;
}

/* ---- subjects ------------------------------------------------------------ */

static bn_status limit_bandwidth(bench *b, bn_backend *device)
{
    subject s = {.name = "limit_add", .spec.op = BN_OP_ADD, .shape = "4096x2048"};
    bn_status made = reals(&s, 0, bn_tensor_2d(BN_F64, 4096, 2048), 1);
    if (made == BN_OK)
        made = reals(&s, 1, bn_tensor_2d(BN_F64, 4096, 2048), 1);
    return measure(b, device, &s, made);
}

static bn_status linear(bench *b, bn_backend *device, const char *name, int64_t R, int64_t O,
                        int64_t I)
{
    double work = 2.0 * (double)R * (double)O * (double)I;
    subject s = {.name = name, .kind = "GFLOP/s", .spec.op = BN_OP_LINEAR, .work = work};
    s.both = R > 1;
    s.backward_work = 2 * work;
    snprintf(s.shape, sizeof s.shape, "%lldx%lldx%lld", (long long)R, (long long)O, (long long)I);
    bn_status made = reals(&s, 0, bn_tensor_2d(BN_F64, R, I), 1);
    if (made == BN_OK)
        made = reals(&s, 1, bn_tensor_2d(BN_F64, O, I), 0.1);
    return measure(b, device, &s, made);
}

static bn_status make_bitlinear(subject *s, int64_t R, int64_t O, int64_t I, int64_t group)
{
    s->spec.params.weight.group_size = group;
    BN_TRY(codes(s, 0, bn_tensor_2d(BN_I8, R, I)));
    BN_TRY(reals(s, 1, bn_tensor_1d(BN_F64, R), 0.01));
    BN_TRY(codes(s, 2, bn_tensor_2d(BN_T2, O, I)));
    return reals(s, 3, bn_weight_scale_shape(BN_F64, O, I, group), 0.05);
}

static bn_status bitlinear(bench *b, bn_backend *device, int64_t R, int64_t O, int64_t I,
                           int64_t group)
{
    double work = 2.0 * (double)R * (double)O * (double)I;
    subject s = {.name = "bitlinear", .kind = "GOPS", .spec.op = BN_OP_BITLINEAR, .work = work};
    s.both = R > 1;
    s.backward_work = 2 * work;
    snprintf(s.shape, sizeof s.shape, "%lldx%lldx%lld group %lld", (long long)R, (long long)O,
             (long long)I, (long long)group);
    return measure(b, device, &s, make_bitlinear(&s, R, O, I, group));
}

static bn_status attention(bench *b, bn_backend *device, int64_t B, int64_t T, int64_t H,
                           int64_t hd)
{
    double work = 2.0 * (double)(B * H) * (double)(T * (T + 1)) * (double)hd;
    subject s = {.name = "attention", .kind = "GFLOP/s", .spec.op = BN_OP_ATTENTION, .work = work};
    bn_status made = BN_OK;
    s.both = true;
    s.backward_work = 2.5 * work;
    s.spec.params.attention.heads = s.spec.params.attention.kv_heads = H;
    snprintf(s.shape, sizeof s.shape, "batch %lld, time %lld, %lldx%lld", (long long)B,
             (long long)T, (long long)H, (long long)hd);
    for (int i = 0; i < 3 && made == BN_OK; i++)
        made = reals(&s, i, bn_tensor_3d(BN_F64, B, T, H * hd), 1);
    return measure(b, device, &s, made);
}

static bn_status head(bench *b, bn_backend *device, int64_t R, int64_t D, int64_t V)
{
    double work = 2.0 * (double)R * (double)D * (double)V;
    subject s = {.name = "linear_cross_entropy",
                 .kind = "GFLOP/s",
                 .spec.op = BN_OP_LINEAR_CROSS_ENTROPY,
                 .work = work};
    s.both = true;
    s.backward_work = 3 * work;
    s.spec.params.cross_entropy.ignore_index = -100;
    s.spec.params.cross_entropy.chunk_rows = 1024;
    snprintf(s.shape, sizeof s.shape, "%lldx%lld, %lld classes", (long long)R, (long long)D,
             (long long)V);
    bn_status made = reals(&s, 0, bn_tensor_2d(BN_F64, R, D), 1);
    if (made == BN_OK)
        made = reals(&s, 1, bn_tensor_2d(BN_F64, V, D), 0.1);
    if (made == BN_OK)
        made = labels(&s, 2, R, V);
    return measure(b, device, &s, made);
}

static const char device_variable[] = "BITNET_BENCH_DEVICE";

static bn_status all(bench *b, bn_backend *device)
{
    BN_TRY(limit_bandwidth(b, device));
    BN_TRY(linear(b, device, "limit_product", 1536, 1536, 1536));
    BN_TRY(linear(b, device, "linear", 2048, 192, 192));
    BN_TRY(linear(b, device, "linear", 2048, 512, 192));
    BN_TRY(linear(b, device, "linear", 1, 8192, 512));
    BN_TRY(bitlinear(b, device, 2048, 192, 192, 64));
    BN_TRY(bitlinear(b, device, 2048, 512, 192, 64));
    BN_TRY(bitlinear(b, device, 2048, 192, 512, 64));
    BN_TRY(bitlinear(b, device, 1024, 1024, 1024, 128));
    BN_TRY(bitlinear(b, device, 1, 2560, 2560, 128));
    BN_TRY(attention(b, device, 16, 128, 6, 32));
    BN_TRY(attention(b, device, 2, 1024, 8, 64));
    return head(b, device, 2048, 192, 256);
}

/* Takes `--device WHICH` out of the arguments and puts it into the environment:
 * the harness may start the program again with what it is given. */
static bn_status take_device(int *argc, char **argv)
{
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], "--device") != 0)
            continue;
        if (i + 1 == *argc)
            return bn_error(BN_USAGE, "--device needs an index or a part of a device's name");
        if (setenv(device_variable, argv[i + 1], 1) != 0)
            return bn_error_nomem("environment", strlen(argv[i + 1]));
        memmove(argv + i, argv + i + 2, (size_t)(*argc - i - 1) * sizeof *argv);
        *argc -= 2;
        return BN_OK;
    }
    return BN_OK;
}

int main(int argc, char **argv)
{
    bench b = {.program = "bench-opencl"};
    bool done = false;
    bn_backend *device = NULL;
    bn_status status = take_device(&argc, argv);
    if (status == BN_OK)
        status = bench_init(&b, argc, argv, &done);
    if (status == BN_OK && !done)
        status = bn_opencl_backend_new(getenv(device_variable), NULL, &device);
    if (status == BN_OK && !done)
        status = all(&b, device);
    bn_backend_free(device);
    return bench_finish(&b, status);
}
