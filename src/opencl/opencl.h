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
    bool usable;           /* can run this backend; else `why_not` */
    char why_not[96];
} bn_opencl_device;

/* All devices of all platforms, the index being the N of "opencl:N"; no
 * platform at all is a count of 0, not an error. The caller frees *out. */
bn_status bn_opencl_devices(bn_opencl_device **out, int *count) BN_MUST_CHECK;

/* One line per device, as bn_device_list() wants: "opencl:N", tab, text. */
bn_status bn_opencl_list(bn_text *out) BN_MUST_CHECK;

typedef struct bn_opencl_options {
    const char *shape;     /* "cpu", "gpu"; NULL: BITNET_OPENCL_SHAPE, else by the device's type */
    const char *cache_dir; /* "" = no cache; NULL: BITNET_CACHE_DIR, XDG_CACHE_HOME, ~/.cache, and
                              no compiled programs for drivers that keep them themselves */
    bool profile;          /* time every kernel (bn_opencl_profile) */
    bool finish_each;      /* wait after every launch and name the kernel that failed; also
                              BITNET_OPENCL_SYNC=1 */
    bool without_fp64;     /* tests: sums in pairs of floats, as on devices without double */
    int64_t fail_call;     /* tests: the n-th (from 1) clCreate or clEnqueue call fails; 0: none */
    uint64_t memory_limit; /* tests: bytes the device has, as far as it is told; 0: what it says */
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

/* "cpu" or "gpu": the kernel shape in use. */
const char *bn_opencl_shape(const bn_backend *backend);

/* Time by kernel since the start as text, largest first: name, launches,
 * milliseconds, share. Needs options.profile; waits for the device. */
bn_status bn_opencl_profile(bn_backend *backend, bn_text *out) BN_MUST_CHECK;

#endif
