/* Causal grouped-query attention. Query head h reads key/value head
 * h / (heads / kv_heads). Nothing of size T x T is stored: forward keeps the
 * log-sum-exp of each row, backward makes each probability again from it
 * (Dao et al., FlashAttention, arXiv 2205.14135). */
#include "cpu/ref/ref.h"
#include "quant/quantize.h"

#if BN_REF_F64
#define kv_encode bn_kv_encode_f64
#define kv_decode bn_kv_decode_f64
#else
#define kv_encode bn_kv_encode_f32
#define kv_decode bn_kv_decode_f32
#endif

/* Rows of one head: element d of row t is base[t * stride + d]. */
typedef struct head {
    const real *base;
    int64_t stride;
} head;

static double dot(const real *a, const real *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* One query row against the first n keys: q [hd], k, v [n,hd] ->
 * o [hd] = softmax(q k^T / sqrt(hd)) v; returns the log-sum-exp of the scores.
 * Both attention ops use it, so that decoding with a cache gives the same bits
 * as a whole sequence at once. score [n] is scratch. */
static double attend(const real *q, head k, head v, int64_t n, int64_t hd, real *score, real *o)
{
    double scale = 1 / sqrt((double)hd), max = -HUGE_VAL, sum = 0;
    for (int64_t j = 0; j < n; j++) {
        score[j] = (real)(dot(q, k.base + j * k.stride, hd) * scale);
        max = fmax(max, (double)score[j]);
    }
    for (int64_t j = 0; j < n; j++) {
        score[j] = (real)exp((double)score[j] - max);
        sum += (double)score[j];
    }
    for (int64_t d = 0; d < hd; d++) {
        double value = 0;
        for (int64_t j = 0; j < n; j++)
            value += (double)score[j] * (double)v.base[j * v.stride + d];
        o[d] = (real)(value / sum);
    }
    return max + log(sum);
}

/* Scores of one row. */
size_t REF(bn_attention_forward_scratch)(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return (size_t)c->in[0].shape[1] * sizeof(real);
}

/* q [B,T,H*hd], k, v [B,T,KV*hd] -> o [B,T,H*hd], log-sum-exp [B,H,T] */
bn_status REF(bn_attention_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t B = c->in[0].shape[0], T = c->in[0].shape[1], W = c->in[0].shape[2];
    int64_t H = c->params->attention.heads, KV = c->params->attention.kv_heads, hd = W / H;
    real *score = ref_data(&c->scratch), *lse = ref_out(c, 1);
    for (int64_t b = 0; b < B; b++) {
        for (int64_t h = 0; h < H; h++) {
            int64_t from = b * T * KV * hd + h / (H / KV) * hd;
            head k = {ref_in(c, 1) + from, KV * hd}, v = {ref_in(c, 2) + from, KV * hd};
            for (int64_t t = 0; t < T; t++) {
                int64_t at = (b * T + t) * W + h * hd;
                lse[(b * H + h) * T + t] =
                    (real)attend(ref_in(c, 0) + at, k, v, t + 1, hd, score, ref_out(c, 0) + at);
            }
        }
    }
    return BN_OK;
}

/* What backward needs to know about one (batch, head). */
typedef struct slab {
    head q, k, v, o, d_o; /* d_o: gradient of o */
    const real *lse;      /* [T] */
    int64_t T, hd;
} slab;

static slab slab_of(const bn_op_call *c, int64_t b, int64_t h)
{
    int64_t T = c->in[0].shape[1], W = c->in[0].shape[2];
    int64_t H = c->params->attention.heads, KV = c->params->attention.kv_heads, hd = W / H;
    int64_t wide = b * T * W + h * hd, narrow = b * T * KV * hd + h / (H / KV) * hd;
    return (slab){
        .q = {ref_in(c, 0) + wide, W},
        .k = {ref_in(c, 1) + narrow, KV * hd},
        .v = {ref_in(c, 2) + narrow, KV * hd},
        .o = {(const real *)ref_data(&c->out[0]) + wide, W},
        .d_o = {ref_dout(c) + wide, W},
        .lse = (const real *)ref_data(&c->out[1]) + (b * H + h) * T,
        .T = T,
        .hd = hd,
    };
}

/* Probability of query t looking at key j, and the gradient of their score:
 * p = exp(q k / sqrt(hd) - lse), ds = p (do v - do o) */
static void probability(const slab *s, int64_t t, int64_t j, double *p, double *ds)
{
    const real *d_o = s->d_o.base + t * s->d_o.stride;
    double scale = 1 / sqrt((double)s->hd);
    double score = dot(s->q.base + t * s->q.stride, s->k.base + j * s->k.stride, s->hd) * scale;
    *p = exp(score - (double)s->lse[t]);
    *ds = *p * (dot(d_o, s->v.base + j * s->v.stride, s->hd) -
                dot(d_o, s->o.base + t * s->o.stride, s->hd));
}

/* dq[t] = sum over keys j <= t of ds k[j] / sqrt(hd); sum [hd] is scratch */
static void query_gradient(const bn_op_call *c, double *sum)
{
    int64_t B = c->in[0].shape[0], T = c->in[0].shape[1], W = c->in[0].shape[2];
    int64_t H = c->params->attention.heads, hd = W / H;
    double scale = 1 / sqrt((double)hd);
    for (int64_t bh = 0; bh < B * H; bh++) {
        slab s = slab_of(c, bh / H, bh % H);
        for (int64_t t = 0; t < T; t++) {
            memset(sum, 0, (size_t)hd * sizeof *sum);
            for (int64_t j = 0; j <= t; j++) {
                double p, ds;
                probability(&s, t, j, &p, &ds);
                for (int64_t d = 0; d < hd; d++)
                    sum[d] += ds * (double)s.k.base[j * s.k.stride + d];
            }
            real *dq = ref_din(c, 0) + (bh / H * T + t) * W + bh % H * hd;
            for (int64_t d = 0; d < hd; d++)
                ref_put(&dq[d], c->accumulate[0], sum[d] * scale);
        }
    }
}

/* Over the query heads of a key/value head and the rows t >= j:
 * dk[j] = sum of ds q[t] / sqrt(hd), dv[j] = sum of p do[t]; sums [2*hd] */
static void key_value_gradient(const bn_op_call *c, double *dk_sum)
{
    int64_t B = c->in[0].shape[0], T = c->in[0].shape[1], W = c->in[0].shape[2];
    int64_t H = c->params->attention.heads, KV = c->params->attention.kv_heads, hd = W / H;
    double scale = 1 / sqrt((double)hd), *dv_sum = dk_sum + hd;
    real *dk = ref_din(c, 1), *dv = ref_din(c, 2);
    for (int64_t at = 0; at < B * KV * T; at++) {
        int64_t b = at / (KV * T), kv = at / T % KV, j = at % T;
        memset(dk_sum, 0, 2 * (size_t)hd * sizeof *dk_sum);
        for (int64_t h = kv * (H / KV); h < (kv + 1) * (H / KV); h++) {
            slab s = slab_of(c, b, h);
            for (int64_t t = j; t < T; t++) {
                double p, ds;
                probability(&s, t, j, &p, &ds);
                for (int64_t d = 0; d < hd; d++) {
                    dk_sum[d] += ds * (double)s.q.base[t * s.q.stride + d];
                    dv_sum[d] += p * (double)s.d_o.base[t * s.d_o.stride + d];
                }
            }
        }
        int64_t to = ((b * T + j) * KV + kv) * hd;
        for (int64_t d = 0; d < hd; d++) {
            if (dk)
                ref_put(&dk[to + d], c->accumulate[1], dk_sum[d] * scale);
            if (dv)
                ref_put(&dv[to + d], c->accumulate[2], dv_sum[d]);
        }
    }
}

/* Sums of one key and one value row. */
size_t REF(bn_attention_backward_scratch)(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return 2 * (size_t)(c->in[0].shape[2] / c->params->attention.heads) * sizeof(double);
}

bn_status REF(bn_attention_backward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    if (bn_tensor_present(&c->din[0]))
        query_gradient(c, ref_data(&c->scratch));
    if (bn_tensor_present(&c->din[1]) || bn_tensor_present(&c->din[2]))
        key_value_gradient(c, ref_data(&c->scratch));
    return BN_OK;
}

/* Scores of one row against a full cache; where that holds codes also the keys and
 * values of one head. */
size_t REF(bn_kv_attention_forward_scratch)(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    const bn_kv_codes codes = bn_op_kv_codes(c);
    return (size_t)(bn_cache_positions(&c->in[3]) * (codes.bits ? 1 + 2 * codes.head_dim : 1)) *
           sizeof(real);
}

/* Rows x [n, KV*hd] into a cache from `first` on. */
static void append(const bn_kv_codes *codes, const real *x, int64_t n, char *cache, int64_t first,
                   int64_t row_bytes)
{
    const int64_t cols = codes->heads * codes->head_dim;
    char *to = cache + first * row_bytes;
    for (int64_t t = 0; t < n; t++, to += row_bytes, x += cols)
        if (codes->bits)
            kv_encode(codes, x, (uint8_t *)to);
        else
            memcpy(to, x, (size_t)row_bytes);
}

/* The first n rows of one head of a cache; codes are decoded into `into`. */
static head cached(const bn_kv_codes *codes, const char *cache, int64_t n, int64_t kv_head,
                   int64_t row_bytes, real *into)
{
    if (!codes->bits)
        return (head){(const real *)(const void *)cache + kv_head * codes->head_dim,
                      codes->heads * codes->head_dim};
    for (int64_t t = 0; t < n; t++)
        kv_decode(codes, (const uint8_t *)cache + t * row_bytes, kv_head,
                  into + t * codes->head_dim);
    return (head){into, codes->head_dim};
}

/* q [B,T,H*hd], k, v [B,T,KV*hd], caches [S,P,KV*hd] -> o [B,T,H*hd]. Writes k
 * and v of a sequence into its cache from its position on; row t of q attends to
 * the positions 0 .. position+t. */
bn_status REF(bn_kv_attention_forward)(bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    int64_t B = c->in[0].shape[0], T = c->in[0].shape[1], W = c->in[0].shape[2];
    int64_t H = c->params->attention.heads, KV = c->params->attention.kv_heads, hd = W / H;
    int64_t P = bn_cache_positions(&c->in[3]);
    const bn_kv_codes codes = bn_op_kv_codes(c);
    const int64_t row_bytes = (int64_t)bn_tensor_bytes(&c->in[3]) / bn_tensor_rows(&c->in[3]);
    real *score = ref_data(&c->scratch), *keys = codes.bits ? score + P : NULL;
    BN_TRY(bn_op_check_cache(c));
    for (int64_t b = 0; b < B; b++) {
        int64_t first = bn_run_position(c->run, b);
        char *cache[2];
        for (int i = 0; i < 2; i++) {
            cache[i] = (char *)ref_data(&c->in[3 + i]) + (c->run->sequence + b) * P * row_bytes;
            append(&codes, ref_in(c, 1 + i) + b * T * KV * hd, T, cache[i], first, row_bytes);
        }
        for (int64_t h = 0; h < H; h++) {
            const int64_t kv = h / (H / KV);
            head k = cached(&codes, cache[0], first + T, kv, row_bytes, keys);
            head v =
                cached(&codes, cache[1], first + T, kv, row_bytes, keys ? keys + P * hd : NULL);
            for (int64_t t = 0; t < T; t++) {
                int64_t at = (b * T + t) * W + h * hd;
                attend(ref_in(c, 0) + at, k, v, first + t + 1, hd, score, ref_out(c, 0) + at);
            }
        }
    }
    return BN_OK;
}
