/* gguf_impl.h - private: the parts of the reader. */
#ifndef BN_INTEROP_GGUF_IMPL_H
#define BN_INTEROP_GGUF_IMPL_H

#include "base/fs.h"
#include "interop/gguf.h"

struct bn_gguf {
    char *path;
    bn_map map;
    uint32_t version, alignment;
    bn_gguf_value *values;   /* by key once complete; they own their keys */
    bn_gguf_tensor *tensors; /* by name once complete; they own their names */
    int value_count, tensor_count;
};

/* The little-endian number of `bytes` bytes, at any address. */
uint64_t bn_gguf_bits(const unsigned char *at, int bytes);

/* Reads and checks the mapped file. */
bn_status bn_gguf_read(bn_gguf *file) BN_MUST_CHECK;

/* Sort by name; a name that is there twice is BN_BAD_DATA. */
bn_status bn_gguf_sort_values(bn_gguf *file) BN_MUST_CHECK;
bn_status bn_gguf_sort_tensors(bn_gguf *file) BN_MUST_CHECK;

#endif
