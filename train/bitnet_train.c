/* bitnet-train: trains a model from a configuration file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/options.h"
#include "base/signals.h"
#include "cpu/blas/blas.h"
#include "cpu/cpu.h"
#include "model/device.h"
#include "model/model_check.h"
#include "train/console.h"
#include "train/run.h"
#include "train/selftest.h"
#include "train/size_text.h"
#include "train/tune.h"

typedef struct arguments {
    const char *config, *resume, *init_from, *base, *device, *output_dir;
    bn_strings set;
    int64_t threads, seed, max_steps, stop_after;
    uint64_t max_memory;
    bool list_devices, dry_run, overfit_batch, check_grad, selftest, tune, profile, quiet,
        overwrite;
    bool config_reference, config_schema;
} arguments;

#define AT(member) offsetof(arguments, member)

static const bn_option option_table[] = {
    {"set", 's', "KEY=VALUE", BN_OPT_LIST, AT(set),
     "change one configuration key, as in training.max_steps=500; may be repeated"},
    {"output-dir", 'o', "DIR", BN_OPT_STRING, AT(output_dir), "output folder (output_dir)"},
    {"base", 'b', "MODEL", BN_OPT_STRING, AT(base),
     "train adapters over this model, which stays as it is (adapter.base)"},
    {"resume", 'r', "auto|PATH", BN_OPT_STRING, AT(resume),
     "go on from the newest good checkpoint of the output folder, or from PATH"},
    {"init-from", 0, "MODEL", BN_OPT_STRING, AT(init_from),
     "start from the weights of a folder or checkpoint, float or not (training.init_from)"},
    {"overwrite", 0, NULL, BN_OPT_FLAG, AT(overwrite),
     "remove an earlier run's files from the output folder"},
    {"device", 'd', "NAME", BN_OPT_STRING, AT(device),
     "auto, cpu, opencl, opencl:N or opencl:NAME"},
    {"list-devices", 0, NULL, BN_OPT_FLAG, AT(list_devices),
     "list devices with what they can do and exit"},
    {"profile", 0, NULL, BN_OPT_FLAG, AT(profile),
     "time every kernel of an OpenCL device; printed at the end, with the bytes moved per step"},
    {"threads", 't', "N", BN_OPT_I64, AT(threads), "CPU threads; 0: all (training.threads)"},
    {"max-memory", 0, "SIZE", BN_OPT_SIZE, AT(max_memory),
     "most memory for weights, activations and scratch, as in 512M or 1.5G"},
    {"seed", 0, "N", BN_OPT_I64, AT(seed), "seed of the run (training.seed)"},
    {"max-steps", 'n', "N", BN_OPT_I64, AT(max_steps),
     "steps of the run; schedules follow (training.max_steps)"},
    {"stop-after", 0, "N", BN_OPT_I64, AT(stop_after),
     "save and stop after step N, exit code 75; schedules stay as they are"},
    {"dry-run", 0, NULL, BN_OPT_FLAG, AT(dry_run),
     "print parameters and memory by role, and exit; JSON on stdout"},
    {"overfit-batch", 0, NULL, BN_OPT_FLAG, AT(overfit_batch),
     "train on the first batch only: the loss must go to zero"},
    {"check-grad", 0, NULL, BN_OPT_FLAG, AT(check_grad),
     "compare the gradient of a shrunken copy of the model with differences, in double"},
    {"selftest", 0, NULL, BN_OPT_FLAG, AT(selftest), "compare this machine's kernels and exit"},
    {"tune", 0, NULL, BN_OPT_FLAG, AT(tune),
     "time the device's kernels on this configuration, keep the fastest settings and exit"},
    {"quiet", 'q', NULL, BN_OPT_FLAG, AT(quiet), "no progress on stderr"},
    {"config-reference", 0, NULL, BN_OPT_FLAG, AT(config_reference),
     "print the reference of all configuration keys (Markdown) and exit"},
    {"config-schema", 0, NULL, BN_OPT_FLAG, AT(config_schema),
     "print a JSON schema of configuration files and exit"},
    {0},
};

static const bn_positional positional_table[] = {
    {"CONFIG", BN_POS_OPTIONAL, AT(config), "configuration file (JSON)"},
    {0},
};

static const bn_program program = {
    "bitnet-train",
    "Trains a ternary language model from a configuration file.",
    option_table,
    positional_table,
    "Exit codes: 0 done, 1 failure, 2 usage, 3 self-test or gradient mismatch, 65 bad data,\n"
    "66 input missing, 69 no usable device, 74 I/O error, 75 interrupted with checkpoint saved,\n"
    "78 bad configuration.\n",
};

static int report(bn_status status)
{
    if (status != BN_OK)
        fprintf(stderr, "bitnet-train: %s\n", bn_error_text());
    return (int)status;
}

/* Prints a text on stdout and frees it. */
static bn_status print_text(bn_status status, char *text)
{
    if (status != BN_OK)
        return status;
    int failed = fputs(text, stdout) == EOF || fflush(stdout) == EOF;
    free(text);
    return failed ? bn_error(BN_IO, "cannot write to stdout") : BN_OK;
}

