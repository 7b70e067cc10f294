/* Platforms and devices: what there is and what it can do. */
#include "opencl/ocl_impl.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "opencl/ocl_device.h"

/* A text property with runs of blanks made one; "" if the driver refuses. */
static void squeeze(char *text)
{
    char *to = text;
    for (const char *from = text; *from; from++)
        if (!isspace((unsigned char)*from))
            *to++ = *from;
        else if (to > text && to[-1] != ' ')
            *to++ = ' ';
    *to = '\0';
    if (to > text && to[-1] == ' ')
        to[-1] = '\0';
}

static void device_text(cl_device_id id, cl_device_info what, char *text, size_t size)
{
    char wide[512] = "";
    if (clGetDeviceInfo(id, what, sizeof wide - 1, wide, NULL) != CL_SUCCESS)
        wide[0] = '\0';
    squeeze(wide);
    snprintf(text, size, "%.*s", (int)size - 1, wide);
}

static bool has_extension(cl_device_id id, const char *name)
{
    size_t size = 0;
    if (clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, 0, NULL, &size) != CL_SUCCESS || size == 0)
        return false;
    char *all = calloc(1, size + 1);
    bool found = false;
    if (all && clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, size, all, NULL) == CL_SUCCESS) {
        size_t length = strlen(name);
        for (const char *at = all; (at = strstr(at, name)) && !found; at += length)
            found = (at == all || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0');
    }
    free(all);
    return found;
}

#define NUMBER(id, what, into)                                                                     \
    do {                                                                                           \
        if (clGetDeviceInfo(id, what, sizeof(into), &(into), NULL) != CL_SUCCESS)                  \
            memset(&(into), 0, sizeof(into));                                                      \
    } while (0)

static bn_opencl_vendor vendor_of(cl_device_id id, const char *platform)
{
    static const struct {
        const char *word;
        bn_opencl_vendor vendor;
    } words[] = {{"NVIDIA", BN_OPENCL_NVIDIA},
                 {"Advanced Micro Devices", BN_OPENCL_AMD},
                 {"AMD", BN_OPENCL_AMD},
                 {"Intel", BN_OPENCL_INTEL}};
    char vendor[128];
    /* PoCL reports the processor's maker as the device's vendor. */
    if (strstr(platform, "Portable Computing Language"))
        return BN_OPENCL_POCL;
    device_text(id, CL_DEVICE_VENDOR, vendor, sizeof vendor);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strstr(vendor, words[i].word))
            return words[i].vendor;
    return BN_OPENCL_OTHER;
}

/* cl_nv_device_attribute_query; 0 where the driver does not answer. */
static uint32_t compute_capability(cl_device_id id)
{
    enum { CAPABILITY_MAJOR_NV = 0x4000, CAPABILITY_MINOR_NV = 0x4001 };
    cl_uint major = 0, minor = 0;
    NUMBER(id, CAPABILITY_MAJOR_NV, major);
    NUMBER(id, CAPABILITY_MINOR_NV, minor);
    return 10 * major + minor;
}

static void judge(cl_device_id id, bn_opencl_device *d)
{
    cl_bool available = CL_FALSE, compiler = CL_FALSE, little = CL_FALSE;
    NUMBER(id, CL_DEVICE_AVAILABLE, available);
    NUMBER(id, CL_DEVICE_COMPILER_AVAILABLE, compiler);
    NUMBER(id, CL_DEVICE_ENDIAN_LITTLE, little);
    const char *why = !available               ? "not available"
                      : !compiler              ? "has no compiler"
                      : !little                ? "is big-endian"
                      : d->address_bits != 64  ? "has no 64-bit addresses"
                      : d->max_group < 256     ? "takes fewer than 256 work-items in a group"
                      : d->local_bytes < 16384 ? "has less than 16 KiB of local memory"
                                               : "";
    d->usable = *why == '\0';
    snprintf(d->why_not, sizeof d->why_not, "%s", why);
}

