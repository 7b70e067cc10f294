#define REAL     double
#define FN(name) name##_f64
#define RINT     rint
#define FABS     fabs
#define FMA      fma

#include "quant/quantize.inc"
