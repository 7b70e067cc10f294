/* mma_forward.cl - BitLinear's product (ternary.cl) on tensor cores, GPU shape:
 * int8 activations x [R,I] times packed ternary weights [O,I], int32 sums per
 * group, scales applied in the same order, so the same bits.
 *
 * A group of 4 warps makes BN_MMA_ROWS rows x 64 outputs, a warp half of both. k
 * passes in slices of 64 that start anew at each group of weights; x is zero past
 * its end, so that any group size is right (multiples of 64 waste nothing).
 *
 *     slice in local memory, a row: 64 bytes of k, x or codes -1, 0, +1
 *       byte  0..15 | 16..31 | 32..47 | 48..63
 *       lane  t = 0 |  t = 1 |  t = 2 |  t = 3     16 bytes, four words: word 0 and 1
 *             are the two operand words of the slice's first product, 2 and 3 of the
 *             second
 *
 * Eight lanes that load together have two rows, 128 bytes in a line: no bank
 * conflicts, no padding. x comes by asynchronous copy straight into the next
 * slice, weights through registers, where 16 packed codes become four words by
 * selecting bytes (bn_bytes) out of -1, 0, +1. Two slices, one barrier for each.
 *
 * Sums begin at 1.5 * 2^23 as bits of a float: up to groups of 32768 an int32 sum
 * read as a float then is exactly that much more than the sum, which saves the
 * conversion, the slowest instruction here.
 *
 * Why 64 x 32 per warp: 64 int32 sums and 64 floats stay in registers with the
 * operands, and a slice takes 12 loads of 16 bytes for 32 products. 128 rows for
 * large products; 64 (32 x 32 per warp) where that would leave units idle. ptxas
 * gives 232 and 154 registers, so two and three groups fit a unit; local memory is
 * 24 and 16 KiB.
 */
#define MF      (BN_MMA_ROWS / 32) /* 16-row products along a warp's rows */
#define NF      4                  /* 8-column products along its outputs */
#define OUTPUTS 64
#define THREADS 128
#define SLICE   64                             /* k */
#define CHUNKS  (BN_MMA_ROWS * 4 / THREADS)    /* of 16 bytes of x per work-item */
#define BIAS    0x4b400000                     /* 1.5 * 2^23 */

#if BN_MMA

/* Where a work-item fetches from. */
typedef struct fetch {
    const global char *x[CHUNKS]; /* its chunks' rows, from their 16-byte column on */
    const global uchar *w;        /* row of the weight */
    int x_from, w_from;           /* first k in the slice: of its chunks, of its codes */
    int row_bytes, I, whole;
} fetch;

/* x of slice k0 into `slice`, zero from `end` on. */
static inline void fetch_x(const fetch *f, local uint4 *slice, int k0, int end)
{
    const int id = get_local_id(0), k = k0 + f->x_from;
    BN_UNROLL
    for (int i = 0; i < CHUNKS; i++) {
        local uint4 *to = slice + id + THREADS * i;
        if (f->whole & 1) {
            bn_copy_16(to, k < end ? f->x[i] + k : f->x[i], k < end);
        } else {
            *to = (uint4)(bn_x_quad(f->x[i], k, end), bn_x_quad(f->x[i], k + 4, end),
                          bn_x_quad(f->x[i], k + 8, end), bn_x_quad(f->x[i], k + 12, end));
        }
    }
}

/* The packed codes of half a row of slice k0. */
static inline uint2 fetch_w(const fetch *f, int k0)
{
    const int k = k0 + f->w_from;
    if (k >= f->I)
        return (uint2)(0);
    if (f->whole & 2)
        return *(const global uint2 *)(f->w + k / 4);
    return (uint2)(bn_fields(f->w, k, 16, f->row_bytes),
                   bn_fields(f->w, k + 16, 16, f->row_bytes));
}

/* 16 packed codes as signed bytes in order. */
static inline uint4 decode(uint fields)
{
    const uint codes = 0x000100ffu; /* bytes 0, 1, 2: -1, 0, +1 */
    const uint even = fields & 0x33333333u, odd = fields >> 2 & 0x33333333u;
    const uint a = bn_bytes(codes, 0, even), b = bn_bytes(codes, 0, odd);
    const uint c = bn_bytes(codes, 0, even >> 16), d = bn_bytes(codes, 0, odd >> 16);
    return (uint4)(bn_bytes(a, b, 0x5140), bn_bytes(a, b, 0x7362), bn_bytes(c, d, 0x5140),
                   bn_bytes(c, d, 0x7362));
}

static inline void put_w(local uint4 *slice, uint2 packed)
{
    const int id = get_local_id(0);
    slice[2 * id] = decode(packed.s0);
    slice[2 * id + 1] = decode(packed.s1);
}

