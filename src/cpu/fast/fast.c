#include "cpu/fast/fast.h"

#include <string.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include "cpu/blas/blas.h"
#include "cpu/fast/fast_impl.h"

#if defined(__x86_64__)
bool bn_cpu_runs_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool bn_cpu_runs_avx512(void)
{
    return bn_cpu_runs_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq");
}
#else
bool bn_cpu_runs_avx2(void)
{
    return false;
}

bool bn_cpu_runs_avx512(void)
{
    return false;
}
#endif

bool bn_cpu_runs_neondot(void)
{
#if defined(__aarch64__)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
    return false;
#endif
}

static const bn_fast generic = {"generic", &bn_rowops__generic, NULL, &bn_trits__generic,
                                bn_fixed_tile__generic};

#if defined(__x86_64__)
static const bn_fast avx2 = {"avx2", &bn_rowops__avx2, &bn_ternary__avx2, &bn_trits__avx2,
                             bn_fixed_tile__avx2};
static const bn_fast avx512 = {"avx512", &bn_rowops__avx512, &bn_ternary__avx2, &bn_trits__avx512,
                               bn_fixed_tile__avx2};
static const bn_fast avx512vnni = {"avx512", &bn_rowops__avx512, &bn_ternary__avx512vnni,
                                   &bn_trits__avx512, bn_fixed_tile__avx2};
#elif defined(__aarch64__)
/* Vectors of four floats are NEON's own. */
static const bn_fast neon = {"neon", &bn_rowops__generic, &bn_ternary__neon, &bn_trits__generic,
                             bn_fixed_tile__generic};
static const bn_fast neondot = {"neondot", &bn_rowops__generic, &bn_ternary__neondot,
                                &bn_trits__generic, bn_fixed_tile__generic};
#endif

/* The kernels of a backend's isa; NULL if there are none. */
static const bn_fast *kernels_of(const char *isa)
{
#if defined(__x86_64__)
    if (strcmp(isa, "avx512") == 0)
        return __builtin_cpu_supports("avx512vnni") ? &avx512vnni : &avx512;
    if (strcmp(isa, "avx2") == 0)
        return &avx2;
#elif defined(__aarch64__)
    if (strcmp(isa, "neondot") == 0)
        return &neondot;
    if (strcmp(isa, "neon") == 0)
        return &neon;
#endif
    return strcmp(isa, "generic") == 0 ? &generic : NULL;
}

/* One row of the overlay; a NULL kernel leaves the reference one. */
typedef struct overlay {
    bn_op op;
    bn_kernel forward, backward;
    bn_scratch_rule forward_scratch, backward_scratch;
    bool forward_is_blas, backward_is_blas; /* the variant's name */
} overlay;

