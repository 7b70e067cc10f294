#define REAL     float
#define UINT     uint32_t
#define FN(name) name##_f32
#define RINT     rintf
#define FLOOR    floorf
#define FABS     fabsf
#define FMA      fmaf

#include "quant/quantize.inc"

#include "quant/estimator.inc"
