/* telemetry.h - what the ternary codes of each BitLinear do during training.
 *
 * A measurement quantizes every weight on the device, brings the 2-bit codes to
 * the host and compares them with those of the measurement before. That one
 * (the baseline) is the state of this module and belongs into a checkpoint, so
 * that a resumed run measures what an undisturbed one does.
 */
#ifndef BN_TRAIN_TELEMETRY_H
#define BN_TRAIN_TELEMETRY_H

#include "model/model.h"

typedef struct bn_layer_stats {
    const char *name;    /* of the layer; belongs to the model */
    bool frozen;         /* its codes cannot change */
    double zero_share;   /* share of codes that are 0 */
    double flip_rate;    /* share of codes that differ from the baseline */
    double entropy_bits; /* of -1, 0, +1, in bits per weight */
    double scale_drift;  /* mean scale / baseline's mean scale - 1 */
} bn_layer_stats;

typedef struct bn_telemetry {
    const bn_model *model; /* borrowed */
    bn_buffer device;      /* codes and scales of one layer */
    int count;             /* layers with ternary weights */
    bn_layer_stats *stats;
    uint8_t *codes; /* the baseline, layer after layer */
    double *scales; /* its mean scale per layer */
    size_t code_bytes;
    uint8_t *fresh_codes; /* of one layer */
    float *fresh_scales;
} bn_telemetry;

/* Bytes the baseline's codes take on the host. */
size_t bn_telemetry_code_bytes(const bn_model *model);
/* Bytes on the device: codes and scales of the largest layer. */
size_t bn_telemetry_device_bytes(const bn_model *model);

/* *out need not be initialised; on failure it is {0}. */
bn_status bn_telemetry_init(bn_telemetry *out, const bn_model *model) BN_MUST_CHECK;
void bn_telemetry_clear(bn_telemetry *telemetry); /* {0} is fine */

/* Fills stats[0..count-1] and makes this measurement the baseline. The very
 * first one after init compares with all-zero bytes: call it once to set the
 * baseline. */
bn_status bn_telemetry_measure(bn_telemetry *telemetry) BN_MUST_CHECK;

#endif
