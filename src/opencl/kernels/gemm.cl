/* gemm.cl - float products c[m,n] = sum over k of a(m,k) b(k,n), all layouts.
 *
 * In both shapes and whatever the tiles, an element of c is one chain
 *
 *     t = add ? c[m,n] : 0;  for k ascending: t = fma(a(m,k), b(k,n), t);
 *     c[m,n] = t (+ bias[n])
 *
 * so its bits depend on the operands alone. The sum over k is never split.
 *
 * CPU shape: operands are packed into panels first, zero past the edge,
 *
 *     a: panel p, k:  BN_MR floats a(BN_MR p + i, k)
 *     b: panel p, k:  BN_NR floats b(k, BN_NR p + j)
 *
 * then one work-item makes a block of panels_m x panels_n panels (8 x 4 where
 * there are enough blocks for all cores). Its inner tile of MH x 2 vectors is
 * what the registers hold: 6 x 16 with AVX (12 accumulators, 2 of b, 1 of a in
 * 16 registers), 12 x 32 with AVX-512 (24 of 32). KC rows of a b tile stay in
 * the first-level cache while all panels of the a block (BN_MR * 8 * KC floats =
 * 96 KiB, second level) pass by; between blocks of k the chain waits in c.
 *
 * GPU shape: a group makes a BN_TILE x BN_TILE tile of c with 8 x 8 elements
 * per work-item, from 16-deep slices of a and b in local memory; the next slice
 * is on its way in registers meanwhile. 64 for small products, 128 for large
 * ones: twice the arithmetic per byte, a quarter of the groups.
 */
#if BN_CPU

#define KC 256 /* k at once */

#if defined(__AVX512F__)
#define VW               16
#define MH               12
#define vf               float16
#define vf_load(p)       vload16(0, p)
#define vf_store(v, p)   vstore16(v, 0, p)
#elif defined(__AVX__)
#define VW               8
#define MH               6
#define vf               float8
#define vf_load(p)       vload8(0, p)
#define vf_store(v, p)   vstore8(v, 0, p)
#else
#define VW               4
#define MH               6
#define vf               float4
#define vf_load(p)       vload4(0, p)
#define vf_store(v, p)   vstore4(v, 0, p)
#endif
#define NH     (2 * VW) /* columns of a tile */
#define INLINE static inline __attribute__((always_inline))

/* Four rows of x, `ld` apart, at columns k .. k+3, into rows k .. k+3 of a
 * panel of `width`. */
INLINE void turn_4x4(const global float *x, long ld, global float *to, int width)
{
    const float4 a = vload4(0, x), b = vload4(0, x + ld);
    const float4 c = vload4(0, x + 2 * ld), d = vload4(0, x + 3 * ld);
    vstore4((float4)(a.s0, b.s0, c.s0, d.s0), 0, to);
    vstore4((float4)(a.s1, b.s1, c.s1, d.s1), 0, to + width);
    vstore4((float4)(a.s2, b.s2, c.s2, d.s2), 0, to + 2 * width);
    vstore4((float4)(a.s3, b.s3, c.s3, d.s3), 0, to + 3 * width);
}

/* Elements (i, k) = x[i * ld + k] for i < n <= width and k < K; a line of
 * cache of four rows at a time, because rows a power of two apart share few
 * cache sets. */
INLINE void pack_rows(const global float *x, long ld, int n, int K, global float *to, int width)
{
    int k0 = 0;
    for (; n == width && k0 + 16 <= K; k0 += 16)
        for (int i = 0; i < width; i += 4)
            for (int k = k0; k < k0 + 16; k += 4)
                turn_4x4(x + i * ld + k, ld, to + (long)k * width + i, width);
    for (; k0 < K; k0++)
        for (int i = 0; i < width; i++)
            to[(long)k0 * width + i] = i < n ? x[i * ld + k0] : 0.0f;
}

/* Elements (i, k) = x[k * ld + i]. */
INLINE void pack_columns(const global float *x, long ld, int n, int K, global float *to, int width)
{
    for (int k = 0; k < K; k++, x += ld, to += width)
        if (n == width) {
            for (int i = 0; i < width; i += 4)
                vstore4(vload4(0, x + i), 0, to + i);
        } else {
            for (int i = 0; i < width; i++)
                to[i] = i < n ? x[i] : 0.0f;
        }
}

