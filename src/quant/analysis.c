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

void bn_code_stats_of(const uint8_t *packed, int64_t rows, int64_t cols, bn_code_stats *out)
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
                       const uint8_t *packed, const float *scale, bn_quant_error *out)
{
    const int64_t length = bn_group_length(in, group_size);
    double ww = 0, vv = 0, wv = 0, ee = 0;
    *out = (bn_quant_error){0};
    for (int64_t r = 0; r < out_rows; r++) {
        const uint8_t *row = packed + r * bn_t2_row_bytes(in);
        for (int64_t k0 = 0, g = 0; k0 < in; k0 += length, g++) {
            const double gamma = (double)scale[bn_scale_index(r, g, in, group_size)];
            const int64_t end = in - k0 < length ? in : k0 + length;
            double group_ww = 0, group_ee = 0;
            for (int64_t k = k0; k < end; k++) {
                const double a = (double)w[r * in + k], v = bn_t2_get(row, k) * gamma;
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
    bn_code_stats_of(packed, out_rows, in, &out->codes);
}

int64_t bn_t2_flips(const uint8_t *a, const uint8_t *b, int64_t rows, int64_t cols)
{
    /* The weight as one vector: padding is equal in both. */
    return bn_trit_hamming(&bn_trit_ref, a, b, rows * bn_t2_row_bytes(cols) * BN_T2_PER_BYTE);
}

int64_t bn_t2_oscillations(const uint8_t *before, const uint8_t *now, int64_t rows, int64_t cols,
                           uint8_t *direction, uint8_t *change)
{
    const bn_trit_ops *ops = &bn_trit_ref;
    const int64_t n = rows * bn_t2_row_bytes(cols) * BN_T2_PER_BYTE;
    const uint8_t *const step[] = {now, change}, *const newest[] = {change, change, direction};
    ops->negate(before, n, change);
    ops->bundle(step, 2, n, change); /* sign(now - before) */
    const int64_t back = ops->match(change, direction, n).opposite;
    ops->bundle(newest, 3, n, direction); /* the change, or where there is none what was */
    return back;
}
