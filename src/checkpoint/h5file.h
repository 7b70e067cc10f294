/* h5file.h - a checked container of named arrays and attributes in one HDF5
 * file; the training checkpoint (checkpoint.h) and the packed model (packed.h)
 * are two uses of it. Nothing outside this folder sees HDF5.
 *
 * What a file looks like: arrays at the root or one group below it, of the
 * types below, little-endian, 1 to 4 dimensions, chunked, Fletcher-32, each
 * with an attribute `crc32c` (uint64: CRC-32C of the array's elements in row-
 * major order, filters undone). Attributes are scalar int64, uint64 or float64,
 * 1-D int64, or fixed-length strings. The root's attribute `attributes_crc32c`
 * covers all its others: CRC-32C over name, a zero byte and value bytes of each,
 * in byte order of the names.
 *
 * Writing: everything goes into PATH.tmp; commit closes it (the result counts),
 * flushes it to the disk, opens it again and checks every checksum, renames it,
 * and flushes the folder. PATH is what it was, or complete.
 *
 * Reading trusts nothing: hard links only; no external storage, virtual
 * datasets, filters other than shuffle, deflate and Fletcher-32 (plug-ins are
 * off), variable-length or compound types; counts, names, dimensions, chunk and
 * storage sizes are bounded before memory is taken. Messages are one line with
 * file, object, expected and found.
 *
 * For files from strangers the library itself can be kept apart: after
 * bn_h5_distrust() every file is opened by a child process with limits, and
 * what arrives from there is checked again.
 *
 * Errors: BN_NO_INPUT (missing), BN_BAD_DATA (not what it should be), BN_IO (the
 * system refused, e.g. disk full), BN_FAIL (no memory, or misuse by the caller).
 * The HDF5 library is not thread-safe: one thread at a time in this folder.
 */
#ifndef BN_CHECKPOINT_H5FILE_H
#define BN_CHECKPOINT_H5FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "tensor/tensor.h"

typedef enum bn_h5_type {
    BN_H5_F32,
    BN_H5_F64,
    BN_H5_F16, /* IEEE half, host type uint16_t */
    BN_H5_U8,
    BN_H5_U16,
    BN_H5_I64,
    BN_H5_U64,
    BN_H5_TYPE_COUNT,
} bn_h5_type;

const char *bn_h5_type_name(bn_h5_type type);
size_t bn_h5_type_size(bn_h5_type type);

enum {
    BN_H5_NAME_MAX = 255,        /* bytes of an array name, "group/name" */
    BN_H5_ATTR_NAME_MAX = 63,    /* bytes of an attribute name */
    BN_H5_MAX_ARRAYS = 1 << 20,  /* objects of a file: 4096 blocks with moments have 600000 */
    BN_H5_MAX_ATTRS = 64,        /* of one object */
    BN_H5_STRING_MAX = 64 << 20, /* bytes of a string attribute */
};

/* ---- writing ---- */
typedef struct bn_h5_writer bn_h5_writer;

typedef struct bn_h5_array {
    const char *name; /* "name" or "group/name"; printable ASCII */
    bn_h5_type type;
    int ndim;
    int64_t shape[BN_MAX_DIMS];
    const void *data;
} bn_h5_array;

/* `deflate` 1..9: shuffle + deflate at that level; 0: neither. The folder of
 * `path` exists. On failure *out is NULL. */
bn_status bn_h5_create(const char *path, int deflate, bn_h5_writer **out) BN_MUST_CHECK;

bn_status bn_h5_put(bn_h5_writer *w, const bn_h5_array *array) BN_MUST_CHECK;

/* Attributes of array `object`, or of the root if it is NULL. */
bn_status bn_h5_put_i64(bn_h5_writer *w, const char *object, const char *name,
                        int64_t value) BN_MUST_CHECK;
bn_status bn_h5_put_u64(bn_h5_writer *w, const char *object, const char *name,
                        uint64_t value) BN_MUST_CHECK;
bn_status bn_h5_put_f64(bn_h5_writer *w, const char *object, const char *name,
                        double value) BN_MUST_CHECK;
