/* workload.h - the models that whole-model benches run. */
#ifndef BN_BENCH_WORKLOAD_H
#define BN_BENCH_WORKLOAD_H

#include "model/model.h"

typedef struct workload {
    const char *name;
    const char *config; /* JSON */
    int64_t vocab, batch, time;
} workload;

/* Ends with a row whose name is NULL. A and B are the usual small shapes: 0.86 M
 * and 10.7 M parameters. */
extern const workload bench_workloads[];

/* The workload's model with random weights on `backend`. */
bn_status workload_model(const workload *w, bn_backend *backend, bool with_grads,
                         bn_model **out) BN_MUST_CHECK;

#endif
