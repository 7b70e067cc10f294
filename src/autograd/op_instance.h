/* op_instance.h - one operation with memory of its own, outside any tape.
 *
 * For gradient checks, comparisons between backends and benches: a spec says
 * what to run on host data, an instance places it on a backend. Host data of
 * real operands is double and is converted to the backend's real type.
 */
#ifndef BN_AUTOGRAD_OP_INSTANCE_H
#define BN_AUTOGRAD_OP_INSTANCE_H

#include "backend/backend.h"

/* Real operands have dtype BN_F64 here whatever the backend. data[i]: double,
 * int32_t, int8_t or packed bytes of in[i]; borrowed. */
typedef struct bn_op_spec {
    bn_op op;
    bn_op_params params;
    bn_run run;
    bn_tensor in[BN_MAX_IN]; /* ndim 0: absent */
    const void *data[BN_MAX_IN];
} bn_op_spec;

typedef struct bn_op_instance {
    bn_backend *backend;
    bn_op_spec spec;
    bn_op_call call; /* every operand placed, gradients included */
    bn_tensor backward_scratch;
    bn_buffer memory;
} bn_op_instance;

/* Infers shapes, allocates everything and uploads the inputs. `instance` is
 * safe to clear after an error; its address must not change while it is used. */
bn_status bn_op_instance_init(bn_op_instance *instance, bn_backend *backend,
                              const bn_op_spec *spec) BN_MUST_CHECK;
void bn_op_instance_clear(bn_op_instance *instance);

/* Runs the forward kernel; a view copies its input. */
bn_status bn_op_instance_forward(bn_op_instance *instance) BN_MUST_CHECK;

/* Runs the backward kernel on call.dout with the gradients of the inputs in
 * `wanted` (mask of BN_I*), adding to those in `accumulate`. Operands that the
 * op's row does not list under `keeps` are hidden from the kernel. */
bn_status bn_op_instance_backward(bn_op_instance *instance, unsigned wanted,
                                  unsigned accumulate) BN_MUST_CHECK;

/* Gradients that this op can compute with these operands: mask of BN_I*. */
unsigned bn_op_instance_grads(const bn_op_instance *instance);

/* Transfers of a real tensor from and to host doubles. */
bn_status bn_real_upload(bn_backend *backend, const bn_tensor *dst,
                         const double *src) BN_MUST_CHECK;
bn_status bn_real_download(bn_backend *backend, const bn_tensor *src, double *dst) BN_MUST_CHECK;

#endif
