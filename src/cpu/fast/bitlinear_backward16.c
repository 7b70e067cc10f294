/* BitLinear backward in 16-bit fixed point (docs/numerics.md): both gradients are
 * one product, of rows of dy, quantized in blocks of the summed index as they are
 * needed, with codes that are widened once per call:
 *
 *   dx [R,I] = sum over o of (dy[r,o] gamma[o,g]) q[o,i]     rows of dy, groups of columns
 *   dw [O,I] = sum over r of (dy[r,o] step[r,g])  x_q[r,i]   columns of dy, groups of steps */
#include "cpu/fast/fast_impl.h"

#include <string.h>

#include "cpu/fast/fixed.h"
#include "quant/pack.h"

enum {
    BLOCK = BN_FIXED_BLOCK,
    LD_Z = BLOCK + 32, /* rows of a tile that do not share their cache sets */
    LD_COPY = BLOCK + 16,
    CHUNK_ROWS = 48, /* rows of z, which panels meet while it is in cache */
    CHUNKS = 8,      /* a gradient of few rows is cut smaller */
    PAIR_ROWS = 16,  /* k-pairs that are widened at once */
};

typedef struct worker_memory {
    int16_t z[CHUNK_ROWS * LD_Z];
    float step[CHUNK_ROWS];
    float terms[BLOCK];
    float columns[CHUNK_ROWS * LD_COPY]; /* of dy, as rows */
} worker_memory;

typedef struct product {
    const bn_rowops *ops;
    bn_fixed_tile tile;
    int64_t M, N, K;
    const float *dy; /* [M,K], or [K,M] where by_column */
    float *factor;   /* [groups,K] */
    int64_t group, group_panels;
    const bn_tensor *codes; /* [K,N], t2 or i8 */
    float *out;             /* [M,N] */
    bool by_column, add;
    int16_t *panels;
    int8_t *rows; /* [2,N] of each worker: codes of a k-pair */
    worker_memory *memory;
} product;

static int64_t pairs_of(int64_t k)
{
    return bn_ceil_div(k, 2);
}

static int64_t panel_values(const product *p)
{
    return pairs_of(p->K) * 2 * BN_FIXED_COLS;
}

static int64_t panel_count(const product *p)
{
    return bn_ceil_div(p->N, p->group) * p->group_panels;
}

/* Columns of panel `p` begin at *first; their number. */
static int64_t panel_columns(const product *p, int64_t panel, int64_t *first)
{
    const int64_t g = panel / p->group_panels;
    *first = g * p->group + panel % p->group_panels * BN_FIXED_COLS;
    const int64_t end = bn_fast_min((g + 1) * p->group, p->N);
    return *first < end ? bn_fast_min(BN_FIXED_COLS, end - *first) : 0;
}

static const int8_t *code_row(const product *p, int64_t k, int8_t *to)
{
    const uint8_t *data = bn_fast_data(p->codes);
    if (p->codes->dtype == BN_I8)
        return (const int8_t *)data + k * p->N;
    bn_t2_unpack(data, k, 1, p->N, to);
    return to;
}

/* 16 columns of a k-pair. */
static void pair_codes(const int8_t *restrict even, const int8_t *restrict odd,
                       int16_t *restrict to)
{
    for (int c = 0; c < BN_FIXED_COLS; c++) {
        to[2 * c] = even[c];
        to[2 * c + 1] = odd[c];
    }
}

/* k-pairs i .. end-1 of all panels */
static void widen(void *arg, int64_t i, int64_t end, int worker)
{
    const product *p = arg;
    int8_t *room = p->rows + 2 * worker * p->N;
    for (; i < end; i++) {
        const int8_t *even = code_row(p, 2 * i, room), *odd = room + p->N;
        if (2 * i + 1 < p->K)
            odd = code_row(p, 2 * i + 1, room + p->N);
        else
            memset(room + p->N, 0, (size_t)p->N);
        for (int64_t panel = 0; panel < panel_count(p); panel++) {
            int64_t first;
            const int64_t cols = panel_columns(p, panel, &first);
            int16_t *to = p->panels + panel * panel_values(p) + i * 2 * BN_FIXED_COLS;
            if (cols == BN_FIXED_COLS) {
                pair_codes(even + first, odd + first, to);
                continue;
            }
            memset(to, 0, 2 * BN_FIXED_COLS * sizeof *to);
            for (int64_t c = 0; c < cols; c++) {
                to[2 * c] = even[first + c];
                to[2 * c + 1] = odd[first + c];
            }
        }
    }
}

