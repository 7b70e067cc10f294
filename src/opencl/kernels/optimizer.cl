/* optimizer.cl - AdamW, SGD and scaling over the flat parameter blocks.
 *
 * Bound by memory: AdamW reads four arrays and writes three. Flat kernels with
 * the constants of elementwise.cl; all parameters lie in one block, so one launch
 * updates a model.
 */

#define ADAMW(T, LOAD, STORE, decay)                                                               \
    do {                                                                                           \
        const T g = c * LOAD(grad, i);                                                             \
        const T mean = b1 * LOAD(m, i) + a1 * g;                                                   \
        const T square = b2 * LOAD(v, i) + a2 * (g * g);                                           \
        T p = LOAD(param, i);                                                                      \
        STORE(mean, m, i);                                                                         \
        STORE(square, v, i);                                                                       \
        p -= (decay)*p;                                                                            \
        STORE(p - rate * (mean / (sqrt(square) / root + eps)), param, i);                          \
    } while (0)
#define SGD(T, LOAD, STORE, decay)                                                                 \
    do {                                                                                           \
        const T p = LOAD(param, i);                                                                \
        const T g = c * LOAD(grad, i) + (decay)*p;                                                 \
        const T momentum = mu * LOAD(m, i) + g;                                                    \
        STORE(momentum, m, i);                                                                     \
        STORE(p - rate * (nesterov ? g + mu * momentum : momentum), param, i);                     \
    } while (0)
#define LOAD1(p, i)     (p)[i]
#define STORE1(v, p, i) (p)[i] = (v)

/* decay for the lanes of elements before decay_end, 0 for the others. */
#if BN_CPU
#define LANES (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
#else
#define LANES (int4)(0, 1, 2, 3)
#endif
#define DECAY_AT(i)                                                                                \
    (LANES < (bn_ivec)((int)clamp(decay_end - (i), 0L, (long)BN_V)) ? (bn_vec)(decay)              \
                                                                    : (bn_vec)(0.0f))

/* What clipping makes of the gradient whose norm is at *length; clip 0: off. */
static float clip_factor(const float clip, global const float *length)
{
    if (!(clip > 0.0f && length[0] > clip))
        return 1.0f;
#if BN_FP64
    return (float)((double)clip / ((double)length[0] + 1e-6));
#else
    return clip / (length[0] + 1e-6f);
#endif
}

/* See bn_adamw in src/backend/backend.h; a1 = 1 - b1, a2 = 1 - b2, rate =
 * lr / (1 - b1^t), root = sqrt(1 - b2^t). */
kernel void bn_adamw(BN_BUFFER(param), BN_BUFFER(grad), BN_BUFFER(m), BN_BUFFER(v), BN_BUFFER(norm),
                     const long n, const long decay_end, const float clip, const float b1,
                     const float a1, const float b2, const float a2, const float rate,
                     const float root, const float eps, const float decay)
{
    BN_POINTER(float, param);
    BN_POINTER(const float, grad);
    BN_POINTER(float, m);
    BN_POINTER(float, v);
    BN_POINTER(const float, norm);
    const float c = clip_factor(clip, norm);
    BN_FLAT_LOOP(i, n, ADAMW(bn_vec, BN_LOAD, BN_STORE, DECAY_AT(i)),
                 ADAMW(float, LOAD1, STORE1, i < decay_end ? decay : 0.0f));
}

/* See bn_sgd in src/backend/backend.h. */
kernel void bn_sgd(BN_BUFFER(param), BN_BUFFER(grad), BN_BUFFER(m), BN_BUFFER(norm), const long n,
                   const long decay_end, const float clip, const float mu, const float rate,
                   const float decay, const int nesterov)
{
    BN_POINTER(float, param);
    BN_POINTER(const float, grad);
    BN_POINTER(float, m);
    BN_POINTER(const float, norm);
    const float c = clip_factor(clip, norm);
    BN_FLAT_LOOP(i, n, SGD(bn_vec, BN_LOAD, BN_STORE, DECAY_AT(i)),
                 SGD(float, LOAD1, STORE1, i < decay_end ? decay : 0.0f));
}

/* x *= factor */
kernel void bn_scale(BN_BUFFER(x), const long n, const float factor)
{
    BN_POINTER(float, x);
    BN_FLAT_LOOP(i, n, BN_STORE(BN_LOAD(x, i) * factor, x, i), x[i] *= factor);
}
