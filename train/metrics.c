#include "train/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

struct bn_metrics {
    bn_file *file;
    uint64_t whole;  /* bytes of whole lines in it */
    bn_text waiting; /* lines that are not in it yet */
};

/* Whether a line tells of a step up to `limit`. */
static bool is_until(const char *line, size_t size, int64_t limit)
{
    cJSON *object;
    if (bn_json_parse("metrics", line, size, &object) != BN_OK) {
        bn_error_clear(); /* torn by a kill, or not ours */
        return false;
    }
    const cJSON *step = cJSON_GetObjectItemCaseSensitive(object, "step");
    const bool until = cJSON_IsNumber(step) && step->valuedouble <= (double)limit;
    cJSON_Delete(object);
    return until;
}

/* Length of the file up to and including its last such line. */
static bn_status length_until(const char *path, int64_t step, uint64_t *bytes)
{
    bn_map map;
    BN_TRY(bn_map_open(path, &map));
    const char *text = (const char *)map.data;
    size_t end = map.size;
    while (end > 0 && text[end - 1] != '\n')
        end--;
    while (end > 0) {
        size_t start = end - 1;
        while (start > 0 && text[start - 1] != '\n')
            start--;
        if (is_until(text + start, end - start, step))
            break;
        end = start;
    }
    bn_map_close(&map);
    *bytes = end;
    return BN_OK;
}

bn_status bn_metrics_open(const char *path, int64_t step, bn_metrics **out)
{
    bn_status status = BN_OK;
    uint64_t keep;
    *out = NULL;
    bn_metrics *metrics = calloc(1, sizeof *metrics);
    if (!metrics)
        return bn_error_nomem("the metrics", sizeof *metrics);
    BN_TRY_OUT(bn_file_append(path, &metrics->file));
    BN_TRY_OUT(length_until(path, step, &keep));
    BN_TRY_OUT(bn_file_truncate(metrics->file, keep));
    metrics->whole = keep;
    *out = metrics;
out:
    if (status != BN_OK) {
        bn_status ignored = bn_file_close(metrics->file);
        (void)ignored; /* the first error is the one to report */
        free(metrics);
    }
    return status;
}

bn_status bn_metrics_close(bn_metrics *metrics)
{
    if (!metrics)
        return BN_OK;
    bn_status status = bn_file_close(metrics->file);
    bn_text_clear(&metrics->waiting);
    free(metrics);
    return status;
}

/* All that waits, after what a failed write may have left of a line. */
bn_status bn_metrics_flush(bn_metrics *m)
{
    if (m->waiting.size == 0)
        return BN_OK;
    if (bn_file_size(m->file) != m->whole)
        BN_TRY(bn_file_truncate(m->file, m->whole));
    BN_TRY(bn_file_write(m->file, m->waiting.data, m->waiting.size));
    m->whole = bn_file_size(m->file);
    bn_text_clear(&m->waiting);
    return BN_OK;
}

size_t bn_metrics_waiting(const bn_metrics *m)
{
    return m->waiting.size;
}

static void write_layers(bn_json *json, const bn_metrics_record *record)
{
    bn_json_array(json, "layers");
    for (int i = 0; i < record->layer_count; i++) {
        const bn_layer_stats *layer = &record->layers[i];
        bn_json_object(json, NULL);
        bn_json_string(json, "name", layer->name);
        bn_json_double(json, "zero_share", layer->zero_share);
        bn_json_double(json, "flip_rate", layer->flip_rate);
        bn_json_double(json, "oscillation", layer->oscillation);
        bn_json_double(json, "entropy_bits", layer->entropy_bits);
        bn_json_double(json, "scale_drift", layer->scale_drift);
        bn_json_object_end(json);
    }
    bn_json_array_end(json);
}

bn_status bn_metrics_write(bn_metrics *metrics, const bn_metrics_record *record)
{
    bn_json json = {0};
    char *line;
    bn_json_object(&json, NULL);
    bn_json_int(&json, "step", record->step);
    bn_json_int(&json, "tokens_seen", record->tokens_seen);
    bn_json_double(&json, "loss", record->loss);
    if (record->evaluated) {
        bn_json_double(&json, "val_loss", record->val_loss);
        bn_json_double(&json, "val_ppl", record->val_ppl);
    } else {
        bn_json_null(&json, "val_loss");
        bn_json_null(&json, "val_ppl");
    }
    bn_json_double(&json, "lr", record->lr);
    bn_json_double(&json, "grad_norm", record->grad_norm);
    bn_json_double(&json, "tokens_per_second", record->tokens_per_second);
    bn_json_int(&json, "device_bytes", (int64_t)record->device.bytes);
    bn_json_int(&json, "device_peak_bytes", (int64_t)record->device.peak_bytes);
    bn_json_double(&json, "device_fragmentation", record->device.fragmentation);
    bn_json_double(&json, "elapsed_s", record->elapsed_s);
    if (record->ramped)
        bn_json_double(&json, "strength", record->strength);
    if (record->evaluated && record->classifier)
        bn_json_double(&json, "val_accuracy", record->val_accuracy);
    if (record->evaluated)
        write_layers(&json, record);
    bn_json_object_end(&json);
    BN_TRY(bn_json_take(&json, &line));
    bn_text_add(&metrics->waiting, line);
    free(line);
    if (metrics->waiting.failed)
        return bn_error_nomem("lines of metrics", metrics->waiting.size);
    return bn_metrics_flush(metrics);
}

uint64_t bn_metrics_bytes(const bn_metrics *metrics)
{
    return metrics->whole;
}
