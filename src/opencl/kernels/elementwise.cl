/* elementwise.cl - add, mul, scale, silu, relu2, glu, dropout.
 *
 * Bound by memory: every operand is read once, every result written once. Each
 * work-item (CPU shape: 4096 elements in float16) or group (GPU shape: 1024 in
 * float4) takes a run of consecutive elements. All operands of an element are
 * read before its results are written, so results may lie on operands.
 *
 * 4096 elements (16 KiB of each operand, within the first-level cache) hide the cost
 * of a work-item of a CPU driver; 256 work-items with a float4 each are the fewest
 * that fill a GPU's memory pipes, and need no loop.
 *
 * Shapes: all operands [n]. `want`: bit 0, 1 = gradient 0, 1 is wanted; bit 2,
 * 3 = it is added to what is there.
 */

enum { WANT0 = 1, WANT1 = 2, ADD0 = 4, ADD1 = 8 };

#define ACTIVATIONS(T, S, EXP)                                                                     \
    T sigmoid##S(T x)                                                                              \
    {                                                                                              \
        return (T)(1.0f) / ((T)(1.0f) + EXP(-x));                                                  \
    }                                                                                              \
    T act##S(T x, int silu)                                                                        \
    {                                                                                              \
        if (silu)                                                                                  \
            return x * sigmoid##S(x);                                                              \
        const T r = x < (T)(0.0f) ? (T)(0.0f) : x;                                                 \
        return r * r;                                                                              \
    }                                                                                              \
    T slope##S(T x, int silu)                                                                      \
    {                                                                                              \
        if (silu) {                                                                                \
            const T s = sigmoid##S(x);                                                             \
            return s * ((T)(1.0f) + x * ((T)(1.0f) - s));                                          \
        }                                                                                          \
        return (T)(2.0f) * (x < (T)(0.0f) ? (T)(0.0f) : x);                                        \
    }
ACTIVATIONS(float, 1, bn_exp)
ACTIVATIONS(bn_vec, v, bn_expv)

/* y = a + b */
kernel void bn_add(BN_BUFFER(a), BN_BUFFER(b), BN_BUFFER(y), const long n)
{
    BN_POINTER(const float, a);
    BN_POINTER(const float, b);
    BN_POINTER(float, y);
    BN_FLAT_LOOP(i, n, BN_STORE(BN_LOAD(a, i) + BN_LOAD(b, i), y, i), y[i] = a[i] + b[i]);
}

/* y = factor x, or y += factor x */
kernel void bn_times(BN_BUFFER(x), BN_BUFFER(y), const long n, const float factor, const int add)
{
    BN_POINTER(const float, x);
    BN_POINTER(float, y);
    if (add)
        BN_FLAT_LOOP(i, n, BN_STORE(BN_LOAD(y, i) + factor * BN_LOAD(x, i), y, i),
                     y[i] += factor * x[i]);
    else
        BN_FLAT_LOOP(i, n, BN_STORE(factor * BN_LOAD(x, i), y, i), y[i] = factor * x[i]);
}

/* d = dy, or d += dy */
kernel void bn_copy_add(BN_BUFFER(dy), BN_BUFFER(d), const long n, const int add)
{
    BN_POINTER(const float, dy);
    BN_POINTER(float, d);
    if (add)
        BN_FLAT_LOOP(i, n, BN_STORE(BN_LOAD(d, i) + BN_LOAD(dy, i), d, i), d[i] += dy[i]);
    else
        BN_FLAT_LOOP(i, n, BN_STORE(BN_LOAD(dy, i), d, i), d[i] = dy[i]);
}

/* y = a b */
kernel void bn_mul(BN_BUFFER(a), BN_BUFFER(b), BN_BUFFER(y), const long n)
{
    BN_POINTER(const float, a);
    BN_POINTER(const float, b);
    BN_POINTER(float, y);
    BN_FLAT_LOOP(i, n, BN_STORE(BN_LOAD(a, i) * BN_LOAD(b, i), y, i), y[i] = a[i] * b[i]);
}

/* Stores or adds the gradients d0 and d1 of one element or vector. */
#define PUT2(T, LOAD, STORE, d0, d1)                                                               \
    do {                                                                                           \
        if (want & WANT0)                                                                          \
            STORE(want & ADD0 ? LOAD(da, i) + d0 : d0, da, i);                                     \
        if (want & WANT1)                                                                          \
            STORE(want & ADD1 ? LOAD(db, i) + d1 : d1, db, i);                                     \
    } while (0)
#define LOAD1(p, i)     (p)[i]
#define STORE1(v, p, i) (p)[i] = (v)

/* da = dy b, db = dy a */
#define MUL_BACKWARD(T, LOAD, STORE)                                                               \
    const T g = LOAD(dy, i), x = LOAD(a, i), z = LOAD(b, i);                                       \
    const T d0 = g * z, d1 = g * x;                                                                \
    PUT2(T, LOAD, STORE, d0, d1)

