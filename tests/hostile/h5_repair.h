/* h5_repair.h - puts the project's own checksums of a changed HDF5 file right, so
 * that a reader gets to see the change itself. */
#ifndef BN_TESTS_H5_REPAIR_H
#define BN_TESTS_H5_REPAIR_H

#include <stdbool.h>
#include <stddef.h>

#define H5_USE_110_API
#include <hdf5.h>

/* The checksum of an array, and that of the root's attributes. False, and nothing is
 * written, for an array that is not one of plain numbers or has more than `most` bytes. */
bool h5_repair_array(hid_t file, const char *name, size_t most);
bool h5_repair_root(hid_t file);

#endif
