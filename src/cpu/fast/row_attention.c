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

enum {
    BLOCK = BN_ATTN_BLOCK,
    WIDE = BLOCK / VW < 8 ? BLOCK / VW : 8, /* vectors of a row that is alone */
};

static inline int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Which terms of a product matter where the block lies on the diagonal: row r
 * of the queries sees the keys 0 .. r + ahead. What is left out would be zero
 * (or is never looked at), so the sums have the same bits. */
typedef enum triangle {
    FULL,
    COLUMNS_UP_TO, /* row m of c: columns up to m + ahead; the others stay as they are */
    TERMS_UP_TO,   /* row m of c: k up to m + ahead */
    TERMS_FROM,    /* row m of c: k from m - ahead */
} triangle;

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
    triangle triangle;
    int64_t ahead;
} product;

/* Terms that rows m .. m+mr-1 of c need. */
BN_INLINE void term_range(const product *p, int64_t m, int64_t mr, int64_t *from, int64_t *to)
{
    *from = 0;
    *to = p->K;
    if (p->triangle == TERMS_UP_TO)
        *to = min_i64(p->K, m + mr + p->ahead);
    if (p->triangle == TERMS_FROM && m > p->ahead)
        *from = m - p->ahead;
}

/* mr rows by nr vectors of c. */
BN_INLINE void product_tile(const product *p, int64_t m, int64_t n, int mr, int nr)
{
    enum { MAX_M = 4, MAX_N = WIDE };
    vf acc[MAX_M][MAX_N] = {{{0}}};
    int64_t k, k_end;
    if (p->triangle == COLUMNS_UP_TO && n > m + mr - 1 + p->ahead)
        return;
    term_range(p, m, mr, &k, &k_end);
    const float *a = p->a + m * p->a_row + k * p->a_col, *b = p->b + n + k * p->ld_b;
    float *c = p->c + m * p->ld_c + n;
    if (p->add)
        for (int i = 0; i < mr; i++)
            for (int j = 0; j < nr; j++)
                acc[i][j] = vf_load(c + i * p->ld_c + j * VW);
    for (; k < k_end; k++, b += p->ld_b, a += p->a_col)
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
            int64_t k, k_end;
            term_range(p, m, 1, &k, &k_end);
            for (; k < k_end; k++)
                sum += p->a[m * p->a_row + k * p->a_col] * p->b[k * p->ld_b + n];
            *c = sum;
        }
}

static void multiply(const product *p)
{
    int64_t n = 0;
    for (; p->M == 1 && n + WIDE * VW <= p->N; n += WIDE * VW)
        product_tile(p, 0, n, 1, WIDE);
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

/* n rounded up to whole lanes: so much of a row of scores is worked on. */
static int64_t whole_lanes(int64_t n)
{
    return (n + LANES - 1) / LANES * LANES;
}

/* Rows [keys, head_dim] of k or v turned into columns [head_dim, BLOCK],
 * those that complete the last lanes zero. */
static void transpose_block(const float *restrict x, int64_t ld, int64_t keys, int64_t head_dim,
                            float *restrict t)
{
    FAST(bn_row_transpose)(keys, head_dim, x, ld, t, BLOCK);
    for (int64_t d = 0; d < head_dim; d++)
        for (int64_t c = keys; c < whole_lanes(keys); c++)
            t[d * BLOCK + c] = 0.0f;
}

/* A head's rows lie apart, which hides them from the CPU's own prefetching. */
static void prefetch_rows(const float *x, int64_t ld, int64_t rows, int64_t head_dim)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t d = 0; d < head_dim; d += 16)
            __builtin_prefetch(x + r * ld + d);
}

/* Rows of one head: element d of row t is base[t * ld + d]. */
typedef struct head_rows {
    const float *base;
    int64_t ld;
} head_rows;

/* Keys or values from k0 on: where they lie, or decoded into `dense` [BLOCK, head_dim]. */
static head_rows block_rows(const bn_attn *a, const float *x, const uint8_t *rows, int64_t k0,
                            int64_t keys, float *dense)
{
    if (!a->codes)
        return (head_rows){x + k0 * a->ld_kv, a->ld_kv};
    const int64_t bytes = bn_kv_row_bytes(a->codes);
    for (int64_t t = 0; t < keys; t++)
        FAST(bn_row_kv_decode)
    (a->codes, rows + (k0 + t) * bytes, a->kv_head, dense + t * a->head_dim);
    return (head_rows){dense, a->head_dim};
}

