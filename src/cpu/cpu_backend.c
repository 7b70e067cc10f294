#include "cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/cpu_impl.h"
#include "cpu/fast/fast.h"

/* Sets of kernels from plain to best; `runs` NULL: on every CPU. */
static const struct {
    const char *name;
    bool (*runs)(void);
} isa_table[] = {
    {"ref", NULL},
    {"generic", NULL},
#if defined(__x86_64__)
    {"avx2", bn_cpu_runs_avx2},
    {"avx512", bn_cpu_runs_avx512},
#elif defined(__aarch64__)
    {"neon", NULL},
    {"neondot", bn_cpu_runs_neondot},
#endif
};

enum { ISA_COUNT = sizeof isa_table / sizeof isa_table[0] };

static bool isa_runs(int i)
{
    return !isa_table[i].runs || isa_table[i].runs();
}

const char *bn_cpu_isa_choice(int index)
{
    for (int i = 0; i < ISA_COUNT; i++)
        if (isa_runs(i) && index-- == 0)
            return isa_table[i].name;
    return NULL;
}

/* The table's own string for `wanted` (NULL or "": the best). */
static bn_status choose_isa(const char *wanted, const char **out)
{
    if (!wanted || !*wanted) {
        for (int i = 0; i < ISA_COUNT; i++)
            if (isa_runs(i))
                *out = isa_table[i].name;
        return BN_OK;
    }
    char known[256] = "";
    for (int i = 0; i < ISA_COUNT; i++) {
        const char *name = isa_table[i].name;
        if (strcmp(wanted, name) == 0) {
            *out = name;
            return isa_runs(i) ? BN_OK
                               : bn_error(BN_NO_DEVICE, "cpu: this CPU cannot run '%s'", name);
        }
        if (strlen(known) + strlen(name) + 3 < sizeof known) {
            strcat(known, i > 0 ? ", " : "");
            strcat(known, name);
        }
    }
    return bn_error(BN_USAGE, "cpu: no kernels named '%s', expected one of: %s", wanted, known);
}

static bn_status cpu_alloc(bn_backend *backend, size_t bytes, bn_buffer *out)
{
    *out = (bn_buffer){0};
    void *block;
    BN_TRY(bn_pool_take(bn_cpu_of(backend)->memory, bytes, &block));
    *out = (bn_buffer){.host = block, .bytes = bytes};
    return BN_OK;
}

static void cpu_release(bn_backend *backend, bn_buffer *buffer)
{
    bn_pool_give(bn_cpu_of(backend)->memory, buffer->host);
    *buffer = (bn_buffer){0};
}

static bn_status cpu_upload(bn_backend *backend, const bn_tensor *dst, const void *src)
{
    (void)backend;
    memcpy(bn_tensor_data(dst), src, bn_tensor_bytes(dst));
    return BN_OK;
}

static bn_status cpu_download(bn_backend *backend, const bn_tensor *src, void *dst)
{
    (void)backend;
    memcpy(dst, bn_tensor_data(src), bn_tensor_bytes(src));
    return BN_OK;
}

static bn_status cpu_fill_zero(bn_backend *backend, const bn_tensor *dst)
{
    (void)backend;
    memset(bn_tensor_data(dst), 0, bn_tensor_bytes(dst));
    return BN_OK;
}

static bn_status cpu_sync(bn_backend *backend)
{
    (void)backend;
    return BN_OK;
}

static void cpu_usage(const bn_backend *backend, bn_backend_usage *out)
{
    bn_pool_usage pool;
    bn_pool_get_usage(bn_cpu_of(backend)->memory, &pool);
    *out = (bn_backend_usage){.bytes = pool.bytes,
                              .peak_bytes = pool.peak_bytes,
                              .fragmentation = bn_pool_fragmentation(&pool)};
}

static void cpu_free(bn_backend *backend)
{
    bn_cpu *cpu = bn_cpu_of(backend);
    bn_threads_free(cpu->threads);
    bn_pool_free(cpu->memory);
    free(cpu);
}

static bn_status cpu_new(const char *name, bn_dtype real, size_t memory_limit, bn_cpu **out)
{
    bn_cpu *cpu = calloc(1, sizeof *cpu);
    if (!cpu)
        return bn_error_nomem("a backend", sizeof *cpu);
    bn_status status = bn_pool_new(memory_limit, &cpu->memory);
    if (status != BN_OK) {
        free(cpu);
        return status;
    }
    cpu->isa = "ref";
    cpu->backend = (bn_backend){
        .name = name,
        .real = real,
        .weights = 1u << BN_I8,
        .scale_rules = 1u << BN_SCALE_MEAN | 1u << BN_SCALE_MEDIAN | 1u << BN_SCALE_LEARNED,
        .backwards = 1u << BN_BACKWARD_FLOAT32 | 1u << BN_BACKWARD_BF16 | 1u << BN_BACKWARD_INT16,
        .kv_codes = true,
        .alloc = cpu_alloc,
        .release = cpu_release,
        .upload = cpu_upload,
        .download = cpu_download,
        .fill_zero = cpu_fill_zero,
        .sync = cpu_sync,
        .usage = cpu_usage,
        .free = cpu_free,
        .impl = cpu,
    };
    if (real == BN_F64)
        bn_ref_fill_f64(&cpu->backend);
    else
        bn_ref_fill_f32(&cpu->backend);
    *out = cpu;
    return BN_OK;
}

bn_status bn_cpu_backend_new(const bn_cpu_options *options, bn_backend **out)
{
    const bn_cpu_options defaults = {0};
    if (!options)
        options = &defaults;
    *out = NULL;
    bn_status status = BN_OK;
    bn_cpu *cpu = NULL;
    BN_TRY(cpu_new("cpu", BN_F32, options->memory_limit, &cpu));
    BN_TRY_OUT(choose_isa(options->isa ? options->isa : getenv("BITNET_CPU"), &cpu->isa));
    BN_TRY_OUT(bn_threads_new(options->threads, &cpu->threads));
    if (strcmp(cpu->isa, "ref") != 0)
        BN_TRY_OUT(bn_cpu_overlay_fast(&cpu->backend));
    *out = &cpu->backend;
out:
    if (status != BN_OK)
        cpu_free(&cpu->backend);
    return status;
}

bn_status bn_ref_backend_new(bn_dtype real, bn_backend **out)
{
    *out = NULL;
    if (real != BN_F32 && real != BN_F64)
        return bn_error(BN_FAIL, "reference backend: real type is %s, expected float32 or float64",
                        bn_dtype_name(real));
    bn_cpu *cpu = NULL;
    BN_TRY(cpu_new(real == BN_F64 ? "ref64" : "ref32", real, 0, &cpu));
    *out = &cpu->backend;
    return BN_OK;
}

const char *bn_cpu_isa(const bn_backend *backend)
{
    return bn_cpu_of(backend)->isa;
}

bn_threads *bn_cpu_threads(const bn_backend *backend)
{
    return bn_cpu_of(backend)->threads;
}
