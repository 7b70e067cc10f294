/* ternary.h - the integer product of BitLinear: int8 activations times packed
 * ternary weights, exactly the numbers of bn_int_product_f32 (quant/quantize.h)
 * in any kernel, for any split of the work.
 *
 * Two ways. Many rows: the weights are unpacked once per call into panels of 16
 * outputs, as unsigned bytes q + 1, four consecutive k of one output together:
 *
 *   panel p, k-quad i:  64 bytes, byte 4c + e = code(16p + c, k = 4i + e) + 1
 *
 * which is what the byte multiply-add instructions eat; that the codes are one
 * too large is taken back with the group sums of x. Every group starts at a new
 * quad; where a group's length is no multiple of 4, x is copied with zeros
 * between the groups. Few rows: the packed weights are read as they are, or,
 * faster, in lanes (BN_T2_LANES, tensor/tensor.h), from which panels are made
 * faster too.
 */
#ifndef BN_CPU_FAST_TERNARY_H
#define BN_CPU_FAST_TERNARY_H

#include "quant/quantize.h"

enum {
    BN_PANEL_COLS = 16, /* outputs in a panel */
    BN_TILE_ROWS_MAX = 12,
};

/* One product with what follows from its shape. */
typedef struct bn_ternary_job {
    bn_int_product shape;
    const float *step, *scale, *bias;
    float *y;
    bool lanes;          /* the weight is BN_T2_LANES, its scales in panels */
    int64_t group;       /* elements of a group, bn_group_length() */
    int64_t groups;      /* of a row */
    int64_t group_quads; /* k-quads of every group but a short last one */
    int64_t quads;       /* of a row */
    int64_t panels;      /* ceil(out / 16) */
    size_t panel_bytes;  /* weights and scales of a panel, a multiple of 64 */
} bn_ternary_job;

static inline bn_ternary_job bn_ternary_job_of(const bn_int_product *shape, bool lanes)
{
    bn_ternary_job job = {.shape = *shape, .lanes = lanes};
    job.group = bn_product_group(shape);
    job.groups = bn_ceil_div(shape->in, job.group);
    job.group_quads = bn_ceil_div(job.group, 4);
    int64_t last = shape->in - (job.groups - 1) * job.group;
    job.quads = (job.groups - 1) * job.group_quads + bn_ceil_div(last, 4);
    job.panels = bn_ceil_div(shape->out, BN_PANEL_COLS);
    job.panel_bytes = (size_t)(job.quads + job.groups) * 64;
    return job;
}

/* Index of the scale of output o and group g, in the weight's layout (in lanes:
 * panels of 8 outputs, [groups][8]). */
static inline int64_t bn_ternary_gamma(const bn_ternary_job *job, int64_t o, int64_t g)
{
    const bn_int_product *p = &job->shape;
    const int64_t gamma = bn_product_gamma(p, g);
    if (p->group_size == BN_PER_TENSOR || !job->lanes)
        return bn_scale_index(o, gamma, p->in, p->group_size);
    return (o / 8 * bn_groups_per_row(p->in, p->group_size) + gamma) * 8 + o % 8;
}

/* k-quads of group g. */
static inline int64_t bn_ternary_quads_of(const bn_ternary_job *job, int64_t g)
{
    return g + 1 < job->groups ? job->group_quads : job->quads - g * job->group_quads;
}

/* Whether every k-quad of x is four bytes of its row as it stands. */
static inline bool bn_ternary_x_fits(const bn_ternary_job *job)
{
    return job->quads * 4 == job->shape.in;
}

/* Kernels of one instruction set. */
typedef struct bn_ternary_kernels {
    int tile_rows; /* rows of x at once, at most BN_TILE_ROWS_MAX */
    /* Unpacks panel `p` (its weights, then its scales [groups][16]). */
    void (*pack_panel)(const bn_ternary_job *job, int64_t p, uint8_t *panel);
    /* sum[g] = sum of x over group g, for one row of x */
    void (*group_sums)(const bn_ternary_job *job, const int8_t *x, int32_t *sum);
    /* t[tile_rows][16] = sum over g of fma(acc_g, gamma_g, .) for tile_rows
     * rows of x (`ld_x` bytes apart, quads * 4 each) with their group sums
     * (`groups` each) and one panel. With steps (`groups` each; NULL: none)
     * gamma_g * step_g takes the place of gamma_g. */
    void (*tile)(const bn_ternary_job *job, const int8_t *x, int64_t ld_x, const int32_t *sums,
                 const float *steps, const uint8_t *panel, float *t);
    /* Few rows: outputs out0 .. out1-1 of all rows. x as planes: byte b of
     * plane e of block i of a row is x[128i + 4b + e], zero past the end. */
    int few_rows; /* at most this many; 0: no such kernel */
    void (*few)(const bn_ternary_job *job, const int8_t *planes, const int32_t *sums, int64_t out0,
                int64_t out1);
    /* The same for a weight in lanes; x as it is. out0 % 8 == 0. */
    int lanes_rows;
    void (*lanes)(const bn_ternary_job *job, const int32_t *sums, int64_t out0, int64_t out1);
    /* An int8 weight (shape.wide): outputs out0 .. out1-1 of all rows. */
    void (*wide)(const bn_ternary_job *job, int64_t out0, int64_t out1);
} bn_ternary_kernels;

/* Whether the few-rows kernel for the weight's layout takes this shape. */
static inline bool bn_ternary_few_fits(const bn_ternary_job *job, const bn_ternary_kernels *k)
{
    if (job->shape.step_group)
        return false;
    if (job->lanes)
        return job->shape.rows <= k->lanes_rows;
    return job->shape.rows <= k->few_rows && (job->groups == 1 || job->group % 32 == 0);
}

/* Whether a weight can be put in lanes: groups of whole vectors of 16 codes. */
static inline bool bn_ternary_lanes_fit(int64_t out, int64_t in, int64_t group)
{
    return out % 8 == 0 && in % 16 == 0 && (group % 16 == 0 || group == in);
}

extern const bn_ternary_kernels bn_ternary__avx2;
extern const bn_ternary_kernels bn_ternary__avx512vnni;
extern const bn_ternary_kernels bn_ternary__neon;
extern const bn_ternary_kernels bn_ternary__neondot;

/* Kernels of AVX2 that the AVX-512 table uses too. */
enum { BN_FEW_ROWS_AVX2 = 3, BN_LANES_ROWS_AVX2 = 4 };
void bn_ternary_pack_panel__avx2(const bn_ternary_job *job, int64_t p, uint8_t *panel);
void bn_ternary_group_sums__avx2(const bn_ternary_job *job, const int8_t *x, int32_t *sum);
void bn_ternary_few__avx2(const bn_ternary_job *job, const int8_t *planes, const int32_t *sums,
                          int64_t out0, int64_t out1);
void bn_ternary_lanes__avx2(const bn_ternary_job *job, const int32_t *sums, int64_t out0,
                            int64_t out1);
void bn_wide_product__avx2(const bn_ternary_job *job, int64_t out0, int64_t out1);
void bn_ternary_pack_lanes__avx2(const bn_ternary_job *job, int64_t p, uint8_t *panel);

#endif
