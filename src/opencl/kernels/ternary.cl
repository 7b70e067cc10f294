/* ternary.cl - BitLinear on packed codes: y[r,o] from int8 activations x [R,I]
 * with their steps and ternary weights q [O,I] with their scales gamma,
 *
 *     acc_g = sum over group g of q x   (int32, exact)
 *     t = 0;  for g ascending: t = fma(acc_g, gamma_g, t);  y = t step (+ bias)
 *
 * the same bits as bn_int_product_f32 in every shape. Packed weights (BN_T2):
 *
 *     byte j of a row:   bit  7 6 | 5 4 | 3 2 | 1 0
 *     element k of row:      4j+3 |4j+2 |4j+1 | 4j      field = q + 1
 *
 * CPU shape: weights are unpacked into panels of 16 outputs, four consecutive k
 * (a quad) in 64 bytes, followed by the scales [groups][16] as floats. Groups
 * start at a new quad; x is copied with zeros in the gaps.
 *
 *     with AVX2      byte 4c + e  = field of output c, k = 4i + e
 *     without        byte 16e + c = q     of output c, k = 4i + e
 *
 * With AVX2, vpmaddubsw multiplies unsigned fields (0..2) with signed x and adds
 * pairs: at most 512, so int16 is exact over 60 quads; that fields are q + 1 is
 * taken back with the group sums of x. Without it, int16 lanes take 252
 * products q x. A work-item makes 6 rows x 16 outputs at a time (12 vectors of
 * accumulators in 16 registers).
 *
 * GPU shape: a group of 16 x 16 work-items makes 64 x 64 outputs, 4 x 4 each,
 * from slices of 32 k in local memory, four codes to an int: for the dot-product
 * instruction in the program with BN_DOT (dp4a on NVIDIA, else
 * cl_khr_integer_dot_product), for four multiplications in the one without. Tensor
 * cores: mma_forward.cl, mma_backward.cl.
 *
 * Backward turns codes into floats for the products of gemm.cl: dx = dy (q gamma),
 * dw = dy^T (x step). With bfloat16 products dy takes gamma or step and is
 * rounded, one copy per group of columns for dx: dx = bf16(dy gamma_g) q_g,
 * dw = bf16(dy step)^T x.
 */

/* Index of the scale of element k of weight row o. */
static inline long scale_index(int o, int k, int group, int groups, int one_scale)
{
    return one_scale ? 0 : (long)o * groups + k / group;
}

/* Code of element k of a packed row. */
static inline int code_of(const global uchar *row, int k)
{
    return (row[k >> 2] >> 2 * (k & 3) & 3) - 1;
}

#if BN_CPU

#define WG1 __attribute__((reqd_work_group_size(1, 1, 1)))
#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX2__) && defined(__clang__)
#define PAIRS 1
typedef char v32c __attribute__((vector_size(32)));
typedef short v16s __attribute__((vector_size(32)));
typedef int v8i __attribute__((vector_size(32)));
#define BYTE_OF(c, e) (4 * (c) + (e))
#define QUADS_EXACT   60
#else
#define PAIRS         0
#define BYTE_OF(c, e) (16 * (e) + (c))
#define QUADS_EXACT   63
#endif

/* Packed weight [O,I] -> panels; group: a panel. */
kernel WG1 void bn_ternary_panels(BN_BUFFER(packed), BN_BUFFER(scale), BN_BUFFER(panels),
                                  const int O, const int I, const int group, const int groups,
                                  const int quads, const int one_scale)
{
    BN_POINTER(const uchar, packed);
    BN_POINTER(const float, scale);
    const int p = get_group_id(0);
    const long row_bytes = (I + 3) / 4;
    global uchar *panel = (global uchar *)(panels_base + panels_offset) +
                          (long)p * (quads + groups) * 64;
    global float *gamma = (global float *)(panel + (long)quads * 64);
    for (int c = 0; c < 16; c++) { /* past the last output: that one again */
        const int o = min(16 * p + c, O - 1);
        const global uchar *row = packed + o * row_bytes;
        for (int g = 0; g < groups; g++)
            gamma[g * 16 + c] = scale[scale_index(o, g * group, group, groups, one_scale)];
        int quad = 0;
        for (int k0 = 0; k0 < I; k0 += group) {
            const int end = min(k0 + group, I);
            for (int k = k0; k < end; k += 4, quad++) {
                const uint fields = bn_four_fields(row, k, (int)row_bytes);
#if PAIRS
                *(global uint *)(panel + (long)quad * 64 + 4 * c) = fields;
#else
                for (int e = 0; e < 4; e++)
                    panel[(long)quad * 64 + BYTE_OF(c, e)] = (uchar)((fields >> 8 * e & 3u) - 1u);
#endif
            }
        }
    }
}

