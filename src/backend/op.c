#include "backend/op.h"

const bn_op_info bn_op_table[BN_OP_COUNT] = {
#define EXACT     BN_GRAD_EXACT
#define SURROGATE BN_GRAD_SURROGATE
#define NONE      BN_GRAD_NONE
#define BN_OP(ID, NAME, N_IN, N_OUT, GRADS, KEEPS, TRAITS, CONTRACT, WARN, FAIL)                   \
    [BN_OP_##ID] = {#NAME, N_IN, N_OUT, GRADS, KEEPS, TRAITS, CONTRACT, WARN, FAIL},
#include "backend/ops.def"
#undef BN_OP
#undef EXACT
#undef SURROGATE
#undef NONE
};
