/* The NEON kernels against the reference product, bit for bit, as a program
 * that needs nothing but a C library: it is built with a cross compiler and run
 * by an emulator where the CPU is another. Prints what differs; 0 = nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cpu/fast/ternary.h"
#include "quant/pack.h"

enum { MAX_ROWS = 13, MAX_OUT = 48, MAX_IN = 400 };

/* One product: random, or with the largest sums there can be. */
typedef struct subject {
    bn_int_product shape;
    int8_t x[MAX_ROWS * MAX_IN], w[MAX_OUT * MAX_IN];
    uint8_t rows[MAX_OUT * MAX_IN], lanes[MAX_OUT * MAX_IN / 4];
    float step[MAX_ROWS], scale[MAX_OUT * MAX_IN], lane_scale[MAX_OUT * MAX_IN], bias[MAX_OUT];
    float want[MAX_ROWS * MAX_OUT], y[MAX_ROWS * MAX_OUT];
} subject;

static int failures, checks;

/* The layout of tensor/tensor.h, written from its description. */
static void to_lanes(subject *s)
{
    const int64_t out = s->shape.out, in = s->shape.in;
    const int64_t groups = bn_groups_per_row(in, s->shape.group_size);
    memset(s->lanes, 0, sizeof s->lanes);
    for (int64_t o = 0; o < out; o++) {
        for (int64_t k = 0; k < in; k++) {
            const int64_t e = k % 4, f = k / 4 % 4, vector = o / 8 * (in / 16) + k / 16;
            s->lanes[32 * vector + 4 * (o % 8) + e] |= (uint8_t)((s->w[o * in + k] + 1) << (2 * f));
        }
        for (int64_t g = 0; g < groups; g++)
            s->lane_scale[(o / 8 * groups + g) * 8 + o % 8] =
                s->scale[bn_scale_index(o, g, in, s->shape.group_size)];
    }
    if (s->shape.group_size == BN_PER_TENSOR)
        s->lane_scale[0] = s->scale[0];
}

static void fill(subject *s, bn_int_product shape, bool wide, bool largest)
{
    bn_rng rng = bn_rng_of((uint64_t)(shape.rows * 7919 + shape.out * 101 + shape.in), 1);
    *s = (subject){.shape = shape};
    for (int64_t i = 0; i < shape.rows * shape.in; i++)
        s->x[i] = largest ? -128 : (int8_t)bn_rng_below(&rng, 256);
    for (int64_t i = 0; i < shape.out * shape.in; i++)
        s->w[i] = wide      ? (int8_t)(largest ? -128 : (int)bn_rng_below(&rng, 256) - 128)
                  : largest ? 1
                            : (int8_t)((int)bn_rng_below(&rng, 3) - 1);
    for (int64_t i = 0; i < shape.rows; i++)
        s->step[i] = (float)(0.001 + bn_rng_uniform(&rng));
    for (int64_t i = 0; i < bn_scale_count(shape.out, shape.in, shape.group_size); i++)
        s->scale[i] = (float)(0.001 + bn_rng_uniform(&rng));
    for (int64_t i = 0; i < shape.out; i++)
        s->bias[i] = (float)bn_rng_normal(&rng);
    s->shape.x = s->x;
    s->shape.packed = s->rows;
    s->shape.wide = wide ? s->w : NULL;
    if (!wide)
        bn_t2_pack(s->w, shape.out, shape.in, s->rows);
    bn_int_product_f32(&s->shape, s->step, s->scale, s->bias, s->want);
}

static void compare(const char *isa, const char *way, const subject *s)
{
    checks++;
    for (int64_t i = 0; i < s->shape.rows * s->shape.out; i++)
        if (memcmp(&s->y[i], &s->want[i], sizeof(float)) != 0) {
            printf("%s, %s, %d x %d x %d, group %d: row %d, output %d is %.9g, expected %.9g\n",
                   isa, way, (int)s->shape.rows, (int)s->shape.out, (int)s->shape.in,
                   (int)s->shape.group_size, (int)(i / s->shape.out), (int)(i % s->shape.out),
                   (double)s->y[i], (double)s->want[i]);
            failures++;
            return;
        }
}

static bn_ternary_job job_of(subject *s, bool lanes)
{
    bn_ternary_job job = bn_ternary_job_of(&s->shape, lanes);
    job.step = s->step;
    job.scale = lanes ? s->lane_scale : s->scale;
    job.bias = s->bias;
    job.y = s->y;
    if (lanes)
        job.shape.packed = s->lanes;
    memset(s->y, 0xff, sizeof s->y);
    return job;
}

