/* safetensors.h - reading and writing safetensors files.
 *
 * The format (github.com/huggingface/safetensors): eight bytes with the length
 * N of the header, little-endian; N bytes of JSON,
 *   {"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...,
 *    "__metadata__": {"format": "pt"}}
 * and the data, row-major and little-endian, that the offsets count into. The
 * tensors cover the data without gaps and without overlap.
 *
 * A model is one file, model.safetensors, or several with an index,
 * model.safetensors.index.json, that says which tensor is in which.
 *
 * The reader trusts nothing; what is wrong is BN_BAD_DATA with file, tensor,
 * expected and found. Files are mapped, not read: data points into the file and
 * may lie at any address, so it is taken out with the functions below.
 */
#ifndef BN_INTEROP_SAFETENSORS_H
#define BN_INTEROP_SAFETENSORS_H

#include <stdint.h>

#include "base/status.h"

enum {
    BN_ST_MAX_DIMS = 8,
    BN_ST_MAX_HEADER = 100 << 20, /* bytes of JSON; the format's own limit */
};

typedef enum bn_st_dtype {
    BN_ST_F32,
    BN_ST_F16,
    BN_ST_BF16,
    BN_ST_U8,
    BN_ST_I8,
    /* Known by size only: such tensors can be skipped, not read. */
    BN_ST_F64,
    BN_ST_I64,
    BN_ST_I32,
    BN_ST_I16,
    BN_ST_BOOL,
    BN_ST_DTYPE_COUNT,
} bn_st_dtype;

const char *bn_st_dtype_name(bn_st_dtype dtype); /* as in files: "BF16" */
int bn_st_dtype_size(bn_st_dtype dtype);

/* ---- reading ---- */

typedef struct bn_st_tensor {
    const char *name;
    const char *path; /* of the file it is in */
    bn_st_dtype dtype;
    int ndim; /* 0 for a scalar */
    int64_t shape[BN_ST_MAX_DIMS];
    int64_t count;             /* elements; may be 0 */
    const unsigned char *data; /* count * bn_st_dtype_size() bytes in the map */
} bn_st_tensor;

/* One file, or a model's files. Immutable; strings and data belong to it. */
typedef struct bn_st_reader bn_st_reader;

bn_status bn_st_open(const char *path, bn_st_reader **out) BN_MUST_CHECK;

/* The model in a folder: the index's files if there is an index, else
 * model.safetensors. A tensor must be in the file that the index names, and
 * every tensor of these files in the index. BN_NO_INPUT: none of the two, or a
 * named file is missing. */
bn_status bn_st_open_dir(const char *dir, bn_st_reader **out) BN_MUST_CHECK;
void bn_st_close(bn_st_reader *reader); /* NULL is fine */

int bn_st_count(const bn_st_reader *reader);
const bn_st_tensor *bn_st_at(const bn_st_reader *reader, int i);              /* sorted by name */
const bn_st_tensor *bn_st_find(const bn_st_reader *reader, const char *name); /* NULL: none */

/* All elements of an F32, F16 or BF16 tensor. BN_BAD_DATA for another dtype or
 * a value that is not finite. */
bn_status bn_st_read_f32(const bn_st_tensor *tensor, float *out) BN_MUST_CHECK;

/* BN_BAD_DATA if an element of an F16 or BF16 tensor is not finite. */
bn_status bn_st_check_short(const bn_st_tensor *tensor) BN_MUST_CHECK;

/* ---- writing ---- */

typedef struct bn_st_spec {
    const char *name;
    bn_st_dtype dtype;
    int ndim;
    int64_t shape[BN_ST_MAX_DIMS];
} bn_st_spec;

/* Writes path + ".tmp" and gives it its name at the end. */
typedef struct bn_st_writer bn_st_writer;

/* Writes the header: the tensors in this order, and what `format` names
 * ("pt" is what Hugging Face's readers ask for). */
bn_status bn_st_create(const char *path, const bn_st_spec *specs, int count, const char *format,
                       bn_st_writer **out) BN_MUST_CHECK;

/* The next bytes of the data, in pieces of any size. */
bn_status bn_st_write(bn_st_writer *writer, const void *data, size_t bytes) BN_MUST_CHECK;

/* The next `count` floats as `dtype`: F32, F16 or BF16, rounded to nearest
 * even. BN_FAIL for a value that the type cannot hold. */
bn_status bn_st_write_f32(bn_st_writer *writer, bn_st_dtype dtype, const float *values,
                          int64_t count) BN_MUST_CHECK;

/* Ends the file and frees the writer, also on failure: then the temporary file
 * is gone. BN_FAIL if not all bytes of the header's tensors were written. */
bn_status bn_st_commit(bn_st_writer *writer) BN_MUST_CHECK;
void bn_st_abort(bn_st_writer *writer); /* NULL is fine; the error text stays */

#endif
