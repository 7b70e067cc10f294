/* tensor.h - dtype, buffer, tensor.
 *
 * A tensor is a value: dtype, shape and a place in a buffer. It owns nothing
 * and has no gradient and no graph in it. Memory belongs to buffers, which
 * belong to a backend and live as long as a model, a step or a scratch phase
 * (memory by lifetime), so copying a tensor copies a view. Elements are
 * contiguous in row-major order.
 *
 * Dimensions are int64_t, sizes in bytes size_t, every product is checked.
 */
#ifndef BN_TENSOR_TENSOR_H
#define BN_TENSOR_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum {
    BN_MAX_DIMS = 4,
    BN_ALIGN = 128, /* every tensor starts at a multiple of this many bytes:
                       two cache lines, and OpenCL's sub-buffer alignment */
};

/* BN_T2 is packed ternary, 4 codes per byte, rows on byte boundaries:
 *
 *   byte j of a row:   bit  7 6 | 5 4 | 3 2 | 1 0
 *   element k of row:      4j+3 |4j+2 |4j+1 | 4j      field = code + 1
 *
 * so fields 0, 1, 2 are -1, 0, +1 and 3 is invalid; unused fields of a row's
 * last byte hold 1 (code 0). Its shape counts codes, not bytes.
 *
 * BN_T2_LANES holds the same codes of a [out, in] weight for a product with few
 * rows: 8 weight rows together, so that a vector of 8 lanes has one output in
 * each lane. Only for out % 8 == 0 and in % 16 == 0, where it takes the same
 * bytes. Panel p, vector v is 32 bytes:
 *
 *   byte 4o + e, field f (bits 2f, 2f+1) = code(8p + o, 16v + 4f + e) + 1
 *
 * A weight's scales are then in panels too: [out/8][groups][8] in place of
 * [out][groups]. Made from BN_T2 by a backend (bn_backend.arrange). */
typedef enum bn_dtype {
    BN_F32,
    BN_F64,
    BN_I32,
    BN_I8,
    BN_U8,
    BN_T2,
    BN_T2_LANES,
    BN_DTYPE_COUNT,
} bn_dtype;

const char *bn_dtype_name(bn_dtype dtype);

/* Bytes of one element; 0 for the packed ones, whose rows are ceil(in/4) bytes. */
size_t bn_dtype_size(bn_dtype dtype);

/* Granularity of weight scales ("group_size"), as in files: 0 per tensor, -1
 * per row, else the number of consecutive elements of a row that share one. */
enum { BN_PER_TENSOR = 0, BN_PER_ROW = -1 };

/* Rows of codes longer than this could overflow the int32 sum of their product
 * with int8 activations: 128 * in < 2^31, or 128 * 128 * in for int8 weights. */
#define BN_MAX_IN_INT32 INT64_C(16777215)
#define BN_MAX_IN_INT8  INT64_C(131071)

/* A block of device memory. `host` is its address where the CPU can reach it,
 * else NULL; `handle` is the backend's own (a cl_mem, say). */
typedef struct bn_buffer {
    void *host;
    void *handle;
    size_t bytes;
} bn_buffer;

typedef struct bn_tensor {
    const bn_buffer *buffer; /* NULL: no memory yet, or an absent operand */
    size_t offset;           /* bytes from the buffer's start */
    bn_dtype dtype;
    int ndim; /* 0: absent */
    int64_t shape[BN_MAX_DIMS];
} bn_tensor;

/* A tensor without memory. Every dim must be >= 1 and the size must fit:
 * callers that take shapes from outside check with bn_tensor_check(). */
bn_tensor bn_tensor_of(bn_dtype dtype, int ndim, const int64_t *shape);
bn_tensor bn_tensor_1d(bn_dtype dtype, int64_t n);
bn_tensor bn_tensor_2d(bn_dtype dtype, int64_t rows, int64_t cols);
bn_tensor bn_tensor_3d(bn_dtype dtype, int64_t d0, int64_t d1, int64_t d2);

/* BN_BAD_DATA unless 1 <= ndim <= BN_MAX_DIMS, every dim >= 1 and element
 * count and byte size fit into int64_t. `what` names it in the message. */
bn_status bn_tensor_check(const bn_tensor *t, const char *what) BN_MUST_CHECK;

static inline bool bn_tensor_present(const bn_tensor *t)
{
    return t->ndim != 0;
}

int64_t bn_tensor_numel(const bn_tensor *t);
size_t bn_tensor_bytes(const bn_tensor *t);

/* Last dimension, and the product of all others ("rows"): a [B,T,C]
 * activation is B*T rows of C. */
int64_t bn_tensor_cols(const bn_tensor *t);
int64_t bn_tensor_rows(const bn_tensor *t);

bool bn_tensor_same_shape(const bn_tensor *a, const bn_tensor *b);

/* `t` placed in `buffer` at `offset`. */
bn_tensor bn_tensor_at(bn_tensor t, const bn_buffer *buffer, size_t offset);

/* Address of the first element; only for buffers the host can reach. */
static inline void *bn_tensor_data(const bn_tensor *t)
{
    return (char *)t->buffer->host + t->offset;
}

/* "[2, 128, 64]" into `text`; returns text. */
char *bn_tensor_shape_text(const bn_tensor *t, char *text, size_t size);

#endif
