/* Trit arithmetic (quant/trit.h) on the vectors of one instruction set. */
#include "cpu/fast/row_impl.h"

typedef uint64_t vector __attribute__((vector_size(BN_VW * 4)));

#define BN_TRIT_WORD vector
#define BN_TRIT_OPS  FAST(bn_trits)
#include "quant/trit.inc"
