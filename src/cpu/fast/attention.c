/* Attention: chunks of one head and one block of queries (forward), or of one
 * key/value head of one sequence (backward), over threads. */
#include "cpu/fast/fast_impl.h"

#include <math.h>
#include <string.h>

enum { WORK_ALIGN = 32 }; /* floats */

int64_t bn_attention_work(int64_t head_dim, bool codes)
{
    return BN_ATTN_BLOCK * ((codes ? 3 : 2) * head_dim + BN_ATTN_BLOCK);
}

int64_t bn_attention_backward_work(int64_t head_dim, int64_t rows)
{
    return BN_ATTN_BLOCK * (2 * head_dim + 2 * BN_ATTN_BLOCK) + rows;
}

typedef struct attn_job {
    const bn_rowops *ops;
    const bn_op_call *call;
    int64_t B, T, H, KV, hd;
    const float *k, *v; /* [kv_rows, KV*hd] of each sequence: T, or those of the cache */
    int64_t kv_rows;
    bn_kv_codes codes; /* bits 0: none */
    const uint8_t *k_codes, *v_codes;
    const bn_run *run; /* positions in the cache; NULL: 0 */
    float *work;       /* of each worker */
    int64_t work_floats;
} attn_job;

static int64_t aligned(int64_t floats)
{
    return bn_ceil_div(floats, WORK_ALIGN) * WORK_ALIGN;
}

static attn_job job_of(const bn_backend *backend, const bn_op_call *c)
{
    attn_job j = {.ops = bn_fast_ops(backend),
                  .call = c,
                  .B = c->in[0].shape[0],
                  .T = c->in[0].shape[1],
                  .H = c->params->attention.heads,
                  .KV = c->params->attention.kv_heads};
    j.hd = c->in[0].shape[2] / j.H;
    j.kv_rows = j.T;
    j.codes = bn_op_kv_codes(c);
    j.work_floats = aligned(bn_attention_work(j.hd, j.codes.bits != 0));
    return j;
}

/* Head h of sequence b. */
static bn_attn head_of(const attn_job *j, int64_t b, int64_t h)
{
    int64_t wide = b * j->T * j->H * j->hd + h * j->hd, kv_head = h / (j->H / j->KV);
    bn_attn head = {
        .q = bn_fast_in(j->call, 0) + wide,
        .out = bn_fast_out(j->call, 0) + wide,
        .ld_q = j->H * j->hd,
        .head_dim = j->hd,
        .rows = j->T,
        .position = j->run ? bn_run_position(j->run, b) : 0,
        .scale = (float)(1 / sqrt((double)j->hd)),
    };
    if (j->codes.bits) {
        const int64_t from = b * j->kv_rows * bn_kv_row_bytes(&j->codes);
        head.codes = &j->codes;
        head.k_rows = j->k_codes + from;
        head.v_rows = j->v_codes + from;
        head.kv_head = kv_head;
        return head;
    }
    const int64_t narrow = b * j->kv_rows * j->KV * j->hd + kv_head * j->hd;
    head.k = j->k + narrow;
    head.v = j->v + narrow;
    head.ld_kv = j->KV * j->hd;
    return head;
}

static void forward(void *arg, int64_t chunk, int worker)
{
    const attn_job *j = arg;
    int64_t blocks = bn_ceil_div(j->T, BN_ATTN_BLOCK), bh = chunk / blocks;
    int64_t row0 = (blocks - 1 - chunk % blocks) * BN_ATTN_BLOCK; /* the longest first */
    bn_attn head = head_of(j, bh / j->H, bh % j->H);
    if (bn_tensor_present(&j->call->out[1]))
        head.lse = bn_fast_out(j->call, 1) + bh * j->T;
    j->ops->attention(&head, row0, bn_fast_min(BN_ATTN_BLOCK, j->T - row0),
                      j->work + worker * j->work_floats);
}

static void run_forward(bn_backend *backend, attn_job *j)
{
    j->work = bn_fast_data(&j->call->scratch);
    bn_parallel_for(bn_cpu_of(backend)->threads, j->B * j->H * bn_ceil_div(j->T, BN_ATTN_BLOCK),
                    forward, j);
}

/* Both attention ops. */
size_t bn_fast_attention_forward_scratch(const bn_backend *backend, const bn_op_call *c)
{
    return (size_t)(job_of(backend, c).work_floats * bn_fast_workers(backend)) * sizeof(float);
}

/* q [B,T,H*hd], k, v [B,T,KV*hd] -> out [B,T,H*hd], log-sum-exp [B,H,T] */
bn_status bn_fast_attention_forward(bn_backend *backend, const bn_op_call *c)
{
    attn_job j = job_of(backend, c);
    j.k = bn_fast_in(c, 1);
    j.v = bn_fast_in(c, 2);
    run_forward(backend, &j);
    return BN_OK;
}

