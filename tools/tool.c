#include "tools/tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "checkpoint/h5file.h"
#include "cpu/blas/blas.h"
#include "cpu/cpu.h"
#include "model/device.h"

const char bn_tool_producer[] = "bitnet-qat " BITNET_VERSION;

static const char *program_name = "bitnet";

/* What computes. */
static bn_status add_details(bn_text *version)
{
    bn_backend *backend;
    BN_TRY(bn_cpu_backend_new(NULL, &backend));
    bn_text_addf(version, "cpu kernels: %s\nthreads: %d\nOpenBLAS core: %s\n", bn_cpu_isa(backend),
                 bn_threads_count(bn_cpu_threads(backend)), bn_blas_core());
    bn_backend_free(backend);
    return BN_OK;
}

int bn_tool_main(const bn_program *program, bn_tool_run run, void *args, int argc, char **argv)
{
    program_name = program->name;
    return bn_tool_main_with(program, add_details, run, args, argc, argv);
}

void bn_tool_distrust(bool untrusted)
{
    if (untrusted)
        bn_h5_distrust(&bn_h5_default_limits);
}

static bn_status open_device(const bn_tool_where *where, bn_tool_model *out)
{
    const bn_device_options options = {.threads = (int)where->threads,
                                       .memory_limit = where->max_memory};
    *out = (bn_tool_model){0};
    if (where->threads < 0 || where->threads > 4096)
        return bn_error(BN_USAGE, "--threads %lld: expected 0 to 4096", (long long)where->threads);
    bn_tool_distrust(where->untrusted);
    return bn_device_open(where->device, &options, &out->backend, NULL);
}

/* The end of opening: says what was passed over, or cleans up. */
static bn_status opened(bn_status status, bn_tool_model *out)
{
    if (status != BN_OK) {
        bn_tool_close(out);
        return status;
    }
    for (size_t i = 0; i < out->loaded.skipped.count; i++)
        fprintf(stderr, "%s: passed over %s\n", program_name, out->loaded.skipped.items[i]);
    return BN_OK;
}

bn_status bn_tool_check_output(const char *output)
{
    if (!output || !*output)
        return bn_error(BN_USAGE, "-o FILE is missing");
    if (bn_fs_is_dir(output))
        return bn_error(BN_USAGE, "-o %s: is a folder, expected a file name", output);
    return BN_OK;
}

bn_status bn_tool_cache_bits(const char *type, int *bits)
{
    static const struct {
        const char *name;
        int bits;
    } types[] = {{"float32", 0}, {"int8", 8}, {"int4", 4}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(type, types[i].name) == 0) {
            *bits = types[i].bits;
            return BN_OK;
        }
    return bn_error(BN_USAGE, "--cache-type %s: expected float32, int8 or int4", type);
}

bn_status bn_tool_open(const char *path, const bn_tool_where *where, bool pack, bn_tool_model *out)
{
    BN_TRY(open_device(where, out));
    return opened(bn_loaded_open(path, out->backend, pack, &out->loaded), out);
}

bn_status bn_tool_open_base(const char *path, const bn_tool_where *where, bn_tool_model *out)
{
    BN_TRY(open_device(where, out));
    bn_status status = bn_loaded_open_base(path, out->backend, NULL, &out->loaded);
    out->base = (bn_adapter_base){
        .model = out->loaded.model, .config = &out->loaded.config, .path = out->loaded.path};
    if (status == BN_OK)
        status = bn_model_identity(out->base.model, out->base.id);
    return opened(status == BN_BAD_CONFIG ? BN_BAD_DATA : status, out);
}

bn_status bn_tool_add_adapter(const char *path, bn_tool_model *model)
{
    const size_t bytes = (size_t)(model->n_adapters + 1) * sizeof *model->adapters;
    bn_adapter **adapters = realloc(model->adapters, bytes);
    if (!adapters)
        return bn_error_nomem("the adapters", bytes);
    model->adapters = adapters;
    BN_TRY(bn_adapter_open(path, &model->base, &adapters[model->n_adapters]));
    model->n_adapters++;
    return BN_OK;
}

/* Adds PATH or PATH:FACTOR on top of what is in use. A path that exists is one, whatever
 * it ends with. */
static bn_status use_adapter(const char *text, bn_tool_model *model)
{
    const char *colon = strrchr(text, ':');
    double factor = 1;
    if (!colon || bn_fs_exists(text) || !bn_parse_f64(colon + 1, &factor))
        colon = text + strlen(text);
    char *path = bn_format("%.*s", (int)(colon - text), text);
    if (!path)
        return bn_error_nomem("a path", strlen(text));
    bn_status status = bn_tool_add_adapter(path, model);
    free(path);
    if (status != BN_OK)
        return status;
    bn_adapter *adapter = model->adapters[model->n_adapters - 1];
    bn_adapter_weigh(adapter, factor);
    bn_adapter_add(model->loaded.model, adapter);
    return BN_OK;
}

bn_status bn_tool_open_adapted(const char *path, const bn_tool_where *where,
                               const bn_strings *adapters, bn_tool_model *out)
{
    bn_status status = BN_OK;
    if (adapters->count == 0)
        return bn_tool_open(path, where, true, out);
    BN_TRY(bn_tool_open_base(path, where, out));
    for (size_t i = 0; i < adapters->count; i++)
        BN_TRY_OUT(use_adapter(adapters->items[i], out));
    BN_TRY_OUT(bn_model_arrange(out->loaded.model));
out:
    if (status != BN_OK)
        bn_tool_close(out);
    return status;
}

void bn_tool_close(bn_tool_model *model)
{
    for (int i = 0; i < model->n_adapters; i++)
        bn_adapter_free(model->adapters[i]);
    free(model->adapters);
    bn_loaded_clear(&model->loaded);
    bn_backend_free(model->backend);
    *model = (bn_tool_model){0};
}
