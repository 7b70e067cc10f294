/* attention.cl - causal grouped-query attention, forward and backward, without
 * anything of size T x T (after Dao et al., "FlashAttention", arXiv 2205.14135).
 *
 * Forward goes over blocks of keys with a running maximum and sum per query and
 * keeps the log-sum-exp; backward makes each probability again from it:
 *
 *     p = exp(s - lse),  s = q k / sqrt(hd),  ds = p (dout v - dout out) / sqrt(hd)
 *     dq = sum over keys of ds k,  dk = sum over queries of ds q,  dv = of p dout
 *
 * No float atomics. A query's numbers depend on its keys and on the fixed
 * borders of the key blocks, not on its neighbours: every product is a chain of
 * fma in ascending order. Decoding with a cache so gives the bits of the whole
 * sequence at once.
 *
 * CPU shape: a work-item takes blocks of 64 queries (forward) or a key/value
 * head of a sequence (backward), one after the other from the list of tasks;
 * blocks of keys are turned into columns, so that all inner loops run over wide
 * vectors; its working memory is one slice of the call's scratch and stays in
 * cache. Products are tiles of 4 rows x 2 vectors.
 *
 * GPU shape: a group of 16 x 16 work-items takes BN_Q queries of a head; keys and
 * values pass through local memory BN_K at a time, and a work-item has rows
 * ty + 16 i and columns tx + 16 j of every product. Backward is two kernels, over
 * queries for dq and over keys for dk and dv, so that each sum has one owner.
 * BN_HEAD is the head dimension that arrays are made for, a program each.
 *
 * Why these sizes. BLOCK 64: keys, values and scores of a block (64 x 64 floats
 * each at most) stay in the second-level cache. BN_Q 64 with BN_K 32: queries, keys
 * and values of 64 dimensions take 33 KiB of the 48 that every GPU has; 32 queries
 * from dimension 128 on. EDGE 32 (16): backward holds four such blocks. LINE is odd,
 * so that a column is free of bank conflicts.
 */
#if BN_CPU

#define BLOCK  64 /* queries and keys at once */
#define STRIP  16 /* rows that a causal block is cut into */
#define INLINE static inline __attribute__((always_inline))
#define WG1    __attribute__((reqd_work_group_size(1, 1, 1)))

#if defined(__AVX512F__)
#define VW             16
#define vf             float16
#define vf_load(p)     vload16(0, p)
#define vf_store(v, p) vstore16(v, 0, p)
#define vf_exp         bn_exp16
#elif defined(__AVX__)
#define VW             8
#define vf             float8
#define vf_load(p)     vload8(0, p)
#define vf_store(v, p) vstore8(v, 0, p)
#define vf_exp         bn_exp8
#else
#define VW             4
#define vf             float4
#define vf_load(p)     vload4(0, p)
#define vf_store(v, p) vstore4(v, 0, p)
#define vf_exp         bn_exp4
#endif

/* rows x nv vectors of c (+)= a b; element (m,k) of a is a[m * a_row + k * a_col] */
#define PRODUCT_TILE(rows, nv)                                                                     \
    {                                                                                              \
        vf acc[rows][nv];                                                                          \
        _Pragma("unroll") for (int i = 0; i < rows; i++)                                           \
            _Pragma("unroll") for (int j = 0; j < nv; j++) acc[i][j] =                             \
                add ? vf_load(c + (m + i) * ld_c + n + j * VW) : (vf)(0.0f);                       \
        const global float *x = a + m * a_row, *y = b + n;                                         \
        _Pragma("unroll 1") for (int k = 0; k < K; k++, x += a_col, y += ld_b)                     \
            _Pragma("unroll") for (int i = 0; i < rows; i++)                                       \
                _Pragma("unroll") for (int j = 0; j < nv; j++) acc[i][j] =                         \
                    fma((vf)(x[i * a_row]), vf_load(y + j * VW), acc[i][j]);                       \
        _Pragma("unroll") for (int i = 0; i < rows; i++)                                           \
            _Pragma("unroll") for (int j = 0; j < nv; j++)                                         \
                vf_store(acc[i][j], c + (m + i) * ld_c + n + j * VW);                              \
    }

