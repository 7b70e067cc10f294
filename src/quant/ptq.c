#include "quant/ptq.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/quantize.h"

/* Share of gamma/2 that codes keep away from it, so that the rounding of a
 * scale to float32 turns no code. */
#define MARGIN 1e-4

typedef struct job {
    const bn_ptq *p;
    double *value; /* [out, in]: what is quantized: w, or w made up for errors */
    int8_t *codes;
    double *scales;
    struct element *order; /* of the largest group */
} job;

/* Elements that share a scale: rows x cols of a matrix with rows of `in`. */
typedef struct region {
    int64_t row, rows, col, cols;
} region;

typedef struct element {
    double size, weight;
} element;

/* Largest first. */
static int by_size(const void *a, const void *b)
{
    const double x = ((const element *)a)->size, y = ((const element *)b)->size;
    return (x < y) - (x > y);
}

/* The best scale; the floor when all is zero. */
static double best_scale(const job *j, region r)
{
    const int64_t in = j->p->in;
    double dot = 0, norm = 0, gain = 0, scale = 0;
    int64_t n = 0;
    for (int64_t i = r.row; i < r.row + r.rows; i++)
        for (int64_t k = r.col; k < r.col + r.cols; k++)
            j->order[n++] = (element){fabs(j->value[i * in + k]), j->p->h[k * in + k]};
    qsort(j->order, (size_t)n, sizeof *j->order, by_size);
    for (int64_t i = 0; i < n; i++) {
        dot += j->order[i].weight * j->order[i].size;
        norm += j->order[i].weight;
        if (norm > 0 && dot * dot / norm > gain) {
            gain = dot * dot / norm;
            scale = dot / norm;
        }
    }
    return fmax(scale, BN_QUANT_FLOOR);
}

static int8_t code_of(double value, double scale)
{
    return (int8_t)((value > 0.5 * scale) - (value < -0.5 * scale));
}

static region group_of(const job *j, int64_t row, int64_t g)
{
    const int64_t length = bn_group_length(j->p->in, j->p->group_size), col = g * length;
    return (region){row, 1, col, col + length < j->p->in ? length : j->p->in - col};
}

static double *scale_of(const job *j, int64_t row, int64_t g)
{
    return &j->scales[bn_scale_index(row, g, j->p->in, j->p->group_size)];
}

/* One row, by itself or column after column. */
static void quantize_row(const job *j, int64_t row)
{
    const int64_t in = j->p->in, length = bn_group_length(in, j->p->group_size);
    double *w = j->value + row * in;
    for (int64_t k = 0; k < in; k++) {
        double *scale = scale_of(j, row, k / length);
        if (k % length == 0 && j->p->group_size != BN_PER_TENSOR)
            *scale = best_scale(j, group_of(j, row, k / length));
        const int8_t q = code_of(w[k], *scale);
        j->codes[row * in + k] = q;
        if (!j->p->factor)
            continue;
        const double *u = j->p->factor + k * in;
        const double e = (w[k] - q * *scale) / u[k];
        for (int64_t i = k + 1; i < in; i++)
            w[i] -= e * u[i];
    }
}

/* ---- the shadow ---- */

/* Magnitude beyond gamma/2 of a code that is not 0; magnitude of one that is. */
static double beyond(const job *j, int64_t at, double edge)
{
    const double size = fabs(j->value[at]);
    if (j->codes[at])
        return fmax(size - edge * (1 + MARGIN), 0);
    return fmin(size, edge * (1 - MARGIN));
}

/* What makes mean|shadow| the scale: magnitudes of code 0 times `zeros`, those
 * beyond the edge times `others` plus `more`. */
typedef struct stretch {
    double zeros, others, more;
} stretch;

static stretch stretch_of(double wanted, double zeros, double others, int64_t nonzeros)
{
    stretch s = {1, 1, 0};
    if (zeros + others > wanted)
        s.zeros = s.others = wanted / (zeros + others);
    else if (others > 0)
        s.others = (wanted - zeros) / others;
    else
        s.more = (wanted - zeros) / (double)nonzeros;
    return s;
}

