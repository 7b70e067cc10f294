/* Kernel launches checked against kernels.def, and their times. */
#include "opencl/ocl_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

typedef struct kernel_row {
    const char *signature;
    size_t gpu[2];
} kernel_row;

static const kernel_row launch_table[BN_OCL_KERNELS] = {
#define BN_OCL_PROGRAM(...)
#define BN_OCL_KERNEL(ID, PROGRAM, ENTRY, SIGNATURE, GPU_X, GPU_Y)                                 \
    [BN_OCL_K_##ID] = {SIGNATURE, {GPU_X, GPU_Y}},
#include "opencl/kernels.def"
#undef BN_OCL_PROGRAM
#undef BN_OCL_KERNEL
};

/* ---- arguments ------------------------------------------------------------- */

/* Sets one argument of the signature: one or two of the kernel, from *at on. */
static cl_int set_argument(cl_kernel kernel, cl_uint *at, const bn_ocl_arg *arg)
{
    if (arg->kind == 'i')
        return clSetKernelArg(kernel, (*at)++, sizeof arg->value.i, &arg->value.i);
    if (arg->kind == 'l')
        return clSetKernelArg(kernel, (*at)++, sizeof arg->value.l, &arg->value.l);
    if (arg->kind == 'f')
        return clSetKernelArg(kernel, (*at)++, sizeof arg->value.f, &arg->value.f);
    const bn_tensor *t = arg->value.tensor;
    bool absent = !t || !bn_tensor_present(t) || !t->buffer;
    cl_mem memory = absent ? NULL : t->buffer->handle;
    cl_ulong offset = absent ? 0 : t->offset;
    cl_int error = clSetKernelArg(kernel, (*at)++, sizeof memory, absent ? NULL : &memory);
    return error != CL_SUCCESS ? error : clSetKernelArg(kernel, (*at)++, sizeof offset, &offset);
}

static bn_status set_arguments(bn_ocl *ocl, bn_ocl_kernel_id id, cl_kernel kernel, int n_args,
                               const bn_ocl_arg *args)
{
    const char *signature = launch_table[id].signature;
    cl_uint at = 0;
    if ((size_t)n_args != strlen(signature))
        return bn_error(BN_FAIL, "kernel %s: %d arguments, its signature is \"%s\"",
                        bn_ocl_kernel_name(id), n_args, signature);
    for (int i = 0; i < n_args; i++) {
        if (args[i].kind != signature[i])
            return bn_error(BN_FAIL, "kernel %s: argument %d is '%c', its signature is \"%s\"",
                            bn_ocl_kernel_name(id), i, args[i].kind, signature);
        cl_int error = set_argument(kernel, &at, &args[i]);
        if (error != CL_SUCCESS)
            return bn_error(BN_FAIL, "%s: kernel %s, argument %d: %s (%d)", ocl->name,
                            bn_ocl_kernel_name(id), i, bn_ocl_error_name(error), (int)error);
    }
    return BN_OK;
}

/* ---- times ------------------------------------------------------------------ */

enum { TIMINGS = 1024 };

struct bn_ocl_timing {
    cl_event event;
    bn_ocl_kernel_id kernel;
};

bn_status bn_ocl_read_timings(bn_ocl *ocl)
{
    cl_int error = CL_SUCCESS;
    for (int i = 0; i < ocl->n_timings; i++) {
        cl_ulong start = 0, end = 0;
        const bn_ocl_timing *t = &ocl->timings[i];
        cl_int one = clWaitForEvents(1, &t->event);
        if (one == CL_SUCCESS)
            one = clGetEventProfilingInfo(t->event, CL_PROFILING_COMMAND_START, sizeof start,
                                          &start, NULL);
        if (one == CL_SUCCESS)
            one =
                clGetEventProfilingInfo(t->event, CL_PROFILING_COMMAND_END, sizeof end, &end, NULL);
        if (one == CL_SUCCESS)
            ocl->kernels[t->kernel].seconds += 1e-9 * (double)(end - start);
        else
            error = one;
        clReleaseEvent(t->event);
    }
    ocl->n_timings = 0;
    return bn_ocl_check(ocl, error, "clGetEventProfilingInfo");
}

static bn_status keep_event(bn_ocl *ocl, bn_ocl_kernel_id id, cl_event event)
{
    if (!ocl->timings && !(ocl->timings = calloc(TIMINGS, sizeof *ocl->timings))) {
        clReleaseEvent(event);
        return bn_error_nomem("kernel times", TIMINGS * sizeof *ocl->timings);
    }
    ocl->timings[ocl->n_timings++] = (bn_ocl_timing){event, id};
    return ocl->n_timings == TIMINGS ? bn_ocl_read_timings(ocl) : BN_OK;
}

/* ---- launch ------------------------------------------------------------------ */

bn_status bn_ocl_launch(bn_ocl *ocl, bn_ocl_kernel_id id, const int64_t groups[3], int n_args,
                        const bn_ocl_arg *args)
{
    cl_kernel kernel;
    char what[96];
    if (groups[0] == 0 || groups[1] == 0 || groups[2] == 0)
        return BN_OK;
    BN_TRY(bn_ocl_kernel_get(ocl, id, &kernel));
    BN_TRY(set_arguments(ocl, id, kernel, n_args, args));
    size_t local[3] = {1, 1, 1}, global[3];
    for (int i = 0; i < 2 && !ocl->cpu_shape; i++)
        local[i] = launch_table[id].gpu[i];
    for (int i = 0; i < 3; i++)
        global[i] = (size_t)groups[i] * local[i];
    cl_event event = NULL;
    cl_int error = bn_ocl_call_fails(ocl)
                       ? CL_OUT_OF_RESOURCES
                       : clEnqueueNDRangeKernel(ocl->queue, kernel, 3, NULL, global, local, 0, NULL,
                                                ocl->profile ? &event : NULL);
    snprintf(what, sizeof what, "kernel %s", bn_ocl_kernel_name(id));
    BN_TRY(bn_ocl_check(ocl, error, what));
    ocl->stats.launches++;
    ocl->kernels[id].launches++;
    if (event)
        BN_TRY(keep_event(ocl, id, event));
    if (ocl->finish_each)
        return bn_ocl_check(ocl, clFinish(ocl->queue), what);
    return BN_OK;
}

int64_t bn_ocl_flat_groups(const bn_ocl *ocl, int64_t n)
{
    return bn_ceil_div(n, ocl->cpu_shape ? BN_OCL_FLAT_CPU : BN_OCL_FLAT_GPU);
}

/* CPU shape: about 16 K elements per work-item hide the cost of one. */
int64_t bn_ocl_row_groups(const bn_ocl *ocl, int64_t rows, int64_t cols, int64_t *per_item)
{
    *per_item = 1;
    if (ocl->cpu_shape && cols < 4 * BN_OCL_FLAT_CPU)
        *per_item = 4 * BN_OCL_FLAT_CPU / cols;
    return bn_ceil_div(rows, *per_item);
}

/* ---- the profile --------------------------------------------------------------- */

typedef struct profile_line {
    bn_ocl_kernel_id id;
    double seconds;
} profile_line;

static int slower_first(const void *a, const void *b)
{
    double x = ((const profile_line *)a)->seconds, y = ((const profile_line *)b)->seconds;
    return (x < y) - (x > y);
}

bn_status bn_opencl_profile(bn_backend *backend, bn_text *out)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    profile_line lines[BN_OCL_KERNELS];
    double total = 0;
    BN_TRY(backend->sync(backend));
    for (int i = 0; i < BN_OCL_KERNELS; i++) {
        lines[i] = (profile_line){(bn_ocl_kernel_id)i, ocl->kernels[i].seconds};
        total += lines[i].seconds;
    }
    qsort(lines, BN_OCL_KERNELS, sizeof *lines, slower_first);
    for (int i = 0; i < BN_OCL_KERNELS; i++)
        if (ocl->kernels[lines[i].id].launches)
            bn_text_addf(out, "%-32s %8llu launches %10.3f ms %5.1f %%\n",
                         bn_ocl_kernel_name(lines[i].id),
                         (unsigned long long)ocl->kernels[lines[i].id].launches,
                         1e3 * lines[i].seconds, total > 0 ? 100 * lines[i].seconds / total : 0);
    return BN_OK;
}