static void describe(cl_device_id id, const char *platform, bn_opencl_device *d)
{
    cl_device_type type = 0;
    cl_device_fp_config single = 0, wide = 0;
    cl_uint units = 0, bits = 0;
    cl_ulong global = 0, alloc = 0, local = 0;
    *d = (bn_opencl_device){0};
    device_text(id, CL_DEVICE_NAME, d->name, sizeof d->name);
    device_text(id, CL_DRIVER_VERSION, d->driver, sizeof d->driver);
    device_text(id, CL_DEVICE_VERSION, d->version, sizeof d->version);
    snprintf(d->platform, sizeof d->platform, "%s", platform);
    NUMBER(id, CL_DEVICE_TYPE, type);
    NUMBER(id, CL_DEVICE_MAX_COMPUTE_UNITS, units);
    NUMBER(id, CL_DEVICE_GLOBAL_MEM_SIZE, global);
    NUMBER(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, alloc);
    NUMBER(id, CL_DEVICE_LOCAL_MEM_SIZE, local);
    NUMBER(id, CL_DEVICE_MAX_WORK_GROUP_SIZE, d->max_group);
    NUMBER(id, CL_DEVICE_ADDRESS_BITS, bits);
    NUMBER(id, CL_DEVICE_SINGLE_FP_CONFIG, single);
    NUMBER(id, CL_DEVICE_DOUBLE_FP_CONFIG, wide);
    d->type = type & CL_DEVICE_TYPE_GPU   ? BN_OPENCL_GPU
              : type & CL_DEVICE_TYPE_CPU ? BN_OPENCL_CPU
                                          : BN_OPENCL_ACCELERATOR;
    d->vendor = vendor_of(id, platform);
    d->compute_units = units;
    d->global_bytes = global;
    d->max_alloc_bytes = alloc;
    d->local_bytes = local;
    d->address_bits = bits;
    d->fp64 = wide != 0 && has_extension(id, "cl_khr_fp64");
    d->exact_divide = (single & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT) != 0;
    d->fp16 = has_extension(id, "cl_khr_fp16");
    d->subgroups = has_extension(id, "cl_khr_subgroups");
    d->int_dot = has_extension(id, "cl_khr_integer_dot_product");
    d->capability = d->vendor == BN_OPENCL_NVIDIA ? compute_capability(id) : 0;
    judge(id, d);
}

/* Adds the devices of one platform. */
static bn_status add_platform(cl_platform_id platform, bn_ocl_found *found)
{
    char name[128] = "";
    cl_uint n = 0;
    cl_device_id *ids;
    if (clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 0, NULL, &n) != CL_SUCCESS || n == 0)
        return BN_OK; /* a platform without devices says CL_DEVICE_NOT_FOUND */
    size_t total = (size_t)found->count + n;
    bn_ocl_device *more = realloc(found->items, total * sizeof *more);
    if (more)
        found->items = more;
    ids = calloc(n, sizeof *ids);
    if (!more || !ids) {
        free(ids);
        return bn_error_nomem("the list of devices", total * sizeof *more);
    }
    clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof name - 1, name, NULL);
    squeeze(name);
    if (clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, n, ids, NULL) == CL_SUCCESS)
        for (cl_uint i = 0; i < n; i++) {
            bn_ocl_device *d = &found->items[found->count++];
            d->platform = platform;
            d->id = ids[i];
            describe(ids[i], name, &d->info);
        }
    free(ids);
    return BN_OK;
}

bn_status bn_ocl_find(bn_ocl_found *found)
{
    enum { MAX_PLATFORMS = 32 };
    cl_platform_id platforms[MAX_PLATFORMS];
    cl_uint n = 0;
    *found = (bn_ocl_found){0};
    if (clGetPlatformIDs(MAX_PLATFORMS, platforms, &n) != CL_SUCCESS)
        return BN_OK; /* the loader's "no platform at all" is an error code */
    n = n < MAX_PLATFORMS ? n : MAX_PLATFORMS;
    for (cl_uint i = 0; i < n; i++) {
        bn_status status = add_platform(platforms[i], found);
        if (status != BN_OK) {
            bn_ocl_found_clear(found);
            return status;
        }
    }
    return BN_OK;
}

void bn_ocl_found_clear(bn_ocl_found *found)
{
    free(found->items);
    *found = (bn_ocl_found){0};
}

