#include "train/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

struct bn_metrics {
    bn_file *file;
};

/* Length of the file up to and including its last newline. */
static bn_status whole_lines(const char *path, uint64_t *bytes)
{
    const size_t limit = (size_t)1 << 30;
    char *text;
    size_t size;
    BN_TRY(bn_fs_read(path, limit, &text, &size));
    while (size > 0 && text[size - 1] != '\n')
        size--;
    free(text);
    *bytes = size;
    return BN_OK;
}

bn_status bn_metrics_open(const char *path, uint64_t keep, bn_metrics **out)
{
    bn_status status = BN_OK;
    *out = NULL;
    bn_metrics *metrics = calloc(1, sizeof *metrics);
    if (!metrics)
        return bn_error_nomem("the metrics", sizeof *metrics);
    BN_TRY_OUT(bn_file_append(path, &metrics->file));
    if (bn_file_size(metrics->file) < keep)
        BN_TRY_OUT(whole_lines(path, &keep));
    BN_TRY_OUT(bn_file_truncate(metrics->file, keep));
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
    free(metrics);
    return status;
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
    bn_json_double(&json, "elapsed_s", record->elapsed_s);
    if (record->evaluated && record->classifier)
        bn_json_double(&json, "val_accuracy", record->val_accuracy);
    if (record->evaluated)
        write_layers(&json, record);
    bn_json_object_end(&json);
    BN_TRY(bn_json_take(&json, &line));
    bn_status status = bn_file_write(metrics->file, line, strlen(line));
    free(line);
    return status;
}

uint64_t bn_metrics_bytes(const bn_metrics *metrics)
{
    return bn_file_size(metrics->file);
}