/* One slice: acc += x w for this warp's rows and outputs. */
static inline void multiply(int acc[MF][NF][4], const local uint4 *x, const local uint4 *w,
                            local uint *lanes)
{
    uint4 low[MF], high[MF];
    BN_UNROLL
    for (int m = 0; m < MF; m++) {
        low[m] = x[4 * 16 * m];
        high[m] = x[4 * (16 * m + 8)];
    }
    BN_UNROLL
    for (int n = 0; n < NF; n++) {
        const uint4 v = w[4 * 8 * n];
        const uint b0[2] = {v.s0, v.s1}, b1[2] = {v.s2, v.s3};
        BN_UNROLL
        for (int m = 0; m < MF; m++) {
            const uint a0[4] = {low[m].s0, high[m].s0, low[m].s1, high[m].s1};
            const uint a1[4] = {low[m].s2, high[m].s2, low[m].s3, high[m].s3};
            bn_mma_s8(acc[m][n], a0, b0, lanes);
            bn_mma_s8(acc[m][n], a1, b1, lanes);
        }
    }
}

/* `whole`: bit 0: x's rows, groups and address are multiples of 16 bytes; bit 1:
 * rows of packed codes and their address of 8, groups of 32. */
kernel __attribute__((reqd_work_group_size(THREADS, 1, 1))) void
bn_mma_forward(BN_BUFFER(x), BN_BUFFER(step), BN_BUFFER(packed), BN_BUFFER(scale), BN_BUFFER(bias),
               BN_BUFFER(y), const int R, const int O, const int I, const int group,
               const int groups, const int one_step, const int one_scale, const int whole)
{
    BN_POINTER(const char, x);
    BN_POINTER(const float, step);
    BN_POINTER(const uchar, packed);
    BN_POINTER(const float, scale);
    BN_POINTER(const float, bias);
    BN_POINTER(float, y);
    local uint4 x_slices[2][BN_MMA_ROWS * 4], w_slices[2][OUTPUTS * 4];
    BN_MMA_LOCAL(THREADS)
    const int id = get_local_id(0), warp = id / 32, g = id % 32 / 4, t = id % 4;
    const int r0 = get_group_id(1) * BN_MMA_ROWS, o0 = get_group_id(0) * OUTPUTS;
    const int my_row = warp / 2 * (BN_MMA_ROWS / 2), my_output = warp % 2 * (OUTPUTS / 2);
    fetch f = {.x_from = id % 4 * 16, .w_from = id % 2 * 32, .I = I, .whole = whole};
    f.row_bytes = (I + 3) / 4;
    f.w = packed + (long)min(o0 + id / 2, O - 1) * f.row_bytes;
    BN_UNROLL
    for (int i = 0; i < CHUNKS; i++)
        f.x[i] = x + (long)min(r0 + id / 4 + THREADS / 4 * i, R - 1) * I;
    const int biased = group <= 32768, zero = biased ? BIAS : 0;
    int acc[MF][NF][4];
    float sum[MF][NF][4];
    BN_UNROLL
    for (int m = 0; m < MF; m++)
        BN_UNROLL
        for (int n = 0; n < NF; n++)
            BN_UNROLL
            for (int i = 0; i < 4; i++) {
                acc[m][n][i] = zero;
                sum[m][n][i] = 0.0f;
            }
    fetch_x(&f, x_slices[0], 0, min(group, I));
    put_w(w_slices[0], fetch_w(&f, 0));
    for (int at = 0, k0 = 0, stage = 0; at < groups; stage ^= 1) {
        const int ends = k0 + SLICE >= min((at + 1) * group, I);
        const int next = at + ends, next_k0 = ends ? next * group : k0 + SLICE;
        uint2 codes = (uint2)(0);
        bn_copies_wait();
        barrier(CLK_LOCAL_MEM_FENCE);
        if (next < groups) {
            fetch_x(&f, x_slices[stage ^ 1], next_k0, min((next + 1) * group, I));
            codes = fetch_w(&f, next_k0);
        }
        multiply(acc, x_slices[stage] + 4 * (my_row + g) + t,
                 w_slices[stage] + 4 * (my_output + g) + t, BN_MMA_LANES);
        if (ends) {
            BN_UNROLL
            for (int n = 0; n < NF; n++)
                BN_UNROLL
                for (int i = 0; i < 4; i++) {
                    const int o = min(o0 + my_output + 8 * n + 2 * t + i % 2, O - 1);
                    const float gamma = scale[one_scale ? 0 : (long)o * groups + at];
                    BN_UNROLL
                    for (int m = 0; m < MF; m++) {
                        const int a = acc[m][n][i];
                        const float v = biased ? as_float(a) - as_float(BIAS) : (float)a;
                        sum[m][n][i] = fma(v, gamma, sum[m][n][i]);
                        acc[m][n][i] = zero;
                    }
                }
        }
        if (next < groups)
            put_w(w_slices[stage ^ 1], codes);
        at = next;
        k0 = next_k0;
    }
    BN_UNROLL
    for (int m = 0; m < MF; m++)
        BN_UNROLL
        for (int n = 0; n < NF; n++)
            BN_UNROLL
            for (int i = 0; i < 4; i++) {
                const int r = r0 + my_row + 16 * m + g + i / 2 * 8;
                const int o = o0 + my_output + 8 * n + 2 * t + i % 2;
                if (r < R && o < O) {
                    const float v = sum[m][n][i] * step[one_step ? 0 : r];
                    y[(long)r * O + o] = bias_base ? v + bias[o] : v;
                }
            }
}

#endif