/* Panels of `width` lines of an operand: line i, element k is x[i * ld + k], or
 * x[k * ld + i] if `across`. Group: a panel. */
INLINE void pack(const global float *x, global float *to, int lines, int K, long ld, int across,
                 int width)
{
    const int i0 = get_group_id(0) * width, n = min(width, lines - i0);
    to += (long)i0 * K;
    if (across)
        pack_columns(x + i0, ld, n, K, to, width);
    else
        pack_rows(x + i0 * ld, ld, n, K, to, width);
}

kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
bn_gemm_pack_a(BN_BUFFER(x), BN_BUFFER(to), const int lines, const int K, const long ld,
               const int across)
{
    BN_POINTER(const float, x);
    BN_POINTER(float, to);
    pack(x, to, lines, K, ld, across, BN_MR);
}

kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
bn_gemm_pack_b(BN_BUFFER(x), BN_BUFFER(to), const int lines, const int K, const long ld,
               const int across)
{
    BN_POINTER(const float, x);
    BN_POINTER(float, to);
    pack(x, to, lines, K, ld, across, BN_NR);
}

/* A tile of MH x NH: K steps of the chains, from 0 or from c. */
#define TILE_CHAIN(c, ld_c, load)                                                                  \
    vf acc[MH][2];                                                                                 \
    _Pragma("unroll") for (int i = 0; i < MH; i++)                                                 \
    {                                                                                              \
        acc[i][0] = (load) ? vf_load((c) + i * (ld_c)) : (vf)0.0f;                                 \
        acc[i][1] = (load) ? vf_load((c) + i * (ld_c) + VW) : (vf)0.0f;                            \
    }                                                                                              \
    _Pragma("unroll 1") for (int k = 0; k < K; k++, a += BN_MR, b += BN_NR)                        \
    {                                                                                              \
        const vf b0 = vf_load(b), b1 = vf_load(b + VW);                                            \
        _Pragma("unroll") for (int i = 0; i < MH; i++)                                             \
        {                                                                                          \
            acc[i][0] = fma((vf)a[i], b0, acc[i][0]);                                              \
            acc[i][1] = fma((vf)a[i], b1, acc[i][1]);                                              \
        }                                                                                          \
    }

INLINE void tile(const global float *restrict a, const global float *restrict b, int K,
                 global float *restrict c, long ld_c, int load)
{
    TILE_CHAIN(c, ld_c, load)
#pragma unroll
    for (int i = 0; i < MH; i++) {
        vf_store(acc[i][0], c + i * ld_c);
        vf_store(acc[i][1], c + i * ld_c + VW);
    }
}

/* The same where only `rows` x `cols` of the tile exist. */
INLINE void edge_tile(const global float *restrict a, const global float *restrict b, int K,
                      global float *restrict c, long ld_c, int load, int rows, int cols)
{
    float t[MH * NH];
    for (int i = 0; i < MH; i++)
        for (int j = 0; j < NH; j++)
            t[i * NH + j] = load && i < rows && j < cols ? c[i * ld_c + j] : 0.0f;
    TILE_CHAIN(t, NH, 1)
#pragma unroll
    for (int i = 0; i < MH; i++) {
        vf_store(acc[i][0], t + i * NH);
        vf_store(acc[i][1], t + i * NH + VW);
    }
    for (int i = 0; i < min(rows, MH); i++)
        for (int j = 0; j < min(cols, NH); j++)
            c[i * ld_c + j] = t[i * NH + j];
}

/* a, b panels -> c [M,N], rows ld_c apart; bias [N] or null. Group: a block. */
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
bn_gemm_panels(BN_BUFFER(a), BN_BUFFER(b), BN_BUFFER(c), BN_BUFFER(bias), const int M, const int N,
        const int K, const long ld_c, const int add, const int panels_m, const int panels_n)
{
    BN_POINTER(const float, a);
    BN_POINTER(const float, b);
    BN_POINTER(float, c);
    const int m0 = get_group_id(0) * BN_MR * panels_m, m1 = min(m0 + BN_MR * panels_m, M);
    const int n0 = get_group_id(1) * BN_NR * panels_n, n1 = min(n0 + BN_NR * panels_n, N);
    for (int k = 0; k < K; k += KC) {
        const int kc = min(KC, K - k), load = add || k > 0;
        for (int n = n0; n < n1; n += NH) {
            const global float *bp = b + (long)(n / BN_NR) * BN_NR * K + k * BN_NR + n % BN_NR;
            for (int m = m0; m < m1; m += MH) {
                const global float *ap = a + (long)(m / BN_MR) * BN_MR * K + k * BN_MR + m % BN_MR;
                global float *cp = c + m * ld_c + n;
                if (M - m >= MH && N - n >= NH)
                    tile(ap, bp, kc, cp, ld_c, load);
                else
                    edge_tile(ap, bp, kc, cp, ld_c, load, M - m, N - n);
            }
        }
    }
    if (bias_base) {
        BN_POINTER(const float, bias);
        for (int m = m0; m < m1; m++)
            for (int n = n0; n < n1; n++)
                c[m * ld_c + n] += bias[n];
    }
}

