/* prelude.cl - in front of every program.
 *
 * Macros given by the host: BN_CPU (1: CPU shape, local size 1 x 1, wide
 * vectors, no barriers; 0: GPU shape), BN_FP64, BN_NVIDIA, BN_INT_DOT (claimed
 * capabilities), BN_GROUP (work-items per group of a row kernel, GPU shape).
 *
 * Numerics (docs/numerics.md): a product and a sum are fused only where fma()
 * is written.
 */
#pragma OPENCL FP_CONTRACT OFF
#if BN_FP64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif

/* A tensor argument: signature letter b. Arenas are large, so a tensor is a
 * buffer and a byte offset. BN_POINTER makes the typed pointer `name`. */
#define BN_BUFFER(name)        global char *name##_base, const ulong name##_offset
#define BN_POINTER(type, name) global type *const name = (global type *)(name##_base + name##_offset)

/* Reports an index outside its range; the first report stays. flag: int[4]. */
#define BN_RAISE(flag, op, value, row)                                                             \
    do {                                                                                           \
        if (atomic_cmpxchg((flag), 0, (op)) == 0) {                                                \
            (flag)[1] = (value);                                                                   \
            (flag)[2] = (int)(row);                                                                \
        }                                                                                          \
    } while (0)

/* ---- e^x: the same steps as src/base/mathf.h, in widths 1, 4, 8 and 16 ---- */
#define BN_EXP_BODY(F, I, name, as_i, as_f)                                                        \
    F name(F x)                                                                                    \
    {                                                                                              \
        const F magic = (F)(0x1.8p23f);                                                            \
        x = x < (F)(-104.0f) ? (F)(-104.0f) : x;                                                   \
        x = x > (F)(89.0f) ? (F)(89.0f) : x;                                                       \
        const F shifted = x * (F)(0x1.715476p+0f) + magic;                                         \
        const F n = shifted - magic;                                                               \
        F r = x - n * (F)(0x1.62e4p-1f);                                                           \
        r = r - n * (F)(0x1.7f7d1cp-20f);                                                          \
        F p = (F)(0x1.9efcdcp-13f);                                                                \
        p = p * r + (F)(0x1.6d9bd6p-10f);                                                          \
        p = p * r + (F)(0x1.11128ep-7f);                                                           \
        p = p * r + (F)(0x1.55547ep-5f);                                                           \
        p = p * r + (F)(0x1.555554p-3f);                                                           \
        p = p * r + (F)(0.5f);                                                                     \
        const F value = (F)(1.0f) + (r + r * r * p);                                               \
        const I k = as_i(shifted) - as_i(magic);                                                   \
        const I low = k >> 1;                                                                      \
        return value * as_f((low + 127) << 23) * as_f((k - low + 127) << 23);                      \
    }
BN_EXP_BODY(float, int, bn_exp, as_int, as_float)
BN_EXP_BODY(float4, int4, bn_exp4, as_int4, as_float4)
BN_EXP_BODY(float8, int8, bn_exp8, as_int8, as_float8)
BN_EXP_BODY(float16, int16, bn_exp16, as_int16, as_float16)
