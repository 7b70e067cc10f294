/* Programs: built when first needed, from the cache on disk where it has them.
 *
 * A cache file is a header, then the device's binary. Its name is the SHA-256
 * of everything the binary depends on (sources, options, device, driver), so a
 * file is right or absent; the header catches what is torn or damaged. Any
 * doubt means a build from source. The cache is a convenience: no failure to
 * write or read it ends a run.
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
#include <unistd.h>

#include "base/fs.h"
#include "base/sha256.h"

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
    return bn_format("-cl-std=CL1.2 -w %s-DBN_CPU=%d -DBN_FP64=%d -DBN_NVIDIA=%d -DBN_INT_DOT=%d "
                     "-DBN_GROUP=%d -DBN_FLAT=%d %s",
                     ocl->device.exact_divide ? "-cl-fp32-correctly-rounded-divide-sqrt " : "",
                     ocl->cpu_shape, ocl->device.fp64, ocl->device.vendor == BN_OPENCL_NVIDIA,
                     ocl->device.int_dot, BN_OCL_ROW_GROUP,
                     ocl->cpu_shape ? BN_OCL_FLAT_CPU : BN_OCL_FLAT_GPU, programs[id].options);
}

static void hash_text(bn_sha256 *sha, const char *text)
{
    bn_sha256_add(sha, text, strlen(text) + 1);
}

/* Path of the program's file; NULL with the error set when out of memory. */
static char *cache_path(const bn_ocl *ocl, bn_ocl_program_id id, const char *options)
{
    const bn_opencl_device *d = &ocl->device;
    uint8_t digest[BN_SHA256_BYTES];
    char name[BN_SHA256_TEXT + 8];
    bn_sha256 sha;
    bn_sha256_init(&sha);
    hash_text(&sha, source_text("prelude"));
    hash_text(&sha, source_text(programs[id].source));
    hash_text(&sha, options);
    hash_text(&sha, d->name);
    hash_text(&sha, d->platform);
    hash_text(&sha, d->version);
    hash_text(&sha, d->driver);
    bn_sha256_end(&sha, digest);
    bn_sha256_text(digest, name);
    strcat(name, ".bin");
    return bn_path_join(ocl->cache_dir, name);
}

/* ---- the cache file -------------------------------------------------------------- */

static const char magic[8] = {'b', 'n', 'o', 'c', 'l', '0', '0', '1'};
enum { MAX_BINARY = 256 << 20 };

typedef struct cache_header {
    char magic[8];
    uint64_t size;    /* of the binary */
    uint64_t kernels; /* launched before it was saved */
    uint8_t digest[BN_SHA256_BYTES];
} cache_header;

static void digest_of(const cache_header *h, const void *binary, uint8_t digest[BN_SHA256_BYTES])
{
    bn_sha256 sha;
    bn_sha256_init(&sha);
    bn_sha256_add(&sha, &h->size, sizeof h->size);
    bn_sha256_add(&sha, &h->kernels, sizeof h->kernels);
    bn_sha256_add(&sha, binary, h->size);
    bn_sha256_end(&sha, digest);
}

/* The program from `path`, built; NULL if the file is absent or not to be
 * trusted. */
static cl_program load(bn_ocl *ocl, const char *path, const char *options, uint64_t *launched)
{
    cl_program program = NULL;
    cache_header h;
    uint8_t digest[BN_SHA256_BYTES];
    char *data = NULL;
    size_t size;
    cl_int error = CL_INVALID_BINARY, one = CL_INVALID_BINARY;
    if (!bn_fs_exists(path))
        return NULL;
    if (bn_fs_read(path, MAX_BINARY, &data, &size) != BN_OK)
        goto out;
    if (size < sizeof h)
        goto out;
    memcpy(&h, data, sizeof h);
    if (memcmp(h.magic, magic, sizeof magic) != 0 || h.size != size - sizeof h)
        goto out;
    const unsigned char *binary = (const unsigned char *)data + sizeof h;
    const size_t length = h.size;
    digest_of(&h, binary, digest);
    if (memcmp(digest, h.digest, sizeof digest) != 0)
        goto out;
    if (!bn_ocl_call_fails(ocl))
        program =
            clCreateProgramWithBinary(ocl->context, 1, &ocl->id, &length, &binary, &one, &error);
    if (error == CL_SUCCESS)
        error = clBuildProgram(program, 1, &ocl->id, options, NULL, NULL);
    if (error == CL_SUCCESS)
        *launched = h.kernels;
out:
    free(data);
    if (error != CL_SUCCESS) {
        if (program)
            clReleaseProgram(program);
        program = NULL;
        ocl->stats.cache_errors++;
        bn_error_clear();
    }
    return program;
}

/* The binary behind a header, malloc'd; NULL if the driver gives none. */
static char *binary_of(cl_program program, uint64_t launched, size_t *bytes)
{
    size_t size = 0;
    cache_header h = {.kernels = launched};
    if (clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof size, &size, NULL) !=
            CL_SUCCESS ||
        size == 0 || size > MAX_BINARY)
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
    memcpy(h.magic, magic, sizeof magic);
    h.size = size;
    digest_of(&h, binary, h.digest);
    memcpy(data, &h, sizeof h);
    *bytes = sizeof h + size;
    return data;
}

/* A name of this process for the temporary file, then rename: another process
 * may be writing the same program. */
static bool store(const char *dir, const char *path, const char *data, size_t bytes)
{
    char *temp = bn_format("%s.%ld", path, (long)getpid());
    bn_file *file = NULL;
    bn_status status = temp ? bn_fs_mkdirs(dir) : BN_FAIL;
    if (status == BN_OK)
        status = bn_file_create(temp, &file);
    if (status == BN_OK) {
        status = bn_file_write(file, data, bytes);
        bn_status closed = bn_file_close(file);
        status = status == BN_OK ? closed : status;
        if (status == BN_OK)
            status = bn_fs_commit(temp, path);
        else if (bn_fs_remove(temp) != BN_OK)
            status = BN_IO;
    }
    if (status != BN_OK)
        bn_error_clear();
    free(temp);
    return status == BN_OK;
}

static void save(bn_ocl *ocl, bn_ocl_program_id id)
{
    bn_ocl_program *p = &ocl->programs[id];
    size_t bytes = 0;
    char *options = options_of(ocl, id), *path = NULL, *data = NULL;
    if (options && (path = cache_path(ocl, id, options)) &&
        (data = binary_of(p->handle, p->launched | p->saved, &bytes)) &&
        store(ocl->cache_dir, path, data, bytes)) {
        p->saved |= p->launched;
    } else {
        ocl->stats.cache_errors++;
        p->saved = UINT64_MAX; /* do not try again */
        bn_error_clear();
    }
    free(options);
    free(path);
    free(data);
}

void bn_ocl_programs_save(bn_ocl *ocl)
{
    if (!ocl->cache_dir)
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
    bn_status status = bn_error(BN_FAIL, "%s (%s): building %s.cl: %s (%d); log: %.*s", ocl->name,
                                ocl->device.name, programs[id].source, bn_ocl_error_name(error),
                                (int)error, LOG, log && *log ? log : "none");
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
    if (ocl->cache_dir) {
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