static const overlay rows[] = {
    {BN_OP_EMBEDDING, bn_fast_embedding_forward, bn_fast_embedding_backward, NULL, NULL, 0, 0},
    {BN_OP_LINEAR, bn_blas_linear_forward, bn_blas_linear_backward, NULL,
     bn_blas_linear_backward_scratch, 1, 1},
    {BN_OP_MATMUL, bn_blas_matmul_forward, bn_blas_matmul_backward, NULL, NULL, 1, 1},
    {BN_OP_ACT_QUANT, bn_fast_act_quant_forward, NULL, bn_fast_act_quant_scratch, NULL, 0, 0},
    {BN_OP_WEIGHT_QUANT, bn_fast_weight_quant_forward, NULL, bn_fast_weight_quant_scratch, NULL, 0,
     0},
    {BN_OP_ACT_FAKE_QUANT, bn_fast_act_fake_quant_forward, NULL, bn_fast_fake_quant_scratch, NULL,
     0, 0},
    {BN_OP_WEIGHT_FAKE_QUANT, bn_fast_weight_fake_quant_forward, NULL, bn_fast_fake_quant_scratch,
     NULL, 0, 0},
    {BN_OP_WEIGHT_ESTIMATOR, NULL, bn_fast_weight_estimator_backward, NULL,
     bn_fast_weight_estimator_scratch, 0, 0},
    {BN_OP_BITLINEAR, bn_fast_bitlinear_forward, bn_fast_bitlinear_backward,
     bn_fast_bitlinear_forward_scratch, bn_fast_bitlinear_backward_scratch, 0, 0},
    {BN_OP_ADD, bn_fast_add_forward, bn_fast_add_backward, NULL, NULL, 0, 0},
    {BN_OP_MUL, bn_fast_mul_forward, bn_fast_mul_backward, NULL, NULL, 0, 0},
    {BN_OP_SILU, bn_fast_unary_forward, bn_fast_unary_backward, NULL, NULL, 0, 0},
    {BN_OP_RELU2, bn_fast_unary_forward, bn_fast_unary_backward, NULL, NULL, 0, 0},
    {BN_OP_GLU, bn_fast_glu_forward, bn_fast_glu_backward, NULL, NULL, 0, 0},
    {BN_OP_RMSNORM, bn_fast_rmsnorm_forward, bn_fast_rmsnorm_backward, NULL,
     bn_fast_rmsnorm_backward_scratch, 0, 0},
    {BN_OP_ROPE, bn_fast_rope_forward, bn_fast_rope_backward, NULL, NULL, 0, 0},
    {BN_OP_HADAMARD, bn_fast_hadamard_forward, bn_fast_hadamard_backward, NULL, NULL, 0, 0},
    {BN_OP_ATTENTION, bn_fast_attention_forward, bn_fast_attention_backward,
     bn_fast_attention_forward_scratch, bn_fast_attention_backward_scratch, 0, 0},
    {BN_OP_KV_ATTENTION, bn_fast_kv_attention_forward, NULL, bn_fast_attention_forward_scratch,
     NULL, 0, 0},
    {BN_OP_SOFTMAX, bn_fast_softmax_forward, bn_fast_softmax_backward, NULL, NULL, 0, 0},
    {BN_OP_CROSS_ENTROPY, bn_fast_cross_entropy_forward, bn_fast_cross_entropy_backward, NULL, NULL,
     0, 0},
    {BN_OP_LINEAR_CROSS_ENTROPY, bn_blas_linear_cross_entropy_forward,
     bn_blas_linear_cross_entropy_backward, bn_blas_linear_cross_entropy_scratch,
     bn_blas_linear_cross_entropy_scratch, 1, 1},
    {BN_OP_DISTILL_KL, bn_fast_distill_kl_forward, bn_fast_distill_kl_backward,
     bn_fast_distill_kl_scratch, NULL, 0, 0},
    {BN_OP_RELATION_KL, bn_fast_relation_kl_forward, bn_fast_relation_kl_backward,
     bn_fast_relation_kl_scratch, bn_fast_relation_kl_scratch, 0, 0},
    {BN_OP_DROPOUT, bn_fast_dropout_forward, bn_fast_dropout_backward, NULL, NULL, 0, 0},
};

const bn_trit_ops *bn_cpu_trits(const bn_backend *backend)
{
    const bn_fast *fast = bn_cpu_of(backend)->fast;
    return fast ? fast->trits : &bn_trit_ref;
}

bn_status bn_cpu_overlay_fast(bn_backend *backend)
{
    bn_cpu *cpu = bn_cpu_of(backend);
    cpu->fast = kernels_of(cpu->isa);
    if (!cpu->fast)
        return bn_error(BN_FAIL, "cpu: no fast kernels for '%s'", cpu->isa);
    bn_blas_init();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const overlay *o = &rows[i];
        bn_kernel_row *row = &backend->rows[o->op];
        if (o->forward) {
            row->forward = o->forward;
            row->forward_scratch = o->forward_scratch;
            row->forward_variant = o->forward_is_blas ? "openblas" : cpu->fast->isa;
        }
        if (o->backward) {
            row->backward = o->backward;
            row->backward_scratch = o->backward_scratch;
            row->backward_variant = o->backward_is_blas ? "openblas" : cpu->fast->isa;
        }
    }
    if (cpu->fast->ternary) {
        backend->arrange = bn_fast_arrange;
        backend->weights |= 1u << BN_T2_LANES;
    } else {
        backend->rows[BN_OP_BITLINEAR].forward_variant = "ref";
    }
    backend->adamw = bn_fast_adamw;
    backend->adamw8bit = bn_fast_adamw8bit;
    backend->sgd = bn_fast_sgd;
    backend->muon = bn_blas_muon;
    backend->norm = bn_fast_norm;
    backend->scale = bn_fast_scale;
    return BN_OK;
}
