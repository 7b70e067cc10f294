/* fuzz_h5.h - HDF5 files for fuzz targets.
 *
 * HDF5's metadata carries checksums, so random bytes rarely get past the
 * library. An input that begins like an HDF5 file is one; any other is a recipe
 * of changes to a valid file, made through the library: attributes, types,
 * shapes, filters, links, values; each recipe may end with all of the
 * project's own checksums put right.
 */
#ifndef BN_TESTS_FUZZ_H5_H
#define BN_TESTS_FUZZ_H5_H

#include "fuzz.h"

/* Path of the file that the input stands for. `write_valid` makes the valid
 * one; it is called once. */
const char *fuzz_h5_file(const uint8_t *data, size_t size, void (*write_valid)(const char *path));

/* Seeds: the valid file, the recipe that changes nothing, and one of each
 * change. */
void fuzz_h5_seeds(void (*write_valid)(const char *path));

#endif
