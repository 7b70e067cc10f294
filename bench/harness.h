/* harness.h - what every bench does the same way.
 *
 * A bench first verifies what it is going to time, then times it: after a
 * warm-up it repeats a body until the time for it is used up and keeps the
 * fastest and the median run. Results are a table on stdout, or with --json one
 * JSON object. The head names the instruction set, the threads and the core
 * type of OpenBLAS, because figures without these cannot be compared; where the
 * environment pins OpenBLAS to less than the CPU has, the program starts itself
 * again without that variable.
 */
#ifndef BN_BENCH_HARNESS_H
#define BN_BENCH_HARNESS_H

#include <stdbool.h>

#include "backend/backend.h"
#include "base/json.h"

/* Limits of this machine's arithmetic (limits.h). */
enum { BENCH_FLOAT, BENCH_INT8, BENCH_BF16, BENCH_LIMITS };

typedef struct bench {
    const char *program;
    bool json;
    int threads;        /* 0 = all */
    const char *isa;    /* NULL = the best */
    const char *filter; /* only subjects whose name contains it; NULL = all */
    double seconds;     /* for each subject */
    bn_backend *backend;
    double limits[BENCH_LIMITS]; /* operations per second; 0: not measured */
    bn_json out;
} bench;

/* Reads --json, --threads N, --isa NAME, --filter TEXT, --seconds S and --help
 * (*done = true then) and makes the "cpu" backend. BN_USAGE for anything else. */
bn_status bench_init(bench *b, int argc, char **argv, bool *done) BN_MUST_CHECK;

/* Ends the output and frees everything; returns `status`, with its error text
 * on stderr if it is not BN_OK. */
int bench_finish(bench *b, bn_status status);

/* Whether --filter lets a subject through. */
bool bench_wants(const bench *b, const char *name);

/* One run of what is timed. */
typedef bn_status (*bench_body)(void *arg);

/* Result of a subject. `work` is operations of one run, in the unit of `kind`
 * ("GFLOP/s" of floats, "GOPS" of int8; NULL: none), `bytes` what it reads and
 * writes at least. */
typedef struct bench_result {
    const char *name;
    const char *shape;
    double min_s, median_s;
    double work, bytes;
    const char *kind;
    double tokens; /* of one run; > 0: the rate is tokens per second, by the median */
    double error;  /* of the verification; < 0: not verified here */
} bench_result;

/* Times `body` and fills min_s and median_s. */
bn_status bench_time(const bench *b, bench_body body, void *arg, bench_result *r) BN_MUST_CHECK;

/* Reports how fast all threads together read memory that no cache holds: the
 * limit of whatever reads its data once. Once per program. */
bn_status bench_memory_read(bench *b) BN_MUST_CHECK;

/* One line of the table, or one object. */
void bench_report(bench *b, const bench_result *r);

#endif