/* The first n >= 1 of BLOCK scores times `scale`; returns the largest. Those
 * from n to the end of the lanes become -infinity. */
static float scale_and_mask(float *restrict s, int64_t n, float scale)
{
    int64_t end = whole_lanes(n);
    for (int64_t c = 0; c < end; c++)
        s[c] *= scale;
    for (int64_t c = n; c < end; c++)
        s[c] = -INFINITY;
    vf acc = vf_load(s);
    for (int64_t c = VW; c < end; c += VW) {
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

/* s = exp(s - max) for the first n of BLOCK scores and 0 for the others;
 * returns the sum. */
static float exp_and_sum(float *restrict s, int64_t n, float max)
{
    int64_t end = whole_lanes(n);
    for (int64_t c = 0; c < end; c++)
        s[c] = bn_expf(s[c] - max);
    for (int64_t c = n; c < BLOCK; c++)
        s[c] = 0.0f;
    vf acc[NV];
    for (int u = 0; u < NV; u++)
        acc[u] = vf_load(s + u * VW);
    for (int64_t c = LANES; c < end; c += LANES)
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
    const int64_t hd = a->head_dim, all_keys = a->position + row0 + rows;
    float *k_columns = work, *score = k_columns + hd * BLOCK, *acc = score + BLOCK * BLOCK;
    float *dense = a->codes ? acc + hd * BLOCK : NULL;
    row_state state[BLOCK];
    for (int64_t r = 0; r < rows; r++)
        state[r] = (row_state){-INFINITY, 0.0f};
    memset(acc, 0, (size_t)(rows * hd) * sizeof *acc);
    for (int64_t k0 = 0; k0 < all_keys; k0 += BLOCK) {
        const int64_t keys = min_i64(BLOCK, all_keys - k0), ahead = a->position + row0 - k0;
        const product scores = {
            .M = rows,
            .N = whole_lanes(keys),
            .K = hd,
            .triangle = COLUMNS_UP_TO,
            .ahead = ahead,
            .a = a->q + row0 * a->ld_q,
            .a_row = a->ld_q,
            .a_col = 1,
            .b = k_columns,
            .ld_b = BLOCK,
            .c = score,
            .ld_c = BLOCK,
        };
        product values = {
            .M = rows,
            .N = hd,
            .K = keys,
            .triangle = TERMS_UP_TO,
            .ahead = ahead,
            .a = score,
            .a_row = BLOCK,
            .a_col = 1,
            .c = acc,
            .ld_c = hd,
            .add = true,
        };
        if (!a->codes)
            prefetch_rows(a->v + k0 * a->ld_kv, a->ld_kv, keys, hd);
        const head_rows k = block_rows(a, a->k, a->k_rows, k0, keys, dense);
        transpose_block(k.base, k.ld, keys, hd, k_columns);
        if (!a->codes)
            prefetch_rows(a->k + (k0 + BLOCK) * a->ld_kv, a->ld_kv,
                          min_i64(BLOCK, all_keys - k0 - BLOCK), hd);
        const head_rows v = block_rows(a, a->v, a->v_rows, k0, keys, dense); /* k is read */
        values.b = v.base;
        values.ld_b = v.ld;
        multiply(&scores);
        for (int64_t r = 0; r < rows; r++) {
            if (ahead + r >= 0)
                row_softmax(&state[r], score + r * BLOCK, min_i64(BLOCK, ahead + r + 1), a->scale,
                            acc + r * hd, hd);
            else
                memset(score + r * BLOCK, 0, BLOCK * sizeof *score);
        }
        multiply(&values);
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
        int64_t seen = min_i64(BLOCK, ahead + r + 1), end = whole_lanes(seen);
        float lse = a->lse[row0 + r], d = delta[row0 + r], scale = a->scale;
        for (int64_t c = 0; c < end; c++)
            s[c] = bn_expf(s[c] * scale - lse);
        for (int64_t c = 0; c < end; c++)
            dp[c] = s[c] * (dp[c] - d) * scale;
        for (int64_t c = seen; c < BLOCK; c++)
            s[c] = dp[c] = 0.0f;
    }
}

/* Memory of the backward pass. */
typedef struct back_work {
    float *k_columns, *v_columns; /* [head_dim, BLOCK] */
    float *s, *ds;                /* [BLOCK, BLOCK] */
    float *delta;                 /* [heads, T] */
} back_work;

/* What block q0 of one head's queries and block k0 of the keys add to dq, dk
 * and dv. */
static void block_backward(const bn_attn *a, int64_t q0, int64_t k0, const float *delta,
                           const back_work *w)
{
    const int64_t hd = a->head_dim, ld_q = a->ld_q, ld_kv = a->ld_kv, ahead = q0 - k0;
    const int64_t rows = min_i64(BLOCK, a->rows - q0), keys = min_i64(BLOCK, a->rows - k0);
    const float *q = a->q + q0 * ld_q, *dy = a->dout + q0 * ld_q;
    product scores = {
        .M = rows,
        .N = whole_lanes(keys),
        .K = hd,
        .triangle = COLUMNS_UP_TO,
        .ahead = ahead,
        .a = q,
        .a_row = ld_q,
        .a_col = 1,
        .b = w->k_columns,
        .ld_b = BLOCK,
        .c = w->s,
        .ld_c = BLOCK,
    };
    multiply(&scores); /* s = q k^T */
    scores.a = dy;
    scores.b = w->v_columns;
    scores.c = w->ds;
    multiply(&scores); /* ds = dout v^T */
    weights_and_slopes(a, q0, rows, ahead, delta, w->s, w->ds);
    product to_keys = {
        .M = keys,
        .N = hd,
        .K = rows,
        .triangle = TERMS_FROM,
        .ahead = ahead,
        .a_row = 1,
        .a_col = BLOCK,
        .ld_b = ld_q,
        .ld_c = ld_kv,
        .add = true,
    };
    if (a->dv) { /* dv += s^T dout */
        to_keys.a = w->s;
        to_keys.b = dy;
        to_keys.c = a->dv + k0 * ld_kv;
        multiply(&to_keys);
    }
    if (a->dk) { /* dk += ds^T q */
        to_keys.a = w->ds;
        to_keys.b = q;
        to_keys.c = a->dk + k0 * ld_kv;
        multiply(&to_keys);
    }
    if (a->dq) /* dq += ds k */
        multiply(&(product){
            .M = rows,
            .N = hd,
            .K = keys,
            .triangle = TERMS_UP_TO,
            .ahead = ahead,
            .a = w->ds,
            .a_row = BLOCK,
            .a_col = 1,
            .b = a->k + k0 * ld_kv,
            .ld_b = ld_kv,
            .c = a->dq + q0 * ld_q,
            .ld_c = ld_q,
            .add = true,
        });
}

/* Gradients of the n_heads query heads that share one key/value head. The
 * gradients of this head's columns are added to: the caller has zeroed them
 * where they are to be stored. */
void FAST(bn_row_attention_backward)(const bn_attn *heads, int64_t n_heads, float *work)
{
    const bn_attn *first = &heads[0];
    const int64_t hd = first->head_dim, T = first->rows, ld_kv = first->ld_kv;
    const back_work w = {
        .k_columns = work,
        .v_columns = work + hd * BLOCK,
        .s = work + 2 * hd * BLOCK,
        .ds = work + (2 * hd + BLOCK) * BLOCK,
        .delta = work + (2 * hd + 2 * BLOCK) * BLOCK,
    };
    for (int64_t h = 0; h < n_heads; h++)
        row_deltas(&heads[h], w.delta + h * T);
    for (int64_t k0 = 0; k0 < T; k0 += BLOCK) {
        int64_t keys = min_i64(BLOCK, T - k0);
        transpose_block(first->k + k0 * ld_kv, ld_kv, keys, hd, w.k_columns);
        transpose_block(first->v + k0 * ld_kv, ld_kv, keys, hd, w.v_columns);
        for (int64_t h = 0; h < n_heads; h++)
            for (int64_t q0 = k0; q0 < T; q0 += BLOCK)
                block_backward(&heads[h], q0, k0, w.delta + h * T, &w);
    }
}
