/* The OpenCL backend put together. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "opencl/ocl_device.h"
#include "opencl/ocl_impl.h"

static void ocl_free(bn_backend *backend)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    if (ocl->queue) {
        clFinish(ocl->queue); /* an error here was or will be reported by who waits for results */
        if (bn_ocl_read_timings(ocl) != BN_OK)
            bn_error_clear();
        bn_ocl_programs_save(ocl);
    }
    bn_ocl_programs_free(ocl);
    bn_ocl_memory_free(ocl);
    if (ocl->queue)
        clReleaseCommandQueue(ocl->queue);
    if (ocl->context)
        clReleaseContext(ocl->context);
    free(ocl->timings);
    free(ocl->cache_dir);
    free(ocl);
}

/* ---- options ------------------------------------------------------------------- */

/* The folder of compiled programs; *out stays NULL for none. */
static bn_status choose_cache(const char *wanted, char **out)
{
    const char *named = getenv("BITNET_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    if (wanted || named) {
        const char *dir = wanted ? wanted : named;
        return *dir && !(*out = bn_strdup(dir)) ? BN_FAIL : BN_OK;
    }
    if (xdg && *xdg)
        *out = bn_path_join(xdg, "bitnet-qat");
    else if (home && *home)
        *out = bn_path_join(home, ".cache/bitnet-qat");
    else
        return BN_OK;
    return *out ? BN_OK : BN_FAIL;
}

static bn_status choose_shape(bn_ocl *ocl, const char *wanted)
{
    const char *shape = wanted ? wanted : getenv("BITNET_OPENCL_SHAPE");
    if (!shape || !*shape) {
        ocl->cpu_shape = ocl->device.type == BN_OPENCL_CPU;
        return BN_OK;
    }
    ocl->cpu_shape = strcmp(shape, "cpu") == 0;
    if (!ocl->cpu_shape && strcmp(shape, "gpu") != 0)
        return bn_error(BN_USAGE, "opencl: kernel shape '%s', expected cpu or gpu", shape);
    return BN_OK;
}

/* PoCL has its own cache of kernels on disk, and asked for a binary it compiles
 * every kernel of the program, the other shape's included: half of a first start. */
static bool keeps_programs(const bn_ocl *ocl, const bn_opencl_options *options)
{
    return ocl->cache_dir && (options->cache_dir || ocl->device.vendor != BN_OPENCL_POCL);
}

/* Whether the compiler takes what an extension promises: some list one that
 * their OpenCL C 1.2 does not know. */
static bool compiles(const bn_ocl *ocl, const char *text)
{
    cl_program program = clCreateProgramWithSource(ocl->context, 1, &text, NULL, NULL);
    if (!program)
        return false;
    cl_int error = clBuildProgram(program, 1, &ocl->id, "-cl-std=CL1.2", NULL, NULL);
    clReleaseProgram(program);
    return error == CL_SUCCESS;
}

static bool environment_is(const char *name, const char *value)
{
    const char *text = getenv(name);
    return text && strcmp(text, value) == 0;
}

/* ---- context --------------------------------------------------------------------- */

static bn_status open_queue(bn_ocl *ocl, cl_platform_id platform)
{
    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM,
                                                (cl_context_properties)platform, 0};
    cl_int error = CL_OUT_OF_RESOURCES;
    if (!bn_ocl_call_fails(ocl))
        ocl->context = clCreateContext(properties, 1, &ocl->id, NULL, NULL, &error);
    BN_TRY(bn_ocl_check(ocl, error, "clCreateContext"));
    error = CL_OUT_OF_RESOURCES;
    if (!bn_ocl_call_fails(ocl))
        ocl->queue = clCreateCommandQueue(ocl->context, ocl->id,
                                          ocl->profile ? CL_QUEUE_PROFILING_ENABLE : 0, &error);
    return bn_ocl_check(ocl, error, "clCreateCommandQueue");
}

