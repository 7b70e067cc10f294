/* faults.h - one call out of many fails: what the fault sweep counts.
 *
 * Calls of the allocator and of HDF5 come here by the linker's --wrap
 * (fault_calls.c), those of files by the seam of base/fs.h (fault_files.c). */
#ifndef BN_TESTS_FAULTS_H
#define BN_TESTS_FAULTS_H

#include <stdbool.h>

typedef enum fault_kind { ALLOCATION, FILE_OPERATION, HDF5_CALL, KINDS } fault_kind;

typedef struct fault_plan {
    fault_kind kind;
    long fail_at, calls; /* 0: none fails */
    bool removing;       /* the call that failed was to remove a file */
} fault_plan;

extern fault_plan fault;

/* Counts a call; whether it is the one that fails. */
static inline bool fault_strikes(fault_kind kind)
{
    return fault.fail_at && fault.kind == kind && ++fault.calls == fault.fail_at;
}

/* File operations count from now on, or no more. */
void fault_watch_files(bool on);

#endif
