/* Causal attention in blocks of BN_ATTN_BLOCK queries and keys, after Dao et
 * al., "FlashAttention" (arXiv 2205.14135): a running maximum and sum per row,
 * and no matrix larger than one block.
 *
 * What is computed for a row depends on that row, its keys and the fixed
 * borders of the key blocks only, never on which other rows are in the block:
 * every product is a sum over one index in ascending order, one multiply and
 * one add per term. So decoding one row at a time with cached keys gives the
 * same bits as the whole sequence at once. */
#include "cpu/fast/row_impl.h"

#include <math.h>
#include <string.h>

#include "base/mathf.h"

enum { BLOCK = BN_ATTN_BLOCK };

static inline int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* c[m,n] = (add ? c : 0) + sum over k of a[m,k] b[k,n]; element (m,k) of a is
 * a[m*a_row + k*a_col], rows of b and c are ld_b and ld_c apart. */
typedef struct product {
    int64_t M, N, K;
    const float *a;
    int64_t a_row, a_col;
    const float *b;
    int64_t ld_b;
    float *c;
    int64_t ld_c;
    bool add;
} product;

/* MR rows by NR vectors of c; NR = 0: MR rows by one element. */
BN_INLINE void product_tile(const product *p, int64_t m, int64_t n, int mr, int nr)
{
    enum { MAX_M = 4, MAX_N = 2 };
    vf acc[MAX_M][MAX_N] = {{{0}}};
    const float *a = p->a + m * p->a_row, *b = p->b + n;
    float *c = p->c + m * p->ld_c + n;
    if (p->add)
        for (int i = 0; i < mr; i++)
            for (int j = 0; j < nr; j++)
                acc[i][j] = vf_load(c + i * p->ld_c + j * VW);
    for (int64_t k = 0; k < p->K; k++, b += p->ld_b, a += p->a_col)
        for (int i = 0; i < mr; i++)
            for (int j = 0; j < nr; j++)
                acc[i][j] += a[i * p->a_row] * vf_load(b + j * VW);
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < nr; j++)
            vf_store(c + i * p->ld_c + j * VW, acc[i][j]);
}

static void product_columns_left(const product *p, int64_t n0)
{
    for (int64_t m = 0; m < p->M; m++)
        for (int64_t n = n0; n < p->N; n++) {
            float *c = p->c + m * p->ld_c + n;
            float sum = p->add ? *c : 0.0f;
            for (int64_t k = 0; k < p->K; k++)
                sum += p->a[m * p->a_row + k * p->a_col] * p->b[k * p->ld_b + n];
            *c = sum;
        }
}

static void multiply(const product *p)
{
    int64_t n = 0;
    for (; n + 2 * VW <= p->N; n += 2 * VW) {
        int64_t m = 0;
        for (; m + 4 <= p->M; m += 4)
            product_tile(p, m, n, 4, 2);
        for (; m < p->M; m++)
            product_tile(p, m, n, 1, 2);
    }
    for (; n + VW <= p->N; n += VW) {
        int64_t m = 0;
        for (; m + 4 <= p->M; m += 4)
            product_tile(p, m, n, 4, 1);
        for (; m < p->M; m++)
            product_tile(p, m, n, 1, 1);
    }
    if (n < p->N)
        product_columns_left(p, n);
}

/* Rows [keys, head_dim] of k or v turned into columns [head_dim, BLOCK],
 * columns past the last key zero. */
static void transpose_block(const float *restrict x, int64_t ld, int64_t keys, int64_t head_dim,
                            float *restrict t)
{
    for (int64_t d = 0; d < head_dim; d++) {
        for (int64_t c = 0; c < keys; c++)
            t[d * BLOCK + c] = x[c * ld + d];
        for (int64_t c = keys; c < BLOCK; c++)
            t[d * BLOCK + c] = 0.0f;
    }
}

/* Largest of the first n >= 1 of BLOCK scores times `scale`; the others become
 * -infinity, and all are scaled. */
static float scale_and_mask(float *restrict s, int64_t n, float scale)
{
    for (int64_t c = 0; c < BLOCK; c++)
        s[c] *= scale;
    for (int64_t c = n; c < BLOCK; c++)
        s[c] = -INFINITY;
    vf acc = vf_load(s);
    for (int64_t c = VW; c < BLOCK; c += VW) {
        vf v = vf_load(s + c);
        vi more = v > acc;
        acc = (vf)(((vi)v & more) | ((vi)acc & ~more));
    }
    float lane[VW], max;
    memcpy(lane, &acc, sizeof lane);
    max = lane[0];
    for (int l = 1; l < VW; l++)
        max = lane[l] > max ? lane[l] : max;
    return max;
}