static void warn_of_pinned_core(void)
{
    const char *pinned, *possible;
    if (bn_blas_pinned(&pinned, &possible))
        fprintf(stderr,
                "warning: OPENBLAS_CORETYPE=%s keeps OpenBLAS below this CPU's %s: unset it for "
                "full speed\n",
                pinned, possible);
}

static bn_status print_version(void)
{
    bn_backend *backend;
    BN_TRY(bn_cpu_backend_new(NULL, &backend));
    printf("bitnet-train %s\ncpu kernels: %s\nthreads: %d\nOpenBLAS core: %s\n", BITNET_VERSION,
           bn_cpu_isa(backend), bn_threads_count(bn_cpu_threads(backend)), bn_blas_core());
    bn_backend_free(backend);
    warn_of_pinned_core();
    return BN_OK;
}

/* ---- configuration ------------------------------------------------------ */

static bn_status set_int(bn_config *config, const char *key, int64_t value)
{
    char text[96];
    snprintf(text, sizeof text, "%s=%lld", key, (long long)value);
    return bn_config_set(config, text);
}

static bn_status set_string(bn_config *config, const char *key, const char *value)
{
    char *text = bn_format("%s=%s", key, value);
    if (!text)
        return BN_FAIL;
    bn_status status = bn_config_set(config, text);
    free(text);
    return status;
}

/* The reference backends are devices of tests, not words of a config. */
static bool is_reference(const char *device)
{
    return strncmp(device, "ref", 3) == 0;
}

static bn_status apply_arguments(bn_config *config, const arguments *args,
                                 const bn_options *options)
{
    for (size_t i = 0; i < args->set.count; i++)
        BN_TRY(bn_config_set(config, args->set.items[i]));
    if (args->output_dir)
        BN_TRY(set_string(config, "output_dir", args->output_dir));
    if (args->init_from)
        BN_TRY(set_string(config, "training.init_from", args->init_from));
    if (args->base)
        BN_TRY(set_string(config, "adapter.base", args->base));
    if (args->device && !is_reference(args->device))
        BN_TRY(set_string(config, "training.device", args->device));
    if (bn_options_given(&program, options, "threads"))
        BN_TRY(set_int(config, "training.threads", args->threads));
    if (bn_options_given(&program, options, "seed"))
        BN_TRY(set_int(config, "training.seed", args->seed));
    if (bn_options_given(&program, options, "max-steps"))
        BN_TRY(set_int(config, "training.max_steps", args->max_steps));
    return BN_OK;
}

static bn_status load_config(const arguments *args, const bn_options *options, bn_config *out)
{
    if (!args->config)
        return bn_error(BN_USAGE, "CONFIG is missing; try --help");
    BN_TRY(bn_config_load(args->config, out));
    bn_status status = apply_arguments(out, args, options);
    if (status == BN_OK)
        status = bn_config_check(out, args->config);
    if (status != BN_OK)
        bn_config_clear(out);
    return status;
}

/* ---- what it does ------------------------------------------------------- */

