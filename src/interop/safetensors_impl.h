/* safetensors_impl.h - private: the reader's parts. */
#ifndef BN_INTEROP_SAFETENSORS_IMPL_H
#define BN_INTEROP_SAFETENSORS_IMPL_H

#include "base/fs.h"
#include "base/json.h"
#include "interop/safetensors.h"

typedef struct bn_st_file {
    char *path;
    bn_map map;
    cJSON *header; /* owns the names */
} bn_st_file;

struct bn_st_reader {
    bn_st_file *files;
    int file_count;
    bn_st_tensor *tensors; /* sorted by name once complete */
    int count;
};

/* Maps and checks `path` and adds its tensors, unsorted across files.
 * reader->files has room for one more. */
bn_status bn_st_add_file(bn_st_reader *reader, const char *path) BN_MUST_CHECK;

/* Sorts; a name that is in two files is BN_BAD_DATA. */
bn_status bn_st_finish(bn_st_reader *reader) BN_MUST_CHECK;

#endif