bn_status bn_h5_put_i64s(bn_h5_writer *w, const char *object, const char *name, int count,
                         const int64_t *values) BN_MUST_CHECK;
bn_status bn_h5_put_string(bn_h5_writer *w, const char *object, const char *name,
                           const char *value) BN_MUST_CHECK;

/* Closes, verifies, renames; frees the writer in any case. On failure the
 * temporary file is gone and the old file, if any, untouched. */
bn_status bn_h5_commit(bn_h5_writer *w) BN_MUST_CHECK;
/* Gives up: removes the temporary file, frees. NULL is fine. */
void bn_h5_abort(bn_h5_writer *w);

/* ---- reading ---- */
typedef struct bn_h5_reader bn_h5_reader;

typedef struct bn_h5_entry {
    char name[BN_H5_NAME_MAX + 1];
    bn_h5_type type;
    int ndim;
    int64_t shape[BN_MAX_DIMS];
    size_t bytes;          /* of the elements */
    uint64_t stored_bytes; /* in the file, after filters */
    uint32_t crc;
} bn_h5_entry;

/* What a child that reads a file may use. */
typedef struct bn_h5_limits {
    uint64_t memory_bytes;     /* beyond what this process has */
    uint64_t cpu_seconds;      /* for each file, at least 1 */
    uint64_t bytes_per_second; /* adds time for large files; 0: none */
} bn_h5_limits;

extern const bn_h5_limits bn_h5_default_limits;

/* From now on files are read in a child process: no more memory and time than
 * that, no writing, no new process, no network (seccomp, where the kernel has
 * it). A child that crashes or reaches a limit makes a call BN_BAD_DATA. NULL:
 * as before. Not thread-safe; call it once, early. */
void bn_h5_distrust(const bn_h5_limits *limits);

/* Opens the file and checks its structure and the root attributes' checksum;
 * array contents are checked when read. On failure *out is NULL. */
bn_status bn_h5_open(const char *path, bn_h5_reader **out) BN_MUST_CHECK;
void bn_h5_close(bn_h5_reader *r); /* NULL is fine */

const char *bn_h5_path(const bn_h5_reader *r);

/* The arrays, sorted by name; they belong to the reader. */
int bn_h5_count(const bn_h5_reader *r);
const bn_h5_entry *bn_h5_at(const bn_h5_reader *r, int i);
const bn_h5_entry *bn_h5_find(const bn_h5_reader *r, const char *name); /* NULL: none */

/* The array of this name, type and shape, else BN_BAD_DATA naming what was
 * expected and what was found. */
bn_status bn_h5_expect(const bn_h5_reader *r, const char *name, bn_h5_type type, int ndim,
                       const int64_t *shape, const bn_h5_entry **out) BN_MUST_CHECK;

/* All elements into data[entry->bytes]; BN_BAD_DATA if the checksum differs. */
bn_status bn_h5_read(bn_h5_reader *r, const bn_h5_entry *entry, void *data) BN_MUST_CHECK;

/* Reads every array once in pieces of a few MiB and checks its checksum. */
bn_status bn_h5_verify(bn_h5_reader *r) BN_MUST_CHECK;

/* Attributes of array `object`, or of the root if it is NULL. A missing one, or
 * one of another type, is BN_BAD_DATA. */
bool bn_h5_has_attr(bn_h5_reader *r, const char *object, const char *name);
bn_status bn_h5_get_i64(bn_h5_reader *r, const char *object, const char *name,
                        int64_t *value) BN_MUST_CHECK;
bn_status bn_h5_get_u64(bn_h5_reader *r, const char *object, const char *name,
                        uint64_t *value) BN_MUST_CHECK;
bn_status bn_h5_get_f64(bn_h5_reader *r, const char *object, const char *name,
                        double *value) BN_MUST_CHECK;
/* At most `max` values; *count gets their number. */
bn_status bn_h5_get_i64s(bn_h5_reader *r, const char *object, const char *name, int max,
                         int64_t *values, int *count) BN_MUST_CHECK;
/* The caller frees *value; at most BN_H5_STRING_MAX bytes. */
bn_status bn_h5_get_string(bn_h5_reader *r, const char *object, const char *name,
                           char **value) BN_MUST_CHECK;

#endif