/* c [M,N] = (add ? c : 0) + a b, K terms */
static void product(int M, int N, int K, const global float *a, long a_row, long a_col,
                    const global float *b, long ld_b, global float *c, long ld_c, int add)
{
    int n = 0;
    for (; n + 2 * VW <= N; n += 2 * VW) {
        int m = 0;
        for (; m + 4 <= M; m += 4)
            PRODUCT_TILE(4, 2)
        for (; m < M; m++)
            PRODUCT_TILE(1, 2)
    }
    for (; n + VW <= N; n += VW)
        for (int m = 0; m < M; m++)
            PRODUCT_TILE(1, 1)
    for (; n < N; n++)
        for (int m = 0; m < M; m++) {
            float t = add ? c[m * ld_c + n] : 0.0f;
            for (int k = 0; k < K; k++)
                t = fma(a[m * a_row + k * a_col], b[k * ld_b + n], t);
            c[m * ld_c + n] = t;
        }
}

/* Rows [keys, hd] into columns [hd, BLOCK], zero past the last key. */
static void turn_block(const global float *restrict x, long ld, int keys, int hd,
                       global float *restrict t)
{
    for (int d = 0; d < hd; d++) {
        for (int c = 0; c < keys; c++)
            t[d * BLOCK + c] = x[c * ld + d];
        for (int c = keys; c < BLOCK; c++)
            t[d * BLOCK + c] = 0.0f;
    }
}

/* Keys that are worked on for a strip which ends at key `n` of a block: whole
 * vectors of 16, so that a row's sums have the same lanes everywhere. */
INLINE int whole(int n)
{
    return min((n + 15) / 16 * 16, BLOCK);
}

/* One row's scores [0, n) of a block -> weights relative to its new running
 * maximum; its sum and its accumulated values follow. */
INLINE void row_softmax(global float *s, int n, float scale, float *max_, float *sum_,
                        global float *acc, int hd)
{
    const int end = whole(n);
    for (int c = n; c < end; c++)
        s[c] = -INFINITY;
    float16 most = (float16)(-INFINITY);
    for (int c = 0; c < end; c += 16) {
        const float16 v = vload16(0, s + c) * scale;
        vstore16(v, 0, s + c);
        most = v > most || v != v ? v : most;
    }
    const float max = bn_max16(most);
    if (max > *max_ || max != max) {
        const float shrink = bn_exp(*max_ - max);
        *max_ = max;
        *sum_ *= shrink;
        for (int d = 0; d < hd; d++)
            acc[d] *= shrink;
    }
    float16 total = (float16)(0.0f);
    for (int c = 0; c < end; c += 16) {
        const float16 p = bn_exp16(vload16(0, s + c) - *max_);
        vstore16(p, 0, s + c);
        total += p;
    }
    *sum_ += bn_sum16(total);
    for (int c = end; c < BLOCK; c++)
        s[c] = 0.0f;
}

/* q [B,T,H*hd], k, v [B,S,KV*hd] -> out [B,T,H*hd], lse [B,H,T] or null. Row t
 * sees keys 0 .. position + t. work: `floats` per group. */
