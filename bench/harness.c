#include "bench/harness.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/timer.h"
#include "cpu/blas/blas.h"
#include "cpu/cpu.h"

enum { MAX_RUNS = 100000, MIN_RUNS = 5 };

static const char usage[] =
    "usage: %s [--json] [--threads N] [--isa NAME] [--filter TEXT] [--seconds S]\n"
    "  --json        results as one JSON object on stdout\n"
    "  --threads N   threads (default: all CPUs)\n"
    "  --isa NAME    kernels: ref, generic, avx2, ... (default: the best here)\n"
    "  --filter TEXT only subjects whose name contains TEXT\n"
    "  --seconds S   time for each subject (default: 0.3)\n";

/* Starts the program again without OPENBLAS_CORETYPE if that costs speed:
 * OpenBLAS reads it when it is loaded. */
static bn_status unpin_blas(char **argv)
{
    if (!bn_blas_pinned(NULL, NULL))
        return BN_OK;
    unsetenv("OPENBLAS_CORETYPE");
    execv("/proc/self/exe", argv);
    return bn_error(BN_FAIL, "cannot start again without OPENBLAS_CORETYPE: %s", strerror(errno));
}

/* The value of option argv[*i], which must follow it. */
static bn_status value_of(int argc, char **argv, int *i, const char **value)
{
    if (*i + 1 >= argc)
        return bn_error(BN_USAGE, "option %s: a value must follow", argv[*i]);
    *value = argv[++*i];
    return BN_OK;
}

static bn_status number_of(const char *option, const char *text, double min, double *value)
{
    char *end;
    *value = strtod(text, &end);
    if (end == text || *end || !(*value >= min))
        return bn_error(BN_USAGE, "option %s: '%s', expected a number of at least %g", option, text,
                        min);
    return BN_OK;
}

static bn_status parse(bench *b, int argc, char **argv, bool *done)
{
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i], *value = NULL;
        double number;
        if (strcmp(option, "--help") == 0) {
            printf(usage, b->program);
            *done = true;
            return BN_OK;
        }
        if (strcmp(option, "--json") == 0) {
            b->json = true;
        } else if (strcmp(option, "--threads") == 0) {
            BN_TRY(value_of(argc, argv, &i, &value));
            BN_TRY(number_of(option, value, 1, &number));
            b->threads = (int)number;
        } else if (strcmp(option, "--seconds") == 0) {
            BN_TRY(value_of(argc, argv, &i, &value));
            BN_TRY(number_of(option, value, 0, &b->seconds));
        } else if (strcmp(option, "--isa") == 0) {
            BN_TRY(value_of(argc, argv, &i, &b->isa));
        } else if (strcmp(option, "--filter") == 0) {
            BN_TRY(value_of(argc, argv, &i, &b->filter));
        } else {
            return bn_error(BN_USAGE, "unknown option '%s'; --help lists them", option);
        }
    }
    return BN_OK;
}

bn_status bench_init(bench *b, int argc, char **argv, bool *done)
{
    const char *slash = strrchr(argv[0], '/');
    *b = (bench){.program = slash ? slash + 1 : argv[0], .seconds = 0.3, .out = {.indent = 2}};
    *done = false;
    BN_TRY(parse(b, argc, argv, done));
    if (*done)
        return BN_OK;
    BN_TRY(unpin_blas(argv));
    BN_TRY(
        bn_cpu_backend_new(&(bn_cpu_options){.threads = b->threads, .isa = b->isa}, &b->backend));
    int threads = bn_threads_count(bn_cpu_threads(b->backend));
    if (!b->json) {
        printf("%s: isa %s, %d threads, OpenBLAS core type %s\n", b->program,
               bn_cpu_isa(b->backend), threads, bn_blas_core());
        printf("%-32s %-30s %10s %10s %16s %8s %9s %9s\n", "subject", "shape", "min us",
               "median us", "work", "of limit", "GB/s", "error");
        return BN_OK;
    }
    bn_json_object(&b->out, NULL);
    bn_json_string(&b->out, "program", b->program);
    bn_json_string(&b->out, "isa", bn_cpu_isa(b->backend));
    bn_json_int(&b->out, "threads", threads);
    bn_json_string(&b->out, "openblas_core", bn_blas_core());
    bn_json_string(&b->out, "openblas", bn_blas_config());
    bn_json_array(&b->out, "results");
    return BN_OK;
}

int bench_finish(bench *b, bn_status status)
{
    char *text = NULL;
    if (status == BN_OK && b->json && b->backend) {
        bn_json_array_end(&b->out);
        bn_json_object_end(&b->out);
        status = bn_json_take(&b->out, &text);
        if (status == BN_OK)
            fputs(text, stdout);
        free(text);
    }
    if (status != BN_OK)
        fprintf(stderr, "%s: %s\n", b->program, bn_error_text());
    bn_json_clear(&b->out);
    bn_backend_free(b->backend);
    return (int)status;
}

