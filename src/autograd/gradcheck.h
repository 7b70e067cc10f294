/* gradcheck.h - is the gradient the derivative of the function?
 *
 * For a function y of some inputs and a random upstream gradient r, compares
 * what backward computes for d(sum r y)/d(input) with central differences of
 * fourth order, element by element:
 *
 *   n = (8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / (12 h),  h = step max(|x|, floor)
 *   error = |a - n| / max(1, |a|, |n|)
 *
 * A straight-through op is checked against its declared surrogate: the residual
 * q(x) - x of every quantizer is frozen at its value of the unperturbed run, so
 * a quantizer is x + constant and BitLinear is a float product of the
 * real-valued operands. Meant for a float64 backend.
 *
 * Both functions report and do not judge. A limit is applied as
 * !(error <= limit), so that NaN fails.
 */
#ifndef BN_AUTOGRAD_GRADCHECK_H
#define BN_AUTOGRAD_GRADCHECK_H

#include "autograd/op_instance.h"
#include "autograd/tape.h"

typedef struct bn_gradcheck_options {
    double step;          /* 0: 1e-4 */
    double floor;         /* 0: 1; the scale on which the function bends */
    int64_t max_elements; /* per input, spread evenly; 0: all */
    uint64_t seed;        /* of the upstream gradient */
} bn_gradcheck_options;

/* The worst element of one input. */
typedef struct bn_gradcheck_entry {
    int64_t checked; /* elements compared; 0: this input has no gradient */
    int64_t index;   /* of the worst, flat */
    double analytic, numeric, error;
} bn_gradcheck_entry;

/* One op, its kernels called directly. `options` may be NULL. BN_FAIL for an
 * op whose gradient passes through without a kernel (BN_PASS: only a tape shows
 * it) and for one without gradients. */
bn_status bn_gradcheck_op(bn_backend *backend, const bn_op_spec *spec,
                          const bn_gradcheck_options *options,
                          bn_gradcheck_entry entry[BN_MAX_IN]) BN_MUST_CHECK;

/* Records the function on `tape` and returns y (any real shape). Called three
 * times; must record the same each time. */
typedef bn_value (*bn_gradcheck_graph)(void *arg, bn_tape *tape);

/* A leaf of the graph: real memory on the backend that the graph records with
 * bn_tape_leaf() (or bn_tape_param()). Its gradient is overwritten; its value
 * is changed and put back. */
typedef struct bn_gradcheck_leaf {
    bn_tensor value, grad;
} bn_gradcheck_leaf;

/* Any recorded function. entry has n_leaves elements. BN_MISMATCH if the
 * surrogate function differs from the real one where its residuals were taken. */
bn_status bn_gradcheck_tape(bn_backend *backend, bn_gradcheck_graph graph, void *arg,
                            const bn_run *run, const bn_gradcheck_leaf *leaves, int n_leaves,
                            const bn_gradcheck_options *options,
                            bn_gradcheck_entry *entry) BN_MUST_CHECK;

#endif