/* x [R,I] -> rows of quads * 4 bytes, groups on quads, zero rows past R, and
 * the group sums [rows, groups]; group: one row. */
kernel WG1 void bn_ternary_rows(BN_BUFFER(x), BN_BUFFER(to), BN_BUFFER(sums), const int R,
                                const int I, const int group, const int groups, const int quads,
                                const int rows_per_item, const int rows)
{
    BN_POINTER(const char, x);
    BN_POINTER(char, to);
    BN_POINTER(int, sums);
    const int r0 = get_group_id(0) * rows_per_item, group_bytes = (group + 3) / 4 * 4;
    for (int r = r0; r < min(r0 + rows_per_item, rows); r++) {
        const global char *from = x + (long)r * I;
        global char *row = to + (long)r * quads * 4;
        for (int g = 0; g < groups; g++) {
            const int k0 = g * group, n = min(group, I - k0), padded = (n + 3) / 4 * 4;
            int sum = 0, k = 0;
            if (r < R) {
                int8 total = (int8)0;
                while (k + 16 <= n) {
                    short16 lanes = (short16)0; /* exact over 255 of 128 */
                    for (int i = 0; i < 255 && k + 16 <= n; i++, k += 16) {
                        const char16 v = vload16(0, from + k0 + k);
                        vstore16(v, 0, row + g * group_bytes + k);
                        lanes += convert_short16(v);
                    }
                    total += convert_int8(lanes.lo) + convert_int8(lanes.hi);
                }
                const int4 four = total.lo + total.hi;
                sum = four.s0 + four.s1 + four.s2 + four.s3;
                for (; k < n; k++) {
                    const char v = from[k0 + k];
                    row[g * group_bytes + k] = v;
                    sum += v;
                }
            }
            for (; k < padded; k++)
                row[g * group_bytes + k] = 0;
            sums[(long)r * groups + g] = sum;
        }
    }
}

#define ROWS 6

#if PAIRS
/* acc[ROWS][2] of 8 int += `n` quads of ROWS rows and one panel */
INLINE void tile_quads(const global char *x, long ld, const global uchar *w, int n,
                       int8 acc[ROWS][2])
{
    v16s s[ROWS][2];
    const v16s zero = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        s[r][0] = s[r][1] = zero;
#pragma unroll 1
    for (int i = 0; i < n; i++, w += 64, x += 4) {
        const v32c w0 = *(const global v32c *)w, w1 = *(const global v32c *)(w + 32);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const int four = *(const global int *)(x + r * ld);
            const v32c v = (v32c)(v8i){four, four, four, four, four, four, four, four};
            s[r][0] += (v16s)__builtin_ia32_pmaddubsw256(w0, v);
            s[r][1] += (v16s)__builtin_ia32_pmaddubsw256(w1, v);
        }
    }
    const v16s ones = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int h = 0; h < 2; h++)
            acc[r][h] += __builtin_astype(__builtin_ia32_pmaddwd256(s[r][h], ones), int8);
}
#else
INLINE void tile_quads(const global char *x, long ld, const global uchar *w, int n,
                       int8 acc[ROWS][2])
{
    short16 s[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        s[r] = (short16)0;
    for (int i = 0; i < n; i++)
        for (int e = 0; e < 4; e++) {
            const short16 v = convert_short16(vload16(4 * i + e, (const global char *)w));
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                s[r] += v * (short16)(short)x[r * ld + 4 * i + e];
        }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        acc[r][0] += convert_int8(s[r].lo);
        acc[r][1] += convert_int8(s[r].hi);
    }
}
#endif