/* Few rows: c[m,n] = sum over k of a[m,k] b[n,k] (+ bias[n]) straight from both,
 * in 16 lanes that are added in a tree. Group: FEW_LINES lines of b. */
#define FEW_LINES 16

INLINE float lanes_sum(float16 v)
{
    const float8 a = v.lo + v.hi;
    const float4 b = a.lo + a.hi;
    return (b.s0 + b.s2) + (b.s1 + b.s3);
}

kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
bn_gemm_few(BN_BUFFER(a), BN_BUFFER(b), BN_BUFFER(c), BN_BUFFER(bias), const int M, const int N,
            const int K)
{
    BN_POINTER(const float, a);
    BN_POINTER(const float, b);
    BN_POINTER(float, c);
    BN_POINTER(const float, bias);
    const int n0 = get_group_id(0) * FEW_LINES, n1 = min(n0 + FEW_LINES, N);
    for (int n = n0; n < n1; n++)
        for (int m = 0; m < M; m++) {
            const global float *x = a + (long)m * K, *w = b + (long)n * K;
            float16 acc = (float16)0.0f;
            int k = 0;
            for (; k + 16 <= K; k += 16)
                acc = fma(vload16(0, x + k), vload16(0, w + k), acc);
            float rest = 0.0f;
            for (; k < K; k++)
                rest = fma(x[k], w[k], rest);
            const float t = lanes_sum(acc) + rest;
            c[(long)m * N + n] = bias_base ? t + bias[n] : t;
        }
}

/* sum[n] (+)= sum over m of x[m,n], blocks of SUM_ROWS rows added up. Group: 16
 * columns. */
#define SUM_ROWS 64

kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
bn_column_sums(BN_BUFFER(x), BN_BUFFER(sum), const int M, const int N, const int add)
{
    BN_POINTER(const float, x);
    BN_POINTER(float, sum);
    const int n0 = get_group_id(0) * 16, n = min(16, N - n0);
    float16 total = (float16)0.0f;
    float part[16], line[16] = {0.0f};
    for (int m0 = 0; m0 < M; m0 += SUM_ROWS) {
        float16 block = (float16)0.0f;
        for (int m = m0; m < min(m0 + SUM_ROWS, M); m++) {
            const global float *row = x + (long)m * N + n0;
            if (n == 16) {
                block += vload16(0, row);
            } else {
                for (int i = 0; i < n; i++)
                    line[i] = row[i];
                block += vload16(0, line);
            }
        }
        total += block;
    }
    vstore16(total, 0, part);
    for (int i = 0; i < n; i++)
        sum[n0 + i] = add ? sum[n0 + i] + part[i] : part[i];
}

#else /* ---- GPU shape ------------------------------------------------------ */

#define DEPTH   16                             /* k of a slice */
#define SIDE    (BN_TILE / 8)                  /* work-items along an edge of the tile */
#define QUADS   (BN_TILE * DEPTH / 4)          /* float4 of a slice */
#define FETCH   (QUADS / (SIDE * SIDE))        /* of them per work-item */
#define LINE    (BN_TILE + 4)                  /* floats between k's in local memory */
#define HALF    (BN_TILE / 2)

/* Quad q of a slice: lines i .. of an operand at depth k .. . Element (i, k) is
 * x[i * ld + k], or x[k * ld + i] if `across`; 0 outside. `whole`: every quad
 * that begins inside is inside and aligned. */
