/* memory.h - memory of a run by role: foretold from shapes, and measured. */
#ifndef BN_TRAIN_MEMORY_H
#define BN_TRAIN_MEMORY_H

#include "train/graphs.h"

/* Bytes on the device. The arena is smaller than the sum of its roles: they
 * are not at their largest at the same moment, and memory is used again. */
typedef struct bn_memory_report {
    size_t weights;   /* float shadow weights or the packed base, norms, embedding, adapters */
    size_t gradients; /* of parameters */
    size_t moments;   /* of the optimizer */
    size_t update;    /* scratch of the optimizer */
    size_t teacher;   /* weights, codes and table of distillation.teacher */
    size_t arena;     /* activations, their gradients, kernel scratch */
    /* What is in the arena: */
    size_t saved_codes;          /* kept for backward: int8 activations and steps */
    size_t saved_packed;         /* kept for backward: 2-bit weights and scales */
    size_t saved_float;          /* kept for backward: float activations */
    size_t activation_gradients; /* largest sum alive at once */
    size_t scratch;              /* largest kernel scratch */
    size_t tables;               /* RoPE, token batches, telemetry */
    size_t total;                /* all of the above but the parts of the arena */
    size_t host_telemetry;       /* codes kept on the host; not in the total */
} bn_memory_report;

typedef struct bn_size_report {
    int64_t parameters, linear, embedding, norm, bias; /* elements */
    int64_t adapters;                                  /* of them in adapters */
    int64_t trainable;                                 /* of them not frozen */
    int64_t quantized;                                 /* of them in BitLinear layers */
    int64_t packed_bytes; /* codes and scales of the BitLinear layers once exported */
    int64_t tokens_per_step, steps;
    int64_t layer_tokens; /* layers times tokens of one pass */
    bn_memory_report memory;
} bn_size_report;

/* Sizes a run without allocating any of its memory and without its text.
 * `vocab` is the tokenizer's size. */
bn_status bn_size_report_make(const bn_config *config, int64_t vocab, bn_backend *backend,
                              bn_size_report *out) BN_MUST_CHECK;

/* Adds to the text of a failed allocation (BN_FAIL; anything else is left alone)
 * what the whole run needs by role and what to lower. Returns `status`. */
bn_status bn_memory_explain(bn_status status, const bn_config *config, int64_t vocab,
                            bn_backend *backend) BN_MUST_CHECK;

/* What a run takes where it computes, as the backend counts it. */
typedef struct bn_device_memory {
    size_t bytes;         /* now */
    size_t peak_bytes;    /* most so far */
    double fragmentation; /* share of what the backend holds that has no use when a step needs
                             most: gaps in the arena, and blocks that are not given out */
} bn_device_memory;

/* Memory of this process: now, and the most so far. 0 where unknown. */
size_t bn_resident_bytes(void);
size_t bn_peak_resident_bytes(void);

#endif
