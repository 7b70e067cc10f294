/* mma_backward.cl - the backward products of BitLinear with bfloat16 operands
 * (docs/numerics.md) on tensor cores, GPU shape:
 *
 *     dx [R,I] (+)= sum over o of bf16(dy[r,o] gamma[o,g(i)]) q[o,i]
 *     dw [O,I] (+)= sum over r of bf16(dy[r,o] step[r]) x[r,i]
 *
 * Both are c[m,n] = sum over k of a(m,k) b(k,n), a being rounded on its way into
 * local memory and b decoded (codes are exact in bfloat16). A group of 8 warps
 * makes 128 x 128 of c, a warp 64 x 32; k passes in slices of 32.
 *
 *     slice in local memory, row m of a, or column n of b: 64 bytes
 *       k    0..7 | 8..15 | 16..23 | 24..31    16 bytes c = 0 .. 3, stored at
 *                                              c ^ swizzle(row)
 *       lane t has 16 bytes t, four words: word 0 and 1 are the two operand words
 *            of the slice's first product, 2 and 3 of the second
 *
 * The swizzle spreads rows that are written together over the banks: a's and b's
 * k run down a column in global memory for dw, and b's for dx, so a work-item
 * gathers 8 k of a column and stores 16 bytes. Loading stays free of conflicts, as
 * eight lanes have whole rows. Two slices: the next one is fetched into registers
 * during the products and stored behind them, one barrier for each.
 *
 * gamma depends on the group of columns, so for dx with groups of 64 (or an odd
 * multiple) the two halves of the 128 columns have their own a: `versions`. Groups
 * that are no multiple of 64 are left to the generic kernels. `factor` holds gamma
 * or step as [groups][K up to a whole slice], zero in the rest: the slices need no
 * other guard along k than that nothing is read outside the operands.
 *
 * 128 x 128 takes 48 KiB of local memory with two versions, all there is for
 * certain, and 64 sums per work-item (160 registers in all, so one group to a
 * unit); float32 dy then costs 16 KiB of traffic for 512 K products.
 */
#if BN_MMA

#define TILE    128
#define THREADS 256
#define SLICE   32         /* k */
#define MF      4          /* 16-row products of a warp */
#define NF      4          /* 8-column products */
#define PART    (TILE * 4) /* uint4 of a slice of one operand */

/* Index of 16 bytes `chunk` (8 k) of row `row` of a slice. */
static inline int place(int row, int chunk)
{
    return 4 * row + (chunk ^ ((row >> 1 ^ row >> 3) & 3));
}

/* 8 floats times their factors, rounded. */
static inline uint4 rounded(const float *v, const global float *factor)
{
    const float4 f = *(const global float4 *)factor, h = *(const global float4 *)(factor + 4);
    return (uint4)(bn_bf16_pair(v[0] * f.s0, v[1] * f.s1), bn_bf16_pair(v[2] * f.s2, v[3] * f.s3),
                   bn_bf16_pair(v[4] * h.s0, v[5] * h.s1), bn_bf16_pair(v[6] * h.s2, v[7] * h.s3));
}

/* Two ternary fields, in bytes 0 and 1, as bfloat16: bytes out of 80 00 80 (low)
 * and bf 00 3f (high). */
static inline uint ternary_pair(uint fields)
{
    return bn_bytes(0x00800080u, 0x003f00bfu, fields * 0x11u | 0x4040u);
}

/* Two int8 codes as bfloat16. */
static inline uint int8_pair(int low, int high)
{
    return as_uint((float)low) >> 16 | (as_uint((float)high) & 0xffff0000u);
}

/* One slice: acc += a b for this warp's rows and columns. */
static inline void multiply(float acc[MF][NF][4], const local uint4 *a, const local uint4 *b,
                            int row, int column, int t, local uint *lanes)
{
    uint4 low[MF], high[MF];
    BN_UNROLL
    for (int m = 0; m < MF; m++) {
        low[m] = a[place(row + 16 * m, t)];
        high[m] = a[place(row + 16 * m + 8, t)];
    }
    BN_UNROLL
    for (int n = 0; n < NF; n++) {
        const uint4 v = b[place(column + 8 * n, t)];
        const uint b0[2] = {v.s0, v.s1}, b1[2] = {v.s2, v.s3};
        BN_UNROLL
        for (int m = 0; m < MF; m++) {
            const uint a0[4] = {low[m].s0, high[m].s0, low[m].s1, high[m].s1};
            const uint a1[4] = {low[m].s2, high[m].s2, low[m].s3, high[m].s3};
            bn_mma_bf16(acc[m][n], a0, b0, lanes);
            bn_mma_bf16(acc[m][n], a1, b1, lanes);
        }
    }
}

/* factor [groups, K] of kernels below from gamma [K, groups], or [1] (`one`), or
 * step [K] (groups 1); padded with zeros. Group: 64 k of one group of columns. */