static inline float4 fetch_quad(const global float *x, long ld, int across, int i, int k, int lines,
                                int K, int whole)
{
    const long at = across ? k * ld + i : i * ld + k;
    const int inside = i < lines && k < K;
    if (whole)
        return inside ? *(const global float4 *)(x + at) : (float4)0.0f;
    float4 v = (float4)0.0f;
    if (inside) {
        const int n = across ? lines - i : K - k;
        v.s0 = x[at];
        v.s1 = n > 1 ? x[at + 1] : 0.0f;
        v.s2 = n > 2 ? x[at + 2] : 0.0f;
        v.s3 = n > 3 ? x[at + 3] : 0.0f;
    }
    return v;
}

static inline void put_quad(local float *slice, int across, int i, int k, float4 v)
{
    local float *to = slice + k * LINE + i;
    if (across) {
        *(local float4 *)to = v;
    } else {
        to[0] = v.s0;
        to[LINE] = v.s1;
        to[2 * LINE] = v.s2;
        to[3 * LINE] = v.s3;
    }
}

#define QUAD_LINE(q, across)  ((across) ? (q) % (BN_TILE / 4) * 4 : (q) / (DEPTH / 4))
#define QUAD_DEPTH(q, across) ((across) ? (q) / (BN_TILE / 4) : (q) % (DEPTH / 4) * 4)

/* Row of c (or column) that element i of 8 of work-item t stands for. */
#define SPREAD(t, i) ((i) < 4 ? 4 * (t) + (i) : HALF + 4 * (t) + (i) - 4)