static bn_status dry_run(const bn_config *config, bn_backend *backend)
{
    bn_size_report sizes;
    bn_tokenizer *tokenizer;
    char *table, *json = NULL;
    const double speed = bn_measured_speed(config->output_dir);
    BN_TRY(bn_tokenizer_open(config->data.tokenizer, &tokenizer));
    bn_status status =
        bn_size_report_make(config, bn_tokenizer_vocab_size(tokenizer), backend, &sizes);
    bn_tokenizer_free(tokenizer);
    BN_TRY(status);
    BN_TRY(bn_size_report_table(&sizes, speed, &table));
    fputs(table, stderr);
    free(table);
    status = bn_size_report_json(&sizes, speed, &json);
    return print_text(status, json);
}

/* The configured model with its widths and depth cut down, so that double
 * precision and four runs per element stay quick. Weights start ten times
 * larger than usual: otherwise the gradients of q_proj and k_proj are so small
 * that differences of the loss drown in rounding. */
static bn_status shrink(const bn_config *config, bn_config *out)
{
    BN_TRY(bn_config_copy(config, out));
    const bool grouped = bn_config_kv_heads(config) < config->model.num_attention_heads;
    const bn_config *c = config;
    bn_status status = BN_OK;
    BN_TRY_OUT(set_int(out, "model.num_attention_heads", 4));
    BN_TRY_OUT(set_int(out, "model.num_key_value_heads", grouped ? 2 : 4));
    BN_TRY_OUT(set_int(out, "model.hidden_size", 64));
    BN_TRY_OUT(set_int(out, "model.intermediate_size", 128));
    BN_TRY_OUT(set_int(out, "model.vocab_size", 256));
    BN_TRY_OUT(set_int(out, "model.max_position_embeddings", 32));
    BN_TRY_OUT(bn_config_set(out, "model.initializer_range=0.2"));
    if (c->model.num_hidden_layers > 2)
        BN_TRY_OUT(set_int(out, "model.num_hidden_layers", 2));
    if (c->quantization.group_size > 64)
        BN_TRY_OUT(set_int(out, "quantization.group_size", 64));
out:
    if (status != BN_OK)
        bn_config_clear(out);
    return status;
}

static bn_status check_gradient(const bn_config *config)
{
    enum { VOCAB = 256, BATCH = 2, TIME = 12, PER_TENSOR = 8 };
    const double limit = 1e-5;
    bn_config small;
    bn_model_check check;
    BN_TRY(shrink(config, &small));
    bn_status status = bn_model_check_gradients(&small, VOCAB, BATCH, TIME, PER_TENSOR,
                                                (uint64_t)config->training.seed, &check);
    bn_config_clear(&small);
    BN_TRY(status);
    printf("{\"elements\": %lld, \"quantizers\": %lld, \"loss_difference\": %.3g, "
           "\"route_error\": %.3g, \"numeric_error\": %.3g, \"worst\": \"%s\", \"limit\": %g}\n",
           (long long)check.elements, (long long)check.sites, check.loss_difference,
           check.route_error, check.numeric_error, check.worst, limit);
    if (!(check.numeric_error <= limit && check.route_error <= limit &&
          check.loss_difference <= limit))
        return bn_error(BN_MISMATCH, "gradient check: relative error %.3g at %s[%lld] exceeds %g",
                        check.numeric_error, check.worst, (long long)check.worst_index, limit);
    fprintf(stderr, "gradient check passed: %lld elements, relative error %.3g\n",
            (long long)check.elements, check.numeric_error);
    return BN_OK;
}

static bn_status selftest(bn_backend *backend)
{
    bn_text lines = {0};
    char *text;
    bn_status status = bn_selftest(backend, &lines);
    bn_status taken = bn_text_take(&lines, &text);
    BN_TRY(print_text(taken, text));
    if (status == BN_OK)
        fputs("self-test passed\n", stderr);
    return status;
}

static bn_status tune(const bn_config *config, bn_backend *backend)
{
    bn_text lines = {0};
    char *text;
    bn_status status = bn_tune(config, backend, &lines);
    bn_status taken = bn_text_take(&lines, &text);
    taken = print_text(taken, text);
    return status != BN_OK ? status : taken;
}