bn_status bn_opencl_devices(bn_opencl_device **out, int *count)
{
    bn_ocl_found found;
    *out = NULL;
    *count = 0;
    BN_TRY(bn_ocl_find(&found));
    *out = calloc((size_t)found.count + 1, sizeof **out);
    if (*out) {
        *count = found.count;
        for (int i = 0; i < found.count; i++)
            (*out)[i] = found.items[i].info;
    }
    bn_ocl_found_clear(&found);
    return *out ? BN_OK : bn_error_nomem("the list of devices", sizeof **out);
}

static const char *type_name(bn_opencl_type type)
{
    return type == BN_OPENCL_GPU ? "GPU" : type == BN_OPENCL_CPU ? "CPU" : "accelerator";
}

void bn_ocl_describe(const bn_opencl_device *d, bn_text *out)
{
    char global[BN_SIZE_TEXT], alloc[BN_SIZE_TEXT], local[BN_SIZE_TEXT];
    bn_text_addf(out,
                 "%s, %s, %s, %s, driver %s, %u units, %s (%s at once), %s local, groups of %zu, "
                 "%u-bit%s%s%s%s%s",
                 d->name, type_name(d->type), d->platform, d->version, d->driver, d->compute_units,
                 bn_size_text(d->global_bytes, global), bn_size_text(d->max_alloc_bytes, alloc),
                 bn_size_text(d->local_bytes, local), d->max_group, d->address_bits,
                 d->fp64 ? ", fp64" : "", d->fp16 ? ", fp16" : "",
                 d->exact_divide ? ", exact division" : "", d->subgroups ? ", subgroups" : "",
                 d->int_dot ? ", integer dot product" : "");
    if (!d->usable)
        bn_text_addf(out, "; unusable: %s", d->why_not);
}

bn_status bn_opencl_list(bn_text *out)
{
    bn_opencl_device *devices;
    int count;
    BN_TRY(bn_opencl_devices(&devices, &count));
    for (int i = 0; i < count; i++) {
        bn_text_addf(out, "opencl:%d\t", i);
        bn_ocl_describe(&devices[i], out);
        bn_text_add(out, "\n");
    }
    free(devices);
    return BN_OK;
}

/* ---- choice --------------------------------------------------------------- */

/* BN_NO_DEVICE that says what was wanted, what is wrong with it and what there is. */
static bn_status none(const char *which, const char *why, const bn_ocl_found *found)
{
    bn_text text = {0};
    char *list;
    for (int i = 0; i < found->count; i++) {
        bn_text_addf(&text, "%s%d: ", i ? "; " : "", i);
        bn_ocl_describe(&found->items[i].info, &text);
    }
    BN_TRY(bn_text_take(&text, &list));
    bn_status status =
        bn_error(BN_NO_DEVICE, "%s OpenCL device%s%s%s; found: %s", why, *which ? " '" : "", which,
                 *which ? "'" : "", found->count ? list : "no OpenCL device at all");
    free(list);
    return status;
}

/* The first GPU, else the first usable device; -1: none. */
static int first_usable(const bn_ocl_found *found)
{
    int first = -1;
    for (int i = found->count - 1; i >= 0; i--) {
        const bn_opencl_device *d = &found->items[i].info;
        if (d->usable && (first < 0 || d->type == BN_OPENCL_GPU ||
                          found->items[first].info.type != BN_OPENCL_GPU))
            first = i;
    }
    return first;
}

/* The last usable device of that name; *count of them. */
static int named(const char *part, const bn_ocl_found *found, int *count)
{
    int last = -1;
    *count = 0;
    for (int i = 0; i < found->count; i++)
        if (found->items[i].info.usable && strcasestr(found->items[i].info.name, part)) {
            last = i;
            ++*count;
        }
    return last;
}

bn_status bn_ocl_choose(const char *which, const bn_ocl_found *found, int *index)
{
    int64_t number;
    int matches = 0;
    which = which ? which : "";
    if (!*which)
        *index = first_usable(found);
    else if (bn_parse_i64(which, &number) && number >= 0 && number < found->count)
        *index = found->items[number].info.usable ? (int)number : -1;
    else
        *index = named(which, found, &matches); /* numbers too: "4090" */
    if (matches > 1)
        return none(which, "more than one", found);
    return *index >= 0 ? BN_OK : none(which, "no usable", found);
}
