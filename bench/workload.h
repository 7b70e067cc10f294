/* workload.h - the models that whole-model benches run. */
#ifndef BN_BENCH_WORKLOAD_H
#define BN_BENCH_WORKLOAD_H

#include "bench/harness.h"
#include "model/model.h"

typedef struct workload {
    const char *name;
    const char *config; /* JSON */
    int64_t vocab, batch, time;
    bool packed; /* too large to train: random codes, an int8 head */
} workload;

/* A and B are the usual small shapes, 0.86 M and 10.7 M parameters; 0.7B and
 * 2B-4T have the shapes of the published models of those sizes. The main function of a bench that
 * runs `first` (may be NULL), then `body` on each workload whose name --filter lets through:
 * returns the exit status. */
typedef bn_status (*workload_body)(bench *b, const workload *w);
int workload_main(int argc, char **argv, bn_status (*first)(bench *b), workload_body body);

/* The workload's model with random weights on `backend`. */
bn_status workload_model(const workload *w, bn_backend *backend, bool with_grads,
                         bn_model **out) BN_MUST_CHECK;

#endif
