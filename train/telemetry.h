/* telemetry.h - what the ternary codes of each BitLinear do during training.
 *
 * A measurement quantizes every weight on the device, brings the codes to
 * the host and compares them with those of the measurement before. That one
 * (the baseline) and the direction in which each code moved last are the state
 * of this module and belong into a checkpoint, so that a resumed run measures
 * what an undisturbed one does. A code oscillates that moves back: many such
 * codes at a low learning rate are weights on the border of two codes, which
 * training moves to and fro (arXiv 2203.11086).
 */
#ifndef BN_TRAIN_TELEMETRY_H
#define BN_TRAIN_TELEMETRY_H

#include "model/model.h"

typedef struct bn_layer_stats {
    const char *name;    /* of the layer; belongs to the model */
    bool frozen;         /* its codes cannot change */
    double zero_share;   /* share of codes that are 0 */
    double flip_rate;    /* share of codes that differ from the baseline */
    double oscillation;  /* share that differ and move against their last move */
    double entropy_bits; /* of the codes, in bits per weight */
    double scale_drift;  /* mean scale / baseline's mean scale - 1 */
} bn_layer_stats;

typedef struct bn_telemetry {
    const bn_model *model; /* borrowed */
    bn_buffer device;      /* codes and scales of one layer */
    int count;             /* layers with quantized weights */
    bn_layer_stats *stats;
    uint8_t *codes;      /* the baseline, layer after layer */
    uint8_t *directions; /* of the last move of each code since the beginning, likewise */
    double *scales;      /* its mean scale per layer */
    size_t code_bytes;
    uint8_t *fresh_codes; /* of one layer */
    uint8_t *change;      /* scratch of that size */
    float *fresh_scales;
} bn_telemetry;

/* Bytes of the baseline's codes, and of all arrays on the host. */
size_t bn_telemetry_code_bytes(const bn_model *model);
size_t bn_telemetry_host_bytes(const bn_model *model);
/* Bytes on the device: codes and scales of the largest layer. */
size_t bn_telemetry_device_bytes(const bn_model *model);

/* *out need not be initialised; on failure it is {0}. */
bn_status bn_telemetry_init(bn_telemetry *out, const bn_model *model) BN_MUST_CHECK;
void bn_telemetry_clear(bn_telemetry *telemetry); /* {0} is fine */

/* Makes the weights as they are the baseline, from which no code has moved. */
bn_status bn_telemetry_begin(bn_telemetry *telemetry) BN_MUST_CHECK;

/* Fills stats[0..count-1] and makes this measurement the baseline. */
bn_status bn_telemetry_measure(bn_telemetry *telemetry) BN_MUST_CHECK;

#endif
