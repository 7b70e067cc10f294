/* fault_sweep.h - one call after the other fails, and something sensible happens.
 *
 * Calls of the allocator and of HDF5 are caught by the linker's --wrap
 * (fault_calls.c), those of files by the seam of base/fs.h (fault_files.c). */
#ifndef BN_TESTS_FAULT_SWEEP_H
#define BN_TESTS_FAULT_SWEEP_H

#include <stdbool.h>

#include "base/status.h"

typedef enum fault_kind { ALLOCATION, FILE_OPERATION, HDF5_CALL, FAULT_KINDS } fault_kind;

typedef struct fault_plan {
    fault_kind kind;
    long fail_at, calls; /* 0: none fails */
    bool removing;       /* the call that failed was to remove a file */
} fault_plan;

extern fault_plan fault;

/* Counts a call; whether it is the one that fails. */
bool fault_strikes(fault_kind kind);

/* File operations count from now on, or no more. */
void fault_watch_files(bool on);

/* Names the call in messages: "WHAT, HDF5 call 17". */
const char *fault_place(const char *what, long k);

typedef struct fault_work {
    const char *what;
    bn_status (*run)(void);
    void (*before)(void); /* each time; may be NULL */
    /* Each time, with what run() said: success has to have all of its output. May be NULL. */
    void (*after)(const char *what, long k, bn_status status);
} fault_work;

/* Runs the work with the k-th call of this kind failing for k = 1, 1 + step, ... until
 * none is left; returns how many have failed. The test fails unless each time the
 * status fits, with a message, and no HDF5 object stays open. */
long fault_sweep(const fault_work *work, fault_kind kind, long step);

#endif
