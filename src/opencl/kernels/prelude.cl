/* prelude.cl - in front of every program.
 *
 * Macros given by the host: BN_CPU (1: CPU shape, local size 1 x 1, wide
 * vectors, no barriers; 0: GPU shape), BN_FP64, BN_NVIDIA (inline PTX is
 * understood), BN_MMA (tensor cores, see below), BN_GROUP (work-items per group of
 * a row kernel, GPU shape).
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

/* Before loops over arrays that must live in registers (GPU shape). On a CPU
 * device, where tests run that shape, unrolled code only takes long to compile. */
#if defined(__x86_64__) || defined(__aarch64__)
#define BN_UNROLL
#else
#define BN_UNROLL _Pragma("unroll")
#endif

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

/* ---- bfloat16: the upper half of a float, rounded to nearest even; NaN stays -------- */
#define BN_BF16_BODY(F, U, name, as_u, as_f)                                                       \
    F name(F x)                                                                                    \
    {                                                                                              \
        const U bits = as_u(x), nearest = bits + (U)(0x7fffu) + (bits >> (U)(16u) & (U)(1u));      \
        const F rounded = as_f(nearest & (U)(0xffff0000u));                                        \
        return x == x ? rounded : x;                                                               \
    }
BN_BF16_BODY(float, uint, bn_bf16_round, as_uint, as_float)
BN_BF16_BODY(float16, uint16, bn_bf16_round16, as_uint16, as_float16)

/* ---- packed codes (BN_T2: byte j of a row holds elements 4j .. 4j+3, low bits
 * first, each as code + 1) ---- */

/* Four fields of a packed byte, each in its own byte. */
static inline uint bn_spread_fields(uint byte)
{
    const uint pair = byte | byte << 6;
    return (pair | pair << 12) & 0x03030303u;
}

/* The fields of elements k .. k+n-1 (n <= 16) of a packed row as 2 n low bits; past
 * the row's end anything. */
static inline uint bn_fields(const global uchar *row, int k, int n, int row_bytes)
{
    const int first = k >> 2, shift = 2 * (k & 3), bytes = (shift + 2 * n + 7) / 8;
    ulong bits = 0;
    for (int i = 0; i < bytes; i++)
        if (first + i < row_bytes)
            bits |= (ulong)row[first + i] << 8 * i;
    return (uint)(bits >> shift);
}

/* The same of four elements, each field in its own byte. */
static inline uint bn_four_fields(const global uchar *row, int k, int row_bytes)
{
    const int shift = 2 * (k & 3);
    uint fields = row[k >> 2] >> shift;
    if (shift && (k >> 2) + 1 < row_bytes)
        fields |= (uint)row[(k >> 2) + 1] << (8 - shift);
    return bn_spread_fields(fields & 0xffu);
}

/* Elements k .. k+3 of a row of x as bytes of an int, zero from `end` on. */
static inline int bn_x_quad(const global char *row, int k, int end)
{
    char4 v = (char4)(0);
    if (k + 4 <= end) {
        v = vload4(0, row + k);
    } else {
        v.s0 = k < end ? row[k] : 0;
        v.s1 = k + 1 < end ? row[k + 1] : 0;
        v.s2 = k + 2 < end ? row[k + 2] : 0;
    }
    return as_int(v);
}

/* ---- tensor cores ----------------------------------------------------------------
 *
 * c += a b by one warp (32 neighbouring work-items), c [16,8], k = 32 int8 or 16
 * bfloat16. Lane 4 g + t holds (PTX ISA, "mma.m16n8k32", "mma.m16n8k16")
 *
 *     a[0], a[1]   rows g, g + 8, 4 bytes of k from 4 t on: 4 int8 or 2 bfloat16
 *     a[2], a[3]   the same rows, 16 bytes of k further
 *     b[0], b[1]   column g, as a[0], a[2]
 *     c[0], c[1]   row g, columns 2 t, 2 t + 1;  c[2], c[3]  row g + 8
 *
 * A row's 16 bytes are 4 t in both halves. Which k a slot stands for is free as
 * long as a and b agree, so the kernels give a lane 16 bytes of k that lie together
 * and get two products' operands with one load.
 *
 * BN_MMA 1: the instruction. 2: its definition, over local memory, so that tests
 * run the kernels on any device; 3: a wrong one, 4: one that does not compile, for
 * the tests of the self-test. `lanes`: BN_MMA_LOCAL(n) for groups of n.
 */
