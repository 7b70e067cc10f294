/* gguf.h - reading and writing GGUF files, the format of llama.cpp.
 *
 * The format (ggml's docs/gguf.md), little-endian throughout:
 *   "GGUF", version (u32), number of tensors (u64), number of keys (u64)
 *   keys      name (string), type (u32), value
 *   tensors   name (string), rank (u32), dimensions (u64 each, the fastest one
 *             first), type (u32), offset of the data (u64)
 *   data      begins at, and every tensor's offset is, a multiple of
 *             general.alignment (32 unless said otherwise)
 * A string is its length (u64) and its bytes; an array is the type of its items
 * (u32), their number (u64) and the items.
 *
 * The reader takes versions 2 and 3 and trusts nothing; what is wrong is
 * BN_BAD_DATA with file, key or tensor, expected and found. Arrays of arrays,
 * which ggml refuses too, are refused. The file is mapped, not read.
 */
#ifndef BN_INTEROP_GGUF_H
#define BN_INTEROP_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "interop/gguf_types.h"

enum { BN_GGUF_MAX_DIMS = 4, BN_GGUF_MAX_NAME = 64, BN_GGUF_ALIGN = 32 };

/* Types of values, numbers as in files. */
typedef enum bn_gguf_kind {
    BN_GGUF_U8,
    BN_GGUF_I8,
    BN_GGUF_U16,
    BN_GGUF_I16,
    BN_GGUF_U32,
    BN_GGUF_I32,
    BN_GGUF_FLOAT32,
    BN_GGUF_BOOL,
    BN_GGUF_STRING,
    BN_GGUF_ARRAY,
    BN_GGUF_U64,
    BN_GGUF_I64,
    BN_GGUF_FLOAT64,
    BN_GGUF_KINDS,
} bn_gguf_kind;

const char *bn_gguf_kind_name(bn_gguf_kind kind); /* "uint32", "string", ... */

/* ---- reading ---- */

typedef struct bn_gguf_value {
    const char *key;
    bn_gguf_kind kind; /* of an array: of its items */
    bool is_array;
    uint64_t count;            /* items; 1 without an array */
    const unsigned char *data; /* of the first item, in the map, at any address */
} bn_gguf_value;

typedef struct bn_gguf_tensor {
    const char *name;
    bn_gguf_type type;
    int ndim;                        /* at least 1 */
    int64_t shape[BN_GGUF_MAX_DIMS]; /* row-major: the last one is contiguous */
    int64_t count;                   /* elements */
    const unsigned char *data;       /* in the map, at any address */
    uint64_t bytes;
} bn_gguf_tensor;

/* Immutable; strings and data belong to it. */
typedef struct bn_gguf bn_gguf;

bn_status bn_gguf_open(const char *path, bn_gguf **out) BN_MUST_CHECK;
void bn_gguf_close(bn_gguf *file); /* NULL is fine */

/* Whether the file begins as a GGUF file does; false if it cannot be read. */
bool bn_gguf_is(const char *path);

const char *bn_gguf_path(const bn_gguf *file);
uint32_t bn_gguf_version(const bn_gguf *file);
uint32_t bn_gguf_alignment(const bn_gguf *file);

int bn_gguf_value_count(const bn_gguf *file);
const bn_gguf_value *bn_gguf_value_at(const bn_gguf *file, int i);             /* by key */
const bn_gguf_value *bn_gguf_value_find(const bn_gguf *file, const char *key); /* NULL: none */
int bn_gguf_tensor_count(const bn_gguf *file);
const bn_gguf_tensor *bn_gguf_tensor_at(const bn_gguf *file, int i);              /* by name */
const bn_gguf_tensor *bn_gguf_tensor_find(const bn_gguf *file, const char *name); /* NULL: none */

/* Item `i` of a value of numbers, booleans included; exact up to 2^53. */
double bn_gguf_number(const bn_gguf_value *value, uint64_t i);

/* The items of a value of strings, one after the other: starts at value->data,
 * steps over one item and returns its bytes, not terminated. */
const char *bn_gguf_next_string(const unsigned char **at, uint64_t *bytes);

/* ---- writing ---- */

/* Keys in the order they are added. Starts as {0}; running out of memory is
 * reported by bn_gguf_create(). */
typedef struct bn_gguf_meta {
    bn_text bytes;
    uint64_t count;
} bn_gguf_meta;

void bn_gguf_meta_u32(bn_gguf_meta *meta, const char *key, uint32_t value);
void bn_gguf_meta_f32(bn_gguf_meta *meta, const char *key, float value);
void bn_gguf_meta_bool(bn_gguf_meta *meta, const char *key, bool value);
void bn_gguf_meta_string(bn_gguf_meta *meta, const char *key, const char *value);
/* An array, whose `count` items follow by the functions below. */
void bn_gguf_meta_array(bn_gguf_meta *meta, const char *key, bn_gguf_kind kind, uint64_t count);
void bn_gguf_item_string(bn_gguf_meta *meta, const char *value, size_t bytes);
void bn_gguf_item_i32(bn_gguf_meta *meta, int32_t value);
void bn_gguf_item_f32(bn_gguf_meta *meta, float value);
void bn_gguf_meta_clear(bn_gguf_meta *meta);

/* Whether these are the keys of the file, byte for byte. */
bool bn_gguf_has_meta(const bn_gguf *file, const bn_gguf_meta *meta);

typedef struct bn_gguf_spec {
    const char *name; /* fewer than BN_GGUF_MAX_NAME bytes */
    bn_gguf_type type;
    int ndim;
    int64_t shape[BN_GGUF_MAX_DIMS]; /* row-major; rows are whole blocks */
} bn_gguf_spec;

typedef struct bn_gguf_writer bn_gguf_writer;

/* Makes `path` (the caller renames and removes it) with the keys and the
 * descriptions of the tensors, whose data follows in this order. `specs` stays
 * in use. */
bn_status bn_gguf_create(const char *path, const bn_gguf_meta *meta, const bn_gguf_spec *specs,
                         int count, bn_gguf_writer **out) BN_MUST_CHECK;

/* All bytes of the next tensor. */
bn_status bn_gguf_write(bn_gguf_writer *writer, const void *data, size_t bytes) BN_MUST_CHECK;

/* Closes and frees, also on failure. BN_FAIL if a tensor is missing and the
 * status so far was BN_OK; else that status, with its message. */
bn_status bn_gguf_finish(bn_gguf_writer *writer, bn_status status) BN_MUST_CHECK;

#endif