/* `whole`: bit 0 for a, bit 1 for b. */
static inline void gemm(const global float *a, const global float *b, global float *c,
                        const global float *bias, int M, int N, int K, long ld_a, long ld_b,
                        long ld_c, int add, int whole, const int a_across, const int b_across,
                        local float *a_slice, local float *b_slice)
{
    const int tx = get_local_id(0), ty = get_local_id(1), t = ty * SIDE + tx;
    const int m0 = get_group_id(1) * BN_TILE, n0 = get_group_id(0) * BN_TILE;
    float acc[8][8];
    BN_UNROLL
    for (int i = 0; i < 8; i++)
        BN_UNROLL
        for (int j = 0; j < 8; j++) {
            const int m = m0 + SPREAD(ty, i), n = n0 + SPREAD(tx, j);
            acc[i][j] = add && m < M && n < N ? c[m * ld_c + n] : 0.0f;
        }
    float4 a_next[FETCH], b_next[FETCH];
    for (int k0 = -DEPTH; k0 < K; k0 += DEPTH) {
        const int k1 = k0 + DEPTH;
        BN_UNROLL
        for (int f = 0; f < FETCH; f++) {
            const int q = t + f * SIDE * SIDE;
            a_next[f] = fetch_quad(a, ld_a, a_across, m0 + QUAD_LINE(q, a_across),
                                   k1 + QUAD_DEPTH(q, a_across), M, K, whole & 1);
            b_next[f] = fetch_quad(b, ld_b, b_across, n0 + QUAD_LINE(q, b_across),
                                   k1 + QUAD_DEPTH(q, b_across), N, K, whole & 2);
        }
        if (k0 >= 0) {
            const int depth = min(DEPTH, K - k0);
            for (int k = 0; k < depth; k++) {
                const local float *a_line = a_slice + k * LINE, *b_line = b_slice + k * LINE;
                const float4 x0 = *(const local float4 *)(a_line + 4 * ty);
                const float4 x1 = *(const local float4 *)(a_line + HALF + 4 * ty);
                const float4 y0 = *(const local float4 *)(b_line + 4 * tx);
                const float4 y1 = *(const local float4 *)(b_line + HALF + 4 * tx);
                const float x[8] = {x0.s0, x0.s1, x0.s2, x0.s3, x1.s0, x1.s1, x1.s2, x1.s3};
                const float y[8] = {y0.s0, y0.s1, y0.s2, y0.s3, y1.s0, y1.s1, y1.s2, y1.s3};
                BN_UNROLL
                for (int i = 0; i < 8; i++)
                    BN_UNROLL
                    for (int j = 0; j < 8; j++)
                        acc[i][j] = fma(x[i], y[j], acc[i][j]);
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        BN_UNROLL
        for (int f = 0; f < FETCH; f++) {
            const int q = t + f * SIDE * SIDE;
            put_quad(a_slice, a_across, QUAD_LINE(q, a_across), QUAD_DEPTH(q, a_across), a_next[f]);
            put_quad(b_slice, b_across, QUAD_LINE(q, b_across), QUAD_DEPTH(q, b_across), b_next[f]);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    BN_UNROLL
    for (int i = 0; i < 8; i++)
        BN_UNROLL
        for (int j = 0; j < 8; j++) {
            const int m = m0 + SPREAD(ty, i), n = n0 + SPREAD(tx, j);
            if (m < M && n < N)
                c[m * ld_c + n] = bias ? acc[i][j] + bias[n] : acc[i][j];
        }
}

/* One kernel for each layout: `a_across` and `b_across` are constants in each. */
#define TILES(name, a_across, b_across)                                                            \
    kernel __attribute__((reqd_work_group_size(SIDE, SIDE, 1))) void name(                         \
        BN_BUFFER(a), BN_BUFFER(b), BN_BUFFER(c), BN_BUFFER(bias), const int M, const int N,       \
        const int K, const long ld_a, const long ld_b, const long ld_c, const int add,             \
        const int whole)                                                                           \
    {                                                                                              \
        BN_POINTER(const float, a);                                                                \
        BN_POINTER(const float, b);                                                                \
        BN_POINTER(float, c);                                                                      \
        const global float *bias =                                                                 \
            bias_base ? (const global float *)(bias_base + bias_offset) : 0;                       \
        local float a_slice[DEPTH * LINE] __attribute__((aligned(16)));                            \
        local float b_slice[DEPTH * LINE] __attribute__((aligned(16)));                            \
        gemm(a, b, c, bias, M, N, K, ld_a, ld_b, ld_c, add, whole, a_across, b_across, a_slice,    \
             b_slice);                                                                             \
    }
TILES(bn_gemm_nt, 0, 0) /* a[m * ld_a + k] b[n * ld_b + k] */
TILES(bn_gemm_nn, 0, 1) /* a[m * ld_a + k] b[k * ld_b + n] */
TILES(bn_gemm_tn, 1, 1) /* a[k * ld_a + m] b[k * ld_b + n] */

/* Few rows: c[m,n] = sum over k of a[m,k] b[n,k] (+ bias[n]). Group: FEW_LINES
 * lines of b with 32 work-items each, whose sums are added in a tree. */
#define FEW_LINES 4

kernel __attribute__((reqd_work_group_size(32, FEW_LINES, 1))) void
bn_gemm_few(BN_BUFFER(a), BN_BUFFER(b), BN_BUFFER(c), BN_BUFFER(bias), const int M, const int N,
            const int K)
{
    BN_POINTER(const float, a);
    BN_POINTER(const float, b);
    BN_POINTER(float, c);
    BN_POINTER(const float, bias);
    local float part[FEW_LINES][32];
    const int lane = get_local_id(0), line = get_local_id(1);
    const int n = get_group_id(0) * FEW_LINES + line;
    for (int m = 0; m < M; m++) {
        const global float *x = a + (long)m * K, *w = b + (long)n * K;
        float t = 0.0f;
        for (int k = lane; n < N && k < K; k += 32)
            t = fma(x[k], w[k], t);
        part[line][lane] = t;
        for (int h = 16; h > 0; h /= 2) {
            barrier(CLK_LOCAL_MEM_FENCE);
            if (lane < h)
                part[line][lane] += part[line][lane + h];
        }
        if (lane == 0 && n < N)
            c[(long)m * N + n] = bias_base ? part[line][0] + bias[n] : part[line][0];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}

/* sum[n] (+)= sum over m of x[m,n]. Group: 32 columns, SUM_LANES rows apart. */
#define SUM_LANES 8

kernel __attribute__((reqd_work_group_size(32, SUM_LANES, 1))) void
bn_column_sums(BN_BUFFER(x), BN_BUFFER(sum), const int M, const int N, const int add)
{
    BN_POINTER(const float, x);
    BN_POINTER(float, sum);
    local float part[SUM_LANES][32];
    const int i = get_local_id(0), lane = get_local_id(1), n = get_group_id(0) * 32 + i;
    float t = 0.0f;
    for (int m = lane; n < N && m < M; m += SUM_LANES)
        t += x[(long)m * N + n];
    part[lane][i] = t;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lane > 0 || n >= N)
        return;
    for (int l = 1; l < SUM_LANES; l++)
        t += part[l][i];
    sum[n] = add ? sum[n] + t : t;
}

#endif
