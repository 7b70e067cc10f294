/* Hardware paths: what a device claims, what compiles, and what gives the right
 * results.
 *
 * A claimed path is tried on a backend of its own, whose context may be lost in
 * the attempt: one BITLINEAR with edges everywhere, once by the generic kernels
 * and once by the path. Numbers are chosen so that no sum is rounded: then results
 * are equal whatever the order of a sum.
 */
#include "opencl/ocl_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

static const char *const path_names[BN_OPENCL_PATHS] = {
    [BN_OPENCL_DOT] = "integer dot product",
    [BN_OPENCL_MMA_S8] = "int8 tensor cores",
    [BN_OPENCL_MMA_BF16] = "bf16 tensor cores",
};

/* Bits of the paths that the device should be able to run. mma.sync with these
 * operands came with compute capability 8.0, dp4a with 6.1. */
static unsigned claimed(const bn_ocl *ocl)
{
    enum { DP4A = 61, MMA = 80 };
    const unsigned dot = 1u << BN_OPENCL_DOT;
    const unsigned mma = 1u << BN_OPENCL_MMA_S8 | 1u << BN_OPENCL_MMA_BF16;
    const bn_opencl_device *d = &ocl->device;
    if (ocl->cpu_shape)
        return 0;
    return (d->capability >= DP4A || (d->vendor != BN_OPENCL_NVIDIA && d->int_dot) ? dot : 0) |
           (d->capability >= MMA || ocl->mma > 1 ? mma : 0);
}

/* ---- the self-test ------------------------------------------------------------------ */

enum { ROWS = 150, OUT = 139, IN = 420, GROUP = 64, GROUPS = (IN + GROUP - 1) / GROUP };

typedef struct operands {
    int8_t x[ROWS * IN];
    uint8_t w[OUT * (IN / 4)];
    float step[ROWS], scale[OUT * GROUPS], dy[ROWS * OUT];
} operands;

static void make(operands *o)
{
    for (int i = 0; i < ROWS * IN; i++)
        o->x[i] = (int8_t)(i * 37 % 255 - 127);
    for (size_t i = 0; i < sizeof o->w; i++) {
        const unsigned byte = (unsigned)(i * 89 % 251);
        o->w[i] = (uint8_t)(byte & ~((byte & byte >> 1 & 0x55u) << 1)); /* no field 3 */
    }
    for (int i = 0; i < ROWS; i++)
        o->step[i] = i % 3 ? 0.5f : 0.25f;
    for (int i = 0; i < OUT * GROUPS; i++)
        o->scale[i] = i % 5 ? 0.5f : 0.25f;
    for (int i = 0; i < ROWS * OUT; i++)
        o->dy[i] = (float)(i * 7 % 17 - 8);
}