/* k or v of every sequence [B,T,KV*hd] into its cache; returns the cache of the
 * first one. */
static const void *append(const attn_job *j, int which)
{
    const bn_op_call *c = j->call;
    const bn_tensor *cache = &c->in[3 + which];
    const int64_t row = j->KV * j->hd;
    const int64_t bytes = j->codes.bits ? bn_kv_row_bytes(&j->codes) : row * (int64_t)sizeof(float);
    uint8_t *first = (uint8_t *)bn_fast_data(cache) + c->run->sequence * j->kv_rows * bytes;
    const float *x = bn_fast_in(c, 1 + which);
    for (int64_t b = 0; b < j->B; b++, x += j->T * row) {
        uint8_t *to = first + (b * j->kv_rows + bn_run_position(c->run, b)) * bytes;
        if (!j->codes.bits)
            memcpy(to, x, (size_t)(j->T * bytes));
        for (int64_t t = 0; j->codes.bits && t < j->T; t++)
            j->ops->kv_encode(&j->codes, x + t * row, to + t * bytes);
    }
    return first;
}

/* q [B,T,H*hd], k, v [B,T,KV*hd], caches [S,P,KV*hd] or rows of codes ->
 * out [B,T,H*hd] */
bn_status bn_fast_kv_attention_forward(bn_backend *backend, const bn_op_call *c)
{
    attn_job j = job_of(backend, c);
    BN_TRY(bn_op_check_cache(c));
    j.kv_rows = bn_cache_positions(&c->in[3]);
    j.run = c->run;
    const void *k = append(&j, 0), *v = append(&j, 1);
    if (j.codes.bits) {
        j.k_codes = k;
        j.v_codes = v;
    } else {
        j.k = k;
        j.v = v;
    }
    run_forward(backend, &j);
    return BN_OK;
}

/* Zeroes one head's columns where the gradient is to be stored. */
static void clear_head(float *grad, int64_t rows, int64_t ld, int64_t head_dim, bool add)
{
    for (int64_t t = 0; grad && !add && t < rows; t++)
        memset(grad + t * ld, 0, (size_t)head_dim * sizeof *grad);
}

static float *shifted(float *p, int64_t by)
{
    return p ? p + by : NULL;
}

static int64_t backward_floats(const attn_job *j)
{
    int64_t heads = j->H / j->KV, as_floats = bn_ceil_div((int64_t)sizeof(bn_attn), 4);
    return aligned(heads * as_floats) + aligned(bn_attention_backward_work(j->hd, heads * j->T));
}

static void backward(void *arg, int64_t chunk, int worker)
{
    const attn_job *j = arg;
    const bn_op_call *c = j->call;
    int64_t b = chunk / j->KV, kv = chunk % j->KV, n = j->H / j->KV;
    bn_attn *heads = (bn_attn *)(void *)(j->work + worker * j->work_floats);
    float *work = (float *)heads + aligned(n * bn_ceil_div((int64_t)sizeof *heads, 4));
    for (int64_t i = 0; i < n; i++) {
        int64_t h = kv * n + i, wide = b * j->T * j->H * j->hd + h * j->hd;
        heads[i] = head_of(j, b, h);
        heads[i].lse = (float *)bn_fast_data(&c->out[1]) + (b * j->H + h) * j->T;
        heads[i].dout = (const float *)bn_fast_data(&c->dout) + wide;
        heads[i].dq = shifted(bn_fast_din(c, 0), wide);
        heads[i].dk = shifted(bn_fast_din(c, 1), heads[i].k - j->k);
        heads[i].dv = shifted(bn_fast_din(c, 2), heads[i].v - j->v);
        clear_head(heads[i].dq, j->T, heads[i].ld_q, j->hd, c->accumulate[0]);
    }
    clear_head(heads[0].dk, j->T, heads[0].ld_kv, j->hd, c->accumulate[1]);
    clear_head(heads[0].dv, j->T, heads[0].ld_kv, j->hd, c->accumulate[2]);
    j->ops->attention_backward(heads, n, work);
}

size_t bn_fast_attention_backward_scratch(const bn_backend *backend, const bn_op_call *c)
{
    attn_job j = job_of(backend, c);
    return (size_t)(backward_floats(&j) * bn_fast_workers(backend)) * sizeof(float);
}

bn_status bn_fast_attention_backward(bn_backend *backend, const bn_op_call *c)
{
    attn_job j = job_of(backend, c);
    j.k = bn_fast_in(c, 1);
    j.v = bn_fast_in(c, 2);
    j.work = bn_fast_data(&c->scratch);
    j.work_floats = backward_floats(&j);
    bn_parallel_for(bn_cpu_of(backend)->threads, j.B * j.KV, backward, &j);
    return BN_OK;
}
