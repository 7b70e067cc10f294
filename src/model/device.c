#include "model/device.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "cpu/cpu.h"

static bn_status open_cpu(const char *name, int threads, bn_backend **out)
{
    (void)name;
    const bn_cpu_options options = {.threads = threads};
    return bn_cpu_backend_new(&options, out);
}

static bn_status open_reference(const char *name, int threads, bn_backend **out)
{
    (void)threads;
    return bn_ref_backend_new(strcmp(name, "ref64") == 0 ? BN_F64 : BN_F32, out);
}

static bn_status open_opencl(const char *name, int threads, bn_backend **out)
{
    (void)threads;
    *out = NULL;
    return bn_error(BN_NO_DEVICE, "device '%s': this build has no OpenCL backend", name);
}

/* `indexed`: name:N selects one of several. */
static const struct {
    const char *name;
    bool indexed;
    bn_status (*open)(const char *name, int threads, bn_backend **out);
} devices[] = {
    {"cpu", false, open_cpu},
    {"opencl", true, open_opencl},
    {"ref32", false, open_reference},
    {"ref64", false, open_reference},
};

enum { DEVICES = sizeof devices / sizeof devices[0] };

static bool names_device(int i, const char *name)
{
    const size_t length = strlen(devices[i].name);
    int64_t index;
    if (strncmp(name, devices[i].name, length) != 0)
        return false;
    if (name[length] == '\0')
        return true;
    return devices[i].indexed && name[length] == ':' && bn_parse_i64(name + length + 1, &index) &&
           index >= 0;
}

/* "cpu (avx2, 8 threads)" */
static char *describe(const bn_backend *backend, bool is_auto)
{
    const char *name = backend->name;
    if (strcmp(name, "cpu") != 0)
        return bn_format("%s", name);
    return bn_format("%s%s (%s kernels, %d threads)", is_auto ? "auto: " : "", name,
                     bn_cpu_isa(backend), bn_threads_count(bn_cpu_threads(backend)));
}

bn_status bn_device_open(const char *name, int threads, bn_backend **out, char **note)
{
    const bool is_auto = strcmp(name, "auto") == 0;
    *out = NULL;
    if (note)
        *note = NULL;
    for (int i = 0; i < DEVICES; i++) {
        if (!(is_auto ? i == 0 : names_device(i, name)))
            continue;
        BN_TRY(devices[i].open(name, threads, out));
        if (note && !(*note = describe(*out, is_auto))) {
            bn_backend_free(*out);
            *out = NULL;
            return BN_FAIL;
        }
        return BN_OK;
    }
    return bn_error(BN_USAGE, "device '%s': expected auto, cpu, opencl or opencl:N", name);
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
    BN_TRY(open_cpu("cpu", 0, &backend));
    cpu_model(model, sizeof model);
    bn_text_addf(out, "cpu\t%s%s%s kernels, %d threads\n", model, *model ? ", " : "",
                 bn_cpu_isa(backend), bn_threads_count(bn_cpu_threads(backend)));
    bn_backend_free(backend);
    return BN_OK;
}
