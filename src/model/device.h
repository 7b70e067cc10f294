/* device.h - from a --device word to a backend.
 *
 *   auto          the first OpenCL GPU, else this CPU
 *   cpu           this CPU
 *   opencl[:N]    device N of --list-devices
 *   ref32, ref64  the single-threaded reference kernels, for tests
 *
 * A further kind of device is one more row in the table of device.c.
 */
#ifndef BN_MODEL_DEVICE_H
#define BN_MODEL_DEVICE_H

#include "backend/backend.h"
#include "base/text.h"

/* Opens a device; `threads` as in bn_cpu_options. `note` (may be NULL) gets one
 * line that says what was chosen and why. BN_NO_DEVICE: there is no such
 * device, or this build cannot drive it; BN_USAGE: not a device name. */
bn_status bn_device_open(const char *name, int threads, bn_backend **out,
                         char **note) BN_MUST_CHECK;

/* One line per usable device: name, tab, description. */
bn_status bn_device_list(bn_text *out) BN_MUST_CHECK;

#endif
