/* quantize.h - the numbers of BitNet quantization on host arrays.
 *
 * Pure functions: no gradients, no devices, no threads, no allocation, no
 * errors. Every function exists for float (_f32) and double (_f64) from one
 * source, so the double build that gradients are checked on is the same code.
 * Formulas, the order of every sum and the treatment of NaN are specified in
 * docs/numerics.md; any faster variant gives the same bits.
 *
 * Shapes: a weight is [out, in] row-major, an activation [rows, cols]. Scales
 * are [1] for BN_PER_TENSOR, [out, 1] for BN_PER_ROW, [out, ceil(in/G)] for
 * groups of G (the last group of a row may be short). Packed codes are BN_T2
 * rows (tensor/tensor.h, quant/pack.h). All dimensions are >= 1; outputs never
 * overlap inputs.
 *
 * Grids of other codes than ternary ones: tensor/scheme.h. Absmean ternary weights and absmax int8
 * activations: Ma et al., "The Era of 1-bit LLMs", arXiv 2402.17764.
 */
#ifndef BN_QUANT_QUANTIZE_H
#define BN_QUANT_QUANTIZE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/checked.h"
#include "tensor/kv_codes.h"
#include "tensor/scheme.h"

/* Smallest weight scale and smallest absmax of an activation row. */
#define BN_QUANT_FLOOR 1e-5

/* Elements of a row that share one scale: `in` for one scale per row or per
 * tensor, else group_size (>= 1). */
static inline int64_t bn_group_length(int64_t in, int64_t group_size)
{
    return group_size > 0 && group_size < in ? group_size : in;
}

/* Groups (= integer accumulators) of one row. */
static inline int64_t bn_groups_per_row(int64_t in, int64_t group_size)
{
    return bn_ceil_div(in, bn_group_length(in, group_size));
}

/* Number of scales of a weight. */
static inline int64_t bn_scale_count(int64_t out, int64_t in, int64_t group_size)
{
    return group_size == BN_PER_TENSOR ? 1 : out * bn_groups_per_row(in, group_size);
}

/* Index of the scale of group `g` of row `row`. */
static inline int64_t bn_scale_index(int64_t row, int64_t g, int64_t in, int64_t group_size)
{
    return group_size == BN_PER_TENSOR ? 0 : row * bn_groups_per_row(in, group_size) + g;
}

/* Whether a file or config may ask for this: BN_PER_TENSOR, BN_PER_ROW, or a G
 * of at least 32 (of at least `in` where `in` < 32) and at most `in`. The
 * functions below take any G >= 1. */
static inline bool bn_group_size_ok(int64_t in, int64_t group_size)
{
    return group_size == BN_PER_TENSOR || group_size == BN_PER_ROW ||
           (group_size <= in && group_size >= (in < 32 ? in : 32));
}

/* sum|w| over the `n` elements of one group (or one row) in the canonical
 * order: eight partial sums in double, lane l takes the elements k = l mod 8 in
 * ascending order, then ((0+4)+(2+6))+((1+5)+(3+7)). */
double bn_abs_sum_f32(const float *w, int64_t n);
double bn_abs_sum_f64(const double *w, int64_t n);

/* gamma = max(per_mean * mean|w|, 1e-5) of a group from its canonical sum and its
 * size; NaN and infinity pass through. */
float bn_grid_scale_of_sum_f32(bn_grid grid, double abs_sum, int64_t count);
double bn_grid_scale_of_sum_f64(bn_grid grid, double abs_sum, int64_t count);

/* The same of the lower median of |w| (of n elements the one of rank
 * ceil(n / 2)) in place of the mean; with a NaN or an infinity in the group NaN
 * or infinity. */
float bn_grid_scale_of_median_f32(bn_grid grid, const float *w, int64_t n);
double bn_grid_scale_of_median_f64(bn_grid grid, const double *w, int64_t n);

/* How it is found, for those who count in parallel: |w| as an unsigned integer has the order of
 * the numbers, and its digits of 8 bits are found from the highest on. count[d] += elements with
 * the digit d at bit `shift` among those whose digits above it are `found`. */
void bn_digit_counts_f32(const float *w, int64_t n, uint64_t found, int shift, int64_t count[256]);
void bn_digit_counts_f64(const double *w, int64_t n, uint64_t found, int shift, int64_t count[256]);
float bn_grid_scale_of_magnitude_f32(bn_grid grid, uint64_t bits);
double bn_grid_scale_of_magnitude_f64(bn_grid grid, uint64_t bits);

static inline int64_t bn_median_rank(int64_t n)
{
    return (n - 1) / 2;
}