/* ROWS rows and one panel: t[ROWS][2] of 8 outputs. */
INLINE void tile(const global char *x, const global int *sums, const global uchar *panel, int I,
                 int group, int groups, int quads, float8 t[ROWS][2])
{
    const global float *gamma = (const global float *)(panel + (long)quads * 64);
    const long ld = (long)quads * 4;
    for (int r = 0; r < ROWS; r++)
        t[r][0] = t[r][1] = (float8)0.0f;
    for (int g = 0; g < groups; g++, gamma += 16) {
        int8 acc[ROWS][2];
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            acc[r][0] = acc[r][1] = PAIRS ? (int8)(-sums[r * groups + g]) : (int8)0;
        int left = (min(group, I - g * group) + 3) / 4;
        while (left > 0) {
            const int n = min(left, QUADS_EXACT);
            tile_quads(x, ld, panel, n, acc);
            x += 4 * n;
            panel += 64 * n;
            left -= n;
        }
        const float8 g0 = vload8(0, gamma), g1 = vload8(1, gamma);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            t[r][0] = fma(convert_float8(acc[r][0]), g0, t[r][0]);
            t[r][1] = fma(convert_float8(acc[r][1]), g1, t[r][1]);
        }
    }
}

/* x rows and panels as above -> y [R,O]; bias [O] or null. Group: block_rows
 * rows (a multiple of ROWS) x block_panels panels. */
kernel WG1 void bn_ternary_product(BN_BUFFER(x), BN_BUFFER(sums), BN_BUFFER(panels),
                                   BN_BUFFER(step), BN_BUFFER(bias), BN_BUFFER(y), const int R,
                                   const int O, const int I, const int group, const int groups,
                                   const int quads, const int one_step, const int block_rows,
                                   const int block_panels)
{
    BN_POINTER(const char, x);
    BN_POINTER(const int, sums);
    BN_POINTER(const uchar, panels);
    BN_POINTER(const float, step);
    BN_POINTER(const float, bias);
    BN_POINTER(float, y);
    const int r0 = get_group_id(0) * block_rows, r1 = min(r0 + block_rows, R);
    const int p0 = get_group_id(1) * block_panels, p1 = min(p0 + block_panels, (O + 15) / 16);
    for (int p = p0; p < p1; p++)
        for (int r = r0; r < r1; r += ROWS) {
            float8 t[ROWS][2];
            tile(x + (long)r * quads * 4, sums + (long)r * groups,
                 panels + (long)p * (quads + groups) * 64, I, group, groups, quads, t);
            const int o0 = 16 * p, n = min(16, O - o0);
            for (int i = 0; i < min(ROWS, R - r); i++) {
                const float s = step[one_step ? 0 : r + i];
                global float *to = y + (long)(r + i) * O + o0;
                if (n == 16 && !bias_base) {
                    vstore8(t[i][0] * s, 0, to);
                    vstore8(t[i][1] * s, 1, to);
                } else {
                    float line[16];
                    vstore8(t[i][0] * s, 0, line);
                    vstore8(t[i][1] * s, 1, line);
                    for (int c = 0; c < n; c++)
                        to[c] = bias_base ? line[c] + bias[o0 + c] : line[c];
                }
            }
        }
}

/* ---- few rows (decoding): weights are read as they are ---------------------------
 * A chunk is 64 k: 16 packed bytes. x as planes of int16: plane e of a chunk has
 * x[64 c + 4 b + e] in lane b, zero past the end. A group is whole chunks, or
 * there is one group. */

/* Planes [R, chunks, 4, 16] and group sums [R, groups]; group: one row. */
kernel WG1 void bn_ternary_planes(BN_BUFFER(x), BN_BUFFER(planes), BN_BUFFER(sums), const int I,
                                  const int group, const int groups)
{
    const int r = get_group_id(0), chunks = (I + 63) / 64;
    const global char *from = (const global char *)(x_base + x_offset) + (long)r * I;
    global short *to = (global short *)(planes_base + planes_offset) + (long)r * chunks * 64;
    global int *sum = (global int *)(sums_base + sums_offset) + (long)r * groups;
    for (int g = 0; g < groups; g++) {
        int total = 0;
        for (int k = g * group; k < min((g + 1) * group, I); k++)
            total += from[k];
        sum[g] = total;
    }
    for (int k = 0; k < chunks * 64; k++)
        to[k / 64 * 64 + k % 4 * 16 + k % 64 / 4] = k < I ? from[k] : 0;
}

