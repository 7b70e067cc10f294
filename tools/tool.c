#include "tools/tool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/h5file.h"
#include "cpu/blas/blas.h"
#include "cpu/cpu.h"
#include "model/device.h"

const char bn_tool_producer[] = "bitnet-qat " BITNET_VERSION;

static const char *program_name = "bitnet";

bn_status bn_tool_print(const char *text)
{
    if (fputs(text, stdout) == EOF || fflush(stdout) == EOF)
        return bn_error(BN_IO, "standard output: %s", strerror(errno));
    return BN_OK;
}

bn_status bn_tool_print_text(bn_text *text)
{
    char *line = NULL;
    bn_status status = bn_text_take(text, &line);
    if (status == BN_OK)
        status = bn_tool_print(line);
    free(line);
    return status;
}

static bn_status print_help(const bn_program *program)
{
    char *text = NULL;
    BN_TRY(bn_options_help(program, &text));
    bn_status status = bn_tool_print(text);
    free(text);
    return status;
}

/* The version, and what computes. */
static bn_status print_version(const bn_program *program)
{
    bn_backend *backend;
    bn_text text = {0};
    BN_TRY(bn_cpu_backend_new(NULL, &backend));
    bn_text_addf(&text, "%s %s\ncpu kernels: %s\nthreads: %d\nOpenBLAS core: %s\n", program->name,
                 BITNET_VERSION, bn_cpu_isa(backend), bn_threads_count(bn_cpu_threads(backend)),
                 bn_blas_core());
    bn_backend_free(backend);
    return bn_tool_print_text(&text);
}

int bn_tool_main(const bn_program *program, bn_tool_run run, void *args, int argc, char **argv)
{
    bn_options options;
    program_name = program->name;
    bn_status status = bn_options_parse(program, argc, argv, args, &options);
    if (status == BN_USAGE) {
        fprintf(stderr, "%s: %s (see --help)\n", program->name, bn_error_text());
        return BN_USAGE;
    }
    if (status == BN_OK)
        status = options.help      ? print_help(program)
                 : options.version ? print_version(program)
                                   : run(args);
    if (status != BN_OK)
        fprintf(stderr, "%s: %s\n", program->name, bn_error_text());
    return (int)status;
}

void bn_tool_distrust(bool untrusted)
{
    if (untrusted)
        bn_h5_distrust(&bn_h5_default_limits);
}

bn_status bn_tool_open(const char *path, const bn_tool_where *where, bool pack, bn_tool_model *out)
{
    const bn_device_options options = {.threads = (int)where->threads};
    *out = (bn_tool_model){0};
    if (where->threads < 0 || where->threads > 4096)
        return bn_error(BN_USAGE, "--threads %lld: expected 0 to 4096", (long long)where->threads);
    bn_tool_distrust(where->untrusted);
    BN_TRY(bn_device_open(where->device, &options, &out->backend, NULL));
    bn_status status = bn_loaded_open(path, out->backend, pack, &out->loaded);
    if (status != BN_OK) {
        bn_tool_close(out);
        return status;
    }
    for (size_t i = 0; i < out->loaded.skipped.count; i++)
        fprintf(stderr, "%s: passed over %s\n", program_name, out->loaded.skipped.items[i]);
    return BN_OK;
}

void bn_tool_close(bn_tool_model *model)
{
    bn_loaded_clear(&model->loaded);
    bn_backend_free(model->backend);
    *model = (bn_tool_model){0};
}