bool bench_wants(const bench *b, const char *name)
{
    return !b->filter || strstr(name, b->filter);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bn_status bench_time(const bench *b, bench_body body, void *arg, bench_result *r)
{
    bn_status status = BN_OK;
    int runs = 0;
    double *times = malloc(MAX_RUNS * sizeof *times);
    if (!times)
        return bn_error_nomem("bench times", MAX_RUNS * sizeof *times);
    BN_TRY_OUT(body(arg));
    for (double end = bn_seconds() + b->seconds;
         runs < MAX_RUNS && (runs < MIN_RUNS || bn_seconds() < end);) {
        double begin = bn_seconds();
        BN_TRY_OUT(body(arg));
        times[runs++] = bn_seconds() - begin;
    }
    qsort(times, (size_t)runs, sizeof *times, by_value);
    r->min_s = times[0];
    r->median_s = times[runs / 2];
out:
    free(times);
    return status;
}

/* Of the limit that the work of a result has; 0: unknown. */
static double share_of_limit(const bench *b, const bench_result *r)
{
    if (!r->kind)
        return 0;
    const double limit = b->limits[strcmp(r->kind, "GOPS") == 0 ? BENCH_INT8 : BENCH_FLOAT];
    return limit > 0 ? r->work / r->min_s / limit : 0;
}

void bench_report(bench *b, const bench_result *r)
{
    double rate = r->work / r->min_s * 1e-9, bandwidth = r->bytes / r->min_s * 1e-9;
    const double share = share_of_limit(b, r);
    if (b->json) {
        bn_json_object(&b->out, NULL);
        bn_json_string(&b->out, "name", r->name);
        bn_json_string(&b->out, "shape", r->shape);
        bn_json_double(&b->out, "min_s", r->min_s);
        bn_json_double(&b->out, "median_s", r->median_s);
        if (r->kind) {
            bn_json_string(&b->out, "unit", r->kind);
            bn_json_double(&b->out, "rate", rate);
        }
        if (share > 0)
            bn_json_double(&b->out, "share_of_limit", share);
        if (r->tokens > 0)
            bn_json_double(&b->out, "tokens_per_second", r->tokens / r->median_s);
        bn_json_double(&b->out, "gb_per_s", bandwidth);
        if (r->error >= 0)
            bn_json_double(&b->out, "error", r->error);
        bn_json_object_end(&b->out);
        return;
    }
    char work[32] = "", error[16] = "-", of_limit[16] = "";
    if (share > 0)
        snprintf(of_limit, sizeof of_limit, "%.0f %%", 100 * share);
    if (r->kind)
        snprintf(work, sizeof work, "%.1f %s", rate, r->kind);
    if (r->tokens > 0)
        snprintf(work, sizeof work, "%.0f tok/s", r->tokens / r->median_s);
    if (r->error >= 0)
        snprintf(error, sizeof error, "%.1e", r->error);
    printf("%-32s %-30s %10.1f %10.1f %16s %8s %9.1f %9s\n", r->name, r->shape, r->min_s * 1e6,
           r->median_s * 1e6, work, of_limit, bandwidth, error);
    fflush(stdout);
}

/* ---- the memory's limit -------------------------------------------------- */

enum { READ_BYTES = 1 << 29, READ_CHUNK = 1 << 20 };

typedef struct memory_read {
    bn_threads *threads;
    const uint64_t *data;
    _Atomic uint64_t sum; /* so that the reading has a result */
} memory_read;

static void read_chunk(void *arg, int64_t chunk, int worker)
{
    (void)worker;
    enum { N = READ_CHUNK / sizeof(uint64_t), LANES = 16 };
    memory_read *m = arg;
    const uint64_t *data = m->data + chunk * N;
    uint64_t lane[LANES] = {0}, sum = 0;
    for (int64_t i = 0; i < N; i += LANES)
        for (int l = 0; l < LANES; l++)
            lane[l] += data[i + l];
    for (int l = 0; l < LANES; l++)
        sum += lane[l];
    m->sum += sum;
}

static bn_status read_all(void *arg)
{
    memory_read *m = arg;
    bn_parallel_for(m->threads, READ_BYTES / READ_CHUNK, read_chunk, m);
    return BN_OK;
}

bn_status bench_memory_read(bench *b)
{
    memory_read m = {.threads = bn_cpu_threads(b->backend)};
    bench_result r = {.name = "memory read", .shape = "512 MiB", .bytes = READ_BYTES, .error = -1};
    bn_buffer memory;
    if (!bench_wants(b, r.name))
        return BN_OK;
    BN_TRY(b->backend->alloc(b->backend, READ_BYTES, &memory));
    memset(memory.host, 1, READ_BYTES);
    m.data = memory.host;
    bn_status status = bench_time(b, read_all, &m, &r);
    b->backend->release(b->backend, &memory);
    if (status == BN_OK)
        bench_report(b, &r);
    return status;
}