/* y [R,O] from planes; group: `block` outputs. */
kernel WG1 void bn_ternary_few(BN_BUFFER(planes), BN_BUFFER(sums), BN_BUFFER(step),
                               BN_BUFFER(packed), BN_BUFFER(scale), BN_BUFFER(bias), BN_BUFFER(y),
                               const int R, const int O, const int I, const int group,
                               const int groups, const int one_step, const int one_scale,
                               const int block)
{
    BN_POINTER(const short, planes);
    BN_POINTER(const int, sums);
    BN_POINTER(const float, step);
    BN_POINTER(const uchar, packed);
    BN_POINTER(const float, scale);
    BN_POINTER(const float, bias);
    BN_POINTER(float, y);
    const int row_bytes = (I + 3) / 4, chunks = (I + 63) / 64, o0 = get_group_id(0) * block;
    for (int o = o0; o < min(o0 + block, O); o++)
        for (int r = 0; r < R; r++) {
            const global uchar *w = packed + (long)o * row_bytes;
            const global short *x = planes + (long)r * chunks * 64;
            float t = 0.0f;
            for (int g = 0, c = 0; g < groups; g++) {
                const int end = groups == 1 ? chunks : min((g + 1) * (group / 64), chunks);
                int8 acc = (int8)0;
                for (; c < end; c++) {
                    uchar16 fields = (uchar16)0;
                    if (16 * c + 16 <= row_bytes) {
                        fields = vload16(c, w);
                    } else {
                        uchar last[16] = {0};
                        for (int i = 16 * c; i < row_bytes; i++)
                            last[i - 16 * c] = w[i];
                        fields = vload16(0, last);
                    }
                    const ushort16 wide = convert_ushort16(fields);
                    short16 s = as_short16(wide & (ushort)3) * vload16(4 * c, x);
                    s += as_short16(wide >> (ushort)2 & (ushort)3) * vload16(4 * c + 1, x);
                    s += as_short16(wide >> (ushort)4 & (ushort)3) * vload16(4 * c + 2, x);
                    s += as_short16(wide >> (ushort)6) * vload16(4 * c + 3, x);
                    acc += convert_int8(s.lo) + convert_int8(s.hi);
                }
                const int4 four = acc.lo + acc.hi;
                const int total = four.s0 + four.s1 + four.s2 + four.s3 - sums[r * groups + g];
                t = fma((float)total, scale[one_scale ? 0 : (long)o * groups + g], t);
            }
            const float v = t * step[one_step ? 0 : r];
            y[(long)r * O + o] = bias_base ? v + bias[o] : v;
        }
}

/* q gamma (q without a scale) of columns i_first .. i_first+n_cols-1 of a weight
 * [O,I] as panels of gemm.cl: line i, depth o. Group: a panel. */
