/* h5_attacks.h - what a hostile HDF5 file can look like: one table of changes
 * to a valid file, for the unit test of the reader and for the gallery. */
#ifndef BN_TESTS_H5_ATTACKS_H
#define BN_TESTS_H5_ATTACKS_H

#define H5_USE_110_API
#include <hdf5.h>

typedef struct h5_attack {
    const char *name;
    /* `array` is a dataset at the root or in a group. */
    void (*change)(hid_t file, const char *array);
    const char *message; /* part of the refusal */
} h5_attack;

extern const h5_attack h5_attacks[];
extern const int h5_attack_count;

/* Opens a file for changes as the project's writer would. */
hid_t h5_attack_open(const char *path);

/* Puts the checksum of an array, and that of the root's attributes, right. */
void h5_attack_repair(hid_t file, const char *array);

/* Writes `size` bytes at `offset` of an array's elements. */
void h5_attack_poke(hid_t file, const char *array, size_t offset, const void *bytes, size_t size);

/* Replaces a text attribute of the root. */
void h5_attack_text(hid_t file, const char *name, const char *text);

#endif
