/* The table of reference kernels, made from ops.def. */
#include "cpu/ref/ref.h"

#include "cpu/cpu_impl.h"

#define NO_FORWARD(traits)  ((traits)&BN_VIEW)
#define NO_BACKWARD(traits) ((traits) & (BN_PASS | BN_NOGRAD))

static const bn_kernel_row rows[BN_OP_COUNT] = {
#define BN_OP(ID, name, n_in, n_out, grads, keeps, traits, ...)                                    \
    [BN_OP_##ID] = {                                                                               \
        .forward = NO_FORWARD(traits) ? NULL : REF(bn_##name##_forward),                           \
        .backward = NO_BACKWARD(traits) ? NULL : REF(bn_##name##_backward),                        \
        .forward_variant = NO_FORWARD(traits) ? NULL : "ref",                                      \
        .backward_variant = NO_BACKWARD(traits) ? NULL : "ref",                                    \
    },
#include "backend/ops.def"
#undef BN_OP
};

#if BN_REF_F64
#define fill bn_ref_fill_f64
#else
#define fill bn_ref_fill_f32
#endif

void fill(bn_backend *backend)
{
    bn_kernel_row *row = backend->rows;
    memcpy(row, rows, sizeof rows);
    row[BN_OP_ACT_FAKE_QUANT].forward_scratch = REF(bn_act_fake_quant_scratch);
    row[BN_OP_WEIGHT_FAKE_QUANT].forward_scratch = REF(bn_weight_fake_quant_scratch);
    row[BN_OP_WEIGHT_ESTIMATOR].backward_scratch = REF(bn_weight_estimator_scratch);
    row[BN_OP_ATTENTION].forward_scratch = REF(bn_attention_forward_scratch);
    row[BN_OP_ATTENTION].backward_scratch = REF(bn_attention_backward_scratch);
    row[BN_OP_KV_ATTENTION].forward_scratch = REF(bn_kv_attention_forward_scratch);
    row[BN_OP_RELATION_KL].forward_scratch = REF(bn_relation_kl_scratch);
    row[BN_OP_RELATION_KL].backward_scratch = REF(bn_relation_kl_scratch);
    row[BN_OP_LINEAR_CROSS_ENTROPY].forward_scratch = REF(bn_linear_cross_entropy_scratch);
    row[BN_OP_LINEAR_CROSS_ENTROPY].backward_scratch = REF(bn_linear_cross_entropy_scratch);
    backend->adamw = REF(bn_adamw_step);
    backend->adamw8bit = REF(bn_adamw8bit_step);
    backend->sgd = REF(bn_sgd_step);
    backend->muon = REF(bn_muon_step);
    backend->norm = REF(bn_norm);
    backend->scale = REF(bn_scale);
}
