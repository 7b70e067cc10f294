/* vec.h - the vectors that the row kernels are written in.
 *
 * The row kernels are compiled once per instruction set, with BN_VW (floats in
 * a vector: 4, 8 or 16) and BN_ISA (the name's suffix) from the build. Their
 * results are the same bits in every build: sums run over a fixed number of
 * lanes that are combined in a fixed tree, whatever BN_VW is, and no multiply
 * and add is fused.
 */
#ifndef BN_CPU_FAST_VEC_H
#define BN_CPU_FAST_VEC_H

#include <stdint.h>

#define BN_ISA_NAME_(name, isa) name##__##isa
#define BN_ISA_NAME(name, isa)  BN_ISA_NAME_(name, isa)
#define FAST(name)              BN_ISA_NAME(name, BN_ISA)

enum {
    VW = BN_VW,      /* floats in a vector */
    LANES = 16,      /* partial sums of every float reduction */
    NV = LANES / VW, /* vectors that hold them */
    DW = VW / 2,     /* doubles in a vector */
    DLANES = 8,      /* partial sums of every double reduction */
    ND = DLANES / DW,
};

typedef float vf __attribute__((vector_size(BN_VW * 4)));
typedef int32_t vi __attribute__((vector_size(BN_VW * 4)));
typedef int64_t vl __attribute__((vector_size(BN_VW * 4)));
typedef double vd __attribute__((vector_size(BN_VW * 4)));

/* The same without alignment, for loads and stores through any pointer. */
typedef float vf_any __attribute__((vector_size(BN_VW * 4), aligned(4), may_alias));
typedef double vd_any __attribute__((vector_size(BN_VW * 4), aligned(8), may_alias));
typedef float vfh_any __attribute__((vector_size(BN_VW * 2), aligned(4), may_alias));

#define BN_INLINE static inline __attribute__((always_inline))

/* Before a loop in which no iteration reads what an earlier one wrote; true in
 * place too, where the compiler would otherwise choose scalar code. */
#ifdef __clang__
#define VECTOR_LOOP _Pragma("clang loop vectorize(assume_safety)")
#else
#define VECTOR_LOOP _Pragma("GCC ivdep")
#endif

BN_INLINE vf vf_load(const float *p)
{
    return *(const vf_any *)p;
}

BN_INLINE void vf_store(float *p, vf v)
{
    *(vf_any *)p = v;
}

/* DW floats as doubles. */
BN_INLINE vd vd_load_floats(const float *p)
{
    return __builtin_convertvector(*(const vfh_any *)p, vd);
}

/* Sum of n values in pairs at distance n/2, n/4, ... 1; n a power of two. */
BN_INLINE float lanes_sum(float *lane)
{
    for (int h = LANES / 2; h > 0; h /= 2)
        for (int i = 0; i < h; i++)
            lane[i] += lane[i + h];
    return lane[0];
}

#endif
