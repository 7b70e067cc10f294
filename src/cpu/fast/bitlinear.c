/* BitLinear forward: the integer product, in tiles over threads. */
#include "cpu/fast/fast_impl.h"

#include <string.h>

#include "quant/pack.h"

enum {
    TILE_BLOCK_ROWS = 96, /* rows of x that meet a panel while it is in cache */
    CHUNKS_WANTED = 16,   /* few rows are also split over panels */
    FEW_CODES = 1 << 16,  /* products of a few-rows chunk, at least */
    FEW_CHUNKS = 16,
    X_BLOCK = 128, /* codes of a block of planes */
    ALIGN = 64,
};

/* Scratch of a call, and what the chunk functions need. */
typedef struct product {
    bn_ternary_job job;
    const bn_ternary_kernels *kernels;
    int64_t tiles; /* of tile_rows rows */
    uint8_t *panels;
    int32_t *sums;       /* [tiles * tile_rows, groups] */
    float *steps;        /* the same of steps per group; NULL: there are none */
    int8_t *x_copy;      /* all rows where x does not fit, else the last tile */
    int64_t panel_chunk; /* panels of a product chunk */
    size_t bytes;
} product;

static size_t take(size_t *at, size_t bytes)
{
    size_t begin = *at;
    *at += bn_align_up(bytes, ALIGN);
    return begin;
}

