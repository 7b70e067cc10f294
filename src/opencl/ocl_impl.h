/* ocl_impl.h - what the files of src/opencl share. Not for other modules.
 *
 * A kernel is one row of kernels.def; bn_ocl_launch() runs it:
 *
 *   bn_ocl *ocl = bn_ocl_of(backend);
 *   return BN_OCL_LAUNCH(ocl, BN_OCL_K_ADD, groups, 1, 1, BN_OCL_T(&c->in[0]),
 *                        BN_OCL_T(&c->in[1]), BN_OCL_T(&c->out[0]), BN_OCL_L(n));
 *
 * Programs are built when one of their kernels is launched for the first time,
 * from the cache on disk where it has them.
 */
#ifndef BN_OPENCL_OCL_IMPL_H
#define BN_OPENCL_OCL_IMPL_H

#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 120
#endif
#include <CL/cl.h>

#include "opencl/opencl.h"

/* ---- tables made from kernels.def ---------------------------------------- */

typedef enum bn_ocl_program_id {
#define BN_OCL_PROGRAM(ID, ...) BN_OCL_P_##ID,
#define BN_OCL_KERNEL(...)
#include "opencl/kernels.def"
#undef BN_OCL_PROGRAM
#undef BN_OCL_KERNEL
    BN_OCL_PROGRAMS,
} bn_ocl_program_id;

typedef enum bn_ocl_kernel_id {
#define BN_OCL_PROGRAM(...)
#define BN_OCL_KERNEL(ID, ...) BN_OCL_K_##ID,
#include "opencl/kernels.def"
#undef BN_OCL_PROGRAM
#undef BN_OCL_KERNEL
    BN_OCL_KERNELS,
} bn_ocl_kernel_id;

typedef enum bn_ocl_choice_id {
#define BN_OCL_CHOICE(ID, ...) BN_OCL_C_##ID,
#include "opencl/choices.def"
#undef BN_OCL_CHOICE
    BN_OCL_CHOICES,
} bn_ocl_choice_id;

/* A .cl file, embedded by the build. */
typedef struct bn_ocl_source {
    const char *name; /* without ".cl" */
    const char *text;
} bn_ocl_source;

extern const bn_ocl_source bn_ocl_sources[]; /* ends with name NULL */
enum { BN_OCL_MAX_SOURCES = 32 };

/* ---- the context ---------------------------------------------------------- */

typedef struct bn_ocl_program {
    cl_program handle;
    uint64_t saved;    /* kernels (bit = place in the program) in the binary on disk */
    uint64_t launched; /* kernels launched so far */
} bn_ocl_program;

typedef struct bn_ocl_kernel_state {
    cl_kernel handle;
    uint64_t launches;
    double seconds; /* with options.profile */
} bn_ocl_kernel_state;

typedef struct bn_ocl_timing bn_ocl_timing;

/* bn_backend.impl. */
typedef struct bn_ocl {
    bn_backend backend;
    char name[32]; /* "opencl:0" */
    bn_opencl_device device;
    bool cpu_shape; /* the kernels' macro BN_CPU */
    bool profile, finish_each;
    int mma;        /* the kernels' macro BN_MMA */
    unsigned paths; /* hardware paths in use: bits of bn_opencl_path */
    char why_not[BN_OPENCL_PATHS][160];
    char *cache_dir;     /* NULL: no cache */
    bool keeps_programs; /* compiled programs go there too */
    cl_device_id id;
    cl_context context;
    cl_command_queue queue;
    bn_ocl_program programs[BN_OCL_PROGRAMS];
    bn_ocl_kernel_state kernels[BN_OCL_KERNELS];

    /* Memory of the context itself. */
    bn_buffer flag;        /* 4 int32: what a kernel found wrong (BN_RAISE) */
    bn_buffer work;        /* BN_OCL_WORK_BYTES of scratch for routines without a call record */
    cl_mem staging;        /* pinned memory for small uploads ... */
    unsigned char *staged; /* ... and where it is mapped */
    size_t staging_used;

    bn_choice choices[BN_OCL_CHOICES]; /* backend.choices: those of the device's class */
    int choice_at[BN_OCL_CHOICES];     /* place there of a choice of that class */

    bn_ocl_timing *timings; /* events not read yet */
    int n_timings;
    int64_t fail_call;
    bn_opencl_stats stats;
} bn_ocl;

enum {
    BN_OCL_WORK_BYTES = 1 << 18,
    BN_OCL_STAGING_BYTES = 1 << 20,
    BN_OCL_ROW_GROUP = 128, /* GPU shape: work-items of a row kernel's group (macro BN_GROUP) */
};

static inline bn_ocl *bn_ocl_of(const bn_backend *backend)
{
    return backend->impl;
}

/* ---- launching -------------------------------------------------------------- */

