/* ocl_device.h - devices with their OpenCL handles; inside src/opencl only. */
#ifndef BN_OPENCL_OCL_DEVICE_H
#define BN_OPENCL_OCL_DEVICE_H

#include "opencl/ocl_impl.h"

typedef struct bn_ocl_device {
    cl_platform_id platform;
    cl_device_id id;
    bn_opencl_device info;
} bn_ocl_device;

typedef struct bn_ocl_found {
    bn_ocl_device *items;
    int count;
} bn_ocl_found;

/* Every device of every platform; none is no error. */
bn_status bn_ocl_find(bn_ocl_found *found) BN_MUST_CHECK;
void bn_ocl_found_clear(bn_ocl_found *found);

/* As bn_opencl_backend_new(): the index of the device that `which` means. */
bn_status bn_ocl_choose(const char *which, const bn_ocl_found *found, int *index) BN_MUST_CHECK;

/* One line without its end. */
void bn_ocl_describe(const bn_opencl_device *device, bn_text *out);

#endif