kernel WG1 void bn_attention(BN_BUFFER(q), BN_BUFFER(k), BN_BUFFER(v), BN_BUFFER(out),
                             BN_BUFFER(lse), BN_BUFFER(work), const int B, const int T, const int S,
                             const int H, const int KV, const int hd, const int position,
                             const float scale, const long floats)
{
    BN_POINTER(float, work);
    global float *columns = work + get_group_id(0) * floats;
    global float *score = columns + hd * BLOCK, *acc = score + BLOCK * BLOCK;
    const int blocks = (T + BLOCK - 1) / BLOCK;
    const long ld_q = (long)H * hd, ld_k = (long)KV * hd;
    for (long task = get_group_id(0); task < (long)B * H * blocks; task += get_num_groups(0)) {
        const int bh = task % (B * H), b = bh / H, h = bh % H;
        const int row0 = (blocks - 1 - (int)(task / (B * H))) * BLOCK; /* the longest first */
        const int rows = min(BLOCK, T - row0), all_keys = position + row0 + rows;
        const long wide = (b * (long)T + row0) * ld_q + h * hd;
        const long narrow = b * (long)S * ld_k + h / (H / KV) * hd;
        const global float *qp = (const global float *)(q_base + q_offset) + wide;
        const global float *kp = (const global float *)(k_base + k_offset) + narrow;
        const global float *vp = (const global float *)(v_base + v_offset) + narrow;
        global float *op = (global float *)(out_base + out_offset) + wide;
        float largest[BLOCK], sum[BLOCK];
        for (int r = 0; r < rows; r++) {
            largest[r] = -INFINITY;
            sum[r] = 0.0f;
        }
        for (int i = 0; i < rows * hd; i++)
            acc[i] = 0.0f;
        for (int k0 = 0; k0 < all_keys; k0 += BLOCK) {
            const int keys = min(BLOCK, all_keys - k0);
            turn_block(kp + k0 * ld_k, ld_k, keys, hd, columns);
            for (int r0 = 0; r0 < rows; r0 += STRIP) {
                const int n = min(STRIP, rows - r0);
                const int seen = min(position + row0 + r0 + n - k0, keys); /* by its last row */
                if (seen <= 0)
                    continue;
                product(n, whole(seen), hd, qp + r0 * ld_q, ld_q, 1, columns, BLOCK,
                        score + r0 * BLOCK, BLOCK, 0);
                for (int r = r0; r < r0 + n; r++) {
                    const int own = min(BLOCK, position + row0 + r + 1 - k0);
                    if (own > 0)
                        row_softmax(score + r * BLOCK, own, scale, &largest[r], &sum[r],
                                    acc + r * hd, hd);
                    else
                        for (int c = 0; c < BLOCK; c++)
                            score[r * BLOCK + c] = 0.0f;
                }
                product(n, hd, seen, score + r0 * BLOCK, BLOCK, 1, vp + k0 * ld_k, ld_k,
                        acc + r0 * hd, hd, 1);
            }
        }
        for (int r = 0; r < rows; r++) {
            const float inverse = 1.0f / sum[r];
            for (int d = 0; d < hd; d++)
                op[r * ld_q + d] = acc[r * hd + d] * inverse;
            if (lse_base) {
                BN_POINTER(float, lse);
                lse[(long)bh * T + row0 + r] = largest[r] + bn_log(sum[r]);
            }
        }
    }
}

/* s, dp [n, BLOCK]: scores and dout v^T -> p, and ds = p (dp - delta) scale. The
 * first row sees the first `seen` keys of the block, each next one more; the
 * first `end` columns are computed. */
static void weights_and_slopes(int n, int seen, int end, float scale, const global float *lse,
                               const global float *delta, global float *s, global float *dp)
{
    for (int r = 0; r < n; r++, s += BLOCK, dp += BLOCK) {
        for (int c = 0; c < end; c += VW) {
            const vf p = vf_exp(vf_load(s + c) * scale - lse[r]);
            vf_store(p, s + c);
            vf_store(p * (vf_load(dp + c) - delta[r]) * scale, dp + c);
        }
        for (int c = seen + r; c < end; c++)
            s[c] = dp[c] = 0.0f;
    }
}

static void clear(global float *x, int rows, long ld, int hd)
{
    for (int r = 0; r < rows; r++)
        for (int d = 0; d < hd; d++)
            x[r * ld + d] = 0.0f;
}

/* Gradients of the queries of one head and block, and their share in dk and dv
 * of the block of keys: q, dout, dq at the first query, k, dk, dv at the first
 * key. `ahead`: how far the first query is past the first key. */