typedef struct bn_ocl_arg {
    char kind; /* letter of the signature */
    union {
        const bn_tensor *tensor;
        int32_t i;
        int64_t l;
        float f;
    } value;
} bn_ocl_arg;

/* b: a tensor as two kernel arguments, buffer and ulong byte offset (macros
 * BN_BUFFER and BN_POINTER of prelude.cl); NULL or absent: a null pointer.
 * i: int, l: long, f: float. */
#define BN_OCL_T(t) ((bn_ocl_arg){.kind = 'b', .value.tensor = (t)})
#define BN_OCL_I(x) ((bn_ocl_arg){.kind = 'i', .value.i = (int32_t)(x)})
#define BN_OCL_L(x) ((bn_ocl_arg){.kind = 'l', .value.l = (int64_t)(x)})
#define BN_OCL_F(x) ((bn_ocl_arg){.kind = 'f', .value.f = (float)(x)})

/* Enqueues a kernel over groups[3] work-groups, each of the row's local size
 * (1 x 1 x 1 in the CPU shape). Nothing is launched if a count is 0. BN_FAIL
 * if the arguments are not those of the row's signature. */
bn_status bn_ocl_launch(bn_ocl *ocl, bn_ocl_kernel_id kernel, const int64_t groups[3], int n_args,
                        const bn_ocl_arg *args) BN_MUST_CHECK;

#define BN_OCL_LAUNCH(ocl, kernel, gx, gy, gz, ...)                                                \
    bn_ocl_launch(ocl, kernel, (const int64_t[3]){gx, gy, gz},                                     \
                  (int)(sizeof((bn_ocl_arg[]){__VA_ARGS__}) / sizeof(bn_ocl_arg)),                 \
                  (const bn_ocl_arg[]){__VA_ARGS__})

/* Work-groups for n elements of a flat kernel: BN_OCL_FLAT_CPU elements per
 * work-item in the CPU shape, BN_OCL_FLAT_GPU per group otherwise. */
enum { BN_OCL_FLAT_CPU = 4096, BN_OCL_FLAT_GPU = 1024 };
int64_t bn_ocl_flat_groups(const bn_ocl *ocl, int64_t n);

/* Work-groups for `rows` rows of a row kernel: one group per row in the GPU
 * shape; blocks of *per_item rows (a function of the shape alone) otherwise. */
int64_t bn_ocl_row_groups(const bn_ocl *ocl, int64_t rows, int64_t cols, int64_t *per_item);

/* The error flag as a tensor argument, for kernels that use BN_RAISE. */
bn_tensor bn_ocl_flag(const bn_ocl *ocl);

/* Scratch of BN_OCL_WORK_BYTES for routines outside a tape; `offset` a multiple of BN_ALIGN. */
bn_tensor bn_ocl_work(const bn_ocl *ocl, bn_dtype dtype, int64_t n, size_t offset);

/* dst = 0 over whole tensors (enqueued). */
bn_status bn_ocl_zero(bn_ocl *ocl, const bn_tensor *dst) BN_MUST_CHECK;

/* A view of `bytes` of t from byte `skip` on, u8: parts of a scratch tensor. */
bn_tensor bn_ocl_part(const bn_tensor *t, size_t skip, size_t bytes);

/* y [1] = sum of x, of x^2 (squares), its square root (root), or divided by
 * `count` if that is > 0; parts lie in the context's work memory. */
bn_status bn_ocl_total(bn_ocl *ocl, const bn_tensor *x, bool squares, bool root, int64_t count,
                       const bn_tensor *y) BN_MUST_CHECK;

/* The parts of a cross-entropy, for one chunk of rows or all of them. c gives
 * ignore_index, the op's name for messages, and dloss (c->dout).
 *   rows:     logits [rows,V], labels [rows] -> lse [rows], nll [rows]; row0 is
 *             the first row's number in messages
 *   mean:     nll, labels (all rows) -> loss [1]
 *   factor:   labels (all rows) -> factor [1] = dloss / count
 *   gradient: d [rows,V] = (softmax - onehot) factor, or +=; d may be logits */
bn_status bn_ocl_cross_entropy_rows(bn_ocl *ocl, const bn_op_call *c, const bn_tensor *logits,
                                    const bn_tensor *labels, const bn_tensor *lse,
                                    const bn_tensor *nll, int64_t row0, int64_t rows,
                                    int64_t V) BN_MUST_CHECK;
bn_status bn_ocl_cross_entropy_mean(bn_ocl *ocl, const bn_op_call *c, const bn_tensor *nll,
                                    const bn_tensor *labels, const bn_tensor *loss) BN_MUST_CHECK;
bn_status bn_ocl_cross_entropy_factor(bn_ocl *ocl, const bn_op_call *c, const bn_tensor *labels,
                                      const bn_tensor *factor) BN_MUST_CHECK;