kernel __attribute__((reqd_work_group_size(64, 1, 1))) void
bn_mma_factors(BN_BUFFER(from), BN_BUFFER(to), const int K, const int padded, const int groups,
               const int one)
{
    BN_POINTER(const float, from);
    BN_POINTER(float, to);
    const int k = get_global_id(0), g = get_group_id(1);
    if (k < padded)
        to[(long)g * padded + k] = k < K ? from[one ? 0 : (long)k * groups + g] : 0.0f;
}

/* ---- fetching: two pieces of 8 k of a, and (half of the work-items) 4 columns x 8 k
 * of b ---- */

/* Piece i of a for dx: dy row m0 + .., 8 k of its own. */
static inline void fetch_a_dx(const global float *dy, int m, int k, int M, int K, int whole,
                              float *v)
{
    const global float *row = dy + (long)min(m, M - 1) * K;
    if (whole && k + 8 <= K) {
        const float4 p = *(const global float4 *)(row + k);
        const float4 q = *(const global float4 *)(row + k + 4);
        v[0] = p.s0, v[1] = p.s1, v[2] = p.s2, v[3] = p.s3;
        v[4] = q.s0, v[5] = q.s1, v[6] = q.s2, v[7] = q.s3;
    } else {
        BN_UNROLL
        for (int e = 0; e < 8; e++)
            v[e] = k + e < K ? row[k + e] : 0.0f;
    }
}

/* Of a for dw: column m of dy, rows k .. k+7. */
static inline void fetch_a_dw(const global float *dy, int m, int k, int M, int K, float *v)
{
    BN_UNROLL
    for (int e = 0; e < 8; e++)
        v[e] = m < M && k + e < K ? dy[(long)(k + e) * M + m] : 0.0f;
}

/* Of b for dx: the packed byte of columns n .. n+3 in weight rows k .. k+7. */
static inline void fetch_b_dx(const global uchar *packed, int n, int k, int N, int K, uint *v)
{
    const int row_bytes = (N + 3) / 4, j = min(n / 4, row_bytes - 1);
    BN_UNROLL
    for (int e = 0; e < 8; e++)
        v[e] = packed[(long)min(k + e, K - 1) * row_bytes + j];
}

/* Of b for dw: codes n .. n+3 of activation rows k .. k+7. */
static inline void fetch_b_dw(const global char *x, int n, int k, int N, int K, int whole, uint *v)
{
    BN_UNROLL
    for (int e = 0; e < 8; e++) {
        const global char *row = x + (long)min(k + e, K - 1) * N;
        v[e] = whole && n < N ? *(const global uint *)(row + n) : as_uint(bn_x_quad(row, n, N));
    }
}

static inline void put_b_dx(local uint4 *b, int column, int chunk, const uint *v)
{
    BN_UNROLL
    for (int n = 0; n < 4; n++) {
        uint word[4];
        BN_UNROLL
        for (int e = 0; e < 4; e++)
            word[e] = ternary_pair((v[2 * e] | v[2 * e + 1] << 8) >> 2 * n & 0x0303u);
        b[place(column + n, chunk)] = (uint4)(word[0], word[1], word[2], word[3]);
    }
}

static inline void put_b_dw(local uint4 *b, int column, int chunk, const uint *v)
{
    BN_UNROLL
    for (int n = 0; n < 4; n++) {
        uint word[4];
        BN_UNROLL
        for (int e = 0; e < 4; e++)
            word[e] = int8_pair((int)(v[2 * e] << (24 - 8 * n)) >> 24,
                                (int)(v[2 * e + 1] << (24 - 8 * n)) >> 24);
        b[place(column + n, chunk)] = (uint4)(word[0], word[1], word[2], word[3]);
    }
}

/* The pieces of a work-item: of a the rows a_row[i] and 8 k a_chunk[i]. */
#define PIECES_DX(id, i, row, chunk) const int row = (id) / 4 + 64 * (i), chunk = (id) % 4
#define PIECES_DW(id, i, row, chunk) const int row = (id) % 128, chunk = (id) / 128 + 2 * (i)

/* c [M,N] from operand readers; FETCH_A(v, m, k), FETCH_B(v, n, k) and PUT_B name
 * them, PIECES the share of a work-item. */