static bn_status print_profile(const bn_console *console, bn_backend *backend)
{
    bn_text lines = {0};
    char *text;
    bn_status status = bn_device_profile(backend, &lines);
    bn_console_traffic(console, &lines);
    bn_status taken = bn_text_take(&lines, &text);
    if (taken != BN_OK)
        return taken;
    fputs(text, stderr);
    free(text);
    return status;
}

/* A thread that hangs in a driver cannot be stopped, so nothing is cleaned up:
 * what is on the disk is whole at any time. */
static void end_hung(void *arg, int64_t step, double seconds)
{
    (void)arg;
    fprintf(stderr,
            "bitnet-train: step %lld has taken more than %g s (training.watchdog_seconds): the "
            "device hangs; --resume auto goes on from the last checkpoint\n",
            (long long)step, seconds);
    _exit(BN_NO_DEVICE);
}

static bn_status train(const bn_config *config, bn_backend *backend, const arguments *args,
                       const char *device)
{
    char *summary;
    bn_console console = bn_console_of(config, args->quiet);
    const bn_run_options options = {
        .resume = args->resume,
        .overwrite = args->overwrite,
        .one_batch = args->overfit_batch,
        .stop_after = args->stop_after,
        .device = device,
        .memory_limit = args->max_memory,
        .interrupted = bn_signals_received,
        .catch_signals = bn_signals_install,
        .observer = bn_console_observer(&console),
        .hung = end_hung,
    };
    if (args->stop_after < 0)
        return bn_error(BN_USAGE, "--stop-after %lld: expected 0 or more",
                        (long long)args->stop_after);
    if (args->resume && args->overwrite)
        return bn_error(BN_USAGE, "--resume and --overwrite exclude each other");
    if (!args->quiet) {
        fprintf(stderr, "device: %s\n", device);
        warn_of_pinned_core();
    }
    bn_status status = bn_run_train(config, backend, &options, &summary);
    bn_console_finish(&console);
    status = print_text(status, summary);
    return status == BN_OK && args->profile ? print_profile(&console, backend) : status;
}

static bn_status with_device(const bn_config *config, const arguments *args)
{
    const char *device = args->device ? args->device : config->training.device;
    bn_backend *backend;
    char *device_text;
    bn_status status;
    const bn_device_options options = {(int)config->training.threads, args->profile,
                                       args->max_memory};
    BN_TRY(bn_device_open(device, &options, &backend, &device_text));
    if (args->selftest)
        status = selftest(backend);
    else if (args->dry_run)
        status = dry_run(config, backend);
    else if (args->tune)
        status = tune(config, backend);
    else
        status = train(config, backend, args, device_text);
    free(device_text);
    bn_backend_free(backend);
    return status;
}

static bn_status with_config(const arguments *args, const bn_options *options)
{
    bn_config config;
    if (args->selftest && !args->config)
        BN_TRY(bn_config_init(&config));
    else
        BN_TRY(load_config(args, options, &config));
    bn_status status = args->check_grad ? check_gradient(&config) : with_device(&config, args);
    bn_config_clear(&config);
    return status;
}

static bn_status run_program(const arguments *args, const bn_options *options)
{
    char *text = NULL;
    bn_status status;
    if (options->help) {
        status = bn_options_help(&program, &text);
        return print_text(status, text);
    }
    if (options->version)
        return print_version();
    if (args->config_reference) {
        status = bn_config_reference(&text);
        return print_text(status, text);
    }
    if (args->config_schema) {
        status = bn_config_schema(&text);
        return print_text(status, text);
    }
    if (args->list_devices) {
        bn_text lines = {0};
        BN_TRY(bn_device_list(&lines));
        status = bn_text_take(&lines, &text);
        return print_text(status, text);
    }
    return with_config(args, options);
}

int main(int argc, char **argv)
{
    arguments args = {0};
    bn_options options;
    bn_status status = bn_options_parse(&program, argc, argv, &args, &options);
    if (status == BN_OK)
        status = run_program(&args, &options);
    bn_strings_clear(&args.set);
    return report(status);
}