static void place(bn_tensor *t, bn_tensor shape, const bn_buffer *memory, size_t *end)
{
    *t = bn_tensor_at(shape, memory, *end);
    *end = bn_align_up(*end + bn_tensor_bytes(&shape), BN_ALIGN);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Gives the call's operands their places in memory; returns the bytes. */
static size_t lay_out(bn_ocl *ocl, bn_op_call *c, const bn_buffer *memory)
{
    const bn_kernel_row *row = &ocl->backend.rows[BN_OP_BITLINEAR];
    size_t end = 0;
    place(&c->in[0], bn_tensor_2d(BN_I8, ROWS, IN), memory, &end);
    place(&c->in[1], bn_tensor_1d(BN_F32, ROWS), memory, &end);
    place(&c->in[2], bn_tensor_2d(BN_T2, OUT, IN), memory, &end);
    place(&c->in[3], bn_tensor_2d(BN_F32, OUT, GROUPS), memory, &end);
    place(&c->out[0], bn_tensor_2d(BN_F32, ROWS, OUT), memory, &end);
    place(&c->dout, c->out[0], memory, &end);
    place(&c->din[0], bn_tensor_2d(BN_F32, ROWS, IN), memory, &end);
    place(&c->din[2], bn_tensor_2d(BN_F32, OUT, IN), memory, &end);
    size_t scratch = 1;
    for (int special = 0; special < 2; special++) {
        ocl->paths = special ? ~0u : 0;
        scratch = larger(scratch, row->forward_scratch(&ocl->backend, c));
        scratch = larger(scratch, row->backward_scratch(&ocl->backend, c));
    }
    place(&c->scratch, bn_tensor_1d(BN_U8, (int64_t)scratch), memory, &end);
    return end;
}

enum { RESULT = ROWS * OUT + ROWS * IN + OUT * IN }; /* y, dx, dw */

/* One forward and backward run with `paths`; results are downloaded. */
static bn_status run(bn_ocl *ocl, const bn_op_call *c, unsigned paths, float *result)
{
    bn_backend *be = &ocl->backend;
    const bn_tensor *from[] = {&c->out[0], &c->din[0], &c->din[2]};
    ocl->paths = paths;
    BN_TRY(bn_backend_forward(be, c));
    BN_TRY(bn_backend_backward(be, c));
    for (int i = 0; i < 3; i++) {
        BN_TRY(be->download(be, from[i], result));
        result += bn_tensor_numel(from[i]);
    }
    return be->sync(be);
}

/* BN_MISMATCH where results differ, else what the driver says. */
static bn_status compare(bn_ocl *probe, const bn_op_call *c, bn_opencl_path path, float *results)
{
    float *generic = results, *special = results + RESULT;
    BN_TRY(run(probe, c, 0, generic));
    BN_TRY(run(probe, c, 1u << path, special));
    for (int i = 0; i < RESULT; i++)
        if (!(generic[i] == special[i]))
            return bn_error(BN_MISMATCH, "self-test: element %d is %g, the generic kernels give %g",
                            i, (double)special[i], (double)generic[i]);
    return BN_OK;
}

static bn_status try_path(bn_ocl *probe, bn_opencl_path path)
{
    bn_backend *be = &probe->backend;
    const bn_op_params params = {.weight = {.group_size = GROUP,
                                            .backward = path == BN_OPENCL_MMA_BF16
                                                            ? BN_BACKWARD_BF16
                                                            : BN_BACKWARD_FLOAT32}};
    bn_op_call c = {.op = BN_OP_BITLINEAR, .params = &params};
    bn_buffer memory = {0};
    bn_status status = BN_OK;
    operands *o = malloc(sizeof *o);
    float *results = malloc(2 * RESULT * sizeof *results);
    if (!o || !results) {
        status = bn_error_nomem("a self-test", sizeof *o + 2 * RESULT * sizeof *results);
        goto out;
    }
    make(o);
    BN_TRY_OUT(be->alloc(be, lay_out(probe, &c, &memory), &memory));
    lay_out(probe, &c, &memory);
    BN_TRY_OUT(be->upload(be, &c.in[0], o->x));
    BN_TRY_OUT(be->upload(be, &c.in[1], o->step));
    BN_TRY_OUT(be->upload(be, &c.in[2], o->w));
    BN_TRY_OUT(be->upload(be, &c.in[3], o->scale));
    BN_TRY_OUT(be->upload(be, &c.dout, o->dy));
    status = compare(probe, &c, path, results);
out:
    be->release(be, &memory);
    free(o);
    free(results);
    return status;
}

/* Tests one claimed path; a failure is kept as the reason why it is not used. */
static void check(bn_ocl *ocl, const bn_opencl_options *options, const char *name,
                  bn_opencl_path path)
{
    bn_opencl_options unchecked = *options;
    bn_backend *probe = NULL;
    unchecked.paths = BN_OPENCL_PATHS_UNCHECKED;
    unchecked.cache_dir = ocl->cache_dir ? ocl->cache_dir : "";
    unchecked.shape = "gpu";
    unchecked.fail_call = 0;
    bn_status status = bn_opencl_backend_new(name, &unchecked, &probe);
    if (status == BN_OK)
        status = try_path(bn_ocl_of(probe), path);
    if (status == BN_OK)
        ocl->paths |= 1u << path;
    else
        snprintf(ocl->why_not[path], sizeof ocl->why_not[path], "%s: %.*s", path_names[path],
                 (int)sizeof ocl->why_not[path] - 32, bn_error_text());
    bn_error_clear();
    bn_backend_free(probe);
}

bn_status bn_ocl_paths_init(bn_ocl *ocl, const bn_opencl_options *options, const char *name)
{
    const char *wanted = getenv("BITNET_OPENCL_PATHS");
    const bool none = wanted && strcmp(wanted, "generic") == 0;
    if (wanted && *wanted && !none)
        return bn_error(BN_USAGE, "BITNET_OPENCL_PATHS is '%s', expected generic or nothing",
                        wanted);
    ocl->mma = options->emulation ? 1 + (int)options->emulation : ocl->device.capability >= 80;
    const unsigned all = claimed(ocl);
    if (options->paths == BN_OPENCL_PATHS_UNCHECKED)
        ocl->paths = all;
    if (options->paths != BN_OPENCL_PATHS_TESTED || none)
        return BN_OK;
    for (int i = 0; i < BN_OPENCL_PATHS; i++)
        if (all >> i & 1u)
            check(ocl, options, name, (bn_opencl_path)i);
    return BN_OK;
}

bool bn_opencl_path_used(const bn_backend *backend, bn_opencl_path path, const char **why)
{
    const bn_ocl *ocl = bn_ocl_of(backend);
    if (why)
        *why = ocl->why_not[path];
    return bn_ocl_uses(ocl, path);
}