/* Lays out `scratch` (NULL: only the size is wanted). */
static product product_of(const bn_ternary_kernels *kernels, const bn_int_product *shape,
                          bool lanes, uint8_t *scratch)
{
    product p = {.job = bn_ternary_job_of(shape, lanes), .kernels = kernels};
    const bn_ternary_job *job = &p.job;
    size_t at = 0, row = (size_t)job->quads * 4, panels = 0, sums, steps, x;
    int64_t rows = shape->rows;
    if (bn_ternary_few_fits(job, kernels)) {
        x = take(&at, lanes ? 0 : (size_t)(rows * bn_ceil_div(shape->in, X_BLOCK) * X_BLOCK));
    } else {
        p.tiles = bn_ceil_div(rows, kernels->tile_rows);
        panels = take(&at, (size_t)job->panels * job->panel_bytes);
        x = take(&at, (size_t)((bn_ternary_x_fits(job) ? 1 : p.tiles) * kernels->tile_rows) * row);
        rows = p.tiles * kernels->tile_rows;
    }
    sums = take(&at, (size_t)(rows * job->groups) * sizeof(int32_t));
    steps = take(&at, shape->step_group ? (size_t)(rows * job->groups) * sizeof(float) : 0);
    p.bytes = at + ALIGN;
    if (scratch) {
        uint8_t *base = (uint8_t *)(((uintptr_t)scratch + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
        p.panels = base + panels;
        p.x_copy = (int8_t *)base + x;
        p.sums = (int32_t *)(void *)(base + sums);
        p.steps = shape->step_group ? (float *)(void *)(base + steps) : NULL;
    }
    int64_t blocks = bn_ceil_div(shape->rows, TILE_BLOCK_ROWS);
    p.panel_chunk = bn_ceil_div(job->panels, bn_ceil_div(CHUNKS_WANTED, blocks));
    return p;
}

/* Row r of x with every group padded to whole quads; zeros past the last row. */
static void copy_row(const bn_ternary_job *job, int64_t r, int8_t *to)
{
    memset(to, 0, (size_t)job->quads * 4);
    if (r >= job->shape.rows)
        return;
    const int8_t *x = job->shape.x + r * job->shape.in;
    for (int64_t g = 0; g < job->groups; g++)
        memcpy(to + g * job->group_quads * 4, x + g * job->group,
               (size_t)bn_fast_min(job->group, job->shape.in - g * job->group));
}

static bool tile_is_copied(const product *p, int64_t tile)
{
    return !bn_ternary_x_fits(&p->job) || (tile + 1) * p->kernels->tile_rows > p->job.shape.rows;
}

/* A tile's rows as the kernel wants them, quads * 4 bytes apart: in place, or
 * their copy. */
static int8_t *tile_copy(const product *p, int64_t tile)
{
    int64_t bytes = p->kernels->tile_rows * p->job.quads * 4;
    return p->x_copy + (bn_ternary_x_fits(&p->job) ? 0 : tile * bytes);
}

static const int8_t *tile_x(const product *p, int64_t tile)
{
    if (tile_is_copied(p, tile))
        return tile_copy(p, tile);
    return p->job.shape.x + tile * p->kernels->tile_rows * p->job.shape.in;
}

/* Chunks 0..panels-1 unpack a panel each, the others prepare a block of x. */
static void prepare(void *arg, int64_t chunk, int worker)
{
    (void)worker;
    const product *p = arg;
    const bn_ternary_job *job = &p->job;
    if (chunk < job->panels) {
        p->kernels->pack_panel(job, chunk, p->panels + (size_t)chunk * job->panel_bytes);
        return;
    }
    int64_t rows = p->kernels->tile_rows, per_block = TILE_BLOCK_ROWS / rows;
    int64_t tile = (chunk - job->panels) * per_block;
    for (int64_t end = bn_fast_min(tile + per_block, p->tiles); tile < end; tile++)
        for (int64_t i = 0, r = tile * rows; i < rows; i++, r++) {
            int32_t *sums = p->sums + r * job->groups;
            if (p->steps)
                memcpy(p->steps + r * job->groups,
                       job->step + bn_fast_min(r, job->shape.rows - 1) * job->groups,
                       (size_t)job->groups * sizeof *job->step);
            if (r < job->shape.rows)
                p->kernels->group_sums(job, job->shape.x + r * job->shape.in, sums);
            else
                memset(sums, 0, (size_t)job->groups * sizeof *sums);
            if (tile_is_copied(p, tile))
                copy_row(job, r, tile_copy(p, tile) + i * job->quads * 4);
        }
}

/* y is written from memory's point of view at random: its lines are asked for
 * before the sums, and are there after them. */
static void fetch_tile(const bn_ternary_job *job, int64_t row0, int64_t rows, int64_t panel)
{
    for (int64_t r = row0; r < row0 + rows; r++)
        __builtin_prefetch(job->y + r * job->shape.out + panel * BN_PANEL_COLS, 1);
}

/* One whole row of a tile, by vectors: t is not written meanwhile. */
static void store_row(const float *restrict t, float step, float *restrict y)
{
    for (int c = 0; c < BN_PANEL_COLS; c++)
        y[c] = t[c] * step;
}

/* y = t * step (+ bias) for the rows and outputs of a tile that exist. */
static void store_tile(const bn_ternary_job *job, int64_t row0, int64_t rows, int64_t panel,
                       const float *t)
{
    int64_t out0 = panel * BN_PANEL_COLS, n = bn_fast_min(BN_PANEL_COLS, job->shape.out - out0);
    for (int64_t r = 0; r < rows; r++, t += BN_PANEL_COLS) {
        float *y = job->y + (row0 + r) * job->shape.out + out0;
        float step =
            job->shape.step_group ? 1.0f : job->step[job->shape.per_tensor_step ? 0 : row0 + r];
        if (n == BN_PANEL_COLS && !job->bias)
            store_row(t, step, y);
        else
            for (int64_t c = 0; c < n; c++)
                y[c] = job->bias ? t[c] * step + job->bias[out0 + c] : t[c] * step;
    }
}

/* One block of rows times one range of panels. */
static void multiply(void *arg, int64_t chunk, int worker)
{
    (void)worker;
    const product *p = arg;
    const bn_ternary_job *job = &p->job;
    int64_t tile_rows = p->kernels->tile_rows, per_block = TILE_BLOCK_ROWS / tile_rows;
    int64_t panel_chunks = bn_ceil_div(job->panels, p->panel_chunk);
    int64_t tile0 = chunk / panel_chunks * per_block;
    int64_t tile1 = bn_fast_min(tile0 + per_block, p->tiles);
    int64_t panel = chunk % panel_chunks * p->panel_chunk;
    int64_t panel1 = bn_fast_min(panel + p->panel_chunk, job->panels);
    float t[BN_TILE_ROWS_MAX * BN_PANEL_COLS];
    for (; panel < panel1; panel++)
        for (int64_t tile = tile0; tile < tile1; tile++) {
            int64_t row0 = tile * tile_rows;
            fetch_tile(job, row0, bn_fast_min(tile_rows, job->shape.rows - row0), panel);
            p->kernels->tile(job, tile_x(p, tile), job->quads * 4, p->sums + row0 * job->groups,
                             p->steps ? p->steps + row0 * job->groups : NULL,
                             p->panels + (size_t)panel * job->panel_bytes, t);
            store_tile(job, row0, bn_fast_min(tile_rows, job->shape.rows - row0), panel, t);
        }
}

/* x in planes of a block: plane e, byte b = x[128 i + 4 b + e]. */
static void make_planes(const bn_ternary_job *job, int8_t *planes)
{
    int64_t in = job->shape.in, ld = bn_ceil_div(in, X_BLOCK) * X_BLOCK;
    memset(planes, 0, (size_t)(job->shape.rows * ld));
    for (int64_t r = 0; r < job->shape.rows; r++)
        for (int64_t k = 0; k < in; k++) {
            int64_t in_block = k % X_BLOCK;
            planes[r * ld + (k - in_block) + in_block % 4 * (X_BLOCK / 4) + in_block / 4] =
                job->shape.x[r * in + k];
        }
}

static void few(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const product *p = arg;
    if (p->job.lanes)
        p->kernels->lanes(&p->job, p->sums, begin, end);
    else
        p->kernels->few(&p->job, p->x_copy, p->sums, begin, end);
}

/* Outputs of a chunk, a multiple of `step`: chunks are alike, and not so small
 * that handing them over takes longer than their work. */
static int64_t few_outputs(const bn_ternary_job *job, int64_t step)
{
    const bn_int_product *p = &job->shape;
    const int64_t chunks = bn_fast_min(p->rows * p->out * p->in / FEW_CODES + 1, FEW_CHUNKS);
    return bn_ceil_div(bn_ceil_div(p->out, chunks), step) * step;
}

static void run_few(const bn_backend *backend, product *p)
{
    const bn_ternary_job *job = &p->job;
    if (!job->lanes)
        make_planes(job, p->x_copy);
    for (int64_t r = 0; r < job->shape.rows; r++)
        p->kernels->group_sums(job, job->shape.x + r * job->shape.in, p->sums + r * job->groups);
    bn_fast_ranges(backend, job->shape.out, few_outputs(job, 16), few, p);
}

static void wide_outputs(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const product *p = arg;
    p->kernels->wide(&p->job, begin, end);
}

/* ---- without an integer kernel: the reference product on ranges of rows --- */

static void reference_rows(void *arg, int64_t r, int64_t end, int worker)
{
    (void)worker;
    const bn_ternary_job *job = arg;
    bn_int_product part = job->shape;
    part.x += r * part.in;
    part.rows = end - r;
    const int64_t steps = part.step_group ? job->groups : !part.per_tensor_step;
    bn_int_product_f32(&part, job->step + r * steps, job->scale, job->bias, job->y + r * part.out);
}

/* The outputs of a single row. */
static void reference_outputs(void *arg, int64_t o, int64_t end, int worker)
{
    (void)worker;
    const bn_ternary_job *job = arg;
    bn_int_product part = job->shape;
    if (part.wide)
        part.wide += o * part.in;
    else
        part.packed += o * bn_t2_row_bytes(part.in);
    part.out = end - o;
    bn_int_product_f32(&part, job->step,
                       job->scale + (part.group_size == BN_PER_TENSOR
                                         ? 0
                                         : o * bn_groups_per_row(part.in, part.group_size)),
                       job->bias ? job->bias + o : NULL, job->y + o);
}

static void run_reference(const bn_backend *backend, bn_ternary_job *job)
{
    int64_t codes = job->shape.out * job->shape.in;
    if (job->shape.rows == 1)
        bn_fast_ranges(backend, job->shape.out, bn_ceil_div(FEW_CODES, job->shape.in),
                       reference_outputs, job);
    else
        bn_fast_ranges(backend, job->shape.rows, bn_ceil_div(FEW_CODES, codes), reference_rows,
                       job);
}

/* ---- the kernel ---------------------------------------------------------- */

static bn_int_product shape_of(const bn_op_call *c)
{
    return (bn_int_product){
        .rows = bn_tensor_rows(&c->in[0]),
        .out = c->in[2].shape[0],
        .in = c->in[2].shape[1],
        .group_size = c->params->weight.group_size,
        .per_tensor_step = bn_tensor_numel(&c->in[1]) == 1,
        .step_group = c->params->weight.act_group,
    };
}

static bool in_lanes(const bn_op_call *c)
{
    return c->in[2].dtype == BN_T2_LANES;
}

static bool is_wide(const bn_op_call *c)
{
    return c->in[2].dtype == BN_I8;
}

size_t bn_fast_bitlinear_forward_scratch(const bn_backend *backend, const bn_op_call *c)
{
    const bn_ternary_kernels *kernels = bn_cpu_of(backend)->fast->ternary;
    bn_int_product shape = shape_of(c);
    return kernels && !is_wide(c) ? product_of(kernels, &shape, in_lanes(c), NULL).bytes : 0;
}

/* x codes i8 [R,I], step [R] or [1], weight codes t2, t2 in lanes or i8 [O,I],
 * scale, bias [O] or absent -> y [R,O] */
bn_status bn_fast_bitlinear_forward(bn_backend *backend, const bn_op_call *c)
{
    const bn_ternary_kernels *kernels = bn_cpu_of(backend)->fast->ternary;
    bn_int_product shape = shape_of(c);
    shape.x = bn_fast_data(&c->in[0]);
    if (is_wide(c))
        shape.wide = bn_fast_data(&c->in[2]);
    else
        shape.packed = bn_fast_data(&c->in[2]);
    product p = {.job = bn_ternary_job_of(&shape, in_lanes(c)), .kernels = kernels};
    if (kernels && !is_wide(c))
        p = product_of(kernels, &shape, in_lanes(c), bn_fast_data(&c->scratch));
    p.job.step = bn_fast_in(c, 1);
    p.job.scale = bn_fast_in(c, 3);
    p.job.bias = bn_fast_in(c, 4);
    p.job.y = bn_fast_out(c, 0);
    if (!kernels || (is_wide(c) && shape.step_group)) {
        run_reference(backend, &p.job);
    } else if (is_wide(c)) {
        bn_fast_ranges(backend, shape.out, few_outputs(&p.job, 4), wide_outputs, &p);
    } else if (p.tiles == 0) {
        run_few(backend, &p);
    } else {
        bn_threads *threads = bn_cpu_of(backend)->threads;
        int64_t blocks = bn_ceil_div(p.tiles, TILE_BLOCK_ROWS / kernels->tile_rows);
        bn_parallel_for(threads, p.job.panels + blocks, prepare, &p);
        bn_parallel_for(threads, blocks * bn_ceil_div(p.job.panels, p.panel_chunk), multiply, &p);
    }
    return BN_OK;
}
