/* nvptx_builtins.cl - the OpenCL functions that the GPU kernels use, for compiling
 * them offline: the driver brings its own, clang alone has only declarations.
 * Enough for the assembler to see complete code; never run. */
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#define OVERLOAD __attribute__((overloadable, always_inline))

size_t OVERLOAD get_local_id(uint d)
{
    return d == 0 ? __nvvm_read_ptx_sreg_tid_x() : d == 1 ? __nvvm_read_ptx_sreg_tid_y() : 0;
}
size_t OVERLOAD get_group_id(uint d)
{
    return d == 0 ? __nvvm_read_ptx_sreg_ctaid_x() : d == 1 ? __nvvm_read_ptx_sreg_ctaid_y() : 0;
}
size_t OVERLOAD get_local_size(uint d)
{
    return d == 0 ? __nvvm_read_ptx_sreg_ntid_x() : d == 1 ? __nvvm_read_ptx_sreg_ntid_y() : 1;
}
size_t OVERLOAD get_num_groups(uint d)
{
    return d == 0 ? __nvvm_read_ptx_sreg_nctaid_x() : 1;
}
size_t OVERLOAD get_global_id(uint d)
{
    return d == 0 ? __nvvm_read_ptx_sreg_ctaid_x() * __nvvm_read_ptx_sreg_ntid_x() +
                        __nvvm_read_ptx_sreg_tid_x()
                  : __nvvm_read_ptx_sreg_ctaid_y() * __nvvm_read_ptx_sreg_ntid_y() +
                        __nvvm_read_ptx_sreg_tid_y();
}
void __attribute__((overloadable, always_inline, convergent)) barrier(cl_mem_fence_flags flags)
{
    (void)flags;
    __syncthreads();
}

#define MIN_MAX(T)                                                                                 \
    T OVERLOAD min(T a, T b)                                                                       \
    {                                                                                              \
        return b < a ? b : a;                                                                      \
    }                                                                                              \
    T OVERLOAD max(T a, T b)                                                                       \
    {                                                                                              \
        return a < b ? b : a;                                                                      \
    }
long OVERLOAD clamp(long x, long low, long high)
{
    return x < low ? low : x > high ? high : x;
}
MIN_MAX(int)
MIN_MAX(long)
MIN_MAX(uint)
MIN_MAX(ulong)

float OVERLOAD fma(float a, float b, float c)
{
    return __builtin_fmaf(a, b, c);
}
double OVERLOAD fma(double a, double b, double c)
{
    return __builtin_fma(a, b, c);
}
float OVERLOAD sqrt(float x)
{
    return __nvvm_sqrt_rn_f(x);
}
float4 OVERLOAD sqrt(float4 v)
{
    return (float4)(sqrt(v.s0), sqrt(v.s1), sqrt(v.s2), sqrt(v.s3));
}
double OVERLOAD sqrt(double x)
{
    return __nvvm_sqrt_rn_d(x);
}
float OVERLOAD fabs(float x)
{
    return __builtin_fabsf(x);
}
float OVERLOAD floor(float x)
{
    return __builtin_floorf(x);
}
float OVERLOAD clamp(float x, float low, float high)
{
    return x < low ? low : x > high ? high : x;
}
float OVERLOAD rint(float x)
{
    return __builtin_rintf(x);
}
int OVERLOAD mad24(int a, int b, int c)
{
    return a * b + c;
}
int4 OVERLOAD convert_int4(char4 v)
{
    return (int4)(v.s0, v.s1, v.s2, v.s3);
}
float4 OVERLOAD vload4(size_t i, const global float *p)
{
    p += 4 * i;
    return (float4)(p[0], p[1], p[2], p[3]);
}
char4 OVERLOAD vload4(size_t i, const global char *p)
{
    p += 4 * i;
    return (char4)(p[0], p[1], p[2], p[3]);
}
void OVERLOAD vstore4(float4 v, size_t i, global float *p)
{
    p += 4 * i;
    p[0] = v.s0, p[1] = v.s1, p[2] = v.s2, p[3] = v.s3;
}
int OVERLOAD atomic_cmpxchg(volatile global int *p, int expected, int value)
{
    int old;
    __asm__ volatile("atom.global.cas.b32 %0, [%1], %2, %3;"
                     : "=r"(old)
                     : "l"(p), "r"(expected), "r"(value)
                     : "memory");
    return old;
}
int OVERLOAD atomic_add(volatile local int *p, int x)
{
    int old;
    __asm__ volatile("atom.shared.add.u32 %0, [%1], %2;"
                     : "=r"(old)
                     : "r"((uint)(ulong)p), "r"(x)
                     : "memory");
    return old;
}