static void backward_block(int rows, int keys, int ahead, int hd, long ld_q, long ld_k, float scale,
                           const global float *q, const global float *dout,
                           const global float *lse, const global float *delta,
                           const global float *k, const global float *k_columns,
                           const global float *v_columns, global float *s, global float *ds,
                           global float *dq, global float *dk, global float *dv)
{
    for (int r0 = 0; r0 < rows; r0 += STRIP) {
        const int n = min(STRIP, rows - r0), seen = min(keys, ahead + r0 + n), end = whole(seen);
        global float *sr = s + r0 * BLOCK, *dr = ds + r0 * BLOCK;
        product(n, end, hd, q + r0 * ld_q, ld_q, 1, k_columns, BLOCK, sr, BLOCK, 0);
        product(n, end, hd, dout + r0 * ld_q, ld_q, 1, v_columns, BLOCK, dr, BLOCK, 0);
        weights_and_slopes(n, min(ahead + r0 + 1, end), end, scale, lse + r0, delta + r0, sr, dr);
        if (dq)
            product(n, hd, seen, dr, BLOCK, 1, k, ld_k, dq + r0 * ld_q, ld_q, 1);
    }
    for (int j0 = 0; j0 < keys; j0 += STRIP) { /* keys seen by the same queries */
        const int n = min(STRIP, keys - j0), r0 = max(0, j0 - ahead) / STRIP * STRIP;
        if (r0 >= rows)
            continue;
        if (dv)
            product(n, hd, rows - r0, s + r0 * BLOCK + j0, 1, BLOCK, dout + r0 * ld_q, ld_q,
                    dv + j0 * ld_k, ld_k, 1);
        if (dk)
            product(n, hd, rows - r0, ds + r0 * BLOCK + j0, 1, BLOCK, q + r0 * ld_q, ld_q,
                    dk + j0 * ld_k, ld_k, 1);
    }
}

/* Gradients; dq, dk, dv may be null, `add` bit i: add to that of input i. A
 * task: a key/value head of a sequence. */
kernel WG1 void bn_attention_backward(BN_BUFFER(q), BN_BUFFER(k), BN_BUFFER(v), BN_BUFFER(out),
                                      BN_BUFFER(lse), BN_BUFFER(dout), BN_BUFFER(dq),
                                      BN_BUFFER(dk), BN_BUFFER(dv), BN_BUFFER(work), const int B,
                                      const int T, const int H, const int KV, const int hd,
                                      const float scale, const int add, const long floats)
{
    BN_POINTER(float, work);
    BN_POINTER(const float, lse);
    global float *k_columns = work + get_group_id(0) * floats, *v_columns = k_columns + hd * BLOCK;
    global float *s = v_columns + hd * BLOCK, *ds = s + BLOCK * BLOCK, *delta = ds + BLOCK * BLOCK;
    const long ld_q = (long)H * hd, ld_k = (long)KV * hd;
    const int heads = H / KV;
    for (int task = get_group_id(0); task < B * KV; task += get_num_groups(0)) {
        const int b = task / KV, kv = task % KV;
        const long wide = b * (long)T * ld_q + kv * heads * hd;
        const long narrow = b * (long)T * ld_k + kv * hd;
        const global float *qp = (const global float *)(q_base + q_offset) + wide;
        const global float *op = (const global float *)(out_base + out_offset) + wide;
        const global float *dyp = (const global float *)(dout_base + dout_offset) + wide;
        const global float *kp = (const global float *)(k_base + k_offset) + narrow;
        const global float *vp = (const global float *)(v_base + v_offset) + narrow;
        const global float *lsep = lse + ((long)b * H + kv * heads) * T;
        global float *dqp = dq_base ? (global float *)(dq_base + dq_offset) + wide : 0;
        global float *dkp = dk_base ? (global float *)(dk_base + dk_offset) + narrow : 0;
        global float *dvp = dv_base ? (global float *)(dv_base + dv_offset) + narrow : 0;
        for (int h = 0; h < heads; h++)
            for (int t = 0; t < T; t++) {
                const global float *x = dyp + t * ld_q + h * hd, *y = op + t * ld_q + h * hd;
                float16 lanes = (float16)(0.0f);
                float rest = 0.0f;
                int d = 0;
                for (; d + 16 <= hd; d += 16)
                    lanes = fma(vload16(0, x + d), vload16(0, y + d), lanes);
                for (; d < hd; d++)
                    rest = fma(x[d], y[d], rest);
                delta[h * T + t] = bn_sum16(lanes) + rest;
            }
        if (dqp && !(add & 1))
            clear(dqp, T, ld_q, heads * hd);
        if (dkp && !(add & 2))
            clear(dkp, T, ld_k, hd);
        if (dvp && !(add & 4))
            clear(dvp, T, ld_k, hd);
        for (int k0 = 0; k0 < T; k0 += BLOCK) {
            const int keys = min(BLOCK, T - k0);
            turn_block(kp + k0 * ld_k, ld_k, keys, hd, k_columns);
            turn_block(vp + k0 * ld_k, ld_k, keys, hd, v_columns);
            for (int h = 0; h < heads; h++)
                for (int q0 = k0; q0 < T; q0 += BLOCK) {
                    const long at = q0 * ld_q + h * hd;
                    backward_block(min(BLOCK, T - q0), keys, q0 - k0, hd, ld_q, ld_k, scale,
                                   qp + at, dyp + at, lsep + h * T + q0, delta + h * T + q0,
                                   kp + k0 * ld_k, k_columns, v_columns, s, ds,
                                   dqp ? dqp + at : 0, dkp ? dkp + k0 * ld_k : 0,
                                   dvp ? dvp + k0 * ld_k : 0);
                }
        }
    }
}

