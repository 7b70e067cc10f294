/* Packed weights from rows (BN_T2) to lanes (BN_T2_LANES), in place. */
#include "cpu/fast/fast_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "quant/pack.h"

enum { LANES = 8, CHUNK_CODES = 1 << 20 };

typedef struct arrange_job {
    uint8_t *codes;
    float *scale;
    int64_t row_bytes, groups; /* groups 0: one scale in all, which stays */
    size_t panel_bytes;        /* of the larger of a panel's codes and scales */
    uint8_t *before;           /* a panel as it was, for each worker */
} arrange_job;

/* 16 codes of a row, 2 bits each, element 4a + b from place 4a + b to 4b + a:
 * the transpose of a 4 x 4 matrix of fields, in two exchanges. */
static uint32_t transpose_fields(uint32_t w)
{
    uint32_t t = (w ^ (w >> 6)) & 0x00cc00ccU;
    w ^= t ^ (t << 6);
    t = (w ^ (w >> 12)) & 0x0000f0f0U;
    return w ^ t ^ (t << 12);
}

static void arrange_panel(const arrange_job *j, int64_t panel, uint8_t *before)
{
    uint8_t *codes = j->codes + panel * LANES * j->row_bytes;
    memcpy(before, codes, (size_t)(LANES * j->row_bytes));
    for (int64_t at = 0; at < j->row_bytes; at += 4)
        for (int64_t o = 0; o < LANES; o++, codes += 4) {
            uint32_t w;
            memcpy(&w, before + o * j->row_bytes + at, 4);
            w = transpose_fields(w);
            memcpy(codes, &w, 4);
        }
    float *scale = j->scale + panel * LANES * j->groups;
    memcpy(before, scale, (size_t)(LANES * j->groups) * sizeof *scale);
    for (int64_t g = 0; g < j->groups; g++)
        for (int64_t o = 0; o < LANES; o++, scale++)
            memcpy(scale, before + (size_t)(o * j->groups + g) * sizeof *scale, sizeof *scale);
}

static void arrange_panels(void *arg, int64_t begin, int64_t end, int worker)
{
    const arrange_job *j = arg;
    for (; begin < end; begin++)
        arrange_panel(j, begin, j->before + (size_t)worker * j->panel_bytes);
}

bn_status bn_fast_arrange(bn_backend *backend, bn_tensor *codes, const bn_tensor *scale,
                          int64_t group_size)
{
    const int64_t out = codes->shape[0], in = codes->shape[1];
    if (codes->dtype != BN_T2 || !bn_ternary_lanes_fit(out, in, bn_group_length(in, group_size)))
        return BN_OK;
    arrange_job j = {
        .codes = bn_fast_data(codes),
        .scale = bn_fast_data(scale),
        .row_bytes = bn_t2_row_bytes(in),
        .groups = group_size == BN_PER_TENSOR ? 0 : bn_groups_per_row(in, group_size),
    };
    const size_t code_bytes = (size_t)(LANES * j.row_bytes);
    const size_t scale_bytes = (size_t)(LANES * j.groups) * sizeof(float);
    j.panel_bytes = code_bytes > scale_bytes ? code_bytes : scale_bytes;
    j.before = malloc((size_t)bn_fast_workers(backend) * j.panel_bytes);
    if (!j.before)
        return bn_error_nomem("a weight's panel", j.panel_bytes);
    bn_fast_ranges(backend, out / LANES, bn_ceil_div(CHUNK_CODES, LANES * in), arrange_panels, &j);
    free(j.before);
    codes->dtype = BN_T2_LANES;
    return BN_OK;
}