/* The digit of the element of rank *rank, which becomes its rank among those that share it. */
static inline uint64_t bn_digit_of_rank(const int64_t count[256], int64_t *rank)
{
    uint64_t digit = 0;
    for (; *rank >= count[digit]; digit++)
        *rank -= count[digit];
    return digit;
}

/* A scale that was learned: at least 1e-5. */
float bn_scale_floor_f32(float scale);
double bn_scale_floor_f64(double scale);

/* Scales of a whole weight by the mean or the median. Per tensor, the sums of
 * the rows are added in ascending row order. A variant that splits the work over
 * rows calls the functions above itself and keeps that order. */
void bn_grid_scales_f32(bn_grid grid, bn_scale_rule rule, const float *w, int64_t out, int64_t in,
                        int64_t group_size, float *scale);
void bn_grid_scales_f64(bn_grid grid, bn_scale_rule rule, const double *w, int64_t out, int64_t in,
                        int64_t group_size, double *scale);

/* The code of v = w * (1/gamma): the nearest of the grid, clamp(rne(v), -max,
 * max), or of odd codes clamp(2 floor(v/2) + 1, -max, max). NaN gives the code
 * of 0. */
int bn_grid_code_f32(bn_grid grid, float v);
int bn_grid_code_f64(bn_grid grid, double v);

/* Codes of one row of `in` elements in groups of `length`; scale[g * stride] is
 * that of group g. `codes`: a row of bn_grid_dtype(grid). */
void bn_grid_codes_row_f32(bn_grid grid, const float *w, int64_t in, int64_t length,
                           const float *scale, int64_t stride, void *codes);
void bn_grid_codes_row_f64(bn_grid grid, const double *w, int64_t in, int64_t length,
                           const double *scale, int64_t stride, void *codes);
void bn_grid_codes_f32(bn_grid grid, const float *w, int64_t out, int64_t in, int64_t group_size,
                       const float *scale, void *codes);
void bn_grid_codes_f64(bn_grid grid, const double *w, int64_t out, int64_t in, int64_t group_size,
                       const double *scale, void *codes);

/* bn_grid_scales() of the ternary grid and the mean. */
void bn_weight_scales_f32(const float *w, int64_t out, int64_t in, int64_t group_size,
                          float *scale);
void bn_weight_scales_f64(const double *w, int64_t out, int64_t in, int64_t group_size,
                          double *scale);

/* Ternary codes of rows row0 .. row0+rows-1 of w, q = clamp(rne(w * (1/gamma)),
 * -1, 1), into the same rows of `packed`. `w`, `scale` and `packed` are those
 * of the whole weight. A NaN product (NaN or infinite w or gamma) gives code 0:
 * gamma is NaN or infinite then and makes the output so. */
void bn_ternarize_rows_f32(const float *w, int64_t row0, int64_t rows, int64_t in,
                           int64_t group_size, const float *scale, uint8_t *packed);
void bn_ternarize_rows_f64(const double *w, int64_t row0, int64_t rows, int64_t in,
                           int64_t group_size, const double *scale, uint8_t *packed);

/* All rows. */
void bn_ternarize_f32(const float *w, int64_t out, int64_t in, int64_t group_size,
                      const float *scale, uint8_t *packed);
void bn_ternarize_f64(const double *w, int64_t out, int64_t in, int64_t group_size,
                      const double *scale, uint8_t *packed);

/* max|x| of n elements, 0 for n = 0; NaN if any element is NaN. */
float bn_absmax_f32(const float *x, int64_t n);
double bn_absmax_f64(const double *x, int64_t n);

/* Largest activation code of 8 or 4 bits, L: 127 or 7. */
static inline int bn_act_limit(int bits)
{
    return (1 << (bits - 1)) - 1;
}

/* Codes of n elements under one absmax `a` (already floored with
 * bn_absmax_floor): clamp(rne(x * (L/a)), -L-1, L), NaN products give 0.
 * Returns the step a/L. */
float bn_absmax_codes_f32(const float *x, int64_t n, float a, int bits, int8_t *codes);
double bn_absmax_codes_f64(const double *x, int64_t n, double a, int bits, int8_t *codes);

/* max(a, 1e-5) that lets NaN through. */
float bn_absmax_floor_f32(float a);
double bn_absmax_floor_f64(double a);

/* Activations [rows, cols] as codes in int8 and their steps, grouped as a weight
 * is: bn_scale_count(rows, cols, group_size) of them. A group with a NaN gets a
 * NaN step and all codes 0, one with an infinity (and no NaN) an infinite step
 * and all codes 0: the product is NaN then, and the loss shows it. */
void bn_absmax_quantize_f32(const float *x, int64_t rows, int64_t cols, int64_t group_size,
                            int bits, int8_t *codes, float *step);
