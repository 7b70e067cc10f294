/* ATTENTION and KV_ATTENTION. */
#include <math.h>

#include "base/checked.h"
#include "opencl/ocl_impl.h"

enum {
    BLOCK = 64, /* queries and keys of a block (CPU shape) */
    ITEMS_PER_CORE = 4,
    DELTA_GROUP = 64, /* queries of a group of the delta kernel (GPU shape) */
};

typedef struct job {
    int64_t B, T, S, H, KV, hd, position;
    const bn_tensor *k, *v; /* [B,S,KV*hd], or the caches */
    float scale;
} job;

static job job_of(const bn_op_call *c)
{
    job j = {.B = c->in[0].shape[0],
             .T = c->in[0].shape[1],
             .S = c->in[1].shape[1],
             .H = c->params->attention.heads,
             .KV = c->params->attention.kv_heads,
             .k = &c->in[1],
             .v = &c->in[2]};
    j.hd = c->in[0].shape[2] / j.H;
    j.scale = (float)(1 / sqrt((double)j.hd));
    return j;
}

/* ---- CPU shape: work-items that go through a list of tasks -------------------- */

static int64_t items_of(const bn_ocl *ocl, int64_t tasks)
{
    int64_t most = ITEMS_PER_CORE * (int64_t)ocl->device.compute_units;
    return tasks < most ? tasks : most;
}

static int64_t forward_tasks(const job *j)
{
    return j->B * j->H * bn_ceil_div(j->T, BLOCK);
}

/* Floats of a work-item, whole cache lines: columns, scores, values. */
static int64_t forward_floats(const job *j)
{
    return bn_ceil_div(BLOCK * (2 * j->hd + BLOCK), 32) * 32;
}

/* Two blocks of columns, two of scores, delta of the heads of a task. */
static int64_t backward_floats(const job *j)
{
    return bn_ceil_div(BLOCK * (2 * j->hd + 2 * BLOCK) + j->H / j->KV * j->T, 32) * 32;
}

/* ---- GPU shape: a program for each range of head dimensions -------------------- */

typedef struct head_kernels {
    int64_t most; /* head dimension */
    bn_ocl_kernel_id forward, delta, dq, dkv;
    int64_t queries, edge; /* BN_Q and EDGE of attention.cl */
} head_kernels;

static const head_kernels heads[] = {
    {32, BN_OCL_K_ATTENTION_TILES_32, BN_OCL_K_ATTENTION_DELTA_32, BN_OCL_K_ATTENTION_DQ_32,
     BN_OCL_K_ATTENTION_DKV_32, 64, 32},
    {64, BN_OCL_K_ATTENTION_TILES_64, BN_OCL_K_ATTENTION_DELTA_64, BN_OCL_K_ATTENTION_DQ_64,
     BN_OCL_K_ATTENTION_DKV_64, 64, 32},
    {128, BN_OCL_K_ATTENTION_TILES_128, BN_OCL_K_ATTENTION_DELTA_128, BN_OCL_K_ATTENTION_DQ_128,
     BN_OCL_K_ATTENTION_DKV_128, 32, 16},
};

static bn_status kernels_for(const bn_ocl *ocl, const job *j, const head_kernels **out)
{
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        if (j->hd <= heads[i].most) {
            *out = &heads[i];
            return BN_OK;
        }
    return bn_error(BN_FAIL, "%s: attention with a head dimension of %lld, GPU kernels take 128",
                    ocl->name, (long long)j->hd);
}

/* ---- forward --------------------------------------------------------------------- */

/* Both ops. */
static size_t forward_scratch(const bn_backend *backend, const bn_op_call *c)
{
    const bn_ocl *ocl = bn_ocl_of(backend);
    job j = job_of(c);
    return ocl->cpu_shape
               ? (size_t)(items_of(ocl, forward_tasks(&j)) * forward_floats(&j)) * sizeof(float)
               : 0;
}

