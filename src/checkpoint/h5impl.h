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
/* BN_H5_MAX_ARRAYS; a test may set it lower. */
extern int bn_h5_max_objects;

struct bn_h5_reader {
    char *path;
    hid_t file;                /* H5I_INVALID_HID when `child` has it open */
    struct bn_h5_child *child; /* NULL: this process reads (h5_child.c) */
    hsize_t file_bytes;
    bn_h5_entry *entries; /* sorted by name */
    int count, capacity;
    int objects; /* seen so far, groups too */
};

/* Opens in this process, whatever bn_h5_distrust() said. */
bn_status bn_h5_open_here(const char *path, bn_h5_reader **out) BN_MUST_CHECK;

/* All elements in order, in pieces of a few MiB; then the checksum. `take` may
 * be NULL. */
typedef bn_status (*bn_h5_take)(void *arg, const void *data, size_t bytes);
bn_status bn_h5_read_pieces(const bn_h5_reader *r, const bn_h5_entry *e, bn_h5_take take,
                            void *arg) BN_MUST_CHECK;

/* One attribute in memory. */
typedef struct bn_h5_attr {
    enum { BN_H5_ATTR_I64, BN_H5_ATTR_U64, BN_H5_ATTR_F64, BN_H5_ATTR_STRING } kind;
    bool scalar;
    int64_t count;        /* elements, or bytes of a string without trailing zeros */
    unsigned char *bytes; /* one more than needed, the last is zero */
} bn_h5_attr;

static inline size_t bn_h5_attr_bytes(const bn_h5_attr *v)
{
    return (size_t)v->count * (v->kind == BN_H5_ATTR_STRING ? 1 : 8);
}

/* The caller frees v->bytes. */
bn_status bn_h5_attr_get(const bn_h5_reader *r, const char *object, const char *name,
                         bn_h5_attr *v) BN_MUST_CHECK;

/* ---- reading in a child process; as the functions of these names ---- */
bool bn_h5_child_wanted(void);
bn_status bn_h5_child_open(const char *path, bn_h5_reader **out) BN_MUST_CHECK;
void bn_h5_child_close(struct bn_h5_child *child); /* NULL is fine */
bn_status bn_h5_child_read(const bn_h5_reader *r, const bn_h5_entry *e, void *data) BN_MUST_CHECK;
bn_status bn_h5_child_verify(const bn_h5_reader *r) BN_MUST_CHECK;
bool bn_h5_child_has_attr(const bn_h5_reader *r, const char *object, const char *name);
bn_status bn_h5_child_attr_get(const bn_h5_reader *r, const char *object, const char *name,
                               bn_h5_attr *v) BN_MUST_CHECK;

/* Reads every attribute of an open object; `crc` (may be NULL) gets the
 * checksum over all but BN_H5_ROOT_CRC. */
bn_status bn_h5_attrs_check(const bn_h5_reader *r, const char *object, hid_t id,
                            uint32_t *crc) BN_MUST_CHECK;

#endif
