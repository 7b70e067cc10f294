#define REAL     float
#define FN(name) name##_f32
#define RINT     rintf
#define FABS     fabsf
#define FMA      fmaf

#include "quant/quantize.inc"