#else /* ---- GPU shape ------------------------------------------------------ */

#define D      BN_HEAD
#define BN_Q   (D <= 64 ? 64 : 32) /* queries of a group (forward) */
#define BN_K   32                  /* keys at once */
#define EDGE   (D <= 64 ? 32 : 16) /* queries and keys of a block (backward) */
#define LINE   (D + 1)             /* floats of a row in local memory */
#define COLS   (D / 16)            /* of an output row per work-item */
#define GROUP  __attribute__((reqd_work_group_size(16, 16, 1)))

/* Rows row0 .. row0+n-1 of x [rows, ld], at the head's first column, into local
 * memory; zero outside the matrix and the head. */
static inline void fetch(local float *to, const global float *x, long ld, int row0, int n, int rows,
                         int hd)
{
    const int id = get_local_id(1) * 16 + get_local_id(0);
    for (int i = id; i < n * D; i += 256) {
        const int r = i / D, d = i % D;
        to[r * LINE + d] = row0 + r < rows && d < hd ? x[(row0 + r) * ld + d] : 0.0f;
    }
}

/* As in the CPU shape. Group: (block of queries, head of a sequence). */
kernel GROUP void bn_attention_tiles(BN_BUFFER(q), BN_BUFFER(k), BN_BUFFER(v), BN_BUFFER(out),
                                     BN_BUFFER(lse), const int T, const int S, const int H,
                                     const int KV, const int hd, const int position,
                                     const float scale)
{
    local float q_rows[BN_Q * LINE], kv_rows[BN_K * LINE], p_tile[BN_Q][BN_K + 1];
    const int tx = get_local_id(0), ty = get_local_id(1);
    const int bh = get_group_id(1), b = bh / H, h = bh % H;
    const int row0 = (int)(get_num_groups(0) - 1 - get_group_id(0)) * BN_Q; /* longest first */
    const int all_keys = position + min(row0 + BN_Q, T);
    const long ld_q = (long)H * hd, ld_k = (long)KV * hd;
    const long wide = b * (long)T * ld_q + h * hd, narrow = b * (long)S * ld_k + h / (H / KV) * hd;
    const global float *qp = (const global float *)(q_base + q_offset) + wide;
    const global float *kp = (const global float *)(k_base + k_offset) + narrow;
    const global float *vp = (const global float *)(v_base + v_offset) + narrow;
    global float *op = (global float *)(out_base + out_offset) + wide;
    float acc[BN_Q / 16][COLS], largest[BN_Q / 16], sum[BN_Q / 16];
    BN_UNROLL
    for (int i = 0; i < BN_Q / 16; i++) {
        largest[i] = -INFINITY;
        sum[i] = 0.0f;
        BN_UNROLL
        for (int j = 0; j < COLS; j++)
            acc[i][j] = 0.0f;
    }
    fetch(q_rows, qp, ld_q, row0, BN_Q, T, hd);
    for (int k0 = 0; k0 < all_keys; k0 += BN_K) {
        barrier(CLK_LOCAL_MEM_FENCE);
        fetch(kv_rows, kp, ld_k, k0, BN_K, all_keys, hd);
        barrier(CLK_LOCAL_MEM_FENCE);
        float s[BN_Q / 16][BN_K / 16];
        BN_UNROLL
        for (int i = 0; i < BN_Q / 16; i++)
            BN_UNROLL
            for (int j = 0; j < BN_K / 16; j++)
                s[i][j] = 0.0f;
        for (int d = 0; d < D; d++)
            BN_UNROLL
            for (int i = 0; i < BN_Q / 16; i++)
                BN_UNROLL
                for (int j = 0; j < BN_K / 16; j++)
                    s[i][j] = fma(q_rows[(ty + 16 * i) * LINE + d],
                                  kv_rows[(tx + 16 * j) * LINE + d], s[i][j]);
        BN_UNROLL
        for (int i = 0; i < BN_Q / 16; i++)
            BN_UNROLL
            for (int j = 0; j < BN_K / 16; j++) {
                const int row = ty + 16 * i, key = k0 + tx + 16 * j;
                s[i][j] = key <= position + row0 + row ? s[i][j] * scale : -INFINITY;
                p_tile[row][tx + 16 * j] = s[i][j];
            }
        barrier(CLK_LOCAL_MEM_FENCE);
        fetch(kv_rows, vp, ld_k, k0, BN_K, all_keys, hd);
        float shrink[BN_Q / 16];
        BN_UNROLL
        for (int i = 0; i < BN_Q / 16; i++) {
            float most = largest[i];
            for (int c = 0; c < BN_K; c++)
                most = bn_larger(most, p_tile[ty + 16 * i][c]);
            shrink[i] = bn_exp(largest[i] - most);
            largest[i] = most;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        BN_UNROLL
        for (int i = 0; i < BN_Q / 16; i++)
            BN_UNROLL
            for (int j = 0; j < BN_K / 16; j++)
                p_tile[ty + 16 * i][tx + 16 * j] = bn_exp(s[i][j] - largest[i]);
        barrier(CLK_LOCAL_MEM_FENCE);
        BN_UNROLL
        for (int i = 0; i < BN_Q / 16; i++) {
            float total = 0.0f;
            for (int c = 0; c < BN_K; c++)
                total += p_tile[ty + 16 * i][c];
            sum[i] = fma(sum[i], shrink[i], total);
            BN_UNROLL
            for (int j = 0; j < COLS; j++)
                acc[i][j] *= shrink[i];
        }
        for (int c = 0; c < BN_K; c++)
            BN_UNROLL
            for (int i = 0; i < BN_Q / 16; i++)
                BN_UNROLL
                for (int j = 0; j < COLS; j++)
                    acc[i][j] = fma(p_tile[ty + 16 * i][c], kv_rows[c * LINE + tx + 16 * j],
                                    acc[i][j]);
    }
    BN_UNROLL
    for (int i = 0; i < BN_Q / 16; i++) {
        const int row = row0 + ty + 16 * i;
        if (row >= T)
            continue;
        const float inverse = 1.0f / sum[i];
        BN_UNROLL
        for (int j = 0; j < COLS; j++)
            if (tx + 16 * j < hd)
                op[row * ld_q + tx + 16 * j] = acc[i][j] * inverse;
        if (lse_base && tx == 0) {
            BN_POINTER(float, lse);
            lse[(long)bh * T + row] = largest[i] + bn_log(sum[i]);
        }
    }
}

/* delta [B,H,T] = sum over d of dout out; group: 64 queries of a head */
kernel __attribute__((reqd_work_group_size(64, 1, 1))) void
bn_attention_delta(BN_BUFFER(out), BN_BUFFER(dout), BN_BUFFER(delta), const int T, const int H,
                   const int hd)
{
    BN_POINTER(float, delta);
    const int t = get_global_id(0), bh = get_group_id(1);
    if (t >= T)
        return;
    const long at = ((long)(bh / H) * T + t) * H * hd + bh % H * hd;
    const global float *y = (const global float *)(out_base + out_offset) + at;
    const global float *dy = (const global float *)(dout_base + dout_offset) + at;
    float sum = 0.0f;
    for (int d = 0; d < hd; d++)
        sum = fma(dy[d], y[d], sum);
    delta[(long)bh * T + t] = sum;
}

/* Of a block of queries (from row0) and one of keys (from key0) in local memory:
 * p and ds, where they are wanted. */
static inline void slopes(const local float *q_rows, const local float *dout_rows,
                          const local float *k_rows, const local float *v_rows, int row0, int key0,
                          int T, float scale, const global float *lse, const global float *delta,
                          local float (*p_tile)[EDGE + 1], local float (*ds_tile)[EDGE + 1])
{
    const int tx = get_local_id(0), ty = get_local_id(1);
    float s[EDGE / 16][EDGE / 16], dp[EDGE / 16][EDGE / 16];
    BN_UNROLL
    for (int i = 0; i < EDGE / 16; i++)
        BN_UNROLL
        for (int j = 0; j < EDGE / 16; j++)
            s[i][j] = dp[i][j] = 0.0f;
    for (int d = 0; d < D; d++)
        BN_UNROLL
        for (int i = 0; i < EDGE / 16; i++)
            BN_UNROLL
            for (int j = 0; j < EDGE / 16; j++) {
                const int r = (ty + 16 * i) * LINE + d, c = (tx + 16 * j) * LINE + d;
                s[i][j] = fma(q_rows[r], k_rows[c], s[i][j]);
                dp[i][j] = fma(dout_rows[r], v_rows[c], dp[i][j]);
            }
    BN_UNROLL
    for (int i = 0; i < EDGE / 16; i++)
        BN_UNROLL
        for (int j = 0; j < EDGE / 16; j++) {
            const int row = row0 + ty + 16 * i, key = key0 + tx + 16 * j;
            const int seen = row < T && key <= row;
            const float p = seen ? bn_exp(s[i][j] * scale - lse[row]) : 0.0f;
            if (p_tile)
                p_tile[ty + 16 * i][tx + 16 * j] = p;
            ds_tile[ty + 16 * i][tx + 16 * j] = seen ? p * (dp[i][j] - delta[row]) * scale : 0.0f;
        }
}

/* dq; group: (block of queries, head of a sequence). */
kernel GROUP void bn_attention_dq(BN_BUFFER(q), BN_BUFFER(k), BN_BUFFER(v), BN_BUFFER(lse),
                                  BN_BUFFER(dout), BN_BUFFER(delta), BN_BUFFER(dq), const int T,
                                  const int H, const int KV, const int hd, const float scale,
                                  const int add)
{
    local float q_rows[EDGE * LINE], dout_rows[EDGE * LINE], k_rows[EDGE * LINE];
    local float v_rows[EDGE * LINE], ds_tile[EDGE][EDGE + 1];
    const int tx = get_local_id(0), ty = get_local_id(1);
    const int bh = get_group_id(1), b = bh / H, h = bh % H, row0 = get_group_id(0) * EDGE;
    const long ld_q = (long)H * hd, ld_k = (long)KV * hd;
    const long wide = b * (long)T * ld_q + h * hd, narrow = b * (long)T * ld_k + h / (H / KV) * hd;
    const global float *kp = (const global float *)(k_base + k_offset) + narrow;
    const global float *vp = (const global float *)(v_base + v_offset) + narrow;
    const global float *lsep = (const global float *)(lse_base + lse_offset) + (long)bh * T;
    const global float *deltap = (const global float *)(delta_base + delta_offset) + (long)bh * T;
    global float *dqp = (global float *)(dq_base + dq_offset) + wide;
    float acc[EDGE / 16][COLS];
    BN_UNROLL
    for (int i = 0; i < EDGE / 16; i++)
        BN_UNROLL
        for (int j = 0; j < COLS; j++)
            acc[i][j] = 0.0f;
    fetch(q_rows, (const global float *)(q_base + q_offset) + wide, ld_q, row0, EDGE, T, hd);
    fetch(dout_rows, (const global float *)(dout_base + dout_offset) + wide, ld_q, row0, EDGE, T,
          hd);
    for (int k0 = 0; k0 < min(row0 + EDGE, T); k0 += EDGE) {
        barrier(CLK_LOCAL_MEM_FENCE);
        fetch(k_rows, kp, ld_k, k0, EDGE, T, hd);
        fetch(v_rows, vp, ld_k, k0, EDGE, T, hd);
        barrier(CLK_LOCAL_MEM_FENCE);
        slopes(q_rows, dout_rows, k_rows, v_rows, row0, k0, T, scale, lsep, deltap, 0, ds_tile);
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int c = 0; c < EDGE; c++)
            BN_UNROLL
            for (int i = 0; i < EDGE / 16; i++)
                BN_UNROLL
                for (int j = 0; j < COLS; j++)
                    acc[i][j] = fma(ds_tile[ty + 16 * i][c], k_rows[c * LINE + tx + 16 * j],
                                    acc[i][j]);
    }
    BN_UNROLL
    for (int i = 0; i < EDGE / 16; i++)
        BN_UNROLL
        for (int j = 0; j < COLS; j++) {
            const int row = row0 + ty + 16 * i, d = tx + 16 * j;
            if (row < T && d < hd)
                dqp[row * ld_q + d] = add ? dqp[row * ld_q + d] + acc[i][j] : acc[i][j];
        }
}