static bn_status attend(bn_ocl *ocl, const bn_op_call *c, const job *j)
{
    const bn_tensor *lse = c->op == BN_OP_ATTENTION ? &c->out[1] : NULL;
    const head_kernels *k = NULL;
    if (ocl->cpu_shape)
        return BN_OCL_LAUNCH(ocl, BN_OCL_K_ATTENTION, items_of(ocl, forward_tasks(j)), 1, 1,
                             BN_OCL_T(&c->in[0]), BN_OCL_T(j->k), BN_OCL_T(j->v),
                             BN_OCL_T(&c->out[0]), BN_OCL_T(lse), BN_OCL_T(&c->scratch),
                             BN_OCL_I(j->B), BN_OCL_I(j->T), BN_OCL_I(j->S), BN_OCL_I(j->H),
                             BN_OCL_I(j->KV), BN_OCL_I(j->hd), BN_OCL_I(j->position),
                             BN_OCL_F(j->scale), BN_OCL_L(forward_floats(j)));
    BN_TRY(kernels_for(ocl, j, &k));
    return BN_OCL_LAUNCH(ocl, k->forward, bn_ceil_div(j->T, k->queries), j->B * j->H, 1,
                         BN_OCL_T(&c->in[0]), BN_OCL_T(j->k), BN_OCL_T(j->v), BN_OCL_T(&c->out[0]),
                         BN_OCL_T(lse), BN_OCL_I(j->T), BN_OCL_I(j->S), BN_OCL_I(j->H),
                         BN_OCL_I(j->KV), BN_OCL_I(j->hd), BN_OCL_I(j->position),
                         BN_OCL_F(j->scale));
}

/* q [B,T,H*hd], k, v [B,T,KV*hd] -> out [B,T,H*hd], log-sum-exp [B,H,T] */
static bn_status attention_forward(bn_backend *backend, const bn_op_call *c)
{
    job j = job_of(c);
    return attend(bn_ocl_of(backend), c, &j);
}

/* Copies [T, KV*hd] into a cache from row `first` on. */
static bn_status append(bn_ocl *ocl, const bn_tensor *rows, const bn_tensor *cache, int64_t first)
{
    int64_t n = bn_tensor_numel(rows), cols = bn_tensor_cols(rows);
    bn_tensor to =
        bn_ocl_part(cache, (size_t)(first * cols) * sizeof(float), (size_t)n * sizeof(float));
    return BN_OCL_LAUNCH(ocl, BN_OCL_K_COPY_ADD, bn_ocl_flat_groups(ocl, n), 1, 1, BN_OCL_T(rows),
                         BN_OCL_T(&to), BN_OCL_L(n), BN_OCL_I(0));
}

/* q [1,T,H*hd], k, v [1,T,KV*hd], caches [S,P,KV*hd] -> out [1,T,H*hd] */
static bn_status kv_attention_forward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    job j = job_of(c);
    int64_t P = bn_cache_positions(&c->in[3]), first = bn_run_position(c->run, 0);
    if (c->params->attention.cache_bits)
        return bn_error(BN_FAIL,
                        "%s: kv_attention reads caches of reals; device \"cpu\" also codes",
                        ocl->name);
    if (j.B > 1)
        return bn_error(BN_FAIL, "%s: kv_attention takes one sequence; device \"cpu\" several",
                        ocl->name);
    BN_TRY(bn_op_check_cache(c));
    bn_tensor cache[2];
    const size_t bytes = (size_t)(P * bn_tensor_cols(&c->in[3])) * sizeof(float);
    for (int i = 0; i < 2; i++)
        cache[i] = bn_ocl_part(&c->in[3 + i], (size_t)c->run->sequence * bytes, bytes);
    BN_TRY(append(ocl, &c->in[1], &cache[0], first));
    BN_TRY(append(ocl, &c->in[2], &cache[1], first));
    j.k = &cache[0];
    j.v = &cache[1];
    j.S = P;
    j.position = first;
    return attend(ocl, c, &j);
}

/* ---- backward -------------------------------------------------------------------- */

static size_t backward_scratch(const bn_backend *backend, const bn_op_call *c)
{
    const bn_ocl *ocl = bn_ocl_of(backend);
    job j = job_of(c);
    int64_t floats = ocl->cpu_shape ? items_of(ocl, j.B * j.KV) * backward_floats(&j)
                                    : j.B * j.H * j.T; /* delta */
    return (size_t)floats * sizeof(float);
}