/* Rows m0 .. m0+rows-1 of dy, k0 .. k0+n-1: *ld apart at the address returned. */
static const float *dy_rows(const product *p, worker_memory *w, int64_t m0, int64_t rows,
                            int64_t k0, int64_t n, int64_t *ld)
{
    if (!p->by_column) {
        *ld = p->K;
        return p->dy + m0 * p->K + k0;
    }
    p->ops->transpose(n, rows, p->dy + k0 * p->M + m0, p->M, w->columns, LD_COPY);
    *ld = LD_COPY;
    return w->columns;
}

/* z and steps of the block, rows padded with zeros to whole tiles */
static void quantize(const product *p, worker_memory *w, int64_t m0, int64_t rows, int64_t g,
                     int64_t k0, int64_t n)
{
    int64_t ld;
    const float *dy = dy_rows(p, w, m0, rows, k0, n, &ld);
    for (int64_t m = 0; m < rows; m++) {
        int16_t *z = w->z + m * LD_Z;
        p->ops->mul(n, dy + m * ld, p->factor + g * p->K + k0, w->terms);
        const float max = p->ops->absmax(n, w->terms);
        const float a = max < (float)BN_FIXED_FLOOR ? (float)BN_FIXED_FLOOR : max;
        p->ops->codes16(n, w->terms, BN_FIXED_MAX / a, z);
        z[n] = 0; /* meets a code 0 where n is odd */
        w->step[m] = a / BN_FIXED_MAX;
    }
    for (int64_t m = rows; m % BN_FIXED_ROWS; m++) {
        memset(w->z + m * LD_Z, 0, LD_Z * sizeof *w->z);
        w->step[m] = 0;
    }
}

static void tiles(const product *p, const worker_memory *w, int64_t m0, int64_t rows, int64_t g,
                  int64_t k0, int64_t n)
{
    float t[BN_FIXED_ROWS * BN_FIXED_COLS];
    const bool add = p->add || k0 > 0;
    for (int64_t j = 0; j < p->group_panels; j++) {
        const int64_t panel = g * p->group_panels + j;
        const int16_t *q = p->panels + panel * panel_values(p) + k0 * BN_FIXED_COLS;
        int64_t first;
        const int64_t cols = panel_columns(p, panel, &first);
        for (int64_t m = 0; m < rows && cols > 0; m += BN_FIXED_ROWS) {
            for (int64_t r = 0; r < bn_fast_min(BN_FIXED_ROWS, rows - m); r++)
                __builtin_prefetch(p->out + (m0 + m + r) * p->N + first, 1);
            p->tile(w->z + m * LD_Z, LD_Z, q, pairs_of(n), w->step + m, t);
            for (int64_t r = 0; r < bn_fast_min(BN_FIXED_ROWS, rows - m); r++) {
                float *out = p->out + (m0 + m + r) * p->N + first;
                p->ops->copy_add(cols, t + r * BN_FIXED_COLS, out, add);
            }
        }
    }
}

static void chunk(void *arg, int64_t m, int64_t end, int worker)
{
    const product *p = arg;
    worker_memory *w = p->memory + worker;
    for (int64_t g = 0; g < bn_ceil_div(p->N, p->group); g++)
        for (int64_t k = 0; k < p->K; k += BLOCK) {
            const int64_t n = bn_fast_min(BLOCK, p->K - k);
            quantize(p, w, m, end - m, g, k, n);
            tiles(p, w, m, end - m, g, k, n);
        }
}

static void run(const bn_backend *backend, const product *p)
{
    int64_t rows = bn_ceil_div(bn_ceil_div(p->M, CHUNKS), BN_FIXED_ROWS) * BN_FIXED_ROWS;
    bn_fast_ranges(backend, pairs_of(p->K), PAIR_ROWS, widen, (void *)(uintptr_t)p);
    bn_fast_ranges(backend, p->M, bn_fast_min(rows, CHUNK_ROWS), chunk, (void *)(uintptr_t)p);
}

void bn_fixed_tile__generic(const int16_t *z, int64_t ld_z, const int16_t *panel, int64_t pairs,
                            const float *step, float *t)
{
    for (int r = 0; r < BN_FIXED_ROWS; r++, z += ld_z) {
        int32_t acc[BN_FIXED_COLS] = {0};
        for (int64_t i = 0; i < pairs; i++) {
            const int16_t *q = panel + i * 2 * BN_FIXED_COLS;
            for (int c = 0; c < BN_FIXED_COLS; c++)
                acc[c] += z[2 * i] * q[2 * c] + z[2 * i + 1] * q[2 * c + 1];
        }
        for (int c = 0; c < BN_FIXED_COLS; c++)
            *t++ = (float)acc[c] * step[r];
    }
}

