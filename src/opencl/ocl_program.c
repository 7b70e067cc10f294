/* Programs: built when first needed, from the cache on disk where it has them
 * (ocl_cache.c). Any doubt about a file means a build from source.
 *
 * A binary is written after the first wait for results, not after the build:
 * PoCL compiles a kernel when it is launched first, and its binary then holds
 * that too. `kernels` in the header says which kernels that were, so a run that
 * launches others writes the file again.
 */
#include "opencl/ocl_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct program_row {
    const char *source, *options;
} program_row;

static const program_row programs[BN_OCL_PROGRAMS] = {
#define BN_OCL_PROGRAM(ID, SOURCE, OPTIONS) [BN_OCL_P_##ID] = {SOURCE, OPTIONS},
#define BN_OCL_KERNEL(...)
#include "opencl/kernels.def"
#undef BN_OCL_PROGRAM
#undef BN_OCL_KERNEL
};

typedef struct kernel_row {
    bn_ocl_program_id program;
    const char *entry;
} kernel_row;

static const kernel_row kernels[BN_OCL_KERNELS] = {
#define BN_OCL_PROGRAM(...)
#define BN_OCL_KERNEL(ID, PROGRAM, ENTRY, ...) [BN_OCL_K_##ID] = {BN_OCL_P_##PROGRAM, ENTRY},
#include "opencl/kernels.def"
#undef BN_OCL_PROGRAM
#undef BN_OCL_KERNEL
};

const char *bn_ocl_kernel_name(bn_ocl_kernel_id id)
{
    return kernels[id].entry;
}

/* The kernel's bit in its program's masks. */
static uint64_t kernel_bit(bn_ocl_kernel_id id)
{
    int place = 0;
    for (int i = 0; i < (int)id; i++)
        place += kernels[i].program == kernels[id].program;
    return UINT64_C(1) << (place & 63);
}

/* ---- what a program is made from ---------------------------------------------- */

static const char *source_text(const char *name)
{
    for (const bn_ocl_source *s = bn_ocl_sources; s->name; s++)
        if (strcmp(s->name, name) == 0)
            return s->text;
    return NULL;
}

static char *options_of(const bn_ocl *ocl, bn_ocl_program_id id)
{
    return bn_format("-cl-std=CL1.2 -w %s-DBN_CPU=%d -DBN_FP64=%d -DBN_NVIDIA=%d -DBN_MMA=%d "
                     "-DBN_GROUP=%d -DBN_FLAT=%d %s",
                     ocl->device.exact_divide ? "-cl-fp32-correctly-rounded-divide-sqrt " : "",
                     ocl->cpu_shape, ocl->device.fp64, ocl->device.vendor == BN_OPENCL_NVIDIA,
                     ocl->mma, BN_OCL_ROW_GROUP, ocl->cpu_shape ? BN_OCL_FLAT_CPU : BN_OCL_FLAT_GPU,
                     programs[id].options);
}

/* Path of the program's file; NULL with the error set when out of memory. */
static char *cache_path(const bn_ocl *ocl, bn_ocl_program_id id, const char *options)
{
    const char *const texts[] = {source_text("prelude"), source_text(programs[id].source), options};
    return bn_ocl_cache_path(ocl, texts, 3, ".bin");
}

/* ---- the cache file: this, then the binary ---------------------------------------- */

typedef struct binary_header {
    uint64_t kernels; /* launched before it was saved */
} binary_header;

/* The program from `path`, built; NULL if the file is absent or not to be
 * trusted. */
static cl_program load(bn_ocl *ocl, const char *path, const char *options, uint64_t *launched)
{
    cl_program program = NULL;
    binary_header h = {0};
    size_t size;
    cl_int error = CL_INVALID_BINARY, one = CL_INVALID_BINARY;
    char *data = bn_ocl_cache_read(ocl, path, &size);
    if (!data)
        return NULL;
    if (size > sizeof h && !bn_ocl_call_fails(ocl)) {
        const unsigned char *binary = (const unsigned char *)data + sizeof h;
        const size_t length = size - sizeof h;
        memcpy(&h, data, sizeof h);
        program =
            clCreateProgramWithBinary(ocl->context, 1, &ocl->id, &length, &binary, &one, &error);
    }
    if (error == CL_SUCCESS)
        error = clBuildProgram(program, 1, &ocl->id, options, NULL, NULL);
    if (error == CL_SUCCESS)
        *launched = h.kernels;
    free(data);
    if (error != CL_SUCCESS) {
        if (program)
            clReleaseProgram(program);
        program = NULL;
        ocl->stats.cache_errors++;
    }
    return program;
}

/* Header and binary, malloc'd; NULL if the driver gives none. */
static char *binary_of(cl_program program, uint64_t launched, size_t *bytes)
{
    size_t size = 0;
    const binary_header h = {.kernels = launched};
    if (clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof size, &size, NULL) !=
            CL_SUCCESS ||
        size == 0)
        return NULL;
    char *data = malloc(sizeof h + size);
    if (!data)
        return NULL;
    unsigned char *binary = (unsigned char *)data + sizeof h;
    if (clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) !=
        CL_SUCCESS) {
        free(data);
        return NULL;
    }
    memcpy(data, &h, sizeof h);
    *bytes = sizeof h + size;
    return data;
}