static bn_status backward_groups(bn_ocl *ocl, const bn_op_call *c, const job *j, int add)
{
    const head_kernels *k = NULL;
    BN_TRY(kernels_for(ocl, j, &k));
    BN_TRY(BN_OCL_LAUNCH(ocl, k->delta, bn_ceil_div(j->T, DELTA_GROUP), j->B * j->H, 1,
                         BN_OCL_T(&c->out[0]), BN_OCL_T(&c->dout), BN_OCL_T(&c->scratch),
                         BN_OCL_I(j->T), BN_OCL_I(j->H), BN_OCL_I(j->hd)));
    if (bn_tensor_present(&c->din[0]))
        BN_TRY(BN_OCL_LAUNCH(ocl, k->dq, bn_ceil_div(j->T, k->edge), j->B * j->H, 1,
                             BN_OCL_T(&c->in[0]), BN_OCL_T(j->k), BN_OCL_T(j->v),
                             BN_OCL_T(&c->out[1]), BN_OCL_T(&c->dout), BN_OCL_T(&c->scratch),
                             BN_OCL_T(&c->din[0]), BN_OCL_I(j->T), BN_OCL_I(j->H), BN_OCL_I(j->KV),
                             BN_OCL_I(j->hd), BN_OCL_F(j->scale), BN_OCL_I(add & 1)));
    if (bn_tensor_present(&c->din[1]) || bn_tensor_present(&c->din[2]))
        BN_TRY(BN_OCL_LAUNCH(
            ocl, k->dkv, bn_ceil_div(j->T, k->edge), j->B * j->KV, 1, BN_OCL_T(&c->in[0]),
            BN_OCL_T(j->k), BN_OCL_T(j->v), BN_OCL_T(&c->out[1]), BN_OCL_T(&c->dout),
            BN_OCL_T(&c->scratch), BN_OCL_T(&c->din[1]), BN_OCL_T(&c->din[2]), BN_OCL_I(j->T),
            BN_OCL_I(j->H), BN_OCL_I(j->KV), BN_OCL_I(j->hd), BN_OCL_F(j->scale), BN_OCL_I(add)));
    return BN_OK;
}

static bn_status attention_backward(bn_backend *backend, const bn_op_call *c)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    job j = job_of(c);
    int add = 0;
    for (int i = 0; i < 3; i++)
        add |= c->accumulate[i] ? 1 << i : 0;
    if (!ocl->cpu_shape)
        return backward_groups(ocl, c, &j, add);
    return BN_OCL_LAUNCH(
        ocl, BN_OCL_K_ATTENTION_BACKWARD, items_of(ocl, j.B * j.KV), 1, 1, BN_OCL_T(&c->in[0]),
        BN_OCL_T(j.k), BN_OCL_T(j.v), BN_OCL_T(&c->out[0]), BN_OCL_T(&c->out[1]),
        BN_OCL_T(&c->dout), BN_OCL_T(&c->din[0]), BN_OCL_T(&c->din[1]), BN_OCL_T(&c->din[2]),
        BN_OCL_T(&c->scratch), BN_OCL_I(j.B), BN_OCL_I(j.T), BN_OCL_I(j.H), BN_OCL_I(j.KV),
        BN_OCL_I(j.hd), BN_OCL_F(j.scale), BN_OCL_I(add), BN_OCL_L(backward_floats(&j)));
}

void bn_ocl_rows_attention(bn_backend *backend)
{
    bn_ocl_set_row(backend, BN_OP_ATTENTION, attention_forward, attention_backward);
    backend->rows[BN_OP_ATTENTION].forward_scratch = forward_scratch;
    backend->rows[BN_OP_ATTENTION].backward_scratch = backward_scratch;
    bn_ocl_set_row(backend, BN_OP_KV_ATTENTION, kv_attention_forward, NULL);
    backend->rows[BN_OP_KV_ATTENTION].forward_scratch = forward_scratch;
}
