/* act_quant and weight_quant: the numbers of quant/quantize.h. */
#include "cpu/fast/fast_impl.h"

#include <math.h>
#include <string.h>

#include "quant/pack.h"
#include "quant/quantize.h"

typedef struct quant_job {
    const bn_rowops *ops;
    int64_t in, group, group_size;
    int bits; /* of activation codes */
    bn_grid grid;
    bn_scale_rule rule;
    const float *learned; /* NULL: the scale is made by the rule */
    const float *x;
    float *scale;
    float *max;     /* per chunk */
    double *sum;    /* per row */
    int64_t *count; /* [256] per worker: digits of |w| at bit `shift` below `found` */
    uint64_t found;
    int shift;
    int8_t *codes;
    uint8_t *packed; /* rows of codes, t2 or i8 */
    int64_t row_bytes;
} quant_job;

/* ---- activations --------------------------------------------------------- */

static void act_rows(void *arg, int64_t r, int64_t end, int worker)
{
    (void)worker;
    const quant_job *j = arg;
    int64_t groups = bn_groups_per_row(j->in, j->group_size);
    for (; r < end; r++)
        for (int64_t g = 0; g < groups; g++) {
            int64_t at = r * j->in + g * j->group, n = bn_fast_min(j->group, j->in - g * j->group);
            float a = bn_absmax_floor_f32(j->ops->absmax(n, j->x + at));
            j->ops->act_codes(n, j->x + at, a, j->bits, j->codes + at);
            j->scale[r * groups + g] = a / (float)bn_act_limit(j->bits);
        }
}

static void act_max(void *arg, int64_t i, int64_t end, int worker)
{
    (void)worker;
    const quant_job *j = arg;
    j->max[i / BN_CHUNK_ELEMENTS] = j->ops->absmax(end - i, j->x + i);
}

static void act_codes(void *arg, int64_t i, int64_t end, int worker)
{
    (void)worker;
    const quant_job *j = arg;
    j->ops->act_codes(end - i, j->x + i, j->max[0], j->bits, j->codes + i);
}

/* Per tensor: the maximum of each chunk. */
size_t bn_fast_act_quant_scratch(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return c->params->act.group_size == BN_PER_TENSOR
               ? (size_t)bn_ceil_div(bn_tensor_numel(&c->in[0]), BN_CHUNK_ELEMENTS) * sizeof(float)
               : 0;
}

/* x [R,I] -> codes i8 [R,I], step per tensor, row or group */
bn_status bn_fast_act_quant_forward(bn_backend *backend, const bn_op_call *c)
{
    quant_job j = {.ops = bn_fast_ops(backend),
                   .in = bn_tensor_cols(&c->in[0]),
                   .group_size = c->params->act.group_size,
                   .bits = c->params->act.bits,
                   .x = bn_fast_in(c, 0),
                   .codes = bn_fast_data(&c->out[0]),
                   .scale = bn_fast_out(c, 1),
                   .max = bn_fast_data(&c->scratch)};
    j.group = bn_group_length(j.in, j.group_size);
    if (j.group_size != BN_PER_TENSOR) {
        bn_fast_ranges(backend, bn_tensor_rows(&c->in[0]), bn_fast_chunk_rows(j.in), act_rows, &j);
        return BN_OK;
    }
    int64_t n = bn_tensor_numel(&c->in[0]);
    bn_fast_ranges(backend, n, BN_CHUNK_ELEMENTS, act_max, &j);
    j.max[0] = bn_absmax_floor_f32(j.ops->absmax(bn_ceil_div(n, BN_CHUNK_ELEMENTS), j.max));
    bn_fast_ranges(backend, n, BN_CHUNK_ELEMENTS, act_codes, &j);
    j.scale[0] = j.max[0] / (float)bn_act_limit(j.bits);
    return BN_OK;
}

/* ---- weights ------------------------------------------------------------- */

/* Row r; ternary codes have a routine of their own. */
static void row_codes(const quant_job *j, int64_t r, const float *scale, int64_t stride)
{
    const float *w = j->x + r * j->in;
    if (j->grid == BN_GRID_TERNARY)
        j->ops->ternarize_row(j->in, j->group, w, scale, stride,
                              j->packed + r * bn_t2_row_bytes(j->in));
    else
        bn_grid_codes_row_f32(j->grid, w, j->in, j->group, scale, stride,
                              j->packed + r * j->row_bytes);
}

static float group_scale(const quant_job *j, const float *w, int64_t n)
{
    return j->rule == BN_SCALE_MEAN ? bn_grid_scale_of_sum_f32(j->grid, j->ops->abs_sum(n, w), n)
                                    : bn_grid_scale_of_median_f32(j->grid, w, n);
}

static void weight_rows(void *arg, int64_t r, int64_t end, int worker)
{
    (void)worker;
    const quant_job *j = arg;
    int64_t groups = bn_groups_per_row(j->in, j->group_size);
    for (; r < end; r++) {
        float *scale = j->scale + r * groups;
        for (int64_t g = 0; g < groups; g++)
            scale[g] = j->learned ? bn_scale_floor_f32(j->learned[r * groups + g])
                                  : group_scale(j, j->x + r * j->in + g * j->group,
                                                bn_fast_min(j->group, j->in - g * j->group));
        row_codes(j, r, scale, 1);
    }
}

