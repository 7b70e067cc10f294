/* Trit arithmetic on 64-bit words. */
#include <stdint.h>

#define BN_TRIT_WORD uint64_t
#define BN_TRIT_OPS  bn_trit_ref
#include "quant/trit.inc"