void bn_ocl_set_row(bn_backend *backend, bn_op op, bn_kernel forward, bn_kernel backward)
{
    const char *variant = bn_ocl_of(backend)->cpu_shape ? "opencl-cpu" : "opencl-gpu";
    bn_kernel_row *row = &backend->rows[op];
    row->forward = forward;
    row->backward = backward;
    row->forward_variant = forward ? variant : NULL;
    row->backward_variant = backward ? variant : NULL;
}

static void fill_rows(bn_backend *backend)
{
    bn_ocl_rows_elementwise(backend);
    bn_ocl_rows_norm(backend);
    bn_ocl_rows_quant(backend);
    bn_ocl_rows_movement(backend);
    bn_ocl_routines(backend);
    bn_ocl_rows_gemm(backend);
    bn_ocl_rows_bitlinear(backend);
    bn_ocl_rows_head(backend);
    bn_ocl_rows_attention(backend);
}

static bn_status open_device(bn_ocl *ocl, const bn_ocl_device *device,
                             const bn_opencl_options *options)
{
    ocl->device = device->info;
    ocl->device.fp64 = device->info.fp64 && !options->without_fp64;
    if (options->memory_limit && options->memory_limit < ocl->device.global_bytes)
        ocl->device.global_bytes = options->memory_limit;
    ocl->id = device->id;
    ocl->profile = options->profile;
    ocl->finish_each = options->finish_each || environment_is("BITNET_OPENCL_SYNC", "1");
    ocl->fail_call = options->fail_call;
    BN_TRY(choose_shape(ocl, options->shape));
    BN_TRY(choose_cache(options->cache_dir, &ocl->cache_dir));
    ocl->keeps_programs = keeps_programs(ocl, options);
    BN_TRY(open_queue(ocl, device->platform));
    ocl->device.int_dot =
        device->info.int_dot &&
        compiles(ocl, "kernel void f(global int *x) { *x = dot_4x8packed_ss_int(*x, *x); }");
    ocl->backend.name = ocl->name;
    ocl->backend.real = BN_F32;
    ocl->backend.backwards = 1u << BN_BACKWARD_FLOAT32 | 1u << BN_BACKWARD_BF16;
    ocl->backend.scale_rules = 1u << BN_SCALE_MEAN | 1u << BN_SCALE_LEARNED;
    ocl->backend.free = ocl_free;
    bn_ocl_memory_functions(&ocl->backend);
    BN_TRY(bn_ocl_memory_init(ocl));
    fill_rows(&ocl->backend);
    return BN_OK;
}

bn_status bn_opencl_backend_new(const char *which, const bn_opencl_options *options,
                                bn_backend **out)
{
    const bn_opencl_options defaults = {0};
    bn_ocl_found found = {0};
    bn_status status = BN_OK;
    int index;
    *out = NULL;
    bn_ocl *ocl = calloc(1, sizeof *ocl);
    if (!ocl)
        return bn_error_nomem("opencl backend", sizeof *ocl);
    ocl->backend.impl = ocl;
    BN_TRY_OUT(bn_ocl_find(&found));
    BN_TRY_OUT(bn_ocl_choose(which, &found, &index));
    snprintf(ocl->name, sizeof ocl->name, "opencl:%d", index);
    BN_TRY_OUT(open_device(ocl, &found.items[index], options ? options : &defaults));
    BN_TRY_OUT(bn_ocl_paths_init(ocl, options ? options : &defaults, strchr(ocl->name, ':') + 1));
    BN_TRY_OUT(bn_ocl_choices_init(ocl));
    *out = &ocl->backend;
out:
    bn_ocl_found_clear(&found);
    if (status != BN_OK)
        ocl_free(&ocl->backend);
    return status;
}

/* ---- questions ---------------------------------------------------------------------- */

const bn_opencl_device *bn_opencl_device_of(const bn_backend *backend)
{
    return backend->free == ocl_free ? &bn_ocl_of(backend)->device : NULL;
}

bn_opencl_stats bn_opencl_stats_of(const bn_backend *backend)
{
    return bn_ocl_of(backend)->stats;
}

const char *bn_opencl_shape(const bn_backend *backend)
{
    return bn_ocl_of(backend)->cpu_shape ? "cpu" : "gpu";
}