/* dk, dv (either may be null; `add` bits 1 and 2); group: (block of keys,
 * key/value head of a sequence). */
kernel GROUP void bn_attention_dkv(BN_BUFFER(q), BN_BUFFER(k), BN_BUFFER(v), BN_BUFFER(lse),
                                   BN_BUFFER(dout), BN_BUFFER(delta), BN_BUFFER(dk), BN_BUFFER(dv),
                                   const int T, const int H, const int KV, const int hd,
                                   const float scale, const int add)
{
    local float q_rows[EDGE * LINE], dout_rows[EDGE * LINE], k_rows[EDGE * LINE];
    local float v_rows[EDGE * LINE], p_tile[EDGE][EDGE + 1], ds_tile[EDGE][EDGE + 1];
    const int tx = get_local_id(0), ty = get_local_id(1), heads = H / KV;
    const int b = get_group_id(1) / KV, kv = get_group_id(1) % KV, key0 = get_group_id(0) * EDGE;
    const long ld_q = (long)H * hd, ld_k = (long)KV * hd, narrow = b * (long)T * ld_k + kv * hd;
    float acc_k[EDGE / 16][COLS], acc_v[EDGE / 16][COLS];
    BN_UNROLL
    for (int i = 0; i < EDGE / 16; i++)
        BN_UNROLL
        for (int j = 0; j < COLS; j++)
            acc_k[i][j] = acc_v[i][j] = 0.0f;
    fetch(k_rows, (const global float *)(k_base + k_offset) + narrow, ld_k, key0, EDGE, T, hd);
    fetch(v_rows, (const global float *)(v_base + v_offset) + narrow, ld_k, key0, EDGE, T, hd);
    for (int h = kv * heads; h < (kv + 1) * heads; h++) {
        const long wide = b * (long)T * ld_q + h * hd, at = ((long)b * H + h) * T;
        const global float *qp = (const global float *)(q_base + q_offset) + wide;
        const global float *dyp = (const global float *)(dout_base + dout_offset) + wide;
        const global float *lsep = (const global float *)(lse_base + lse_offset) + at;
        const global float *deltap = (const global float *)(delta_base + delta_offset) + at;
        for (int row0 = key0; row0 < T; row0 += EDGE) {
            barrier(CLK_LOCAL_MEM_FENCE);
            fetch(q_rows, qp, ld_q, row0, EDGE, T, hd);
            fetch(dout_rows, dyp, ld_q, row0, EDGE, T, hd);
            barrier(CLK_LOCAL_MEM_FENCE);
            slopes(q_rows, dout_rows, k_rows, v_rows, row0, key0, T, scale, lsep, deltap, p_tile,
                   ds_tile);
            barrier(CLK_LOCAL_MEM_FENCE);
            for (int r = 0; r < EDGE; r++)
                BN_UNROLL
                for (int i = 0; i < EDGE / 16; i++)
                    BN_UNROLL
                    for (int j = 0; j < COLS; j++) {
                        const int c = r * LINE + tx + 16 * j;
                        acc_k[i][j] = fma(ds_tile[r][ty + 16 * i], q_rows[c], acc_k[i][j]);
                        acc_v[i][j] = fma(p_tile[r][ty + 16 * i], dout_rows[c], acc_v[i][j]);
                    }
        }
    }
    global float *dkp = (global float *)(dk_base + dk_offset) + narrow;
    global float *dvp = (global float *)(dv_base + dv_offset) + narrow;
    BN_UNROLL
    for (int i = 0; i < EDGE / 16; i++)
        BN_UNROLL
        for (int j = 0; j < COLS; j++) {
            const int key = key0 + ty + 16 * i, d = tx + 16 * j;
            const long to = key * ld_k + d;
            if (key >= T || d >= hd)
                continue;
            if (dk_base)
                dkp[to] = add & 2 ? dkp[to] + acc_k[i][j] : acc_k[i][j];
            if (dv_base)
                dvp[to] = add & 4 ? dvp[to] + acc_v[i][j] : acc_v[i][j];
        }
}

#endif
