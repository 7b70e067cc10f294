#include "model/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "cpu/cpu.h"
#if BN_WITH_OPENCL
#include "opencl/opencl.h"
#endif

static bn_status open_cpu(const char *name, const bn_device_options *options, bn_backend **out)
{
    (void)name;
    return bn_cpu_backend_new(
        &(bn_cpu_options){.threads = options->threads, .memory_limit = options->memory_limit}, out);
}

static bn_status open_reference(const char *name, const bn_device_options *options,
                                bn_backend **out)
{
    (void)options;
    return bn_ref_backend_new(strcmp(name, "ref64") == 0 ? BN_F64 : BN_F32, out);
}

#if BN_WITH_OPENCL

static bn_status open_opencl(const char *name, const bn_device_options *options, bn_backend **out)
{
    const char *colon = strchr(name, ':');
    return bn_opencl_backend_new(
        colon ? colon + 1 : NULL,
        &(bn_opencl_options){.profile = options->profile, .memory_limit = options->memory_limit},
        out);
}

static char *describe_opencl(const bn_backend *backend)
{
    return bn_format("%s (%s, %s kernels%s)", backend->name, bn_opencl_device_of(backend)->name,
                     bn_opencl_shape(backend), backend->choices_kept ? ", tuned" : "");
}

/* "auto" takes a GPU if there is one. *why says why not, for the note. */
static bn_status open_gpu(const bn_device_options *options, bn_backend **out, char **why)
{
    bn_opencl_device *found;
    char index[24];
    int count, gpu = -1;
    *out = NULL;
    *why = NULL;
    BN_TRY(bn_opencl_devices(&found, &count));
    for (int i = count - 1; i >= 0; i--)
        if (found[i].usable && found[i].type == BN_OPENCL_GPU)
            gpu = i;
    free(found);
    if (gpu >= 0) {
        snprintf(index, sizeof index, "opencl:%d", gpu);
        if (open_opencl(index, options, out) == BN_OK)
            return BN_OK;
        *why = bn_strdup(bn_error_text());
        bn_error_clear();
    } else {
        *why = bn_format("no usable GPU among %d OpenCL device%s", count, count == 1 ? "" : "s");
    }
    return *why ? BN_OK : BN_FAIL;
}

#else

static bn_status open_opencl(const char *name, const bn_device_options *options, bn_backend **out)
{
    (void)options;
    *out = NULL;
    return bn_error(BN_NO_DEVICE, "device '%s': this build has no OpenCL backend", name);
}

static bn_status open_gpu(const bn_device_options *options, bn_backend **out, char **why)
{
    (void)options;
    *out = NULL;
    *why = bn_strdup("this build has no OpenCL backend");
    return *why ? BN_OK : BN_FAIL;
}

#endif

/* `many`: name:WHICH selects one of several. `timed`: kernels can be. */
static const struct {
    const char *name;
    bool many, timed;
    bn_status (*open)(const char *name, const bn_device_options *options, bn_backend **out);
} devices[] = {
    {"cpu", false, false, open_cpu},
    {"opencl", true, true, open_opencl},
    {"ref32", false, false, open_reference},
    {"ref64", false, false, open_reference},
};

enum { DEVICES = sizeof devices / sizeof devices[0] };

static bool names_device(int i, const char *name)
{
    const size_t length = strlen(devices[i].name);
    if (strncmp(name, devices[i].name, length) != 0)
        return false;
    if (name[length] == '\0')
        return true;
    return devices[i].many && name[length] == ':' && name[length + 1] != '\0';
}

/* "cpu (avx2 kernels, 8 threads)" */
static char *describe(const bn_backend *backend)
{
    const char *name = backend->name;
    if (strcmp(name, "cpu") == 0)
        return bn_format("%s (%s kernels, %d threads)", name, bn_cpu_isa(backend),
                         bn_threads_count(bn_cpu_threads(backend)));
#if BN_WITH_OPENCL
    if (strncmp(name, "opencl", 6) == 0)
        return describe_opencl(backend);
#endif
    return bn_format("%s", name);
}

/* The note for a backend that is open; closes it again when out of memory. */
static bn_status make_note(bn_backend **backend, const char *why, char **note)
{
    if (!note)
        return BN_OK;
    char *text = describe(*backend);
    if (text && why) {
        *note = *why ? bn_format("auto: %s; %s", text, why) : bn_format("auto: %s", text);
        free(text);
    } else {
        *note = text;
    }
    if (*note)
        return BN_OK;
    bn_backend_free(*backend);
    *backend = NULL;
    return BN_FAIL;
}

/* "auto" that ends on the CPU; its kernels have no times. */
static bn_status open_cpu_instead(const bn_device_options *options, const char *why,
                                  bn_backend **out)
{
    if (options->profile)
        return bn_error(BN_USAGE, "device 'auto': %s, and the CPU's kernels cannot be timed", why);
    return open_cpu("cpu", options, out);
}

static bn_status open_auto(const bn_device_options *options, bn_backend **out, char **note)
{
    char *why;
    BN_TRY(open_gpu(options, out, &why));
    bn_status status = *out ? BN_OK : open_cpu_instead(options, why, out);
    if (status == BN_OK)
        status = make_note(out, why ? why : "", note);
    free(why);
    return status;
}

bn_status bn_device_open(const char *name, const bn_device_options *options, bn_backend **out,
                         char **note)
{
    *out = NULL;
    if (note)
        *note = NULL;
    if (strcmp(name, "auto") == 0)
        return open_auto(options, out, note);
    for (int i = 0; i < DEVICES; i++)
        if (names_device(i, name)) {
            if (options->profile && !devices[i].timed)
                return bn_error(BN_USAGE, "device '%s': its kernels cannot be timed", name);
            BN_TRY(devices[i].open(name, options, out));
            return make_note(out, NULL, note);
        }
    return bn_error(BN_USAGE, "device '%s': expected auto, cpu, opencl, opencl:N or opencl:NAME",
                    name);
}

bn_status bn_device_profile(bn_backend *backend, bn_text *out)
{
#if BN_WITH_OPENCL
    if (strncmp(backend->name, "opencl", 6) == 0)
        return bn_opencl_profile(backend, out);
#endif
    (void)out;
    return bn_error(BN_USAGE, "device '%s': its kernels cannot be timed", backend->name);
}

/* The "model name" line of /proc/cpuinfo, or "" where there is none. */
static void cpu_model(char *out, size_t size)
{
    enum { LIMIT = 1 << 22 };
    char *text = NULL;
    *out = '\0';
    if (bn_fs_read("/proc/cpuinfo", LIMIT, &text, NULL) != BN_OK) {
        bn_error_clear();
        return;
    }
    const char *line = strstr(text, "model name");
    const char *value = line ? strchr(line, ':') : NULL;
    if (value) {
        value += strspn(value, ": \t");
        size_t length = strcspn(value, "\n");
        length = length < size - 1 ? length : size - 1;
        memcpy(out, value, length);
        out[length] = '\0';
    }
    free(text);
}

bn_status bn_device_list(bn_text *out)
{
    char model[128];
    bn_backend *backend;
    BN_TRY(open_cpu("cpu", &(bn_device_options){0}, &backend));
    cpu_model(model, sizeof model);
    bn_text_addf(out, "cpu\t%s%s%s kernels, %d threads\n", model, *model ? ", " : "",
                 bn_cpu_isa(backend), bn_threads_count(bn_cpu_threads(backend)));
    bn_backend_free(backend);
#if BN_WITH_OPENCL
    BN_TRY(bn_opencl_list(out));
#endif
    return BN_OK;
}