static float exp_and_sum(float *restrict s, int64_t n, float max)
{
    for (int64_t c = 0; c < BLOCK; c++)
        s[c] = bn_expf(s[c] - max);
    for (int64_t c = n; c < BLOCK; c++)
        s[c] = 0.0f;
    vf acc[NV];
    for (int u = 0; u < NV; u++)
        acc[u] = vf_load(s + u * VW);
    for (int64_t c = LANES; c < BLOCK; c += LANES)
        for (int u = 0; u < NV; u++)
            acc[u] += vf_load(s + c + u * VW);
    float lane[LANES];
    memcpy(lane, acc, sizeof lane);
    return lanes_sum(lane);
}

/* Running softmax of one row over its key blocks. */
typedef struct row_state {
    float max, sum;
} row_state;

/* Scores of one row and one key block -> weights relative to the new running
 * maximum; the row's sum and what is accumulated in `acc` follow it. */
static void row_softmax(row_state *state, float *score, int64_t keys, float scale,
                        float *restrict acc, int64_t head_dim)
{
    float max = scale_and_mask(score, keys, scale);
    if (max > state->max) {
        float shrink = bn_expf(state->max - max);
        state->max = max;
        state->sum *= shrink;
        for (int64_t d = 0; d < head_dim; d++)
            acc[d] *= shrink;
    }
    state->sum += exp_and_sum(score, keys, state->max);
}

/* Rows row0 .. row0+rows-1 (at most BLOCK) of one head. */
void FAST(bn_row_attention)(const bn_attn *a, int64_t row0, int64_t rows, float *work)
{
    const int64_t hd = a->head_dim;
    float *k_columns = work, *score = k_columns + hd * BLOCK, *acc = score + BLOCK * BLOCK;
    row_state state[BLOCK];
    for (int64_t r = 0; r < rows; r++)
        state[r] = (row_state){-INFINITY, 0.0f};
    memset(acc, 0, (size_t)(rows * hd) * sizeof *acc);
    const int64_t all_keys = a->position + row0 + rows;
    for (int64_t k0 = 0; k0 < all_keys; k0 += BLOCK) {
        int64_t keys = min_i64(BLOCK, all_keys - k0);
        transpose_block(a->k + k0 * a->ld_kv, a->ld_kv, keys, hd, k_columns);
        multiply(&(product){.M = rows,
                            .N = BLOCK,
                            .K = hd,
                            .a = a->q + row0 * a->ld_q,
                            .a_row = a->ld_q,
                            .a_col = 1,
                            .b = k_columns,
                            .ld_b = BLOCK,
                            .c = score,
                            .ld_c = BLOCK});
        for (int64_t r = 0; r < rows; r++) {
            int64_t seen = a->position + row0 + r + 1 - k0;
            if (seen > 0)
                row_softmax(&state[r], score + r * BLOCK, min_i64(BLOCK, seen), a->scale,
                            acc + r * hd, hd);
            else
                memset(score + r * BLOCK, 0, BLOCK * sizeof *score);
        }
        multiply(&(product){.M = rows,
                            .N = hd,
                            .K = keys,
                            .a = score,
                            .a_row = BLOCK,
                            .a_col = 1,
                            .b = a->v + k0 * a->ld_kv,
                            .ld_b = a->ld_kv,
                            .c = acc,
                            .ld_c = hd,
                            .add = true});
    }
    for (int64_t r = 0; r < rows; r++) {
        float inverse = 1.0f / state[r].sum;
        float *out = a->out + (row0 + r) * a->ld_q;
        for (int64_t d = 0; d < hd; d++)
            out[d] = acc[r * hd + d] * inverse;
        if (a->lse)
            a->lse[row0 + r] = state[r].max + logf(state[r].sum);
    }
}

/* delta[t] = sum over d of dout[t,d] out[t,d] */
static void row_deltas(const bn_attn *a, float *delta)
{
    for (int64_t t = 0; t < a->rows; t++) {
        const float *dy = a->dout + t * a->ld_q, *y = a->out + t * a->ld_q;
        float lane[LANES] = {0};
        for (int64_t d = 0; d < a->head_dim; d++)
            lane[d % LANES] += dy[d] * y[d];
        delta[t] = lanes_sum(lane);
    }
}

