/* packed.h - packed model files, format "bitnet-packed" version 1.
 *
 * Specified in docs/packed-format.md; tests/oracle/packed_decoder.py reads the
 * same files independently. Quantized weights are stored as codes with their
 * scales, never re-derived; other tensors are float32, or float16/bfloat16 on
 * request. Errors as in h5file.h.
 */
#ifndef BN_CHECKPOINT_PACKED_H
#define BN_CHECKPOINT_PACKED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/shortfloat.h"
#include "base/status.h"
#include "tensor/scheme.h"

#define BN_PACKED_FORMAT "bitnet-packed"
enum { BN_PACKED_VERSION = 1 };

typedef enum bn_encoding {
    BN_ENC_TERNARY2, /* 4 codes per byte */
    BN_ENC_BASE3X5,  /* 5 codes per byte */
    BN_ENC_BINARY1,  /* bit fields of the other grids (quant/pack.h) */
    BN_ENC_INT2,
    BN_ENC_INT3,
    BN_ENC_INT4,
    BN_ENC_INT8,
    BN_ENC_FLOAT32,
    BN_ENC_FLOAT16,
    BN_ENC_BFLOAT16,
    BN_ENC_COUNT,
} bn_encoding;

const char *bn_encoding_name(bn_encoding encoding); /* as in files: "base3x5" */

static inline bool bn_encoding_is_codes(bn_encoding e)
{
    return e < BN_ENC_FLOAT32;
}

/* The grid whose codes an encoding holds, and the encoding of a grid's bit fields
 * (of ternary codes ternary2). */
bn_grid bn_encoding_grid(bn_encoding encoding);
bn_encoding bn_grid_encoding(bn_grid grid);

/* ---- writing ---- */
typedef struct bn_packed_tensor {
    const char *name; /* Hugging Face's */
    bn_encoding encoding;
    int ndim; /* 2 for codes */
    int64_t shape[BN_MAX_DIMS];
    int64_t group_size;   /* of codes: BN_PER_TENSOR, BN_PER_ROW or G */
    const uint8_t *codes; /* rows of bn_grid_dtype(), whatever the encoding */
    const float *data;    /* of codes the scales; else the elements, or NULL if
                           * `codes` holds them as a short encoding stores them */
} bn_packed_tensor;

typedef struct bn_packed_info {
    const char *config_json;
    const char *tokenizer; /* "byte", or the JSON text of a tokenizer ("{...") */
    const char *producer;  /* program and version */
} bn_packed_info;

/* Writes and verifies a file. `deflate` 0: stored as it is, 1..9: shuffle +
 * deflate. float16 rounds to nearest even and refuses values that overflow
 * (BN_FAIL naming tensor and value), bfloat16 rounds to nearest even; codes,
 * scales and floats that a reader would refuse are BN_FAIL. */
bn_status bn_packed_write(const char *path, const bn_packed_info *info,
                          const bn_packed_tensor *tensors, int count, int deflate) BN_MUST_CHECK;

/* ---- reading ---- */
typedef struct bn_packed bn_packed;

typedef struct bn_packed_entry {
    const char *name; /* belongs to the bn_packed */
    bn_encoding encoding;
    int ndim;
    int64_t shape[BN_MAX_DIMS]; /* of the weight, [out, in], not of the bytes */
    int64_t group_size;         /* of codes only, else 0 */
    uint64_t stored_bytes;      /* in the file, scales included */
} bn_packed_entry;

/* Checks structure, attributes and that shapes, group sizes and dataset
 * dimensions fit each other. On failure *out is NULL. */
bn_status bn_packed_open(const char *path, bn_packed **out) BN_MUST_CHECK;
void bn_packed_close(bn_packed *p); /* NULL is fine */

const bn_packed_info *bn_packed_get_info(const bn_packed *p);
int bn_packed_count(const bn_packed *p); /* scales are not entries of their own */
const bn_packed_entry *bn_packed_at(const bn_packed *p, int i);              /* sorted by name */
const bn_packed_entry *bn_packed_find(const bn_packed *p, const char *name); /* NULL: none */

/* The entry of this name and shape, else BN_BAD_DATA with both. */
bn_status bn_packed_expect(const bn_packed *p, const char *name, int ndim, const int64_t *shape,
                           const bn_packed_entry **out) BN_MUST_CHECK;

/* A tensor of codes as rows of bn_grid_dtype() (bn_grid_row_bytes() each) and its
 * scales (bn_scale_count() floats). Checksums, every code, all padding and
 * every scale (finite, > 0) are checked. */
bn_status bn_packed_read_codes(bn_packed *p, const bn_packed_entry *entry, uint8_t *codes,
                               float *scales) BN_MUST_CHECK;

/* Any other tensor as float32; every element is finite. */
bn_status bn_packed_read_float(bn_packed *p, const bn_packed_entry *entry,
                               float *data) BN_MUST_CHECK;

#endif
