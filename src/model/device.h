/* device.h - from a --device word to a backend.
 *
 *   auto          the first OpenCL GPU, else this CPU
 *   cpu           this CPU
 *   opencl[:N]    device N of --list-devices
 *   opencl:NAME   the one whose name contains NAME, letter case aside
 *   ref32, ref64  the single-threaded reference kernels, for tests
 *
 * A further kind of device is one more row in the table of device.c.
 */
#ifndef BN_MODEL_DEVICE_H
#define BN_MODEL_DEVICE_H

#include "backend/backend.h"
#include "base/text.h"

typedef struct bn_device_options {
    int threads;           /* as in bn_cpu_options */
    bool profile;          /* time every kernel, for bn_device_profile() */
    uint64_t memory_limit; /* most bytes of buffers at a time; 0: what there is */
} bn_device_options;

/* Opens a device. `note` (may be NULL) gets one line that says what was chosen
 * and why. BN_NO_DEVICE: there is no such device, or this build cannot drive it;
 * BN_USAGE: not a device name, or one whose kernels cannot be timed. */
bn_status bn_device_open(const char *name, const bn_device_options *options, bn_backend **out,
                         char **note) BN_MUST_CHECK;

/* Time by kernel, a line each, of a device opened with `profile`; waits for it. */
bn_status bn_device_profile(bn_backend *backend, bn_text *out) BN_MUST_CHECK;

/* One line per usable device: name, tab, description. */
bn_status bn_device_list(bn_text *out) BN_MUST_CHECK;

#endif
