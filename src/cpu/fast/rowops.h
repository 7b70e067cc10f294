/* rowops.h - kernels on plain float arrays, one table per instruction set.
 *
 * No threads and no tensors in here: the callers in this folder cut a call
 * into chunks whose borders depend on its shape alone. Arrays are row-major.
 * A gradient is stored, or added where `add` is set. Elementwise kernels may
 * write onto the memory of any of their operands. Formulas:
 * backend/ops.def, docs/numerics.md.
 */
#ifndef BN_CPU_FAST_ROWOPS_H
#define BN_CPU_FAST_ROWOPS_H

#include <stdbool.h>
#include <stdint.h>

#include "tensor/kv_codes.h"

/* One AdamW step with its scalars worked out (backend.h has the formula). */
typedef struct bn_adamw_scalars {
    float clip;             /* c, the clipping factor */
    float beta1, one_beta1; /* b1, 1 - b1 */
    float beta2, one_beta2;
    float decay; /* lr * weight decay */
    float rate;  /* lr / (1 - b1^t) */
    float root;  /* sqrt(1 - b2^t) */
    float eps;
} bn_adamw_scalars;

/* The same for SGD. */
typedef struct bn_sgd_scalars {
    float clip, momentum, decay, rate;
    float grad_share, momentum_share; /* p -= rate (grad_share g + momentum_share m) */
} bn_sgd_scalars;

/* Rows row0 .. row0+rows-1 of one attention head; see row_attention.c. */
typedef struct bn_attn {
    const float *q;                 /* [T, ld_q], at this head's first column */
    const float *k, *v;             /* [S, ld_kv], at its key/value head's; or in codes: */
    const bn_kv_codes *codes;       /* NULL: reals */
    const uint8_t *k_rows, *v_rows; /* [S, bn_kv_row_bytes()] */
    int64_t kv_head;
    float *out;                          /* [T, ld_q] */
    float *lse;                          /* [T] or NULL */
    int64_t ld_q, ld_kv, head_dim, rows; /* rows = T */
    int64_t position;                    /* row t attends to keys 0 .. position+t */
    float scale;                         /* 1 / sqrt(head_dim) */
    /* Backward, with position 0 and S = T: */
    const float *dout;   /* [T, ld_q] */
    float *dq, *dk, *dv; /* NULL: not wanted */
} bn_attn;

enum { BN_GEMM_ROWS = 6, BN_GEMM_MAX_COLS = 32 }; /* of a tile */

enum { BN_ATTN_BLOCK = 64 }; /* rows and keys that are worked on at once */

