/* fuzz.h - what a fuzz target is.
 *
 * A target is one file fuzz_NAME.c with the two functions below and a row in
 * CMakeLists.txt. It is built twice: with libFuzzer (scripts/fuzz.sh), and with
 * replay.c as an ordinary test that runs the seeds and the files of
 * corpus/NAME/, among them every input that ever went wrong.
 *
 * A target gives the bytes to a reader and checks what must hold for any bytes:
 * a status of the given set, one printable line of error text, and equalities
 * between what was read and what is written from it. A broken one aborts.
 */
#ifndef BN_TESTS_FUZZ_H
#define BN_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Calls fuzz_seed() with valid inputs, made by the project's own writers. */
void fuzz_seeds(void);

/* ---- for the targets ---- */

/* Writes a seed to the folder FUZZ_SEEDS. */
#define FUZZ_SEEDS "seeds"
void fuzz_seed(const char *name, const void *data, size_t size);
void fuzz_seed_text(const char *name, const char *text);
void fuzz_seed_file(const char *name, const char *path);

/* Aborts with a line on stderr. */
_Noreturn void fuzz_broken(const char *what);

/* BN_OK, or a refusal: BN_BAD_DATA, `other` if it is not BN_OK, or BN_FAIL for
 * want of memory; with one printable line. Returns whether it is BN_OK. */
bool fuzz_status(bn_status status, bn_status other);

/* A path of this process for scratch files, in memory where the system has
 * such a folder. fuzz_file() puts the bytes there. */
const char *fuzz_path(const char *name);
void fuzz_write(const char *path, const void *data, size_t size);
const char *fuzz_file(const char *name, const void *data, size_t size);

/* The bytes as a string; the caller frees. */
char *fuzz_string(const void *data, size_t size);

#endif
