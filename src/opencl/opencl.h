/* opencl.h - the OpenCL backend: devices, options, statistics.
 *
 * Parameters, gradients, moments and activations live on the device
 * (buffer.host is NULL); kernels run in order on one queue, later than the
 * call. Results do not depend on timing: sums have fixed trees and there are no
 * float atomics, so two runs on one device give the same bytes. Integers are
 * those of the CPU, floats agree within a few ulp.
 *
 * Kernels come in two shapes from one source: for GPUs, work-groups that share
 * local memory; for CPU-type devices (PoCL), one work-item per block with wide
 * vectors and no barriers. docs/opencl.md describes both.
 *
 * A label or id outside its range is found by a kernel and reported by the next
 * sync() or download(). One thread drives a backend.
 */
#ifndef BN_OPENCL_OPENCL_H
#define BN_OPENCL_OPENCL_H

#include "backend/backend.h"
#include "base/text.h"

typedef enum bn_opencl_type {
    BN_OPENCL_GPU,
    BN_OPENCL_CPU,
    BN_OPENCL_ACCELERATOR,
} bn_opencl_type;

typedef enum bn_opencl_vendor {
    BN_OPENCL_OTHER,
    BN_OPENCL_NVIDIA,
    BN_OPENCL_AMD,
    BN_OPENCL_INTEL,
    BN_OPENCL_POCL,
} bn_opencl_vendor;

/* A device and what it can do. */
typedef struct bn_opencl_device {
    char name[128], platform[128], driver[128], version[64];
    bn_opencl_type type;
    bn_opencl_vendor vendor;
    uint32_t compute_units;
    uint64_t global_bytes, max_alloc_bytes, local_bytes;
    size_t max_group;      /* work-items in a group */
    uint32_t address_bits; /* 32 or 64 */
    bool fp64;             /* double arithmetic */
    bool fp16, subgroups;  /* half arithmetic, subgroups are claimed (not used) */
    bool exact_divide;     /* correctly rounded float division and sqrt on request */
    bool int_dot;          /* cl_khr_integer_dot_product is claimed */
    uint32_t capability;   /* NVIDIA's compute capability, 90 for 9.0; 0: not known */
    bool usable;           /* can run this backend; else `why_not` */
    char why_not[96];
} bn_opencl_device;

/* All devices of all platforms, the index being the N of "opencl:N"; no
 * platform at all is a count of 0, not an error. The caller frees *out. */
bn_status bn_opencl_devices(bn_opencl_device **out, int *count) BN_MUST_CHECK;

/* One line per device, as bn_device_list() wants: "opencl:N", tab, text. */
bn_status bn_opencl_list(bn_text *out) BN_MUST_CHECK;

/* Hardware paths: kernels for instructions that not every device has. Each has
 * a generic kernel beside it with the same results (bf16 products: the same
 * operands, sums in another order). */
typedef enum bn_opencl_path {
    BN_OPENCL_DOT,      /* BITLINEAR forward by dot products of four int8 */
    BN_OPENCL_MMA_S8,   /* the same on tensor cores */
    BN_OPENCL_MMA_BF16, /* BITLINEAR backward in bfloat16 on tensor cores */
    BN_OPENCL_PATHS,
} bn_opencl_path;

/* Which are used. A claimed path is compiled and compared with the generic
 * kernel when a backend is made, in a context of its own: claims lie both ways,
 * and a kernel that fails may take its context along. */
typedef enum bn_opencl_path_choice {
    BN_OPENCL_PATHS_TESTED,  /* those claimed that passed; none with BITNET_OPENCL_PATHS=generic */
    BN_OPENCL_PATHS_GENERIC, /* none */
    BN_OPENCL_PATHS_UNCHECKED, /* all that are claimed */
} bn_opencl_path_choice;

/* Tests: any device in the GPU shape claims tensor cores, and their instructions
 * are replaced by their definition (prelude.cl), by a wrong one, or by one that does
 * not compile. */
typedef enum bn_opencl_emulation {
    BN_OPENCL_REAL,
    BN_OPENCL_EMULATED,
    BN_OPENCL_EMULATED_WRONG,
    BN_OPENCL_NOT_COMPILING,
} bn_opencl_emulation;

typedef struct bn_opencl_options {
    const char *shape;     /* "cpu", "gpu"; NULL: BITNET_OPENCL_SHAPE, else by the device's type */
    const char *cache_dir; /* "" = no cache; NULL: BITNET_CACHE_DIR, XDG_CACHE_HOME, ~/.cache, and
                              no compiled programs for drivers that keep them themselves */
    bool profile;          /* time every kernel (bn_opencl_profile) */
    bool finish_each;      /* wait after every launch and name the kernel that failed; also
                              BITNET_OPENCL_SYNC=1 */
    bool without_fp64;     /* tests: sums in pairs of floats, as on devices without double */
    bn_opencl_path_choice paths;
    bn_opencl_emulation emulation;
    int64_t fail_call;     /* tests: the n-th (from 1) clCreate or clEnqueue call fails; 0: none */
    uint64_t memory_limit; /* most bytes of buffers at a time; 0: what the device says */
} bn_opencl_options;

/* `which`: NULL or "" the first GPU, else the first usable device; an index;
 * or a part of the name of one usable device, letter case aside. `options` may
 * be NULL. BN_NO_DEVICE with the list of what was found if none fits, or more
 * than one. */
bn_status bn_opencl_backend_new(const char *which, const bn_opencl_options *options,
                                bn_backend **out) BN_MUST_CHECK;

/* The device of an OpenCL backend, borrowed; NULL for any other backend. */
const bn_opencl_device *bn_opencl_device_of(const bn_backend *backend);

/* Since the backend was made. */
typedef struct bn_opencl_stats {
    uint64_t bytes, peak_bytes;           /* device memory now, and at most */
    uint64_t upload_bytes, uploads;       /* host to device */
    uint64_t download_bytes, downloads;   /* device to host */
    uint64_t launches, calls;             /* kernels; clCreate and clEnqueue calls */
    uint64_t built, cached, cache_errors; /* programs compiled, loaded, files refused */
} bn_opencl_stats;

bn_opencl_stats bn_opencl_stats_of(const bn_backend *backend);

/* Whether a hardware path is in use; if not, *why (may be NULL) says what was
 * found, "" where it is not claimed. Borrowed. */
bool bn_opencl_path_used(const bn_backend *backend, bn_opencl_path path, const char **why);

/* "cpu" or "gpu": the kernel shape in use. */
const char *bn_opencl_shape(const bn_backend *backend);

/* Time by kernel since the start as text, largest first: name, launches,
 * milliseconds, share. Needs options.profile; waits for the device. */
bn_status bn_opencl_profile(bn_backend *backend, bn_text *out) BN_MUST_CHECK;

#endif