static void save(bn_ocl *ocl, bn_ocl_program_id id)
{
    bn_ocl_program *p = &ocl->programs[id];
    size_t bytes = 0;
    char *options = options_of(ocl, id), *path = NULL, *data = NULL;
    if (options && (path = cache_path(ocl, id, options)) &&
        (data = binary_of(p->handle, p->launched | p->saved, &bytes)) &&
        bn_ocl_cache_write(ocl, path, data, bytes) == BN_OK) {
        p->saved |= p->launched;
    } else {
        p->saved = UINT64_MAX; /* do not try again */
        bn_error_clear();
    }
    free(options);
    free(path);
    free(data);
}

void bn_ocl_programs_save(bn_ocl *ocl)
{
    if (!ocl->keeps_programs)
        return;
    for (int i = 0; i < BN_OCL_PROGRAMS; i++)
        if (ocl->programs[i].handle && (ocl->programs[i].launched & ~ocl->programs[i].saved))
            save(ocl, (bn_ocl_program_id)i);
}

/* ---- building ---------------------------------------------------------------------- */

/* The error of a failed build, with the start of the compiler's log. */
static bn_status build_error(const bn_ocl *ocl, bn_ocl_program_id id, cl_program program,
                             cl_int error)
{
    enum { LOG = 2048 };
    size_t size = 0;
    char *log = NULL;
    clGetProgramBuildInfo(program, ocl->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &size);
    log = calloc(1, size + 1);
    if (log)
        clGetProgramBuildInfo(program, ocl->id, CL_PROGRAM_BUILD_LOG, size, log, NULL);
    bn_status status = bn_error(
        BN_NO_DEVICE, "%s (%s): building %s.cl: %s (%d); log: %.*s", ocl->name, ocl->device.name,
        programs[id].source, bn_ocl_error_name(error), (int)error, LOG, log && *log ? log : "none");
    free(log);
    return status;
}

static bn_status build(bn_ocl *ocl, bn_ocl_program_id id, const char *options, cl_program *out)
{
    const char *texts[2] = {source_text("prelude"), source_text(programs[id].source)};
    if (!texts[0] || !texts[1])
        return bn_error(BN_FAIL, "opencl: no source %s.cl in this build", programs[id].source);
    cl_int error = CL_OUT_OF_RESOURCES;
    cl_program program = NULL;
    if (!bn_ocl_call_fails(ocl))
        program = clCreateProgramWithSource(ocl->context, 2, texts, NULL, &error);
    BN_TRY(bn_ocl_check(ocl, error, "clCreateProgramWithSource"));
    error = clBuildProgram(program, 1, &ocl->id, options, NULL, NULL);
    if (error != CL_SUCCESS) {
        bn_status status = build_error(ocl, id, program, error);
        clReleaseProgram(program);
        return status;
    }
    *out = program;
    return BN_OK;
}

static bn_status program_get(bn_ocl *ocl, bn_ocl_program_id id)
{
    bn_ocl_program *p = &ocl->programs[id];
    bn_status status = BN_OK;
    if (p->handle)
        return BN_OK;
    char *path = NULL, *options = options_of(ocl, id);
    if (!options)
        return BN_FAIL;
    if (ocl->keeps_programs) {
        path = cache_path(ocl, id, options);
        if (!path) {
            status = BN_FAIL;
            goto out;
        }
        p->handle = load(ocl, path, options, &p->saved);
    }
    if (p->handle) {
        ocl->stats.cached++;
    } else {
        BN_TRY_OUT(build(ocl, id, options, &p->handle));
        ocl->stats.built++;
    }
out:
    free(path);
    free(options);
    return status;
}

bn_status bn_ocl_kernel_get(bn_ocl *ocl, bn_ocl_kernel_id id, cl_kernel *out)
{
    bn_ocl_kernel_state *k = &ocl->kernels[id];
    if (!k->handle) {
        char what[96];
        cl_int error = CL_OUT_OF_RESOURCES;
        bn_ocl_program *p = &ocl->programs[kernels[id].program];
        BN_TRY(program_get(ocl, kernels[id].program));
        if (!bn_ocl_call_fails(ocl))
            k->handle = clCreateKernel(p->handle, kernels[id].entry, &error);
        snprintf(what, sizeof what, "clCreateKernel %s", kernels[id].entry);
        BN_TRY(bn_ocl_check(ocl, error, what));
        p->launched |= kernel_bit(id);
    }
    *out = k->handle;
    return BN_OK;
}

void bn_ocl_programs_free(bn_ocl *ocl)
{
    for (int i = 0; i < BN_OCL_KERNELS; i++)
        if (ocl->kernels[i].handle)
            clReleaseKernel(ocl->kernels[i].handle);
    for (int i = 0; i < BN_OCL_PROGRAMS; i++)
        if (ocl->programs[i].handle)
            clReleaseProgram(ocl->programs[i].handle);
}
