#define REAL     double
#define UINT     uint64_t
#define FN(name) name##_f64
#define RINT     rint
#define FLOOR    floor
#define FABS     fabs
#define FMA      fma

#include "quant/quantize.inc"

#include "quant/estimator.inc"
