/* row_impl.h - prototypes of the row kernels of one instruction set, for the
 * files that row_table.c puts together. Signatures: rowops.h. */
#ifndef BN_CPU_FAST_ROW_IMPL_H
#define BN_CPU_FAST_ROW_IMPL_H

#include "cpu/fast/rowops.h"
#include "cpu/fast/vec.h"

/* row_elementwise.c */
void FAST(bn_row_add)(int64_t n, const float *a, const float *b, float *y);
void FAST(bn_row_copy_add)(int64_t n, const float *dy, float *d, bool add);
void FAST(bn_row_mul)(int64_t n, const float *a, const float *b, float *y);
void FAST(bn_row_mul_backward)(int64_t n, const float *a, const float *dy, float *d, bool add);
void FAST(bn_row_silu)(int64_t n, const float *x, float *y);
void FAST(bn_row_silu_backward)(int64_t n, const float *x, const float *dy, float *dx, bool add);
void FAST(bn_row_relu2)(int64_t n, const float *x, float *y);
void FAST(bn_row_relu2_backward)(int64_t n, const float *x, const float *dy, float *dx, bool add);
void FAST(bn_row_silu_glu)(int64_t n, const float *gate, const float *up, float *y);
void FAST(bn_row_relu2_glu)(int64_t n, const float *gate, const float *up, float *y);
void FAST(bn_row_silu_glu_backward)(int64_t n, const float *gate, const float *up, const float *dy,
                                    float *dgate, float *dup, const bool *add);
void FAST(bn_row_relu2_glu_backward)(int64_t n, const float *gate, const float *up, const float *dy,
                                     float *dgate, float *dup, const bool *add);
void FAST(bn_row_rope)(int64_t heads, int64_t head_dim, const float *table, float sign,
                       const float *x, float *y, bool add);
void FAST(bn_row_transpose)(int64_t rows, int64_t cols, const float *x, int64_t ld_x, float *t,
                            int64_t ld_t);
void FAST(bn_row_scale)(int64_t n, double factor, float *x);
double FAST(bn_row_sum_squares)(int64_t n, const float *x);
void FAST(bn_row_adamw)(int64_t n, const bn_adamw_scalars *s, const float *grad, float *param,
                        float *m, float *v);
void FAST(bn_row_sgd)(int64_t n, const bn_sgd_scalars *s, const float *grad, float *param,
                      float *m);

/* row_norm.c */
void FAST(bn_row_rmsnorm)(int64_t rows, int64_t cols, double eps, const float *x,
                          const float *weight, float *y, float *rstd);
void FAST(bn_row_rmsnorm_backward)(int64_t rows, int64_t cols, const float *x, const float *weight,
                                   const float *rstd, const float *dy, float *dx, bool add,
                                   float *dweight);
void FAST(bn_row_softmax)(int64_t rows, int64_t cols, const float *x, float *y);
void FAST(bn_row_softmax_backward)(int64_t rows, int64_t cols, const float *y, const float *dy,
                                   float *dx, bool add);
void FAST(bn_row_log_sum_exp)(int64_t rows, int64_t cols, const float *x, float *lse);
void FAST(bn_row_cross_entropy_backward)(int64_t rows, int64_t cols, const float *x,
                                         const float *lse, const int32_t *label,
                                         int32_t ignore_index, float factor, float *dx, bool add);
void FAST(bn_row_column_sums)(int64_t rows, int64_t cols, const float *dy, float *sum);

/* row_hadamard.c */
void FAST(bn_row_hadamard)(int64_t cols, int64_t block, float factor, const float *x, float *y,
                           bool add);

/* row_quant.c */
float FAST(bn_row_absmax)(int64_t n, const float *x);
void FAST(bn_row_act_codes)(int64_t n, const float *x, float absmax, int bits, int8_t *codes);
void FAST(bn_row_codes16)(int64_t n, const float *x, float factor, int16_t *codes);
double FAST(bn_row_abs_sum)(int64_t n, const float *w);
void FAST(bn_row_ternarize)(int64_t in, int64_t group, const float *w, const float *scale,
                            int64_t scale_stride, uint8_t *packed);
void FAST(bn_row_dequantize)(int64_t in, int64_t group, const uint8_t *packed, const float *scale,
                             int64_t scale_stride, float *w);
void FAST(bn_row_dequantize_codes)(int64_t n, const int8_t *codes, float step, float *x);

/* row_kv.c */
void FAST(bn_row_kv_encode)(const bn_kv_codes *c, const float *x, uint8_t *row);
void FAST(bn_row_kv_decode)(const bn_kv_codes *c, const uint8_t *row, int64_t head, float *x);

/* row_gemm.c */
void FAST(bn_row_gemm_pack_a)(int64_t rows, int64_t k, const float *from, int64_t ld,
                              bool transposed, float *a);
void FAST(bn_row_gemm_pack_b)(int64_t n, int64_t depth, int64_t at, const float *row, float *b);
void FAST(bn_row_gemm_tile)(int64_t k, const float *a, const float *b, float *c, int64_t ld,
                            int64_t rows, int64_t cols, bool add);

/* row_attention.c */
void FAST(bn_row_attention)(const bn_attn *a, int64_t row0, int64_t rows, float *work);
void FAST(bn_row_attention_backward)(const bn_attn *heads, int64_t n_heads, float *work);

#endif