void bn_absmax_quantize_f64(const double *x, int64_t rows, int64_t cols, int64_t group_size,
                            int bits, int8_t *codes, double *step);

/* One row of a KV cache (tensor/kv_codes.h) from x [heads, head_dim]: per group
 * a = max(max|x|, 1e-5), codes and step as of an activation; and one head of it
 * back, code * step into x [head_dim]. */
void bn_kv_encode_f32(const bn_kv_codes *c, const float *x, uint8_t *row);
void bn_kv_encode_f64(const bn_kv_codes *c, const double *x, uint8_t *row);
void bn_kv_decode_f32(const bn_kv_codes *c, const uint8_t *row, int64_t head, float *x);
void bn_kv_decode_f64(const bn_kv_codes *c, const uint8_t *row, int64_t head, double *x);

/* 16-bit fixed point of a block of n <= BN_FIXED_BLOCK terms of the backward pass
 * (docs/numerics.md): z = rne(u * (32767/a)) with a = max(max|u|, 2^-100), NaN
 * products give 0. Returns the step a/32767. The sum of a block's z times codes of
 * 8 bits fits in an int32. */
enum { BN_FIXED_BLOCK = 512, BN_FIXED_MAX = 32767 };
#define BN_FIXED_FLOOR 0x1p-100
float bn_fixed_codes_f32(const float *u, int64_t n, int16_t *z);
double bn_fixed_codes_f64(const double *u, int64_t n, int16_t *z);

/* q * gamma of rows row0 .. row0+rows-1 of a packed weight into w [rows, in]. */
void bn_weight_dequantize_rows_f32(const uint8_t *packed, const float *scale, int64_t row0,
                                   int64_t rows, int64_t in, int64_t group_size, float *w);
void bn_weight_dequantize_rows_f64(const uint8_t *packed, const double *scale, int64_t row0,
                                   int64_t rows, int64_t in, int64_t group_size, double *w);

/* The same of int8 codes, and of either dtype. */
void bn_wide_dequantize_rows_f32(const int8_t *codes, const float *scale, int64_t row0,
                                 int64_t rows, int64_t in, int64_t group_size, float *w);
void bn_wide_dequantize_rows_f64(const int8_t *codes, const double *scale, int64_t row0,
                                 int64_t rows, int64_t in, int64_t group_size, double *w);
void bn_codes_dequantize_f32(bn_dtype dtype, const void *codes, const float *scale, int64_t out,
                             int64_t in, int64_t group_size, float *w);
void bn_codes_dequantize_f64(bn_dtype dtype, const void *codes, const double *scale, int64_t out,
                             int64_t in, int64_t group_size, double *w);

/* x_q * step into x [rows, cols]. */
void bn_act_dequantize_f32(const int8_t *codes, const float *step, int64_t rows, int64_t cols,
                           int64_t group_size, float *x);
void bn_act_dequantize_f64(const int8_t *codes, const double *step, int64_t rows, int64_t cols,
                           int64_t group_size, double *x);

/* The reference BitLinear product, y [rows, out] from codes x [rows, in] with
 * their steps and a weight, packed or int8; bias [out] or NULL:
 *
 *   acc_g = sum over group g of q*x_q          (int32, exact for in <= BN_MAX_IN_INT32,
 *                                               BN_MAX_IN_INT8)
 *   t = 0; for g ascending: t = fma(acc_g, gamma_g, t)
 *   y = t * step (+ bias)
 *
 * With a step per group of step_group elements of a row those are the groups,
 * and t = fma(acc_g, gamma_g * step_g, t), y = t (+ bias).
 */
typedef struct bn_int_product {
    const int8_t *x;
    const uint8_t *packed;
    int64_t rows, out, in;
    int64_t group_size;
    bool per_tensor_step;
    const int8_t *wide; /* the weight [out, in] as int8; NULL: `packed` */
    int64_t step_group; /* 0: none. Where the weight has groups too, group_size */
} bn_int_product;

/* Elements of a group (= of an integer accumulator) of the product. */
static inline int64_t bn_product_group(const bn_int_product *p)
{
    return bn_group_length(p->in, p->step_group ? p->step_group : p->group_size);
}

/* Group of a weight's scales that group `g` of the product belongs to. */
static inline int64_t bn_product_gamma(const bn_int_product *p, int64_t g)
{
    return bn_group_length(p->in, p->group_size) == p->in ? 0 : g;
}

void bn_int_product_f32(const bn_int_product *p, const float *step, const float *scale,
                        const float *bias, float *y);
void bn_int_product_f64(const bn_int_product *p, const double *step, const double *scale,
                        const double *bias, double *y);

#endif