static void shadow_of(const job *j, region r, double scale, float *shadow)
{
    const int64_t in = j->p->in;
    const double edge = 0.5 * scale;
    double sums[2] = {0, 0};
    int64_t nonzeros = 0;
    for (int64_t i = r.row; i < r.row + r.rows; i++)
        for (int64_t k = r.col; k < r.col + r.cols; k++) {
            const bool nonzero = j->codes[i * in + k] != 0;
            sums[nonzero] += beyond(j, i * in + k, edge);
            nonzeros += nonzero;
        }
    const double wanted =
        (double)(r.rows * r.cols) * scale - (double)nonzeros * edge * (1 + MARGIN);
    const stretch s = stretch_of(wanted, sums[0], sums[1], nonzeros);
    for (int64_t i = r.row; i < r.row + r.rows; i++)
        for (int64_t k = r.col; k < r.col + r.cols; k++) {
            const int64_t at = i * in + k;
            const double size = beyond(j, at, edge);
            const double x =
                j->codes[at] ? edge * (1 + MARGIN) + size * s.others + s.more : size * s.zeros;
            shadow[at] = nonzeros ? (float)copysign(x, j->value[at]) : 0.0f;
        }
}

static void write_shadow(const job *j, float *shadow)
{
    const bn_ptq *p = j->p;
    if (p->group_size == BN_PER_TENSOR) {
        shadow_of(j, (region){0, p->out, 0, p->in}, j->scales[0], shadow);
        return;
    }
    for (int64_t row = 0; row < p->out; row++)
        for (int64_t g = 0; g < bn_groups_per_row(p->in, p->group_size); g++)
            shadow_of(j, group_of(j, row, g), *scale_of(j, row, g), shadow);
}

bn_status bn_ptq_ternarize(const bn_ptq *p, const float *w, float *shadow)
{
    const size_t n = (size_t)(p->out * p->in);
    const size_t largest =
        p->group_size == BN_PER_TENSOR ? n : (size_t)bn_group_length(p->in, p->group_size);
    job j = {.p = p,
             .value = malloc(n * sizeof *j.value),
             .codes = malloc(n),
             .scales =
                 malloc((size_t)bn_scale_count(p->out, p->in, p->group_size) * sizeof *j.scales),
             .order = malloc(largest * sizeof *j.order)};
    const bool ok = j.value && j.codes && j.scales && j.order;
    for (size_t i = 0; ok && i < n; i++)
        j.value[i] = (double)w[i];
    if (ok && p->group_size == BN_PER_TENSOR)
        j.scales[0] = best_scale(&j, (region){0, p->out, 0, p->in});
    for (int64_t row = 0; ok && row < p->out; row++)
        quantize_row(&j, row);
    if (ok)
        write_shadow(&j, shadow);
    free(j.value);
    free(j.codes);
    free(j.scales);
    free(j.order);
    return ok ? BN_OK : bn_error_nomem("a weight", n * sizeof *j.value);
}

/* ---- errors ---- */

/* d H d^T of one row; `work` [in]. */
static double energy(const bn_ptq *p, const double *d, double *work)
{
    double sum = 0;
    if (p->h) {
        memset(work, 0, (size_t)p->in * sizeof *work);
        for (int64_t i = 0; i < p->in; i++)
            for (int64_t k = 0; k < p->in; k++)
                work[k] += d[i] * p->h[i * p->in + k];
    }
    for (int64_t k = 0; k < p->in; k++)
        sum += (p->h ? work[k] : d[k]) * d[k];
    return sum;
}

bn_status bn_ptq_error(const bn_ptq *p, const float *w, const float *shadow, double *error)
{
    const bn_tensor packed = bn_tensor_2d(BN_T2, p->out, p->in);
    const int64_t scales = bn_scale_count(p->out, p->in, p->group_size);
    uint8_t *codes = malloc(bn_tensor_bytes(&packed));
    float *scale = malloc((size_t)scales * sizeof *scale);
    float *v = malloc((size_t)p->in * sizeof *v);
    double *work = malloc((size_t)p->in * 3 * sizeof *work);
    const bool ok = codes && scale && v && work;
    double lost = 0, all = 0;
    if (ok) {
        bn_weight_scales_f32(shadow, p->out, p->in, p->group_size, scale);
        bn_ternarize_f32(shadow, p->out, p->in, p->group_size, scale, codes);
    }
    for (int64_t row = 0; ok && row < p->out; row++) {
        double *full = work + p->in, *difference = full + p->in;
        bn_weight_dequantize_rows_f32(codes, scale, row, 1, p->in, p->group_size, v);
        for (int64_t k = 0; k < p->in; k++) {
            full[k] = (double)w[row * p->in + k];
            difference[k] = full[k] - (double)v[k];
        }
        lost += energy(p, difference, work);
        all += energy(p, full, work);
    }
    *error = lost / all;
    free(codes);
    free(scale);
    free(v);
    free(work);
    return ok ? BN_OK : bn_error_nomem("a weight", bn_tensor_bytes(&packed));
}
