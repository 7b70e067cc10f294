/* fast_impl.h - what the files of this folder and of blas/ share. */
#ifndef BN_CPU_FAST_FAST_IMPL_H
#define BN_CPU_FAST_FAST_IMPL_H

#include "cpu/cpu_impl.h"
#include "cpu/fast/fixed.h"
#include "cpu/fast/rowops.h"
#include "cpu/fast/ternary.h"
#include "quant/dynamic8.h"
#include "quant/trit.h"

/* The kernels of one isa; bn_cpu.fast. */
typedef struct bn_fast {
    const char *isa;
    const bn_rowops *ops;
    const bn_ternary_kernels *ternary; /* NULL: none, the reference product */
    const bn_trit_ops *trits;
    bn_fixed_tile fixed;
} bn_fast;

extern const bn_trit_ops bn_trits__generic;
extern const bn_trit_ops bn_trits__avx2;
extern const bn_trit_ops bn_trits__avx512;

static inline const bn_rowops *bn_fast_ops(const bn_backend *backend)
{
    return bn_cpu_of(backend)->fast->ops;
}

static inline int64_t bn_fast_workers(const bn_backend *backend)
{
    return bn_threads_count(bn_cpu_of(backend)->threads);
}

/* Operands of a call; NULL for an absent one and, in backward, for one that is
 * not kept: it has a shape but no memory. */
static inline void *bn_fast_data(const bn_tensor *t)
{
    return t->buffer ? bn_tensor_data(t) : NULL;
}

static inline const float *bn_fast_in(const bn_op_call *c, int i)
{
    return bn_fast_data(&c->in[i]);
}

static inline float *bn_fast_out(const bn_op_call *c, int i)
{
    return bn_fast_data(&c->out[i]);
}

static inline float *bn_fast_din(const bn_op_call *c, int i)
{
    return bn_fast_data(&c->din[i]);
}

static inline int64_t bn_fast_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Runs fn over 0..n-1 in ranges of `per_chunk`. */
typedef void (*bn_range_fn)(void *arg, int64_t begin, int64_t end, int worker);
void bn_fast_ranges(const bn_backend *backend, int64_t n, int64_t per_chunk, bn_range_fn fn,
                    void *arg);

enum { BN_CHUNK_ELEMENTS = 16384 }; /* of an elementwise loop: 64 KiB of float */

/* Rows of `cols` that make a chunk. */
static inline int64_t bn_fast_chunk_rows(int64_t cols)
{
    return cols < BN_CHUNK_ELEMENTS ? BN_CHUNK_ELEMENTS / cols : 1;
}

/* Column sums with a fixed number of partial sums: `parts` of [cols] floats. */
enum { BN_SUM_PARTS = 32, BN_SUM_ROWS = 16 };

static inline int64_t bn_fast_part_rows(int64_t rows)
{
    int64_t per_part = bn_ceil_div(rows, BN_SUM_PARTS);
    return per_part < BN_SUM_ROWS ? BN_SUM_ROWS : per_part;
}

static inline int64_t bn_fast_parts(int64_t rows)
{
    return bn_ceil_div(rows, bn_fast_part_rows(rows));
}

/* sum[cols] (or += where `add`) = parts[0] + parts[1] + ... in this order */
void bn_fast_add_parts(const bn_backend *backend, const float *parts, int64_t count, int64_t cols,
                       float *sum, bool add);

/* db[cols] = column sums of dy [rows, cols]; `parts` has room for
 * bn_fast_parts(rows) * cols floats. */
void bn_fast_column_sums(const bn_backend *backend, int64_t rows, int64_t cols, const float *dy,
                         float *parts, float *db, bool add);

/* Kernels, by file. */
bn_status bn_fast_add_forward(bn_backend *, const bn_op_call *);
bn_status bn_fast_add_backward(bn_backend *, const bn_op_call *);
bn_status bn_fast_mul_forward(bn_backend *, const bn_op_call *);
bn_status bn_fast_mul_backward(bn_backend *, const bn_op_call *);
bn_status bn_fast_unary_forward(bn_backend *, const bn_op_call *);
bn_status bn_fast_unary_backward(bn_backend *, const bn_op_call *);
bn_status bn_fast_glu_forward(bn_backend *, const bn_op_call *);
bn_status bn_fast_glu_backward(bn_backend *, const bn_op_call *);
bn_status bn_fast_dropout_forward(bn_backend *, const bn_op_call *);
bn_status bn_fast_dropout_backward(bn_backend *, const bn_op_call *);