kernel void bn_mul_backward(BN_BUFFER(a), BN_BUFFER(b), BN_BUFFER(dy), BN_BUFFER(da),
                            BN_BUFFER(db), const long n, const int want)
{
    BN_POINTER(const float, a);
    BN_POINTER(const float, b);
    BN_POINTER(const float, dy);
    BN_POINTER(float, da);
    BN_POINTER(float, db);
    BN_FLAT_LOOP(i, n, MUL_BACKWARD(bn_vec, BN_LOAD, BN_STORE), MUL_BACKWARD(float, LOAD1, STORE1));
}

/* y = act(x); silu 1: x sigmoid(x), 0: max(x,0)^2 */
kernel void bn_activation(BN_BUFFER(x), BN_BUFFER(y), const long n, const int silu)
{
    BN_POINTER(const float, x);
    BN_POINTER(float, y);
    BN_FLAT_LOOP(i, n, BN_STORE(actv(BN_LOAD(x, i), silu), y, i), y[i] = act1(x[i], silu));
}

/* dx = dy act'(x), or += */
kernel void bn_activation_backward(BN_BUFFER(x), BN_BUFFER(dy), BN_BUFFER(dx), const long n,
                                   const int silu, const int add)
{
    BN_POINTER(const float, x);
    BN_POINTER(const float, dy);
    BN_POINTER(float, dx);
    BN_FLAT_LOOP(
        i, n,
        const bn_vec d = BN_LOAD(dy, i) * slopev(BN_LOAD(x, i), silu);
        BN_STORE(add ? BN_LOAD(dx, i) + d : d, dx, i),
        const float d = dy[i] * slope1(x[i], silu);
        dx[i] = add ? dx[i] + d : d);
}

/* y = act(gate) up */
kernel void bn_glu(BN_BUFFER(gate), BN_BUFFER(up), BN_BUFFER(y), const long n, const int silu)
{
    BN_POINTER(const float, gate);
    BN_POINTER(const float, up);
    BN_POINTER(float, y);
    BN_FLAT_LOOP(i, n, BN_STORE(actv(BN_LOAD(gate, i), silu) * BN_LOAD(up, i), y, i),
                 y[i] = act1(gate[i], silu) * up[i]);
}

/* dgate = dy up act'(gate), dup = dy act(gate) */
#define GLU_BACKWARD(T, S, LOAD, STORE)                                                            \
    const T g = LOAD(gate, i), d = LOAD(dy, i);                                                    \
    T slope, act;                                                                                  \
    if (silu) {                                                                                    \
        const T s = sigmoid##S(g);                                                                 \
        act = g * s;                                                                               \
        slope = s * ((T)(1.0f) + g * ((T)(1.0f) - s));                                             \
    } else {                                                                                       \
        const T r = g < (T)(0.0f) ? (T)(0.0f) : g;                                                 \
        act = r * r;                                                                               \
        slope = (T)(2.0f) * r;                                                                     \
    }                                                                                              \
    const T d0 = d * LOAD(up, i) * slope, d1 = d * act;                                            \
    PUT2(T, LOAD, STORE, d0, d1)

kernel void bn_glu_backward(BN_BUFFER(gate), BN_BUFFER(up), BN_BUFFER(dy), BN_BUFFER(da),
                            BN_BUFFER(db), const long n, const int silu, const int want)
{
    BN_POINTER(const float, gate);
    BN_POINTER(const float, up);
    BN_POINTER(const float, dy);
    BN_POINTER(float, da);
    BN_POINTER(float, db);
    BN_FLAT_LOOP(i, n, GLU_BACKWARD(bn_vec, v, BN_LOAD, BN_STORE),
                 GLU_BACKWARD(float, 1, LOAD1, STORE1));
}

/* ---- dropout ---- */

/* src/base/rng.h */
ulong mix64(ulong z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9UL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebUL;
    return z ^ (z >> 31);
}

/* y = keep ? x / (1-p) : 0, or +=. Element i is kept if the upper 24 bits of
 * its number are at least `threshold` = ceil(p 2^24). mixed: the key after its
 * own mix64, so that one mix64 per element is left. */
kernel void bn_dropout(BN_BUFFER(x), BN_BUFFER(y), const long n, const long mixed,
                       const int threshold, const float keep, const int add)
{
    BN_POINTER(const float, x);
    BN_POINTER(float, y);
    const long first = (long)get_group_id(0) * BN_FLAT;
    const long end = min(first + BN_FLAT, n);
#if BN_CPU
    for (long i = first; i < end; i++) {
#else
    for (long i = first + get_local_id(0); i < end; i += get_local_size(0)) {
#endif
        const ulong number = mix64((ulong)mixed + ((ulong)i + 1) * 0x9e3779b97f4a7c15UL);
        const float v = (int)(number >> 40) >= threshold ? x[i] / keep : 0.0f;
        y[i] = add ? y[i] + v : v;
    }
}