typedef struct bn_rowops {
    /* [n] elementwise */
    void (*add)(int64_t n, const float *a, const float *b, float *y);
    void (*copy_add)(int64_t n, const float *dy, float *d, bool add);
    void (*mul)(int64_t n, const float *a, const float *b, float *y);
    void (*mul_backward)(int64_t n, const float *a, const float *dy, float *d, bool add);
    void (*silu)(int64_t n, const float *x, float *y);
    void (*silu_backward)(int64_t n, const float *x, const float *dy, float *dx, bool add);
    void (*relu2)(int64_t n, const float *x, float *y);
    void (*relu2_backward)(int64_t n, const float *x, const float *dy, float *dx, bool add);
    void (*silu_glu)(int64_t n, const float *gate, const float *up, float *y);
    void (*relu2_glu)(int64_t n, const float *gate, const float *up, float *y);
    /* dgate or dup NULL: not wanted; add[0], add[1] for the two */
    void (*silu_glu_backward)(int64_t n, const float *gate, const float *up, const float *dy,
                              float *dgate, float *dup, const bool *add);
    void (*relu2_glu_backward)(int64_t n, const float *gate, const float *up, const float *dy,
                               float *dgate, float *dup, const bool *add);
    /* t[c * ld_t + r] = x[r * ld_x + c] */
    void (*transpose)(int64_t rows, int64_t cols, const float *x, int64_t ld_x, float *t,
                      int64_t ld_t);
    void (*scale)(int64_t n, double factor, float *x);
    double (*sum_squares)(int64_t n, const float *x);
    void (*adamw)(int64_t n, const bn_adamw_scalars *s, const float *grad, float *param, float *m,
                  float *v);
    void (*sgd)(int64_t n, const bn_sgd_scalars *s, const float *grad, float *param, float *m);

    /* rows of `cols` */
    void (*rmsnorm)(int64_t rows, int64_t cols, double eps, const float *x, const float *weight,
                    float *y, float *rstd);
    /* dx NULL: not wanted; dweight [cols] is added to */
    void (*rmsnorm_backward)(int64_t rows, int64_t cols, const float *x, const float *weight,
                             const float *rstd, const float *dy, float *dx, bool add,
                             float *dweight);
    void (*softmax)(int64_t rows, int64_t cols, const float *x, float *y);
    void (*softmax_backward)(int64_t rows, int64_t cols, const float *y, const float *dy, float *dx,
                             bool add);
    /* log(sum(exp(row))) of each row */
    void (*log_sum_exp)(int64_t rows, int64_t cols, const float *x, float *lse);
    /* dx = factor * (exp(x - lse) - onehot(label)), 0 in rows of ignore_index */
    void (*cross_entropy_backward)(int64_t rows, int64_t cols, const float *x, const float *lse,
                                   const int32_t *label, int32_t ignore_index, float factor,
                                   float *dx, bool add);
    /* sum[cols] = column sums of dy [rows, cols] */
    void (*column_sums)(int64_t rows, int64_t cols, const float *dy, float *sum);
    /* `heads` heads of one row; sign -1 turns back (the gradient) */
    void (*rope)(int64_t heads, int64_t head_dim, const float *table, float sign, const float *x,
                 float *y, bool add);

    /* one row in blocks of `block` (a power of two, at most BN_HADAMARD_MAX):
     * butterflies at distance 1, 2, 4 .. block/2, then times `factor` */
    void (*hadamard)(int64_t cols, int64_t block, float factor, const float *x, float *y, bool add);

    /* quantizers, the same bits as quant/quantize.h */
    float (*absmax)(int64_t n, const float *x);
    void (*act_codes)(int64_t n, const float *x, float absmax, int bits, int8_t *codes);
    /* rne(x * factor), |x * factor| < 32767.5; NaN products give 0 */
    void (*codes16)(int64_t n, const float *x, float factor, int16_t *codes);
    double (*abs_sum)(int64_t n, const float *w);
    /* one row; scale[g * scale_stride] is that of its group g */
    void (*ternarize_row)(int64_t in, int64_t group, const float *w, const float *scale,
                          int64_t scale_stride, uint8_t *packed);
    void (*dequantize_row)(int64_t in, int64_t group, const uint8_t *packed, const float *scale,
                           int64_t scale_stride, float *w);
    /* x = codes * step, [rows, cols] with its rows ld_codes and ld_x apart */
    void (*dequantize_codes)(int64_t n, const int8_t *codes, float step, float *x);

    /* one row of a KV cache, the same bits as quant/quantize.h */
    void (*kv_encode)(const bn_kv_codes *c, const float *x, uint8_t *row);

    /* tiles of a float product; panels as row_gemm.c has them */
    int64_t gemm_cols; /* columns of a tile */
    void (*gemm_pack_a)(int64_t rows, int64_t k, const float *from, int64_t ld, bool transposed,
                        float *a);
    void (*gemm_pack_b)(int64_t n, int64_t depth, int64_t at, const float *row, float *b);
    void (*gemm_tile)(int64_t k, const float *a, const float *b, float *c, int64_t ld, int64_t rows,
                      int64_t cols, bool add);

    /* attention */
    void (*attention)(const bn_attn *a, int64_t row0, int64_t rows, float *work);
    void (*attention_backward)(const bn_attn *heads, int64_t n_heads, float *work);
} bn_rowops;

/* Floats of `work` that the attention kernels need. */
int64_t bn_attention_work(int64_t head_dim, bool codes);
int64_t bn_attention_backward_work(int64_t head_dim, int64_t rows);

extern const bn_rowops bn_rowops__generic;
extern const bn_rowops bn_rowops__avx2;
extern const bn_rowops bn_rowops__avx512;

#endif