bn_status bn_fast_rmsnorm_forward(bn_backend *, const bn_op_call *);
bn_status bn_fast_rmsnorm_backward(bn_backend *, const bn_op_call *);
size_t bn_fast_rmsnorm_backward_scratch(const bn_backend *, const bn_op_call *);
bn_status bn_fast_rope_forward(bn_backend *, const bn_op_call *);
bn_status bn_fast_rope_backward(bn_backend *, const bn_op_call *);
bn_status bn_fast_hadamard_forward(bn_backend *, const bn_op_call *);
bn_status bn_fast_hadamard_backward(bn_backend *, const bn_op_call *);
bn_status bn_fast_softmax_forward(bn_backend *, const bn_op_call *);
bn_status bn_fast_softmax_backward(bn_backend *, const bn_op_call *);
bn_status bn_fast_cross_entropy_forward(bn_backend *, const bn_op_call *);
bn_status bn_fast_cross_entropy_backward(bn_backend *, const bn_op_call *);
bn_status bn_fast_distill_kl_forward(bn_backend *, const bn_op_call *);
bn_status bn_fast_distill_kl_backward(bn_backend *, const bn_op_call *);
size_t bn_fast_distill_kl_scratch(const bn_backend *, const bn_op_call *);
bn_status bn_fast_relation_kl_forward(bn_backend *, const bn_op_call *);
bn_status bn_fast_relation_kl_backward(bn_backend *, const bn_op_call *);
size_t bn_fast_relation_kl_scratch(const bn_backend *, const bn_op_call *);
bn_status bn_fast_embedding_forward(bn_backend *, const bn_op_call *);
bn_status bn_fast_embedding_backward(bn_backend *, const bn_op_call *);

bn_status bn_fast_act_quant_forward(bn_backend *, const bn_op_call *);
size_t bn_fast_act_quant_scratch(const bn_backend *, const bn_op_call *);
bn_status bn_fast_weight_quant_forward(bn_backend *, const bn_op_call *);
size_t bn_fast_weight_quant_scratch(const bn_backend *, const bn_op_call *);
bn_status bn_fast_act_fake_quant_forward(bn_backend *, const bn_op_call *);
bn_status bn_fast_weight_fake_quant_forward(bn_backend *, const bn_op_call *);
size_t bn_fast_fake_quant_scratch(const bn_backend *, const bn_op_call *);
bn_status bn_fast_weight_estimator_backward(bn_backend *, const bn_op_call *);
size_t bn_fast_weight_estimator_scratch(const bn_backend *, const bn_op_call *);

bn_status bn_fast_bitlinear_forward(bn_backend *, const bn_op_call *);
size_t bn_fast_bitlinear_forward_scratch(const bn_backend *, const bn_op_call *);
bn_status bn_fast_bitlinear_backward16(bn_backend *, const bn_op_call *);
size_t bn_fast_bitlinear_backward16_scratch(const bn_backend *, const bn_op_call *);
bn_status bn_fast_bitlinear_backward(bn_backend *, const bn_op_call *);
size_t bn_fast_bitlinear_backward_scratch(const bn_backend *, const bn_op_call *);
bn_status bn_fast_arrange(bn_backend *, bn_tensor *codes, const bn_tensor *scale,
                          int64_t group_size);

bn_status bn_fast_attention_forward(bn_backend *, const bn_op_call *);
size_t bn_fast_attention_forward_scratch(const bn_backend *, const bn_op_call *);
bn_status bn_fast_attention_backward(bn_backend *, const bn_op_call *);
size_t bn_fast_attention_backward_scratch(const bn_backend *, const bn_op_call *);
bn_status bn_fast_kv_attention_forward(bn_backend *, const bn_op_call *);

bn_status bn_fast_adamw(bn_backend *, const bn_adamw *, const bn_tensor *param,
                        const bn_tensor *grad, const bn_tensor *m, const bn_tensor *v,
                        const bn_tensor *norm);
bn_status bn_fast_adamw8bit(bn_backend *, const bn_adamw *, const bn_dynamic8 *maps,
                            const bn_tensor *param, const bn_tensor *grad, const bn_moment8 *m,
                            const bn_moment8 *v, const bn_tensor *norm);
bn_status bn_fast_sgd(bn_backend *, const bn_sgd *, const bn_tensor *param, const bn_tensor *grad,
                      const bn_tensor *m, const bn_tensor *norm);
bn_status bn_fast_norm(bn_backend *, const bn_tensor *x, const bn_tensor *norm);
bn_status bn_fast_scale(bn_backend *, const bn_tensor *x, double factor);

/* Shared by the two cross-entropies. BN_FAIL for a label outside 0..V-1 that is
 * not ignored; *count = labels that count. */
bn_status bn_fast_count_labels(const bn_op_call *c, const int32_t *labels, int64_t rows,
                               int64_t classes, int64_t *count);

#endif