/* All tiles of all panels, x padded as bn_fast_bitlinear_forward() does. */
static void run_tiles(const bn_ternary_kernels *k, subject *s, bool lanes)
{
    enum { MAX_TILES = 3, BYTES = MAX_IN * 2 };
    static _Alignas(64) uint8_t panel[(MAX_IN + MAX_IN) * 64];
    static int8_t x[MAX_TILES * BN_TILE_ROWS_MAX * BYTES];
    static int32_t sums[MAX_TILES * BN_TILE_ROWS_MAX * MAX_IN];
    float t[BN_TILE_ROWS_MAX * BN_PANEL_COLS];
    const bn_ternary_job job = job_of(s, lanes);
    const int64_t ld = job.quads * 4;
    memset(x, 0, sizeof x);
    memset(sums, 0, sizeof sums);
    for (int64_t r = 0; r < job.shape.rows; r++) {
        for (int64_t i = 0; i < job.shape.in; i++)
            x[r * ld + i / job.group * job.group_quads * 4 + i % job.group] =
                s->x[r * job.shape.in + i];
        k->group_sums(&job, s->x + r * job.shape.in, sums + r * job.groups);
    }
    for (int64_t p = 0; p < job.panels; p++) {
        k->pack_panel(&job, p, panel);
        for (int64_t r0 = 0; r0 < job.shape.rows; r0 += k->tile_rows) {
            k->tile(&job, x + r0 * ld, ld, sums + r0 * job.groups, NULL, panel, t);
            for (int64_t r = r0; r < r0 + k->tile_rows && r < job.shape.rows; r++)
                for (int64_t c = 0; c < BN_PANEL_COLS && p * BN_PANEL_COLS + c < job.shape.out; c++)
                    s->y[r * job.shape.out + p * BN_PANEL_COLS + c] =
                        t[(r - r0) * BN_PANEL_COLS + c] * s->step[r] +
                        s->bias[p * BN_PANEL_COLS + c];
        }
    }
}

static void check(const char *isa, const bn_ternary_kernels *k, subject *s)
{
    if (s->shape.wide) {
        const bn_ternary_job job = job_of(s, false);
        k->wide(&job, 0, 1);
        k->wide(&job, 1, job.shape.out);
        compare(isa, "int8", s);
        return;
    }
    run_tiles(k, s, false);
    compare(isa, "panels", s);
    if (!bn_ternary_lanes_fit(s->shape.out, s->shape.in,
                              bn_group_length(s->shape.in, s->shape.group_size)))
        return;
    to_lanes(s);
    run_tiles(k, s, true);
    compare(isa, "panels from lanes", s);
    if (s->shape.rows <= k->lanes_rows) {
        static int32_t sums[MAX_ROWS * MAX_IN];
        const bn_ternary_job job = job_of(s, true);
        for (int64_t r = 0; r < job.shape.rows; r++)
            k->group_sums(&job, s->x + r * job.shape.in, sums + r * job.groups);
        k->lanes(&job, sums, 0, 8);
        k->lanes(&job, sums, 8, job.shape.out);
        compare(isa, "lanes", s);
    }
}

int main(void)
{
    static const struct {
        const char *isa;
        const bn_ternary_kernels *kernels;
    } sets[] = {{"neon", &bn_ternary__neon}, {"neondot", &bn_ternary__neondot}};
    static const int64_t rows[] = {1, 2, 3, 4, 7, 13}, outs[] = {2, 16, 24, 37};
    static const struct {
        int64_t in, group;
    } inner[] = {{1, BN_PER_ROW}, {16, BN_PER_TENSOR}, {33, 32},
                 {100, 33},       {128, 64},           {240, 48},
                 {384, 128},      {384, BN_PER_ROW},   {400, BN_PER_TENSOR}};
    static subject s;
    for (int i = 0; i < 2; i++)
        for (int r = 0; r < 6; r++)
            for (int o = 0; o < 4; o++)
                for (int k = 0; k < 9; k++)
                    for (int kind = 0; kind < 4; kind++) {
                        fill(&s,
                             (bn_int_product){.rows = rows[r],
                                              .out = outs[o],
                                              .in = inner[k].in,
                                              .group_size = inner[k].group},
                             kind / 2, kind % 2);
                        check(sets[i].isa, sets[i].kernels, &s);
                    }
    printf("%d comparisons, %d differ\n", checks, failures);
    return failures > 0 || checks < 1000;
}
