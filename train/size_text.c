#include "train/size_text.h"

#include <stdlib.h>

#include "base/fs.h"
#include "base/json.h"

double bn_measured_speed(const char *output_dir)
{
    enum { LIMIT = 1 << 20 };
    double speed = 0.0;
    cJSON *json = NULL;
    char *path = bn_path_join(output_dir, "summary.json");
    if (path && bn_fs_exists(path) && bn_json_read(path, LIMIT, &json) == BN_OK) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, "tokens_per_second");
        if (cJSON_IsNumber(item) && item->valuedouble > 0.0)
            speed = item->valuedouble;
    }
    cJSON_Delete(json);
    free(path);
    bn_error_clear(); /* an unreadable summary only means: not known */
    return speed;
}

static double quantized_share(const bn_size_report *r)
{
    return (double)r->quantized / (double)r->parameters;
}

/* What a parameter costs beside activations: value, gradient, moments. */
static double per_parameter(const bn_size_report *r)
{
    const bn_memory_report *m = &r->memory;
    return (double)(m->weights + m->gradients + m->moments) / (double)r->parameters;
}

/* What a layer keeps of a token for its backward pass (not its packed weights). */
static double per_layer_token(const bn_size_report *r)
{
    return (double)(r->memory.saved_codes + r->memory.saved_float) / (double)r->layer_tokens;
}

/* The rows of the memory table; `part` ones lie inside the arena. */
typedef struct memory_row {
    const char *key, *label;
    bool part;
    size_t bytes;
} memory_row;

enum { MEMORY_ROWS = 14 };

static void memory_rows(const bn_memory_report *m, memory_row rows[MEMORY_ROWS])
{
    const memory_row all[MEMORY_ROWS] = {
        {"weights", "weights", false, m->weights},
        {"gradients", "gradients", false, m->gradients},
        {"moments", "optimizer moments", false, m->moments},
        {"update", "optimizer scratch", false, m->update},
        {"teacher", "weights of the teacher", false, m->teacher},
        {"arena", "activations, one arena", false, m->arena},
        {"saved_codes", "saved: int8 activation codes", true, m->saved_codes},
        {"saved_packed", "saved: 2-bit packed weights", true, m->saved_packed},
        {"saved_float", "saved: float activations", true, m->saved_float},
        {"activation_gradients", "activation gradients", true, m->activation_gradients},
        {"scratch", "kernel scratch", true, m->scratch},
        {"tables", "tables and batches", false, m->tables},
        {"total", "total", false, m->total},
        {"host_telemetry", "besides, on the host: telemetry", false, m->host_telemetry},
    };
    for (int i = 0; i < MEMORY_ROWS; i++)
        rows[i] = all[i];
}

bn_status bn_size_report_table(const bn_size_report *r, double speed, char **text)
{
    bn_text out = {0};
    char size[BN_SIZE_TEXT];
    memory_row rows[MEMORY_ROWS];
    const double tokens = (double)r->tokens_per_step * (double)r->steps;
    bn_text_addf(&out, "parameters    %14lld\n", (long long)r->parameters);
    bn_text_addf(&out, "  linear      %14lld\n", (long long)r->linear);
    bn_text_addf(&out, "  embedding   %14lld\n", (long long)r->embedding);
    bn_text_addf(&out, "  norm        %14lld\n", (long long)r->norm);
    bn_text_addf(&out, "  bias        %14lld\n", (long long)r->bias);
    bn_text_addf(&out, "  adapters    %14lld\n", (long long)r->adapters);
    bn_text_addf(&out, "trainable     %14lld  (%.1f %%)\n", (long long)r->trainable,
                 100.0 * (double)r->trainable / (double)r->parameters);
    bn_text_addf(&out, "quantized     %14lld  (%.1f %%), packed %s\n", (long long)r->quantized,
                 100.0 * quantized_share(r), bn_size_text((uint64_t)r->packed_bytes, size));
    bn_text_add(&out, "memory\n");
    memory_rows(&r->memory, rows);
    for (int i = 0; i < MEMORY_ROWS; i++)
        bn_text_addf(&out, "  %s%-*s %12s\n", rows[i].part ? "  " : "", rows[i].part ? 30 : 32,
                     rows[i].label, bn_size_text(rows[i].bytes, size));
    bn_text_add(&out, "  (parts of the arena share memory: their sum may exceed it)\n");
    bn_text_addf(&out, "  bytes per parameter %.2f, kept per layer and token %.0f\n",
                 per_parameter(r), per_layer_token(r));
    bn_text_addf(&out, "tokens per step %lld, steps %lld, tokens in all %.4g\n",
                 (long long)r->tokens_per_step, (long long)r->steps, tokens);
    if (speed > 0.0)
        bn_text_addf(&out, "ETA %.0f s at %.0f tokens/s, as the last run in this folder\n",
                     tokens / speed, speed);
    else
        bn_text_add(&out, "ETA unknown: no run has finished in this output folder yet\n");
    return bn_text_take(&out, text);
}

bn_status bn_size_report_json(const bn_size_report *r, double speed, char **text)
{
    bn_json json = {.indent = 2};
    memory_row rows[MEMORY_ROWS];
    const double tokens = (double)r->tokens_per_step * (double)r->steps;
    bn_json_object(&json, NULL);
    bn_json_object(&json, "parameters");
    bn_json_int(&json, "total", r->parameters);
    bn_json_int(&json, "linear", r->linear);
    bn_json_int(&json, "embedding", r->embedding);
    bn_json_int(&json, "norm", r->norm);
    bn_json_int(&json, "bias", r->bias);
    bn_json_int(&json, "adapters", r->adapters);
    bn_json_int(&json, "trainable", r->trainable);
    bn_json_int(&json, "quantized", r->quantized);
    bn_json_double(&json, "quantized_share", quantized_share(r));
    bn_json_object_end(&json);
    bn_json_int(&json, "packed_bytes", r->packed_bytes);
    bn_json_object(&json, "memory_bytes");
    memory_rows(&r->memory, rows);
    for (int i = 0; i < MEMORY_ROWS; i++)
        bn_json_int(&json, rows[i].key, (int64_t)rows[i].bytes);
    bn_json_object_end(&json);
    bn_json_double(&json, "bytes_per_parameter", per_parameter(r));
    bn_json_double(&json, "bytes_per_layer_token", per_layer_token(r));
    bn_json_int(&json, "tokens_per_step", r->tokens_per_step);
    bn_json_int(&json, "steps", r->steps);
    bn_json_double(&json, "tokens", tokens);
    if (speed > 0.0) {
        bn_json_double(&json, "tokens_per_second", speed);
        bn_json_double(&json, "eta_s", tokens / speed);
    } else {
        bn_json_null(&json, "tokens_per_second");
        bn_json_null(&json, "eta_s");
    }
    bn_json_object_end(&json);
    return bn_json_take(&json, text);
}