/* What a call needs of scratch, in this order. */
typedef struct layout {
    size_t panels, factor, rows, memory, bytes;
} layout;

static size_t take(size_t *at, size_t bytes)
{
    size_t begin = *at;
    *at += bn_align_up(bytes, BN_ALIGN);
    return begin;
}

static product input_product(const bn_op_call *c)
{
    product p = {.M = bn_tensor_rows(&c->in[0]),
                 .N = c->in[2].shape[1],
                 .K = c->in[2].shape[0],
                 .codes = &c->in[2]};
    p.group = bn_group_length(p.N, c->params->weight.group_size);
    p.group_panels = bn_ceil_div(p.group, BN_FIXED_COLS);
    return p;
}

static product weight_product(const bn_op_call *c)
{
    product p = {.M = c->in[2].shape[0],
                 .N = c->in[2].shape[1],
                 .K = bn_tensor_rows(&c->in[0]),
                 .codes = &c->in[0],
                 .by_column = true};
    p.group = bn_group_length(p.N, bn_step_group(&c->params->weight, &c->in[1]));
    p.group_panels = bn_ceil_div(p.group, BN_FIXED_COLS);
    return p;
}

static layout layout_of(const bn_backend *backend, const product *p)
{
    const size_t workers = (size_t)bn_fast_workers(backend);
    layout l = {0};
    size_t at = 0;
    l.panels = take(&at, (size_t)(panel_count(p) * panel_values(p)) * sizeof(int16_t));
    l.factor = take(&at, (size_t)(bn_ceil_div(p->N, p->group) * p->K) * sizeof(float));
    l.rows = take(&at, workers * 2 * (size_t)p->N);
    l.memory = take(&at, workers * sizeof(worker_memory));
    l.bytes = at;
    return l;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* The gradients are made one after the other: the largest counts. */
size_t bn_fast_bitlinear_backward16_scratch(const bn_backend *backend, const bn_op_call *c)
{
    const product input = input_product(c), weight = weight_product(c);
    const size_t bias = (size_t)(bn_fast_parts(input.M) * input.K) * sizeof(float);
    return larger(bias,
                  larger(layout_of(backend, &input).bytes, layout_of(backend, &weight).bytes));
}

static void place(product *p, const bn_backend *backend, const bn_op_call *c, int gradient)
{
    const layout l = layout_of(backend, p);
    uint8_t *scratch = bn_fast_data(&c->scratch);
    p->ops = bn_fast_ops(backend);
    p->tile = bn_cpu_of(backend)->fast->fixed;
    p->dy = bn_fast_data(&c->dout);
    p->out = bn_fast_din(c, gradient);
    p->add = c->accumulate[gradient];
    p->panels = (int16_t *)(void *)(scratch + l.panels);
    p->rows = (int8_t *)scratch + l.rows;
    p->memory = (worker_memory *)(void *)(scratch + l.memory);
    p->factor = (float *)(void *)(scratch + l.factor);
}

static void input_gradient(const bn_backend *backend, const bn_op_call *c)
{
    product p = input_product(c);
    place(&p, backend, c, 0);
    const int64_t G = c->params->weight.group_size, groups = bn_ceil_div(p.N, p.group);
    for (int64_t g = 0; g < groups; g++)
        for (int64_t o = 0; o < p.K; o++)
            p.factor[g * p.K + o] = bn_fast_in(c, 3)[bn_scale_index(o, g, p.N, G)];
    run(backend, &p);
}

static void weight_gradient(const bn_backend *backend, const bn_op_call *c)
{
    product p = weight_product(c);
    place(&p, backend, c, 2);
    const int64_t groups = bn_ceil_div(p.N, p.group);
    const int64_t G = bn_step_group(&c->params->weight, &c->in[1]);
    for (int64_t g = 0; g < groups; g++)
        for (int64_t r = 0; r < p.K; r++)
            p.factor[g * p.K + r] = bn_fast_in(c, 1)[bn_scale_index(r, g, p.N, G)];
    run(backend, &p);
}

/* dy [R,O] -> dx [R,I], dw [O,I], dbias [O] */
bn_status bn_fast_bitlinear_backward16(bn_backend *backend, const bn_op_call *c)
{
    if (bn_tensor_present(&c->din[0]))
        input_gradient(backend, c);
    if (bn_tensor_present(&c->din[2]))
        weight_gradient(backend, c);
    if (bn_tensor_present(&c->din[4]))
        bn_fast_column_sums(backend, bn_tensor_rows(&c->in[0]), c->in[2].shape[0],
                            bn_fast_data(&c->dout), bn_fast_data(&c->scratch), bn_fast_din(c, 4),
                            c->accumulate[4]);
    return BN_OK;
}