#define PRODUCT(MOST_VERSIONS, PIECES, FETCH_A, FETCH_B, PUT_B)                                    \
    local uint4 a_slices[2][MOST_VERSIONS][PART], b_slices[2][PART];                               \
    BN_MMA_LOCAL(THREADS)                                                                          \
    const int id = get_local_id(0), warp = id / 32, g = id % 32 / 4, t = id % 4;                   \
    const int m0 = get_group_id(1) * TILE, n0 = get_group_id(0) * TILE;                            \
    const int row = warp / 4 * 64 + g, column = warp % 4 * 32 + g, version = warp % 4 / 2;         \
    const int b_column = 4 * (id % 8 + 8 * (id / 32)), b_chunk = id / 8 % 4;                       \
    float acc[MF][NF][4], a[2][8];                                                                 \
    uint b[8];                                                                                     \
    BN_UNROLL                                                                                      \
    for (int m = 0; m < MF; m++)                                                                   \
        BN_UNROLL                                                                                  \
        for (int n = 0; n < NF; n++)                                                               \
            BN_UNROLL                                                                              \
            for (int i = 0; i < 4; i++)                                                            \
                acc[m][n][i] = 0.0f;                                                               \
    for (int k0 = -SLICE, stage = 1; k0 < K; k0 += SLICE, stage ^= 1) {                            \
        const int next = k0 + SLICE, fetches_b = id < THREADS / 2;                                 \
        if (next < K) {                                                                            \
            BN_UNROLL                                                                              \
            for (int i = 0; i < 2; i++) {                                                          \
                PIECES(id, i, a_row, a_chunk);                                                     \
                FETCH_A(a[i], m0 + a_row, next + 8 * a_chunk);                                     \
            }                                                                                      \
            if (fetches_b)                                                                         \
                FETCH_B(b, n0 + b_column, next + 8 * b_chunk);                                     \
        }                                                                                          \
        if (k0 >= 0)                                                                               \
            multiply(acc, a_slices[stage][versions > 1 ? version : 0], b_slices[stage], row,       \
                     column, t, BN_MMA_LANES);                                                     \
        if (next < K) {                                                                            \
            BN_UNROLL                                                                              \
            for (int i = 0; i < 2; i++) {                                                          \
                PIECES(id, i, a_row, a_chunk);                                                     \
                for (int v = 0; v < versions; v++)                                                 \
                    a_slices[stage ^ 1][v][place(a_row, a_chunk)] =                                \
                        rounded(a[i], factor + (long)FACTOR_ROW(v) * padded + next + 8 * a_chunk); \
            }                                                                                      \
            if (fetches_b)                                                                         \
                PUT_B(b_slices[stage ^ 1], b_column, b_chunk, b);                                  \
        }                                                                                          \
        barrier(CLK_LOCAL_MEM_FENCE);                                                              \
    }                                                                                              \
    BN_UNROLL                                                                                      \
    for (int m = 0; m < MF; m++)                                                                   \
        BN_UNROLL                                                                                  \
        for (int n = 0; n < NF; n++)                                                               \
            BN_UNROLL                                                                              \
            for (int i = 0; i < 4; i++) {                                                          \
                const int r = m0 + row + 16 * m + i / 2 * 8;                                       \
                const int s = n0 + column - g + 8 * n + 2 * t + i % 2;                             \
                if (r < M && s < N) {                                                              \
                    global float *to = c + (long)r * N + s;                                        \
                    *to = add ? *to + acc[m][n][i] : acc[m][n][i];                                 \
                }                                                                                  \
            }

/* dx: M = R, N = I, K = O; groups of columns are multiples of 64, or one. `whole`:
 * rows of dy are multiples of 16 bytes, and so is its address. */
kernel __attribute__((reqd_work_group_size(THREADS, 1, 1))) void
bn_mma_dx(BN_BUFFER(dy), BN_BUFFER(factor), BN_BUFFER(packed), BN_BUFFER(c), const int M,
          const int N, const int K, const int padded, const int group, const int groups,
          const int add, const int whole)
{
    BN_POINTER(const float, dy);
    BN_POINTER(const float, factor);
    BN_POINTER(const uchar, packed);
    BN_POINTER(float, c);
    const int versions = groups > 1 && group % TILE ? 2 : 1;
#define FETCH_A(v, m, k) fetch_a_dx(dy, m, k, M, K, whole, v)
#define FETCH_B(v, n, k) fetch_b_dx(packed, n, k, N, K, v)
#define FACTOR_ROW(v)    min((n0 + 64 * (v)) / group, groups - 1)
    PRODUCT(2, PIECES_DX, FETCH_A, FETCH_B, put_b_dx)
#undef FETCH_A
#undef FETCH_B
#undef FACTOR_ROW
}

/* dw: M = O, N = I, K = R. `whole`: rows of x are multiples of 4 bytes, and so is
 * its address. */
kernel __attribute__((reqd_work_group_size(THREADS, 1, 1))) void
bn_mma_dw(BN_BUFFER(dy), BN_BUFFER(factor), BN_BUFFER(x), BN_BUFFER(c), const int M, const int N,
          const int K, const int padded, const int add, const int whole)
{
    BN_POINTER(const float, dy);
    BN_POINTER(const float, factor);
    BN_POINTER(const char, x);
    BN_POINTER(float, c);
    const int versions = 1;
#define FETCH_A(v, m, k) fetch_a_dw(dy, m, k, M, K, v)
#define FETCH_B(v, n, k) fetch_b_dw(x, n, k, N, K, whole, v)
#define FACTOR_ROW(v)    0
    PRODUCT(1, PIECES_DW, FETCH_A, FETCH_B, put_b_dw)
}

#endif
