/* rng.h - random numbers whose whole state can be written down.
 *
 * bn_hash64 is a counter-based generator: the n-th number of a stream is a
 * pure function of (key, n), so any thread or device can make any part of it
 * and a resumed run makes the same numbers. bn_rng is a sequential view of one
 * stream for host code (initialisation, sampling).
 */
#ifndef BN_BASE_RNG_H
#define BN_BASE_RNG_H

#include <stdint.h>

typedef struct bn_rng {
    uint64_t key;
    uint64_t counter; /* numbers drawn so far */
} bn_rng;

/* Finaliser of splitmix64 (Steele, Lea, Flood 2014; Stafford's mix 13). */
static inline uint64_t bn_mix64(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Number `counter` of the stream `key`: splitmix64 started at a mixed key. */
static inline uint64_t bn_hash64(uint64_t key, uint64_t counter)
{
    return bn_mix64(bn_mix64(key + UINT64_C(0x9e3779b97f4a7c15)) +
                    (counter + 1) * UINT64_C(0x9e3779b97f4a7c15));
}

/* An independent stream for purpose `id` of a run's seed. */
static inline uint64_t bn_rng_key(uint64_t seed, uint64_t id)
{
    return bn_hash64(seed, id ^ UINT64_C(0x6a09e667f3bcc909));
}

static inline bn_rng bn_rng_of(uint64_t seed, uint64_t id)
{
    return (bn_rng){bn_rng_key(seed, id), 0};
}

static inline uint64_t bn_rng_u64(bn_rng *rng)
{
    return bn_hash64(rng->key, rng->counter++);
}

/* Uniform in [0, 1) with 53 bits. */
static inline double bn_rng_uniform(bn_rng *rng)
{
    return (double)(bn_rng_u64(rng) >> 11) * 0x1.0p-53;
}

/* The mask of dropout `site` at `step`: element `index` is kept with
 * probability 1-p. Every backend uses these two. */
static inline uint64_t bn_dropout_key(uint64_t seed, uint64_t step, uint32_t site)
{
    return bn_rng_key(bn_rng_key(seed, UINT64_C(0x100000000) | site), step);
}

static inline int bn_dropout_keep(uint64_t key, uint64_t index, double p)
{
    return (double)(bn_hash64(key, index) >> 40) * 0x1.0p-24 >= p;
}

/* Uniform in 0..n-1, n >= 1, without bias (Lemire's rejection). */
uint64_t bn_rng_below(bn_rng *rng, uint64_t n);

/* Standard normal (Box-Muller, one of the pair; two numbers drawn). */
double bn_rng_normal(bn_rng *rng);

#endif