#if BN_MMA == 1

#define BN_MMA_LOCAL(n)
#define BN_MMA_LANES 0

static inline void bn_mma_s8(int *c, const uint *a, const uint *b, local uint *lanes)
{
    __asm__ volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, "
                     "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static inline void bn_mma_bf16(float *c, const uint *a, const uint *b, local uint *lanes)
{
    __asm__ volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                     "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Bytes of {b,a} that the four nibbles of `select` (0..7) name, a first. */
static inline uint bn_bytes(uint a, uint b, uint select)
{
    uint d;
    __asm__("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(select));
    return d;
}

/* Two floats as bfloat16, the first in the low half. */
static inline uint bn_bf16_pair(float low, float high)
{
    uint d;
    __asm__("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
    return d;
}

/* 16 bytes to local memory, zeros unless `valid`; done after bn_copies_wait() and
 * a barrier. Both addresses are multiples of 16. */
static inline void bn_copy_16(local uint4 *to, const global char *from, int valid)
{
    __asm__ volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                     :
                     : "r"((uint)(ulong)to), "l"(from), "r"(valid ? 16 : 0)
                     : "memory");
}

static inline void bn_copies_wait(void)
{
    __asm__ volatile("cp.async.wait_all;" : : : "memory");
}

#elif BN_MMA > 1

#if BN_MMA == 4
#error "no such instruction"
#endif
#define BN_MMA_LOCAL(n) local uint bn_mma_lanes[6 * (n)];
#define BN_MMA_LANES bn_mma_lanes

/* Every lane's operands into `lanes`; returns those of this one's warp. As bn_mma_s8
 * and bn_mma_bf16 below not static: see docs/opencl.md, "PoCL and local arrays". */
const local uint *bn_mma_exchange(const uint *a, const uint *b, local uint *lanes)
{
    const int id = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = 0; i < 4; i++)
        lanes[6 * id + i] = a[i];
    for (int i = 0; i < 2; i++)
        lanes[6 * id + 4 + i] = b[i];
    barrier(CLK_LOCAL_MEM_FENCE);
    return lanes + 6 * (id & ~31);
}

/* The words of row `row` of a and column `col` of b at word w (0..7) of their k. */
#define BN_MMA_A(warp, row, w)                                                                     \
    (warp)[6 * (4 * ((row) & 7) + ((w) & 3)) + ((row) >> 3) + 2 * ((w) >> 2)]
#define BN_MMA_B(warp, col, w) (warp)[6 * (4 * (col) + ((w) & 3)) + 4 + ((w) >> 2)]

void bn_mma_s8(int *c, const uint *a, const uint *b, local uint *lanes)
{
    const local uint *warp = bn_mma_exchange(a, b, lanes);
    const int g = get_local_id(0) % 32 / 4, t = get_local_id(0) % 4;
    for (int i = 0; i < 4; i++)
        for (int w = 0; w < 8; w++) {
            const char4 x = as_char4(BN_MMA_A(warp, g + 8 * (i / 2), w));
            const char4 y = as_char4(BN_MMA_B(warp, 2 * t + i % 2, w));
            c[i] += x.s0 * y.s0 + x.s1 * y.s1 + x.s2 * y.s2 + x.s3 * y.s3 + (BN_MMA == 3);
        }
}

void bn_mma_bf16(float *c, const uint *a, const uint *b, local uint *lanes)
{
    const local uint *warp = bn_mma_exchange(a, b, lanes);
    const int g = get_local_id(0) % 32 / 4, t = get_local_id(0) % 4;
    for (int i = 0; i < 4; i++)
        for (int w = 0; w < 8; w++) {
            const uint x = BN_MMA_A(warp, g + 8 * (i / 2), w), y = BN_MMA_B(warp, 2 * t + i % 2, w);
            c[i] = fma(as_float(x << 16), as_float(y << 16), c[i] + (BN_MMA == 3));
            c[i] = fma(as_float(x & 0xffff0000u), as_float(y & 0xffff0000u), c[i]);
        }
}

static inline uint bn_bytes(uint a, uint b, uint select)
{
    uint d = 0;
    for (int i = 0; i < 4; i++) {
        const uint from = select >> 4 * i & 7u;
        d |= ((from < 4 ? a : b) >> 8 * (from & 3u) & 0xffu) << 8 * i;
    }
    return d;
}

static inline uint bn_bf16_pair(float low, float high)
{
    return as_uint(bn_bf16_round(low)) >> 16 | (as_uint(bn_bf16_round(high)) & 0xffff0000u);
}

static inline void bn_copy_16(local uint4 *to, const global char *from, int valid)
{
    *to = valid ? *(const global uint4 *)from : (uint4)(0);
}

static inline void bn_copies_wait(void)
{
}

#endif

/* ---- one body, two shapes ------------------------------------------------------
 *
 * A kernel's loop is written once for a vector and once for a single element.
 * CPU shape: BN_V = 16 elements at a time, then the rest one by one. GPU shape:
 * flat kernels take BN_V = 4 at a time, row kernels one element per work-item.
 */
#if BN_CPU
#define BN_V       16
#define bn_vec     float16
#define bn_ivec    int16
#define bn_vload   vload16
#define bn_vstore  vstore16
#define bn_expv    bn_exp16
#else
#define BN_V       4
#define bn_vec     float4
#define bn_ivec    int4
#define bn_vload   vload4
#define bn_vstore  vstore4
#define bn_expv    bn_exp4
#endif
#define BN_LOAD(p, i)     bn_vload(0, (p) + (i))
#define BN_STORE(v, p, i) bn_vstore((v), 0, (p) + (i))

/* A flat kernel's share of 0..n-1: BN_FLAT elements per work-item (CPU shape)
 * or per group. VECTOR and SINGLE are statements that use i. */
#if BN_CPU
#define BN_FLAT_LOOP(i, n, VECTOR, SINGLE)                                                         \
    do {                                                                                           \
        long i = (long)get_group_id(0) * BN_FLAT;                                                  \
        const long i##_end = min(i + BN_FLAT, (n));                                                \
        for (; i + BN_V <= i##_end; i += BN_V) {                                                   \
            VECTOR;                                                                                \
        }                                                                                          \
        for (; i < i##_end; i++) {                                                                 \
            SINGLE;                                                                                \
        }                                                                                          \
    } while (0)
#else
#define BN_FLAT_LOOP(i, n, VECTOR, SINGLE)                                                         \
    do {                                                                                           \
        long i = (long)get_group_id(0) * BN_FLAT + (long)get_local_id(0) * BN_V;                   \
        const long i##_end = min(i + BN_V, (n));                                                   \
        if (i + BN_V <= i##_end) {                                                                 \
            VECTOR;                                                                                \
        } else {                                                                                   \
            for (; i < i##_end; i++) {                                                             \
                SINGLE;                                                                            \
            }                                                                                      \
        }                                                                                          \
    } while (0)
#endif

/* A row kernel: BN_ROWS(r, R, per_item) { ... } visits its rows; inside,
 * BN_ROW_LOOP visits a row's elements. In the GPU shape a group has one row
 * (per_item is 1) and its work-items share it, so the body may hold barriers:
 * every work-item of a group takes the same path. */
#define BN_ROWS(r, R, per_item)                                                                    \
    for (long r = (long)get_group_id(0) * (per_item), r##_end = min(r + (per_item), (R));          \
         r < r##_end; r++)
#if BN_CPU
#define BN_ROW_LOOP(i, n, VECTOR, SINGLE)                                                          \
    do {                                                                                           \
        int i = 0;                                                                                 \
        for (; i + BN_V <= (n); i += BN_V) {                                                       \
            VECTOR;                                                                                \
        }                                                                                          \
        for (; i < (n); i++) {                                                                     \
            SINGLE;                                                                                \
        }                                                                                          \
    } while (0)
#else
#define BN_ROW_LOOP(i, n, VECTOR, SINGLE)                                                          \
    do {                                                                                           \
        for (int i = (int)get_local_id(0); i < (n); i += BN_GROUP) {                               \
            SINGLE;                                                                                \
        }                                                                                          \
    } while (0)
#endif

/* Reductions over a row: BN_ROW_LOCAL declares the group's memory; bn_row_sum
 * takes the vector's and the single elements' partial results and gives every
 * work-item the same total. The order is fixed by the shape alone. */
#if BN_CPU
#define BN_ROW_LOCAL
#define BN_ROW_SUM(v, s) (bn_sum16(v) + (s))
#define BN_ROW_MAX(v, s) bn_larger(bn_max16(v), (s))
#else
#define BN_ROW_LOCAL     local float bn_row_shared[BN_GROUP];
#define BN_ROW_SUM(v, s) bn_group_sum((s), bn_row_shared)
#define BN_ROW_MAX(v, s) bn_group_max((s), bn_row_shared)
#endif

/* The larger one; a NaN stays once it is there, and enters. */
float bn_larger(float a, float b)
{
    return b > a || b != b ? b : a;
}

float bn_sum16(float16 v)
{
    const float8 a = v.lo + v.hi;
    const float4 b = a.lo + a.hi;
    const float2 c = b.lo + b.hi;
    return c.x + c.y;
}

float bn_max16(float16 v)
{
    const float8 a = v.hi > v.lo || v.hi != v.hi ? v.hi : v.lo;
    const float4 b = a.hi > a.lo || a.hi != a.hi ? a.hi : a.lo;
    const float2 c = b.hi > b.lo || b.hi != b.hi ? b.hi : b.lo;
    return bn_larger(c.x, c.y);
}

#if !BN_CPU
float bn_group_sum(float x, local float *shared)
{
    const int id = (int)get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    shared[id] = x;
    for (int h = BN_GROUP / 2; h > 0; h /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (id < h)
            shared[id] += shared[id + h];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    return shared[0];
}

float bn_group_max(float x, local float *shared)
{
    const int id = (int)get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    shared[id] = x;
    for (int h = BN_GROUP / 2; h > 0; h /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (id < h)
            shared[id] = bn_larger(shared[id], shared[id + h]);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    return shared[0];
}
#endif

/* ---- wide sums: double, or two floats where there is none -------------------------
 *
 * Without double a wide number is an unevaluated sum hi + lo (Knuth's TwoSum,
 * Dekker 1971), about 48 bits. Both are 8 bytes. */
#if BN_FP64
typedef double bn_wide;
bn_wide bn_wide_of(float x)
{
    return (double)x;
}
bn_wide bn_wide_product(float a, float b)
{
    return (double)a * (double)b;
}
bn_wide bn_wide_add(bn_wide a, bn_wide b)
{
    return a + b;
}
float bn_wide_float(bn_wide a)
{
    return (float)a;
}
/* a / n as float */
float bn_wide_mean(bn_wide a, long n)
{
    return (float)(a / (double)n);
}
float bn_wide_sqrt(bn_wide a)
{
    return (float)sqrt(a);
}
#else
typedef float2 bn_wide;
bn_wide bn_wide_of(float x)
{
    return (float2)(x, 0.0f);
}
bn_wide bn_wide_product(float a, float b)
{
    const float p = a * b;
    return (float2)(p, fma(a, b, -p));
}
bn_wide bn_wide_add(bn_wide a, bn_wide b)
{
    const float s = a.x + b.x, t = s - a.x;
    const float e = ((a.x - (s - t)) + (b.x - t)) + (a.y + b.y);
    const float hi = s + e;
    /* an infinite or NaN sum has no error term */
    return hi - hi == 0.0f ? (float2)(hi, e - (hi - s)) : (float2)(s, 0.0f);
}
float bn_wide_float(bn_wide a)
{
    return a.x + a.y;
}
float bn_wide_mean(bn_wide a, long n)
{
    const float d = (float)n, q = a.x / d;
    return q - q == 0.0f ? q + (fma(-q, d, a.x) + a.y) / d : q;
}
/* a f */
bn_wide bn_wide_times(bn_wide a, float f)
{
    const float p = a.x * f, e = fma(a.x, f, -p) + a.y * f, hi = p + e;
    return hi - hi == 0.0f ? (float2)(hi, e - (hi - p)) : (float2)(p, 0.0f);
}
/* a / f */
bn_wide bn_wide_over(bn_wide a, float f)
{
    const float q = a.x / f;
    return q - q == 0.0f ? (float2)(q, (fma(-q, f, a.x) + a.y) / f) : (float2)(q, 0.0f);
}
float bn_wide_sqrt(bn_wide a)
{
    const float r = sqrt(a.x);
    return r > 0.0f && r - r == 0.0f ? r + (fma(-r, r, a.x) + a.y) / (2.0f * r) : r;
}
#endif

/* Sums of wide numbers over a row; the vector part of the CPU shape is eight
 * lanes. BN_WIDE_LOCAL declares the group's memory of the GPU shape. */
#if BN_CPU
#define BN_WIDE_LOCAL
#define BN_WIDE_SUM(x) (x)
#else
#define BN_WIDE_LOCAL  local bn_wide bn_wide_shared[BN_GROUP];
#define BN_WIDE_SUM(x) bn_group_wide_sum((x), bn_wide_shared)

bn_wide bn_group_wide_sum(bn_wide x, local bn_wide *shared)
{
    const int id = (int)get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    shared[id] = x;
    for (int h = BN_GROUP / 2; h > 0; h /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (id < h)
            shared[id] = bn_wide_add(shared[id], shared[id + h]);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    return shared[0];
}
#endif

/* ln x for a positive normal x, within 1 ulp of the larger of |ln x| and 1/2:
 * x = 2^k m, 1/sqrt(2) <= m < sqrt(2); ln m = 2 atanh(s), s = (m-1)/(m+1). */
float bn_log(float x)
{
    const int k = (as_int(x) - 0x3f3504f3) >> 23;
    const float m = as_float(as_int(x) - (k << 23)), f = m - 1.0f;
    const float s = f / (m + 1.0f), z = s * s;
    float p = fma(z, 0.1538461538f, 0.1818181818f);
    p = fma(z, p, 0.2222222222f);
    p = fma(z, p, 0.2857142857f);
    p = fma(z, p, 0.4f);
    p = fma(z, p, 0.6666666667f);
    const float tail = fma(s * z, p, (float)k * 0x1.7f7d1cp-20f);
    return fma((float)k, 0x1.62e4p-1f, 2.0f * s + tail);
}

/* ---- one row's statistics, shared by softmax and the cross-entropies -------------- */

/* Largest of x[0..n-1] (NaN if there is one). */
#define BN_ROW_LARGEST(out, x, n)                                                                  \
    do {                                                                                           \
        bn_vec bn_mv = (bn_vec)(-INFINITY);                                                        \
        float bn_ms = -INFINITY;                                                                   \
        BN_ROW_LOOP(bn_i, n, const bn_vec v = BN_LOAD(x, bn_i);                                    \
                    bn_mv = v > bn_mv || v != v ? v : bn_mv,                                       \
                    bn_ms = bn_larger(bn_ms, (x)[bn_i]));                                          \
        out = BN_ROW_MAX(bn_mv, bn_ms);                                                            \
    } while (0)

/* Sum of exp(x - shift). */
#define BN_ROW_EXP_SUM(out, x, n, shift)                                                           \
    do {                                                                                           \
        bn_vec bn_sv = (bn_vec)(0.0f);                                                             \
        float bn_ss = 0.0f;                                                                        \
        BN_ROW_LOOP(bn_i, n, bn_sv += bn_expv(BN_LOAD(x, bn_i) - (shift)),                         \
                    bn_ss += bn_exp((x)[bn_i] - (shift)));                                         \
        out = BN_ROW_SUM(bn_sv, bn_ss);                                                            \
    } while (0)