/* s, dp [rows, BLOCK]: scores and dout v^T. s becomes the weights
 * p = exp(scale s - lse), 0 past each row's own position, and dp becomes
 * ds = p (dp - delta) scale. `ahead` is how far the first row is past the
 * block's first key. */
static void weights_and_slopes(const bn_attn *a, int64_t row0, int64_t rows, int64_t ahead,
                               const float *delta, float *restrict s, float *restrict dp)
{
    for (int64_t r = 0; r < rows; r++, s += BLOCK, dp += BLOCK) {
        int64_t seen = min_i64(BLOCK, ahead + r + 1);
        float lse = a->lse[row0 + r], d = delta[row0 + r], scale = a->scale;
        for (int64_t c = 0; c < BLOCK; c++)
            s[c] = bn_expf(s[c] * scale - lse);
        for (int64_t c = seen; c < BLOCK; c++)
            s[c] = 0.0f;
        for (int64_t c = 0; c < BLOCK; c++)
            dp[c] = s[c] * (dp[c] - d) * scale;
    }
}

/* Gradients of the n_heads query heads that share one key/value head. The
 * gradients of this head's columns are added to: the caller has zeroed them
 * where they are to be stored. */
void FAST(bn_row_attention_backward)(const bn_attn *heads, int64_t n_heads, float *work)
{
    const bn_attn *first = &heads[0];
    const int64_t hd = first->head_dim, T = first->rows, ld_kv = first->ld_kv;
    float *k_columns = work, *v_columns = k_columns + hd * BLOCK;
    float *s = v_columns + hd * BLOCK, *ds = s + BLOCK * BLOCK, *delta = ds + BLOCK * BLOCK;
    for (int64_t h = 0; h < n_heads; h++)
        row_deltas(&heads[h], delta + h * T);
    for (int64_t k0 = 0; k0 < T; k0 += BLOCK) {
        int64_t keys = min_i64(BLOCK, T - k0);
        const float *k = first->k + k0 * ld_kv, *v = first->v + k0 * ld_kv;
        transpose_block(k, ld_kv, keys, hd, k_columns);
        transpose_block(v, ld_kv, keys, hd, v_columns);
        for (int64_t h = 0; h < n_heads; h++)
            for (int64_t q0 = k0; q0 < T; q0 += BLOCK) {
                const bn_attn *a = &heads[h];
                int64_t rows = min_i64(BLOCK, T - q0), ld_q = a->ld_q;
                const float *q = a->q + q0 * ld_q, *dy = a->dout + q0 * ld_q;
                multiply(&(product){.M = rows,
                                    .N = BLOCK,
                                    .K = hd,
                                    .a = q,
                                    .a_row = ld_q,
                                    .a_col = 1,
                                    .b = k_columns,
                                    .ld_b = BLOCK,
                                    .c = s,
                                    .ld_c = BLOCK});
                multiply(&(product){.M = rows,
                                    .N = BLOCK,
                                    .K = hd,
                                    .a = dy,
                                    .a_row = ld_q,
                                    .a_col = 1,
                                    .b = v_columns,
                                    .ld_b = BLOCK,
                                    .c = ds,
                                    .ld_c = BLOCK});
                weights_and_slopes(a, q0, rows, q0 - k0, delta + h * T, s, ds);
                if (a->dv)
                    multiply(&(product){.M = keys,
                                        .N = hd,
                                        .K = rows,
                                        .a = s,
                                        .a_row = 1,
                                        .a_col = BLOCK,
                                        .b = dy,
                                        .ld_b = ld_q,
                                        .c = a->dv + k0 * ld_kv,
                                        .ld_c = ld_kv,
                                        .add = true});
                if (a->dk)
                    multiply(&(product){.M = keys,
                                        .N = hd,
                                        .K = rows,
                                        .a = ds,
                                        .a_row = 1,
                                        .a_col = BLOCK,
                                        .b = q,
                                        .ld_b = ld_q,
                                        .c = a->dk + k0 * ld_kv,
                                        .ld_c = ld_kv,
                                        .add = true});
                if (a->dq)
                    multiply(&(product){.M = rows,
                                        .N = hd,
                                        .K = keys,
                                        .a = ds,
                                        .a_row = BLOCK,
                                        .a_col = 1,
                                        .b = k,
                                        .ld_b = ld_kv,
                                        .c = a->dq + q0 * ld_q,
                                        .ld_c = ld_q,
                                        .add = true});
            }
    }
}
