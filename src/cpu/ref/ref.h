/* ref.h - what the reference kernels share.
 *
 * The files of this folder are compiled twice: BN_REF_F64 = 0 makes the float32
 * kernels (suffix __ref_f32), 1 the float64 ones (__ref_f64). They are the
 * portable truth: loops that follow the formula in the order it is written,
 * sums in double precision, no threads. Speed is the overlays' business.
 *
 * Prototypes come from ops.def: a forward kernel for every op that is not a
 * view, a backward kernel for every op whose gradient does not pass through
 * unchanged. A missing one is a link error (ref_rows.c refers to all of them).
 */
#ifndef BN_CPU_REF_REF_H
#define BN_CPU_REF_REF_H

#include <math.h>
#include <string.h>

#include "backend/backend.h"
#include "quant/dynamic8.h"

#if BN_REF_F64
typedef double real;
#define REF(name) name##__ref_f64
#define real_sqrt sqrt
#else
typedef float real;
#define REF(name) name##__ref_f32
#define real_sqrt sqrtf
#endif

#define BN_OP(ID, name, ...)                                                                       \
    bn_status REF(bn_##name##_forward)(bn_backend *, const bn_op_call *);                          \
    bn_status REF(bn_##name##_backward)(bn_backend *, const bn_op_call *);
#include "backend/ops.def"
#undef BN_OP

/* Scratch rules. */
size_t REF(bn_act_fake_quant_scratch)(const bn_backend *, const bn_op_call *);
size_t REF(bn_weight_fake_quant_scratch)(const bn_backend *, const bn_op_call *);
size_t REF(bn_weight_estimator_scratch)(const bn_backend *, const bn_op_call *);
size_t REF(bn_attention_forward_scratch)(const bn_backend *, const bn_op_call *);
size_t REF(bn_attention_backward_scratch)(const bn_backend *, const bn_op_call *);
size_t REF(bn_kv_attention_forward_scratch)(const bn_backend *, const bn_op_call *);
size_t REF(bn_relation_kl_scratch)(const bn_backend *, const bn_op_call *);
size_t REF(bn_linear_cross_entropy_scratch)(const bn_backend *, const bn_op_call *);

/* Routines that are not graph operations. */
bn_status REF(bn_adamw_step)(bn_backend *, const bn_adamw *, const bn_tensor *param,
                             const bn_tensor *grad, const bn_tensor *m, const bn_tensor *v,
                             const bn_tensor *norm);
bn_status REF(bn_adamw8bit_step)(bn_backend *, const bn_adamw *, const bn_dynamic8 *maps,
                                 const bn_tensor *param, const bn_tensor *grad, const bn_moment8 *m,
                                 const bn_moment8 *v, const bn_tensor *norm);
bn_status REF(bn_sgd_step)(bn_backend *, const bn_sgd *, const bn_tensor *param,
                           const bn_tensor *grad, const bn_tensor *m, const bn_tensor *norm);
bn_status REF(bn_muon_step)(bn_backend *, const bn_muon *, const bn_tensor *param,
                            const bn_tensor *grad, const bn_tensor *m, const bn_tensor *norm,
                            const bn_tensor *scratch);
bn_status REF(bn_norm)(bn_backend *, const bn_tensor *x, const bn_tensor *norm);
bn_status REF(bn_scale)(bn_backend *, const bn_tensor *x, double factor);

/* Operands of a call; NULL for an absent one. */
static inline void *ref_data(const bn_tensor *t)
{
    return bn_tensor_present(t) ? bn_tensor_data(t) : NULL;
}

static inline const real *ref_in(const bn_op_call *c, int i)
{
    return ref_data(&c->in[i]);
}

static inline real *ref_out(const bn_op_call *c, int i)
{
    return ref_data(&c->out[i]);
}

static inline const real *ref_dout(const bn_op_call *c)
{
    return ref_data(&c->dout);
}

static inline real *ref_din(const bn_op_call *c, int i)
{
    return ref_data(&c->din[i]);
}

/* Stores a gradient element or adds to it. */
static inline void ref_put(real *p, bool add, double value)
{
    *p = add ? (real)((double)*p + value) : (real)value;
}

/* c[m,n] = (add ? c[m,n] : 0) + sum over k of a[m,k] b[k,n], c is [M,N]
 * row-major; element (i,j) of a is a[i*a_row + j*a_col], of b likewise. */
void REF(bn_product)(int64_t M, int64_t N, int64_t K, const real *a, int64_t a_row, int64_t a_col,
                     const real *b, int64_t b_row, int64_t b_col, real *c, bool add);

/* db[n] = (add ? db[n] : 0) + sum over m of dy[m,n], dy is [M,N]. */
void REF(bn_column_sums)(int64_t M, int64_t N, const real *dy, real *db, bool add);

#endif
