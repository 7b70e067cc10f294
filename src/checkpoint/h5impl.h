/* h5impl.h - what the h5_*.c files share. Private to this folder: the
 * only header that includes hdf5.h. */
#ifndef BN_CHECKPOINT_H5IMPL_H
#define BN_CHECKPOINT_H5IMPL_H

#define H5_USE_110_API /* the same prototypes on every later library */
#include <hdf5.h>

#include "checkpoint/h5file.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "arrays go to the file as they are in memory");

/* Attribute names of the container itself. */
#define BN_H5_CRC      "crc32c"
#define BN_H5_ROOT_CRC "attributes_crc32c"

enum {
    BN_H5_CHUNK_BYTES = 1 << 20,     /* what the writer aims for */
    BN_H5_CHUNK_BYTES_MAX = 4 << 20, /* what the reader accepts */
};

/* Makes the library quiet and turns plug-ins off; called by every way in. */
void bn_h5_start(void);

/* One line "PATH: OBJECT: doing (reason of the library)". Reads the library's
 * error stack, so it comes before any other HDF5 call. */
bn_status bn_h5_error(bn_status status, const char *path, const char *object, const char *doing);

/* A new type id for files and memory alike. */
hid_t bn_h5_type_new(bn_h5_type type);
/* A new fixed-length string type of `size` >= 1 bytes, zero-padded. */
hid_t bn_h5_string_type_new(size_t size);

/* Access properties of every file: newest format (its metadata is
 * checksummed), and closing a file closes every id in it. */
hid_t bn_h5_access_new(void);

/* "name" or "group/name", printable ASCII without blanks, no "." or "..". */
bool bn_h5_name_ok(const char *name, size_t max, bool group_allowed);

/* ---- reading ---- */
struct bn_h5_reader {
    char *path;
    hid_t file;
    hsize_t file_bytes;
    bn_h5_entry *entries; /* sorted by name */
    int count, capacity;
};

/* Reads every attribute of an open object; `crc` (may be NULL) gets the
 * checksum over all but BN_H5_ROOT_CRC. */
bn_status bn_h5_attrs_check(const bn_h5_reader *r, const char *object, hid_t id,
                            uint32_t *crc) BN_MUST_CHECK;

#endif
