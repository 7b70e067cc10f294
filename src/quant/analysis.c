#include "quant/analysis.h"

#include <math.h>
#include <string.h>

#include "quant/pack.h"
#include "quant/quantize.h"
#include "quant/trit.h"

double bn_entropy_bits(const int64_t *count, int n)
{
    double total = 0, bits = 0;
    for (int i = 0; i < n; i++)
        total += (double)count[i];
    for (int i = 0; i < n; i++)
        if (count[i] > 0)
            bits -= (double)count[i] / total * log2((double)count[i] / total);
    return bits;
}

static void wide_stats(const int8_t *codes, int64_t rows, int64_t cols, bn_code_stats *out)
{
    int64_t count[256] = {0};
    *out = (bn_code_stats){0};
    for (int64_t r = 0; r < rows; r++) {
        bool dead = true;
        for (int64_t k = 0; k < cols; k++) {
            const int q = codes[r * cols + k];
            count[q + 128]++;
            dead = dead && q == 0;
        }
        out->dead_rows += dead;
    }
    for (int q = -128; q < 128; q++)
        out->count[(q > 0) - (q < 0) + 1] += count[q + 128];
    out->entropy_bits = bn_entropy_bits(count, 256);
}

static void t2_stats(const uint8_t *packed, int64_t rows, int64_t cols, bn_code_stats *out)
{
    *out = (bn_code_stats){0};
    for (int64_t r = 0; r < rows; r++) {
        const bn_trit_counts n = bn_trit_ref.count(packed + r * bn_t2_row_bytes(cols), cols);
        out->count[0] += n.minus;
        out->count[1] += n.zero;
        out->count[2] += n.plus;
        out->dead_rows += n.zero == cols;
    }
    out->entropy_bits = bn_entropy_bits(out->count, 3);
}

void bn_code_stats_of(bn_dtype dtype, const void *codes, int64_t rows, int64_t cols,
                      bn_code_stats *out)
{
    if (dtype == BN_T2)
        t2_stats(codes, rows, cols, out);
    else
        wide_stats(codes, rows, cols, out);
}

/* Inserts a group into the list of the worst, kept in descending order. */
static void note_group(bn_quant_error *out, const bn_group_error *e)
{
    int at = out->worst_count;
    while (at > 0 && e->relative > out->worst[at - 1].relative)
        at--;
    if (at == BN_WORST_GROUPS)
        return;
    if (out->worst_count < BN_WORST_GROUPS)
        out->worst_count++;
    memmove(out->worst + at + 1, out->worst + at,
            (size_t)(out->worst_count - 1 - at) * sizeof *out->worst);
    out->worst[at] = *e;
}

void bn_quant_error_of(const float *w, int64_t out_rows, int64_t in, int64_t group_size,
                       bn_dtype dtype, const void *codes, const float *scale, bn_quant_error *out)
{
    const int64_t length = bn_group_length(in, group_size);
    double ww = 0, vv = 0, wv = 0, ee = 0;
    *out = (bn_quant_error){0};
    for (int64_t r = 0; r < out_rows; r++) {
        const void *row = (const char *)codes + r * bn_code_row_bytes(dtype, in);
        for (int64_t k0 = 0, g = 0; k0 < in; k0 += length, g++) {
            const double gamma = (double)scale[bn_scale_index(r, g, in, group_size)];
            const int64_t end = in - k0 < length ? in : k0 + length;
            double group_ww = 0, group_ee = 0;
            for (int64_t k = k0; k < end; k++) {
                const double a = (double)w[r * in + k], v = bn_code_get(dtype, row, k) * gamma;
                group_ww += a * a;
                group_ee += (a - v) * (a - v);
                vv += v * v;
                wv += a * v;
            }
            ww += group_ww;
            ee += group_ee;
            const bn_group_error e = {r, g, group_ee / (double)(end - k0),
                                      group_ww > 0   ? group_ee / group_ww
                                      : group_ee > 0 ? HUGE_VAL
                                                     : 0};
            note_group(out, &e);
        }
    }
    const int64_t scales = bn_scale_count(out_rows, in, group_size);
    out->scale_min = out->scale_max = (double)scale[0];
    for (int64_t i = 0; i < scales; i++) {
        out->scale_min = fmin(out->scale_min, (double)scale[i]);
        out->scale_max = fmax(out->scale_max, (double)scale[i]);
        out->scale_mean += (double)scale[i];
    }
    out->scale_mean /= (double)scales;
    out->mse = ee / ((double)out_rows * (double)in);
    out->sqnr_db = ee > 0 ? 10 * log10(ww / ee) : HUGE_VAL;
    out->cosine = ww > 0 && vv > 0 ? wv / (sqrt(ww) * sqrt(vv)) : 0;
    bn_code_stats_of(dtype, codes, out_rows, in, &out->codes);
}

int64_t bn_code_flips(bn_dtype dtype, const void *a, const void *b, int64_t rows, int64_t cols)
{
    const int8_t *left = a, *right = b;
    int64_t flips = 0;
    for (int64_t i = 0; dtype != BN_T2 && i < rows * cols; i++)
        flips += left[i] != right[i];
    if (dtype != BN_T2)
        return flips;
    /* The weight as one vector: padding is equal in both. */
    return bn_trit_hamming(&bn_trit_ref, a, b, rows * bn_t2_row_bytes(cols) * BN_T2_PER_BYTE);
}

static int64_t wide_oscillations(const int8_t *before, const int8_t *now, int64_t n,
                                 int8_t *direction)
{
    int64_t back = 0;
    for (int64_t i = 0; i < n; i++) {
        const int change = (now[i] > before[i]) - (now[i] < before[i]);
        back += change != 0 && direction[i] == -change;
        if (change)
            direction[i] = (int8_t)change;
    }
    return back;
}

int64_t bn_code_oscillations(bn_dtype dtype, const void *before, const void *now, int64_t rows,
                             int64_t cols, void *direction, void *change)
{
    if (dtype != BN_T2)
        return wide_oscillations(before, now, rows * cols, direction);
    const bn_trit_ops *ops = &bn_trit_ref;
    const int64_t n = rows * bn_t2_row_bytes(cols) * BN_T2_PER_BYTE;
    const uint8_t *const step[] = {now, change}, *const newest[] = {change, change, direction};
    ops->negate(before, n, change);
    ops->bundle(step, 2, n, change); /* sign(now - before) */
    const int64_t back = ops->match(change, direction, n).opposite;
    ops->bundle(newest, 3, n, direction); /* the change, or where there is none what was */
    return back;
}