static void weight_row_sums(void *arg, int64_t r, int64_t end, int worker)
{
    (void)worker;
    const quant_job *j = arg;
    for (; r < end; r++)
        j->sum[r] = j->ops->abs_sum(j->in, j->x + r * j->in);
}

static void weight_rows_of_one_scale(void *arg, int64_t r, int64_t end, int worker)
{
    (void)worker;
    const quant_job *j = arg;
    for (; r < end; r++)
        row_codes(j, r, j->scale, 0);
}

enum { DIGITS = 256 };

static size_t max_bytes(const bn_op_call *c)
{
    return bn_align_up((size_t)bn_ceil_div(bn_tensor_numel(&c->in[0]), BN_CHUNK_ELEMENTS) *
                           sizeof(float),
                       BN_ALIGN);
}

/* Per tensor: the sum of each row, or the maximum of each chunk and the digits of each worker. */
size_t bn_fast_weight_quant_scratch(const bn_backend *backend, const bn_op_call *c)
{
    if (c->params->weight.group_size != BN_PER_TENSOR)
        return 0;
    if (c->params->weight.rule == BN_SCALE_MEDIAN)
        return max_bytes(c) + (size_t)(bn_fast_workers(backend) * DIGITS) * sizeof(int64_t);
    return (size_t)c->in[0].shape[0] * sizeof(double);
}

static void count_digits(void *arg, int64_t i, int64_t end, int worker)
{
    const quant_job *j = arg;
    bn_digit_counts_f32(j->x + i, end - i, j->found, j->shift, j->count + worker * DIGITS);
}

/* bn_grid_scale_of_median_f32() of n elements. */
static float whole_median(const bn_backend *backend, quant_job *j, int64_t n)
{
    int64_t rank = bn_median_rank(n);
    bn_fast_ranges(backend, n, BN_CHUNK_ELEMENTS, act_max, j);
    const float max = j->ops->absmax(bn_ceil_div(n, BN_CHUNK_ELEMENTS), j->max);
    if (!isfinite(max))
        return max;
    j->found = 0;
    for (j->shift = 24; j->shift >= 0; j->shift -= 8) {
        const int64_t all = bn_fast_workers(backend) * DIGITS;
        memset(j->count, 0, (size_t)all * sizeof *j->count);
        bn_fast_ranges(backend, n, BN_CHUNK_ELEMENTS, count_digits, j);
        for (int64_t i = DIGITS; i < all; i++)
            j->count[i % DIGITS] += j->count[i];
        j->found = j->found << 8 | bn_digit_of_rank(j->count, &rank);
    }
    return bn_grid_scale_of_magnitude_f32(j->grid, j->found);
}

/* The scale of a whole weight of `rows` rows. */
static float whole_scale(const bn_backend *backend, quant_job *j, int64_t rows)
{
    if (j->learned)
        return bn_scale_floor_f32(j->learned[0]);
    if (j->rule == BN_SCALE_MEDIAN)
        return whole_median(backend, j, rows * j->in);
    double sum = 0;
    bn_fast_ranges(backend, rows, bn_fast_chunk_rows(j->in), weight_row_sums, j);
    for (int64_t r = 0; r < rows; r++)
        sum += j->sum[r];
    return bn_grid_scale_of_sum_f32(j->grid, sum, rows * j->in);
}

/* weight [O,I], learned scale or absent -> codes t2 or i8 [O,I], scale per
 * tensor, row or group */
bn_status bn_fast_weight_quant_forward(bn_backend *backend, const bn_op_call *c)
{
    const bn_weight_params *p = &c->params->weight;
    int64_t O = c->in[0].shape[0], I = c->in[0].shape[1], G = p->group_size;
    quant_job j = {.ops = bn_fast_ops(backend),
                   .in = I,
                   .group = bn_group_length(I, G),
                   .group_size = G,
                   .grid = p->grid,
                   .rule = p->rule,
                   .learned = bn_fast_in(c, 1),
                   .x = bn_fast_in(c, 0),
                   .scale = bn_fast_out(c, 1),
                   .packed = bn_fast_data(&c->out[0]),
                   .row_bytes = (int64_t)bn_tensor_bytes(&c->out[0]) / O,
                   .sum = bn_fast_data(&c->scratch),
                   .max = bn_fast_data(&c->scratch)};
    if (G != BN_PER_TENSOR) {
        bn_fast_ranges(backend, O, bn_fast_chunk_rows(I), weight_rows, &j);
        return BN_OK;
    }
    if (p->rule == BN_SCALE_MEDIAN)
        j.count = (int64_t *)(void *)((char *)bn_fast_data(&c->scratch) + max_bytes(c));
    j.scale[0] = whole_scale(backend, &j, O);
    bn_fast_ranges(backend, O, bn_fast_chunk_rows(I), weight_rows_of_one_scale, &j);
    return BN_OK;
}