bn_status bn_ocl_cross_entropy_gradient(bn_ocl *ocl, const bn_op_call *c, const bn_tensor *logits,
                                        const bn_tensor *labels, const bn_tensor *lse,
                                        const bn_tensor *factor, const bn_tensor *d, int64_t rows,
                                        int64_t V, bool add) BN_MUST_CHECK;

/* ---- errors ------------------------------------------------------------------ */

const char *bn_ocl_error_name(cl_int error); /* "CL_OUT_OF_RESOURCES" */

/* BN_OK for CL_SUCCESS, else BN_NO_DEVICE "opencl:0 (NAME): WHAT: CL_...": drivers
 * say in many ways that a device is lost, and one that refuses a right call is
 * of no more use than one that is gone. */
bn_status bn_ocl_check(const bn_ocl *ocl, cl_int error, const char *what) BN_MUST_CHECK;

/* To be asked before every clCreate and clEnqueue call: counts it; true if the
 * test hook wants it to fail (the caller uses CL_OUT_OF_RESOURCES). */
bool bn_ocl_call_fails(bn_ocl *ocl);

/* ---- programs (ocl_program.c) -------------------------------------------------- */

/* The kernel, its program built or loaded if need be. */
bn_status bn_ocl_kernel_get(bn_ocl *ocl, bn_ocl_kernel_id id, cl_kernel *out) BN_MUST_CHECK;
const char *bn_ocl_kernel_name(bn_ocl_kernel_id id);
/* Writes the binaries that gained kernels since the last time. Failures only
 * cost time later: they are counted, not reported. */
void bn_ocl_programs_save(bn_ocl *ocl);
void bn_ocl_programs_free(bn_ocl *ocl);

/* ---- files of the cache (ocl_cache.c) ------------------------------------------- */

/* Path of a file that depends on the device, its driver and n texts; NULL with
 * the error set when out of memory. ocl->cache_dir must not be NULL. */
char *bn_ocl_cache_path(const bn_ocl *ocl, const char *const texts[], int n, const char *suffix);
/* The file's content, malloc'd, with a NUL behind it; NULL if there is none, or
 * (counted in cache_errors, without an error text) none to be trusted. */
char *bn_ocl_cache_read(bn_ocl *ocl, const char *path, size_t *bytes);
bn_status bn_ocl_cache_write(bn_ocl *ocl, const char *path, const void *content,
                             size_t bytes) BN_MUST_CHECK;

/* ---- hardware paths (ocl_paths.c) ------------------------------------------------- */

/* Sets ocl->mma and the paths to be used, `name` being the device's as in
 * bn_opencl_backend_new(). */
bn_status bn_ocl_paths_init(bn_ocl *ocl, const bn_opencl_options *options,
                            const char *name) BN_MUST_CHECK;

static inline bool bn_ocl_uses(const bn_ocl *ocl, bn_opencl_path path)
{
    return ocl->paths >> path & 1u;
}

/* ---- choices (ocl_choices.c) ------------------------------------------------------ */

/* Defaults, then what is stored; sets the backend's members. */
bn_status bn_ocl_choices_init(bn_ocl *ocl) BN_MUST_CHECK;
/* The value in use of a choice of this device's class. */
int64_t bn_ocl_choice(const bn_ocl *ocl, bn_ocl_choice_id id);

/* ---- memory and devices --------------------------------------------------------- */
void bn_ocl_memory_functions(bn_backend *backend);
bn_status bn_ocl_memory_init(bn_ocl *ocl) BN_MUST_CHECK;
void bn_ocl_memory_free(bn_ocl *ocl);
bn_status bn_ocl_read_timings(bn_ocl *ocl) BN_MUST_CHECK;

/* ---- rows, one function per family ---------------------------------------------- */

/* Sets an op's kernels (NULL: none) under the variant name of the shape in use,
 * "opencl-cpu" or "opencl-gpu"; scratch rules are set apart. */
void bn_ocl_set_row(bn_backend *backend, bn_op op, bn_kernel forward, bn_kernel backward);

void bn_ocl_rows_elementwise(bn_backend *backend);
void bn_ocl_rows_norm(bn_backend *backend); /* rmsnorm, softmax, cross-entropy, rope */
void bn_ocl_rows_quant(bn_backend *backend);
void bn_ocl_rows_movement(bn_backend *backend); /* embedding, sum, mean, transpose, slice */
void bn_ocl_routines(bn_backend *backend);      /* adamw, sgd, norm, scale */
/* gemm: LINEAR, MATMUL; bitlinear: BITLINEAR; attention: ATTENTION, KV_ATTENTION;
 * head: LINEAR_CROSS_ENTROPY */
void bn_ocl_rows_gemm(bn_backend *backend);
void bn_ocl_rows_bitlinear(bn_backend *backend);
void bn_ocl_rows_attention(bn_backend *backend);
void bn_ocl_rows_head(bn_backend *backend);

#endif
