/* metrics.h - OUT/metrics.jsonl: one JSON object per line, flushed line by line.
 *
 *   step, tokens_seen, loss, val_loss, val_ppl, lr, grad_norm,
 *   tokens_per_second, device_bytes, device_peak_bytes, device_fragmentation,
 *   elapsed_s
 *
 * `loss` is the mean training loss of the steps since the line before,
 * tokens_per_second their speed without evaluation and saving; device_* is the
 * memory a run takes where it computes (memory.h); val_* are null
 * unless this step was evaluated, always fully quantized. Where quantization
 * comes in during the run, `strength` is that of the step's training (0 to 1). A line with an
 * evaluation also has `layers`, one object per ternary layer: name, zero_share, flip_rate,
 * entropy_bits, scale_drift (telemetry.h); an MLP's also val_accuracy.
 */
#ifndef BN_TRAIN_METRICS_H
#define BN_TRAIN_METRICS_H

#include "base/fs.h"
#include "train/memory.h"
#include "train/telemetry.h"

typedef struct bn_metrics_record {
    int64_t step, tokens_seen;
    double loss, lr, grad_norm, tokens_per_second, elapsed_s;
    bn_device_memory device;
    bool ramped; /* the run has a float warm-up or a ramp */
    double strength;
    bool evaluated;
    double val_loss, val_ppl; /* if evaluated */
    bool classifier;
    double val_accuracy;          /* if evaluated, of a classifier */
    const bn_layer_stats *layers; /* if evaluated */
    int layer_count;
} bn_metrics_record;

typedef struct bn_metrics bn_metrics;

/* Opens or makes the file and cuts it behind its last whole line of a step up to
 * `step`: what a run that goes on from there would have written. */
bn_status bn_metrics_open(const char *path, int64_t step, bn_metrics **out) BN_MUST_CHECK;
bn_status bn_metrics_close(bn_metrics *metrics) BN_MUST_CHECK; /* frees; NULL is fine */

/* Adds a line. BN_IO: the disk does not take it now; it waits, in order, for the
 * next call of this or of bn_metrics_flush(). */
bn_status bn_metrics_write(bn_metrics *metrics, const bn_metrics_record *record) BN_MUST_CHECK;
bn_status bn_metrics_flush(bn_metrics *metrics) BN_MUST_CHECK;

/* Bytes of lines that wait; closing drops them. */
size_t bn_metrics_waiting(const bn_metrics *metrics);

/* Length of the file, whole lines only. */
uint64_t bn_metrics_bytes(const bn_metrics *metrics);

#endif