kernel WG1 void bn_ternary_weight_panels(BN_BUFFER(packed), BN_BUFFER(scale), BN_BUFFER(to),
                                         const int O, const int I, const int group,
                                         const int groups, const int one_scale, const int i_first,
                                         const int n_cols)
{
    BN_POINTER(const uchar, packed);
    BN_POINTER(const float, scale);
    BN_POINTER(float, to);
    const int at = get_group_id(0) * BN_NR, n = min(BN_NR, n_cols - at), i0 = i_first + at;
    const long row_bytes = (I + 3) / 4;
    const uint16 shifts = (uint16)(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const int even = n == BN_NR && i0 % 4 == 0 && (!scale_base || groups == 1 || group % 16 == 0);
    global float *line = to + (long)at * O;
    for (int o = 0; o < O; o++, line += BN_NR) {
        const global uchar *row = packed + o * row_bytes;
        if (even) {
            for (int i = 0; i < BN_NR; i += 16) {
                const float gamma =
                    scale_base ? scale[scale_index(o, i0 + i, group, groups, one_scale)] : 1.0f;
                const uint word = as_uint(vload4(0, row + (i0 + i) / 4));
                const int16 q = as_int16((uint16)word >> shifts & 3u) - 1;
                vstore16(convert_float16(q) * gamma, 0, line + i);
            }
        } else {
            for (int i = 0; i < BN_NR; i++) {
                const int k = min(i0 + i, I - 1);
                const float gamma =
                    scale_base ? scale[scale_index(o, k, group, groups, one_scale)] : 1.0f;
                line[i] = i < n ? (float)code_of(row, k) * gamma : 0.0f;
            }
        }
    }
}

/* x step (x without steps) of activations [R,I] as panels of gemm.cl: line i,
 * depth r. Group: a panel. */
kernel WG1 void bn_ternary_x_panels(BN_BUFFER(x), BN_BUFFER(step), BN_BUFFER(to), const int R,
                                    const int I, const int one_step)
{
    BN_POINTER(const char, x);
    BN_POINTER(const float, step);
    BN_POINTER(float, to);
    const int i0 = get_group_id(0) * BN_NR, n = min(BN_NR, I - i0);
    global float *line = to + (long)i0 * R;
    for (int r = 0; r < R; r++, line += BN_NR) {
        const global char *row = x + (long)r * I + i0;
        const float s = step_base ? step[one_step ? 0 : r] : 1.0f;
        if (n == BN_NR) {
            for (int i = 0; i < BN_NR; i += 16)
                vstore16(convert_float16(vload16(0, row + i)) * s, 0, line + i);
        } else {
            for (int i = 0; i < BN_NR; i++)
                line[i] = i < n ? (float)row[i] * s : 0.0f;
        }
    }
}

/* to [R,O] = bf16(dy factor), factor[first + r by_row + o by_column]. Group: a row. */
kernel WG1 void bn_ternary_round(BN_BUFFER(dy), BN_BUFFER(factor), BN_BUFFER(to), const int O,
                                 const int first, const int by_row, const int by_column)
{
    BN_POINTER(const float, dy);
    BN_POINTER(const float, factor);
    BN_POINTER(float, to);
    const long r = get_group_id(0);
    const global float *from = dy + r * O, *f = factor + first + r * by_row;
    float line[16];
    int o = 0;
    for (; o + 16 <= O; o += 16) {
        for (int i = 0; i < 16; i++)
            line[i] = f[(long)(o + i) * by_column];
        vstore16(bn_bf16_round16(vload16(0, from + o) * vload16(0, line)), 0, to + r * O + o);
    }
    for (; o < O; o++)
        to[r * O + o] = bn_bf16_round(from[o] * f[(long)o * by_column]);
}

#else /* ---- GPU shape ------------------------------------------------------ */

#define TILE  64 /* rows and outputs of a group */
#define QUADS 8  /* of a slice: 32 k */
#define LINE  (TILE + 4)

/* c + the dot product of four signed bytes of a and of b */
static inline int dot4(int a, int b, int c)
{
#if BN_DOT && BN_NVIDIA
    int d;
    __asm__("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
#elif BN_DOT
    return c + dot_4x8packed_ss_int(as_uint(a), as_uint(b));
#else
    const int4 x = convert_int4(as_char4(a)), y = convert_int4(as_char4(b));
    return mad24(x.s0, y.s0, mad24(x.s1, y.s1, mad24(x.s2, y.s2, mad24(x.s3, y.s3, c))));
#endif
}

/* Codes k .. k+3 of a packed row as signed bytes of an int; past its end
 * anything. */
static inline int w_quad(const global uchar *row, int k, int end, int row_bytes)
{
    if (k >= end)
        return 0;
    const uint fields = bn_four_fields(row, k, row_bytes);
    return as_int((fields | 0x80808080u) - 0x01010101u ^ 0x80808080u); /* byte by byte - 1 */
}

kernel __attribute__((reqd_work_group_size(16, 16, 1))) void
bn_ternary_tiles(BN_BUFFER(x), BN_BUFFER(step), BN_BUFFER(packed), BN_BUFFER(scale),
                 BN_BUFFER(bias), BN_BUFFER(y), const int R, const int O, const int I,
                 const int group, const int groups, const int one_step, const int one_scale)
{
    BN_POINTER(const char, x);
    BN_POINTER(const float, step);
    BN_POINTER(const uchar, packed);
    BN_POINTER(const float, scale);
    BN_POINTER(const float, bias);
    BN_POINTER(float, y);
    local int x_slice[QUADS * LINE] __attribute__((aligned(16)));
    local int w_slice[QUADS * LINE] __attribute__((aligned(16)));
    const int tx = get_local_id(0), ty = get_local_id(1), id = ty * 16 + tx;
    const int r0 = get_group_id(1) * TILE, o0 = get_group_id(0) * TILE;
    const int row_bytes = (I + 3) / 4;
    const int line = id / 4, quad = id % 4 * 2; /* this one fetches two quads of a line */
    const global char *x_row = x + (long)min(r0 + line, R - 1) * I;
    const global uchar *w_row = packed + (long)min(o0 + line, O - 1) * row_bytes;
    float t[4][4];
    BN_UNROLL
    for (int i = 0; i < 4; i++)
        BN_UNROLL
        for (int j = 0; j < 4; j++)
            t[i][j] = 0.0f;
    for (int g = 0; g < groups; g++) {
        const int end = min((g + 1) * group, I);
        int acc[4][4];
        BN_UNROLL
        for (int i = 0; i < 4; i++)
            BN_UNROLL
            for (int j = 0; j < 4; j++)
                acc[i][j] = 0;
        for (int k0 = g * group; k0 < end; k0 += 4 * QUADS) {
            for (int q = quad; q < quad + 2; q++) {
                x_slice[q * LINE + line] = bn_x_quad(x_row, k0 + 4 * q, end);
                w_slice[q * LINE + line] = w_quad(w_row, k0 + 4 * q, end, row_bytes);
            }
            barrier(CLK_LOCAL_MEM_FENCE);
            BN_UNROLL
            for (int q = 0; q < QUADS; q++) {
                const int4 a = *(const local int4 *)(x_slice + q * LINE + 4 * ty);
                const int4 b = *(const local int4 *)(w_slice + q * LINE + 4 * tx);
                const int xs[4] = {a.s0, a.s1, a.s2, a.s3}, ws[4] = {b.s0, b.s1, b.s2, b.s3};
                BN_UNROLL
                for (int i = 0; i < 4; i++)
                    BN_UNROLL
                    for (int j = 0; j < 4; j++)
                        acc[i][j] = dot4(xs[i], ws[j], acc[i][j]);
            }
            barrier(CLK_LOCAL_MEM_FENCE);
        }
        BN_UNROLL
        for (int j = 0; j < 4; j++) {
            const int o = min(o0 + 4 * tx + j, O - 1);
            const float gamma = scale[one_scale ? 0 : (long)o * groups + g];
            BN_UNROLL
            for (int i = 0; i < 4; i++)
                t[i][j] = fma((float)acc[i][j], gamma, t[i][j]);
        }
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            const int r = r0 + 4 * ty + i, o = o0 + 4 * tx + j;
            if (r < R && o < O) {
                const float v = t[i][j] * step[one_step ? 0 : r];
                y[(long)r * O + o] = bias_base ? v + bias[o] : v;
            }
        }
}

/* Few rows (decoding): a group of 32 x 4 work-items makes 4 outputs of every row.
 * A work-item takes chunks of 64 k; sums of a group meet in local memory through
 * integer atomics. A group of k is whole chunks, or there is one group. */
#define FEW_LINES  4
#define FEW_GROUPS 64 /* groups of k at once */

kernel __attribute__((reqd_work_group_size(32, FEW_LINES, 1))) void
bn_ternary_few_tiles(BN_BUFFER(x), BN_BUFFER(step), BN_BUFFER(packed), BN_BUFFER(scale),
                     BN_BUFFER(bias), BN_BUFFER(y), const int R, const int O, const int I,
                     const int group, const int groups, const int one_step, const int one_scale)
{
    BN_POINTER(const char, x);
    BN_POINTER(const float, step);
    BN_POINTER(const uchar, packed);
    BN_POINTER(const float, scale);
    BN_POINTER(const float, bias);
    BN_POINTER(float, y);
    local int acc[FEW_LINES][FEW_GROUPS];
    const int lane = get_local_id(0), line = get_local_id(1), row_bytes = (I + 3) / 4;
    const int o = get_group_id(0) * FEW_LINES + line;
    const global uchar *w = packed + (long)min(o, O - 1) * row_bytes;
    for (int r = 0; r < R; r++) {
        const global char *row = x + (long)r * I;
        float t = 0.0f;
        for (int g0 = 0; g0 < groups; g0 += FEW_GROUPS) {
            const int n = min(FEW_GROUPS, groups - g0), end = min((g0 + n) * group, I);
            barrier(CLK_LOCAL_MEM_FENCE);
            for (int g = lane; g < n; g += 32)
                acc[line][g] = 0;
            barrier(CLK_LOCAL_MEM_FENCE);
            for (int k0 = g0 * group + 64 * lane; k0 < end; k0 += 64 * 32) {
                int sum = 0;
                for (int k = k0; k < min(k0 + 64, end); k += 4)
                    sum = dot4(bn_x_quad(row, k, end), w_quad(w, k, end, row_bytes), sum);
                atomic_add(&acc[line][k0 / group - g0], sum);
            }
            barrier(CLK_LOCAL_MEM_FENCE);
            for (int g = 0; g < n; g++)
                t = fma((float)acc[line][g],
                        scale[one_scale ? 0 : (long)min(o, O - 1) * groups + g0 + g], t);
        }
        if (lane == 0 && o < O) {
            const float v = t * step[one_step ? 0 : r];
            y[(long)r * O + o] = bias_base ? v + bias[o] : v;
        }
    }
}

/* q gamma (q without a scale) of columns i_first .. i_first+n_cols-1 of a weight
 * as floats [O,n_cols]; a work-item: 4 codes. */
kernel __attribute__((reqd_work_group_size(64, 1, 1))) void
bn_ternary_weight_floats(BN_BUFFER(packed), BN_BUFFER(scale), BN_BUFFER(to), const int O,
                         const int I, const int group, const int groups, const int one_scale,
                         const int i_first, const int n_cols)
{
    BN_POINTER(const uchar, packed);
    BN_POINTER(const float, scale);
    BN_POINTER(float, to);
    const int i0 = get_global_id(0) * 4, o = get_group_id(1);
    const global uchar *row = packed + (long)o * ((I + 3) / 4);
    for (int i = i0; i < min(i0 + 4, n_cols); i++) {
        const int k = i_first + i;
        const float gamma = scale_base ? scale[scale_index(o, k, group, groups, one_scale)] : 1.0f;
        to[(long)o * n_cols + i] = (float)code_of(row, k) * gamma;
    }
}

/* x step (x without steps) of activations as floats [R,I]; a work-item: 4 codes. */
kernel __attribute__((reqd_work_group_size(64, 1, 1))) void
bn_ternary_x_floats(BN_BUFFER(x), BN_BUFFER(step), BN_BUFFER(to), const int R, const int I,
                    const int one_step)
{
    BN_POINTER(const char, x);
    BN_POINTER(const float, step);
    BN_POINTER(float, to);
    const int k0 = get_global_id(0) * 4, r = get_group_id(1);
    const float s = step_base ? step[one_step ? 0 : r] : 1.0f;
    for (int k = k0; k < min(k0 + 4, I); k++)
        to[(long)r * I + k] = (float)x[(long)r * I + k] * s;
}

/* to [R,O] = bf16(dy factor), factor[first + r by_row + o by_column]; group: a row. */
kernel __attribute__((reqd_work_group_size(64, 1, 1))) void
bn_ternary_round(BN_BUFFER(dy), BN_BUFFER(factor), BN_BUFFER(to), const int O, const int first,
                 const int by_row, const int by_column)
{
    BN_POINTER(const float, dy);
    BN_POINTER(const float, factor);
    BN_POINTER(float, to);
    const long r = get_group_id(0);
    for (int o = get_local_id(0); o < O; o += 64)
        to[r * O + o] =
            bn_bf16_round(dy[r * O + o] * factor[first + r * by_row + (long)o * by_column]);
}

#endif
